/* SPDX-License-Identifier: Apache-2.0 */
#include "quantizer/bands.h"

#include <stdlib.h>

#include "base/reason.h"
#include "checkpoint/checkpoint.h"

enum { TASK_ELEMS = 1 << 16 /* about, in whole rows */ };

nvfp4_status nvfp4_quantize_read_rows(const nvfp4_planned_tensor *tensor, int64_t first, int64_t count, float *out, nvfp4_reason *reason) {
  int64_t columns = tensor->columns;
  if (tensor->head_rows == 0) {
    return nvfp4_tensor_to_f32(tensor->source, (uint64_t)(first * columns), (uint64_t)(count * columns), out, reason);
  }
  for (int64_t i = 0; i < count; i++) {
    int64_t row = nvfp4_gguf_source_row(first + i, tensor->head_rows);
    NVFP4_TRY(nvfp4_tensor_to_f32(tensor->source, (uint64_t)(row * columns), (uint64_t)columns, out + i * columns, reason));
  }
  return NVFP4_OK;
}

nvfp4_status nvfp4_band_create(const nvfp4_planned_tensor *tensor, uint64_t out_bytes, uint64_t scale_bytes, int threads, nvfp4_band **out,
                               nvfp4_reason *reason) {
  nvfp4_band *b = calloc(1, sizeof *b);
  if (b != NULL) {
    int64_t columns = tensor->columns > 0 ? tensor->columns : 1;
    b->tensor = tensor;
    b->task_rows = columns < TASK_ELEMS ? TASK_ELEMS / columns : 1;
    /* A row of more than TASK_ELEMS elements is a task by itself: fewer of them then, but work for every thread. */
    int64_t tasks = (int64_t)NVFP4_BAND_TASKS * TASK_ELEMS / (b->task_rows * columns);
    tasks = tasks < threads ? threads : tasks;
    tasks = tasks < 1 ? 1 : tasks > NVFP4_BAND_TASKS ? NVFP4_BAND_TASKS : tasks;
    b->rows = tasks * b->task_rows < tensor->rows ? tasks * b->task_rows : tensor->rows;
    b->x = malloc((size_t)(b->rows * columns) * sizeof(float) + 1);
    b->out = malloc((size_t)((uint64_t)b->rows * out_bytes) + 1);
    b->scales = malloc((size_t)scale_bytes + 1);
  }
  if (b == NULL || b->x == NULL || b->out == NULL || b->scales == NULL) {
    if (b != NULL) {
      free(b->x);
      free(b->out);
      free(b->scales);
      free(b);
    }
    return nvfp4_reject(reason, NVFP4_E_NOMEM, "out of memory for tensor %s of %llu bytes", tensor->source->name,
                        (unsigned long long)tensor->source->bytes);
  }
  *out = b;
  return NVFP4_OK;
}

void nvfp4_band_free(nvfp4_band *b) {
  free(b->x);
  free(b->out);
  free(b->scales);
  free(b);
}

/* Rows of task `index` of the band: *first is counted from the band's. */
static int64_t task_rows(const nvfp4_band *b, size_t index, int64_t *first) {
  *first = (int64_t)index * b->task_rows;
  int64_t left = b->count - *first;
  return left < b->task_rows ? left : b->task_rows;
}

nvfp4_status nvfp4_band_run(nvfp4_quantize_job *job, nvfp4_band *b, int64_t first, nvfp4_task_fn task, void *arg, nvfp4_reason *reason) {
  const nvfp4_tensor *source = b->tensor->source;
  int64_t left = b->tensor->rows - first;
  b->first = first;
  b->count = left < b->rows ? left : b->rows;
  size_t tasks = (size_t)((b->count + b->task_rows - 1) / b->task_rows);
  for (size_t i = 0; i < tasks; i++) {
    b->tasks[i].status = NVFP4_OK;
  }
  nvfp4_parallel_for(job->threads, tasks, task, arg);
  for (size_t i = 0; i < tasks; i++) {
    if (b->tasks[i].status != NVFP4_OK) {
      return nvfp4_reject(reason, b->tasks[i].status, "%s: tensor %s: %s", source->file, source->name, b->tasks[i].reason.text);
    }
  }
  return NVFP4_OK;
}

uint64_t nvfp4_band_bytes(const nvfp4_band *b) {
  double share = (double)b->tensor->source->bytes / (double)b->tensor->rows;
  bool last = b->first + b->count == b->tensor->rows;
  uint64_t end = last ? b->tensor->source->bytes : (uint64_t)(share * (double)(b->first + b->count));
  return end - (uint64_t)(share * (double)b->first);
}

nvfp4_status nvfp4_band_read(nvfp4_band *b, size_t index, int64_t *first, int64_t *count) {
  *count = task_rows(b, index, first);
  nvfp4_band_task *task = &b->tasks[index];
  task->status = nvfp4_quantize_read_rows(b->tensor, b->first + *first, *count, b->x + *first * b->tensor->columns, &task->reason);
  return task->status;
}
