/* SPDX-License-Identifier: Apache-2.0 */
/* What is decided by measured error: a layer's multiplier, and which layers stay as they are. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/reason.h"
#include "quantizer/quantizer.h"

static const double nvfp4_bits = 4.5;

static int by_name(const void *a, const void *b) {
  return strcmp(((const nvfp4_planned_tensor *)a)->name, ((const nvfp4_planned_tensor *)b)->name);
}

/* amax of the tensor grows to the largest of the parts `set` that are quantised; its name without `part` is theirs. */
static nvfp4_status join(const nvfp4_quantize_job *job, nvfp4_planned_tensor *tensor, const char *part, const char *const set[3],
                         nvfp4_reason *reason) {
  const size_t size = strlen(tensor->name) + 16;
  char *name = malloc(size);
  if (name == NULL) {
    return nvfp4_reject(reason, NVFP4_E_NOMEM, "out of memory for the parts of %s", tensor->name);
  }
  for (int i = 0; i < 3 && set[i] != NULL; i++) {
    snprintf(name, size, "%.*s%s", (int)(part - tensor->name), tensor->name, set[i]);
    const nvfp4_planned_tensor key = {.name = name}, *found = bsearch(&key, job->tensors, job->tensor_count, sizeof key, by_name);
    tensor->amax = found != NULL && found->quantise && found->amax > tensor->amax ? found->amax : tensor->amax;
  }
  free(name);
  return NVFP4_OK;
}

nvfp4_status nvfp4_quantize_fuse_globals(nvfp4_quantize_job *job, nvfp4_reason *reason) {
  static const char *const sets[][3] = {{"q_proj", "k_proj", "v_proj"}, {"gate_proj", "up_proj"}, {"w1", "w3"}};
  for (size_t t = 0; job->options.globals == NVFP4_GLOBALS_FUSED && t < job->tensor_count; t++) {
    nvfp4_planned_tensor *tensor = &job->tensors[t];
    const char *dot = strrchr(tensor->name, '.'), *part = dot != NULL ? dot + 1 : tensor->name;
    for (size_t i = 0; tensor->quantise && i < 3 * (sizeof sets / sizeof sets[0]); i++) {
      const char *one = sets[i / 3][i % 3];
      if (one != NULL && strcmp(part, one) == 0) {
        NVFP4_TRY(join(job, tensor, part, sets[i / 3], reason));
      }
    }
  }
  return NVFP4_OK;
}

nvfp4_status nvfp4_quantize_choose_global(nvfp4_quantize_job *job, nvfp4_planned_tensor *tensor, nvfp4_reason *reason) {
  if (job->options.globals != NVFP4_GLOBALS_SEARCH) {
    return NVFP4_OK;
  }
  /* 1, 9/8, ... 2: from there on the same block scales come again, but for the ends of their range. */
  double least = INFINITY;
  float best = tensor->headroom;
  for (int i = 0; i < NVFP4_HEADROOMS; i++) {
    nvfp4_planned_tensor trial = *tensor;
    nvfp4_rounding_error error;
    trial.headroom = 1.0f + (float)i / 8.0f;
    NVFP4_TRY(nvfp4_quantize_round(job, &trial, NULL, NULL, NULL, &error, reason));
    if (error.weight[0] < least) {
      least = error.weight[0];
      best = trial.headroom;
    }
  }
  tensor->headroom = best;
  return NVFP4_OK;
}

/* ------------------------------------------------------------------------------------------------------------- dense or not */

typedef struct candidate {
  nvfp4_planned_tensor *tensor;
  double bits;  /* that it takes more if it is not quantised */
  double worth; /* error that these save, a bit */
} candidate;

/* Most worth first; ties in order of names. */
static int by_worth(const void *a, const void *b) {
  const candidate *one = a, *other = b;
  if (one->worth != other->worth) {
    return one->worth > other->worth ? -1 : 1;
  }
  return one->tensor < other->tensor ? -1 : 1;
}

static double elements(const nvfp4_planned_tensor *tensor) { return (double)tensor->rows * (double)tensor->columns; }

nvfp4_status nvfp4_quantize_choose_layers(nvfp4_quantize_job *job, nvfp4_reason *reason) {
  candidate *candidates = calloc(job->tensor_count + 1, sizeof *candidates);
  if (candidates == NULL) {
    return nvfp4_reject(reason, NVFP4_E_NOMEM, "out of memory for %zu tensors", job->tensor_count);
  }
  size_t count = 0;
  double all = 0;
  nvfp4_status status = NVFP4_OK;
  for (size_t i = 0; i < job->tensor_count && status == NVFP4_OK; i++) {
    nvfp4_planned_tensor *tensor = &job->tensors[i];
    if (!tensor->quantise) {
      continue;
    }
    if (!tensor->measured) {
      status = nvfp4_quantize_round(job, tensor, NULL, NULL, NULL, &tensor->error, reason);
      tensor->measured = true;
    }
    double extra = ((tensor->source->dtype == NVFP4_DTYPE_F32 ? 32 : 16) - nvfp4_bits) * elements(tensor);
    double error = nvfp4_relative_error(tensor->input != NULL ? tensor->error.output : tensor->error.weight);
    candidates[count++] = (candidate){tensor, extra, error / extra};
    all += elements(tensor);
  }
  qsort(candidates, count, sizeof *candidates, by_worth);
  double left = (job->options.bits_per_weight - nvfp4_bits) * all;
  for (size_t i = 0; i < count && status == NVFP4_OK; i++) {
    if (candidates[i].bits <= left) {
      left -= candidates[i].bits;
      status = nvfp4_quantize_leave(job, candidates[i].tensor, reason);
    }
  }
  free(candidates);
  return status == NVFP4_OK && job->stats.layers == 0
             ? nvfp4_reject(reason, NVFP4_E_ARG, "at %g bits a weight no layer would be quantised: give fewer",
                            job->options.bits_per_weight)
             : status;
}
