/* SPDX-License-Identifier: Apache-2.0 */
#include "layer_support.h"

#include <math.h>
#include <stdlib.h>

#include "base/alloc.h"
#include "format/activation.h"
#include "format/half.h"
#include "kernels/ref/spec.h"
#include "layer/layer.h"

test_layer test_layer_make(int64_t n, int64_t k, uint64_t seed) {
  test_random random = {seed * 2 + 1};
  test_layer layer = {.n = n, .k = k, .partition_count = 1};
  layer.codes = malloc((size_t)(n * k / 2));
  layer.scales = malloc((size_t)(n * k / 16));
  layer.bias = malloc((size_t)n * sizeof(float));
  for (int64_t i = 0; i < n * k / 2; i++) {
    layer.codes[i] = (uint8_t)(test_random_u64(&random) >> 13);
  }
  for (int64_t i = 0; i < n * k / 16; i++) {
    layer.scales[i] = (uint8_t)(test_random_u64(&random) % 0x7F);
  }
  for (int64_t i = 0; i < n; i++) {
    layer.bias[i] = test_random_gauss(&random) * 3.0f;
  }
  layer.partitions[0] = (nvfp4_partition){0, n, {0x1.8p-9f, false}, {0x1.4p-7f, false}};
  layer.dense = (nvfp4_partition){0, n, {0x1.8p-9f, false}, {0, false}};
  layer.dtype = (nvfp4_dtype)(NVFP4_DTYPE_F32 + seed % 3);
  layer.w = malloc((size_t)(n * k) * sizeof(float));
  layer.values = malloc((size_t)(n * k) * sizeof(float));
  for (int64_t i = 0; i < n * k; i++) {
    layer.w[i] = ldexpf(test_random_gauss(&random), (int)(i % 23) - 18);
  }
  nvfp4_from_f32(layer.w, layer.dtype, layer.values, n * k);
  nvfp4_to_f32(layer.values, layer.dtype, layer.w, n * k);
  return layer;
}

void test_layer_free(test_layer *layer) {
  free(layer->codes);
  free(layer->scales);
  free(layer->bias);
  free(layer->w);
  free(layer->values);
}

nvfp4_weights test_layer_dense_weights(const test_layer *layer) {
  return (nvfp4_weights){.struct_size = sizeof(nvfp4_weights),
                         .n = layer->n,
                         .k = layer->k,
                         .dtype = layer->dtype,
                         .values = layer->values,
                         .values_stride_bytes = layer->k * (layer->dtype == NVFP4_DTYPE_F32 ? 4 : 2)};
}

nvfp4_weights test_layer_weights(const test_layer *layer) {
  return (nvfp4_weights){.struct_size = sizeof(nvfp4_weights),
                         .n = layer->n,
                         .k = layer->k,
                         .codes = layer->codes,
                         .codes_stride_bytes = layer->k / 2,
                         .scales = layer->scales,
                         .scales_stride_bytes = layer->k / 16};
}

nvfp4_layer_desc test_layer_desc(const test_layer *layer, nvfp4_mode mode) {
  bool dense = mode == NVFP4_MODE_UNQUANTISED;
  return (nvfp4_layer_desc){.struct_size = sizeof(nvfp4_layer_desc),
                            .name = "test",
                            .n = layer->n,
                            .k = layer->k,
                            .mode = mode,
                            .x_dtype = NVFP4_DTYPE_F32,
                            .y_dtype = NVFP4_DTYPE_F32,
                            .partitions = dense ? &layer->dense : layer->partitions,
                            .partition_count = dense ? 1 : layer->partition_count,
                            .weight_dtype = dense ? layer->dtype : NVFP4_DTYPE_NONE};
}

void test_layer_reference(const test_layer *layer, nvfp4_mode mode, const float *x, int64_t m, bool with_bias, float *y) {
  for (int64_t i = 0; mode == NVFP4_MODE_UNQUANTISED && i < m * layer->n; i++) {
    int64_t n = i % layer->n;
    float acc = nvfp4_spec_w16a16(x + i / layer->n * layer->k, layer->w + n * layer->k, layer->k);
    y[i] = nvfp4_spec_finish(acc, layer->dense.weight.value, with_bias ? &layer->bias[n] : NULL);
  }
  if (mode == NVFP4_MODE_UNQUANTISED) {
    return;
  }
  uint8_t *codes = malloc((size_t)layer->k / 2), *scales = malloc((size_t)layer->k / 16);
  for (int64_t p = 0; p < layer->partition_count; p++) {
    const nvfp4_partition *partition = &layer->partitions[p];
    float alpha;
    assert_int_equal(nvfp4_partition_alpha(partition, mode, &alpha, NULL), NVFP4_OK);
    for (int64_t row = 0; row < m; row++) {
      if (mode == NVFP4_MODE_W4A4) {
        nvfp4_quantise_activation_row(x + row * layer->k, layer->k, nvfp4_activation_factor(partition->input), codes, scales);
      }
      for (int64_t n = partition->n_first; n < partition->n_first + partition->n_rows; n++) {
        nvfp4_spec_row w = {layer->codes + n * layer->k / 2, layer->scales + n * layer->k / 16};
        float acc = mode == NVFP4_MODE_W4A4 ? nvfp4_spec_w4a4((nvfp4_spec_row){codes, scales}, w, layer->k)
                                            : nvfp4_spec_w4a16(x + row * layer->k, w, layer->k);
        y[row * layer->n + n] = nvfp4_spec_finish(acc, alpha, with_bias ? &layer->bias[n] : NULL);
      }
    }
  }
  free(codes);
  free(scales);
}

void *test_layer_run(const nvfp4_options *options, const test_layer *test, const nvfp4_layer_desc *desc, const void *x, int64_t m) {
  nvfp4_reason reason = {0};
  nvfp4_context *context = NULL;
  nvfp4_plan *plan = NULL;
  nvfp4_layer *layer = NULL;
  nvfp4_weights weights = desc->mode == NVFP4_MODE_UNQUANTISED ? test_layer_dense_weights(test) : test_layer_weights(test);
  assert_ok(nvfp4_context_create(options, &context, &reason), reason);
  assert_ok(nvfp4_init_linear_kernel(context, desc, NULL, &plan, NULL, &reason), reason);
  assert_ok(nvfp4_layer_create(context, plan, &weights, &layer, &reason), reason);
  size_t y_bytes = (size_t)(m * desc->n) * (desc->y_dtype == NVFP4_DTYPE_F32 ? 4 : 2);
  size_t bytes = (size_t)nvfp4_round_up((int64_t)nvfp4_layer_workspace_bytes(layer, m), 64);
  void *y = malloc(y_bytes), *workspace = aligned_alloc(64, bytes > 0 ? bytes : 64);
  memset(y, 0xFF, y_bytes);
  nvfp4_apply_args args = {.struct_size = sizeof args,
                           .m = m,
                           .x = x,
                           .ldx_elems = desc->k,
                           .bias = desc->bias_dtype != NVFP4_DTYPE_NONE ? test->bias : NULL,
                           .y = y,
                           .ldy_elems = desc->n,
                           .workspace = workspace,
                           .workspace_bytes = bytes};
  assert_ok(nvfp4_layer_apply(layer, &args, &reason), reason);
  free(workspace);
  nvfp4_layer_destroy(layer);
  nvfp4_plan_free(plan);
  nvfp4_context_destroy(context);
  return y;
}
