/* SPDX-License-Identifier: Apache-2.0 */
/* Layers of checkpoints made in memory; golden files are test_golden.c's. */
#define _POSIX_C_SOURCE 200809L
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "checkpoint/checkpoint.h"
#include "format/scale_layout.h"
#include "support.h"

#define N 32
#define K 64

/* Tensors share these bytes: 0x11 is a sound code pair and a sound scale. */
static uint8_t bytes[256 * 256];

static nvfp4_checkpoint *empty(void) {
  nvfp4_checkpoint *checkpoint = calloc(1, sizeof *checkpoint);
  assert_non_null(checkpoint);
  memset(bytes, 0x11, sizeof bytes);
  return checkpoint;
}

/* Adds a tensor of shape [a, b]; b < 0: [a]; a < 0: []. */
static nvfp4_tensor *add(nvfp4_checkpoint *checkpoint, const char *name, nvfp4_dtype dtype, int64_t a, int64_t b, const void *data) {
  nvfp4_tensor tensor = {.name = nvfp4_checkpoint_strdup(checkpoint, name, strlen(name)), .dtype = dtype, .data = data, .file = "f"};
  tensor.rank = a < 0 ? 0 : b < 0 ? 1 : 2;
  tensor.shape[0] = a;
  tensor.shape[1] = b;
  tensor.dtype_name = nvfp4_dtype_name(dtype);
  assert_true(nvfp4_dtype_bytes(dtype, (uint64_t)((a < 0 ? 1 : a) * (b < 0 ? 1 : b)), &tensor.bytes));
  nvfp4_reason reason;
  assert_ok(nvfp4_checkpoint_add_tensor(checkpoint, &tensor, &reason), reason);
  return &checkpoint->tensors[checkpoint->tensor_count - 1];
}

static const float one_scale[3] = {0.5f, 0.25f, 0.125f};

/* A sound ModelOpt layer of N x K, or of other rows. */
static void add_modelopt(nvfp4_checkpoint *checkpoint, const char *base, int64_t rows, int64_t parts, bool input) {
  char name[256];
  snprintf(name, sizeof name, "%s.weight", base);
  add(checkpoint, name, NVFP4_DTYPE_U8, rows, K / 2, bytes);
  snprintf(name, sizeof name, "%s.weight_scale", base);
  add(checkpoint, name, NVFP4_DTYPE_F8_E4M3, rows, K / 16, bytes);
  snprintf(name, sizeof name, "%s.weight_scale_2", base);
  add(checkpoint, name, NVFP4_DTYPE_F32, parts > 1 ? parts : -1, -1, one_scale);
  if (input) {
    snprintf(name, sizeof name, "%s.input_scale", base);
    add(checkpoint, name, NVFP4_DTYPE_F32, -1, -1, one_scale);
  }
}

static int by_name(const void *a, const void *b) { return strcmp(((const nvfp4_tensor *)a)->name, ((const nvfp4_tensor *)b)->name); }

static nvfp4_status find(nvfp4_checkpoint *checkpoint, nvfp4_reason *reason) {
  qsort(checkpoint->tensors, checkpoint->tensor_count, sizeof *checkpoint->tensors, by_name);
  return nvfp4_checkpoint_find_layers(checkpoint, 0, reason);
}

static const nvfp4_layer_info *only_layer(nvfp4_checkpoint *checkpoint) {
  nvfp4_reason reason;
  assert_ok(find(checkpoint, &reason), reason);
  assert_int_equal(nvfp4_checkpoint_layer_count(checkpoint), 1);
  return nvfp4_checkpoint_layer(checkpoint, 0);
}

/* Refused with these words; closes. */
static void refused(nvfp4_checkpoint *checkpoint, const char *words) {
  nvfp4_reason reason = {.text = ""};
  assert_int_not_equal(find(checkpoint, &reason), NVFP4_OK);
  assert_int_equal(nvfp4_checkpoint_layer_count(checkpoint), 0);
  if (strstr(reason.text, words) == NULL) {
    fail_msg("\"%s\" is not in: %s", words, reason.text);
  }
  nvfp4_checkpoint_close(checkpoint);
}

