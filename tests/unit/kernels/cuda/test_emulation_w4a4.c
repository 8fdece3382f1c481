/* SPDX-License-Identifier: Apache-2.0 */
#include "cuda_support.h"

static void test_bits_of_the_reference(void **state) {
  (void)state;
  test_cuda_reference("cuda_emulation_w4a4", NVFP4_MODE_W4A4);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_bits_of_the_reference)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
