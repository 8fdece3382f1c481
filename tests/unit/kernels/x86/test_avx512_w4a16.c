/* SPDX-License-Identifier: Apache-2.0 */
#include "ref_kernel_cases.h"

/* large: more rows and more k than a task and a panel of x have (192 rows, 32 blocks of them), and row tiles for several tasks. */
static canonical_kernel kernel = {.id = "x86_avx512_w4a16", .mode = NVFP4_MODE_W4A16, .large = {203, 150, 2192}};

int main(void) {
  const struct CMUnitTest tests[] = {CANONICAL_TESTS(&kernel), cmocka_unit_test_prestate(canonical_large, &kernel)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
