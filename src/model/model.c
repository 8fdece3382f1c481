/* SPDX-License-Identifier: Apache-2.0 */
/* Loads a model: finds its tensors, makes its linear layers, allocates the cache and the activations of a batch. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/alloc.h"
#include "base/reason.h"
#include "base/sized.h"
#include "layer/context.h"
#include "model/tokenizer.h"
#include "model/transformer.h"
#include "model/vector.h"

#define DEFAULT_CONTEXT 2048
#define DEFAULT_BATCH 512

/* ----------------------------------------------------------------------------------------------------------------- names */

typedef struct model_names {
  const char *prefix; /* a format: block and name */
  const char *linear[NVFP4_BLOCK_LINEARS];
  const char *attention_norm, *mlp_norm;
  const char *embedding, *final_norm, *output;
} model_names;

static const model_names hf_names = {
    "model.layers.%" PRId64 ".%s",
    {"self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj", "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"},
    "input_layernorm.weight",
    "post_attention_layernorm.weight",
    "model.embed_tokens",
    "model.norm.weight",
    "lm_head"};

static const model_names gguf_names = {"blk.%" PRId64 ".%s",
                                       {"attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down"},
                                       "attn_norm.weight",
                                       "ffn_norm.weight",
                                       "token_embd",
                                       "output_norm.weight",
                                       "output"};

static const model_names *names_of(const nvfp4_model *model) { return model->config.gguf_names ? &gguf_names : &hf_names; }

/* --------------------------------------------------------------------------------------------------------------- tensors */

typedef struct load_job {
  nvfp4_context *context;
  const nvfp4_checkpoint *checkpoint;
  const nvfp4_model_options *options;
  nvfp4_model *model;
} load_job;

static nvfp4_status load_vector(const load_job *job, const char *name, int64_t count, float **out, nvfp4_reason *reason) {
  const nvfp4_tensor *tensor = nvfp4_checkpoint_find(job->checkpoint, name);
  if (tensor == NULL) {
    return nvfp4_reject(reason, NVFP4_E_FORMAT, "%s: no tensor %s, which the model needs", nvfp4_checkpoint_path(job->checkpoint), name);
  }
  if (tensor->rank != 1 || tensor->shape[0] != count) {
    return nvfp4_reject(reason, NVFP4_E_SHAPE, "tensor %s has rank %d and %" PRId64 " elements; needs [%" PRId64 "]", name, tensor->rank,
                        tensor->rank > 0 ? tensor->shape[0] : 1, count);
  }
  *out = malloc((size_t)count * sizeof **out);
  if (*out == NULL) {
    return nvfp4_reject(reason, NVFP4_E_NOMEM, "out of memory for %s", name);
  }
  return nvfp4_tensor_to_f32(tensor, 0, (uint64_t)count, *out, reason);
}

static nvfp4_status load_linear(const load_job *job, const char *name, int64_t n, int64_t k, bool needs_bias, nvfp4_linear *out,
                                nvfp4_reason *reason) {
  const nvfp4_layer_info *info = nvfp4_checkpoint_find_layer(job->checkpoint, name);
  if (info == NULL) {
    return nvfp4_reject(reason, NVFP4_E_FORMAT, "%s: no linear layer %s, which the model needs", nvfp4_checkpoint_path(job->checkpoint),
                        name);
  }
  if (info->n != n || info->k != k) {
    return nvfp4_reject(reason, NVFP4_E_SHAPE, "layer %s is [%" PRId64 ", %" PRId64 "]; the model needs [%" PRId64 ", %" PRId64 "]", name,
                        info->n, info->k, n, k);
  }
  if (needs_bias && info->bias == NULL) {
    return nvfp4_reject(reason, NVFP4_E_FORMAT, "layer %s has no bias; %s needs one", name, job->model->config.architecture);
  }
  NVFP4_TRY(nvfp4_linear_create(job->context, job->checkpoint, info, job->options, out, reason));
  nvfp4_linear_workspace_need(&job->model->workspace, out, job->model->batch_tokens);
  return NVFP4_OK;
}

