/* SPDX-License-Identifier: Apache-2.0 */
#include "ref_kernel_cases.h"

static void test_shapes(void **state) {
  (void)state;
  check_shapes("ref_w16a16", NVFP4_MODE_UNQUANTISED);
}

static void test_dtypes(void **state) {
  (void)state;
  check_dtypes("ref_w16a16", NVFP4_MODE_UNQUANTISED);
}

static void test_batch_and_threads(void **state) {
  (void)state;
  check_batch_and_threads("ref_w16a16", NVFP4_MODE_UNQUANTISED);
}

static void test_special_x(void **state) {
  (void)state;
  check_special_x("ref_w16a16", NVFP4_MODE_UNQUANTISED);
}

static void test_caller_fp_env(void **state) {
  (void)state;
  check_caller_fp_env("ref_w16a16", NVFP4_MODE_UNQUANTISED);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_shapes),    cmocka_unit_test(test_dtypes),        cmocka_unit_test(test_batch_and_threads),
      cmocka_unit_test(test_special_x), cmocka_unit_test(test_caller_fp_env),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
