/* SPDX-License-Identifier: Apache-2.0 */
/* The model as model.c loads it and forward.c runs it. */
#ifndef NVFP4_MODEL_TRANSFORMER_H
#define NVFP4_MODEL_TRANSFORMER_H

#include <nvfp4/model.h>

#include "base/threads.h"
#include "model/config.h"
#include "model/linear.h"

/* Linear layers of a block, in the order in which nvfp4_model_linear lists them. */
enum { NVFP4_Q, NVFP4_K, NVFP4_V, NVFP4_O, NVFP4_GATE, NVFP4_UP, NVFP4_DOWN, NVFP4_BLOCK_LINEARS };

/* Positions whose keys lie together. */
#define NVFP4_KEY_TILE 64

/*
 * The cache of one block, fp32.
 *   keys    [kv_heads][context / KEY_TILE][head_dim][KEY_TILE]: the scores of a tile are a weighted sum of its rows
 *   values  [kv_heads][context][head_stride]: the output is a weighted sum of rows too
 */
typedef struct nvfp4_block {
  nvfp4_linear linear[NVFP4_BLOCK_LINEARS];
  float *attention_norm, *mlp_norm; /* [hidden] */
  float *keys, *values;
} nvfp4_block;

struct nvfp4_model {
  nvfp4_model_config config;
  nvfp4_threads *threads;
  const nvfp4_tensor *embedding;
  nvfp4_block *blocks;   /* [loaded_blocks] */
  int64_t loaded_blocks; /* all, or the one at work */
  float *final_norm;
  nvfp4_linear output;
  nvfp4_linear_workspace workspace;
  int64_t context_tokens; /* a multiple of NVFP4_KEY_TILE */
  int64_t context_limit;  /* tokens the caller may use */
  int64_t batch_tokens;
  int64_t head_stride; /* head_dim rounded up to NVFP4_VECTOR_LANES */
  int64_t position;
  int32_t window_bos;           /* first token of a perplexity window; -1: leave the text's own */
  float *rope_cos, *rope_sin;   /* [context_limit][head_dim / 2] */
  float *hidden, *normed;       /* [batch_tokens, hidden] */
  float *q, *k, *v, *attention; /* [batch_tokens, heads or kv_heads * head_dim] */
  float *gate, *up;             /* [batch_tokens, intermediate] */
  float *scores;                /* a slice for each thread: nvfp4_model_scores_elems() */
  nvfp4_observer_fn observer;
  void *observer_cookie;
};

/* Of a thread, for the heads that share one of keys and values: [heads][context_tokens] scores, [heads] sums, [heads][head_stride] outputs. */
static inline int64_t nvfp4_model_scores_elems(const nvfp4_model *model) {
  return model->config.heads / model->config.kv_heads * (model->context_tokens + 1 + model->head_stride);
}

/*
 * A block at a time, for nvfp4_observe_text. hidden: [count, hidden], of all tokens, in windows of batch_tokens rows, which do not see each other.
 */
nvfp4_status nvfp4_model_check_tokens(const nvfp4_model *model, const int32_t *tokens, size_t count, nvfp4_reason *reason);
void nvfp4_model_embed(nvfp4_model *model, const int32_t *tokens, int64_t count, float *hidden);
nvfp4_status nvfp4_model_run_block(nvfp4_model *model, nvfp4_block *block, float *hidden, int64_t count, nvfp4_reason *reason);
/* Shows the observer what the output projection called `name` would be fed. */
void nvfp4_model_observe_output(nvfp4_model *model, const char *name, const float *hidden, int64_t count);

#endif
