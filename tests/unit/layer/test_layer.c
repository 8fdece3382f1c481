/* SPDX-License-Identifier: Apache-2.0 */
#include <math.h>
#include <stdlib.h>

#include "format/activation.h"
#include "format/scale_layout.h"
#include "layer/layer.h"
#include "layer_support.h"

enum { M = 5, N = 70, K = 64 };

typedef struct fixture {
  nvfp4_context *context;
  test_layer test;
  nvfp4_layer_desc desc;
  nvfp4_plan *plan;
  nvfp4_layer *layer;
  float x[M * K], y[M * N];
  void *workspace;
  nvfp4_apply_args args;
} fixture;

/* Four partitions, the first three of which share their input global, and two of these all: two runs, and alphas that neighbours share. */
static void open_fixture(fixture *f, nvfp4_mode mode) {
  nvfp4_reason reason = {0};
  memset(f, 0, sizeof *f);
  f->test = test_layer_make(N, K, 21);
  f->test.partition_count = 4;
  f->test.partitions[0] = (nvfp4_partition){0, 33, {0x1.1p-8f, false}, {0x1.7p-7f, false}};
  f->test.partitions[1] = (nvfp4_partition){33, 12, {0x1.9p-9f, false}, {0x1.7p-7f, false}};
  f->test.partitions[2] = (nvfp4_partition){45, 8, {0x1.9p-9f, false}, {0x1.7p-7f, false}};
  f->test.partitions[3] = (nvfp4_partition){53, 17, {330.0f, true}, {77.0f, true}};
  f->desc = test_layer_desc(&f->test, mode);
  f->desc.m_first = 1;
  f->desc.m_last = 8;
  nvfp4_weights weights = test_layer_weights(&f->test);
  assert_ok(nvfp4_context_create(NULL, &f->context, &reason), reason);
  assert_ok(nvfp4_init_linear_kernel(f->context, &f->desc, NULL, &f->plan, NULL, &reason), reason);
  assert_ok(nvfp4_layer_create(f->context, f->plan, &weights, &f->layer, &reason), reason);
  test_random random = {4};
  for (int i = 0; i < M * K; i++) {
    f->x[i] = test_random_gauss(&random);
  }
  size_t bytes = nvfp4_layer_workspace_bytes(f->layer, M);
  f->workspace = aligned_alloc(64, (bytes + 63) / 64 * 64);
  f->args = (nvfp4_apply_args){.struct_size = sizeof f->args,
                               .m = M,
                               .x = f->x,
                               .ldx_elems = K,
                               .y = f->y,
                               .ldy_elems = N,
                               .workspace = f->workspace,
                               .workspace_bytes = bytes};
}

static void close_fixture(fixture *f) {
  free(f->workspace);
  nvfp4_layer_destroy(f->layer);
  nvfp4_plan_free(f->plan);
  nvfp4_context_destroy(f->context);
  test_layer_free(&f->test);
}

static void check_partitions(nvfp4_mode mode) {
  fixture f;
  nvfp4_reason reason = {0};
  float want[M * N];
  open_fixture(&f, mode);
  test_layer_reference(&f.test, mode, f.x, M, false, want);
  assert_ok(nvfp4_layer_apply(f.layer, &f.args, &reason), reason);
  assert_memory_equal(f.y, want, sizeof want);
  close_fixture(&f);
}

static void test_partitions(void **state) {
  (void)state;
  check_partitions(NVFP4_MODE_W4A4);
  check_partitions(NVFP4_MODE_W4A16);
}

