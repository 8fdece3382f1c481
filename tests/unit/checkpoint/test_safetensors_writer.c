/* SPDX-License-Identifier: Apache-2.0 */
#define _POSIX_C_SOURCE 200809L
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "checkpoint/safetensors_writer.h"
#include "support.h"

/* A folder of its own for each test. */
typedef struct place {
  char folder[64], path[96];
} place;

static int set_up(void **state) {
  place *at = calloc(1, sizeof *at);
  if (at == NULL) {
    return -1;
  }
  snprintf(at->folder, sizeof at->folder, "/tmp/nvfp4-writer-XXXXXX");
  if (mkdtemp(at->folder) == NULL) {
    free(at);
    return -1;
  }
  snprintf(at->path, sizeof at->path, "%s/x.safetensors", at->folder);
  *state = at;
  return 0;
}

static int tear_down(void **state) {
  place *at = *state;
  unlink(at->path);
  int status = rmdir(at->folder); /* fails if a test left anything else */
  free(at);
  return status;
}

static int files_in(const char *path) {
  int count = 0;
  DIR *folder = opendir(path);
  assert_non_null(folder);
  while (readdir(folder) != NULL) {
    count++;
  }
  closedir(folder);
  return count - 2;
}

static nvfp4_safetensors_writer *create(const place *at) {
  nvfp4_safetensors_writer *writer = NULL;
  nvfp4_reason reason = {0};
  assert_ok(nvfp4_safetensors_writer_create(at->path, &writer, &reason), reason);
  return writer;
}

static void declare(nvfp4_safetensors_writer *writer, const char *name, nvfp4_dtype dtype, int rank, const int64_t *shape) {
  nvfp4_reason reason = {0};
  assert_ok(nvfp4_safetensors_writer_declare(writer, name, dtype, rank, shape, &reason), reason);
}

static void bytes_are_as_specified(void **state) {
  const place *at = *state;
  nvfp4_reason reason = {0};
  nvfp4_safetensors_writer *writer = create(at);
  const int64_t shape[] = {2, 3};
  declare(writer, "z", NVFP4_DTYPE_F8_E4M3, 2, shape);
  assert_ok(nvfp4_safetensors_writer_metadata(writer, "format", "pt", &reason), reason);
  declare(writer, "a\"\xC3\xA9", NVFP4_DTYPE_F32, 0, NULL);
  assert_ok(nvfp4_safetensors_writer_begin(writer, &reason), reason);
  assert_ok(nvfp4_safetensors_writer_write(writer, "abcdef0123", 10, &reason), reason);
  assert_ok(nvfp4_safetensors_writer_finish(writer, &reason), reason);
  nvfp4_safetensors_writer_destroy(writer);

  static const char header[] =
      "{\"z\":{\"dtype\":\"F8_E4M3\",\"shape\":[2,3],\"data_offsets\":[0,6]},\"__metadata__\":{\"format\":\"pt\"},"
      "\"a\\\"\xC3\xA9\":{\"dtype\":\"F32\",\"shape\":[],\"data_offsets\":[6,10]}}";
  size_t length = (sizeof header - 1 + 7) / 8 * 8;
  size_t bytes;
  char *file = test_read_file(at->path, &bytes);
  assert_int_equal(bytes, 8 + length + 10);
  assert_int_equal((unsigned char)file[0], length);
  for (int i = 1; i < 8; i++) {
    assert_int_equal(file[i], 0);
  }
  assert_memory_equal(file + 8, header, sizeof header - 1);
  for (size_t i = sizeof header - 1; i < length; i++) {
    assert_int_equal(file[8 + i], ' ');
  }
  assert_memory_equal(file + 8 + length, "abcdef0123", 10);
  free(file);
  assert_int_equal(files_in(at->folder), 1);
}

