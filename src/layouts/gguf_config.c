/* SPDX-License-Identifier: Apache-2.0 */
/*
 * config.json -> GGUF metadata; the keys and the factors of Llama 3's RoPE are those of llama.cpp's converter (conversion/llama.py,
 * gguf-py/gguf/constants.py).
 */
#include "layouts/gguf_config.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include <jansson.h>

#include "base/reason.h"
#include "checkpoint/checkpoint.h"
#include "checkpoint/config_text.h"
#include "layouts/layouts.h"

enum { MOSTLY_NVFP4 = 39, QUANTISATION_VERSION = 2 }; /* general.file_type, general.quantization_version */

typedef struct reader {
  const char *path;
  const json_t *config;
  nvfp4_reason *reason;
} reader;

/* A whole number > 0; of a missing or null key `otherwise`, unless that is 0. */
static nvfp4_status read_size(const reader *in, const char *key, int64_t otherwise, int64_t *out) {
  const json_t *value = json_object_get(in->config, key);
  if ((value == NULL || json_is_null(value)) && otherwise > 0) {
    *out = otherwise;
    return NVFP4_OK;
  }
  *out = json_integer_value(value);
  if (!json_is_integer(value) || *out <= 0 || *out > INT32_MAX) {
    return nvfp4_reject(in->reason, NVFP4_E_FORMAT, "%s: config.json: %s is missing or no positive number; GGUF needs it", in->path, key);
  }
  return NVFP4_OK;
}

static int64_t token_id(const reader *in, const char *key) {
  const json_t *value = json_object_get(in->config, key);
  if (json_is_array(value)) { /* of several end tokens the first */
    value = json_array_get(value, 0);
  }
  return json_is_integer(value) ? json_integer_value(value) : -1;
}

static nvfp4_status read_rope(const reader *in, nvfp4_gguf_model *out) {
  const json_t *parameters = json_object_get(in->config, "rope_parameters"); /* transformers 5 */
  const json_t *scaling = json_is_object(parameters) ? parameters : json_object_get(in->config, "rope_scaling");
  const json_t *theta = json_object_get(json_is_object(parameters) ? parameters : in->config, "rope_theta");
  out->rope_theta = json_is_number(theta) ? json_number_value(theta) : 10000.0;
  const char *type = json_string_value(json_object_get(scaling, "rope_type"));
  type = type != NULL ? type : json_string_value(json_object_get(scaling, "type"));
  double factor = json_number_value(json_object_get(scaling, "factor"));
  if (type == NULL || strcmp(type, "default") == 0) {
    return NVFP4_OK;
  }
  if (strcmp(type, "linear") == 0 && factor > 0) {
    out->rope_linear = factor;
    return NVFP4_OK;
  }
  if (strcmp(type, "llama3") == 0 && factor > 0) {
    out->rope_llama3 = true;
    out->llama3_factor = factor;
    out->llama3_low = json_number_value(json_object_get(scaling, "low_freq_factor"));
    out->llama3_high = json_number_value(json_object_get(scaling, "high_freq_factor"));
    out->llama3_context = json_number_value(json_object_get(scaling, "original_max_position_embeddings"));
    if (out->llama3_low > 0 && out->llama3_high > out->llama3_low && out->llama3_context > 0) {
      return NVFP4_OK;
    }
  }
  return nvfp4_reject(
      in->reason, NVFP4_E_UNSUPPORTED,
      "%s: config.json: RoPE of type %.40s (factor %g) is not translated; default, linear and llama3 with their numbers are", in->path,
      type, factor);
}

