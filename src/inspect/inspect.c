/* SPDX-License-Identifier: Apache-2.0 */
/* One layer looked at: its statistics, and what is suspected because of them. inspect.h says how, and why. */
#define _DEFAULT_SOURCE /* madvise */
#include <ctype.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/reason.h"
#include "checkpoint/checkpoint.h"
#include "format/e4m3.h"
#include "format/global.h"
#include "inspect/statistics.h"
#include "layer/context.h"

/* A root mean square that no model's weights have: those of SmolLM2 have 0.05 to 0.4, 1 / sqrt(K) is usual. */
#define LARGEST_RMS 30.0
#define SMALLEST_RMS 1e-6

/* Standard deviations of a difference that is not there. There are at most some 10^5 layers in a checkpoint, each asked less than ten questions: by chance less than one in a thousand checkpoints is
 * suspected, were the numbers normal. */
#define DEVIATIONS 7.0

const char *nvfp4_suspicion_name(uint32_t bit) {
  static const char *const names[] = {"bad_scales",      "global_inverted", "swizzled",  "unswizzled",
                                      "nibbles_swapped", "nibbles_halves",  "bad_factor"};
  for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
    if (bit == UINT32_C(1) << i) {
      return names[i];
    }
  }
  return NULL;
}

static void suspect(nvfp4_layer_inspection *out, nvfp4_suspicion suspicion, const char *format, ...) __attribute__((format(printf, 3, 4)));
static void suspect(nvfp4_layer_inspection *out, nvfp4_suspicion suspicion, const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  size_t used = strlen(out->text);
  used += (size_t)snprintf(out->text + used, sizeof out->text - used, "%s", used > 0 ? "; " : "");
  if (used < sizeof out->text) {
    vsnprintf(out->text + used, sizeof out->text - used, format, arguments);
  }
  va_end(arguments);
  out->suspicions |= suspicion;
}

/* ----------------------------------------------------------------------------------------------------------- sizes, globals */

typedef struct view {
  nvfp4_context *context;
  const nvfp4_checkpoint *checkpoint;
  const nvfp4_layer_info *layer;
  nvfp4_weights weights;
  double *columns; /* [k] sums of squares */
  double *profile; /* [k] logarithms of sizes of columns */
  double *other;   /* [k] of the reference */
} view;

static const nvfp4_partition *partition_of(const nvfp4_layer_info *layer, int64_t row) {
  int64_t i = 0;
  while (i + 1 < layer->partition_count && row >= layer->partitions[i + 1].n_first) {
    i++;
  }
  return &layer->partitions[i];
}

static double factor_of(nvfp4_global global) {
  double above = 1, below = 1;
  nvfp4_global_multiply(global, &above, &below);
  return above / below;
}

/* The parts' root mean squares: with the globals as their format has them, and with the reciprocals. */
static void judge_globals(const view *v, const double *rows, nvfp4_layer_inspection *out) {
  const nvfp4_layer_info *layer = v->layer;
  const int64_t step = nvfp4_sample_step(layer->n);
  double total = 0;
  int64_t sampled = 0;
  for (int64_t part = 0; part < layer->partition_count; part++) {
    const nvfp4_partition *p = &layer->partitions[part];
    const double factor = factor_of(p->weight);
    double sum = 0;
    int64_t count = 0;
    for (int64_t i = (p->n_first + step - 1) / step; i * step < p->n_first + p->n_rows; i++) {
      sum += rows[i];
      count++;
    }
    total += sum * factor * factor;
    sampled += count;
    const double codes = count > 0 ? sqrt(sum / (double)(count * layer->k)) : 0, rms = codes * factor, other = codes / factor;
    if (rms > LARGEST_RMS && other >= SMALLEST_RMS && other <= LARGEST_RMS) {
      suspect(out, NVFP4_SUSPICION_GLOBAL_INVERTED,
              "the global scale of rows from %lld on looks inverted: as a %s, %g makes weights of root mean square %.3g, as its reciprocal "
              "of %.3g",
              (long long)p->n_first, nvfp4_global_kind_name(p->weight.kind), (double)p->weight.value, rms, other);
    }
  }
  out->rms = sqrt(total / (double)(sampled * layer->k));
}

