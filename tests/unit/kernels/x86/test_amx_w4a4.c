/* SPDX-License-Identifier: Apache-2.0 */
/* On processors with AMX; what the kernel does with tiles, checkkern proves over emulated ones (tests/plugins/amx_emulated.h). Fewer than 16 rows are the second kernel's. */
#include "ref_kernel_cases.h"

#define KERNEL "x86_amx_w4a4"
#define KERNELS KERNEL ",x86_avx512vnni_w4a4"

static void test_shapes(void **state) {
  (void)state;
  skip_unless_supported(KERNEL);
  check_shapes(KERNELS, NVFP4_MODE_W4A4);
}

static void test_batch_and_threads(void **state) {
  (void)state;
  skip_unless_supported(KERNEL);
  check_batch_and_threads(KERNELS, NVFP4_MODE_W4A4);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_shapes), cmocka_unit_test(test_batch_and_threads)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
