/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE /* mkdtemp */
#include <math.h>

#include "format/e2m1.h"
#include "format/e4m3.h"
#include "model/linear.h"
#include "unit/converter/converter_support.h"

static nvfp4_reason reason;

typedef struct golden {
  const char *path;
  nvfp4_layout_kind layout;
  const char *not_gguf, *not_mlx; /* a layer that those cannot hold, and so is lost there */
  const char *block;              /* a tensor of a ggml type, lost everywhere else */
} golden;

#define FP8 "model.layers.0.self_attn.k_proj"

static const golden goldens[] = {
    {"modelopt_nvfp4", NVFP4_LAYOUT_MODELOPT, NULL, NULL, NULL},
    {"modelopt_nvfp4_bias", NVFP4_LAYOUT_MODELOPT, NULL, NULL, NULL},
    {"modelopt_nvfp4_lmhead", NVFP4_LAYOUT_MODELOPT, NULL, NULL, NULL},
    {"modelopt_nvfp4_sharded", NVFP4_LAYOUT_MODELOPT, NULL, NULL, NULL},
    {"modelopt_nvfp4_split", NVFP4_LAYOUT_MODELOPT, NULL, NULL, NULL},
    {"modelopt_w4a16", NVFP4_LAYOUT_MODELOPT, NULL, NULL, NULL},
    {"modelopt_mixed", NVFP4_LAYOUT_MODELOPT, NULL, FP8, NULL},
    {"ct_nvfp4", NVFP4_LAYOUT_COMPRESSED_TENSORS, NULL, NULL, NULL},
    {"ct_nvfp4a16", NVFP4_LAYOUT_COMPRESSED_TENSORS, NULL, NULL, NULL},
    {"ct_mixed_fp8", NVFP4_LAYOUT_COMPRESSED_TENSORS, NULL, FP8, NULL},
    {"gguf_mlx/llama-modelopt-nvfp4.gguf", NVFP4_LAYOUT_GGUF, NULL, NULL, NULL},
    {"gguf_mlx/llama-quantize-nvfp4.gguf", NVFP4_LAYOUT_GGUF, NULL, NULL, "token_embd.weight"},
    {"gguf_mlx/mlx-nvfp4.safetensors", NVFP4_LAYOUT_MLX, "global_k48b", NULL, NULL},
    {"comfy/comfy-nvfp4.safetensors", NVFP4_LAYOUT_COMFY, "blocks.0.mlp.0", NULL, NULL},
};

/* The values of every NVFP4 layer of `a`, by its Hugging Face name, are those of `b`: exactly, if the globals kept their kind, and otherwise within
 * the rounding of one number. Rows of GGUF's q and k are put in order. */
static void assert_same_values(const char *path_a, const char *path_b) {
  nvfp4_checkpoint *a = open_checkpoint(path_a), *b = open_checkpoint(path_b);
  for (size_t i = 0; i < nvfp4_checkpoint_layer_count(b); i++) {
    const nvfp4_layer_info *y = nvfp4_checkpoint_layer(b, i);
    char name[256];
    if (y->layout == NVFP4_LAYOUT_NONE) {
      continue;
    }
    const nvfp4_layer_info *x = nvfp4_checkpoint_find_layer(a, y->name);
    if (x == NULL && nvfp4_gguf_module(b->gguf == NULL, y->name, strlen(y->name), name, sizeof name)) {
      x = nvfp4_checkpoint_find_layer(a, name);
    }
    assert_non_null(x);
    int64_t rows = x->n < y->n ? x->n : y->n; /* Comfy's padding */
    bool turned = (a->gguf == NULL) != (b->gguf == NULL) && (strstr(y->name, "attn_q") != NULL || strstr(y->name, "attn_k") != NULL ||
                                                             strstr(y->name, "q_proj") != NULL || strstr(y->name, "k_proj") != NULL);
    const char *config = nvfp4_checkpoint_config(a->gguf == NULL ? a : b);
    int64_t head = turned && (config == NULL || strstr(config, "qwen2") == NULL) ? 32 : 0;
    double ratio = nvfp4_global_multiplier(x->partitions->weight.value, x->partitions->weight.kind) /
                   nvfp4_global_multiplier(y->partitions->weight.value, y->partitions->weight.kind);
    assert_true(fabs(ratio - 1) <= 0x1p-23);
    uint8_t *codes = malloc((size_t)x->k), *scales = malloc((size_t)x->k);
    for (int64_t row = 0; row < rows; row++) {
      int64_t from = b->gguf != NULL ? nvfp4_hf_source_row(row, head) : nvfp4_gguf_source_row(row, head);
      nvfp4_layer_read_rows(a, x, from, 1, codes, scales);
      nvfp4_layer_read_rows(b, y, row, 1, codes + x->k / 2, scales + x->k / 16);
      assert_memory_equal(codes, codes + x->k / 2, (size_t)(x->k / 2));
      assert_memory_equal(scales, scales + x->k / 16, (size_t)(x->k / 16));
    }
    free(codes);
    free(scales);
  }
  nvfp4_checkpoint_close(a);
  nvfp4_checkpoint_close(b);
}

