/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE /* mkdtemp */
#include "unit/quantizer/quantizer_support.h"

static nvfp4_reason reason;

typedef nvfp4_status (*make_text_fn)(const nvfp4_model_description *model, char **out, nvfp4_reason *reason);

/* The text that `make` gives, parsed; NULL if it gives none. */
static json_t *made(nvfp4_quantize_job *job, make_text_fn make) {
  char *text = NULL;
  nvfp4_model_description model;
  assert_ok(nvfp4_quantize_describe(job, &model, &reason), reason);
  assert_ok(make(&model, &text, &reason), reason);
  json_t *value = text != NULL ? json_loads(text, 0, NULL) : NULL;
  assert_true(text == NULL || value != NULL);
  free(text);
  return value;
}

/* Keys that a tool writes and that say nothing here, or that differ with the producer. */
static void drop(json_t *object, const char *const *keys) {
  for (; *keys != NULL; keys++) {
    json_object_del(object, *keys);
  }
}

static void expect_same(json_t *ours, json_t *theirs) {
  if (!json_equal(ours, theirs)) {
    char *a = json_dumps(ours, JSON_SORT_KEYS), *b = json_dumps(theirs, JSON_SORT_KEYS);
    fail_msg("ours:   %s\ntheirs: %s", a, b);
  }
}

/* What the tools write for the same kind of model, but for the producer and empty sections. */
static void configs_are_those_of_the_tools(void **state) {
  (void)state;
  static const struct {
    const char *golden;
    nvfp4_layout_kind layout;
    bool calibrated;
  } cases[] = {{GOLDEN "modelopt_nvfp4", NVFP4_LAYOUT_MODELOPT, true},
               {GOLDEN "modelopt_w4a16", NVFP4_LAYOUT_MODELOPT, false},
               {GOLDEN "ct_nvfp4", NVFP4_LAYOUT_COMPRESSED_TENSORS, true},
               {GOLDEN "ct_nvfp4a16", NVFP4_LAYOUT_COMPRESSED_TENSORS, false}};
  static const char *const idle[] = {"producer", "moe_sparsity_config", "sparsity_config", "transform_config", "ignore", NULL};
  for (size_t i = 0; i < 4; i++) {
    nvfp4_quantize_job job = open_job(TINY, cases[i].layout, 1);
    job.options.mode = cases[i].calibrated ? NVFP4_MODE_W4A4 : NVFP4_MODE_W4A16;
    assert_ok(nvfp4_quantize_plan(&job, &reason), reason);
    json_t *golden = read_json(cases[i].golden, "config.json"), *config = made(&job, nvfp4_hf_config);
    json_t *ours = json_object_get(config, "quantization_config"), *theirs = json_object_get(golden, "quantization_config");
    if (cases[i].layout == NVFP4_LAYOUT_MODELOPT) {
      assert_true(json_equal(json_object_get(ours, "ignore"), json_object_get(theirs, "ignore")));
      json_t *file = made(&job, nvfp4_hf_quant_config), *golden_file = read_json(cases[i].golden, "hf_quant_config.json");
      assert_string_equal(json_string_value(json_object_get(json_object_get(file, "producer"), "name")), "modelopt");
      drop(file, idle);
      drop(golden_file, idle);
      expect_same(file, golden_file);
      json_decref(file);
      json_decref(golden_file);
    } else {
      assert_null(made(&job, nvfp4_hf_quant_config));
    }
    drop(ours, idle);
    drop(theirs, idle);
    expect_same(ours, theirs);
    json_decref(golden);
    json_decref(config);
    close_job(&job);
  }
}

static void the_source_config_is_kept(void **state) {
  (void)state;
  for (int lm_head = 0; lm_head < 2; lm_head++) {
    nvfp4_quantize_job job = open_job(TINY, NVFP4_LAYOUT_MODELOPT, 1);
    job.options.lm_head = lm_head;
    assert_ok(nvfp4_quantize_plan(&job, &reason), reason);
    json_t *ours = made(&job, nvfp4_hf_config), *theirs = read_json(TINY, "config.json");
    json_object_del(ours, "quantization_config");
    if (lm_head != 0) {
      json_object_set_new(theirs, "tie_word_embeddings", json_false());
    }
    expect_same(ours, theirs);
    json_decref(ours);
    json_decref(theirs);
    close_job(&job);
  }
}

