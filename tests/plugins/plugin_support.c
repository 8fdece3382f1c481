/* SPDX-License-Identifier: Apache-2.0 */
#define _POSIX_C_SOURCE 200809L /* setenv */
#include "plugins/plugin_support.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "format/half.h"

nvfp4_context *plugin_context(const char *plugin, int sm) {
  char mock[48];
  nvfp4_options options = {.struct_size = sizeof options, .threads = 2, .plugins = plugin};
  nvfp4_context *context;
  nvfp4_reason reason = {0};
  if (!test_cuda_is_mock()) {
    skip();
  }
  snprintf(mock, sizeof mock, sm == 0 ? "devices=0" : "sm=%d", sm);
  setenv("MOCK_CUDA", mock, 1);
  assert_ok(nvfp4_context_create(&options, &context, &reason), reason);
  return context;
}

void plugin_check_state(nvfp4_context *context, const char *id, nvfp4_stage stage, const char *text) {
  for (size_t i = 0; i < nvfp4_kernel_count(context); i++) {
    nvfp4_kernel_info info;
    nvfp4_reason why = {0};
    assert_int_equal(nvfp4_kernel_get(context, i, NULL, &info, &why), NVFP4_OK);
    if (strcmp(info.id, id) == 0) {
      assert_string_equal(nvfp4_stage_name(info.stage), nvfp4_stage_name(stage));
      assert_contains(info.reason, text);
      return;
    }
  }
  fail_msg("no kernel %s", id);
}

nvfp4_layer_desc plugin_layer_desc(const test_layer *test) {
  nvfp4_layer_desc desc = test_layer_desc(test, NVFP4_MODE_W4A4);
  desc.device = (nvfp4_device){NVFP4_DEVICE_CUDA, 0};
  desc.x_dtype = desc.y_dtype = NVFP4_DTYPE_BF16;
  return desc;
}

static void check_shape(nvfp4_context *context, const char *kernel, bool one_alpha, nvfp4_dtype y_dtype, nvfp4_dtype bias_dtype, int64_t m,
                        int64_t n, int64_t k) {
  test_layer test = test_layer_make(n, k, (uint64_t)(m + n + k));
  test_random random = {(uint64_t)m};
  const bool with_bias = bias_dtype != NVFP4_DTYPE_NONE;
  float *x = malloc((size_t)(m * k) * sizeof *x), *want = malloc((size_t)(m * n) * sizeof *want),
        *sizes = malloc((size_t)(m * n) * sizeof *sizes), *bias = test.bias;
  uint16_t *half = malloc((size_t)(m * k) * sizeof *half), *bias_half = malloc((size_t)n * sizeof *bias_half);
  for (int64_t i = 0; i < m * k; i++) {
    x[i] = test_random_gauss(&random);
  }
  nvfp4_from_f32(x, NVFP4_DTYPE_BF16, half, m * k);
  nvfp4_to_f32(half, NVFP4_DTYPE_BF16, x, m * k);
  nvfp4_from_f32(bias, NVFP4_DTYPE_BF16, bias_half, n);
  if (bias_dtype == NVFP4_DTYPE_BF16) {
    nvfp4_to_f32(bias_half, NVFP4_DTYPE_BF16, bias, n);
    test.bias = (float *)(void *)bias_half;
  }
  if (!one_alpha && n > 2) { /* one run: the same input global */
    test.partitions[0].n_rows = n / 2;
    test.partitions[1] = (nvfp4_partition){n / 2, n - n / 2, {0x1.234p-8f, NVFP4_GLOBAL_MULTIPLIER}, test.partitions[0].input};
    test.partition_count = 2;
  }
  nvfp4_layer_desc desc = plugin_layer_desc(&test);
  desc.y_dtype = y_dtype;
  desc.bias_dtype = bias_dtype;
  void *y = test_cuda_run(context, kernel, &test, desc, half, NULL, m);
  test.bias = bias;
  test_layer_reference(&test, NVFP4_MODE_W4A4, x, m, with_bias, want);
  for (int64_t i = 0; i < m * k; i++) { /* sum of |x w sx sw| |alpha| + |bias|: the reference with all signs cleared */
    x[i] = fabsf(x[i]);
  }
  for (int64_t i = 0; i < n * k / 2; i++) {
    test.codes[i] &= 0x77;
  }
  for (int64_t i = 0; i < n; i++) {
    bias[i] = fabsf(bias[i]);
  }
  test_layer_reference(&test, NVFP4_MODE_W4A4, x, m, with_bias, sizes);
  const double rounding = y_dtype == NVFP4_DTYPE_BF16 ? 0x1p-8 : y_dtype == NVFP4_DTYPE_F16 ? 0x1p-11 : 0;
  const double smallest = y_dtype == NVFP4_DTYPE_BF16 ? 0x1p-134 : y_dtype == NVFP4_DTYPE_F16 ? 0x1p-25 : 0x1p-150;
  for (int64_t i = 0; i < m * n; i++) {
    float got;
    nvfp4_to_f32((const char *)y + i * (y_dtype == NVFP4_DTYPE_F32 ? 4 : 2), y_dtype, &got, 1);
    double bound = (double)(k + 8) * 0x1p-23 * (double)sizes[i];
    assert_true(fabs((double)got - (double)want[i]) <= bound + rounding * (fabs((double)want[i]) + bound) + smallest);
  }
  free(y), free(half), free(bias_half), free(sizes), free(want), free(x);
  test_layer_free(&test);
}

void plugin_check_results(nvfp4_context *context, const char *kernel, bool one_alpha, nvfp4_dtype y_dtype, nvfp4_dtype bias_dtype) {
  static const int64_t shapes[][3] = {{1, 1, 16},     {3, 37, 80},    {8, 128, 64},   {31, 96, 192},  {32, 256, 128},
                                      {33, 256, 128}, {40, 160, 112}, {129, 64, 128}, {200, 130, 144}};
  for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++) {
    check_shape(context, kernel, one_alpha, y_dtype, bias_dtype, shapes[i][0], shapes[i][1], shapes[i][2]);
  }
}
