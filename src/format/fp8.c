/* SPDX-License-Identifier: Apache-2.0 */
#include "format/fp8.h"

#include <math.h>
#include <string.h>

#include "base/clones.h"
#include "format/e4m3.h"

NVFP4_CLONES_FMA static float amax_fp8(const float *x, int64_t k) {
  float amax = 0;
  for (int64_t i = 0; i < k; i++) {
    float magnitude = fabsf(x[i]);
    amax = magnitude > amax ? magnitude : amax;
  }
  return amax;
}

float nvfp4_fp8_amax(const float *x, int64_t k) { return amax_fp8(x, k); }

float nvfp4_fp8_scale_of(float amax) {
  float scale = amax / NVFP4_E4M3_MAX;
  return scale > 0 ? scale : 1;
}

/* nvfp4_e4m3_from_f32 and its value again, in a form that vectorises. */
NVFP4_CLONES_FMA static void quantise_fp8(const float *x, int64_t k, float scale, uint16_t *q) {
  for (int64_t i = 0; i < k; i++) {
    float value = x[i] / scale, magnitude = fabsf(value);
    magnitude = magnitude > NVFP4_E4M3_MAX ? NVFP4_E4M3_MAX : magnitude;
    float subnormal = magnitude + 0x1p14f - 0x1p14f; /* 2^14 has the ulp 2^-9 */
    uint32_t bits, sign, low;
    memcpy(&bits, &magnitude, sizeof bits);
    memcpy(&sign, &value, sizeof sign);
    memcpy(&low, &subnormal, sizeof low);
    bits = (bits + 0x7FFFFu + (bits >> 20 & 1)) & 0xFFF00000u; /* 3 of 23 fraction bits, ties to even */
    bits = magnitude < 0x1p-6f ? low : bits;
    bits = magnitude == magnitude ? bits : 0x7FC00000u;
    q[i] = (uint16_t)((bits | (sign & 0x80000000u)) >> 16);
  }
}

void nvfp4_fp8_quantise_row(const float *x, int64_t k, float scale, uint16_t *q) { quantise_fp8(x, k, scale, q); }

void nvfp4_fp8_to_bf16(const uint8_t *in, int64_t count, uint16_t *out) {
  for (int64_t i = 0; i < count; i++) {
    uint32_t bits;
    float value = nvfp4_e4m3_to_f32(in[i]);
    memcpy(&bits, &value, sizeof bits);
    out[i] = (uint16_t)(bits >> 16);
  }
}
