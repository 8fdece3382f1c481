/* SPDX-License-Identifier: Apache-2.0 */
#define _POSIX_C_SOURCE 200809L /* strdup */
#include "model/linear.h"

#include <inttypes.h>
#include <math.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/reason.h"
#include "format/e4m3.h"
#include "format/half.h"
#include "model/vector.h"

/* Weight rows that a thread converts at a time: few enough to stay in its cache, enough to be worth reading x for. A multiple of nvfp4_dot4's 4. */
#define ROWS_AT_ONCE 16

/* -------------------------------------------------------------------------------------------------------------- creation */

static nvfp4_status read_bias(const nvfp4_layer_info *info, nvfp4_linear *linear, nvfp4_reason *reason) {
  if (info->bias == NULL) {
    return NVFP4_OK;
  }
  if (info->bias->rank != 1 || info->bias->shape[0] != info->n) {
    return nvfp4_reject(reason, NVFP4_E_SHAPE, "bias %s has rank %d and %" PRId64 " elements; needs [%" PRId64 "]", info->bias->name,
                        info->bias->rank, info->bias->shape[0], info->n);
  }
  linear->bias = malloc((size_t)info->n * sizeof *linear->bias);
  if (linear->bias == NULL) {
    return nvfp4_reject(reason, NVFP4_E_NOMEM, "out of memory for a bias");
  }
  return nvfp4_tensor_to_f32(info->bias, 0, (uint64_t)info->n, linear->bias, reason);
}

/* "<layer>.<suffix>", one positive finite number; 0 if there is no such tensor. */
static nvfp4_status read_scalar(const nvfp4_checkpoint *checkpoint, const char *layer, const char *suffix, float *out,
                                nvfp4_reason *reason) {
  char name[512];
  snprintf(name, sizeof name, "%s.%s", layer, suffix);
  const nvfp4_tensor *tensor = nvfp4_checkpoint_find(checkpoint, name);
  *out = 0;
  if (tensor == NULL) {
    return NVFP4_OK;
  }
  int64_t elements = 1;
  for (int i = 0; i < tensor->rank; i++) {
    elements = tensor->shape[i] == 1 ? elements : 0;
  }
  if (elements != 1) {
    return nvfp4_reject(reason, NVFP4_E_UNSUPPORTED, "%s has more than one element; FP8 layers are run with one scale for the whole tensor",
                        name);
  }
  NVFP4_TRY(nvfp4_tensor_to_f32(tensor, 0, 1, out, reason));
  if (!isfinite(*out) || *out <= 0) {
    return nvfp4_reject(reason, NVFP4_E_FORMAT, "%s is %g; needs a finite number > 0", name, (double)*out);
  }
  return NVFP4_OK;
}

nvfp4_status nvfp4_linear_try_row(const nvfp4_tensor *weight, int64_t k, nvfp4_reason *reason) {
  float *row = malloc((size_t)k * sizeof *row);
  if (row == NULL) {
    return nvfp4_reject(reason, NVFP4_E_NOMEM, "out of memory for a row of %s", weight->name);
  }
  nvfp4_status status = nvfp4_tensor_to_f32(weight, 0, (uint64_t)k, row, reason);
  free(row);
  return status;
}

static nvfp4_status create_dense(const nvfp4_checkpoint *checkpoint, const nvfp4_layer_info *info, const nvfp4_model_options *options,
                                 nvfp4_linear *linear, nvfp4_reason *reason) {
  linear->weight = info->weight;
  linear->weight_scale = 1;
  if (info->mode == NVFP4_MODE_FP8) {
    NVFP4_TRY(read_scalar(checkpoint, info->name, "weight_scale", &linear->weight_scale, reason));
    if (linear->weight_scale == 0) {
      return nvfp4_reject(reason, NVFP4_E_UNSUPPORTED, "an FP8 layer without %s.weight_scale; it is needed", info->name);
    }
    if (options->mode != NVFP4_MODE_W4A16) {
      NVFP4_TRY(read_scalar(checkpoint, info->name, "input_scale", &linear->input_scale, reason));
    }
  }
  return nvfp4_linear_try_row(info->weight, info->k, reason);
}

