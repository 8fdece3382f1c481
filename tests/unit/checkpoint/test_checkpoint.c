/* SPDX-License-Identifier: Apache-2.0 */
#define _POSIX_C_SOURCE 200809L
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "checkpoint/safetensors_writer.h"
#include "checkpoint_support.h"

static nvfp4_checkpoint *open_ok(const char *path) {
  nvfp4_checkpoint *checkpoint = NULL;
  nvfp4_reason reason = {0};
  assert_ok(nvfp4_checkpoint_open(path, 0, &checkpoint, &reason), reason);
  assert_string_equal(nvfp4_checkpoint_path(checkpoint), path);
  return checkpoint;
}

/* -------------------------------------------------------------------------------------------------------- a folder for a test */

typedef struct folder {
  char path[64];
} folder;

static int set_up(void **state) {
  folder *at = calloc(1, sizeof *at);
  if (at == NULL) {
    return -1;
  }
  snprintf(at->path, sizeof at->path, "/tmp/nvfp4-checkpoint-XXXXXX");
  *state = at;
  return mkdtemp(at->path) != NULL ? 0 : -1;
}

static int tear_down(void **state) {
  folder *at = *state;
  static const char *const names[] = {"a.safetensors", "b.safetensors",       "model.safetensors", "model.safetensors.index.json",
                                      "config.json",   "hf_quant_config.json"};
  for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
    char path[128];
    snprintf(path, sizeof path, "%s/%s", at->path, names[i]);
    unlink(path);
  }
  int status = rmdir(at->path);
  free(at);
  return status;
}

static const char *in(const folder *at, const char *name, char path[128]) {
  snprintf(path, 128, "%s/%s", at->path, name);
  return path;
}

static void write_text(const folder *at, const char *name, const char *text, size_t length) {
  char path[128];
  FILE *file = fopen(in(at, name, path), "wb");
  assert_non_null(file);
  assert_int_equal(fwrite(text, 1, length, file), length);
  fclose(file);
}

/* One byte for each name of the list, with the value of the name's first letter. */
static void write_tensors(const folder *at, const char *file, const char *const *names, size_t count) {
  char path[128];
  nvfp4_safetensors_writer *writer = NULL;
  nvfp4_reason reason = {0};
  const int64_t shape[] = {1};
  assert_ok(nvfp4_safetensors_writer_create(in(at, file, path), &writer, &reason), reason);
  for (size_t i = 0; i < count; i++) {
    assert_ok(nvfp4_safetensors_writer_declare(writer, names[i], NVFP4_DTYPE_U8, 1, shape, &reason), reason);
  }
  assert_ok(nvfp4_safetensors_writer_begin(writer, &reason), reason);
  for (size_t i = 0; i < count; i++) {
    assert_ok(nvfp4_safetensors_writer_write(writer, names[i], 1, &reason), reason);
  }
  assert_ok(nvfp4_safetensors_writer_finish(writer, &reason), reason);
  nvfp4_safetensors_writer_destroy(writer);
}

static const char *const first_names[] = {"x", "p"};
static const char *const second_names[] = {"y"};

static void write_shards(const folder *at, const char *map) {
  write_tensors(at, "a.safetensors", first_names, 2);
  write_tensors(at, "b.safetensors", second_names, 1);
  char index[512];
  snprintf(index, sizeof index, "{\"weight_map\":%s}", map);
  write_text(at, "model.safetensors.index.json", index, strlen(index));
}

/* -------------------------------------------------------------------------------------------------------------------- tests */

static void tensors_are_sorted_and_found(void **state) {
  (void)state;
  static const char *const paths[] = {GOLDEN "modelopt_nvfp4_sharded", GOLDEN "modelopt_nvfp4_sharded/",
                                      GOLDEN "modelopt_nvfp4_sharded/model.safetensors.index.json",
                                      GOLDEN "gguf_mlx/llama-modelopt-nvfp4.gguf", GOLDEN "modelopt_nvfp4/model.safetensors"};
  static const size_t counts[] = {63, 63, 63, 49, 63};
  for (size_t p = 0; p < sizeof paths / sizeof paths[0]; p++) {
    nvfp4_checkpoint *checkpoint = open_ok(paths[p]);
    size_t count = nvfp4_checkpoint_tensor_count(checkpoint);
    assert_int_equal(count, counts[p]);
    for (size_t i = 0; i < count; i++) {
      const nvfp4_tensor *tensor = nvfp4_checkpoint_tensor(checkpoint, i);
      assert_ptr_equal(nvfp4_checkpoint_find(checkpoint, tensor->name), tensor);
      assert_true(i == 0 || strcmp(nvfp4_checkpoint_tensor(checkpoint, i - 1)->name, tensor->name) < 0);
    }
    assert_null(nvfp4_checkpoint_tensor(checkpoint, count));
    assert_null(nvfp4_checkpoint_find(checkpoint, "no such tensor"));
    assert_null(nvfp4_checkpoint_find(checkpoint, ""));
    assert_null(nvfp4_checkpoint_find(checkpoint, NULL));
    nvfp4_checkpoint_close(checkpoint);
  }
  nvfp4_checkpoint_close(NULL);
}

