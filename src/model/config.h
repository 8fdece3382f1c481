/* SPDX-License-Identifier: Apache-2.0 */
/* What a transformer is made of: HF's config.json and GGUF's metadata, read into one struct. */
#ifndef NVFP4_MODEL_CONFIG_H
#define NVFP4_MODEL_CONFIG_H

#include <nvfp4/nvfp4.h>

/* "llama3" scaling of the rotary frequencies (transformers, modeling_rope_utils.py, _compute_llama3_parameters). */
typedef struct nvfp4_rope_llama3 {
  bool used;
  double factor, low_frequency_factor, high_frequency_factor, original_context;
} nvfp4_rope_llama3;

typedef struct nvfp4_model_config {
  char architecture[64]; /* as the file says it */
  int64_t layers, hidden, intermediate, heads, kv_heads, head_dim, vocabulary, context;
  int64_t sliding_window; /* 0: none */
  float rms_norm_eps;
  double rope_theta;
  nvfp4_rope_llama3 rope_llama3;
  /* Which elements a rotation pairs: 2i and 2i+1 (GGUF's llama, whose q and k rows are permuted for it), or i and i + head_dim/2. */
  bool rope_interleaved;
  bool tied_output;    /* the output projection is the embedding */
  bool attention_bias; /* q, k and v must have biases */
  bool gguf_names;     /* tensors are named as in GGUF: blk.0.attn_q */
} nvfp4_model_config;

/* Reads the checkpoint's configuration. An architecture or option that forward.c does not compute is NVFP4_E_UNSUPPORTED with its name. */
nvfp4_status nvfp4_model_config_read(const nvfp4_checkpoint *checkpoint, nvfp4_model_config *out, nvfp4_reason *reason);

/* The same from the text of a config.json. */
nvfp4_status nvfp4_model_config_parse(const char *config_json, nvfp4_model_config *out, nvfp4_reason *reason);

#endif
