/* SPDX-License-Identifier: Apache-2.0 */
#include "layer/context.h"

#include <stdlib.h>

#include "base/alloc.h"
#include "layer_support.h"

static void test_defaults(void **state) {
  (void)state;
  nvfp4_context *context = NULL;
  nvfp4_reason reason = {0};
  assert_ok(nvfp4_context_create(NULL, &context, &reason), reason);
  assert_int_equal(nvfp4_context_threads(context), nvfp4_processor_count());
  assert_true(nvfp4_context_machine(context)->cores >= 1);
  assert_true(nvfp4_kernel_count(context) >= 2);
  nvfp4_context_destroy(context);
  nvfp4_context_destroy(NULL);
}

static void test_refusals(void **state) {
  (void)state;
  nvfp4_context *context = NULL;
  nvfp4_reason reason = {0};
  nvfp4_options options = {.struct_size = 3};
  assert_int_equal(nvfp4_context_create(&options, &context, &reason), NVFP4_E_ARG);
  assert_non_null(strstr(reason.text, "struct_size"));
  options = (nvfp4_options){.struct_size = sizeof options, .threads = -2};
  assert_int_equal(nvfp4_context_create(&options, &context, &reason), NVFP4_E_ARG);
  assert_non_null(strstr(reason.text, "-2"));
  options = (nvfp4_options){.struct_size = sizeof options, .allocator = {.alloc = nvfp4_default_allocator.alloc}};
  assert_int_equal(nvfp4_context_create(&options, &context, &reason), NVFP4_E_ARG);
  assert_int_equal(nvfp4_context_create(NULL, NULL, &reason), NVFP4_E_ARG);
  assert_null(context);
}

/* The policy's strings are copies: the caller may change its own. */
static void test_policy_is_copied(void **state) {
  (void)state;
  char kernel[] = "ref_w4a16";
  nvfp4_options options = {.struct_size = sizeof options, .policy = {.struct_size = sizeof(nvfp4_policy), .kernel = kernel}};
  nvfp4_context *context;
  nvfp4_reason reason = {0};
  assert_ok(nvfp4_context_create(&options, &context, &reason), reason);
  memset(kernel, 'x', sizeof kernel - 1);
  test_layer test = test_layer_make(16, 16, 1);
  nvfp4_layer_desc desc = test_layer_desc(&test, NVFP4_MODE_W4A4);
  nvfp4_report *report;
  assert_ok(nvfp4_explain(context, NULL, &desc, NULL, 1, &report, &reason), reason);
  assert_string_equal(report->chosen, "ref_w4a16");
  nvfp4_report_free(report);
  test_layer_free(&test);
  nvfp4_context_destroy(context);
}

typedef struct counting {
  size_t live, calls;
} counting;

static void *counting_alloc(void *cookie, size_t bytes, size_t alignment) {
  counting *counts = cookie;
  if (counts->calls == SIZE_MAX) {
    return NULL; /* out of memory */
  }
  counts->calls++;
  counts->live += bytes;
  return nvfp4_default_allocator.alloc(NULL, bytes, alignment);
}

static void counting_free(void *cookie, void *pointer, size_t bytes) {
  ((counting *)cookie)->live -= bytes;
  nvfp4_default_allocator.free(NULL, pointer, bytes);
}

/* Packed weights come from the caller's allocator and go back to it; without memory a layer is refused and nothing stays behind. */
static void test_own_allocator(void **state) {
  (void)state;
  counting counts = {0, 0};
  nvfp4_options options = {.struct_size = sizeof options, .allocator = {counting_alloc, counting_free, &counts}};
  nvfp4_context *context;
  nvfp4_reason reason = {0};
  nvfp4_plan *plan;
  nvfp4_layer *layer = NULL;
  assert_ok(nvfp4_context_create(&options, &context, &reason), reason);
  test_layer test = test_layer_make(40, 64, 1);
  nvfp4_layer_desc desc = test_layer_desc(&test, NVFP4_MODE_W4A4);
  nvfp4_weights weights = test_layer_weights(&test);
  assert_ok(nvfp4_init_linear_kernel(context, &desc, NULL, &plan, NULL, &reason), reason);
  assert_int_equal(counts.live, 0);
  assert_ok(nvfp4_layer_create(context, plan, &weights, &layer, &reason), reason);
  assert_int_equal(counts.live, nvfp4_layer_packed_bytes(layer));
  nvfp4_layer_destroy(layer);
  assert_int_equal(counts.live, 0);
  counts.calls = SIZE_MAX;
  layer = NULL;
  assert_int_equal(nvfp4_layer_create(context, plan, &weights, &layer, &reason), NVFP4_E_NOMEM);
  assert_null(layer);
  assert_int_equal(counts.live, 0);
  nvfp4_plan_free(plan);
  nvfp4_context_destroy(context);
  test_layer_free(&test);
}

static void test_kernel_list(void **state) {
  (void)state;
  nvfp4_options options = {.struct_size = sizeof options, .policy = {.struct_size = sizeof(nvfp4_policy), .disable = "ref_w4a4"}};
  nvfp4_context *context;
  nvfp4_reason reason = {0};
  assert_ok(nvfp4_context_create(&options, &context, &reason), reason);
  for (size_t i = 0; i < nvfp4_kernel_count(context); i++) {
    nvfp4_kernel_info info;
    assert_int_equal(nvfp4_kernel_get(context, i, NULL, &info, &reason), NVFP4_OK);
    assert_int_equal(info.stage == NVFP4_STAGE_ELIGIBLE, info.reason[0] == '\0');
    if (strcmp(info.id, "ref_w4a4") == 0) {
      assert_int_equal(info.stage, NVFP4_STAGE_DISABLED);
    }
  }
  nvfp4_kernel_info info;
  assert_int_equal(nvfp4_kernel_get(context, nvfp4_kernel_count(context), NULL, &info, &reason), NVFP4_E_ARG);
  nvfp4_context_destroy(context);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_defaults),      cmocka_unit_test(test_refusals),    cmocka_unit_test(test_policy_is_copied),
      cmocka_unit_test(test_own_allocator), cmocka_unit_test(test_kernel_list),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