static void shards_say_their_file(void **state) {
  (void)state;
  nvfp4_checkpoint *checkpoint = open_ok(GOLDEN "modelopt_nvfp4_sharded");
  int shards[2] = {0, 0};
  for (size_t i = 0; i < nvfp4_checkpoint_tensor_count(checkpoint); i++) {
    const char *file = nvfp4_checkpoint_tensor(checkpoint, i)->file;
    shards[0] += strcmp(file, "model-00001-of-00002.safetensors") == 0;
    shards[1] += strcmp(file, "model-00002-of-00002.safetensors") == 0;
  }
  assert_int_equal(shards[0], 47);
  assert_int_equal(shards[1], 16);
  assert_null(nvfp4_checkpoint_warning(checkpoint, 0));
  nvfp4_checkpoint_close(checkpoint);
}

/* Configs belong to a folder or an index; a single file stands alone. */
static void configs_come_with_the_folder(void **state) {
  (void)state;
  char *config = test_read_file(GOLDEN "broken/dir_ok/config.json", NULL);
  char *quant_config = test_read_file(GOLDEN "broken/dir_ok/hf_quant_config.json", NULL);
  static const char *const paths[] = {GOLDEN "broken/dir_ok", GOLDEN "broken/dir_ok/model.safetensors.index.json"};
  for (int i = 0; i < 2; i++) {
    nvfp4_checkpoint *checkpoint = open_ok(paths[i]);
    assert_string_equal(nvfp4_checkpoint_config(checkpoint), config);
    assert_string_equal(checkpoint->quant_config, quant_config);
    assert_string_equal(checkpoint->folder, GOLDEN "broken/dir_ok");
    nvfp4_checkpoint_close(checkpoint);
  }
  free(config);
  free(quant_config);
  nvfp4_checkpoint *checkpoint = open_ok(GOLDEN "broken/dir_ok/model-00001-of-00001.safetensors");
  assert_null(nvfp4_checkpoint_config(checkpoint));
  assert_null(checkpoint->quant_config);
  assert_string_equal(checkpoint->folder, GOLDEN "broken/dir_ok");
  nvfp4_checkpoint_close(checkpoint);
}

static void broken_indices_are_refused(void **state) {
  (void)state;
  static const char index[] = "model.safetensors.index.json";
  assert_open_refused(GOLDEN "broken/dir_index_parent", NVFP4_E_FORMAT, "\"../ok_modelopt.safetensors\", outside the folder", index);
  assert_open_refused(GOLDEN "broken/dir_index_absolute", NVFP4_E_FORMAT, "\"/etc/passwd\", outside the folder", index);
  assert_open_refused(GOLDEN "broken/dir_index_parent_hidden", NVFP4_E_FORMAT, "\"x/../../ok_modelopt.safetensors\", outside the folder",
                      index);
  assert_open_refused(GOLDEN "broken/dir_index_missing_file", NVFP4_E_IO, "model-00002-of-00002.safetensors\" for tensor", index);
  assert_open_refused(GOLDEN "broken/dir_index_missing_tensor", NVFP4_E_FORMAT, "down_proj.bias\" should be in", index);
  assert_open_refused(GOLDEN "broken/dir_index_no_map", NVFP4_E_FORMAT, "has no weight_map", index);
  assert_open_refused(GOLDEN "broken/dir_index_not_json", NVFP4_E_FORMAT, "is not JSON: line 1", index);
}

