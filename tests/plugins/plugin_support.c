/* SPDX-License-Identifier: Apache-2.0 */
#define _POSIX_C_SOURCE 200809L /* setenv */
#include "plugins/plugin_support.h"

#include <stdio.h>
#include <stdlib.h>

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

void plugin_check_results(nvfp4_context *context, const char *kernel, bool two_alphas, nvfp4_dtype y_dtype, nvfp4_dtype bias_dtype) {
  static const int64_t shapes[][3] = {{1, 1, 16},     {3, 37, 80},    {8, 128, 64},   {31, 96, 192},  {32, 256, 128},
                                      {33, 256, 128}, {40, 160, 112}, {129, 64, 128}, {200, 130, 144}};
  for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++) {
    const test_cuda_case c = {shapes[i][0], shapes[i][1], shapes[i][2], y_dtype, bias_dtype, two_alphas && shapes[i][1] > 2};
    test_cuda_exact(context, kernel, &c);
  }
}
