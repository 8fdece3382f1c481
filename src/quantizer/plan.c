/* SPDX-License-Identifier: Apache-2.0 */
/* What becomes of every source tensor. */
#define _POSIX_C_SOURCE 200809L
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/reason.h"
#include "checkpoint/checkpoint.h"
#include "checkpoint/config_text.h"
#include "quantizer/quantizer.h"

static bool ends_with(const char *text, const char *end) {
  size_t length = strlen(text), end_length = strlen(end);
  return length >= end_length && strcmp(text + length - end_length, end) == 0;
}

static bool is_lm_head(const char *name) { return strcmp(name, "lm_head.weight") == 0 || ends_with(name, ".lm_head.weight"); }

/* Whether a 2-D tensor of that Hugging Face name is the weight of a linear layer that NVFP4 is for. Routers of mixtures of experts are
 * left out by ModelOpt and llm-compressor too: they are tiny, and an error there sends a token to another expert. */
static bool is_linear_weight(const char *name) {
  static const char *const tables[] = {"embed", "wte.", "wpe.", "relative_attention_bias", "norm"};
  static const char *const routers[] = {".gate.weight", ".router.weight", ".shared_expert_gate.weight"};
  if (!ends_with(name, ".weight")) {
    return false;
  }
  for (size_t i = 0; i < sizeof tables / sizeof tables[0]; i++) {
    if (strstr(name, tables[i]) != NULL) {
      return false;
    }
  }
  for (size_t i = 0; i < sizeof routers / sizeof routers[0]; i++) {
    if (ends_with(name, routers[i])) {
      return false;
    }
  }
  return !is_lm_head(name);
}

static nvfp4_status refuse_quantised(const nvfp4_quantize_job *job, nvfp4_reason *reason) {
  const char *path = nvfp4_checkpoint_path(job->source);
  const nvfp4_layer_info *layer;
  for (size_t i = 0; (layer = nvfp4_checkpoint_layer(job->source, i)) != NULL; i++) {
    if (layer->mode != NVFP4_MODE_UNQUANTISED) {
      return nvfp4_reject(reason, NVFP4_E_UNSUPPORTED, "%s is quantised already: layer %s is %s (%s); give the checkpoint it was made of",
                          path, layer->name, layer->mode == NVFP4_MODE_FP8 ? "FP8" : "NVFP4", nvfp4_mode_name(layer->mode));
    }
  }
  return NVFP4_OK;
}

/* What config.json says against it: another quantisation, or GPT-2's linear layers, which lie transposed. */
static nvfp4_status check_config(const nvfp4_quantize_job *job, nvfp4_reason *reason) {
  const char *path = nvfp4_checkpoint_path(job->source), *text = nvfp4_checkpoint_config(job->source);
  json_error_t error;
  json_t *config = text != NULL ? nvfp4_config_load(text, &error) : NULL;
  const json_t *quantisation = json_object_get(config, "quantization_config");
  const char *type = json_string_value(json_object_get(config, "model_type"));
  nvfp4_status status = NVFP4_OK;
  if (json_is_object(quantisation)) {
    const char *method = json_string_value(json_object_get(quantisation, "quant_method"));
    status = nvfp4_reject(reason, NVFP4_E_UNSUPPORTED,
                          "%s is quantised already: its config.json has a quantization_config (%s); give the checkpoint it was made of",
                          path, method != NULL ? method : "without quant_method");
  } else if (type != NULL && (strcmp(type, "gpt2") == 0 || strcmp(type, "openai-gpt") == 0)) {
    status = nvfp4_reject(reason, NVFP4_E_UNSUPPORTED, "%s is a %s model, whose weights lie as [K, N] (Conv1D); NVFP4 layers need [N, K]",
                          path, type);
  }
  json_decref(config);
  return status;
}

static bool is_float(nvfp4_dtype dtype) { return dtype == NVFP4_DTYPE_F32 || dtype == NVFP4_DTYPE_F16 || dtype == NVFP4_DTYPE_BF16; }

