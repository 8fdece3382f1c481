/* SPDX-License-Identifier: Apache-2.0 */
#include "format/scale_layout.h"

#include <stdlib.h>

#include "support.h"

enum { POISON = 0x7F };

/* vLLM's wording of 128x4: reshape(R/128, 4, 32, C/4, 4), permute(0, 3, 2, 1, 4); of 8x4: reshape(R/8, 8, C/4, 4), permute(0, 2, 1, 3). Walks
 * the result's bytes in their order. */
static void check_order(nvfp4_scale_layout layout, int64_t rows, int64_t columns) {
  const int64_t tile = layout == NVFP4_SCALES_128X4 ? 128 : 8;
  const int64_t inner = tile == 128 ? 4 : 1; /* the axis of 4 between a tile's rows and its columns */
  int64_t tile_rows = (rows + tile - 1) / tile, tile_columns = (columns + 3) / 4;
  assert_int_equal(nvfp4_scales_bytes(layout, rows, columns), tile_rows * tile * tile_columns * 4);
  size_t at = 0;
  for (int64_t r = 0; r < tile_rows; ++r) {
    for (int64_t c = 0; c < tile_columns; ++c) {
      for (int64_t row = 0; row < tile / inner; ++row) {
        for (int64_t group = 0; group < inner; ++group) {
          for (int64_t column = 0; column < 4; ++column, ++at) {
            assert_int_equal(nvfp4_scale_offset(layout, columns, r * tile + group * 32 + row, c * 4 + column), at);
          }
        }
      }
    }
  }
}

static void orders(void **state) {
  (void)state;
  for (int64_t rows = 1; rows < 300; rows += 37) {
    for (int64_t columns = 1; columns < 14; ++columns) {
      check_order(NVFP4_SCALES_128X4, rows, columns);
      check_order(NVFP4_SCALES_8X4, rows, columns);
      assert_int_equal(nvfp4_scales_bytes(NVFP4_SCALES_LINEAR, rows, columns), rows * columns);
      assert_int_equal(nvfp4_scale_offset(NVFP4_SCALES_LINEAR, columns, rows - 1, columns - 1), rows * columns - 1);
    }
  }
}

/* There and back, with a stride, nothing but the matrix read and all of the padding written. */
static void round_trip(void **state) {
  (void)state;
  const int64_t shapes[][2] = {{1, 1}, {3, 5}, {8, 4}, {9, 3}, {127, 7}, {128, 4}, {129, 9}, {300, 2}};
  for (size_t s = 0; s < sizeof shapes / sizeof *shapes; ++s) {
    for (int l = NVFP4_SCALES_LINEAR; l <= NVFP4_SCALES_8X4; ++l) {
      nvfp4_scale_layout layout = (nvfp4_scale_layout)l;
      int64_t rows = shapes[s][0], columns = shapes[s][1], stride = columns + 3;
      size_t bytes = nvfp4_scales_bytes(layout, rows, columns);
      uint8_t *in = malloc((size_t)(rows * stride)), *back = malloc((size_t)(rows * stride)), *out = malloc(bytes);
      memset(in, POISON, (size_t)(rows * stride));
      memset(back, POISON, (size_t)(rows * stride));
      memset(out, POISON, bytes);
      for (int64_t i = 0; i < rows * columns; ++i) {
        in[i / columns * stride + i % columns] = (uint8_t)(1 + i % 126);
      }
      nvfp4_scales_from_linear(layout, in, stride, rows, columns, out);
      size_t zeros = 0;
      for (size_t i = 0; i < bytes; ++i) {
        assert_int_not_equal(out[i], POISON);
        zeros += out[i] == 0;
      }
      assert_int_equal(zeros, bytes - (size_t)(rows * columns));
      nvfp4_scales_to_linear(layout, out, rows, columns, back, stride);
      assert_memory_equal(in, back, (size_t)(rows * stride));
      free(in);
      free(back);
      free(out);
    }
  }
}

static void golden(void **state) {
  (void)state;
  static const char *const shapes[] = {"128x4", "129x4", "1x1", "200x10", "256x13", "32x4", "3x5", "40x20"};
  nvfp4_checkpoint *tables;
  nvfp4_reason reason;
  assert_ok(nvfp4_checkpoint_open(GOLDEN "tables/layouts.safetensors", 0, &tables, &reason), reason);
  for (size_t s = 0; s < sizeof shapes / sizeof *shapes; ++s) {
    const nvfp4_tensor *linear = golden_tensor(tables, shapes[s], "linear");
    for (int l = NVFP4_SCALES_128X4; l <= NVFP4_SCALES_8X4; ++l) {
      const nvfp4_tensor *want = golden_tensor(tables, shapes[s], l == NVFP4_SCALES_128X4 ? "sw128x4" : "sw8x4");
      size_t bytes = nvfp4_scales_bytes((nvfp4_scale_layout)l, linear->shape[0], linear->shape[1]);
      uint8_t *out = malloc(bytes);
      assert_int_equal(want->bytes, bytes);
      nvfp4_scales_from_linear((nvfp4_scale_layout)l, linear->data, linear->shape[1], linear->shape[0], linear->shape[1], out);
      assert_memory_equal(out, want->data, bytes);
      free(out);
    }
  }
  nvfp4_checkpoint_close(tables);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(orders),
      cmocka_unit_test(round_trip),
      cmocka_unit_test(golden),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
