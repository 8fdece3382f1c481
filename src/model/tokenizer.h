/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The tokenizer as its sources fill it: tokenizer_json.c reads tokenizer.json, tokenizer_gguf.c GGUF's metadata; tokenizer.c encodes.
 *
 *   nvfp4_tokenizer_alloc -> nvfp4_tokenizer_set for every token -> nvfp4_tokenizer_index -> nvfp4_tokenizer_merge for every merge, by rank
 */
#ifndef NVFP4_MODEL_TOKENIZER_H
#define NVFP4_MODEL_TOKENIZER_H

#include <nvfp4/model.h>

#include "model/pretokenizer.h"

enum { /* nvfp4_token.flags */
       NVFP4_TOKEN_PRESENT = 1,
       NVFP4_TOKEN_ADDED = 2,   /* found in text as it stands, never made by merges */
       NVFP4_TOKEN_SPECIAL = 4, /* of the added ones: only found if the caller asks for it */
       NVFP4_TOKEN_END = 8,
       NVFP4_TOKEN_UNREACHABLE = 16 /* of the vocabulary, but not written in GPT-2's alphabet: no text becomes it */
};

typedef struct nvfp4_token {
  char *text; /* raw bytes, terminated, own */
  uint32_t bytes;
  uint32_t flags;
} nvfp4_token;

typedef struct nvfp4_merge {
  int32_t left, right; /* left < 0: an empty slot */
  int32_t rank, merged;
} nvfp4_merge;

struct nvfp4_tokenizer {
  nvfp4_token *tokens;
  size_t count;
  int32_t *by_text; /* hash table of the tokens that merges make: ids, -1 empty */
  size_t by_text_size;
  nvfp4_merge *merges; /* hash table by (left, right) */
  size_t merges_size;
  int32_t byte_ids[256]; /* -1: no token for that byte */
  int32_t *added;        /* ids of added tokens, longest first */
  size_t added_count;
  bool added_starts[256]; /* first bytes of added tokens */
  nvfp4_pretokenizer *pretokenizer;
  bool ignore_merges;  /* a piece that is a token as a whole is not merged from bytes */
  int32_t unknown;     /* for bytes that have no token; -1: they vanish */
  int32_t begin;       /* put before every text; -1: none */
  char *chat_template; /* NULL: none */
};

nvfp4_status nvfp4_tokenizer_alloc(size_t count, nvfp4_tokenizer **out, nvfp4_reason *reason);

/* Sets token `id` (< count). byte_level: text is written in GPT-2's alphabet, in which every byte is a printable character; otherwise raw. */
nvfp4_status nvfp4_tokenizer_set(nvfp4_tokenizer *tokenizer, size_t id, const char *text, size_t bytes, bool byte_level, uint32_t flags,
                                 nvfp4_reason *reason);

/* After the last token: makes them findable, and room for `merges` merges. */
nvfp4_status nvfp4_tokenizer_index(nvfp4_tokenizer *tokenizer, size_t merges, nvfp4_reason *reason);

/* The merge of rank `rank`, both sides in GPT-2's alphabet. */
nvfp4_status nvfp4_tokenizer_merge(nvfp4_tokenizer *tokenizer, size_t rank, const char *left, size_t left_bytes, const char *right,
                                   size_t right_bytes, nvfp4_reason *reason);

/* "left right", as files write merges. */
nvfp4_status nvfp4_tokenizer_merge_text(nvfp4_tokenizer *tokenizer, size_t rank, const char *text, size_t bytes, nvfp4_reason *reason);

/* The id of an added token with that text; -1: none. */
int32_t nvfp4_tokenizer_find_added(const nvfp4_tokenizer *tokenizer, const char *text, size_t bytes);

/* The sources. checkpoint->gguf says which. */
nvfp4_status nvfp4_tokenizer_from_gguf(const nvfp4_checkpoint *checkpoint, nvfp4_tokenizer **out, nvfp4_reason *reason);
nvfp4_status nvfp4_tokenizer_from_json(const nvfp4_checkpoint *checkpoint, nvfp4_tokenizer **out, nvfp4_reason *reason);

/* What a perplexity window begins with: the token that the tokenizer puts before every text, or -1. Reads no vocabulary; no tokenizer: -1. */
nvfp4_status nvfp4_tokenizer_window_bos(const nvfp4_checkpoint *checkpoint, int32_t *out, nvfp4_reason *reason);
int32_t nvfp4_tokenizer_gguf_bos(const nvfp4_checkpoint *checkpoint);
nvfp4_status nvfp4_tokenizer_json_bos(const nvfp4_checkpoint *checkpoint, int32_t *out, nvfp4_reason *reason);

#endif
