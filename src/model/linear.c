/* SPDX-License-Identifier: Apache-2.0 */
#define _POSIX_C_SOURCE 200809L /* strdup */
#include "model/linear.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/reason.h"
#include "format/half.h"

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

nvfp4_status nvfp4_linear_try_row(const nvfp4_tensor *weight, int64_t k, nvfp4_reason *reason) {
  float *row = malloc((size_t)k * sizeof *row);
  if (row == NULL) {
    return nvfp4_reject(reason, NVFP4_E_NOMEM, "out of memory for a row of %s", weight->name);
  }
  nvfp4_status status = nvfp4_tensor_to_f32(weight, 0, (uint64_t)k, row, reason);
  free(row);
  return status;
}

/* An FP8 layer as a dense one: weights with their factor, activations as they are. *partitions is malloc'ed. */
static nvfp4_status keep_activations(const nvfp4_layer_info *info, nvfp4_layer_info *out, nvfp4_partition **partitions,
                                     nvfp4_reason *reason) {
  *out = *info;
  out->mode = NVFP4_MODE_UNQUANTISED;
  *partitions = malloc((size_t)info->partition_count * sizeof **partitions + 1);
  if (*partitions == NULL) {
    return nvfp4_reject(reason, NVFP4_E_NOMEM, "out of memory for the scales of a layer");
  }
  for (int64_t i = 0; i < info->partition_count; i++) {
    (*partitions)[i] = info->partitions[i];
    (*partitions)[i].input.value = 0;
  }
  out->partitions = *partitions;
  return NVFP4_OK;
}

static nvfp4_status create_layer(nvfp4_context *context, const nvfp4_checkpoint *checkpoint, const nvfp4_layer_info *info,
                                 const nvfp4_model_options *options, nvfp4_linear *linear, nvfp4_reason *reason) {
  nvfp4_layer_desc desc = {.struct_size = sizeof desc};
  NVFP4_TRY(nvfp4_layer_desc_from_checkpoint(info, &desc, reason));
  desc.m_first = 1;
  desc.m_last = options->batch_tokens;
  desc.x_dtype = options->activation;
  desc.y_dtype = NVFP4_DTYPE_F32;
  desc.bias_dtype = linear->bias != NULL ? NVFP4_DTYPE_F32 : NVFP4_DTYPE_NONE;
  linear->nvfp4 = desc.mode == NVFP4_MODE_W4A4 || desc.mode == NVFP4_MODE_W4A16;
  desc.device = linear->nvfp4 ? options->device : (nvfp4_device){NVFP4_DEVICE_CPU, 0}; /* no kernel for others on GPUs yet */
  linear->device = desc.device.kind;
  if (linear->nvfp4 && options->mode == NVFP4_MODE_W4A16) {
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
  nvfp4_layer_info dense;
  nvfp4_partition *partitions = NULL;
  if (status == NVFP4_OK && info->mode == NVFP4_MODE_FP8 && options->mode == NVFP4_MODE_W4A16) {
    status = keep_activations(info, &dense, &partitions, reason);
    info = &dense;
  }
  if (status == NVFP4_OK) {
    status = create_layer(context, checkpoint, info, options, &linear, reason);
  }
  free(partitions);
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
  if (linear->device == NVFP4_DEVICE_CPU) { /* nvfp4_layer_apply_host takes what it needs */
    workspace->layer_bytes = larger(workspace->layer_bytes, nvfp4_layer_workspace_bytes(linear->layer, m));
  }
  if (workspace->activation != NVFP4_DTYPE_F32) {
    workspace->x_bytes = larger(workspace->x_bytes, (size_t)m * (size_t)linear->k * sizeof(float));
  }
}

nvfp4_status nvfp4_linear_workspace_alloc(nvfp4_linear_workspace *workspace, nvfp4_reason *reason) {
  workspace->layer_bytes = (size_t)nvfp4_round_up((int64_t)workspace->layer_bytes + 1, 64);
  workspace->layer = aligned_alloc(64, workspace->layer_bytes);
  workspace->x = malloc(workspace->x_bytes + 1);
  if (workspace->layer == NULL || workspace->x == NULL) {
    nvfp4_linear_workspace_free(workspace);
    return nvfp4_reject(reason, NVFP4_E_NOMEM, "out of memory for the workspace of the linear layers; a smaller batch needs less");
  }
  return NVFP4_OK;
}

void nvfp4_linear_workspace_free(nvfp4_linear_workspace *workspace) {
  free(workspace->layer);
  free(workspace->x);
  workspace->layer = NULL;
  workspace->x = NULL;
}

/* ----------------------------------------------------------------------------------------------------------------- apply */

typedef struct round_job {
  const float *x;
  int64_t k;
  nvfp4_dtype activation;
  uint16_t *out;
} round_job;

/* Row `index` of x as the layer is fed it. */
static void round_task(void *arg, size_t index) {
  const round_job *job = arg;
  nvfp4_from_f32(job->x + index * (size_t)job->k, job->activation, job->out + index * (size_t)job->k, job->k);
}

nvfp4_status nvfp4_linear_apply(const nvfp4_linear *linear, const nvfp4_linear_workspace *workspace, const float *x, int64_t m, float *y,
                                nvfp4_reason *reason) {
  const void *fed = x;
  if (workspace->activation != NVFP4_DTYPE_F32) {
    round_job job = {x, linear->k, workspace->activation, workspace->x};
    nvfp4_parallel_for(workspace->threads, (size_t)m, round_task, &job);
    fed = workspace->x;
  }
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
