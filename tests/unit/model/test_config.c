/* SPDX-License-Identifier: Apache-2.0 */
#include "model/config.h"

#include <stdio.h>

#include "support.h"

#define SHAPE "\"num_hidden_layers\": 3, \"hidden_size\": 64, \"intermediate_size\": 96, \"num_attention_heads\": 4, \"vocab_size\": 100"
#define LLAMA "\"architectures\": [\"LlamaForCausalLM\"], "

static nvfp4_model_config parse(const char *json) {
  nvfp4_model_config config;
  nvfp4_reason reason = {0};
  assert_ok(nvfp4_model_config_parse(json, &config, &reason), reason);
  return config;
}

static void refused(const char *json, nvfp4_status status, const char *word) {
  nvfp4_model_config config;
  nvfp4_reason reason = {0};
  assert_int_equal(nvfp4_model_config_parse(json, &config, &reason), status);
  assert_int_equal(reason.status, status);
  if (strstr(reason.text, word) == NULL) {
    fail_msg("\"%s\" is not in: %s", word, reason.text);
  }
}

static void defaults(void **state) {
  (void)state;
  nvfp4_model_config config = parse("{" LLAMA SHAPE "}");
  assert_string_equal(config.architecture, "LlamaForCausalLM");
  assert_int_equal(config.layers, 3);
  assert_int_equal(config.kv_heads, 4);
  assert_int_equal(config.head_dim, 16);
  assert_int_equal(config.context, 2048);
  assert_int_equal(config.sliding_window, 0);
  assert_f32_bits(config.rms_norm_eps, 1e-6f);
  assert_true(config.rope_theta == 10000.0);
  assert_false(config.tied_output || config.attention_bias || config.rope_interleaved || config.gguf_names || config.rope_llama3.used);
}

static void options(void **state) {
  (void)state;
  nvfp4_model_config config =
      parse("{" LLAMA SHAPE
            ", \"head_dim\": 24, \"num_key_value_heads\": 2, \"rms_norm_eps\": 1e-5, \"rope_theta\": 500000.0, "
            "\"tie_word_embeddings\": true, \"attention_bias\": true, \"max_position_embeddings\": 777, \"rope_scaling\": null}");
  assert_int_equal(config.head_dim, 24);
  assert_int_equal(config.kv_heads, 2);
  assert_int_equal(config.context, 777);
  assert_f32_bits(config.rms_norm_eps, 1e-5f);
  assert_true(config.rope_theta == 500000.0);
  assert_true(config.tied_output && config.attention_bias);
  /* transformers 5 */
  assert_true(parse("{" LLAMA SHAPE ", \"rope_parameters\": {\"rope_theta\": 7.5, \"rope_type\": \"default\"}}").rope_theta == 7.5);
  assert_true(
      parse("{\"architectures\": [\"Qwen2ForCausalLM\"], " SHAPE ", \"sliding_window\": 9, \"use_sliding_window\": false}").attention_bias);
  assert_int_equal(parse("{\"architectures\": [\"MistralForCausalLM\"], " SHAPE ", \"sliding_window\": 9}").sliding_window, 9);
  config = parse("{" LLAMA SHAPE
                 ", \"rope_scaling\": {\"rope_type\": \"llama3\", \"factor\": 8, \"low_freq_factor\": 1, \"high_freq_factor\": 4, "
                 "\"original_max_position_embeddings\": 8192}}");
  assert_true(config.rope_llama3.used && config.rope_llama3.factor == 8 && config.rope_llama3.original_context == 8192);
}

