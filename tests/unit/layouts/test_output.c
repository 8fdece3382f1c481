/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE /* mkdtemp */
#include "unit/quantizer/quantizer_support.h"

static nvfp4_reason reason;

static void everything_gets_its_name_at_the_commit(void **state) {
  (void)state;
  char parent[256], folder[512], path[512];
  nvfp4_output *output = NULL;
  path_in(make_folder(parent), "new", folder);
  assert_ok(nvfp4_output_create(folder, &output, &reason), reason);
  assert_ok(nvfp4_output_add(output, "tokenizer.json", "{}", 2, &reason), reason);
  const char *claimed = nvfp4_output_claim(output, "model.safetensors", &reason);
  assert_non_null(claimed);
  assert_ok(nvfp4_output_add(output, "config.json", "[1]", 3, &reason), reason);
  assert_int_equal(access(path_in(folder, "config.json", path), F_OK), -1);
  assert_int_equal(access(path_in(folder, "tokenizer.json", path), F_OK), -1);
  assert_string_equal(claimed, path_in(folder, "model.safetensors.tmp", path));
  write_text(folder, "model.safetensors.tmp", "weights");
  assert_ok(nvfp4_output_commit(output, &reason), reason);
  assert_int_equal(access(path_in(folder, "model.safetensors", path), F_OK), 0);
  nvfp4_output_destroy(output);
  size_t bytes;
  char *text = test_read_file(path_in(folder, "config.json", path), &bytes);
  assert_string_equal(text, "[1]");
  free(text);
  assert_int_equal(count_files(folder), 3);
  remove_folder(parent);
}

static void without_a_commit_nothing_is_left(void **state) {
  (void)state;
  char parent[256], folder[512];
  nvfp4_output *output = NULL;
  path_in(make_folder(parent), "new", folder);
  assert_ok(nvfp4_output_create(folder, &output, &reason), reason);
  assert_ok(nvfp4_output_add(output, "config.json", "{}", 2, &reason), reason);
  assert_non_null(nvfp4_output_claim(output, "model.safetensors", &reason));
  write_text(folder, "model.safetensors.tmp", "weights");
  nvfp4_output_destroy(output);
  assert_int_equal(count_files(parent), 0);

  /* A folder that was there stays, with what was in it. */
  assert_int_equal(mkdir(folder, 0777), 0);
  write_text(folder, "notes.txt", "mine");
  assert_ok(nvfp4_output_create(folder, &output, &reason), reason);
  assert_ok(nvfp4_output_add(output, "config.json", "{}", 2, &reason), reason);
  nvfp4_output_destroy(output);
  assert_int_equal(count_files(folder), 1);
  remove_folder(parent);
}

/* A rename in the middle fails: the files that already have their names go too. */
static void a_failed_commit_leaves_nothing(void **state) {
  (void)state;
  char folder[256], path[512];
  nvfp4_output *output = NULL;
  make_folder(folder);
  assert_ok(nvfp4_output_create(folder, &output, &reason), reason);
  assert_ok(nvfp4_output_add(output, "tokenizer.json", "{}", 2, &reason), reason);
  assert_ok(nvfp4_output_add(output, "config.json", "{}", 2, &reason), reason);
  assert_int_equal(mkdir(path_in(folder, "config.json", path), 0777), 0);
  assert_int_equal(nvfp4_output_commit(output, &reason), NVFP4_E_IO);
  assert_non_null(strstr(reason.text, "config.json"));
  nvfp4_output_destroy(output);
  assert_int_equal(count_files(folder), 1);
  remove_folder(folder);
}

static void folders_that_cannot_be_used(void **state) {
  (void)state;
  char folder[256], path[512];
  nvfp4_output *output = NULL;
  make_folder(folder);
  write_text(folder, "file", "x");
  assert_int_equal(nvfp4_output_create(path_in(folder, "file", path), &output, &reason), NVFP4_E_IO);
  assert_non_null(strstr(reason.text, "folder"));
  assert_int_equal(nvfp4_output_create(path_in(folder, "no/such", path), &output, &reason), NVFP4_E_IO);
  static const char *const checkpoints[] = {"config.json", "model-00001-of-00002.safetensors"};
  for (size_t i = 0; i < 2; i++) {
    write_text(folder, checkpoints[i], "x");
    assert_int_equal(nvfp4_output_create(folder, &output, &reason), NVFP4_E_IO);
    assert_non_null(strstr(reason.text, checkpoints[i]));
    unlink(path_in(folder, checkpoints[i], path));
  }
  assert_ok(nvfp4_output_create(folder, &output, &reason), reason);
  assert_int_equal(nvfp4_output_add(output, "file", "y", 1, &reason), NVFP4_E_IO);
  assert_non_null(strstr(reason.text, "exists already"));
  assert_null(nvfp4_output_claim(output, "file", &reason));
  nvfp4_output_destroy(output);
  char *text = test_read_file(path_in(folder, "file", path), NULL);
  assert_string_equal(text, "x");
  free(text);
  remove_folder(folder);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(everything_gets_its_name_at_the_commit),
      cmocka_unit_test(without_a_commit_nothing_is_left),
      cmocka_unit_test(a_failed_commit_leaves_nothing),
      cmocka_unit_test(folders_that_cannot_be_used),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
