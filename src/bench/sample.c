/* SPDX-License-Identifier: Apache-2.0 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/reason.h"
#include "bench/cells.h"

enum { MOST_ROWS = 8, MOST_COLUMNS = 64 };

/* Index i of `count` that are spread over 0 .. all - 1. */
static int64_t spread(int64_t i, int64_t count, int64_t all) { return count > 1 ? i * (all - 1) / (count - 1) : 0; }

static int64_t at_most(int64_t value, int64_t most) { return value < most ? value : most; }

nvfp4_status nvfp4_bench_sample_begin(const nvfp4_bench_inputs *inputs, nvfp4_bench_sample *out, nvfp4_reason *reason) {
  *out = (nvfp4_bench_sample){.inputs = inputs, .rows = at_most(inputs->m, MOST_ROWS)};
  out->y = malloc((size_t)(out->rows * inputs->n) * sizeof *out->y);
  return out->y != NULL ? NVFP4_OK : nvfp4_reject(reason, NVFP4_E_NOMEM, "out of memory for %lld rows of y", (long long)out->rows);
}

void nvfp4_bench_sample_end(nvfp4_bench_sample *sample) { free(sample->y); }

int64_t nvfp4_bench_sample_row(const nvfp4_bench_sample *sample, int64_t i) { return spread(i, sample->rows, sample->inputs->m); }

static float bf16_to_f32(uint16_t bits) {
  uint32_t wide = (uint32_t)bits << 16;
  float value;
  memcpy(&value, &wide, sizeof value);
  return value;
}

/* Codes and scales of one row as numbers. */
static void decode(const nvfp4_host *host, const uint8_t *codes, const uint8_t *scales, int64_t k, float *out) {
  for (int64_t i = 0; i < k; i++) {
    out[i] = host->e2m1[codes[i / 2] >> i % 2 * 4 & 15] * host->e4m3[scales[i / NVFP4_BLOCK]]; /* exact */
  }
}

/* Row i of the sample as the kernel's mode has it; codes: k/2 + k/16 bytes of room. */
static void load_x(const nvfp4_host *host, const nvfp4_bench_sample *sample, int64_t i, nvfp4_mode mode, uint8_t *codes, float *out) {
  int64_t k = sample->inputs->k;
  const uint16_t *x = sample->inputs->x + nvfp4_bench_sample_row(sample, i) * k;
  for (int64_t j = 0; j < k; j++) {
    out[j] = bf16_to_f32(x[j]);
  }
  if (mode == NVFP4_MODE_W4A4) {
    host->quantise_row(out, k, 1.0f, codes, codes + k / 2);
    decode(host, codes, codes + k / 2, k, out);
  }
}

nvfp4_status nvfp4_bench_sample_error(const nvfp4_host *host, const nvfp4_bench_sample *sample, nvfp4_mode mode, double *out,
                                      nvfp4_reason *reason) {
  const nvfp4_bench_inputs *in = sample->inputs;
  int64_t k = in->k, columns = at_most(in->n, MOST_COLUMNS);
  float *x = malloc((size_t)(k * sample->rows) * sizeof *x), *w = malloc((size_t)k * sizeof *w);
  uint8_t *codes = malloc((size_t)(k / 2 + k / NVFP4_BLOCK));
  double difference = 0, norm = 0;
  nvfp4_status status = x != NULL && w != NULL && codes != NULL
                            ? NVFP4_OK
                            : nvfp4_reject(reason, NVFP4_E_NOMEM, "out of memory for a sample of K = %lld", (long long)k);
  for (int64_t i = 0; status == NVFP4_OK && i < sample->rows; i++) {
    load_x(host, sample, i, mode, codes, x + i * k);
  }
  for (int64_t column = 0; status == NVFP4_OK && column < columns; column++) {
    int64_t n = spread(column, columns, in->n);
    decode(host, in->codes + n * (k / 2), in->scales + n * (k / NVFP4_BLOCK), k, w);
    for (int64_t i = 0; i < sample->rows; i++) {
      double sum = 0, y = (double)bf16_to_f32(sample->y[i * in->n + n]);
      for (int64_t j = 0; j < k; j++) {
        sum += (double)x[i * k + j] * (double)w[j];
      }
      if (!isfinite(y)) {
        status = nvfp4_reject(reason, NVFP4_E_INTERNAL, "y[%lld, %lld] is no number: the kernel is wrong; please report it",
                              (long long)nvfp4_bench_sample_row(sample, i), (long long)n);
      }
      difference += (y - sum) * (y - sum);
      norm += sum * sum;
    }
  }
  free(x);
  free(w);
  free(codes);
  if (status == NVFP4_OK) {
    *out = norm > 0 ? sqrt(difference / norm) : sqrt(difference);
  }
  return status;
}
