/* SPDX-License-Identifier: Apache-2.0 */
#include "model/config.h"

#include <inttypes.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/reason.h"
#include "checkpoint/checkpoint.h"
#include "checkpoint/config_text.h"
#include "checkpoint/gguf.h"

/* Dimensions beyond this are a broken file, and products of two of them fit in 63 bits. */
#define DIMENSION_MAX ((int64_t)1 << 30)

static nvfp4_status check_dimension(const char *name, int64_t value, nvfp4_reason *reason) {
  if (value < 1 || value > DIMENSION_MAX) {
    return nvfp4_reject(reason, NVFP4_E_FORMAT, "config: %s is %" PRId64 "; needs 1 to %" PRId64, name, value, DIMENSION_MAX);
  }
  return NVFP4_OK;
}

/* What every source must satisfy. */
static nvfp4_status check_config(const nvfp4_model_config *config, nvfp4_reason *reason) {
  NVFP4_TRY(check_dimension("number of layers", config->layers, reason));
  NVFP4_TRY(check_dimension("hidden size", config->hidden, reason));
  NVFP4_TRY(check_dimension("intermediate size", config->intermediate, reason));
  NVFP4_TRY(check_dimension("number of attention heads", config->heads, reason));
  NVFP4_TRY(check_dimension("number of key-value heads", config->kv_heads, reason));
  NVFP4_TRY(check_dimension("head dimension", config->head_dim, reason));
  NVFP4_TRY(check_dimension("vocabulary", config->vocabulary, reason));
  NVFP4_TRY(check_dimension("context length", config->context, reason));
  if (config->heads % config->kv_heads != 0) {
    return nvfp4_reject(reason, NVFP4_E_FORMAT,
                        "config: %" PRId64 " attention heads and %" PRId64 " key-value heads; needs a whole multiple", config->heads,
                        config->kv_heads);
  }
  if (config->head_dim % 2 != 0) {
    return nvfp4_reject(reason, NVFP4_E_FORMAT, "config: the head dimension is %" PRId64 "; rotary positions need an even one",
                        config->head_dim);
  }
  if (!isfinite(config->rms_norm_eps) || config->rms_norm_eps < 0) {
    return nvfp4_reject(reason, NVFP4_E_FORMAT, "config: the epsilon of RMSNorm is %g; needs a finite number >= 0",
                        (double)config->rms_norm_eps);
  }
  if (!isfinite(config->rope_theta) || config->rope_theta <= 0) {
    return nvfp4_reject(reason, NVFP4_E_FORMAT, "config: rope theta is %g; needs a finite number > 0", config->rope_theta);
  }
  return NVFP4_OK;
}

/* ---------------------------------------------------------------------------------------------------------- config.json */

/* A missing or null key leaves *out alone if it is optional. */
static nvfp4_status read_int(const json_t *object, const char *key, bool required, int64_t *out, nvfp4_reason *reason) {
  const json_t *value = json_object_get(object, key);
  if ((value == NULL || json_is_null(value)) && !required) {
    return NVFP4_OK;
  }
  if (!json_is_integer(value)) {
    return nvfp4_reject(reason, NVFP4_E_FORMAT, "config.json: %s is %s; needs an integer", key,
                        value == NULL ? "missing" : "not an integer");
  }
  *out = json_integer_value(value);
  return NVFP4_OK;
}

static nvfp4_status read_number(const json_t *object, const char *key, bool required, double *out, nvfp4_reason *reason) {
  const json_t *value = json_object_get(object, key);
  if ((value == NULL || json_is_null(value)) && !required) {
    return NVFP4_OK;
  }
  if (!json_is_number(value)) {
    return nvfp4_reject(reason, NVFP4_E_FORMAT, "config.json: %s is %s; needs a number", key, value == NULL ? "missing" : "not a number");
  }
  *out = json_number_value(value);
  return NVFP4_OK;
}

static bool read_bool(const json_t *object, const char *key, bool otherwise) {
  const json_t *value = json_object_get(object, key);
  return json_is_boolean(value) ? json_is_true(value) : otherwise;
}

