/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <stdlib.h>

#include "checkpoint/gguf.h"
#include "checkpoint_support.h"

/* ------------------------------------------------------------------------------------------------------- a GGUF file in memory */

typedef struct maker {
  uint8_t data[4096];
  size_t bytes;
} maker;

static void put(maker *file, uint64_t value, size_t bytes) {
  assert_true(file->bytes + bytes <= sizeof file->data);
  for (size_t i = 0; i < bytes; i++) {
    file->data[file->bytes++] = (uint8_t)(value >> (8 * i));
  }
}

static void put_bytes(maker *file, const char *text, size_t length) {
  put(file, length, 8);
  for (size_t i = 0; i < length; i++) {
    put(file, (uint8_t)text[i], 1);
  }
}

static void put_string(maker *file, const char *text) { put_bytes(file, text, strlen(text)); }

static void begin(maker *file, uint32_t version, uint64_t tensors, uint64_t pairs) {
  file->bytes = 0;
  put(file, 0x46554747, 4); /* GGUF */
  put(file, version, 4);
  put(file, tensors, 8);
  put(file, pairs, 8);
}

static void put_pair(maker *file, const char *key, nvfp4_gguf_type type) {
  put_string(file, key);
  put(file, type, 4);
}

static void put_array(maker *file, nvfp4_gguf_type type, uint64_t count) {
  put(file, type, 4);
  put(file, count, 8);
}

static void put_tensor(maker *file, const char *name, uint32_t type, int64_t d0, int64_t d1, uint64_t offset) {
  put_string(file, name);
  put(file, 2, 4);
  put(file, (uint64_t)d0, 8);
  put(file, (uint64_t)d1, 8);
  put(file, type, 4);
  put(file, offset, 8);
}

static void pad(maker *file, size_t alignment, size_t data_bytes) {
  while (file->bytes % alignment != 0) {
    put(file, 0, 1);
  }
  for (size_t i = 0; i < data_bytes; i++) {
    put(file, i, 1);
  }
}

static nvfp4_status open_made(const maker *file, nvfp4_checkpoint **out, nvfp4_reason *reason, uint8_t **memory) {
  return open_copy("made.gguf", file->data, file->bytes, out, reason, memory);
}

static void assert_refused(const maker *file, nvfp4_status status, const char *phrase) {
  assert_copy_refused("made.gguf", file->data, file->bytes, status, phrase);
}

/* -------------------------------------------------------------------------------------------------------------------- tests */

static void broken_files_are_refused(void **state) {
  (void)state;
  static const broken_file cases[] = {
      {"gguf_magic", NVFP4_E_FORMAT, "not a GGUF file", ""},
      {"gguf_version_1", NVFP4_E_UNSUPPORTED, "version is 1", ""},
      {"gguf_version_be", NVFP4_E_UNSUPPORTED, "big-endian", ""},
      {"gguf_tensors_2p64", NVFP4_E_FORMAT, "tensor count is 18446744073709551615", ""},
      {"gguf_tensors_2p40", NVFP4_E_FORMAT, "tensor count is 1099511627776", ""},
      {"gguf_kv_2p63", NVFP4_E_FORMAT, "metadata count is 9223372036854775808", ""},
      {"gguf_string_huge", NVFP4_E_FORMAT, "past the end of the file", "a metadata key"},
      {"gguf_array_huge", NVFP4_E_FORMAT, "array length 1152921504606846976", "tokenizer.ggml.tokens"},
      {"gguf_array_nested", NVFP4_E_FORMAT, "nested too deep", "\"a\""},
      {"gguf_kv_type_99", NVFP4_E_FORMAT, "unknown metadata type 99", "\"a\""},
      {"gguf_dims_9", NVFP4_E_FORMAT, "has 9 dimensions", "\"t\""},
      {"gguf_dim_overflow", NVFP4_E_FORMAT, "overflows", "\"t\""},
      {"gguf_dim_negative", NVFP4_E_FORMAT, "is -64, negative", "\"t\""},
      {"gguf_k_not_64", NVFP4_E_FORMAT, "row of 48 elements is not a multiple of 64", "\"t\""},
      {"gguf_offset_past_end", NVFP4_E_FORMAT, "past the end of the file", "\"t\""},
      {"gguf_offset_unaligned", NVFP4_E_FORMAT, "offset 7 is not aligned", "\"t\""},
      {"gguf_type_200", NVFP4_E_UNSUPPORTED, "tensor type 200 is not supported", "\"t\""},
      {"gguf_trunc", NVFP4_E_FORMAT, "past the end of the file", "blk.0.ffn_down.weight"},
      {"gguf_align_zero", NVFP4_E_FORMAT, "alignment is 0", ""},
      {"gguf_align_3", NVFP4_E_FORMAT, "alignment is 3", ""},
      {"gguf_dup_tensor", NVFP4_E_FORMAT, "duplicate tensor name", "\"t\""},
  };
  assert_broken_files_refused(cases, sizeof cases / sizeof cases[0], ".gguf");
}

