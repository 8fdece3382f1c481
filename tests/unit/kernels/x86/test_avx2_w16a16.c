/* SPDX-License-Identifier: Apache-2.0 */
#include "ref_kernel_cases.h"

static void test_shapes(void **state) {
  (void)state;
  skip_unless_supported("x86_avx2_w16a16");
  check_shapes("x86_avx2_w16a16", NVFP4_MODE_UNQUANTISED);
}

static void test_dtypes(void **state) {
  (void)state;
  skip_unless_supported("x86_avx2_w16a16");
  check_dtypes("x86_avx2_w16a16", NVFP4_MODE_UNQUANTISED);
}

static void test_batch_and_threads(void **state) {
  (void)state;
  skip_unless_supported("x86_avx2_w16a16");
  check_batch_and_threads("x86_avx2_w16a16", NVFP4_MODE_UNQUANTISED);
}

static void test_special_x(void **state) {
  (void)state;
  skip_unless_supported("x86_avx2_w16a16");
  check_special_x("x86_avx2_w16a16", NVFP4_MODE_UNQUANTISED);
}

static void test_caller_fp_env(void **state) {
  (void)state;
  skip_unless_supported("x86_avx2_w16a16");
  check_caller_fp_env("x86_avx2_w16a16", NVFP4_MODE_UNQUANTISED);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_shapes),    cmocka_unit_test(test_dtypes),        cmocka_unit_test(test_batch_and_threads),
      cmocka_unit_test(test_special_x), cmocka_unit_test(test_caller_fp_env),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
