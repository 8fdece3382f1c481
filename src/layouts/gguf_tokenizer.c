/* SPDX-License-Identifier: Apache-2.0 */
/* tokenizer.json, tokenizer_config.json -> GGUF metadata, the inverse of hf_tokenizer.c: byte-level BPE ("gpt2"). */
#define _POSIX_C_SOURCE 200809L
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/reason.h"
#include "checkpoint/checkpoint.h"
#include "layouts/gguf_config.h"
#include "layouts/layouts.h"
#include "layouts/pre_tokenizer.h"

typedef struct words { /* by id */
  const char **texts;
  size_t *lengths;
  int32_t *types;
  size_t count;
} words;

/* The folder's JSON file `name`; NULL and NVFP4_OK if there is none. */
static nvfp4_status load(const nvfp4_checkpoint *source, const char *name, size_t flags, json_t **out, nvfp4_reason *reason) {
  char path[4096];
  struct stat info;
  json_error_t error;
  *out = NULL;
  if (snprintf(path, sizeof path, "%s/%s", source->folder, name) >= (int)sizeof path || stat(path, &info) != 0) {
    return NVFP4_OK;
  }
  *out = json_load_file(path, flags | JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, &error);
  return *out != NULL ? NVFP4_OK : nvfp4_reject(reason, NVFP4_E_FORMAT, "%s is no JSON: line %d: %s", path, error.line, error.text);
}

/* Which of the known ways to split; NULL: none of them. What ByteLevel makes of offsets changes no token. */
static const nvfp4_pre_tokenizer *find_pre_tokenizer(json_t *tokenizer) {
  json_t *theirs = json_deep_copy(json_object_get(tokenizer, "pre_tokenizer"));
  json_t *list = json_object_get(theirs, "pretokenizers"), *part;
  size_t i;
  json_object_del(theirs, "trim_offsets");
  json_array_foreach(list, i, part) { json_object_del(part, "trim_offsets"); }
  const nvfp4_pre_tokenizer *found = NULL;
  for (const nvfp4_pre_tokenizer *pre = nvfp4_pre_tokenizers; pre->gguf != NULL && found == NULL; pre++) {
    json_t *ours = nvfp4_pre_tokenizer_json(pre);
    json_object_del(ours, "trim_offsets");
    json_array_foreach(json_object_get(ours, "pretokenizers"), i, part) { json_object_del(part, "trim_offsets"); }
    found = json_equal(ours, theirs) ? pre : NULL;
    json_decref(ours);
  }
  json_decref(theirs);
  return found;
}

static nvfp4_status check(const nvfp4_checkpoint *source, json_t *tokenizer, const nvfp4_pre_tokenizer **pre, nvfp4_reason *reason) {
  json_t *model = json_object_get(tokenizer, "model");
  const char *type = json_string_value(json_object_get(model, "type"));
  if (type == NULL || strcmp(type, "BPE") != 0 || json_is_true(json_object_get(model, "byte_fallback"))) {
    return nvfp4_reject(reason, NVFP4_E_UNSUPPORTED, "%s/tokenizer.json is a %s tokenizer%s; byte-level BPE is translated", source->folder,
                        type != NULL ? type : "nameless", type != NULL && strcmp(type, "BPE") == 0 ? " with byte fallback" : "");
  }
  *pre = find_pre_tokenizer(tokenizer);
  if (*pre == NULL) {
    return nvfp4_reject(
        reason, NVFP4_E_UNSUPPORTED,
        "%s/tokenizer.json splits text in a way that is not known; those of GPT-2, SmolLM, Qwen2 and Llama 3 are translated",
        source->folder);
  }
  return NVFP4_OK;
}

/* ------------------------------------------------------------------------------------------------------------------- words */

static nvfp4_status put_word(const nvfp4_checkpoint *source, words *out, const json_t *id, const char *text, size_t length, int32_t type,
                             nvfp4_reason *reason) {
  json_int_t index = json_integer_value(id);
  if (!json_is_integer(id) || index < 0 || (uint64_t)index >= out->count) {
    return nvfp4_reject(reason, NVFP4_E_FORMAT, "%s/tokenizer.json: token %.40s has id %lld; config.json has a vocabulary of %zu",
                        source->folder, text, (long long)index, out->count);
  }
  out->texts[index] = text;
  out->lengths[index] = length;
  out->types[index] = type;
  return NVFP4_OK;
}

