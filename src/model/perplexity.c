/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Perplexity over windows, by the protocol of llama.cpp's llama-perplexity: exp of the mean of -ln p(token), over the tokens after the middle of each window.
 * Position i predicts token i + 1, so that a window of 512 scores tokens 257 to 511: 255 of them.
 */
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/reason.h"
#include "model/transformer.h"

/* Rows of logits held at a time: vocabularies are large. */
#define SCORED_ROWS 64

typedef struct score_job {
  const float *logits; /* [rows, vocabulary] */
  int64_t vocabulary;
  const int32_t *targets;
  double loss[SCORED_ROWS];
} score_job;

/* -ln softmax(logits)[target] */
static void score_row(void *arg, size_t row) {
  score_job *job = arg;
  const float *logits = job->logits + (int64_t)row * job->vocabulary;
  float largest = logits[0];
  for (int64_t i = 1; i < job->vocabulary; i++) {
    largest = logits[i] > largest ? logits[i] : largest;
  }
  double sum = 0;
  for (int64_t i = 0; i < job->vocabulary; i++) {
    sum += exp((double)logits[i] - (double)largest);
  }
  job->loss[row] = log(sum) - ((double)logits[job->targets[row]] - (double)largest);
}

typedef struct sums {
  double loss, squares;
  int64_t count;
} sums;

/* tokens: a whole window, its first one already replaced. logits: [SCORED_ROWS, vocabulary]. */
static nvfp4_status score_window(nvfp4_model *model, const int32_t *tokens, int64_t window, float *logits, sums *total,
                                 nvfp4_reason *reason) {
  int64_t first = window / 2;
  nvfp4_model_rewind(model, 0);
  NVFP4_TRY(nvfp4_model_forward(model, tokens, (size_t)first, false, logits, reason));
  for (int64_t at = first; at + 1 < window; at += SCORED_ROWS) {
    int64_t rows = window - 1 - at < SCORED_ROWS ? window - 1 - at : SCORED_ROWS;
    NVFP4_TRY(nvfp4_model_forward(model, tokens + at, (size_t)rows, true, logits, reason));
    score_job job = {.logits = logits, .vocabulary = model->config.vocabulary, .targets = tokens + at + 1};
    nvfp4_parallel_for(model->threads, (size_t)rows, score_row, &job);
    for (int64_t i = 0; i < rows; i++) {
      total->loss += job.loss[i];
      total->squares += job.loss[i] * job.loss[i];
    }
    total->count += rows;
  }
  return NVFP4_OK;
}

static void conclude(const sums *total, int64_t windows, nvfp4_perplexity_result *out) {
  double count = (double)total->count, mean = total->loss / count;
  double variance = total->squares / count - mean * mean;
  *out = (nvfp4_perplexity_result){.perplexity = exp(mean), .windows = windows, .scored_tokens = total->count};
  if (total->count > 1 && variance > 0) {
    out->standard_error = exp(mean) * sqrt(variance / (count - 1));
  }
}

nvfp4_status nvfp4_perplexity(nvfp4_model *model, const int32_t *tokens, size_t count, int64_t window, int64_t windows,
                              void (*progress)(void *cookie, uint64_t done, uint64_t total), void *progress_cookie,
                              nvfp4_perplexity_result *out, nvfp4_reason *reason) {
  if (model == NULL || tokens == NULL || out == NULL) {
    return nvfp4_reject(reason, NVFP4_E_ARG, "model, tokens or out is NULL; all three are needed");
  }
  if (window < 4 || window > model->context_limit || windows < 0) {
    return nvfp4_reject(reason, NVFP4_E_ARG,
                        "windows of %" PRId64 " tokens, %" PRId64 " at most; needs 4 to %" PRId64 " (the model's context), and 0 or more",
                        window, windows, model->context_limit);
  }
  int64_t whole = (int64_t)(count / (size_t)window);
  if (whole == 0) {
    return nvfp4_reject(reason, NVFP4_E_ARG, "the text has %zu tokens; a window needs %" PRId64, count, window);
  }
  windows = windows == 0 || windows > whole ? whole : windows;
  int32_t *copy = malloc((size_t)window * sizeof *copy);
  float *logits = malloc(SCORED_ROWS * (size_t)model->config.vocabulary * sizeof *logits);
  nvfp4_status status = copy != NULL && logits != NULL ? NVFP4_OK : nvfp4_reject(reason, NVFP4_E_NOMEM, "out of memory for the logits");
  sums total = {0, 0, 0};
  for (int64_t i = 0; i < windows && status == NVFP4_OK; i++) {
    memcpy(copy, tokens + i * window, (size_t)window * sizeof *copy);
    if (model->window_bos >= 0) {
      copy[0] = model->window_bos;
    }
    status = score_window(model, copy, window, logits, &total, reason);
    if (status == NVFP4_OK && progress != NULL) {
      progress(progress_cookie, (uint64_t)i + 1, (uint64_t)windows);
    }
  }
  nvfp4_model_rewind(model, 0);
  free(copy);
  free(logits);
  if (status == NVFP4_OK) {
    conclude(&total, windows, out);
  }
  return status;
}