static nvfp4_status read_model(const reader *in, nvfp4_gguf_model *out) {
  NVFP4_TRY(read_size(in, "num_hidden_layers", 0, &out->layers));
  NVFP4_TRY(read_size(in, "hidden_size", 0, &out->hidden));
  NVFP4_TRY(read_size(in, "intermediate_size", 0, &out->feed_forward));
  NVFP4_TRY(read_size(in, "num_attention_heads", 0, &out->heads));
  NVFP4_TRY(read_size(in, "num_key_value_heads", out->heads, &out->kv_heads));
  NVFP4_TRY(read_size(in, "head_dim", out->hidden / out->heads, &out->head_dim));
  NVFP4_TRY(read_size(in, "vocab_size", 0, &out->vocabulary));
  NVFP4_TRY(read_size(in, "max_position_embeddings", 2048, &out->context));
  const json_t *eps = json_object_get(in->config, "rms_norm_eps");
  if (!json_is_number(eps)) {
    return nvfp4_reject(in->reason, NVFP4_E_FORMAT, "%s: config.json: rms_norm_eps is missing; GGUF needs it", in->path);
  }
  out->norm_eps = json_number_value(eps);
  out->bos = token_id(in, "bos_token_id");
  out->eos = token_id(in, "eos_token_id");
  out->pad = token_id(in, "pad_token_id");
  return read_rope(in, out);
}

nvfp4_status nvfp4_gguf_model_read(const char *path, const char *config, nvfp4_gguf_model *out, nvfp4_reason *reason) {
  static const char *const types[][2] = {{"llama", "llama"}, {"mistral", "llama"}, {"qwen2", "qwen2"}};
  *out = (nvfp4_gguf_model){.bos = -1, .eos = -1, .pad = -1};
  json_error_t error;
  json_t *root = config != NULL ? nvfp4_config_load(config, &error) : NULL;
  const char *type = json_string_value(json_object_get(root, "model_type"));
  nvfp4_status status = NVFP4_OK;
  if (type != NULL) {
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++) {
      if (strcmp(types[i][0], type) == 0) {
        snprintf(out->arch, sizeof out->arch, "%s", types[i][1]);
      }
    }
    const reader in = {path, root, reason};
    status = out->arch[0] != '\0'
                 ? read_model(&in, out)
                 : nvfp4_reject(reason, NVFP4_E_UNSUPPORTED,
                                "%s: config.json: model_type %.40s; to GGUF llama, mistral and qwen2 are translated", path, type);
  }
  json_decref(root);
  return status;
}

int64_t nvfp4_gguf_model_head_rows(const nvfp4_gguf_model *model) { return strcmp(model->arch, "llama") == 0 ? model->head_dim : 0; }

void nvfp4_gguf_rope_factors(const nvfp4_gguf_model *model, float *out) {
  const double pi = 3.14159265358979323846;
  double longest = model->llama3_context / model->llama3_low, shortest = model->llama3_context / model->llama3_high;
  for (int64_t i = 0; i < model->head_dim / 2; i++) {
    double wavelength = 2 * pi * pow(model->rope_theta, 2.0 * (double)i / (double)model->head_dim);
    if (wavelength < shortest) {
      out[i] = 1.0f;
    } else if (wavelength > longest) {
      out[i] = (float)model->llama3_factor;
    } else {
      double smooth = (model->llama3_context / wavelength - model->llama3_low) / (model->llama3_high - model->llama3_low);
      out[i] = (float)(1 / ((1 - smooth) / model->llama3_factor + smooth));
    }
  }
}

