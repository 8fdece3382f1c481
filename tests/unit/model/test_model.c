/* SPDX-License-Identifier: Apache-2.0 */
#include <math.h>
#include <nvfp4/model.h>
#include <stdio.h>
#include <stdlib.h>

#include "checkpoint/checkpoint.h"
#include "kernels/ref/spec.h"
#include "model/transformer.h"
#include "support.h"

static nvfp4_context *context;

static int setup(void **state) {
  (void)state;
  nvfp4_options options = {.struct_size = sizeof options, .threads = 1};
  return nvfp4_context_create(&options, &context, NULL) == NVFP4_OK ? 0 : -1;
}

static int teardown(void **state) {
  (void)state;
  nvfp4_context_destroy(context);
  return 0;
}

static nvfp4_checkpoint *open_golden(const char *path) {
  nvfp4_reason reason = {0};
  nvfp4_checkpoint *checkpoint = NULL;
  assert_ok(nvfp4_checkpoint_open(path, 0, &checkpoint, &reason), reason);
  return checkpoint;
}

static nvfp4_model *create(const nvfp4_checkpoint *checkpoint, const nvfp4_model_options *options) {
  nvfp4_reason reason = {0};
  nvfp4_model *model = NULL;
  assert_ok(nvfp4_model_create(context, checkpoint, options, &model, &reason), reason);
  return model;
}

static void says_what_it_runs(void **state) {
  (void)state;
  nvfp4_checkpoint *checkpoint = open_golden(GOLDEN "modelopt_mixed");
  nvfp4_policy policy = {.struct_size = sizeof policy, .kernel = "ref_*"};
  nvfp4_model_options options = {.struct_size = sizeof options, .policy = &policy};
  nvfp4_model *model = create(checkpoint, &options);
  nvfp4_model_info info;
  nvfp4_model_get_info(model, &info);
  assert_int_equal(info.layers, 2);
  assert_int_equal(info.hidden, 128);
  assert_int_equal(info.vocabulary, 256);
  assert_int_equal(info.context_tokens, 512);
  assert_int_equal(info.linear_layers, 15);
  assert_int_equal(info.nvfp4_layers, 6);
  /* Two blocks of FP8 q, k, v, o, which become bf16, and lm_head in bf16. */
  assert_int_equal(info.dense_bytes, (2 * (128 + 64 + 64 + 128) + 256) * 128 * 2);
  /* At least the codes and scales. */
  assert_true(info.packed_bytes >= 2 * 3 * 320 * 128 * 9 / 16);
  const nvfp4_report *report = NULL;
  assert_string_equal(nvfp4_model_linear(model, 0, &report), "model.layers.0.self_attn.q_proj");
  assert_string_equal(report->chosen, "ref_w16a16");
  assert_string_equal(nvfp4_model_linear(model, 13, &report), "model.layers.1.mlp.down_proj");
  assert_non_null(report);
  assert_string_equal(report->chosen, "ref_w4a4");
  assert_string_equal(nvfp4_model_linear(model, 14, NULL), "lm_head");
  assert_null(nvfp4_model_linear(model, 15, &report));
  nvfp4_model_destroy(model);
  options.mode = NVFP4_MODE_W4A16;
  model = create(checkpoint, &options);
  nvfp4_model_linear(model, 13, &report);
  assert_string_equal(report->chosen, "ref_w4a16");
  nvfp4_model_destroy(model);
  nvfp4_checkpoint_close(checkpoint);
}

typedef struct sight {
  int calls;
  int64_t rows;
  char names[16][64];
} sight;

static void observe(void *cookie, const char *layer, const float *x, int64_t m, int64_t k) {
  sight *seen = cookie;
  assert_in_range(seen->calls, 0, 15);
  snprintf(seen->names[seen->calls++], sizeof seen->names[0], "%s", layer);
  seen->rows += m;
  assert_int_equal(k, strstr(layer, "ffn_down") != NULL ? 320 : 128);
  for (int64_t i = 0; i < m * k; i++) {
    assert_true(isfinite(x[i]));
  }
}

/* Every linear layer once a step, in the order in which they are listed; the output sees the rows whose logits are wanted. */
static void observer_sees_every_layer(void **state) {
  (void)state;
  nvfp4_checkpoint *checkpoint = open_golden(GOLDEN "gguf_mlx/llama-modelopt-nvfp4.gguf");
  nvfp4_model *model = create(checkpoint, NULL);
  sight seen = {0};
  float logits[256];
  int32_t tokens[3] = {5, 6, 7};
  nvfp4_model_observe(model, observe, &seen);
  assert_int_equal(nvfp4_model_forward(model, tokens, 3, false, logits, NULL), NVFP4_OK);
  assert_int_equal(seen.calls, 15);
  assert_int_equal(seen.rows, 14 * 3 + 1);
  for (int i = 0; i < 15; i++) {
    assert_string_equal(seen.names[i], nvfp4_model_linear(model, (size_t)i, NULL));
  }
  assert_string_equal(seen.names[14], "output");
  nvfp4_model_observe(model, NULL, NULL);
  assert_int_equal(nvfp4_model_forward(model, tokens, 3, false, logits, NULL), NVFP4_OK);
  assert_int_equal(seen.calls, 15);
  nvfp4_model_destroy(model);
  nvfp4_checkpoint_close(checkpoint);
}