static nvfp4_status load_block(const load_job *job, int64_t index, nvfp4_block *block, nvfp4_reason *reason) {
  nvfp4_model *model = job->model;
  const nvfp4_model_config *config = &model->config;
  const model_names *names = names_of(model);
  int64_t q = config->heads * config->head_dim, kv = config->kv_heads * config->head_dim;
  const int64_t shapes[NVFP4_BLOCK_LINEARS][2] = {{q, config->hidden},
                                                  {kv, config->hidden},
                                                  {kv, config->hidden},
                                                  {config->hidden, q},
                                                  {config->intermediate, config->hidden},
                                                  {config->intermediate, config->hidden},
                                                  {config->hidden, config->intermediate}};
  char name[128];
  for (int i = 0; i < NVFP4_BLOCK_LINEARS; i++) {
    snprintf(name, sizeof name, names->prefix, index, names->linear[i]);
    NVFP4_TRY(load_linear(job, name, shapes[i][0], shapes[i][1], config->attention_bias && i <= NVFP4_V, &block->linear[i], reason));
  }
  snprintf(name, sizeof name, names->prefix, index, names->attention_norm);
  NVFP4_TRY(load_vector(job, name, config->hidden, &block->attention_norm, reason));
  snprintf(name, sizeof name, names->prefix, index, names->mlp_norm);
  return load_vector(job, name, config->hidden, &block->mlp_norm, reason);
}

static void unload_block(nvfp4_block *block) {
  for (int i = 0; i < NVFP4_BLOCK_LINEARS; i++) {
    nvfp4_linear_destroy(&block->linear[i]);
  }
  free(block->attention_norm);
  free(block->mlp_norm);
  block->attention_norm = block->mlp_norm = NULL;
}

/* The embedding, and the last norm. */
static nvfp4_status load_ends(const load_job *job, nvfp4_reason *reason) {
  nvfp4_model *model = job->model;
  const nvfp4_model_config *config = &model->config;
  const model_names *names = names_of(model);
  char name[128];
  snprintf(name, sizeof name, "%s.weight", names->embedding);
  model->embedding = nvfp4_checkpoint_find(job->checkpoint, name);
  if (model->embedding == NULL) {
    return nvfp4_reject(reason, NVFP4_E_FORMAT, "%s: no tensor %s, which the model needs", nvfp4_checkpoint_path(job->checkpoint), name);
  }
  const int64_t *shape = model->embedding->shape;
  if (model->embedding->rank != 2 || shape[0] != config->vocabulary || shape[1] != config->hidden) {
    return nvfp4_reject(reason, NVFP4_E_SHAPE,
                        "tensor %s has %d dimensions, [%" PRId64 ", %" PRId64 "]; the configuration needs [%" PRId64 ", %" PRId64 "]", name,
                        model->embedding->rank, shape[0], model->embedding->rank > 1 ? shape[1] : 1, config->vocabulary, config->hidden);
  }
  NVFP4_TRY(nvfp4_linear_try_row(model->embedding, config->hidden, reason));
  return load_vector(job, names->final_norm, config->hidden, &model->final_norm, reason);
}

/* Its own layer, or the embedding again. */
static nvfp4_status load_output(const load_job *job, nvfp4_reason *reason) {
  nvfp4_model *model = job->model;
  const nvfp4_model_config *config = &model->config;
  const model_names *names = names_of(model);
  if (!config->tied_output) {
    return load_linear(job, names->output, config->vocabulary, config->hidden, false, &model->output, reason);
  }
  nvfp4_layer_info tied = {.name = names->output, .n = config->vocabulary, .k = config->hidden, .weight = model->embedding, .note = ""};
  NVFP4_TRY(nvfp4_linear_create(job->context, job->checkpoint, &tied, job->options, &model->output, reason));
  nvfp4_linear_workspace_need(&model->workspace, &model->output, model->batch_tokens);
  return NVFP4_OK;
}

/* ------------------------------------------------------------------------------------------------------- rotary positions */

