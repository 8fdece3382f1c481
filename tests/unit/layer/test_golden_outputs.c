/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Layers of the golden checkpoints: activation codes and scales bit for bit, outputs within the bound of the canonical order, and the same bits for any number of threads and rows. Mirrors
 * no single source: it holds the whole way from a file to y.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "format/activation.h"
#include "format/half.h"
#include "layer_support.h"

typedef struct golden {
  const char *checkpoint, *expected;
  int layers; /* with expected outputs */
} golden;

static const golden files[] = {
    {GOLDEN "modelopt_nvfp4", GOLDEN "modelopt_nvfp4/expected.safetensors", 4},
    {GOLDEN "modelopt_nvfp4_split", GOLDEN "modelopt_nvfp4_split/expected.safetensors", 4},
    {GOLDEN "modelopt_nvfp4_bias", GOLDEN "modelopt_nvfp4_bias/expected.safetensors", 4},
    {GOLDEN "modelopt_nvfp4_lmhead", GOLDEN "modelopt_nvfp4_lmhead/expected.safetensors", 2},
    {GOLDEN "modelopt_nvfp4_sharded", GOLDEN "modelopt_nvfp4_sharded/expected.safetensors", 1},
    {GOLDEN "modelopt_mixed", GOLDEN "modelopt_mixed/expected.safetensors", 1},
    {GOLDEN "modelopt_w4a16", GOLDEN "modelopt_w4a16/expected.safetensors", 1},
    {GOLDEN "ct_nvfp4", GOLDEN "ct_nvfp4/expected.safetensors", 4},
    {GOLDEN "ct_nvfp4a16", GOLDEN "ct_nvfp4a16/expected.safetensors", 4},
    {GOLDEN "ct_mixed_fp8", GOLDEN "ct_mixed_fp8/expected.safetensors", 1},
    {GOLDEN "comfy/comfy-nvfp4.safetensors", GOLDEN "comfy/expected.safetensors", 3},
    {GOLDEN "gguf_mlx/mlx-nvfp4.safetensors", GOLDEN "gguf_mlx/mlx-nvfp4.expected.safetensors", 4},
    {GOLDEN "gguf_mlx/llama-modelopt-nvfp4.gguf", GOLDEN "gguf_mlx/llama-modelopt-nvfp4.expected.safetensors", 3},
    {GOLDEN "gguf_mlx/llama-quantize-nvfp4.gguf", GOLDEN "gguf_mlx/llama-quantize-nvfp4.expected.safetensors", 3},
};

static float *floats_of(const nvfp4_tensor *tensor) {
  uint64_t count = 1;
  for (int i = 0; i < tensor->rank; i++) {
    count *= (uint64_t)tensor->shape[i];
  }
  float *values = malloc(count * sizeof *values);
  nvfp4_reason reason = {0};
  assert_ok(nvfp4_tensor_to_f32(tensor, 0, count, values, &reason), reason);
  return values;
}

/* y [rows, N] in fp32 of rows x [rows, K] in bf16. */
static float *apply(nvfp4_layer *layer, int64_t n, int64_t k, const nvfp4_tensor *bias, const uint16_t *x, int64_t rows) {
  size_t bytes = (nvfp4_layer_workspace_bytes(layer, rows) + 63) / 64 * 64;
  float *y = malloc((size_t)(rows * n) * sizeof *y);
  void *workspace = aligned_alloc(64, bytes);
  memset(y, 0xFF, (size_t)(rows * n) * sizeof *y);
  nvfp4_apply_args args = {.struct_size = sizeof args,
                           .m = rows,
                           .x = x,
                           .ldx_elems = k,
                           .bias = bias != NULL ? bias->data : NULL,
                           .y = y,
                           .ldy_elems = n,
                           .workspace = workspace,
                           .workspace_bytes = bytes};
  nvfp4_reason reason = {0};
  assert_ok(nvfp4_layer_apply(layer, &args, &reason), reason);
  free(workspace);
  return y;
}

typedef struct layer_case {
  const nvfp4_checkpoint *checkpoint, *expected;
  const nvfp4_layer_info *info;
  const char *key; /* of the expected tensors */
  const uint16_t *x;
  int64_t m;
} layer_case;

/*
 * The canonical order rounds K/16 times (W4A4) or K + K/16 times (W4A16) on the way to a sum, then once for alpha (itself rounded once) or the fmaf, and the
 * expected value was rounded to fp32: (K + K/16 + 3) u, within (K + 8) u * (1 + 1/16); abs_ is the sum of the terms' magnitudes with alpha and bias.
 */