static void an_index_must_be_true(void **state) {
  const folder *at = *state;
  static const char index[] = "model.safetensors.index.json";
  write_shards(at, "{\"p\":\"a.safetensors\",\"y\":\"b.safetensors\",\"x\":\"a.safetensors\"}");
  nvfp4_checkpoint *checkpoint = open_ok(at->path);
  assert_int_equal(checkpoint->file_count, 2);
  assert_int_equal(nvfp4_checkpoint_tensor_count(checkpoint), 3);
  for (size_t i = 0; i < 3; i++) {
    const nvfp4_tensor *tensor = nvfp4_checkpoint_tensor(checkpoint, i);
    assert_int_equal(*(const char *)tensor->data, tensor->name[0]);
  }
  nvfp4_checkpoint_close(checkpoint);

  write_shards(at, "{\"p\":\"a.safetensors\",\"y\":\"b.safetensors\"}");
  checkpoint = open_ok(at->path);
  assert_int_equal(nvfp4_checkpoint_tensor_count(checkpoint), 3);
  assert_non_null(strstr(nvfp4_checkpoint_warning(checkpoint, 0), "does not name 1 of the 3 tensors"));
  assert_null(nvfp4_checkpoint_warning(checkpoint, 1));
  nvfp4_checkpoint_close(checkpoint);

  write_shards(at, "{\"p\":\"a.safetensors\",\"y\":\"b.safetensors\",\"x\":\"b.safetensors\"}");
  assert_open_refused(at->path, NVFP4_E_FORMAT, "tensor \"x\" should be in b.safetensors, but is in a.safetensors", index);
  write_shards(at, "{\"p\":3}");
  assert_open_refused(at->path, NVFP4_E_FORMAT, "weight_map of tensor \"p\" is not a string", index);
  write_shards(at, "{\"p\":\"..\"}");
  assert_open_refused(at->path, NVFP4_E_FORMAT, "outside the folder", index);
  write_shards(at, "{\"p\":\"\"}");
  assert_open_refused(at->path, NVFP4_E_FORMAT, "outside the folder", index);
  write_shards(at, "{\"p\":\"a.safetensors\",\"p\":\"b.safetensors\"}");
  assert_open_refused(at->path, NVFP4_E_FORMAT, "duplicate", index);
  write_text(at, index, "[]", 2);
  assert_open_refused(at->path, NVFP4_E_FORMAT, "has no weight_map", index);
}

static void a_folder_without_index(void **state) {
  const folder *at = *state;
  assert_open_refused(at->path, NVFP4_E_FORMAT, "has no .safetensors file", at->path);
  write_tensors(at, "a.safetensors", first_names, 2);
  write_tensors(at, "b.safetensors", second_names, 1);
  nvfp4_checkpoint *checkpoint = open_ok(at->path);
  assert_int_equal(nvfp4_checkpoint_tensor_count(checkpoint), 3);
  assert_null(nvfp4_checkpoint_config(checkpoint));
  nvfp4_checkpoint_close(checkpoint);

  write_tensors(at, "b.safetensors", first_names, 1);
  assert_open_refused(at->path, NVFP4_E_FORMAT, "duplicate tensor name \"x\", also in ", ".safetensors");

  write_tensors(at, "model.safetensors", second_names, 1); /* then the others are not the model */
  checkpoint = open_ok(at->path);
  assert_int_equal(nvfp4_checkpoint_tensor_count(checkpoint), 1);
  nvfp4_checkpoint_close(checkpoint);

  write_text(at, "config.json", "{}\0{}", 5);
  assert_open_refused(at->path, NVFP4_E_FORMAT, "holds a NUL byte", "config.json");
  char path[128];
  unlink(in(at, "config.json", path));
  assert_int_equal(mkdir(path, 0700), 0);
  assert_open_refused(at->path, NVFP4_E_IO, "is not a regular file", "config.json");
  rmdir(path);
}

static void what_is_no_checkpoint_is_refused(void **state) {
  const folder *at = *state;
  char path[128];
  nvfp4_checkpoint *checkpoint = NULL;
  assert_open_refused(in(at, "none", path), NVFP4_E_IO, "cannot be opened", "none");
  assert_open_refused(in(at, "none.json", path), NVFP4_E_IO, "cannot be opened", "none.json");
  assert_open_refused("/dev/zero", NVFP4_E_IO, "is not a regular file", "/dev/zero");
  assert_int_equal(mkfifo(in(at, "a.safetensors", path), 0600), 0); /* opening it must not wait for a writer */
  assert_open_refused(path, NVFP4_E_IO, "is not a regular file", "a.safetensors");
  assert_int_equal(nvfp4_checkpoint_open(NULL, 0, &checkpoint, NULL), NVFP4_E_ARG);
  assert_int_equal(nvfp4_checkpoint_open("", 0, &checkpoint, NULL), NVFP4_E_ARG);
  assert_int_equal(nvfp4_checkpoint_open(path, 0, NULL, NULL), NVFP4_E_ARG);
  assert_int_equal(nvfp4_checkpoint_open(path, 2, &checkpoint, NULL), NVFP4_E_ARG);
  assert_int_equal(nvfp4_checkpoint_open(path, 0, &checkpoint, NULL), NVFP4_E_IO); /* no reason wanted */
  assert_null(checkpoint);
}

