/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What every writer of checkpoints needs beside the tensors; the quantiser and the converter share it:
 *
 *   hf_config.c        config.json, generation_config.json; hf_quantisation.c: their part about quantisation, hf_quant_config.json
 *   gguf_config.c      GGUF metadata from config.json; gguf_tokenizer.c from tokenizer.json
 *   gguf_writer.c      GGUF files (safetensors: checkpoint/safetensors_writer.c)
 *   hf_tokenizer.c     tokenizer.json, tokenizer_config.json from GGUF metadata
 *   names.c            GGUF names and row order <-> Hugging Face's
 *   output.c           the folder: temporary names, renames, removal on an error
 */
#ifndef NVFP4_LAYOUTS_LAYOUTS_H
#define NVFP4_LAYOUTS_LAYOUTS_H

#include <jansson.h>

#include <nvfp4/nvfp4.h>

/* Metadata of our own GGUF files: the config.json that they were made of. */
#define NVFP4_METADATA_CONFIG "nvfp4.config_json"

/* general.architecture of our GGUF files that hold no language model; their tensors keep their names. */
#define NVFP4_GGUF_NO_MODEL "unknown"

/* A quantised layer, for the configs. */
typedef struct nvfp4_config_layer {
  const char *name;  /* of the module, Hugging Face's */
  nvfp4_mode mode;   /* W4A4, W4A16 or FP8 */
  bool fp8_channels; /* a scale for every row, instead of one */
  bool fp8_dynamic;  /* no input scale is stored */
} nvfp4_config_layer;

/* What the configs of an output say. Everything is borrowed. */
typedef struct nvfp4_model_description {
  const nvfp4_checkpoint *source;
  nvfp4_layout_kind layout;
  const char *tool;                 /* of the config's producer */
  const nvfp4_config_layer *layers; /* quantised */
  size_t layer_count;
  char *const *excluded; /* modules that own a 2-D weight and are not quantised: the ignore list */
  size_t excluded_count;
  bool own_lm_head;              /* the output has an lm_head of its own */
  bool untie;                    /* ... and the source had none: tie_word_embeddings becomes false */
  bool attention_bias, mlp_bias; /* the output has biases there */
  bool kv_cache_fp8;             /* the source says so */
} nvfp4_model_description;

/* hf_config.c: JSON texts, malloc'ed for the caller. Where the source has no such thing, *out = NULL and NVFP4_OK. */
nvfp4_status nvfp4_hf_config(const nvfp4_model_description *model, char **out, nvfp4_reason *reason);
nvfp4_status nvfp4_hf_quant_config(const nvfp4_model_description *model, char **out,
                                   nvfp4_reason *reason); /* ModelOpt only; hf_quantisation.c */
nvfp4_status nvfp4_hf_generation_config(const nvfp4_model_description *model, char **out, nvfp4_reason *reason); /* from GGUF only */
/* hf_quantisation.c: "quantization_config" (MLX: "quantization"); NULL for a layout that has none, or without memory. */
json_t *nvfp4_hf_quantisation(const nvfp4_model_description *model);
/* hf_config.c: value as text with the fewest digits that keep it; steals the reference. */
nvfp4_status nvfp4_json_text(json_t *value, char **out, nvfp4_reason *reason);

/* hf_tokenizer.c: the same, from GGUF only. */
nvfp4_status nvfp4_hf_tokenizer(const nvfp4_model_description *model, char **out, nvfp4_reason *reason);
nvfp4_status nvfp4_hf_tokenizer_config(const nvfp4_model_description *model, char **out, nvfp4_reason *reason);

/* names.c: the Hugging Face name of GGUF tensor `name` (".weight", ".bias") of architecture "llama" or "qwen2" into out, or the other way
 * round; false if there is none. */
bool nvfp4_gguf_hf_name(const char *name, char *out, size_t out_bytes);
bool nvfp4_hf_gguf_name(const char *name, char *out, size_t out_bytes);
/* The same for the name of a module, of `length` bytes. */
bool nvfp4_gguf_module(bool to_gguf, const char *name, size_t length, char *out, size_t out_bytes);
/* names.c: row of the GGUF tensor that row `row` of the Hugging Face tensor is, and its inverse. llama.cpp's converter stores the two
 * halves of a head's rows interleaved, since its RoPE turns neighbours and Hugging Face's turns elements half a head apart. head_rows 0:
 * unchanged. */
int64_t nvfp4_gguf_source_row(int64_t row, int64_t head_rows);
int64_t nvfp4_hf_source_row(int64_t row, int64_t head_rows);
/* gguf_config.c: rows of a head that lie interleaved in q and k of the GGUF file `source`, 0 for architectures whose rows stay as they are.
 * Refuses architectures that are neither llama nor qwen2. */
nvfp4_status nvfp4_gguf_head_rows(const nvfp4_checkpoint *source, int64_t *head_rows, nvfp4_reason *reason);
/* gguf_config.c: refuses a GGUF file that is one of several parts: what it gave would be a part of a model, too. */
nvfp4_status nvfp4_gguf_refuse_part(const nvfp4_checkpoint *source, nvfp4_reason *reason);

/* output.c: a folder that is being written. */
typedef struct nvfp4_output nvfp4_output;
/* Makes the folder if there is none. Errors: it is no folder, or holds a checkpoint already. */
nvfp4_status nvfp4_output_create(const char *path, nvfp4_output **out, nvfp4_reason *reason);
/* Writes a file under a temporary name. Errors: the folder has a file of that name. */
nvfp4_status nvfp4_output_add(nvfp4_output *output, const char *name, const void *data, size_t bytes, nvfp4_reason *reason);
/* The temporary path of file `name`, for somebody else (the safetensors writer) to write; it lives until destroy. */
const char *nvfp4_output_claim(nvfp4_output *output, const char *name, nvfp4_reason *reason);
/* Adds the files of the source's folder that stand beside the weights and are taken over as they are: tokenizer, generation config, ... */
nvfp4_status nvfp4_output_add_companions(nvfp4_output *output, const nvfp4_checkpoint *source, nvfp4_reason *reason);
/* The whole file, malloc'ed for the caller and terminated; *data = NULL and NVFP4_OK if there is none. */
nvfp4_status nvfp4_read_companion(const char *folder, const char *name, char **data, size_t *bytes, nvfp4_reason *reason);
/* Renames every file, in the order in which they were added, but config.json last: its name makes a folder a checkpoint. */
nvfp4_status nvfp4_output_commit(nvfp4_output *output, nvfp4_reason *reason);
/* Frees; without a successful commit it removes every file it made, and the folder if it made that. NULL is allowed. */
void nvfp4_output_destroy(nvfp4_output *output);
/* Refuses to write into the folder that the source lies in. */
nvfp4_status nvfp4_output_refuse_source(const nvfp4_checkpoint *source, const char *output, nvfp4_reason *reason);

#endif
