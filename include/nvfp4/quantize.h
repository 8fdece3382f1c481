/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Makes NVFP4 checkpoints. Conventions as in nvfp4.h.
 */
#ifndef NVFP4_QUANTIZE_H
#define NVFP4_QUANTIZE_H

#include <nvfp4/nvfp4.h>

#ifdef __cplusplus
extern "C" {
#endif

/* How a block's E4M3 scale is found. */
typedef enum nvfp4_scale_search {
  NVFP4_SCALES_RTN = 0,  /* e4m3_rn(amax/6 / global): round to nearest, as ModelOpt's default */
  NVFP4_SCALES_SWEEP = 1 /* of all 126 positive finite E4M3 codes the one with least squared error; ties: the smallest code */
} nvfp4_scale_search;

/* Quantises rows of a matrix x [n, k] (fp32, row-major, ld k) with the multiplier `global`: codes [n, k/2], scales [n, k/16] (linear). A
 * zero block gets codes 0 and scale 1.0 (0x38), as ModelOpt writes it. Non-finite input is an error that names row and column. If error is
 * not NULL, error[0] gets the sum of squared errors and error[1] the sum of squares, in double. Uses no threads: call it for ranges of
 * rows. */
NVFP4_API nvfp4_status nvfp4_quantise_matrix(const float *x, int64_t n, int64_t k, float global, nvfp4_scale_search search, uint8_t *codes,
                                             uint8_t *scales, double error[2], nvfp4_reason *reason);

/* The multiplier for a matrix whose largest magnitude is amax: amax/2688 in fp32; 1 if amax is 0 or so small that it would vanish. */
NVFP4_API float nvfp4_global_from_amax(float amax);

typedef void (*nvfp4_progress_fn)(void *cookie, uint64_t done, uint64_t total);

typedef struct nvfp4_quantize_options {
  uint32_t struct_size;
  nvfp4_layout_kind layout; /* NONE means MODELOPT. GGUF, MLX and COMFY are converted from ModelOpt's, made in a folder beside the output */
  nvfp4_scale_search scales;
  bool lm_head;               /* quantise the output projection too (a tied one becomes its own tensor) */
  const char *calibration;    /* UTF-8 text, or NULL. With it the model is run and input scales are written: W4A4. Without: W4A16 */
  int64_t calibration_tokens; /* at most that many; 0: 4096 */
  const char *tool;           /* for the config's producer; NULL: "libnvfp4" */
  nvfp4_progress_fn progress; /* in bytes of input, those that are read twice counted twice; NULL: none. Called from the calling thread */
  void *progress_cookie;
} nvfp4_quantize_options;

typedef struct nvfp4_quantize_stats {
  uint32_t struct_size;
  int64_t layers;         /* quantised */
  int64_t copied_tensors; /* taken over as they were */
  uint64_t weights;       /* elements quantised */
  uint64_t input_bytes, output_bytes;
  double relative_squared_error; /* sum (w - q)^2 / sum w^2 over all quantised weights */
  double worst_relative_squared_error;
  char worst_layer[128];
} nvfp4_quantize_stats;

/* Quantises the linear layers of checkpoint `input` (f32, f16, bf16 safetensors, or GGUF) into the folder `output` (GGUF: the file; matrices
 * whose K is no multiple of 64 stay as they are there): model.safetensors, config.json, hf_quant_config.json, the tokenizer's files. Embeddings, norms and (unless asked) lm_head are copied. A tensor at a time:
 * memory stays below a few times the largest tensor, but for calibration, which holds the model. Everything is written to temporary names
 * and renamed at the end; an existing folder is refused if it holds a checkpoint. stats may be NULL.
 *
 * The same input and options give the same bytes with any number of threads. Each layer has a global scale of its own, also those that
 * engines fuse (q/k/v, gate/up): this library keeps them apart. Copied tensors keep their bits; from GGUF, F32 tensors become bf16 where
 * that is exact, and blocks (a Q8_0 embedding) are rounded to bf16.
 *
 * Errors: NVFP4_E_UNSUPPORTED for an input that is quantised already, has no linear layer or cannot be translated (GGUF files of another
 * architecture than llama and qwen2); NVFP4_E_FORMAT for weights that are not finite; NVFP4_E_IO. After an error no file is left behind. */
NVFP4_API nvfp4_status nvfp4_quantize_checkpoint(nvfp4_context *context, const char *input, const char *output,
                                                 const nvfp4_quantize_options *options, nvfp4_quantize_stats *stats, nvfp4_reason *reason);

#ifdef __cplusplus
}
#endif
#endif
