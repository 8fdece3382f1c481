/* SPDX-License-Identifier: Apache-2.0 */
/* Zero padding for kernels that want round shapes (vLLM: pad_nvfp4_weight_for_cutlass, pad_nvfp4_activation_for_cutlass, slice_nvfp4_output). */
#ifndef NVFP4_FORMAT_PAD_H
#define NVFP4_FORMAT_PAD_H

#include <nvfp4/nvfp4.h>

/* Copies rows x columns bytes of `in` (row stride in_stride) to `out` [padded_rows, padded_columns] and zeroes the rest. Weights: columns = K/2. Scales: K/16. */
void nvfp4_pad_bytes(const uint8_t *in, int64_t in_stride, int64_t rows, int64_t columns, uint8_t *out, int64_t padded_rows,
                     int64_t padded_columns);

/* out [rows, columns] (stride out_stride) = the upper left part of `in` (stride in_stride); strides and columns in bytes. */
void nvfp4_slice_bytes(const uint8_t *in, int64_t in_stride, int64_t rows, int64_t columns, uint8_t *out, int64_t out_stride);

#endif
