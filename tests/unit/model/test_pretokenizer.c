/* SPDX-License-Identifier: Apache-2.0 */
#include "model/pretokenizer.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/reason.h"
#include "support.h"

typedef struct pieces {
  char text[512];
  size_t used;
} pieces;

static nvfp4_status append(void *cookie, const char *piece, size_t bytes, nvfp4_reason *reason) {
  (void)reason;
  pieces *p = cookie;
  assert_true(bytes > 0 && p->used + bytes + 2 < sizeof p->text);
  memcpy(p->text + p->used, piece, bytes);
  p->used += bytes;
  p->text[p->used++] = '|';
  p->text[p->used] = '\0';
  return NVFP4_OK;
}

static void check(const char *name, const char *text, const char *want) {
  nvfp4_reason reason = {0};
  nvfp4_pretokenizer *pretokenizer = NULL;
  assert_ok(nvfp4_pretokenizer_create(&pretokenizer, &reason), reason);
  assert_ok(nvfp4_pretokenizer_add_named(pretokenizer, name, strlen(name), &reason), reason);
  pieces got = {.used = 0};
  assert_ok(nvfp4_pretokenizer_split(pretokenizer, text, strlen(text), append, &got, &reason), reason);
  assert_string_equal(got.text, want);
  nvfp4_pretokenizer_destroy(pretokenizer);
}

/* Expected: pre_tokenizer.pre_tokenize_str of Hugging Face tokenizers. */
static void cuts(void **state) {
  (void)state;
  check("gpt2", "I'm 1234  years\n\n old!?", "I|'m| 1234| | years|\n\n| old|!?|");
  check("smollm", "I'm 1234  years\n\n old!?", "I|'m| |1|2|3|4| | years|\n\n| old|!?|");
  check("starcoder", "a1b", "a|1|b|");
  check("llama-bpe", "I'M 1234  years\n\n old!?", "I|'M| |123|4| | years|\n\n| old|!?|");
  check("qwen2", "I'M 1234  years\n\n old!?", "I|'M| |1|2|3|4| | years|\n\n| old|!?|");
  /* Blanks of Unicode are blanks. */
  check("gpt2", "a \u00a0\u3000b", "a| \u00a0|\u3000|b|");
  check("gpt2", "", "");
}

static nvfp4_status stop(void *cookie, const char *piece, size_t bytes, nvfp4_reason *reason) {
  (void)piece, (void)bytes;
  ++*(int *)cookie;
  return nvfp4_reject(reason, NVFP4_E_NOMEM, "stop");
}

static void passes_errors_on(void **state) {
  (void)state;
  nvfp4_reason reason = {0};
  nvfp4_pretokenizer *pretokenizer = NULL;
  assert_ok(nvfp4_pretokenizer_create(&pretokenizer, &reason), reason);
  int calls = 0;
  assert_int_equal(nvfp4_pretokenizer_split(pretokenizer, "a b", 3, stop, &calls, &reason), NVFP4_E_NOMEM);
  assert_int_equal(calls, 1);
  assert_int_equal(nvfp4_pretokenizer_add_named(pretokenizer, "viking", 6, &reason), NVFP4_E_UNSUPPORTED);
  assert_non_null(strstr(reason.text, "viking"));
  assert_int_equal(nvfp4_pretokenizer_add(pretokenizer, "[a", 2, &reason), NVFP4_E_UNSUPPORTED);
  assert_ok(nvfp4_pretokenizer_add(pretokenizer, nvfp4_pattern_digit, strlen(nvfp4_pattern_digit), &reason), reason);
  pieces got = {.used = 0};
  assert_int_equal(nvfp4_pretokenizer_split(pretokenizer, "1\xFF", 2, append, &got, &reason), NVFP4_E_ARG);
  assert_non_null(strstr(reason.text, "byte 1"));
  for (int i = 0; i < 15; i++) {
    assert_ok(nvfp4_pretokenizer_add(pretokenizer, "a", 1, &reason), reason);
  }
  assert_int_equal(nvfp4_pretokenizer_add(pretokenizer, "a", 1, &reason), NVFP4_E_UNSUPPORTED);
  nvfp4_pretokenizer_destroy(pretokenizer);
}

/* Blanks, of which the expressions look ahead: neither quadratic nor beyond a stack. */
static void long_runs(void **state) {
  (void)state;
  nvfp4_reason reason = {0};
  nvfp4_pretokenizer *pretokenizer = NULL;
  assert_ok(nvfp4_pretokenizer_create(&pretokenizer, &reason), reason);
  assert_ok(nvfp4_pretokenizer_add_named(pretokenizer, "smollm", 6, &reason), reason);
  size_t bytes = 1 << 20;
  char *text = malloc(bytes);
  assert_non_null(text);
  memset(text, ' ', bytes);
  text[bytes - 1] = 'x';
  int calls = 0;
  assert_int_equal(nvfp4_pretokenizer_split(pretokenizer, text, bytes, stop, &calls, &reason), NVFP4_E_NOMEM);
  free(text);
  nvfp4_pretokenizer_destroy(pretokenizer);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(cuts), cmocka_unit_test(passes_errors_on), cmocka_unit_test(long_runs)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
