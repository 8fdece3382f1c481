/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE /* mkdtemp */
#include "layouts/gguf_writer.h"

#include "unit/quantizer/quantizer_support.h"

static nvfp4_reason reason;

/* What is written is read again: every kind of pair, shapes, bytes, padding between tensors of odd sizes and none of bytes at all. */
static void what_is_written_is_read(void **state) {
  (void)state;
  char folder[256], path[512];
  static const int64_t vector[1] = {3}, matrix[2] = {2, 64}, nothing[1] = {0};
  static const float floats[3] = {1, 2, 3};
  static const int32_t types[2] = {1, -3};
  uint8_t blocks[72];
  for (size_t i = 0; i < sizeof blocks; i++) {
    blocks[i] = (uint8_t)(i % 0x7F);
  }
  nvfp4_gguf_writer *writer = NULL;
  path_in(make_folder(folder), "x.gguf", path);
  assert_ok(nvfp4_gguf_writer_create(path, &writer, &reason), reason);
  nvfp4_gguf_writer_u32(writer, "a.u32", 7);
  nvfp4_gguf_writer_f32(writer, "a.f32", 0.5f);
  nvfp4_gguf_writer_bool(writer, "a.bool", true);
  nvfp4_gguf_writer_string(writer, "general.architecture", "llama");
  nvfp4_gguf_writer_array(writer, "a.types", NVFP4_GGUF_I32, 2);
  nvfp4_gguf_writer_raw(writer, types, sizeof types);
  nvfp4_gguf_writer_array(writer, "a.words", NVFP4_GGUF_STRING, 2);
  nvfp4_gguf_writer_string_element(writer, "one", 3);
  nvfp4_gguf_writer_string_element(writer, "", 0);
  assert_ok(nvfp4_gguf_writer_declare(writer, "floats", "F32", 1, vector, &reason), reason);
  assert_ok(nvfp4_gguf_writer_declare(writer, "nothing", "F32", 1, nothing, &reason), reason);
  assert_ok(nvfp4_gguf_writer_declare(writer, "scalar", "F32", 0, NULL, &reason), reason);
  assert_ok(nvfp4_gguf_writer_declare(writer, "blocks", "NVFP4", 2, matrix, &reason), reason);
  assert_ok(nvfp4_gguf_writer_begin(writer, &reason), reason);
  assert_ok(nvfp4_gguf_writer_write(writer, floats, 5, &reason), reason);
  assert_ok(nvfp4_gguf_writer_write(writer, (const char *)floats + 5, 7, &reason), reason);
  assert_int_equal(nvfp4_gguf_writer_finish(writer, &reason), NVFP4_E_ARG); /* bytes are missing */
  assert_ok(nvfp4_gguf_writer_write(writer, &floats[1], 4, &reason), reason);
  assert_ok(nvfp4_gguf_writer_write(writer, blocks, sizeof blocks, &reason), reason);
  assert_int_equal(nvfp4_gguf_writer_write(writer, blocks, 1, &reason), NVFP4_E_ARG);
  assert_ok(nvfp4_gguf_writer_finish(writer, &reason), reason);
  nvfp4_gguf_writer_destroy(writer);

  nvfp4_checkpoint *checkpoint = NULL;
  assert_ok(nvfp4_checkpoint_open(path, 0, &checkpoint, &reason), reason);
  const nvfp4_gguf_metadata *metadata = checkpoint->gguf;
  int64_t number;
  double real;
  bool flag = false;
  int32_t again[2];
  nvfp4_gguf_string words[2];
  assert_true(nvfp4_gguf_get_int(metadata, "a.u32", &number) && number == 7);
  assert_true(nvfp4_gguf_get_float(metadata, "a.f32", &real) && real == 0.5);
  assert_true(nvfp4_gguf_get_bool(metadata, "a.bool", &flag) && flag);
  assert_true(nvfp4_gguf_get_ints(metadata, "a.types", again, 2));
  assert_memory_equal(again, types, sizeof types);
  assert_true(nvfp4_gguf_get_strings(metadata, "a.words", words, 2));
  assert_true(words[0].bytes == 3 && words[1].bytes == 0);
  assert_int_equal(nvfp4_checkpoint_tensor_count(checkpoint), 4);
  assert_memory_equal(nvfp4_checkpoint_find(checkpoint, "floats")->data, floats, sizeof floats);
  assert_memory_equal(nvfp4_checkpoint_find(checkpoint, "scalar")->data, &floats[1], 4);
  const nvfp4_tensor *tensor = nvfp4_checkpoint_find(checkpoint, "blocks");
  assert_true(tensor->dtype == NVFP4_DTYPE_GGUF_NVFP4 && tensor->shape[0] == 2 && tensor->shape[1] == 64);
  assert_memory_equal(tensor->data, blocks, sizeof blocks);
  nvfp4_checkpoint_close(checkpoint);
  remove_folder(folder);
}

static void what_gguf_cannot_hold(void **state) {
  (void)state;
  char folder[256], path[512];
  static const int64_t odd[2] = {2, 48}, deep[5] = {1, 1, 1, 1, 1};
  nvfp4_gguf_writer *writer = NULL;
  path_in(make_folder(folder), "x.gguf", path);
  assert_ok(nvfp4_gguf_writer_create(path, &writer, &reason), reason);
  assert_int_equal(nvfp4_gguf_writer_declare(writer, "x", "NVFP4", 2, odd, &reason), NVFP4_E_SHAPE);
  assert_non_null(strstr(reason.text, "multiple of 64"));
  assert_int_equal(nvfp4_gguf_writer_declare(writer, "x", "F32", 5, deep, &reason), NVFP4_E_SHAPE);
  assert_int_equal(nvfp4_gguf_writer_declare(writer, "x", "F8_E4M3", 2, odd, &reason), NVFP4_E_DTYPE);
  nvfp4_gguf_writer_destroy(writer);
  assert_int_equal(count_files(folder), 0);
  remove_folder(folder);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(what_is_written_is_read),
      cmocka_unit_test(what_gguf_cannot_hold),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
