/* SPDX-License-Identifier: Apache-2.0 */
/* The kernel serves M from 2; layers have arm_dotprod_w4a4 for M = 1, over the same packed weights. */
#define _GNU_SOURCE /* MAP_ANONYMOUS */
#include "arm_cases.h"

static canonical_kernel kernel = {.id = "arm_i8mm_w4a4", .together = "arm_i8mm_w4a4,arm_dotprod_w4a4", .mode = NVFP4_MODE_W4A4};

static void test_directly(void **state) {
  (void)state;
  check_directly("arm_i8mm_w4a4");
}

/* One packed weight, two kernels: which serves which M. */
static void test_plan(void **state) {
  (void)state;
  skip_unless_supported("arm_i8mm_w4a4");
  nvfp4_context *context;
  nvfp4_plan *plan;
  nvfp4_reason reason = {0};
  test_layer layer = test_layer_make(32, 64, 1);
  nvfp4_layer_desc desc = test_layer_desc(&layer, NVFP4_MODE_W4A4);
  assert_ok(nvfp4_context_create(NULL, &context, &reason), reason);
  assert_ok(nvfp4_init_linear_kernel(context, &desc, NULL, &plan, NULL, &reason), reason);
  assert_string_equal(nvfp4_plan_kernel(plan, 1), "arm_dotprod_w4a4");
  assert_string_equal(nvfp4_plan_kernel(plan, 2), "arm_i8mm_w4a4");
  assert_string_equal(nvfp4_plan_kernel(plan, 512), "arm_i8mm_w4a4");
  nvfp4_plan_free(plan);
  nvfp4_context_destroy(context);
  test_layer_free(&layer);
}

int main(void) {
  const struct CMUnitTest tests[] = {CANONICAL_TESTS(&kernel), cmocka_unit_test(test_directly), cmocka_unit_test(test_plan)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
