/* SPDX-License-Identifier: Apache-2.0 */
#include "kernels/cuda/sm90.h"

#include <stdlib.h>

#include "cuda_support.h"
#include "format/half.h"

static void test_machines(void **state) {
  (void)state;
  nvfp4_machine machine = {.struct_size = sizeof machine, .gpu_count = 1, .gpus = {{.sm = 90}}};
  nvfp4_reason reason = {0};
  assert_int_equal(cuda_sm90_is_supported(&machine, &reason), NVFP4_OK);
  machine.gpus[0].sm = 100; /* sm_90a code runs on nothing else */
  assert_int_equal(cuda_sm90_is_supported(&machine, &reason), NVFP4_E_MACHINE);
  assert_non_null(strstr(reason.text, "needs compute capability 9.0"));
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_machines)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
