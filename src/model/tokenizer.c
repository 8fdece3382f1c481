/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Byte-level byte pair encoding (as GPT-2): text -> added tokens and the stretches between them -> pieces of the pre-tokenizer -> bytes, of which the
 * neighbours with the lowest merge rank are joined until no merge applies. A piece of n bytes takes O(n log n).
 */
#include "model/tokenizer.h"

#include <inttypes.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "base/reason.h"
#include "checkpoint/checkpoint.h"

/* ---------------------------------------------------------------------------------------------------------------- tables */

static uint64_t hash_bytes(const char *text, size_t bytes) {
  uint64_t hash = 0xCBF29CE484222325u; /* FNV-1a */
  for (size_t i = 0; i < bytes; i++) {
    hash = (hash ^ (uint8_t)text[i]) * 0x100000001B3u;
  }
  return hash ^ hash >> 32;
}

static uint64_t hash_pair(int32_t left, int32_t right) {
  uint64_t hash = ((uint64_t)(uint32_t)left << 32 | (uint32_t)right) * 0x9E3779B97F4A7C15u;
  return hash ^ hash >> 32;
}

/* A power of two at least twice as large as count: open addressing stays short. */
static size_t table_size(size_t count) {
  size_t size = 16;
  while (size < 2 * count) {
    size *= 2;
  }
  return size;
}

static int32_t find_text(const nvfp4_tokenizer *tokenizer, const char *text, size_t bytes) {
  size_t mask = tokenizer->by_text_size - 1;
  for (size_t slot = hash_bytes(text, bytes) & mask; tokenizer->by_text[slot] >= 0; slot = (slot + 1) & mask) {
    const nvfp4_token *token = &tokenizer->tokens[tokenizer->by_text[slot]];
    if (token->bytes == bytes && memcmp(token->text, text, bytes) == 0) {
      return tokenizer->by_text[slot];
    }
  }
  return -1;
}

/* The slot of a pair: filled, or the empty one where it belongs. */
static nvfp4_merge *find_merge(const nvfp4_tokenizer *tokenizer, int32_t left, int32_t right) {
  size_t mask = tokenizer->merges_size - 1;
  size_t slot = hash_pair(left, right) & mask;
  while (tokenizer->merges[slot].left >= 0 && (tokenizer->merges[slot].left != left || tokenizer->merges[slot].right != right)) {
    slot = (slot + 1) & mask;
  }
  return &tokenizer->merges[slot];
}

/* --------------------------------------------------------------------------------------------------------------- filling */

/* GPT-2's alphabet: printable Latin-1 stands for itself, the other 68 bytes for U+0100 and up. Returns the byte, or -1. */
static int alphabet_byte(uint32_t character) {
  if ((character >= 33 && character <= 126) || (character >= 161 && character <= 172) || (character >= 174 && character <= 255)) {
    return (int)character;
  }
  if (character < 256 || character >= 256 + 68) {
    return -1;
  }
  int n = (int)character - 256;
  /* 0..32, 127..160 and 173, in that order */
  return n <= 32 ? n : n <= 66 ? n + 94 : 173;
}

/* Bytes of a text in that alphabet; -1 if it is not. out has room for `bytes`. */
static ptrdiff_t from_alphabet(const char *text, size_t bytes, char *out) {
  size_t used = 0;
  for (size_t i = 0; i < bytes; i++) {
    uint32_t character = (uint8_t)text[i];
    if (character >= 0x80) { /* the alphabet ends below U+0800: two bytes */
      if ((character & 0xE0) != 0xC0 || i + 1 == bytes || ((uint8_t)text[i + 1] & 0xC0) != 0x80) {
        return -1;
      }
      character = (character & 0x1F) << 6 | ((uint8_t)text[++i] & 0x3F);
    }
    int byte = alphabet_byte(character);
    if (byte < 0) {
      return -1;
    }
    out[used++] = (char)byte;
  }
  return (ptrdiff_t)used;
}