static void sound_file_loads(void **state) {
  (void)state;
  nvfp4_checkpoint *checkpoint = NULL;
  nvfp4_reason reason = {0};
  assert_ok(nvfp4_checkpoint_open(GOLDEN "broken/gguf_ok.gguf", 0, &checkpoint, &reason), reason);
  assert_int_equal(nvfp4_checkpoint_tensor_count(checkpoint), 1);
  const nvfp4_tensor *tensor = nvfp4_checkpoint_tensor(checkpoint, 0);
  assert_string_equal(tensor->name, "blk.0.ffn_down.weight");
  assert_string_equal(tensor->dtype_name, "NVFP4");
  assert_int_equal(tensor->rank, 2);
  assert_int_equal(tensor->shape[0], 32);
  assert_int_equal(tensor->shape[1], 64);
  assert_int_equal(tensor->bytes, 32 * 36);
  assert_null(nvfp4_checkpoint_config(checkpoint));
  nvfp4_checkpoint_close(checkpoint);
}

static void every_truncation_is_refused(void **state) {
  (void)state;
  assert_truncations_refused(GOLDEN "broken/gguf_ok.gguf");
}

/* One pair of every type; the alignment key is among them. */
static void make_metadata(maker *file, uint32_t version) {
  static const struct {
    const char *key;
    nvfp4_gguf_type type;
    uint64_t value;
    size_t bytes;
  } scalars[] = {
      {"u8", NVFP4_GGUF_U8, 200, 1},
      {"i8", NVFP4_GGUF_I8, 0x80, 1},
      {"u16", NVFP4_GGUF_U16, 65535, 2},
      {"i16", NVFP4_GGUF_I16, 0xFFFF, 2},
      {"u32", NVFP4_GGUF_U32, 0xFFFFFFFF, 4},
      {"i32", NVFP4_GGUF_I32, 0x80000000, 4},
      {"f32", NVFP4_GGUF_F32, 0x3FC00000, 4},
      {"yes", NVFP4_GGUF_BOOL, 1, 1},
      {"no", NVFP4_GGUF_BOOL, 0, 1},
      {"u64", NVFP4_GGUF_U64, INT64_MAX, 8},
      {"u64 over", NVFP4_GGUF_U64, (uint64_t)INT64_MAX + 1, 8},
      {"i64", NVFP4_GGUF_I64, UINT64_MAX - 1, 8},
      {"f64", NVFP4_GGUF_F64, 0x4004000000000000, 8},
      {"general.alignment", NVFP4_GGUF_U32, 64, 4},
  };
  size_t count = sizeof scalars / sizeof scalars[0];
  begin(file, version, 1, count + 6);
  for (size_t i = 0; i < count; i++) {
    put_pair(file, scalars[i].key, scalars[i].type);
    put(file, scalars[i].value, scalars[i].bytes);
  }
  put_pair(file, "string", NVFP4_GGUF_STRING);
  put_bytes(file, "a\0b\xFF", 4); /* values may hold anything */
  put_pair(file, "strings", NVFP4_GGUF_ARRAY);
  put_array(file, NVFP4_GGUF_STRING, 3);
  put_string(file, "one");
  put_string(file, "");
  put_string(file, "three");
  put_pair(file, "ints", NVFP4_GGUF_ARRAY);
  put_array(file, NVFP4_GGUF_I16, 2);
  put(file, 0xFFFF, 2);
  put(file, 7, 2);
  put_pair(file, "empty", NVFP4_GGUF_ARRAY);
  put_array(file, NVFP4_GGUF_F64, 0);
  put_pair(file, "wide", NVFP4_GGUF_ARRAY);
  put_array(file, NVFP4_GGUF_U32, 1);
  put(file, 0x80000000, 4);
  put_pair(file, "nested", NVFP4_GGUF_ARRAY);
  put_array(file, NVFP4_GGUF_ARRAY, 1);
  put_array(file, NVFP4_GGUF_ARRAY, 2);
  put_array(file, NVFP4_GGUF_BOOL, 1);
  put(file, 1, 1);
  put_array(file, NVFP4_GGUF_STRING, 1);
  put_string(file, "deep");
  put_tensor(file, "t", 8, 64, 2, 0);
  pad(file, 64, 4 * 34);
}

