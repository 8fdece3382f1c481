/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A tensor is worked on in bands of rows: a band is cut into tasks for the threads, and its results are used before the next one begins.
 * What a task does depends on its rows alone, and sums are added in order of rows: nothing depends on the number of threads. Memory: one band
 * (16 MiB of fp32 unless rows are very long), its results, and the block scales of one matrix, which follow its codes in the file.
 */
#ifndef NVFP4_QUANTIZER_BANDS_H
#define NVFP4_QUANTIZER_BANDS_H

#include "quantizer/quantizer.h"

enum { NVFP4_BAND_TASKS = 64 };

typedef struct nvfp4_band_task { /* what one task found */
  uint32_t amax_bits;            /* of the magnitudes, as integers: infinities and NaN come out largest */
  uint32_t low_bits;             /* of all values, or'ed: no bf16 has any of the lower 16 */
  nvfp4_rounding_error error;
  nvfp4_status status;
  nvfp4_reason reason;
} nvfp4_band_task;

typedef struct nvfp4_band {
  const nvfp4_planned_tensor *tensor;
  int64_t task_rows;    /* rows of a task */
  int64_t rows;         /* rows of a band */
  int64_t first, count; /* the band's own */
  float global;         /* of the quantising */
  nvfp4_scale_search search;
  float *x;        /* [rows, columns] */
  uint8_t *out;    /* codes, or converted elements, of the band */
  uint8_t *scales; /* of the whole matrix */
  nvfp4_band_task tasks[NVFP4_BAND_TASKS];
} nvfp4_band;

/* out_bytes: of one row's output. Freed by nvfp4_band_free. */
nvfp4_status nvfp4_band_create(const nvfp4_planned_tensor *tensor, uint64_t out_bytes, uint64_t scale_bytes, int threads, nvfp4_band **out,
                               nvfp4_reason *reason);
void nvfp4_band_free(nvfp4_band *band);

/* Runs task(arg, i) over the band of rows that begins at `first`; the first refusal, in order of rows, counts. */
nvfp4_status nvfp4_band_run(nvfp4_quantize_job *job, nvfp4_band *band, int64_t first, nvfp4_task_fn task, void *arg, nvfp4_reason *reason);

/* For tasks: reads the rows of task `index` into their place in x. *first and *count: which rows of the band these are. */
nvfp4_status nvfp4_band_read(nvfp4_band *band, size_t index, int64_t *first, int64_t *count);

/* Bytes of the source that the band covers: all bands together cover it exactly. */
uint64_t nvfp4_band_bytes(const nvfp4_band *band);

#endif