/* Header lengths of every remainder by 8; data in pieces; read back by the reader. */
static void what_is_written_is_read(void **state) {
  const place *at = *state;
  for (int extra = 0; extra < 16; extra++) {
    nvfp4_reason reason = {0};
    nvfp4_safetensors_writer *writer = create(at);
    for (int dtype = NVFP4_DTYPE_F32; dtype <= NVFP4_DTYPE_BOOL; dtype++) {
      char name[64];
      snprintf(name, sizeof name, "%s.%.*s", nvfp4_dtype_name((nvfp4_dtype)dtype), extra, "0123456789abcdef");
      const int64_t shape[] = {3, dtype % 2, 2, 1, 1, 1, 1, 1};
      declare(writer, name, (nvfp4_dtype)dtype, NVFP4_MAX_RANK, shape);
    }
    assert_ok(nvfp4_safetensors_writer_begin(writer, &reason), reason);
    uint64_t total = 0;
    while (nvfp4_safetensors_writer_write(writer, &(uint8_t){(uint8_t)(total * 7)}, 1, NULL) == NVFP4_OK) {
      total++;
    }
    assert_ok(nvfp4_safetensors_writer_write(writer, NULL, 0, &reason), reason);
    assert_ok(nvfp4_safetensors_writer_finish(writer, &reason), reason);
    nvfp4_safetensors_writer_destroy(writer);

    nvfp4_checkpoint *checkpoint = NULL;
    assert_ok(nvfp4_checkpoint_open(at->path, 0, &checkpoint, &reason), reason);
    assert_int_equal(nvfp4_checkpoint_tensor_count(checkpoint), NVFP4_DTYPE_BOOL - NVFP4_DTYPE_F32 + 1);
    uint64_t position = 0;
    for (int dtype = NVFP4_DTYPE_F32; dtype <= NVFP4_DTYPE_BOOL; dtype++) {
      char name[64];
      snprintf(name, sizeof name, "%s.%.*s", nvfp4_dtype_name((nvfp4_dtype)dtype), extra, "0123456789abcdef");
      const nvfp4_tensor *tensor = nvfp4_checkpoint_find(checkpoint, name);
      assert_non_null(tensor);
      assert_int_equal(tensor->dtype, dtype);
      assert_int_equal(tensor->shape[1], dtype % 2);
      for (uint64_t i = 0; i < tensor->bytes; i++) {
        assert_int_equal(((const uint8_t *)tensor->data)[i], (uint8_t)(position++ * 7));
      }
      if (dtype == NVFP4_DTYPE_F32) {
        assert_int_equal((uintptr_t)tensor->data % 8, 0);
      }
    }
    assert_int_equal(position, total);
    nvfp4_checkpoint_close(checkpoint);
  }
}

static void nothing_is_left_of_an_unfinished_file(void **state) {
  const place *at = *state;
  FILE *old = fopen(at->path, "wb");
  assert_non_null(old);
  fputs("old", old);
  fclose(old);
  const int64_t shape[] = {4};
  for (int stage = 0; stage < 4; stage++) {
    nvfp4_reason reason = {0};
    nvfp4_safetensors_writer *writer = create(at);
    assert_int_equal(files_in(at->folder), 2);
    declare(writer, "t", NVFP4_DTYPE_U8, 1, shape);
    if (stage >= 1) {
      assert_ok(nvfp4_safetensors_writer_begin(writer, &reason), reason);
    }
    if (stage >= 2) {
      assert_ok(nvfp4_safetensors_writer_write(writer, "abc", 3, &reason), reason);
    }
    if (stage >= 3) {
      assert_int_equal(nvfp4_safetensors_writer_finish(writer, &reason), NVFP4_E_ARG);
      assert_non_null(strstr(reason.text, "3 bytes of data were written"));
    }
    nvfp4_safetensors_writer_destroy(writer);
    assert_int_equal(files_in(at->folder), 1);
    size_t bytes;
    char *text = test_read_file(at->path, &bytes);
    assert_string_equal(text, "old");
    free(text);
  }
}

