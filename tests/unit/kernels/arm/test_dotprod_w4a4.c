/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE /* MAP_ANONYMOUS */
#include "arm_cases.h"

#define KERNELS "arm_dotprod_w4a4"

static void test_shapes(void **state) {
  (void)state;
  skip_unless_supported("arm_dotprod_w4a4");
  check_shapes(KERNELS, NVFP4_MODE_W4A4);
}

static void test_dtypes(void **state) {
  (void)state;
  skip_unless_supported("arm_dotprod_w4a4");
  check_dtypes(KERNELS, NVFP4_MODE_W4A4);
}

static void test_batch_and_threads(void **state) {
  (void)state;
  skip_unless_supported("arm_dotprod_w4a4");
  check_batch_and_threads(KERNELS, NVFP4_MODE_W4A4);
}

static void test_special_x(void **state) {
  (void)state;
  skip_unless_supported("arm_dotprod_w4a4");
  check_special_x(KERNELS, NVFP4_MODE_W4A4);
}

static void test_caller_fp_env(void **state) {
  (void)state;
  skip_unless_supported("arm_dotprod_w4a4");
  check_caller_fp_env(KERNELS, NVFP4_MODE_W4A4);
}

static void test_directly(void **state) {
  (void)state;
  check_directly("arm_dotprod_w4a4");
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_shapes),    cmocka_unit_test(test_dtypes),        cmocka_unit_test(test_batch_and_threads),
      cmocka_unit_test(test_special_x), cmocka_unit_test(test_caller_fp_env), cmocka_unit_test(test_directly),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
