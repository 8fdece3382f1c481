/* SPDX-License-Identifier: Apache-2.0 */
/* The tensors that the items become in the target layout, the metadata beside them, and what is lost. */
#define _POSIX_C_SOURCE 200809L
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/reason.h"
#include "converter/converter.h"
#include "format/e4m3.h"
#include "format/half.h"

#define COMFY_ROWS 16 /* N is padded to a multiple of it */

void nvfp4_convert_tell(nvfp4_convert_job *job, bool loss, const char *tensor, const char *format, ...) {
  char text[320];
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(text, sizeof text, format, arguments);
  va_end(arguments);
  if (loss && job->stats.losses++ == 0) {
    snprintf(job->first_loss, sizeof job->first_loss, "%s: %s", tensor, text);
  }
  if (job->options.tell != NULL) {
    job->options.tell(job->options.cookie, loss, tensor, text);
  }
}

static nvfp4_status no_memory(nvfp4_reason *reason) { return nvfp4_reject(reason, NVFP4_E_NOMEM, "no memory for the list of tensors"); }

/* ------------------------------------------------------------------------------------------------------------ lists of both */

/* A new tensor of the output, named item's name + suffix; *out lives until the next one. */
static nvfp4_status make(nvfp4_convert_job *job, const nvfp4_item *item, const char *suffix, nvfp4_made_kind kind, nvfp4_dtype dtype,
                         int rank, const int64_t *shape, nvfp4_made_tensor **out, nvfp4_reason *reason) {
  if (job->made_count == job->made_capacity) {
    size_t capacity = job->made_capacity > 0 ? 2 * job->made_capacity : 256;
    nvfp4_made_tensor *made = realloc(job->made, capacity * sizeof *made);
    if (made == NULL) {
      return no_memory(reason);
    }
    job->made = made;
    job->made_capacity = capacity;
  }
  nvfp4_made_tensor *tensor = &job->made[job->made_count];
  *tensor = (nvfp4_made_tensor){
      .kind = kind, .dtype = dtype, .gguf_type = nvfp4_dtype_name(dtype), .rank = rank, .item = item, .from = item->source};
  uint64_t elements = 1;
  for (int d = 0; d < rank; d++) {
    tensor->shape[d] = shape[d];
    elements *= (uint64_t)shape[d];
  }
  size_t length = strlen(item->name) + strlen(suffix) + 1;
  tensor->name = malloc(length);
  if (tensor->name == NULL) {
    return no_memory(reason);
  }
  snprintf(tensor->name, length, "%s%s", item->name, suffix);
  job->made_count++;
  if (!nvfp4_dtype_bytes(dtype, elements, &tensor->bytes) && dtype != NVFP4_DTYPE_OTHER) {
    return nvfp4_reject(reason, NVFP4_E_SHAPE, "%s: tensor %s: %llu elements are no whole number of blocks of %s", item->source->file,
                        tensor->name, (unsigned long long)elements, nvfp4_dtype_name(dtype));
  }
  *out = tensor;
  return NVFP4_OK;
}

/* One of small values, copied. */
static nvfp4_status make_values(nvfp4_convert_job *job, const nvfp4_item *item, const char *suffix, nvfp4_dtype dtype, int rank,
                                const int64_t *shape, const void *values, nvfp4_reason *reason) {
  nvfp4_made_tensor *tensor = NULL;
  NVFP4_TRY(make(job, item, suffix, MADE_VALUES, dtype, rank, shape, &tensor, reason));
  tensor->values = malloc((size_t)tensor->bytes + 1);
  if (tensor->values == NULL) {
    return no_memory(reason);
  }
  memcpy(tensor->values, values, (size_t)tensor->bytes);
  return NVFP4_OK;
}

