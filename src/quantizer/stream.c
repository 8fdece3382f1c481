/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Both readings of the tensors. A tensor is worked on in bands of rows: a band is cut into tasks for the threads, and its results are
 * written before the next one begins. What a task does depends on its rows alone, and sums are added in order of rows: the output does not
 * depend on the number of threads. Memory: one band (16 MiB of fp32 unless rows are very long) and the block scales of one matrix, which
 * follow its codes in the file.
 */
#define _POSIX_C_SOURCE 200809L
#include "quantizer/quantizer.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/reason.h"
#include "checkpoint/checkpoint.h"
#include "format/half.h"

enum {
  TASK_ELEMS = 1 << 16, /* about, in whole rows */
  BAND_TASKS = 64,
  PIECE_BYTES = 1 << 24 /* of a tensor that is copied as it is: how often progress is reported */
};

#define F32_INFINITY_BITS 0x7F800000u

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

float nvfp4_divisor_from_amax(float amax) {
  float divisor = amax > 0 ? 2688.0f / amax : 1.0f;
  return isnormal(divisor) && isnormal(1.0f / divisor) ? divisor : 1.0f;
}

/* --------------------------------------------------------------------------------------------------------------------- bands */

typedef struct band_task { /* what one task found */
  uint32_t amax_bits;      /* of the magnitudes, as integers: infinities and NaN come out largest */
  uint32_t low_bits;       /* of all values, or'ed: no bf16 has any of the lower 16 */
  double error[2];
  nvfp4_status status;
  nvfp4_reason reason;
} band_task;

typedef struct band {
  const nvfp4_planned_tensor *tensor;
  int64_t task_rows;    /* rows of a task */
  int64_t rows;         /* rows of a band */
  int64_t first, count; /* the band's own */
  float global;         /* of the quantising */
  nvfp4_scale_search search;
  float *x;        /* [rows, columns] */
  uint8_t *out;    /* codes, or converted elements, of the band */
  uint8_t *scales; /* of the whole matrix */
  band_task tasks[BAND_TASKS];
} band;

