/* SPDX-License-Identifier: Apache-2.0 */
/*
 * E2M1, the 4-bit float: sign, 2 exponent bits, 1 mantissa bit. Magnitudes 0, .5, 1, 1.5, 2, 3, 4, 6 (OCP Microscaling Formats v1.0, section 5.3.3).
 * Two codes a byte, the even k in the low nibble.
 */
#ifndef NVFP4_FORMAT_E2M1_H
#define NVFP4_FORMAT_E2M1_H

#include <stdint.h>
#include <string.h>

extern const float nvfp4_e2m1_table[16];

static inline float nvfp4_e2m1_to_f32(uint8_t code) { return nvfp4_e2m1_table[code & 15]; }

/* 2 * value: an integer in [-12, 12]. Arithmetic, so that a loop over codes vectorises: 0 1 2 3 4 6 8 12 = c + max(0, c-4) + 2 max(0, c-6). */
static inline int nvfp4_e2m1_doubled(uint8_t code) {
  int c = code & 7;
  int above4 = c > 4 ? c - 4 : 0;
  int above6 = c > 6 ? c - 6 : 0;
  int magnitude = c + above4 + 2 * above6;
  return (code & 8) != 0 ? -magnitude : magnitude;
}

/* Round to nearest, ties to the even code, saturating at 6. The sign of zero is kept (-0 gives 8). NaN gives +-6, as PTX's cvt.satfinite.
 * Inline and without branches, so that a loop over it vectorises; the comparisons are negated so that NaN passes all seven. */
static inline uint8_t nvfp4_e2m1_from_f32(float value) {
  uint32_t bits;
  memcpy(&bits, &value, sizeof bits);
  float a = value < 0 ? -value : value;
  uint32_t magnitude = (uint32_t) !(a <= 0.25f) + (uint32_t) !(a < 0.75f) + (uint32_t) !(a <= 1.25f) + (uint32_t) !(a < 1.75f) +
                       (uint32_t) !(a <= 2.5f) + (uint32_t) !(a < 3.5f) + (uint32_t) !(a <= 5.0f);
  return (uint8_t)((bits >> 28 & 8) | magnitude);
}

/* codes of one row: out[k] = value of code k, for k in [0, count), count even. */
void nvfp4_e2m1_unpack(const uint8_t *packed, int64_t count, float *out);
/* packed[j] = code[2j] | code[2j+1] << 4. */
void nvfp4_e2m1_pack(const uint8_t *codes, int64_t count, uint8_t *packed);

#endif