static nvfp4_status add_entry(nvfp4_convert_job *job, const nvfp4_item *item, const char *kind, const char *name, const char *value,
                              nvfp4_reason *reason) {
  if (job->entry_count == job->entry_capacity) {
    size_t capacity = job->entry_capacity > 0 ? 2 * job->entry_capacity : 256;
    nvfp4_metadata_entry *entries = realloc(job->entries, capacity * sizeof *entries);
    if (entries == NULL) {
      return no_memory(reason);
    }
    job->entries = entries;
    job->entry_capacity = capacity;
  }
  char key[CONVERT_MAX_NAME + 64];
  snprintf(key, sizeof key, "nvfp4.%s.%s", kind, name);
  nvfp4_metadata_entry *entry = &job->entries[job->entry_count];
  *entry = (nvfp4_metadata_entry){.key = strdup(key), .value = strdup(value), .item = item};
  job->entry_count++;
  return entry->key != NULL && entry->value != NULL ? NVFP4_OK : no_memory(reason);
}

/* ------------------------------------------------------------------------------------------------------------ global scales */

static bool all_equal(const nvfp4_stored_global *global) {
  for (int i = 1; i < global->count; i++) {
    if (global->values[i] != global->values[0]) {
      return false;
    }
  }
  return true;
}

/* The number of `kind` for a stored one; refused if fp32 cannot hold it. */
static nvfp4_status convert_global(const nvfp4_item *item, const nvfp4_stored_global *global, int index, nvfp4_global_kind kind, float *out,
                                   nvfp4_reason *reason) {
  *out = nvfp4_global_convert(global->values[index], global->kind, kind);
  if (!isfinite(*out) || !(*out > 0)) {
    return nvfp4_reject(reason, NVFP4_E_UNSUPPORTED, "%s: tensor %s is %g (a %s); as a %s it would be %g, which fp32 cannot hold",
                        item->source->file, global->name, (double)global->values[index], nvfp4_global_kind_name(global->kind),
                        nvfp4_global_kind_name(kind), (double)*out);
  }
  return NVFP4_OK;
}

/* Keeps the numbers as metadata unless the target's own tensor, with `held` of them, holds them as they are. */
static nvfp4_status keep_global(nvfp4_convert_job *job, const nvfp4_item *item, const nvfp4_stored_global *global, nvfp4_global_kind kind,
                                int held, nvfp4_reason *reason) {
  bool same_kind = held > 0 && kind == global->kind;
  if (same_kind && global->count == held) {
    return NVFP4_OK;
  }
  char text[40];
  nvfp4_global_text(global, text);
  if (held > 0 && !same_kind) {
    bool exact = true;
    for (int i = 0; i < global->count; i++) {
      float there = nvfp4_global_convert(global->values[i], global->kind, kind);
      exact = exact && nvfp4_global_convert(there, kind, global->kind) == global->values[i];
    }
    job->stats.globals++;
    job->stats.inexact_globals += !exact;
  }
  return add_entry(job, item, "global", global->name, text, reason);
}

