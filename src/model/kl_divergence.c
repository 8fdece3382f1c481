/* SPDX-License-Identifier: Apache-2.0 */
/* The statistics that llama-perplexity --kl-divergence prints, by the same formulas (ggml-org/llama.cpp, tools/perplexity/perplexity.cpp). */
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/reason.h"
#include "model/log_probs.h"
#include "model/perplexity.h"
#include "model/vector.h"

typedef struct comparison {
  nvfp4_model *model;
  const char *path;
  FILE *base;
  size_t row_bytes;
  uint8_t *rows; /* [NVFP4_SCORED_ROWS], of the file */
  const float *logits;
  const int32_t *targets;
  /* Of every scored token. */
  double *loss, *base_loss, *divergence, *change;
  bool *same_top;
  int64_t count;
} comparison;

static void compare_row(void *arg, size_t row) {
  comparison *c = arg;
  int64_t vocabulary = c->model->config.vocabulary, at = c->count + (int64_t)row, base_top = 0;
  const float *logits = c->logits + (int64_t)row * vocabulary;
  const uint8_t *base = c->rows + row * c->row_bytes;
  float step, least;
  memcpy(&step, base, sizeof step);
  memcpy(&least, base + sizeof step, sizeof least);
  const uint16_t *code = (const uint16_t *)(base + 8);
  nvfp4_logits_summary summary;
  nvfp4_read_logits(logits, vocabulary, &summary);
  c->loss[at] = nvfp4_loss(logits, &summary, c->targets[row]);
  c->base_loss[at] = -((double)step * code[c->targets[row]] + (double)least);
  c->divergence[at] = nvfp4_divergence(code, least, step, logits, summary.largest, summary.log_sum, vocabulary);
  c->change[at] = exp(-c->loss[at]) - exp(-c->base_loss[at]);
  for (int64_t i = 1; i < vocabulary; i++) {
    base_top = code[i] > code[base_top] ? i : base_top;
  }
  c->same_top[at] = base_top == summary.top;
}

static nvfp4_status compare_rows(void *cookie, const float *logits, const int32_t *targets, int64_t rows, nvfp4_reason *reason) {
  comparison *c = cookie;
  if (fread(c->rows, c->row_bytes, (size_t)rows, c->base) != (size_t)rows) {
    return nvfp4_reject(reason, NVFP4_E_IO, "%s: cannot be read: %s", c->path, ferror(c->base) ? strerror(errno) : "it ends too early");
  }
  for (int64_t i = 0; i < rows; i++) {
    float ends[2];
    memcpy(ends, c->rows + (size_t)i * c->row_bytes, sizeof ends);
    if (!(ends[0] >= 0 && ends[0] <= 1) || !(ends[1] <= 0 && isfinite(ends[1]))) {
      return nvfp4_reject(reason, NVFP4_E_FORMAT,
                          "%s: scored token %" PRId64
                          " has steps of %g from %g on; needs log-probabilities: steps of 0 to 1, from 0 or less on",
                          c->path, c->count + i, (double)ends[0], (double)ends[1]);
    }
  }
  c->logits = logits;
  c->targets = targets;
  nvfp4_parallel_for(c->model->threads, (size_t)rows, compare_row, c);
  c->count += rows;
  return NVFP4_OK;
}

/* -------------------------------------------------------------------------------------------------------------- statistics */

/* The mean of a[i] * b[i], or of a[i] if b is NULL, and its standard error. */
static nvfp4_estimate mean_of(const double *a, const double *b, int64_t count) {
  double sum = 0, squares = 0;
  for (int64_t i = 0; i < count; i++) {
    double value = b != NULL ? a[i] * b[i] : a[i];
    sum += value;
    squares += value * value;
  }
  return nvfp4_mean(sum, squares, count);
}

static nvfp4_estimate exp_of(nvfp4_estimate x) { return (nvfp4_estimate){exp(x.value), exp(x.value) * x.standard_error}; }

/* The standard error of a difference. */
static double error_of_difference(double a, double b, double covariance) {
  double variance = a * a + b * b - 2 * covariance;
  return variance > 0 ? sqrt(variance) : 0;
}

static int ascending(const void *a, const void *b) {
  double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}

/* Sorts values. */
static void quantiles(double *values, int64_t count, double out[NVFP4_QUANTILES]) {
  static const double shares[NVFP4_QUANTILES] = NVFP4_QUANTILE_SHARES;
  qsort(values, (size_t)count, sizeof *values, ascending);
  for (int i = 0; i < NVFP4_QUANTILES; i++) {
    double place = shares[i] * (double)(count - 1);
    int64_t below = (int64_t)place, above = below + 1 < count ? below + 1 : below;
    double part = place - (double)below;
    out[i] = (1 - part) * values[below] + part * values[above];
  }
}

