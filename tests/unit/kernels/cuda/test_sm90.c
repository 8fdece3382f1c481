/* SPDX-License-Identifier: Apache-2.0 */
#include "kernels/cuda/sm90.h"

#include <stdlib.h>

#include "cuda_support.h"
#include "format/half.h"

/* Others than bf16 and f16 would be rounded. */
static void test_x_types(void **state) {
  (void)state;
  test_layer layer = test_layer_make(64, 128, 30);
  nvfp4_layer_desc desc = test_layer_desc(&layer, NVFP4_MODE_W4A16);
  nvfp4_reason reason = {0};
  desc.x_dtype = NVFP4_DTYPE_F32;
  assert_int_equal(cuda_sm90_w4a16_can_implement(&desc, &reason), NVFP4_E_DTYPE);
  assert_non_null(strstr(reason.text, "f32 activations would be rounded"));
  desc.x_dtype = NVFP4_DTYPE_F16;
  assert_int_equal(cuda_sm90_w4a16_can_implement(&desc, &reason), NVFP4_OK);
  desc.x_dtype = NVFP4_DTYPE_BF16;
  assert_int_equal(cuda_sm90_w4a16_can_implement(&desc, &reason), NVFP4_OK);
  test_layer_free(&layer);
}

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
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_x_types), cmocka_unit_test(test_machines)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