static nvfp4_status read_architecture(const json_t *root, nvfp4_model_config *config, nvfp4_reason *reason) {
  const char *name = json_string_value(json_array_get(json_object_get(root, "architectures"), 0));
  if (name == NULL) {
    return nvfp4_reject(reason, NVFP4_E_UNSUPPORTED,
                        "config.json: no architectures; needs LlamaForCausalLM, MistralForCausalLM or Qwen2ForCausalLM");
  }
  bool qwen2 = strcmp(name, "Qwen2ForCausalLM") == 0;
  bool mistral = strcmp(name, "MistralForCausalLM") == 0;
  if (!qwen2 && !mistral && strcmp(name, "LlamaForCausalLM") != 0) {
    return nvfp4_reject(reason, NVFP4_E_UNSUPPORTED,
                        "config.json: architecture %s; this library runs LlamaForCausalLM, MistralForCausalLM and Qwen2ForCausalLM", name);
  }
  snprintf(config->architecture, sizeof config->architecture, "%s", name);
  /* Qwen2 has biases on q, k and v whatever its config says. */
  config->attention_bias = qwen2 || read_bool(root, "attention_bias", false);
  if (mistral || (qwen2 && read_bool(root, "use_sliding_window", false))) {
    NVFP4_TRY(read_int(root, "sliding_window", false, &config->sliding_window, reason));
  }
  const char *activation = json_string_value(json_object_get(root, "hidden_act"));
  if (activation != NULL && strcmp(activation, "silu") != 0) {
    return nvfp4_reject(reason, NVFP4_E_UNSUPPORTED, "config.json: hidden_act is %s; this library computes silu", activation);
  }
  return NVFP4_OK;
}

/* transformers 5 writes rope_parameters; earlier ones rope_theta beside an optional rope_scaling. */
static nvfp4_status read_rope(const json_t *root, nvfp4_model_config *config, nvfp4_reason *reason) {
  const json_t *rope = json_object_get(root, "rope_parameters");
  if (!json_is_object(rope)) {
    rope = json_object_get(root, "rope_scaling");
  }
  config->rope_theta = 10000.0;
  NVFP4_TRY(read_number(root, "rope_theta", false, &config->rope_theta, reason));
  double rotated = 1.0;
  NVFP4_TRY(read_number(root, "partial_rotary_factor", false, &rotated, reason));
  if (json_is_object(rope)) {
    NVFP4_TRY(read_number(rope, "rope_theta", false, &config->rope_theta, reason));
    NVFP4_TRY(read_number(rope, "partial_rotary_factor", false, &rotated, reason));
    const char *type = json_string_value(json_object_get(rope, "rope_type"));
    type = type != NULL ? type : json_string_value(json_object_get(rope, "type"));
    if (type != NULL && strcmp(type, "llama3") == 0) {
      nvfp4_rope_llama3 *scaling = &config->rope_llama3;
      scaling->used = true;
      NVFP4_TRY(read_number(rope, "factor", true, &scaling->factor, reason));
      NVFP4_TRY(read_number(rope, "low_freq_factor", true, &scaling->low_frequency_factor, reason));
      NVFP4_TRY(read_number(rope, "high_freq_factor", true, &scaling->high_frequency_factor, reason));
      NVFP4_TRY(read_number(rope, "original_max_position_embeddings", true, &scaling->original_context, reason));
      if (!(scaling->factor > 0 && scaling->original_context > 0 && scaling->high_frequency_factor > scaling->low_frequency_factor &&
            scaling->low_frequency_factor > 0)) {
        return nvfp4_reject(
            reason, NVFP4_E_FORMAT,
            "config.json: llama3 rope with factor %g, low_freq_factor %g, high_freq_factor %g; needs all > 0 and low < high",
            scaling->factor, scaling->low_frequency_factor, scaling->high_frequency_factor);
      }
    } else if (type != NULL && strcmp(type, "default") != 0) {
      return nvfp4_reject(reason, NVFP4_E_UNSUPPORTED, "config.json: rope type %s; this library computes default and llama3", type);
    }
  }
  if (rotated != 1.0) {
    return nvfp4_reject(reason, NVFP4_E_UNSUPPORTED, "config.json: partial_rotary_factor is %g; this library rotates whole heads", rotated);
  }
  return NVFP4_OK;
}