void nvfp4_gguf_model_write(const nvfp4_gguf_model *model, const char *name, nvfp4_gguf_writer *writer) {
  const struct {
    const char *key;
    int64_t value;
  } sizes[] = {{"block_count", model->layers},
               {"context_length", model->context},
               {"embedding_length", model->hidden},
               {"feed_forward_length", model->feed_forward},
               {"attention.head_count", model->heads},
               {"attention.head_count_kv", model->kv_heads},
               {"attention.key_length", model->head_dim},
               {"attention.value_length", model->head_dim},
               {"rope.dimension_count", model->head_dim},
               {"vocab_size", model->vocabulary}};
  char key[64];
  nvfp4_gguf_writer_string(writer, "general.architecture", model->arch[0] != '\0' ? model->arch : NVFP4_GGUF_NO_MODEL);
  nvfp4_gguf_writer_string(writer, "general.type", "model");
  nvfp4_gguf_writer_string(writer, "general.name", name);
  nvfp4_gguf_writer_u32(writer, "general.file_type", MOSTLY_NVFP4);
  nvfp4_gguf_writer_u32(writer, "general.quantization_version", QUANTISATION_VERSION);
  if (model->arch[0] == '\0') {
    return;
  }
  for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
    snprintf(key, sizeof key, "%s.%s", model->arch, sizes[i].key);
    nvfp4_gguf_writer_u32(writer, key, (uint32_t)sizes[i].value);
  }
  snprintf(key, sizeof key, "%s.rope.freq_base", model->arch);
  nvfp4_gguf_writer_f32(writer, key, (float)model->rope_theta);
  snprintf(key, sizeof key, "%s.attention.layer_norm_rms_epsilon", model->arch);
  nvfp4_gguf_writer_f32(writer, key, (float)model->norm_eps);
  if (model->rope_linear > 0) {
    snprintf(key, sizeof key, "%s.rope.scaling.type", model->arch);
    nvfp4_gguf_writer_string(writer, key, "linear");
    snprintf(key, sizeof key, "%s.rope.scaling.factor", model->arch);
    nvfp4_gguf_writer_f32(writer, key, (float)model->rope_linear);
  }
}

nvfp4_status nvfp4_gguf_head_rows(const nvfp4_checkpoint *source, int64_t *head_rows, nvfp4_reason *reason) {
  const nvfp4_gguf_metadata *metadata = source->gguf;
  const char *path = nvfp4_checkpoint_path(source);
  nvfp4_gguf_string arch;
  if (!nvfp4_gguf_get_string(metadata, "general.architecture", &arch)) {
    return nvfp4_reject(reason, NVFP4_E_FORMAT, "%s: no general.architecture in the metadata", path);
  }
  *head_rows = 0;
  if (arch.bytes == 5 && memcmp(arch.text, "qwen2", 5) == 0) {
    return NVFP4_OK;
  }
  if (arch.bytes != 5 || memcmp(arch.text, "llama", 5) != 0) {
    return nvfp4_reject(reason, NVFP4_E_UNSUPPORTED,
                        "%s: architecture %.*s; of GGUF llama and qwen2 are translated: give the safetensors checkpoint", path,
                        (int)(arch.bytes < 64 ? arch.bytes : 64), arch.text);
  }
  int64_t heads = 0, hidden = 0;
  if (nvfp4_gguf_get_int(metadata, "llama.attention.key_length", head_rows) && *head_rows > 0) {
    return NVFP4_OK;
  }
  if (!nvfp4_gguf_get_int(metadata, "llama.attention.head_count", &heads) ||
      !nvfp4_gguf_get_int(metadata, "llama.embedding_length", &hidden) || heads <= 0 || hidden <= 0 || hidden % heads != 0) {
    return nvfp4_reject(
        reason, NVFP4_E_FORMAT,
        "%s: the size of a head cannot be told; needs llama.attention.key_length, or llama.embedding_length that is a multiple "
        "of llama.attention.head_count",
        path);
  }
  *head_rows = hidden / heads;
  return NVFP4_OK;
}

nvfp4_status nvfp4_gguf_refuse_part(const nvfp4_checkpoint *source, nvfp4_reason *reason) {
  int64_t parts;
  if (nvfp4_gguf_get_int(source->gguf, "split.count", &parts) && parts > 1) {
    return nvfp4_reject(reason, NVFP4_E_UNSUPPORTED, "%s is one of %lld parts of a model; join them with llama-gguf-split --merge",
                        nvfp4_checkpoint_path(source), (long long)parts);
  }
  return NVFP4_OK;
}