nvfp4_status nvfp4_tokenizer_alloc(size_t count, nvfp4_tokenizer **out, nvfp4_reason *reason) {
  if (count == 0 || count > INT32_MAX / 4) {
    return nvfp4_reject(reason, NVFP4_E_FORMAT, "tokenizer: a vocabulary of %zu tokens; needs 1 to %d", count, INT32_MAX / 4);
  }
  nvfp4_tokenizer *tokenizer = calloc(1, sizeof *tokenizer);
  if (tokenizer != NULL) {
    tokenizer->tokens = calloc(count, sizeof *tokenizer->tokens);
  }
  if (tokenizer == NULL || tokenizer->tokens == NULL) {
    nvfp4_tokenizer_destroy(tokenizer);
    return nvfp4_reject(reason, NVFP4_E_NOMEM, "out of memory for %zu tokens", count);
  }
  tokenizer->count = count;
  tokenizer->unknown = -1;
  tokenizer->begin = -1;
  nvfp4_status status = nvfp4_pretokenizer_create(&tokenizer->pretokenizer, reason);
  if (status != NVFP4_OK) {
    nvfp4_tokenizer_destroy(tokenizer);
    return status;
  }
  *out = tokenizer;
  return NVFP4_OK;
}

void nvfp4_tokenizer_destroy(nvfp4_tokenizer *tokenizer) {
  if (tokenizer == NULL) {
    return;
  }
  for (size_t i = 0; tokenizer->tokens != NULL && i < tokenizer->count; i++) {
    free(tokenizer->tokens[i].text);
  }
  nvfp4_pretokenizer_destroy(tokenizer->pretokenizer);
  free(tokenizer->tokens);
  free(tokenizer->by_text);
  free(tokenizer->merges);
  free(tokenizer->added);
  free(tokenizer->chat_template);
  free(tokenizer);
}

nvfp4_status nvfp4_tokenizer_set(nvfp4_tokenizer *tokenizer, size_t id, const char *text, size_t bytes, bool byte_level, uint32_t flags,
                                 nvfp4_reason *reason) {
  if (id >= tokenizer->count || bytes > INT_MAX) {
    return nvfp4_reject(reason, NVFP4_E_FORMAT, "tokenizer: id %zu in a vocabulary of %zu tokens", id, tokenizer->count);
  }
  char *copy = malloc(bytes + 1);
  if (copy == NULL) {
    return nvfp4_reject(reason, NVFP4_E_NOMEM, "out of memory for a token");
  }
  ptrdiff_t used = byte_level ? from_alphabet(text, bytes, copy) : -1;
  if (used < 0) {
    memcpy(copy, text, bytes);
    used = (ptrdiff_t)bytes;
    flags |= byte_level ? NVFP4_TOKEN_UNREACHABLE : 0;
  }
  copy[used] = '\0';
  nvfp4_token *token = &tokenizer->tokens[id];
  free(token->text); /* an added token may repeat one of the vocabulary */
  *token = (nvfp4_token){copy, (uint32_t)used, flags | NVFP4_TOKEN_PRESENT};
  return NVFP4_OK;
}

static bool made_by_merges(const nvfp4_token *token) {
  return (token->flags & (NVFP4_TOKEN_PRESENT | NVFP4_TOKEN_ADDED | NVFP4_TOKEN_UNREACHABLE)) == NVFP4_TOKEN_PRESENT && token->bytes > 0;
}

typedef struct added_order {
  uint32_t bytes;
  int32_t id;
} added_order;

static int longest_first(const void *a, const void *b) {
  const added_order *x = a, *y = b;
  if (x->bytes != y->bytes) {
    return x->bytes > y->bytes ? -1 : 1;
  }
  return x->id < y->id ? -1 : 1;
}

static nvfp4_status index_added(nvfp4_tokenizer *tokenizer, nvfp4_reason *reason) {
  size_t count = 0;
  for (size_t i = 0; i < tokenizer->count; i++) {
    count += (tokenizer->tokens[i].flags & NVFP4_TOKEN_ADDED) != 0;
  }
  added_order *order = malloc((count + 1) * sizeof *order);
  tokenizer->added = malloc((count + 1) * sizeof *tokenizer->added);
  if (order == NULL || tokenizer->added == NULL) {
    free(order);
    return nvfp4_reject(reason, NVFP4_E_NOMEM, "out of memory for the added tokens");
  }
  for (size_t i = 0; i < tokenizer->count; i++) {
    const nvfp4_token *token = &tokenizer->tokens[i];
    if ((token->flags & NVFP4_TOKEN_ADDED) != 0 && token->bytes > 0) {
      order[tokenizer->added_count++] = (added_order){token->bytes, (int32_t)i};
      tokenizer->added_starts[(uint8_t)token->text[0]] = true;
    }
  }
  qsort(order, tokenizer->added_count, sizeof *order, longest_first);
  for (size_t i = 0; i < tokenizer->added_count; i++) {
    tokenizer->added[i] = order[i].id;
  }
  free(order);
  return NVFP4_OK;
}