static bool is_ggml_block(nvfp4_dtype dtype) { return dtype == NVFP4_DTYPE_Q8_0 || dtype == NVFP4_DTYPE_Q4_0 || dtype == NVFP4_DTYPE_Q4_1; }

static nvfp4_status exclude(nvfp4_quantize_job *job, const char *name, size_t length, nvfp4_reason *reason) {
  char *module = strndup(name, length);
  if (module == NULL) {
    return nvfp4_reject(reason, NVFP4_E_NOMEM, "out of memory for the plan");
  }
  job->excluded[job->excluded_count++] = module; /* plan_alloc made room for one a tensor and lm_head */
  return NVFP4_OK;
}

/* The type of a tensor that is taken over. Safetensors: as it is, bit for bit. GGUF: 16-bit types as they are; F32, which its converter
 * makes of every norm, becomes bf16 again where that is exact; blocks (a Q8_0 embedding) are rounded to bf16, which moves a value by 2^-9
 * of itself at most, where Q8_0 moved it by 2^-8 of its block's largest. */
static nvfp4_dtype copied_dtype(const nvfp4_tensor *source, bool gguf) {
  if (!gguf || source->dtype == NVFP4_DTYPE_F16) {
    return source->dtype;
  }
  return source->dtype == NVFP4_DTYPE_F32 ? NVFP4_DTYPE_NONE : NVFP4_DTYPE_BF16;
}

/* Adds the output tensor `name` made of source; decides what becomes of it. */
static nvfp4_status add_tensor(nvfp4_quantize_job *job, const nvfp4_tensor *source, const char *name, int64_t head_rows,
                               nvfp4_reason *reason) {
  bool gguf = job->source->gguf != NULL;
  if (gguf && !is_float(source->dtype) && !is_ggml_block(source->dtype)) {
    return nvfp4_reject(reason, NVFP4_E_UNSUPPORTED,
                        "%s: tensor %s has type %s; the quantiser reads F32, F16, BF16, Q8_0, Q4_0 and Q4_1: give a file of one of those",
                        source->file, source->name, source->dtype_name);
  }
  bool readable = is_float(source->dtype) || is_ggml_block(source->dtype);
  bool wanted = source->rank == 2 && readable && (is_linear_weight(name) || (job->options.lm_head && is_lm_head(name)));
  bool quantise = wanted && source->shape[0] > 0 && source->shape[1] > 0 && source->shape[1] % job->k_multiple == 0;
  size_t module_length = ends_with(name, ".weight") ? strlen(name) - strlen(".weight") : strlen(name);
  if (!quantise && source->rank >= 2 && (readable || ends_with(name, ".weight"))) {
    NVFP4_TRY(exclude(job, name, module_length, reason));
  }
  nvfp4_planned_tensor *planned = &job->tensors[job->tensor_count];
  *planned = (nvfp4_planned_tensor){.source = source,
                                    .quantise = quantise,
                                    .head_rows = head_rows,
                                    .headroom = job->options.scales == NVFP4_SCALES_FOUR_OVER_SIX ? 1.75f : 1.0f,
                                    .input_amax = -1.0f,
                                    .rounded_at = -1};
  planned->name = strndup(name, quantise ? module_length : strlen(name));
  if (planned->name == NULL) {
    return nvfp4_reject(reason, NVFP4_E_NOMEM, "out of memory for the plan");
  }
  job->tensor_count++;
  planned->dtype = quantise ? NVFP4_DTYPE_U8 : copied_dtype(source, gguf);
  planned->rows = source->rank > 0 ? source->shape[0] : 1;
  planned->columns = 1;
  for (int d = 1; d < source->rank; d++) {
    planned->columns *= source->shape[d];
  }
  if (head_rows != 0 && (head_rows % 2 != 0 || planned->rows % head_rows != 0)) {
    return nvfp4_reject(reason, NVFP4_E_FORMAT, "%s: tensor %s has %lld rows; heads of %lld rows (an even number) need a multiple of that",
                        source->file, source->name, (long long)planned->rows, (long long)head_rows);
  }
  return NVFP4_OK;
}

