/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE /* mkdtemp */
#include "base/new_file.h"

#include <signal.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

#include "unit/quantizer/quantizer_support.h"

static nvfp4_reason reason;

static void the_name_comes_with_finish(void **state) {
  (void)state;
  char folder[256], path[512];
  nvfp4_new_file *file = NULL;
  path_in(make_folder(folder), "file", path);
  assert_ok(nvfp4_new_file_create(path, &file, &reason), reason);
  assert_ok(nvfp4_new_file_write(file, "abc", 3, &reason), reason);
  assert_int_equal(access(path, F_OK), -1);
  assert_int_equal(count_files(folder), 1);
  assert_ok(nvfp4_new_file_finish(file, &reason), reason);
  nvfp4_new_file_destroy(file);
  char *text = test_read_file(path, NULL);
  assert_string_equal(text, "abc");
  free(text);
  assert_int_equal(count_files(folder), 1);
  remove_folder(folder);
}

static void without_finish_nothing_is_left(void **state) {
  (void)state;
  char folder[256], path[512];
  nvfp4_new_file *file = NULL;
  write_text(make_folder(folder), "file", "old");
  assert_ok(nvfp4_new_file_create(path_in(folder, "file", path), &file, &reason), reason);
  assert_ok(nvfp4_new_file_write(file, "new", 3, &reason), reason);
  nvfp4_new_file_destroy(file);
  assert_int_equal(count_files(folder), 1);
  char *text = test_read_file(path, NULL);
  assert_string_equal(text, "old");
  free(text);
  nvfp4_new_file_destroy(NULL);
  assert_int_equal(nvfp4_new_file_create("", &file, &reason), NVFP4_E_ARG);
  assert_int_equal(nvfp4_new_file_create(path_in(folder, "no/such", path), &file, &reason), NVFP4_E_IO);
  remove_folder(folder);
}

/* A limit on the size of files stands for a full disk: buffered bytes too must not get lost in silence. */
static void a_full_disk_is_an_error(void **state) {
  (void)state;
  char folder[256], path[512];
  nvfp4_new_file *file = NULL;
  struct rlimit before, small = {1 << 16, 1 << 16};
  static char zeros[1 << 20];
  assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
  small.rlim_max = before.rlim_max;
  signal(SIGXFSZ, SIG_IGN);
  assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
  path_in(make_folder(folder), "file", path);
  for (size_t bytes = 1 << 17; bytes <= sizeof zeros; bytes *= 8) { /* within the buffer, and beyond it */
    assert_ok(nvfp4_new_file_create(path, &file, &reason), reason);
    nvfp4_status status = nvfp4_new_file_write(file, zeros, bytes, &reason);
    status = status == NVFP4_OK ? nvfp4_new_file_finish(file, &reason) : status;
    assert_int_equal(status, NVFP4_E_IO);
    assert_non_null(strstr(reason.text, path));
    nvfp4_new_file_destroy(file);
    assert_int_equal(count_files(folder), 0);
  }
  assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
  remove_folder(folder);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(the_name_comes_with_finish),
      cmocka_unit_test(without_finish_nothing_is_left),
      cmocka_unit_test(a_full_disk_is_an_error),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
