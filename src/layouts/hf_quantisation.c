/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What configs say of the quantisation. The keys are those that the tools write: ModelOpt 0.47 (hf_quant_config.json and
 * quantization_config), compressed-tensors 0.20 (quantization_config), mlx-lm 0.32 (quantization). Layers of one kind make a uniform config;
 * several kinds make one group each, whose targets are the layers' names: no pattern can then match a layer of another group.
 */
#include <stdio.h>
#include <string.h>

#include "layouts/layouts.h"

/* Kinds of layers, in the order of their groups. */
typedef enum scheme { FP8_TENSOR, FP8_TENSOR_DYNAMIC, FP8_CHANNEL, FP8_CHANNEL_DYNAMIC, W4A4, W4A16, SCHEMES } scheme;

static scheme scheme_of(const nvfp4_config_layer *layer) {
  if (layer->mode == NVFP4_MODE_FP8) {
    return layer->fp8_channels ? (layer->fp8_dynamic ? FP8_CHANNEL_DYNAMIC : FP8_CHANNEL)
                               : (layer->fp8_dynamic ? FP8_TENSOR_DYNAMIC : FP8_TENSOR);
  }
  return layer->mode == NVFP4_MODE_W4A4 ? W4A4 : W4A16;
}

static bool is_fp8(scheme s) { return s < W4A4; }

static json_t *ignore_list(const nvfp4_model_description *model) {
  json_t *list = json_array();
  for (size_t i = 0; i < model->excluded_count; i++) {
    json_array_append_new(list, json_string(model->excluded[i]));
  }
  return list;
}

/* The layers of a scheme; NULL if there are none. */
static json_t *targets(const nvfp4_model_description *model, scheme s) {
  json_t *list = NULL;
  for (size_t i = 0; i < model->layer_count; i++) {
    if (scheme_of(&model->layers[i]) == s) {
      list = list != NULL ? list : json_array();
      json_array_append_new(list, json_string(model->layers[i].name));
    }
  }
  return list;
}

/* Calls make(s, targets) for every scheme that has layers and gathers what it gives as group_0, group_1, ...; *uniform: there is but one,
 * and its target is the class of all linear layers. */
static json_t *make_groups(const nvfp4_model_description *model, json_t *(*make)(scheme s, json_t *names), scheme *first, bool *uniform) {
  json_t *lists[SCHEMES], *groups = json_object();
  int count = 0;
  for (int s = 0; s < SCHEMES; s++) {
    lists[s] = targets(model, (scheme)s);
    *first = lists[s] != NULL && count == 0 ? (scheme)s : *first;
    count += lists[s] != NULL;
  }
  *uniform = count == 1;
  for (unsigned s = 0, group = 0; s < SCHEMES; s++) {
    if (lists[s] != NULL) {
      if (*uniform) {
        json_decref(lists[s]);
        lists[s] = json_pack("[s]", "Linear");
      }
      char name[16];
      snprintf(name, sizeof name, "group_%u", group++);
      json_object_set_new(groups, name, make((scheme)s, lists[s]));
    }
  }
  return groups;
}

/* ----------------------------------------------------------------------------------------------------------------- ModelOpt */

static const char *modelopt_algo(scheme s) {
  static const char *const names[SCHEMES] = {
      [FP8_TENSOR] = "FP8",
      [FP8_TENSOR_DYNAMIC] = "FP8",
      [FP8_CHANNEL] = "FP8_PER_CHANNEL_PER_TOKEN",
      [FP8_CHANNEL_DYNAMIC] = "FP8_PER_CHANNEL_PER_TOKEN",
      [W4A4] = "NVFP4",
      [W4A16] = "W4A16_NVFP4",
  };
  return names[s];
}

static json_t *modelopt_numbers(scheme s, bool dynamic) {
  json_t *numbers = json_pack("{s:b, s:i, s:s}", "dynamic", dynamic, "num_bits", is_fp8(s) ? 8 : 4, "type", "float");
  if (!is_fp8(s)) {
    json_object_set_new(numbers, "group_size", json_integer(NVFP4_BLOCK));
  }
  return numbers;
}

static json_t *modelopt_group(scheme s, json_t *names) {
  json_t *group = json_object();
  if (s != W4A16) {
    json_object_set_new(group, "input_activations", modelopt_numbers(s, s == FP8_TENSOR_DYNAMIC || s == FP8_CHANNEL_DYNAMIC));
  }
  json_object_set_new(group, "weights", modelopt_numbers(s, false));
  json_object_set_new(group, "targets", names);
  return group;
}

static json_t *quantized_layers(const nvfp4_model_description *model) {
  json_t *layers = json_object();
  for (size_t i = 0; i < model->layer_count; i++) {
    scheme s = scheme_of(&model->layers[i]);
    json_t *entry = json_pack("{s:s}", "quant_algo", modelopt_algo(s));
    if (!is_fp8(s)) {
      json_object_set_new(entry, "group_size", json_integer(NVFP4_BLOCK));
    }
    json_object_set_new(layers, model->layers[i].name, entry);
  }
  return layers;
}

