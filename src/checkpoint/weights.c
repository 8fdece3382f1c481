/* SPDX-License-Identifier: Apache-2.0 */
/* From a checkpoint's layer to what a layer is made of: its description and its weights, in the canonical form or as dense ones. */
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/reason.h"
#include "checkpoint/checkpoint.h"
#include "format/half.h"
#include "format/scale_layout.h"

/* 64 elements as ggml has them: in each 16, byte j holds element j low and element j + 8 high. */
static void repack_gguf(const uint8_t *in, int64_t n, int64_t k, uint8_t *codes, uint8_t *scales) {
  int64_t blocks = n * (k / GGUF_BLOCK_ELEMS);
  for (int64_t i = 0; i < blocks; i++, in += GGUF_BLOCK_BYTES) {
    memcpy(scales + 4 * i, in, 4);
    for (int64_t j = 0; j < 4; j++) {
      const uint8_t *q = in + 4 + 8 * j;
      uint8_t *out = codes + 32 * i + 8 * j;
      for (int64_t t = 0; t < 4; t++) {
        out[t] = (uint8_t)((q[2 * t] & 15) | q[2 * t + 1] << 4);
        out[t + 4] = (uint8_t)(q[2 * t] >> 4 | (q[2 * t + 1] & 0xF0));
      }
    }
  }
}

static void repack_comfy(const uint8_t *in, const uint8_t *tiles, int64_t n, int64_t k, uint8_t *codes, uint8_t *scales) {
  for (int64_t i = 0; i < n * (k / 2); i++) {
    codes[i] = (uint8_t)(in[i] >> 4 | in[i] << 4);
  }
  nvfp4_scales_to_linear(NVFP4_SCALES_128X4, tiles, n, k / NVFP4_BLOCK, scales, k / NVFP4_BLOCK);
}

/* The type that a weight has as a dense one; NONE: this library does not convert it. E4M3 stays what it is in a layer whose activations are FP8, too. */
static nvfp4_dtype dense_dtype(const nvfp4_layer_info *layer) {
  switch (layer->weight->rank == 2 ? layer->weight->dtype : NVFP4_DTYPE_NONE) {
    case NVFP4_DTYPE_F32:
    case NVFP4_DTYPE_F16:
    case NVFP4_DTYPE_BF16:
      return layer->weight->dtype;
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
      nvfp4_from_f32(values, dtype, to, layer->k);
      to += row * (dtype == NVFP4_DTYPE_F32 ? 4 : 2);
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
  int64_t stride = layer->k * (dtype == NVFP4_DTYPE_F32 ? 4 : dtype == NVFP4_DTYPE_F8_E4M3 ? 1 : 2);
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
  const nvfp4_tensor *scale = nvfp4_layer_scales(checkpoint, layer);
  int64_t n = layer->n, k = layer->k;
  nvfp4_weights weights = {.struct_size = sizeof weights, .memory = NVFP4_MEMORY_MAPPED_FILE, .n = n, .k = k};
  weights.codes_stride_bytes = k / 2;
  weights.scales_stride_bytes = k / NVFP4_BLOCK;
  if (layer->layout != NVFP4_LAYOUT_GGUF && layer->layout != NVFP4_LAYOUT_COMFY) {
    weights.codes = layer->weight->data;
    weights.scales = scale->data;
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
  if (layer->layout == NVFP4_LAYOUT_GGUF) {
    repack_gguf(layer->weight->data, n, k, copy, copy + code_bytes);
  } else {
    repack_comfy(layer->weight->data, scale->data, n, k, copy, copy + code_bytes);
  }
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
