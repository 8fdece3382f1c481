/* SPDX-License-Identifier: Apache-2.0 */
#include "layer/layer.h"

#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/fp_env.h"
#include "base/reason.h"
#include "format/activation.h"
#include "format/global.h"

/* Rows that share one input global. */
typedef struct layer_run {
  int64_t n_first, n_rows;
  const nvfp4_partition *partitions; /* in the plan's description */
  int64_t partition_count;
  nvfp4_layer_desc desc; /* of these rows alone */
  float s_a;             /* of FP8: the input scale itself, 0 for one a row */
  float *alpha_w4a4;     /* [n_rows], on the layer's device, in the memory of alpha_w4a16; NULL without an input global */
  float *alpha_w4a16;    /* of dense and FP8 layers, too */
  nvfp4_packed *packed;  /* [layout_count] */
} layer_run;

struct nvfp4_layer {
  nvfp4_context *context;
  nvfp4_plan *plan;
  const nvfp4_layout **layouts; /* [layout_count] of the plan's kernels, in the order of the ranges */
  size_t layout_count;
  nvfp4_place place;
  nvfp4_cuda_lane *lane; /* with which it was made; NULL: on the CPU */
  layer_run *runs;
  size_t run_count;
};

/* ---------------------------------------------------------------------------------------------------------- checking weights */

static size_t elem_bytes(nvfp4_dtype dtype) { return dtype == NVFP4_DTYPE_F32 ? 4 : dtype == NVFP4_DTYPE_F8_E4M3 ? 1 : 2; }

static bool is_fp8(const nvfp4_layer *layer) { return layer->plan->desc.mode == NVFP4_MODE_FP8; }

static nvfp4_status check_weights(const nvfp4_weights *w, const nvfp4_layer_desc *desc, nvfp4_reason *reason) {
  bool dense = nvfp4_is_dense(desc->mode);
  if (w->struct_size != sizeof *w || (dense ? w->values == NULL : w->codes == NULL || w->scales == NULL)) {
    return nvfp4_reject(reason, NVFP4_E_ARG, "the weights lack %s, or struct_size = %zu", dense ? "values" : "codes, scales", sizeof *w);
  }
  if (w->dtype != desc->weight_dtype) {
    return nvfp4_reject(reason, NVFP4_E_DTYPE, "the weights' dtype is %s; the layer is described with weight_dtype %s",
                        nvfp4_dtype_name(w->dtype), nvfp4_dtype_name(desc->weight_dtype));
  }
  if (w->n != desc->n || w->k != desc->k) {
    return nvfp4_reject(reason, NVFP4_E_SHAPE, "the weights are %lld x %lld; the layer is described as N = %lld, K = %lld", (long long)w->n,
                        (long long)w->k, (long long)desc->n, (long long)desc->k);
  }
  if (dense && w->values_stride_bytes < w->k * (int64_t)elem_bytes(w->dtype)) {
    return nvfp4_reject(reason, NVFP4_E_SHAPE, "the row stride is %lld bytes; K = %lld of %s needs at least %lld",
                        (long long)w->values_stride_bytes, (long long)w->k, nvfp4_dtype_name(w->dtype),
                        (long long)(w->k * (int64_t)elem_bytes(w->dtype)));
  }
  if (!dense && (w->codes_stride_bytes < w->k / 2 || w->scales_stride_bytes < w->k / NVFP4_BLOCK)) {
    return nvfp4_reject(reason, NVFP4_E_SHAPE,
                        "row strides are %lld bytes of codes and %lld of scales; K = %lld needs at least %lld and %lld",
                        (long long)w->codes_stride_bytes, (long long)w->scales_stride_bytes, (long long)w->k, (long long)(w->k / 2),
                        (long long)(w->k / NVFP4_BLOCK));
  }
  return NVFP4_OK;
}

/* ------------------------------------------------------------------------------------------------------------- making runs */

static void find_layouts(nvfp4_layer *layer) {
  for (size_t i = 0; i < layer->plan->range_count; i++) {
    const nvfp4_layout *layout = layer->plan->ranges[i].kernel->layout;
    bool known = false;
    for (size_t j = 0; j < layer->layout_count; j++) {
      known = known || layer->layouts[j] == layout;
    }
    if (!known) {
      layer->layouts[layer->layout_count++] = layout;
    }
  }
}

