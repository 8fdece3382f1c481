/* SPDX-License-Identifier: Apache-2.0 */
/* nvfp4_layer_apply_host on the CPU and on a GPU: the same bits, from x and from what is quantised, with gaps between rows. */
#include <stdlib.h>

#include "cuda_support.h"
#include "format/activation.h"
#include "format/scale_layout.h"

enum { M = 9, N = 40, K = 96, BLOCKS = K / NVFP4_BLOCK, GAP = 3 };

static void check_device(nvfp4_context *context, nvfp4_device device) {
  test_layer test = test_layer_make(N, K, 8);
  nvfp4_layer_desc desc = test_layer_desc(&test, NVFP4_MODE_W4A4);
  nvfp4_weights weights = test_layer_weights(&test);
  nvfp4_reason reason = {0};
  nvfp4_plan *plan;
  nvfp4_layer *layer;
  float x[M * (K + GAP)], plain[M * K], want[M * N], y[M * (N + GAP)];
  uint8_t codes[M * K / 2], scales[M * BLOCKS], swizzled[4096];
  test_random random = {4};
  desc.device = device;
  desc.bias_dtype = NVFP4_DTYPE_F32;
  for (int m = 0; m < M; m++) {
    for (int k = 0; k < K; k++) {
      plain[m * K + k] = x[m * (K + GAP) + k] = test_random_gauss(&random);
    }
    nvfp4_quantise_activation_row(plain + m * K, K, nvfp4_activation_factor(test.partitions[0].input), codes + m * K / 2,
                                  scales + m * BLOCKS);
  }
  nvfp4_scales_from_linear(NVFP4_SCALES_128X4, scales, BLOCKS, M, BLOCKS, swizzled);
  test_layer_reference(&test, NVFP4_MODE_W4A4, plain, M, true, want);
  const nvfp4_policy policy = {.struct_size = sizeof policy, .require = NVFP4_REQUIRE_CANONICAL};
  assert_ok(nvfp4_init_linear_kernel(context, &desc, &policy, &plan, NULL, &reason), reason);
  assert_ok(nvfp4_layer_create(context, plan, &weights, &layer, &reason), reason);
  const nvfp4_quantised_x forms[] = {{codes, K / 2, scales, NVFP4_SCALES_LINEAR, BLOCKS, test.partitions[0].input},
                                     {codes, K / 2, swizzled, NVFP4_SCALES_128X4, 0, test.partitions[0].input}};
  for (int form = 0; form < 3; form++) {
    memset(y, 0xA5, sizeof y);
    nvfp4_apply_args args = {.struct_size = sizeof args,
                             .m = M,
                             .x = form == 0 ? x : NULL,
                             .ldx_elems = K + GAP,
                             .quantised_x = form > 0 ? &forms[form - 1] : NULL,
                             .bias = test.bias,
                             .y = y,
                             .ldy_elems = N + GAP};
    assert_ok(nvfp4_layer_apply_host(layer, &args, &reason), reason);
    for (int m = 0; m < M; m++) {
      assert_memory_equal(y + m * (N + GAP), want + m * N, N * sizeof *y);
      assert_int_equal(f32_bits(y[m * (N + GAP) + N]), 0xA5A5A5A5);
    }
    args.ldx_elems = form == 0 ? K - 1 : K;
    args.ldy_elems = N - 1;
    assert_int_equal(nvfp4_layer_apply_host(layer, &args, &reason), NVFP4_E_SHAPE);
    args.m = 0;
    assert_int_equal(nvfp4_layer_apply_host(layer, &args, &reason), NVFP4_OK);
  }
  nvfp4_layer_destroy(layer);
  nvfp4_plan_free(plan);
  test_layer_free(&test);
}

static void test_both_devices(void **state) {
  (void)state;
  nvfp4_context *context = test_cuda_context("");
  check_device(context, (nvfp4_device){NVFP4_DEVICE_CPU, 0});
  check_device(context, (nvfp4_device){NVFP4_DEVICE_CUDA, 0});
  nvfp4_context_destroy(context);
  assert_int_equal(test_cuda_live(), 0);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_both_devices)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