/* Wider rows of x and y, and of the weights: what lies between the rows is neither read as data nor written. */
static void test_strides(void **state) {
  (void)state;
  enum { LDX = K + 7, LDY = N + 5, STRIDE = K };
  nvfp4_reason reason = {0};
  fixture f;
  open_fixture(&f, NVFP4_MODE_W4A16);
  float want[M * N], wide_x[M * LDX], wide_y[M * LDY];
  test_layer_reference(&f.test, NVFP4_MODE_W4A16, f.x, M, false, want);
  uint8_t *codes = malloc(N * STRIDE), *scales = malloc(N * STRIDE);
  memset(codes, 0x77, N * STRIDE);
  memset(scales, 0x7F, N * STRIDE); /* NaN: a read beyond a row would show */
  for (int n = 0; n < N; n++) {
    memcpy(codes + n * STRIDE, f.test.codes + n * K / 2, K / 2);
    memcpy(scales + n * STRIDE, f.test.scales + n * K / 16, K / 16);
  }
  for (int i = 0; i < M * LDX; i++) {
    wide_x[i] = i % LDX < K ? f.x[i / LDX * K + i % LDX] : NAN;
  }
  for (int i = 0; i < M * LDY; i++) {
    wide_y[i] = 1234.5f;
  }
  nvfp4_weights weights = test_layer_weights(&f.test);
  weights.codes = codes;
  weights.scales = scales;
  weights.codes_stride_bytes = weights.scales_stride_bytes = STRIDE;
  nvfp4_layer_destroy(f.layer);
  assert_ok(nvfp4_layer_create(f.context, f.plan, &weights, &f.layer, &reason), reason);
  free(codes); /* packed weights of this layout are copies */
  free(scales);
  assert_false(nvfp4_layer_borrows_weights(f.layer));
  f.args.x = wide_x;
  f.args.ldx_elems = LDX;
  f.args.y = wide_y;
  f.args.ldy_elems = LDY;
  assert_ok(nvfp4_layer_apply(f.layer, &f.args, &reason), reason);
  for (int i = 0; i < M * LDY; i++) {
    assert_f32_bits(wide_y[i], i % LDY < N ? want[i / LDY * N + i % LDY] : 1234.5f);
  }
  close_fixture(&f);
}

/* Activations that come quantised give the bits of those that the layer quantises itself, in every scale layout. */
static void test_quantised_x(void **state) {
  (void)state;
  nvfp4_reason reason = {0};
  test_layer test = test_layer_make(N, K, 31);
  nvfp4_layer_desc desc = test_layer_desc(&test, NVFP4_MODE_W4A4);
  nvfp4_context *context;
  nvfp4_plan *plan;
  nvfp4_layer *layer;
  nvfp4_weights weights = test_layer_weights(&test);
  assert_ok(nvfp4_context_create(NULL, &context, &reason), reason);
  assert_ok(nvfp4_init_linear_kernel(context, &desc, NULL, &plan, NULL, &reason), reason);
  assert_ok(nvfp4_layer_create(context, plan, &weights, &layer, &reason), reason);
  float x[M * K], want[M * N], y[M * N];
  test_random random = {4};
  for (int i = 0; i < M * K; i++) {
    x[i] = test_random_gauss(&random);
  }
  test_layer_reference(&test, NVFP4_MODE_W4A4, x, M, false, want);
  uint8_t codes[M * K / 2], linear[M * K / 16], tiled[512];
  for (int m = 0; m < M; m++) {
    nvfp4_quantise_activation_row(x + m * K, K, nvfp4_activation_factor(test.partitions[0].input), codes + m * K / 2, linear + m * K / 16);
  }
  size_t bytes = nvfp4_layer_workspace_bytes(layer, M);
  void *workspace = aligned_alloc(64, (bytes + 63) / 64 * 64);
  for (int layout = NVFP4_SCALES_LINEAR; layout <= NVFP4_SCALES_8X4; layout++) {
    assert_true(nvfp4_scales_bytes((nvfp4_scale_layout)layout, M, K / 16) <= sizeof tiled);
    nvfp4_scales_from_linear((nvfp4_scale_layout)layout, linear, K / 16, M, K / 16, tiled);
    nvfp4_quantised_x q = {.codes = codes,
                           .codes_stride_bytes = K / 2,
                           .scales = tiled,
                           .scale_layout = (nvfp4_scale_layout)layout,
                           .scales_stride_bytes = layout == NVFP4_SCALES_LINEAR ? K / 16 : 0,
                           .input = test.partitions[0].input};
    nvfp4_apply_args args = {
        .struct_size = sizeof args, .m = M, .quantised_x = &q, .y = y, .ldy_elems = N, .workspace = workspace, .workspace_bytes = bytes};
    memset(y, 0xFF, sizeof y);
    assert_ok(nvfp4_layer_apply(layer, &args, &reason), reason);
    assert_memory_equal(y, want, sizeof want);
    q.input.value *= 2.0f;
    assert_int_equal(nvfp4_layer_apply(layer, &args, &reason), NVFP4_E_ARG);
    assert_non_null(strstr(reason.text, "multiplier"));
  }
  free(workspace);
  nvfp4_layer_destroy(layer);
  nvfp4_plan_free(plan);
  nvfp4_context_destroy(context);
  test_layer_free(&test);
}

