/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Weight blocks both ways. The public functions nvfp4_quantise_matrix, nvfp4_global_from_amax (quantize.h) and nvfp4_weights_dequantise (nvfp4.h)
 * are here too. Values are finite, globals finite and above 0: those public functions check it, the functions here do not. They expect the default
 * floating-point environment.
 */
#ifndef NVFP4_FORMAT_WEIGHT_H
#define NVFP4_FORMAT_WEIGHT_H

#include <nvfp4/nvfp4.h>
#include <nvfp4/quantize.h>

/* Quantises one block of 16 with the multiplier `global`: returns the E4M3 byte, writes 8 bytes of codes and, if error is not NULL, the squared
 * error, summed in k order in double. The search for the scale weights each element's squared error with weights[i] (16 finite numbers >= 0;
 * NULL, or all 0: 1); rtn has no use for them. */
uint8_t nvfp4_quantise_block(const float x[16], const float *weights, float global, nvfp4_scale_search search, uint8_t codes[8],
                             double *error);

/* The same by trying all 126 codes, one by one: what `sweep` must equal bit for bit. For tests. */
uint8_t nvfp4_quantise_block_exhaustive(const float x[16], const float *weights, float global, uint8_t codes[8], double *error);

/* code * scale * global, exact, rounded once to fp32. */
float nvfp4_dequantise(uint8_t code, uint8_t scale, nvfp4_global global);

#endif