static void text_is_observed_block_by_block(void **state) {
  (void)state;
  nvfp4_checkpoint *checkpoint = open_golden(GOLDEN "gguf_mlx/llama-modelopt-nvfp4.gguf");
  nvfp4_model_options options = {.struct_size = sizeof options, .batch_tokens = 2};
  nvfp4_reason reason = {0};
  sight seen = {0};
  int32_t tokens[2] = {5, 6};
  assert_ok(nvfp4_observe_text(context, checkpoint, &options, tokens, 2, observe, NULL, &seen, &reason), reason);
  assert_int_equal(seen.calls, 15);
  assert_int_equal(seen.rows, 15 * 2);
  assert_string_equal(seen.names[0], "blk.0.attn_q");
  assert_string_equal(seen.names[7], "blk.1.attn_q");
  assert_string_equal(seen.names[14], "output");
  tokens[1] = 256;
  assert_int_equal(nvfp4_observe_text(context, checkpoint, &options, tokens, 2, observe, NULL, &seen, &reason), NVFP4_E_ARG);
  assert_non_null(strstr(reason.text, "token 1 is 256; the vocabulary has 0 to 255"));
  assert_int_equal(nvfp4_observe_text(context, checkpoint, &options, tokens, 0, observe, NULL, &seen, &reason), NVFP4_E_ARG);
  assert_int_equal(nvfp4_observe_text(context, checkpoint, NULL, tokens, 1, NULL, NULL, &seen, &reason), NVFP4_E_ARG);
  options.batch_tokens = -1;
  assert_int_equal(nvfp4_observe_text(context, checkpoint, &options, tokens, 1, observe, NULL, &seen, &reason), NVFP4_E_ARG);
  nvfp4_checkpoint_close(checkpoint);
}

static void options_are_checked(void **state) {
  (void)state;
  nvfp4_checkpoint *checkpoint = open_golden(GOLDEN "modelopt_nvfp4");
  nvfp4_model *model = NULL;
  nvfp4_reason reason = {0};
  nvfp4_model_options good = {.struct_size = sizeof good}, options = good;
  options.context_tokens = 513;
  assert_int_equal(nvfp4_model_create(context, checkpoint, &options, &model, &reason), NVFP4_E_ARG);
  assert_non_null(strstr(reason.text, "1 to 512"));
  options = good, options.batch_tokens = -1;
  assert_int_equal(nvfp4_model_create(context, checkpoint, &options, &model, &reason), NVFP4_E_ARG);
  options = good, options.mode = NVFP4_MODE_FP8;
  assert_int_equal(nvfp4_model_create(context, checkpoint, &options, &model, &reason), NVFP4_E_ARG);
  options = good, options.activation = NVFP4_DTYPE_I8;
  assert_int_equal(nvfp4_model_create(context, checkpoint, &options, &model, &reason), NVFP4_E_DTYPE);
  options = good, options.struct_size = 0;
  assert_int_equal(nvfp4_model_create(context, checkpoint, &options, &model, &reason), NVFP4_E_ARG);
  nvfp4_policy policy = {.struct_size = sizeof policy, .kernel = "no_such_kernel"};
  options = good, options.policy = &policy;
  assert_int_equal(nvfp4_model_create(context, checkpoint, &options, &model, &reason), NVFP4_E_POLICY);
  assert_non_null(strstr(reason.text, "layer lm_head: "));
  assert_int_equal(nvfp4_model_create(NULL, checkpoint, &good, &model, &reason), NVFP4_E_ARG);
  assert_null(model);
  nvfp4_checkpoint_close(checkpoint);
}

/* The config with one text replaced by another of the same place. */
static char *edited(const char *config, const char *from, const char *to) {
  const char *at = strstr(config, from);
  assert_non_null(at);
  char *out = calloc(1, strlen(config) + strlen(to) + 1);
  assert_non_null(out);
  memcpy(out, config, (size_t)(at - config));
  strcat(strcat(out, to), at + strlen(from));
  return out;
}

static void refused(const char *from, const char *to, nvfp4_status status, const char *word) {
  nvfp4_checkpoint *checkpoint = open_golden(GOLDEN "modelopt_nvfp4");
  nvfp4_checkpoint other = *checkpoint;
  other.config = edited(checkpoint->config, from, to);
  nvfp4_model *model = NULL;
  nvfp4_reason reason = {0};
  assert_int_equal(nvfp4_model_create(context, &other, NULL, &model, &reason), status);
  if (strstr(reason.text, word) == NULL) {
    fail_msg("\"%s\" is not in: %s", word, reason.text);
  }
  assert_null(model);
  free(other.config);
  nvfp4_checkpoint_close(checkpoint);
}

