/* SPDX-License-Identifier: Apache-2.0 */
/* GGUF's names and row order for the Llama family and Hugging Face's, both ways. Source: llama.cpp, gguf-py/gguf/tensor_mapping.py and
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

/* The suffixes that both sides have; Hugging Face's scales are named by their layout. */
static const char *const suffixes[] = {".weight", ".bias"};

typedef struct family { /* of names: a block's, or the whole model's */
  const name_pair *pairs;
  size_t count;
  const char *gguf, *hf; /* what stands before the block's number */
} family;

static const family blocks = {in_block, sizeof in_block / sizeof in_block[0], "blk.", "model.layers."};
static const family whole = {whole_model, sizeof whole_model / sizeof whole_model[0], "", ""};

/* The partner of a module's name ("blk.0.attn_q"), of `length` bytes; false if it has none. */
static bool translate(const family *names, bool to_gguf, const char *name, size_t length, char *out, size_t out_bytes) {
  const char *from = to_gguf ? names->hf : names->gguf, *to = to_gguf ? names->gguf : names->hf;
  size_t prefix = strlen(from), digits = 0, dot = 0;
  if (length <= prefix || memcmp(name, from, prefix) != 0) {
    return false;
  }
  if (prefix > 0) {
    digits = strspn(name + prefix, "0123456789");
    dot = 1;
    if (digits == 0 || prefix + digits + dot >= length || name[prefix + digits] != '.') {
      return false;
    }
  }
  const char *rest = name + prefix + digits + dot;
  size_t rest_length = length - (size_t)(rest - name);
  for (size_t i = 0; i < names->count; i++) {
    const char *mine = to_gguf ? names->pairs[i].hf : names->pairs[i].gguf;
    const char *other = to_gguf ? names->pairs[i].gguf : names->pairs[i].hf;
    if (strlen(mine) == rest_length && memcmp(mine, rest, rest_length) == 0) {
      int written = snprintf(out, out_bytes, "%s%.*s%s%s", to, (int)digits, name + prefix, dot != 0 ? "." : "", other);
      return written > 0 && (size_t)written < out_bytes;
    }
  }
  return false;
}

bool nvfp4_gguf_module(bool to_gguf, const char *name, size_t length, char *out, size_t out_bytes) {
  return translate(&blocks, to_gguf, name, length, out, out_bytes) || translate(&whole, to_gguf, name, length, out, out_bytes);
}

static bool translate_tensor(bool to_gguf, const char *name, char *out, size_t out_bytes) {
  size_t length = strlen(name);
  for (size_t i = 0; i < sizeof suffixes / sizeof suffixes[0]; i++) {
    size_t suffix = strlen(suffixes[i]);
    if (length > suffix && strcmp(name + length - suffix, suffixes[i]) == 0) {
      if (!nvfp4_gguf_module(to_gguf, name, length - suffix, out, out_bytes) || strlen(out) + suffix >= out_bytes) {
        return false;
      }
      strcat(out, suffixes[i]);
      return true;
    }
  }
  return false;
}

bool nvfp4_gguf_hf_name(const char *name, char *out, size_t out_bytes) { return translate_tensor(false, name, out, out_bytes); }

bool nvfp4_hf_gguf_name(const char *name, char *out, size_t out_bytes) { return translate_tensor(true, name, out, out_bytes); }

int64_t nvfp4_gguf_source_row(int64_t row, int64_t head_rows) {
  if (head_rows == 0) {
    return row;
  }
  int64_t in_head = row % head_rows, half = head_rows / 2;
  return row - in_head + in_head % half * 2 + in_head / half;
}

int64_t nvfp4_hf_source_row(int64_t row, int64_t head_rows) {
  if (head_rows == 0) {
    return row;
  }
  int64_t in_head = row % head_rows, half = head_rows / 2;
  return row - in_head + in_head % 2 * half + in_head / 2;
}