/* The factor that "llama3" scaling divides a frequency by: 1 for short waves, `factor` for long ones, and between them a blend of the two. */
static double llama3_divisor(const nvfp4_rope_llama3 *rope, double frequency) {
  double wavelength = 2 * 3.14159265358979323846 / frequency;
  double low = rope->original_context / rope->low_frequency_factor, high = rope->original_context / rope->high_frequency_factor;
  if (wavelength <= high) {
    return 1;
  }
  if (wavelength >= low) {
    return rope->factor;
  }
  double smooth =
      (rope->original_context / wavelength - rope->low_frequency_factor) / (rope->high_frequency_factor - rope->low_frequency_factor);
  return 1 / ((1 - smooth) / rope->factor + smooth);
}

/* transformers computes frequency and angle in fp32, and so does this: at position 10,000 the rounding of the angle matters more than the bits of a cosine. */
static nvfp4_status make_rope(const load_job *job, nvfp4_reason *reason) {
  nvfp4_model *model = job->model;
  const nvfp4_model_config *config = &model->config;
  int64_t half = config->head_dim / 2;
  size_t count = (size_t)model->context_limit * (size_t)half;
  float *frequencies = malloc((size_t)half * sizeof *frequencies);
  model->rope_cos = malloc(count * sizeof(float));
  model->rope_sin = malloc(count * sizeof(float));
  nvfp4_status status = NVFP4_OK;
  if (frequencies == NULL || model->rope_cos == NULL || model->rope_sin == NULL) {
    status = nvfp4_reject(reason, NVFP4_E_NOMEM, "out of memory for the rotary positions");
  }
  /* GGUF holds the divisors of llama3 scaling as a tensor. */
  float *divisors = NULL;
  if (status == NVFP4_OK && config->gguf_names && nvfp4_checkpoint_find(job->checkpoint, "rope_freqs.weight") != NULL) {
    status = load_vector(job, "rope_freqs.weight", half, &divisors, reason);
  }
  for (int64_t i = 0; status == NVFP4_OK && i < half; i++) {
    double frequency = 1.0f / (float)pow(config->rope_theta, (double)(2 * i) / (double)config->head_dim);
    if (config->rope_llama3.used) {
      frequency /= llama3_divisor(&config->rope_llama3, frequency);
    }
    frequencies[i] = (float)(divisors != NULL ? frequency / divisors[i] : frequency);
  }
  for (int64_t p = 0; status == NVFP4_OK && p < model->context_limit; p++) {
    for (int64_t i = 0; i < half; i++) {
      float angle = (float)p * frequencies[i];
      model->rope_cos[p * half + i] = (float)cos((double)angle);
      model->rope_sin[p * half + i] = (float)sin((double)angle);
    }
  }
  free(divisors);
  free(frequencies);
  return status;
}

/* ------------------------------------------------------------------------------------------------------------- allocation */

static float *floats(int64_t rows, int64_t columns) {
  uint64_t count;
  return nvfp4_multiply((uint64_t)rows, (uint64_t)columns, &count) && count <= SIZE_MAX / sizeof(float)
             ? calloc((size_t)count, sizeof(float))
             : NULL;
}

static nvfp4_status allocate(nvfp4_model *model, nvfp4_reason *reason) {
  const nvfp4_model_config *config = &model->config;
  int64_t batch = model->batch_tokens, q = config->heads * config->head_dim, kv = config->kv_heads * config->head_dim;
  bool there = true;
  for (int64_t i = 0; i < model->loaded_blocks; i++) {
    nvfp4_block *block = &model->blocks[i];
    block->keys = floats(model->context_tokens, kv);
    block->values = floats(model->context_tokens, config->kv_heads * model->head_stride);
    there = there && block->keys != NULL && block->values != NULL;
  }
  model->hidden = floats(batch, config->hidden);
  model->normed = floats(batch, config->hidden);
  model->q = floats(batch, q);
  model->k = floats(batch, kv);
  model->v = floats(batch, kv);
  model->attention = floats(batch, q);
  model->gate = floats(batch, config->intermediate);
  model->up = floats(batch, config->intermediate);
  model->scores = floats(nvfp4_threads_count(model->threads), nvfp4_model_scores_elems(model));
  if (!there || model->hidden == NULL || model->normed == NULL || model->q == NULL || model->k == NULL || model->v == NULL ||
      model->attention == NULL || model->gate == NULL || model->up == NULL || model->scores == NULL) {
    return nvfp4_reject(reason, NVFP4_E_NOMEM, "out of memory for a cache of %" PRId64 " tokens and batches of %" PRId64 "; ask for fewer",
                        model->context_tokens, batch);
  }
  return NVFP4_OK;
}

