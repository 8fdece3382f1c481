/* SPDX-License-Identifier: Apache-2.0 */
/* From a checkpoint's layer to what a layer is made of: its description and its weights, in the canonical form or as dense ones. */
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/reason.h"
#include "checkpoint/checkpoint.h"
#include "format/e4m3.h"
#include "format/half.h"

/* The type that a weight has as a dense one; NONE: this library does not convert it. E4M3 stays what it is in a layer whose activations are FP8, too. */
static nvfp4_dtype dense_dtype(const nvfp4_layer_info *layer) {
  switch (layer->weight->rank == 2 ? layer->weight->dtype : NVFP4_DTYPE_NONE) {
    case NVFP4_DTYPE_F32:
    case NVFP4_DTYPE_F16:
      return layer->weight->dtype;
    case NVFP4_DTYPE_BF16: /* an FP8 layer from GGUF: its values are those of E4M3 */
      return layer->mode == NVFP4_MODE_FP8 ? NVFP4_DTYPE_F8_E4M3 : NVFP4_DTYPE_BF16;
    case NVFP4_DTYPE_F8_E4M3:
      return layer->mode == NVFP4_MODE_FP8 ? NVFP4_DTYPE_F8_E4M3 : NVFP4_DTYPE_BF16;
    case NVFP4_DTYPE_F64:
    case NVFP4_DTYPE_Q4_0:
    case NVFP4_DTYPE_Q4_1:
    case NVFP4_DTYPE_Q8_0:
      return NVFP4_DTYPE_F32;
    default:
      return NVFP4_DTYPE_NONE;
  }
}

static nvfp4_status not_dense(const nvfp4_layer_info *layer, nvfp4_reason *reason) {
  return nvfp4_reject(reason, NVFP4_E_UNSUPPORTED,
                      "layer %s is neither NVFP4 nor dense: %s; needs two dimensions of F32, F16, BF16, F64, E4M3, Q4_0, Q4_1 or Q8_0",
                      layer->name, layer->note[0] != '\0' ? layer->note : nvfp4_mode_name(layer->mode));
}

static uint64_t element_bytes(nvfp4_dtype dtype) { return dtype == NVFP4_DTYPE_F32 ? 4 : dtype == NVFP4_DTYPE_F8_E4M3 ? 1 : 2; }

static void from_f32(const float *values, nvfp4_dtype dtype, uint8_t *to, int64_t count) {
  if (dtype != NVFP4_DTYPE_F8_E4M3) {
    nvfp4_from_f32(values, dtype, to, count);
    return;
  }
  for (int64_t i = 0; i < count; i++) {
    to[i] = nvfp4_e4m3_from_f32(values[i]);
  }
}

/* A row at a time: an fp32 copy of E4M3 weights would be as large as two of the bf16 ones. */
static nvfp4_status convert_dense(const nvfp4_layer_info *layer, nvfp4_dtype dtype, uint8_t *to, nvfp4_reason *reason) {
  uint64_t row = (uint64_t)layer->k;
  float *values = malloc((size_t)row * sizeof *values);
  nvfp4_status status = NVFP4_OK;
  if (values == NULL) {
    return nvfp4_reject(reason, NVFP4_E_NOMEM, "layer %s: no memory for a row of weights", layer->name);
  }
  for (int64_t n = 0; n < layer->n && status == NVFP4_OK; n++) {
    status = nvfp4_tensor_to_f32(layer->weight, (uint64_t)n * row, row, values, reason);
    if (status == NVFP4_OK) {
      from_f32(values, dtype, to, layer->k);
      to += row * element_bytes(dtype);
    }
  }
  free(values);
  return status;
}

