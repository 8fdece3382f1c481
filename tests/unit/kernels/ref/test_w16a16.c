/* SPDX-License-Identifier: Apache-2.0 */
#include "ref_kernel_cases.h"

static canonical_kernel kernel = {.id = "ref_w16a16", .mode = NVFP4_MODE_UNQUANTISED};

int main(void) {
  const struct CMUnitTest tests[] = {CANONICAL_TESTS(&kernel)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
