/* SPDX-License-Identifier: Apache-2.0 */
/* On processors with AMX; what the kernel does with tiles, checkkern proves over emulated ones (tests/plugins/amx_emulated.h). Fewer than 16 rows are the second kernel's. */
#include "ref_kernel_cases.h"

static canonical_kernel kernel = {.id = "x86_amx_w4a4", .together = "x86_amx_w4a4,x86_avx512vnni_w4a4", .mode = NVFP4_MODE_W4A4};

int main(void) {
  const struct CMUnitTest tests[] = {CANONICAL_TESTS(&kernel)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
