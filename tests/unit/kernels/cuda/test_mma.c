/* SPDX-License-Identifier: Apache-2.0 */
#include "kernels/cuda/mma.h"

#include "cuda_support.h"

/* Others than bf16 and f16 would be rounded. */
static void test_x_types(void **state) {
  (void)state;
  test_layer layer = test_layer_make(64, 128, 30);
  nvfp4_layer_desc desc = test_layer_desc(&layer, NVFP4_MODE_W4A16);
  nvfp4_reason reason = {0};
  desc.x_dtype = NVFP4_DTYPE_F32;
  assert_int_equal(cuda_mma_w4a16_can_implement(&desc, &reason), NVFP4_E_DTYPE);
  assert_non_null(strstr(reason.text, "f32 activations would be rounded"));
  desc.x_dtype = NVFP4_DTYPE_F16;
  assert_int_equal(cuda_mma_w4a16_can_implement(&desc, &reason), NVFP4_OK);
  desc.x_dtype = NVFP4_DTYPE_BF16;
  assert_int_equal(cuda_mma_w4a16_can_implement(&desc, &reason), NVFP4_OK);
  test_layer_free(&layer);
}

/* Whole slices of x if there is room for them, or else two chunks of as many pairs as there is room for, a multiple of `depth`. */
static void test_few_shared_bytes(void **state) {
  (void)state;
  cuda_mma_args a = {.m = 8, .n = 28672, .k = 4096, .slices = 2, .cluster = 1}; /* 16 pairs a slice: 8 KiB a row of x */
  assert_int_equal(cuda_mma_few_shared_bytes(&a, 448, 8, 4, 99 << 10), 8 * (8192 + 16) + 448 * 16);
  assert_int_equal(a.chunk_pairs, 16);
  assert_int_equal(cuda_mma_few_shared_bytes(&a, 448, 8, 4, 71 << 10), 2 * 8 * (4 * 512 + 16) + 448 * 16); /* there is room for seven */
  assert_int_equal(a.chunk_pairs, 4);
  a.cluster = 2; /* of 27 row tiles, a block finishes up to 14 */
  assert_int_equal(cuda_mma_few_shared_bytes(&a, 27 * 32, 8, 4, 99 << 10), 8 * (4096 + 16) + 14 * 2 * 512);
  assert_int_equal(a.chunk_pairs, 16);
  a.cluster = 1;
  a.slices = 1;
  a.k = 16; /* one pair, rounded up to a step */
  assert_int_equal(cuda_mma_few_shared_bytes(&a, 32, 8, 4, 99 << 10), 8 * (4 * 256 + 16));
  assert_int_equal(a.chunk_pairs, 4);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_x_types), cmocka_unit_test(test_few_shared_bytes)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
