/* SPDX-License-Identifier: Apache-2.0 */
/* bf16 and f16, both ways: exact to fp32; from fp32 round to nearest even, f16 overflow to infinity, NaN stays NaN (quiet), -0 and subnormals kept. */
#ifndef NVFP4_FORMAT_HALF_H
#define NVFP4_FORMAT_HALF_H

#include <nvfp4/nvfp4.h>

float nvfp4_bf16_to_f32(uint16_t bits);
uint16_t nvfp4_bf16_from_f32(float value);
float nvfp4_f16_to_f32(uint16_t bits);
uint16_t nvfp4_f16_from_f32(float value);

/* Arrays; dtype is F32, F16 or BF16; x and out need no alignment. Written so that the compiler vectorises. */
void nvfp4_to_f32(const void *x, nvfp4_dtype dtype, float *out, int64_t count);
void nvfp4_from_f32(const float *x, nvfp4_dtype dtype, void *out, int64_t count);

#endif
