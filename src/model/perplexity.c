/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Perplexity over windows, by the protocol of llama.cpp's llama-perplexity: exp of the mean of -ln p(token), over the tokens after the middle of each window.
 * Position i predicts token i + 1, so that a window of 512 scores tokens 257 to 511: 255 of them.
 * Rows are scored by all threads; their scores are added in the order of the text.
 */
#include "model/perplexity.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/reason.h"
#include "model/log_probs.h"
#include "model/vector.h"

void nvfp4_read_logits(const float *logits, int64_t vocabulary, nvfp4_logits_summary *out) {
  out->largest = nvfp4_largest(logits, vocabulary, &out->top);
  out->log_sum = log(nvfp4_exp_sum(logits, vocabulary, out->largest));
}

static nvfp4_status score_window(nvfp4_model *model, const int32_t *tokens, int64_t window, float *logits, const nvfp4_scorer *scorer,
                                 nvfp4_reason *reason) {
  int64_t first = window / 2;
  nvfp4_model_rewind(model, 0);
  NVFP4_TRY(nvfp4_model_forward(model, tokens, (size_t)first, false, logits, reason));
  for (int64_t at = first; at + 1 < window; at += NVFP4_SCORED_ROWS) {
    int64_t rows = window - 1 - at < NVFP4_SCORED_ROWS ? window - 1 - at : NVFP4_SCORED_ROWS;
    NVFP4_TRY(nvfp4_model_forward(model, tokens + at, (size_t)rows, true, logits, reason));
    NVFP4_TRY(scorer->score(scorer->cookie, logits, tokens + at + 1, rows, reason));
  }
  return NVFP4_OK;
}

nvfp4_status nvfp4_score_windows(nvfp4_model *model, const int32_t *tokens, int64_t window, int64_t windows, const nvfp4_scorer *scorer,
                                 nvfp4_reason *reason) {
  int32_t *copy = malloc((size_t)window * sizeof *copy);
  float *logits = malloc(NVFP4_SCORED_ROWS * (size_t)model->config.vocabulary * sizeof *logits);
  nvfp4_status status = copy != NULL && logits != NULL ? NVFP4_OK : nvfp4_reject(reason, NVFP4_E_NOMEM, "out of memory for the logits");
  for (int64_t i = 0; i < windows && status == NVFP4_OK; i++) {
    memcpy(copy, tokens + i * window, (size_t)window * sizeof *copy);
    if (model->window_bos >= 0) {
      copy[0] = model->window_bos;
    }
    status = score_window(model, copy, window, logits, scorer, reason);
    if (status == NVFP4_OK && scorer->progress != NULL) {
      scorer->progress(scorer->progress_cookie, (uint64_t)i + 1, (uint64_t)windows);
    }
  }
  nvfp4_model_rewind(model, 0);
  free(copy);
  free(logits);
  return status;
}

/* -------------------------------------------------------------------------------------------------------------- perplexity */

typedef struct perplexity_job {
  nvfp4_model *model;
  nvfp4_new_file *save; /* NULL: do not */
  size_t row_bytes;
  uint8_t *rows; /* [NVFP4_SCORED_ROWS], of the file */
  const float *logits;
  const int32_t *targets;
  double loss[NVFP4_SCORED_ROWS];
  double sum, squares;
  int64_t count;
} perplexity_job;

static void score_row(void *arg, size_t row) {
  perplexity_job *job = arg;
  int64_t vocabulary = job->model->config.vocabulary;
  const float *logits = job->logits + (int64_t)row * vocabulary;
  nvfp4_logits_summary summary;
  nvfp4_read_logits(logits, vocabulary, &summary);
  job->loss[row] = nvfp4_loss(logits, &summary, job->targets[row]);
  if (job->save != NULL) {
    nvfp4_log_probs_encode(logits, vocabulary, summary.log_sum, job->rows + row * job->row_bytes);
  }
}

static nvfp4_status score_rows(void *cookie, const float *logits, const int32_t *targets, int64_t rows, nvfp4_reason *reason) {
  perplexity_job *job = cookie;
  job->logits = logits;
  job->targets = targets;
  nvfp4_parallel_for(job->model->threads, (size_t)rows, score_row, job);
  for (int64_t i = 0; i < rows; i++) {
    job->sum += job->loss[i];
    job->squares += job->loss[i] * job->loss[i];
  }
  job->count += rows;
  return job->save != NULL ? nvfp4_new_file_write(job->save, job->rows, (size_t)rows * job->row_bytes, reason) : NVFP4_OK;
}

static nvfp4_status run_job(perplexity_job *job, const int32_t *tokens, int64_t window, int64_t windows, const nvfp4_scorer *scorer,
                            const char *save_log_probs, nvfp4_reason *reason) {
  if (save_log_probs == NULL) {
    return nvfp4_score_windows(job->model, tokens, window, windows, scorer, reason);
  }
  const nvfp4_log_probs_header header = {(int32_t)window, (int32_t)job->model->config.vocabulary, (int32_t)windows};
  job->row_bytes = nvfp4_log_probs_row_bytes(header.vocabulary);
  job->rows = malloc(NVFP4_SCORED_ROWS * job->row_bytes);
  if (job->rows == NULL) {
    return nvfp4_reject(reason, NVFP4_E_NOMEM, "out of memory for log-probabilities");
  }
  nvfp4_status status = nvfp4_log_probs_create(save_log_probs, &header, tokens, &job->save, reason);
  if (status == NVFP4_OK) {
    status = nvfp4_score_windows(job->model, tokens, window, windows, scorer, reason);
    if (status == NVFP4_OK) {
      status = nvfp4_new_file_finish(job->save, reason);
    }
    nvfp4_new_file_destroy(job->save);
  }
  free(job->rows);
  return status;
}

nvfp4_status nvfp4_perplexity(nvfp4_model *model, const int32_t *tokens, size_t count, int64_t window, int64_t windows,
                              const char *save_log_probs, void (*progress)(void *cookie, uint64_t done, uint64_t total),
                              void *progress_cookie, nvfp4_perplexity_result *out, nvfp4_reason *reason) {
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
  NVFP4_TRY(nvfp4_model_check_tokens(model, tokens, (size_t)windows * (size_t)window, reason));
  perplexity_job job = {.model = model};
  const nvfp4_scorer scorer = {score_rows, &job, progress, progress_cookie};
  NVFP4_TRY(run_job(&job, tokens, window, windows, &scorer, save_log_probs, reason));
  const nvfp4_estimate loss = nvfp4_mean(job.sum, job.squares, job.count);
  *out = (nvfp4_perplexity_result){.perplexity = exp(loss.value),
                                   .standard_error = exp(loss.value) * loss.standard_error,
                                   .windows = windows,
                                   .scored_tokens = job.count};
  return NVFP4_OK;
}

nvfp4_estimate nvfp4_mean(double sum, double squares, int64_t count) {
  double mean = sum / (double)count, variance = squares / (double)count - mean * mean;
  return (nvfp4_estimate){mean, count > 1 && variance > 0 ? sqrt(variance / (double)(count - 1)) : 0};
}