/* Every golden checkpoint through every layout and back: names, types, shapes and bytes of all tensors. */
static void round_trips_are_bit_for_bit(void **state) {
  (void)state;
  char folder[256];
  make_folder(folder);
  for (size_t g = 0; g < sizeof goldens / sizeof goldens[0]; g++) {
    const golden *from = &goldens[g];
    char source[512], there[512], back[512], name[64];
    path_in("tests/golden", from->path, source);
    for (int l = NVFP4_LAYOUT_MODELOPT; l <= NVFP4_LAYOUT_COMFY; l++) {
      nvfp4_layout_kind layout = (nvfp4_layout_kind)l;
      bool both_gguf = layout == NVFP4_LAYOUT_GGUF && from->layout == NVFP4_LAYOUT_GGUF;
      const char *lost = layout == NVFP4_LAYOUT_GGUF ? from->not_gguf : layout == NVFP4_LAYOUT_MLX ? from->not_mlx : NULL;
      lost = lost == NULL && !both_gguf ? from->block : lost;
      snprintf(name, sizeof name, "%zu", g);
      output_path(folder, name, layout, there);
      told t = {0};
      nvfp4_status status = convert(source, there, layout, false, &t, NULL, &reason);
      if (lost != NULL) {
        assert_int_equal(status, NVFP4_E_UNSUPPORTED);
        assert_true(t.losses > 0 && strncmp(t.first, lost, strlen(lost)) == 0);
        assert_non_null(strstr(reason.text, lost));
        assert_int_equal(access(there, F_OK), -1);
        status = convert(source, there, layout, true, NULL, NULL, &reason);
      }
      assert_ok(status, reason);
      assert_same_values(source, there);
      snprintf(name, sizeof name, "%zu-back-from-%s", g, nvfp4_layout_kind_name(layout));
      assert_ok(convert(there, output_path(folder, name, from->layout, back), from->layout, false, NULL, NULL, &reason), reason);
      if (lost == NULL) {
        assert_same_tensors(source, back, NULL);
      } else if (lost == from->block) {
        assert_same_tensors(source, back, from->block);
      }
    }
  }
  remove_folder(folder);
}

/* llama.cpp's own converter made a GGUF file of the same ModelOpt checkpoint: every tensor is the same, q and k with their rows re-ordered. */
static void gguf_is_as_llama_cpp_converts_it(void **state) {
  (void)state;
  char folder[256], there[512];
  path_in(make_folder(folder), "x.gguf", there);
  assert_ok(convert(GOLDEN "modelopt_nvfp4", there, NVFP4_LAYOUT_GGUF, false, NULL, NULL, &reason), reason);
  assert_same_tensors(GOLDEN "gguf_mlx/llama-modelopt-nvfp4.gguf", there, NULL);
  remove_folder(folder);
}

