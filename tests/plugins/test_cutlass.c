/* SPDX-License-Identifier: Apache-2.0 */
/* The CUTLASS plug-in with CUTLASS mocked (cutlass_mock.c) on the mock driver. */
#include <stdlib.h>

#include "plugins/plugin_support.h"

#define KERNEL "plugin_cutlass_w4a4"

static void test_states(void **state) {
  (void)state;
  static const struct {
    int sm;
    nvfp4_stage stage;
    const char *text;
  } states[] = {
      {100, NVFP4_STAGE_ELIGIBLE, ""},
      {103, NVFP4_STAGE_ELIGIBLE, ""},
      {120, NVFP4_STAGE_ELIGIBLE, ""},
      {121, NVFP4_STAGE_ELIGIBLE, ""},
      {110, NVFP4_STAGE_UNSUPPORTED_MACHINE, "has compute capability 11.0; needs compute capability 10.0, 10.3, 12.0 or 12.1"},
      {90, NVFP4_STAGE_UNSUPPORTED_MACHINE, "has compute capability 9.0; needs"},
      {0, NVFP4_STAGE_UNSUPPORTED_MACHINE, "needs a GPU of compute capability 10.0"},
  };
  for (size_t i = 0; i < sizeof states / sizeof states[0]; i++) {
    nvfp4_context *context = plugin_context(PLUGIN, states[i].sm);
    plugin_check_state(context, KERNEL, states[i].stage, states[i].text);
    plugin_check_state(context, "plugin_flashinfer_trtllm_w4a4", NVFP4_STAGE_PLUGIN_MISSING, "plug-in not given");
    nvfp4_context_destroy(context);
  }
}

/* bf16 y with a bf16 bias or none is CUTLASS's own; all else goes through fp32 sums. */
static void test_results(void **state) {
  (void)state;
  nvfp4_context *context = plugin_context(PLUGIN, 100);
  plugin_check_results(context, KERNEL, true, NVFP4_DTYPE_BF16, NVFP4_DTYPE_NONE);
  plugin_check_results(context, KERNEL, true, NVFP4_DTYPE_BF16, NVFP4_DTYPE_BF16);
  plugin_check_results(context, KERNEL, false, NVFP4_DTYPE_BF16, NVFP4_DTYPE_F32);
  plugin_check_results(context, KERNEL, true, NVFP4_DTYPE_F32, NVFP4_DTYPE_F32);
  plugin_check_results(context, KERNEL, false, NVFP4_DTYPE_F16, NVFP4_DTYPE_NONE);
  nvfp4_context_destroy(context);
  assert_int_equal(test_cuda_live(), 0);
}

/* vLLM's name stands for it, and it comes before the kernels of the registry. */
static void test_selection(void **state) {
  (void)state;
  static const int sms[] = {100, 103, 120, 121};
  test_layer test = test_layer_make(64, 48, 1);
  for (int i = 0; i < 4; i++) {
    nvfp4_context *context = plugin_context(PLUGIN, sms[i]);
    nvfp4_layer_desc desc = plugin_layer_desc(&test);
    for (int named = 0; named <= 1; named++) {
      nvfp4_policy policy = {.struct_size = sizeof policy, .vllm_backend = named ? "cutlass" : NULL};
      nvfp4_plan *plan = NULL;
      nvfp4_report *report = NULL;
      nvfp4_reason reason = {0};
      assert_ok(nvfp4_init_linear_kernel(context, &desc, &policy, &plan, &report, &reason), reason); /* with its self-test */
      assert_string_equal(report->chosen, KERNEL);
      assert_string_equal(report->decided_by, named ? "VLLM_NVFP4_GEMM_BACKEND" : "order");
      nvfp4_report_free(report);
      nvfp4_plan_free(plan);
    }
    nvfp4_context_destroy(context);
  }
  test_layer_free(&test);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_states), cmocka_unit_test(test_results), cmocka_unit_test(test_selection)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