nvfp4_status nvfp4_tokenizer_index(nvfp4_tokenizer *tokenizer, size_t merges, nvfp4_reason *reason) {
  if (merges > INT32_MAX / 4) {
    return nvfp4_reject(reason, NVFP4_E_FORMAT, "tokenizer: %zu merges; at most %d", merges, INT32_MAX / 4);
  }
  tokenizer->by_text_size = table_size(tokenizer->count);
  tokenizer->by_text = malloc(tokenizer->by_text_size * sizeof *tokenizer->by_text);
  tokenizer->merges_size = table_size(merges);
  tokenizer->merges = malloc(tokenizer->merges_size * sizeof *tokenizer->merges);
  if (tokenizer->by_text == NULL || tokenizer->merges == NULL) {
    return nvfp4_reject(reason, NVFP4_E_NOMEM, "out of memory for the vocabulary");
  }
  memset(tokenizer->by_text, 0xFF, tokenizer->by_text_size * sizeof *tokenizer->by_text);
  memset(tokenizer->merges, 0xFF, tokenizer->merges_size * sizeof *tokenizer->merges);
  for (size_t i = 0; i < tokenizer->count; i++) {
    const nvfp4_token *token = &tokenizer->tokens[i];
    if (!made_by_merges(token) || find_text(tokenizer, token->text, token->bytes) >= 0) {
      continue;
    }
    size_t slot = hash_bytes(token->text, token->bytes) & (tokenizer->by_text_size - 1);
    while (tokenizer->by_text[slot] >= 0) {
      slot = (slot + 1) & (tokenizer->by_text_size - 1);
    }
    tokenizer->by_text[slot] = (int32_t)i;
  }
  for (int byte = 0; byte < 256; byte++) {
    char text = (char)byte;
    tokenizer->byte_ids[byte] = find_text(tokenizer, &text, 1);
  }
  return index_added(tokenizer, reason);
}

nvfp4_status nvfp4_tokenizer_merge(nvfp4_tokenizer *tokenizer, size_t rank, const char *left, size_t left_bytes, const char *right,
                                   size_t right_bytes, nvfp4_reason *reason) {
  char small[256];
  size_t room = left_bytes + right_bytes + 1;
  char *joined = room <= sizeof small ? small : malloc(room);
  if (joined == NULL) {
    return nvfp4_reject(reason, NVFP4_E_NOMEM, "out of memory for a merge");
  }
  nvfp4_merge merge = {-1, -1, (int32_t)rank, -1};
  ptrdiff_t first = from_alphabet(left, left_bytes, joined);
  ptrdiff_t second = first < 0 ? -1 : from_alphabet(right, right_bytes, joined + first);
  if (second >= 0) {
    merge.left = find_text(tokenizer, joined, (size_t)first);
    merge.right = find_text(tokenizer, joined + first, (size_t)second);
    merge.merged = find_text(tokenizer, joined, (size_t)(first + second));
  }
  if (joined != small) {
    free(joined);
  }
  if (merge.left < 0 || merge.right < 0 || merge.merged < 0) {
    return nvfp4_reject(reason, NVFP4_E_FORMAT,
                        "tokenizer: merge %zu, \"%.*s\" with \"%.*s\": both and what they make must be in the vocabulary", rank,
                        (int)(left_bytes < 60 ? left_bytes : 60), left, (int)(right_bytes < 60 ? right_bytes : 60), right);
  }
  nvfp4_merge *slot = find_merge(tokenizer, merge.left, merge.right);
  if (slot->left < 0) { /* of two alike the first counts */
    *slot = merge;
  }
  return NVFP4_OK;
}

