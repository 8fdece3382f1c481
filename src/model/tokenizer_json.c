/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The tokenizer of a folder: tokenizer.json (Hugging Face tokenizers) for the vocabulary, the merges and how text is cut; tokenizer_config.json,
 * config.json and generation_config.json for what begins and ends a text; chat_template.jinja if the template is a file of its own.
 * Text is taken as it is: a normalizer NFC is left to the caller, as most text is in that form.
 */
#define _POSIX_C_SOURCE 200809L /* strdup */
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/reason.h"
#include "checkpoint/checkpoint.h"
#include "model/tokenizer.h"

/* Ids beyond the number of tokens leave holes; so many are taken for a broken file. */
#define MAX_HOLES 65536
#define MAX_TEMPLATE_BYTES (1 << 20)

/* The JSON files beside a checkpoint; those that are missing are NULL. */
typedef struct tokenizer_files {
  json_t *tokenizer, *tokenizer_config, *config, *generation_config;
} tokenizer_files;

static nvfp4_status read_json(const char *folder, const char *name, size_t flags, json_t **out, nvfp4_reason *reason) {
  char path[4096];
  if (snprintf(path, sizeof path, "%s/%s", folder, name) >= (int)sizeof path) {
    return nvfp4_reject(reason, NVFP4_E_ARG, "the path %s/%s is too long", folder, name);
  }
  json_error_t error;
  *out = json_load_file(path, flags, &error);
  if (*out == NULL && json_error_code(&error) != json_error_cannot_open_file) {
    return nvfp4_reject(reason, NVFP4_E_FORMAT, "%s: line %d: %s", name, error.line, error.text);
  }
  return NVFP4_OK;
}

static void close_files(tokenizer_files *files) {
  json_decref(files->tokenizer);
  json_decref(files->tokenizer_config);
  json_decref(files->config);
  json_decref(files->generation_config);
}

static nvfp4_status open_files(const nvfp4_checkpoint *checkpoint, tokenizer_files *files, nvfp4_reason *reason) {
  *files = (tokenizer_files){NULL, NULL, NULL, NULL};
  nvfp4_status status = read_json(checkpoint->folder, "tokenizer.json", 0, &files->tokenizer, reason);
  if (status == NVFP4_OK) {
    /* transformers writes a model_max_length of 10^30 where there is no limit, and none of its integers is ours */
    status = read_json(checkpoint->folder, "tokenizer_config.json", JSON_DECODE_INT_AS_REAL, &files->tokenizer_config, reason);
  }
  if (status == NVFP4_OK) {
    status = read_json(checkpoint->folder, "config.json", 0, &files->config, reason);
  }
  if (status == NVFP4_OK) {
    status = read_json(checkpoint->folder, "generation_config.json", 0, &files->generation_config, reason);
  }
  if (status != NVFP4_OK) {
    close_files(files);
  }
  return status;
}

static bool is_true(const json_t *object, const char *key) { return json_is_true(json_object_get(object, key)); }

static const char *type_of(const json_t *object) {
  const char *type = json_string_value(json_object_get(object, "type"));
  return type != NULL ? type : "";
}

/* ------------------------------------------------------------------------------------------------------ how text is cut */

static nvfp4_status add_split(nvfp4_tokenizer *tokenizer, const json_t *step, nvfp4_reason *reason) {
  const char *behavior = json_string_value(json_object_get(step, "behavior"));
  if (behavior == NULL || strcmp(behavior, "Isolated") != 0) {
    return nvfp4_reject(reason, NVFP4_E_UNSUPPORTED, "tokenizer.json: pre-tokenizer Split with behavior %s; this library knows Isolated",
                        behavior != NULL ? behavior : "(none)");
  }
  const json_t *regex = json_object_get(json_object_get(step, "pattern"), "Regex");
  if (!json_is_string(regex)) {
    return nvfp4_reject(reason, NVFP4_E_UNSUPPORTED, "tokenizer.json: pre-tokenizer Split without a pattern.Regex; it is needed");
  }
  return nvfp4_pretokenizer_add(tokenizer->pretokenizer, json_string_value(regex), json_string_length(regex), reason);
}