/* out_bytes: of one row's output. */
static nvfp4_status band_create(const nvfp4_planned_tensor *tensor, uint64_t out_bytes, uint64_t scale_bytes, int threads, band **out,
                                nvfp4_reason *reason) {
  band *b = calloc(1, sizeof *b);
  if (b != NULL) {
    int64_t columns = tensor->columns > 0 ? tensor->columns : 1;
    b->tensor = tensor;
    b->task_rows = columns < TASK_ELEMS ? TASK_ELEMS / columns : 1;
    /* A row of more than TASK_ELEMS elements is a task by itself: fewer of them then, but work for every thread. */
    int64_t tasks = (int64_t)BAND_TASKS * TASK_ELEMS / (b->task_rows * columns);
    tasks = tasks < threads ? threads : tasks;
    tasks = tasks < 1 ? 1 : tasks > BAND_TASKS ? BAND_TASKS : tasks;
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

static void band_free(band *b) {
  free(b->x);
  free(b->out);
  free(b->scales);
  free(b);
}

/* Rows of task `index` of the band: *first is counted from the band's. */
static int64_t task_rows(const band *b, size_t index, int64_t *first) {
  *first = (int64_t)index * b->task_rows;
  int64_t left = b->count - *first;
  return left < b->task_rows ? left : b->task_rows;
}

/* Runs `task` over the band of rows that begins at `first`; the first refusal, in order of rows, counts. */
static nvfp4_status band_run(nvfp4_quantize_job *job, band *b, int64_t first, nvfp4_task_fn task, nvfp4_reason *reason) {
  const nvfp4_tensor *source = b->tensor->source;
  int64_t left = b->tensor->rows - first;
  b->first = first;
  b->count = left < b->rows ? left : b->rows;
  size_t tasks = (size_t)((b->count + b->task_rows - 1) / b->task_rows);
  for (size_t i = 0; i < tasks; i++) {
    b->tasks[i].status = NVFP4_OK;
  }
  nvfp4_parallel_for(job->threads, tasks, task, b);
  for (size_t i = 0; i < tasks; i++) {
    if (b->tasks[i].status != NVFP4_OK) {
      return nvfp4_reject(reason, b->tasks[i].status, "%s: tensor %s: %s", source->file, source->name, b->tasks[i].reason.text);
    }
  }
  return NVFP4_OK;
}

static void report_progress(nvfp4_quantize_job *job, uint64_t bytes) {
  job->done += bytes;
  if (job->options.progress != NULL) {
    job->options.progress(job->options.progress_cookie, job->done, job->total);
  }
}

/* Bytes of the source that the band covers, so that all bands together cover it exactly. */
static uint64_t band_bytes(const band *b) {
  double share = (double)b->tensor->source->bytes / (double)b->tensor->rows;
  bool last = b->first + b->count == b->tensor->rows;
  uint64_t end = last ? b->tensor->source->bytes : (uint64_t)(share * (double)(b->first + b->count));
  return end - (uint64_t)(share * (double)b->first);
}

/* ------------------------------------------------------------------------------------------------------------- first reading */

static void measure_task(void *arg, size_t index) {
  band *b = arg;
  band_task *task = &b->tasks[index];
  int64_t first, rows = task_rows(b, index, &first), columns = b->tensor->columns;
  float *x = b->x + first * columns;
  task->amax_bits = task->low_bits = 0;
  task->status = nvfp4_quantize_read_rows(b->tensor, b->first + first, rows, x, &task->reason);
  if (task->status != NVFP4_OK) {
    return;
  }
  uint32_t amax = 0, low = 0;
  for (int64_t i = 0; i < rows * columns; i++) {
    uint32_t bits;
    memcpy(&bits, &x[i], sizeof bits);
    low |= bits;
    bits &= 0x7FFFFFFFu;
    amax = bits > amax ? bits : amax;
  }
  task->amax_bits = amax;
  task->low_bits = low & 0xFFFFu;
  if (b->tensor->quantise && amax >= F32_INFINITY_BITS) {
    int64_t at = 0;
    while (isfinite(x[at])) {
      at++;
    }
    task->status = nvfp4_reject(&task->reason, NVFP4_E_FORMAT, "row %lld, column %lld is %g; weights to quantise must be finite",
                                (long long)nvfp4_gguf_source_row(b->first + first + at / columns, b->tensor->head_rows),
                                (long long)(at % columns), (double)x[at]);
  }
}

static nvfp4_status measure_tensor(nvfp4_quantize_job *job, nvfp4_planned_tensor *tensor, nvfp4_reason *reason) {
  band *b;
  NVFP4_TRY(band_create(tensor, 0, 0, nvfp4_threads_count(job->threads), &b, reason));
  uint32_t amax = 0, low = 0;
  nvfp4_status status = NVFP4_OK;
  for (int64_t first = 0; first < tensor->rows && status == NVFP4_OK; first += b->rows) {
    status = band_run(job, b, first, measure_task, reason);
    for (int64_t i = 0; i * b->task_rows < b->count; i++) {
      amax = b->tasks[i].amax_bits > amax ? b->tasks[i].amax_bits : amax;
      low |= b->tasks[i].low_bits;
    }
    if (status == NVFP4_OK) {
      report_progress(job, band_bytes(b));
    }
  }
  band_free(b);
  memcpy(&tensor->amax, &amax, sizeof amax);
  if (tensor->dtype == NVFP4_DTYPE_NONE) {
    tensor->dtype = low == 0 ? NVFP4_DTYPE_BF16 : NVFP4_DTYPE_F32;
  }
  return status;
}

static bool needs_measure(const nvfp4_planned_tensor *tensor) { return tensor->quantise || tensor->dtype == NVFP4_DTYPE_NONE; }

nvfp4_status nvfp4_quantize_measure(nvfp4_quantize_job *job, nvfp4_reason *reason) {
  job->done = job->total = 0;
  for (size_t i = 0; i < job->tensor_count; i++) {
    job->total += job->tensors[i].source->bytes * (needs_measure(&job->tensors[i]) ? 2 : 1);
  }
  for (size_t i = 0; i < job->tensor_count; i++) {
    if (needs_measure(&job->tensors[i])) {
      NVFP4_TRY(measure_tensor(job, &job->tensors[i], reason));
    }
  }
  return NVFP4_OK;
}

/* ------------------------------------------------------------------------------------------------------------ second reading */

static void quantise_task(void *arg, size_t index) {
  band *b = arg;
  band_task *task = &b->tasks[index];
  int64_t first, rows = task_rows(b, index, &first), k = b->tensor->columns;
  float *x = b->x + first * k;
  task->error[0] = task->error[1] = 0;
  task->status = nvfp4_quantize_read_rows(b->tensor, b->first + first, rows, x, &task->reason);
  if (task->status == NVFP4_OK) {
    task->status = nvfp4_quantise_matrix(x, rows, k, b->global, b->search, NULL, b->out + first * (k / 2),
                                         b->scales + (b->first + first) * (k / NVFP4_BLOCK), task->error, &task->reason);
  }
}

static void convert_task(void *arg, size_t index) {
  band *b = arg;
  band_task *task = &b->tasks[index];
  int64_t first, rows = task_rows(b, index, &first), columns = b->tensor->columns;
  float *x = b->x + first * columns;
  uint64_t element_bytes = 0;
  nvfp4_dtype_bytes(b->tensor->dtype, 1, &element_bytes);
  task->status = nvfp4_quantize_read_rows(b->tensor, b->first + first, rows, x, &task->reason);
  if (task->status == NVFP4_OK) {
    nvfp4_from_f32(x, b->tensor->dtype, b->out + (uint64_t)(first * columns) * element_bytes, rows * columns);
  }
}

/* The stored global scale of the weights and the multiplier to quantise them with. */
static float weight_global(const nvfp4_quantize_job *job, const nvfp4_planned_tensor *tensor, float *multiplier) {
  if (job->options.layout == NVFP4_LAYOUT_COMPRESSED_TENSORS) {
    float divisor = nvfp4_divisor_from_amax(tensor->amax);
    *multiplier = 1.0f / divisor;
    return divisor;
  }
  *multiplier = nvfp4_global_from_amax(tensor->amax);
  return *multiplier;
}

static float input_global(const nvfp4_quantize_job *job, const nvfp4_planned_tensor *tensor) {
  return job->options.layout == NVFP4_LAYOUT_COMPRESSED_TENSORS ? nvfp4_divisor_from_amax(tensor->input_amax)
                                                                : nvfp4_global_from_amax(tensor->input_amax);
}

static void add_error(nvfp4_quantize_job *job, const nvfp4_planned_tensor *tensor, const double error[2], double sums[2]) {
  sums[0] += error[0];
  sums[1] += error[1];
  double relative = error[1] > 0 ? error[0] / error[1] : 0;
  if (job->stats.worst_layer[0] == '\0' || relative > job->stats.worst_relative_squared_error) {
    size_t length = strnlen(tensor->name, sizeof job->stats.worst_layer - 1);
    job->stats.worst_relative_squared_error = relative;
    memcpy(job->stats.worst_layer, tensor->name, length);
    job->stats.worst_layer[length] = '\0';
  }
}

static nvfp4_status write_quantised(nvfp4_quantize_job *job, const nvfp4_planned_tensor *tensor, nvfp4_safetensors_writer *writer,
                                    double sums[2], nvfp4_reason *reason) {
  uint64_t code_bytes = (uint64_t)tensor->columns / 2, scale_bytes = (uint64_t)(tensor->rows * (tensor->columns / NVFP4_BLOCK));
  band *b;
  NVFP4_TRY(band_create(tensor, code_bytes, scale_bytes, nvfp4_threads_count(job->threads), &b, reason));
  weight_global(job, tensor, &b->global);
  b->search = job->options.scales;
  double error[2] = {0, 0};
  nvfp4_status status = NVFP4_OK;
  for (int64_t first = 0; first < tensor->rows && status == NVFP4_OK; first += b->rows) {
    status = band_run(job, b, first, quantise_task, reason);
    if (status == NVFP4_OK) {
      status = nvfp4_safetensors_writer_write(writer, b->out, (size_t)((uint64_t)b->count * code_bytes), reason);
    }
    for (int64_t i = 0; i * b->task_rows < b->count; i++) {
      error[0] += b->tasks[i].error[0];
      error[1] += b->tasks[i].error[1];
    }
    if (status == NVFP4_OK) {
      report_progress(job, band_bytes(b));
    }
  }
  if (status == NVFP4_OK) {
    status = nvfp4_safetensors_writer_write(writer, b->scales, (size_t)scale_bytes, reason);
  }
  band_free(b);
  add_error(job, tensor, error, sums);
  return status;
}

static nvfp4_status write_converted(nvfp4_quantize_job *job, const nvfp4_planned_tensor *tensor, nvfp4_safetensors_writer *writer,
                                    nvfp4_reason *reason) {
  uint64_t row_bytes = 0;
  nvfp4_dtype_bytes(tensor->dtype, (uint64_t)tensor->columns, &row_bytes);
  band *b;
  NVFP4_TRY(band_create(tensor, row_bytes, 0, nvfp4_threads_count(job->threads), &b, reason));
  nvfp4_status status = NVFP4_OK;
  for (int64_t first = 0; first < tensor->rows && status == NVFP4_OK; first += b->rows) {
    status = band_run(job, b, first, convert_task, reason);
    if (status == NVFP4_OK) {
      status = nvfp4_safetensors_writer_write(writer, b->out, (size_t)((uint64_t)b->count * row_bytes), reason);
    }
    if (status == NVFP4_OK) {
      report_progress(job, band_bytes(b));
    }
  }
  band_free(b);
  return status;
}

static nvfp4_status write_copied(nvfp4_quantize_job *job, const nvfp4_planned_tensor *tensor, nvfp4_safetensors_writer *writer,
                                 nvfp4_reason *reason) {
  if (tensor->dtype != tensor->source->dtype || tensor->head_rows != 0) {
    return write_converted(job, tensor, writer, reason);
  }
  const uint8_t *data = tensor->source->data;
  uint64_t left = tensor->source->bytes;
  while (left > 0) {
    uint64_t piece = left < PIECE_BYTES ? left : PIECE_BYTES;
    NVFP4_TRY(nvfp4_safetensors_writer_write(writer, data, (size_t)piece, reason));
    report_progress(job, piece);
    data += piece;
    left -= piece;
  }
  return NVFP4_OK;
}

/* ------------------------------------------------------------------------------------------------------------------ the file */

typedef struct tensor_names {
  const char *weight, *scale, *global, *input;
} tensor_names;

static const tensor_names modelopt_names = {"weight", "weight_scale", "weight_scale_2", "input_scale"};
static const tensor_names ct_names = {"weight_packed", "weight_scale", "weight_global_scale", "input_global_scale"};

static nvfp4_status declare(nvfp4_quantize_job *job, nvfp4_safetensors_writer *writer, const char *module, const char *suffix,
                            nvfp4_dtype dtype, int rank, const int64_t *shape, nvfp4_reason *reason) {
  char name[1024];
  size_t module_length = strlen(module), suffix_length = strlen(suffix);
  if (module_length + suffix_length + 2 > sizeof name) {
    return nvfp4_reject(reason, NVFP4_E_UNSUPPORTED, "tensor name %.64s... is %zu bytes long; at most %zu are supported", module,
                        module_length, sizeof name - 32);
  }
  memcpy(name, module, module_length);
  name[module_length] = '.';
  memcpy(name + module_length + 1, suffix, suffix_length + 1);
  uint64_t elements = 1, bytes = 0;
  for (int d = 0; d < rank; d++) {
    elements *= (uint64_t)shape[d];
  }
  nvfp4_dtype_bytes(dtype, elements, &bytes);
  job->stats.output_bytes += bytes;
  return nvfp4_safetensors_writer_declare(writer, name, dtype, rank, shape, reason);
}

/* Declares what one planned tensor becomes, those tensors alone whose elements have `element_bytes` bytes: the file is in order of falling
 * element size, as the safetensors library writes it, so that every tensor is aligned. */
static nvfp4_status declare_size(nvfp4_quantize_job *job, const nvfp4_planned_tensor *tensor, uint64_t element_bytes,
                                 nvfp4_safetensors_writer *writer, nvfp4_reason *reason) {
  bool ct = job->options.layout == NVFP4_LAYOUT_COMPRESSED_TENSORS;
  const tensor_names *names = ct ? &ct_names : &modelopt_names;
  if (!tensor->quantise) {
    uint64_t size = 0;
    if (!nvfp4_dtype_bytes(tensor->dtype, 1, &size) || size == 0) {
      return nvfp4_reject(reason, NVFP4_E_UNSUPPORTED, "%s: tensor %s has type %s, which cannot be copied", tensor->source->file,
                          tensor->source->name, tensor->source->dtype_name);
    }
    if (size != element_bytes) {
      return NVFP4_OK;
    }
    job->stats.output_bytes += (uint64_t)(tensor->rows * tensor->columns) * size;
    return nvfp4_safetensors_writer_declare(writer, tensor->name, tensor->dtype, tensor->source->rank, tensor->source->shape, reason);
  }
  const int64_t one[1] = {1}, codes[2] = {tensor->rows, tensor->columns / 2}, scales[2] = {tensor->rows, tensor->columns / NVFP4_BLOCK};
  int scalar_rank = ct ? 1 : 0;
  if (element_bytes == sizeof(float)) {
    NVFP4_TRY(declare(job, writer, tensor->name, names->global, NVFP4_DTYPE_F32, scalar_rank, one, reason));
    if (job->options.calibration != NULL) {
      NVFP4_TRY(declare(job, writer, tensor->name, names->input, NVFP4_DTYPE_F32, scalar_rank, one, reason));
    }
  } else if (element_bytes == 1) {
    NVFP4_TRY(declare(job, writer, tensor->name, names->weight, NVFP4_DTYPE_U8, 2, codes, reason));
    NVFP4_TRY(declare(job, writer, tensor->name, names->scale, NVFP4_DTYPE_F8_E4M3, 2, scales, reason));
  }
  return NVFP4_OK;
}

static nvfp4_status write_size(nvfp4_quantize_job *job, const nvfp4_planned_tensor *tensor, uint64_t element_bytes,
                               nvfp4_safetensors_writer *writer, double sums[2], nvfp4_reason *reason) {
  if (!tensor->quantise) {
    uint64_t size = 0;
    nvfp4_dtype_bytes(tensor->dtype, 1, &size);
    return size == element_bytes ? write_copied(job, tensor, writer, reason) : NVFP4_OK;
  }
  if (element_bytes == sizeof(float)) {
    float multiplier, scalars[2] = {weight_global(job, tensor, &multiplier), input_global(job, tensor)};
    return nvfp4_safetensors_writer_write(writer, scalars, (job->options.calibration != NULL ? 2 : 1) * sizeof(float), reason);
  }
  return element_bytes == 1 ? write_quantised(job, tensor, writer, sums, reason) : NVFP4_OK;
}

nvfp4_status nvfp4_quantize_write(nvfp4_quantize_job *job, nvfp4_safetensors_writer *writer, nvfp4_reason *reason) {
  static const uint64_t sizes[] = {8, 4, 2, 1};
  NVFP4_TRY(nvfp4_safetensors_writer_metadata(writer, "format", "pt", reason)); /* transformers refuses files without it */
  for (size_t s = 0; s < 4; s++) {
    for (size_t i = 0; i < job->tensor_count; i++) {
      NVFP4_TRY(declare_size(job, &job->tensors[i], sizes[s], writer, reason));
    }
  }
  NVFP4_TRY(nvfp4_safetensors_writer_begin(writer, reason));
  double sums[2] = {0, 0};
  for (size_t s = 0; s < 4; s++) {
    for (size_t i = 0; i < job->tensor_count; i++) {
      NVFP4_TRY(write_size(job, &job->tensors[i], sizes[s], writer, sums, reason));
    }
  }
  for (size_t i = 0; i < job->tensor_count; i++) {
    const nvfp4_planned_tensor *tensor = &job->tensors[i];
    job->stats.copied_tensors += !tensor->quantise;
    job->stats.weights += tensor->quantise ? (uint64_t)(tensor->rows * tensor->columns) : 0;
  }
  const nvfp4_tensor *source;
  for (size_t i = 0; (source = nvfp4_checkpoint_tensor(job->source, i)) != NULL; i++) { /* a tied lm_head has no tensor of its own */
    job->stats.input_bytes += source->bytes;
  }
  job->stats.relative_squared_error = sums[1] > 0 ? sums[0] / sums[1] : 0;
  return NVFP4_OK;
}