/* The tensor of a weight's or an input's global scale, if the target has one. */
static nvfp4_status emit_global(nvfp4_convert_job *job, const nvfp4_item *item, const nvfp4_stored_global *global, bool weight,
                                nvfp4_reason *reason) {
  const nvfp4_convention *target = &nvfp4_conventions[job->options.layout];
  const char *suffix = weight ? target->global : target->input;
  char name[CONVERT_MAX_NAME];
  int count = job->options.layout == NVFP4_LAYOUT_MODELOPT && global->count > 1 ? global->count : 1;
  float values[CONVERT_MAX_PARTS] = {1.0f};
  snprintf(name, sizeof name, "%s%s", item->name, suffix != NULL ? suffix : "");
  if (suffix == NULL) { /* MLX has no input scales */
    return global->count > 0 ? keep_global(job, item, global, NVFP4_GLOBAL_MULTIPLIER, 0, reason) : NVFP4_OK;
  }
  if (weight && item->rescale_to > 0) { /* what it was is lost */
    values[0] = nvfp4_global_convert(item->rescale_to, NVFP4_GLOBAL_MULTIPLIER, target->kind);
    if (target->global_optional && item->rescale_to == 1.0f) {
      return NVFP4_OK;
    }
  } else if (global->count == 0) {
    if (!weight || target->global_optional) {
      return weight && strcmp(global->name, name) != 0 ? add_entry(job, item, "global", global->name, "none", reason) : NVFP4_OK;
    }
    NVFP4_TRY(add_entry(job, item, "global", global->name, "none", reason));
  } else {
    for (int i = 0; i < count; i++) {
      NVFP4_TRY(convert_global(item, global, i, target->kind, &values[i], reason));
    }
    NVFP4_TRY(keep_global(job, item, global, target->kind, count, reason));
  }
  const int64_t shape[1] = {count};
  int rank = count > 1 || job->options.layout == NVFP4_LAYOUT_COMPRESSED_TENSORS || job->to_gguf ? 1 : 0;
  return make_values(job, item, suffix, NVFP4_DTYPE_F32, rank, shape, values, reason);
}

/* ------------------------------------------------------------------------------------------------------------------- losses */

/* How block scales change when they are encoded anew: the counts, over all rows. */
static nvfp4_status tell_rescaling(nvfp4_convert_job *job, const nvfp4_item *item, const char *why, nvfp4_reason *reason) {
  int64_t blocks = item->columns / NVFP4_BLOCK, changed = 0, inexact = 0, vanished = 0, saturated = 0;
  double error = 0, all = 0;
  uint8_t *scales = malloc((size_t)blocks);
  if (scales == NULL) {
    return no_memory(reason);
  }
  for (int64_t row = 0; row < item->rows; row++) {
    const nvfp4_partition *part = item->layer->partitions;
    while (row >= part->n_first + part->n_rows) {
      part++;
    }
    double multiplier = nvfp4_global_multiplier(part->weight.value, part->weight.kind);
    nvfp4_layer_read_rows(job->source, item->layer, row, 1, NULL, scales);
    for (int64_t b = 0; b < blocks; b++) {
      uint8_t to = nvfp4_convert_rescale(item, row, scales[b]);
      double was = (double)nvfp4_e4m3_to_f32(scales[b]) * multiplier, is = (double)nvfp4_e4m3_to_f32(to) * (double)item->rescale_to;
      changed += to != scales[b];
      inexact += is != was;
      vanished += to == 0 && scales[b] != 0;
      saturated += to == 0x7E && is < was * 0.97;
      error += (is - was) * (is - was);
      all += was * was;
    }
  }
  free(scales);
  nvfp4_convert_tell(
      job, true, item->layer->name,
      "%s: of %lld block scales %lld change, %lld of them are rounded, %lld vanish, %lld saturate; relative squared error of "
      "the scales %.2g",
      why, (long long)(item->rows * blocks), (long long)changed, (long long)inexact, (long long)vanished, (long long)saturated,
      all > 0 ? error / all : 0.0);
  return NVFP4_OK;
}

static bool is_embedding(const nvfp4_layer_info *layer) {
  const char *dot = strrchr(layer->name, '.'), *last = dot != NULL ? dot + 1 : layer->name;
  return strstr(last, "embed") != NULL || strstr(last, "embd") != NULL;
}