static void assert_int(const nvfp4_gguf_metadata *metadata, const char *key, int64_t expected) {
  int64_t value = 0;
  assert_true(nvfp4_gguf_get_int(metadata, key, &value));
  assert_true(value == expected);
}

static void check_numbers(const nvfp4_gguf_metadata *metadata) {
  assert_int(metadata, "u8", 200);
  assert_int(metadata, "i8", -128);
  assert_int(metadata, "u16", 65535);
  assert_int(metadata, "i16", -1);
  assert_int(metadata, "u32", 4294967295);
  assert_int(metadata, "i32", INT32_MIN);
  assert_int(metadata, "u64", INT64_MAX);
  assert_int(metadata, "i64", -2);
  int64_t number = 5;
  double real = 0;
  bool boolean = false;
  assert_false(nvfp4_gguf_get_int(metadata, "u64 over", &number));
  assert_false(nvfp4_gguf_get_int(metadata, "f32", &number));
  assert_false(nvfp4_gguf_get_int(metadata, "string", &number));
  assert_false(nvfp4_gguf_get_int(metadata, "ints", &number));
  assert_false(nvfp4_gguf_get_int(metadata, "none", &number));
  assert_int_equal(number, 5);
  assert_true(nvfp4_gguf_get_float(metadata, "f32", &real) && real == 1.5);
  assert_true(nvfp4_gguf_get_float(metadata, "f64", &real) && real == 2.5);
  assert_false(nvfp4_gguf_get_float(metadata, "u8", &real));
  assert_true(nvfp4_gguf_get_bool(metadata, "yes", &boolean) && boolean);
  assert_true(nvfp4_gguf_get_bool(metadata, "no", &boolean) && !boolean);
  assert_false(nvfp4_gguf_get_bool(metadata, "u8", &boolean));
}

static void check_strings_and_arrays(const nvfp4_gguf_metadata *metadata) {
  nvfp4_gguf_string string, strings[3];
  nvfp4_gguf_type type;
  uint64_t count;
  int32_t ints[2];
  assert_true(nvfp4_gguf_get_string(metadata, "string", &string));
  assert_int_equal(string.bytes, 4);
  assert_memory_equal(string.text, "a\0b\xFF", 4);
  assert_false(nvfp4_gguf_get_string(metadata, "strings", &string));
  assert_true(nvfp4_gguf_get_array(metadata, "strings", &type, &count));
  assert_int_equal(type, NVFP4_GGUF_STRING);
  assert_int_equal(count, 3);
  assert_true(nvfp4_gguf_get_strings(metadata, "strings", strings, 3));
  assert_memory_equal(strings[0].text, "one", 3);
  assert_int_equal(strings[1].bytes, 0);
  assert_int_equal(strings[2].bytes, 5);
  assert_memory_equal(strings[2].text, "three", 5);
  assert_false(nvfp4_gguf_get_strings(metadata, "strings", strings, 2));
  assert_false(nvfp4_gguf_get_strings(metadata, "ints", strings, 2));
  assert_true(nvfp4_gguf_get_ints(metadata, "ints", ints, 2));
  assert_int_equal(ints[0], -1);
  assert_int_equal(ints[1], 7);
  assert_false(nvfp4_gguf_get_ints(metadata, "ints", ints, 1));
  assert_false(nvfp4_gguf_get_ints(metadata, "wide", ints, 1));
  assert_false(nvfp4_gguf_get_ints(metadata, "nested", ints, 1));
  assert_true(nvfp4_gguf_get_array(metadata, "empty", &type, &count));
  assert_int_equal(count, 0);
  assert_false(nvfp4_gguf_get_array(metadata, "string", &type, &count));
}

