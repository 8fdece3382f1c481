/* SPDX-License-Identifier: Apache-2.0 */
/* What the source's tensors are: NVFP4 layers, FP8 layers, and everything else, which is copied. */
#define _POSIX_C_SOURCE 200809L
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/reason.h"
#include "checkpoint/gguf.h"
#include "converter/converter.h"
#include "format/half.h"

static nvfp4_status no_memory(nvfp4_reason *reason) { return nvfp4_reject(reason, NVFP4_E_NOMEM, "no memory for the plan"); }

static bool is_plain(nvfp4_dtype dtype) { return dtype == NVFP4_DTYPE_F32 || dtype == NVFP4_DTYPE_F16 || dtype == NVFP4_DTYPE_BF16; }

/* ----------------------------------------------------------------------------------------------------- names, rows of heads */

static nvfp4_status read_architectures(nvfp4_convert_job *job, nvfp4_reason *reason) {
  const nvfp4_checkpoint *source = job->source;
  job->from_gguf = source->gguf != NULL;
  job->to_gguf = job->options.layout == NVFP4_LAYOUT_GGUF;
  if (job->from_gguf) {
    NVFP4_TRY(nvfp4_gguf_refuse_part(source, reason));
  } else if (job->to_gguf) {
    NVFP4_TRY(nvfp4_gguf_model_read(nvfp4_checkpoint_path(source), source->config, &job->gguf_model, reason));
    job->translated = job->gguf_model.arch[0] != '\0';
  }
  nvfp4_gguf_string arch;
  if (job->from_gguf && !job->to_gguf) { /* a file without a language model, as we make them, keeps its names */
    job->translated =
        nvfp4_gguf_get_string(source->gguf, "general.architecture", &arch) && !(arch.bytes == 7 && memcmp(arch.text, "unknown", 7) == 0);
  }
  return NVFP4_OK;
}

static bool is_turned(const char *hf_name) { return strstr(hf_name, ".q_proj") != NULL || strstr(hf_name, ".k_proj") != NULL; }

/* Name in the output of a tensor or, if `module`, of a layer; the rows of its heads. */
static nvfp4_status name_item(const nvfp4_convert_job *job, int64_t gguf_head, bool module, nvfp4_item *item, nvfp4_reason *reason) {
  const char *name = module ? item->layer->name : item->source->name;
  char other[CONVERT_MAX_NAME];
  if (strlen(name) >= CONVERT_MAX_NAME - 64) {
    return nvfp4_reject(reason, NVFP4_E_UNSUPPORTED, "tensor name %.64s... is %zu bytes long; at most %d are supported", name, strlen(name),
                        CONVERT_MAX_NAME - 65);
  }
  if (!job->translated) {
    item->name = strdup(name);
  } else {
    bool found = module         ? nvfp4_gguf_module(job->to_gguf, name, strlen(name), other, sizeof other)
                 : job->to_gguf ? nvfp4_hf_gguf_name(name, other, sizeof other)
                                : nvfp4_gguf_hf_name(name, other, sizeof other);
    if (!found) {
      return nvfp4_reject(reason, NVFP4_E_UNSUPPORTED, "%s: tensor %s has no place in a Llama, Mistral or Qwen2 model of %s",
                          item->source->file, item->source->name, job->to_gguf ? "llama.cpp" : "Hugging Face");
    }
    const char *hf = job->to_gguf ? name : other;
    *(job->to_gguf ? &item->target_head : &item->source_head) = is_turned(hf) ? gguf_head : 0;
    item->name = strdup(other);
  }
  if (module && item->name != NULL) {
    bool hf = nvfp4_gguf_module(false, name, strlen(name), other, sizeof other);
    item->module = strdup(job->from_gguf && hf ? other : name);
  }
  if (item->name == NULL || (module && item->module == NULL)) {
    return no_memory(reason);
  }
  int64_t head = item->source_head + item->target_head;
  if (head != 0 && (head % 2 != 0 || item->rows % head != 0)) {
    return nvfp4_reject(reason, NVFP4_E_FORMAT, "%s: tensor %s has %lld rows; heads of %lld rows (an even number) need a multiple of that",
                        item->source->file, item->source->name, (long long)item->rows, (long long)head);
  }
  return NVFP4_OK;
}

