/* SPDX-License-Identifier: Apache-2.0 */
/* Both readings of the tensors, and the file of weights. */
#define _POSIX_C_SOURCE 200809L
#include "quantizer/quantizer.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/reason.h"
#include "checkpoint/checkpoint.h"
#include "format/half.h"
#include "quantizer/bands.h"

enum { PIECE_BYTES = 1 << 24 /* of a tensor that is copied as it is: how often progress is reported */ };

#define F32_INFINITY_BITS 0x7F800000u

float nvfp4_divisor_from_amax(float amax) {
  float divisor = amax > 0 ? 2688.0f / amax : 1.0f;
  return isnormal(divisor) && isnormal(1.0f / divisor) ? divisor : 1.0f;
}

void nvfp4_report_progress(nvfp4_quantize_job *job, uint64_t bytes) {
  job->done += bytes;
  if (job->options.progress != NULL) {
    job->options.progress(job->options.progress_cookie, job->done, job->total);
  }
}

/* ------------------------------------------------------------------------------------------------------------- first reading */

static void measure_task(void *arg, size_t index) {
  nvfp4_band *b = arg;
  nvfp4_band_task *task = &b->tasks[index];
  int64_t first, rows, columns = b->tensor->columns;
  task->amax_bits = task->low_bits = 0;
  if (nvfp4_band_read(b, index, &first, &rows) != NVFP4_OK) {
    return;
  }
  const float *x = b->x + first * columns;
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
  nvfp4_band *b;
  NVFP4_TRY(nvfp4_band_create(tensor, 0, 0, nvfp4_threads_count(job->threads), &b, reason));
  uint32_t amax = 0, low = 0;
  nvfp4_status status = NVFP4_OK;
  for (int64_t first = 0; first < tensor->rows && status == NVFP4_OK; first += b->rows) {
    status = nvfp4_band_run(job, b, first, measure_task, b, reason);
    for (int64_t i = 0; i * b->task_rows < b->count; i++) {
      amax = b->tasks[i].amax_bits > amax ? b->tasks[i].amax_bits : amax;
      low |= b->tasks[i].low_bits;
    }
    if (status == NVFP4_OK) {
      nvfp4_report_progress(job, nvfp4_band_bytes(b));
    }
  }
  nvfp4_band_free(b);
  memcpy(&tensor->amax, &amax, sizeof amax);
  if (tensor->dtype == NVFP4_DTYPE_NONE) {
    tensor->dtype = low == 0 ? NVFP4_DTYPE_BF16 : NVFP4_DTYPE_F32;
  }
  return status;
}

/* How often a tensor is read until it is written. */
static uint64_t readings(const nvfp4_quantize_options *options, const nvfp4_planned_tensor *tensor) {
  if (!tensor->quantise) {
    return tensor->dtype == NVFP4_DTYPE_NONE ? 2 : 1;
  }
  bool gptq = options->rounding == NVFP4_ROUNDING_GPTQ, trial = options->bits_per_weight != 0;
  return 2 + (gptq || trial ? 1 : 0) + (options->globals == NVFP4_GLOBALS_SEARCH ? NVFP4_HEADROOMS : 0);
}

static bool needs_measure(const nvfp4_planned_tensor *tensor) { return tensor->quantise || tensor->dtype == NVFP4_DTYPE_NONE; }

nvfp4_status nvfp4_quantize_measure(nvfp4_quantize_job *job, nvfp4_reason *reason) {
  job->done = job->total = 0;
  for (size_t i = 0; i < job->tensor_count; i++) {
    job->total += job->tensors[i].source->bytes * readings(&job->options, &job->tensors[i]);
  }
  for (size_t i = 0; i < job->tensor_count; i++) {
    if (needs_measure(&job->tensors[i])) {
      NVFP4_TRY(measure_tensor(job, &job->tensors[i], reason));
    }
  }
  return NVFP4_OK;
}

/* ------------------------------------------------------------------------------------------------------------ second reading */

static void convert_task(void *arg, size_t index) {
  nvfp4_band *b = arg;
  int64_t first, rows, columns = b->tensor->columns;
  uint64_t row_bytes = 0;
  nvfp4_dtype_bytes(b->tensor->dtype, (uint64_t)columns, &row_bytes);
  if (nvfp4_band_read(b, index, &first, &rows) == NVFP4_OK) {
    nvfp4_from_f32(b->x + first * columns, b->tensor->dtype, b->out + (uint64_t)first * row_bytes, rows * columns);
  }
}

float nvfp4_weight_global(const nvfp4_quantize_job *job, const nvfp4_planned_tensor *tensor, float *multiplier) {
  float amax = tensor->headroom * tensor->amax;
  if (!isfinite(amax)) { /* no room */
    amax = tensor->amax;
  }
  if (job->options.layout == NVFP4_LAYOUT_COMPRESSED_TENSORS) {
    float divisor = nvfp4_divisor_from_amax(amax);
    *multiplier = 1.0f / divisor;
    return divisor;
  }
  *multiplier = nvfp4_global_from_amax(amax);
  return *multiplier;
}