static nvfp4_status add_byte_level(nvfp4_tokenizer *tokenizer, const json_t *step, nvfp4_reason *reason) {
  if (is_true(step, "add_prefix_space")) {
    return nvfp4_reject(reason, NVFP4_E_UNSUPPORTED,
                        "tokenizer.json: pre-tokenizer ByteLevel with add_prefix_space; this library does not add it");
  }
  const json_t *use_regex = json_object_get(step, "use_regex"); /* missing means true */
  return json_is_false(use_regex) ? NVFP4_OK
                                  : nvfp4_pretokenizer_add(tokenizer->pretokenizer, nvfp4_pattern_gpt2, strlen(nvfp4_pattern_gpt2), reason);
}

static nvfp4_status add_step(nvfp4_tokenizer *tokenizer, const json_t *step, bool *byte_level, nvfp4_reason *reason) {
  const char *type = type_of(step);
  if (strcmp(type, "Split") == 0) {
    return add_split(tokenizer, step, reason);
  }
  if (strcmp(type, "Digits") == 0) {
    const char *pattern = is_true(step, "individual_digits") ? nvfp4_pattern_digit : nvfp4_pattern_digits;
    return nvfp4_pretokenizer_add(tokenizer->pretokenizer, pattern, strlen(pattern), reason);
  }
  if (strcmp(type, "ByteLevel") == 0) {
    *byte_level = true;
    return add_byte_level(tokenizer, step, reason);
  }
  return nvfp4_reject(reason, NVFP4_E_UNSUPPORTED,
                      "tokenizer.json: pre-tokenizer \"%s\"; this library knows Split, Digits, ByteLevel and Sequence", type);
}

static nvfp4_status read_pretokenizer(nvfp4_tokenizer *tokenizer, const json_t *root, nvfp4_reason *reason) {
  const json_t *normalizer = json_object_get(root, "normalizer");
  if (json_is_object(normalizer) && strcmp(type_of(normalizer), "NFC") != 0) {
    return nvfp4_reject(reason, NVFP4_E_UNSUPPORTED, "tokenizer.json: normalizer \"%s\"; this library takes text as it is",
                        type_of(normalizer));
  }
  const json_t *pre = json_object_get(root, "pre_tokenizer");
  bool byte_level = false;
  if (strcmp(type_of(pre), "Sequence") == 0) {
    const json_t *steps = json_object_get(pre, "pretokenizers");
    for (size_t i = 0; i < json_array_size(steps); i++) {
      NVFP4_TRY(add_step(tokenizer, json_array_get(steps, i), &byte_level, reason));
    }
  } else {
    NVFP4_TRY(add_step(tokenizer, pre, &byte_level, reason));
  }
  return byte_level ? NVFP4_OK
                    : nvfp4_reject(reason, NVFP4_E_UNSUPPORTED,
                                   "tokenizer.json: no ByteLevel pre-tokenizer; this library knows byte-level BPE only");
}

/* -------------------------------------------------------------------------------------------------- vocabulary and merges */

static nvfp4_status check_id(const char *text, const json_t *id, size_t tokens, nvfp4_reason *reason) {
  if (!json_is_integer(id) || json_integer_value(id) < 0 || (uint64_t)json_integer_value(id) >= (uint64_t)tokens + MAX_HOLES) {
    return nvfp4_reject(reason, NVFP4_E_FORMAT, "tokenizer.json: the id of \"%.60s\" is not an integer below %zu", text,
                        tokens + MAX_HOLES);
  }
  return NVFP4_OK;
}

