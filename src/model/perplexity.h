/* SPDX-License-Identifier: Apache-2.0 */
/* What perplexity and KL divergence share: windows of a text are run, and the logits of their second halves scored. */
#ifndef NVFP4_MODEL_PERPLEXITY_H
#define NVFP4_MODEL_PERPLEXITY_H

#include "model/transformer.h"

/* Rows of logits held at a time: what is scored of a window of 512. Fewer make steps that are too small for the kernels: 64 cost 15 % of the speed on 2 threads. */
#define NVFP4_SCORED_ROWS 256

typedef struct nvfp4_scorer {
  /* logits: [rows, vocabulary], rows <= NVFP4_SCORED_ROWS; targets: the tokens that follow. Called in the order of the text. */
  nvfp4_status (*score)(void *cookie, const float *logits, const int32_t *targets, int64_t rows, nvfp4_reason *reason);
  void *cookie;
  void (*progress)(void *cookie, uint64_t done, uint64_t total); /* windows; NULL: none */
  void *progress_cookie;
} nvfp4_scorer;

/* Runs each window of tokens [windows][window], all of the vocabulary, from an empty cache. A window's last token is a target only. */
nvfp4_status nvfp4_score_windows(nvfp4_model *model, const int32_t *tokens, int64_t window, int64_t windows, const nvfp4_scorer *scorer,
                                 nvfp4_reason *reason);

/* ln p(i) = logits[i] - largest - log_sum */
typedef struct nvfp4_logits_summary {
  float largest;
  int64_t top; /* its first place */
  double log_sum;
} nvfp4_logits_summary;

void nvfp4_read_logits(const float *logits, int64_t vocabulary, nvfp4_logits_summary *out);

/* -ln p(token) */
static inline double nvfp4_loss(const float *logits, const nvfp4_logits_summary *summary, int64_t token) {
  return summary->log_sum - ((double)logits[token] - (double)summary->largest);
}

/* The mean of `count` numbers and its standard error, from their sum and the sum of their squares. */
nvfp4_estimate nvfp4_mean(double sum, double squares, int64_t count);

#endif