static nvfp4_status plan_safetensors(nvfp4_quantize_job *job, nvfp4_reason *reason) {
  const nvfp4_tensor *tensor;
  for (size_t i = 0; (tensor = nvfp4_checkpoint_tensor(job->source, i)) != NULL; i++) {
    NVFP4_TRY(add_tensor(job, tensor, tensor->name, 0, reason));
    job->own_lm_head = job->own_lm_head || is_lm_head(tensor->name);
  }
  return NVFP4_OK;
}

static nvfp4_status plan_gguf(nvfp4_quantize_job *job, nvfp4_reason *reason) {
  int64_t head_rows;
  NVFP4_TRY(nvfp4_gguf_refuse_part(job->source, reason));
  NVFP4_TRY(nvfp4_gguf_head_rows(job->source, &head_rows, reason));
  const nvfp4_tensor *tensor;
  for (size_t i = 0; (tensor = nvfp4_checkpoint_tensor(job->source, i)) != NULL; i++) {
    char name[256];
    if (!nvfp4_gguf_hf_name(tensor->name, name, sizeof name)) {
      return nvfp4_reject(reason, NVFP4_E_UNSUPPORTED,
                          "%s: tensor %s has no place in a Llama or Qwen2 model of Hugging Face%s: give the safetensors checkpoint",
                          tensor->file, tensor->name, strcmp(tensor->name, "rope_freqs.weight") == 0 ? " (scaled RoPE)" : "");
    }
    bool turned = strstr(name, ".q_proj.") != NULL || strstr(name, ".k_proj.") != NULL;
    NVFP4_TRY(add_tensor(job, tensor, name, turned ? head_rows : 0, reason));
    job->own_lm_head = job->own_lm_head || is_lm_head(name);
  }
  return NVFP4_OK;
}

static int by_name(const void *a, const void *b) {
  return strcmp(((const nvfp4_planned_tensor *)a)->name, ((const nvfp4_planned_tensor *)b)->name);
}

static int by_text(const void *a, const void *b) { return strcmp(*(char *const *)a, *(char *const *)b); }

/* lm_head: a tied one gets its weights from the embedding if it is wanted; one that is not quantised is always named in the ignore list,
 * since a model has the module even where the checkpoint has no tensor for it. */
static nvfp4_status plan_lm_head(nvfp4_quantize_job *job, nvfp4_reason *reason) {
  if (job->own_lm_head) {
    return NVFP4_OK;
  }
  if (!job->options.lm_head) {
    return exclude(job, "lm_head", strlen("lm_head"), reason);
  }
  for (size_t i = 0; i < job->tensor_count; i++) {
    if (strcmp(job->tensors[i].name, "model.embed_tokens.weight") == 0) {
      job->own_lm_head = true;
      return add_tensor(job, job->tensors[i].source, "lm_head.weight", 0, reason);
    }
  }
  return nvfp4_reject(reason, NVFP4_E_UNSUPPORTED, "%s has neither lm_head.weight nor model.embed_tokens.weight: leave lm_head out",
                      nvfp4_checkpoint_path(job->source));
}

nvfp4_status nvfp4_quantize_plan(nvfp4_quantize_job *job, nvfp4_reason *reason) {
  NVFP4_TRY(refuse_quantised(job, reason));
  NVFP4_TRY(check_config(job, reason));
  size_t room = nvfp4_checkpoint_tensor_count(job->source) + 1;
  job->tensors = calloc(room, sizeof *job->tensors);
  job->excluded = calloc(room, sizeof *job->excluded);
  if (job->tensors == NULL || job->excluded == NULL) {
    return nvfp4_reject(reason, NVFP4_E_NOMEM, "out of memory for a plan of %zu tensors", room);
  }
  NVFP4_TRY(job->source->gguf != NULL ? plan_gguf(job, reason) : plan_safetensors(job, reason));
  NVFP4_TRY(plan_lm_head(job, reason));
  qsort(job->tensors, job->tensor_count, sizeof *job->tensors, by_name);
  qsort(job->excluded, job->excluded_count, sizeof *job->excluded, by_text);
  for (size_t i = 0; i < job->tensor_count; i++) {
    job->stats.layers += job->tensors[i].quantise;
  }
  if (job->stats.layers == 0) {
    return nvfp4_reject(reason, NVFP4_E_UNSUPPORTED,
                        "%s has no linear layer to quantise: needs 2-D F32, F16 or BF16 tensors named *.weight with K a multiple of %d",
                        nvfp4_checkpoint_path(job->source), (int)job->k_multiple);
  }
  return NVFP4_OK;
}