/* What configs say of the layers after a conversion is what the source's said. */
static void configs_follow(void **state) {
  (void)state;
  static const char *const sources[] = {"modelopt_mixed", "ct_mixed_fp8", "modelopt_w4a16", "ct_nvfp4"};
  static const nvfp4_layout_kind layouts[] = {NVFP4_LAYOUT_MODELOPT, NVFP4_LAYOUT_COMPRESSED_TENSORS};
  char folder[256], source[512], there[512];
  make_folder(folder);
  for (size_t s = 0; s < sizeof sources / sizeof sources[0]; s++) {
    for (size_t l = 0; l < 2; l++) {
      path_in("tests/golden", sources[s], source);
      assert_ok(convert(source, output_path(folder, sources[s], layouts[l], there), layouts[l], false, NULL, NULL, &reason), reason);
      nvfp4_checkpoint *a = open_checkpoint(source), *b = open_checkpoint(there);
      assert_null(nvfp4_checkpoint_warning(b, 0));
      assert_int_equal(nvfp4_checkpoint_layer_count(a), nvfp4_checkpoint_layer_count(b));
      for (size_t i = 0; i < nvfp4_checkpoint_layer_count(a); i++) {
        assert_int_equal(nvfp4_checkpoint_layer(a, i)->mode, nvfp4_checkpoint_layer(b, i)->mode);
      }
      json_t *ours = read_json(there, "config.json"), *theirs = read_json(source, "config.json");
      json_object_del(ours, "quantization_config");
      json_object_del(theirs, "quantization_config");
      assert_true(json_equal(ours, theirs));
      json_decref(ours);
      json_decref(theirs);
      nvfp4_checkpoint_close(a);
      nvfp4_checkpoint_close(b);
    }
  }
  remove_folder(folder);
}

/* A layer of 32 x 64, fused of two parts whose globals have that ratio, in a folder of its own. */
static void write_fused(const char *folder, float first, float second) {
  static uint8_t codes[32 * 32], scales[32 * 4];
  for (size_t i = 0; i < sizeof codes; i++) {
    codes[i] = (uint8_t)(i * 37);
  }
  for (size_t i = 0; i < sizeof scales; i++) {
    scales[i] = (uint8_t)(0x30 + i % 16);
  }
  const float globals[2] = {first, second};
  const test_tensor tensors[] = {{"mlp.gate_up_proj.weight_scale_2", NVFP4_DTYPE_F32, 1, {2}, globals},
                                 {"mlp.gate_up_proj.weight_scale", NVFP4_DTYPE_F8_E4M3, 2, {32, 4}, scales},
                                 {"mlp.gate_up_proj.weight", NVFP4_DTYPE_U8, 2, {32, 32}, codes}};
  write_tensors(folder, "model.safetensors", tensors, 3);
}

