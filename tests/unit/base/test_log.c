/* SPDX-License-Identifier: Apache-2.0 */
#include "base/log.h"

#include <stdio.h>

#include "support.h"

typedef struct heard {
  int count;
  nvfp4_log_level level;
  char text[2048];
} heard;

static void hear(void *cookie, nvfp4_log_level level, const char *text) {
  heard *h = cookie;
  h->count++;
  h->level = level;
  snprintf(h->text, sizeof h->text, "%s", text);
}

static void test_line(void **state) {
  (void)state;
  heard h = {0};
  nvfp4_log log = {hear, &h};
  nvfp4_log_line(&log, NVFP4_LOG_INFO, "%s has %d rows", "w", 3);
  assert_int_equal(h.count, 1);
  assert_int_equal(h.level, NVFP4_LOG_INFO);
  assert_string_equal(h.text, "w has 3 rows");
}

/* A line that is too long is cut, not written past its end. */
static void test_long_line(void **state) {
  (void)state;
  heard h = {0};
  nvfp4_log log = {hear, &h};
  char text[1900];
  memset(text, 'a', sizeof text - 1);
  text[sizeof text - 1] = '\0';
  nvfp4_log_line(&log, NVFP4_LOG_WARNING, "%s", text);
  assert_int_equal(h.count, 1);
  assert_int_equal(h.level, NVFP4_LOG_WARNING);
  assert_true(strlen(h.text) > 0 && strncmp(h.text, text, strlen(h.text)) == 0);
}

static void test_silent(void **state) {
  (void)state;
  nvfp4_log log = {NULL, NULL};
  nvfp4_log_line(&log, NVFP4_LOG_WARNING, "nobody hears %s", "this");
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_line),
      cmocka_unit_test(test_long_line),
      cmocka_unit_test(test_silent),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