/* --------------------------------------------------------------------------------------------------------------- options */

static nvfp4_status read_options(nvfp4_model *model, nvfp4_model_options *options, nvfp4_reason *reason) {
  const nvfp4_model_config *config = &model->config;
  if (options->activation == NVFP4_DTYPE_NONE) {
    options->activation = NVFP4_DTYPE_F32;
  }
  if (options->activation != NVFP4_DTYPE_F32 && options->activation != NVFP4_DTYPE_BF16 && options->activation != NVFP4_DTYPE_F16) {
    return nvfp4_reject(reason, NVFP4_E_DTYPE, "activation %s; needs F32, BF16 or F16", nvfp4_dtype_name(options->activation));
  }
  if (options->mode != NVFP4_MODE_UNQUANTISED && options->mode != NVFP4_MODE_W4A16) {
    return nvfp4_reject(reason, NVFP4_E_ARG, "mode %s; a model runs as its checkpoint says, or w4a16", nvfp4_mode_name(options->mode));
  }
  /* Within its window a sliding attention is the full one. */
  int64_t largest = config->context;
  if (config->sliding_window > 0 && config->sliding_window < largest) {
    largest = config->sliding_window;
  }
  int64_t context = options->context_tokens != 0 ? options->context_tokens : largest < DEFAULT_CONTEXT ? largest : DEFAULT_CONTEXT;
  int64_t batch = options->batch_tokens != 0 ? options->batch_tokens : DEFAULT_BATCH;
  if (context < 1 || context > largest) {
    return nvfp4_reject(reason, NVFP4_E_ARG, "context_tokens is %" PRId64 "; this model serves 1 to %" PRId64 "%s", context, largest,
                        largest < config->context ? " (its sliding window, beyond which this library does not go)" : "");
  }
  if (batch < 1) {
    return nvfp4_reject(reason, NVFP4_E_ARG, "batch_tokens is %" PRId64 "; needs 1 or more", batch);
  }
  options->batch_tokens = batch < context ? batch : context;
  options->context_tokens = context;
  return NVFP4_OK;
}

/* ------------------------------------------------------------------------------------------------------------------ loading */

/* All that does not depend on blocks, and room for so many of them (0: all). */
static nvfp4_status load_frame(load_job *job, nvfp4_model_options *options, int64_t blocks, nvfp4_reason *reason) {
  nvfp4_model *model = job->model;
  NVFP4_TRY(nvfp4_model_config_read(job->checkpoint, &model->config, reason));
  NVFP4_TRY(read_options(model, options, reason));
  NVFP4_TRY(nvfp4_tokenizer_window_bos(job->checkpoint, &model->window_bos, reason));
  model->batch_tokens = options->batch_tokens;
  model->context_limit = options->context_tokens;
  model->context_tokens = nvfp4_round_up(options->context_tokens, NVFP4_KEY_TILE);
  model->head_stride = nvfp4_round_up(model->config.head_dim, NVFP4_VECTOR_LANES);
  model->threads = nvfp4_context_pool(job->context);
  model->workspace = (nvfp4_linear_workspace){.threads = model->threads, .activation = options->activation};
  /* The last layer must be there before memory is asked for by the file's word. */
  char name[128];
  snprintf(name, sizeof name, names_of(model)->prefix, model->config.layers - 1, names_of(model)->linear[NVFP4_DOWN]);
  if (nvfp4_checkpoint_find_layer(job->checkpoint, name) == NULL) {
    return nvfp4_reject(reason, NVFP4_E_FORMAT, "%s: no linear layer %s, which the model needs", nvfp4_checkpoint_path(job->checkpoint),
                        name);
  }
  model->loaded_blocks = blocks != 0 ? blocks : model->config.layers;
  model->blocks = calloc((size_t)model->loaded_blocks, sizeof *model->blocks);
  if (model->blocks == NULL) {
    return nvfp4_reject(reason, NVFP4_E_NOMEM, "out of memory for %" PRId64 " blocks", model->loaded_blocks);
  }
  NVFP4_TRY(load_ends(job, reason));
  NVFP4_TRY(make_rope(job, reason));
  return allocate(model, reason);
}