/* ------------------------------------------------------------------------------------------------------------------- layers */

/* The type that the tensor had before it became GGUF's, if metadata say so and its values have it. */
static nvfp4_dtype restored_type(const nvfp4_convert_job *job, const nvfp4_tensor *tensor) {
  static const nvfp4_dtype types[] = {NVFP4_DTYPE_BF16, NVFP4_DTYPE_F16, NVFP4_DTYPE_F8_E4M3};
  char key[CONVERT_MAX_NAME + 32], text[16];
  snprintf(key, sizeof key, "nvfp4.dtype.%s", tensor->name);
  if (!job->from_gguf || job->to_gguf || !nvfp4_checkpoint_metadata(job->source, key, text, sizeof text)) {
    return NVFP4_DTYPE_NONE;
  }
  for (size_t i = 0; i < sizeof types / sizeof types[0]; i++) {
    if (strcmp(text, nvfp4_dtype_name(types[i])) == 0 &&
        tensor->dtype == (types[i] == NVFP4_DTYPE_F8_E4M3 ? NVFP4_DTYPE_BF16 : NVFP4_DTYPE_F32)) {
      return types[i];
    }
  }
  return NVFP4_DTYPE_NONE;
}

/* Whether its weights are E4M3 with scales of rows, whatever its activations are. */
static bool is_fp8(const nvfp4_convert_job *job, const nvfp4_layer_info *layer) {
  return (layer->weight->dtype == NVFP4_DTYPE_F8_E4M3 && layer->weight->rank == 2) ||
         restored_type(job, layer->weight) == NVFP4_DTYPE_F8_E4M3;
}

/* Comfy pads N; without a bias only our own metadata tell how much. */
static int64_t rows_without_padding(const nvfp4_convert_job *job, const nvfp4_layer_info *layer) {
  char key[CONVERT_MAX_NAME + 32], text[32];
  snprintf(key, sizeof key, "nvfp4.rows.%s", layer->name);
  if (layer->layout == NVFP4_LAYOUT_COMFY && nvfp4_checkpoint_metadata(job->source, key, text, sizeof text)) {
    int64_t rows = strtoll(text, NULL, 10);
    if (rows > 0 && nvfp4_round_up(rows, 16) == layer->n) {
      return rows;
    }
  }
  return layer->n;
}

static nvfp4_status plan_nvfp4(nvfp4_convert_job *job, const nvfp4_layer_info *layer, int64_t head, nvfp4_reason *reason) {
  nvfp4_item *item = &job->items[job->item_count++];
  *item = (nvfp4_item){.kind = ITEM_NVFP4, .source = layer->weight, .layer = layer, .columns = layer->k};
  item->rows = rows_without_padding(job, layer);
  NVFP4_TRY(name_item(job, head, true, item, reason));
  job->stats.source = job->stats.layers == 0 ? layer->layout : job->stats.source;
  job->stats.layers++;
  return nvfp4_convert_globals(job, item, reason);
}

/* An E4M3 layer with its scales: one, or one a row. */
static nvfp4_status plan_fp8(nvfp4_convert_job *job, const nvfp4_layer_info *layer, int64_t head, nvfp4_reason *reason) {
  nvfp4_item *item = &job->items[job->item_count++];
  const nvfp4_checkpoint *source = job->source;
  *item = (nvfp4_item){.kind = ITEM_FP8, .source = layer->weight, .layer = layer, .rows = layer->n, .columns = layer->k};
  item->restored = restored_type(job, layer->weight);
  NVFP4_TRY(name_item(job, head, true, item, reason));
  item->fp8_scale = nvfp4_checkpoint_companion(source, layer->name, job->from_gguf ? ".scale" : ".weight_scale");
  const nvfp4_tensor *block = nvfp4_checkpoint_companion(source, layer->name, ".weight_scale_inv");
  const nvfp4_tensor *scale = item->fp8_scale;
  uint64_t entries = 1;
  for (int d = 0; scale != NULL && d < scale->rank; d++) {
    entries *= (uint64_t)scale->shape[d];
  }
  if (block != NULL || (scale != NULL && (!is_plain(scale->dtype) || (entries != 1 && entries != (uint64_t)layer->n)))) {
    return nvfp4_reject(
        reason, NVFP4_E_UNSUPPORTED,
        "%s: tensor %s: FP8 scales of blocks are not converted; needs one F32, F16 or BF16 scale, or one for each of %lld rows",
        layer->weight->file, (block != NULL ? block : scale)->name, (long long)layer->n);
  }
  item->fp8_scales = scale != NULL ? (int64_t)entries : 0;
  const nvfp4_tensor *input = nvfp4_checkpoint_companion(source, layer->name, ".input_scale");
  if (input != NULL && is_plain(input->dtype) && input->rank <= 1 && (input->rank == 0 || input->shape[0] == 1)) {
    nvfp4_to_f32(input->data, input->dtype, item->input.values, 1);
    item->input.count = 1;
  } else if (input != NULL) {
    return nvfp4_reject(reason, NVFP4_E_UNSUPPORTED, "%s: tensor %s: an FP8 layer's input scale needs one F32, F16 or BF16 number",
                        input->file, input->name);
  }
  job->stats.fp8_layers++;
  return NVFP4_OK;
}

