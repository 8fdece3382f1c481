/* SPDX-License-Identifier: Apache-2.0 */
#include "model/linear.h"

#include <stdlib.h>

#include "checkpoint/checkpoint.h"
#include "format/e4m3.h"
#include "format/half.h"
#include "kernels/ref/spec.h"
#include "layer/context.h"
#include "support.h"

enum { N = 37, K = 192, M = 5 };

static float x[M * K], bias[N];
static uint8_t weight_bytes[N * K * 4];

/* Random weights of a type; block scales and floats are kept small and finite. */
static nvfp4_tensor random_weight(nvfp4_dtype dtype, test_random *random) {
  nvfp4_tensor tensor = {.name = "w.weight", .dtype = dtype, .rank = 2, .shape = {N, K}, .data = weight_bytes, .file = "test"};
  assert_true(nvfp4_dtype_bytes(dtype, N * K, &tensor.bytes));
  for (uint64_t i = 0; i < tensor.bytes; i++) {
    weight_bytes[i] = (uint8_t)test_random_u64(random);
  }
  size_t block = dtype == NVFP4_DTYPE_Q8_0 ? 34 : dtype == NVFP4_DTYPE_Q4_0 ? 18 : dtype == NVFP4_DTYPE_Q4_1 ? 20 : 0;
  for (size_t i = 0; block != 0 && i < tensor.bytes; i += block) {
    uint16_t scale = nvfp4_f16_from_f32(0.01f + 0.01f * test_random_uniform(random));
    memcpy(weight_bytes + i, &scale, 2);
    if (dtype == NVFP4_DTYPE_Q4_1) {
      memcpy(weight_bytes + i + 2, &scale, 2);
    }
  }
  for (size_t i = 0; i < N * K && block == 0; i++) {
    float value = test_random_gauss(random);
    if (dtype == NVFP4_DTYPE_F8_E4M3) {
      weight_bytes[i] = nvfp4_e4m3_from_f32(value);
    } else {
      nvfp4_from_f32(&value, dtype, weight_bytes + i * (dtype == NVFP4_DTYPE_F32 ? 4 : 2), 1);
    }
  }
  return tensor;
}

/* y of the canonical bits: rows of the weights' values times fed, with the factor `scale`. */
static void expect(const nvfp4_tensor *weight, float scale, const float *fed, bool with_bias, float *y) {
  float row[K];
  for (int n = 0; n < N; n++) {
    assert_int_equal(nvfp4_tensor_to_f32(weight, (uint64_t)n * K, K, row, NULL), NVFP4_OK);
    for (int m = 0; m < M; m++) {
      y[m * N + n] = nvfp4_spec_finish(nvfp4_spec_w16a16(fed + m * K, row, K), scale, with_bias ? &bias[n] : NULL);
    }
  }
}

/* Runs the layer with several numbers of threads and rows; every result has the bits of `want`. */
static void check(const nvfp4_checkpoint *checkpoint, const nvfp4_layer_info *info, nvfp4_model_options options, const float *want) {
  for (int threads = 1; threads <= 3; threads++) {
    nvfp4_reason reason = {0};
    nvfp4_options context_options = {.struct_size = sizeof context_options, .threads = threads};
    nvfp4_context *context = NULL;
    assert_ok(nvfp4_context_create(&context_options, &context, &reason), reason);
    nvfp4_linear linear;
    assert_ok(nvfp4_linear_create(context, checkpoint, info, &options, &linear, &reason), reason);
    nvfp4_linear_workspace workspace = {.threads = nvfp4_context_pool(context), .activation = options.activation};
    nvfp4_linear_workspace_need(&workspace, &linear, M);
    assert_ok(nvfp4_linear_workspace_alloc(&workspace, &reason), reason);
    static float y[M * N];
    for (int64_t rows = 1; rows <= M; rows += M - 1) {
      for (int64_t m = 0; m < M; m += rows) {
        assert_ok(nvfp4_linear_apply(&linear, &workspace, x + m * K, rows, y + m * N, &reason), reason);
      }
      assert_memory_equal(y, want, sizeof y);
    }
    nvfp4_linear_workspace_free(&workspace);
    nvfp4_linear_destroy(&linear);
    nvfp4_context_destroy(context);
  }
}

