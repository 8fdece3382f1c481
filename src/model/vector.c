/* SPDX-License-Identifier: Apache-2.0 */
#include "model/vector.h"

#include <string.h>

#include "base/clones.h"

#define LANES NVFP4_VECTOR_LANES

/* The vector extension of GCC and Clang: the accumulators stay in registers, which loops over arrays do not reliably reach. Unaligned. */
typedef float lanes __attribute__((vector_size(4 * LANES), aligned(4), may_alias));

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