nvfp4_status nvfp4_tokenizer_merge_text(nvfp4_tokenizer *tokenizer, size_t rank, const char *text, size_t bytes, nvfp4_reason *reason) {
  const char *space = bytes > 0 ? memchr(text, ' ', bytes) : NULL;
  if (space == NULL) {
    return nvfp4_reject(reason, NVFP4_E_FORMAT, "tokenizer: merge %zu is \"%.*s\"; needs two texts with a space between", rank,
                        (int)(bytes < 60 ? bytes : 60), text);
  }
  size_t left = (size_t)(space - text);
  return nvfp4_tokenizer_merge(tokenizer, rank, text, left, space + 1, bytes - left - 1, reason);
}

int32_t nvfp4_tokenizer_find_added(const nvfp4_tokenizer *tokenizer, const char *text, size_t bytes) {
  for (size_t i = 0; i < tokenizer->added_count; i++) {
    const nvfp4_token *token = &tokenizer->tokens[tokenizer->added[i]];
    if (token->bytes == bytes && memcmp(token->text, text, bytes) == 0) {
      return tokenizer->added[i];
    }
  }
  return -1;
}

/* -------------------------------------------------------------------------------------------------------------- encoding */

/* A stretch of the piece that is one token by now; a list linked both ways by index. */
typedef struct symbol {
  int32_t id;             /* -1: joined to the one before */
  int32_t previous, next; /* -1: none */
} symbol;

/* A merge that was possible when it was found. */
typedef struct candidate {
  int32_t rank;
  int32_t at; /* of the left symbol */
  int32_t left, right, merged;
} candidate;

typedef struct encoder {
  const nvfp4_tokenizer *tokenizer;
  int32_t *tokens;
  size_t count, capacity;
  symbol *symbols;
  candidate *heap; /* lowest rank first, then leftmost */
  size_t symbol_capacity, heap_count;
} encoder;

static nvfp4_status emit(encoder *e, int32_t id, nvfp4_reason *reason) {
  if (e->count == e->capacity) {
    size_t capacity = e->capacity * 2 + 64;
    int32_t *tokens = realloc(e->tokens, capacity * sizeof *tokens);
    if (tokens == NULL) {
      return nvfp4_reject(reason, NVFP4_E_NOMEM, "out of memory for %zu tokens", capacity);
    }
    e->tokens = tokens;
    e->capacity = capacity;
  }
  e->tokens[e->count++] = id;
  return NVFP4_OK;
}

static bool before(const candidate *a, const candidate *b) { return a->rank < b->rank || (a->rank == b->rank && a->at < b->at); }

static void push(encoder *e, candidate new) {
  size_t at = e->heap_count++;
  while (at > 0 && before(&new, &e->heap[(at - 1) / 2])) {
    e->heap[at] = e->heap[(at - 1) / 2];
    at = (at - 1) / 2;
  }
  e->heap[at] = new;
}

static candidate pop(encoder *e) {
  candidate top = e->heap[0], last = e->heap[--e->heap_count];
  size_t at = 0;
  for (size_t child = 1; child < e->heap_count; child = 2 * at + 1) {
    if (child + 1 < e->heap_count && before(&e->heap[child + 1], &e->heap[child])) {
      child++;
    }
    if (!before(&e->heap[child], &last)) {
      break;
    }
    e->heap[at] = e->heap[child];
    at = child;
  }
  e->heap[at] = last;
  return top;
}

/* Notes the merge of symbol `at` with the next one, if there is one. */
static void consider(encoder *e, int32_t at) {
  if (at < 0 || e->symbols[at].next < 0) {
    return;
  }
  int32_t left = e->symbols[at].id, right = e->symbols[e->symbols[at].next].id;
  const nvfp4_merge *merge = find_merge(e->tokenizer, left, right);
  if (merge->left >= 0) {
    push(e, (candidate){merge->rank, at, left, right, merge->merged});
  }
}

/* Room for n symbols. Each of n - 1 joins adds at most two candidates to the n - 1 of the beginning. */
static nvfp4_status reserve(encoder *e, size_t n, nvfp4_reason *reason) {
  if (n <= e->symbol_capacity) {
    return NVFP4_OK;
  }
  if (n > INT32_MAX / 4) {
    return nvfp4_reject(reason, NVFP4_E_ARG, "a stretch of %zu bytes without a place to cut; at most %d", n, INT32_MAX / 4);
  }
  size_t capacity = n + n / 2 + 64;
  free(e->symbols);
  free(e->heap);
  e->symbols = malloc(capacity * sizeof *e->symbols);
  e->heap = malloc(3 * capacity * sizeof *e->heap);
  e->symbol_capacity = e->symbols != NULL && e->heap != NULL ? capacity : 0;
  return e->symbol_capacity != 0 ? NVFP4_OK : nvfp4_reject(reason, NVFP4_E_NOMEM, "out of memory for a piece of %zu bytes", n);
}

