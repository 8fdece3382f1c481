/* SPDX-License-Identifier: Apache-2.0 */
#include "cuda_support.h"
#include "kernels/cuda/fp4_layout.h"

extern const nvfp4_kernel nvfp4_kernel_cuda_sm100_w4a4;

static void test_bound(void **state) {
  (void)state;
  test_cuda_bound("cuda_sm100_w4a4", NVFP4_MODE_W4A4, NVFP4_DTYPE_F32, 1);
  test_cuda_bound("cuda_sm100_w4a4", NVFP4_MODE_W4A4, NVFP4_DTYPE_BF16, 1);
}

static void test_machines(void **state) {
  (void)state;
  static const int ran[] = {100, 103, 110}, refused[] = {80, 90, 120, 121};
  nvfp4_machine machine = {.struct_size = sizeof machine, .gpu_count = 1, .cuda_driver = 13000};
  nvfp4_reason reason = {0};
  for (size_t i = 0; i < sizeof ran / sizeof ran[0]; i++) {
    machine.gpus[0].sm = ran[i];
    assert_int_equal(nvfp4_kernel_cuda_sm100_w4a4.is_supported(&machine, &reason), NVFP4_OK);
  }
  for (size_t i = 0; i < sizeof refused / sizeof refused[0]; i++) {
    machine.gpus[0].sm = refused[i];
    assert_int_equal(nvfp4_kernel_cuda_sm100_w4a4.is_supported(&machine, &reason), NVFP4_E_MACHINE);
    assert_non_null(strstr(reason.text, "needs compute capability 10.0 to 11.0"));
  }
  machine.gpus[0].sm = 100;
  machine.cuda_driver = 12080;
  assert_int_equal(nvfp4_kernel_cuda_sm100_w4a4.is_supported(&machine, &reason), NVFP4_E_MACHINE);
  assert_non_null(strstr(reason.text, "the driver is for CUDA 12.8; needs"));
}

static void test_workspace(void **state) {
  (void)state;
  const nvfp4_layer_desc desc = {.struct_size = sizeof desc, .n = 100, .k = 80};
  assert_int_equal(nvfp4_kernel_cuda_sm100_w4a4.workspace_bytes(&desc, 5),
                   256 + 512 + 1024); /* to align; 5 rows of 64 bytes; two tiles of scales */
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_bound), cmocka_unit_test(test_machines), cmocka_unit_test(test_workspace)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