static void metadata_of_every_type(void **state) {
  (void)state;
  for (uint32_t version = 2; version <= 3; version++) {
    maker file;
    make_metadata(&file, version);
    nvfp4_checkpoint *checkpoint = NULL;
    nvfp4_reason reason = {0};
    uint8_t *memory;
    assert_ok(open_made(&file, &checkpoint, &reason, &memory), reason);
    check_numbers(checkpoint->gguf);
    check_strings_and_arrays(checkpoint->gguf);
    const nvfp4_tensor *tensor = nvfp4_checkpoint_find(checkpoint, "t");
    assert_non_null(tensor);
    assert_ptr_equal(tensor->data, memory + file.bytes - 4 * 34); /* aligned to 64, as the file says */
    assert_int_equal(tensor->shape[0], 2);
    assert_int_equal(tensor->shape[1], 64);
    nvfp4_checkpoint_close(checkpoint);
    free(memory);
  }
}

static void a_part_of_a_split_model_is_told(void **state) {
  (void)state;
  for (uint64_t parts = 1; parts <= 3; parts++) {
    maker file;
    begin(&file, 3, 0, 2);
    put_pair(&file, "split.no", NVFP4_GGUF_U16);
    put(&file, parts - 1, 2);
    put_pair(&file, "split.count", NVFP4_GGUF_U16);
    put(&file, parts, 2);
    nvfp4_checkpoint *checkpoint = NULL;
    nvfp4_reason reason = {0};
    uint8_t *memory;
    assert_ok(open_made(&file, &checkpoint, &reason, &memory), reason);
    const char *warning = nvfp4_checkpoint_warning(checkpoint, 0);
    assert_true(parts == 1 ? warning == NULL : strstr(warning, parts == 2 ? "part 2 of 2" : "part 3 of 3") != NULL);
    nvfp4_checkpoint_close(checkpoint);
    free(memory);
  }
}

static void golden_metadata(void **state) {
  (void)state;
  nvfp4_checkpoint *checkpoint = NULL;
  nvfp4_reason reason = {0};
  assert_ok(nvfp4_checkpoint_open(GOLDEN "gguf_mlx/llama-modelopt-nvfp4.gguf", 0, &checkpoint, &reason), reason);
  nvfp4_gguf_string string;
  assert_true(nvfp4_gguf_get_string(checkpoint->gguf, "general.architecture", &string));
  assert_int_equal(string.bytes, 5);
  assert_memory_equal(string.text, "llama", 5);
  assert_int(checkpoint->gguf, "llama.block_count", 2);
  assert_non_null(nvfp4_checkpoint_find(checkpoint, "blk.1.ffn_down.input_scale"));
  nvfp4_checkpoint_close(checkpoint);
}

/* Elements and bytes of a block by ggml's number: as gguf-py's GGML_QUANT_SIZES has them. */
static void every_tensor_type_has_its_size(void **state) {
  (void)state;
  static const uint16_t types[][3] = {
      {0, 1, 4},      {1, 1, 2},      {2, 32, 18},    {3, 32, 20},    {6, 32, 22},   {7, 32, 24},   {8, 32, 34},   {10, 256, 84},
      {11, 256, 110}, {12, 256, 144}, {13, 256, 176}, {14, 256, 210}, {16, 256, 66}, {17, 256, 74}, {18, 256, 98}, {19, 256, 50},
      {20, 32, 18},   {21, 256, 110}, {22, 256, 82},  {23, 256, 136}, {24, 1, 1},    {25, 1, 2},    {26, 1, 4},    {27, 1, 8},
      {28, 1, 8},     {29, 256, 56},  {30, 1, 2},     {34, 256, 54},  {35, 256, 66}, {39, 32, 17},  {40, 64, 36},
  };
  for (uint32_t number = 0; number < 64; number++) {
    uint64_t elements = 1, bytes = 0;
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++) {
      if (types[i][0] == number) {
        elements = types[i][1];
        bytes = types[i][2];
      }
    }
    maker file;
    begin(&file, 3, 1, 0);
    put_tensor(&file, "t", number, (int64_t)elements, 3, 0);
    pad(&file, 32, 3 * bytes);
    if (bytes == 0) {
      assert_refused(&file, NVFP4_E_UNSUPPORTED, "is not supported");
      continue;
    }
    nvfp4_checkpoint *checkpoint = NULL;
    nvfp4_reason reason = {0};
    uint8_t *memory;
    assert_ok(open_made(&file, &checkpoint, &reason, &memory), reason);
    assert_int_equal(nvfp4_checkpoint_tensor(checkpoint, 0)->bytes, 3 * bytes);
    nvfp4_checkpoint_close(checkpoint);
    free(memory);
    file.bytes--; /* the size is exact: a byte less is too little */
    assert_refused(&file, NVFP4_E_FORMAT, "past the end of the file");
    if (elements > 1) {
      begin(&file, 3, 1, 0);
      put_tensor(&file, "t", number, (int64_t)elements / 2, 2, 0);
      pad(&file, 32, 3 * bytes);
      assert_refused(&file, NVFP4_E_FORMAT, "is not a multiple of");
    }
  }
}