/* Parts with globals of their own: ModelOpt holds them; the others hold one, and re-encode the block scales of the smaller part. */
static void fused_parts(void **state) {
  (void)state;
  char folder[256], there[512], back[512];
  write_fused(make_folder(folder), 0.01f, 0.005f); /* a ratio of 2: scales change, values do not */
  assert_ok(convert(folder, path_in(folder, "same", there), NVFP4_LAYOUT_MODELOPT, false, NULL, NULL, &reason), reason);
  assert_same_tensors(folder, there, NULL);
  static const nvfp4_layout_kind layouts[] = {NVFP4_LAYOUT_COMPRESSED_TENSORS, NVFP4_LAYOUT_GGUF, NVFP4_LAYOUT_MLX, NVFP4_LAYOUT_COMFY};
  for (size_t l = 0; l < 4; l++) {
    told t = {0};
    output_path(folder, "x", layouts[l], there);
    assert_int_equal(convert(folder, there, layouts[l], false, &t, NULL, &reason), NVFP4_E_UNSUPPORTED);
    assert_int_equal(t.losses, 1);
    assert_non_null(strstr(t.first, "of 128 block scales 64 change, 0 of them are rounded"));
    assert_ok(convert(folder, there, layouts[l], true, NULL, NULL, &reason), reason);
    nvfp4_checkpoint *a = open_checkpoint(folder), *b = open_checkpoint(there);
    const nvfp4_layer_info *x = nvfp4_checkpoint_layer(a, 0), *y = nvfp4_checkpoint_layer(b, 0);
    assert_int_equal(y->partition_count, 1);
    nvfp4_weights wx, wy;
    void *own_x, *own_y;
    float before[64], after[64];
    assert_ok(nvfp4_checkpoint_weights(a, x, &wx, &own_x, &reason), reason);
    assert_ok(nvfp4_checkpoint_weights(b, y, &wy, &own_y, &reason), reason);
    for (int64_t row = 0; row < 32; row++) {
      assert_ok(nvfp4_weights_dequantise(&wx, x->partitions, x->partition_count, row, 1, before, &reason), reason);
      assert_ok(nvfp4_weights_dequantise(&wy, y->partitions, y->partition_count, row, 1, after, &reason), reason);
      for (int k = 0; k < 64; k++) {
        assert_true(fabsf(before[k] - after[k]) <= 2e-7f * fabsf(before[k]));
      }
    }
    nvfp4_weights_free(own_x);
    nvfp4_weights_free(own_y);
    nvfp4_checkpoint_close(a);
    nvfp4_checkpoint_close(b);
  }
  remove_folder(folder);

  write_fused(make_folder(folder), 0.01f, 0.01f); /* equal: nothing is lost, and the two numbers come back */
  for (size_t l = 0; l < 4; l++) {
    output_path(folder, "y", layouts[l], there);
    assert_ok(convert(folder, there, layouts[l], false, NULL, NULL, &reason), reason);
    output_path(folder, nvfp4_layout_kind_name(layouts[l]), NVFP4_LAYOUT_MODELOPT, back);
    assert_ok(convert(there, back, NVFP4_LAYOUT_MODELOPT, false, NULL, NULL, &reason), reason);
    assert_same_tensors(folder, back, NULL);
  }
  remove_folder(folder);
}

/* One level: the globals go into the block scales, and nothing else. */
static void one_level(void **state) {
  (void)state;
  char folder[256], there[512];
  make_folder(folder);
  for (int l = 0; l < 2; l++) {
    nvfp4_layout_kind layout = l == 0 ? NVFP4_LAYOUT_GGUF : NVFP4_LAYOUT_MLX;
    told t = {0};
    nvfp4_convert_options options = {
        .struct_size = sizeof options, .layout = layout, .one_level = true, .dry_run = true, .tell = hear, .cookie = &t};
    output_path(folder, "one", layout, there);
    assert_ok(nvfp4_convert_checkpoint(GOLDEN "modelopt_nvfp4", there, &options, NULL, &reason), reason);
    assert_int_equal(access(there, F_OK), -1);
    assert_int_equal(t.losses, 14);
    options.dry_run = false;
    assert_int_equal(nvfp4_convert_checkpoint(GOLDEN "modelopt_nvfp4", there, &options, NULL, &reason), NVFP4_E_UNSUPPORTED);
    options.allow_lossy = true;
    assert_ok(nvfp4_convert_checkpoint(GOLDEN "modelopt_nvfp4", there, &options, NULL, &reason), reason);
    nvfp4_checkpoint *a = open_checkpoint(GOLDEN "modelopt_nvfp4"), *b = open_checkpoint(there);
    const char *name = l == 0 ? "blk.1.ffn_down" : "model.layers.1.mlp.down_proj";
    const nvfp4_layer_info *x = nvfp4_checkpoint_find_layer(a, "model.layers.1.mlp.down_proj"), *y = nvfp4_checkpoint_find_layer(b, name);
    assert_null(nvfp4_checkpoint_companion(b, name, l == 0 ? ".scale" : ".global_scale"));
    assert_f32_bits(y->partitions->weight.value, 1.0f);
    uint8_t codes[2][160], scales[2][20];
    for (int64_t row = 0; row < x->n; row++) {
      nvfp4_layer_read_rows(a, x, row, 1, codes[0], scales[0]);
      nvfp4_layer_read_rows(b, y, row, 1, codes[1], scales[1]);
      assert_memory_equal(codes[0], codes[1], 160);
      for (int i = 0; i < 20; i++) {
        double exact = (double)nvfp4_e4m3_to_f32(scales[0][i]) * (double)x->partitions->weight.value;
        assert_int_equal(scales[1][i], nvfp4_e4m3_from_f32((float)exact));
      }
    }
    nvfp4_checkpoint_close(a);
    nvfp4_checkpoint_close(b);
  }
  remove_folder(folder);
}

