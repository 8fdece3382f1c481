/* SPDX-License-Identifier: Apache-2.0 */
#include "kernels/plugin.h"

#include <stdio.h>
#include <stdlib.h>

#include "layer_support.h"

/* What a context with these plug-ins says of kernel `id`. */
static nvfp4_kernel_info find_kernel(nvfp4_context *context, const char *id, nvfp4_reason *why) {
  nvfp4_kernel_info info;
  for (size_t i = 0; i < nvfp4_kernel_count(context); i++) {
    assert_int_equal(nvfp4_kernel_get(context, i, NULL, &info, why), NVFP4_OK);
    if (strcmp(info.id, id) == 0) {
      return info;
    }
  }
  fail_msg("no kernel %s", id);
  return info;
}

static nvfp4_context *open_context(const char *plugins) {
  nvfp4_options options = {.struct_size = sizeof options, .threads = 2, .plugins = plugins};
  nvfp4_context *context;
  nvfp4_reason reason = {0};
  assert_ok(nvfp4_context_create(&options, &context, &reason), reason);
  return context;
}

static void test_faulty_plugins_are_listed(void **state) {
  (void)state;
  static const char *const words[] = {"no symbol nvfp4_plugin_entry", "refuses", "has ABI 2.2; needs 1.x", "no complete layout"};
  for (int fault = 1; fault <= 4; fault++) {
    char path[512], id[64];
    snprintf(path, sizeof path, TEST_PLUGINS "faulty_%d.so", fault);
    snprintf(id, sizeof id, "plugin:faulty_%d.so", fault);
    nvfp4_context *context = open_context(path);
    nvfp4_reason why;
    nvfp4_kernel_info info = find_kernel(context, id, &why);
    assert_int_equal(info.stage, NVFP4_STAGE_PLUGIN_MISSING);
    if (strstr(info.reason, words[fault - 1]) == NULL || strstr(info.reason, path) == NULL) {
      fail_msg("fault %d: \"%s\" lacks \"%s\" or the path", fault, info.reason, words[fault - 1]);
    }
    find_kernel(context, "ref_w4a4", &why); /* the rest works on */
    nvfp4_context_destroy(context);
  }
}

static void test_missing_file(void **state) {
  (void)state;
  nvfp4_context *context = open_context(" /nowhere/a.so , ");
  nvfp4_reason why;
  nvfp4_kernel_info info = find_kernel(context, "plugin:a.so", &why);
  assert_int_equal(info.stage, NVFP4_STAGE_PLUGIN_MISSING);
  assert_non_null(strstr(info.reason, "cannot be loaded"));
  nvfp4_context_destroy(context);
}

/* A kernel that gives zeros is loaded, fails its self-test, and the next one serves. */
static void test_wrong_kernel_is_not_used(void **state) {
  (void)state;
  test_layer test = test_layer_make(20, 32, 1);
  nvfp4_layer_desc desc = test_layer_desc(&test, NVFP4_MODE_W4A16);
  nvfp4_context *context = open_context(TEST_PLUGINS "faulty_5.so");
  nvfp4_plan *plan;
  nvfp4_report *report;
  nvfp4_reason reason = {0};
  assert_ok(nvfp4_init_linear_kernel(context, &desc, NULL, &plan, &report, &reason), reason);
  assert_string_equal(report->rows[0].id, "plugin_faulty_w4a16");
  assert_int_equal(report->rows[0].stage, NVFP4_STAGE_FAILED_SELF_TEST);
  assert_non_null(strstr(report->rows[0].reason, "failed its self-test"));
  assert_non_null(report->chosen); /* some kernel of the registry, whatever this machine has */
  assert_string_not_equal(report->chosen, "plugin_faulty_w4a16");
  assert_string_not_equal(nvfp4_plan_kernel(plan, 512), "plugin_faulty_w4a16");
  nvfp4_report_free(report);
  nvfp4_plan_free(plan);
  nvfp4_policy policy = {.struct_size = sizeof policy, .kernel = "plugin_faulty_w4a16"};
  plan = NULL;
  assert_int_equal(nvfp4_init_linear_kernel(context, &desc, &policy, &plan, NULL, &reason), NVFP4_E_POLICY);
  assert_non_null(strstr(reason.text, "ref_w4a16")); /* an id that can */
  assert_null(plan);
  nvfp4_context_destroy(context);
  test_layer_free(&test);
}

