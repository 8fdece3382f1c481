/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tokenizer.json and tokenizer_config.json of GGUF metadata: byte-level BPE ("gpt2"). GGUF names the way text is split before merging
 * ("tokenizer.ggml.pre"), tokenizer.json spells it out: the table below, taken from the tokenizer.json of the models that the names come
 * from.
 */
#define _POSIX_C_SOURCE 200809L
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/reason.h"
#include "checkpoint/checkpoint.h"
#include "checkpoint/gguf.h"
#include "layouts/layouts.h"
#include "layouts/pre_tokenizer.h"

#define WORDS "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|"
#define OTHERS "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"

const nvfp4_pre_tokenizer nvfp4_pre_tokenizers[] = {
    {"smollm", NULL, true, false, false},
    {"gpt-2", NULL, false, false, false},
    {"qwen2", WORDS "\\p{N}" OTHERS, false, true, false},
    {"llama-bpe", WORDS "\\p{N}{1,3}" OTHERS, false, false, true},
    {NULL, NULL, false, false, false},
};

typedef struct vocabulary {
  nvfp4_gguf_string *tokens;
  int32_t *types; /* NULL: all normal */
  uint64_t count;
} vocabulary;

static nvfp4_status no_memory(nvfp4_reason *reason) { return nvfp4_reject(reason, NVFP4_E_NOMEM, "out of memory for the tokenizer"); }

static bool is_text(nvfp4_gguf_string string, const char *text) {
  return string.bytes == strlen(text) && memcmp(string.text, text, string.bytes) == 0;
}

/* Whether the file has a tokenizer at all; one that cannot be translated is refused. */
static nvfp4_status find_pre_tokenizer(const nvfp4_model_description *model, const nvfp4_pre_tokenizer **out, nvfp4_reason *reason) {
  const nvfp4_gguf_metadata *metadata = model->source->gguf;
  const char *path = nvfp4_checkpoint_path(model->source);
  nvfp4_gguf_string kind, pre;
  *out = NULL;
  if (!nvfp4_gguf_get_string(metadata, "tokenizer.ggml.model", &kind) || is_text(kind, "none") || is_text(kind, "no_vocab")) {
    return NVFP4_OK;
  }
  if (!is_text(kind, "gpt2")) {
    return nvfp4_reject(reason, NVFP4_E_UNSUPPORTED,
                        "%s: tokenizer %.*s; only byte-level BPE (gpt2) is translated: give the safetensors checkpoint", path,
                        (int)(kind.bytes < 32 ? kind.bytes : 32), kind.text);
  }
  if (!nvfp4_gguf_get_string(metadata, "tokenizer.ggml.pre", &pre)) {
    return nvfp4_reject(reason, NVFP4_E_FORMAT,
                        "%s: no tokenizer.ggml.pre: how text is split before merging is not known; convert the file anew", path);
  }
  for (size_t i = 0; nvfp4_pre_tokenizers[i].gguf != NULL; i++) {
    if (is_text(pre, nvfp4_pre_tokenizers[i].gguf)) {
      *out = &nvfp4_pre_tokenizers[i];
      return NVFP4_OK;
    }
  }
  return nvfp4_reject(reason, NVFP4_E_UNSUPPORTED,
                      "%s: pre-tokenizer %.*s; smollm, gpt-2, qwen2 and llama-bpe are translated: give the safetensors checkpoint", path,
                      (int)(pre.bytes < 32 ? pre.bytes : 32), pre.text);
}