/* Shards: files within the size, an index that the reader checks, the same tensors. */
static void shards(void **state) {
  (void)state;
  char folder[256], there[512];
  nvfp4_convert_stats stats = {.struct_size = sizeof stats};
  const nvfp4_convert_options options = {
      .struct_size = sizeof options, .layout = NVFP4_LAYOUT_COMPRESSED_TENSORS, .max_shard_bytes = 70000};
  path_in(make_folder(folder), "x", there);
  assert_ok(nvfp4_convert_checkpoint(GOLDEN "ct_nvfp4", there, &options, &stats, &reason), reason);
  assert_true(stats.files >= 5);
  assert_int_equal(count_files(there), (size_t)stats.files + 3); /* config.json, generation_config.json, the index */
  assert_same_tensors(GOLDEN "ct_nvfp4", there, NULL);
  json_t *index = read_json(there, "model.safetensors.index.json");
  assert_int_equal(json_integer_value(json_object_get(json_object_get(index, "metadata"), "total_size")), (json_int_t)stats.output_bytes);
  json_decref(index);
  char file[512];
  snprintf(file, sizeof file, "%s/one.safetensors", folder);
  assert_int_equal(nvfp4_convert_checkpoint(GOLDEN "ct_nvfp4", file, &options, &stats, &reason), NVFP4_E_ARG);
  remove_folder(folder);
}