static void find_runs(nvfp4_layer *layer) {
  const nvfp4_layer_desc *desc = &layer->plan->desc;
  for (int64_t i = 0; i < desc->partition_count; i++) {
    const nvfp4_partition *partition = &desc->partitions[i];
    layer_run *last = layer->run_count > 0 ? &layer->runs[layer->run_count - 1] : NULL;
    if (last != NULL && nvfp4_global_same(last->partitions[0].input, partition->input)) {
      last->partition_count++;
      last->n_rows += partition->n_rows;
    } else {
      layer->runs[layer->run_count++] =
          (layer_run){.n_first = partition->n_first, .n_rows = partition->n_rows, .partitions = partition, .partition_count = 1};
    }
  }
}

/* The run's weights as a kernel of the plan reads them. */
static const nvfp4_packed *packed_for(const nvfp4_layer *layer, const layer_run *run, const nvfp4_kernel *kernel) {
  size_t layout = 0;
  while (layer->layouts[layout] != kernel->layout) {
    layout++;
  }
  return &run->packed[layout];
}

/* Neighbours with one alpha, as the parts of a fused layer often have it, are filled together. */
static nvfp4_status fill_alpha(const nvfp4_visit *visit, const layer_run *run, nvfp4_mode mode, float *alpha, nvfp4_reason *reason) {
  const nvfp4_partition *partitions = run->partitions;
  int64_t first = 0;
  float value;
  NVFP4_TRY(nvfp4_partition_alpha(&partitions[0], mode, &value, reason));
  for (int64_t i = 1; i <= run->partition_count; i++) {
    float next = 0; /* behind the last one: no alpha */
    if (i < run->partition_count) {
      NVFP4_TRY(nvfp4_partition_alpha(&partitions[i], mode, &next, reason));
    }
    if (next != value) {
      const int64_t end = i < run->partition_count ? partitions[i].n_first - run->n_first : run->n_rows;
      NVFP4_TRY(nvfp4_place_fill(visit, alpha + first, end - first, value, reason));
      first = end;
      value = next;
    }
  }
  return NVFP4_OK;
}

/* The alphas of both modes, as kernels read them, in one piece of memory, which alpha_w4a16 holds; those of W4A4 only if x can be quantised. */
static nvfp4_status make_alphas(const nvfp4_layer *layer, const nvfp4_visit *visit, layer_run *run, nvfp4_reason *reason) {
  const nvfp4_global input = run->partitions[0].input;
  const bool w4a4 = !is_fp8(layer) && input.value != 0.0f;
  const size_t each = (size_t)nvfp4_round_up(run->n_rows, 16); /* 64 bytes: so that both begin as memory does */
  void *memory;
  run->s_a = w4a4 ? nvfp4_activation_factor(input) : is_fp8(layer) ? input.value : 0.0f;
  NVFP4_TRY(nvfp4_place_alloc(&layer->place, (w4a4 ? 2 : 1) * each * sizeof(float), &memory, reason));
  run->alpha_w4a16 = memory;
  run->alpha_w4a4 = w4a4 ? run->alpha_w4a16 + each : NULL;
  NVFP4_TRY(fill_alpha(visit, run, is_fp8(layer) ? NVFP4_MODE_FP8 : NVFP4_MODE_W4A16, run->alpha_w4a16, reason));
  return w4a4 ? fill_alpha(visit, run, NVFP4_MODE_W4A4, run->alpha_w4a4, reason) : NVFP4_OK;
}

/* Packs the run's rows for every layout; on a GPU before it is known whether the block scales are right: it waits once. */
static nvfp4_status pack_run(nvfp4_layer *layer, const nvfp4_visit *visit, layer_run *run, const nvfp4_weights *part,
                             nvfp4_reason *reason) {
  NVFP4_TRY(nvfp4_place_begin_check(visit, part, run->n_first, reason));
  nvfp4_process_args args = {sizeof args, part, run->alpha_w4a4, run->alpha_w4a16, visit->stream};
  for (size_t i = 0; i < layer->layout_count; i++) {
    nvfp4_packed packed = {.struct_size = sizeof packed};
    NVFP4_TRY(layer->layouts[i]->process_weights_after_loading(&layer->context->host, &args, &packed, reason));
    run->packed[i] = packed;
  }
  return nvfp4_place_end_check(visit, part, run->n_first, reason);
}

