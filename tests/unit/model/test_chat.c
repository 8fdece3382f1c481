/* SPDX-License-Identifier: Apache-2.0 */
#include "model/tokenizer.h"
#include "tokenizer_cases.h"

static void check(const char *template, const char *system, const char *want) {
  nvfp4_tokenizer tokenizer = {.chat_template = (char *)template};
  nvfp4_reason reason = {0};
  char *text = NULL;
  assert_ok(nvfp4_chat_prompt(&tokenizer, system, "Hi \"you\"", &text, &reason), reason);
  assert_string_equal(text, want);
  nvfp4_text_free(text);
}

#define USER "<|im_start|>user\nHi \"you\"<|im_end|>\n<|im_start|>assistant\n"

static void chatml(void **state) {
  (void)state;
  /* SmolLM2: the default stands in the template, with a true newline. */
  const char *smollm = "{% if x %}{{ '<|im_start|>system\nYou are SmolLM<|im_end|>\n' }}{% endif %}{{'<|im_start|>' + m}}";
  check(smollm, NULL, "<|im_start|>system\nYou are SmolLM<|im_end|>\n" USER);
  check(smollm, "Be brief.", "<|im_start|>system\nBe brief.<|im_end|>\n" USER);
  check(smollm, "", "<|im_start|>system\n<|im_end|>\n" USER);
  /* Qwen2.5: an escaped newline, and the first system mark is followed by an expression. */
  check("{{- '<|im_start|>system\\n' }}{{ x }}{{ '<|im_end|>' }}{{- '<|im_start|>system\\nYou are Qwen.<|im_end|>\\n' }}", NULL,
        "<|im_start|>system\nYou are Qwen.<|im_end|>\n" USER);
  /* No default. */
  check("{{'<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>'}}", NULL, USER);
}

/* The prompt of a real template becomes the special tokens it names. */
static void becomes_special_tokens(void **state) {
  (void)state;
  nvfp4_reason reason = {0};
  nvfp4_tokenizer *tokenizer = NULL;
  assert_ok(create_tokenizer(GOLDEN "tokenizer/smollm", &tokenizer, &reason), reason);
  char *text = NULL;
  assert_ok(nvfp4_chat_prompt(tokenizer, NULL, "x", &text, &reason), reason);
  assert_string_equal(text, "<|im_start|>system\nYou are a small test.<|im_end|>\n<|im_start|>user\nx<|im_end|>\n<|im_start|>assistant\n");
  int32_t *tokens = NULL;
  size_t count = 0, starts = 0, ends = 0;
  assert_ok(nvfp4_tokenize(tokenizer, text, strlen(text), true, &tokens, &count, &reason), reason);
  for (size_t i = 0; i < count; i++) {
    starts += tokens[i] == 1;
    ends += tokens[i] == 2;
  }
  assert_int_equal(starts, 3);
  assert_int_equal(ends, 2);
  nvfp4_tokens_free(tokens);
  nvfp4_text_free(text);
  nvfp4_tokenizer_destroy(tokenizer);
}

static void refuses_unknown_templates(void **state) {
  (void)state;
  nvfp4_tokenizer tokenizer = {.chat_template = NULL};
  nvfp4_reason reason = {0};
  char *text = NULL;
  assert_int_equal(nvfp4_chat_prompt(&tokenizer, NULL, "x", &text, &reason), NVFP4_E_UNSUPPORTED);
  tokenizer.chat_template = (char *)"[INST] {{ x }} [/INST]";
  assert_int_equal(nvfp4_chat_prompt(&tokenizer, NULL, "x", &text, &reason), NVFP4_E_UNSUPPORTED);
  assert_non_null(strstr(reason.text, "ChatML"));
  assert_int_equal(nvfp4_chat_prompt(&tokenizer, NULL, NULL, &text, &reason), NVFP4_E_ARG);
  assert_null(text);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(chatml), cmocka_unit_test(becomes_special_tokens),
                                     cmocka_unit_test(refuses_unknown_templates)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
