/* SPDX-License-Identifier: Apache-2.0 */
/*
 * config.json: the source folder's own with a quantization_config, or one made of GGUF metadata. The keys are those that the tools write:
 * ModelOpt 0.47 (hf_quant_config.json and quantization_config) and compressed-tensors 0.20 (quantization_config).
 */
#define _POSIX_C_SOURCE 200809L
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/reason.h"
#include "checkpoint/checkpoint.h"
#include "checkpoint/config_text.h"
#include "checkpoint/gguf.h"
#include "layouts/layouts.h"

static nvfp4_status no_memory(nvfp4_reason *reason) { return nvfp4_reject(reason, NVFP4_E_NOMEM, "out of memory for a JSON text"); }

nvfp4_status nvfp4_json_text(json_t *value, char **out, nvfp4_reason *reason) {
  /* 15 digits give 1e-06 its name; numbers that need more get 17. */
  char *text = value != NULL ? json_dumps(value, JSON_INDENT(2) | JSON_REAL_PRECISION(15)) : NULL;
  json_t *again = text != NULL ? json_loads(text, 0, NULL) : NULL;
  if (text != NULL && !json_equal(again, value)) {
    free(text);
    text = json_dumps(value, JSON_INDENT(2) | JSON_REAL_PRECISION(17));
  }
  json_decref(again);
  json_decref(value);
  size_t length = text != NULL ? strlen(text) : 0;
  char *line = text != NULL ? realloc(text, length + 2) : NULL;
  if (line == NULL) {
    free(text);
    return no_memory(reason);
  }
  memcpy(line + length, "\n", 2);
  nvfp4_config_restore(line);
  *out = line;
  return NVFP4_OK;
}

/* -------------------------------------------------------------------------------------------------------------------- model */

typedef struct gguf_reader {
  const nvfp4_gguf_metadata *metadata;
  const char *path;
  char arch[16];
} gguf_reader;

static const char *arch_key(const gguf_reader *reader, const char *name, char key[96]) {
  snprintf(key, 96, "%s.%s", reader->arch, name);
  return key;
}

static bool get_int(const gguf_reader *reader, const char *name, int64_t *out) {
  char key[96];
  return nvfp4_gguf_get_int(reader->metadata, arch_key(reader, name, key), out);
}

/* A number that must be there, positive. */
static nvfp4_status need_int(const gguf_reader *reader, const char *name, int64_t *out, nvfp4_reason *reason) {
  if (!get_int(reader, name, out) || *out <= 0 || *out > INT32_MAX) {
    return nvfp4_reject(reason, NVFP4_E_FORMAT, "%s: metadata %s.%s is missing or no positive number; config.json needs it", reader->path,
                        reader->arch, name);
  }
  return NVFP4_OK;
}

/* The double of fewest digits that is the same float: 1e-05 for the float 9.99999975e-06. */
static double shortest(double value) {
  for (int digits = 1; digits < 9; digits++) {
    char text[40];
    snprintf(text, sizeof text, "%.*g", digits, value);
    if ((float)strtod(text, NULL) == (float)value) {
      return strtod(text, NULL);
    }
  }
  return value;
}

static json_t *token_id(const gguf_reader *reader, const char *key) {
  int64_t id;
  return nvfp4_gguf_get_int(reader->metadata, key, &id) ? json_integer(id) : json_null();
}

/* What Hugging Face's models would compute otherwise than the GGUF says. */
static nvfp4_status refuse_rope(const gguf_reader *reader, int64_t head_dim, nvfp4_reason *reason) {
  char key[96];
  nvfp4_gguf_string type;
  double linear;
  int64_t dimensions;
  if (nvfp4_gguf_get_string(reader->metadata, arch_key(reader, "rope.scaling.type", key), &type) &&
      !(type.bytes == 4 && memcmp(type.text, "none", 4) == 0)) {
    return nvfp4_reject(reason, NVFP4_E_UNSUPPORTED, "%s: scaled RoPE (%s = %.*s) is not translated: give the safetensors checkpoint",
                        reader->path, key, (int)(type.bytes < 32 ? type.bytes : 32), type.text);
  }
  if (nvfp4_gguf_get_float(reader->metadata, arch_key(reader, "rope.scale_linear", key), &linear) && linear != 1) {
    return nvfp4_reject(reason, NVFP4_E_UNSUPPORTED, "%s: scaled RoPE (%s = %g) is not translated: give the safetensors checkpoint",
                        reader->path, key, linear);
  }
  if (get_int(reader, "rope.dimension_count", &dimensions) && dimensions != head_dim) {
    return nvfp4_reject(reason, NVFP4_E_UNSUPPORTED,
                        "%s: RoPE over %lld of %lld elements of a head is not translated: give the safetensors checkpoint", reader->path,
                        (long long)dimensions, (long long)head_dim);
  }
  return NVFP4_OK;
}

