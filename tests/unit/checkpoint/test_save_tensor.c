/* SPDX-License-Identifier: Apache-2.0 */
/* nvfp4_save_tensor: what is written is read again, what is refused leaves nothing behind. */
#define _POSIX_C_SOURCE 200809L /* mkdtemp */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "support.h"

static char folder[] = "/tmp/nvfp4-save-XXXXXX";
static char path[64];

static int make_folder(void **state) {
  (void)state;
  snprintf(path, sizeof path, "%s/t.safetensors", mkdtemp(folder));
  return 0;
}

static int remove_folder(void **state) {
  (void)state;
  unlink(path);
  return rmdir(folder); /* fails if anything else is left in it */
}

static int count_files(void) {
  DIR *dir = opendir(folder);
  assert_non_null(dir);
  int count = 0;
  while (readdir(dir) != NULL) {
    count++;
  }
  closedir(dir);
  return count - 2; /* . and .. */
}

static void save_and_read(nvfp4_dtype dtype, int rank, const int64_t *shape, const void *data, size_t bytes) {
  nvfp4_reason reason = {0};
  assert_ok(nvfp4_save_tensor(path, "t", dtype, rank, shape, data, &reason), reason);
  assert_int_equal(count_files(), 1);
  nvfp4_checkpoint *checkpoint = NULL;
  assert_ok(nvfp4_checkpoint_open(path, 0, &checkpoint, &reason), reason);
  const nvfp4_tensor *tensor = nvfp4_checkpoint_find(checkpoint, "t");
  assert_non_null(tensor);
  assert_int_equal(nvfp4_checkpoint_tensor_count(checkpoint), 1);
  assert_int_equal(tensor->dtype, dtype);
  assert_int_equal(tensor->rank, rank);
  for (int i = 0; i < rank; i++) {
    assert_int_equal(tensor->shape[i], shape[i]);
  }
  assert_int_equal(tensor->bytes, bytes);
  if (bytes > 0) {
    assert_memory_equal(tensor->data, data, bytes);
  }
  nvfp4_checkpoint_close(checkpoint);
}

static void round_trip(void **state) {
  (void)state;
  const uint8_t data[24] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24};
  save_and_read(NVFP4_DTYPE_F32, 2, (const int64_t[]){2, 3}, data, 24);
  save_and_read(NVFP4_DTYPE_BF16, 2, (const int64_t[]){3, 4}, data, 24); /* in place of the first */
  save_and_read(NVFP4_DTYPE_F16, 3, (const int64_t[]){1, 2, 3}, data, 12);
  save_and_read(NVFP4_DTYPE_U8, 1, (const int64_t[]){5}, data, 5);
  save_and_read(NVFP4_DTYPE_F32, 0, NULL, data, 4);
  save_and_read(NVFP4_DTYPE_F32, 2, (const int64_t[]){0, 3}, NULL, 0);
}

static void refuse(nvfp4_status status, const char *where, const char *name, nvfp4_dtype dtype, int rank, const int64_t *shape,
                   const void *data) {
  nvfp4_reason reason = {0};
  int before = count_files();
  assert_int_equal(nvfp4_save_tensor(where, name, dtype, rank, shape, data, &reason), status);
  assert_int_equal(reason.status, status);
  assert_true(strlen(reason.text) > 0);
  assert_int_equal(count_files(), before);
}

static void refusals(void **state) {
  (void)state;
  const int64_t shape[] = {2, 3}, negative[] = {2, -3}, huge[] = {INT64_MAX, INT64_MAX};
  const float data[6] = {0};
  refuse(NVFP4_E_ARG, NULL, "t", NVFP4_DTYPE_F32, 2, shape, data);
  refuse(NVFP4_E_ARG, path, NULL, NVFP4_DTYPE_F32, 2, shape, data);
  refuse(NVFP4_E_ARG, path, "", NVFP4_DTYPE_F32, 2, shape, data);
  refuse(NVFP4_E_ARG, path, "t", NVFP4_DTYPE_F32, 2, NULL, data);
  refuse(NVFP4_E_ARG, path, "t", NVFP4_DTYPE_F32, 2, shape, NULL);
  refuse(NVFP4_E_DTYPE, path, "t", NVFP4_DTYPE_NONE, 2, shape, data);
  refuse(NVFP4_E_DTYPE, path, "t", NVFP4_DTYPE_Q4_0, 2, shape, data);
  refuse(NVFP4_E_SHAPE, path, "t", NVFP4_DTYPE_F32, 2, negative, data);
  refuse(NVFP4_E_SHAPE, path, "t", NVFP4_DTYPE_F32, 2, huge, data);
  refuse(NVFP4_E_SHAPE, path, "t", NVFP4_DTYPE_F32, NVFP4_MAX_RANK + 1, shape, data);
  refuse(NVFP4_E_IO, "/tmp/nvfp4-no-such-folder/t.safetensors", "t", NVFP4_DTYPE_F32, 2, shape, data);
  assert_int_equal(nvfp4_save_tensor(path, "t", NVFP4_DTYPE_F32, 2, negative, data, NULL), NVFP4_E_SHAPE);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(round_trip), cmocka_unit_test(refusals)};
  return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