static char nvfp4_config[] = "{\"quantization\": {\"quant_algo\": \"NVFP4\", \"exclude_modules\": [\"lm_head\"]}}";
static char w4a16_config[] = "{\"quantization\": {\"quant_algo\": \"W4A16_NVFP4\"}}";

static void modelopt_fields(void **state) {
  (void)state;
  nvfp4_checkpoint *checkpoint = empty();
  add_modelopt(checkpoint, "a", N, 1, true);
  add(checkpoint, "a.bias", NVFP4_DTYPE_F16, N, -1, bytes);
  add(checkpoint, "norm.weight", NVFP4_DTYPE_BF16, K, -1, bytes);
  const nvfp4_layer_info *layer = only_layer(checkpoint);
  assert_string_equal(layer->name, "a");
  assert_string_equal(layer->note, "");
  assert_int_equal(layer->layout, NVFP4_LAYOUT_MODELOPT);
  assert_int_equal(layer->mode, NVFP4_MODE_W4A4);
  assert_f32_bits(layer->partitions[0].weight.value, 0.5f);
  assert_int_equal(layer->partitions[0].weight.kind, NVFP4_GLOBAL_MULTIPLIER);

  nvfp4_weights weights;
  void *owned = &weights;
  nvfp4_layer_desc desc;
  nvfp4_reason reason;
  assert_ok(nvfp4_checkpoint_weights(checkpoint, layer, &weights, &owned, &reason), reason);
  assert_null(owned);
  assert_ptr_equal(weights.codes, bytes);
  assert_int_equal(weights.memory, NVFP4_MEMORY_MAPPED_FILE);
  assert_ok(nvfp4_layer_desc_from_checkpoint(layer, &desc, &reason), reason);
  assert_int_equal(desc.struct_size, sizeof desc);
  assert_int_equal(desc.n, N);
  assert_int_equal(desc.k, K);
  assert_int_equal(desc.bias_dtype, NVFP4_DTYPE_F16);
  assert_int_equal(desc.x_dtype, NVFP4_DTYPE_BF16);
  assert_int_equal(desc.partition_count, 1);
  assert_ptr_equal(desc.partitions, layer->partitions);
  nvfp4_checkpoint_close(checkpoint);
}

static void order_of_names(void **state) {
  (void)state;
  /* "a-b.weight" sorts before "a.weight", but "a" before "a-b". */
  static const char *const names[] = {"a", "a-b", "a.b", "a.b.c"};
  nvfp4_checkpoint *checkpoint = empty();
  for (size_t i = 0; i < 4; i++) {
    add_modelopt(checkpoint, names[i], N, 1, true);
  }
  nvfp4_reason reason;
  assert_ok(find(checkpoint, &reason), reason);
  assert_int_equal(nvfp4_checkpoint_layer_count(checkpoint), 4);
  for (size_t i = 0; i < 4; i++) {
    assert_string_equal(nvfp4_checkpoint_layer(checkpoint, i)->name, names[i]);
    assert_ptr_equal(nvfp4_checkpoint_find_layer(checkpoint, names[i]), nvfp4_checkpoint_layer(checkpoint, i));
  }
  assert_null(nvfp4_checkpoint_layer(checkpoint, 4));
  assert_null(nvfp4_checkpoint_find_layer(checkpoint, "a.b.d"));
  assert_null(nvfp4_checkpoint_find_layer(checkpoint, NULL));
  nvfp4_checkpoint_close(checkpoint);
}