/* Lets the plan's kernels make what they need for the run's shape. */
static nvfp4_status prepare_run(const nvfp4_layer *layer, const layer_run *run, nvfp4_reason *reason) {
  for (size_t i = 0; i < layer->plan->range_count; i++) {
    const nvfp4_planned_range *range = &layer->plan->ranges[i];
    nvfp4_layer_desc desc = run->desc;
    desc.m_first = range->m_first;
    desc.m_last = range->m_last;
    NVFP4_TRY(nvfp4_kernel_prepare(range->kernel, &layer->context->host, &desc, packed_for(layer, run, range->kernel), reason));
  }
  return NVFP4_OK;
}

/* Alphas and packed weights of one run. What it makes is freed by nvfp4_layer_destroy, on errors too; what it uploads is freed before it returns. */
static nvfp4_status fill_run(nvfp4_layer *layer, layer_run *run, const nvfp4_weights *weights, nvfp4_visit *visit, nvfp4_reason *reason) {
  run->desc = nvfp4_dense_view(&layer->plan->desc);
  run->desc.n = run->n_rows;
  run->desc.partitions = run->partitions;
  run->desc.partition_count = run->partition_count;
  run->packed = calloc(layer->layout_count, sizeof *run->packed);
  if (run->packed == NULL) {
    return nvfp4_reject(reason, NVFP4_E_NOMEM, "out of memory for a layer");
  }
  NVFP4_TRY(make_alphas(layer, visit, run, reason));
  nvfp4_weights part = *weights, there;
  void *uploaded;
  part.n = run->n_rows;
  if (part.values != NULL) {
    part.values = (const char *)part.values + run->n_first * weights->values_stride_bytes;
  } else {
    part.codes += run->n_first * weights->codes_stride_bytes;
    part.scales += run->n_first * weights->scales_stride_bytes;
  }
  NVFP4_TRY(nvfp4_place_weights(visit, &part, &there, &uploaded, reason));
  void *decoded = NULL;
  nvfp4_status packed = is_fp8(layer) ? nvfp4_fp8_decode_weights(layer->context->threads, &there, &there, &decoded, reason) : NVFP4_OK;
  if (packed == NVFP4_OK) {
    packed = pack_run(layer, visit, run, &there, reason);
  }
  if (packed != NVFP4_OK) {
    nvfp4_place_wait(visit, NULL); /* before what may still be read is freed */
  }
  nvfp4_place_free(&layer->place, uploaded);
  free(decoded);
  return packed == NVFP4_OK ? prepare_run(layer, run, reason) : packed;
}

static nvfp4_status fill_runs(nvfp4_layer *layer, const nvfp4_weights *weights, nvfp4_visit *visit, nvfp4_reason *reason) {
  for (size_t i = 0; i < layer->run_count; i++) {
    NVFP4_TRY(fill_run(layer, &layer->runs[i], weights, visit, reason));
  }
  return layer->place.cuda != NULL ? nvfp4_cuda_load_known(layer->place.cuda, reason) : NVFP4_OK;
}

static nvfp4_status fill_layer(nvfp4_layer *layer, const nvfp4_weights *weights, nvfp4_reason *reason) {
  layer->layouts = calloc(layer->plan->range_count, sizeof *layer->layouts);
  layer->runs = calloc((size_t)layer->plan->desc.partition_count, sizeof *layer->runs);
  if (layer->layouts == NULL || layer->runs == NULL) {
    return nvfp4_reject(reason, NVFP4_E_NOMEM, "out of memory for a layer");
  }
  find_layouts(layer);
  find_runs(layer);
  nvfp4_visit visit;
  NVFP4_TRY(nvfp4_place_find(layer->context->cuda, layer->plan->desc.device, &layer->place, reason));
  NVFP4_TRY(nvfp4_place_enter(&layer->place, true, &visit, reason));
  if (visit.lane != NULL) {
    nvfp4_cuda_lane_keep(layer->place.cuda, visit.lane);
    layer->lane = visit.lane;
  }
  nvfp4_status filled = fill_runs(layer, weights, &visit, reason);
  nvfp4_status left = nvfp4_place_leave(&visit, filled == NVFP4_OK ? reason : NULL);
  return filled != NVFP4_OK ? filled : left;
}

