/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <stdlib.h>

#include "checkpoint_support.h"

#define BROKEN GOLDEN "broken/"

/* Header and so many zeros of data; freed by the caller. */
static uint8_t *make_file(const char *header, size_t data_bytes, size_t *bytes) {
  size_t length = strlen(header);
  *bytes = 8 + length + data_bytes;
  uint8_t *file = calloc(1, *bytes);
  assert_non_null(file);
  for (int i = 0; i < 8; i++) {
    file[i] = (uint8_t)((uint64_t)length >> (8 * i));
  }
  memcpy(file + 8, header, length);
  return file;
}

static nvfp4_status open_header(const char *header, size_t data_bytes, nvfp4_checkpoint **out, nvfp4_reason *reason, uint8_t **memory) {
  size_t bytes;
  uint8_t *file = make_file(header, data_bytes, &bytes);
  nvfp4_status status = open_copy("made.safetensors", file, bytes, out, reason, memory);
  free(file);
  return status;
}

static void assert_refused(const char *header, size_t data_bytes, nvfp4_status status, const char *phrase) {
  size_t bytes;
  uint8_t *file = make_file(header, data_bytes, &bytes);
  assert_copy_refused("made.safetensors", file, bytes, status, phrase);
  free(file);
}

static void broken_files_are_refused(void **state) {
  (void)state;
  static const broken_file cases[] = {
      {"st_empty", NVFP4_E_FORMAT, "has 0 bytes", ""},
      {"st_7bytes", NVFP4_E_FORMAT, "has 7 bytes", ""},
      {"st_trunc_header", NVFP4_E_FORMAT, "only 52 bytes follow", ""},
      {"st_trunc_data", NVFP4_E_FORMAT, "past the end of the file", "weight_scale"},
      {"st_tail", NVFP4_E_FORMAT, "64 bytes after the last tensor", "input_scale"},
      {"st_hlen_max", NVFP4_E_FORMAT, "header length is 18446744073709551615", ""},
      {"st_hlen_2p63", NVFP4_E_FORMAT, "header length is 9223372036854775808", ""},
      {"st_hlen_wrap", NVFP4_E_FORMAT, "header length is 18446744073709551608", ""},
      {"st_hlen_101M", NVFP4_E_FORMAT, "at most 100000000", ""},
      {"st_hlen_zero", NVFP4_E_FORMAT, "header is empty", ""},
      {"st_not_json", NVFP4_E_FORMAT, "does not begin with {", ""},
      {"st_json_cut", NVFP4_E_FORMAT, "header JSON: line 1", ""},
      {"st_json_garbage_after", NVFP4_E_FORMAT, "end of file expected", ""},
      {"st_bad_utf8", NVFP4_E_FORMAT, "unable to decode byte", "down_"},
      {"st_overlap", NVFP4_E_FORMAT, "overlaps", "weight_scale"},
      {"st_hole", NVFP4_E_FORMAT, "hole", "weight_scale"},
      {"st_offset_reversed", NVFP4_E_FORMAT, "end 0 is before begin 1024", "down_proj.weight"},
      {"st_offset_negative", NVFP4_E_FORMAT, "begin is -1, negative", "down_proj.weight"},
      {"st_offset_huge", NVFP4_E_FORMAT, "too big integer", "18446744073709551615"},
      {"st_offset_float", NVFP4_E_FORMAT, "not an integer", "down_proj.weight"},
      {"st_offset_over_u64", NVFP4_E_FORMAT, "too big integer", "36893488147419103232"},
      {"st_size_mismatch", NVFP4_E_FORMAT, "hold 1024 bytes, but shape and dtype U8 need 1056", "down_proj.weight"},
      {"st_shape_overflow", NVFP4_E_FORMAT, "overflows 64 bits", "down_proj.weight"},
      {"st_shape_overflow_wrap", NVFP4_E_FORMAT, "overflows 64 bits", "down_proj.weight"},
      {"st_shape_negative", NVFP4_E_FORMAT, "is -32, negative", "down_proj.weight"},
      {"st_shape_many_dims", NVFP4_E_UNSUPPORTED, "too many dimensions: 5002", "down_proj.weight"},
      {"st_unknown_dtype", NVFP4_E_FORMAT, "unknown dtype \"U7\"", "down_proj.weight"},
      {"st_missing_dtype", NVFP4_E_FORMAT, "dtype is missing", "down_proj.weight"},
      {"st_dup_keys", NVFP4_E_FORMAT, "duplicate object key", "weight_scale_2"},
      {"st_dup_inner_keys", NVFP4_E_FORMAT, "duplicate object key near '\"dtype\"'", "down_proj.weight"},
      {"st_deep_json", NVFP4_E_FORMAT, "maximum parsing depth", ""},
      {"st_deep_array", NVFP4_E_FORMAT, "maximum parsing depth", ""},
      {"st_metadata_not_string", NVFP4_E_FORMAT, "__metadata__ value of \"format\" is an integer", ""},
      {"st_nul_in_name", NVFP4_E_FORMAT, "NUL", "down_proj.weight"},
  };
  assert_broken_files_refused(cases, sizeof cases / sizeof cases[0], ".safetensors");
}

