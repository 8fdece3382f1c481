/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Input scales: the unquantised model reads a text in windows, and the largest magnitude that a linear layer is fed is its amax. The
 * tokens of a window see those before them in that window alone.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <nvfp4/model.h>

#include "base/reason.h"
#include "checkpoint/checkpoint.h"
#include "quantizer/quantizer.h"

enum { WINDOW_TOKENS = 512, DEFAULT_TOKENS = 4096 };

/* The planned tensor that the model's linear layer `layer` (as the source names it) becomes; NULL if it is not quantised. */
static nvfp4_planned_tensor *find_planned(nvfp4_quantize_job *job, const char *layer) {
  char gguf_name[256], name[256];
  if (job->source->gguf != NULL) {
    snprintf(gguf_name, sizeof gguf_name, "%s.weight", layer);
    if (!nvfp4_gguf_hf_name(gguf_name, name, sizeof name)) {
      return NULL;
    }
    name[strlen(name) - strlen(".weight")] = '\0';
    layer = name;
  }
  for (size_t low = 0, high = job->tensor_count; low < high;) {
    size_t middle = low + (high - low) / 2;
    int order = strcmp(layer, job->tensors[middle].name);
    if (order == 0) {
      return job->tensors[middle].quantise ? &job->tensors[middle] : NULL;
    }
    if (order < 0) {
      high = middle;
    } else {
      low = middle + 1;
    }
  }
  return NULL;
}

static void observe(void *cookie, const char *layer, const float *x, int64_t m, int64_t k) {
  nvfp4_quantize_job *job = cookie;
  nvfp4_planned_tensor *tensor = find_planned(job, layer);
  if (job->options.progress != NULL) { /* reads no input, but takes its time */
    job->options.progress(job->options.progress_cookie, job->done, job->total);
  }
  if (tensor == NULL) {
    return;
  }
  /* As integers, so that an infinity or NaN comes out largest and cannot hide. */
  uint32_t amax = 0;
  for (int64_t i = 0; i < m * k; i++) {
    uint32_t bits;
    memcpy(&bits, &x[i], sizeof bits);
    bits &= 0x7FFFFFFFu;
    amax = bits > amax ? bits : amax;
  }
  float largest;
  memcpy(&largest, &amax, sizeof largest);
  if (!(largest <= tensor->input_amax)) {
    tensor->input_amax = largest;
  }
}

static nvfp4_status check_seen(const nvfp4_quantize_job *job, nvfp4_reason *reason) {
  size_t unseen = 0;
  const char *first = NULL;
  for (size_t i = 0; i < job->tensor_count; i++) {
    const nvfp4_planned_tensor *tensor = &job->tensors[i];
    if (!tensor->quantise) {
      continue;
    }
    if (!isfinite(tensor->input_amax)) {
      return nvfp4_reject(reason, NVFP4_E_UNSUPPORTED,
                          "calibration: the input of layer %s holds infinities or NaN; needs a model and a text that give finite numbers",
                          tensor->name);
    }
    if (tensor->input_amax < 0) {
      first = unseen++ == 0 ? tensor->name : first;
    }
  }
  return unseen == 0 ? NVFP4_OK
                     : nvfp4_reject(reason, NVFP4_E_UNSUPPORTED,
                                    "calibration: %zu layers to quantise were never run, the first is %s; without an input scale they "
                                    "cannot be W4A4: quantise without calibration",
                                    unseen, first);
}

nvfp4_status nvfp4_quantize_calibrate(nvfp4_quantize_job *job, nvfp4_reason *reason) {
  nvfp4_tokenizer *tokenizer = NULL;
  int32_t *tokens = NULL;
  size_t count = 0, limit = job->options.calibration_tokens > 0 ? (size_t)job->options.calibration_tokens : DEFAULT_TOKENS;
  nvfp4_status status = nvfp4_tokenizer_create(job->source, &tokenizer, reason);
  if (status == NVFP4_OK) {
    status = nvfp4_tokenize(tokenizer, job->options.calibration, strlen(job->options.calibration), false, &tokens, &count, reason);
  }
  if (status == NVFP4_OK && count == 0) {
    status = nvfp4_reject(reason, NVFP4_E_ARG, "the calibration text is empty: give one of some thousand words");
  }
  if (status == NVFP4_OK) {
    nvfp4_model_options options = {.struct_size = sizeof options, .activation = NVFP4_DTYPE_F32, .batch_tokens = WINDOW_TOKENS};
    status = nvfp4_observe_text(job->context, job->source, &options, tokens, count < limit ? count : limit, observe, job, reason);
  }
  if (status == NVFP4_OK) {
    status = check_seen(job, reason);
  }
  nvfp4_tokens_free(tokens);
  nvfp4_tokenizer_destroy(tokenizer);
  return status;
}