static nvfp4_status read_hf(const json_t *root, nvfp4_model_config *config, nvfp4_reason *reason) {
  NVFP4_TRY(read_architecture(root, config, reason));
  NVFP4_TRY(read_int(root, "num_hidden_layers", true, &config->layers, reason));
  NVFP4_TRY(read_int(root, "hidden_size", true, &config->hidden, reason));
  NVFP4_TRY(read_int(root, "intermediate_size", true, &config->intermediate, reason));
  NVFP4_TRY(read_int(root, "num_attention_heads", true, &config->heads, reason));
  NVFP4_TRY(read_int(root, "vocab_size", true, &config->vocabulary, reason));
  config->context = 2048;
  NVFP4_TRY(read_int(root, "max_position_embeddings", false, &config->context, reason));
  config->kv_heads = config->heads;
  NVFP4_TRY(read_int(root, "num_key_value_heads", false, &config->kv_heads, reason));
  config->head_dim = config->heads > 0 ? config->hidden / config->heads : 0;
  NVFP4_TRY(read_int(root, "head_dim", false, &config->head_dim, reason));
  double eps = 1e-6;
  NVFP4_TRY(read_number(root, "rms_norm_eps", false, &eps, reason));
  config->rms_norm_eps = (float)eps;
  config->tied_output = read_bool(root, "tie_word_embeddings", false);
  NVFP4_TRY(read_rope(root, config, reason));
  return check_config(config, reason);
}

nvfp4_status nvfp4_model_config_parse(const char *config_json, nvfp4_model_config *out, nvfp4_reason *reason) {
  json_error_t error;
  json_t *root = nvfp4_config_load(config_json, &error);
  if (root == NULL) {
    return nvfp4_reject(reason, NVFP4_E_FORMAT, "config.json: line %d: %s", error.line, error.text);
  }
  nvfp4_model_config config = {0};
  nvfp4_status status = read_hf(root, &config, reason);
  json_decref(root);
  if (status == NVFP4_OK) {
    *out = config;
  }
  return status;
}

/* ----------------------------------------------------------------------------------------------------------------- GGUF */

typedef struct gguf_source {
  const nvfp4_gguf_metadata *metadata;
  const char *architecture;
} gguf_source;

static const char *gguf_key(const gguf_source *source, const char *name, char key[128]) {
  snprintf(key, 128, "%s.%s", source->architecture, name);
  return key;
}

static nvfp4_status gguf_int(const gguf_source *source, const char *name, int64_t *out, nvfp4_reason *reason) {
  char key[128];
  if (!nvfp4_gguf_get_int(source->metadata, gguf_key(source, name, key), out)) {
    return nvfp4_reject(reason, NVFP4_E_FORMAT, "GGUF metadata: %s is missing or not one integer", key);
  }
  return NVFP4_OK;
}

static void gguf_optional_int(const gguf_source *source, const char *name, int64_t *out) {
  char key[128];
  int64_t value;
  if (nvfp4_gguf_get_int(source->metadata, gguf_key(source, name, key), &value)) {
    *out = value;
  }
}

static nvfp4_status gguf_refuse_options(const gguf_source *source, const nvfp4_model_config *config, nvfp4_reason *reason) {
  char key[128];
  int64_t experts = 0, rotated = config->head_dim, value_length = config->head_dim;
  gguf_optional_int(source, "expert_count", &experts);
  if (experts > 0) {
    return nvfp4_reject(reason, NVFP4_E_UNSUPPORTED, "GGUF metadata: %" PRId64 " experts; this library runs dense models", experts);
  }
  gguf_optional_int(source, "rope.dimension_count", &rotated);
  gguf_optional_int(source, "attention.value_length", &value_length);
  if (rotated != config->head_dim || value_length != config->head_dim) {
    return nvfp4_reject(reason, NVFP4_E_UNSUPPORTED,
                        "GGUF metadata: heads of %" PRId64 " with %" PRId64 " rotated and values of %" PRId64
                        "; this library needs all three alike",
                        config->head_dim, rotated, value_length);
  }
  nvfp4_gguf_string scaling;
  if (nvfp4_gguf_get_string(source->metadata, gguf_key(source, "rope.scaling.type", key), &scaling) &&
      !(scaling.bytes == 4 && memcmp(scaling.text, "none", 4) == 0)) {
    return nvfp4_reject(reason, NVFP4_E_UNSUPPORTED, "GGUF metadata: %s is %.*s; this library computes none", key, (int)scaling.bytes,
                        scaling.text);
  }
  return NVFP4_OK;
}