static json_t *gguf_model(const nvfp4_model_description *model, const gguf_reader *reader, const int64_t sizes[6], int64_t kv_heads,
                          int64_t head_dim, double eps, double theta) {
  bool qwen2 = strcmp(reader->arch, "qwen2") == 0;
  json_t *config = json_pack("{s:[s], s:f, s:o, s:o}", "architectures", qwen2 ? "Qwen2ForCausalLM" : "LlamaForCausalLM",
                             "attention_dropout", 0.0, "bos_token_id", token_id(reader, "tokenizer.ggml.bos_token_id"), "eos_token_id",
                             token_id(reader, "tokenizer.ggml.eos_token_id"));
  json_t *shape = json_pack("{s:I, s:s, s:I, s:f, s:I, s:I, s:s, s:I, s:I, s:I}", "head_dim", (json_int_t)head_dim, "hidden_act", "silu",
                            "hidden_size", (json_int_t)sizes[2], "initializer_range", 0.02, "intermediate_size", (json_int_t)sizes[3],
                            "max_position_embeddings", (json_int_t)sizes[1], "model_type", reader->arch, "num_attention_heads",
                            (json_int_t)sizes[4], "num_hidden_layers", (json_int_t)sizes[0], "num_key_value_heads", (json_int_t)kv_heads);
  json_t *rest =
      json_pack("{s:f, s:n, s:f, s:b, s:s, s:b, s:I}", "rms_norm_eps", eps, "rope_scaling", "rope_theta", theta, "tie_word_embeddings",
                !model->own_lm_head, "torch_dtype", "bfloat16", "use_cache", 1, "vocab_size", (json_int_t)sizes[5]);
  json_t *own =
      qwen2 ? json_pack("{s:I, s:n, s:b}", "max_window_layers", (json_int_t)sizes[0], "sliding_window", "use_sliding_window", 0)
            : json_pack("{s:b, s:b, s:i}", "attention_bias", model->attention_bias, "mlp_bias", model->mlp_bias, "pretraining_tp", 1);
  int failed = json_object_update(config, shape) | json_object_update(config, rest) | json_object_update(config, own);
  json_decref(shape);
  json_decref(rest);
  json_decref(own);
  if (failed != 0) {
    json_decref(config);
    return NULL;
  }
  return config;
}

static nvfp4_status config_from_gguf(const nvfp4_model_description *model, json_t **out, nvfp4_reason *reason) {
  static const char *const names[5] = {"block_count", "context_length", "embedding_length", "feed_forward_length", "attention.head_count"};
  gguf_reader reader = {.metadata = model->source->gguf, .path = nvfp4_checkpoint_path(model->source)};
  nvfp4_gguf_string arch;
  if (!nvfp4_gguf_get_string(reader.metadata, "general.architecture", &arch) || arch.bytes >= sizeof reader.arch) {
    return nvfp4_reject(reason, NVFP4_E_INTERNAL, "%s: an architecture that the plan should have refused", reader.path);
  }
  memcpy(reader.arch, arch.text, arch.bytes);
  int64_t sizes[6], kv_heads, head_dim;
  for (int i = 0; i < 5; i++) {
    NVFP4_TRY(need_int(&reader, names[i], &sizes[i], reason));
  }
  const nvfp4_tensor *embedding = nvfp4_checkpoint_find(model->source, "token_embd.weight");
  if (embedding == NULL || embedding->rank != 2) {
    return nvfp4_reject(reason, NVFP4_E_FORMAT, "%s: no 2-D tensor token_embd.weight", reader.path);
  }
  sizes[5] = embedding->shape[0];
  if (!get_int(&reader, "attention.head_count_kv", &kv_heads)) {
    kv_heads = sizes[4];
  }
  if (!get_int(&reader, "attention.key_length", &head_dim)) {
    head_dim = sizes[2] / sizes[4];
  }
  NVFP4_TRY(refuse_rope(&reader, head_dim, reason));
  char key[96];
  double eps, theta;
  if (!nvfp4_gguf_get_float(reader.metadata, arch_key(&reader, "attention.layer_norm_rms_epsilon", key), &eps)) {
    return nvfp4_reject(reason, NVFP4_E_FORMAT, "%s: metadata %s is missing; config.json needs it", reader.path, key);
  }
  if (!nvfp4_gguf_get_float(reader.metadata, arch_key(&reader, "rope.freq_base", key), &theta)) {
    theta = 10000;
  }
  *out = gguf_model(model, &reader, sizes, kv_heads, head_dim, shortest(eps), shortest(theta));
  return *out != NULL ? NVFP4_OK : no_memory(reason);
}