static void a_lone_file_gets_a_config(void **state) {
  (void)state;
  static const float zeros[256];
  static const test_tensor tensors[] = {{"proj.weight", NVFP4_DTYPE_F32, 2, {16, 16}, zeros}};
  char folder[256];
  write_tensors(make_folder(folder), "model.safetensors", tensors, 1);
  nvfp4_quantize_job job = open_job(folder, NVFP4_LAYOUT_MODELOPT, 1);
  assert_ok(nvfp4_quantize_plan(&job, &reason), reason);
  json_t *config = made(&job, nvfp4_hf_config);
  assert_int_equal(json_object_size(config), 1);
  json_decref(config);
  close_job(&job);
  remove_folder(folder);
}

static void gguf_metadata_become_a_config(void **state) {
  (void)state;
  char folder[256], path[512];
  write_tiny_gguf(path_in(make_folder(folder), "tiny.gguf", path));
  nvfp4_quantize_job job = open_job(path, NVFP4_LAYOUT_MODELOPT, 1);
  assert_ok(nvfp4_quantize_plan(&job, &reason), reason);
  json_t *ours = made(&job, nvfp4_hf_config), *theirs = read_json(TINY, "config.json");
  json_object_del(ours, "quantization_config");
  json_object_del(theirs, "pad_token_id");
  expect_same(ours, theirs);
  json_t *generation = made(&job, nvfp4_hf_generation_config);
  assert_int_equal(json_integer_value(json_object_get(generation, "eos_token_id")), 2);
  json_decref(generation);
  json_decref(ours);
  json_decref(theirs);
  close_job(&job);
  remove_folder(folder);
}

/* A Qwen2 file with q/k/v biases; rows stay where they are. */
static void qwen2_is_known(void **state) {
  (void)state;
  static const float zeros[64 * 64];
  static const char *const keys[] = {"block_count", "context_length", "embedding_length", "feed_forward_length", "attention.head_count"};
  static const uint32_t values[] = {1, 512, 64, 64, 4};
  char folder[256], path[512], key[64];
  int64_t square[2] = {64, 64};
  gguf_file file = {0};
  gguf_text(&file, "general.architecture", "qwen2");
  for (int i = 0; i < 5; i++) {
    snprintf(key, sizeof key, "qwen2.%s", keys[i]);
    gguf_u32(&file, key, values[i]);
  }
  gguf_f32(&file, "qwen2.attention.layer_norm_rms_epsilon", 1e-6f);
  gguf_f32(&file, "qwen2.rope.freq_base", 1000000.0f);
  gguf_tensor(&file, "token_embd.weight", GGUF_F32, 2, square, zeros, sizeof zeros);
  gguf_tensor(&file, "output.weight", GGUF_F32, 2, square, zeros, sizeof zeros);
  gguf_tensor(&file, "blk.0.attn_q.weight", GGUF_F32, 2, square, zeros, sizeof zeros);
  gguf_tensor(&file, "blk.0.attn_q.bias", GGUF_F32, 1, square, zeros, 64 * sizeof *zeros);
  gguf_write(&file, path_in(make_folder(folder), "x.gguf", path));
  nvfp4_quantize_job job = open_job(path, NVFP4_LAYOUT_MODELOPT, 1);
  assert_ok(nvfp4_quantize_plan(&job, &reason), reason);
  assert_int_equal(planned(&job, "model.layers.0.self_attn.q_proj")->head_rows, 0);
  assert_non_null(planned(&job, "model.layers.0.self_attn.q_proj.bias"));
  json_t *config = made(&job, nvfp4_hf_config);
  assert_string_equal(json_string_value(json_array_get(json_object_get(config, "architectures"), 0)), "Qwen2ForCausalLM");
  assert_true(json_is_false(json_object_get(config, "tie_word_embeddings")));
  assert_int_equal(json_integer_value(json_object_get(config, "num_key_value_heads")), 4);
  assert_true(json_real_value(json_object_get(config, "rms_norm_eps")) == 1e-6);
  json_decref(config);
  close_job(&job);
  remove_folder(folder);
}