static void merge_all(encoder *e) {
  while (e->heap_count > 0) {
    candidate best = pop(e);
    symbol *left = &e->symbols[best.at];
    /* Stale if either side has changed since. */
    if (left->id != best.left || left->next < 0 || e->symbols[left->next].id != best.right) {
      continue;
    }
    symbol *right = &e->symbols[left->next];
    left->id = best.merged;
    right->id = -1;
    left->next = right->next;
    if (left->next >= 0) {
      e->symbols[left->next].previous = best.at;
    }
    consider(e, left->previous);
    consider(e, best.at);
  }
}

static nvfp4_status encode_piece(void *cookie, const char *piece, size_t bytes, nvfp4_reason *reason) {
  encoder *e = cookie;
  const nvfp4_tokenizer *tokenizer = e->tokenizer;
  int32_t whole = tokenizer->ignore_merges ? find_text(tokenizer, piece, bytes) : -1;
  if (whole >= 0) {
    return emit(e, whole, reason);
  }
  NVFP4_TRY(reserve(e, bytes, reason));
  int32_t n = 0;
  for (size_t i = 0; i < bytes; i++) {
    int32_t id = tokenizer->byte_ids[(uint8_t)piece[i]];
    id = id >= 0 ? id : tokenizer->unknown;
    if (id >= 0) {
      e->symbols[n] = (symbol){id, n - 1, n + 1};
      n++;
    }
  }
  if (n == 0) {
    return NVFP4_OK;
  }
  e->symbols[n - 1].next = -1;
  e->heap_count = 0;
  for (int32_t i = 0; i < n; i++) {
    consider(e, i);
  }
  merge_all(e);
  for (int32_t i = 0; i >= 0; i = e->symbols[i].next) {
    NVFP4_TRY(emit(e, e->symbols[i].id, reason));
  }
  return NVFP4_OK;
}

/* The longest added token that stands at text; -1: none. */
static int32_t added_at(const nvfp4_tokenizer *tokenizer, const char *text, size_t bytes, bool special) {
  if (!tokenizer->added_starts[(uint8_t)text[0]]) {
    return -1;
  }
  for (size_t i = 0; i < tokenizer->added_count; i++) {
    const nvfp4_token *token = &tokenizer->tokens[tokenizer->added[i]];
    if (token->bytes <= bytes && (special || (token->flags & NVFP4_TOKEN_SPECIAL) == 0) && memcmp(token->text, text, token->bytes) == 0) {
      return tokenizer->added[i];
    }
  }
  return -1;
}

static nvfp4_status encode(encoder *e, const char *text, size_t bytes, bool parse_special, nvfp4_reason *reason) {
  const nvfp4_tokenizer *tokenizer = e->tokenizer;
  if (tokenizer->begin >= 0 && !(bytes > 0 && parse_special && added_at(tokenizer, text, bytes, true) == tokenizer->begin)) {
    NVFP4_TRY(emit(e, tokenizer->begin, reason));
  }
  size_t done = 0;
  for (size_t at = 0; at < bytes;) {
    int32_t id = added_at(tokenizer, text + at, bytes - at, parse_special);
    if (id < 0) {
      at++;
      continue;
    }
    NVFP4_TRY(nvfp4_pretokenizer_split(tokenizer->pretokenizer, text + done, at - done, encode_piece, e, reason));
    NVFP4_TRY(emit(e, id, reason));
    at += tokenizer->tokens[id].bytes;
    done = at;
  }
  return nvfp4_pretokenizer_split(tokenizer->pretokenizer, text + done, bytes - done, encode_piece, e, reason);
}

/* ---------------------------------------------------------------------------------------------------------------- public */

