/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Converts NVFP4 checkpoints between layouts. Conventions as in nvfp4.h; docs/formats.md has the layouts and what each can hold.
 */
#ifndef NVFP4_CONVERT_H
#define NVFP4_CONVERT_H

#include <nvfp4/nvfp4.h>

#ifdef __cplusplus
extern "C" {
#endif

/* What the caller is told, tensor by tensor, while a conversion is planned. loss: the target cannot hold this as it is (needs allow_lossy);
 * otherwise a remark, such as what other readers than this library will not see. Texts are borrowed for the call. */
typedef void (*nvfp4_convert_tell_fn)(void *cookie, bool loss, const char *tensor, const char *text);

/* done of total bytes of output. */
typedef void (*nvfp4_convert_progress_fn)(void *cookie, uint64_t done, uint64_t total);

typedef struct nvfp4_convert_options {
  uint32_t struct_size;
  nvfp4_layout_kind layout; /* of the output */
  bool allow_lossy;         /* go on where something is lost */
  bool one_level;           /* GGUF, MLX: fold each global scale into the block scales, for readers that know of none */
  bool dry_run;             /* plan and tell, write nothing */
  uint64_t max_shard_bytes; /* of safetensors in a folder: data of one file at most, but for larger tensors; 0: one file */
  const char *tool;         /* for the config's producer; NULL: "libnvfp4" */
  nvfp4_convert_tell_fn tell;
  nvfp4_convert_progress_fn progress;
  void *cookie; /* of both */
} nvfp4_convert_options;

typedef struct nvfp4_convert_stats {
  uint32_t struct_size;
  nvfp4_layout_kind source; /* layout of the input; of several the first layer's */
  int64_t layers;           /* NVFP4 */
  int64_t fp8_layers;
  int64_t copied_tensors;  /* everything else */
  int64_t globals;         /* global scales whose number changes (divisor, multiplier, amax); the old ones are kept as metadata */
  int64_t inexact_globals; /* of these: those that a reader without the metadata cannot get back, 1 ulp off */
  int64_t losses;
  int64_t files;                      /* that hold weights */
  uint64_t input_bytes, output_bytes; /* of tensors */
} nvfp4_convert_stats;

/* Writes checkpoint `input`, in any of the five layouts, as `layout` into `output`: a folder (config.json, hf_quant_config.json of ModelOpt,
 * the tokenizer's files, safetensors), or one file if `output` ends in ".safetensors" (no configs then) or the layout is GGUF.
 *
 * Lossless: codes and block scales keep their bits; a global scale that changes its kind is rounded once, to fp32, and the number it was is kept in
 * the metadata ("nvfp4.global." and the name of the tensor that held it: 8 hex digits, or "none"), which this library uses on the way back.
 * FP8 layers and all other tensors keep their values, and their bits where the target has the type. What the target cannot hold is a loss, refused with
 * NVFP4_E_UNSUPPORTED unless allow_lossy; every loss is told first.
 *
 * Memory: a few MiB beside the mappings and the headers. Files have temporary names until everything is on the disk; config.json comes last; nothing
 * that exists is replaced. options may not be NULL (layout must be set); stats may be NULL. */
NVFP4_API nvfp4_status nvfp4_convert_checkpoint(const char *input, const char *output, const nvfp4_convert_options *options,
                                                nvfp4_convert_stats *stats, nvfp4_reason *reason);

#ifdef __cplusplus
}
#endif
#endif