static nvfp4_status load(load_job *job, nvfp4_model_options *options, nvfp4_reason *reason) {
  nvfp4_model *model = job->model;
  NVFP4_TRY(load_frame(job, options, 0, reason));
  NVFP4_TRY(load_output(job, reason));
  for (int64_t i = 0; i < model->config.layers; i++) {
    NVFP4_TRY(load_block(job, i, &model->blocks[i], reason));
  }
  return nvfp4_linear_workspace_alloc(&model->workspace, reason);
}

/* ------------------------------------------------------------------------------------------------------- block after block */

static nvfp4_status observe_blocks(load_job *job, nvfp4_model_options *options, const int32_t *tokens, size_t count,
                                   nvfp4_observed_fn observed, nvfp4_reason *reason) {
  nvfp4_model *model = job->model;
  NVFP4_TRY(load_frame(job, options, 1, reason));
  NVFP4_TRY(nvfp4_model_check_tokens(model, tokens, count, reason));
  nvfp4_block *block = &model->blocks[0];
  float *hidden = floats((int64_t)count, model->config.hidden);
  if (hidden == NULL) {
    return nvfp4_reject(reason, NVFP4_E_NOMEM, "out of memory for the hidden states of %zu tokens; take fewer", count);
  }
  nvfp4_model_embed(model, tokens, (int64_t)count, hidden);
  nvfp4_status status = NVFP4_OK;
  for (int64_t i = 0; i < model->config.layers && status == NVFP4_OK; i++) {
    status = load_block(job, i, block, reason);
    if (status == NVFP4_OK) {
      status = nvfp4_linear_workspace_alloc(&model->workspace, reason);
    }
    if (status == NVFP4_OK) {
      status = nvfp4_model_run_block(model, block, hidden, (int64_t)count, reason);
    }
    nvfp4_linear_workspace_free(&model->workspace);
    unload_block(block);
    if (status == NVFP4_OK && observed != NULL) {
      status = observed(model->observer_cookie, reason);
    }
  }
  if (status == NVFP4_OK) {
    nvfp4_model_observe_output(model, names_of(model)->output, hidden, (int64_t)count);
    status = observed != NULL ? observed(model->observer_cookie, reason) : NVFP4_OK;
  }
  free(hidden);
  return status;
}

/* ----------------------------------------------------------------------------------------------------------------- public */

nvfp4_status nvfp4_observe_text(nvfp4_context *context, const nvfp4_checkpoint *checkpoint, const nvfp4_model_options *options,
                                const int32_t *tokens, size_t count, nvfp4_observer_fn observer, nvfp4_observed_fn observed, void *cookie,
                                nvfp4_reason *reason) {
  if (context == NULL || checkpoint == NULL || tokens == NULL || observer == NULL || count == 0) {
    return nvfp4_reject(reason, NVFP4_E_ARG, "context, checkpoint, tokens or observer is NULL, or there are no tokens; all are needed");
  }
  nvfp4_model_options own;
  NVFP4_TRY(nvfp4_sized_read(options, "nvfp4_model_options", &own, sizeof own, reason));
  nvfp4_model *model = calloc(1, sizeof *model);
  if (model == NULL) {
    return nvfp4_reject(reason, NVFP4_E_NOMEM, "out of memory for the model");
  }
  own.device = (nvfp4_device){NVFP4_DEVICE_CPU, 0};
  load_job job = {context, checkpoint, &own, model};
  nvfp4_model_observe(model, observer, cookie);
  nvfp4_status status = observe_blocks(&job, &own, tokens, count, observed, reason);
  nvfp4_model_destroy(model);
  return status;
}