/* Every refusal of apply: status and a word of its text; y stays as it was. */
static void test_apply_refusals(void **state) {
  (void)state;
  fixture f;
  open_fixture(&f, NVFP4_MODE_W4A4);
  float one = 1.0f;
  nvfp4_quantised_x q = {.codes = (const uint8_t *)f.x,
                         .codes_stride_bytes = K / 2,
                         .scales = (const uint8_t *)f.x,
                         .scales_stride_bytes = K / 16,
                         .input = f.test.partitions[0].input};
  nvfp4_apply_args good = f.args;
  struct {
    nvfp4_apply_args args;
    nvfp4_status status;
    const char *word;
  } cases[12];
  int count = 0;
#define REFUSED(change, expected, text) \
  do {                                  \
    nvfp4_apply_args args = good;       \
    change;                             \
    cases[count].args = args;           \
    cases[count].status = expected;     \
    cases[count++].word = text;         \
  } while (0)
  REFUSED(args.struct_size = 8, NVFP4_E_ARG, "struct_size");
  REFUSED(args.m = -1, NVFP4_E_ARG, "M >= 0");
  REFUSED(args.m = 9, NVFP4_E_SHAPE, "M = 9");
  REFUSED(args.x = NULL, NVFP4_E_ARG, "x is NULL");
  REFUSED(args.y = NULL, NVFP4_E_ARG, "y is NULL");
  REFUSED(args.ldx_elems = K - 1, NVFP4_E_SHAPE, "ldx is 63");
  REFUSED(args.ldy_elems = N - 1, NVFP4_E_SHAPE, "ldy is 69");
  REFUSED(args.bias = &one, NVFP4_E_ARG, "without");
  REFUSED(args.row_alpha = &one, NVFP4_E_UNSUPPORTED, "row_alpha");
  REFUSED(args.workspace_bytes -= 1, NVFP4_E_ARG, "workspace");
  REFUSED(args.workspace = (char *)args.workspace + 4, NVFP4_E_ARG, "64-byte aligned");
  REFUSED((args.x = NULL, args.quantised_x = &q), NVFP4_E_ARG, "rows from 53");
#undef REFUSED
  memset(f.y, 0xAB, sizeof f.y);
  for (int i = 0; i < count; i++) {
    nvfp4_reason reason = {0};
    assert_int_equal(nvfp4_layer_apply(f.layer, &cases[i].args, &reason), cases[i].status);
    assert_int_equal(reason.status, cases[i].status);
    if (strstr(reason.text, cases[i].word) == NULL) {
      fail_msg("case %d: \"%s\" does not contain \"%s\"", i, reason.text, cases[i].word);
    }
  }
  for (size_t i = 0; i < sizeof f.y; i++) {
    assert_int_equal(((uint8_t *)f.y)[i], 0xAB);
  }
  f.args.m = 0; /* nothing to do: neither x nor y is looked at */
  f.args.x = NULL;
  f.args.y = NULL;
  assert_int_equal(nvfp4_layer_apply(f.layer, &f.args, NULL), NVFP4_OK);
  close_fixture(&f);
}

static void test_create_refusals(void **state) {
  (void)state;
  fixture f;
  open_fixture(&f, NVFP4_MODE_W4A4);
  nvfp4_layer *layer = NULL;
  nvfp4_reason reason = {0};
  nvfp4_weights weights = test_layer_weights(&f.test);
  f.test.scales[9 * (K / 16) + 1] = 0x7F;
  assert_int_equal(nvfp4_layer_create(f.context, f.plan, &weights, &layer, &reason), NVFP4_E_FORMAT);
  assert_non_null(strstr(reason.text, "NaN) at row 9, block 1"));
  f.test.scales[9 * (K / 16) + 1] = 0xB8;
  assert_int_equal(nvfp4_layer_create(f.context, f.plan, &weights, &layer, &reason), NVFP4_E_FORMAT);
  assert_non_null(strstr(reason.text, "negative) at row 9, block 1"));
  f.test.scales[9 * (K / 16) + 1] = 0;
  weights.k = K - 16;
  assert_int_equal(nvfp4_layer_create(f.context, f.plan, &weights, &layer, &reason), NVFP4_E_SHAPE);
  weights.k = K;
  weights.codes_stride_bytes = K / 2 - 1;
  assert_int_equal(nvfp4_layer_create(f.context, f.plan, &weights, &layer, &reason), NVFP4_E_SHAPE);
  weights.codes_stride_bytes = K / 2;
  weights.memory = NVFP4_MEMORY_CUDA;
  assert_int_equal(nvfp4_layer_create(f.context, f.plan, &weights, &layer, &reason), NVFP4_E_UNSUPPORTED);
  assert_null(layer);
  close_fixture(&f);
}

