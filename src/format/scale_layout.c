/* SPDX-License-Identifier: Apache-2.0 */
#include "format/scale_layout.h"

#include <string.h>

static size_t tiles(int64_t count, int64_t tile) { return (size_t)((count + tile - 1) / tile); }

size_t nvfp4_scales_bytes(nvfp4_scale_layout layout, int64_t rows, int64_t columns) {
  switch (layout) {
    case NVFP4_SCALES_128X4:
      return tiles(rows, 128) * tiles(columns, 4) * 512;
    case NVFP4_SCALES_8X4:
      return tiles(rows, 8) * tiles(columns, 4) * 32;
    case NVFP4_SCALES_LINEAR:
      break;
  }
  return (size_t)rows * (size_t)columns;
}

size_t nvfp4_scale_offset(nvfp4_scale_layout layout, int64_t columns, int64_t row, int64_t column) {
  size_t r = (size_t)row, c = (size_t)column;
  switch (layout) {
    case NVFP4_SCALES_128X4:
      return (r / 128 * tiles(columns, 4) + c / 4) * 512 + r % 32 * 16 + r / 32 % 4 * 4 + c % 4;
    case NVFP4_SCALES_8X4:
      return (r / 8 * tiles(columns, 4) + c / 4) * 32 + r % 8 * 4 + c % 4;
    case NVFP4_SCALES_LINEAR:
      break;
  }
  return r * (size_t)columns + c;
}

void nvfp4_scales_from_linear(nvfp4_scale_layout layout, const uint8_t *linear, int64_t stride, int64_t rows, int64_t columns,
                              uint8_t *out) {
  memset(out, 0, nvfp4_scales_bytes(layout, rows, columns));
  for (int64_t row = 0; row < rows; ++row) {
    for (int64_t column = 0; column < columns; ++column) {
      out[nvfp4_scale_offset(layout, columns, row, column)] = linear[row * stride + column];
    }
  }
}

void nvfp4_scales_to_linear(nvfp4_scale_layout layout, const uint8_t *in, int64_t rows, int64_t columns, uint8_t *linear, int64_t stride) {
  for (int64_t row = 0; row < rows; ++row) {
    for (int64_t column = 0; column < columns; ++column) {
      linear[row * stride + column] = in[nvfp4_scale_offset(layout, columns, row, column)];
    }
  }
}
