/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The activation quantiser: vLLM's scaled_fp4_quant in its exact-division form. For each block of 16, every step one fp32 operation:
 *
 *   amax  = max |x|
 *   scale = e4m3_rn( clamp( s_a * (amax * fl(1/6)), -448, 448 ) )
 *   o     = f != 0 ? 1 / (f * (1 / s_a)) : 0      with f = the value of scale
 *   code  = e2m1_rn( x * o )
 *
 * s_a = 1/input_scale (ModelOpt, in fp32) or the stored divisor (compressed-tensors). A block with a NaN gets scale 0x7F (NaN) and codes 0, so that its output
 * row becomes NaN. Infinities: scale 448, the infinite element +-6. f = 0 makes every code a zero that keeps x's sign.
 */
#ifndef NVFP4_FORMAT_ACTIVATION_H
#define NVFP4_FORMAT_ACTIVATION_H

#include <nvfp4/nvfp4.h>

/* The quantiser's factor s_a of an input global. */
float nvfp4_activation_factor(nvfp4_global input);

/* x [k] fp32 -> codes [k/2], scales [k/16] (linear); k is a multiple of 16. Bit-exact on every machine in the default floating-point environment. */
void nvfp4_quantise_activation_row(const float *x, int64_t k, float s_a, uint8_t *codes, uint8_t *scales);

#endif
