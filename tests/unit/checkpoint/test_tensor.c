/* SPDX-License-Identifier: Apache-2.0 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "checkpoint/checkpoint.h"
#include "format/e2m1.h"
#include "format/e4m3.h"
#include "format/half.h"
#include "support.h"

static void sizes_of_types(void **state) {
  (void)state;
  static const struct {
    nvfp4_dtype dtype;
    uint64_t elements, bytes;
  } blocks[] = {
      {NVFP4_DTYPE_F32, 1, 4},     {NVFP4_DTYPE_F16, 1, 2},     {NVFP4_DTYPE_BF16, 1, 2},    {NVFP4_DTYPE_F64, 1, 8},
      {NVFP4_DTYPE_F8_E4M3, 1, 1}, {NVFP4_DTYPE_F8_E5M2, 1, 1}, {NVFP4_DTYPE_F8_E8M0, 1, 1}, {NVFP4_DTYPE_U8, 1, 1},
      {NVFP4_DTYPE_I8, 1, 1},      {NVFP4_DTYPE_U16, 1, 2},     {NVFP4_DTYPE_I16, 1, 2},     {NVFP4_DTYPE_U32, 1, 4},
      {NVFP4_DTYPE_I32, 1, 4},     {NVFP4_DTYPE_U64, 1, 8},     {NVFP4_DTYPE_I64, 1, 8},     {NVFP4_DTYPE_BOOL, 1, 1},
      {NVFP4_DTYPE_Q4_0, 32, 18},  {NVFP4_DTYPE_Q4_1, 32, 20},  {NVFP4_DTYPE_Q8_0, 32, 34},  {NVFP4_DTYPE_GGUF_NVFP4, 64, 36},
  };
  for (size_t i = 0; i < sizeof blocks / sizeof blocks[0]; i++) {
    uint64_t bytes = 99;
    assert_true(nvfp4_dtype_bytes(blocks[i].dtype, 0, &bytes));
    assert_int_equal(bytes, 0);
    assert_true(nvfp4_dtype_bytes(blocks[i].dtype, 7 * blocks[i].elements, &bytes));
    assert_int_equal(bytes, 7 * blocks[i].bytes);
    if (blocks[i].elements > 1) {
      assert_false(nvfp4_dtype_bytes(blocks[i].dtype, 7 * blocks[i].elements + 1, &bytes));
    }
    if (blocks[i].bytes > blocks[i].elements) {
      assert_false(nvfp4_dtype_bytes(blocks[i].dtype, UINT64_MAX / blocks[i].elements * blocks[i].elements, &bytes));
    }
  }
  uint64_t bytes;
  assert_false(nvfp4_dtype_bytes(NVFP4_DTYPE_NONE, 1, &bytes));
  assert_false(nvfp4_dtype_bytes(NVFP4_DTYPE_OTHER, 1, &bytes));
}

static nvfp4_tensor vector(nvfp4_dtype dtype, int64_t elements, const void *data) {
  nvfp4_tensor tensor = {.name = "t", .dtype = dtype, .rank = 1, .shape = {elements}, .data = data, .file = "f", .dtype_name = "as stored"};
  assert_true(nvfp4_dtype_bytes(dtype, (uint64_t)elements, &tensor.bytes));
  return tensor;
}

/* Converts at once, and again in pieces of one block. */
static void convert(const nvfp4_tensor *tensor, int64_t block, float *out) {
  nvfp4_reason reason = {0};
  uint64_t count = (uint64_t)tensor->shape[0];
  assert_ok(nvfp4_tensor_to_f32(tensor, 0, count, out, &reason), reason);
  for (uint64_t first = 0; first < count; first += (uint64_t)block) {
    float piece[64];
    assert_ok(nvfp4_tensor_to_f32(tensor, first, (uint64_t)block, piece, &reason), reason);
    assert_memory_equal(piece, out + first, (size_t)block * sizeof *piece);
  }
}

