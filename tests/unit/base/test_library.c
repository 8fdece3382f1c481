/* SPDX-License-Identifier: Apache-2.0 */
#include "base/library.h"

#include "support.h"

static void test_functions(void **state) {
  (void)state;
  static const char *const names[] = {"libnowhere.so.1", "libm.so.6", NULL};
  double (*cosine)(double) = NULL;
  nvfp4_reason reason = {0};
  assert_ok(nvfp4_library_open("libm", names, &(nvfp4_symbol){"cos", &cosine}, 1, &reason), reason);
  assert_true(cosine(0.0) == 1.0);
  assert_int_equal(nvfp4_library_open("libm", names, &(nvfp4_symbol){"cosine_of_nothing", &cosine}, 1, &reason), NVFP4_E_MACHINE);
  assert_string_equal(reason.text, "libm: it has no cosine_of_nothing; needs a newer one");
}

static void test_missing(void **state) {
  (void)state;
  static const char *const names[] = {"libnowhere.so.2", "libnowhere.so.1", NULL};
  nvfp4_reason reason = {0};
  assert_int_equal(nvfp4_library_open("Nowhere", names, NULL, 0, &reason), NVFP4_E_MACHINE);
  assert_string_equal(reason.text, "no Nowhere: libnowhere.so.1: cannot open shared object file: No such file or directory");
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_functions), cmocka_unit_test(test_missing)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