/* Sorts what it has no more use for. */
static void conclude(comparison *c, nvfp4_kl_divergence_result *out) {
  const int64_t count = c->count;
  const nvfp4_estimate loss = mean_of(c->loss, NULL, count), base = mean_of(c->base_loss, NULL, count);
  double covariance = 0;
  if (count > 1) {
    covariance = (mean_of(c->loss, c->base_loss, count).value - loss.value * base.value) / (double)(count - 1);
  }
  out->perplexity = exp_of(loss);
  out->base_perplexity = exp_of(base);
  out->correlation = loss.standard_error > 0 && base.standard_error > 0 ? covariance / (loss.standard_error * base.standard_error) : 0;
  out->log_ratio = (nvfp4_estimate){loss.value - base.value, error_of_difference(loss.standard_error, base.standard_error, covariance)};
  out->ratio = exp_of(out->log_ratio);
  out->difference = (nvfp4_estimate){out->perplexity.value - out->base_perplexity.value,
                                     error_of_difference(out->perplexity.standard_error, out->base_perplexity.standard_error,
                                                         out->perplexity.value * out->base_perplexity.value * covariance)};
  out->divergence = mean_of(c->divergence, NULL, count);
  quantiles(c->divergence, count, out->divergence_quantiles);
  out->probability_change = mean_of(c->change, NULL, count);
  const nvfp4_estimate squared = mean_of(c->change, c->change, count);
  const double rms = sqrt(squared.value);
  out->probability_change_rms = (nvfp4_estimate){rms, rms > 0 ? 0.5 / rms * squared.standard_error : 0};
  quantiles(c->change, count, out->probability_change_quantiles);
  int64_t same = 0;
  for (int64_t i = 0; i < count; i++) {
    same += c->same_top[i];
  }
  const double share = (double)same / (double)count;
  out->same_top = (nvfp4_estimate){share, count > 1 ? sqrt(share * (1 - share) / (double)(count - 1)) : 0};
  out->scored_tokens = count;
}

/* -------------------------------------------------------------------------------------------------------------------- run */

static nvfp4_status check_base(const nvfp4_model *model, const char *path, const nvfp4_log_probs_header *header, const int32_t *tokens,
                               nvfp4_reason *reason) {
  if (header->vocabulary != model->config.vocabulary) {
    return nvfp4_reject(reason, NVFP4_E_SHAPE,
                        "%s: is of a vocabulary of %" PRId32 " tokens; the model has %" PRId64 ", and needs a file of its own kind", path,
                        header->vocabulary, model->config.vocabulary);
  }
  if (header->window > model->context_limit) {
    return nvfp4_reject(reason, NVFP4_E_SHAPE,
                        "%s: has windows of %" PRId32 " tokens; the model has a context of %" PRId64 ": make it with more context_tokens",
                        path, header->window, model->context_limit);
  }
  nvfp4_reason why = {0};
  nvfp4_status status = nvfp4_model_check_tokens(model, tokens, (size_t)header->windows * (size_t)header->window, &why);
  return status == NVFP4_OK ? NVFP4_OK : nvfp4_reject(reason, NVFP4_E_FORMAT, "%s: %s: was it made with another model?", path, why.text);
}

static nvfp4_status compare(comparison *c, const nvfp4_log_probs_header *header, const int32_t *tokens, int64_t windows,
                            const nvfp4_scorer *scorer, nvfp4_reason *reason) {
  NVFP4_TRY(check_base(c->model, c->path, header, tokens, reason));
  const size_t scored = (size_t)windows * (size_t)(header->window - 1 - header->window / 2);
  c->row_bytes = nvfp4_log_probs_row_bytes(header->vocabulary);
  c->rows = malloc(NVFP4_SCORED_ROWS * c->row_bytes);
  c->loss = malloc(4 * scored * sizeof *c->loss);
  c->same_top = malloc(scored * sizeof *c->same_top);
  if (c->rows == NULL || c->loss == NULL || c->same_top == NULL) {
    return nvfp4_reject(reason, NVFP4_E_NOMEM, "out of memory for the scores of %zu tokens", scored);
  }
  c->base_loss = c->loss + scored;
  c->divergence = c->base_loss + scored;
  c->change = c->divergence + scored;
  return nvfp4_score_windows(c->model, tokens, header->window, windows, scorer, reason);
}

nvfp4_status nvfp4_kl_divergence(nvfp4_model *model, const char *log_probs, int64_t windows,
                                 void (*progress)(void *cookie, uint64_t done, uint64_t total), void *progress_cookie,
                                 nvfp4_kl_divergence_result *out, nvfp4_reason *reason) {
  if (model == NULL || log_probs == NULL || out == NULL || windows < 0) {
    return nvfp4_reject(reason, NVFP4_E_ARG, "model, log_probs or out is NULL, or windows is negative; needs all three, and 0 or more");
  }
  nvfp4_log_probs_header header;
  int32_t *tokens;
  comparison c = {.model = model, .path = log_probs};
  const nvfp4_scorer scorer = {compare_rows, &c, progress, progress_cookie};
  NVFP4_TRY(nvfp4_log_probs_open(log_probs, &header, &tokens, &c.base, reason));
  windows = windows == 0 || windows > header.windows ? header.windows : windows;
  nvfp4_status status = compare(&c, &header, tokens, windows, &scorer, reason);
  if (status == NVFP4_OK) {
    *out = (nvfp4_kl_divergence_result){.window = header.window, .windows = windows};
    conclude(&c, out);
  }
  fclose(c.base);
  free(tokens);
  free(c.rows);
  free(c.loss);
  free(c.same_top);
  return status;
}
