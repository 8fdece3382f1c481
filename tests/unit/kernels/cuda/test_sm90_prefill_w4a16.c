/* SPDX-License-Identifier: Apache-2.0 */
#include "cuda_support.h"

static void test_bound(void **state) {
  (void)state;
  test_cuda_bound("cuda_sm90_prefill_w4a16", NVFP4_MODE_W4A16, NVFP4_DTYPE_BF16, 129);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_bound)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
