/* SPDX-License-Identifier: Apache-2.0 */
/* The tokenizer of a GGUF file: tokenizer.ggml.* (ggml, docs/gguf.md). */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/reason.h"
#include "checkpoint/checkpoint.h"
#include "checkpoint/gguf.h"
#include "model/tokenizer.h"

enum { TYPE_CONTROL = 3, TYPE_USER_DEFINED = 4 }; /* of tokenizer.ggml.token_type; all others are of the vocabulary */

/* All strings of an array; malloc'ed. */
static nvfp4_status read_strings(const nvfp4_gguf_metadata *gguf, const char *key, nvfp4_gguf_string **out, uint64_t *count,
                                 nvfp4_reason *reason) {
  nvfp4_gguf_type type;
  if (!nvfp4_gguf_get_array(gguf, key, &type, count) || type != NVFP4_GGUF_STRING) {
    return nvfp4_reject(reason, NVFP4_E_FORMAT, "GGUF metadata: %s is missing or not an array of strings", key);
  }
  *out = *count < SIZE_MAX / sizeof **out ? malloc((size_t)(*count + 1) * sizeof **out) : NULL;
  if (*out == NULL) {
    return nvfp4_reject(reason, NVFP4_E_NOMEM, "out of memory for %s", key);
  }
  if (!nvfp4_gguf_get_strings(gguf, key, *out, *count)) {
    free(*out);
    return nvfp4_reject(reason, NVFP4_E_FORMAT, "GGUF metadata: %s cannot be read", key);
  }
  return NVFP4_OK;
}

static nvfp4_status set_tokens(nvfp4_tokenizer *tokenizer, const nvfp4_gguf_metadata *gguf, const nvfp4_gguf_string *texts,
                               nvfp4_reason *reason) {
  nvfp4_gguf_type element;
  uint64_t count = 0;
  int32_t *types = NULL;
  if (nvfp4_gguf_get_array(gguf, "tokenizer.ggml.token_type", &element, &count)) {
    types = malloc(tokenizer->count * sizeof *types);
    if (types == NULL) {
      return nvfp4_reject(reason, NVFP4_E_NOMEM, "out of memory for tokenizer.ggml.token_type");
    }
    if (count != tokenizer->count || !nvfp4_gguf_get_ints(gguf, "tokenizer.ggml.token_type", types, count)) {
      free(types);
      return nvfp4_reject(reason, NVFP4_E_FORMAT, "GGUF metadata: tokenizer.ggml.token_type is not %zu integers", tokenizer->count);
    }
  }
  nvfp4_status status = NVFP4_OK;
  for (size_t i = 0; i < tokenizer->count && status == NVFP4_OK; i++) {
    bool control = types != NULL && types[i] == TYPE_CONTROL;
    bool added = control || (types != NULL && types[i] == TYPE_USER_DEFINED);
    uint32_t flags = (added ? NVFP4_TOKEN_ADDED : 0) | (control ? NVFP4_TOKEN_SPECIAL : 0);
    status = nvfp4_tokenizer_set(tokenizer, i, texts[i].text, texts[i].bytes, !added, flags, reason);
  }
  free(types);
  return status;
}

static nvfp4_status set_merges(nvfp4_tokenizer *tokenizer, const nvfp4_gguf_metadata *gguf, nvfp4_reason *reason) {
  nvfp4_gguf_string *merges;
  uint64_t count;
  NVFP4_TRY(read_strings(gguf, "tokenizer.ggml.merges", &merges, &count, reason));
  nvfp4_status status = nvfp4_tokenizer_index(tokenizer, (size_t)count, reason);
  for (uint64_t i = 0; i < count && status == NVFP4_OK; i++) {
    status = nvfp4_tokenizer_merge_text(tokenizer, (size_t)i, merges[i].text, merges[i].bytes, reason);
  }
  free(merges);
  return status;
}

static bool name_is(nvfp4_gguf_string name, const char *text) {
  return name.bytes == strlen(text) && memcmp(name.text, text, name.bytes) == 0;
}

