/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tensors and configs -> layers. The tensors decide what a layer is; the config decides between W4A4 and W4A16, and where the two disagree it is the tensors
 * that count, with a warning. What would give wrong numbers is refused.
 *
 *   one tensor "L.weight" or "L.weight_packed"
 *     -> detect_layout   which of the five conventions L's other tensors follow; none: unquantised, FP8, or something else, with a note
 *     -> read_parts      types, shapes, global scales, rows of partitions, bias
 *     -> check_scales    every block scale
 *     -> choose_mode     W4A4 or W4A16
 */
#define _POSIX_C_SOURCE 200809L

#include <inttypes.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/reason.h"
#include "checkpoint/checkpoint.h"
#include "checkpoint/quant_config.h"
#include "format/scale_layout.h"

/* A projection fused on disk has at most q, k and v. */
#define MAX_PARTS 3

const nvfp4_convention nvfp4_conventions[] = {
    [NVFP4_LAYOUT_MODELOPT] = {".weight", ".weight_scale", ".weight_scale_2", ".input_scale", NVFP4_DTYPE_U8, NVFP4_DTYPE_F8_E4M3, 2,
                               NVFP4_GLOBAL_MULTIPLIER, false},
    [NVFP4_LAYOUT_COMPRESSED_TENSORS] = {".weight_packed", ".weight_scale", ".weight_global_scale", ".input_global_scale", NVFP4_DTYPE_U8,
                                         NVFP4_DTYPE_F8_E4M3, 2, NVFP4_GLOBAL_DIVISOR, false},
    [NVFP4_LAYOUT_GGUF] = {".weight", NULL, ".scale", ".input_scale", NVFP4_DTYPE_GGUF_NVFP4, NVFP4_DTYPE_NONE, 1, NVFP4_GLOBAL_MULTIPLIER,
                           true},
    [NVFP4_LAYOUT_MLX] = {".weight", ".scales", ".global_scale", NULL, NVFP4_DTYPE_U32, NVFP4_DTYPE_U8, 8, NVFP4_GLOBAL_AMAX, true},
    [NVFP4_LAYOUT_COMFY] = {".weight", ".weight_scale", ".weight_scale_2", ".input_scale", NVFP4_DTYPE_U8, NVFP4_DTYPE_F8_E4M3, 2,
                            NVFP4_GLOBAL_MULTIPLIER, false},
};

/* Things worth one warning each, however many layers they concern. */
typedef enum finding {
  FINDING_NOT_QUANTISED,
  FINDING_NOT_EXCLUDED,
  FINDING_INPUT_DROPPED,
  FINDING_DENORMAL,
  FINDING_SCALE_U8,
  FINDING_COUNT
} finding;

static const char *const finding_texts[FINDING_COUNT] = {
    [FINDING_NOT_QUANTISED] = "layers that the config says are quantised hold plain weights, taken as unquantised",
    [FINDING_NOT_EXCLUDED] = "layers that the config says are not NVFP4 have NVFP4 tensors, taken as NVFP4",
    [FINDING_INPUT_DROPPED] = "layers that have an input scale though the config says weight-only (W4A16), which is ignored",
    [FINDING_DENORMAL] = "layers that have a global scale that is denormal, so results may be inaccurate",
    [FINDING_SCALE_U8] = "layers that hold their block scales as U8, taken as F8_E4M3 bytes",
};

typedef struct builder {
  nvfp4_checkpoint *checkpoint;
  nvfp4_quant_config *config; /* NULL: only the tensors tell */
  uint32_t flags;
  nvfp4_reason *reason;
  nvfp4_layer_info *layers;
  size_t count;
  struct {
    size_t count;
    const char *first; /* layer */
  } findings[FINDING_COUNT];
  bool qkv_asked, qkv_known;
  int64_t qkv_rows[3];
} builder;

/* The tensors of an NVFP4 layer while it is read. */
typedef struct parts {
  const char *base;
  nvfp4_layout_kind layout;
  const nvfp4_tensor *weight, *scale, *global, *input, *bias;
  int64_t n, k;
  bool weight_only; /* the tensors themselves say so (Comfy's marker) */
  const char *note;
} parts;

/* -------------------------------------------------------------------------------------------------------------------- names */

