/* SPDX-License-Identifier: Apache-2.0 */
#include "kernels/n16k64.h"

#include <stdlib.h>

#include "layer/context.h"
#include "layer_support.h"

/* Every code and scale lies where the card in n16k64.h says; what is beyond N and K is zero; and unpacking gives the weights back. */
static void check_bytes(nvfp4_context *context, int64_t n, int64_t k) {
  const nvfp4_layout *layout = &nvfp4_layout_n16k64;
  nvfp4_reason reason = {0};
  test_layer test = test_layer_make(n, k, (uint64_t)(n * 1000 + k));
  nvfp4_weights weights = test_layer_weights(&test);
  nvfp4_process_args args = {.struct_size = sizeof args, .weights = &weights};
  nvfp4_packed packed = {0};
  assert_ok(layout->process_weights_after_loading(&context->host, &args, &packed, &reason), reason);
  int64_t row_tiles = (n + 15) / 16, k_tiles = (k + 63) / 64;
  assert_int_equal(packed.data_bytes, row_tiles * k_tiles * 576);
  assert_int_equal(layout->packed_bytes(n, k, NVFP4_DTYPE_NONE), packed.data_bytes);
  assert_int_equal((uintptr_t)packed.data % 64, 0);
  const uint8_t *data = packed.data;
  for (int64_t row = 0; row < 16 * row_tiles; row++) {
    for (int64_t i = 0; i < 64 * k_tiles; i++) {
      bool inside = row < n && i < k;
      int want_code = inside ? test.codes[row * (k / 2) + i / 2] >> (i % 2 * 4) & 15 : 0;
      int want_scale = inside ? test.scales[row * (k / 16) + i / 16] : 0;
      const uint8_t *tile = data + (row / 16 * k_tiles + i / 64) * 576;
      int64_t b = i / 16 % 4, half = i / 8 % 2;
      int code = tile[64 + b * 128 + half * 64 + row % 16 * 4 + i % 4] >> (i % 8 >= 4 ? 4 : 0) & 15;
      assert_int_equal(code, want_code);
      assert_int_equal(tile[b * 16 + row % 16], want_scale);
    }
  }
  uint8_t *codes = malloc((size_t)(n * k / 2)), *scales = malloc((size_t)(n * k / 16));
  assert_ok(layout->unpack(&context->host, &packed, codes, scales, &reason), reason);
  assert_memory_equal(codes, test.codes, (size_t)(n * k / 2));
  assert_memory_equal(scales, test.scales, (size_t)(n * k / 16));
  layout->free_packed(&context->host, &packed);
  assert_null(packed.data);
  free(codes);
  free(scales);
  test_layer_free(&test);
}

static void test_bytes(void **state) {
  (void)state;
  static const int64_t ns[] = {1, 15, 16, 17, 40}, ks[] = {16, 48, 64, 80, 192};
  nvfp4_context *context;
  nvfp4_reason reason = {0};
  assert_ok(nvfp4_context_create(NULL, &context, &reason), reason);
  for (int i = 0; i < 25; i++) {
    check_bytes(context, ns[i / 5], ks[i % 5]);
  }
  nvfp4_context_destroy(context);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_bytes)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
