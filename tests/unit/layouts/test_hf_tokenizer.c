/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE /* mkdtemp */
#include "unit/quantizer/quantizer_support.h"

static nvfp4_reason reason;
static char folder[256];

/* A GGUF file of one linear layer whose metadata `fill` has made. */
static nvfp4_quantize_job open_with(gguf_file *file) {
  static const float zeros[256];
  int64_t square[2] = {16, 16};
  char path[512];
  gguf_tensor(file, "blk.0.ffn_up.weight", GGUF_F32, 2, square, zeros, sizeof zeros);
  gguf_write(file, path_in(make_folder(folder), "x.gguf", path));
  return open_job(path, NVFP4_LAYOUT_MODELOPT, 1);
}

static void close_with(nvfp4_quantize_job *job) {
  close_job(job);
  remove_folder(folder);
}

static json_t *parsed(char *text) {
  assert_non_null(text);
  json_t *value = json_loads(text, 0, NULL);
  assert_non_null(value);
  free(text);
  return value;
}

/* A tokenizer.json, turned into metadata as llama.cpp's converter does, comes back as it was. */
static void the_tokenizer_comes_back(void **state) {
  (void)state;
  gguf_file file = {0};
  tiny_metadata(&file);
  tiny_tokenizer(&file, "smollm");
  nvfp4_quantize_job job = open_with(&file);
  char *text = NULL;
  assert_ok(nvfp4_hf_tokenizer(&(const nvfp4_model_description){.source = job.source}, &text, &reason), reason);
  json_t *ours = parsed(text), *theirs = read_json(TINY, "tokenizer.json");
  assert_true(json_equal(ours, theirs));
  json_decref(ours);
  json_decref(theirs);
  assert_ok(nvfp4_hf_tokenizer_config(&(const nvfp4_model_description){.source = job.source}, &text, &reason), reason);
  ours = parsed(text);
  theirs = read_json(TINY, "tokenizer_config.json");
  assert_true(json_equal(ours, theirs));
  json_decref(ours);
  json_decref(theirs);
  close_with(&job);
}

static void pre_tokenizers(void **state) {
  (void)state;
  static const char *const names[] = {"gpt-2", "qwen2", "llama-bpe"};
  static const char *const types[] = {"ByteLevel", "Sequence", "Sequence"};
  for (int i = 0; i < 3; i++) {
    gguf_file file = {0};
    tiny_metadata(&file);
    tiny_tokenizer(&file, names[i]);
    gguf_bool(&file, "tokenizer.ggml.add_bos_token", i == 2);
    nvfp4_quantize_job job = open_with(&file);
    char *text = NULL;
    assert_ok(nvfp4_hf_tokenizer(&(const nvfp4_model_description){.source = job.source}, &text, &reason), reason);
    json_t *tokenizer = parsed(text), *pre = json_object_get(tokenizer, "pre_tokenizer");
    assert_string_equal(json_string_value(json_object_get(pre, "type")), types[i]);
    assert_int_equal(json_is_object(json_object_get(tokenizer, "normalizer")), i == 1);
    assert_int_equal(json_is_object(json_object_get(tokenizer, "post_processor")), i == 2);
    assert_int_equal(json_is_true(json_object_get(json_object_get(tokenizer, "model"), "ignore_merges")), i == 2);
    if (i > 0) {
      const char *pattern =
          json_string_value(json_object_get(json_object_get(json_array_get(json_object_get(pre, "pretokenizers"), 0), "pattern"), "Regex"));
      assert_non_null(pattern);
      assert_int_equal(strstr(pattern, "\\p{N}{1,3}") != NULL, i == 2);
    }
    json_decref(tokenizer);
    close_with(&job);
  }
}

