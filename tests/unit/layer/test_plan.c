/* SPDX-License-Identifier: Apache-2.0 */
#include "layer/layer.h"
#include "layer_support.h"

static nvfp4_context *new_context(void) {
  nvfp4_context *context;
  nvfp4_reason reason = {0};
  assert_ok(nvfp4_context_create(NULL, &context, &reason), reason);
  return context;
}

/* A plan keeps copies: description, name and partitions may go. */
static void test_plan_owns_its_description(void **state) {
  (void)state;
  nvfp4_context *context = new_context();
  nvfp4_reason reason = {0};
  nvfp4_plan *plan;
  char name[] = "a.b.c";
  nvfp4_partition partitions[] = {{0, 10, {0.5f, false}, {0.25f, false}}, {10, 6, {0.125f, false}, {0.25f, false}}};
  nvfp4_layer_desc desc = {.struct_size = sizeof desc,
                           .name = name,
                           .n = 16,
                           .k = 32,
                           .mode = NVFP4_MODE_W4A4,
                           .x_dtype = NVFP4_DTYPE_BF16,
                           .y_dtype = NVFP4_DTYPE_BF16,
                           .partitions = partitions,
                           .partition_count = 2};
  assert_ok(nvfp4_init_linear_kernel(context, &desc, NULL, &plan, NULL, &reason), reason);
  memset(name, 'x', 5);
  memset(partitions, 0, sizeof partitions);
  const char *first = nvfp4_plan_kernel(plan, 1), *last = nvfp4_plan_kernel(plan, NVFP4_M_MAX); /* ids are constants */
  nvfp4_plan *copy = nvfp4_plan_copy(plan);
  nvfp4_plan_free(plan);
  assert_string_equal(copy->desc.name, "a.b.c");
  assert_f32_bits(copy->desc.partitions[1].weight.value, 0.125f);
  assert_string_equal(nvfp4_plan_kernel(copy, 1), first);
  assert_string_equal(nvfp4_plan_kernel(copy, NVFP4_M_MAX), last);
  nvfp4_plan_free(copy);
  nvfp4_plan_free(NULL);
  nvfp4_context_destroy(context);
}

static void test_m_range(void **state) {
  (void)state;
  nvfp4_context *context = new_context();
  nvfp4_reason reason = {0};
  nvfp4_plan *plan;
  test_layer test = test_layer_make(16, 32, 1);
  nvfp4_layer_desc desc = test_layer_desc(&test, NVFP4_MODE_W4A16);
  desc.m_first = 2;
  desc.m_last = 9;
  nvfp4_policy policy = {.struct_size = sizeof policy, .kernel = "ref_w4a16"};
  assert_ok(nvfp4_init_linear_kernel(context, &desc, &policy, &plan, NULL, &reason), reason);
  assert_null(nvfp4_plan_kernel(plan, 1));
  assert_non_null(nvfp4_plan_kernel(plan, 2));
  assert_non_null(nvfp4_plan_kernel(plan, 9));
  assert_null(nvfp4_plan_kernel(plan, 10));
  nvfp4_plan_free(plan);
  test_layer_free(&test);
  nvfp4_context_destroy(context);
}

static void test_refusals(void **state) {
  (void)state;
  nvfp4_context *context = new_context();
  test_layer test = test_layer_make(16, 32, 1);
  nvfp4_layer_desc good = test_layer_desc(&test, NVFP4_MODE_W4A4);
  nvfp4_layer_desc bad[5];
  for (int i = 0; i < 5; i++) {
    bad[i] = good;
  }
  bad[0].k = 24;
  bad[1].n = 0;
  bad[2].x_dtype = NVFP4_DTYPE_U8;
  bad[3].partition_count = 0;
  bad[4].struct_size = 1;
  for (int i = 0; i < 5; i++) {
    nvfp4_reason reason = {0};
    nvfp4_plan *plan = NULL;
    nvfp4_report *report = NULL;
    nvfp4_status status = nvfp4_init_linear_kernel(context, &bad[i], NULL, &plan, &report, &reason);
    assert_int_not_equal(status, NVFP4_OK);
    assert_int_equal(reason.status, status);
    assert_true(strlen(reason.text) > 10);
    assert_null(plan);
    assert_null(report);
  }
  nvfp4_policy policy = {.struct_size = sizeof policy, .kernel = "no_such_kernel"};
  nvfp4_reason reason = {0};
  nvfp4_plan *plan = NULL;
  nvfp4_report *report = NULL;
  assert_int_not_equal(nvfp4_init_linear_kernel(context, &good, &policy, &plan, &report, &reason), NVFP4_OK);
  assert_non_null(strstr(reason.text, "no_such_kernel"));
  assert_null(plan);
  nvfp4_report_free(report);
  test_layer_free(&test);
  nvfp4_context_destroy(context);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_plan_owns_its_description), cmocka_unit_test(test_m_range),
                                     cmocka_unit_test(test_refusals)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