static nvfp4_status config_from_text(const nvfp4_model_description *model, const char *text, json_t **out, nvfp4_reason *reason) {
  if (text == NULL) { /* a lone .safetensors file */
    *out = json_object();
    return *out != NULL ? NVFP4_OK : no_memory(reason);
  }
  json_error_t error;
  json_t *config = nvfp4_config_load(text, &error);
  if (!json_is_object(config)) {
    json_decref(config);
    return nvfp4_reject(reason, NVFP4_E_FORMAT, "%s: config.json is no JSON object (line %d: %s)", nvfp4_checkpoint_path(model->source),
                        error.line, error.text);
  }
  json_t *text_config = json_object_get(config, "text_config");
  for (int i = 0; i < 2; i++) { /* what they said of the source */
    json_object_del(i == 0 ? config : text_config, "quantization_config");
    json_object_del(i == 0 ? config : text_config, "quantization");
  }
  if (model->untie) {
    json_object_set_new(config, "tie_word_embeddings", json_false());
    if (json_object_get(text_config, "tie_word_embeddings") != NULL) {
      json_object_set_new(text_config, "tie_word_embeddings", json_false());
    }
  }
  *out = config;
  return NVFP4_OK;
}

nvfp4_status nvfp4_hf_config(const nvfp4_model_description *model, char **out, nvfp4_reason *reason) {
  json_t *config = NULL;
  nvfp4_status status;
  nvfp4_gguf_string kept;
  if (model->source->gguf == NULL) {
    status = config_from_text(model, nvfp4_checkpoint_config(model->source), &config, reason);
  } else if (nvfp4_gguf_get_string(model->source->gguf, NVFP4_METADATA_CONFIG, &kept)) {
    char *text = strndup(kept.text, kept.bytes);
    status = text != NULL ? config_from_text(model, text, &config, reason) : no_memory(reason);
    free(text);
  } else if (nvfp4_gguf_get_string(model->source->gguf, "general.architecture", &kept) && kept.bytes == strlen(NVFP4_GGUF_NO_MODEL) &&
             memcmp(kept.text, NVFP4_GGUF_NO_MODEL, kept.bytes) == 0) {
    status = config_from_text(model, NULL, &config, reason);
  } else {
    status = config_from_gguf(model, &config, reason);
  }
  NVFP4_TRY(status);
  json_t *quantisation = nvfp4_hf_quantisation(model);
  int failed = model->layout != NVFP4_LAYOUT_COMFY && quantisation == NULL;
  if (!failed && quantisation != NULL) {
    failed = json_object_set(config, "quantization_config", quantisation);
  }
  if (!failed && model->layout == NVFP4_LAYOUT_MLX) { /* mlx-lm writes both, and reads this one */
    failed = json_object_set(config, "quantization", quantisation);
  }
  json_decref(quantisation);
  if (failed != 0) {
    json_decref(config);
    return no_memory(reason);
  }
  return nvfp4_json_text(config, out, reason);
}

nvfp4_status nvfp4_hf_generation_config(const nvfp4_model_description *model, char **out, nvfp4_reason *reason) {
  gguf_reader reader = {.metadata = model->source->gguf};
  json_t *config = json_pack("{s:b}", "_from_model_config", 1);
  static const char *const names[3][2] = {{"bos_token_id", "tokenizer.ggml.bos_token_id"},
                                          {"eos_token_id", "tokenizer.ggml.eos_token_id"},
                                          {"pad_token_id", "tokenizer.ggml.padding_token_id"}};
  for (int i = 0; i < 3; i++) {
    json_t *id = token_id(&reader, names[i][1]);
    if (json_is_integer(id)) {
      json_object_set(config, names[i][0], id);
    }
    json_decref(id);
  }
  return nvfp4_json_text(config, out, reason);
}
