/* SPDX-License-Identifier: Apache-2.0 */
#define _POSIX_C_SOURCE 200809L /* strdup */
#include "model/linear.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/reason.h"
#include "checkpoint/checkpoint.h"
#include "format/e4m3.h"
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

/* FP8: the factor of the weights, and of activations that become FP8 too. */
static nvfp4_status read_fp8_scales(const nvfp4_checkpoint *checkpoint, const nvfp4_layer_info *info, const char *suffix,
                                    const nvfp4_model_options *options, nvfp4_partition *partition, nvfp4_linear *linear,
                                    nvfp4_reason *reason) {
  NVFP4_TRY(read_scalar(checkpoint, info->name, suffix, &partition->weight.value, reason));
  if (partition->weight.value == 0) {
    return nvfp4_reject(reason, NVFP4_E_UNSUPPORTED, "an FP8 layer without %s.%s; it is needed", info->name, suffix);
  }
  return options->mode != NVFP4_MODE_W4A16 ? read_scalar(checkpoint, info->name, "input_scale", &linear->input_scale, reason) : NVFP4_OK;
}

/* Whether a layer of a GGUF file was FP8 before it was converted: its codes are bf16 there, which holds every E4M3 number. */
static bool was_fp8(const nvfp4_checkpoint *checkpoint, const nvfp4_layer_info *info) {
  char key[512], type[16];
  snprintf(key, sizeof key, "nvfp4.dtype.%s", info->weight->name);
  return checkpoint->gguf != NULL && nvfp4_checkpoint_metadata(checkpoint, key, type, sizeof type) && strcmp(type, "F8_E4M3") == 0;
}

/* The factor of a dense layer's weights, if it has one: FP8's scale, or the `.scale` that llama.cpp multiplies any layer of GGUF by. */
static nvfp4_status read_factor(const nvfp4_checkpoint *checkpoint, const nvfp4_layer_info *info, const nvfp4_model_options *options,
                                nvfp4_partition *partition, nvfp4_linear *linear, nvfp4_reason *reason) {
  if (info->mode == NVFP4_MODE_FP8) {
    return read_fp8_scales(checkpoint, info, "weight_scale", options, partition, linear, reason);
  }
  if (info->mode != NVFP4_MODE_UNQUANTISED || checkpoint->gguf == NULL) {
    return NVFP4_OK;
  }
  return was_fp8(checkpoint, info) ? read_fp8_scales(checkpoint, info, "scale", options, partition, linear, reason)
                                   : read_scalar(checkpoint, info->name, "scale", &partition->weight.value, reason);
}

static nvfp4_status create_layer(nvfp4_context *context, const nvfp4_checkpoint *checkpoint, const nvfp4_layer_info *info,
                                 const nvfp4_model_options *options, nvfp4_linear *linear, nvfp4_reason *reason) {
  nvfp4_layer_desc desc = {.struct_size = sizeof desc};
  nvfp4_partition whole = {.n_rows = info->n};
  NVFP4_TRY(nvfp4_layer_desc_from_checkpoint(info, &desc, reason));
  NVFP4_TRY(read_factor(checkpoint, info, options, &whole, linear, reason));
  if (whole.weight.value != 0) {
    desc.partitions = &whole;
    desc.partition_count = 1;
  }
  desc.m_first = 1;
  desc.m_last = options->batch_tokens;
  desc.x_dtype = linear->input_scale != 0 ? NVFP4_DTYPE_F32 : options->activation;
  desc.y_dtype = NVFP4_DTYPE_F32;
  desc.bias_dtype = linear->bias != NULL ? NVFP4_DTYPE_F32 : NVFP4_DTYPE_NONE;
  linear->nvfp4 = desc.mode != NVFP4_MODE_UNQUANTISED;
  desc.device = linear->nvfp4 ? options->device : (nvfp4_device){NVFP4_DEVICE_CPU, 0}; /* no kernel for dense layers on GPUs yet */
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
  if (status == NVFP4_OK) {
    status = create_layer(context, checkpoint, info, options, &linear, reason);
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
  if (linear->device == NVFP4_DEVICE_CPU) { /* nvfp4_layer_apply_host takes what it needs */
    workspace->layer_bytes = larger(workspace->layer_bytes, nvfp4_layer_workspace_bytes(linear->layer, m));
  }
  if (workspace->activation != NVFP4_DTYPE_F32 || linear->input_scale != 0) {
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
  float input_scale;
  nvfp4_dtype activation;
  void *out;
} round_job;

/* Row `index` of x as the layer is fed it: as activation, or through FP8 as fp32. */
static void round_task(void *arg, size_t index) {
  const round_job *job = arg;
  const float *x = job->x + index * (size_t)job->k;
  if (job->input_scale == 0) {
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
    out[i] = nvfp4_e4m3_to_f32(nvfp4_e4m3_from_f32(value / job->input_scale)) * job->input_scale;
  }
}

nvfp4_status nvfp4_linear_apply(const nvfp4_linear *linear, const nvfp4_linear_workspace *workspace, const float *x, int64_t m, float *y,
                                nvfp4_reason *reason) {
  const void *fed = x;
  if (workspace->activation != NVFP4_DTYPE_F32 || linear->input_scale != 0) {
    round_job job = {x, linear->k, linear->input_scale, workspace->activation, workspace->x};
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
