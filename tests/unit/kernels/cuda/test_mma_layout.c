/* SPDX-License-Identifier: Apache-2.0 */
#include "kernels/cuda/mma_layout.h"

#include "cuda_support.h"

/* The split of K is part of the order of additions: these numbers must not change with the machine. */
static void test_slices(void **state) {
  (void)state;
  assert_int_equal(cuda_mma_slices(1024, 4096), 8);
  assert_int_equal(cuda_mma_slices(4096, 4096), 4);
  assert_int_equal(cuda_mma_slices(4096, 14336), 8);
  assert_int_equal(cuda_mma_slices(8192, 28672), 4);
  assert_int_equal(cuda_mma_slices(16384, 4096), 4);
  assert_int_equal(cuda_mma_slices(28672, 4096), 1);
  assert_int_equal(cuda_mma_slices(57344, 8192), 1);
  assert_int_equal(cuda_mma_slices(64, 16), 1); /* no more than pairs */
  assert_int_equal(cuda_mma_slices(64, 640), 4);
}

static void test_bytes(void **state) {
  (void)state;
  assert_int_equal(nvfp4_layout_cuda_mma.packed_bytes(64, 128, NVFP4_DTYPE_NONE), 64 * 128 * 9 / 16);
  assert_int_equal(nvfp4_layout_cuda_mma.packed_bytes(65, 144, NVFP4_DTYPE_NONE), 4 * 64 * 128 * 9 / 16);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_slices), cmocka_unit_test(test_bytes)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
