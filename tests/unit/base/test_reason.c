/* SPDX-License-Identifier: Apache-2.0 */
#include "base/reason.h"
#include "support.h"

static void test_reject(void **state) {
  (void)state;
  nvfp4_reason reason;
  assert_int_equal(nvfp4_reject(&reason, NVFP4_E_SHAPE, "K = %d", 72), NVFP4_E_SHAPE);
  assert_int_equal(reason.status, NVFP4_E_SHAPE);
  assert_string_equal(reason.text, "K = 72");
  assert_int_equal(nvfp4_reject(NULL, NVFP4_E_IO, "nobody listens"), NVFP4_E_IO);
}

/* A sentence that is too long is cut, and terminated. */
static void test_long_text(void **state) {
  (void)state;
  struct {
    nvfp4_reason reason;
    char guard[8];
  } place;
  memset(&place, 0x5A, sizeof place);
  nvfp4_reject(&place.reason, NVFP4_E_ARG, "%0600d", 7);
  assert_int_equal(strlen(place.reason.text), sizeof place.reason.text - 1);
  assert_int_equal(place.guard[0], 0x5A);
  nvfp4_reason_prefix(&place.reason, NVFP4_E_ARG, "%s: ", "file");
  assert_memory_equal(place.reason.text, "file: 000", 9);
  assert_int_equal(strlen(place.reason.text), sizeof place.reason.text - 1);
  assert_int_equal(place.guard[0], 0x5A);
}

static void test_prefix(void **state) {
  (void)state;
  nvfp4_reason reason = {0};
  nvfp4_reject(&reason, NVFP4_E_FORMAT, "no header");
  assert_int_equal(nvfp4_reason_prefix(&reason, NVFP4_E_FORMAT, "%s: ", "a.safetensors"), NVFP4_E_FORMAT);
  assert_string_equal(reason.text, "a.safetensors: no header");
  assert_int_equal(nvfp4_reason_prefix(NULL, NVFP4_E_FORMAT, "x"), NVFP4_E_FORMAT);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_reject), cmocka_unit_test(test_long_text), cmocka_unit_test(test_prefix)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