static void modes_follow_config_and_tensors(void **state) {
  (void)state;
  static const struct {
    const char *base;
    char *config;
    bool input;
    nvfp4_mode mode;
    bool warns;
  } cases[] = {{"a", NULL, true, NVFP4_MODE_W4A4, false},
               {"a", NULL, false, NVFP4_MODE_W4A16, false},
               {"a", nvfp4_config, true, NVFP4_MODE_W4A4, false},
               {"a", w4a16_config, false, NVFP4_MODE_W4A16, false},
               {"a", w4a16_config, true, NVFP4_MODE_W4A16, true},
               {"lm_head", nvfp4_config, true, NVFP4_MODE_W4A4, true},
               {"lm_head", nvfp4_config, false, NVFP4_MODE_W4A16, true}};
  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
    nvfp4_checkpoint *checkpoint = empty();
    checkpoint->quant_config = cases[i].config;
    add_modelopt(checkpoint, cases[i].base, N, 1, cases[i].input);
    const nvfp4_layer_info *layer = only_layer(checkpoint);
    assert_int_equal(layer->mode, cases[i].mode);
    assert_int_equal(layer->partitions[0].input.value != 0, cases[i].mode == NVFP4_MODE_W4A4);
    assert_int_equal(nvfp4_checkpoint_warning(checkpoint, 0) != NULL, cases[i].warns);
    assert_int_equal(layer->note[0] != '\0', cases[i].warns);
    nvfp4_checkpoint_close(checkpoint);
  }
  nvfp4_checkpoint *checkpoint = empty();
  checkpoint->quant_config = nvfp4_config;
  add_modelopt(checkpoint, "a", N, 1, false);
  refused(checkpoint, "tensor a.input_scale is missing: the config says W4A4");
}

static void other_layers_are_listed(void **state) {
  (void)state;
  static const struct {
    const char *name;
    nvfp4_dtype dtype;
    nvfp4_mode mode;
    const char *note;
  } cases[] = {{"embed_tokens", NVFP4_DTYPE_BF16, NVFP4_MODE_UNQUANTISED, "embedding"},
               {"lm_head", NVFP4_DTYPE_F16, NVFP4_MODE_UNQUANTISED, "not quantised: exclude_modules: lm_head"},
               {"gate", NVFP4_DTYPE_F32, NVFP4_MODE_UNQUANTISED, "F32 weight, but the config says it is quantised (quant_algo NVFP4)"},
               {"q", NVFP4_DTYPE_F8_E4M3, NVFP4_MODE_FP8, "FP8 layer without a weight_scale that can be used: not NVFP4"},
               {"z", NVFP4_DTYPE_Q8_0, NVFP4_MODE_UNQUANTISED, "Q8_0 weight: not NVFP4"}};
  nvfp4_checkpoint *checkpoint = empty();
  checkpoint->quant_config = nvfp4_config;
  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
    char name[64];
    snprintf(name, sizeof name, "%s.weight", cases[i].name);
    add(checkpoint, name, cases[i].dtype, N, K, bytes);
  }
  static const struct {
    const char *tensor, *layer; /* no layer: not listed */
    nvfp4_dtype dtype;
  } several[] = {{"mlp.experts.down_proj", "mlp.experts.down_proj", NVFP4_DTYPE_U8},
                 {"mlp.switch_mlp.up_proj.weight", "mlp.switch_mlp.up_proj", NVFP4_DTYPE_U32},
                 {"mlp.many.weight", "mlp.many", NVFP4_DTYPE_F8_E4M3},
                 {"mlp.experts.down_proj_scale", NULL, NVFP4_DTYPE_F8_E4M3},
                 {"mlp.switch_mlp.up_proj.scales", NULL, NVFP4_DTYPE_U8},
                 {"conv1d.weight", NULL, NVFP4_DTYPE_BF16}};
  enum { SEVERAL = sizeof several / sizeof several[0] };
  for (size_t i = 0; i < SEVERAL; i++) {
    nvfp4_tensor *tensor = add(checkpoint, several[i].tensor, several[i].dtype, 2, N, bytes);
    tensor->rank = 3;
    tensor->shape[2] = K;
  }
  nvfp4_reason reason;
  assert_ok(find(checkpoint, &reason), reason);
  assert_int_equal(nvfp4_checkpoint_layer_count(checkpoint), 8);
  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
    const nvfp4_layer_info *layer = nvfp4_checkpoint_find_layer(checkpoint, cases[i].name);
    assert_non_null(layer);
    assert_int_equal(layer->mode, cases[i].mode);
    assert_int_equal(layer->lookup, i == 0);
    assert_string_equal(layer->note, cases[i].note);
  }
  for (size_t i = 0; i < SEVERAL && several[i].layer != NULL; i++) {
    const nvfp4_layer_info *stacked = nvfp4_checkpoint_find_layer(checkpoint, several[i].layer);
    nvfp4_weights weights;
    nvfp4_layer_desc desc;
    void *owned;
    assert_non_null(stacked);
    assert_non_null(strstr(stacked->note, "not supported"));
    assert_int_equal(nvfp4_checkpoint_weights(checkpoint, stacked, &weights, &owned, &reason), NVFP4_E_UNSUPPORTED);
    assert_non_null(strstr(reason.text, stacked->note));
    assert_int_equal(nvfp4_layer_desc_from_checkpoint(stacked, &desc, NULL), NVFP4_E_UNSUPPORTED);
  }
  assert_string_equal(nvfp4_checkpoint_warning(checkpoint, 0),
                      "layers that the config says are quantised hold plain weights, taken as unquantised: 1 (the first: gate)");
  nvfp4_checkpoint_close(checkpoint);
}