const nvfp4_tensor *nvfp4_checkpoint_companion(const nvfp4_checkpoint *checkpoint, const char *base, const char *suffix) {
  size_t length = strlen(base), low = 0, high = checkpoint->tensor_count;
  while (low < high) {
    size_t middle = low + (high - low) / 2;
    const nvfp4_tensor *tensor = &checkpoint->tensors[middle];
    int order = strncmp(tensor->name, base, length);
    if (order == 0) {
      order = strcmp(tensor->name + length, suffix);
    }
    if (order == 0) {
      return tensor;
    }
    if (order < 0) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  return NULL;
}

/* Whether name ends in suffix and something stands before it. */
static bool ends_with(const char *name, const char *suffix) {
  size_t length = strlen(name), end = strlen(suffix);
  return length > end && strcmp(name + length - end, suffix) == 0;
}

/* The last segment of a layer's name: "qkv_proj". */
static const char *last_segment(const char *base) {
  const char *dot = strrchr(base, '.');
  return dot != NULL ? dot + 1 : base;
}

static bool is_embedding(const char *base) {
  const char *last = last_segment(base);
  return strstr(last, "embed") != NULL || strstr(last, "embd") != NULL || strcmp(last, "wte") == 0 || strcmp(last, "wpe") == 0;
}

static bool is_plain(nvfp4_dtype dtype) { return dtype == NVFP4_DTYPE_F32 || dtype == NVFP4_DTYPE_F16 || dtype == NVFP4_DTYPE_BF16; }

/* Weights of several layers in one tensor, listed, not served: experts, with or without ".weight" (their scales are not listed), and
 * whatever has 3 dimensions and no plain type, as a convolution has (MLX's switch_mlp.*.weight). */
static bool is_stacked(const nvfp4_tensor *tensor) {
  bool experts = (strstr(tensor->name, "experts") != NULL || strstr(tensor->name, "_exps") != NULL) && !ends_with(tensor->name, "_scale") &&
                 !ends_with(tensor->name, "_scale_2") && !ends_with(tensor->name, "scales") && !ends_with(tensor->name, "bias");
  return tensor->rank == 3 && (experts || (ends_with(tensor->name, ".weight") && !is_plain(tensor->dtype)));
}

/* "[32, 64]" */
static const char *shape_text(const nvfp4_tensor *tensor, char text[128]) {
  size_t used = (size_t)snprintf(text, 128, "[");
  for (int i = 0; i < tensor->rank && used < 100; i++) {
    used += (size_t)snprintf(text + used, 128 - used, "%s%" PRId64, i > 0 ? ", " : "", tensor->shape[i]);
  }
  snprintf(text + used, 128 - used, "]");
  return text;
}

static void found(builder *b, finding what, const char *base) {
  if (b->findings[what].count++ == 0) {
    b->findings[what].first = base;
  }
}

static nvfp4_status missing(const builder *b, const char *base, const char *suffix, const nvfp4_tensor *because, const char *why) {
  return nvfp4_reject(b->reason, NVFP4_E_FORMAT, "tensor %s%s is missing: %s holds %s, %s", base, suffix, because->file, because->name,
                      why);
}

/* ------------------------------------------------------------------------------------------------------------------- layout */

/* Comfy's marker: a JSON text in a U8 tensor. */
static nvfp4_status read_marker(const builder *b, const nvfp4_tensor *marker, parts *p) {
  json_error_t error;
  json_t *root = marker->dtype == NVFP4_DTYPE_U8 ? json_loadb(marker->data, (size_t)marker->bytes, JSON_REJECT_DUPLICATES, &error) : NULL;
  const char *format = json_string_value(json_object_get(root, "format"));
  nvfp4_status status = NVFP4_OK;
  if (format == NULL) {
    status = nvfp4_reject(b->reason, NVFP4_E_FORMAT, "%s: tensor %s is no JSON object with a \"format\"; needs {\"format\": \"nvfp4\"}",
                          marker->file, marker->name);
  } else if (strcmp(format, "nvfp4") == 0) {
    p->layout = NVFP4_LAYOUT_COMFY;
    p->weight_only = json_is_true(json_object_get(root, "full_precision_matrix_mult"));
  }
  json_decref(root);
  return status;
}

/* Sets p->layout; NVFP4_LAYOUT_NONE if nothing says NVFP4. */
static nvfp4_status detect_layout(const builder *b, const nvfp4_quant_scheme *scheme, bool packed, parts *p) {
  const nvfp4_checkpoint *checkpoint = b->checkpoint;
  nvfp4_dtype dtype = p->weight->dtype;
  if (dtype == NVFP4_DTYPE_GGUF_NVFP4) {
    p->layout = NVFP4_LAYOUT_GGUF;
    return NVFP4_OK;
  }
  const nvfp4_tensor *marker = nvfp4_checkpoint_companion(checkpoint, p->base, ".comfy_quant");
  if (marker != NULL) {
    return read_marker(b, marker, p);
  }
  const nvfp4_tensor *multiplier = nvfp4_checkpoint_companion(checkpoint, p->base, ".weight_scale_2");
  const nvfp4_tensor *divisor = nvfp4_checkpoint_companion(checkpoint, p->base, ".weight_global_scale");
  const nvfp4_tensor *scale = nvfp4_checkpoint_companion(checkpoint, p->base, ".weight_scale");
  if (multiplier != NULL && divisor != NULL) {
    return nvfp4_reject(b->reason, NVFP4_E_FORMAT,
                        "%s: layer %s has both %s (ModelOpt's multiplier) and %s (compressed-tensors' divisor): which one counts is not "
                        "known; remove one",
                        p->weight->file, p->base, multiplier->name, divisor->name);
  }
  bool says_nvfp4 = scheme->known && (scheme->mode == NVFP4_MODE_W4A4 || scheme->mode == NVFP4_MODE_W4A16);
  if (packed) {
    if (nvfp4_checkpoint_companion(checkpoint, p->base, ".weight") != NULL) {
      return nvfp4_reject(b->reason, NVFP4_E_FORMAT, "%s: layer %s has both .weight and .weight_packed: remove one", p->weight->file,
                          p->base);
    }
    if (multiplier != NULL) {
      return nvfp4_reject(b->reason, NVFP4_E_FORMAT,
                          "%s: layer %s has weight_packed (compressed-tensors) with %s (ModelOpt): needs weight_global_scale",
                          p->weight->file, p->base, multiplier->name);
    }
    p->layout = dtype == NVFP4_DTYPE_U8 || divisor != NULL ? NVFP4_LAYOUT_COMPRESSED_TENSORS : NVFP4_LAYOUT_NONE;
    return NVFP4_OK;
  }
  if (divisor != NULL) {
    return missing(b, p->base, ".weight_packed", divisor, "so the layer follows compressed-tensors");
  }
  const nvfp4_tensor *mlx = dtype == NVFP4_DTYPE_U32 ? nvfp4_checkpoint_companion(checkpoint, p->base, ".scales") : NULL;
  if (mlx != NULL && mlx->dtype == NVFP4_DTYPE_U8 && (!scheme->known || says_nvfp4)) {
    p->layout = NVFP4_LAYOUT_MLX;
  } else if (multiplier != NULL || (dtype == NVFP4_DTYPE_U8 && (scale != NULL || says_nvfp4)) || (is_plain(dtype) && scale != NULL)) {
    p->layout = NVFP4_LAYOUT_MODELOPT;
  }
  return NVFP4_OK;
}

/* ------------------------------------------------------------------------------------------------------------ types, shapes */

static nvfp4_status check_weight(const builder *b, parts *p) {
  const nvfp4_convention *names = &nvfp4_conventions[p->layout];
  const nvfp4_tensor *weight = p->weight;
  char text[128];
  if (weight->dtype != names->weight_dtype) {
    return nvfp4_reject(
        b->reason, NVFP4_E_DTYPE,
        "%s: tensor %s is %s, but the layer has NVFP4 scales: needs %s; an FP8 or unquantised layer must have no such scales", weight->file,
        weight->name, weight->dtype_name, nvfp4_dtype_name(names->weight_dtype));
  }
  if (weight->rank != 2) {
    return nvfp4_reject(b->reason, NVFP4_E_SHAPE, "%s: tensor %s has shape %s; a linear layer's weight needs 2 dimensions", weight->file,
                        weight->name, shape_text(weight, text));
  }
  p->n = weight->shape[0];
  if (p->n <= 0 || __builtin_mul_overflow(weight->shape[1], names->k_per_column, &p->k) || p->k <= 0) {
    return nvfp4_reject(b->reason, NVFP4_E_SHAPE, "%s: tensor %s has shape %s: N = %" PRId64 "; N and K must be positive", weight->file,
                        weight->name, shape_text(weight, text), p->n);
  }
  int64_t multiple = p->layout == NVFP4_LAYOUT_GGUF ? GGUF_BLOCK_ELEMS : NVFP4_BLOCK;
  if (p->k % multiple != 0) {
    return nvfp4_reject(b->reason, NVFP4_E_SHAPE, "%s: tensor %s has shape %s: K = %" PRId64 " is not a multiple of %" PRId64, weight->file,
                        weight->name, shape_text(weight, text), p->k, multiple);
  }
  return NVFP4_OK;
}

static nvfp4_status check_scale(builder *b, const parts *p) {
  const nvfp4_convention *names = &nvfp4_conventions[p->layout];
  const nvfp4_tensor *scale = p->scale;
  char text[128];
  if (scale == NULL) {
    return missing(b, p->base, names->scale, p->weight, "whose block scales it would be");
  }
  if (scale->dtype != names->scale_dtype) {
    if (scale->dtype != NVFP4_DTYPE_U8) {
      return nvfp4_reject(b->reason, NVFP4_E_DTYPE, "%s: tensor %s is %s; NVFP4 block scales need %s", scale->file, scale->name,
                          scale->dtype_name, nvfp4_dtype_name(names->scale_dtype));
    }
    found(b, FINDING_SCALE_U8, p->base);
  }
  int64_t blocks = p->k / NVFP4_BLOCK, tiled_rows = nvfp4_round_up(p->n, 128), tiled_columns = nvfp4_round_up(blocks, 4);
  bool tiled = p->layout == NVFP4_LAYOUT_COMFY;
  int64_t rows = tiled ? tiled_rows : p->n, columns = tiled ? tiled_columns : blocks;
  if (scale->rank != 2 || scale->shape[0] != rows || scale->shape[1] != columns) {
    const char *hint = "";
    if (scale->rank == 2 && scale->shape[0] == tiled_rows && scale->shape[1] == tiled_columns) {
      hint = "; are they swizzled on disk? That needs a comfy_quant marker";
    } else if (scale->rank == 2 && scale->shape[0] == p->n && scale->shape[1] * 2 == blocks) {
      hint = "; group size 32? NVFP4 has 16";
    }
    return nvfp4_reject(b->reason, NVFP4_E_SHAPE,
                        "%s: tensor %s has shape %s; a weight of N = %" PRId64 ", K = %" PRId64 " needs [%" PRId64 ", %" PRId64 "]%s",
                        scale->file, scale->name, shape_text(scale, text), p->n, p->k, rows, columns, hint);
  }
  return NVFP4_OK;
}

static nvfp4_status check_bias(const builder *b, parts *p) {
  if (p->bias == NULL) {
    return NVFP4_OK;
  }
  char text[128];
  if (!is_plain(p->bias->dtype)) {
    return nvfp4_reject(b->reason, NVFP4_E_DTYPE, "%s: tensor %s is %s; a bias needs F32, F16 or BF16", p->bias->file, p->bias->name,
                        p->bias->dtype_name);
  }
  /* Comfy pads N to a multiple of 16 and keeps no record of it, but a bias is not padded. */
  if (p->layout == NVFP4_LAYOUT_COMFY && p->bias->rank == 1 && p->bias->shape[0] > 0 && nvfp4_round_up(p->bias->shape[0], 16) == p->n) {
    p->n = p->bias->shape[0];
    p->note = "";
  }
  if (p->bias->rank != 1 || p->bias->shape[0] != p->n) {
    return nvfp4_reject(b->reason, NVFP4_E_SHAPE, "%s: tensor %s has shape %s; a layer of N = %" PRId64 " needs [%" PRId64 "]",
                        p->bias->file, p->bias->name, shape_text(p->bias, text), p->n, p->n);
  }
  return NVFP4_OK;
}

/* What needs more than NVFP4's own arithmetic would be silently wrong without it. */
static nvfp4_status refuse_extras(const builder *b, const parts *p) {
  static const char *const extras[][2] = {{".pre_quant_scale", "AWQ scales of the activations"},
                                          {".svdquant_lora_a", "a low-rank part (SVDQuant)"},
                                          {".weight_zero_point", "zero points"},
                                          {".weight_g_idx", "an order of columns"}};
  for (size_t i = 0; i < sizeof extras / sizeof extras[0]; i++) {
    const nvfp4_tensor *tensor = nvfp4_checkpoint_companion(b->checkpoint, p->base, extras[i][0]);
    if (tensor != NULL) {
      return nvfp4_reject(b->reason, NVFP4_E_UNSUPPORTED, "%s: tensor %s: the NVFP4 layer has %s; not supported", tensor->file,
                          tensor->name, extras[i][1]);
    }
  }
  return NVFP4_OK;
}

/* ------------------------------------------------------------------------------------------------------------ global scales */

/* Values of a global scale, one or one a part. */
static nvfp4_status read_global(builder *b, const parts *p, const nvfp4_tensor *tensor, float values[MAX_PARTS], int64_t *count) {
  if (tensor->dtype != NVFP4_DTYPE_F32) {
    return nvfp4_reject(b->reason, NVFP4_E_DTYPE, "%s: tensor %s is %s; a global scale needs F32", tensor->file, tensor->name,
                        tensor->dtype_name);
  }
  uint64_t entries = tensor->bytes / sizeof(float);
  if (entries == 0 || entries > MAX_PARTS) {
    return nvfp4_reject(b->reason, NVFP4_E_SHAPE,
                        "%s: tensor %s has %" PRIu64 " entries; needs 1, or one a part of a fused layer (3 of q, k, v; 2 of gate, up)",
                        tensor->file, tensor->name, entries);
  }
  memcpy(values, tensor->data, tensor->bytes);
  for (uint64_t i = 0; i < entries; i++) {
    if (!isfinite(values[i]) || !(values[i] > 0)) {
      return nvfp4_reject(b->reason, NVFP4_E_FORMAT, "%s: tensor %s, entry %" PRIu64 " is %g; a global scale must be finite and > 0",
                          tensor->file, tensor->name, i, (double)values[i]);
    }
    if (fpclassify(values[i]) == FP_SUBNORMAL) {
      found(b, FINDING_DENORMAL, p->base);
    }
  }
  *count = (int64_t)entries;
  return NVFP4_OK;
}

/* Rows of each of `count` parts of a layer that is fused on disk. */
static nvfp4_status part_rows(builder *b, const parts *p, int64_t count, int64_t rows[MAX_PARTS]) {
  const char *last = last_segment(p->base), *why = "its name is neither qkv nor gate_up";
  if (count == 1) {
    rows[0] = p->n;
    return NVFP4_OK;
  }
  if (count == 3 && strstr(last, "qkv") != NULL) {
    if (!b->qkv_asked) {
      b->qkv_known = nvfp4_config_qkv_rows(b->checkpoint->config, b->qkv_rows);
      b->qkv_asked = true;
    }
    if (b->qkv_known && b->qkv_rows[0] + b->qkv_rows[1] + b->qkv_rows[2] == p->n) {
      memcpy(rows, b->qkv_rows, sizeof b->qkv_rows);
      return NVFP4_OK;
    }
    why = b->qkv_known ? "config.json's heads do not add up to N" : "config.json with num_attention_heads is needed";
  } else if (count == 2 && strstr(last, "qkv") == NULL && (strstr(last, "gate_up") != NULL || strcmp(last, "w13") == 0)) {
    if (p->n % 2 == 0) {
      rows[0] = rows[1] = p->n / 2;
      return NVFP4_OK;
    }
    why = "N is odd";
  }
  return nvfp4_reject(b->reason, NVFP4_E_UNSUPPORTED,
                      "%s: tensor %s has %" PRId64 " entries, but which of the %" PRId64 " rows of %s each holds for cannot be told: %s",
                      p->weight->file, p->global->name, count, p->n, p->base, why);
}

/* Partitions of the layer; p->input NULL: no input scale. */
static nvfp4_status make_partitions(builder *b, const parts *p, nvfp4_layer_info *layer) {
  const nvfp4_convention *names = &nvfp4_conventions[p->layout];
  float weights[MAX_PARTS] = {1}, inputs[MAX_PARTS] = {0};
  int64_t weight_count = 1, input_count = 1, rows[MAX_PARTS];
  if (p->global != NULL) {
    NVFP4_TRY(read_global(b, p, p->global, weights, &weight_count));
  } else if (!names->global_optional) {
    return missing(b, p->base, names->global, p->weight, "which needs a global scale");
  }
  if (p->input != NULL) {
    NVFP4_TRY(read_global(b, p, p->input, inputs, &input_count));
  }
  if (weight_count > 1 && input_count > 1 && weight_count != input_count) {
    return nvfp4_reject(b->reason, NVFP4_E_SHAPE, "%s: tensor %s has %" PRId64 " entries and %s has %" PRId64 "; needs as many, or 1",
                        p->input->file, p->input->name, input_count, p->global->name, weight_count);
  }
  int64_t count = weight_count > input_count ? weight_count : input_count;
  NVFP4_TRY(part_rows(b, p, count, rows));
  nvfp4_partition *partitions = nvfp4_checkpoint_alloc(b->checkpoint, (size_t)count * sizeof *partitions);
  if (partitions == NULL) {
    return nvfp4_reject(b->reason, NVFP4_E_NOMEM, "no memory for the partitions of %s", p->base);
  }
  int64_t first = 0;
  for (int64_t i = 0; i < count; i++) {
    partitions[i] = (nvfp4_partition){.n_first = first, .n_rows = rows[i]};
    partitions[i].weight = (nvfp4_global){weights[weight_count > 1 ? i : 0], p->global != NULL ? names->kind : NVFP4_GLOBAL_MULTIPLIER};
    partitions[i].input = (nvfp4_global){inputs[input_count > 1 ? i : 0], names->kind};
    first += rows[i];
  }
  layer->partitions = partitions;
  layer->partition_count = count;
  return NVFP4_OK;
}

/* ------------------------------------------------------------------------------------------------------------- block scales */

/* Legal scales are 0x00 .. 0x7E; 0x7F is NaN, and from 0x80 on the sign is set. The largest byte tells, and a maximum vectorises. */
static bool all_legal(const uint8_t *scales, size_t count) {
  uint8_t largest = 0;
  for (size_t i = 0; i < count; i++) {
    largest = scales[i] > largest ? scales[i] : largest;
  }
  return largest < 0x7F;
}

static nvfp4_status refuse_scale(const builder *b, const nvfp4_tensor *tensor, uint8_t byte, int64_t row, int64_t block) {
  const char *what = (byte & 0x7F) == 0x7F ? "NaN" : "negative";
  const char *more = tensor->dtype == NVFP4_DTYPE_GGUF_NVFP4 && byte == 0x7F ? " (ggml would read it as 0)" : "";
  return nvfp4_reject(b->reason, NVFP4_E_FORMAT,
                      "%s: tensor %s: %s (0x%02X) at row %" PRId64 ", block %" PRId64 "%s; block scales must be numbers >= 0", tensor->file,
                      tensor->name, what, byte, row, block, more);
}

static nvfp4_status check_gguf_scales(const builder *b, const parts *p) {
  const uint8_t *block = p->weight->data;
  int64_t blocks = p->k / GGUF_BLOCK_ELEMS;
  for (int64_t row = 0; row < p->n; row++) {
    for (int64_t i = 0; i < blocks; i++, block += GGUF_BLOCK_BYTES) {
      for (int64_t j = 0; j < 4; j++) {
        if (block[j] >= 0x7F) {
          return refuse_scale(b, p->weight, block[j], row, 4 * i + j);
        }
      }
    }
  }
  return NVFP4_OK;
}

static nvfp4_status check_scales(const builder *b, const parts *p) {
  if ((b->flags & NVFP4_OPEN_SKIP_SCALES) != 0) {
    return NVFP4_OK;
  }
  if (p->layout == NVFP4_LAYOUT_GGUF) {
    return check_gguf_scales(b, p);
  }
  const uint8_t *scales = p->scale->data;
  if (all_legal(scales, (size_t)p->scale->bytes)) {
    return NVFP4_OK;
  }
  nvfp4_scale_layout order = p->layout == NVFP4_LAYOUT_COMFY ? NVFP4_SCALES_128X4 : NVFP4_SCALES_LINEAR;
  int64_t blocks = p->k / NVFP4_BLOCK;
  for (int64_t row = 0; row < p->n; row++) {
    for (int64_t block = 0; block < blocks; block++) {
      uint8_t byte = scales[nvfp4_scale_offset(order, blocks, row, block)];
      if (byte >= 0x7F) {
        return refuse_scale(b, p->scale, byte, row, block);
      }
    }
  }
  return NVFP4_OK; /* it lies in the padding of Comfy's tiles, which nobody reads */
}

/* ------------------------------------------------------------------------------------------------------------------- layers */

static const char *note_text(builder *b, const char *format, const char *a, const char *c) {
  char text[256];
  int length = snprintf(text, sizeof text, format, a, c);
  size_t bytes = length < 0 ? 0 : (size_t)length < sizeof text ? (size_t)length : sizeof text - 1;
  const char *note = nvfp4_checkpoint_strdup(b->checkpoint, text, bytes);
  return note != NULL ? note : "";
}

static nvfp4_status choose_mode(builder *b, const nvfp4_quant_scheme *scheme, parts *p, nvfp4_layer_info *layer) {
  const nvfp4_convention *names = &nvfp4_conventions[p->layout];
  bool weight_only = p->weight_only || (scheme->known && scheme->mode == NVFP4_MODE_W4A16);
  if (scheme->known && scheme->mode == NVFP4_MODE_W4A4 && p->input == NULL && names->input != NULL) {
    return nvfp4_reject(b->reason, NVFP4_E_FORMAT,
                        "%s: tensor %s%s is missing: the config says W4A4 (%s), which needs it; for weight-only use W4A16_NVFP4",
                        p->weight->file, p->base, names->input, scheme->why);
  }
  if (scheme->known && (scheme->mode == NVFP4_MODE_UNQUANTISED || scheme->mode == NVFP4_MODE_FP8)) {
    found(b, FINDING_NOT_EXCLUDED, p->base);
    p->note = note_text(b, "NVFP4 by its tensors, but the config says %s (%s)", nvfp4_mode_name(scheme->mode), scheme->why);
  }
  if (weight_only && p->input != NULL) {
    found(b, FINDING_INPUT_DROPPED, p->base);
    p->note = note_text(b, "weight-only: %s is ignored%s", p->input->name, "");
    p->input = NULL;
  }
  layer->mode = p->input != NULL ? NVFP4_MODE_W4A4 : NVFP4_MODE_W4A16;
  return NVFP4_OK;
}

static nvfp4_status add_nvfp4(builder *b, const nvfp4_quant_scheme *scheme, parts *p, nvfp4_layer_info *layer) {
  const nvfp4_convention *names = &nvfp4_conventions[p->layout];
  p->scale = names->scale != NULL ? nvfp4_checkpoint_companion(b->checkpoint, p->base, names->scale) : NULL;
  p->global = nvfp4_checkpoint_companion(b->checkpoint, p->base, names->global);
  p->input = names->input != NULL ? nvfp4_checkpoint_companion(b->checkpoint, p->base, names->input) : NULL;
  p->bias = nvfp4_checkpoint_companion(b->checkpoint, p->base, ".bias");
  p->note = p->layout == NVFP4_LAYOUT_COMFY ? "N as on disk: up to 15 rows of it may be padding (zeros)" : "";
  NVFP4_TRY(check_weight(b, p));
  if (names->scale != NULL) {
    NVFP4_TRY(check_scale(b, p));
  }
  NVFP4_TRY(refuse_extras(b, p));
  NVFP4_TRY(check_bias(b, p));
  NVFP4_TRY(check_scales(b, p));
  NVFP4_TRY(choose_mode(b, scheme, p, layer));
  NVFP4_TRY(make_partitions(b, p, layer));
  layer->layout = p->layout;
  layer->n = p->n;
  layer->k = p->k;
  layer->bias = p->bias;
  layer->note = p->note;
  return NVFP4_OK;
}

/* Scales of an FP8 or dense layer: one, or one a row; of any plain type. *values: in the arena. *count 0: there is no such tensor, or it has another shape. */
static nvfp4_status read_factors(builder *b, const parts *p, const char *suffix, float **values, int64_t *count) {
  const nvfp4_tensor *tensor = nvfp4_checkpoint_companion(b->checkpoint, p->base, suffix);
  int64_t n = p->weight->shape[0], elements = 1;
  *count = 0;
  if (tensor == NULL || !is_plain(tensor->dtype)) {
    return NVFP4_OK;
  }
  for (int i = 0; i < tensor->rank; i++) {
    bool rows = i == 0 && tensor->shape[0] == n;
    elements = tensor->shape[i] == 1 || rows ? elements * tensor->shape[i] : 0;
  }
  if (elements == 0) {
    return NVFP4_OK;
  }
  *values = nvfp4_checkpoint_alloc(b->checkpoint, (size_t)elements * sizeof **values);
  if (*values == NULL) {
    return nvfp4_reject(b->reason, NVFP4_E_NOMEM, "no memory for the scales of %s", p->base);
  }
  *count = elements;
  return nvfp4_tensor_to_f32(tensor, 0, (uint64_t)elements, *values, b->reason);
}

/* weights: a factor of the whole tensor, or one for each row; input: 0 if there is none. */
static nvfp4_status set_factors(builder *b, const parts *p, const float *weights, int64_t count, float input, nvfp4_layer_info *layer) {
  nvfp4_partition *partitions = nvfp4_checkpoint_alloc(b->checkpoint, (size_t)count * sizeof *partitions);
  if (partitions == NULL) {
    return nvfp4_reject(b->reason, NVFP4_E_NOMEM, "no memory for the partitions of %s", p->base);
  }
  for (int64_t i = 0; i < count; i++) {
    partitions[i] = (nvfp4_partition){.n_first = i, .n_rows = layer->n / count, .weight.value = weights[i], .input.value = input};
  }
  layer->partitions = partitions;
  layer->partition_count = count;
  return NVFP4_OK;
}

/*
 * E4M3 weights. With an input_scale, or where the config says that activations are FP8 too (then each row gets its own scale), an FP8 layer; otherwise a dense one,
 * whose weights have a factor. Without a usable weight_scale (there are scales of blocks) the layer has no partitions, and cannot be run.
 */
static nvfp4_status add_fp8(builder *b, const nvfp4_quant_scheme *scheme, const parts *p, const char *scale, nvfp4_layer_info *layer) {
  float *weights, *inputs;
  int64_t weight_count, input_count;
  NVFP4_TRY(read_factors(b, p, scale, &weights, &weight_count));
  NVFP4_TRY(read_factors(b, p, ".input_scale", &inputs, &input_count));
  bool quantised = input_count == 1 || (scheme->known && scheme->mode == NVFP4_MODE_FP8);
  layer->mode = quantised || weight_count == 0 ? NVFP4_MODE_FP8 : NVFP4_MODE_UNQUANTISED;
  layer->note = weight_count == 0  ? "FP8 layer without a weight_scale that can be used: not NVFP4"
                : !quantised       ? "FP8 weights, 16-bit activations: not NVFP4"
                : input_count == 0 ? "FP8 layer, an activation scale a token: not NVFP4"
                                   : "FP8 layer: not NVFP4";
  return weight_count == 0 ? NVFP4_OK : set_factors(b, p, weights, weight_count, input_count == 1 ? inputs[0] : 0, layer);
}

/* Whether a layer of a GGUF file was FP8 before this library converted it: its weights are bf16 there, which holds every E4M3 number. */
static bool was_fp8(const builder *b, const parts *p) {
  char key[512], type[16];
  snprintf(key, sizeof key, "nvfp4.dtype.%s", p->weight->name);
  return p->weight->dtype == NVFP4_DTYPE_BF16 && nvfp4_checkpoint_metadata(b->checkpoint, key, type, sizeof type) &&
         strcmp(type, nvfp4_dtype_name(NVFP4_DTYPE_F8_E4M3)) == 0;
}

/* The `.scale` that llama.cpp multiplies any layer of GGUF by. */
static nvfp4_status add_gguf_factor(builder *b, const parts *p, nvfp4_layer_info *layer) {
  float *factor;
  int64_t count;
  NVFP4_TRY(read_factors(b, p, ".scale", &factor, &count));
  return count == 1 ? set_factors(b, p, factor, 1, 0, layer) : NVFP4_OK;
}

/* A weight that is not NVFP4: what it is, and why. */
static nvfp4_status add_other(builder *b, const nvfp4_quant_scheme *scheme, const parts *p, nvfp4_layer_info *layer) {
  const nvfp4_tensor *weight = p->weight;
  layer->n = 1;
  for (int i = 0; i + 1 < weight->rank; i++) {
    /* A tensor without bytes may have any shape. */
    if (__builtin_mul_overflow(layer->n, weight->shape[i], &layer->n)) {
      layer->n = 0;
    }
  }
  layer->k = weight->rank > 0 ? weight->shape[weight->rank - 1] : 1;
  layer->lookup = is_embedding(p->base);
  const nvfp4_tensor *bias = nvfp4_checkpoint_companion(b->checkpoint, p->base, ".bias");
  layer->bias = bias != NULL && bias->rank == 1 && bias->shape[0] == layer->n && is_plain(bias->dtype) ? bias : NULL;
  bool quantised = scheme->known && scheme->mode != NVFP4_MODE_UNQUANTISED, gguf = b->checkpoint->gguf != NULL;
  if (weight->rank == 3) {
    layer->note = "weights of several layers in one tensor (3 dimensions): not supported";
  } else if (weight->dtype == NVFP4_DTYPE_F8_E4M3 && weight->rank == 2) {
    NVFP4_TRY(add_fp8(b, scheme, p, ".weight_scale", layer));
  } else if (gguf && weight->rank == 2 && was_fp8(b, p)) {
    NVFP4_TRY(add_fp8(b, scheme, p, ".scale", layer));
  } else if (!is_plain(weight->dtype)) {
    layer->note = note_text(b, "%s weight%s: not NVFP4", weight->dtype_name, "");
  } else if (is_embedding(p->base)) {
    layer->note = "embedding";
  } else if (quantised) {
    found(b, FINDING_NOT_QUANTISED, p->base);
    layer->note = note_text(b, "%s weight, but the config says it is quantised (%s)", weight->dtype_name, scheme->why);
  } else {
    layer->note = note_text(b, "not quantised: %s%s", scheme->known ? scheme->why : weight->dtype_name, scheme->known ? "" : " weight");
  }
  if (gguf && weight->rank == 2 && layer->partitions == NULL) {
    NVFP4_TRY(add_gguf_factor(b, p, layer));
  }
  if (bias != NULL && layer->bias == NULL) {
    layer->note = note_text(b, "%s does not fit and is left out%s", bias->name, "");
  }
  return NVFP4_OK;
}

static nvfp4_status add_layer(builder *b, const nvfp4_tensor *weight, bool packed, size_t base_length) {
  const char *base = nvfp4_checkpoint_strdup(b->checkpoint, weight->name, base_length);
  if (base == NULL) {
    return nvfp4_reject(b->reason, NVFP4_E_NOMEM, "no memory for the layer of %s", weight->name);
  }
  parts p = {.base = base, .weight = weight};
  nvfp4_layer_info *layer = &b->layers[b->count];
  *layer = (nvfp4_layer_info){.name = base, .weight = weight, .note = ""};
  nvfp4_quant_scheme scheme;
  NVFP4_TRY(nvfp4_quant_config_match(b->config, base, &scheme, b->reason));
  if (weight->rank != 3) {
    NVFP4_TRY(detect_layout(b, &scheme, packed, &p));
  }
  if (p.layout != NVFP4_LAYOUT_NONE) {
    NVFP4_TRY(add_nvfp4(b, &scheme, &p, layer));
  } else {
    NVFP4_TRY(add_other(b, &scheme, &p, layer));
  }
  b->count++;
  return NVFP4_OK;
}

/* Length of the layer's name if this tensor is a layer's weight; 0 otherwise. */
static size_t layer_name_length(const nvfp4_tensor *tensor, bool *packed) {
  size_t length = strlen(tensor->name);
  *packed = ends_with(tensor->name, ".weight_packed");
  if (*packed) {
    return length - strlen(".weight_packed");
  }
  if (!ends_with(tensor->name, ".weight")) {
    return is_stacked(tensor) ? length : 0;
  }
  length -= strlen(".weight");
  /* Norms have one dimension, convolutions three or more. Bytes of any rank are looked at: they may claim to be NVFP4. */
  return tensor->rank == 2 || is_stacked(tensor) || tensor->dtype == NVFP4_DTYPE_U8 ? length : 0;
}

/* Scales whose weight is not there: a shard is missing, or a tool has renamed things. */
static nvfp4_status check_orphan(const builder *b, const nvfp4_tensor *tensor) {
  static const char *const suffixes[] = {".weight_scale_2", ".weight_global_scale", ".weight_scale"};
  for (size_t i = 0; i < sizeof suffixes / sizeof suffixes[0]; i++) {
    if (!ends_with(tensor->name, suffixes[i]) || (i == 2 && tensor->dtype != NVFP4_DTYPE_F8_E4M3)) {
      continue;
    }
    char *base = strndup(tensor->name, strlen(tensor->name) - strlen(suffixes[i]));
    if (base == NULL) {
      return nvfp4_reject(b->reason, NVFP4_E_NOMEM, "no memory to look at %s", tensor->name);
    }
    nvfp4_status status = NVFP4_OK;
    if (nvfp4_checkpoint_companion(b->checkpoint, base, ".weight") == NULL &&
        nvfp4_checkpoint_companion(b->checkpoint, base, ".weight_packed") == NULL) {
      status = missing(b, base, i == 1 ? ".weight_packed" : ".weight", tensor, "its scale");
    }
    free(base);
    return status;
  }
  return NVFP4_OK;
}

static int compare_layers(const void *a, const void *b) {
  return strcmp(((const nvfp4_layer_info *)a)->name, ((const nvfp4_layer_info *)b)->name);
}

/* Without a projection of its own, a language model's output is projected by its token embedding. */
static void find_tied_output(builder *b) {
  static const char *const outputs[] = {"lm_head", "output"}, *const embeddings[] = {"embed_tokens", "token_embd", "wte"};
  for (size_t i = 0; i < b->count; i++) {
    const char *last = last_segment(b->layers[i].name);
    if (strcmp(last, outputs[0]) == 0 || strcmp(last, outputs[1]) == 0) {
      return;
    }
  }
  for (size_t i = 0; i < b->count; i++) {
    nvfp4_layer_info *layer = &b->layers[i];
    for (size_t j = 0; j < sizeof embeddings / sizeof embeddings[0]; j++) {
      if (layer->lookup && strcmp(last_segment(layer->name), embeddings[j]) == 0) {
        layer->lookup = false;
        layer->note = "embedding, and the output projection";
      }
    }
  }
}

static nvfp4_status warn_findings(builder *b) {
  for (int i = 0; i < FINDING_COUNT; i++) {
    if (b->findings[i].count > 0) {
      NVFP4_TRY(nvfp4_checkpoint_warn(b->checkpoint, b->reason, "%s: %zu (the first: %s)", finding_texts[i], b->findings[i].count,
                                      b->findings[i].first));
    }
  }
  return NVFP4_OK;
}

static nvfp4_status find_layers(builder *b) {
  const nvfp4_checkpoint *checkpoint = b->checkpoint;
  size_t candidates = 0;
  bool packed;
  for (size_t i = 0; i < checkpoint->tensor_count; i++) {
    candidates += layer_name_length(&checkpoint->tensors[i], &packed) != 0;
  }
  b->layers = calloc(candidates + 1, sizeof *b->layers);
  if (b->layers == NULL) {
    return nvfp4_reject(b->reason, NVFP4_E_NOMEM, "no memory for %zu layers", candidates);
  }
  for (size_t i = 0; i < checkpoint->tensor_count; i++) {
    const nvfp4_tensor *tensor = &checkpoint->tensors[i];
    size_t length = layer_name_length(tensor, &packed);
    NVFP4_TRY(length != 0 ? add_layer(b, tensor, packed, length) : check_orphan(b, tensor));
  }
  qsort(b->layers, b->count, sizeof *b->layers, compare_layers);
  find_tied_output(b);
  return warn_findings(b);
}

nvfp4_status nvfp4_checkpoint_find_layers(nvfp4_checkpoint *checkpoint, uint32_t flags, nvfp4_reason *reason) {
  builder b = {.checkpoint = checkpoint, .flags = flags, .reason = reason};
  NVFP4_TRY(nvfp4_quant_config_parse(checkpoint->config, checkpoint->quant_config, &b.config, reason));
  nvfp4_status status = find_layers(&b);
  nvfp4_quant_config_free(b.config);
  if (status != NVFP4_OK) {
    free(b.layers);
    return status;
  }
  checkpoint->layers = b.layers;
  checkpoint->layer_count = b.count;
  return NVFP4_OK;
}

/* ------------------------------------------------------------------------------------------------------------------- public */

size_t nvfp4_checkpoint_layer_count(const nvfp4_checkpoint *checkpoint) { return checkpoint != NULL ? checkpoint->layer_count : 0; }

const nvfp4_layer_info *nvfp4_checkpoint_layer(const nvfp4_checkpoint *checkpoint, size_t index) {
  return checkpoint != NULL && index < checkpoint->layer_count ? &checkpoint->layers[index] : NULL;
}

const nvfp4_layer_info *nvfp4_checkpoint_find_layer(const nvfp4_checkpoint *checkpoint, const char *name) {
  if (checkpoint == NULL || name == NULL || checkpoint->layer_count == 0) {
    return NULL;
  }
  nvfp4_layer_info key = {.name = name};
  return bsearch(&key, checkpoint->layers, checkpoint->layer_count, sizeof key, compare_layers);
}

const nvfp4_tensor *nvfp4_layer_scales(const nvfp4_checkpoint *checkpoint, const nvfp4_layer_info *layer) {
  const char *suffix = nvfp4_conventions[layer->layout].scale;
  return suffix != NULL ? nvfp4_checkpoint_companion(checkpoint, layer->name, suffix) : NULL;
}
