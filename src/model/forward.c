/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One step of the transformer, fp32 but for what the linear layers round:
 *
 *   h = embedding[token]
 *   for each block:  h += O(attention(rope(Q(norm h)), rope(K(norm h)), V(norm h)));  h += Down(silu(Gate(norm h)) * Up(norm h))
 *   logits = Output(norm h)
 *
 * Everything a row needs is summed in an order that depends on nothing but the row's position: a batch gives the bits of its rows one by one.
 */
#include <inttypes.h>
#include <math.h>
#include <stdatomic.h>
#include <string.h>

#include "base/reason.h"
#include "model/transformer.h"
#include "model/vector.h"

/* Rows of a batch at work; the context of the tasks below. */
typedef struct step {
  nvfp4_model *model;
  nvfp4_block *block;
  const int32_t *tokens;
  int64_t rows;
  int64_t position; /* of row 0 */
  const float *x;   /* what a task reads */
  const float *weight;
  float *y; /* and writes */
  atomic_int_fast64_t next;
} step;

static void embed_row(void *arg, size_t row) {
  const step *s = arg;
  int64_t hidden = s->model->config.hidden;
  /* Cannot fail: nvfp4_linear_try_row succeeded, and the token is in the vocabulary. */
  nvfp4_tensor_to_f32(s->model->embedding, (uint64_t)(s->tokens[row] * hidden), (uint64_t)hidden, s->y + (int64_t)row * hidden, NULL);
}

/* y = weight * x / sqrt(mean(x^2) + eps) */
static void norm_row(void *arg, size_t row) {
  const step *s = arg;
  int64_t hidden = s->model->config.hidden;
  const float *x = s->x + (int64_t)row * hidden;
  float *y = s->y + (int64_t)row * hidden;
  double squares = 0;
  for (int64_t i = 0; i < hidden; i++) {
    squares += (double)x[i] * x[i];
  }
  float scale = 1.0f / sqrtf((float)(squares / (double)hidden) + s->model->config.rms_norm_eps);
  for (int64_t i = 0; i < hidden; i++) {
    y[i] = s->weight[i] * (x[i] * scale);
  }
}

static void norm(step *s, const float *x, const float *weight, float *y) {
  s->x = x;
  s->weight = weight;
  s->y = y;
  nvfp4_parallel_for(s->model->threads, (size_t)s->rows, norm_row, s);
}

static nvfp4_status apply(const step *s, const nvfp4_linear *linear, const float *x, float *y, nvfp4_reason *reason) {
  if (s->model->observer != NULL) {
    s->model->observer(s->model->observer_cookie, linear->name, x, s->rows, linear->k);
  }
  return nvfp4_linear_apply(linear, &s->model->workspace, x, s->rows, y, reason);
}

static void add_row(void *arg, size_t row) {
  const step *s = arg;
  int64_t hidden = s->model->config.hidden;
  for (int64_t i = (int64_t)row * hidden; i < ((int64_t)row + 1) * hidden; i++) {
    s->y[i] += s->x[i];
  }
}

static void add_to_hidden(step *s, const float *x) {
  s->x = x;
  s->y = s->model->hidden;
  nvfp4_parallel_for(s->model->threads, (size_t)s->rows, add_row, s);
}

/* ------------------------------------------------------------------------------------------------------------- attention */

static void rotate(const nvfp4_model *model, float *head, int64_t position) {
  int64_t half = model->config.head_dim / 2;
  const float *cosines = model->rope_cos + position * half, *sines = model->rope_sin + position * half;
  bool interleaved = model->config.rope_interleaved;
  for (int64_t i = 0; i < half; i++) {
    float *a = interleaved ? head + 2 * i : head + i;
    float *b = interleaved ? head + 2 * i + 1 : head + i + half;
    float x = *a, y = *b;
    *a = x * cosines[i] - y * sines[i];
    *b = y * cosines[i] + x * sines[i];
  }
}

/* Rotates q and k of a row, and puts k and v into the cache. */
static void rope_row(void *arg, size_t row) {
  const step *s = arg;
  const nvfp4_model *model = s->model;
  const nvfp4_model_config *config = &model->config;
  int64_t dim = config->head_dim, position = s->position + (int64_t)row;
  for (int64_t h = 0; h < config->heads; h++) {
    rotate(model, model->q + ((int64_t)row * config->heads + h) * dim, position);
  }
  for (int64_t h = 0; h < config->kv_heads; h++) {
    float *k = model->k + ((int64_t)row * config->kv_heads + h) * dim;
    rotate(model, k, position);
    float *keys = s->block->keys + (h * model->context_tokens + position / NVFP4_KEY_TILE * NVFP4_KEY_TILE) * dim;
    for (int64_t i = 0; i < dim; i++) {
      keys[i * NVFP4_KEY_TILE + position % NVFP4_KEY_TILE] = k[i];
    }
    memcpy(s->block->values + (h * model->context_tokens + position) * model->head_stride,
           model->v + ((int64_t)row * config->kv_heads + h) * dim, (size_t)dim * sizeof(float));
  }
}

