/* SPDX-License-Identifier: Apache-2.0 */
/* GGUF's names and row order for the Llama family, turned back into Hugging Face's. Source: llama.cpp, gguf-py/gguf/tensor_mapping.py and
 * LlamaModel.permute of its converter. */
#include <stdio.h>
#include <string.h>

#include "layouts/layouts.h"

typedef struct name_pair {
  const char *gguf, *hf;
} name_pair;

static const name_pair whole_model[] = {
    {"token_embd", "model.embed_tokens"},
    {"output", "lm_head"},
    {"output_norm", "model.norm"},
};

static const name_pair in_block[] = {
    {"attn_q", "self_attn.q_proj"},      {"attn_k", "self_attn.k_proj"},   {"attn_v", "self_attn.v_proj"},
    {"attn_output", "self_attn.o_proj"}, {"ffn_gate", "mlp.gate_proj"},    {"ffn_up", "mlp.up_proj"},
    {"ffn_down", "mlp.down_proj"},       {"attn_norm", "input_layernorm"}, {"ffn_norm", "post_attention_layernorm"},
};

static const char *find_pair(const name_pair *pairs, size_t count, const char *name, size_t length) {
  for (size_t i = 0; i < count; i++) {
    if (strlen(pairs[i].gguf) == length && memcmp(pairs[i].gguf, name, length) == 0) {
      return pairs[i].hf;
    }
  }
  return NULL;
}

bool nvfp4_gguf_hf_name(const char *name, char *out, size_t out_bytes) {
  const char *suffix = strrchr(name, '.');
  if (suffix == NULL || (strcmp(suffix, ".weight") != 0 && strcmp(suffix, ".bias") != 0)) {
    return false;
  }
  int written;
  if (strncmp(name, "blk.", 4) == 0) {
    const char *digits = name + 4;
    size_t count = strspn(digits, "0123456789");
    const char *rest = digits + count;
    if (count == 0 || rest[0] != '.' || rest + 1 > suffix) {
      return false;
    }
    const char *hf = find_pair(in_block, sizeof in_block / sizeof in_block[0], rest + 1, (size_t)(suffix - rest - 1));
    if (hf == NULL) {
      return false;
    }
    written = snprintf(out, out_bytes, "model.layers.%.*s.%s%s", (int)count, digits, hf, suffix);
  } else {
    const char *hf = find_pair(whole_model, sizeof whole_model / sizeof whole_model[0], name, (size_t)(suffix - name));
    if (hf == NULL) {
      return false;
    }
    written = snprintf(out, out_bytes, "%s%s", hf, suffix);
  }
  return written > 0 && (size_t)written < out_bytes;
}

int64_t nvfp4_gguf_source_row(int64_t row, int64_t head_rows) {
  if (head_rows == 0) {
    return row;
  }
  int64_t in_head = row % head_rows, half = head_rows / 2;
  return row - in_head + in_head % half * 2 + in_head / half;
}