static void check_mode(const layer_case *c, nvfp4_mode mode, const char *y_key, const char *abs_key) {
  nvfp4_weights weights;
  nvfp4_layer_desc desc;
  void *owned;
  nvfp4_reason reason = {0};
  float *want = floats_of(golden_tensor(c->expected, c->key, y_key)), *absolute = floats_of(golden_tensor(c->expected, c->key, abs_key));
  int64_t columns = golden_tensor(c->expected, c->key, y_key)->shape[1]; /* Comfy pads N on disk */
  assert_ok(nvfp4_layer_desc_from_checkpoint(c->info, &desc, &reason), reason);
  assert_ok(nvfp4_checkpoint_weights(c->checkpoint, c->info, &weights, &owned, &reason), reason);
  desc.mode = mode;
  desc.y_dtype = NVFP4_DTYPE_F32;
  float *first = NULL;
  for (int threads = 1; threads <= 3; threads++) {
    nvfp4_options options = {.struct_size = sizeof options, .threads = threads};
    nvfp4_context *context;
    nvfp4_plan *plan;
    nvfp4_layer *layer;
    assert_ok(nvfp4_context_create(&options, &context, &reason), reason);
    assert_ok(nvfp4_init_linear_kernel(context, &desc, NULL, &plan, NULL, &reason), reason);
    assert_ok(nvfp4_layer_create(context, plan, &weights, &layer, &reason), reason);
    float *y = apply(layer, desc.n, desc.k, c->info->bias, c->x, c->m);
    if (threads == 1) {
      first = y;
      for (int64_t row = 0; row < c->m; row++) { /* any M: each row alone */
        float *alone = apply(layer, desc.n, desc.k, c->info->bias, c->x + row * desc.k, 1);
        assert_memory_equal(alone, y + row * desc.n, (size_t)desc.n * sizeof *y);
        free(alone);
      }
    } else {
      assert_memory_equal(y, first, (size_t)(c->m * desc.n) * sizeof *y);
      free(y);
    }
    nvfp4_layer_destroy(layer);
    nvfp4_plan_free(plan);
    nvfp4_context_destroy(context);
  }
  for (int64_t i = 0; i < c->m * columns; i++) {
    double got = first[i / columns * desc.n + i % columns], k = (double)desc.k;
    double bound = (k + k / 16 + 3) * 0x1p-24 * 1.0001 * absolute[i] + 0x1p-149;
    if (!(fabs(got - want[i]) <= bound)) {
      fail_msg("%s %s row %lld column %lld: %a, expected %a, bound %g", c->key, y_key, (long long)(i / columns), (long long)(i % columns),
               got, (double)want[i], bound);
    }
  }
  free(first);
  free(want);
  free(absolute);
  nvfp4_weights_free(owned);
}

/* 0x0 and 0x8 are both zero. */
static int same_code(int a, int b) { return a == b || ((a & 7) == 0 && (b & 7) == 0); }

static void check_activations(const layer_case *c) {
  const nvfp4_tensor *codes = golden_tensor(c->expected, c->key, "a_codes"), *scales = golden_tensor(c->expected, c->key, "a_scale");
  float s_a, *x = malloc((size_t)(c->m * c->info->k) * sizeof *x);
  memcpy(&s_a, golden_tensor(c->expected, c->key, "a_global")->data, sizeof s_a);
  assert_f32_bits(nvfp4_activation_factor(c->info->partitions[0].input), s_a);
  nvfp4_to_f32(c->x, NVFP4_DTYPE_BF16, x, c->m * c->info->k);
  uint8_t *own_codes = malloc(codes->bytes), *own_scales = malloc(scales->bytes);
  for (int64_t m = 0; m < c->m; m++) {
    nvfp4_quantise_activation_row(x + m * c->info->k, c->info->k, s_a, own_codes + m * c->info->k / 2, own_scales + m * c->info->k / 16);
  }
  assert_memory_equal(own_scales, scales->data, scales->bytes);
  for (uint64_t i = 0; i < codes->bytes; i++) {
    int want = ((const uint8_t *)codes->data)[i];
    assert_true(same_code(own_codes[i] & 15, want & 15) && same_code(own_codes[i] >> 4, want >> 4));
  }
  free(x);
  free(own_codes);
  free(own_scales);
}

static void check_layer(const nvfp4_checkpoint *checkpoint, const nvfp4_checkpoint *expected, const nvfp4_tensor *x) {
  char key[256], name[256];
  snprintf(key, sizeof key, "%.*s", (int)(strlen(x->name) - 2), x->name);
  size_t length = strlen(key);
  bool gguf = length > 7 && strcmp(key + length - 7, ".weight") == 0; /* GGUF keys end in the tensor's ".weight" */
  snprintf(name, sizeof name, "%.*s", (int)(gguf ? length - 7 : length), key);
  layer_case c = {
      .checkpoint = checkpoint, .expected = expected, .key = key, .info = nvfp4_checkpoint_find_layer(checkpoint, name), .m = x->shape[0]};
  if (c.info == NULL) {
    fail_msg("no layer %s", name);
  }
  uint16_t *aligned = malloc(x->bytes);
  memcpy(aligned, x->data, x->bytes);
  c.x = aligned;
  assert_int_equal(x->shape[1], c.info->k);
  check_mode(&c, NVFP4_MODE_W4A16, "y_w4a16", "abs_w4a16");
  char y_w4a4[300];
  snprintf(y_w4a4, sizeof y_w4a4, "%s.y_w4a4", key);
  if (nvfp4_checkpoint_find(expected, y_w4a4) != NULL) {
    assert_int_equal(c.info->mode, NVFP4_MODE_W4A4);
    check_activations(&c);
    check_mode(&c, NVFP4_MODE_W4A4, "y_w4a4", "abs_w4a4");
  }
  free(aligned);
}

static void test_outputs(void **state) {
  (void)state;
  for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
    nvfp4_checkpoint *checkpoint, *expected;
    nvfp4_reason reason = {0};
    int layers = 0;
    assert_ok(nvfp4_checkpoint_open(files[i].checkpoint, 0, &checkpoint, &reason), reason);
    assert_ok(nvfp4_checkpoint_open(files[i].expected, 0, &expected, &reason), reason);
    for (size_t t = 0; t < nvfp4_checkpoint_tensor_count(expected); t++) {
      const nvfp4_tensor *tensor = nvfp4_checkpoint_tensor(expected, t);
      size_t length = strlen(tensor->name);
      if (length > 2 && strcmp(tensor->name + length - 2, ".x") == 0) {
        check_layer(checkpoint, expected, tensor);
        layers++;
      }
    }
    assert_int_equal(layers, files[i].layers);
    nvfp4_checkpoint_close(expected);
    nvfp4_checkpoint_close(checkpoint);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_outputs)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
