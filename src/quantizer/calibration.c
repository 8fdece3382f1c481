/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a text feeds the linear layers: the unquantised model reads it in windows, block after block, and each layer's inputs x are reduced, as they come, to
 *
 *   amax        the largest magnitude: what the input scale is made for
 *   importance  the mean square of each column
 *   sketch      sums of rows with random signs, each row in one of NVFP4_SKETCH_ROWS sums (a CountSketch: Charikar, Chen, Farach-Colton 2002). For any v the
 *               squares of the sketch times v add up to those of x times v, but for an error that averages out: this is how errors of
 *               outputs are measured without keeping x. Up to NVFP4_SKETCH_ROWS rows are kept as they are, and nothing is estimated.
 *   sample      rows as they are, until the block is done: in them the range of the input scale is looked for
 *   hessian     x^T x, until the block is done: for GPTQ, which then rounds the block's layers
 *
 * The tokens of a window see those before them in that window alone.
 */
#define _POSIX_C_SOURCE 200809L
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <nvfp4/model.h>

#include "base/alloc.h"
#include "base/reason.h"
#include "checkpoint/checkpoint.h"
#include "format/activation.h"
#include "format/e2m1.h"
#include "format/e4m3.h"
#include "quantizer/gptq.h"
#include "quantizer/quantizer.h"

enum {
  WINDOW_TOKENS = 512,
  DEFAULT_TOKENS = 4096,
  DEFAULT_GPTQ_TOKENS = 32768, /* a Hessian needs some times more rows than it has columns */
  SAMPLE_ROWS = 64,
  RANGES = 7,  /* of the input scale: amax, its half, ... its 64th */
  COLUMNS = 64 /* of a task */
};

typedef struct calibration {
  nvfp4_quantize_job *job;
  int64_t tokens;
  const float *last_x;                     /* of the call before this one, */
  const nvfp4_planned_tensor *last_tensor; /* whose layer that was, NULL if of none to quantise, */
  nvfp4_layer_input *last_input;           /* and where x went */
  size_t first_open;                       /* inputs from here on belong to the block that is being read */
  nvfp4_status status;
  nvfp4_reason reason;
} calibration;

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

/* ------------------------------------------------------------------------------------------------------------------- inputs */

static void input_close(nvfp4_layer_input *input) {
  free(input->sample);
  free(input->hessian);
  input->sample = NULL;
  input->hessian = NULL;
}

void nvfp4_layer_inputs_free(nvfp4_quantize_job *job) {
  for (size_t i = 0; i < job->input_count; i++) {
    input_close(&job->inputs[i]);
  }
  free(job->inputs);
  free(job->statistics);
  job->inputs = NULL;
  job->statistics = NULL;
  job->input_count = job->statistics_used = 0;
}

/* Room for all: what layers share is never touched. */
static nvfp4_status inputs_create(nvfp4_quantize_job *job, nvfp4_reason *reason) {
  size_t columns = 0;
  for (size_t i = 0; i < job->tensor_count; i++) {
    columns += job->tensors[i].quantise ? (size_t)job->tensors[i].columns : 0;
  }
  job->inputs = calloc(job->tensor_count, sizeof *job->inputs);
  job->statistics = calloc(columns, (1 + NVFP4_SKETCH_ROWS) * sizeof *job->statistics);
  return job->inputs != NULL && job->statistics != NULL
             ? NVFP4_OK
             : nvfp4_reject(reason, NVFP4_E_NOMEM, "out of memory for the inputs of the layers, %zu columns", columns);
}

static nvfp4_status input_open(nvfp4_quantize_job *job, int64_t k, nvfp4_layer_input **out, nvfp4_reason *reason) {
  const bool gptq = job->options.rounding == NVFP4_ROUNDING_GPTQ, sample = job->options.input_range == NVFP4_INPUT_MSE;
  nvfp4_layer_input *input = &job->inputs[job->input_count++];
  uint64_t hessian_elems = 0;
  input->k = k;
  input->importance = job->statistics + job->statistics_used;
  input->sketch = input->importance + k;
  job->statistics_used += (size_t)k * (1 + NVFP4_SKETCH_ROWS);
  input->sample = sample ? calloc((size_t)k, SAMPLE_ROWS * sizeof *input->sample) : NULL;
  input->hessian = gptq && nvfp4_multiply((uint64_t)k, (uint64_t)k, &hessian_elems) ? calloc((size_t)hessian_elems, sizeof(double)) : NULL;
  if ((gptq && input->hessian == NULL) || (sample && input->sample == NULL)) {
    return nvfp4_reject(reason, NVFP4_E_NOMEM, "out of memory for the inputs of a layer with K = %lld%s", (long long)k,
                        gptq ? ", of which GPTQ needs 8 K^2 bytes: round to nearest" : "");
  }
  *out = input;
  return NVFP4_OK;
}

