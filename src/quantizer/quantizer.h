/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the files of this room share. The way of a run (quantizer.c):
 *
 *   plan.c          source tensors -> output tensors: which are quantised, copied, left out
 *   stream.c        measure: the largest magnitude of every matrix (first reading); write: quantise and copy (second reading)
 *   relayout.c      GGUF, MLX, Comfy: a ModelOpt checkpoint, converted
 *   calibration.c   runs the dense model over a text: what every linear layer is fed
 *   round.c         a layer's codes and scales, and their error; gptq.c: the same by second order, while its block is calibrated; blas.c: OpenBLAS
 *   choose.c        multipliers, and layers that stay unquantised, by measured error
 *   bands.c         a tensor in bands of rows, for the threads
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
#include "quantizer/blas.h"

/* Random combinations of the rows of a layer's inputs, in which output errors are measured. */
enum { NVFP4_SKETCH_ROWS = 32 };

/* calibration.c: what the text feeds a layer, or several that read the same. */
typedef struct nvfp4_layer_input {
  int64_t k, rows;   /* rows seen */
  float amax;        /* largest magnitude; infinity or NaN if there was one */
  float *importance; /* [k]: the sums of x^2 while rows come in, in the end their means */
  float *sketch;     /* [k, NVFP4_SKETCH_ROWS] */
  float *sample;     /* [SAMPLE_ROWS, k], and */
  double *hessian;   /* [k, k]: while the layer's block is read, if they are asked for; otherwise NULL */
} nvfp4_layer_input;

/* round.c: what rounding a layer costs. */
typedef struct nvfp4_rounding_error {
  double weight[2]; /* sum of (w - q)^2, sum of w^2 */
  double output[2]; /* the same of the products with the sketch of the layer's inputs; 0 without calibration */
} nvfp4_rounding_error;

/* A tensor of the output and where it comes from. */
typedef struct nvfp4_planned_tensor {
  const nvfp4_tensor *source;
  char *name; /* of the output tensor; of a quantised one, of its module ("model.layers.0.mlp.up_proj"): the layout adds suffixes */
  bool quantise;
  nvfp4_dtype
      dtype;       /* of a copied tensor in the output; NVFP4_DTYPE_NONE: bf16 if that is exact, else F32 (decided by the first reading) */
  int64_t rows;    /* first dimension (1 of a scalar) */
  int64_t columns; /* elements of a row */
  int64_t head_rows;        /* rows of a head where GGUF keeps the halves of a head interleaved, 0 elsewhere */
  float amax;               /* largest magnitude, of the first reading */
  float headroom;           /* the multiplier is the one for headroom * amax */
  float input_amax;         /* magnitude that the input scale is made for; negative: never seen */
  nvfp4_layer_input *input; /* the job's; NULL without calibration */
  int64_t rounded_at;       /* where codes and scales lie in job->rounded; negative: not rounded yet */
  bool measured;            /* error is known */
  nvfp4_rounding_error error;
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
  nvfp4_layer_input *inputs;     /* room for one a tensor; in the order in which calibration meets them */
  size_t input_count;
  float *
      statistics; /* what they hold for good, in one piece: small pieces between those that come and go would keep the heap from shrinking */
  size_t statistics_used;
  nvfp4_blas blas; /* with GPTQ */
  int rounded;     /* file without a name, of what was rounded before its turn in the output comes; negative: none */
  int64_t rounded_bytes;
  uint64_t done, total; /* progress, in bytes of input read */
  nvfp4_quantize_stats stats;
} nvfp4_quantize_job;

/* plan.c: fills tensors, excluded, own_lm_head. Errors: nothing to quantise, already quantised, types and names that cannot be read. */
nvfp4_status nvfp4_quantize_plan(nvfp4_quantize_job *job, nvfp4_reason *reason);
/* plan.c: what the configs say of the planned output; borrows from the job. */
nvfp4_status nvfp4_quantize_describe(nvfp4_quantize_job *job, nvfp4_model_description *out, nvfp4_reason *reason);
void nvfp4_quantize_plan_free(nvfp4_quantize_job *job);