/* Whatever a file calls the end: these end a text in every model that has them. */
static void mark_ends(nvfp4_tokenizer *tokenizer) {
  static const char *const ends[] = {"<|endoftext|>", "<|im_end|>", "<|eot_id|>", "<|end_of_text|>"};
  for (size_t i = 0; i < sizeof ends / sizeof ends[0]; i++) {
    int32_t id = nvfp4_tokenizer_find_added(tokenizer, ends[i], strlen(ends[i]));
    if (id >= 0) {
      tokenizer->tokens[id].flags |= NVFP4_TOKEN_END;
    }
  }
}

nvfp4_status nvfp4_tokenizer_create(const nvfp4_checkpoint *checkpoint, nvfp4_tokenizer **out, nvfp4_reason *reason) {
  if (checkpoint == NULL || out == NULL) {
    return nvfp4_reject(reason, NVFP4_E_ARG, "%s is NULL", checkpoint == NULL ? "checkpoint" : "out");
  }
  nvfp4_tokenizer *tokenizer = NULL;
  nvfp4_status status = checkpoint->gguf != NULL ? nvfp4_tokenizer_from_gguf(checkpoint, &tokenizer, reason)
                                                 : nvfp4_tokenizer_from_json(checkpoint, &tokenizer, reason);
  if (status != NVFP4_OK) {
    return nvfp4_reason_prefix(reason, status, "%s: ", nvfp4_checkpoint_path(checkpoint));
  }
  mark_ends(tokenizer);
  *out = tokenizer;
  return NVFP4_OK;
}

nvfp4_status nvfp4_tokenizer_window_bos(const nvfp4_checkpoint *checkpoint, int32_t *out, nvfp4_reason *reason) {
  if (checkpoint->gguf == NULL) {
    return nvfp4_tokenizer_json_bos(checkpoint, out, reason);
  }
  *out = nvfp4_tokenizer_gguf_bos(checkpoint);
  return NVFP4_OK;
}

nvfp4_status nvfp4_tokenize(const nvfp4_tokenizer *tokenizer, const char *text, size_t bytes, bool parse_special, int32_t **tokens,
                            size_t *count, nvfp4_reason *reason) {
  if (tokenizer == NULL || (text == NULL && bytes > 0) || tokens == NULL || count == NULL) {
    return nvfp4_reject(reason, NVFP4_E_ARG, "tokenizer, text, tokens or count is NULL; all are needed");
  }
  encoder e = {.tokenizer = tokenizer};
  nvfp4_status status = encode(&e, text, bytes, parse_special, reason);
  free(e.symbols);
  free(e.heap);
  if (status == NVFP4_OK && e.tokens == NULL) {
    e.tokens = malloc(sizeof *e.tokens);
    status = e.tokens != NULL ? NVFP4_OK : nvfp4_reject(reason, NVFP4_E_NOMEM, "out of memory for the tokens");
  }
  if (status != NVFP4_OK) {
    free(e.tokens);
    return status;
  }
  *tokens = e.tokens;
  *count = e.count;
  return NVFP4_OK;
}

void nvfp4_tokens_free(int32_t *tokens) { free(tokens); }

static const nvfp4_token *token_at(const nvfp4_tokenizer *tokenizer, int32_t token) {
  bool there = token >= 0 && (size_t)token < tokenizer->count && (tokenizer->tokens[token].flags & NVFP4_TOKEN_PRESENT) != 0;
  return there ? &tokenizer->tokens[token] : NULL;
}

const char *nvfp4_token_bytes(const nvfp4_tokenizer *tokenizer, int32_t token, size_t *bytes) {
  const nvfp4_token *found = token_at(tokenizer, token);
  if (bytes != NULL) {
    *bytes = found != NULL ? found->bytes : 0;
  }
  return found != NULL ? found->text : NULL;
}

bool nvfp4_token_is_special(const nvfp4_tokenizer *tokenizer, int32_t token) {
  const nvfp4_token *found = token_at(tokenizer, token);
  return found != NULL && (found->flags & NVFP4_TOKEN_SPECIAL) != 0;
}

bool nvfp4_token_is_end(const nvfp4_tokenizer *tokenizer, int32_t token) {
  const nvfp4_token *found = token_at(tokenizer, token);
  return found != NULL && (found->flags & NVFP4_TOKEN_END) != 0;
}

size_t nvfp4_tokenizer_vocabulary(const nvfp4_tokenizer *tokenizer) { return tokenizer->count; }
