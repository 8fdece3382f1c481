/* SPDX-License-Identifier: Apache-2.0 */
#include "ref_kernel_cases.h"

static canonical_kernel kernel = {.id = "x86_avxvnni_w4a4", .mode = NVFP4_MODE_W4A4};

int main(void) {
  const struct CMUnitTest tests[] = {CANONICAL_TESTS(&kernel)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