static void sound_files_load(void **state) {
  (void)state;
  static const char *const files[] = {"ok_modelopt", "ok_ct", "ok_unpadded_header"};
  for (size_t i = 0; i < 3; i++) {
    char path[256];
    snprintf(path, sizeof path, BROKEN "%s.safetensors", files[i]);
    nvfp4_checkpoint *checkpoint = NULL;
    nvfp4_reason reason = {0};
    assert_ok(nvfp4_checkpoint_open(path, 0, &checkpoint, &reason), reason);
    assert_int_equal(nvfp4_checkpoint_tensor_count(checkpoint), 4);
    const nvfp4_tensor *scale = nvfp4_checkpoint_find(checkpoint, "model.layers.0.mlp.down_proj.weight_scale");
    assert_non_null(scale);
    assert_int_equal(scale->dtype, NVFP4_DTYPE_F8_E4M3);
    assert_string_equal(scale->dtype_name, "F8_E4M3");
    assert_int_equal(scale->rank, 2);
    assert_int_equal(scale->shape[0], 32);
    assert_int_equal(scale->shape[1], 4);
    assert_int_equal(scale->bytes, 128);
    nvfp4_checkpoint_close(checkpoint);
  }
}

static void every_truncation_is_refused(void **state) {
  (void)state;
  assert_truncations_refused(BROKEN "ok_modelopt.safetensors");
}

static void every_dtype_has_its_size(void **state) {
  (void)state;
  static const struct {
    const char *name;
    nvfp4_dtype dtype;
    int bits;
  } types[] = {
      {"BOOL", NVFP4_DTYPE_BOOL, 8},       {"F4", NVFP4_DTYPE_OTHER, 4},        {"F6_E2M3", NVFP4_DTYPE_OTHER, 6},
      {"F6_E3M2", NVFP4_DTYPE_OTHER, 6},   {"U8", NVFP4_DTYPE_U8, 8},           {"I8", NVFP4_DTYPE_I8, 8},
      {"F8_E5M2", NVFP4_DTYPE_F8_E5M2, 8}, {"F8_E4M3", NVFP4_DTYPE_F8_E4M3, 8}, {"F8_E8M0", NVFP4_DTYPE_F8_E8M0, 8},
      {"I16", NVFP4_DTYPE_I16, 16},        {"U16", NVFP4_DTYPE_U16, 16},        {"F16", NVFP4_DTYPE_F16, 16},
      {"BF16", NVFP4_DTYPE_BF16, 16},      {"I32", NVFP4_DTYPE_I32, 32},        {"U32", NVFP4_DTYPE_U32, 32},
      {"F32", NVFP4_DTYPE_F32, 32},        {"C64", NVFP4_DTYPE_OTHER, 64},      {"F64", NVFP4_DTYPE_F64, 64},
      {"I64", NVFP4_DTYPE_I64, 64},        {"U64", NVFP4_DTYPE_U64, 64},
  };
  for (size_t i = 0; i < sizeof types / sizeof types[0]; i++) {
    char header[256];
    size_t bytes = (size_t)types[i].bits * 12 / 8;
    snprintf(header, sizeof header, "{\"t\":{\"dtype\":\"%s\",\"shape\":[3,4],\"data_offsets\":[0,%zu]}}", types[i].name, bytes);
    nvfp4_checkpoint *checkpoint = NULL;
    nvfp4_reason reason = {0};
    uint8_t *memory;
    assert_ok(open_header(header, bytes, &checkpoint, &reason, &memory), reason);
    const nvfp4_tensor *tensor = nvfp4_checkpoint_find(checkpoint, "t");
    assert_non_null(tensor);
    assert_int_equal(tensor->dtype, types[i].dtype);
    assert_string_equal(tensor->dtype_name, types[i].name);
    assert_int_equal(tensor->bytes, bytes);
    assert_ptr_equal(tensor->data, memory + 8 + strlen(header));
    nvfp4_checkpoint_close(checkpoint);
    free(memory);
  }
}