static void fused_layers_have_partitions(void **state) {
  (void)state;
  static char heads[] = "{\"num_attention_heads\": 4, \"num_key_value_heads\": 2, \"head_dim\": 4}"; /* 16 + 8 + 8 rows */
  static char other[] = "{\"num_attention_heads\": 4, \"num_key_value_heads\": 4, \"head_dim\": 4}";
  static const struct {
    const char *base;
    char *config;
    int64_t parts, rows[3];
    const char *words; /* of the refusal */
  } cases[] = {{"a.qkv_proj", heads, 3, {16, 8, 8}, NULL},
               {"a.gate_up_proj", NULL, 2, {16, 16}, NULL},
               {"a.qkv_proj", NULL, 1, {32}, NULL},
               {"a.qkv_proj", NULL, 3, {0}, "num_attention_heads is needed"},
               {"a.qkv_proj", other, 3, {0}, "do not add up to N"},
               {"a.qkv_proj", heads, 2, {0}, "cannot be told"},
               {"qkv.o_proj", heads, 3, {0}, "cannot be told"},
               {"a.up_proj", heads, 2, {0}, "its name is neither"}};
  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
    nvfp4_checkpoint *checkpoint = empty();
    checkpoint->config = cases[i].config;
    add_modelopt(checkpoint, cases[i].base, N, cases[i].parts, true);
    if (cases[i].words != NULL) {
      refused(checkpoint, cases[i].words);
      continue;
    }
    const nvfp4_layer_info *layer = only_layer(checkpoint);
    assert_int_equal(layer->partition_count, cases[i].parts);
    int64_t first = 0;
    for (int64_t p = 0; p < cases[i].parts; p++) {
      assert_int_equal(layer->partitions[p].n_first, first);
      assert_int_equal(layer->partitions[p].n_rows, cases[i].rows[p]);
      assert_f32_bits(layer->partitions[p].weight.value, one_scale[p]);
      assert_f32_bits(layer->partitions[p].input.value, one_scale[0]);
      first += cases[i].rows[p];
    }
    nvfp4_checkpoint_close(checkpoint);
  }
}

static void inputs_of_fused_layers(void **state) {
  (void)state;
  nvfp4_checkpoint *checkpoint = empty();
  add_modelopt(checkpoint, "a.gate_up_proj", N, 1, false);
  add(checkpoint, "a.gate_up_proj.input_scale", NVFP4_DTYPE_F32, 2, -1, one_scale);
  const nvfp4_layer_info *layer = only_layer(checkpoint);
  assert_int_equal(layer->partition_count, 2);
  for (int64_t p = 0; p < 2; p++) {
    assert_f32_bits(layer->partitions[p].weight.value, one_scale[0]);
    assert_f32_bits(layer->partitions[p].input.value, one_scale[p]);
  }
  nvfp4_checkpoint_close(checkpoint);
  checkpoint = empty();
  add_modelopt(checkpoint, "a.gate_up_proj", N, 2, false);
  add(checkpoint, "a.gate_up_proj.input_scale", NVFP4_DTYPE_F32, 3, -1, one_scale);
  refused(checkpoint, "input_scale has 3 entries and a.gate_up_proj.weight_scale_2 has 2");
}