static void begin_pair(maker *file, const char *key, nvfp4_gguf_type type) {
  begin(file, 3, 0, 1);
  put_pair(file, key, type);
}

static void unsound_files_are_refused(void **state) {
  (void)state;
  maker file;
  begin_pair(&file, "flag", NVFP4_GGUF_BOOL);
  put(&file, 2, 1);
  assert_refused(&file, NVFP4_E_FORMAT, "\"flag\": bool is 2");

  begin_pair(&file, "flags", NVFP4_GGUF_ARRAY);
  put_array(&file, NVFP4_GGUF_BOOL, 2);
  put(&file, 0x0301, 2);
  assert_refused(&file, NVFP4_E_FORMAT, "\"flags\": bool is 3");

  begin_pair(&file, "a", NVFP4_GGUF_ARRAY);
  put_array(&file, (nvfp4_gguf_type)13, 0);
  assert_refused(&file, NVFP4_E_FORMAT, "unknown metadata type 13 in an array");

  begin_pair(&file, "a", NVFP4_GGUF_ARRAY);
  for (int i = 0; i < 4; i++) {
    put_array(&file, NVFP4_GGUF_ARRAY, 1);
  }
  put_array(&file, NVFP4_GGUF_U8, 0);
  assert_refused(&file, NVFP4_E_FORMAT, "nested too deep");

  begin_pair(&file, "general.alignment", NVFP4_GGUF_STRING);
  put_string(&file, "32");
  assert_refused(&file, NVFP4_E_FORMAT, "general.alignment is not an integer");

  begin(&file, 3, 0, 2);
  for (int i = 0; i < 2; i++) {
    put_pair(&file, "same", NVFP4_GGUF_U8);
    put(&file, 0, 1);
  }
  assert_refused(&file, NVFP4_E_FORMAT, "duplicate metadata key \"same\"");

  begin(&file, 3, 0, 1);
  put_bytes(&file, "a\0b", 3);
  put(&file, 0, 5);
  assert_refused(&file, NVFP4_E_FORMAT, "a metadata key before byte 35 holds a NUL");
}

static void unsound_tensors_are_refused(void **state) {
  (void)state;
  static const char *const names[] = {"a\0b", "\xC0\x80!", "\xED\xA0\x80"}; /* NUL, overlong NUL, surrogate */
  maker file;
  for (int i = 0; i < 3; i++) {
    begin(&file, 3, 1, 0);
    put_bytes(&file, names[i], 3);
    pad(&file, 1, 32);
    assert_refused(&file, NVFP4_E_FORMAT, "a tensor's name before byte 35");
  }
  begin(&file, 3, 2, 0);
  put_tensor(&file, "a", 0, 8, 2, 0);
  put_tensor(&file, "b", 0, 8, 1, 32);
  pad(&file, 32, 64);
  assert_refused(&file, NVFP4_E_FORMAT, "tensor \"b\": its data overlaps that of \"a\"");
  /* Sizes whose product wraps in 64 bits, or goes beyond 63. */
  begin(&file, 3, 1, 0);
  put_tensor(&file, "t", 24, INT64_MAX, 2, 0);
  pad(&file, 32, 32);
  assert_refused(&file, NVFP4_E_FORMAT, "overflows");
  begin(&file, 3, 1, 0);
  put_tensor(&file, "t", 27, INT64_MAX, 1, 0);
  pad(&file, 32, 32);
  assert_refused(&file, NVFP4_E_FORMAT, "overflows");
  begin(&file, 3, 1, 0);
  put_tensor(&file, "t", 0, 8, 1, UINT64_MAX - 31);
  pad(&file, 32, 32);
  assert_refused(&file, NVFP4_E_FORMAT, "past the end of the file");
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(broken_files_are_refused),        cmocka_unit_test(sound_file_loads),
      cmocka_unit_test(every_truncation_is_refused),     cmocka_unit_test(metadata_of_every_type),
      cmocka_unit_test(a_part_of_a_split_model_is_told), cmocka_unit_test(golden_metadata),
      cmocka_unit_test(every_tensor_type_has_its_size),  cmocka_unit_test(unsound_files_are_refused),
      cmocka_unit_test(unsound_tensors_are_refused),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