/* Per-channel FP8: compressed-tensors [N, 1] <-> ModelOpt [N]; GGUF, MLX and Comfy cannot hold it. */
static void fp8_channels(void **state) {
  (void)state;
  static uint8_t codes[16 * 8], scales[16], fp8[16 * 16];
  static float channels[16];
  const float global = 0.5f;
  for (int i = 0; i < 16; i++) {
    scales[i] = 0x38;
    channels[i] = 0.1f * (float)(i + 1); /* not of bf16 */
    for (int k = 0; k < 16; k++) {
      fp8[16 * i + k] = (uint8_t)(16 * i + k);
    }
  }
  const test_tensor tensors[] = {{"a.weight_scale_2", NVFP4_DTYPE_F32, 0, {0}, &global},
                                 {"b.weight_scale", NVFP4_DTYPE_F32, 1, {16}, channels},
                                 {"a.weight_scale", NVFP4_DTYPE_F8_E4M3, 2, {16, 1}, scales},
                                 {"b.weight", NVFP4_DTYPE_F8_E4M3, 2, {16, 16}, fp8},
                                 {"a.weight", NVFP4_DTYPE_U8, 2, {16, 8}, codes}};
  char folder[256], there[512], back[512];
  write_tensors(make_folder(folder), "model.safetensors", tensors, 5);
  assert_ok(convert(folder, path_in(folder, "ct", there), NVFP4_LAYOUT_COMPRESSED_TENSORS, false, NULL, NULL, &reason), reason);
  nvfp4_checkpoint *checkpoint = open_checkpoint(there);
  const nvfp4_tensor *scale = nvfp4_checkpoint_find(checkpoint, "b.weight_scale");
  assert_true(scale->dtype == NVFP4_DTYPE_F32 && scale->rank == 2 && scale->shape[0] == 16 && scale->shape[1] == 1);
  nvfp4_checkpoint_close(checkpoint);
  assert_ok(convert(there, path_in(folder, "back", back), NVFP4_LAYOUT_MODELOPT, false, NULL, NULL, &reason), reason);
  assert_same_tensors(folder, back, NULL);
  static const nvfp4_layout_kind layouts[] = {NVFP4_LAYOUT_MLX, NVFP4_LAYOUT_COMFY};
  for (int l = 0; l < 2; l++) {
    output_path(folder, "x", layouts[l], there);
    assert_int_equal(convert(folder, there, layouts[l], false, NULL, NULL, &reason), NVFP4_E_UNSUPPORTED);
    assert_non_null(strstr(reason.text, "a scale for every row"));
    assert_ok(convert(folder, there, layouts[l], true, NULL, NULL, &reason), reason);
    checkpoint = open_checkpoint(there);
    float values[16], expected;
    assert_ok(nvfp4_tensor_to_f32(nvfp4_checkpoint_find(checkpoint, "b.weight"), 48, 16, values, &reason), reason);
    for (int k = 0; k < 16; k++) {
      uint32_t bits = f32_bits(nvfp4_e4m3_to_f32(fp8[48 + k]) * channels[3]);
      bits = (bits + 0x7FFF + (bits >> 16 & 1)) & 0xFFFF0000u; /* bf16, to nearest even */
      memcpy(&expected, &bits, sizeof expected);
      assert_f32_bits(values[k], expected);
    }
    nvfp4_checkpoint_close(checkpoint);
  }
  remove_folder(folder);
}

/* FP8 layers compute the same numbers from GGUF, where their codes are bf16 with a scale, as from where they came from. */
static void fp8_runs_from_gguf(void **state) {
  (void)state;
  static float x[2 * 128], y[2][2 * 128];
  static const char *const names[2] = {"model.layers.0.self_attn.o_proj", "blk.0.attn_output"};
  const nvfp4_model_options options = {.struct_size = sizeof options, .activation = NVFP4_DTYPE_F32, .batch_tokens = 2};
  char folder[256], there[512];
  nvfp4_context *context = NULL;
  test_random random = {5};
  for (int i = 0; i < 2 * 128; i++) {
    x[i] = test_random_gauss(&random);
  }
  assert_ok(convert(GOLDEN "ct_mixed_fp8", path_in(make_folder(folder), "x.gguf", there), NVFP4_LAYOUT_GGUF, false, NULL, NULL, &reason),
            reason);
  assert_ok(nvfp4_context_create(NULL, &context, &reason), reason);
  for (int i = 0; i < 2; i++) {
    nvfp4_checkpoint *checkpoint = open_checkpoint(i == 0 ? GOLDEN "ct_mixed_fp8" : there);
    nvfp4_linear linear;
    nvfp4_linear_workspace workspace = {.activation = NVFP4_DTYPE_F32};
    assert_ok(nvfp4_threads_create(1, NULL, NULL, &workspace.threads, &reason), reason);
    const nvfp4_layer_info *info = nvfp4_checkpoint_find_layer(checkpoint, names[i]);
    assert_ok(nvfp4_linear_create(context, checkpoint, info, &options, &linear, &reason), reason);
    assert_int_equal(info->mode, NVFP4_MODE_FP8);
    nvfp4_linear_workspace_need(&workspace, &linear, 2);
    assert_ok(nvfp4_linear_workspace_alloc(&workspace, &reason), reason);
    assert_ok(nvfp4_linear_apply(&linear, &workspace, x, 2, y[i], &reason), reason);
    nvfp4_linear_destroy(&linear);
    nvfp4_linear_workspace_free(&workspace);
    nvfp4_threads_destroy(workspace.threads);
    nvfp4_checkpoint_close(checkpoint);
  }
  assert_memory_equal(y[0], y[1], sizeof y[0]);
  nvfp4_context_destroy(context);
  remove_folder(folder);
}

