/* SPDX-License-Identifier: Apache-2.0 */
#include "cuda_support.h"

extern const nvfp4_kernel nvfp4_kernel_cuda_sm80_w4a16;

static void test_bound(void **state) {
  (void)state;
  test_cuda_bound("cuda_sm80_w4a16", NVFP4_MODE_W4A16, NVFP4_DTYPE_BF16, 1);
  test_cuda_bound("cuda_sm80_w4a16", NVFP4_MODE_W4A16, NVFP4_DTYPE_F16, 1);
}

static void test_machines(void **state) {
  (void)state;
  nvfp4_machine machine = {.struct_size = sizeof machine, .gpu_count = 1, .gpus = {{.sm = 75, .name = "T4"}}};
  nvfp4_reason reason = {0};
  assert_int_equal(nvfp4_kernel_cuda_sm80_w4a16.is_supported(&machine, &reason), NVFP4_E_MACHINE);
  assert_string_equal(reason.text, "the GPU is a T4 of compute capability 7.5; needs compute capability 8.0 or newer");
  static const int later[] = {80, 86, 89, 90, 100, 120};
  for (size_t i = 0; i < sizeof later / sizeof later[0]; i++) {
    machine.gpus[0].sm = later[i];
    assert_int_equal(nvfp4_kernel_cuda_sm80_w4a16.is_supported(&machine, &reason), NVFP4_OK);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_bound), cmocka_unit_test(test_machines)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