/* ----------------------------------------------------------------------------------------------------------- scales' order */

static void judge_arrangement(const view *v, nvfp4_layer_inspection *out) {
  const nvfp4_weights *w = &v->weights;
  if (w->n % 128 != 0 || w->k % 64 != 0) {
    return;
  }
  const bool comfy = v->layer->layout == NVFP4_LAYOUT_COMFY;
  double chance, deviation;
  nvfp4_explained_by_chance(w, &chance, &deviation);
  out->explained_as_read = nvfp4_explained_variance(w, NVFP4_AS_READ);
  out->explained_otherwise = nvfp4_explained_variance(w, comfy ? NVFP4_SWIZZLED : NVFP4_UNSWIZZLED);
  if (out->explained_as_read < 0 ||
      out->explained_otherwise <= chance + 3 * fmax(out->explained_as_read - chance, 0) + DEVIATIONS * deviation) {
    return;
  }
  suspect(out, comfy ? NVFP4_SUSPICION_UNSWIZZLED : NVFP4_SUSPICION_SWIZZLED,
          "the block scales look %s where the format has them %s (128x4): row and column explain %.1f %% of their variance as read, %.1f "
          "%% the other way; "
          "%.1f %% is chance",
          comfy ? "linear" : "swizzled", comfy ? "swizzled" : "linear", 100 * out->explained_as_read, 100 * out->explained_otherwise,
          100 * chance);
}

/* ----------------------------------------------------------------------------------------------------------------- nibbles */

/* Where element k of a row is found if nibbles are in another order than the one they were read in. */
static int64_t swapped(int64_t k) { return k ^ 1; }
static int64_t halves_as_pairs(int64_t k) { return k / 16 * 16 + (k % 16 < 8 ? 2 * (k % 16) : 2 * (k % 16 - 8) + 1); }
static int64_t pairs_as_halves(int64_t k) { return k / 16 * 16 + k % 2 * 8 + k % 16 / 2; }
static int64_t same_place(int64_t k) { return k; }

/* Pearson's correlation of a[place(k)] and b[k]; 0 if one does not vary. */
static double correlation(const double *a, const double *b, int64_t count, int64_t (*place)(int64_t)) {
  double sum_a = 0, sum_b = 0, aa = 0, bb = 0, ab = 0;
  for (int64_t k = 0; k < count; k++) {
    sum_a += a[k];
    sum_b += b[k];
  }
  for (int64_t k = 0; k < count; k++) {
    const double x = a[place(k)] - sum_a / (double)count, y = b[k] - sum_b / (double)count;
    aa += x * x;
    bb += y * y;
    ab += x * y;
  }
  return aa > 1e-12 * (double)count && bb > 1e-12 * (double)count ? ab / sqrt(aa * bb) : 0;
}

/* The correlation to be expected of logarithms: of a size that is 0, take one far below the others. */
static void take_logs(const double *squares, int64_t count, double *out) {
  double sum = 0;
  for (int64_t i = 0; i < count; i++) {
    sum += squares[i];
  }
  const double least = 1e-6 * sum / (double)count;
  for (int64_t i = 0; i < count; i++) {
    out[i] = sum > 0 ? log(squares[i] + least) : 0;
  }
}

/* Keeps the reference if it says more than the one before: for one of the orders it has the largest correlation. */
static void compare_with(const view *v, const char *name, nvfp4_nibble_evidence *best) {
  const int64_t k = v->layer->k;
  const bool gguf = v->layer->layout == NVFP4_LAYOUT_GGUF;
  nvfp4_nibble_evidence here = {.reference = ""};
  here.as_read = correlation(v->profile, v->other, k, same_place);
  here.swapped = correlation(v->profile, v->other, k, swapped);
  here.halves = correlation(v->profile, v->other, k, gguf ? pairs_as_halves : halves_as_pairs);
  snprintf(here.reference, sizeof here.reference, "%s", name);
  const double ours = fmax(fabs(here.as_read), fmax(fabs(here.swapped), fabs(here.halves)));
  const double theirs = fmax(fabs(best->as_read), fmax(fabs(best->swapped), fabs(best->halves)));
  if (best->reference[0] == '\0' || ours > theirs) {
    *best = here;
  }
}