static nvfp4_status read_words(const nvfp4_checkpoint *source, json_t *tokenizer, words *out, nvfp4_reason *reason) {
  const char *text;
  json_t *id, *added;
  size_t i;
  json_object_foreach(json_object_get(json_object_get(tokenizer, "model"), "vocab"), text, id) {
    NVFP4_TRY(put_word(source, out, id, text, strlen(text), NVFP4_TOKEN_NORMAL, reason));
  }
  json_array_foreach(json_object_get(tokenizer, "added_tokens"), i, added) {
    const json_t *content = json_object_get(added, "content");
    bool special = json_is_true(json_object_get(added, "special"));
    if (!json_is_string(content)) {
      return nvfp4_reject(reason, NVFP4_E_FORMAT, "%s/tokenizer.json: added token %zu has no content", source->folder, i);
    }
    NVFP4_TRY(put_word(source, out, json_object_get(added, "id"), json_string_value(content), json_string_length(content),
                       special ? NVFP4_TOKEN_CONTROL : NVFP4_TOKEN_USER_DEFINED, reason));
  }
  return NVFP4_OK;
}

static void write_words(const words *list, nvfp4_gguf_writer *writer) {
  nvfp4_gguf_writer_array(writer, "tokenizer.ggml.tokens", NVFP4_GGUF_STRING, list->count);
  for (size_t i = 0; i < list->count; i++) {
    char filler[32];
    if (list->texts[i] != NULL) {
      nvfp4_gguf_writer_string_element(writer, list->texts[i], list->lengths[i]);
    } else {
      int length = snprintf(filler, sizeof filler, "[PAD%zu]", i);
      nvfp4_gguf_writer_string_element(writer, filler, (size_t)length);
    }
  }
  nvfp4_gguf_writer_array(writer, "tokenizer.ggml.token_type", NVFP4_GGUF_I32, list->count);
  nvfp4_gguf_writer_raw(writer, list->types, list->count * sizeof *list->types);
}

static void write_merges(const json_t *merges, nvfp4_gguf_writer *writer) {
  size_t i;
  const json_t *merge;
  nvfp4_gguf_writer_array(writer, "tokenizer.ggml.merges", NVFP4_GGUF_STRING, json_array_size(merges));
  json_array_foreach(merges, i, merge) {
    char pair[2048];
    if (json_is_string(merge)) {
      nvfp4_gguf_writer_string_element(writer, json_string_value(merge), json_string_length(merge));
    } else { /* [left, right] */
      const char *left = json_string_value(json_array_get(merge, 0)), *right = json_string_value(json_array_get(merge, 1));
      snprintf(pair, sizeof pair, "%s %s", left != NULL ? left : "", right != NULL ? right : "");
      nvfp4_gguf_writer_string_element(writer, pair, strlen(pair));
    }
  }
}

/* ------------------------------------------------------------------------------------------------------------ special tokens */

/* The id of a token that tokenizer_config.json names, as text or as an object; otherwise `id`. */
static int64_t special_id(const words *list, const json_t *config, const char *key, int64_t id) {
  const json_t *value = json_object_get(config, key);
  const char *text = json_string_value(json_is_object(value) ? json_object_get(value, "content") : value);
  for (size_t i = 0; text != NULL && i < list->count; i++) {
    if (list->texts[i] != NULL && strcmp(list->texts[i], text) == 0) {
      return (int64_t)i;
    }
  }
  return id;
}

/* Whether a text begins with BOS: said outright, or by the post-processor's template. */
static bool adds_bos(const json_t *tokenizer, const json_t *config) {
  const json_t *said = json_object_get(config, "add_bos_token");
  if (json_is_boolean(said)) {
    return json_is_true(said);
  }
  const json_t *post = json_object_get(tokenizer, "post_processor"), *processors = json_object_get(post, "processors");
  for (size_t i = 0; i <= json_array_size(processors); i++) {
    const json_t *single = json_object_get(i == 0 ? post : json_array_get(processors, i - 1), "single");
    if (json_object_get(json_array_get(single, 0), "SpecialToken") != NULL) {
      return true;
    }
  }
  return false;
}