/* Largest id + 1 over vocabulary and added tokens. */
static nvfp4_status count_ids(json_t *vocab, const json_t *added, size_t *out, nvfp4_reason *reason) {
  size_t tokens = json_object_size(vocab) + json_array_size(added);
  const char *text;
  json_t *id;
  *out = 0;
  json_object_foreach(vocab, text, id) {
    NVFP4_TRY(check_id(text, id, tokens, reason));
    *out = (size_t)json_integer_value(id) >= *out ? (size_t)json_integer_value(id) + 1 : *out;
  }
  for (size_t i = 0; i < json_array_size(added); i++) {
    const json_t *token = json_array_get(added, i);
    text = json_string_value(json_object_get(token, "content"));
    id = json_object_get(token, "id");
    if (text == NULL) {
      return nvfp4_reject(reason, NVFP4_E_FORMAT, "tokenizer.json: added token %zu has no content", i);
    }
    NVFP4_TRY(check_id(text, id, tokens, reason));
    *out = (size_t)json_integer_value(id) >= *out ? (size_t)json_integer_value(id) + 1 : *out;
  }
  return NVFP4_OK;
}

static nvfp4_status set_tokens(nvfp4_tokenizer *tokenizer, json_t *vocab, const json_t *added, nvfp4_reason *reason) {
  const char *text;
  json_t *id;
  json_object_foreach(vocab, text, id) {
    NVFP4_TRY(nvfp4_tokenizer_set(tokenizer, (size_t)json_integer_value(id), text, strlen(text), true, 0, reason));
  }
  for (size_t i = 0; i < json_array_size(added); i++) {
    const json_t *token = json_array_get(added, i);
    const json_t *content = json_object_get(token, "content");
    if (is_true(token, "lstrip") || is_true(token, "rstrip") || is_true(token, "single_word")) {
      return nvfp4_reject(reason, NVFP4_E_UNSUPPORTED,
                          "tokenizer.json: added token \"%s\" with lstrip, rstrip or single_word; this library does not strip",
                          json_string_value(content));
    }
    uint32_t flags = NVFP4_TOKEN_ADDED | (is_true(token, "special") ? NVFP4_TOKEN_SPECIAL : 0);
    NVFP4_TRY(nvfp4_tokenizer_set(tokenizer, (size_t)json_integer_value(json_object_get(token, "id")), json_string_value(content),
                                  json_string_length(content), false, flags, reason));
  }
  return NVFP4_OK;
}

static nvfp4_status set_merges(nvfp4_tokenizer *tokenizer, const json_t *merges, nvfp4_reason *reason) {
  NVFP4_TRY(nvfp4_tokenizer_index(tokenizer, json_array_size(merges), reason));
  for (size_t i = 0; i < json_array_size(merges); i++) {
    const json_t *merge = json_array_get(merges, i);
    const json_t *left = json_array_get(merge, 0), *right = json_array_get(merge, 1);
    if (json_is_string(merge)) {
      NVFP4_TRY(nvfp4_tokenizer_merge_text(tokenizer, i, json_string_value(merge), json_string_length(merge), reason));
    } else if (json_is_string(left) && json_is_string(right)) {
      NVFP4_TRY(nvfp4_tokenizer_merge(tokenizer, i, json_string_value(left), json_string_length(left), json_string_value(right),
                                      json_string_length(right), reason));
    } else {
      return nvfp4_reject(reason, NVFP4_E_FORMAT, "tokenizer.json: merge %zu is neither \"a b\" nor [\"a\", \"b\"]", i);
    }
  }
  return NVFP4_OK;
}