static nvfp4_status refuse_other_formats(const nvfp4_convert_job *job, const nvfp4_layer_info *layer, nvfp4_reason *reason) {
  nvfp4_dtype dtype = layer->weight->dtype;
  bool bytes = dtype == NVFP4_DTYPE_U8 || dtype == NVFP4_DTYPE_I8 || dtype == NVFP4_DTYPE_U32 || dtype == NVFP4_DTYPE_I32 ||
               dtype == NVFP4_DTYPE_GGUF_NVFP4 || (dtype == NVFP4_DTYPE_F8_E4M3 && layer->weight->rank != 2);
  if (bytes && !(job->from_gguf && job->to_gguf)) {
    return nvfp4_reject(reason, NVFP4_E_UNSUPPORTED,
                        "%s: tensor %s: %s; only NVFP4 layers of two dimensions, FP8 and plain ones are converted", layer->weight->file,
                        layer->weight->name, layer->note[0] != '\0' ? layer->note : layer->weight->dtype_name);
  }
  return NVFP4_OK;
}

/* ------------------------------------------------------------------------------------------------------------------ the rest */

/* Tensors that belong to a layer and are written with it, by what follows its name. */
static bool is_part(const nvfp4_convert_job *job, const nvfp4_layer_info *layer, const char *suffix) {
  if (layer->layout != NVFP4_LAYOUT_NONE) {
    const nvfp4_convention *names = &nvfp4_conventions[layer->layout];
    return strcmp(suffix, names->weight) == 0 || (names->scale != NULL && strcmp(suffix, names->scale) == 0) ||
           strcmp(suffix, names->global) == 0 || (names->input != NULL && strcmp(suffix, names->input) == 0) ||
           (layer->layout == NVFP4_LAYOUT_COMFY && strcmp(suffix, ".comfy_quant") == 0);
  }
  return strcmp(suffix, ".weight") == 0 || strcmp(suffix, job->from_gguf ? ".scale" : ".weight_scale") == 0 ||
         strcmp(suffix, ".input_scale") == 0 || strcmp(suffix, ".comfy_quant") == 0;
}

static const nvfp4_layer_info *owner(const nvfp4_convert_job *job, const nvfp4_tensor *tensor) {
  const char *dot = strrchr(tensor->name, '.');
  char module[CONVERT_MAX_NAME];
  if (dot == NULL || (size_t)(dot - tensor->name) >= sizeof module) {
    return NULL;
  }
  memcpy(module, tensor->name, (size_t)(dot - tensor->name));
  module[dot - tensor->name] = '\0';
  const nvfp4_layer_info *layer = nvfp4_checkpoint_find_layer(job->source, module);
  bool fp8 = layer != NULL && is_fp8(job, layer);
  return layer != NULL && (layer->layout != NVFP4_LAYOUT_NONE || fp8) && is_part(job, layer, dot) ? layer : NULL;
}

/* Llama 3's factors, which llama.cpp keeps as a tensor and config.json as four numbers: those of our own files come back with it. */
static bool is_rope_of_config(const nvfp4_convert_job *job, const nvfp4_tensor *tensor) {
  char config[2];
  return job->translated && !job->to_gguf && strcmp(tensor->name, "rope_freqs.weight") == 0 &&
         nvfp4_checkpoint_metadata(job->source, NVFP4_METADATA_CONFIG, config, sizeof config);
}