/* A 16-bit weight beside a weight_scale was never quantised, or the wrong tensor was. */
static void scales_of_a_plain_weight(void **state) {
  (void)state;
  nvfp4_checkpoint *checkpoint = empty();
  add(checkpoint, "a.weight", NVFP4_DTYPE_F16, N, K, bytes);
  add(checkpoint, "a.weight_scale", NVFP4_DTYPE_F8_E4M3, N, K / 16, bytes);
  refused(checkpoint, "a.weight is F16, but the layer has NVFP4 scales");
}

/* Every byte in every place: what is legal opens, and what is not is named by row and block. */
static void block_scales(void **state) {
  (void)state;
  uint8_t scales[N * K / 16];
  for (int byte = 0; byte < 256; byte++) {
    size_t at = (size_t)byte * 37 % sizeof scales;
    memset(scales, 0x7E, sizeof scales);
    scales[at] = (uint8_t)byte;
    nvfp4_checkpoint *checkpoint = empty();
    add_modelopt(checkpoint, "a", N, 1, true);
    checkpoint->tensors[1].data = scales;
    if (byte < 0x7F) {
      assert_non_null(only_layer(checkpoint));
      nvfp4_checkpoint_close(checkpoint);
      continue;
    }
    nvfp4_checkpoint *skipped = empty();
    add_modelopt(skipped, "a", N, 1, true);
    skipped->tensors[1].data = scales;
    qsort(skipped->tensors, skipped->tensor_count, sizeof *skipped->tensors, by_name);
    assert_int_equal(nvfp4_checkpoint_find_layers(skipped, NVFP4_OPEN_SKIP_SCALES, NULL), NVFP4_OK);
    nvfp4_checkpoint_close(skipped);
    char words[64];
    snprintf(words, sizeof words, "a.weight_scale: %s (0x%02X) at row %d, block %d;", (byte & 0x7F) == 0x7F ? "NaN" : "negative", byte,
             (int)at / 4, (int)at % 4);
    refused(checkpoint, words);
  }
}

static void gguf_blocks(void **state) {
  (void)state;
  static const float scale = 3, input = 7;
  uint8_t blocks[2 * 36];
  test_random random = {.state = 5};
  for (size_t i = 0; i < sizeof blocks; i++) {
    blocks[i] = i % 36 < 4 ? (uint8_t)(i % 36 + 0x30) : (uint8_t)test_random_u64(&random);
  }
  nvfp4_checkpoint *checkpoint = empty();
  add(checkpoint, "blk.0.attn_q.weight", NVFP4_DTYPE_GGUF_NVFP4, 2, 64, blocks);
  add(checkpoint, "blk.0.attn_q.scale", NVFP4_DTYPE_F32, 1, -1, &scale);
  add(checkpoint, "blk.0.attn_q.input_scale", NVFP4_DTYPE_F32, 1, -1, &input);
  const nvfp4_layer_info *layer = only_layer(checkpoint);
  assert_int_equal(layer->mode, NVFP4_MODE_W4A4);
  assert_f32_bits(layer->partitions[0].weight.value, 3);
  assert_f32_bits(layer->partitions[0].input.value, 7);
  nvfp4_weights weights;
  void *owned;
  nvfp4_reason reason;
  assert_ok(nvfp4_checkpoint_weights(checkpoint, layer, &weights, &owned, &reason), reason);
  assert_int_equal(weights.memory, NVFP4_MEMORY_HOST);
  for (int row = 0; row < 2; row++) {
    for (int k = 0; k < 64; k++) {
      uint8_t byte = blocks[36 * row + 4 + k / 16 * 8 + k % 8];
      int want = k % 16 < 8 ? byte & 15 : byte >> 4;
      assert_int_equal(weights.codes[32 * row + k / 2] >> 4 * (k % 2) & 15, want);
    }
    assert_memory_equal(weights.scales + 4 * row, blocks + 36 * row, 4);
  }
  nvfp4_weights_free(owned);
  nvfp4_checkpoint_close(checkpoint);

  blocks[36 + 2] = 0x7F;
  checkpoint = empty();
  add(checkpoint, "b.weight", NVFP4_DTYPE_GGUF_NVFP4, 2, 64, blocks);
  refused(checkpoint, "b.weight: NaN (0x7F) at row 1, block 2 (ggml would read it as 0)");
}

