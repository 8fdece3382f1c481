/* SPDX-License-Identifier: Apache-2.0 */
#include "model/tokenizer.h"
#include "tokenizer_cases.h"

static void gives_the_ids_of_hugging_face(void **state) {
  (void)state;
  nvfp4_reason reason = {0};
  nvfp4_tokenizer *tokenizer = NULL;
  assert_ok(create_tokenizer(GOLDEN "tokenizer/smollm.gguf", &tokenizer, &reason), reason);
  check_tokenizer(tokenizer, "smollm");
  assert_int_equal(nvfp4_tokenizer_vocabulary(tokenizer), 561);
  assert_true(nvfp4_token_is_end(tokenizer, 2));
  assert_false(nvfp4_token_is_end(tokenizer, 1));
  assert_true(nvfp4_token_is_special(tokenizer, 3));
  assert_int_equal(tokenizer->begin, -1);
  assert_non_null(tokenizer->chat_template);
  assert_non_null(strstr(tokenizer->chat_template, "<|im_start|>"));
  nvfp4_tokenizer_destroy(tokenizer);
}

static void refuses_other_tokenizers(void **state) {
  (void)state;
  nvfp4_reason reason = {0};
  nvfp4_tokenizer *tokenizer = NULL;
  assert_int_equal(create_tokenizer(GOLDEN "gguf_mlx/llama-modelopt-nvfp4.gguf", &tokenizer, &reason), NVFP4_E_UNSUPPORTED);
  assert_non_null(strstr(reason.text, "\"none\""));
  assert_null(tokenizer);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(gives_the_ids_of_hugging_face), cmocka_unit_test(refuses_other_tokenizers)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