/* Length of the name of the block that a tensor belongs to: up to and with the last segment that is a number; 0: none. */
static size_t block_prefix(const char *name) {
  size_t prefix = 0;
  for (const char *at = name; (at = strchr(at, '.')) != NULL;) {
    const char *digit = ++at;
    while (isdigit((unsigned char)*digit)) {
      digit++;
    }
    if (digit > at && *digit == '.') {
      prefix = (size_t)(digit + 1 - name);
    }
  }
  return prefix;
}

static bool is_float(nvfp4_dtype dtype) { return dtype == NVFP4_DTYPE_F32 || dtype == NVFP4_DTYPE_F16 || dtype == NVFP4_DTYPE_BF16; }

/* Weights of a norm, [k]. */
static void compare_with_vector(const view *v, const nvfp4_tensor *tensor, float *row, nvfp4_nibble_evidence *best) {
  const int64_t k = v->layer->k;
  if (nvfp4_tensor_to_f32(tensor, 0, (uint64_t)k, row, NULL) != NVFP4_OK) {
    return;
  }
  for (int64_t i = 0; i < k; i++) {
    v->other[i] = isfinite(row[i]) ? (double)row[i] * (double)row[i] : 0;
  }
  take_logs(v->other, k, v->other);
  compare_with(v, tensor->name, best);
}

/* Columns of an embedding, [vocabulary, k]. */
static void compare_with_embedding(const view *v, const nvfp4_layer_info *embedding, float *row, nvfp4_nibble_evidence *best) {
  const int64_t k = v->layer->k, step = nvfp4_sample_step(embedding->n);
  memset(v->other, 0, (size_t)k * sizeof *v->other);
  for (int64_t n = 0; n < embedding->n; n += step) {
    if (nvfp4_tensor_to_f32(embedding->weight, (uint64_t)(n * k), (uint64_t)k, row, NULL) != NVFP4_OK) {
      return;
    }
    for (int64_t i = 0; i < k; i++) {
      v->other[i] += isfinite(row[i]) ? (double)row[i] * (double)row[i] : 0;
    }
  }
  take_logs(v->other, k, v->other);
  compare_with(v, embedding->name, best);
}

/* Rows of another NVFP4 layer of the same block, which may feed this one. */
static void compare_with_rows(const view *v, const nvfp4_layer_info *feeding, nvfp4_nibble_evidence *best) {
  nvfp4_weights weights = {.struct_size = sizeof weights};
  void *owned = NULL;
  if (nvfp4_checkpoint_weights(v->checkpoint, feeding, &weights, &owned, NULL) != NVFP4_OK) {
    return;
  }
  nvfp4_row_squares(&weights, v->other);
  nvfp4_weights_free(owned);
  for (int64_t n = 0; n < feeding->n; n++) {
    const double factor = factor_of(partition_of(feeding, n)->weight);
    v->other[n] *= factor * factor;
  }
  take_logs(v->other, feeding->n, v->other);
  char name[160];
  snprintf(name, sizeof name, "the rows of %s", feeding->name);
  compare_with(v, name, best);
}

static bool is_embedding(const nvfp4_layer_info *layer) {
  return layer->layout == NVFP4_LAYOUT_NONE && layer->weight->rank == 2 && (layer->lookup || strstr(layer->name, "embd") != NULL) &&
         layer->mode == NVFP4_MODE_UNQUANTISED;
}

