/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>

#include "cuda_support.h"
#include "format/half.h"

extern const nvfp4_kernel nvfp4_kernel_cuda_sm80_w4a16;

static void test_bound(void **state) {
  (void)state;
  test_cuda_bound("cuda_sm80_w4a16", NVFP4_MODE_W4A16, NVFP4_DTYPE_BF16, 1);
  test_cuda_bound("cuda_sm80_w4a16", NVFP4_MODE_W4A16, NVFP4_DTYPE_F16, 1);
}

/* On GPUs of other sizes, with the shared memory of compute capability 8.6: a block that asked for more would be refused. Bits, since here and there K is cut alike. */
static void test_small_gpus(void **state) {
  (void)state;
  static const char *const gpus[] = {"", "sm=86,multiprocessors=84,shared=101376", "sm=86,multiprocessors=2,shared=101376"};
  static const int64_t ms[] = {5, 16, 30, 70, 200};
  enum { N = 300, K = 1040, MOST_M = 200 };
  if (!test_cuda_is_mock()) {
    skip();
  }
  test_layer test = test_layer_make(N, K, 7);
  test_random random = {5};
  uint16_t *x = malloc(sizeof *x * MOST_M * K);
  for (int i = 0; i < MOST_M * K; i++) {
    x[i] = nvfp4_bf16_from_f32(test_random_gauss(&random));
  }
  nvfp4_layer_desc desc = test_layer_desc(&test, NVFP4_MODE_W4A16);
  desc.x_dtype = NVFP4_DTYPE_BF16;
  for (size_t i = 0; i < sizeof ms / sizeof ms[0]; i++) {
    void *want = NULL;
    for (size_t gpu = 0; gpu < sizeof gpus / sizeof gpus[0]; gpu++) {
      nvfp4_context *context = test_cuda_context(gpus[gpu]);
      void *y = test_cuda_run(context, "cuda_sm80_w4a16", &test, desc, x, NULL, ms[i]);
      nvfp4_context_destroy(context);
      if (gpu == 0) {
        want = y;
      } else {
        assert_memory_equal(y, want, (size_t)ms[i] * N * sizeof(float));
        free(y);
      }
    }
    free(want);
  }
  free(x);
  test_layer_free(&test);
}

static void test_machines(void **state) {
  (void)state;
  nvfp4_machine machine = {.struct_size = sizeof machine, .gpu_count = 1, .gpus = {{.sm = 75, .name = "T4"}}};
  nvfp4_reason reason = {0};
  assert_int_equal(nvfp4_kernel_cuda_sm80_w4a16.is_supported(&machine, &reason), NVFP4_E_MACHINE);
  assert_string_equal(reason.text, "the GPU (T4) has compute capability 7.5; needs compute capability 8.0 or newer");
  static const int later[] = {80, 86, 89, 90, 100, 120};
  for (size_t i = 0; i < sizeof later / sizeof later[0]; i++) {
    machine.gpus[0].sm = later[i];
    assert_int_equal(nvfp4_kernel_cuda_sm80_w4a16.is_supported(&machine, &reason), NVFP4_OK);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_bound), cmocka_unit_test(test_small_gpus), cmocka_unit_test(test_machines)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