static void refuses_what_does_not_fit(void **state) {
  (void)state;
  refused("\"num_hidden_layers\": 2", "\"num_hidden_layers\": 3", NVFP4_E_FORMAT, "model.layers.2.mlp.down_proj");
  refused("\"num_hidden_layers\": 2", "\"num_hidden_layers\": 1000000000", NVFP4_E_FORMAT, "model.layers.999999999.mlp.down_proj");
  refused("\"vocab_size\": 256", "\"vocab_size\": 257", NVFP4_E_SHAPE, "model.embed_tokens.weight");
  refused("\"hidden_size\": 128", "\"hidden_size\": 64", NVFP4_E_SHAPE, "model.embed_tokens.weight");
  refused("\"num_key_value_heads\": 2", "\"num_key_value_heads\": 4", NVFP4_E_SHAPE, "k_proj is [64, 128]; the model needs [128, 128]");
  refused("\"attention_bias\": false", "\"attention_bias\": true", NVFP4_E_FORMAT, "q_proj has no bias");
  refused("LlamaForCausalLM", "GemmaForCausalLM", NVFP4_E_UNSUPPORTED, "GemmaForCausalLM");
}

/* tie_word_embeddings: the output is the embedding, whatever else is there. A window limits the context. */
static void tied_output_and_window(void **state) {
  (void)state;
  nvfp4_checkpoint *checkpoint = open_golden(GOLDEN "modelopt_nvfp4");
  nvfp4_checkpoint other = *checkpoint;
  other.config = edited(checkpoint->config, "\"tie_word_embeddings\": false", "\"tie_word_embeddings\": true");
  nvfp4_model *model = create(&other, NULL);
  assert_string_equal(model->output.name, "lm_head");
  nvfp4_reason reason = {0};
  int32_t token = 7;
  float logits[256], row[128];
  assert_ok(nvfp4_model_forward(model, &token, 1, false, logits, &reason), reason);
  for (int i = 0; i < 256; i++) { /* what the projection was fed lies there still */
    assert_ok(nvfp4_tensor_to_f32(model->embedding, (uint64_t)i * 128, 128, row, &reason), reason);
    assert_f32_bits(logits[i], nvfp4_spec_w16a16(model->normed, row, 128));
  }
  nvfp4_model_destroy(model);
  free(other.config);
  other.config = edited(checkpoint->config, "LlamaForCausalLM\"\n    ],", "MistralForCausalLM\"], \"sliding_window\": 100,");
  model = create(&other, NULL);
  assert_int_equal(model->context_limit, 100);
  nvfp4_model_destroy(model);
  free(other.config);
  nvfp4_checkpoint_close(checkpoint);
}

/* Angles of position 1 are the frequencies. Expected: transformers' formula for llama3, for theta 10000, factor 8, 1 and 4, 8192: pairs 0 to 10 have short
 * waves, 11 and 12 lie between, 13 to 15 are long. */
static void llama3_frequencies(void **state) {
  (void)state;
  static const double want[16] = {1,
                                  0.5623413324356079,
                                  0.3162277638912201,
                                  0.17782793939113617,
                                  0.10000000149011612,
                                  0.05623412877321243,
                                  0.03162277862429619,
                                  0.017782794311642647,
                                  0.009999999776482582,
                                  0.005623413249850273,
                                  0.003162277862429619,
                                  0.0009061527671292424,
                                  0.00021360757818911225,
                                  7.029266271274537e-05,
                                  3.9528473280370235e-05,
                                  2.2228492525755428e-05};
  nvfp4_checkpoint *checkpoint = open_golden(GOLDEN "modelopt_nvfp4");
  nvfp4_checkpoint other = *checkpoint;
  other.config = edited(checkpoint->config, "\"rope_type\": \"default\"",
                        "\"rope_type\": \"llama3\", \"factor\": 8.0, \"low_freq_factor\": 1.0, \"high_freq_factor\": 4.0, "
                        "\"original_max_position_embeddings\": 8192");
  nvfp4_model *model = create(&other, NULL);
  for (int i = 0; i < 16; i++) {
    assert_f32_bits(model->rope_sin[i], 0);
    assert_f32_bits(model->rope_cos[i], 1);
    /* Two roundings to fp32: the frequency's last bit and the sine's. */
    double difference = fabs((double)model->rope_sin[16 + i] - sin(want[i]));
    assert_true(difference <= want[i] * 0x1p-22);
  }
  nvfp4_model_destroy(model);
  free(other.config);
  nvfp4_checkpoint_close(checkpoint);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(says_what_it_runs),   cmocka_unit_test(observer_sees_every_layer), cmocka_unit_test(text_is_observed_block_by_block),
      cmocka_unit_test(options_are_checked), cmocka_unit_test(refuses_what_does_not_fit), cmocka_unit_test(tied_output_and_window),
      cmocka_unit_test(llama3_frequencies),
  };
  return cmocka_run_group_tests(tests, setup, teardown);
}