static void two_writers_do_not_meet(void **state) {
  const place *at = *state;
  nvfp4_reason reason = {0};
  nvfp4_safetensors_writer *first = create(at), *second = create(at);
  assert_int_equal(files_in(at->folder), 2);
  const int64_t shape[] = {1};
  declare(first, "first", NVFP4_DTYPE_U8, 1, shape);
  assert_ok(nvfp4_safetensors_writer_begin(first, &reason), reason);
  assert_ok(nvfp4_safetensors_writer_begin(second, &reason), reason);
  assert_ok(nvfp4_safetensors_writer_write(first, "1", 1, &reason), reason);
  assert_ok(nvfp4_safetensors_writer_finish(first, &reason), reason);
  nvfp4_safetensors_writer_destroy(second);
  nvfp4_safetensors_writer_destroy(first);
  nvfp4_checkpoint *checkpoint = NULL;
  assert_ok(nvfp4_checkpoint_open(at->path, 0, &checkpoint, &reason), reason);
  assert_non_null(nvfp4_checkpoint_find(checkpoint, "first"));
  nvfp4_checkpoint_close(checkpoint);
}

static void assert_declare_fails(nvfp4_safetensors_writer *writer, const char *name, nvfp4_dtype dtype, int rank, const int64_t *shape,
                                 nvfp4_status status) {
  nvfp4_reason reason = {0};
  assert_int_equal(nvfp4_safetensors_writer_declare(writer, name, dtype, rank, shape, &reason), status);
  assert_non_null(strstr(reason.text, name));
}

static void bad_declarations_are_refused(void **state) {
  const place *at = *state;
  nvfp4_safetensors_writer *writer = create(at);
  const int64_t shape[] = {4, 4, 4, 4, 4, 4, 4, 4, 4}, negative[] = {-1}, huge[] = {INT64_MAX}, over[] = {INT64_MAX, 3};
  declare(writer, "t", NVFP4_DTYPE_U8, 1, shape);
  assert_declare_fails(writer, "t", NVFP4_DTYPE_U8, 1, shape, NVFP4_E_ARG);
  assert_declare_fails(writer, "", NVFP4_DTYPE_U8, 1, shape, NVFP4_E_ARG);
  assert_declare_fails(writer, "__metadata__", NVFP4_DTYPE_U8, 1, shape, NVFP4_E_ARG);
  assert_declare_fails(writer, "\xFF", NVFP4_DTYPE_U8, 1, shape, NVFP4_E_ARG);
  assert_declare_fails(writer, "u", NVFP4_DTYPE_GGUF_NVFP4, 1, shape, NVFP4_E_DTYPE);
  assert_declare_fails(writer, "u", NVFP4_DTYPE_OTHER, 1, shape, NVFP4_E_DTYPE);
  assert_declare_fails(writer, "u", NVFP4_DTYPE_NONE, 1, shape, NVFP4_E_DTYPE);
  assert_declare_fails(writer, "u", NVFP4_DTYPE_U8, 9, shape, NVFP4_E_SHAPE);
  assert_declare_fails(writer, "u", NVFP4_DTYPE_U8, -1, shape, NVFP4_E_SHAPE);
  assert_declare_fails(writer, "u", NVFP4_DTYPE_U8, 1, negative, NVFP4_E_SHAPE);
  assert_declare_fails(writer, "u", NVFP4_DTYPE_U8, 1, huge, NVFP4_E_SHAPE); /* with the 4 bytes of t */
  assert_declare_fails(writer, "u", NVFP4_DTYPE_F64, 1, huge, NVFP4_E_SHAPE);
  assert_declare_fails(writer, "u", NVFP4_DTYPE_U8, 2, over, NVFP4_E_SHAPE);
  nvfp4_reason reason = {0};
  assert_ok(nvfp4_safetensors_writer_metadata(writer, "k", "v", &reason), reason);
  assert_int_equal(nvfp4_safetensors_writer_metadata(writer, "k", "v", &reason), NVFP4_E_ARG);
  assert_int_equal(nvfp4_safetensors_writer_metadata(writer, "l", "\xFF", &reason), NVFP4_E_ARG);
  assert_ok(nvfp4_safetensors_writer_begin(writer, &reason), reason);
  assert_ok(nvfp4_safetensors_writer_write(writer, "1234", 4, &reason), reason);
  assert_ok(nvfp4_safetensors_writer_finish(writer, &reason), reason);
  nvfp4_safetensors_writer_destroy(writer);
  nvfp4_checkpoint *checkpoint = NULL; /* nothing of the refused ones is in the file */
  assert_ok(nvfp4_checkpoint_open(at->path, 0, &checkpoint, &reason), reason);
  assert_int_equal(nvfp4_checkpoint_tensor_count(checkpoint), 1);
  nvfp4_checkpoint_close(checkpoint);
}