static nvfp4_status create_nvfp4(nvfp4_context *context, const nvfp4_checkpoint *checkpoint, const nvfp4_layer_info *info,
                                 const nvfp4_model_options *options, nvfp4_linear *linear, nvfp4_reason *reason) {
  nvfp4_layer_desc desc = {.struct_size = sizeof desc};
  NVFP4_TRY(nvfp4_layer_desc_from_checkpoint(info, &desc, reason));
  desc.m_first = 1;
  desc.m_last = options->batch_tokens;
  desc.x_dtype = options->activation;
  desc.y_dtype = NVFP4_DTYPE_F32;
  desc.device = options->device;
  linear->device = options->device.kind;
  desc.bias_dtype = linear->bias != NULL ? NVFP4_DTYPE_F32 : NVFP4_DTYPE_NONE;
  if (options->mode == NVFP4_MODE_W4A16) {
    desc.mode = NVFP4_MODE_W4A16;
  }
  nvfp4_plan *plan = NULL;
  NVFP4_TRY(nvfp4_init_linear_kernel(context, &desc, options->policy, &plan, &linear->report, reason));
  nvfp4_weights weights = {.struct_size = sizeof weights};
  nvfp4_status status = nvfp4_checkpoint_weights(checkpoint, info, &weights, &linear->owned_weights, reason);
  if (status == NVFP4_OK) {
    status = nvfp4_layer_create(context, plan, &weights, &linear->layer, reason);
  }
  nvfp4_plan_free(plan);
  if (status == NVFP4_OK && !nvfp4_layer_borrows_weights(linear->layer)) {
    nvfp4_weights_free(linear->owned_weights);
    linear->owned_weights = NULL;
  }
  return status;
}

nvfp4_status nvfp4_linear_create(nvfp4_context *context, const nvfp4_checkpoint *checkpoint, const nvfp4_layer_info *info,
                                 const nvfp4_model_options *options, nvfp4_linear *out, nvfp4_reason *reason) {
  nvfp4_linear linear = {.name = strdup(info->name), .n = info->n, .k = info->k};
  nvfp4_status status = NVFP4_OK;
  if (linear.name == NULL) {
    status = nvfp4_reject(reason, NVFP4_E_NOMEM, "out of memory for a name");
  }
  if (status == NVFP4_OK) {
    status = read_bias(info, &linear, reason);
  }
  if (status == NVFP4_OK) {
    bool nvfp4 = info->mode == NVFP4_MODE_W4A4 || info->mode == NVFP4_MODE_W4A16;
    status = nvfp4 ? create_nvfp4(context, checkpoint, info, options, &linear, reason)
                   : create_dense(checkpoint, info, options, &linear, reason);
  }
  if (status != NVFP4_OK) {
    nvfp4_linear_destroy(&linear);
    return nvfp4_reason_prefix(reason, status, "layer %s: ", info->name);
  }
  *out = linear;
  return NVFP4_OK;
}

void nvfp4_linear_destroy(nvfp4_linear *linear) {
  nvfp4_layer_destroy(linear->layer);
  nvfp4_report_free(linear->report);
  nvfp4_weights_free(linear->owned_weights);
  free(linear->bias);
  free(linear->name);
  *linear = (nvfp4_linear){0};
}

/* ------------------------------------------------------------------------------------------------------------- workspace */

static size_t larger(size_t a, size_t b) { return a > b ? a : b; }

void nvfp4_linear_workspace_need(nvfp4_linear_workspace *workspace, const nvfp4_linear *linear, int64_t m) {
  if (linear->layer != NULL && linear->device != NVFP4_DEVICE_CPU) {
    /* nvfp4_layer_apply_host takes what it needs */
  } else if (linear->layer != NULL) {
    workspace->layer_bytes = larger(workspace->layer_bytes, nvfp4_layer_workspace_bytes(linear->layer, m));
  } else {
    size_t threads = (size_t)nvfp4_threads_count(workspace->threads);
    workspace->rows_elems = larger(workspace->rows_elems, threads * ROWS_AT_ONCE * (size_t)linear->k);
  }
  if (workspace->activation != NVFP4_DTYPE_F32 || linear->input_scale != 0) {
    workspace->x_bytes = larger(workspace->x_bytes, (size_t)m * (size_t)linear->k * sizeof(float));
  }
}

nvfp4_status nvfp4_linear_workspace_alloc(nvfp4_linear_workspace *workspace, nvfp4_reason *reason) {
  workspace->layer_bytes = (size_t)nvfp4_round_up((int64_t)workspace->layer_bytes + 1, 64);
  workspace->layer = aligned_alloc(64, workspace->layer_bytes);
  workspace->x = malloc(workspace->x_bytes + 1);
  workspace->rows = malloc((workspace->rows_elems + 1) * sizeof *workspace->rows);
  if (workspace->layer == NULL || workspace->x == NULL || workspace->rows == NULL) {
    nvfp4_linear_workspace_free(workspace);
    return nvfp4_reject(reason, NVFP4_E_NOMEM, "out of memory for the workspace of the linear layers; a smaller batch needs less");
  }
  return NVFP4_OK;
}

void nvfp4_linear_workspace_free(nvfp4_linear_workspace *workspace) {
  free(workspace->layer);
  free(workspace->x);
  free(workspace->rows);
  workspace->layer = NULL;
  workspace->x = NULL;
  workspace->rows = NULL;
}

/* ----------------------------------------------------------------------------------------------------------------- apply */

typedef struct dense_job {
  const nvfp4_linear *linear;
  const float *x;
  int64_t m;
  float *y;
  float *rows;
  atomic_int_fast64_t next_row;
} dense_job;

