/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE /* MAP_ANONYMOUS */
#include "arm_cases.h"

static canonical_kernel kernel = {.id = "arm_neon_w4a16", .mode = NVFP4_MODE_W4A16};

static void test_directly(void **state) {
  (void)state;
  check_directly("arm_neon_w4a16");
}

int main(void) {
  const struct CMUnitTest tests[] = {CANONICAL_TESTS(&kernel), cmocka_unit_test(test_directly)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