static nvfp4_status read_model(const json_t *root, nvfp4_tokenizer **out, nvfp4_reason *reason) {
  const json_t *model = json_object_get(root, "model");
  const char *type = type_of(model);
  if ((type[0] != '\0' && strcmp(type, "BPE") != 0) || is_true(model, "byte_fallback")) {
    return nvfp4_reject(reason, NVFP4_E_UNSUPPORTED, "tokenizer.json: model %s%s; this library knows byte-level BPE", type,
                        is_true(model, "byte_fallback") ? " with byte_fallback" : "");
  }
  static const char *const affixes[] = {"continuing_subword_prefix", "end_of_word_suffix"};
  for (int i = 0; i < 2; i++) {
    const char *affix = json_string_value(json_object_get(model, affixes[i]));
    if (affix != NULL && affix[0] != '\0') {
      return nvfp4_reject(reason, NVFP4_E_UNSUPPORTED, "tokenizer.json: %s \"%s\"; this library knows BPE without", affixes[i], affix);
    }
  }
  json_t *vocab = json_object_get(model, "vocab");
  const json_t *added = json_object_get(root, "added_tokens"), *merges = json_object_get(model, "merges");
  if (!json_is_object(vocab) || !json_is_array(merges)) {
    return nvfp4_reject(reason, NVFP4_E_FORMAT, "tokenizer.json: model.vocab or model.merges is missing");
  }
  size_t count;
  NVFP4_TRY(count_ids(vocab, added, &count, reason));
  NVFP4_TRY(nvfp4_tokenizer_alloc(count, out, reason));
  NVFP4_TRY(set_tokens(*out, vocab, added, reason));
  NVFP4_TRY(set_merges(*out, merges, reason));
  (*out)->ignore_merges = is_true(model, "ignore_merges");
  const json_t *unknown = json_object_get(model, "unk_token");
  if (json_is_string(unknown)) {
    const json_t *id = json_object_get(vocab, json_string_value(unknown));
    (*out)->unknown = json_is_integer(id) ? (int32_t)json_integer_value(id)
                                          : nvfp4_tokenizer_find_added(*out, json_string_value(unknown), json_string_length(unknown));
  }
  return NVFP4_OK;
}

/* -------------------------------------------------------------------------------------------------- what begins and ends */

/* tokenizer_config.json writes a token as its text or as an object with it. */
static const char *token_text(const json_t *token) {
  return json_is_object(token) ? json_string_value(json_object_get(token, "content")) : json_string_value(token);
}

static int32_t id_or_none(const json_t *id) {
  return json_is_integer(id) && json_integer_value(id) >= 0 && json_integer_value(id) <= INT32_MAX ? (int32_t)json_integer_value(id) : -1;
}

/* The token that a post-processor TemplateProcessing puts first, possibly within a Sequence. */
static int32_t template_begin(const json_t *processor) {
  const json_t *inner = json_object_get(processor, "processors");
  for (size_t i = 0; i < json_array_size(inner); i++) {
    const json_t *part = json_array_get(inner, i);
    if (strcmp(type_of(part), "TemplateProcessing") == 0) {
      return template_begin(part);
    }
  }
  const json_t *first = json_object_get(json_array_get(json_object_get(processor, "single"), 0), "SpecialToken");
  const char *name = json_string_value(json_object_get(first, "id"));
  return name == NULL
             ? -1
             : id_or_none(json_array_get(json_object_get(json_object_get(json_object_get(processor, "special_tokens"), name), "ids"), 0));
}

static int32_t find_begin(const tokenizer_files *files) {
  const json_t *add = json_object_get(files->tokenizer_config, "add_bos_token");
  if (!json_is_boolean(add)) {
    return template_begin(json_object_get(files->tokenizer, "post_processor"));
  }
  if (json_is_false(add)) {
    return -1;
  }
  const char *text = token_text(json_object_get(files->tokenizer_config, "bos_token"));
  const json_t *added = json_object_get(files->tokenizer, "added_tokens");
  for (size_t i = 0; text != NULL && i < json_array_size(added); i++) {
    const char *content = json_string_value(json_object_get(json_array_get(added, i), "content"));
    if (content != NULL && strcmp(content, text) == 0) {
      return id_or_none(json_object_get(json_array_get(added, i), "id"));
    }
  }
  return id_or_none(json_object_get(files->config, "bos_token_id"));
}

static void mark_end(nvfp4_tokenizer *tokenizer, int32_t id) {
  if (id >= 0 && (size_t)id < tokenizer->count) {
    tokenizer->tokens[id].flags |= NVFP4_TOKEN_END;
  }
}

