/* SPDX-License-Identifier: Apache-2.0 */
#define _XOPEN_SOURCE 700 /* mkdtemp, truncate */
#include "base/new_file.h"

#include <glob.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
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
  nvfp4_new_file *one, *two;
  assert_ok(nvfp4_new_file_create(path, &one, &reason), reason);
  assert_ok(nvfp4_new_file_create(path, &two, &reason), reason);
  assert_int_equal(parts(), 2);
  assert_ok(nvfp4_new_file_write(one, "one", 3, &reason), reason);
  assert_ok(nvfp4_new_file_write(two, "two", 3, &reason), reason);
  assert_int_equal(access(path, F_OK), -1);
  nvfp4_new_file_destroy(two);
  assert_int_equal(parts(), 1);
  assert_ok(nvfp4_new_file_finish(one, &reason), reason);
  nvfp4_new_file_destroy(one);
  assert_int_equal(parts(), 0);
  size_t bytes;
  char *text = test_read_file(path, &bytes);
  assert_string_equal(text, "one");
  free(text);
}

static void says_why_not(void **state) {
  (void)state;
  nvfp4_reason reason = {0};
  nvfp4_new_file *file;
  assert_int_equal(nvfp4_new_file_create("/nonexistent/file", &file, &reason), NVFP4_E_IO);
  assert_non_null(strstr(reason.text, "/nonexistent/file: cannot be created: No such file"));
  /* The name is taken by a folder by the time of the commit. */
  unlink(path);
  assert_ok(nvfp4_new_file_create(path, &file, &reason), reason);
  assert_int_equal(mkdir(path, 0777), 0);
  assert_int_equal(nvfp4_new_file_finish(file, &reason), NVFP4_E_IO);
  nvfp4_new_file_destroy(file);
  assert_int_equal(parts(), 0);
  assert_int_equal(rmdir(path), 0);
}

/* A limit on the size of files stands for a full disk. */
static void a_full_disk_is_an_error(void **state) {
  (void)state;
  nvfp4_reason reason = {0};
  nvfp4_new_file *file;
  struct rlimit before, limit;
  static char much[1 << 20];
  assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
  limit = (struct rlimit){1 << 16, before.rlim_max};
  signal(SIGXFSZ, SIG_IGN);
  assert_ok(nvfp4_new_file_create(path, &file, &reason), reason);
  assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
  nvfp4_status status = nvfp4_new_file_write(file, much, sizeof much, &reason);
  assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
  assert_int_equal(status, NVFP4_E_IO);
  assert_non_null(strstr(reason.text, "cannot be written: File too large"));
  nvfp4_new_file_destroy(file);
  assert_int_equal(parts(), 0);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(appears_when_whole), cmocka_unit_test(says_why_not),
                                     cmocka_unit_test(a_full_disk_is_an_error)};
  return cmocka_run_group_tests(tests, setup, teardown);
}