static nvfp4_status dense_weights(const nvfp4_layer_info *layer, nvfp4_weights *out, void **owned, nvfp4_reason *reason) {
  nvfp4_dtype dtype = dense_dtype(layer);
  if (dtype == NVFP4_DTYPE_NONE) {
    return not_dense(layer, reason);
  }
  int64_t stride = layer->k * (int64_t)element_bytes(dtype);
  nvfp4_weights weights = {.struct_size = sizeof weights, .n = layer->n, .k = layer->k, .dtype = dtype, .values_stride_bytes = stride};
  if (dtype == layer->weight->dtype) {
    weights.memory = NVFP4_MEMORY_MAPPED_FILE;
    weights.values = layer->weight->data;
    *owned = NULL;
  } else {
    uint64_t bytes;
    void *copy = nvfp4_multiply((uint64_t)layer->n, (uint64_t)stride, &bytes) && bytes <= SIZE_MAX ? malloc((size_t)bytes) : NULL;
    if (copy == NULL) {
      return nvfp4_reject(reason, NVFP4_E_NOMEM, "layer %s: no memory for its weights as %s", layer->name, nvfp4_dtype_name(dtype));
    }
    nvfp4_status status = convert_dense(layer, dtype, copy, reason);
    if (status != NVFP4_OK) {
      free(copy);
      return status;
    }
    weights.memory = NVFP4_MEMORY_HOST;
    weights.values = copy;
    *owned = copy;
  }
  *out = weights;
  return NVFP4_OK;
}

nvfp4_status nvfp4_checkpoint_weights(const nvfp4_checkpoint *checkpoint, const nvfp4_layer_info *layer, nvfp4_weights *out, void **owned,
                                      nvfp4_reason *reason) {
  if (checkpoint == NULL || layer == NULL || out == NULL || owned == NULL) {
    return nvfp4_reject(reason, NVFP4_E_ARG, "checkpoint, layer, out and owned must not be NULL");
  }
  if (layer->layout == NVFP4_LAYOUT_NONE) {
    return dense_weights(layer, out, owned, reason);
  }
  int64_t n = layer->n, k = layer->k;
  nvfp4_weights weights = {.struct_size = sizeof weights, .memory = NVFP4_MEMORY_MAPPED_FILE, .n = n, .k = k};
  weights.codes_stride_bytes = k / 2;
  weights.scales_stride_bytes = k / NVFP4_BLOCK;
  if (layer->layout != NVFP4_LAYOUT_GGUF && layer->layout != NVFP4_LAYOUT_COMFY) {
    weights.codes = layer->weight->data;
    weights.scales = nvfp4_layer_scales(checkpoint, layer)->data;
    *out = weights;
    *owned = NULL;
    return NVFP4_OK;
  }
  size_t code_bytes = (size_t)(n * (k / 2)), scale_bytes = (size_t)(n * (k / NVFP4_BLOCK));
  uint8_t *copy = malloc(code_bytes + scale_bytes);
  if (copy == NULL) {
    return nvfp4_reject(reason, NVFP4_E_NOMEM, "layer %s: no memory for %zu bytes of re-ordered weights", layer->name,
                        code_bytes + scale_bytes);
  }
  nvfp4_layer_read_rows(checkpoint, layer, 0, n, copy, copy + code_bytes);
  weights.memory = NVFP4_MEMORY_HOST;
  weights.codes = copy;
  weights.scales = copy + code_bytes;
  *out = weights;
  *owned = copy;
  return NVFP4_OK;
}

void nvfp4_weights_free(void *owned) { free(owned); }

nvfp4_status nvfp4_layer_desc_from_checkpoint(const nvfp4_layer_info *info, nvfp4_layer_desc *out, nvfp4_reason *reason) {
  if (info == NULL || out == NULL) {
    return nvfp4_reject(reason, NVFP4_E_ARG, "info and out must not be NULL");
  }
  bool dense = info->layout == NVFP4_LAYOUT_NONE;
  nvfp4_dtype weight_dtype = dense ? dense_dtype(info) : NVFP4_DTYPE_NONE;
  if (dense && weight_dtype == NVFP4_DTYPE_NONE) {
    return not_dense(info, reason);
  }
  if (weight_dtype == NVFP4_DTYPE_F8_E4M3 && info->partition_count == 0) {
    return nvfp4_reject(reason, NVFP4_E_UNSUPPORTED, "layer %s: %s; needs a weight_scale of the whole tensor or of each row", info->name,
                        info->note);
  }
  *out = (nvfp4_layer_desc){.struct_size = sizeof *out,
                            .name = info->name,
                            .n = info->n,
                            .k = info->k,
                            .mode = info->mode,
                            .x_dtype = NVFP4_DTYPE_BF16,
                            .y_dtype = NVFP4_DTYPE_BF16,
                            .bias_dtype = info->bias != NULL ? info->bias->dtype : NVFP4_DTYPE_NONE,
                            .device = {NVFP4_DEVICE_CPU, 0},
                            .partitions = info->partitions,
                            .partition_count = info->partition_count,
                            .weight_dtype = weight_dtype};
  return NVFP4_OK;
}