static float input_global(const nvfp4_quantize_job *job, const nvfp4_planned_tensor *tensor) {
  return job->options.layout == NVFP4_LAYOUT_COMPRESSED_TENSORS ? nvfp4_divisor_from_amax(tensor->input_amax)
                                                                : nvfp4_global_from_amax(tensor->input_amax);
}

static nvfp4_status put(void *cookie, const void *data, size_t bytes, nvfp4_reason *reason) {
  return nvfp4_safetensors_writer_write(cookie, data, bytes, reason);
}

/* Codes and scales that wait in job->rounded. */
static nvfp4_status write_rounded(nvfp4_quantize_job *job, const nvfp4_planned_tensor *tensor, nvfp4_safetensors_writer *writer,
                                  nvfp4_reason *reason) {
  int64_t left = tensor->rows * (tensor->columns / 2 + tensor->columns / NVFP4_BLOCK), at = tensor->rounded_at;
  uint8_t *piece = malloc(PIECE_BYTES);
  nvfp4_status status = piece != NULL ? NVFP4_OK : nvfp4_reject(reason, NVFP4_E_NOMEM, "out of memory for codes of %s", tensor->name);
  while (left > 0 && status == NVFP4_OK) {
    ssize_t got = pread(job->rounded, piece, (size_t)(left < PIECE_BYTES ? left : PIECE_BYTES), at);
    if (got <= 0) {
      status =
          nvfp4_reject(reason, NVFP4_E_IO, "codes of %s cannot be read back: %s", tensor->name, got < 0 ? strerror(errno) : "cut short");
    } else {
      status = nvfp4_safetensors_writer_write(writer, piece, (size_t)got, reason);
      left -= got;
      at += got;
    }
  }
  free(piece);
  nvfp4_report_progress(job, tensor->source->bytes);
  return status;
}

static nvfp4_status write_quantised(nvfp4_quantize_job *job, nvfp4_planned_tensor *tensor, nvfp4_safetensors_writer *writer,
                                    nvfp4_reason *reason) {
  if (tensor->rounded_at >= 0) {
    return write_rounded(job, tensor, writer, reason);
  }
  tensor->measured = true;
  return nvfp4_quantize_round(job, tensor, NULL, put, writer, &tensor->error, reason);
}

static nvfp4_status write_converted(nvfp4_quantize_job *job, const nvfp4_planned_tensor *tensor, nvfp4_safetensors_writer *writer,
                                    nvfp4_reason *reason) {
  uint64_t row_bytes = 0;
  nvfp4_dtype_bytes(tensor->dtype, (uint64_t)tensor->columns, &row_bytes);
  nvfp4_band *b;
  NVFP4_TRY(nvfp4_band_create(tensor, row_bytes, 0, nvfp4_threads_count(job->threads), &b, reason));
  nvfp4_status status = NVFP4_OK;
  for (int64_t first = 0; first < tensor->rows && status == NVFP4_OK; first += b->rows) {
    status = nvfp4_band_run(job, b, first, convert_task, b, reason);
    if (status == NVFP4_OK) {
      status = nvfp4_safetensors_writer_write(writer, b->out, (size_t)((uint64_t)b->count * row_bytes), reason);
    }
    if (status == NVFP4_OK) {
      nvfp4_report_progress(job, nvfp4_band_bytes(b));
    }
  }
  nvfp4_band_free(b);
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
    nvfp4_report_progress(job, piece);
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
    if (job->options.mode == NVFP4_MODE_W4A4) {
      NVFP4_TRY(declare(job, writer, tensor->name, names->input, NVFP4_DTYPE_F32, scalar_rank, one, reason));
    }
  } else if (element_bytes == 1) {
    NVFP4_TRY(declare(job, writer, tensor->name, names->weight, NVFP4_DTYPE_U8, 2, codes, reason));
    NVFP4_TRY(declare(job, writer, tensor->name, names->scale, NVFP4_DTYPE_F8_E4M3, 2, scales, reason));
  }
  return NVFP4_OK;
}

static nvfp4_status write_size(nvfp4_quantize_job *job, nvfp4_planned_tensor *tensor, uint64_t element_bytes,
                               nvfp4_safetensors_writer *writer, nvfp4_reason *reason) {
  if (!tensor->quantise) {
    uint64_t size = 0;
    nvfp4_dtype_bytes(tensor->dtype, 1, &size);
    return size == element_bytes ? write_copied(job, tensor, writer, reason) : NVFP4_OK;
  }
  if (element_bytes == sizeof(float)) {
    float multiplier, scalars[2] = {nvfp4_weight_global(job, tensor, &multiplier), input_global(job, tensor)};
    return nvfp4_safetensors_writer_write(writer, scalars, (job->options.mode == NVFP4_MODE_W4A4 ? 2 : 1) * sizeof(float), reason);
  }
  return element_bytes == 1 ? write_quantised(job, tensor, writer, reason) : NVFP4_OK;
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
  for (size_t s = 0; s < 4; s++) {
    for (size_t i = 0; i < job->tensor_count; i++) {
      NVFP4_TRY(write_size(job, &job->tensors[i], sizes[s], writer, reason));
    }
  }
  return NVFP4_OK;
}