/* Everything in the checkpoint that may know the sizes of this layer's columns. */
static void find_references(const view *v, float *row, nvfp4_nibble_evidence *best) {
  const nvfp4_layer_info *layer = v->layer;
  const size_t prefix = block_prefix(layer->name);
  const nvfp4_tensor *tensor;
  for (size_t i = 0; prefix > 0 && (tensor = nvfp4_checkpoint_tensor(v->checkpoint, i)) != NULL; i++) {
    if (tensor->rank == 1 && tensor->shape[0] == layer->k && is_float(tensor->dtype) && strncmp(tensor->name, layer->name, prefix) == 0 &&
        strstr(tensor->name, "norm") != NULL) {
      compare_with_vector(v, tensor, row, best);
    }
  }
  const nvfp4_layer_info *other;
  for (size_t i = 0; (other = nvfp4_checkpoint_layer(v->checkpoint, i)) != NULL; i++) {
    if (is_embedding(other) && other->k == layer->k) {
      compare_with_embedding(v, other, row, best);
    } else if (prefix > 0 && other != layer && other->layout != NVFP4_LAYOUT_NONE && other->n == layer->k &&
               strncmp(other->name, layer->name, prefix) == 0 && block_prefix(other->name) == prefix) {
      compare_with_rows(v, other, best);
    }
  }
}

static void judge_nibbles(const view *v, nvfp4_layer_inspection *out) {
  nvfp4_nibble_evidence *evidence = &out->nibbles;
  const double as_read = atanh(fmin(fabs(evidence->as_read), 0.999)), deviation = sqrt(2 / (double)(v->layer->k - 3)); /* Fisher's z */
  const double swap = atanh(fmin(fabs(evidence->swapped), 0.999)), halves = atanh(fmin(fabs(evidence->halves), 0.999));
  const bool gguf = v->layer->layout == NVFP4_LAYOUT_GGUF;
  const char *const text = "%s: with %s the sizes of the columns have a correlation of %.2f as read, of %.2f so, over %lld columns";
  if (swap - as_read > DEVIATIONS * deviation && swap >= halves) {
    suspect(out, NVFP4_SUSPICION_NIBBLES_SWAPPED, text, "the nibbles of each byte look swapped", evidence->reference, evidence->as_read,
            evidence->swapped, (long long)v->layer->k);
  } else if (halves - as_read > DEVIATIONS * deviation) {
    suspect(out, NVFP4_SUSPICION_NIBBLES_HALVES, text,
            gguf ? "a byte looks like elements 2j and 2j + 1, where GGUF has j and j + 8"
                 : "a byte looks like elements j and j + 8 of its block, as in GGUF, where the format has 2j and 2j + 1",
            evidence->reference, evidence->as_read, evidence->halves, (long long)v->layer->k);
  }
}

/* ------------------------------------------------------------------------------------------------------------------- layer */

static nvfp4_status judge_structure(view *v, nvfp4_layer_inspection *out, nvfp4_reason *reason) {
  const nvfp4_layer_info *layer = v->layer;
  const int64_t step = nvfp4_sample_step(layer->n), sampled = (layer->n + step - 1) / step;
  double *rows = malloc((size_t)sampled * sizeof *rows), *factors = malloc((size_t)sampled * sizeof *factors);
  float *row = malloc((size_t)layer->k * sizeof *row);
  v->columns = malloc(3 * (size_t)layer->k * sizeof *v->columns);
  nvfp4_status status = NVFP4_OK;
  if (rows == NULL || factors == NULL || row == NULL || v->columns == NULL) {
    status = nvfp4_reject(reason, NVFP4_E_NOMEM, "layer %s: out of memory for its statistics", layer->name);
  } else {
    v->profile = v->columns + layer->k;
    v->other = v->profile + layer->k;
    for (int64_t i = 0; i < sampled; i++) {
      factors[i] = factor_of(partition_of(layer, i * step)->weight);
    }
    nvfp4_sum_squares(&v->weights, factors, v->columns, rows, &out->largest);
    take_logs(v->columns, layer->k, v->profile);
    judge_globals(v, rows, out);
    judge_arrangement(v, out);
    find_references(v, row, &out->nibbles);
    judge_nibbles(v, out);
  }
  free(rows);
  free(factors);
  free(row);
  free(v->columns);
  return status;
}

