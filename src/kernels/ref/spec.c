/* SPDX-License-Identifier: Apache-2.0 */
#include "kernels/ref/spec.h"

#include <math.h>

#include "format/e2m1.h"
#include "format/e4m3.h"

static uint8_t code_at(nvfp4_spec_row row, int64_t k) { return (k & 1) != 0 ? row.codes[k / 2] >> 4 : row.codes[k / 2] & 15; }

float nvfp4_spec_w4a4(nvfp4_spec_row x, nvfp4_spec_row w, int64_t k) {
  float acc = 0.0f;
  for (int64_t block = 0; block < k / NVFP4_BLOCK; block++) {
    int dot4 = 0; /* four times the dot product: an integer, |dot4| <= 2304 */
    for (int64_t i = block * NVFP4_BLOCK; i < (block + 1) * NVFP4_BLOCK; i++) {
      dot4 += nvfp4_e2m1_doubled(code_at(x, i)) * nvfp4_e2m1_doubled(code_at(w, i));
    }
    float dot = 0.25f * (float)dot4;
    float scale = nvfp4_e4m3_to_f32(x.scales[block]) * nvfp4_e4m3_to_f32(w.scales[block]); /* exact: at most 8 significant bits */
    float term = dot * scale;                                                              /* exact: at most 20 */
    acc = acc + term;                                                                      /* the only rounding */
  }
  return acc;
}

float nvfp4_spec_w4a16(const float *x, nvfp4_spec_row w, int64_t k) {
  float acc = 0.0f;
  for (int64_t block = 0; block < k / NVFP4_BLOCK; block++) {
    float part = 0.0f;
    for (int64_t i = block * NVFP4_BLOCK; i < (block + 1) * NVFP4_BLOCK; i++) {
      part = fmaf(x[i], nvfp4_e2m1_to_f32(code_at(w, i)), part);
    }
    acc = fmaf(part, nvfp4_e4m3_to_f32(w.scales[block]), acc);
  }
  return acc;
}

float nvfp4_spec_w16a16(const float *x, const float *w, int64_t k) {
  float acc = 0.0f;
  for (int64_t i = 0; i < k; i++) {
    acc = fmaf(x[i], w[i], acc);
  }
  return acc;
}

float nvfp4_spec_finish(float acc, float alpha, const float *bias) {
  float v = bias != NULL ? fmaf(alpha, acc, *bias) : alpha * acc;
  return isnan(v) ? NAN : v;
}

int64_t nvfp4_oracle_w4a4(nvfp4_spec_row x, nvfp4_spec_row w, int64_t k, uint64_t *absolute) {
  int64_t sum = 0;
  uint64_t magnitude = 0;
  for (int64_t block = 0; block < k / NVFP4_BLOCK; block++) {
    int64_t dot4 = 0, magnitudes = 0;
    for (int64_t i = block * NVFP4_BLOCK; i < (block + 1) * NVFP4_BLOCK; i++) {
      int product = nvfp4_e2m1_doubled(code_at(x, i)) * nvfp4_e2m1_doubled(code_at(w, i));
      dot4 += product;
      magnitudes += product < 0 ? -product : product;
    }
    int64_t sx = (int64_t)(nvfp4_e4m3_to_f32(x.scales[block]) * 512.0f);
    int64_t sw = (int64_t)(nvfp4_e4m3_to_f32(w.scales[block]) * 512.0f);
    sum += dot4 * sx * sw; /* 2^-2 * 2^-9 * 2^-9 */
    magnitude += (uint64_t)(magnitudes * sx * sw);
  }
  if (absolute != NULL) {
    *absolute = magnitude;
  }
  return sum;
}