static json_t *modelopt_config(const nvfp4_model_description *model) {
  scheme first = W4A4;
  bool uniform;
  json_t *groups = make_groups(model, modelopt_group, &first, &uniform);
  json_t *config = json_pack("{s:o, s:o}", "config_groups", groups, "ignore", uniform ? ignore_list(model) : json_array());
  if (!uniform) {
    json_object_set_new(config, "quantized_layers", quantized_layers(model));
  }
  if (model->kv_cache_fp8) {
    json_object_set_new(config, "kv_cache_scheme", json_pack("{s:b, s:i, s:s}", "dynamic", 0, "num_bits", 8, "type", "float"));
  }
  json_object_set_new(config, "quant_algo", json_string(uniform ? modelopt_algo(first) : "MIXED_PRECISION"));
  json_object_set_new(config, "producer", json_pack("{s:s, s:s}", "name", model->tool, "version", nvfp4_version()));
  json_object_set_new(config, "quant_method", json_string("modelopt"));
  return config;
}

nvfp4_status nvfp4_hf_quant_config(const nvfp4_model_description *model, char **out, nvfp4_reason *reason) {
  if (model->layout != NVFP4_LAYOUT_MODELOPT) {
    *out = NULL;
    return NVFP4_OK;
  }
  /* vLLM and SGLang read this file only if the producer's name is "modelopt"; who wrote it is in the version. */
  char version[160];
  snprintf(version, sizeof version, "%s %s", model->tool, nvfp4_version());
  scheme first = W4A4;
  bool uniform;
  json_decref(make_groups(model, modelopt_group, &first, &uniform));
  json_t *quantisation = json_pack("{s:s, s:o}", "quant_algo", uniform ? modelopt_algo(first) : "MIXED_PRECISION", "kv_cache_quant_algo",
                                   model->kv_cache_fp8 ? json_string("FP8") : json_null());
  if (uniform) {
    json_object_set_new(quantisation, "group_size", json_integer(NVFP4_BLOCK));
    json_object_set_new(quantisation, "exclude_modules", ignore_list(model));
  } else {
    json_object_set_new(quantisation, "quantized_layers", quantized_layers(model));
  }
  return nvfp4_json_text(json_pack("{s:{s:s, s:s}, s:o}", "producer", "name", "modelopt", "version", version, "quantization", quantisation),
                         out, reason);
}

/* ------------------------------------------------------------------------------------------------------- compressed-tensors */

static const char *ct_format(scheme s) { return is_fp8(s) ? "float-quantized" : "nvfp4-pack-quantized"; }

static json_t *ct_numbers(scheme s, bool activations) {
  bool dynamic = s == FP8_TENSOR_DYNAMIC || s == FP8_CHANNEL_DYNAMIC, channels = s == FP8_CHANNEL || s == FP8_CHANNEL_DYNAMIC;
  json_t *numbers;
  if (is_fp8(s)) {
    const char *strategy = activations ? (dynamic ? "token" : "tensor") : channels ? "channel" : "tensor";
    numbers = json_pack("{s:b, s:n, s:i, s:s}", "dynamic", activations && dynamic, "group_size", "num_bits", 8, "strategy", strategy);
    dynamic = activations && dynamic;
  } else {
    numbers = activations ? json_pack("{s:s}", "dynamic", "local") : json_pack("{s:b}", "dynamic", 0);
    json_object_set_new(numbers, "group_size", json_integer(NVFP4_BLOCK));
    json_object_set_new(numbers, "num_bits", json_integer(4));
    json_object_set_new(numbers, "scale_dtype", json_string("torch.float8_e4m3fn"));
    json_object_set_new(numbers, "strategy", json_string("tensor_group"));
    dynamic = false;
  }
  if (activations && !dynamic) {
    json_object_set_new(numbers, "observer", json_string("static_minmax"));
  }
  json_object_set_new(numbers, "symmetric", json_true());
  json_object_set_new(numbers, "type", json_string("float"));
  return numbers;
}

static json_t *ct_group(scheme s, json_t *names) {
  return json_pack("{s:s, s:o, s:n, s:o, s:o}", "format", ct_format(s), "input_activations", s == W4A16 ? json_null() : ct_numbers(s, true),
                   "output_activations", "targets", names, "weights", ct_numbers(s, false));
}

static json_t *ct_config(const nvfp4_model_description *model) {
  scheme first = W4A4;
  bool uniform;
  json_t *groups = make_groups(model, ct_group, &first, &uniform);
  json_t *kv_cache = model->kv_cache_fp8 ? json_pack("{s:b, s:i, s:s, s:b, s:s}", "dynamic", 0, "num_bits", 8, "strategy", "tensor",
                                                     "symmetric", 1, "type", "float")
                                         : json_null();
  return json_pack("{s:o, s:s, s:n, s:o, s:o, s:s, s:s, s:s}", "config_groups", groups, "format",
                   uniform ? ct_format(first) : "mixed-precision", "global_compression_ratio", "ignore", ignore_list(model),
                   "kv_cache_scheme", kv_cache, "quant_method", "compressed-tensors", "quantization_status", "compressed", "version",
                   "0.20.0" /* whose keys these are */);
}

json_t *nvfp4_hf_quantisation(const nvfp4_model_description *model) {
  switch (model->layout) {
    case NVFP4_LAYOUT_MODELOPT:
      return modelopt_config(model);
    case NVFP4_LAYOUT_COMPRESSED_TENSORS:
      return ct_config(model);
    case NVFP4_LAYOUT_MLX:
      return json_pack("{s:i, s:i, s:s}", "group_size", NVFP4_BLOCK, "bits", 4, "mode", "nvfp4");
    default:
      return NULL;
  }
}