/* What has been read of a mapped file can be read again: without this a large checkpoint would seem to fill the memory. */
static void drop_pages(const nvfp4_tensor *tensor) {
  const uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
  uintptr_t first = ((uintptr_t)tensor->data + page - 1) / page * page, last = ((uintptr_t)tensor->data + tensor->bytes) / page * page;
  if (last > first) {
    madvise((void *)first, last - first, MADV_DONTNEED);
  }
}

static nvfp4_status inspect_nvfp4(nvfp4_context *context, const nvfp4_checkpoint *checkpoint, const nvfp4_layer_info *layer,
                                  nvfp4_layer_inspection *out, nvfp4_reason *reason) {
  view v = {.context = context, .checkpoint = checkpoint, .layer = layer, .weights = {.struct_size = sizeof v.weights}};
  void *owned = NULL;
  NVFP4_TRY(nvfp4_checkpoint_weights(checkpoint, layer, &v.weights, &owned, reason));
  nvfp4_count_blocks(nvfp4_context_pool(context), &v.weights, out);
  uint64_t bad = 0;
  for (int i = 0x7F; i < 256; i++) {
    bad += out->scales[i];
  }
  if (bad > 0) {
    suspect(out, NVFP4_SUSPICION_BAD_SCALES, "%llu of %llu block scales are NaN or negative: it cannot be run", (unsigned long long)bad,
            (unsigned long long)out->blocks);
  }
  nvfp4_status status = judge_structure(&v, out, reason);
  nvfp4_weights_free(owned);
  drop_pages(layer->weight);
  const nvfp4_tensor *scales = nvfp4_layer_scales(checkpoint, layer);
  if (scales != NULL) {
    drop_pages(scales);
  }
  return status;
}

/* ---------------------------------------------------------------------------------------------------------------------- FP8 */

static void inspect_fp8(const nvfp4_layer_info *layer, nvfp4_layer_inspection *out) {
  for (int64_t i = 0; i < layer->partition_count; i++) {
    const float weight = layer->partitions[i].weight.value, input = layer->partitions[i].input.value;
    if (!(weight > 0 && isfinite(weight)) || !(input >= 0 && isfinite(input))) {
      suspect(out, NVFP4_SUSPICION_BAD_FACTOR, "row %lld has weight_scale %g and input_scale %g; needs finite numbers > 0",
              (long long)layer->partitions[i].n_first, (double)weight, (double)input);
      break;
    }
  }
  uint64_t bad = 0;
  const uint8_t *bytes = layer->weight->data;
  for (uint64_t i = 0; i < layer->weight->bytes; i++) {
    bad += (bytes[i] & 0x7F) == 0x7F;
  }
  if (bad > 0) {
    suspect(out, NVFP4_SUSPICION_BAD_FACTOR, "%llu weights are NaN", (unsigned long long)bad);
  }
  drop_pages(layer->weight);
}

nvfp4_status nvfp4_inspect_layer(nvfp4_context *context, const nvfp4_checkpoint *checkpoint, const nvfp4_layer_info *layer,
                                 nvfp4_layer_inspection *out, nvfp4_reason *reason) {
  if (context == NULL || checkpoint == NULL || layer == NULL || out == NULL) {
    return nvfp4_reject(reason, NVFP4_E_ARG, "context, checkpoint, layer or out is NULL; all four are needed");
  }
  *out = (nvfp4_layer_inspection){.explained_as_read = -1, .explained_otherwise = -1};
  if (layer->layout != NVFP4_LAYOUT_NONE) {
    return inspect_nvfp4(context, checkpoint, layer, out, reason);
  }
  if (layer->weight->dtype == NVFP4_DTYPE_F8_E4M3 && layer->weight->rank == 2) {
    inspect_fp8(layer, out);
  }
  return NVFP4_OK;
}
