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

/* How a block's E4M3 scale is found. "Error": the block's squared error, each element's weighted with its column's importance. */
typedef enum nvfp4_scale_search {
  NVFP4_SCALES_RTN = 0,          /* e4m3_rn(amax/6 / global): round to nearest, as ModelOpt's default */
  NVFP4_SCALES_SWEEP = 1,        /* of all 126 positive finite E4M3 codes the one with least error; ties: the smallest code */
  NVFP4_SCALES_FOUR_OVER_SIX = 2 /* of the scales that make the largest magnitude 6 and 4 (Cook et al., arXiv 2512.02010) the one with less
                                  * error. Needs headroom above the largest scale: the multiplier is the one for 1.75 * amax, amax/1536 */
} nvfp4_scale_search;

/* Quantises rows of a matrix x [n, k] (fp32, row-major, ld k) with the multiplier `global`: codes [n, k/2], scales [n, k/16] (linear). A
 * zero block gets codes 0 and scale 1.0 (0x38), as ModelOpt writes it. importance [k]: what a squared error counts in each column, finite
 * and >= 0, such as the mean square of the layer's inputs; NULL (and blocks where all are 0): the same everywhere. Non-finite input is an error
 * that names row and column. If error is not NULL, error[0] gets the sum of squared errors (not weighted) and error[1] the sum of squares, in
 * double. Uses no threads: call it for ranges of rows. */
NVFP4_API nvfp4_status nvfp4_quantise_matrix(const float *x, int64_t n, int64_t k, float global, nvfp4_scale_search search,
                                             const float *importance, uint8_t *codes, uint8_t *scales, double error[2],
                                             nvfp4_reason *reason);

/* The multiplier for a matrix whose largest magnitude is amax: amax/2688 in fp32; 1 if amax is 0 or so small that it would vanish. */
NVFP4_API float nvfp4_global_from_amax(float amax);

typedef void (*nvfp4_progress_fn)(void *cookie, uint64_t done, uint64_t total);

/* How codes are found once a block has its scale. */
typedef enum nvfp4_rounding {
  NVFP4_ROUNDING_NEAREST = 0, /* each weight by itself: the nearest value */
  NVFP4_ROUNDING_GPTQ = 1 /* second order (Frantar et al., arXiv 2210.17323): column after column, the error of one is made up for in the
                               * next ones, as X^T X of the layer's calibration inputs says; block scales are found when their columns are
                               * reached. Needs a calibration text, and OpenBLAS at run time: nvfp4_gptq_available */
} nvfp4_rounding;

/* How the multipliers (global scales) of tensors are found. */
typedef enum nvfp4_globals {
  NVFP4_GLOBALS_FUSED = 0, /* from the largest weight: for parts that engines fuse (q/k/v, gate/up, w1/w3) of all of them, since some keep
                           * one number for all. vLLM takes the largest, and leaves the others' block scales as they are */
  NVFP4_GLOBALS_AMAX = 1,  /* from the largest weight of each tensor */
  NVFP4_GLOBALS_SEARCH = 2 /* of the multipliers amax/2688 * (1, 9/8, ... 2) the one of least squared error: nine times the work */
} nvfp4_globals;

/* How a layer's input scale is found: it is made for inputs of the magnitude `range`, as range/2688. */
typedef enum nvfp4_input_range {
  NVFP4_INPUT_AMAX = 0, /* range: the largest magnitude that calibration saw */
  NVFP4_INPUT_MSE = 1   /* of that and its 1/2, 1/4, ... 1/64 the one with the least squared error over a sample of the inputs */
} nvfp4_input_range;

/* What became of a linear layer. */
typedef struct nvfp4_quantized_layer {
  const char *name; /* of the module in the output */
  int64_t n, k;
  nvfp4_mode mode;               /* W4A4 or W4A16; UNQUANTISED: left as it was to keep bits_per_weight */
  double relative_squared_error; /* sum (w - q)^2 / sum w^2; of a layer that was left as it was: what it would have been */
  double relative_output_error;  /* sum (x w - x q)^2 / sum (x w)^2 over the calibration text, x unquantised; estimated from 32 random
                                  * combinations of its rows (the same ones whatever the method); negative without calibration */
} nvfp4_quantized_layer;
typedef void (*nvfp4_quantized_layer_fn)(void *cookie, const nvfp4_quantized_layer *layer);

