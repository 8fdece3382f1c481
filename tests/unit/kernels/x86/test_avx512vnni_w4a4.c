/* SPDX-License-Identifier: Apache-2.0 */
#include "ref_kernel_cases.h"

/* large: more rows and more k than a panel of x has (96 rows and 168 blocks), and row tiles for several tasks. */
static canonical_kernel kernel = {.id = "x86_avx512vnni_w4a4", .mode = NVFP4_MODE_W4A4, .large = {100, 150, 3152}};

int main(void) {
  const struct CMUnitTest tests[] = {CANONICAL_TESTS(&kernel), cmocka_unit_test_prestate(canonical_large, &kernel)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
