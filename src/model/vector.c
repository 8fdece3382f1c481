/* SPDX-License-Identifier: Apache-2.0 */
#include "model/vector.h"

#include <string.h>

#include "base/clones.h"

#define LANES NVFP4_VECTOR_LANES

/* The vector extension of GCC and Clang: the accumulators stay in registers, which loops over arrays do not reliably reach. Unaligned. */
typedef float lanes __attribute__((vector_size(4 * LANES), aligned(4), may_alias));

static inline float add_lanes(const lanes *sum) {
  float part[LANES];
  memcpy(part, sum, sizeof part);
  for (int half = LANES / 2; half > 0; half /= 2) {
    for (int i = 0; i < half; i++) {
      part[i] += part[i + half];
    }
  }
  return part[0];
}

NVFP4_CLONES_FMA static void dot4(const float *x, const float *w, int64_t k, float *out) {
  lanes sum[4] = {{0}, {0}, {0}, {0}};
  int64_t whole = k / LANES * LANES;
  for (int64_t i = 0; i < whole; i += LANES) {
    lanes at = *(const lanes *)(x + i);
    sum[0] += at * *(const lanes *)(w + i);
    sum[1] += at * *(const lanes *)(w + k + i);
    sum[2] += at * *(const lanes *)(w + 2 * k + i);
    sum[3] += at * *(const lanes *)(w + 3 * k + i);
  }
  for (int r = 0; r < 4; r++) {
    for (int64_t i = whole; i < k; i++) {
      sum[r][i - whole] += x[i] * w[r * k + i];
    }
    out[r] = add_lanes(&sum[r]);
  }
}

void nvfp4_dot4(const float *x, const float *w, int64_t k_elems, float out[4]) { dot4(x, w, k_elems, out); }

NVFP4_CLONES_FMA static void weighted_rows(const float *a, int64_t count, const float *b, int64_t ld, int64_t length, float *out) {
  int64_t i = 0;
  for (; i + 4 * LANES <= length; i += 4 * LANES) {
    lanes sum[4] = {{0}, {0}, {0}, {0}};
    for (int64_t j = 0; j < count; j++) {
      const float *row = b + j * ld + i;
      sum[0] += a[j] * *(const lanes *)row;
      sum[1] += a[j] * *(const lanes *)(row + LANES);
      sum[2] += a[j] * *(const lanes *)(row + 2 * LANES);
      sum[3] += a[j] * *(const lanes *)(row + 3 * LANES);
    }
    memcpy(out + i, sum, sizeof sum);
  }
  for (; i < length; i += LANES) {
    lanes sum = {0};
    for (int64_t j = 0; j < count; j++) {
      sum += a[j] * *(const lanes *)(b + j * ld + i);
    }
    memcpy(out + i, &sum, sizeof sum);
  }
}

void nvfp4_weighted_rows(const float *a, int64_t count, const float *b, int64_t ld, int64_t length, float *out) {
  weighted_rows(a, count, b, ld, length, out);
}
