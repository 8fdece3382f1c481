/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where the block scale of (row, column = k/16) lies. Offsets in bytes.
 *   linear  row * stride + column
 *   128x4   tiles of 128 rows x 4 columns, 512 bytes each, row-major; inside one: (row%32)*16 + (row/32%4)*4 + column%4
 *           (cuBLAS "1D block scaling factors layout"; vLLM swizzle_blockscale)
 *   8x4     tiles of 8 rows x 4 columns, 32 bytes each, row-major; inside one: (row%8)*4 + column%4 (TensorRT-LLM, few rows)
 * Tiles are whole: what lies beyond rows and columns is zero.
 */
#ifndef NVFP4_FORMAT_SCALE_LAYOUT_H
#define NVFP4_FORMAT_SCALE_LAYOUT_H

#include <nvfp4/nvfp4.h>

/* Bytes of a whole scale matrix in that layout (linear: rows * columns). */
size_t nvfp4_scales_bytes(nvfp4_scale_layout layout, int64_t rows, int64_t columns);

/* Offset of (row, column); columns is the unpadded number. For linear the stride is columns. */
size_t nvfp4_scale_offset(nvfp4_scale_layout layout, int64_t columns, int64_t row, int64_t column);

/* linear [rows, columns] (stride in bytes) -> out, padding zeroed; out has nvfp4_scales_bytes(). */
void nvfp4_scales_from_linear(nvfp4_scale_layout layout, const uint8_t *linear, int64_t stride, int64_t rows, int64_t columns,
                              uint8_t *out);
/* The inverse; padding is not read. */
void nvfp4_scales_to_linear(nvfp4_scale_layout layout, const uint8_t *in, int64_t rows, int64_t columns, uint8_t *linear, int64_t stride);

#endif