static nvfp4_status read_vocabulary(const nvfp4_model_description *model, vocabulary *out, nvfp4_reason *reason) {
  const nvfp4_gguf_metadata *metadata = model->source->gguf;
  const char *path = nvfp4_checkpoint_path(model->source);
  nvfp4_gguf_type type;
  uint64_t types = 0;
  *out = (vocabulary){0};
  if (!nvfp4_gguf_get_array(metadata, "tokenizer.ggml.tokens", &type, &out->count) || type != NVFP4_GGUF_STRING || out->count == 0) {
    return nvfp4_reject(reason, NVFP4_E_FORMAT, "%s: tokenizer.ggml.tokens is missing or no list of strings", path);
  }
  bool typed = nvfp4_gguf_get_array(metadata, "tokenizer.ggml.token_type", &type, &types);
  if (typed && types != out->count) {
    return nvfp4_reject(reason, NVFP4_E_FORMAT, "%s: %llu tokens, but %llu token types; needs one for each", path,
                        (unsigned long long)out->count, (unsigned long long)types);
  }
  out->tokens = calloc(out->count, sizeof *out->tokens); /* count is checked against the file's size by the reader */
  out->types = calloc(out->count, sizeof *out->types);
  nvfp4_status status = NVFP4_OK;
  if (out->tokens == NULL || out->types == NULL) {
    status = no_memory(reason);
  } else if (!nvfp4_gguf_get_strings(metadata, "tokenizer.ggml.tokens", out->tokens, out->count) ||
             (typed && !nvfp4_gguf_get_ints(metadata, "tokenizer.ggml.token_type", out->types, types))) {
    status = nvfp4_reject(reason, NVFP4_E_FORMAT, "%s: the tokens or their types cannot be read as strings and integers", path);
  }
  if (status != NVFP4_OK) {
    free(out->tokens);
    free(out->types);
  }
  return status;
}

static json_t *added_token(const vocabulary *words, uint64_t id) {
  return json_pack("{s:s%, s:b, s:b, s:b, s:b, s:b}", "content", words->tokens[id].text, words->tokens[id].bytes, "lstrip", 0, "normalized",
                   0, "rstrip", 0, "single_word", 0, "special", words->types[id] == NVFP4_TOKEN_CONTROL);
}

static bool is_added(const vocabulary *words, uint64_t id) {
  return words->types[id] == NVFP4_TOKEN_CONTROL || words->types[id] == NVFP4_TOKEN_USER_DEFINED;
}

static json_t *added_tokens(const vocabulary *words) {
  json_t *list = json_array();
  for (uint64_t id = 0; id < words->count; id++) {
    if (is_added(words, id)) {
      json_t *token = json_pack("{s:I}", "id", (json_int_t)id), *rest = added_token(words, id);
      json_object_update(token, rest);
      json_decref(rest);
      json_array_append_new(list, token);
    }
  }
  return list;
}

static nvfp4_status make_vocab(const nvfp4_model_description *model, const vocabulary *words, json_t **out, nvfp4_reason *reason) {
  const char *path = nvfp4_checkpoint_path(model->source);
  json_t *vocab = json_object();
  for (uint64_t id = 0; id < words->count; id++) {
    nvfp4_gguf_string token = words->tokens[id];
    if (words->types[id] == NVFP4_TOKEN_UNUSED) { /* a filler up to the embedding's size */
      continue;
    }
    char *key = strndup(token.text, token.bytes);
    bool twice = key != NULL && json_object_get(vocab, key) != NULL;
    int failed = key == NULL || twice || strlen(key) != token.bytes || json_object_set_new(vocab, key, json_integer((json_int_t)id)) != 0;
    free(key);
    if (failed) {
      json_decref(vocab);
      return nvfp4_reject(reason, NVFP4_E_FORMAT, "%s: token %llu (%.*s) %s", path, (unsigned long long)id,
                          (int)(token.bytes < 64 ? token.bytes : 64), token.text,
                          twice ? "is there twice; a vocabulary needs each once" : "is no UTF-8 text");
    }
  }
  *out = vocab;
  return NVFP4_OK;
}