/* tiny's metadata with one pair more, which Hugging Face's Llama would not compute. */
static void refuse_config(const char *key, const char *text, uint32_t number, const char *says) {
  static const float zeros[64 * 64];
  char folder[256], path[512];
  int64_t square[2] = {64, 64};
  gguf_file file = {0};
  gguf_text(&file, "general.architecture", "llama");
  if (key != NULL && text != NULL) {
    gguf_text(&file, key, text);
  } else if (key != NULL) {
    gguf_u32(&file, key, number);
  }
  static const char *const keys[] = {"llama.block_count", "llama.context_length", "llama.embedding_length", "llama.feed_forward_length",
                                     "llama.attention.head_count"};
  for (int i = 0; i < 5; i++) {
    if (key == NULL || strcmp(keys[i], key) != 0) {
      gguf_u32(&file, keys[i], i == 4 ? 4 : 64);
    }
  }
  if (strcmp(says, "epsilon") != 0) {
    gguf_f32(&file, "llama.attention.layer_norm_rms_epsilon", 1e-5f);
  }
  gguf_tensor(&file, "token_embd.weight", GGUF_F32, 2, square, zeros, sizeof zeros);
  gguf_tensor(&file, "blk.0.ffn_up.weight", GGUF_F32, 2, square, zeros, sizeof zeros);
  gguf_write(&file, path_in(make_folder(folder), "x.gguf", path));
  nvfp4_quantize_job job = open_job(path, NVFP4_LAYOUT_MODELOPT, 1);
  assert_ok(nvfp4_quantize_plan(&job, &reason), reason);
  char *out = NULL;
  nvfp4_model_description model;
  assert_ok(nvfp4_quantize_describe(&job, &model, &reason), reason);
  assert_int_not_equal(nvfp4_hf_config(&model, &out, &reason), NVFP4_OK);
  if (strstr(reason.text, says) == NULL) {
    fail_msg("\"%s\" does not say \"%s\"", reason.text, says);
  }
  close_job(&job);
  remove_folder(folder);
}

static void metadata_that_cannot_be_translated(void **state) {
  (void)state;
  refuse_config("llama.rope.scaling.type", "yarn", 0, "yarn");
  refuse_config("llama.rope.dimension_count", NULL, 8, "8 of 16");
  refuse_config("llama.block_count", NULL, 0, "llama.block_count");
  refuse_config(NULL, NULL, 0, "epsilon");
}

static void numbers_keep_their_digits(void **state) {
  (void)state;
  static const double values[] = {1e-6, 1e-5, 0.02, 10000.0, 0.1 + 0.2, 1.0 / 3.0, 5e-324};
  for (size_t i = 0; i < sizeof values / sizeof values[0]; i++) {
    char *text = NULL;
    assert_ok(nvfp4_json_text(json_pack("[f]", values[i]), &text, &reason), reason);
    json_t *again = json_loads(text, 0, NULL);
    assert_true(json_real_value(json_array_get(again, 0)) == values[i]);
    assert_true(i > 3 || strlen(text) < 16); /* "[\n  1e-6\n]\n" */
    assert_int_equal(text[strlen(text) - 1], '\n');
    json_decref(again);
    free(text);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(configs_are_those_of_the_tools),
      cmocka_unit_test(the_source_config_is_kept),
      cmocka_unit_test(a_lone_file_gets_a_config),
      cmocka_unit_test(gguf_metadata_become_a_config),
      cmocka_unit_test(qwen2_is_known),
      cmocka_unit_test(metadata_that_cannot_be_translated),
      cmocka_unit_test(numbers_keep_their_digits),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
