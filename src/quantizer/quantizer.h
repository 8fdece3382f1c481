/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the files of this room share. The way of a run (quantizer.c):
 *
 *   plan.c          source tensors -> output tensors: which are quantised, copied, left out
 *   stream.c        measure: the largest magnitude of every matrix (first reading); write: quantise and copy (second reading)
 *   relayout.c      GGUF, MLX, Comfy: a ModelOpt checkpoint, converted
 *   calibration.c   runs the dense model over a text: the largest input of every linear layer
 *
 * Configs, tokenizer and the output folder: layouts/.
 *
 * Everything that can be refused from the input alone is refused before the first byte is written: hence the two readings. The second is
 * usually served by the page cache.
 */
#ifndef NVFP4_QUANTIZER_QUANTIZER_H
#define NVFP4_QUANTIZER_QUANTIZER_H

#include <nvfp4/nvfp4.h>
#include <nvfp4/quantize.h>

#include "base/threads.h"
#include "checkpoint/safetensors_writer.h"
#include "layouts/layouts.h"

/* A tensor of the output and where it comes from. */
typedef struct nvfp4_planned_tensor {
  const nvfp4_tensor *source;
  char *name; /* of the output tensor; of a quantised one, of its module ("model.layers.0.mlp.up_proj"): the layout adds suffixes */
  bool quantise;
  nvfp4_dtype
      dtype;       /* of a copied tensor in the output; NVFP4_DTYPE_NONE: bf16 if that is exact, else F32 (decided by the first reading) */
  int64_t rows;    /* first dimension (1 of a scalar) */
  int64_t columns; /* elements of a row */
  int64_t head_rows; /* rows of a head where GGUF keeps the halves of a head interleaved, 0 elsewhere */
  float amax;        /* largest magnitude, of the first reading */
  float input_amax;  /* largest magnitude of the layer's inputs; negative: never seen */
} nvfp4_planned_tensor;

typedef struct nvfp4_quantize_job {
  nvfp4_threads *threads;
  nvfp4_context *context;
  nvfp4_quantize_options options; /* complete: defaults filled in; layout: MODELOPT where that is converted */
  int64_t k_multiple;             /* of the matrices that the final layout can hold: 16, or GGUF's 64 */
  const nvfp4_checkpoint *source;
  nvfp4_planned_tensor *tensors; /* in order of the output's names */
  size_t tensor_count;
  char **excluded; /* modules that own a 2-D weight and stay as they are: the config's ignore list */
  size_t excluded_count;
  bool own_lm_head;              /* the output has an lm_head of its own */
  nvfp4_config_layer *described; /* one a quantised tensor, for the configs */
  uint64_t done, total;          /* progress, in bytes of input read */
  nvfp4_quantize_stats stats;
} nvfp4_quantize_job;

/* plan.c: fills tensors, excluded, own_lm_head. Errors: nothing to quantise, already quantised, types and names that cannot be read. */
nvfp4_status nvfp4_quantize_plan(nvfp4_quantize_job *job, nvfp4_reason *reason);
/* plan.c: what the configs say of the planned output; borrows from the job. */
nvfp4_status nvfp4_quantize_describe(nvfp4_quantize_job *job, nvfp4_model_description *out, nvfp4_reason *reason);
void nvfp4_quantize_plan_free(nvfp4_quantize_job *job);

/* stream.c: reads rows first .. first+count of the planned tensor, in the output's order, as fp32. */
nvfp4_status nvfp4_quantize_read_rows(const nvfp4_planned_tensor *tensor, int64_t first, int64_t count, float *out, nvfp4_reason *reason);
/* stream.c: first reading: amax of the tensors to quantise, dtype of those left open. Errors: infinities and NaN. */
nvfp4_status nvfp4_quantize_measure(nvfp4_quantize_job *job, nvfp4_reason *reason);
/* stream.c: declares all tensors, then quantises and copies into the writer (created, not begun); fills job->stats. */
nvfp4_status nvfp4_quantize_write(nvfp4_quantize_job *job, nvfp4_safetensors_writer *writer, nvfp4_reason *reason);
/* stream.c: compressed-tensors' divisor for amax: 2688/amax, or 1 where that or its reciprocal is not a normal number. */
float nvfp4_divisor_from_amax(float amax);

/* relayout.c: whether the layout is made by conversion; the folder to make the ModelOpt checkpoint in, malloc'ed (NULL: refused); the
 * conversion, which removes that folder. */
bool nvfp4_quantize_relayouts(nvfp4_layout_kind layout);
char *nvfp4_quantize_folder_beside(const char *output, nvfp4_reason *reason);
nvfp4_status nvfp4_quantize_relayout(const char *folder, const char *output, nvfp4_layout_kind layout, const char *tool,
                                     nvfp4_reason *reason);

/* calibration.c: fills input_amax of every tensor to quantise. Errors: an empty text, layers that the model never ran. */
nvfp4_status nvfp4_quantize_calibrate(nvfp4_quantize_job *job, nvfp4_reason *reason);

#endif