static bool has_tensor(const nvfp4_quantize_job *job, const char *name) {
  for (size_t i = 0; i < job->tensor_count; i++) {
    if (strcmp(job->tensors[i].name, name) == 0) {
      return true;
    }
  }
  return false;
}

nvfp4_status nvfp4_quantize_describe(nvfp4_quantize_job *job, nvfp4_model_description *out, nvfp4_reason *reason) {
  if (job->described == NULL && (job->described = calloc(job->tensor_count + 1, sizeof *job->described)) == NULL) {
    return nvfp4_reject(reason, NVFP4_E_NOMEM, "out of memory for the configs");
  }
  size_t count = 0;
  for (size_t i = 0; i < job->tensor_count; i++) {
    if (job->tensors[i].quantise) {
      job->described[count++] = (nvfp4_config_layer){.name = job->tensors[i].name, .mode = job->options.mode};
    }
  }
  *out = (nvfp4_model_description){.source = job->source,
                                   .layout = job->options.layout,
                                   .tool = job->options.tool,
                                   .layers = job->described,
                                   .layer_count = count,
                                   .excluded = job->excluded,
                                   .excluded_count = job->excluded_count,
                                   .own_lm_head = job->own_lm_head,
                                   .untie = job->options.lm_head,
                                   .attention_bias = has_tensor(job, "model.layers.0.self_attn.q_proj.bias"),
                                   .mlp_bias = has_tensor(job, "model.layers.0.mlp.up_proj.bias")};
  return NVFP4_OK;
}

nvfp4_status nvfp4_quantize_leave(nvfp4_quantize_job *job, nvfp4_planned_tensor *tensor, nvfp4_reason *reason) {
  size_t length = strlen(tensor->name);
  char *name = malloc(length + sizeof ".weight");
  if (name == NULL) {
    return nvfp4_reject(reason, NVFP4_E_NOMEM, "out of memory for the plan");
  }
  memcpy(name, tensor->name, length);
  memcpy(name + length, ".weight", sizeof ".weight");
  nvfp4_status status = exclude(job, tensor->name, length, reason);
  if (status != NVFP4_OK) {
    free(name);
    return status;
  }
  qsort(job->excluded, job->excluded_count, sizeof *job->excluded, by_text);
  free(tensor->name);
  tensor->name = name;
  tensor->quantise = false;
  tensor->dtype = copied_dtype(tensor->source, job->source->gguf != NULL);
  if (tensor->dtype == NVFP4_DTYPE_NONE) { /* F32 of a GGUF file; the reading that would tell whether bf16 holds it is over */
    tensor->dtype = NVFP4_DTYPE_F32;
  }
  job->stats.layers--;
  return NVFP4_OK;
}

void nvfp4_quantize_plan_free(nvfp4_quantize_job *job) {
  for (size_t i = 0; i < job->tensor_count; i++) {
    free(job->tensors[i].name);
  }
  for (size_t i = 0; i < job->excluded_count; i++) {
    free(job->excluded[i]);
  }
  free(job->tensors);
  free(job->excluded);
  free(job->described);
  job->described = NULL;
  nvfp4_layer_inputs_free(job);
  job->tensors = NULL;
  job->excluded = NULL;
  job->tensor_count = job->excluded_count = 0;
}
