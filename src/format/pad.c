/* SPDX-License-Identifier: Apache-2.0 */
#include "format/pad.h"

#include <string.h>

void nvfp4_pad_bytes(const uint8_t *in, int64_t in_stride, int64_t rows, int64_t columns, uint8_t *out, int64_t padded_rows,
                     int64_t padded_columns) {
  for (int64_t row = 0; row < rows; ++row) {
    memcpy(out + row * padded_columns, in + row * in_stride, (size_t)columns);
    memset(out + row * padded_columns + columns, 0, (size_t)(padded_columns - columns));
  }
  memset(out + rows * padded_columns, 0, (size_t)((padded_rows - rows) * padded_columns));
}

void nvfp4_slice_bytes(const uint8_t *in, int64_t in_stride, int64_t rows, int64_t columns, uint8_t *out, int64_t out_stride) {
  for (int64_t row = 0; row < rows; ++row) {
    memcpy(out + row * out_stride, in + row * in_stride, (size_t)columns);
  }
}
