/* SPDX-License-Identifier: Apache-2.0 */
#define _XOPEN_SOURCE 700 /* mkdtemp, truncate */
#include "base/new_file.h"

#include <glob.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "support.h"

static char folder[] = "/tmp/nvfp4-new-file-XXXXXX", path[64];

static int setup(void **state) {
  (void)state;
  assert_non_null(mkdtemp(folder));
  snprintf(path, sizeof path, "%s/file", folder);
  return 0;
}

static int teardown(void **state) {
  (void)state;
  unlink(path);
  return rmdir(folder); /* fails if a temporary file is left */
}

static size_t parts(void) {
  char pattern[80];
  glob_t found;
  snprintf(pattern, sizeof pattern, "%s.*.part", path);
  size_t count = glob(pattern, 0, NULL, &found) == 0 ? found.gl_pathc : 0;
  globfree(&found);
  return count;
}

static void appears_when_whole(void **state) {
  (void)state;
  nvfp4_reason reason = {0};
  nvfp4_new_file one, two;
  assert_ok(nvfp4_new_file_open(path, &one, &reason), reason);
  assert_ok(nvfp4_new_file_open(path, &two, &reason), reason);
  assert_int_equal(parts(), 2);
  fputs("one", one.stream);
  fputs("two", two.stream);
  assert_int_equal(access(path, F_OK), -1);
  nvfp4_new_file_discard(&two);
  assert_int_equal(parts(), 1);
  assert_ok(nvfp4_new_file_commit(&one, &reason), reason);
  nvfp4_new_file_discard(&one);
  assert_int_equal(parts(), 0);
  size_t bytes;
  char *text = test_read_file(path, &bytes);
  assert_string_equal(text, "one");
  free(text);
}

static void says_why_not(void **state) {
  (void)state;
  nvfp4_reason reason = {0};
  nvfp4_new_file file;
  assert_int_equal(nvfp4_new_file_open("/nonexistent/file", &file, &reason), NVFP4_E_IO);
  assert_non_null(strstr(reason.text, "/nonexistent/file: cannot be created: No such file"));
  nvfp4_new_file_discard(&file);
  /* The name is taken by a folder by the time of the commit. */
  unlink(path);
  assert_ok(nvfp4_new_file_open(path, &file, &reason), reason);
  assert_int_equal(mkdir(path, 0777), 0);
  assert_int_equal(nvfp4_new_file_commit(&file, &reason), NVFP4_E_IO);
  nvfp4_new_file_discard(&file);
  assert_int_equal(parts(), 0);
  assert_int_equal(rmdir(path), 0);
}

static void a_full_disk_is_an_error(void **state) {
  (void)state;
  nvfp4_reason reason = {0};
  nvfp4_new_file file;
  assert_ok(nvfp4_new_file_open(path, &file, &reason), reason);
  FILE *full = fopen("/dev/full", "wb");
  if (full == NULL) {
    nvfp4_new_file_discard(&file);
    skip();
  }
  fclose(file.stream);
  file.stream = full;
  fputs("text", full);
  assert_int_equal(nvfp4_new_file_commit(&file, &reason), NVFP4_E_IO);
  assert_non_null(strstr(reason.text, "No space left"));
  nvfp4_new_file_discard(&file);
  assert_int_equal(parts(), 0);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(appears_when_whole), cmocka_unit_test(says_why_not),
                                     cmocka_unit_test(a_full_disk_is_an_error)};
  return cmocka_run_group_tests(tests, setup, teardown);
}
