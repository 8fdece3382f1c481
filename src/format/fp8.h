/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The activation quantiser of FP8 layers. Each step is one fp32 operation:
 *
 *   scale = the layer's input_scale (static), or max |x| / 448 of the row, 1 for a row of zeros (dynamic, a scale a token)
 *   q     = e4m3_rn( clamp( x / scale, -448, 448 ) )
 *
 * NaN stays NaN. E4M3 numbers are exact in bf16, which is how q is written: dense kernels read it.
 */
#ifndef NVFP4_FORMAT_FP8_H
#define NVFP4_FORMAT_FP8_H

#include <stdint.h>

/* max |x|; a NaN is not looked at. */
float nvfp4_fp8_amax(const float *x, int64_t k);

/* The scale of a row with that amax. */
float nvfp4_fp8_scale_of(float amax);

/* q [k] as bf16. */
void nvfp4_fp8_quantise_row(const float *x, int64_t k, float scale, uint16_t *q);

/* E4M3 bytes as bf16, exact. */
void nvfp4_fp8_to_bf16(const uint8_t *in, int64_t count, uint16_t *out);

#endif
