/* SPDX-License-Identifier: Apache-2.0 */
#include "ref_kernel_cases.h"

static void test_shapes(void **state) {
  (void)state;
  skip_unless_supported("x86_avxvnni_w4a4");
  check_shapes("x86_avxvnni_w4a4", NVFP4_MODE_W4A4);
}

static void test_dtypes(void **state) {
  (void)state;
  skip_unless_supported("x86_avxvnni_w4a4");
  check_dtypes("x86_avxvnni_w4a4", NVFP4_MODE_W4A4);
}

static void test_batch_and_threads(void **state) {
  (void)state;
  skip_unless_supported("x86_avxvnni_w4a4");
  check_batch_and_threads("x86_avxvnni_w4a4", NVFP4_MODE_W4A4);
}

static void test_special_x(void **state) {
  (void)state;
  skip_unless_supported("x86_avxvnni_w4a4");
  check_special_x("x86_avxvnni_w4a4", NVFP4_MODE_W4A4);
}

static void test_caller_fp_env(void **state) {
  (void)state;
  skip_unless_supported("x86_avxvnni_w4a4");
  check_caller_fp_env("x86_avxvnni_w4a4", NVFP4_MODE_W4A4);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_shapes),    cmocka_unit_test(test_dtypes),        cmocka_unit_test(test_batch_and_threads),
      cmocka_unit_test(test_special_x), cmocka_unit_test(test_caller_fp_env),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