int32_t nvfp4_tokenizer_gguf_bos(const nvfp4_checkpoint *checkpoint) {
  const nvfp4_gguf_metadata *gguf = checkpoint->gguf;
  nvfp4_gguf_string pre = {NULL, 0};
  nvfp4_gguf_get_string(gguf, "tokenizer.ggml.pre", &pre);
  /* Files of Llama 3 leave the flag out and mean yes. */
  bool add = name_is(pre, "llama-bpe") || name_is(pre, "llama3");
  nvfp4_gguf_get_bool(gguf, "tokenizer.ggml.add_bos_token", &add);
  int64_t id;
  bool there = add && nvfp4_gguf_get_int(gguf, "tokenizer.ggml.bos_token_id", &id) && id >= 0 && id <= INT32_MAX;
  return there ? (int32_t)id : -1;
}

static nvfp4_status read_settings(nvfp4_tokenizer *tokenizer, const nvfp4_checkpoint *checkpoint, nvfp4_reason *reason) {
  const nvfp4_gguf_metadata *gguf = checkpoint->gguf;
  nvfp4_gguf_string pre;
  if (!nvfp4_gguf_get_string(gguf, "tokenizer.ggml.pre", &pre)) {
    return nvfp4_reject(reason, NVFP4_E_UNSUPPORTED,
                        "GGUF metadata: no tokenizer.ggml.pre, so how text is cut is unknown; convert the model anew");
  }
  NVFP4_TRY(nvfp4_pretokenizer_add_named(tokenizer->pretokenizer, pre.text, pre.bytes, reason));
  tokenizer->ignore_merges = name_is(pre, "llama-bpe") || name_is(pre, "llama3");
  int32_t begin = nvfp4_tokenizer_gguf_bos(checkpoint);
  tokenizer->begin = begin >= 0 && (size_t)begin < tokenizer->count ? begin : -1;
  static const char *const ends[] = {"tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id"};
  for (size_t i = 0; i < sizeof ends / sizeof ends[0]; i++) {
    int64_t id;
    if (nvfp4_gguf_get_int(gguf, ends[i], &id) && id >= 0 && (size_t)id < tokenizer->count) {
      tokenizer->tokens[id].flags |= NVFP4_TOKEN_END;
    }
  }
  nvfp4_gguf_string template;
  if (nvfp4_gguf_get_string(gguf, "tokenizer.chat_template", &template)) {
    tokenizer->chat_template = malloc(template.bytes + 1);
    if (tokenizer->chat_template == NULL) {
      return nvfp4_reject(reason, NVFP4_E_NOMEM, "out of memory for the chat template");
    }
    memcpy(tokenizer->chat_template, template.text, template.bytes);
    tokenizer->chat_template[template.bytes] = '\0';
  }
  return NVFP4_OK;
}

nvfp4_status nvfp4_tokenizer_from_gguf(const nvfp4_checkpoint *checkpoint, nvfp4_tokenizer **out, nvfp4_reason *reason) {
  const nvfp4_gguf_metadata *gguf = checkpoint->gguf;
  nvfp4_gguf_string model = {"", 0};
  nvfp4_gguf_get_string(gguf, "tokenizer.ggml.model", &model);
  if (!name_is(model, "gpt2")) {
    return nvfp4_reject(reason, NVFP4_E_UNSUPPORTED,
                        "GGUF metadata: tokenizer.ggml.model is \"%.*s\"; this library knows gpt2 (byte-level BPE)",
                        (int)(model.bytes < 60 ? model.bytes : 60), model.text);
  }
  nvfp4_gguf_string *texts;
  uint64_t count;
  NVFP4_TRY(read_strings(gguf, "tokenizer.ggml.tokens", &texts, &count, reason));
  nvfp4_tokenizer *tokenizer = NULL;
  nvfp4_status status = nvfp4_tokenizer_alloc((size_t)count, &tokenizer, reason);
  if (status == NVFP4_OK) {
    status = set_tokens(tokenizer, gguf, texts, reason);
  }
  free(texts);
  if (status == NVFP4_OK) {
    status = set_merges(tokenizer, gguf, reason);
  }
  if (status == NVFP4_OK) {
    status = read_settings(tokenizer, checkpoint, reason);
  }
  if (status != NVFP4_OK) {
    nvfp4_tokenizer_destroy(tokenizer);
    return status;
  }
  *out = tokenizer;
  return NVFP4_OK;
}