/* The example plug-in: preferred to the registry, and its bits are the canonical ones. */
static void test_example_plugin(void **state) {
  (void)state;
  enum { M = 3, N = 50, K = 96 };
  test_layer test = test_layer_make(N, K, 2);
  nvfp4_layer_desc desc = test_layer_desc(&test, NVFP4_MODE_W4A16);
  desc.bias_dtype = NVFP4_DTYPE_F32;
  float x[M * K], want[M * N];
  test_random random = {5};
  for (int i = 0; i < M * K; i++) {
    x[i] = test_random_gauss(&random);
  }
  test_layer_reference(&test, NVFP4_MODE_W4A16, x, M, true, want);
  nvfp4_options options = {.struct_size = sizeof options, .threads = 2, .plugins = EXAMPLE_PLUGIN};
  float *got = test_layer_run(&options, &test, &desc, x, M);
  assert_memory_equal(got, want, sizeof want);
  free(got);
  nvfp4_context *context = open_context(EXAMPLE_PLUGIN);
  nvfp4_report *report;
  nvfp4_reason reason = {0};
  assert_ok(nvfp4_explain(context, NULL, &desc, NULL, 1, &report, &reason), reason);
  assert_string_equal(report->chosen, "plugin_example_w4a16");
  nvfp4_report_free(report);
  nvfp4_context_destroy(context);
  test_layer_free(&test);
}

static void test_same_plugin_twice(void **state) {
  (void)state;
  nvfp4_options options = {.struct_size = sizeof options, .plugins = EXAMPLE_PLUGIN "," EXAMPLE_PLUGIN};
  nvfp4_context *context = NULL;
  nvfp4_reason reason = {0};
  assert_int_equal(nvfp4_context_create(&options, &context, &reason), NVFP4_E_ARG);
  assert_non_null(strstr(reason.text, "plugin_example_w4a16"));
  assert_null(context);
}

static int prepared;

static nvfp4_status count_prepare(const nvfp4_host *host, const nvfp4_layer_desc *desc, const nvfp4_packed *packed, nvfp4_reason *reason) {
  (void)host, (void)desc, (void)packed, (void)reason;
  prepared++;
  return NVFP4_OK;
}

/* `prepare` came with minor 2: kernels of older plug-ins end before it, and are good all the same. */
static void test_prepare(void **state) {
  (void)state;
  extern const nvfp4_kernel nvfp4_kernel_ref_w4a4;
  nvfp4_kernel kernel = nvfp4_kernel_ref_w4a4;
  nvfp4_reason reason = {0};
  assert_ok(nvfp4_kernel_prepare(&kernel, NULL, NULL, NULL, &reason), reason);
  kernel.prepare = count_prepare;
  assert_ok(nvfp4_kernel_prepare(&kernel, NULL, NULL, NULL, &reason), reason);
  assert_int_equal(prepared, 1);
  kernel.struct_size = offsetof(nvfp4_kernel, prepare);
  assert_ok(nvfp4_kernel_check(&kernel, &reason), reason);
  assert_ok(nvfp4_kernel_prepare(&kernel, NULL, NULL, NULL, &reason), reason);
  assert_int_equal(prepared, 1);
  kernel.struct_size--;
  assert_int_equal(nvfp4_kernel_check(&kernel, &reason), NVFP4_E_UNSUPPORTED);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_faulty_plugins_are_listed), cmocka_unit_test(test_missing_file),   cmocka_unit_test(test_prepare),
      cmocka_unit_test(test_wrong_kernel_is_not_used),  cmocka_unit_test(test_example_plugin), cmocka_unit_test(test_same_plugin_twice),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