nvfp4_status nvfp4_layer_create(nvfp4_context *context, const nvfp4_plan *plan, const nvfp4_weights *weights, nvfp4_layer **out,
                                nvfp4_reason *reason) {
  if (context == NULL || plan == NULL || weights == NULL || out == NULL) {
    return nvfp4_reject(reason, NVFP4_E_ARG, "context, plan, weights or out is NULL; a layer needs all four");
  }
  NVFP4_TRY(check_weights(weights, &plan->desc, reason));
  nvfp4_layer *layer = calloc(1, sizeof *layer);
  if (layer == NULL) {
    return nvfp4_reject(reason, NVFP4_E_NOMEM, "out of memory for a layer");
  }
  layer->context = context;
  layer->plan = nvfp4_plan_copy(plan);
  nvfp4_fp_env before = nvfp4_fp_env_enter(); /* alpha and s_a must not depend on the caller's rounding mode */
  nvfp4_status status =
      layer->plan != NULL ? fill_layer(layer, weights, reason) : nvfp4_reject(reason, NVFP4_E_NOMEM, "out of memory for a layer");
  nvfp4_fp_env_leave(before);
  if (status != NVFP4_OK) {
    nvfp4_layer_destroy(layer);
    return status;
  }
  *out = layer;
  return NVFP4_OK;
}

void nvfp4_layer_destroy(nvfp4_layer *layer) {
  if (layer == NULL) {
    return;
  }
  nvfp4_visit visit;
  nvfp4_place_enter(&layer->place, false, &visit, NULL);
  nvfp4_place_relax(&visit);
  for (size_t i = 0; i < layer->run_count; i++) {
    layer_run *run = &layer->runs[i];
    for (size_t j = 0; run->packed != NULL && j < layer->layout_count; j++) {
      if (run->packed[j].data != NULL) {
        layer->layouts[j]->free_packed(&layer->context->host, &run->packed[j]);
      }
    }
    free(run->packed);
    nvfp4_place_free(&layer->place, run->alpha_w4a16); /* and alpha_w4a4 */
  }
  nvfp4_cuda_lane_drop(layer->place.cuda, layer->lane);
  nvfp4_place_leave(&visit, NULL);
  free(layer->runs);
  free(layer->layouts);
  nvfp4_plan_free(layer->plan);
  free(layer);
}

bool nvfp4_layer_borrows_weights(const nvfp4_layer *layer) {
  for (size_t i = 0; i < layer->run_count; i++) {
    for (size_t j = 0; j < layer->layout_count; j++) {
      if (layer->runs[i].packed[j].borrows_source) {
        return true;
      }
    }
  }
  return false;
}

uint64_t nvfp4_layer_packed_bytes(const nvfp4_layer *layer) {
  uint64_t bytes = 0;
  for (size_t i = 0; i < layer->run_count; i++) {
    for (size_t j = 0; j < layer->layout_count; j++) {
      bytes += layer->runs[i].packed[j].data_bytes;
    }
  }
  return bytes;
}

/* --------------------------------------------------------------------------------------------------------------- applying */

static const nvfp4_kernel *kernel_for(const nvfp4_layer *layer, int64_t m) {
  for (size_t i = 0; i < layer->plan->range_count; i++) {
    if (m >= layer->plan->ranges[i].m_first && m <= layer->plan->ranges[i].m_last) {
      return layer->plan->ranges[i].kernel;
    }
  }
  return NULL;
}

size_t nvfp4_layer_workspace_bytes(const nvfp4_layer *layer, int64_t m) {
  size_t most = 0;
  const nvfp4_kernel *kernel = m > 0 ? kernel_for(layer, m) : NULL;
  for (size_t i = 0; kernel != NULL && i < layer->run_count; i++) {
    const nvfp4_layer_desc *desc = &layer->runs[i].desc;
    size_t bytes = kernel->workspace_bytes(desc, m) + (is_fp8(layer) ? nvfp4_fp8_scratch_of(desc, m).kernel : 0);
    most = bytes > most ? bytes : most;
  }
  return most;
}