/* Decides what of an NVFP4 layer cannot stay as it is. */
static nvfp4_status find_losses(nvfp4_convert_job *job, nvfp4_item *item, nvfp4_reason *reason) {
  nvfp4_layout_kind target = job->options.layout;
  if (target == NVFP4_LAYOUT_GGUF && item->columns % GGUF_BLOCK_ELEMS != 0) {
    item->dense = true;
    nvfp4_convert_tell(job, true, item->layer->name, "K = %lld is not a multiple of 64, GGUF's block: becomes bf16 values, rounded",
                       (long long)item->columns);
    return NVFP4_OK;
  }
  if (is_embedding(item->layer) && target != NVFP4_LAYOUT_MLX && target != item->layer->layout) {
    item->dense = true;
    nvfp4_convert_tell(job, true, item->layer->name, "an NVFP4 embedding, which only MLX looks rows up in: becomes bf16 values, rounded");
    return NVFP4_OK;
  }
  const nvfp4_partition *parts = item->layer->partitions;
  double largest = 0, smallest = INFINITY;
  for (int64_t i = 0; i < item->layer->partition_count; i++) {
    double multiplier = nvfp4_global_multiplier(parts[i].weight.value, parts[i].weight.kind);
    largest = multiplier > largest ? multiplier : largest;
    smallest = multiplier < smallest ? multiplier : smallest;
  }
  if (job->options.one_level && (largest != 1.0 || smallest != 1.0)) {
    item->rescale_to = 1.0f;
    return tell_rescaling(job, item, "one level: the global scale is folded into the block scales", reason);
  }
  if (target != NVFP4_LAYOUT_MODELOPT && !all_equal(&item->weight)) {
    char why[128];
    item->rescale_to = (float)largest;
    snprintf(why, sizeof why, "%s holds one global scale, the parts have %lld, up to a ratio of %.3f", nvfp4_layout_kind_name(target),
             (long long)item->layer->partition_count, largest / smallest);
    return tell_rescaling(job, item, why, reason);
  }
  if (target != NVFP4_LAYOUT_MODELOPT && target != NVFP4_LAYOUT_MLX && !all_equal(&item->input)) {
    nvfp4_convert_tell(job, true, item->layer->name, "%s holds one input scale, the parts have several: the first one's is taken",
                       nvfp4_layout_kind_name(target));
  }
  return NVFP4_OK;
}

/* ------------------------------------------------------------------------------------------------------------------- layers */

static nvfp4_status emit_dense(nvfp4_convert_job *job, const nvfp4_item *item, nvfp4_reason *reason) {
  const int64_t shape[2] = {item->rows, item->columns};
  nvfp4_made_tensor *tensor = NULL;
  NVFP4_TRY(make(job, item, ".weight", MADE_CAST, NVFP4_DTYPE_BF16, 2, shape, &tensor, reason));
  tensor->factor = true;
  return NVFP4_OK;
}

/* Comfy's marker; the source's own text where it had one. */
static nvfp4_status emit_marker(nvfp4_convert_job *job, const nvfp4_item *item, const char *format, bool weight_only,
                                nvfp4_reason *reason) {
  char text[512], key[CONVERT_MAX_NAME + 32];
  const nvfp4_tensor *marker = nvfp4_checkpoint_companion(job->source, item->layer->name, ".comfy_quant");
  snprintf(text, sizeof text, "{\"format\": \"%s\", \"full_precision_matrix_mult\": %s}", format, weight_only ? "true" : "false");
  snprintf(key, sizeof key, "nvfp4.comfy_quant.%s", item->module);
  bool kept = marker != NULL && marker->bytes < sizeof text;
  if (kept) {
    memcpy(text, marker->data, (size_t)marker->bytes);
    text[marker->bytes] = '\0';
  } else {
    kept = nvfp4_checkpoint_metadata(job->source, key, text, sizeof text);
  }
  if (job->options.layout == NVFP4_LAYOUT_COMFY) {
    const int64_t shape[1] = {(int64_t)strlen(text)};
    return make_values(job, item, ".comfy_quant", NVFP4_DTYPE_U8, 1, shape, text, reason);
  }
  return kept ? add_entry(job, item, "comfy_quant", item->module, text, reason) : NVFP4_OK;
}