static void calls_out_of_order_are_refused(void **state) {
  const place *at = *state;
  nvfp4_reason reason = {0};
  nvfp4_safetensors_writer *writer = create(at);
  const int64_t shape[] = {1};
  assert_int_equal(nvfp4_safetensors_writer_write(writer, "1", 1, &reason), NVFP4_E_ARG);
  assert_int_equal(nvfp4_safetensors_writer_finish(writer, &reason), NVFP4_E_ARG);
  declare(writer, "t", NVFP4_DTYPE_U8, 1, shape);
  assert_ok(nvfp4_safetensors_writer_begin(writer, &reason), reason);
  assert_int_equal(nvfp4_safetensors_writer_begin(writer, &reason), NVFP4_E_ARG);
  assert_int_equal(nvfp4_safetensors_writer_declare(writer, "u", NVFP4_DTYPE_U8, 1, shape, &reason), NVFP4_E_ARG);
  assert_int_equal(nvfp4_safetensors_writer_metadata(writer, "k", "v", &reason), NVFP4_E_ARG);
  assert_int_equal(nvfp4_safetensors_writer_write(writer, "12", 2, &reason), NVFP4_E_ARG);
  assert_ok(nvfp4_safetensors_writer_write(writer, "1", 1, &reason), reason);
  assert_ok(nvfp4_safetensors_writer_finish(writer, &reason), reason);
  assert_int_equal(nvfp4_safetensors_writer_finish(writer, &reason), NVFP4_E_ARG);
  nvfp4_safetensors_writer_destroy(writer);
}

static void refusals_of_the_system_are_passed_on(void **state) {
  const place *at = *state;
  nvfp4_reason reason = {0};
  nvfp4_safetensors_writer *writer = NULL;
  char path[160];
  snprintf(path, sizeof path, "%s/none/x.safetensors", at->folder);
  assert_int_equal(nvfp4_safetensors_writer_create(path, &writer, &reason), NVFP4_E_IO);
  assert_null(writer);
  assert_non_null(strstr(reason.text, path));
  assert_int_equal(nvfp4_safetensors_writer_create("", &writer, &reason), NVFP4_E_ARG);
  /* A folder in the place of the file: rename fails, the temporary file goes. */
  writer = create(at);
  assert_int_equal(mkdir(at->path, 0700), 0);
  assert_ok(nvfp4_safetensors_writer_begin(writer, &reason), reason);
  assert_int_equal(nvfp4_safetensors_writer_finish(writer, &reason), NVFP4_E_IO);
  nvfp4_safetensors_writer_destroy(writer);
  assert_int_equal(rmdir(at->path), 0);
  assert_int_equal(files_in(at->folder), 0);
  nvfp4_safetensors_writer_destroy(NULL);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_setup_teardown(bytes_are_as_specified, set_up, tear_down),
      cmocka_unit_test_setup_teardown(what_is_written_is_read, set_up, tear_down),
      cmocka_unit_test_setup_teardown(nothing_is_left_of_an_unfinished_file, set_up, tear_down),
      cmocka_unit_test_setup_teardown(two_writers_do_not_meet, set_up, tear_down),
      cmocka_unit_test_setup_teardown(bad_declarations_are_refused, set_up, tear_down),
      cmocka_unit_test_setup_teardown(calls_out_of_order_are_refused, set_up, tear_down),
      cmocka_unit_test_setup_teardown(refusals_of_the_system_are_passed_on, set_up, tear_down),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
