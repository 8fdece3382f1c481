/* SPDX-License-Identifier: Apache-2.0 */
/* cuDNN as the kernel calls it, on mocks: results in every form, refusals. What the real cuDNN says of our graph: test_cudnn_plan. */
#define _POSIX_C_SOURCE 200809L /* setenv */
#include <stdio.h>
#include <stdlib.h>

#include "cuda_support.h"

static const char kernel[] = "vendor_cudnn_w4a4";

/* What a context says of the kernel for a small layer, with the library as MOCK_CUDNN=`library` has it. */
static nvfp4_stage stage_of(const char *mock, const char *library, char text[512]) {
  setenv("MOCK_CUDNN", library, 1);
  nvfp4_context *context = test_cuda_context(mock);
  test_layer test = test_layer_make(64, 128, 1);
  nvfp4_layer_desc desc = test_layer_desc(&test, NVFP4_MODE_W4A4);
  nvfp4_report *report = NULL;
  nvfp4_plan *plan = NULL;
  nvfp4_reason reason = {0};
  nvfp4_stage stage = NVFP4_STAGE_NOT_BUILT;
  desc.device = (nvfp4_device){NVFP4_DEVICE_CUDA, 0};
  assert_ok(nvfp4_init_linear_kernel(context, &desc, NULL, &plan, &report, &reason), reason);
  for (size_t i = 0; i < report->row_count; i++) {
    if (strcmp(report->rows[i].id, kernel) == 0) {
      stage = report->rows[i].stage;
      snprintf(text, 512, "%s", report->rows[i].reason);
    }
  }
  nvfp4_report_free(report);
  nvfp4_plan_free(plan);
  test_layer_free(&test);
  nvfp4_context_destroy(context);
  assert_int_equal(test_cuda_live(), 0);
  setenv("MOCK_CUDNN", "", 1);
  return stage;
}

static void test_refusals(void **state) {
  (void)state;
  char text[512] = "";
  assert_int_equal(stage_of("sm=90", "", text), NVFP4_STAGE_UNSUPPORTED_MACHINE);
  assert_string_equal(text, "the GPU (Mock GPU 0) has compute capability 9.0; needs compute capability 10.0 or newer");
  assert_int_equal(stage_of("sm=100", "", text), NVFP4_STAGE_ELIGIBLE);
  assert_int_equal(stage_of("sm=100", "version=91002", text), NVFP4_STAGE_UNSUPPORTED_MACHINE);
  assert_string_equal(text, "cuDNN is 9.10; needs 9.13 or newer: install that, where the loader finds it first");
  static const char *const ways[] = {"refuse", "random"};
  for (int i = 0; i < 2; i++) {
    assert_int_equal(stage_of("sm=120", ways[i], text), NVFP4_STAGE_UNSUPPORTED_MACHINE);
    assert_string_equal(text,
                        "cuDNN 9.19.0 has no NVFP4 product for this GPU (N = 48, K = 128, M = 16); needs one of compute capability 10.0 "
                        "or newer that it knows, and NVRTC beside it: a newer cuDNN may, or another kernel serves");
  }
  assert_int_equal(stage_of("sm=100", "fail", text), NVFP4_STAGE_FAILED_SELF_TEST);
  assert_string_equal(text, "cuDNN: cudnnBackendExecute: CUDNN_STATUS_EXECUTION_FAILED: in the mock");
}

/* A disabled kernel is not tested, so that its library is not even opened; a later call that allows it tests it then. */
static void test_disabled(void **state) {
  (void)state;
  setenv("MOCK_CUDNN", "fail", 1);
  nvfp4_context *context = test_cuda_context("sm=100");
  test_layer test = test_layer_make(64, 128, 1);
  nvfp4_layer_desc desc = test_layer_desc(&test, NVFP4_MODE_W4A4);
  const nvfp4_policy disabling = {.struct_size = sizeof disabling, .disable = "vendor_*"};
  nvfp4_plan *plan = NULL;
  nvfp4_reason reason = {0};
  const nvfp4_self_test want[] = {NVFP4_SELF_TEST_NOT_RUN, NVFP4_SELF_TEST_FAILED};
  desc.device = (nvfp4_device){NVFP4_DEVICE_CUDA, 0};
  for (int i = 0; i < 2; i++) {
    assert_ok(nvfp4_init_linear_kernel(context, &desc, i == 0 ? &disabling : NULL, &plan, NULL, &reason), reason);
    nvfp4_plan_free(plan);
    for (size_t j = 0; j < context->kernel_count; j++) {
      assert_true(strcmp(context->kernels[j].id, kernel) != 0 || context->kernels[j].self_test[1] == want[i]);
    }
  }
  test_layer_free(&test);
  nvfp4_context_destroy(context);
  setenv("MOCK_CUDNN", "", 1);
}

static void test_results(void **state) {
  (void)state;
  static const test_cuda_case cases[] = {
      {1, 64, 128, NVFP4_DTYPE_BF16, NVFP4_DTYPE_NONE, false},  {16, 40, 80, NVFP4_DTYPE_F16, NVFP4_DTYPE_F16, false},
      {33, 136, 208, NVFP4_DTYPE_BF16, NVFP4_DTYPE_F32, false}, {128, 4, 16, NVFP4_DTYPE_F32, NVFP4_DTYPE_NONE, false},
      {1030, 8, 16, NVFP4_DTYPE_BF16, NVFP4_DTYPE_BF16, false}, {5, 37, 144, NVFP4_DTYPE_BF16, NVFP4_DTYPE_BF16, false},
      {16, 64, 128, NVFP4_DTYPE_BF16, NVFP4_DTYPE_NONE, true},  {140, 70, 48, NVFP4_DTYPE_F32, NVFP4_DTYPE_BF16, true},
      {2049, 17, 16, NVFP4_DTYPE_F16, NVFP4_DTYPE_NONE, false}};
  nvfp4_context *context = test_cuda_context("sm=103");
  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
    test_cuda_exact(context, kernel, &cases[i]);
  }
  nvfp4_context_destroy(context);
  assert_int_equal(test_cuda_live(), 0);
}

int main(void) {
  if (!test_cuda_is_mock()) {
    return 0; /* a real GPU and library: checkkern */
  }
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_refusals), cmocka_unit_test(test_disabled), cmocka_unit_test(test_results)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