/* `heads` heads from `head` on of row `row`, which share a head of keys and values: softmax(q k^T / sqrt(head_dim)) v over all positions up to its own. */
static void attend(const step *s, int64_t row, int64_t head, int64_t heads, float *scores) {
  const nvfp4_model *model = s->model;
  const nvfp4_model_config *config = &model->config;
  int64_t dim = config->head_dim, count = s->position + row + 1, stride = model->head_stride, context = model->context_tokens;
  int64_t kv_head = head / (config->heads / config->kv_heads), first = row * config->heads + head;
  const float *q = model->q + first * dim;
  const float *keys = s->block->keys + kv_head * context * dim, *values = s->block->values + kv_head * context * stride;
  /* The last tile is computed whole: what lies beyond `count` is not read again. */
  for (int64_t t = 0; t < count; t += NVFP4_KEY_TILE) {
    nvfp4_weighted_rows(q, dim, heads, dim, keys + t * dim, NVFP4_KEY_TILE, NVFP4_KEY_TILE, scores + t, context);
  }
  float *sums = scores + heads * context, *out = sums + heads;
  for (int64_t h = 0; h < heads; h++) {
    sums[h] = nvfp4_softmax(scores + h * context, count, 1.0f / sqrtf((float)dim));
  }
  nvfp4_weighted_rows(scores, context, heads, count, values, stride, stride, out, stride);
  for (int64_t h = 0; h < heads; h++) {
    float *y = model->attention + (first + h) * dim;
    for (int64_t i = 0; i < dim; i++) {
      y[i] = out[h * stride + i] / sums[h];
    }
  }
}

/* One task a thread. Units are taken from the last row to the first: the longest first. */
static void attention_task(void *arg, size_t index) {
  step *s = arg;
  const nvfp4_model *model = s->model;
  float *scores = model->scores + (int64_t)index * nvfp4_model_scores_elems(model);
  /* Heads that share keys read them together, unless that leaves threads without work. */
  int64_t kv_units = s->rows * model->config.kv_heads;
  int64_t heads = kv_units < 4 * nvfp4_threads_count(model->threads) ? 1 : model->config.heads / model->config.kv_heads;
  int64_t units_a_row = model->config.heads / heads, units = s->rows * units_a_row;
  for (;;) {
    int64_t unit = atomic_fetch_add_explicit(&s->next, 1, memory_order_relaxed);
    if (unit >= units) {
      return;
    }
    int64_t from_end = units - 1 - unit;
    attend(s, from_end / units_a_row, from_end % units_a_row * heads, heads, scores);
  }
}

static nvfp4_status attention(step *s, nvfp4_reason *reason) {
  nvfp4_model *model = s->model;
  const nvfp4_linear *linear = s->block->linear;
  norm(s, model->hidden, s->block->attention_norm, model->normed);
  NVFP4_TRY(apply(s, &linear[NVFP4_Q], model->normed, model->q, reason));
  NVFP4_TRY(apply(s, &linear[NVFP4_K], model->normed, model->k, reason));
  NVFP4_TRY(apply(s, &linear[NVFP4_V], model->normed, model->v, reason));
  nvfp4_parallel_for(model->threads, (size_t)s->rows, rope_row, s);
  atomic_store(&s->next, 0);
  nvfp4_parallel_for(model->threads, (size_t)nvfp4_threads_count(model->threads), attention_task, s);
  NVFP4_TRY(apply(s, &linear[NVFP4_O], model->attention, model->normed, reason));
  add_to_hidden(s, model->normed);
  return NVFP4_OK;
}

/* ------------------------------------------------------------------------------------------------------------------- MLP */

static void swiglu_row(void *arg, size_t row) {
  const step *s = arg;
  int64_t width = s->model->config.intermediate;
  nvfp4_swiglu(s->model->gate + (int64_t)row * width, s->model->up + (int64_t)row * width, width);
}

static nvfp4_status mlp(step *s, nvfp4_reason *reason) {
  nvfp4_model *model = s->model;
  const nvfp4_linear *linear = s->block->linear;
  norm(s, model->hidden, s->block->mlp_norm, model->normed);
  NVFP4_TRY(apply(s, &linear[NVFP4_GATE], model->normed, model->gate, reason));
  NVFP4_TRY(apply(s, &linear[NVFP4_UP], model->normed, model->up, reason));
  nvfp4_parallel_for(model->threads, (size_t)s->rows, swiglu_row, s);
  NVFP4_TRY(apply(s, &linear[NVFP4_DOWN], model->gate, model->normed, reason));
  add_to_hidden(s, model->normed);
  return NVFP4_OK;
}