static nvfp4_status make_merges(const nvfp4_model_description *model, json_t **out, nvfp4_reason *reason) {
  const nvfp4_gguf_metadata *metadata = model->source->gguf;
  nvfp4_gguf_type type;
  uint64_t count;
  if (!nvfp4_gguf_get_array(metadata, "tokenizer.ggml.merges", &type, &count) || type != NVFP4_GGUF_STRING) {
    return nvfp4_reject(reason, NVFP4_E_FORMAT, "%s: tokenizer.ggml.merges is missing or no list of strings",
                        nvfp4_checkpoint_path(model->source));
  }
  nvfp4_gguf_string *merges = calloc(count + 1, sizeof *merges);
  json_t *list = json_array();
  bool good = merges != NULL && nvfp4_gguf_get_strings(metadata, "tokenizer.ggml.merges", merges, count);
  for (uint64_t i = 0; good && i < count; i++) {
    good = json_array_append_new(list, json_stringn(merges[i].text, merges[i].bytes)) == 0;
  }
  free(merges);
  if (!good) {
    json_decref(list);
    return nvfp4_reject(reason, NVFP4_E_FORMAT, "%s: tokenizer.ggml.merges cannot be read as UTF-8 texts",
                        nvfp4_checkpoint_path(model->source));
  }
  *out = list;
  return NVFP4_OK;
}

static json_t *byte_level(bool use_regex) {
  return json_pack("{s:s, s:b, s:b, s:b}", "type", "ByteLevel", "add_prefix_space", 0, "trim_offsets", 1, "use_regex", use_regex);
}

json_t *nvfp4_pre_tokenizer_json(const nvfp4_pre_tokenizer *pre) {
  if (pre->digits) {
    return json_pack("{s:s, s:[{s:s, s:b}, o]}", "type", "Sequence", "pretokenizers", "type", "Digits", "individual_digits", 1,
                     byte_level(true));
  }
  if (pre->pattern == NULL) {
    return byte_level(true);
  }
  return json_pack("{s:s, s:[{s:s, s:{s:s}, s:s, s:b}, o]}", "type", "Sequence", "pretokenizers", "type", "Split", "pattern", "Regex",
                   pre->pattern, "behavior", "Isolated", "invert", 0, byte_level(false));
}

/* A text that begins with BOS, or nothing. */
static json_t *post_processor(const nvfp4_model_description *model, const vocabulary *words) {
  const nvfp4_gguf_metadata *metadata = model->source->gguf;
  bool add = false;
  int64_t bos;
  if (!nvfp4_gguf_get_bool(metadata, "tokenizer.ggml.add_bos_token", &add) || !add ||
      !nvfp4_gguf_get_int(metadata, "tokenizer.ggml.bos_token_id", &bos) || bos < 0 || (uint64_t)bos >= words->count) {
    return json_null();
  }
  nvfp4_gguf_string token = words->tokens[bos];
  json_t *text = json_stringn(token.text, token.bytes);
  json_t *special = json_pack("{s:{s:O, s:i}}", "SpecialToken", "id", text, "type_id", 0);
  json_t *single = json_pack("[O, {s:{s:s, s:i}}]", special, "Sequence", "id", "A", "type_id", 0);
  json_t *pair = json_pack("[O, {s:{s:s, s:i}}, {s:{s:O, s:i}}, {s:{s:s, s:i}}]", special, "Sequence", "id", "A", "type_id", 0,
                           "SpecialToken", "id", text, "type_id", 1, "Sequence", "id", "B", "type_id", 1);
  json_t *table = json_object();
  json_object_set_new(table, json_string_value(text), json_pack("{s:O, s:[I], s:[O]}", "id", text, "ids", (json_int_t)bos, "tokens", text));
  json_decref(special);
  json_decref(text);
  return json_pack("{s:s, s:o, s:o, s:o}", "type", "TemplateProcessing", "single", single, "pair", pair, "special_tokens", table);
}

