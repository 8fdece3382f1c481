/* SPDX-License-Identifier: Apache-2.0 */
/* Integer arithmetic and selects only (but for f16 subnormals), so that the loops at the end vectorise on any machine. */
#include "format/half.h"

#include <string.h>

#define F32_INFINITY 0x7F800000u
#define F16_SMALLEST_NORMAL 0x38800000u /* 2^-14 as f32 */
#define F16_REBIAS ((127u - 15u) << 23)

static inline uint32_t bits_of(float value) {
  uint32_t bits;
  memcpy(&bits, &value, sizeof bits);
  return bits;
}

static inline float float_of(uint32_t bits) {
  float value;
  memcpy(&value, &bits, sizeof value);
  return value;
}

static inline float bf16_to_f32(uint16_t bits) { return float_of((uint32_t)bits << 16); }

static inline uint16_t bf16_from_f32(float value) {
  uint32_t bits = bits_of(value);
  uint32_t rounded = (bits + 0x7FFFu + (bits >> 16 & 1)) >> 16;
  uint32_t quiet_nan = bits >> 16 | 0x40;
  return (uint16_t)((bits & 0x7FFFFFFFu) > F32_INFINITY ? quiet_nan : rounded);
}

static inline float f16_to_f32(uint16_t bits) {
  uint32_t sign = (uint32_t)(bits & 0x8000) << 16;
  uint32_t magnitude = bits & 0x7FFF;
  uint32_t normal = (magnitude << 13) + F16_REBIAS;
  uint32_t infinity_or_nan = normal + F16_REBIAS;
  uint32_t subnormal = bits_of((float)(int32_t)magnitude * 0x1p-24f);
  uint32_t out = magnitude >= 0x7C00 ? infinity_or_nan : normal;
  return float_of(sign | (magnitude < 0x0400 ? subnormal : out));
}

static inline uint16_t f16_from_f32(float value) {
  uint32_t bits = bits_of(value);
  uint32_t sign = bits >> 16 & 0x8000;
  uint32_t magnitude = bits & 0x7FFFFFFFu;
  /* 65520 and above carry into 0x7C00, infinity; what is larger still is cut to it. */
  uint32_t normal = (magnitude + 0xFFFu + (magnitude >> 13 & 1) - F16_REBIAS) >> 13;
  normal = normal < 0x7C00 ? normal : 0x7C00;
  /* 0.5 has the ulp 2^-24, as f16 subnormals have: the addition rounds. */
  uint32_t subnormal = bits_of(float_of(magnitude) + 0.5f) - 0x3F000000u;
  uint32_t quiet_nan = 0x7E00 | (magnitude >> 13 & 0x3FF);
  uint32_t out = magnitude < F16_SMALLEST_NORMAL ? subnormal : normal;
  return (uint16_t)(sign | (magnitude > F32_INFINITY ? quiet_nan : out));
}

float nvfp4_bf16_to_f32(uint16_t bits) { return bf16_to_f32(bits); }
uint16_t nvfp4_bf16_from_f32(float value) { return bf16_from_f32(value); }
float nvfp4_f16_to_f32(uint16_t bits) { return f16_to_f32(bits); }
uint16_t nvfp4_f16_from_f32(float value) { return f16_from_f32(value); }

void nvfp4_to_f32(const void *x, nvfp4_dtype dtype, float *out, int64_t count) {
  const unsigned char *in = x;
  unsigned char *to = (unsigned char *)out;
  if (dtype == NVFP4_DTYPE_F32) {
    memcpy(to, in, (size_t)count * 4);
    return;
  }
  for (int64_t i = 0; i < count; ++i) {
    uint16_t bits;
    memcpy(&bits, in + 2 * i, sizeof bits);
    float value = dtype == NVFP4_DTYPE_BF16 ? bf16_to_f32(bits) : f16_to_f32(bits);
    memcpy(to + 4 * i, &value, sizeof value);
  }
}

void nvfp4_from_f32(const float *x, nvfp4_dtype dtype, void *out, int64_t count) {
  const unsigned char *in = (const unsigned char *)x;
  unsigned char *to = out;
  if (dtype == NVFP4_DTYPE_F32) {
    memcpy(to, in, (size_t)count * 4);
    return;
  }
  for (int64_t i = 0; i < count; ++i) {
    float value;
    memcpy(&value, in + 4 * i, sizeof value);
    uint16_t bits = dtype == NVFP4_DTYPE_BF16 ? bf16_from_f32(value) : f16_from_f32(value);
    memcpy(to + 2 * i, &bits, sizeof bits);
  }
}