typedef struct nvfp4_quantize_options {
  uint32_t struct_size;
  nvfp4_layout_kind layout; /* NONE means MODELOPT. GGUF, MLX and COMFY are converted from ModelOpt's, made in a folder beside the output */
  nvfp4_scale_search scales;
  bool lm_head;               /* quantise the output projection too (a tied one becomes its own tensor) */
  const char *calibration;    /* UTF-8 text, or NULL. With it the model is run and input scales are written: W4A4. Without: W4A16 */
  int64_t calibration_tokens; /* at most that many; 0: 4096, with GPTQ 32768 */
  const char *tool;           /* for the config's producer; NULL: "libnvfp4" */
  nvfp4_progress_fn progress; /* in bytes of input, those that are read twice counted twice; NULL: none. Called from the calling thread */
  void *progress_cookie;
  nvfp4_mode mode;         /* W4A4, W4A16, or UNQUANTISED (0): W4A4 if there is a calibration text. W4A16 with one uses it for the rest */
  bool importance;         /* weight squared errors with the mean square of the layer's inputs in each column: needs a calibration text */
  nvfp4_rounding rounding; /* with GPTQ, the Hessian takes the place of importance */
  double damping;          /* GPTQ: what is added to the Hessian's diagonal, as a part of its mean; 0: 0.01. More trusts the text less */
  nvfp4_globals globals;
  double bits_per_weight; /* 0, or 4.5 to 16: as many of the layers with the largest error for their size stay unquantised (bf16, or as
                            * the input has them, at 16 or 32 bits) as the average over all linear layers allows. Errors are those of
                            * the outputs if there is a calibration text, else those of the weights */
  nvfp4_input_range input_range;
  nvfp4_quantized_layer_fn layer; /* called once a linear layer, in order of names, before the function returns; NULL: none */
  void *layer_cookie;
} nvfp4_quantize_options;

/* Whether NVFP4_ROUNDING_GPTQ can be done here: opens OpenBLAS (libopenblas.so.0), which stays loaded. If not, reason says what to install. */
NVFP4_API nvfp4_status nvfp4_gptq_available(nvfp4_reason *reason);

typedef struct nvfp4_quantize_stats {
  uint32_t struct_size;
  int64_t layers;         /* quantised */
  int64_t copied_tensors; /* taken over as they were */
  uint64_t weights;       /* elements quantised */
  uint64_t input_bytes, output_bytes;
  double relative_squared_error; /* sum (w - q)^2 / sum w^2 over all quantised weights */
  double worst_relative_squared_error;
  char worst_layer[128];
  double relative_output_error; /* mean over the quantised layers; negative without calibration */
  double bits_per_weight;       /* average over all linear layers, those left as they were included */
} nvfp4_quantize_stats;

/* Quantises the linear layers of checkpoint `input` (f32, f16, bf16 safetensors, or GGUF) into the folder `output` (GGUF: the file; matrices
 * whose K is no multiple of 64 stay as they are there): model.safetensors, config.json, hf_quant_config.json, the tokenizer's files.
 * Embeddings, norms and (unless asked) lm_head are copied. A tensor at a time: memory stays below a few times the largest tensor;
 * calibration holds one block of the model, and GPTQ adds the Hessians of one block, 8 K^2 bytes for each different input of its layers,
 * and codes and scales in a file beside the output until it is written. Everything is written to temporary names
 * and renamed at the end; an existing folder is refused if it holds a checkpoint. stats may be NULL.
 *
 * The same input and options give the same bytes with any number of threads; with GPTQ, on processors for which OpenBLAS gives the same
 * bits. Copied tensors keep their bits; from GGUF, F32 tensors become bf16 where that is exact, and blocks (a Q8_0 embedding) are rounded
 * to bf16.
 *
 * Errors: NVFP4_E_UNSUPPORTED for an input that is quantised already, has no linear layer or cannot be translated (GGUF files of another
 * architecture than llama and qwen2), and for GPTQ without OpenBLAS; NVFP4_E_ARG for options that need a calibration text without one;
 * NVFP4_E_FORMAT for weights that are not finite; NVFP4_E_IO. After an error no file is left behind. */
NVFP4_API nvfp4_status nvfp4_quantize_checkpoint(nvfp4_context *context, const char *input, const char *output,
                                                 const nvfp4_quantize_options *options, nvfp4_quantize_stats *stats, nvfp4_reason *reason);

#ifdef __cplusplus
}
#endif
#endif