static void plain_types(void **state) {
  (void)state;
  float out[256];
  uint8_t raw[1 + 256]; /* data begins at an odd address */
  for (int i = 0; i < 256; i++) {
    raw[1 + i] = (uint8_t)i;
  }
  nvfp4_tensor e4m3 = vector(NVFP4_DTYPE_F8_E4M3, 256, raw + 1);
  convert(&e4m3, 1, out);
  for (int i = 0; i < 256; i++) {
    int exponent = i >> 3 & 15, mantissa = i & 7;
    float magnitude = exponent == 0 ? (float)mantissa * 0x1p-9f : ldexpf((float)(8 + mantissa), exponent - 10);
    if ((i & 127) == 127) {
      assert_true(isnan(out[i]));
    } else {
      assert_f32_bits(out[i], i >= 128 ? -magnitude : magnitude);
    }
  }
  const float f32[3] = {1.5f, -0.0f, 0x1p-149f};
  memcpy(raw + 1, f32, sizeof f32);
  nvfp4_tensor tensor = vector(NVFP4_DTYPE_F32, 3, raw + 1);
  convert(&tensor, 1, out);
  assert_memory_equal(out, f32, sizeof f32);

  const uint16_t half[3] = {0x3C00, 0x8001, 0x7BFF};
  memcpy(raw + 1, half, sizeof half);
  tensor = vector(NVFP4_DTYPE_F16, 3, raw + 1);
  convert(&tensor, 1, out);
  assert_f32_bits(out[0], 1.0f);
  assert_f32_bits(out[1], -0x1p-24f);
  assert_f32_bits(out[2], 65504.0f);
  tensor.dtype = NVFP4_DTYPE_BF16;
  convert(&tensor, 1, out);
  assert_f32_bits(out[0], 0x1p-7f);
  assert_int_equal(f32_bits(out[2]), 0x7BFF0000);

  const double f64[3] = {1.0 + 0x1p-24, -1e300, 0.1};
  memcpy(raw + 1, f64, sizeof f64);
  tensor = vector(NVFP4_DTYPE_F64, 3, raw + 1);
  convert(&tensor, 1, out);
  assert_f32_bits(out[0], 1.0f); /* a tie goes to even */
  assert_true(isinf(out[1]) && out[1] < 0);
  assert_f32_bits(out[2], 0.1f);
}

static void ggml_blocks(void **state) {
  (void)state;
  test_random random = {3};
  uint8_t raw[1 + 3 * 34];
  float out[96];
  for (int round = 0; round < 200; round++) {
    for (size_t i = 0; i < sizeof raw; i++) {
      raw[i] = (uint8_t)test_random_u64(&random);
    }
    for (int type = 0; type < 3; type++) {
      static const nvfp4_dtype dtypes[] = {NVFP4_DTYPE_Q4_0, NVFP4_DTYPE_Q4_1, NVFP4_DTYPE_Q8_0};
      static const int bytes[] = {18, 20, 34};
      for (int block = 0; block < 3; block++) {
        raw[1 + block * bytes[type] + 1] &= 0xBF; /* d finite */
        raw[1 + block * bytes[type] + 3] &= type == 1 ? 0xBF : 0xFF;
      }
      nvfp4_tensor tensor = vector(dtypes[type], 96, raw + 1);
      convert(&tensor, 32, out);
      for (int i = 0; i < 96; i++) {
        const uint8_t *block = raw + 1 + i / 32 * bytes[type];
        uint16_t d_bits, m_bits;
        memcpy(&d_bits, block, 2);
        memcpy(&m_bits, block + 2, 2);
        double d = (double)nvfp4_f16_to_f32(d_bits), m = (double)nvfp4_f16_to_f32(m_bits);
        int j = i % 32;
        const uint8_t *codes = block + (type == 1 ? 4 : 2);
        int nibble = j < 16 ? codes[j % 16] & 15 : codes[j % 16] >> 4;
        double expected = type == 0 ? d * (nibble - 8) : type == 1 ? d * nibble + m : d * (int8_t)codes[j];
        assert_f32_bits(out[i], (float)expected);
      }
    }
  }
}

/* Every scale byte with every code, at every place of a block. */
static void nvfp4_blocks(void **state) {
  (void)state;
  uint8_t block[36];
  float out[64];
  for (int scale = 0; scale < 256; scale++) {
    for (int shift = 0; shift < 16; shift++) {
      for (int group = 0; group < 4; group++) {
        block[group] = (uint8_t)(scale ^ group); /* groups differ */
        for (int j = 0; j < 8; j++) {
          block[4 + 8 * group + j] = (uint8_t)(((j + shift + group) & 15) | ((j + 8 + shift + group) & 15) << 4);
        }
      }
      nvfp4_tensor tensor = vector(NVFP4_DTYPE_GGUF_NVFP4, 64, block);
      convert(&tensor, 64, out);
      for (int i = 0; i < 64; i++) {
        int group = i / 16, byte = (scale ^ group) & 127;
        float s = byte == 127 ? 0.0f : nvfp4_e4m3_to_f32((uint8_t)byte);
        assert_f32_bits(out[i], s * nvfp4_e2m1_to_f32((uint8_t)((i % 16 + shift + group) & 15)));
      }
    }
  }
}