nvfp4_status nvfp4_model_create(nvfp4_context *context, const nvfp4_checkpoint *checkpoint, const nvfp4_model_options *options,
                                nvfp4_model **out, nvfp4_reason *reason) {
  if (context == NULL || checkpoint == NULL || out == NULL) {
    return nvfp4_reject(reason, NVFP4_E_ARG, "context, checkpoint or out is NULL; all three are needed");
  }
  nvfp4_model_options own;
  NVFP4_TRY(nvfp4_sized_read(options, "nvfp4_model_options", &own, sizeof own, reason));
  nvfp4_model *model = calloc(1, sizeof *model);
  if (model == NULL) {
    return nvfp4_reject(reason, NVFP4_E_NOMEM, "out of memory for the model");
  }
  load_job job = {context, checkpoint, &own, model};
  nvfp4_status status = load(&job, &own, reason);
  if (status != NVFP4_OK) {
    nvfp4_model_destroy(model);
    return status;
  }
  *out = model;
  return NVFP4_OK;
}

void nvfp4_model_destroy(nvfp4_model *model) {
  if (model == NULL) {
    return;
  }
  for (int64_t i = 0; model->blocks != NULL && i < model->loaded_blocks; i++) {
    nvfp4_block *block = &model->blocks[i];
    unload_block(block);
    free(block->keys);
    free(block->values);
  }
  free(model->blocks);
  nvfp4_linear_destroy(&model->output);
  nvfp4_linear_workspace_free(&model->workspace);
  float *arrays[] = {model->final_norm, model->rope_cos, model->rope_sin,  model->hidden, model->normed, model->q,
                     model->k,          model->v,        model->attention, model->gate,   model->up,     model->scores};
  for (size_t i = 0; i < sizeof arrays / sizeof arrays[0]; i++) {
    free(arrays[i]);
  }
  free(model);
}

/* Linear layer `index`, blocks first, the output projection last; NULL past the end. */
static const nvfp4_linear *linear_at(const nvfp4_model *model, size_t index) {
  size_t in_blocks = (size_t)model->config.layers * NVFP4_BLOCK_LINEARS;
  if (index < in_blocks) {
    return &model->blocks[index / NVFP4_BLOCK_LINEARS].linear[index % NVFP4_BLOCK_LINEARS];
  }
  return index == in_blocks ? &model->output : NULL;
}

void nvfp4_model_get_info(const nvfp4_model *model, nvfp4_model_info *out) {
  *out = (nvfp4_model_info){.layers = model->config.layers,
                            .hidden = model->config.hidden,
                            .vocabulary = model->config.vocabulary,
                            .context_tokens = model->context_limit};
  const nvfp4_linear *linear;
  for (size_t i = 0; (linear = linear_at(model, i)) != NULL; i++) {
    out->linear_layers++;
    out->nvfp4_layers += linear->nvfp4;
    *(linear->nvfp4 ? &out->packed_bytes : &out->dense_bytes) += nvfp4_layer_packed_bytes(linear->layer);
  }
}

const char *nvfp4_model_linear(const nvfp4_model *model, size_t index, const nvfp4_report **report) {
  const nvfp4_linear *linear = linear_at(model, index);
  if (report != NULL) {
    *report = linear != NULL ? linear->report : NULL;
  }
  return linear != NULL ? linear->name : NULL;
}

void nvfp4_model_observe(nvfp4_model *model, nvfp4_observer_fn observer, void *cookie) {
  model->observer = observer;
  model->observer_cookie = cookie;
}

void nvfp4_model_rewind(nvfp4_model *model, int64_t position) {
  if (position >= 0 && position < model->position) {
    model->position = position;
  }
}

int64_t nvfp4_model_position(const nvfp4_model *model) { return model->position; }