static nvfp4_status check_quantised_x(const nvfp4_layer *layer, const nvfp4_kernel *kernel, const nvfp4_quantised_x *q,
                                      nvfp4_reason *reason) {
  int64_t k = layer->plan->desc.k;
  if (kernel->numerics.mode != NVFP4_MODE_W4A4) {
    return nvfp4_reject(reason, NVFP4_E_ARG, "x is quantised already, but %s takes unquantised activations; give x", kernel->id);
  }
  bool linear = q->scale_layout == NVFP4_SCALES_LINEAR;
  if (q->codes == NULL || q->scales == NULL || q->codes_stride_bytes < k / 2 || (linear && q->scales_stride_bytes < k / NVFP4_BLOCK) ||
      (!linear && q->scale_layout != NVFP4_SCALES_128X4 && q->scale_layout != NVFP4_SCALES_8X4)) {
    return nvfp4_reject(reason, NVFP4_E_SHAPE,
                        "quantised x lacks codes or scales, has strides below K/2 = %lld and K/16 = %lld bytes, or an unknown scale layout",
                        (long long)(k / 2), (long long)(k / NVFP4_BLOCK));
  }
  for (size_t i = 0; i < layer->run_count; i++) {
    nvfp4_global own = layer->runs[i].partitions[0].input;
    if (!nvfp4_global_same(own, q->input)) {
      return nvfp4_reject(reason, NVFP4_E_ARG, "x was quantised with the input %s %.9g; rows from %lld on need the %s %.9g",
                          nvfp4_global_kind_name(q->input.kind), (double)q->input.value, (long long)layer->runs[i].n_first,
                          nvfp4_global_kind_name(own.kind), (double)own.value);
    }
  }
  return NVFP4_OK;
}

const nvfp4_place *nvfp4_layer_place(const nvfp4_layer *layer) { return &layer->place; }

const nvfp4_layer_desc *nvfp4_layer_description(const nvfp4_layer *layer) { return &layer->plan->desc; }

nvfp4_status nvfp4_layer_check_apply(const nvfp4_layer *layer, const nvfp4_apply_args *args, nvfp4_reason *reason) {
  const nvfp4_layer_desc *desc = &layer->plan->desc;
  const nvfp4_kernel *kernel = kernel_for(layer, args->m);
  if (kernel == NULL) {
    return nvfp4_reject(reason, NVFP4_E_SHAPE, "M = %lld; the plan serves M from %lld to %lld", (long long)args->m,
                        (long long)desc->m_first, (long long)desc->m_last);
  }
  if (args->y == NULL || (args->x == NULL) == (args->quantised_x == NULL)) {
    return nvfp4_reject(reason, NVFP4_E_ARG, "y is %s, x is %s, quantised_x is %s; needs y and one of the other two",
                        args->y == NULL ? "NULL" : "given", args->x == NULL ? "NULL" : "given",
                        args->quantised_x == NULL ? "NULL" : "given");
  }
  if ((args->x != NULL && args->ldx_elems < desc->k) || args->ldy_elems < desc->n) {
    return nvfp4_reject(reason, NVFP4_E_SHAPE, "ldx is %lld, ldy is %lld elements; needs at least K = %lld and N = %lld",
                        (long long)args->ldx_elems, (long long)args->ldy_elems, (long long)desc->k, (long long)desc->n);
  }
  if ((args->bias != NULL) != (desc->bias_dtype != NVFP4_DTYPE_NONE)) {
    return nvfp4_reject(reason, NVFP4_E_ARG, "bias is %s; the layer is described %s one", args->bias != NULL ? "given" : "NULL",
                        desc->bias_dtype != NVFP4_DTYPE_NONE ? "with" : "without");
  }
  if (args->row_alpha != NULL) {
    return nvfp4_reject(reason, NVFP4_E_UNSUPPORTED, "row_alpha is given; it is reserved and must be NULL");
  }
  return args->quantised_x != NULL ? check_quantised_x(layer, kernel, args->quantised_x, reason) : NVFP4_OK;
}

static nvfp4_status check_workspace(const nvfp4_layer *layer, const nvfp4_apply_args *args, nvfp4_reason *reason) {
  size_t need = nvfp4_layer_workspace_bytes(layer, args->m);
  if (args->workspace_bytes < need || (need > 0 && (args->workspace == NULL || (uintptr_t)args->workspace % 64 != 0))) {
    return nvfp4_reject(reason, NVFP4_E_ARG, "the workspace has %zu bytes at %p; M = %lld needs %zu, 64-byte aligned",
                        args->workspace_bytes, args->workspace, (long long)args->m, need);
  }
  return NVFP4_OK;
}