/* eos_token_id is one id or a list. */
static void mark_ends(nvfp4_tokenizer *tokenizer, const json_t *ids) {
  mark_end(tokenizer, id_or_none(ids));
  for (size_t i = 0; i < json_array_size(ids); i++) {
    mark_end(tokenizer, id_or_none(json_array_get(ids, i)));
  }
}

static char *read_template_file(const char *folder) {
  char path[4096];
  if (snprintf(path, sizeof path, "%s/chat_template.jinja", folder) >= (int)sizeof path) {
    return NULL;
  }
  FILE *file = fopen(path, "rb");
  if (file == NULL) {
    return NULL;
  }
  char *text = malloc(MAX_TEMPLATE_BYTES + 1);
  size_t bytes = text != NULL ? fread(text, 1, MAX_TEMPLATE_BYTES, file) : 0;
  fclose(file);
  if (text != NULL) {
    text[bytes] = '\0';
  }
  return text;
}

/* A string, or a list of named ones of which "default" counts. */
static char *read_template(const tokenizer_files *files, const char *folder) {
  const json_t *found = json_object_get(files->tokenizer_config, "chat_template");
  for (size_t i = 0; i < json_array_size(found); i++) {
    const json_t *named = json_array_get(found, i);
    const char *name = json_string_value(json_object_get(named, "name"));
    if (name != NULL && strcmp(name, "default") == 0) {
      found = json_object_get(named, "template");
      break;
    }
  }
  return json_is_string(found) ? strdup(json_string_value(found)) : read_template_file(folder);
}

static nvfp4_status build(const nvfp4_checkpoint *checkpoint, const tokenizer_files *files, nvfp4_tokenizer **out, nvfp4_reason *reason) {
  NVFP4_TRY(read_model(files->tokenizer, out, reason));
  nvfp4_tokenizer *tokenizer = *out;
  NVFP4_TRY(read_pretokenizer(tokenizer, files->tokenizer, reason));
  int32_t begin = find_begin(files);
  tokenizer->begin = begin >= 0 && (size_t)begin < tokenizer->count ? begin : -1;
  mark_ends(tokenizer, json_object_get(files->config, "eos_token_id"));
  mark_ends(tokenizer, json_object_get(files->generation_config, "eos_token_id"));
  const char *eos = token_text(json_object_get(files->tokenizer_config, "eos_token"));
  if (eos != NULL) {
    mark_end(tokenizer, nvfp4_tokenizer_find_added(tokenizer, eos, strlen(eos)));
  }
  tokenizer->chat_template = read_template(files, checkpoint->folder);
  return NVFP4_OK;
}

nvfp4_status nvfp4_tokenizer_from_json(const nvfp4_checkpoint *checkpoint, nvfp4_tokenizer **out, nvfp4_reason *reason) {
  tokenizer_files files;
  NVFP4_TRY(open_files(checkpoint, &files, reason));
  nvfp4_tokenizer *tokenizer = NULL;
  nvfp4_status status = files.tokenizer != NULL
                            ? build(checkpoint, &files, &tokenizer, reason)
                            : nvfp4_reject(reason, NVFP4_E_UNSUPPORTED,
                                           "no tokenizer.json that can be opened in %s; put it beside the weights", checkpoint->folder);
  close_files(&files);
  if (status != NVFP4_OK) {
    nvfp4_tokenizer_destroy(tokenizer);
    return status;
  }
  *out = tokenizer;
  return NVFP4_OK;
}

nvfp4_status nvfp4_tokenizer_json_bos(const nvfp4_checkpoint *checkpoint, int32_t *out, nvfp4_reason *reason) {
  tokenizer_files files;
  NVFP4_TRY(open_files(checkpoint, &files, reason));
  *out = files.tokenizer != NULL ? find_begin(&files) : -1;
  close_files(&files);
  return NVFP4_OK;
}
