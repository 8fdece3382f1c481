/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>

#include "cuda_support.h"

extern const nvfp4_kernel nvfp4_kernel_cuda_sm120_w4a4;

/* On the mock driver whole thread blocks are simulated: tests/sm120. */
static void test_bound(void **state) {
  (void)state;
  test_cuda_bound("cuda_sm120_w4a4", NVFP4_MODE_W4A4, NVFP4_DTYPE_F32, 1);
  test_cuda_bound("cuda_sm120_w4a4", NVFP4_MODE_W4A4, NVFP4_DTYPE_BF16, 1);
}

static void *run(const char *mock, const test_layer *layer, nvfp4_layer_desc desc, const float *x, int64_t m) {
  nvfp4_context *context = test_cuda_context(mock);
  void *y = test_cuda_run(context, "cuda_sm120_w4a4", layer, desc, x, NULL, m);
  nvfp4_context_destroy(context);
  return y;
}

/* Every shape, by GPUs of several sizes (RTX 5090, DGX Spark, one that is tiny): the same bits, of a row alone too. A block that asked for more shared memory than there is would be refused. */
static void test_one_order(void **state) {
  (void)state;
  static const char *const gpus[] = {"sm=120,multiprocessors=170,shared=101376", "sm=121,multiprocessors=48,shared=101376",
                                     "sm=120,multiprocessors=2,shared=101376"};
  static const int64_t ms[] = {1, 16, 17, 33, 64, 65, 150};
  enum { N = 200, K = 560, MOST_M = 150 };
  if (!test_cuda_is_mock()) {
    skip();
  }
  test_layer test = test_layer_make(N, K, 7);
  test_random random = {5};
  float *x = malloc(sizeof *x * MOST_M * K);
  for (int i = 0; i < MOST_M * K; i++) {
    x[i] = test_random_gauss(&random);
  }
  nvfp4_layer_desc desc = test_layer_desc(&test, NVFP4_MODE_W4A4);
  float *want = run(gpus[0], &test, desc, x, MOST_M);
  for (size_t i = 0; i < sizeof ms / sizeof ms[0]; i++) {
    for (size_t gpu = 0; gpu < sizeof gpus / sizeof gpus[0]; gpu++) {
      float *y = run(gpus[gpu], &test, desc, x, ms[i]);
      assert_memory_equal(y, want, (size_t)ms[i] * N * sizeof *y);
      free(y);
    }
  }
  free(want);
  free(x);
  test_layer_free(&test);
  assert_int_equal(test_cuda_live(), 0);
}

static void test_machines(void **state) {
  (void)state;
  nvfp4_machine machine = {.struct_size = sizeof machine, .cuda_driver = 13000, .gpu_count = 1, .gpus = {{.sm = 90, .name = "H200"}}};
  nvfp4_reason reason = {0};
  static const int others[] = {86, 90, 100, 103, 110, 122};
  for (size_t i = 0; i < sizeof others / sizeof others[0]; i++) {
    machine.gpus[0].sm = others[i];
    assert_int_equal(nvfp4_kernel_cuda_sm120_w4a4.is_supported(&machine, &reason), NVFP4_E_MACHINE);
    assert_non_null(strstr(reason.text, "needs compute capability 12.0 to 12.1"));
  }
  for (int sm = 120; sm <= 121; sm++) {
    machine.gpus[0].sm = sm;
    machine.cuda_driver = 99000; /* of any compiler */
    assert_int_equal(nvfp4_kernel_cuda_sm120_w4a4.is_supported(&machine, &reason), NVFP4_OK);
    machine.cuda_driver = 12070;
    assert_int_equal(nvfp4_kernel_cuda_sm120_w4a4.is_supported(&machine, &reason), NVFP4_E_MACHINE);
    assert_non_null(strstr(reason.text, "the driver is for CUDA 12.7; needs one for CUDA 1"));
  }
}

/* Refused before anything is launched. */
static void test_too_large(void **state) {
  (void)state;
  if (!test_cuda_is_mock()) {
    skip();
  }
  nvfp4_context *context = test_cuda_context("sm=120");
  nvfp4_reason reason = {0};
  nvfp4_cu_context cuda_context;
  bool pushed;
  nvfp4_cuda *cuda;
  assert_ok(nvfp4_cuda_open(NVFP4_CUDA_DRIVER, &cuda, &reason), reason);
  assert_ok(nvfp4_cuda_context(cuda, 0, &cuda_context, &reason), reason);
  assert_ok(nvfp4_cuda_enter(cuda, cuda_context, &pushed, &reason), reason);
  const nvfp4_host host = {.struct_size = sizeof host, .cuda = cuda};
  const nvfp4_packed packed = {.struct_size = sizeof packed};
  const nvfp4_kernel_args cases[] = {
      {.m = (1 << 30) + 1, .n = 16, .k = 16}, {.m = 1, .n = 16, .k = (1 << 24) + 16}, {.m = 1 << 30, .n = 1 << 30, .k = 16}};
  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
    assert_int_equal(nvfp4_kernel_cuda_sm120_w4a4.apply_weights(&host, &packed, &cases[i], &reason), NVFP4_E_SHAPE);
    assert_non_null(strstr(reason.text, "cut the layer or x into parts"));
  }
  nvfp4_cuda_leave(cuda, pushed);
  nvfp4_cuda_close(cuda);
  nvfp4_context_destroy(context);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_bound), cmocka_unit_test(test_one_order), cmocka_unit_test(test_machines),
                                     cmocka_unit_test(test_too_large)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