static nvfp4_status emit_nvfp4(nvfp4_convert_job *job, nvfp4_item *item, nvfp4_reason *reason) {
  NVFP4_TRY(find_losses(job, item, reason));
  if (item->dense) {
    return emit_dense(job, item, reason);
  }
  nvfp4_layout_kind layout = job->options.layout;
  const nvfp4_convention *target = &nvfp4_conventions[layout];
  bool comfy = layout == NVFP4_LAYOUT_COMFY;
  int64_t rows = comfy ? nvfp4_round_up(item->rows, COMFY_ROWS) : item->rows, blocks = item->columns / NVFP4_BLOCK;
  const int64_t codes[2] = {rows, item->columns / target->k_per_column};
  nvfp4_made_tensor *tensor = NULL;
  NVFP4_TRY(
      make(job, item, target->weight, target->scale != NULL ? MADE_CODES : MADE_BLOCKS, target->weight_dtype, 2, codes, &tensor, reason));
  if (target->scale != NULL) {
    const int64_t scales[2] = {comfy ? nvfp4_round_up(rows, 128) : rows, comfy ? nvfp4_round_up(blocks, 4) : blocks};
    NVFP4_TRY(make(job, item, target->scale, MADE_SCALES, target->scale_dtype, 2, scales, &tensor, reason));
  }
  NVFP4_TRY(emit_global(job, item, &item->weight, true, reason));
  NVFP4_TRY(emit_global(job, item, &item->input, false, reason));
  NVFP4_TRY(emit_marker(job, item, "nvfp4", !item->w4a4, reason));
  if (rows != item->rows) {
    char text[24];
    snprintf(text, sizeof text, "%lld", (long long)item->rows);
    NVFP4_TRY(add_entry(job, item, "rows", item->name, text, reason));
  }
  return NVFP4_OK;
}

/* The scale or scales of an FP8 layer. compressed-tensors keeps them in the model's own type where that is exact. */
static nvfp4_status emit_fp8_scale(nvfp4_convert_job *job, const nvfp4_item *item, const char *suffix, const float *values, int64_t count,
                                   nvfp4_reason *reason) {
  bool ct = job->options.layout == NVFP4_LAYOUT_COMPRESSED_TENSORS, bf16 = ct;
  const int64_t shape[2] = {count, 1};
  uint16_t *halves = malloc((size_t)count * sizeof *halves);
  if (halves == NULL) {
    return no_memory(reason);
  }
  nvfp4_from_f32(values, NVFP4_DTYPE_BF16, halves, count);
  for (int64_t i = 0; i < count; i++) {
    bf16 = bf16 && nvfp4_bf16_to_f32(halves[i]) == values[i];
  }
  int rank = ct && count > 1 ? 2 : ct || count > 1 || job->to_gguf ? 1 : 0;
  nvfp4_status status =
      make_values(job, item, suffix, bf16 ? NVFP4_DTYPE_BF16 : NVFP4_DTYPE_F32, rank, shape, bf16 ? (const void *)halves : values, reason);
  free(halves);
  return status;
}

