/* SPDX-License-Identifier: Apache-2.0 */
#include "format/e2m1.h"

#include <math.h>

#include "support.h"

/* The definition: sign, two exponent bits with bias 1, one fraction bit. */
static double definition(int code) {
  int exponent = code >> 1 & 3, fraction = code & 1;
  double magnitude = exponent == 0 ? 0.5 * fraction : ldexp(1 + 0.5 * fraction, exponent - 1);
  return (code & 8) != 0 ? -magnitude : magnitude;
}

static int nearest(double magnitude) {
  int best = 0;
  magnitude = fmin(magnitude, 6); /* saturates */
  for (int code = 1; code < 8; ++code) {
    double now = fabs(magnitude - definition(code)), before = fabs(magnitude - definition(best));
    if (now < before || (now == before && code % 2 == 0)) {
      best = code;
    }
  }
  return best;
}

static void check_encode(float value) {
  int want = nearest(fabs((double)value)) | (signbit(value) ? 8 : 0);
  if (nvfp4_e2m1_from_f32(value) != want) {
    fail_msg("%a: code %d, want %d", (double)value, nvfp4_e2m1_from_f32(value), want);
  }
}

static void values(void **state) {
  (void)state;
  for (int code = 0; code < 16; ++code) {
    assert_f32_bits(nvfp4_e2m1_to_f32((uint8_t)code), (float)definition(code));
    assert_int_equal(nvfp4_e2m1_doubled((uint8_t)code), (int)(2 * definition(code)));
    assert_int_equal(nvfp4_e2m1_from_f32((float)definition(code)), code);
  }
}

static void rounds_to_nearest_even(void **state) {
  (void)state;
  for (uint32_t top = 0; top < 65536; ++top) { /* every bf16, and what lies just beside it */
    for (uint32_t low = 0; low < 3; ++low) {
      uint32_t bits = (top << 16) + low - 1;
      if ((bits & 0x7FFFFFFFu) <= 0x7F800000u - 1) {
        check_encode(f32_from_bits(bits));
      }
    }
  }
  for (int code = 0; code < 7; ++code) {
    uint32_t tie = f32_bits((float)(0.5 * (definition(code) + definition(code + 1))));
    for (uint32_t bits = tie - 5000; bits <= tie + 5000; ++bits) {
      check_encode(f32_from_bits(bits));
      check_encode(-f32_from_bits(bits));
    }
    assert_int_equal(nvfp4_e2m1_from_f32(f32_from_bits(tie)), code + code % 2);
  }
}

static void specials(void **state) {
  (void)state;
  assert_int_equal(nvfp4_e2m1_from_f32(0.0f), 0);
  assert_int_equal(nvfp4_e2m1_from_f32(-0.0f), 8);
  assert_int_equal(nvfp4_e2m1_from_f32(INFINITY), 7);
  assert_int_equal(nvfp4_e2m1_from_f32(-INFINITY), 15);
  assert_int_equal(nvfp4_e2m1_from_f32(f32_from_bits(0x7FC00000u)), 7);
  assert_int_equal(nvfp4_e2m1_from_f32(f32_from_bits(0xFFC00000u)), 15);
}

static void packs(void **state) {
  (void)state;
  uint8_t packed[256], codes[512], again[256];
  float out[512];
  for (int i = 0; i < 256; ++i) {
    packed[i] = (uint8_t)i;
    codes[2 * i] = (uint8_t)(i & 15);
    codes[2 * i + 1] = (uint8_t)(i >> 4);
  }
  nvfp4_e2m1_pack(codes, 512, again);
  assert_memory_equal(again, packed, sizeof packed);
  nvfp4_e2m1_unpack(packed, 512, out);
  for (int i = 0; i < 512; ++i) {
    assert_f32_bits(out[i], (float)definition(codes[i]));
  }
}

static void golden(void **state) {
  (void)state;
  nvfp4_checkpoint *tables;
  nvfp4_reason reason;
  assert_ok(nvfp4_checkpoint_open(GOLDEN "tables/encode.safetensors", 0, &tables, &reason), reason);
  const nvfp4_tensor *in = golden_tensor(tables, "e2m1", "in");
  const nvfp4_tensor *code = golden_tensor(tables, "e2m1", "code");
  const nvfp4_tensor *decode = golden_tensor(tables, "e2m1", "decode");
  assert_int_equal(code->shape[0], in->shape[0]);
  for (int64_t i = 0; i < in->shape[0]; ++i) {
    float value;
    memcpy(&value, (const char *)in->data + 4 * i, sizeof value);
    assert_int_equal(nvfp4_e2m1_from_f32(value), ((const uint8_t *)code->data)[i]);
  }
  assert_int_equal(decode->bytes, sizeof nvfp4_e2m1_table);
  assert_memory_equal(decode->data, nvfp4_e2m1_table, sizeof nvfp4_e2m1_table);
  nvfp4_checkpoint_close(tables);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(values), cmocka_unit_test(rounds_to_nearest_even), cmocka_unit_test(specials), cmocka_unit_test(packs),
      cmocka_unit_test(golden),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
