/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Cuts text into the pieces that byte pair encoding works on: a list of regular expressions, each of which isolates its matches in the pieces of the one
 * before (Hugging Face tokenizers: Split with behaviour Isolated, Digits, ByteLevel).
 */
#ifndef NVFP4_MODEL_PRETOKENIZER_H
#define NVFP4_MODEL_PRETOKENIZER_H

#include <nvfp4/nvfp4.h>

typedef struct nvfp4_pretokenizer nvfp4_pretokenizer;

/* The expressions of GPT-2 (ByteLevel with use_regex) and of Digits with and without individual_digits. */
extern const char nvfp4_pattern_gpt2[];
extern const char nvfp4_pattern_digit[];
extern const char nvfp4_pattern_digits[];

/* An empty list: leaves text whole. */
nvfp4_status nvfp4_pretokenizer_create(nvfp4_pretokenizer **out, nvfp4_reason *reason);
void nvfp4_pretokenizer_destroy(nvfp4_pretokenizer *pretokenizer);

/* Appends a step. An expression that PCRE2 does not compile is NVFP4_E_UNSUPPORTED and shown. */
nvfp4_status nvfp4_pretokenizer_add(nvfp4_pretokenizer *pretokenizer, const char *pattern, size_t bytes, nvfp4_reason *reason);

/* Appends the steps that GGUF's tokenizer.ggml.pre stands for; an unknown name is NVFP4_E_UNSUPPORTED. */
nvfp4_status nvfp4_pretokenizer_add_named(nvfp4_pretokenizer *pretokenizer, const char *name, size_t bytes, nvfp4_reason *reason);

typedef nvfp4_status (*nvfp4_piece_fn)(void *cookie, const char *piece, size_t bytes, nvfp4_reason *reason);

/* Calls piece for every piece of text, in order; stops at the first error. Text that is not UTF-8 is NVFP4_E_ARG with the offset. May be called
 * from several threads at once. */
nvfp4_status nvfp4_pretokenizer_split(const nvfp4_pretokenizer *pretokenizer, const char *text, size_t bytes, nvfp4_piece_fn piece,
                                      void *cookie, nvfp4_reason *reason);

#endif
