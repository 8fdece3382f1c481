/* SPDX-License-Identifier: Apache-2.0 */
#include "support.h"

/* Every value has a word of its own; values that are none have one too. */
static void test_words(void **state) {
  (void)state;
  for (int i = NVFP4_OK; i <= NVFP4_E_INTERNAL; i++) {
    for (int j = NVFP4_OK; j < i; j++) {
      assert_string_not_equal(nvfp4_status_name((nvfp4_status)i), nvfp4_status_name((nvfp4_status)j));
    }
  }
  for (int i = NVFP4_DTYPE_NONE; i <= NVFP4_DTYPE_OTHER; i++) {
    for (int j = NVFP4_DTYPE_NONE; j < i; j++) {
      assert_string_not_equal(nvfp4_dtype_name((nvfp4_dtype)i), nvfp4_dtype_name((nvfp4_dtype)j));
    }
  }
  assert_string_equal(nvfp4_status_name((nvfp4_status)99), "unknown status");
  assert_string_equal(nvfp4_status_name((nvfp4_status)-1), "unknown status");
  assert_string_equal(nvfp4_stage_name(NVFP4_STAGE_NOT_BUILT), "not_built");
  assert_string_equal(nvfp4_stage_name(NVFP4_STAGE_CHOSEN), "chosen");
  assert_string_equal(nvfp4_mode_name(NVFP4_MODE_FP8), "fp8");
  assert_string_equal(nvfp4_class_name(NVFP4_CLASS_BOUNDED), "bounded");
  assert_string_equal(nvfp4_layout_kind_name(NVFP4_LAYOUT_COMFY), "comfy");
}

static void test_devices(void **state) {
  (void)state;
  static const char *const bad[] = {"", "gpu", "cuda", "cuda:", "cuda:-1", "cuda:16", "cuda:1x", "cpu:0", "cuda:99999999999999999999"};
  nvfp4_device device;
  nvfp4_reason reason;
  char text[16];
  assert_int_equal(nvfp4_device_parse("cpu", &device, NULL), NVFP4_OK);
  assert_string_equal(nvfp4_device_name(device, text), "cpu");
  assert_int_equal(nvfp4_device_parse("cuda:3", &device, NULL), NVFP4_OK);
  assert_string_equal(nvfp4_device_name(device, text), "cuda:3");
  for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
    assert_int_equal(nvfp4_device_parse(bad[i], &device, &reason), NVFP4_E_ARG);
    assert_non_null(strstr(reason.text, "cuda:N"));
  }
  assert_int_equal(nvfp4_device_parse(NULL, &device, &reason), NVFP4_E_ARG);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_words), cmocka_unit_test(test_devices)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
