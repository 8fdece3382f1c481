/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What every writer of checkpoints needs beside the tensors; the quantiser and the converter share it:
 *
 *   hf_config.c     config.json, hf_quant_config.json, generation_config.json
 *   hf_tokenizer.c  tokenizer.json, tokenizer_config.json from GGUF metadata
 *   names.c         GGUF names and row order <-> Hugging Face's
 *   output.c        the folder: temporary names, renames, removal on an error
 */
#ifndef NVFP4_LAYOUTS_LAYOUTS_H
#define NVFP4_LAYOUTS_LAYOUTS_H

#include <jansson.h>

#include <nvfp4/nvfp4.h>

/* A quantised layer, for the configs. */
typedef struct nvfp4_config_layer {
  const char *name; /* of the module, Hugging Face's */
  nvfp4_mode mode;  /* W4A4, W4A16 or FP8 */
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
} nvfp4_model_description;

/* hf_config.c: JSON texts, malloc'ed for the caller. Where the source has no such thing, *out = NULL and NVFP4_OK. */
nvfp4_status nvfp4_hf_config(const nvfp4_model_description *model, char **out, nvfp4_reason *reason);
nvfp4_status nvfp4_hf_quant_config(const nvfp4_model_description *model, char **out, nvfp4_reason *reason);      /* ModelOpt only */
nvfp4_status nvfp4_hf_generation_config(const nvfp4_model_description *model, char **out, nvfp4_reason *reason); /* from GGUF only */
/* hf_config.c: value as text with the fewest digits that keep it; steals the reference. */
nvfp4_status nvfp4_json_text(json_t *value, char **out, nvfp4_reason *reason);

/* hf_tokenizer.c: the same, from GGUF only. */
nvfp4_status nvfp4_hf_tokenizer(const nvfp4_model_description *model, char **out, nvfp4_reason *reason);
nvfp4_status nvfp4_hf_tokenizer_config(const nvfp4_model_description *model, char **out, nvfp4_reason *reason);

/* names.c: the Hugging Face name of GGUF tensor `name` of architecture "llama" or "qwen2" into out; false if there is none. */
bool nvfp4_gguf_hf_name(const char *name, char *out, size_t out_bytes);
/* names.c: row of the GGUF tensor that row `row` of the Hugging Face tensor is. llama.cpp's converter stores the two halves of a head's
 * rows interleaved, since its RoPE turns neighbours and Hugging Face's turns elements half a head apart. head_rows 0: unchanged. */
int64_t nvfp4_gguf_source_row(int64_t row, int64_t head_rows);

/* output.c: a folder that is being written. */
typedef struct nvfp4_output nvfp4_output;
/* Makes the folder if there is none. Errors: it is no folder, or holds a checkpoint already. */
nvfp4_status nvfp4_output_create(const char *path, nvfp4_output **out, nvfp4_reason *reason);
/* Writes a file under a temporary name. The one given last is renamed last. Errors: the folder has a file of that name. */
nvfp4_status nvfp4_output_add(nvfp4_output *output, const char *name, const void *data, size_t bytes, nvfp4_reason *reason);
/* Path of file `name` in the folder, that somebody else (the safetensors writer) writes; it is removed unless commit succeeds. */
const char *nvfp4_output_claim(nvfp4_output *output, const char *name, nvfp4_reason *reason);
/* Adds the files of the source's folder that stand beside the weights and are taken over as they are: tokenizer, generation config, ... */
nvfp4_status nvfp4_output_add_companions(nvfp4_output *output, const nvfp4_checkpoint *source, nvfp4_reason *reason);
/* Renames every file, in the order in which they were added. */
nvfp4_status nvfp4_output_commit(nvfp4_output *output, nvfp4_reason *reason);
/* Frees; without a successful commit it removes every file it made, and the folder if it made that. NULL is allowed. */
void nvfp4_output_destroy(nvfp4_output *output);
/* Refuses to write into the folder that the source lies in. */
nvfp4_status nvfp4_output_refuse_source(const nvfp4_checkpoint *source, const char *output, nvfp4_reason *reason);

#endif