/* Columns n_first .. n_first+count of y, of the count <= ROWS_AT_ONCE weight rows in w. */
static void multiply_rows(const dense_job *job, const float *w, int64_t n_first, int64_t count) {
  const nvfp4_linear *linear = job->linear;
  int64_t k = linear->k;
  for (int64_t m = 0; m < job->m; m++) {
    float *y = job->y + m * linear->n + n_first;
    for (int64_t n = 0; n < count; n += 4) {
      float out[4];
      nvfp4_dot4(job->x + m * k, w + n * k, k, out);
      for (int64_t i = 0; i < 4 && n + i < count; i++) {
        y[n + i] = linear->bias != NULL ? out[i] + linear->bias[n_first + n + i] : out[i];
      }
    }
  }
}

/* One task a thread: takes blocks of weight rows until there are none left. */
static void dense_task(void *arg, size_t index) {
  dense_job *job = arg;
  const nvfp4_linear *linear = job->linear;
  float *w = job->rows + index * ROWS_AT_ONCE * (size_t)linear->k;
  for (;;) {
    int64_t first = atomic_fetch_add_explicit(&job->next_row, ROWS_AT_ONCE, memory_order_relaxed);
    if (first >= linear->n) {
      return;
    }
    int64_t count = linear->n - first < ROWS_AT_ONCE ? linear->n - first : ROWS_AT_ONCE;
    int64_t elems = count * linear->k;
    /* Cannot fail: nvfp4_linear_try_row succeeded, and the range is the tensor's. */
    nvfp4_tensor_to_f32(linear->weight, (uint64_t)(first * linear->k), (uint64_t)elems, w, NULL);
    if (linear->weight_scale != 1) {
      for (int64_t i = 0; i < elems; i++) {
        w[i] *= linear->weight_scale;
      }
    }
    /* Whole groups of four for nvfp4_dot4. */
    memset(w + elems, 0, (size_t)((nvfp4_round_up(count, 4) - count) * linear->k) * sizeof *w);
    multiply_rows(job, w, first, count);
  }
}

typedef struct round_job {
  const float *x;
  int64_t k;
  float input_scale;
  nvfp4_dtype activation;
  bool as_f32; /* write the rounded values as fp32 */
  void *out;
} round_job;

/* Row `index` of x as the layer is fed it. */
static void round_task(void *arg, size_t index) {
  const round_job *job = arg;
  const float *x = job->x + index * (size_t)job->k;
  if (!job->as_f32) {
    nvfp4_from_f32(x, job->activation, (uint16_t *)job->out + index * (size_t)job->k, job->k);
    return;
  }
  float *out = (float *)job->out + index * (size_t)job->k;
  for (int64_t i = 0; i < job->k; i++) {
    float value = x[i];
    if (job->activation == NVFP4_DTYPE_BF16) {
      value = nvfp4_bf16_to_f32(nvfp4_bf16_from_f32(value));
    } else if (job->activation == NVFP4_DTYPE_F16) {
      value = nvfp4_f16_to_f32(nvfp4_f16_from_f32(value));
    }
    if (job->input_scale != 0) {
      value = nvfp4_e4m3_to_f32(nvfp4_e4m3_from_f32(value / job->input_scale)) * job->input_scale;
    }
    out[i] = value;
  }
}

nvfp4_status nvfp4_linear_apply(const nvfp4_linear *linear, const nvfp4_linear_workspace *workspace, const float *x, int64_t m, float *y,
                                nvfp4_reason *reason) {
  const void *fed = x;
  if (workspace->activation != NVFP4_DTYPE_F32 || linear->input_scale != 0) {
    round_job job = {x, linear->k, linear->input_scale, workspace->activation, linear->layer == NULL, workspace->x};
    nvfp4_parallel_for(workspace->threads, (size_t)m, round_task, &job);
    fed = workspace->x;
  }
  if (linear->layer != NULL) {
    nvfp4_apply_args args = {.struct_size = sizeof args,
                             .m = m,
                             .x = fed,
                             .ldx_elems = linear->k,
                             .bias = linear->bias,
                             .y = y,
                             .ldy_elems = linear->n,
                             .workspace = workspace->layer,
                             .workspace_bytes = workspace->layer_bytes};
    nvfp4_status status = linear->device == NVFP4_DEVICE_CPU ? nvfp4_layer_apply(linear->layer, &args, reason)
                                                             : nvfp4_layer_apply_host(linear->layer, &args, reason);
    return nvfp4_reason_prefix(reason, status, "layer %s: ", linear->name);
  }
  dense_job job = {.linear = linear, .x = fed, .m = m, .y = y, .rows = workspace->rows};
  nvfp4_parallel_for(workspace->threads, (size_t)nvfp4_threads_count(workspace->threads), dense_task, &job);
  return NVFP4_OK;
}
