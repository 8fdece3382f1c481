/* SPDX-License-Identifier: Apache-2.0 */
/* What a GGUF file says of a model, read from Hugging Face's config.json. */
#ifndef NVFP4_LAYOUTS_GGUF_CONFIG_H
#define NVFP4_LAYOUTS_GGUF_CONFIG_H

#include <nvfp4/nvfp4.h>

#include "layouts/gguf_writer.h"

typedef struct nvfp4_gguf_model {
  char arch[8]; /* "llama", "qwen2"; empty: no language model, tensors keep their names */
  int64_t layers, context, hidden, feed_forward, heads, kv_heads, head_dim, vocabulary;
  double norm_eps, rope_theta;
  double rope_linear; /* RoPE's positions are divided by it; 0: they are not */
  bool rope_llama3;   /* RoPE's frequencies are divided by the factors of nvfp4_gguf_rope_factors */
  double llama3_factor, llama3_low, llama3_high, llama3_context;
  int64_t bos, eos, pad; /* token ids; negative: none */
} nvfp4_gguf_model;

/* Reads config.json (NULL: none). Errors: a model that is neither Llama, Mistral nor Qwen2, or computes what GGUF's keys here cannot say. */
nvfp4_status nvfp4_gguf_model_read(const char *path, const char *config, nvfp4_gguf_model *out, nvfp4_reason *reason);

/* Rows of a head of q and k that llama.cpp wants interleaved; 0: none. */
int64_t nvfp4_gguf_model_head_rows(const nvfp4_gguf_model *model);

/* Llama 3's factors, head_dim/2 of them. */
void nvfp4_gguf_rope_factors(const nvfp4_gguf_model *model, float *out);

/* Writes the pairs of the model, without the tokenizer's. */
void nvfp4_gguf_model_write(const nvfp4_gguf_model *model, const char *name, nvfp4_gguf_writer *writer);

/* gguf_tokenizer.c: writes the tokenizer's pairs from tokenizer.json and tokenizer_config.json in the folder of `source`. Without
 * tokenizer.json: "none". Errors: one that is no byte-level BPE of a known kind. writer NULL: only looks whether it can be done. */
nvfp4_status nvfp4_gguf_tokenizer(const nvfp4_checkpoint *source, const nvfp4_gguf_model *model, nvfp4_gguf_writer *writer,
                                  nvfp4_reason *reason);

#endif