static void fill_x(test_random *random) {
  for (int i = 0; i < M * K; i++) {
    x[i] = test_random_gauss(random);
  }
  for (int i = 0; i < N; i++) {
    bias[i] = test_random_gauss(random);
  }
}

static void every_stored_type(void **state) {
  (void)state;
  static const nvfp4_dtype types[] = {NVFP4_DTYPE_F32,  NVFP4_DTYPE_F16,  NVFP4_DTYPE_BF16,
                                      NVFP4_DTYPE_Q8_0, NVFP4_DTYPE_Q4_0, NVFP4_DTYPE_Q4_1};
  static float want[M * N], fed[M * K];
  const nvfp4_checkpoint checkpoint = {0};
  test_random random = {3};
  fill_x(&random);
  nvfp4_tensor bias_tensor = {.name = "w.bias", .dtype = NVFP4_DTYPE_F32, .rank = 1, .shape = {N}, .data = bias, .bytes = sizeof bias};
  for (size_t i = 0; i < sizeof types / sizeof types[0]; i++) {
    nvfp4_tensor weight = random_weight(types[i], &random);
    nvfp4_layer_info info = {.name = "w", .n = N, .k = K, .weight = &weight, .bias = i % 2 == 0 ? &bias_tensor : NULL, .note = ""};
    nvfp4_model_options options = {.activation = NVFP4_DTYPE_F32, .batch_tokens = M};
    expect(&weight, 1, x, i % 2 == 0, want);
    check(&checkpoint, &info, options, want);
    options.activation = NVFP4_DTYPE_BF16;
    for (int j = 0; j < M * K; j++) {
      fed[j] = nvfp4_bf16_to_f32(nvfp4_bf16_from_f32(x[j]));
    }
    expect(&weight, 1, fed, i % 2 == 0, want);
    check(&checkpoint, &info, options, want);
  }
}

/* Activations are E4M3 with the input scale, unless W4A16 is asked for. */
static void fp8(void **state) {
  (void)state;
  static float want[M * N], fed[M * K];
  nvfp4_partition whole = {.n_rows = N, .weight.value = 0.03f, .input.value = 0.007f};
  test_random random = {4};
  fill_x(&random);
  const nvfp4_checkpoint checkpoint = {0};
  nvfp4_tensor weight = random_weight(NVFP4_DTYPE_F8_E4M3, &random);
  nvfp4_layer_info info = {
      .name = "w", .mode = NVFP4_MODE_FP8, .n = N, .k = K, .weight = &weight, .partitions = &whole, .partition_count = 1, .note = ""};
  nvfp4_model_options options = {.activation = NVFP4_DTYPE_F32, .batch_tokens = M};
  for (int j = 0; j < M * K; j++) {
    fed[j] = nvfp4_e4m3_to_f32(nvfp4_e4m3_from_f32(x[j] / whole.input.value));
  }
  expect(&weight, (float)((double)whole.weight.value * (double)whole.input.value), fed, false, want);
  check(&checkpoint, &info, options, want);
  options.mode = NVFP4_MODE_W4A16;
  expect(&weight, whole.weight.value, x, false, want);
  check(&checkpoint, &info, options, want);

  nvfp4_context *context = NULL;
  nvfp4_reason reason = {0};
  assert_ok(nvfp4_context_create(NULL, &context, &reason), reason);
  nvfp4_linear linear;
  options.mode = NVFP4_MODE_UNQUANTISED;
  whole.weight.value = -1;
  assert_int_equal(nvfp4_linear_create(context, &checkpoint, &info, &options, &linear, &reason), NVFP4_E_ARG);
  assert_non_null(strstr(reason.text, "weight global -1"));
  info.partition_count = 0;
  assert_int_equal(nvfp4_linear_create(context, &checkpoint, &info, &options, &linear, &reason), NVFP4_E_UNSUPPORTED);
  assert_non_null(strstr(reason.text, "needs a weight_scale"));
  weight.dtype = NVFP4_DTYPE_I8;
  info.mode = NVFP4_MODE_UNQUANTISED;
  assert_int_equal(nvfp4_linear_create(context, &checkpoint, &info, &options, &linear, &reason), NVFP4_E_UNSUPPORTED);
  nvfp4_context_destroy(context);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(every_stored_type), cmocka_unit_test(fp8)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