static void comfy_marker(void **state) {
  (void)state;
  static const struct {
    const char *marker;
    nvfp4_layout_kind layout;
    const char *words;
  } cases[] = {{"{\"format\": \"nvfp4\"}", NVFP4_LAYOUT_COMFY, NULL},
               {"{\"format\": \"float8_e4m3fn\"}", NVFP4_LAYOUT_NONE, NULL},
               {"{\"format\": 4}", NVFP4_LAYOUT_NONE, "a.comfy_quant"},
               {"{", NVFP4_LAYOUT_NONE, "a.comfy_quant"}};
  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
    nvfp4_checkpoint *checkpoint = empty();
    add(checkpoint, "a.comfy_quant", NVFP4_DTYPE_U8, (int64_t)strlen(cases[i].marker), -1, cases[i].marker);
    add(checkpoint, "a.weight", NVFP4_DTYPE_U8, N, K / 2, bytes);
    add(checkpoint, "a.weight_scale", NVFP4_DTYPE_F8_E4M3, 128, 4, bytes);
    add(checkpoint, "a.weight_scale_2", NVFP4_DTYPE_F32, -1, -1, one_scale);
    add(checkpoint, "a.bias", NVFP4_DTYPE_BF16, N - 5, -1, bytes);
    bytes[127 * 4] = 0x7F; /* row 127, column 0: padding */
    if (cases[i].words != NULL) {
      refused(checkpoint, cases[i].words);
      continue;
    }
    const nvfp4_layer_info *layer = only_layer(checkpoint);
    assert_int_equal(layer->layout, cases[i].layout);
    assert_int_equal(layer->n, cases[i].layout == NVFP4_LAYOUT_COMFY ? N - 5 : N); /* the bias tells how many rows are real */
    nvfp4_checkpoint_close(checkpoint);
  }
  /* A bad scale where a row is real is named by that row, not by its place in the tile. */
  nvfp4_checkpoint *checkpoint = empty();
  add(checkpoint, "a.comfy_quant", NVFP4_DTYPE_U8, 19, -1, "{\"format\": \"nvfp4\"}");
  add(checkpoint, "a.weight", NVFP4_DTYPE_U8, N, K / 2, bytes);
  add(checkpoint, "a.weight_scale", NVFP4_DTYPE_F8_E4M3, 128, 4, bytes);
  add(checkpoint, "a.weight_scale_2", NVFP4_DTYPE_F32, -1, -1, one_scale);
  bytes[nvfp4_scale_offset(NVFP4_SCALES_128X4, 4, 17, 3)] = 0xFF;
  refused(checkpoint, "a.weight_scale: NaN (0xFF) at row 17, block 3");
}

static void mlx_global_is_an_amax(void **state) {
  (void)state;
  static const float amax = 5376;
  nvfp4_checkpoint *checkpoint = empty();
  add(checkpoint, "a.weight", NVFP4_DTYPE_U32, N, K / 8, bytes);
  add(checkpoint, "a.scales", NVFP4_DTYPE_U8, N, K / 16, bytes);
  add(checkpoint, "a.global_scale", NVFP4_DTYPE_F32, -1, -1, &amax);
  const nvfp4_layer_info *layer = only_layer(checkpoint);
  assert_int_equal(layer->layout, NVFP4_LAYOUT_MLX);
  assert_int_equal(layer->mode, NVFP4_MODE_W4A16);
  assert_f32_bits(layer->partitions[0].weight.value, amax);
  assert_int_equal(layer->partitions[0].weight.kind, NVFP4_GLOBAL_AMAX);
  nvfp4_checkpoint_close(checkpoint);
}

