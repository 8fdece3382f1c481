/* SPDX-License-Identifier: Apache-2.0 */
#define _POSIX_C_SOURCE 200809L /* mkdtemp */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "checkpoint/checkpoint.h"
#include "model/tokenizer.h"
#include "tokenizer_cases.h"

static nvfp4_tokenizer *golden_tokenizer(const char *path) {
  nvfp4_reason reason = {0};
  nvfp4_tokenizer *tokenizer = NULL;
  assert_ok(create_tokenizer(path, &tokenizer, &reason), reason);
  return tokenizer;
}

static int32_t window_bos(const char *folder) {
  nvfp4_checkpoint checkpoint = {.path = (char *)folder, .folder = (char *)folder};
  nvfp4_reason reason = {0};
  int32_t bos = -2;
  assert_ok(nvfp4_tokenizer_window_bos(&checkpoint, &bos, &reason), reason);
  return bos;
}

/* Split by an expression, merges as strings, a begin token by tokenizer_config.json. */
static void qwen2(void **state) {
  (void)state;
  nvfp4_tokenizer *tokenizer = golden_tokenizer(GOLDEN "tokenizer/qwen2");
  check_tokenizer(tokenizer, "qwen2");
  assert_int_equal(tokenizer->begin, 0);
  assert_int_equal(window_bos(GOLDEN "tokenizer/qwen2"), 0);
  assert_true(nvfp4_token_is_end(tokenizer, 2));
  nvfp4_tokenizer_destroy(tokenizer);
}

/* Merges as pairs, pieces that are tokens as a whole, a begin token by the post-processor, several ends. */
static void llama3(void **state) {
  (void)state;
  nvfp4_tokenizer *tokenizer = golden_tokenizer(GOLDEN "tokenizer/llama3");
  check_tokenizer(tokenizer, "llama3");
  assert_true(tokenizer->ignore_merges);
  assert_int_equal(tokenizer->begin, 3);
  assert_int_equal(window_bos(GOLDEN "tokenizer/llama3"), 3);
  assert_true(nvfp4_token_is_end(tokenizer, 1));
  assert_true(nvfp4_token_is_end(tokenizer, 5));
  assert_true(nvfp4_token_is_end(tokenizer, 560)); /* <tool>, by tokenizer_config.json */
  assert_false(nvfp4_token_is_end(tokenizer, 4));
  assert_null(tokenizer->chat_template);
  nvfp4_tokenizer_destroy(tokenizer);
}

static char folder[] = "/tmp/nvfp4-test-XXXXXX";

static void write_file(const char *name, const char *text) {
  char path[256];
  snprintf(path, sizeof path, "%s/%s", folder, name);
  FILE *file = fopen(path, "wb");
  assert_non_null(file);
  assert_int_equal(fwrite(text, 1, strlen(text), file), strlen(text));
  assert_int_equal(fclose(file), 0);
}

static int setup(void **state) {
  (void)state;
  return mkdtemp(folder) != NULL ? 0 : -1;
}

static int teardown(void **state) {
  (void)state;
  static const char *const names[] = {"tokenizer.json", "tokenizer_config.json", "chat_template.jinja"};
  for (size_t i = 0; i < 3; i++) {
    char path[256];
    snprintf(path, sizeof path, "%s/%s", folder, names[i]);
    unlink(path);
  }
  return rmdir(folder);
}

#define BYTE_LEVEL "{\"type\": \"ByteLevel\", \"add_prefix_space\": false}"
#define MODEL "{\"type\": \"BPE\", \"vocab\": {\"a\": 0, \"b\": 1, \"ab\": 2}, \"merges\": [\"a b\"]}"

static void refused(const char *tokenizer_json, nvfp4_status status, const char *word) {
  write_file("tokenizer.json", tokenizer_json);
  nvfp4_reason reason = {0};
  nvfp4_tokenizer *tokenizer = NULL;
  assert_int_equal(create_tokenizer(folder, &tokenizer, &reason), status);
  if (strstr(reason.text, word) == NULL) {
    fail_msg("\"%s\" is not in: %s", word, reason.text);
  }
  assert_null(tokenizer);
}

