/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE /* mkdtemp */
#include <math.h>

#include "unit/quantizer/quantizer_support.h"

static nvfp4_reason reason;

enum { N = 40, K = 96, ROWS = 20 };

static float weights[N * K], inputs[ROWS * K], importance[K], sketch[K * NVFP4_SKETCH_ROWS];

/* A job on a lone layer whose inputs are `inputs`: fewer rows than the sketch has, so that it holds them all. */
static nvfp4_quantize_job job_of(const char *folder, nvfp4_layer_input *input) {
  test_random random = {11};
  for (int i = 0; i < N * K; i++) {
    weights[i] = test_random_gauss(&random);
  }
  memset(sketch, 0, sizeof sketch);
  memset(importance, 0, sizeof importance);
  for (int row = 0; row < ROWS; row++) {
    for (int i = 0; i < K; i++) {
      float x = test_random_gauss(&random) * (i % 5 == 0 ? 8.0f : 1.0f);
      inputs[row * K + i] = x;
      sketch[i * NVFP4_SKETCH_ROWS + row] = row % 2 == 0 ? x : -x;
      importance[i] += x * x / ROWS;
    }
  }
  const test_tensor tensor = {"a.weight", NVFP4_DTYPE_F32, 2, {N, K}, weights};
  write_tensors(folder, "model.safetensors", &tensor, 1);
  nvfp4_quantize_job job = open_job(folder, NVFP4_LAYOUT_MODELOPT, 2);
  job.options.scales = NVFP4_SCALES_SWEEP;
  assert_ok(nvfp4_quantize_plan(&job, &reason), reason);
  assert_ok(nvfp4_quantize_measure(&job, &reason), reason);
  *input = (nvfp4_layer_input){.k = K, .rows = ROWS, .importance = importance, .sketch = sketch};
  job.tensors[0].input = input;
  return job;
}

typedef struct collected {
  uint8_t bytes[N * (K / 2 + K / 16)];
  size_t count;
} collected;

static nvfp4_status collect(void *cookie, const void *data, size_t bytes, nvfp4_reason *why) {
  (void)why;
  collected *c = cookie;
  assert_true(c->count + bytes <= sizeof c->bytes);
  memcpy(c->bytes + c->count, data, bytes);
  c->count += bytes;
  return NVFP4_OK;
}

/* Errors of the outputs are those of y = x w^T, in double; importance reaches the search, and makes them less. */
static void output_errors_are_those_of_the_outputs(void **state) {
  (void)state;
  char folder[256];
  nvfp4_layer_input input;
  nvfp4_quantize_job job = job_of(make_folder(folder), &input);
  float global;
  nvfp4_weight_global(&job, &job.tensors[0], &global);
  double relative[2];
  for (int weighted = 0; weighted < 2; weighted++) {
    job.options.importance = weighted == 1;
    nvfp4_rounding_error error;
    collected got = {.count = 0};
    assert_ok(nvfp4_quantize_round(&job, &job.tensors[0], NULL, collect, &got, &error, &reason), reason);
    uint8_t codes[N * K / 2], scales[N * K / 16];
    double want[2];
    assert_ok(
        nvfp4_quantise_matrix(weights, N, K, global, NVFP4_SCALES_SWEEP, weighted == 1 ? importance : NULL, codes, scales, want, &reason),
        reason);
    assert_int_equal(got.count, sizeof got.bytes);
    assert_memory_equal(got.bytes, codes, sizeof codes);
    assert_memory_equal(got.bytes + sizeof codes, scales, sizeof scales);
    assert_true(error.weight[0] == want[0] && error.weight[1] == want[1]);

    float q[N * K];
    const nvfp4_partition whole = {.n_rows = N, .weight = {global, NVFP4_GLOBAL_MULTIPLIER}};
    const nvfp4_weights made = {.struct_size = sizeof made,
                                .n = N,
                                .k = K,
                                .codes = codes,
                                .codes_stride_bytes = K / 2,
                                .scales = scales,
                                .scales_stride_bytes = K / 16};
    assert_ok(nvfp4_weights_dequantise(&made, &whole, 1, 0, N, q, &reason), reason);
    double sums[2] = {0, 0};
    for (int n = 0; n < N; n++) {
      for (int row = 0; row < ROWS; row++) {
        double y = 0, difference = 0;
        for (int i = 0; i < K; i++) {
          y += (double)inputs[row * K + i] * (double)weights[n * K + i];
          difference += (double)inputs[row * K + i] * ((double)weights[n * K + i] - (double)q[n * K + i]);
        }
        sums[0] += difference * difference;
        sums[1] += y * y;
      }
    }
    /* fp32 sums of 96 terms there; the terms are larger than their sums by far less than 2^9. */
    assert_true(fabs(error.output[0] - sums[0]) <= 0x1p-8 * sums[0] && fabs(error.output[1] - sums[1]) <= 0x1p-8 * sums[1]);
    relative[weighted] = nvfp4_relative_error(error.output);
  }
  assert_true(relative[1] < relative[0]);
  close_job(&job);
  remove_folder(folder);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(output_errors_are_those_of_the_outputs)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
