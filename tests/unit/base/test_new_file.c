/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE /* sync_file_range */
#include "base/new_file.h"

#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "support.h"

static char folder[] = "/tmp/nvfp4-new-file-XXXXXX", path[64];

/* Takes the place of the C library's: what the file asks of the disk. */
static struct {
  int64_t begun, waited; /* where the next range begins */
  int64_t fail_at;       /* a wait for this byte fails */
  int error;
} disk;

int sync_file_range(int fd, off64_t first, off64_t bytes, unsigned flags) {
  assert_true(fd >= 0);
  bool wait = (flags & SYNC_FILE_RANGE_WAIT_AFTER) != 0;
  int64_t *next = wait ? &disk.waited : &disk.begun;
  assert_int_equal(first, *next);
  assert_true(flags & SYNC_FILE_RANGE_WRITE);
  *next += bytes;
  if (disk.error != 0 && wait && disk.fail_at < *next) {
    errno = disk.error;
    return -1;
  }
  return 0;
}

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

/* A rename would take the place of a device or of a link. */
static void only_files_are_replaced(void **state) {
  (void)state;
  nvfp4_reason reason = {0};
  char other[80];
  snprintf(other, sizeof other, "%s/other", folder);
  for (int i = 0; i < 4; i++) {
    int made = i == 0 ? mkdir(path, 0777) : i == 1 ? mkfifo(path, 0666) : symlink(i == 2 ? other : "/dev/null", path);
    assert_int_equal(made, 0);
    assert_int_equal(nvfp4_new_file_save(path, "text", 4, &reason), NVFP4_E_IO);
    assert_non_null(strstr(reason.text, path));
    assert_non_null(strstr(reason.text, "no plain file"));
    assert_int_equal(access(other, F_OK), -1);
    assert_int_equal(i == 0 ? rmdir(path) : unlink(path), 0);
  }
  for (int i = 0; i < 2; i++) {
    assert_ok(nvfp4_new_file_save(path, i == 0 ? "long text" : "text", i == 0 ? 9 : 4, &reason), reason);
  }
  size_t bytes;
  char *text = test_read_file(path, &bytes);
  assert_string_equal(text, "text");
  free(text);
  assert_int_equal(unlink(path), 0);
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

enum { MIB = 1 << 20, LONG_MIB = 97 };

/* A long file in pieces of odd sizes, whose byte i is i / 4099; NVFP4_OK, or what write refused. */
static nvfp4_status write_long(nvfp4_new_file *file, uint8_t *piece, nvfp4_reason *reason) {
  nvfp4_status status = NVFP4_OK;
  for (int64_t at = 0, bytes; at < (int64_t)LONG_MIB * MIB && status == NVFP4_OK; at += bytes) {
    bytes = at % 7 == 0 ? 1000003 : 40961;
    bytes = bytes < (int64_t)LONG_MIB * MIB - at ? bytes : (int64_t)LONG_MIB * MIB - at;
    for (int64_t i = 0; i < bytes; i++) {
      piece[i] = (uint8_t)((at + i) / 4099);
    }
    status = nvfp4_new_file_write(file, piece, (size_t)bytes, reason);
    assert_in_range(disk.begun - disk.waited, 0, 72 * MIB); /* what waits for the disk is bounded */
    assert_true(status != NVFP4_OK || at + bytes - disk.begun < 8 * MIB);
  }
  return status;
}

static void goes_to_the_disk_on_the_way(void **state) {
  (void)state;
  nvfp4_reason reason = {0};
  static uint8_t piece[1000003];
  static const int missing[] = {0, ENOSYS}; /* without the call the file is whole all the same */
  for (size_t i = 0; i < sizeof missing / sizeof missing[0]; i++) {
    nvfp4_new_file *file;
    memset(&disk, 0, sizeof disk);
    disk.error = missing[i];
    assert_ok(nvfp4_new_file_create(path, &file, &reason), reason);
    assert_ok(write_long(file, piece, &reason), reason);
    assert_int_equal(disk.begun, 96 * MIB);
    assert_int_equal(disk.waited, 32 * MIB);
    assert_ok(nvfp4_new_file_finish(file, &reason), reason);
    nvfp4_new_file_destroy(file);
    size_t bytes;
    char *text = test_read_file(path, &bytes);
    assert_int_equal(bytes, (size_t)LONG_MIB * MIB);
    for (size_t at = 0; at < bytes; at++) {
      if ((uint8_t)text[at] != (uint8_t)(at / 4099)) {
        fail_msg("byte %zu", at);
      }
    }
    free(text);
  }
}

/* The disk's refusals come long after the write that they are about; the system tells each only once. */
static void a_late_refusal_is_an_error(void **state) {
  (void)state;
  static uint8_t piece[1000003];
  static const int errors[] = {EIO, ENOSPC};
  unlink(path);
  for (size_t i = 0; i < sizeof errors / sizeof errors[0]; i++) {
    nvfp4_reason reason = {0};
    nvfp4_new_file *file;
    memset(&disk, 0, sizeof disk);
    disk.error = errors[i];
    disk.fail_at = 20 * MIB;
    assert_ok(nvfp4_new_file_create(path, &file, &reason), reason);
    assert_int_equal(write_long(file, piece, &reason), NVFP4_E_IO);
    assert_int_equal(disk.waited, 24 * MIB);
    assert_non_null(strstr(reason.text, path));
    assert_non_null(strstr(reason.text, strerror(errors[i])));
    nvfp4_new_file_destroy(file);
    assert_int_equal(parts(), 0);
    assert_int_equal(access(path, F_OK), -1);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(appears_when_whole),          cmocka_unit_test(says_why_not),
                                     cmocka_unit_test(only_files_are_replaced),     cmocka_unit_test(a_full_disk_is_an_error),
                                     cmocka_unit_test(goes_to_the_disk_on_the_way), cmocka_unit_test(a_late_refusal_is_an_error)};
  return cmocka_run_group_tests(tests, setup, teardown);
}
