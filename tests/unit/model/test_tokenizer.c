/* SPDX-License-Identifier: Apache-2.0 */
#include "model/tokenizer.h"

#include <stdlib.h>

#include "tokenizer_cases.h"

static nvfp4_tokenizer *smollm(void) {
  nvfp4_reason reason = {0};
  nvfp4_tokenizer *tokenizer = NULL;
  assert_ok(create_tokenizer(GOLDEN "tokenizer/smollm", &tokenizer, &reason), reason);
  return tokenizer;
}

static void gives_the_ids_of_hugging_face(void **state) {
  (void)state;
  nvfp4_tokenizer *tokenizer = smollm();
  check_tokenizer(tokenizer, "smollm");
  nvfp4_tokenizer_destroy(tokenizer);
}

static void special_tokens_only_if_asked(void **state) {
  (void)state;
  nvfp4_tokenizer *tokenizer = smollm();
  char ids[1024], other[1024];
  assert_string_equal(token_ids(tokenizer, "<|im_end|><|endoftext|>", true, ids), "2 0");
  token_ids(tokenizer, "<|im_end|>", false, ids);
  assert_null(strstr(ids, "2 0"));
  assert_true(strlen(ids) > 10);
  /* An added token that is not special is always found. */
  assert_string_equal(token_ids(tokenizer, "<tool>", false, ids), token_ids(tokenizer, "<tool>", true, other));
  assert_null(strchr(ids, ' '));
  assert_true(nvfp4_token_is_special(tokenizer, 2));
  assert_false(nvfp4_token_is_special(tokenizer, atoi(ids)));
  assert_true(nvfp4_token_is_end(tokenizer, 2));
  assert_true(nvfp4_token_is_end(tokenizer, 0));
  assert_false(nvfp4_token_is_end(tokenizer, 1));
  nvfp4_tokenizer_destroy(tokenizer);
}

static void ids_outside_the_vocabulary(void **state) {
  (void)state;
  nvfp4_tokenizer *tokenizer = smollm();
  size_t bytes = 9, count = nvfp4_tokenizer_vocabulary(tokenizer);
  assert_int_equal(count, 561);
  assert_null(nvfp4_token_bytes(tokenizer, -1, &bytes));
  assert_int_equal(bytes, 0);
  assert_null(nvfp4_token_bytes(tokenizer, (int32_t)count, NULL));
  assert_false(nvfp4_token_is_special(tokenizer, -1));
  assert_false(nvfp4_token_is_end(tokenizer, (int32_t)count));
  nvfp4_tokenizer_destroy(tokenizer);
}

/* Every byte has a token of its own, in GPT-2's alphabet. */
static void every_byte_has_a_token(void **state) {
  (void)state;
  nvfp4_tokenizer *tokenizer = smollm();
  for (int byte = 0; byte < 256; byte++) {
    int32_t id = tokenizer->byte_ids[byte];
    assert_true(id >= 0);
    size_t bytes;
    const char *text = nvfp4_token_bytes(tokenizer, id, &bytes);
    assert_int_equal(bytes, 1);
    assert_int_equal((uint8_t)text[0], byte);
  }
  nvfp4_tokenizer_destroy(tokenizer);
}

static void refuses_what_is_not_utf8(void **state) {
  (void)state;
  nvfp4_tokenizer *tokenizer = smollm();
  nvfp4_reason reason = {0};
  int32_t *tokens = NULL;
  size_t count;
  assert_int_equal(nvfp4_tokenize(tokenizer, "ab\xC3", 3, false, &tokens, &count, &reason), NVFP4_E_ARG);
  assert_non_null(strstr(reason.text, "UTF-8"));
  assert_int_equal(nvfp4_tokenize(tokenizer, NULL, 3, false, &tokens, &count, NULL), NVFP4_E_ARG);
  assert_null(tokens);
  assert_ok(nvfp4_tokenize(tokenizer, NULL, 0, false, &tokens, &count, &reason), reason);
  assert_int_equal(count, 0);
  nvfp4_tokens_free(tokens);
  nvfp4_tokenizer_destroy(tokenizer);
}