static void refusals(void **state) {
  (void)state;
  static const struct {
    const char *name; /* of one tensor more */
    nvfp4_dtype dtype;
    int64_t a, b;
    const char *words;
  } cases[] = {{"a.bias", NVFP4_DTYPE_F32, N - 1, -1, "a.bias has shape [31]; a layer of N = 32 needs [32]"},
               {"a.bias", NVFP4_DTYPE_F32, N, 1, "a.bias has shape [32, 1]"},
               {"a.bias", NVFP4_DTYPE_I32, N, -1, "a.bias is I32"},
               {"a.weight_packed", NVFP4_DTYPE_U8, N, K / 2, "both .weight and .weight_packed"},
               {"a.weight_global_scale", NVFP4_DTYPE_F32, 1, -1, "which one counts"},
               {"a.pre_quant_scale", NVFP4_DTYPE_BF16, K, -1, "a.pre_quant_scale"},
               {"b.weight_global_scale", NVFP4_DTYPE_F32, 1, -1, "tensor b.weight_packed is missing"},
               {"b.weight_scale", NVFP4_DTYPE_F8_E4M3, N, K / 16, "tensor b.weight is missing"},
               {"b.weight_packed", NVFP4_DTYPE_U8, N, K / 2, "tensor b.weight_scale is missing"},
               {"b.weight_packed", NVFP4_DTYPE_U8, -1, -1, "needs 2 dimensions"}};
  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
    nvfp4_checkpoint *checkpoint = empty();
    add_modelopt(checkpoint, "a", N, 1, true);
    add(checkpoint, cases[i].name, cases[i].dtype, cases[i].a, cases[i].b, bytes);
    refused(checkpoint, cases[i].words);
  }
  nvfp4_weights weights;
  assert_int_equal(nvfp4_checkpoint_weights(NULL, NULL, &weights, NULL, NULL), NVFP4_E_ARG);
  assert_int_equal(nvfp4_layer_desc_from_checkpoint(NULL, NULL, NULL), NVFP4_E_ARG);
}

/* A model of 25,000 NVFP4 experts is opened in time that no one notices: linear passes and binary searches. */
static void many_tensors(void **state) {
  (void)state;
  static char config[] =
      "{\"quantization\": {\"quant_algo\": \"NVFP4\", \"exclude_modules\": [\"lm_head\", \"model.layers.1.self_attn*\","
      " \"model.layers.2.self_attn*\", \"model.layers.*.mlp.gate\"]}}";
  nvfp4_checkpoint *checkpoint = empty();
  checkpoint->quant_config = config;
  for (int i = 0; i < 25000; i++) {
    char name[96];
    snprintf(name, sizeof name, "model.layers.%d.mlp.experts.%d.down_proj", i / 500, i % 500);
    add_modelopt(checkpoint, name, N, 1, true);
  }
  qsort(checkpoint->tensors, checkpoint->tensor_count, sizeof *checkpoint->tensors, by_name);
  nvfp4_reason reason;
  clock_t begin = clock();
  assert_ok(nvfp4_checkpoint_find_layers(checkpoint, 0, &reason), reason);
  double seconds = (double)(clock() - begin) / CLOCKS_PER_SEC;
  print_message("%zu tensors, %zu layers: %.3f s\n", checkpoint->tensor_count, nvfp4_checkpoint_layer_count(checkpoint), seconds);
  assert_int_equal(nvfp4_checkpoint_layer_count(checkpoint), 25000);
  assert_true(seconds < 5); /* a quadratic pass takes minutes */
  nvfp4_checkpoint_close(checkpoint);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(modelopt_fields),
      cmocka_unit_test(order_of_names),
      cmocka_unit_test(modes_follow_config_and_tensors),
      cmocka_unit_test(other_layers_are_listed),
      cmocka_unit_test(fused_layers_have_partitions),
      cmocka_unit_test(inputs_of_fused_layers),
      cmocka_unit_test(scales_of_a_plain_weight),
      cmocka_unit_test(block_scales),
      cmocka_unit_test(gguf_blocks),
      cmocka_unit_test(comfy_marker),
      cmocka_unit_test(mlx_global_is_an_amax),
      cmocka_unit_test(refusals),
      cmocka_unit_test(many_tensors),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
