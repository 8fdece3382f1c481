/* SPDX-License-Identifier: Apache-2.0 */
/*
 * config.json and hf_quant_config.json: which scheme a layer has. Rules of ModelOpt (exact, substring, wildcard; quantized_layers) and compressed-tensors (targets
 * and ignore: exact, class name, re:regex).
 */
#ifndef NVFP4_CHECKPOINT_QUANT_CONFIG_H
#define NVFP4_CHECKPOINT_QUANT_CONFIG_H

#include <nvfp4/nvfp4.h>

typedef struct nvfp4_quant_config nvfp4_quant_config;

typedef struct nvfp4_quant_scheme {
  bool known; /* the config says something about this layer; otherwise only the tensors tell */
  nvfp4_mode mode;
  char why[160]; /* "ignore: lm_head", "quantized_layers: FP8", ... */
} nvfp4_quant_scheme;

/* Either text may be NULL; both NULL, or neither with a quantisation: *out = NULL and NVFP4_OK. */
nvfp4_status nvfp4_quant_config_parse(const char *config_json, const char *hf_quant_config_json, nvfp4_quant_config **out,
                                      nvfp4_reason *reason);
void nvfp4_quant_config_free(nvfp4_quant_config *config);

/* Which tool's conventions: MODELOPT, COMPRESSED_TENSORS, MLX or NONE. */
nvfp4_layout_kind nvfp4_quant_config_layout(const nvfp4_quant_config *config);

/* The scheme of layer `name` (without ".weight"). A regular expression that runs out of its match limit is an error that shows it. */
nvfp4_status nvfp4_quant_config_match(const nvfp4_quant_config *config, const char *name, nvfp4_quant_scheme *out, nvfp4_reason *reason);

/* Rows of q, k and v in a projection that is fused on disk, from config.json's heads; false if it does not tell. */
bool nvfp4_config_qkv_rows(const char *config_json, int64_t rows[3]);

#endif