/* mlx-lm quantises embeddings, too; other engines cannot look rows up in NVFP4. */
static void embeddings_of_mlx(void **state) {
  (void)state;
  static uint8_t codes[2][16 * 32], scales[2][16 * 4];
  for (int i = 0; i < 16 * 32; i++) {
    codes[0][i] = codes[1][i] = (uint8_t)(i * 41);
    scales[0][i / 8] = scales[1][i / 8] = (uint8_t)(0x30 + i / 8 % 16);
  }
  const test_tensor tensors[] = {{"lm_head.weight", NVFP4_DTYPE_U32, 2, {16, 8}, codes[0]},
                                 {"model.embed_tokens.weight", NVFP4_DTYPE_U32, 2, {16, 8}, codes[1]},
                                 {"lm_head.scales", NVFP4_DTYPE_U8, 2, {16, 4}, scales[0]},
                                 {"model.embed_tokens.scales", NVFP4_DTYPE_U8, 2, {16, 4}, scales[1]}};
  char folder[256], there[512];
  told t = {0};
  write_tensors(make_folder(folder), "model.safetensors", tensors, 4);
  path_in(folder, "x", there);
  assert_int_equal(convert(folder, there, NVFP4_LAYOUT_MODELOPT, false, &t, NULL, &reason), NVFP4_E_UNSUPPORTED);
  assert_true(t.losses == 1 && strncmp(t.first, "model.embed_tokens: ", 20) == 0);
  assert_ok(convert(folder, there, NVFP4_LAYOUT_MODELOPT, true, NULL, NULL, &reason), reason);
  nvfp4_checkpoint *checkpoint = open_checkpoint(there);
  const nvfp4_tensor *weight = nvfp4_checkpoint_find(checkpoint, "model.embed_tokens.weight");
  assert_int_equal(weight->dtype, NVFP4_DTYPE_BF16);
  float values[64];
  assert_ok(nvfp4_tensor_to_f32(weight, 0, 64, values, &reason), reason);
  for (int k = 0; k < 64; k++) { /* code * scale has 6 significant bits: exact in bf16 */
    assert_f32_bits(values[k], nvfp4_e2m1_to_f32((uint8_t)(codes[1][k / 2] >> (k % 2 * 4) & 15)) * nvfp4_e4m3_to_f32(scales[1][k / 16]));
  }
  nvfp4_checkpoint_close(checkpoint);
  assert_ok(convert(folder, path_in(folder, "y", there), NVFP4_LAYOUT_MLX, false, NULL, NULL, &reason), reason);
  assert_same_tensors(folder, there, NULL);
  remove_folder(folder);
}

