/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE /* mkdtemp */
#include "layouts/gguf_config.h"

#include <math.h>

#include "unit/quantizer/quantizer_support.h"

static nvfp4_reason reason;

/* The pairs that llama.cpp's converter writes for the same config.json, but for names and its size label. */
static void the_pairs_are_those_of_the_converter(void **state) {
  (void)state;
  char folder[256], path[512];
  nvfp4_gguf_model model;
  char *config = test_read_file(GOLDEN "modelopt_nvfp4/config.json", NULL);
  assert_ok(nvfp4_gguf_model_read("x", config, &model, &reason), reason);
  free(config);
  assert_int_equal(nvfp4_gguf_model_head_rows(&model), 32);
  nvfp4_gguf_writer *writer = NULL;
  path_in(make_folder(folder), "x.gguf", path);
  assert_ok(nvfp4_gguf_writer_create(path, &writer, &reason), reason);
  nvfp4_gguf_model_write(&model, "name", writer);
  assert_ok(nvfp4_gguf_writer_begin(writer, &reason), reason);
  assert_ok(nvfp4_gguf_writer_finish(writer, &reason), reason);
  nvfp4_gguf_writer_destroy(writer);
  nvfp4_checkpoint *ours = NULL, *theirs = NULL;
  assert_ok(nvfp4_checkpoint_open(path, 0, &ours, &reason), reason);
  assert_ok(nvfp4_checkpoint_open(GOLDEN "gguf_mlx/llama-modelopt-nvfp4.gguf", 0, &theirs, &reason), reason);
  nvfp4_gguf_string key, value, our_key, our_value;
  for (size_t i = 0; nvfp4_gguf_pair(theirs->gguf, i, &key, &value); i++) {
    bool found = false;
    for (size_t j = 0; nvfp4_gguf_pair(ours->gguf, j, &our_key, &our_value) && !found; j++) {
      found = our_key.bytes == key.bytes && memcmp(our_key.text, key.text, key.bytes) == 0 && our_value.bytes == value.bytes &&
              memcmp(our_value.text, value.text, value.bytes) == 0;
    }
    static const char *const others[] = {"general.name", "general.size_label", "tokenizer.ggml.model"};
    for (size_t o = 0; o < 3; o++) {
      found = found || (strlen(others[o]) == key.bytes && memcmp(others[o], key.text, key.bytes) == 0);
    }
    if (!found) {
      fail_msg("%.*s is missing or different", (int)key.bytes, key.text);
    }
  }
  nvfp4_checkpoint_close(ours);
  nvfp4_checkpoint_close(theirs);
  remove_folder(folder);
}

#define LLAMA(more)                                                                                        \
  "{\"model_type\": \"llama\", \"num_hidden_layers\": 1, \"hidden_size\": 64, \"intermediate_size\": 64, " \
  "\"num_attention_heads\": 1, \"vocab_size\": 32, \"rms_norm_eps\": 1e-5" more "}"

static void configs_of_other_kinds(void **state) {
  (void)state;
  nvfp4_gguf_model model;
  assert_ok(nvfp4_gguf_model_read("x", NULL, &model, &reason), reason);
  assert_string_equal(model.arch, "");
  assert_ok(nvfp4_gguf_model_read("x", "{\"quantization\": {}}", &model, &reason), reason);
  assert_string_equal(model.arch, "");
  assert_ok(nvfp4_gguf_model_read("x", LLAMA(", \"eos_token_id\": [7, 8], \"rope_scaling\": {\"type\": \"linear\", \"factor\": 2}"), &model,
                                  &reason),
            reason);
  assert_true(model.eos == 7 && model.bos == -1 && model.rope_linear == 2 && model.kv_heads == 1 && model.head_dim == 64);
  static const struct {
    const char *config, *says;
  } cases[] = {{"{\"model_type\": \"mamba\"}", "mamba"},
               {LLAMA(", \"rope_scaling\": {\"rope_type\": \"yarn\", \"factor\": 2}"), "yarn"},
               {LLAMA(", \"rope_parameters\": {\"rope_type\": \"llama3\", \"factor\": 2}"), "llama3"},
               {LLAMA(", \"head_dim\": -1"), "head_dim"},
               {"{\"model_type\": \"qwen2\"}", "num_hidden_layers"}};
  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
    assert_int_not_equal(nvfp4_gguf_model_read("x", cases[i].config, &model, &reason), NVFP4_OK);
    assert_non_null(strstr(reason.text, cases[i].says));
  }
}

/* Llama 3.2's numbers; the factors as transformers' _compute_llama3_parameters has them: 1 for short waves, 32 for long ones, and between
 * them 1 / ((1 - s) / 32 + s), where s grows from 0 to 1 with 8192 / wavelength from 1 to 4. */
static void llama3_has_factors(void **state) {
  (void)state;
  nvfp4_gguf_model model;
  float factors[32];
  assert_ok(nvfp4_gguf_model_read("x",
                                  LLAMA(", \"rope_theta\": 500000.0, \"rope_scaling\": {\"factor\": 32.0, \"high_freq_factor\": 4.0, "
                                        "\"low_freq_factor\": 1.0, \"original_max_position_embeddings\": 8192, \"rope_type\": \"llama3\"}"),
                                  &model, &reason),
            reason);
  nvfp4_gguf_rope_factors(&model, factors);
  int between = 0;
  for (int i = 0; i < 32; i++) {
    double wavelength = 2 * 3.14159265358979323846 * pow(500000.0, i / 32.0), turns = 8192 / wavelength, s = (turns - 1) / 3;
    float expected = turns > 4 ? 1.0f : turns < 1 ? 32.0f : (float)(1 / ((1 - s) / 32 + s));
    assert_f32_bits(factors[i], expected);
    between += expected != 1.0f && expected != 32.0f;
  }
  assert_true(factors[0] == 1.0f && factors[31] == 32.0f && between > 1);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(the_pairs_are_those_of_the_converter),
      cmocka_unit_test(configs_of_other_kinds),
      cmocka_unit_test(llama3_has_factors),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