static void refuses_by_name(void **state) {
  (void)state;
  refused("{", NVFP4_E_FORMAT, "line 1");
  refused("[]", NVFP4_E_UNSUPPORTED, "no architectures");
  refused("{\"architectures\": [\"MixtralForCausalLM\"], " SHAPE "}", NVFP4_E_UNSUPPORTED, "MixtralForCausalLM");
  refused("{" LLAMA SHAPE ", \"hidden_act\": \"gelu\"}", NVFP4_E_UNSUPPORTED, "gelu");
  refused("{" LLAMA SHAPE ", \"rope_scaling\": {\"type\": \"yarn\"}}", NVFP4_E_UNSUPPORTED, "yarn");
  refused("{" LLAMA SHAPE ", \"rope_scaling\": {\"rope_type\": \"llama3\"}}", NVFP4_E_FORMAT, "factor");
  refused("{" LLAMA SHAPE ", \"partial_rotary_factor\": 0.5}", NVFP4_E_UNSUPPORTED, "partial_rotary_factor");
  refused("{" LLAMA "\"hidden_size\": 64}", NVFP4_E_FORMAT, "num_hidden_layers is missing");
  refused("{" LLAMA SHAPE ", \"num_key_value_heads\": 3}", NVFP4_E_FORMAT, "4 attention heads and 3");
  refused("{" LLAMA SHAPE ", \"num_key_value_heads\": 0}", NVFP4_E_FORMAT, "key-value heads is 0");
  refused("{" LLAMA SHAPE ", \"head_dim\": 15}", NVFP4_E_FORMAT, "15");
  refused("{" LLAMA SHAPE ", \"head_dim\": \"x\"}", NVFP4_E_FORMAT, "head_dim");
  refused("{" LLAMA SHAPE ", \"head_dim\": 4000000000}", NVFP4_E_FORMAT, "4000000000");
  refused("{" LLAMA SHAPE ", \"rms_norm_eps\": -1}", NVFP4_E_FORMAT, "RMSNorm");
  refused("{" LLAMA SHAPE ", \"rope_theta\": 0}", NVFP4_E_FORMAT, "theta");
}

static void of_checkpoints(void **state) {
  (void)state;
  nvfp4_reason reason = {0};
  nvfp4_checkpoint *checkpoint = NULL;
  nvfp4_model_config hf, gguf;
  assert_ok(nvfp4_checkpoint_open(GOLDEN "modelopt_nvfp4", 0, &checkpoint, &reason), reason);
  assert_ok(nvfp4_model_config_read(checkpoint, &hf, &reason), reason);
  nvfp4_checkpoint_close(checkpoint);
  /* The same model, converted. */
  assert_ok(nvfp4_checkpoint_open(GOLDEN "gguf_mlx/llama-modelopt-nvfp4.gguf", 0, &checkpoint, &reason), reason);
  assert_ok(nvfp4_model_config_read(checkpoint, &gguf, &reason), reason);
  nvfp4_checkpoint_close(checkpoint);
  assert_string_equal(gguf.architecture, "llama");
  assert_true(gguf.rope_interleaved && gguf.gguf_names);
  assert_int_equal(gguf.layers, hf.layers);
  assert_int_equal(gguf.hidden, hf.hidden);
  assert_int_equal(gguf.intermediate, hf.intermediate);
  assert_int_equal(gguf.heads, hf.heads);
  assert_int_equal(gguf.kv_heads, hf.kv_heads);
  assert_int_equal(gguf.head_dim, hf.head_dim);
  assert_int_equal(gguf.vocabulary, hf.vocabulary);
  assert_int_equal(gguf.context, hf.context);
  assert_f32_bits(gguf.rms_norm_eps, hf.rms_norm_eps);
  assert_true(gguf.rope_theta == hf.rope_theta);
  assert_int_equal(gguf.tied_output, hf.tied_output);
  /* A file without a config has tensors, but no shape. */
  assert_ok(nvfp4_checkpoint_open(GOLDEN "broken/ok_modelopt.safetensors", 0, &checkpoint, &reason), reason);
  assert_int_equal(nvfp4_model_config_read(checkpoint, &hf, &reason), NVFP4_E_UNSUPPORTED);
  assert_non_null(strstr(reason.text, "config.json"));
  nvfp4_checkpoint_close(checkpoint);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(defaults), cmocka_unit_test(options), cmocka_unit_test(refuses_by_name),
                                     cmocka_unit_test(of_checkpoints)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