static void golden_gguf_agrees(void **state) {
  (void)state;
  static const char *const files[] = {"llama-modelopt-nvfp4", "llama-quantize-nvfp4"};
  static const char *const names[] = {"blk.0.attn_q.weight", "blk.0.attn_k.weight", "blk.0.ffn_down.weight"};
  for (int f = 0; f < 2; f++) {
    char path[256];
    nvfp4_checkpoint *gguf = NULL, *expected = NULL;
    nvfp4_reason reason = {0};
    snprintf(path, sizeof path, GOLDEN "gguf_mlx/%s.gguf", files[f]);
    assert_ok(nvfp4_checkpoint_open(path, 0, &gguf, &reason), reason);
    snprintf(path, sizeof path, GOLDEN "gguf_mlx/%s.expected.safetensors", files[f]);
    assert_ok(nvfp4_checkpoint_open(path, 0, &expected, &reason), reason);
    for (int n = 0; n < 3; n++) {
      const nvfp4_tensor *tensor = nvfp4_checkpoint_find(gguf, names[n]);
      const nvfp4_tensor *values = golden_tensor(expected, names[n], "deq_without_scale");
      assert_non_null(tensor);
      assert_int_equal(tensor->dtype, NVFP4_DTYPE_GGUF_NVFP4);
      assert_int_equal(tensor->rank, 2);
      assert_int_equal(tensor->shape[0], values->shape[0]);
      assert_int_equal(tensor->shape[1], values->shape[1]);
      uint64_t count = (uint64_t)(tensor->shape[0] * tensor->shape[1]);
      float *out = malloc(count * sizeof *out);
      assert_non_null(out);
      assert_ok(nvfp4_tensor_to_f32(tensor, 0, count, out, &reason), reason);
      for (uint64_t i = 0; i < count; i++) {
        float value;
        memcpy(&value, (const char *)values->data + i * sizeof value, sizeof value);
        assert_true(out[i] == value); /* zeros may differ in sign */
      }
      free(out);
    }
    nvfp4_checkpoint_close(gguf);
    nvfp4_checkpoint_close(expected);
  }
}

static void assert_refused(const nvfp4_tensor *tensor, uint64_t first, uint64_t count, nvfp4_status status, const char *phrase) {
  float out[128];
  nvfp4_reason reason = {0};
  assert_int_equal(nvfp4_tensor_to_f32(tensor, first, count, out, &reason), status);
  if (strstr(reason.text, phrase) == NULL) {
    fail_msg("\"%s\" lacks \"%s\"", reason.text, phrase);
  }
}

static void bad_requests_are_refused(void **state) {
  (void)state;
  uint8_t data[256] = {0};
  float out[1];
  nvfp4_tensor tensor = vector(NVFP4_DTYPE_F32, 8, data);
  assert_refused(&tensor, 0, 9, NVFP4_E_ARG, "it has 8");
  assert_refused(&tensor, 9, 0, NVFP4_E_ARG, "it has 8");
  assert_refused(&tensor, 4, UINT64_MAX, NVFP4_E_ARG, "it has 8");
  assert_int_equal(nvfp4_tensor_to_f32(&tensor, 8, 0, NULL, NULL), NVFP4_OK);
  assert_int_equal(nvfp4_tensor_to_f32(&tensor, 0, 1, NULL, NULL), NVFP4_E_ARG);
  assert_int_equal(nvfp4_tensor_to_f32(NULL, 0, 1, out, NULL), NVFP4_E_ARG);
  tensor.bytes = 31;
  assert_refused(&tensor, 0, 1, NVFP4_E_ARG, "31 bytes");
  tensor = vector(NVFP4_DTYPE_GGUF_NVFP4, 128, data);
  assert_refused(&tensor, 32, 64, NVFP4_E_ARG, "multiples of 64");
  assert_refused(&tensor, 0, 16, NVFP4_E_ARG, "multiples of 64");
  tensor = vector(NVFP4_DTYPE_U8, 8, data);
  assert_refused(&tensor, 0, 8, NVFP4_E_DTYPE, "as stored");
  tensor.dtype = NVFP4_DTYPE_OTHER;
  assert_refused(&tensor, 0, 8, NVFP4_E_DTYPE, "\"t\"");
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(sizes_of_types), cmocka_unit_test(plain_types),        cmocka_unit_test(ggml_blocks),
      cmocka_unit_test(nvfp4_blocks),   cmocka_unit_test(golden_gguf_agrees), cmocka_unit_test(bad_requests_are_refused),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
