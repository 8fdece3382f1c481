/* SPDX-License-Identifier: Apache-2.0 */
/* Codes and block scales of a layer, and what they cost. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/clones.h"
#include "base/reason.h"
#include "quantizer/bands.h"
#include "quantizer/gptq.h"

typedef struct round_job {
  const nvfp4_blas *blas; /* with a factor */
  nvfp4_band *band;
  const float *importance; /* [k] or NULL */
  const double *factor;    /* [k, k] or NULL */
  const float *sketch;     /* [k, NVFP4_SKETCH_ROWS] or NULL */
} round_job;

double nvfp4_relative_error(const double sums[2]) { return sums[1] > 0 ? sums[0] / sums[1] : 0; }

/* The squares of v times each column of the sketch, summed. */
NVFP4_CLONES_FMA static double sketch_squares(const float *v, int64_t k, const float *sketch) {
  float product[NVFP4_SKETCH_ROWS] = {0};
  for (int64_t i = 0; i < k; i++) {
    for (int j = 0; j < NVFP4_SKETCH_ROWS; j++) {
      product[j] += v[i] * sketch[i * NVFP4_SKETCH_ROWS + j];
    }
  }
  double squares = 0;
  for (int j = 0; j < NVFP4_SKETCH_ROWS; j++) {
    squares += (double)product[j] * (double)product[j];
  }
  return squares;
}

/* Fills error.output of a task. x is overwritten by w - q. */
static nvfp4_status measure_outputs(const round_job *job, float *x, int64_t rows, const uint8_t *codes, const uint8_t *scales,
                                    nvfp4_rounding_error *error, nvfp4_reason *reason) {
  const int64_t k = job->band->tensor->columns;
  const nvfp4_partition whole = {.n_rows = rows, .weight = {job->band->global, NVFP4_GLOBAL_MULTIPLIER}};
  const nvfp4_weights weights = {.struct_size = sizeof weights,
                                 .n = rows,
                                 .k = k,
                                 .codes = codes,
                                 .codes_stride_bytes = k / 2,
                                 .scales = scales,
                                 .scales_stride_bytes = k / NVFP4_BLOCK};
  float *q = malloc((size_t)k * sizeof *q);
  nvfp4_status status = q != NULL ? NVFP4_OK : nvfp4_reject(reason, NVFP4_E_NOMEM, "out of memory for a row of %lld", (long long)k);
  for (int64_t row = 0; row < rows && status == NVFP4_OK; row++) {
    float *w = x + row * k;
    status = nvfp4_weights_dequantise(&weights, &whole, 1, row, 1, q, reason);
    error->output[1] += sketch_squares(w, k, job->sketch);
    for (int64_t i = 0; i < k; i++) {
      w[i] -= q[i];
    }
    error->output[0] += sketch_squares(w, k, job->sketch);
  }
  free(q);
  return status;
}

static void round_task(void *arg, size_t index) {
  const round_job *job = arg;
  nvfp4_band *b = job->band;
  nvfp4_band_task *task = &b->tasks[index];
  int64_t first, rows, k = b->tensor->columns;
  task->error = (nvfp4_rounding_error){0};
  if (nvfp4_band_read(b, index, &first, &rows) != NVFP4_OK) {
    return;
  }
  float *x = b->x + first * k;
  uint8_t *codes = b->out + first * (k / 2), *scales = b->scales + (b->first + first) * (k / NVFP4_BLOCK);
  task->status =
      job->factor != NULL
          ? nvfp4_gptq_round(job->blas, x, rows, k, b->global, b->search, job->factor, codes, scales, task->error.weight, &task->reason)
          : nvfp4_quantise_matrix(x, rows, k, b->global, b->search, job->importance, codes, scales, task->error.weight, &task->reason);
  if (task->status == NVFP4_OK && job->sketch != NULL) {
    task->status = measure_outputs(job, x, rows, codes, scales, &task->error, &task->reason);
  }
}

static void add_error(nvfp4_rounding_error *to, const nvfp4_rounding_error *error) {
  for (int i = 0; i < 2; i++) {
    to->weight[i] += error->weight[i];
    to->output[i] += error->output[i];
  }
}

nvfp4_status nvfp4_quantize_round(nvfp4_quantize_job *job, const nvfp4_planned_tensor *tensor, const double *factor, nvfp4_put_fn put,
                                  void *cookie, nvfp4_rounding_error *error, nvfp4_reason *reason) {
  uint64_t code_bytes = (uint64_t)tensor->columns / 2, scale_bytes = (uint64_t)(tensor->rows * (tensor->columns / NVFP4_BLOCK));
  const nvfp4_layer_input *input = tensor->input;
  nvfp4_band *b;
  NVFP4_TRY(nvfp4_band_create(tensor, code_bytes, scale_bytes, nvfp4_threads_count(job->threads), &b, reason));
  round_job rounding = {.blas = &job->blas,
                        .band = b,
                        .importance = input != NULL && job->options.importance ? input->importance : NULL,
                        .factor = factor,
                        .sketch = input != NULL ? input->sketch : NULL};
  nvfp4_weight_global(job, tensor, &b->global);
  b->search = job->options.scales;
  *error = (nvfp4_rounding_error){0};
  nvfp4_status status = NVFP4_OK;
  for (int64_t first = 0; first < tensor->rows && status == NVFP4_OK; first += b->rows) {
    status = nvfp4_band_run(job, b, first, round_task, &rounding, reason);
    if (status == NVFP4_OK && put != NULL) {
      status = put(cookie, b->out, (size_t)((uint64_t)b->count * code_bytes), reason);
    }
    for (int64_t i = 0; i * b->task_rows < b->count; i++) {
      add_error(error, &b->tasks[i].error);
    }
    if (status == NVFP4_OK) {
      nvfp4_report_progress(job, nvfp4_band_bytes(b));
    }
  }
  if (status == NVFP4_OK && put != NULL) {
    status = put(cookie, b->scales, (size_t)scale_bytes, reason);
  }
  nvfp4_band_free(b);
  return status;
}