/* A dense layer of two partitions with factors of their own, over rows with a gap; and weights that do not fit. */
static void test_dense(void **state) {
  (void)state;
  enum { DENSE_K = K - 1, GAP = 3 };
  static uint8_t values[N * (DENSE_K * 2 + GAP)];
  test_layer test = test_layer_make(N, DENSE_K, 22); /* F16 by the seed */
  assert_int_equal(test.dtype, NVFP4_DTYPE_F16);
  for (int n = 0; n < N; n++) {
    memcpy(values + n * (DENSE_K * 2 + GAP), (uint8_t *)test.values + n * DENSE_K * 2, DENSE_K * 2);
  }
  nvfp4_weights weights = test_layer_dense_weights(&test);
  weights.values = values;
  weights.values_stride_bytes = DENSE_K * 2 + GAP;
  const nvfp4_partition partitions[] = {{.n_rows = 20, .weight.value = 0.37f}, {.n_first = 20, .n_rows = N - 20, .weight.value = 3.1f}};
  nvfp4_layer_desc desc = test_layer_desc(&test, NVFP4_MODE_UNQUANTISED);
  desc.partitions = partitions;
  desc.partition_count = 2;
  nvfp4_reason reason = {0};
  nvfp4_context *context = NULL;
  nvfp4_plan *plan = NULL;
  nvfp4_layer *layer = NULL;
  assert_ok(nvfp4_context_create(NULL, &context, &reason), reason);
  assert_ok(nvfp4_init_linear_kernel(context, &desc, NULL, &plan, NULL, &reason), reason);
  assert_ok(nvfp4_layer_create(context, plan, &weights, &layer, &reason), reason);
  float x[M * DENSE_K], y[M * N], want[M * N];
  test_random random = {4};
  for (int i = 0; i < M * DENSE_K; i++) {
    x[i] = test_random_gauss(&random);
  }
  test.dense.weight.value = 1;
  test_layer_reference(&test, NVFP4_MODE_UNQUANTISED, x, M, false, want);
  size_t bytes = nvfp4_layer_workspace_bytes(layer, M);
  void *workspace = aligned_alloc(64, (bytes + 63) / 64 * 64);
  nvfp4_apply_args args = {.struct_size = sizeof args,
                           .m = M,
                           .x = x,
                           .ldx_elems = DENSE_K,
                           .y = y,
                           .ldy_elems = N,
                           .workspace = workspace,
                           .workspace_bytes = bytes};
  assert_ok(nvfp4_layer_apply(layer, &args, &reason), reason);
  for (int i = 0; i < M * N; i++) {
    assert_f32_bits(y[i], want[i] * (i % N < 20 ? 0.37f : 3.1f));
  }
  free(workspace);
  nvfp4_layer_destroy(layer);
  nvfp4_weights bad = weights;
  bad.dtype = NVFP4_DTYPE_BF16;
  assert_int_equal(nvfp4_layer_create(context, plan, &bad, &layer, &reason), NVFP4_E_DTYPE);
  assert_non_null(strstr(reason.text, "the weights' dtype is BF16; the layer is described with weight_dtype F16"));
  bad = weights;
  bad.values = NULL;
  assert_int_equal(nvfp4_layer_create(context, plan, &bad, &layer, &reason), NVFP4_E_ARG);
  bad = weights;
  bad.values_stride_bytes = DENSE_K * 2 - 1;
  assert_int_equal(nvfp4_layer_create(context, plan, &bad, &layer, &reason), NVFP4_E_SHAPE);
  nvfp4_plan_free(plan);
  nvfp4_context_destroy(context);
  test_layer_free(&test);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_partitions),  cmocka_unit_test(test_dense),          cmocka_unit_test(test_strides),
      cmocka_unit_test(test_quantised_x), cmocka_unit_test(test_apply_refusals), cmocka_unit_test(test_create_refusals),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