/* ---------------------------------------------------------------------------------------------------------------- observing */

typedef struct reduce_job {
  nvfp4_layer_input *input;
  const float *x;
  int64_t m, sample_step;
  uint32_t *amax_bits; /* one a task */
} reduce_job;

/* +1 or -1 for row `row`: a bit of its hash (splitmix64). */
static float sign_of_row(uint64_t row) {
  uint64_t z = (row + 1) * 0x9E3779B97F4A7C15u;
  z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
  z = (z ^ z >> 27) * 0x94D049BB133111EBu;
  return (z ^ z >> 31) >> 63 != 0 ? -1.0f : 1.0f;
}

/* All rows of some columns. */
static void reduce_columns(void *arg, size_t index) {
  const reduce_job *job = arg;
  nvfp4_layer_input *input = job->input;
  const int64_t k = input->k, first = (int64_t)index * COLUMNS, end = first + COLUMNS < k ? first + COLUMNS : k;
  uint32_t amax = 0; /* as integers, so that an infinity or NaN comes out largest and cannot hide */
  for (int64_t row = 0; row < job->m; row++) {
    const float *x = job->x + row * k;
    const int64_t seen = input->rows + row;
    const float sign = sign_of_row((uint64_t)seen);
    float *sketch = input->sketch + seen % NVFP4_SKETCH_ROWS;
    for (int64_t i = first; i < end; i++) {
      uint32_t bits;
      memcpy(&bits, &x[i], sizeof bits);
      bits &= 0x7FFFFFFFu;
      amax = bits > amax ? bits : amax;
      input->importance[i] += x[i] * x[i];
      sketch[i * NVFP4_SKETCH_ROWS] += sign * x[i];
    }
    if (input->sample != NULL && seen % job->sample_step == 0 && seen / job->sample_step < SAMPLE_ROWS) {
      memcpy(input->sample + seen / job->sample_step * k + first, x + first, (size_t)(end - first) * sizeof *x);
    }
  }
  job->amax_bits[index] = amax;
}

static nvfp4_status reduce(const calibration *c, nvfp4_layer_input *input, const float *x, int64_t m, nvfp4_reason *reason) {
  const size_t tasks = (size_t)((input->k + COLUMNS - 1) / COLUMNS);
  reduce_job job = {.input = input, .x = x, .m = m, .sample_step = (c->tokens + SAMPLE_ROWS - 1) / SAMPLE_ROWS};
  job.amax_bits = malloc(tasks * sizeof *job.amax_bits);
  if (job.amax_bits == NULL) {
    return nvfp4_reject(reason, NVFP4_E_NOMEM, "out of memory for %zu tasks", tasks);
  }
  nvfp4_parallel_for(c->job->threads, tasks, reduce_columns, &job);
  for (size_t i = 0; i < tasks; i++) {
    float amax;
    memcpy(&amax, &job.amax_bits[i], sizeof amax);
    input->amax = amax <= input->amax ? input->amax : amax;
  }
  free(job.amax_bits);
  input->rows += m;
  return input->hessian != NULL ? nvfp4_gptq_add_rows(&c->job->blas, c->job->threads, input->hessian, input->k, x, m, reason) : NVFP4_OK;
}

static void observe(void *cookie, const char *layer, const float *x, int64_t m, int64_t k) {
  calibration *c = cookie;
  nvfp4_planned_tensor *tensor = find_planned(c->job, layer);
  nvfp4_report_progress(c->job, 0); /* reads no input, but takes its time */
  if (c->status != NVFP4_OK) {
    return;
  }
  /* It reads the same as the layer before it, and did so in the windows before. */
  const bool same = x == c->last_x && tensor != NULL && c->last_tensor != NULL && tensor != c->last_tensor &&
                    (tensor->input == NULL || tensor->input == c->last_input);
  c->last_x = x;
  c->last_tensor = tensor;
  if (tensor == NULL) {
    return;
  }
  if (same) {
    tensor->input = c->last_input;
    return;
  }
  if (tensor->input == NULL) {
    c->status = input_open(c->job, k, &tensor->input, &c->reason);
  }
  if (c->status == NVFP4_OK) {
    c->status = reduce(c, tensor->input, x, m, &c->reason);
  }
  c->last_input = tensor->input;
}

