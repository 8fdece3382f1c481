/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Log-probabilities of every token of the vocabulary at the scored positions of a text, in the file that llama-perplexity writes and reads as
 * --kl-divergence-base (ggml-org/llama.cpp, tools/perplexity/perplexity.cpp). Little-endian:
 *
 *   "_logits_"  i32 window  i32 vocabulary  i32 windows  i32 tokens[windows][window]
 *   for each window, for each scored position:  f32 step  f32 least  u16 code[vocabulary, rounded up to even]
 *
 *   ln p(i) = least + step * code[i], in 65536 steps over the span of the logits, of which what lies more than 16 below the largest is cut off (code 0).
 *   Positions window / 2 to window - 2 are scored: position i foretells token i + 1.
 */
#ifndef NVFP4_MODEL_LOG_PROBS_H
#define NVFP4_MODEL_LOG_PROBS_H

#include <nvfp4/nvfp4.h>
#include <stdio.h>

#include "base/new_file.h"

typedef struct nvfp4_log_probs_header {
  int32_t window, vocabulary, windows;
} nvfp4_log_probs_header;

/* A row in the file: step, least, codes. */
static inline size_t nvfp4_log_probs_row_bytes(int64_t vocabulary) { return 8 + 2 * (size_t)(vocabulary + vocabulary % 2); }

/* Encodes logits [vocabulary] as a row. log_sum: ln of the sum of exp(logits[i] - largest). */
void nvfp4_log_probs_encode(const float *logits, int64_t vocabulary, double log_sum, uint8_t *row);

/* Begins a new file with header and tokens; rows are written next. */
nvfp4_status nvfp4_log_probs_create(const char *path, const nvfp4_log_probs_header *header, const int32_t *tokens, nvfp4_new_file **out,
                                    nvfp4_reason *reason);

/* Opens a file: *out stands at its first row, *tokens [windows][window] is malloc'ed for the caller. Refuses a file that is not whole. */
nvfp4_status nvfp4_log_probs_open(const char *path, nvfp4_log_probs_header *header, int32_t **tokens, FILE **out, nvfp4_reason *reason);

#endif