static void odd_but_sound_headers_load(void **state) {
  (void)state;
  static const struct {
    const char *header;
    size_t data_bytes, tensors;
  } cases[] = {
      {"{}", 0, 0},
      {"{}\n  ", 0, 0},
      {"{\"__metadata__\":{}}", 0, 0},
      {"{\"s\":{\"dtype\":\"F32\",\"shape\":[],\"data_offsets\":[0,4]}}", 4, 1},
      /* empty tensors at the beginning, in between and at the end; declared out of order */
      {"{\"d\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[2,2]},\"c\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[1,2]},"
       "\"b\":{\"dtype\":\"F64\",\"shape\":[5,0],\"data_offsets\":[1,1]},\"a\":{\"dtype\":\"U8\",\"shape\":[1,1],\"data_offsets\":[0,1]},"
       "\"e\":{\"dtype\":\"U8\",\"shape\":[0,9223372036854775807],\"data_offsets\":[0,0]}}",
       2, 5},
      {"{\"\\u00e9\\ud83d\\ude00\":{\"shape\":[1,1,1,1,1,1,1,2],\"data_offsets\":[0,1],\"dtype\":\"F4\"}}", 1, 1},
  };
  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
    nvfp4_checkpoint *checkpoint = NULL;
    nvfp4_reason reason = {0};
    uint8_t *memory;
    assert_ok(open_header(cases[i].header, cases[i].data_bytes, &checkpoint, &reason, &memory), reason);
    assert_int_equal(nvfp4_checkpoint_tensor_count(checkpoint), cases[i].tensors);
    nvfp4_checkpoint_close(checkpoint);
    free(memory);
  }
}

static void unsound_headers_are_refused(void **state) {
  (void)state;
#define ENTRY(body) "{\"t\":{" body "}}"
  assert_refused(" {}", 0, NVFP4_E_FORMAT, "does not begin with {");
  assert_refused("{}", 1, NVFP4_E_FORMAT, "1 bytes after the last tensor");
  assert_refused("{\"t\":1}", 0, NVFP4_E_FORMAT, "\"t\" is an integer");
  assert_refused("{\"__metadata__\":[]}", 0, NVFP4_E_FORMAT, "__metadata__ is an array");
  assert_refused(ENTRY("\"dtype\":3,\"shape\":[1],\"data_offsets\":[0,1]"), 1, NVFP4_E_FORMAT, "dtype is an integer");
  assert_refused(ENTRY("\"dtype\":\"u8\",\"shape\":[1],\"data_offsets\":[0,1]"), 1, NVFP4_E_FORMAT, "unknown dtype \"u8\"");
  assert_refused(ENTRY("\"dtype\":\"U8\",\"data_offsets\":[0,1]"), 1, NVFP4_E_FORMAT, "shape is missing");
  assert_refused(ENTRY("\"dtype\":\"U8\",\"shape\":1,\"data_offsets\":[0,1]"), 1, NVFP4_E_FORMAT, "shape is an integer");
  assert_refused(ENTRY("\"dtype\":\"U8\",\"shape\":[true],\"data_offsets\":[0,1]"), 1, NVFP4_E_FORMAT, "dimension is true");
  assert_refused(ENTRY("\"dtype\":\"U8\",\"shape\":[1]"), 1, NVFP4_E_FORMAT, "data_offsets is missing");
  assert_refused(ENTRY("\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0]"), 1, NVFP4_E_FORMAT, "an array of another length");
  assert_refused(ENTRY("\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1,1]"), 1, NVFP4_E_FORMAT, "an array of another length");
  assert_refused(ENTRY("\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,null]"), 1, NVFP4_E_FORMAT, "data_offsets end is null");
  assert_refused(ENTRY("\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1],\"strides\":[1]"), 1, NVFP4_E_FORMAT,
                 "unknown key \"strides\"");
  assert_refused(ENTRY("\"dtype\":\"F4\",\"shape\":[3],\"data_offsets\":[0,2]"), 2, NVFP4_E_FORMAT, "do not fill whole bytes");
  assert_refused(ENTRY("\"dtype\":\"F64\",\"shape\":[1152921504606846976],\"data_offsets\":[0,0]"), 0, NVFP4_E_FORMAT, "overflow 64 bits");
  assert_refused(ENTRY("\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[1,2]"), 2, NVFP4_E_FORMAT, "hole");
  assert_refused(ENTRY("\"dtype\":\"U8\",\"shape\":[1,1,1,1,1,1,1,1,1],\"data_offsets\":[0,1]"), 1, NVFP4_E_UNSUPPORTED,
                 "too many dimensions: 9");
  /* an empty tensor inside another one */
  assert_refused(
      "{\"a\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,2]},\"b\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[1,1]}}", 2,
      NVFP4_E_FORMAT, "overlaps");
  /* the same bytes twice */
  assert_refused(
      "{\"a\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,2]},\"b\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,2]}}", 2,
      NVFP4_E_FORMAT, "overlaps");
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(broken_files_are_refused),    cmocka_unit_test(sound_files_load),
      cmocka_unit_test(every_truncation_is_refused), cmocka_unit_test(every_dtype_has_its_size),
      cmocka_unit_test(odd_but_sound_headers_load),  cmocka_unit_test(unsound_headers_are_refused),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