/* ------------------------------------------------------------------------------------------------------------------ step */

static nvfp4_status run_block(step *s, nvfp4_block *block, nvfp4_reason *reason) {
  s->block = block;
  NVFP4_TRY(attention(s, reason));
  return mlp(s, reason);
}

/* Runs `rows` tokens from the model's position on; logits NULL: fills the cache only. */
static nvfp4_status run_step(nvfp4_model *model, const int32_t *tokens, int64_t rows, bool all_logits, float *logits,
                             nvfp4_reason *reason) {
  step s = {.model = model, .rows = rows, .position = model->position};
  nvfp4_model_embed(model, tokens, rows, model->hidden);
  for (int64_t i = 0; i < model->config.layers; i++) {
    NVFP4_TRY(run_block(&s, &model->blocks[i], reason));
  }
  if (logits != NULL) {
    const float *hidden = model->hidden;
    if (!all_logits) {
      hidden += (rows - 1) * model->config.hidden;
      s.rows = 1;
    }
    norm(&s, hidden, model->final_norm, model->normed);
    NVFP4_TRY(apply(&s, &model->output, model->normed, logits, reason));
  }
  model->position += rows;
  return NVFP4_OK;
}

nvfp4_status nvfp4_model_check_tokens(const nvfp4_model *model, const int32_t *tokens, size_t count, nvfp4_reason *reason) {
  for (size_t i = 0; i < count; i++) {
    if (tokens[i] < 0 || tokens[i] >= model->config.vocabulary) {
      return nvfp4_reject(reason, NVFP4_E_ARG, "token %zu is %" PRId32 "; the vocabulary has 0 to %" PRId64, i, tokens[i],
                          model->config.vocabulary - 1);
    }
  }
  return NVFP4_OK;
}

nvfp4_status nvfp4_model_forward(nvfp4_model *model, const int32_t *tokens, size_t count, bool all_logits, float *logits,
                                 nvfp4_reason *reason) {
  if (model == NULL || tokens == NULL || logits == NULL || count == 0) {
    return nvfp4_reject(reason, NVFP4_E_ARG, "model, tokens or logits is NULL, or there are no tokens; needs at least one token");
  }
  if (count > (size_t)(model->context_limit - model->position)) {
    return nvfp4_reject(reason, NVFP4_E_ARG,
                        "%zu tokens at position %" PRId64 " exceed the context of %" PRId64
                        "; rewind, or make the model with more context_tokens",
                        count, model->position, model->context_limit);
  }
  NVFP4_TRY(nvfp4_model_check_tokens(model, tokens, count, reason));
  int64_t start = model->position;
  for (size_t done = 0; done < count;) {
    size_t rows = count - done < (size_t)model->batch_tokens ? count - done : (size_t)model->batch_tokens;
    bool last = done + rows == count;
    float *out = all_logits ? logits + done * (size_t)model->config.vocabulary : last ? logits : NULL;
    nvfp4_status status = run_step(model, tokens + done, (int64_t)rows, all_logits, out, reason);
    if (status != NVFP4_OK) {
      model->position = start;
      return status;
    }
    done += rows;
  }
  return NVFP4_OK;
}

/* --------------------------------------------------------------------------------------------------------- a block at a time */

void nvfp4_model_embed(nvfp4_model *model, const int32_t *tokens, int64_t count, float *hidden) {
  step s = {.model = model, .tokens = tokens, .y = hidden};
  nvfp4_parallel_for(model->threads, (size_t)count, embed_row, &s);
}

static int64_t rows_of_window(const nvfp4_model *model, int64_t first, int64_t count) {
  return count - first < model->batch_tokens ? count - first : model->batch_tokens;
}

nvfp4_status nvfp4_model_run_block(nvfp4_model *model, nvfp4_block *block, float *hidden, int64_t count, nvfp4_reason *reason) {
  const int64_t width = model->config.hidden;
  for (int64_t first = 0; first < count; first += model->batch_tokens) {
    step s = {.model = model, .rows = rows_of_window(model, first, count)};
    const size_t bytes = (size_t)(s.rows * width) * sizeof(float);
    memcpy(model->hidden, hidden + first * width, bytes);
    NVFP4_TRY(run_block(&s, block, reason));
    memcpy(hidden + first * width, model->hidden, bytes);
  }
  return NVFP4_OK;
}

void nvfp4_model_observe_output(nvfp4_model *model, const char *name, const float *hidden, int64_t count) {
  for (int64_t first = 0; first < count; first += model->batch_tokens) {
    step s = {.model = model, .rows = rows_of_window(model, first, count)};
    norm(&s, hidden + first * model->config.hidden, model->final_norm, model->normed);
    model->observer(model->observer_cookie, name, model->normed, s.rows, model->config.hidden);
  }
}