static nvfp4_status write_template(const nvfp4_checkpoint *source, const json_t *config, nvfp4_gguf_writer *writer, nvfp4_reason *reason) {
  const char *text = json_string_value(json_object_get(config, "chat_template"));
  char *data = NULL;
  if (text == NULL) {
    size_t bytes;
    NVFP4_TRY(nvfp4_read_companion(source->folder, "chat_template.jinja", &data, &bytes, reason));
    text = data;
  }
  if (text != NULL) {
    nvfp4_gguf_writer_string(writer, "tokenizer.chat_template", text);
  }
  free(data);
  return NVFP4_OK;
}

static nvfp4_status write_all(const nvfp4_checkpoint *source, const nvfp4_gguf_model *model, json_t *tokenizer, json_t *config,
                              const nvfp4_pre_tokenizer *pre, words *list, nvfp4_gguf_writer *writer, nvfp4_reason *reason) {
  NVFP4_TRY(read_words(source, tokenizer, list, reason));
  if (writer == NULL) {
    return NVFP4_OK;
  }
  nvfp4_gguf_writer_string(writer, "tokenizer.ggml.model", "gpt2");
  nvfp4_gguf_writer_string(writer, "tokenizer.ggml.pre", pre->gguf);
  write_words(list, writer);
  write_merges(json_object_get(json_object_get(tokenizer, "model"), "merges"), writer);
  const struct {
    const char *key, *config;
    int64_t id;
  } specials[] = {{"tokenizer.ggml.bos_token_id", "bos_token", model->bos},
                  {"tokenizer.ggml.eos_token_id", "eos_token", model->eos},
                  {"tokenizer.ggml.unknown_token_id", "unk_token", -1},
                  {"tokenizer.ggml.padding_token_id", "pad_token", model->pad}};
  for (size_t i = 0; i < sizeof specials / sizeof specials[0]; i++) {
    int64_t id = special_id(list, config, specials[i].config, specials[i].id);
    if (id >= 0) {
      nvfp4_gguf_writer_u32(writer, specials[i].key, (uint32_t)id);
    }
  }
  nvfp4_gguf_writer_bool(writer, "tokenizer.ggml.add_bos_token", adds_bos(tokenizer, config));
  return write_template(source, config, writer, reason);
}

nvfp4_status nvfp4_gguf_tokenizer(const nvfp4_checkpoint *source, const nvfp4_gguf_model *model, nvfp4_gguf_writer *writer,
                                  nvfp4_reason *reason) {
  json_t *tokenizer = NULL, *config = NULL;
  const nvfp4_pre_tokenizer *pre = NULL;
  NVFP4_TRY(load(source, "tokenizer.json", 0, &tokenizer, reason));
  if (tokenizer == NULL) {
    if (writer != NULL) {
      nvfp4_gguf_writer_string(writer, "tokenizer.ggml.model", "none");
    }
    return NVFP4_OK;
  }
  nvfp4_status status = check(source, tokenizer, &pre, reason);
  if (status == NVFP4_OK) {
    /* none of its integers is ours, and model_max_length may be 10^30 */
    status = load(source, "tokenizer_config.json", JSON_DECODE_INT_AS_REAL, &config, reason);
  }
  size_t count = (size_t)model->vocabulary;
  words list = {calloc(count, sizeof *list.texts), calloc(count, sizeof *list.lengths), calloc(count, sizeof *list.types), count};
  if (status == NVFP4_OK && (list.texts == NULL || list.lengths == NULL || list.types == NULL)) {
    status = nvfp4_reject(reason, NVFP4_E_NOMEM, "no memory for a vocabulary of %zu tokens", count);
  }
  for (size_t i = 0; status == NVFP4_OK && i < count; i++) {
    list.types[i] = NVFP4_TOKEN_UNUSED;
  }
  if (status == NVFP4_OK) {
    status = write_all(source, model, tokenizer, config, pre, &list, writer, reason);
  }
  free(list.texts);
  free(list.lengths);
  free(list.types);
  json_decref(tokenizer);
  json_decref(config);
  return status;
}