static void a_gguf_file_is_known_by_its_first_bytes(void **state) {
  const folder *at = *state;
  size_t bytes;
  char path[128];
  char *file = test_read_file(GOLDEN "broken/gguf_ok.gguf", &bytes);
  write_text(at, "a.safetensors", file, bytes);
  free(file);
  nvfp4_checkpoint *checkpoint = open_ok(in(at, "a.safetensors", path));
  assert_non_null(checkpoint->gguf);
  assert_string_equal(checkpoint->folder, at->path);
  nvfp4_checkpoint_close(checkpoint);
}

static void memory_is_as_good_as_a_file(void **state) {
  (void)state;
  size_t bytes;
  char *file = test_read_file(GOLDEN "broken/ok_modelopt.safetensors", &bytes);
  nvfp4_checkpoint *memory = NULL, *mapped = open_ok(GOLDEN "broken/ok_modelopt.safetensors");
  nvfp4_reason reason = {0};
  assert_ok(nvfp4_checkpoint_open_memory("x", file, bytes, 0, &memory, &reason), reason);
  assert_int_equal(nvfp4_checkpoint_tensor_count(memory), nvfp4_checkpoint_tensor_count(mapped));
  for (size_t i = 0; i < nvfp4_checkpoint_tensor_count(mapped); i++) {
    const nvfp4_tensor *a = nvfp4_checkpoint_tensor(memory, i), *b = nvfp4_checkpoint_tensor(mapped, i);
    assert_string_equal(a->name, b->name);
    assert_int_equal(a->bytes, b->bytes);
    assert_memory_equal(a->data, b->data, a->bytes);
    assert_true((const char *)a->data >= file && (const char *)a->data + a->bytes <= file + bytes);
  }
  nvfp4_checkpoint_close(memory);
  nvfp4_checkpoint_close(mapped);
  free(file);
}

/* Of any size, aligned, none upon another; strings are copied and terminated. */
static void arena_memory_is_apart(void **state) {
  (void)state;
  nvfp4_checkpoint *checkpoint = open_ok(GOLDEN "broken/ok_modelopt.safetensors");
  char *blocks[200];
  for (int i = 0; i < 200; i++) {
    size_t bytes = (size_t)i * 997 + 1;
    blocks[i] = nvfp4_checkpoint_alloc(checkpoint, bytes);
    assert_non_null(blocks[i]);
    assert_int_equal((uintptr_t)blocks[i] % _Alignof(max_align_t), 0);
    memset(blocks[i], i, bytes);
  }
  for (int i = 0; i < 200; i++) {
    for (size_t j = 0; j < (size_t)i * 997 + 1; j += 97) {
      assert_int_equal((unsigned char)blocks[i][j], i);
    }
  }
  assert_string_equal(nvfp4_checkpoint_strdup(checkpoint, "abcdef", 3), "abc");
  assert_null(nvfp4_checkpoint_alloc(checkpoint, SIZE_MAX));
  nvfp4_reason reason = {0};
  assert_ok(nvfp4_checkpoint_warn(checkpoint, &reason, "%s %d", "warning", 7), reason);
  assert_string_equal(nvfp4_checkpoint_warning(checkpoint, 0), "warning 7");
  nvfp4_checkpoint_close(checkpoint);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(tensors_are_sorted_and_found),
      cmocka_unit_test(shards_say_their_file),
      cmocka_unit_test(configs_come_with_the_folder),
      cmocka_unit_test(broken_indices_are_refused),
      cmocka_unit_test_setup_teardown(an_index_must_be_true, set_up, tear_down),
      cmocka_unit_test_setup_teardown(a_folder_without_index, set_up, tear_down),
      cmocka_unit_test_setup_teardown(what_is_no_checkpoint_is_refused, set_up, tear_down),
      cmocka_unit_test_setup_teardown(a_gguf_file_is_known_by_its_first_bytes, set_up, tear_down),
      cmocka_unit_test(memory_is_as_good_as_a_file),
      cmocka_unit_test(arena_memory_is_apart),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
