/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the files of this room share. The way of a run (quantizer.c):
 *
 *   plan.c          source tensors -> output tensors: which are quantised, copied, left out; names.c: GGUF names -> Hugging Face names
 *   stream.c        measure: the largest magnitude of every matrix (first reading); write: quantise and copy (second reading)
 *   calibration.c   runs the dense model over a text: the largest input of every linear layer
 *   hf_config.c     config.json, hf_quant_config.json, generation_config.json
 *   hf_tokenizer.c  tokenizer.json, tokenizer_config.json from GGUF metadata
 *   output.c        the folder: temporary names, renames, removal on an error
 *
 * Everything that can be refused from the input alone is refused before the first byte is written: hence the two readings. The second is
 * usually served by the page cache.
 */
#ifndef NVFP4_QUANTIZER_QUANTIZER_H
#define NVFP4_QUANTIZER_QUANTIZER_H

#include <jansson.h>

#include <nvfp4/nvfp4.h>
#include <nvfp4/quantize.h>

#include "base/threads.h"
#include "checkpoint/safetensors_writer.h"

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
  nvfp4_quantize_options options; /* complete: defaults filled in */
  const nvfp4_checkpoint *source;
  nvfp4_planned_tensor *tensors; /* in order of the output's names */
  size_t tensor_count;
  char **excluded; /* modules that own a 2-D weight and stay as they are: the config's ignore list */
  size_t excluded_count;
  bool own_lm_head;     /* the output has an lm_head of its own */
  uint64_t done, total; /* progress, in bytes of input read */
  nvfp4_quantize_stats stats;
} nvfp4_quantize_job;

/* plan.c: fills tensors, excluded, own_lm_head. Errors: nothing to quantise, already quantised, types and names that cannot be read. */
nvfp4_status nvfp4_quantize_plan(nvfp4_quantize_job *job, nvfp4_reason *reason);
void nvfp4_quantize_plan_free(nvfp4_quantize_job *job);

/* names.c: the Hugging Face name of GGUF tensor `name` of architecture "llama" or "qwen2" into out; false if there is none. */
bool nvfp4_gguf_hf_name(const char *name, char *out, size_t out_bytes);
/* names.c: row of the GGUF tensor that row `row` of the Hugging Face tensor is. llama.cpp's converter stores the two halves of a head's
 * rows interleaved, since its RoPE turns neighbours and Hugging Face's turns elements half a head apart. head_rows 0: unchanged. */
int64_t nvfp4_gguf_source_row(int64_t row, int64_t head_rows);

/* stream.c: reads rows first .. first+count of the planned tensor, in the output's order, as fp32. */
nvfp4_status nvfp4_quantize_read_rows(const nvfp4_planned_tensor *tensor, int64_t first, int64_t count, float *out, nvfp4_reason *reason);
/* stream.c: first reading: amax of the tensors to quantise, dtype of those left open. Errors: infinities and NaN. */
nvfp4_status nvfp4_quantize_measure(nvfp4_quantize_job *job, nvfp4_reason *reason);
/* stream.c: declares all tensors, then quantises and copies into the writer (created, not begun); fills job->stats. */
nvfp4_status nvfp4_quantize_write(nvfp4_quantize_job *job, nvfp4_safetensors_writer *writer, nvfp4_reason *reason);
/* stream.c: compressed-tensors' divisor for amax: 2688/amax, or 1 where that or its reciprocal is not a normal number. */
float nvfp4_divisor_from_amax(float amax);

/* calibration.c: fills input_amax of every tensor to quantise. Errors: an empty text, layers that the model never ran. */
nvfp4_status nvfp4_quantize_calibrate(nvfp4_quantize_job *job, nvfp4_reason *reason);

/* hf_config.c: JSON texts, malloc'ed for the caller. Where the source has no such thing, *out = NULL and NVFP4_OK. */
nvfp4_status nvfp4_hf_config(const nvfp4_quantize_job *job, char **out, nvfp4_reason *reason);
nvfp4_status nvfp4_hf_quant_config(const nvfp4_quantize_job *job, char **out, nvfp4_reason *reason);      /* ModelOpt only */
nvfp4_status nvfp4_hf_generation_config(const nvfp4_quantize_job *job, char **out, nvfp4_reason *reason); /* from GGUF only */
/* hf_config.c: value as text with the fewest digits that keep it; steals the reference. */
nvfp4_status nvfp4_json_text(json_t *value, char **out, nvfp4_reason *reason);

/* hf_tokenizer.c: the same, from GGUF only. */
nvfp4_status nvfp4_hf_tokenizer(const nvfp4_quantize_job *job, char **out, nvfp4_reason *reason);
nvfp4_status nvfp4_hf_tokenizer_config(const nvfp4_quantize_job *job, char **out, nvfp4_reason *reason);

/* output.c: a folder that is being written. */
typedef struct nvfp4_output nvfp4_output;
/* Makes the folder if there is none. Errors: it is no folder, or holds a checkpoint already. */
nvfp4_status nvfp4_output_create(const char *path, nvfp4_output **out, nvfp4_reason *reason);
/* Writes a file under a temporary name. The one given last is renamed last. Errors: the folder has a file of that name. */
nvfp4_status nvfp4_output_add(nvfp4_output *output, const char *name, const void *data, size_t bytes, nvfp4_reason *reason);
/* Path of file `name` in the folder, that somebody else (the safetensors writer) writes; it is removed unless commit succeeds. */
const char *nvfp4_output_claim(nvfp4_output *output, const char *name, nvfp4_reason *reason);
/* Renames every file, in the order in which they were added. */
nvfp4_status nvfp4_output_commit(nvfp4_output *output, nvfp4_reason *reason);
/* Frees; without a successful commit it removes every file it made, and the folder if it made that. NULL is allowed. */
void nvfp4_output_destroy(nvfp4_output *output);

#endif