static nvfp4_status emit_fp8(nvfp4_convert_job *job, nvfp4_item *item, nvfp4_reason *reason) {
  nvfp4_layout_kind layout = job->options.layout;
  const nvfp4_tensor *scale = item->fp8_scale;
  int64_t count = item->fp8_scales;
  bool head = strcmp(item->module, "lm_head") == 0; /* llama.cpp looks for a scale of it only where it is NVFP4 */
  bool scaled = layout != NVFP4_LAYOUT_MLX && !(layout == NVFP4_LAYOUT_GGUF && (count > 1 || (head && job->translated))) &&
                !(layout == NVFP4_LAYOUT_COMFY && count > 1);
  item->dense = count > 0 && !scaled;
  if (item->dense) {
    nvfp4_convert_tell(job, true, item->layer->name, "FP8 with %s, which %s cannot hold: becomes bf16 values, rounded",
                       count > 1 ? "a scale for every row" : "a scale", nvfp4_layout_kind_name(layout));
    return emit_dense(job, item, reason);
  }
  const int64_t shape[2] = {item->rows, item->columns};
  bool wide = layout == NVFP4_LAYOUT_GGUF || layout == NVFP4_LAYOUT_MLX; /* every E4M3 number is one of bf16 */
  nvfp4_dtype dtype = wide ? NVFP4_DTYPE_BF16 : NVFP4_DTYPE_F8_E4M3;
  nvfp4_made_tensor *tensor = NULL;
  NVFP4_TRY(make(job, item, ".weight", item->source->dtype == dtype ? MADE_COPY : MADE_CAST, dtype, 2, shape, &tensor, reason));
  if (wide) {
    NVFP4_TRY(add_entry(job, item, "dtype", tensor->name, "F8_E4M3", reason));
  }
  if (count > 0) {
    float *values = malloc((size_t)count * sizeof *values);
    if (values == NULL) {
      return no_memory(reason);
    }
    nvfp4_to_f32(scale->data, scale->dtype, values, count);
    nvfp4_status status = emit_fp8_scale(job, item, job->to_gguf ? ".scale" : ".weight_scale", values, count, reason);
    free(values);
    NVFP4_TRY(status);
  }
  if (layout == NVFP4_LAYOUT_MODELOPT && count == 1 && item->input.count == 0) {
    nvfp4_convert_tell(job, false, item->layer->name,
                       "FP8 with one scale and no input scale: ModelOpt's FP8 has one, and engines that follow it will ask for it");
  }
  if (item->input.count > 0 && layout != NVFP4_LAYOUT_MLX) {
    NVFP4_TRY(emit_fp8_scale(job, item, ".input_scale", item->input.values, 1, reason));
  }
  return layout == NVFP4_LAYOUT_COMFY ? emit_marker(job, item, "float8_e4m3fn", item->input.count == 0, reason) : NVFP4_OK;
}

/* -------------------------------------------------------------------------------------------------------------------- others */

/* The bits stay, but: GGUF wants vectors in F32; what was widened so comes back; blocks of ggml have no other home. */
static nvfp4_status emit_other(nvfp4_convert_job *job, nvfp4_item *item, nvfp4_reason *reason) {
  const nvfp4_tensor *source = item->source;
  nvfp4_dtype dtype = source->dtype;
  bool half = dtype == NVFP4_DTYPE_BF16 || dtype == NVFP4_DTYPE_F16;
  bool block = dtype == NVFP4_DTYPE_Q8_0 || dtype == NVFP4_DTYPE_Q4_0 || dtype == NVFP4_DTYPE_Q4_1;
  bool both_gguf = job->from_gguf && job->to_gguf;
  if (job->to_gguf && !job->from_gguf && half && source->rank <= 1) {
    dtype = NVFP4_DTYPE_F32;
    NVFP4_TRY(add_entry(job, item, "dtype", item->name, source->dtype_name, reason));
  } else if (item->restored != NVFP4_DTYPE_NONE) {
    dtype = item->restored;
  } else if (block && !both_gguf) {
    dtype = NVFP4_DTYPE_BF16;
    nvfp4_convert_tell(job, true, source->name, "%s is a type of ggml: becomes bf16 values, rounded", source->dtype_name);
  }
  if (dtype == NVFP4_DTYPE_OTHER && !both_gguf) {
    return nvfp4_reject(reason, NVFP4_E_UNSUPPORTED, "%s: tensor %s is %s, which cannot be converted; give a file of other types",
                        source->file, source->name, source->dtype_name);
  }
  nvfp4_made_tensor *tensor = NULL;
  NVFP4_TRY(make(job, item, "", dtype == source->dtype ? MADE_COPY : MADE_CAST, dtype, source->rank, source->shape, &tensor, reason));
  tensor->bytes = dtype == source->dtype ? source->bytes : tensor->bytes;
  tensor->gguf_type = dtype == source->dtype ? source->dtype_name : nvfp4_dtype_name(dtype);
  return NVFP4_OK;
}