/* What is not converted is not copied as "another tensor" either: nobody could read it. */
static void other_formats_are_refused(void **state) {
  (void)state;
  static const uint8_t zeros[1024];
  static const test_tensor mlx[] = {{"stacked.weight", NVFP4_DTYPE_U32, 3, {2, 16, 2}, zeros},
                                    {"a.weight", NVFP4_DTYPE_U32, 2, {16, 2}, zeros},
                                    {"stacked.scales", NVFP4_DTYPE_U8, 3, {2, 16, 1}, zeros},
                                    {"a.scales", NVFP4_DTYPE_U8, 2, {16, 1}, zeros}};
  static const test_tensor fp8[] = {{"a.weight", NVFP4_DTYPE_U32, 2, {16, 2}, zeros},
                                    {"blocks.weight_scale_inv", NVFP4_DTYPE_F32, 2, {1, 1}, zeros},
                                    {"a.scales", NVFP4_DTYPE_U8, 2, {16, 1}, zeros},
                                    {"blocks.weight", NVFP4_DTYPE_F8_E4M3, 2, {16, 16}, zeros}};
  static const test_tensor affine[] = {{"a.weight", NVFP4_DTYPE_U32, 2, {16, 2}, zeros},
                                       {"affine.weight", NVFP4_DTYPE_U32, 2, {16, 8}, zeros},
                                       {"affine.biases", NVFP4_DTYPE_F16, 2, {16, 1}, zeros},
                                       {"affine.scales", NVFP4_DTYPE_F16, 2, {16, 1}, zeros},
                                       {"a.scales", NVFP4_DTYPE_U8, 2, {16, 1}, zeros}};
  static const struct {
    const test_tensor *tensors;
    size_t count;
    const char *says;
  } cases[] = {{mlx, 4, "stacked.weight: weights of several layers in one tensor"},
               {fp8, 4, "blocks.weight_scale_inv: FP8 scales of blocks are not converted"},
               {affine, 5, "affine.weight: U32 weight: not NVFP4"}};
  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
    char folder[256], there[512];
    write_tensors(make_folder(folder), "model.safetensors", cases[i].tensors, cases[i].count);
    assert_int_equal(convert(folder, path_in(folder, "out", there), NVFP4_LAYOUT_MODELOPT, true, NULL, NULL, &reason), NVFP4_E_UNSUPPORTED);
    if (strstr(reason.text, cases[i].says) == NULL) {
      fail_msg("\"%s\" is not in: %s", cases[i].says, reason.text);
    }
    assert_int_equal(access(there, F_OK), -1);
    remove_folder(folder);
  }
}

static void bad_calls(void **state) {
  (void)state;
  char folder[256], path[512];
  make_folder(folder);
  nvfp4_convert_options options = {.struct_size = sizeof options};
  path_in(folder, "x", path);
  assert_int_equal(nvfp4_convert_checkpoint(GOLDEN "ct_nvfp4", path, &options, NULL, &reason), NVFP4_E_ARG); /* no layout */
  options.layout = NVFP4_LAYOUT_MODELOPT;
  options.one_level = true;
  assert_int_equal(nvfp4_convert_checkpoint(GOLDEN "ct_nvfp4", path, &options, NULL, &reason), NVFP4_E_ARG);
  options.one_level = false;
  assert_int_equal(nvfp4_convert_checkpoint(GOLDEN "ct_nvfp4", NULL, &options, NULL, &reason), NVFP4_E_ARG);
  assert_int_equal(nvfp4_convert_checkpoint(GOLDEN "tiny", path, &options, NULL, &reason), NVFP4_E_UNSUPPORTED); /* nothing of NVFP4 */
  assert_int_equal(nvfp4_convert_checkpoint(GOLDEN "ct_nvfp4", GOLDEN "ct_nvfp4", &options, NULL, &reason), NVFP4_E_ARG);
  assert_int_equal(nvfp4_convert_checkpoint(GOLDEN "ct_nvfp4", GOLDEN "modelopt_nvfp4", &options, NULL, &reason), NVFP4_E_IO);
  options.layout = NVFP4_LAYOUT_GGUF;
  write_text(folder, "there.gguf", "mine");
  assert_int_equal(nvfp4_convert_checkpoint(GOLDEN "ct_nvfp4", path_in(folder, "there.gguf", path), &options, NULL, &reason), NVFP4_E_IO);
  char *text = test_read_file(path, NULL);
  assert_string_equal(text, "mine");
  free(text);
  assert_int_equal(count_files(folder), 1);
  remove_folder(folder);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(round_trips_are_bit_for_bit),
      cmocka_unit_test(gguf_is_as_llama_cpp_converts_it),
      cmocka_unit_test(configs_follow),
      cmocka_unit_test(fused_parts),
      cmocka_unit_test(one_level),
      cmocka_unit_test(shards),
      cmocka_unit_test(fp8_channels),
      cmocka_unit_test(fp8_runs_from_gguf),
      cmocka_unit_test(embeddings_of_mlx),
      cmocka_unit_test(other_formats_are_refused),
      cmocka_unit_test(bad_calls),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
