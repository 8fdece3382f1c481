/* SPDX-License-Identifier: Apache-2.0 */
/* FP8 layers: the bits of their definition, whatever kernel, type, batch and number of threads. */
#include <math.h>
#include <stdlib.h>

#include "format/e4m3.h"
#include "format/half.h"
#include "kernels/ref/spec.h"
#include "support.h"

enum { M = 5, N = 70, K = 1100, LDX = K + 3, LDY = N + 5, PARTS = 3 };

typedef struct problem {
  uint8_t w[N * K];
  float x[M * LDX], bias[N];
  nvfp4_partition parts[N];
  int64_t part_count;
} problem;

static void make(problem *p, bool dynamic, bool per_row) {
  test_random random = {17};
  for (int i = 0; i < N * K; i++) {
    do {
      p->w[i] = (uint8_t)test_random_u64(&random);
    } while (nvfp4_e4m3_is_nan(p->w[i]));
  }
  for (int i = 0; i < M * LDX; i++) {
    p->x[i] = (i / LDX == 1 ? 0.0f : 3.0f) * test_random_gauss(&random);
  }
  p->x[3 * LDX + 7] = 1e6f; /* saturates, or makes the rest of its row small */
  p->x[4 * LDX + 9] = NAN;
  for (int i = 0; i < N; i++) {
    p->bias[i] = test_random_gauss(&random);
  }
  p->part_count = per_row ? N : PARTS;
  for (int64_t i = 0; i < p->part_count; i++) {
    int64_t first = i * N / p->part_count, last = (i + 1) * N / p->part_count;
    p->parts[i] = (nvfp4_partition){first, last - first, {0.01f * (float)(1 + i), NVFP4_GLOBAL_MULTIPLIER}, {0, NVFP4_GLOBAL_MULTIPLIER}};
    p->parts[i].input.value = dynamic ? 0 : !per_row && i == 2 ? 0.013f : 0.007f; /* two runs */
  }
}

/* docs/numerics.md, one operation a line. fed: x as the layer was given it. */
static float expected(const problem *p, const float *fed, int m, int n, bool with_bias) {
  const nvfp4_partition *part = p->parts;
  while (n >= part->n_first + part->n_rows) {
    part++;
  }
  float amax = 0, scale = part->input.value, q[K], w[K];
  for (int k = 0; k < K; k++) {
    amax = fabsf(fed[m * LDX + k]) > amax ? fabsf(fed[m * LDX + k]) : amax;
  }
  bool dynamic = scale == 0;
  scale = !dynamic ? scale : amax > 0 ? amax / 448 : 1;
  for (int k = 0; k < K; k++) {
    q[k] = nvfp4_e4m3_to_f32(nvfp4_e4m3_from_f32(fed[m * LDX + k] / scale));
    w[k] = nvfp4_e4m3_to_f32(p->w[n * K + k]);
  }
  float acc = nvfp4_spec_w16a16(q, w, K);
  float alpha = dynamic ? part->weight.value : (float)((double)part->weight.value * (double)scale);
  if (!dynamic) {
    return nvfp4_spec_finish(acc, alpha, with_bias ? &p->bias[n] : NULL);
  }
  return nvfp4_spec_finish(alpha * acc, scale, with_bias ? &p->bias[n] : NULL);
}

static void check(const problem *p, const char *kernel, nvfp4_dtype dtype, bool with_bias, int threads) {
  nvfp4_reason reason = {0};
  nvfp4_options options = {
      .struct_size = sizeof options, .threads = threads, .policy = {.struct_size = sizeof options.policy, .kernel = kernel}};
  nvfp4_context *context;
  assert_ok(nvfp4_context_create(&options, &context, &reason), reason);
  nvfp4_layer_desc desc = {.struct_size = sizeof desc,
                           .n = N,
                           .k = K,
                           .mode = NVFP4_MODE_FP8,
                           .x_dtype = dtype,
                           .y_dtype = dtype,
                           .bias_dtype = with_bias ? NVFP4_DTYPE_F32 : NVFP4_DTYPE_NONE,
                           .partitions = p->parts,
                           .partition_count = p->part_count,
                           .weight_dtype = NVFP4_DTYPE_F8_E4M3};
  const nvfp4_weights weights = {
      .struct_size = sizeof weights, .n = N, .k = K, .dtype = NVFP4_DTYPE_F8_E4M3, .values = p->w, .values_stride_bytes = K};
  nvfp4_plan *plan;
  nvfp4_layer *layer;
  assert_ok(nvfp4_init_linear_kernel(context, &desc, NULL, &plan, NULL, &reason), reason);
  assert_ok(nvfp4_layer_create(context, plan, &weights, &layer, &reason), reason);
  static float fed[M * LDX], y[M * LDY];
  static uint32_t x_typed[M * LDX], y_typed[M * LDY];
  nvfp4_from_f32(p->x, dtype, x_typed, M * LDX);
  nvfp4_to_f32(x_typed, dtype, fed, M * LDX);
  for (int64_t rows = 1; rows <= M; rows += M - 1) {
    size_t bytes = nvfp4_layer_workspace_bytes(layer, rows), width = dtype == NVFP4_DTYPE_F32 ? 4 : 2;
    void *workspace = aligned_alloc(64, (bytes + 63) / 64 * 64 + 64);
    assert_non_null(workspace);
    for (int64_t m = 0; m < M; m += rows) {
      nvfp4_apply_args args = {.struct_size = sizeof args,
                               .m = rows,
                               .x = (char *)x_typed + (size_t)(m * LDX) * width,
                               .ldx_elems = LDX,
                               .bias = with_bias ? p->bias : NULL,
                               .y = (char *)y_typed + (size_t)(m * LDY) * width,
                               .ldy_elems = LDY,
                               .workspace = workspace,
                               .workspace_bytes = bytes};
      assert_ok(nvfp4_layer_apply(layer, &args, &reason), reason);
    }
    free(workspace);
    nvfp4_to_f32(y_typed, dtype, y, M * LDY);
    for (int m = 0; m < M; m++) {
      for (int n = 0; n < N; n++) {
        float want = expected(p, fed, m, n, with_bias), rounded;
        uint32_t typed = 0;
        nvfp4_from_f32(&want, dtype, &typed, 1);
        nvfp4_to_f32(&typed, dtype, &rounded, 1);
        if (f32_bits(y[m * LDY + n]) != f32_bits(rounded)) {
          fail_msg("%s, %s, row %d, column %d: %a, needs %a", kernel, nvfp4_dtype_name(dtype), m, n, (double)y[m * LDY + n],
                   (double)rounded);
        }
      }
    }
  }
  nvfp4_layer_destroy(layer);
  nvfp4_plan_free(plan);
  nvfp4_context_destroy(context);
}

static void has_the_bits_of_its_definition(void **state) {
  (void)state;
  static const nvfp4_dtype dtypes[] = {NVFP4_DTYPE_F32, NVFP4_DTYPE_BF16, NVFP4_DTYPE_F16};
  static problem p;
  for (int kind = 0; kind < 4; kind++) {
    make(&p, kind & 1, kind & 2);
    for (int i = 0; i < 3; i++) {
      check(&p, "ref_w16a16", dtypes[i], i != 1, 1);
      check(&p, "auto", dtypes[i], i != 1, 3);
    }
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(has_the_bits_of_its_definition)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
