/* SPDX-License-Identifier: Apache-2.0 */
#include "ref_kernel_cases.h"

/* large: more rows and more k than a panel of x has (48 rows and 128 blocks), and row tiles for several tasks. */
static canonical_kernel kernel = {.id = "x86_avx512_w16a16", .mode = NVFP4_MODE_UNQUANTISED, .large = {53, 150, 2192}};

int main(void) {
  const struct CMUnitTest tests[] = {CANONICAL_TESTS(&kernel), cmocka_unit_test_prestate(canonical_large, &kernel)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
