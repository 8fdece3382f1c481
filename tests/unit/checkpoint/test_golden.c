/* SPDX-License-Identifier: Apache-2.0 */
#define _POSIX_C_SOURCE 200809L
/*
 * Mirrors no single source (scripts/lint/mirror.py knows): the whole way from a file to numbers, on every golden checkpoint: written by the tools people use, opened by
 * checkpoint.c, safetensors.c, gguf.c, layers.c, dequantised by format/weight.c. And every broken file, which must be refused in words that help.
 */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "format/e2m1.h"
#include "format/e4m3.h"
#include "support.h"

typedef struct golden {
  const char *path, *expected;
  size_t nvfp4, fp8, plain; /* layers of each kind */
  nvfp4_mode mode;          /* of the NVFP4 layers */
  nvfp4_layout_kind layout;
} golden;

#define HF(name, nvfp4, fp8, plain, mode, layout) \
  { GOLDEN name, GOLDEN name "/expected.safetensors", nvfp4, fp8, plain, NVFP4_MODE_##mode, NVFP4_LAYOUT_##layout }
#define FILE_OF(name, nvfp4, plain, mode, layout) \
  { GOLDEN "gguf_mlx/" name, NULL, nvfp4, 0, plain, NVFP4_MODE_##mode, NVFP4_LAYOUT_##layout }

/* Counts of NVFP4 linears: tests/golden/README.md. Plain ones: embedding and lm_head. */
static const golden goldens[] = {
    HF("ct_mixed_fp8", 6, 8, 2, W4A4, COMPRESSED_TENSORS),
    HF("ct_nvfp4", 14, 0, 2, W4A4, COMPRESSED_TENSORS),
    HF("ct_nvfp4a16", 14, 0, 2, W4A16, COMPRESSED_TENSORS),
    HF("modelopt_mixed", 6, 8, 2, W4A4, MODELOPT),
    HF("modelopt_nvfp4", 14, 0, 2, W4A4, MODELOPT),
    HF("modelopt_nvfp4_bias", 14, 0, 2, W4A4, MODELOPT),
    HF("modelopt_nvfp4_lmhead", 15, 0, 1, W4A4, MODELOPT),
    HF("modelopt_nvfp4_sharded", 14, 0, 2, W4A4, MODELOPT),
    HF("modelopt_nvfp4_split", 14, 0, 2, W4A4, MODELOPT),
    HF("modelopt_w4a16", 14, 0, 2, W4A16, MODELOPT),
    FILE_OF("llama-modelopt-nvfp4.gguf", 14, 2, W4A4, GGUF),
    FILE_OF("llama-quantize-nvfp4.gguf", 7, 1, W4A16, GGUF),
    FILE_OF("mlx-nvfp4.safetensors", 4, 0, W4A16, MLX),
    {GOLDEN "comfy/comfy-nvfp4.safetensors", GOLDEN "comfy/expected.safetensors", 3, 0, 0, NVFP4_MODE_W4A16, NVFP4_LAYOUT_COMFY},
};

static nvfp4_checkpoint *open_golden(const char *path) {
  nvfp4_checkpoint *checkpoint = NULL;
  nvfp4_reason reason;
  assert_ok(nvfp4_checkpoint_open(path, 0, &checkpoint, &reason), reason);
  return checkpoint;
}

/* The file with the expected values of a golden file. */
static nvfp4_checkpoint *open_expected(const golden *g) {
  if (g->expected != NULL) {
    return open_golden(g->expected);
  }
  char path[256];
  snprintf(path, sizeof path, "%.*s.expected.safetensors", (int)(strrchr(g->path, '.') - g->path), g->path);
  return open_golden(path);
}

static void every_layer_has_its_mode(void **state) {
  (void)state;
  for (size_t i = 0; i < sizeof goldens / sizeof goldens[0]; i++) {
    const golden *g = &goldens[i];
    nvfp4_checkpoint *checkpoint = open_golden(g->path);
    size_t nvfp4 = 0, fp8 = 0, plain = 0;
    for (size_t j = 0; j < nvfp4_checkpoint_layer_count(checkpoint); j++) {
      const nvfp4_layer_info *layer = nvfp4_checkpoint_layer(checkpoint, j);
      assert_ptr_equal(nvfp4_checkpoint_find_layer(checkpoint, layer->name), layer);
      if (layer->layout == NVFP4_LAYOUT_NONE) {
        fp8 += layer->mode == NVFP4_MODE_FP8;
        plain += layer->mode == NVFP4_MODE_UNQUANTISED;
        assert_int_equal(layer->partition_count, layer->mode == NVFP4_MODE_FP8);
        assert_true(layer->mode != NVFP4_MODE_FP8 || (layer->partitions[0].n_rows == layer->n && layer->partitions[0].input.value > 0));
        assert_string_not_equal(layer->note, "");
        continue;
      }
      nvfp4++;
      assert_int_equal(layer->layout, g->layout);
      assert_int_equal(layer->mode, g->mode);
      assert_int_equal(layer->partition_count, 1);
      assert_int_equal(layer->partitions[0].n_rows, layer->n);
      assert_int_equal(layer->partitions[0].input.value != 0, g->mode == NVFP4_MODE_W4A4);
      bool mlx = g->layout == NVFP4_LAYOUT_MLX && strncmp(layer->name, "global", 6) == 0;
      assert_int_equal(layer->partitions[0].weight.kind, g->layout == NVFP4_LAYOUT_COMPRESSED_TENSORS ? NVFP4_GLOBAL_DIVISOR
                                                         : mlx                                        ? NVFP4_GLOBAL_AMAX
                                                                                                      : NVFP4_GLOBAL_MULTIPLIER);
      bool has_bias = strstr(g->path, "_bias") != NULL && strstr(layer->name, "self_attn") != NULL && strstr(layer->name, "o_proj") == NULL;
      assert_int_equal(layer->bias != NULL, has_bias);
    }
    if (nvfp4 != g->nvfp4 || fp8 != g->fp8 || plain != g->plain) {
      fail_msg("%s: %zu NVFP4, %zu FP8, %zu plain layers; needs %zu, %zu, %zu", g->path, nvfp4, fp8, plain, g->nvfp4, g->fp8, g->plain);
    }
    if (nvfp4_checkpoint_warning(checkpoint, 0) != NULL) {
      fail_msg("%s: %s", g->path, nvfp4_checkpoint_warning(checkpoint, 0));
    }
    nvfp4_checkpoint_close(checkpoint);
  }
}

/* Dequantises a layer and compares with L.w, bit for bit. Comfy has rows of padding on disk, which must be zero. */
static void check_weights(const nvfp4_checkpoint *checkpoint, const nvfp4_layer_info *layer, const nvfp4_tensor *expected) {
  nvfp4_weights weights;
  void *owned = NULL;
  nvfp4_reason reason;
  assert_ok(nvfp4_checkpoint_weights(checkpoint, layer, &weights, &owned, &reason), reason);
  assert_int_equal(owned != NULL, layer->layout == NVFP4_LAYOUT_GGUF || layer->layout == NVFP4_LAYOUT_COMFY);
  assert_int_equal(expected->shape[1], layer->k);
  float *w = malloc((size_t)(layer->n * layer->k) * sizeof *w);
  assert_non_null(w);
  assert_ok(nvfp4_weights_dequantise(&weights, layer->partitions, layer->partition_count, 0, layer->n, w, &reason), reason);
  const uint8_t *want = expected->data;
  for (int64_t i = 0; i < layer->n * layer->k; i++) {
    float value = 0;
    if (i < expected->shape[0] * layer->k) {
      memcpy(&value, want + 4 * i, sizeof value);
    }
    /* ggml's table of codes holds integers, so the tool has no -0. */
    bool same_zero = layer->layout == NVFP4_LAYOUT_GGUF && w[i] == 0 && value == 0;
    if (!same_zero && f32_bits(w[i]) != f32_bits(value)) {
      fail_msg("%s: row %d, column %d is %a; needs %a", layer->name, (int)(i / layer->k), (int)(i % layer->k), (double)w[i], (double)value);
    }
  }
  free(w);
  nvfp4_weights_free(owned);
}

static void weights_are_those_of_the_tools(void **state) {
  (void)state;
  for (size_t i = 0; i < sizeof goldens / sizeof goldens[0]; i++) {
    nvfp4_checkpoint *checkpoint = open_golden(goldens[i].path), *expected = open_expected(&goldens[i]);
    size_t compared = 0;
    for (size_t j = 0; j < nvfp4_checkpoint_tensor_count(expected); j++) {
      const nvfp4_tensor *tensor = nvfp4_checkpoint_tensor(expected, j);
      size_t length = strlen(tensor->name);
      if (length < 2 || strcmp(tensor->name + length - 2, ".w") != 0) {
        continue;
      }
      char name[256];
      snprintf(name, sizeof name, "%.*s", (int)(length - 2), tensor->name);
      char *weight = goldens[i].layout == NVFP4_LAYOUT_GGUF ? strstr(name, ".weight") : NULL;
      if (weight != NULL) {
        *weight = '\0';
      }
      const nvfp4_layer_info *layer = nvfp4_checkpoint_find_layer(checkpoint, name);
      if (layer == NULL) {
        fail_msg("%s: no layer %s", goldens[i].path, name);
        continue;
      }
      check_weights(checkpoint, layer, tensor);
      compared++;
    }
    assert_true(compared > 0);
    nvfp4_checkpoint_close(expected);
    nvfp4_checkpoint_close(checkpoint);
  }
}

static void comfy_codes_and_scales_are_reordered(void **state) {
  (void)state;
  nvfp4_checkpoint *checkpoint = open_golden(GOLDEN "comfy/comfy-nvfp4.safetensors");
  nvfp4_checkpoint *expected = open_golden(GOLDEN "comfy/expected.safetensors");
  for (size_t i = 0; i < nvfp4_checkpoint_layer_count(checkpoint); i++) {
    const nvfp4_layer_info *layer = nvfp4_checkpoint_layer(checkpoint, i);
    const nvfp4_tensor *codes = golden_tensor(expected, layer->name, "codes_low_nibble_first");
    const nvfp4_tensor *scales = golden_tensor(expected, layer->name, "scale_linear");
    nvfp4_weights weights;
    void *owned = NULL;
    nvfp4_reason reason;
    assert_ok(nvfp4_checkpoint_weights(checkpoint, layer, &weights, &owned, &reason), reason);
    assert_int_equal(weights.codes_stride_bytes, codes->shape[1]);
    assert_int_equal(weights.scales_stride_bytes, scales->shape[1]);
    assert_memory_equal(weights.codes, codes->data, codes->bytes);
    assert_memory_equal(weights.scales, scales->data, scales->bytes);
    nvfp4_weights_free(owned);
  }
  nvfp4_checkpoint_close(expected);
  nvfp4_checkpoint_close(checkpoint);
}

/* MLX's own dequantiser in fp32, code * fl(scale * global), gives its bits if codes, scales and multiplier are its own. */
static void mlx_multiplier_is_that_of_mlx(void **state) {
  (void)state;
  nvfp4_checkpoint *checkpoint = open_golden(GOLDEN "gguf_mlx/mlx-nvfp4.safetensors");
  nvfp4_checkpoint *expected = open_golden(GOLDEN "gguf_mlx/mlx-nvfp4.expected.safetensors");
  for (size_t i = 0; i < nvfp4_checkpoint_layer_count(checkpoint); i++) {
    const nvfp4_layer_info *layer = nvfp4_checkpoint_layer(checkpoint, i);
    const uint8_t *want = golden_tensor(expected, layer->name, "w_mlx")->data;
    nvfp4_global global = layer->partitions[0].weight;
    float multiplier = global.kind == NVFP4_GLOBAL_AMAX ? global.value / 2688.0f : global.value;
    nvfp4_weights weights;
    void *owned = NULL;
    nvfp4_reason reason;
    assert_ok(nvfp4_checkpoint_weights(checkpoint, layer, &weights, &owned, &reason), reason);
    for (int64_t e = 0; e < layer->n * layer->k; e++) {
      uint8_t code = (uint8_t)(weights.codes[e / 2] >> 4 * (e % 2));
      float scale = nvfp4_e4m3_to_f32(weights.scales[e / NVFP4_BLOCK]) * multiplier, value;
      memcpy(&value, want + 4 * e, sizeof value);
      assert_f32_bits(nvfp4_e2m1_to_f32(code) * scale, value);
    }
  }
  nvfp4_checkpoint_close(expected);
  nvfp4_checkpoint_close(checkpoint);
}

/* ------------------------------------------------------------------------------------------------------------------- broken */

#define LAYER "model.layers.0.mlp.down_proj"

/* What the text must say, beyond being a refusal that names the tensor or the file. */
static const char *const says[][2] = {
    {"val_scale_nan_7f", LAYER ".weight_scale: NaN (0x7F) at row 9, block 1"},
    {"val_scale_nan_ff", LAYER ".weight_scale: NaN (0xFF) at row 0, block 0"},
    {"val_scale_negative", LAYER ".weight_scale: negative"},
    {"val_scale_negative", "at row 1, block 1"},
    {"val_scale2_", LAYER ".weight_scale_2"},
    {"val_input_scale_", LAYER ".input_scale"},
    {"val_ct_global_", LAYER ".weight_global_scale"},
    {"val_ct_input_global_", LAYER ".input_global_scale"},
    {"miss_weight_scale_2", LAYER ".weight_scale_2 is missing"},
    {"miss_weight_scale.", LAYER ".weight_scale is missing"},
    {"miss_weight.", LAYER ".weight is missing"},
    {"miss_ct_global", LAYER ".weight_global_scale is missing"},
    {"mixed_conventions", "weight_scale_2"},
    {"mixed_conventions", "weight_global_scale"},
    {"shape_k_not_16", "K = 72 is not a multiple of 16"},
    {"shape_k_odd_bytes", "K = 66 is not a multiple of 16"},
    {"shape_scale_cols", "[32, 2]"},
    {"shape_scale_cols", "group size 32?"},
    {"shape_scale_rows", "has shape [16, 4]"},
    {"shape_scale_rows", "needs [32, 4]"},
    {"shape_scale_swizzled_128", "swizzled on disk?"},
    {"shape_scale2_5", "has 5 entries"},
    {"shape_scale2_empty", "has 0 entries"},
    {"shape_n_zero", "N = 0"},
    {"dtype_weight_i8", LAYER ".weight is I8"},
    {"dtype_weight_f8", LAYER ".weight is F8_E4M3"},
    {"dtype_weight_bf16", LAYER ".weight is BF16"},
    {"dtype_scale_e5m2", "is F8_E5M2; NVFP4 block scales need F8_E4M3"},
    {"dtype_scale_f32", "is F32; NVFP4 block scales need F8_E4M3"},
    {"dtype_scale2_bf16", LAYER ".weight_scale_2 is BF16"},
    {"dir_miss_input_scale", LAYER ".input_scale is missing"},
    {"dir_group_size_32", "hf_quant_config.json: group_size is 32; NVFP4 needs 16"},
    {"dir_unknown_algo", "quant_algo \"NVFP5\" is unknown"},
    {"dir_config_deep", "hf_quant_config.json is not JSON"},
    {"dir_bad_regex", "re:(((("},
    {"dir_regex_catastrophic", "re:(([a-z._]+)+)+[0-9]$"},
    {"gguf_scale_nan_byte", "NaN (0x7F)"},
};

static void check_words(const char *file, const char *text) {
  char stem[128];
  snprintf(stem, sizeof stem, "%s", file);
  stem[strcspn(stem, "/")] = '\0';
  if (strstr(text, stem) == NULL && strstr(text, LAYER) == NULL && strstr(text, "config.json") == NULL && strstr(text, "re:") == NULL &&
      strstr(text, ".safetensors") == NULL) {
    fail_msg("%s: the text names neither tensor nor file: %s", file, text);
  }
  for (size_t i = 0; i < sizeof says / sizeof says[0]; i++) {
    if (strncmp(file, says[i][0], strlen(says[i][0])) == 0 && strstr(text, says[i][1]) == NULL) {
      fail_msg("%s: \"%s\" is not in: %s", file, says[i][1], text);
    }
  }
}

static void broken_files_are_refused(void **state) {
  (void)state;
  char *lines = test_read_file(GOLDEN "broken/EXPECT.tsv", NULL), *rest = NULL;
  size_t count = 0;
  for (char *line = strtok_r(lines, "\n", &rest); line != NULL; line = strtok_r(NULL, "\n", &rest)) {
    char *fields = NULL, *file = strtok_r(line, "\t", &fields), *kind = strtok_r(NULL, "\t", &fields);
    if (kind == NULL || strcmp(kind, "kind") == 0) {
      continue;
    }
    char path[256];
    snprintf(path, sizeof path, GOLDEN "broken/%s", file);
    nvfp4_checkpoint *checkpoint = NULL;
    nvfp4_reason reason = {.text = ""};
    struct timespec begin, end;
    clock_gettime(CLOCK_MONOTONIC, &begin);
    nvfp4_status status = nvfp4_checkpoint_open(path, 0, &checkpoint, &reason);
    clock_gettime(CLOCK_MONOTONIC, &end);
    double seconds = (double)(end.tv_sec - begin.tv_sec) + 1e-9 * (double)(end.tv_nsec - begin.tv_nsec);
    const char *warning = status == NVFP4_OK ? nvfp4_checkpoint_warning(checkpoint, 0) : NULL;
    print_message("%-36s %-12s %s\n", file, nvfp4_status_name(status), status != NVFP4_OK ? reason.text : warning != NULL ? warning : "");
    assert_true(seconds < 1);
    if (status == NVFP4_OK ? strcmp(kind, "error") == 0 : strcmp(kind, "ok") == 0) {
      fail_msg("%s: %s, but should be %s", file, status == NVFP4_OK ? "opens" : reason.text, kind);
    }
    if (status != NVFP4_OK) {
      assert_null(checkpoint);
      assert_int_equal(reason.status, status);
      check_words(file, reason.text);
    } else {
      assert_int_equal(nvfp4_checkpoint_layer_count(checkpoint), 1);
      assert_int_equal(nvfp4_checkpoint_layer(checkpoint, 0)->n, 32);
      assert_int_equal(nvfp4_checkpoint_layer(checkpoint, 0)->k, 64);
      assert_true((strcmp(kind, "error-or-warning") == 0 || strstr(file, "denormal") != NULL) == (warning != NULL));
    }
    nvfp4_checkpoint_close(checkpoint);
    count++;
  }
  free(lines);
  assert_true(count > 100);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(every_layer_has_its_mode),
      cmocka_unit_test(weights_are_those_of_the_tools),
      cmocka_unit_test(comfy_codes_and_scales_are_reordered),
      cmocka_unit_test(mlx_multiplier_is_that_of_mlx),
      cmocka_unit_test(broken_files_are_refused),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
