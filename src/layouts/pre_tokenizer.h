/* SPDX-License-Identifier: Apache-2.0 */
/* How byte-level BPE splits a text before it merges: GGUF names it ("tokenizer.ggml.pre"), tokenizer.json spells it out. */
#ifndef NVFP4_LAYOUTS_PRE_TOKENIZER_H
#define NVFP4_LAYOUTS_PRE_TOKENIZER_H

#include <jansson.h>
#include <stdbool.h>

typedef struct nvfp4_pre_tokenizer {
  const char *gguf;
  const char *pattern; /* the regular expression to split at; NULL: GPT-2's, which ByteLevel has built in */
  bool digits;         /* every digit alone, before that */
  bool nfc;            /* text is normalised */
  bool ignore_merges;  /* a word of the vocabulary is taken whole */
} nvfp4_pre_tokenizer;

/* hf_tokenizer.c: those that are translated; gguf is NULL at the end. */
extern const nvfp4_pre_tokenizer nvfp4_pre_tokenizers[];

/* hf_tokenizer.c: "pre_tokenizer" of tokenizer.json. */
json_t *nvfp4_pre_tokenizer_json(const nvfp4_pre_tokenizer *pre);

enum {
  NVFP4_TOKEN_NORMAL = 1,
  NVFP4_TOKEN_CONTROL = 3,
  NVFP4_TOKEN_USER_DEFINED = 4,
  NVFP4_TOKEN_UNUSED = 5
}; /* tokenizer.ggml.token_type */

#endif
