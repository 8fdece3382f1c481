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

/*
 * Round to nearest, ties to the even code, saturating at 6. The sign of zero is kept (-0 gives 8). NaN gives +-6, as PTX's cvt.satfinite.
 *
 * Where the levels are 1/2 apart (below 2) the code is rint(2a), from 2 to 4 it is rint(a) + 2, above rint(a/2) + 4; the lines cross at 2 and 4, so the
 * code is the least of the three. Floats in [2^23, 2^24) are integers: adding 2^23 rounds, in the default rounding mode. No branches and
 * 32 bits throughout, so that a loop over it vectorises.
 */
static inline uint8_t nvfp4_e2m1_from_f32(float value) {
  uint32_t bits, rounded;
  memcpy(&bits, &value, sizeof bits);
  float a = value < 0 ? -value : value;
  float halves = 2 * a + 0x1p23f;
  float ones = a + (0x1p23f + 2);
  float twos = 0.5f * a + (0x1p23f + 4);
  float least = 0x1p23f + 7;
  least = halves < least ? halves : least; /* NaN compares false */
  least = ones < least ? ones : least;
  least = twos < least ? twos : least;
  memcpy(&rounded, &least, sizeof rounded);
  return (uint8_t)((bits >> 28 & 8) | (rounded & 7));
}

/* codes of one row: out[k] = value of code k, for k in [0, count), count even. */
void nvfp4_e2m1_unpack(const uint8_t *packed, int64_t count, float *out);
/* packed[j] = code[2j] | code[2j+1] << 4. */
void nvfp4_e2m1_pack(const uint8_t *codes, int64_t count, uint8_t *packed);

#endif
