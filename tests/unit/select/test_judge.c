/* SPDX-License-Identifier: Apache-2.0 */
/* One candidate through the stages: that they are tested in their order, and what only a candidate's state brings about. */
#include "field.h"

static nvfp4_status no_machine(const nvfp4_machine *machine, nvfp4_reason *reason) {
  (void)machine;
  return nvfp4_reject(reason, NVFP4_E_MACHINE, "no");
}
static nvfp4_status no_machine_silently(const nvfp4_machine *machine, nvfp4_reason *reason) {
  (void)machine;
  (void)reason;
  return NVFP4_E_MACHINE;
}
static nvfp4_status no_layer(const nvfp4_layer_desc *desc, nvfp4_reason *reason) {
  (void)desc;
  return nvfp4_reject(reason, NVFP4_E_UNSUPPORTED, "no");
}

/* A candidate that fails at every stage from `first` on stops at `first`. */
static void test_order_of_stages(void **state) {
  (void)state;
  nvfp4_machine machine = field_machine("x86-64");
  nvfp4_layer_desc desc = field_desc(NVFP4_MODE_W4A4, NVFP4_DEVICE_CPU);
  for (nvfp4_stage first = NVFP4_STAGE_NOT_BUILT; first <= NVFP4_STAGE_ELIGIBLE; first++) {
    nvfp4_kernel kernel = field_ref_w4a4;
    kernel.is_supported = first <= NVFP4_STAGE_UNSUPPORTED_MACHINE ? no_machine : field_any_cpu;
    kernel.can_implement = first <= NVFP4_STAGE_CANNOT_IMPLEMENT ? no_layer : field_any_layer;
    kernel.numerics.flags = first <= NVFP4_STAGE_NUMERICS_POLICY ? 0 : BI | DET;
    nvfp4_policy policy = {.require = NVFP4_REQUIRE_DETERMINISTIC, .disable = first <= NVFP4_STAGE_DISABLED ? "*" : NULL};
    nvfp4_candidate candidate = {.id = "a", .kernel = &kernel, .missing_reason = "missing", .self_test_reason = "row 3: found 1, needs 2"};
    candidate.self_test = first <= NVFP4_STAGE_FAILED_SELF_TEST ? NVFP4_SELF_TEST_FAILED : NVFP4_SELF_TEST_PASSED;
    if (first <= NVFP4_STAGE_PLUGIN_MISSING) {
      candidate.kernel = NULL;
      candidate.missing = first == NVFP4_STAGE_NOT_BUILT ? NVFP4_STAGE_NOT_BUILT : NVFP4_STAGE_PLUGIN_MISSING;
    }
    nvfp4_select_input input = {&candidate, 1, &machine, false, &desc, &policy, 1, NULL, 0};
    nvfp4_selection selection;
    nvfp4_report *report;
    assert_int_equal(nvfp4_select(&input, &selection, &report, NULL), first == NVFP4_STAGE_ELIGIBLE ? NVFP4_OK : NVFP4_E_POLICY);
    assert_int_equal(report->rows[0].stage, first == NVFP4_STAGE_ELIGIBLE ? NVFP4_STAGE_CHOSEN : first);
    assert_true(report->rows[0].reason[0] != '\0');
    nvfp4_report_free(report);
  }
}

/* Failed self-tests, missing words, and a layer without input scales. */
static void test_reasons_of_states(void **state) {
  (void)state;
  nvfp4_kernel silent = field_ref_w4a4;
  silent.is_supported = no_machine_silently;
  nvfp4_candidate candidates[] = {
      {.id = "a", .kernel = &field_ref_w4a4, .self_test = NVFP4_SELF_TEST_FAILED, .self_test_reason = "row 3: found 1, needs 2"},
      {.id = "b", .kernel = &field_ref_w4a4, .self_test = NVFP4_SELF_TEST_FAILED},
      {.id = "c", .missing = NVFP4_STAGE_NOT_BUILT},
      {.id = "d", .kernel = &field_ref_w4a4, .self_test = NVFP4_SELF_TEST_PASSED},
      {.id = "e", .kernel = &silent},
  };
  nvfp4_machine machine = field_machine("x86-64");
  nvfp4_layer_desc desc = field_desc(NVFP4_MODE_W4A4, NVFP4_DEVICE_CPU);
  nvfp4_policy policy = {0};
  nvfp4_select_input input = {candidates, 5, &machine, false, &desc, &policy, 1, NULL, 0};
  nvfp4_selection selection;
  nvfp4_report *report;
  char stages[8];
  assert_int_equal(nvfp4_select(&input, &selection, &report, NULL), NVFP4_OK);
  assert_string_equal(field_stages(report, stages), "ttnCm");
  assert_string_equal(report->rows[0].reason, "row 3: found 1, needs 2");
  assert_contains(report->rows[1].reason, "self-test failed");
  assert_string_equal(report->rows[2].reason, "not there");
  assert_string_equal(report->rows[4].reason, "is_supported() says unsupported machine and no more; please report it");
  nvfp4_report_free(report);

  input.dry_run = true; /* the tests were of this computer */
  assert_int_equal(nvfp4_select(&input, &selection, &report, NULL), NVFP4_OK);
  assert_string_equal(field_stages(report, stages), "Cenem");
  assert_string_equal(report->text, "a serves M=1: first in the order that fits; not tested here");
  nvfp4_report_free(report);

  desc.partitions = &field_no_input;
  assert_int_equal(nvfp4_select(&input, &selection, &report, NULL), NVFP4_E_POLICY);
  assert_contains(report->rows[0].reason, "partition 0 of the layer has no input scale");
  nvfp4_report_free(report);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_order_of_stages), cmocka_unit_test(test_reasons_of_states)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