/* -------------------------------------------------------------------------------------------------------- a block is complete */

typedef struct range_job {
  const float *sample;
  int64_t k;
  nvfp4_global global[RANGES];
  double error[RANGES][SAMPLE_ROWS];
  int64_t rows;
  uint8_t *codes; /* [SAMPLE_ROWS, k / 2 + k / 16] */
} range_job;

static void measure_range(void *arg, size_t row) {
  range_job *job = arg;
  const float *x = job->sample + (int64_t)row * job->k;
  uint8_t *codes = job->codes + (int64_t)row * (job->k / 2 + job->k / NVFP4_BLOCK), *scales = codes + job->k / 2;
  for (int range = 0; range < RANGES; range++) {
    double sum = 0;
    nvfp4_quantise_activation_row(x, job->k, nvfp4_activation_factor(job->global[range]), codes, scales);
    for (int64_t i = 0; i < job->k; i++) {
      double q = (double)nvfp4_e2m1_to_f32(codes[i / 2] >> (i % 2 * 4) & 15) * (double)nvfp4_e4m3_to_f32(scales[i / NVFP4_BLOCK]) *
                 (double)job->global[range].value;
      sum += ((double)x[i] - q) * ((double)x[i] - q);
    }
    job->error[range][row] = sum;
  }
}

/* The magnitude that the input scale is made for. */
static nvfp4_status find_range(nvfp4_quantize_job *job, const nvfp4_layer_input *input, float *out, nvfp4_reason *reason) {
  *out = input->amax;
  if (input->sample == NULL || !isfinite(input->amax)) {
    return NVFP4_OK;
  }
  range_job ranges = {.sample = input->sample, .k = input->k, .rows = input->rows < SAMPLE_ROWS ? input->rows : SAMPLE_ROWS};
  ranges.codes = malloc((size_t)(SAMPLE_ROWS * (input->k / 2 + input->k / NVFP4_BLOCK)));
  if (ranges.codes == NULL) {
    return nvfp4_reject(reason, NVFP4_E_NOMEM, "out of memory for a sample of the inputs");
  }
  for (int i = 0; i < RANGES; i++) {
    ranges.global[i] = (nvfp4_global){nvfp4_global_from_amax(ldexpf(input->amax, -i)), NVFP4_GLOBAL_MULTIPLIER};
  }
  nvfp4_parallel_for(job->threads, (size_t)ranges.rows, measure_range, &ranges);
  double least = INFINITY;
  for (int i = 0; i < RANGES; i++) {
    double sum = 0;
    for (int64_t row = 0; row < ranges.rows; row++) {
      sum += ranges.error[i][row];
    }
    if (sum < least) {
      least = sum;
      *out = ldexpf(input->amax, -i);
    }
  }
  free(ranges.codes);
  return NVFP4_OK;
}

static nvfp4_status put_rounded(void *cookie, const void *data, size_t bytes, nvfp4_reason *reason) {
  nvfp4_quantize_job *job = cookie;
  const uint8_t *from = data;
  while (bytes > 0) {
    ssize_t put = pwrite(job->rounded, from, bytes, job->rounded_bytes);
    if (put <= 0) {
      return nvfp4_reject(reason, NVFP4_E_IO, "codes cannot be kept until they are written: %s; needs room in the output folder",
                          put < 0 ? strerror(errno) : "the file does not grow");
    }
    from += put;
    bytes -= (size_t)put;
    job->rounded_bytes += put;
  }
  return NVFP4_OK;
}

static nvfp4_status round_layers(nvfp4_quantize_job *job, nvfp4_layer_input *input, nvfp4_reason *reason) {
  double damping = job->options.damping;
  NVFP4_TRY(nvfp4_gptq_factor(&job->blas, input->hessian, input->k, &damping, reason));
  for (size_t i = 0; i < job->tensor_count; i++) {
    nvfp4_planned_tensor *tensor = &job->tensors[i];
    if (tensor->input == input) {
      NVFP4_TRY(nvfp4_quantize_choose_global(job, tensor, reason));
      tensor->rounded_at = job->rounded_bytes;
      tensor->measured = true;
      NVFP4_TRY(nvfp4_quantize_round(job, tensor, input->hessian, put_rounded, job, &tensor->error, reason));
    }
  }
  return NVFP4_OK;
}