static void refuses_by_name(void **state) {
  (void)state;
  nvfp4_reason reason = {0};
  nvfp4_tokenizer *tokenizer = NULL;
  assert_int_equal(create_tokenizer(folder, &tokenizer, &reason), NVFP4_E_UNSUPPORTED);
  assert_non_null(strstr(reason.text, "no tokenizer.json"));
#define WITH(pre, model) "{\"pre_tokenizer\": " pre ", \"model\": " model "}"
  refused("{", NVFP4_E_FORMAT, "line 1");
  refused("[]", NVFP4_E_FORMAT, "model.vocab");
  refused(WITH("{\"type\": \"Metaspace\"}", MODEL), NVFP4_E_UNSUPPORTED, "Metaspace");
  refused(WITH("null", MODEL), NVFP4_E_UNSUPPORTED, "pre-tokenizer");
  refused(WITH("{\"type\": \"Digits\"}", MODEL), NVFP4_E_UNSUPPORTED, "no ByteLevel");
  refused(WITH("{\"type\": \"ByteLevel\", \"add_prefix_space\": true}", MODEL), NVFP4_E_UNSUPPORTED, "add_prefix_space");
  refused(WITH("{\"type\": \"Split\", \"behavior\": \"Removed\", \"pattern\": {\"Regex\": \"a\"}}", MODEL), NVFP4_E_UNSUPPORTED, "Removed");
  refused(WITH("{\"type\": \"Split\", \"behavior\": \"Isolated\", \"pattern\": {\"String\": \"a\"}}", MODEL), NVFP4_E_UNSUPPORTED, "Regex");
  refused(WITH("{\"type\": \"Split\", \"behavior\": \"Isolated\", \"pattern\": {\"Regex\": \"(a\"}}", MODEL), NVFP4_E_UNSUPPORTED, "(a");
  refused(WITH(BYTE_LEVEL, "{\"type\": \"Unigram\"}"), NVFP4_E_UNSUPPORTED, "Unigram");
  refused(WITH(BYTE_LEVEL, "{\"type\": \"BPE\", \"byte_fallback\": true}"), NVFP4_E_UNSUPPORTED, "byte_fallback");
  refused(WITH(BYTE_LEVEL, "{\"end_of_word_suffix\": \"</w>\"}"), NVFP4_E_UNSUPPORTED, "</w>");
  refused(WITH(BYTE_LEVEL, "{\"vocab\": {\"a\": -1}, \"merges\": []}"), NVFP4_E_FORMAT, "\"a\"");
  refused(WITH(BYTE_LEVEL, "{\"vocab\": {\"a\": 4000000000}, \"merges\": []}"), NVFP4_E_FORMAT, "\"a\"");
  refused(WITH(BYTE_LEVEL, "{\"vocab\": {\"a\": \"1\"}, \"merges\": []}"), NVFP4_E_FORMAT, "\"a\"");
  refused(WITH(BYTE_LEVEL, "{\"vocab\": {}, \"merges\": []}"), NVFP4_E_FORMAT, "vocabulary of 0");
  refused(WITH(BYTE_LEVEL, "{\"vocab\": {\"a\": 0}, \"merges\": [\"a b\"]}"), NVFP4_E_FORMAT, "merge 0");
  refused(WITH(BYTE_LEVEL, "{\"vocab\": {\"a\": 0}, \"merges\": [3]}"), NVFP4_E_FORMAT, "merge 0");
  refused("{\"normalizer\": {\"type\": \"Lowercase\"}, \"pre_tokenizer\": " BYTE_LEVEL ", \"model\": " MODEL "}", NVFP4_E_UNSUPPORTED,
          "Lowercase");
  refused("{\"added_tokens\": [{\"id\": 3}], \"pre_tokenizer\": " BYTE_LEVEL ", \"model\": " MODEL "}", NVFP4_E_FORMAT, "added token 0");
  refused("{\"added_tokens\": [{\"id\": 3, \"content\": \"<x>\", \"lstrip\": true}], \"pre_tokenizer\": " BYTE_LEVEL ", \"model\": " MODEL
          "}",
          NVFP4_E_UNSUPPORTED, "<x>");
}

static void templates(void **state) {
  (void)state;
  write_file("tokenizer.json", WITH(BYTE_LEVEL, MODEL));
  write_file("chat_template.jinja", "of a file");
  nvfp4_tokenizer *tokenizer = golden_tokenizer(folder);
  assert_string_equal(tokenizer->chat_template, "of a file");
  nvfp4_tokenizer_destroy(tokenizer);
  write_file("tokenizer_config.json",
             "{\"model_max_length\": 1000000000000000019884624838656, \"chat_template\": [{\"name\": \"tool\", \"template\": \"no\"}, "
             "{\"name\": \"default\", \"template\": \"yes\"}]}");
  tokenizer = golden_tokenizer(folder);
  assert_string_equal(tokenizer->chat_template, "yes");
  char ids[1024];
  assert_string_equal(token_ids(tokenizer, "abba", false, ids), "2 1 0");
  nvfp4_tokenizer_destroy(tokenizer);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(qwen2), cmocka_unit_test(llama3), cmocka_unit_test(refuses_by_name),
                                     cmocka_unit_test(templates)};
  return cmocka_run_group_tests(tests, setup, teardown);
}