static bool is_cache_scale(const char *name) {
  const char *dot = strrchr(name, '.');
  return dot != NULL && (strcmp(dot, ".k_scale") == 0 || strcmp(dot, ".v_scale") == 0);
}

/* Numbers and vectors that the target's models lack (scales of an FP8 cache of keys and values; for llama.cpp inv_freq, too): llama.cpp and
 * mlx-lm open no file that has more tensors than the model. A matrix without a place is more than that: the model is another one. */
static bool has_no_place(const nvfp4_convert_job *job, const nvfp4_tensor *tensor) {
  char name[CONVERT_MAX_NAME];
  bool gguf = job->to_gguf && job->translated && !nvfp4_hf_gguf_name(tensor->name, name, sizeof name);
  bool mlx = job->options.layout == NVFP4_LAYOUT_MLX && job->source->config != NULL && is_cache_scale(tensor->name);
  return tensor->rank <= 1 && (gguf || mlx);
}

static nvfp4_status plan_other(nvfp4_convert_job *job, const nvfp4_tensor *tensor, int64_t head, nvfp4_reason *reason) {
  if (owner(job, tensor) != NULL || is_rope_of_config(job, tensor)) {
    return NVFP4_OK;
  }
  if (has_no_place(job, tensor)) {
    nvfp4_convert_tell(job, true, tensor->name, "%s has no such tensor in its models: left out", job->to_gguf ? "llama.cpp" : "mlx-lm");
    return NVFP4_OK;
  }
  nvfp4_item *item = &job->items[job->item_count++];
  *item = (nvfp4_item){.kind = ITEM_OTHER, .source = tensor, .columns = 1, .restored = restored_type(job, tensor)};
  item->rows = tensor->rank > 0 ? tensor->shape[0] : 1;
  for (int d = 1; d < tensor->rank; d++) {
    item->columns *= tensor->shape[d];
  }
  job->stats.copied_tensors++;
  return name_item(job, head, false, item, reason);
}

nvfp4_status nvfp4_convert_plan(nvfp4_convert_job *job, nvfp4_reason *reason) {
  NVFP4_TRY(read_architectures(job, reason));
  int64_t head = nvfp4_gguf_model_head_rows(&job->gguf_model);
  if (job->from_gguf && job->translated) {
    NVFP4_TRY(nvfp4_gguf_head_rows(job->source, &head, reason));
  }
  job->items = calloc(nvfp4_checkpoint_tensor_count(job->source) + 1, sizeof *job->items);
  if (job->items == NULL) {
    return no_memory(reason);
  }
  const nvfp4_layer_info *layer;
  for (size_t i = 0; (layer = nvfp4_checkpoint_layer(job->source, i)) != NULL; i++) {
    if (layer->layout != NVFP4_LAYOUT_NONE) {
      NVFP4_TRY(plan_nvfp4(job, layer, head, reason));
    } else if (is_fp8(job, layer)) {
      NVFP4_TRY(plan_fp8(job, layer, head, reason));
    } else {
      NVFP4_TRY(refuse_other_formats(job, layer, reason));
    }
  }
  if (job->stats.layers == 0) {
    return nvfp4_reject(reason, NVFP4_E_UNSUPPORTED, "%s has no NVFP4 layer; `quantize` makes them of other weights",
                        nvfp4_checkpoint_path(job->source));
  }
  const nvfp4_tensor *tensor;
  for (size_t i = 0; (tensor = nvfp4_checkpoint_tensor(job->source, i)) != NULL; i++) {
    job->stats.input_bytes += tensor->bytes;
    NVFP4_TRY(plan_other(job, tensor, head, reason));
  }
  return NVFP4_OK;
}

void nvfp4_convert_free(nvfp4_convert_job *job) {
  for (size_t i = 0; i < job->item_count; i++) {
    free(job->items[i].name);
    free(job->items[i].module);
    free(job->items[i].weight.name);
    free(job->items[i].input.name);
  }
  for (size_t i = 0; i < job->made_count; i++) {
    free(job->made[i].name);
    free(job->made[i].values);
  }
  for (size_t i = 0; i < job->entry_count; i++) {
    free(job->entries[i].key);
    free(job->entries[i].value);
  }
  free(job->items);
  free(job->made);
  free(job->entries);
}
