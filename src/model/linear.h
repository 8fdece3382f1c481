/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A linear layer of a model, NVFP4 or dense. Dense ones are those of F32, F16 and BF16, FP8 layers, and those of GGUF's other blocks (as fp32).
 */
#ifndef NVFP4_MODEL_LINEAR_H
#define NVFP4_MODEL_LINEAR_H

#include <nvfp4/model.h>
#include <nvfp4/nvfp4.h>

#include "base/threads.h"

typedef struct nvfp4_linear {
  char *name; /* own copy */
  int64_t n, k;
  float *bias; /* [n] fp32, own; NULL: none */
  nvfp4_layer *layer;
  nvfp4_device_kind device; /* the layer's */
  nvfp4_report *report;
  void *owned_weights; /* what the layer borrows, if the checkpoint made a copy; otherwise NULL */
  bool nvfp4;          /* otherwise dense */
} nvfp4_linear;

/* What the linear layers of a model share. */
typedef struct nvfp4_linear_workspace {
  nvfp4_threads *threads;
  nvfp4_dtype activation; /* what layers are fed: F32, BF16 or F16 */
  void *x;                /* x in that type, if it is not F32 */
  void *layer;            /* nvfp4_layer_apply's; 64-byte aligned */
  size_t x_bytes, layer_bytes;
} nvfp4_linear_workspace;

/* Makes `info` ready to run. options: policy, mode, activation (not NONE), batch_tokens. On an error *out holds nothing. `checkpoint` must outlive it. */
nvfp4_status nvfp4_linear_create(nvfp4_context *context, const nvfp4_checkpoint *checkpoint, const nvfp4_layer_info *info,
                                 const nvfp4_model_options *options, nvfp4_linear *out, nvfp4_reason *reason);
/* Whether rows of k elements of this type can be converted, found out by converting row 0: afterwards no row can fail. */
nvfp4_status nvfp4_linear_try_row(const nvfp4_tensor *weight, int64_t k, nvfp4_reason *reason);
void nvfp4_linear_destroy(nvfp4_linear *linear);

/* Grows the sizes that the workspace needs so that `linear` can run with m rows. Then nvfp4_linear_workspace_alloc, once. */
void nvfp4_linear_workspace_need(nvfp4_linear_workspace *workspace, const nvfp4_linear *linear, int64_t m);
nvfp4_status nvfp4_linear_workspace_alloc(nvfp4_linear_workspace *workspace, nvfp4_reason *reason);
void nvfp4_linear_workspace_free(nvfp4_linear_workspace *workspace);

/* y [m, n] = x [m, k] W^T (+ bias), all fp32 without gaps. A row's result does not depend on m or the number of threads if the kernel's does not. */
nvfp4_status nvfp4_linear_apply(const nvfp4_linear *linear, const nvfp4_linear_workspace *workspace, const float *x, int64_t m, float *y,
                                nvfp4_reason *reason);

#endif