static void expect_refused(gguf_file *file, const char *says) {
  nvfp4_quantize_job job = open_with(file);
  char *text = NULL;
  assert_int_not_equal(nvfp4_hf_tokenizer(&(const nvfp4_model_description){.source = job.source}, &text, &reason), NVFP4_OK);
  assert_null(text);
  if (strstr(reason.text, says) == NULL) {
    fail_msg("\"%s\" does not say \"%s\"", reason.text, says);
  }
  close_with(&job);
}

static void put_tokens(gguf_file *file, const char *const *tokens, uint64_t count, uint64_t types) {
  gguf_text(file, "tokenizer.ggml.model", "gpt2");
  gguf_text(file, "tokenizer.ggml.pre", "gpt-2");
  gguf_array(file, "tokenizer.ggml.tokens", 8, count);
  for (uint64_t i = 0; i < count; i++) {
    put_string(&file->pairs, tokens[i]);
  }
  gguf_array(file, "tokenizer.ggml.token_type", 5, types);
  for (uint32_t i = 0; i < types; i++) {
    put_u32(&file->pairs, i == 2 ? 5 : 1);
  }
  gguf_array(file, "tokenizer.ggml.merges", 8, 1);
  put_string(&file->pairs, "a b");
}

static void unused_tokens_are_left_out(void **state) {
  (void)state;
  static const char *const tokens[] = {"a", "b", "[PAD2]"};
  gguf_file file = {0};
  tiny_metadata(&file);
  put_tokens(&file, tokens, 3, 3);
  nvfp4_quantize_job job = open_with(&file);
  char *text = NULL;
  assert_ok(nvfp4_hf_tokenizer(&(const nvfp4_model_description){.source = job.source}, &text, &reason), reason);
  json_t *tokenizer = parsed(text);
  assert_int_equal(json_object_size(json_object_get(json_object_get(tokenizer, "model"), "vocab")), 2);
  json_decref(tokenizer);
  close_with(&job);
}

static void tokenizers_that_cannot_be_translated(void **state) {
  (void)state;
  static const char *const twice[] = {"a", "a"}, *const broken[] = {"a", "\xff"}, *const good[] = {"a", "b"};
  gguf_file files[6] = {{{0}, {0}, {0}, 0, 0}};
  for (int i = 0; i < 6; i++) {
    tiny_metadata(&files[i]);
  }
  gguf_text(&files[0], "tokenizer.ggml.model", "llama");
  expect_refused(&files[0], "tokenizer llama");
  tiny_tokenizer(&files[1], "tekken");
  expect_refused(&files[1], "pre-tokenizer tekken");
  put_tokens(&files[2], twice, 2, 2);
  expect_refused(&files[2], "token 1 (a) is there twice");
  put_tokens(&files[3], good, 2, 1);
  expect_refused(&files[3], "2 tokens, but 1 token types");
  gguf_text(&files[4], "tokenizer.ggml.model", "gpt2");
  expect_refused(&files[4], "tokenizer.ggml.pre");
  put_tokens(&files[5], broken, 2, 2);
  expect_refused(&files[5], "token 1");
}

static void no_tokenizer_is_no_error(void **state) {
  (void)state;
  for (int i = 0; i < 2; i++) {
    gguf_file file = {0};
    tiny_metadata(&file);
    if (i == 1) {
      gguf_text(&file, "tokenizer.ggml.model", "none");
    }
    nvfp4_quantize_job job = open_with(&file);
    char *text = NULL;
    assert_ok(nvfp4_hf_tokenizer(&(const nvfp4_model_description){.source = job.source}, &text, &reason), reason);
    assert_null(text);
    assert_ok(nvfp4_hf_tokenizer_config(&(const nvfp4_model_description){.source = job.source}, &text, &reason), reason);
    assert_null(text);
    close_with(&job);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(the_tokenizer_comes_back),   cmocka_unit_test(pre_tokenizers),
      cmocka_unit_test(unused_tokens_are_left_out), cmocka_unit_test(tokenizers_that_cannot_be_translated),
      cmocka_unit_test(no_tokenizer_is_no_error),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