static nvfp4_status read_gguf(const nvfp4_checkpoint *checkpoint, nvfp4_model_config *config, nvfp4_reason *reason) {
  nvfp4_gguf_string name;
  if (!nvfp4_gguf_get_string(checkpoint->gguf, "general.architecture", &name)) {
    return nvfp4_reject(reason, NVFP4_E_FORMAT, "GGUF metadata: general.architecture is missing");
  }
  snprintf(config->architecture, sizeof config->architecture, "%.*s", (int)(name.bytes < 63 ? name.bytes : 63), name.text);
  bool qwen2 = strcmp(config->architecture, "qwen2") == 0;
  if (!qwen2 && strcmp(config->architecture, "llama") != 0) {
    return nvfp4_reject(reason, NVFP4_E_UNSUPPORTED, "GGUF metadata: architecture %s; this library runs llama and qwen2",
                        config->architecture);
  }
  gguf_source source = {checkpoint->gguf, config->architecture};
  char key[128];
  NVFP4_TRY(gguf_int(&source, "block_count", &config->layers, reason));
  NVFP4_TRY(gguf_int(&source, "embedding_length", &config->hidden, reason));
  NVFP4_TRY(gguf_int(&source, "feed_forward_length", &config->intermediate, reason));
  NVFP4_TRY(gguf_int(&source, "attention.head_count", &config->heads, reason));
  NVFP4_TRY(gguf_int(&source, "context_length", &config->context, reason));
  config->kv_heads = config->heads;
  gguf_optional_int(&source, "attention.head_count_kv", &config->kv_heads);
  config->head_dim = config->heads > 0 ? config->hidden / config->heads : 0;
  gguf_optional_int(&source, "attention.key_length", &config->head_dim);
  gguf_optional_int(&source, "attention.sliding_window", &config->sliding_window);
  double eps;
  if (!nvfp4_gguf_get_float(checkpoint->gguf, gguf_key(&source, "attention.layer_norm_rms_epsilon", key), &eps)) {
    return nvfp4_reject(reason, NVFP4_E_FORMAT, "GGUF metadata: %s is missing or not a number", key);
  }
  config->rms_norm_eps = (float)eps;
  config->rope_theta = 10000.0;
  nvfp4_gguf_get_float(checkpoint->gguf, gguf_key(&source, "rope.freq_base", key), &config->rope_theta);
  const nvfp4_tensor *embedding = nvfp4_checkpoint_find(checkpoint, "token_embd.weight");
  config->vocabulary = embedding != NULL ? embedding->shape[0] : 0;
  config->tied_output = nvfp4_checkpoint_find(checkpoint, "output.weight") == NULL;
  config->rope_interleaved = !qwen2;
  config->attention_bias = qwen2;
  config->gguf_names = true;
  NVFP4_TRY(gguf_refuse_options(&source, config, reason));
  return check_config(config, reason);
}

nvfp4_status nvfp4_model_config_read(const nvfp4_checkpoint *checkpoint, nvfp4_model_config *out, nvfp4_reason *reason) {
  nvfp4_model_config config = {0};
  if (checkpoint->gguf != NULL) {
    nvfp4_status status = read_gguf(checkpoint, &config, reason);
    if (status == NVFP4_OK) {
      *out = config;
    }
    return nvfp4_reason_prefix(reason, status, "%s: ", nvfp4_checkpoint_path(checkpoint));
  }
  const char *text = nvfp4_checkpoint_config(checkpoint);
  if (text == NULL) {
    return nvfp4_reject(reason, NVFP4_E_UNSUPPORTED, "%s: no config.json, so the model's shape is unknown; open the folder that holds one",
                        nvfp4_checkpoint_path(checkpoint));
  }
  nvfp4_status status = nvfp4_model_config_parse(text, out, reason);
  return nvfp4_reason_prefix(reason, status, "%s: ", nvfp4_checkpoint_path(checkpoint));
}
