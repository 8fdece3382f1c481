/* SPDX-License-Identifier: Apache-2.0 */
#include "tokenizer_cases.h"

#include <jansson.h>
#include <stdio.h>

#include "checkpoint/checkpoint.h"

nvfp4_status create_tokenizer(const char *path, nvfp4_tokenizer **out, nvfp4_reason *reason) {
  size_t length = strlen(path);
  if (length < 5 || strcmp(path + length - 5, ".gguf") != 0) {
    /* A checkpoint without weights: the tokenizer only reads files of its folder. */
    nvfp4_checkpoint folder = {.path = (char *)path, .folder = (char *)path};
    return nvfp4_tokenizer_create(&folder, out, reason);
  }
  nvfp4_checkpoint *checkpoint = NULL;
  assert_ok(nvfp4_checkpoint_open(path, 0, &checkpoint, reason), *reason);
  nvfp4_status status = nvfp4_tokenizer_create(checkpoint, out, reason);
  nvfp4_checkpoint_close(checkpoint);
  return status;
}

static void check_text(const nvfp4_tokenizer *tokenizer, const json_t *text, const json_t *ids) {
  nvfp4_reason reason = {0};
  int32_t *tokens = NULL;
  size_t count = 0, at = 0, bytes = json_string_length(text);
  const char *want = json_string_value(text);
  assert_ok(nvfp4_tokenize(tokenizer, want, bytes, true, &tokens, &count, &reason), reason);
  if (count != json_array_size(ids)) {
    fail_msg("\"%s\": %zu tokens, expected %zu", want, count, json_array_size(ids));
  }
  for (size_t i = 0; i < count; i++) {
    if (tokens[i] != json_integer_value(json_array_get(ids, i))) {
      fail_msg("\"%s\": token %zu is %d, expected %d", want, i, (int)tokens[i], (int)json_integer_value(json_array_get(ids, i)));
    }
    size_t length;
    const char *part = nvfp4_token_bytes(tokenizer, tokens[i], &length);
    assert_non_null(part);
    /* A token that begins every text is not of the text. */
    if (i == 0 && nvfp4_token_is_special(tokenizer, tokens[0]) && (length > bytes || memcmp(want, part, length) != 0)) {
      continue;
    }
    assert_true(at + length <= bytes);
    assert_memory_equal(want + at, part, length);
    at += length;
  }
  assert_int_equal(at, bytes);
  nvfp4_tokens_free(tokens);
}

void check_tokenizer(const nvfp4_tokenizer *tokenizer, const char *name) {
  json_error_t error;
  json_t *root = json_load_file(GOLDEN "tokenizer/expected.json", JSON_ALLOW_NUL, &error);
  assert_non_null(root);
  const json_t *cases = json_object_get(root, name);
  assert_true(json_array_size(cases) >= 40);
  for (size_t i = 0; i < json_array_size(cases); i++) {
    const json_t *one = json_array_get(cases, i);
    check_text(tokenizer, json_object_get(one, "text"), json_object_get(one, "ids"));
  }
  json_decref(root);
}

const char *token_ids(const nvfp4_tokenizer *tokenizer, const char *text, bool parse_special, char ids[1024]) {
  nvfp4_reason reason = {0};
  int32_t *tokens = NULL;
  size_t count = 0;
  assert_ok(nvfp4_tokenize(tokenizer, text, strlen(text), parse_special, &tokens, &count, &reason), reason);
  ids[0] = '\0';
  size_t used = 0;
  for (size_t i = 0; i < count && used < 1000; i++) {
    used += (size_t)snprintf(ids + used, 1024 - used, i > 0 ? " %d" : "%d", (int)tokens[i]);
  }
  nvfp4_tokens_free(tokens);
  return ids;
}