/* plan.c: a tensor that was to be quantised stays as it is. */
nvfp4_status nvfp4_quantize_leave(nvfp4_quantize_job *job, nvfp4_planned_tensor *tensor, nvfp4_reason *reason);

/* bands.c: reads rows first .. first+count of the planned tensor, in the output's order, as fp32. */
nvfp4_status nvfp4_quantize_read_rows(const nvfp4_planned_tensor *tensor, int64_t first, int64_t count, float *out, nvfp4_reason *reason);
/* stream.c: first reading: amax of the tensors to quantise, dtype of those left open. Errors: infinities and NaN. */
nvfp4_status nvfp4_quantize_measure(nvfp4_quantize_job *job, nvfp4_reason *reason);
/* stream.c: declares all tensors, then quantises and copies into the writer (created, not begun). */
nvfp4_status nvfp4_quantize_write(nvfp4_quantize_job *job, nvfp4_safetensors_writer *writer, nvfp4_reason *reason);
/* stream.c: compressed-tensors' divisor for amax: 2688/amax, or 1 where that or its reciprocal is not a normal number. */
float nvfp4_divisor_from_amax(float amax);

/* relayout.c: whether the layout is made by conversion; the folder to make the ModelOpt checkpoint in, malloc'ed (NULL: refused); the
 * conversion, which removes that folder. */
bool nvfp4_quantize_relayouts(nvfp4_layout_kind layout);
char *nvfp4_quantize_folder_beside(const char *output, nvfp4_reason *reason);
nvfp4_status nvfp4_quantize_relayout(const char *folder, const char *output, nvfp4_layout_kind layout, const char *tool,
                                     nvfp4_reason *reason);

/* stream.c: the stored global scale of a tensor's weights, and the multiplier that it stands for. */
float nvfp4_weight_global(const nvfp4_quantize_job *job, const nvfp4_planned_tensor *tensor, float *multiplier);
/* stream.c: job->done += bytes of input, and the caller hears of it. */
void nvfp4_report_progress(nvfp4_quantize_job *job, uint64_t bytes);

/* calibration.c: fills input and input_amax of every tensor to quantise; with GPTQ rounds them, block by block. Errors: an empty text, layers that
 * the model never ran. */
nvfp4_status nvfp4_quantize_calibrate(nvfp4_quantize_job *job, nvfp4_reason *reason);
void nvfp4_layer_inputs_free(nvfp4_quantize_job *job);

typedef nvfp4_status (*nvfp4_put_fn)(void *cookie, const void *data, size_t bytes, nvfp4_reason *reason);
/* round.c: rounds the tensor as the job's options and, unless NULL, the factor of its Hessian (gptq.h) say. put (NULL: none) gets the codes in
 * pieces, in order of rows, and then all block scales. */
nvfp4_status nvfp4_quantize_round(nvfp4_quantize_job *job, const nvfp4_planned_tensor *tensor, const double *factor, nvfp4_put_fn put,
                                  void *cookie, nvfp4_rounding_error *error, nvfp4_reason *reason);
/* round.c: the sum of (w - q)^2 over that of w^2, or of the products with the sketch; 0 if all is 0. */
double nvfp4_relative_error(const double sums[2]);

/* choose.c: makes amax that of all parts of a layer that engines fuse. Only for NVFP4_GLOBALS_FUSED. */
nvfp4_status nvfp4_quantize_fuse_globals(nvfp4_quantize_job *job, nvfp4_reason *reason);
/* choose.c: fills headroom: of several multipliers the one of least squared error. Only for NVFP4_GLOBALS_SEARCH. */
nvfp4_status nvfp4_quantize_choose_global(nvfp4_quantize_job *job, nvfp4_planned_tensor *tensor, nvfp4_reason *reason);
/* quantizer.c: after the writing, fills stats and tells the caller of every layer. */
void nvfp4_quantize_report(nvfp4_quantize_job *job);
/* choose.c: how often nvfp4_quantize_choose_global reads a tensor. */
enum { NVFP4_HEADROOMS = 9 };
/* choose.c: leaves layers unquantised as options.bits_per_weight allows. */
nvfp4_status nvfp4_quantize_choose_layers(nvfp4_quantize_job *job, nvfp4_reason *reason);

#endif
