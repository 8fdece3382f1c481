/* SPDX-License-Identifier: Apache-2.0 */
/* Any text as config.json, as hf_quant_config.json, and, split at its first NUL, as both. What is accepted is asked about some names. */
#include <stdlib.h>
#include <string.h>

#include "checkpoint/quant_config.h"
#include "fuzz.h"

static void try_texts(const char *config_json, const char *hf_quant_config_json) {
  static const char *const names[] = {"lm_head", "model.layers.0.self_attn.q_proj", "model.layers.10.mlp.experts.3.gate_up_proj",
                                      "language_model.model.layers.1.self_attn.qkv_proj", ""};
  nvfp4_quant_config *config = NULL;
  nvfp4_reason reason;
  if (nvfp4_quant_config_parse(config_json, hf_quant_config_json, &config, &reason) != NVFP4_OK) {
    if (config != NULL || memchr(reason.text, '\0', sizeof reason.text) == NULL) {
      abort();
    }
    return;
  }
  for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
    nvfp4_quant_scheme scheme;
    if (nvfp4_quant_config_match(config, names[i], &scheme, &reason) == NVFP4_OK && scheme.known != (config != NULL)) {
      abort();
    }
  }
  nvfp4_quant_config_free(config);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  char *text = malloc(size + 1);
  if (text == NULL) {
    return 0;
  }
  memcpy(text, data, size);
  text[size] = '\0';
  size_t first = strlen(text);
  try_texts(text, NULL);
  try_texts(NULL, text);
  if (first < size) {
    try_texts(text, text + first + 1);
  }
  int64_t rows[3];
  if (nvfp4_config_qkv_rows(text, rows) && (rows[0] <= 0 || rows[1] <= 0 || rows[2] <= 0)) {
    abort();
  }
  free(text);
  return 0;
}