/* x is quantised, a dense kernel adds, and what it cannot do comes after it. */
static nvfp4_status apply_fp8(const nvfp4_layer *layer, const layer_run *run, const nvfp4_kernel *kernel, const nvfp4_packed *packed,
                              nvfp4_kernel_args *call, nvfp4_reason *reason) {
  const nvfp4_fp8_scratch at = nvfp4_fp8_scratch_of(&run->desc, call->m);
  char *workspace = call->workspace;
  const nvfp4_fp8_call fp8 = {.m = call->m,
                              .n = call->n,
                              .k = call->k,
                              .x = call->x,
                              .x_dtype = call->x_dtype,
                              .y_dtype = call->y_dtype,
                              .bias_dtype = call->bias_dtype,
                              .ldx_elems = call->ldx_elems,
                              .ldy_elems = call->ldy_elems,
                              .input_scale = run->s_a,
                              .q = (uint16_t *)(workspace + at.x),
                              .scales = (float *)(workspace + at.scales),
                              .sums = (const float *)(workspace + at.y),
                              .bias = call->bias,
                              .y = call->y};
  nvfp4_fp8_quantise(layer->context->threads, &fp8);
  call->x = fp8.q;
  call->ldx_elems = fp8.k;
  call->x_dtype = NVFP4_DTYPE_BF16;
  call->workspace = workspace + at.kernel;
  call->workspace_bytes -= at.kernel;
  if (fp8.input_scale != 0) {
    return kernel->apply_weights(&layer->context->host, packed, call, reason);
  }
  call->y = workspace + at.y;
  call->ldy_elems = fp8.n;
  call->y_dtype = NVFP4_DTYPE_F32;
  call->bias = NULL;
  NVFP4_TRY(kernel->apply_weights(&layer->context->host, packed, call, reason));
  nvfp4_fp8_finish(layer->context->threads, &fp8);
  return NVFP4_OK;
}

static nvfp4_status apply_run(const nvfp4_layer *layer, const layer_run *run, const nvfp4_kernel *kernel, const nvfp4_apply_args *args,
                              nvfp4_reason *reason) {
  const nvfp4_layer_desc *desc = &layer->plan->desc;
  bool w4a4 = kernel->numerics.mode == NVFP4_MODE_W4A4;
  nvfp4_kernel_args call = {
      .struct_size = sizeof call,
      .m = args->m,
      .n = run->n_rows,
      .k = desc->k,
      .x = args->x,
      .ldx_elems = args->ldx_elems,
      .x_dtype = desc->x_dtype,
      .quantised_x = args->quantised_x,
      .s_a = w4a4 ? run->s_a : 0.0f,
      .alpha = w4a4 ? run->alpha_w4a4 : run->alpha_w4a16,
      .bias = args->bias != NULL ? (const char *)args->bias + (size_t)run->n_first * elem_bytes(desc->bias_dtype) : NULL,
      .bias_dtype = desc->bias_dtype,
      .y = (char *)args->y + (size_t)run->n_first * elem_bytes(desc->y_dtype),
      .ldy_elems = args->ldy_elems,
      .y_dtype = desc->y_dtype,
      .workspace = args->workspace,
      .workspace_bytes = args->workspace_bytes,
      .stream = args->stream,
  };
  const nvfp4_packed *packed = packed_for(layer, run, kernel);
  return is_fp8(layer) ? apply_fp8(layer, run, kernel, packed, &call, reason)
                       : kernel->apply_weights(&layer->context->host, packed, &call, reason);
}

nvfp4_status nvfp4_layer_apply(const nvfp4_layer *layer, const nvfp4_apply_args *args, nvfp4_reason *reason) {
  if (layer == NULL || args == NULL || args->struct_size != sizeof *args || args->m < 0) {
    return nvfp4_reject(reason, NVFP4_E_ARG, "apply needs a layer, arguments with struct_size = %zu, and M >= 0", sizeof *args);
  }
  if (args->m == 0) {
    return NVFP4_OK;
  }
  NVFP4_TRY(nvfp4_layer_check_apply(layer, args, reason));
  NVFP4_TRY(check_workspace(layer, args, reason));
  const nvfp4_kernel *kernel = kernel_for(layer, args->m);
  nvfp4_visit visit;
  NVFP4_TRY(nvfp4_place_enter(&layer->place, false, &visit, reason));
  nvfp4_status status = NVFP4_OK;
  for (size_t i = 0; status == NVFP4_OK && i < layer->run_count; i++) {
    status = apply_run(layer, &layer->runs[i], kernel, args, reason);
  }
  nvfp4_place_leave(&visit, NULL);
  return status;
}
