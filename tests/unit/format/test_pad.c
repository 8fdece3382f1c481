/* SPDX-License-Identifier: Apache-2.0 */
#include "format/pad.h"

#include <stdlib.h>

#include "support.h"

enum { POISON = 0xA5 };

static void pads_and_slices(void **state) {
  (void)state;
  const int64_t shapes[][5] = {/* rows, columns, stride, padded rows, padded columns */
                               {1, 1, 1, 1, 1},
                               {1, 1, 4, 3, 2},
                               {3, 5, 7, 3, 8},
                               {3, 5, 5, 8, 5},
                               {33, 24, 24, 64, 32}};
  for (size_t s = 0; s < sizeof shapes / sizeof *shapes; ++s) {
    int64_t rows = shapes[s][0], columns = shapes[s][1], stride = shapes[s][2], padded_rows = shapes[s][3], padded_columns = shapes[s][4];
    size_t bytes = (size_t)(padded_rows * padded_columns);
    uint8_t *in = malloc((size_t)(rows * stride)), *back = malloc((size_t)(rows * stride)), *out = malloc(bytes);
    memset(back, POISON, (size_t)(rows * stride));
    memset(out, POISON, bytes);
    for (int64_t i = 0; i < rows * stride; ++i) {
      in[i] = (uint8_t)(i % stride < columns ? 1 + i % 100 : POISON);
    }
    nvfp4_pad_bytes(in, stride, rows, columns, out, padded_rows, padded_columns);
    for (int64_t i = 0; i < (int64_t)bytes; ++i) {
      int64_t row = i / padded_columns, column = i % padded_columns;
      assert_int_equal(out[i], row < rows && column < columns ? in[row * stride + column] : 0);
    }
    nvfp4_slice_bytes(out, padded_columns, rows, columns, back, stride);
    assert_memory_equal(in, back, (size_t)(rows * stride));
    free(in);
    free(back);
    free(out);
  }
}

static void golden(void **state) {
  (void)state;
  static const char *const shapes[] = {"pad32.128x64", "pad32.200x80", "pad32.320x128", "pad32.33x48"};
  nvfp4_checkpoint *tables;
  nvfp4_reason reason;
  assert_ok(nvfp4_checkpoint_open(GOLDEN "tables/layouts.safetensors", 0, &tables, &reason), reason);
  for (size_t s = 0; s < sizeof shapes / sizeof *shapes; ++s) {
    const nvfp4_tensor *in = golden_tensor(tables, shapes[s], "in");
    const nvfp4_tensor *want = golden_tensor(tables, shapes[s], "out");
    uint8_t *out = malloc((size_t)want->bytes);
    nvfp4_pad_bytes(in->data, in->shape[1], in->shape[0], in->shape[1], out, want->shape[0], want->shape[1]);
    assert_memory_equal(out, want->data, (size_t)want->bytes);
    free(out);
  }
  nvfp4_checkpoint_close(tables);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(pads_and_slices),
      cmocka_unit_test(golden),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