static nvfp4_status make_tokenizer(const nvfp4_model_description *model, const nvfp4_pre_tokenizer *pre, const vocabulary *words,
                                   char **out, nvfp4_reason *reason) {
  json_t *vocab = NULL, *merges = NULL;
  NVFP4_TRY(make_vocab(model, words, &vocab, reason));
  nvfp4_status status = make_merges(model, &merges, reason);
  if (status != NVFP4_OK) {
    json_decref(vocab);
    return status;
  }
  json_t *bpe = json_pack("{s:s, s:n, s:n, s:n, s:n, s:b, s:b, s:b, s:o, s:o}", "type", "BPE", "dropout", "unk_token",
                          "continuing_subword_prefix", "end_of_word_suffix", "fuse_unk", 0, "byte_fallback", 0, "ignore_merges",
                          pre->ignore_merges, "vocab", vocab, "merges", merges);
  json_t *normalizer = pre->nfc ? json_pack("{s:s}", "type", "NFC") : json_null();
  return nvfp4_json_text(
      json_pack("{s:s, s:n, s:n, s:o, s:o, s:o, s:o, s:o, s:o}", "version", "1.0", "truncation", "padding", "added_tokens",
                added_tokens(words), "normalizer", normalizer, "pre_tokenizer", nvfp4_pre_tokenizer_json(pre), "post_processor",
                post_processor(model, words), "decoder", byte_level(true), "model", bpe),
      out, reason);
}

nvfp4_status nvfp4_hf_tokenizer(const nvfp4_model_description *model, char **out, nvfp4_reason *reason) {
  const nvfp4_pre_tokenizer *pre;
  *out = NULL;
  NVFP4_TRY(find_pre_tokenizer(model, &pre, reason));
  if (pre == NULL) {
    return NVFP4_OK;
  }
  vocabulary words;
  NVFP4_TRY(read_vocabulary(model, &words, reason));
  nvfp4_status status = make_tokenizer(model, pre, &words, out, reason);
  free(words.tokens);
  free(words.types);
  return status;
}

static json_t *tokenizer_config(const nvfp4_model_description *model, const vocabulary *words) {
  static const char *const specials[][2] = {{"bos_token", "tokenizer.ggml.bos_token_id"},
                                            {"eos_token", "tokenizer.ggml.eos_token_id"},
                                            {"unk_token", "tokenizer.ggml.unknown_token_id"},
                                            {"pad_token", "tokenizer.ggml.padding_token_id"}};
  const nvfp4_gguf_metadata *metadata = model->source->gguf;
  json_t *config = json_pack("{s:b}", "add_prefix_space", 0), *added = json_object();
  for (uint64_t id = 0; id < words->count; id++) {
    if (is_added(words, id)) {
      char key[24];
      snprintf(key, sizeof key, "%llu", (unsigned long long)id);
      json_object_set_new(added, key, added_token(words, id));
    }
  }
  json_object_set_new(config, "added_tokens_decoder", added);
  bool add_bos;
  if (nvfp4_gguf_get_bool(metadata, "tokenizer.ggml.add_bos_token", &add_bos)) {
    json_object_set_new(config, "add_bos_token", json_boolean(add_bos));
  }
  for (size_t i = 0; i < sizeof specials / sizeof specials[0]; i++) {
    int64_t id;
    if (nvfp4_gguf_get_int(metadata, specials[i][1], &id) && id >= 0 && (uint64_t)id < words->count) {
      json_object_set_new(config, specials[i][0], json_stringn(words->tokens[id].text, words->tokens[id].bytes));
    }
  }
  nvfp4_gguf_string chat_template;
  if (nvfp4_gguf_get_string(metadata, "tokenizer.chat_template", &chat_template)) {
    json_object_set_new(config, "chat_template", json_stringn(chat_template.text, chat_template.bytes));
  }
  json_object_set_new(config, "clean_up_tokenization_spaces", json_false());
  /* The class that takes tokenizer.json as it is; a model's own class would build its parts anew. */
  json_object_set_new(config, "tokenizer_class", json_string("PreTrainedTokenizerFast"));
  return config;
}

nvfp4_status nvfp4_hf_tokenizer_config(const nvfp4_model_description *model, char **out, nvfp4_reason *reason) {
  const nvfp4_pre_tokenizer *pre;
  *out = NULL;
  NVFP4_TRY(find_pre_tokenizer(model, &pre, reason));
  if (pre == NULL) {
    return NVFP4_OK;
  }
  vocabulary words;
  NVFP4_TRY(read_vocabulary(model, &words, reason));
  json_t *config = tokenizer_config(model, &words);
  free(words.tokens);
  free(words.types);
  return nvfp4_json_text(config, out, reason);
}
