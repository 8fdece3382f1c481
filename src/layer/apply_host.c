/* SPDX-License-Identifier: Apache-2.0 */
/* A layer applied to host memory, wherever it lives. */
#include <stdlib.h>

#include "base/reason.h"
#include "format/scale_layout.h"
#include "layer/layer.h"

/* What lies at the layer's place for one call. */
typedef struct staged {
  void *x, *codes, *scales, *bias, *y, *workspace;
  nvfp4_quantised_x quantised_x;
} staged;

static size_t elem_bytes(nvfp4_dtype dtype) { return dtype == NVFP4_DTYPE_F32 ? 4 : 2; }

/* A matrix with gaps between its rows: `rows` times `stride`, less the last gap. */
static size_t span_bytes(int64_t rows, int64_t stride, int64_t row) { return (size_t)((rows - 1) * stride + row); }

static nvfp4_status stage_quantised(const nvfp4_visit *visit, const nvfp4_quantised_x *q, int64_t m, int64_t k, staged *s,
                                    nvfp4_reason *reason) {
  int64_t blocks = k / NVFP4_BLOCK;
  size_t scale_bytes = q->scale_layout == NVFP4_SCALES_LINEAR ? span_bytes(m, q->scales_stride_bytes, blocks)
                                                              : nvfp4_scales_bytes(q->scale_layout, m, blocks);
  NVFP4_TRY(nvfp4_place_copy(visit, q->codes, span_bytes(m, q->codes_stride_bytes, k / 2), &s->codes, reason));
  NVFP4_TRY(nvfp4_place_copy(visit, q->scales, scale_bytes, &s->scales, reason));
  s->quantised_x = *q;
  s->quantised_x.codes = s->codes;
  s->quantised_x.scales = s->scales;
  return NVFP4_OK;
}

static nvfp4_status apply_staged(const nvfp4_layer *layer, const nvfp4_visit *visit, const nvfp4_apply_args *args, staged *s,
                                 nvfp4_reason *reason) {
  const nvfp4_layer_desc *desc = nvfp4_layer_description(layer);
  size_t x_bytes = elem_bytes(desc->x_dtype), y_bytes = elem_bytes(desc->y_dtype), row_bytes = (size_t)desc->n * y_bytes;
  nvfp4_apply_args there = *args;
  if (args->x != NULL) {
    NVFP4_TRY(nvfp4_place_copy(visit, args->x, span_bytes(args->m, args->ldx_elems, desc->k) * x_bytes, &s->x, reason));
  }
  if (args->quantised_x != NULL) {
    NVFP4_TRY(stage_quantised(visit, args->quantised_x, args->m, desc->k, s, reason));
    there.quantised_x = &s->quantised_x;
  }
  if (args->bias != NULL) {
    NVFP4_TRY(nvfp4_place_copy(visit, args->bias, (size_t)desc->n * elem_bytes(desc->bias_dtype), &s->bias, reason));
  }
  there.workspace_bytes = nvfp4_layer_workspace_bytes(layer, args->m);
  NVFP4_TRY(nvfp4_place_alloc(visit->place, there.workspace_bytes, &s->workspace, reason));
  NVFP4_TRY(nvfp4_place_alloc(visit->place, (size_t)args->m * row_bytes, &s->y, reason));
  there.x = s->x;
  there.bias = s->bias;
  there.workspace = s->workspace;
  there.y = s->y;
  there.ldy_elems = desc->n;
  there.stream = visit->stream;
  NVFP4_TRY(nvfp4_layer_apply(layer, &there, reason));
  NVFP4_TRY(nvfp4_cuda_copy_rows(visit->place->cuda, args->y, (size_t)args->ldy_elems * y_bytes, s->y, row_bytes, row_bytes,
                                 (size_t)args->m, visit->stream, reason));
  return nvfp4_place_wait(visit, reason);
}

static nvfp4_status apply_on_device(const nvfp4_layer *layer, const nvfp4_apply_args *args, nvfp4_reason *reason) {
  const nvfp4_place *place = nvfp4_layer_place(layer);
  staged s = {0};
  nvfp4_visit visit;
  NVFP4_TRY(nvfp4_place_enter(place, true, &visit, reason));
  nvfp4_status status = apply_staged(layer, &visit, args, &s, reason);
  void *const memory[] = {s.x, s.codes, s.scales, s.bias, s.y, s.workspace};
  for (size_t i = 0; i < sizeof memory / sizeof memory[0]; i++) {
    nvfp4_place_free(place, memory[i]);
  }
  nvfp4_status left = nvfp4_place_leave(&visit, status == NVFP4_OK ? reason : NULL);
  return status != NVFP4_OK ? status : left;
}

static nvfp4_status apply_on_cpu(const nvfp4_layer *layer, const nvfp4_apply_args *args, nvfp4_reason *reason) {
  const nvfp4_place *place = nvfp4_layer_place(layer);
  nvfp4_apply_args with_workspace = *args;
  with_workspace.workspace_bytes = nvfp4_layer_workspace_bytes(layer, args->m);
  NVFP4_TRY(nvfp4_place_alloc(place, with_workspace.workspace_bytes, &with_workspace.workspace, reason));
  nvfp4_status status = nvfp4_layer_apply(layer, &with_workspace, reason);
  nvfp4_place_free(place, with_workspace.workspace);
  return status;
}

nvfp4_status nvfp4_layer_apply_host(const nvfp4_layer *layer, const nvfp4_apply_args *args, nvfp4_reason *reason) {
  if (layer == NULL || args == NULL || args->struct_size != sizeof *args || args->m < 0) {
    return nvfp4_reject(reason, NVFP4_E_ARG, "apply needs a layer, arguments with struct_size = %zu, and M >= 0", sizeof *args);
  }
  if (args->m == 0) {
    return NVFP4_OK;
  }
  NVFP4_TRY(nvfp4_layer_check_apply(layer, args, reason));
  return nvfp4_layer_place(layer)->cuda != NULL ? apply_on_device(layer, args, reason) : apply_on_cpu(layer, args, reason);
}
