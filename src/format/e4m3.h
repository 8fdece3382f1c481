/* SPDX-License-Identifier: Apache-2.0 */
/*
 * E4M3, the "fn" kind: bias 7, no infinities, largest 448, 0x7F and 0xFF are NaN, subnormals down to 2^-9 (OCP 8-bit Floating Point, section 5.1).
 */
#ifndef NVFP4_FORMAT_E4M3_H
#define NVFP4_FORMAT_E4M3_H

#include <stdbool.h>
#include <stdint.h>

#define NVFP4_E4M3_MAX 448.0f

extern const float nvfp4_e4m3_table[256];

static inline float nvfp4_e4m3_to_f32(uint8_t byte) { return nvfp4_e4m3_table[byte]; }

static inline bool nvfp4_e4m3_is_nan(uint8_t byte) { return (byte & 0x7F) == 0x7F; }

/* Round to nearest even, saturating at 448 (infinities too); NaN gives 0x7F. The sign is kept. */
uint8_t nvfp4_e4m3_from_f32(float value);

#endif
