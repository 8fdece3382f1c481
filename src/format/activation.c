/* SPDX-License-Identifier: Apache-2.0 */
#include "format/activation.h"

#include <string.h>

#include "format/e2m1.h"
#include "format/e4m3.h"
#include "format/global.h"

float nvfp4_activation_factor(nvfp4_global input) {
  switch (input.kind) {
    case NVFP4_GLOBAL_DIVISOR:
      return input.value;
    case NVFP4_GLOBAL_AMAX:
      return (float)NVFP4_GLOBAL_RANGE / input.value;
    default:
      return 1.0f / input.value;
  }
}

/* max |x| by the bits: magnitudes are ordered as integers, and a NaN is above all of them, so it comes out where there is one. */
static inline float block_amax(const float *x) {
  int32_t most = 0;
  for (int i = 0; i < NVFP4_BLOCK; ++i) {
    int32_t bits;
    memcpy(&bits, x + i, sizeof bits);
    bits &= 0x7FFFFFFF;
    most = bits > most ? bits : most;
  }
  float amax;
  memcpy(&amax, &most, sizeof amax);
  return amax;
}

void nvfp4_quantise_activation_row(const float *x, int64_t k, float s_a, uint8_t *codes, uint8_t *scales) {
  const float sixth = 1.0f / 6.0f;
  const float inverse_s_a = 1.0f / s_a;
  for (int64_t block = 0; block < k / NVFP4_BLOCK; ++block) {
    const float *in = x + block * NVFP4_BLOCK;
    uint8_t *out = codes + block * (NVFP4_BLOCK / 2);
    uint8_t scale = nvfp4_e4m3_from_f32(s_a * (block_amax(in) * sixth)); /* saturates: the clamp to 448 */
    scales[block] = scale;
    if (nvfp4_e4m3_is_nan(scale)) {
      memset(out, 0, NVFP4_BLOCK / 2);
      continue;
    }
    float f = nvfp4_e4m3_to_f32(scale);
    float o = f != 0 ? 1.0f / (f * inverse_s_a) : 0.0f;
    uint8_t code[NVFP4_BLOCK];
    for (int i = 0; i < NVFP4_BLOCK; ++i) {
      code[i] = nvfp4_e2m1_from_f32(in[i] * o);
    }
    nvfp4_e2m1_pack(code, NVFP4_BLOCK, out);
  }
}