/* The merge of the lowest rank goes first, wherever it stands; of equals the leftmost. "ab" before "bc" before "aa". */
static void merges_by_rank_then_from_the_left(void **state) {
  (void)state;
  nvfp4_reason reason = {0};
  nvfp4_tokenizer *tokenizer = NULL;
  static const char *const vocabulary[] = {"a", "b", "c", "ab", "bc", "aa", "abc"};
  assert_ok(nvfp4_tokenizer_alloc(7, &tokenizer, &reason), reason);
  for (size_t i = 0; i < 7; i++) {
    assert_ok(nvfp4_tokenizer_set(tokenizer, i, vocabulary[i], strlen(vocabulary[i]), true, 0, &reason), reason);
  }
  assert_ok(nvfp4_tokenizer_index(tokenizer, 3, &reason), reason);
  assert_ok(nvfp4_tokenizer_merge_text(tokenizer, 0, "a b", 3, &reason), reason);
  assert_ok(nvfp4_tokenizer_merge_text(tokenizer, 1, "b c", 3, &reason), reason);
  assert_ok(nvfp4_tokenizer_merge_text(tokenizer, 2, "a a", 3, &reason), reason);
  char ids[1024];
  assert_string_equal(token_ids(tokenizer, "abc", false, ids), "3 2");
  assert_string_equal(token_ids(tokenizer, "bcab", false, ids), "4 3");
  assert_string_equal(token_ids(tokenizer, "aaa", false, ids), "5 0");
  assert_string_equal(token_ids(tokenizer, "aaab", false, ids), "5 3");
  /* Bytes without a token vanish, or become the unknown token. */
  assert_string_equal(token_ids(tokenizer, "axb", false, ids), "3");
  tokenizer->unknown = 2;
  assert_string_equal(token_ids(tokenizer, "bxa", false, ids), "4 0");
  tokenizer->ignore_merges = true;
  assert_string_equal(token_ids(tokenizer, "abc", false, ids), "6");
  assert_int_equal(nvfp4_tokenizer_merge_text(tokenizer, 3, "ab", 2, &reason), NVFP4_E_FORMAT);
  assert_int_equal(nvfp4_tokenizer_merge_text(tokenizer, 3, "c c", 3, &reason), NVFP4_E_FORMAT);
  assert_non_null(strstr(reason.text, "merge 3"));
  nvfp4_tokenizer_destroy(tokenizer);
}

/* Of added tokens that begin alike the longest is taken, if it may be. */
static void longest_added_token(void **state) {
  (void)state;
  nvfp4_reason reason = {0};
  nvfp4_tokenizer *tokenizer = NULL;
  static const char *const vocabulary[] = {"a", "<", ">", "<>", "<>a", "<>aa"};
  assert_ok(nvfp4_tokenizer_alloc(6, &tokenizer, &reason), reason);
  for (size_t i = 0; i < 6; i++) {
    uint32_t flags = (i >= 3 ? NVFP4_TOKEN_ADDED : 0) | (i == 5 ? NVFP4_TOKEN_SPECIAL : 0);
    assert_ok(nvfp4_tokenizer_set(tokenizer, i, vocabulary[i], strlen(vocabulary[i]), i < 3, flags, &reason), reason);
  }
  assert_ok(nvfp4_tokenizer_index(tokenizer, 0, &reason), reason);
  char ids[1024];
  assert_string_equal(token_ids(tokenizer, "<>aaa<>", true, ids), "5 0 3");
  assert_string_equal(token_ids(tokenizer, "<>aaa<>", false, ids), "4 0 0 3");
  assert_string_equal(token_ids(tokenizer, "<a<>", true, ids), "1 0 3");
  nvfp4_tokenizer_destroy(tokenizer);
}

/* A megabyte without a place to cut, in which every join leaves candidates behind: the heap keeps it O(n log n). */
static void long_pieces_are_no_trouble(void **state) {
  (void)state;
  nvfp4_tokenizer *tokenizer = smollm();
  nvfp4_reason reason = {0};
  size_t bytes = 1 << 20, count = 0, total = 0;
  char *text = malloc(bytes);
  assert_non_null(text);
  for (size_t i = 0; i < bytes; i++) {
    text[i] = "thehinanderofto"[i % 15];
  }
  int32_t *tokens = NULL;
  assert_ok(nvfp4_tokenize(tokenizer, text, bytes, false, &tokens, &count, &reason), reason);
  for (size_t i = 0; i < count; i++) {
    size_t length;
    nvfp4_token_bytes(tokenizer, tokens[i], &length);
    total += length;
  }
  assert_int_equal(total, bytes);
  assert_true(count < bytes);
  nvfp4_tokens_free(tokens);
  free(text);
  nvfp4_tokenizer_destroy(tokenizer);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(gives_the_ids_of_hugging_face), cmocka_unit_test(special_tokens_only_if_asked),
      cmocka_unit_test(ids_outside_the_vocabulary),    cmocka_unit_test(every_byte_has_a_token),
      cmocka_unit_test(refuses_what_is_not_utf8),      cmocka_unit_test(merges_by_rank_then_from_the_left),
      cmocka_unit_test(longest_added_token),           cmocka_unit_test(long_pieces_are_no_trouble),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