/* First layer in order of names that reads the input. */
static nvfp4_planned_tensor *reader_of(nvfp4_quantize_job *job, const nvfp4_layer_input *input) {
  size_t i = 0;
  while (job->tensors[i].input != input) {
    i++;
  }
  return &job->tensors[i];
}

static nvfp4_status close_inputs(void *cookie, nvfp4_reason *reason) {
  calibration *c = cookie;
  nvfp4_quantize_job *job = c->job;
  if (c->status != NVFP4_OK) {
    return nvfp4_reject(reason, c->status, "%s", c->reason.text);
  }
  for (; c->first_open < job->input_count; c->first_open++) {
    nvfp4_layer_input *input = &job->inputs[c->first_open];
    if (!isfinite(input->amax)) {
      return nvfp4_reject(reason, NVFP4_E_UNSUPPORTED,
                          "calibration: the input of layer %s holds infinities or NaN; needs a model and a text that give finite numbers",
                          reader_of(job, input)->name);
    }
    float range;
    NVFP4_TRY(find_range(job, input, &range, reason));
    for (int64_t i = 0; i < input->k; i++) {
      input->importance[i] /= (float)input->rows;
    }
    for (size_t i = 0; i < job->tensor_count; i++) {
      if (job->tensors[i].input == input) {
        job->tensors[i].input_amax = range;
      }
    }
    nvfp4_status status = input->hessian != NULL ? round_layers(job, input, reason) : NVFP4_OK;
    input_close(input);
    NVFP4_TRY(status);
  }
  c->last_x = NULL;
  return NVFP4_OK;
}

static nvfp4_status check_seen(const nvfp4_quantize_job *job, nvfp4_reason *reason) {
  size_t unseen = 0;
  const char *first = NULL;
  for (size_t i = 0; i < job->tensor_count; i++) {
    if (job->tensors[i].quantise && job->tensors[i].input == NULL) {
      first = unseen++ == 0 ? job->tensors[i].name : first;
    }
  }
  return unseen == 0 ? NVFP4_OK
                     : nvfp4_reject(reason, NVFP4_E_UNSUPPORTED,
                                    "calibration: %zu layers to quantise were never run, the first is %s; without an input scale they "
                                    "cannot be W4A4: quantise without calibration",
                                    unseen, first);
}

nvfp4_status nvfp4_quantize_calibrate(nvfp4_quantize_job *job, nvfp4_reason *reason) {
  const bool gptq = job->options.rounding == NVFP4_ROUNDING_GPTQ;
  nvfp4_tokenizer *tokenizer = NULL;
  int32_t *tokens = NULL;
  size_t count = 0, limit = gptq ? DEFAULT_GPTQ_TOKENS : DEFAULT_TOKENS;
  limit = job->options.calibration_tokens > 0 ? (size_t)job->options.calibration_tokens : limit;
  nvfp4_status status = nvfp4_tokenizer_create(job->source, &tokenizer, reason);
  if (status == NVFP4_OK) {
    status = nvfp4_tokenize(tokenizer, job->options.calibration, strlen(job->options.calibration), false, &tokens, &count, reason);
  }
  if (status == NVFP4_OK && count == 0) {
    status = nvfp4_reject(reason, NVFP4_E_ARG, "the calibration text is empty: give one of some thousand words");
  }
  if (status == NVFP4_OK) {
    status = inputs_create(job, reason);
  }
  if (status == NVFP4_OK) {
    count = count < limit ? count : limit;
    nvfp4_model_options options = {.struct_size = sizeof options, .activation = NVFP4_DTYPE_F32, .batch_tokens = WINDOW_TOKENS};
    calibration c = {.job = job, .tokens = (int64_t)count};
    const int blas_threads = gptq ? job->blas.get_threads() : 0;
    if (gptq) {
      job->blas.set_threads(1);
    }
    status = nvfp4_observe_text(job->context, job->source, &options, tokens, count, observe, close_inputs, &c, reason);
    if (gptq) {
      job->blas.set_threads(blas_threads);
    }
  }
  if (status == NVFP4_OK) {
    status = check_seen(job, reason);
  }
  nvfp4_tokens_free(tokens);
  nvfp4_tokenizer_destroy(tokenizer);
  return status;
}