/* Llama 3's RoPE: llama.cpp reads the factors of the frequencies from a tensor. */
static nvfp4_status emit_rope_factors(nvfp4_convert_job *job, nvfp4_reason *reason) {
  if (!job->gguf_model.rope_llama3) {
    return NVFP4_OK;
  }
  const int64_t shape[1] = {job->gguf_model.head_dim / 2};
  float *factors = malloc((size_t)shape[0] * sizeof *factors);
  if (factors == NULL) {
    return no_memory(reason);
  }
  nvfp4_gguf_rope_factors(&job->gguf_model, factors);
  job->rope = (nvfp4_item){.kind = ITEM_OTHER, .name = (char *)"rope_freqs.weight", .source = job->items[0].source};
  nvfp4_status status = make_values(job, &job->rope, "", NVFP4_DTYPE_F32, 1, shape, factors, reason);
  free(factors);
  return status;
}

/* ------------------------------------------------------------------------------------------------------------------- shards */

static int by_name(const void *a, const void *b) { return strcmp(((const nvfp4_item *)a)->name, ((const nvfp4_item *)b)->name); }

/* As the safetensors library orders a file: larger elements first, so that every tensor is aligned, then names. */
static int by_place(const void *a, const void *b) {
  const nvfp4_made_tensor *x = a, *y = b;
  uint64_t x_size = 0, y_size = 0;
  nvfp4_dtype_bytes(x->dtype, 1, &x_size);
  nvfp4_dtype_bytes(y->dtype, 1, &y_size);
  if (x->item->shard != y->item->shard) {
    return x->item->shard < y->item->shard ? -1 : 1;
  }
  if (x_size != y_size) {
    return x_size > y_size ? -1 : 1;
  }
  return x->dtype != y->dtype ? (x->dtype < y->dtype ? -1 : 1) : strcmp(x->name, y->name);
}

static nvfp4_status emit_item(nvfp4_convert_job *job, nvfp4_item *item, nvfp4_reason *reason) {
  switch (item->kind) {
    case ITEM_NVFP4:
      return emit_nvfp4(job, item, reason);
    case ITEM_FP8:
      return emit_fp8(job, item, reason);
    case ITEM_OTHER:
      break;
  }
  return emit_other(job, item, reason);
}

nvfp4_status nvfp4_convert_emit(nvfp4_convert_job *job, nvfp4_reason *reason) {
  uint64_t in_shard = 0, most = job->to_gguf ? 0 : job->options.max_shard_bytes;
  qsort(job->items, job->item_count, sizeof *job->items, by_name); /* neighbours in the model share a file */
  for (size_t i = 0; i < job->item_count; i++) {
    nvfp4_item *item = &job->items[i];
    size_t first = job->made_count;
    uint64_t bytes = 0;
    NVFP4_TRY(emit_item(job, item, reason));
    for (size_t t = first; t < job->made_count; t++) {
      bytes += job->made[t].bytes;
    }
    if (most > 0 && in_shard > 0 && bytes > most - in_shard) {
      job->shard_count++;
      in_shard = 0;
    }
    item->shard = job->shard_count;
    in_shard = most > 0 && bytes >= most - in_shard ? most : in_shard + bytes;
    job->stats.output_bytes += bytes;
  }
  job->shard_count++;
  NVFP4_TRY(emit_rope_factors(job, reason));
  if (!job->to_gguf) {
    qsort(job->made, job->made_count, sizeof *job->made, by_place);
  }
  for (size_t i = 1; i < job->made_count && !job->to_gguf; i++) {
    if (strcmp(job->made[i].name, job->made[i - 1].name) == 0) {
      return nvfp4_reject(reason, NVFP4_E_FORMAT, "%s: two tensors would be named %s in the output", job->made[i].item->source->file,
                          job->made[i].name);
    }
  }
  job->stats.files = (int64_t)job->shard_count;
  return NVFP4_OK;
}
