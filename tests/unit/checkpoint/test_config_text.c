/* SPDX-License-Identifier: Apache-2.0 */
#include "checkpoint/config_text.h"

#include <stdlib.h>
#include <string.h>

#include "support.h"

static void what_python_writes_comes_back(void **state) {
  (void)state;
  static const char text[] =
      "{\"limit\": [0.0, Infinity, -Infinity], \"none\": NaN, \"long\": -1000000000000000019884624838656, \"most\": "
      "9223372036854775807, \"text\": \"NaN, \\\"Infinity\\\" \\\\\", \"list\": [NaN, NaN], \"int\": 123456789012345678, "
      "\"real\": 0.5, \"NaN\": true}";
  json_error_t error;
  json_t *value = nvfp4_config_load(text, &error);
  assert_non_null(value);
  assert_int_equal(json_integer_value(json_object_get(value, "int")), 123456789012345678);
  assert_true(json_is_string(json_object_get(value, "none")) && json_is_string(json_object_get(value, "long")));
  assert_string_equal(json_string_value(json_object_get(value, "text")), "NaN, \"Infinity\" \\");
  assert_true(json_is_true(json_object_get(value, "NaN")));
  char *again = json_dumps(value, JSON_REAL_PRECISION(17));
  nvfp4_config_restore(again);
  assert_string_equal(again, text);
  free(again);
  json_decref(value);
  value = nvfp4_config_load("[NaN,-Infinity]", &error);
  assert_int_equal(json_array_size(value), 2);
  json_decref(value);
}

static void what_is_no_json_stays_so(void **state) {
  (void)state;
  static const char *const texts[] = {
      "", "{", "nan", "[Infinity2]", "{\"a\": NaN", "\"", "[\"\\", "{\"a\": 1, \"a\": NaN}", "[--Infinity]", "[-]"};
  for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
    json_error_t error;
    assert_null(nvfp4_config_load(texts[i], &error));
    assert_true(error.text[0] != '\0');
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(what_python_writes_comes_back), cmocka_unit_test(what_is_no_json_stays_so)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
