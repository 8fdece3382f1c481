/* SPDX-License-Identifier: Apache-2.0 */
#include "format/e4m3.h"

#include <math.h>

#include "support.h"

/* The definition: sign, four exponent bits with bias 7, three fraction bits; 0x7F is NaN. */
static double definition(int byte) {
  int exponent = byte >> 3 & 15, fraction = byte & 7;
  double magnitude = exponent == 0 ? ldexp(fraction, -9) : ldexp(8 + fraction, exponent - 10);
  return (byte & 0x80) != 0 ? -magnitude : magnitude;
}

static int nearest(double magnitude) {
  int best = 0;
  magnitude = fmin(magnitude, 448); /* saturates */
  for (int code = 1; code < 0x7F; ++code) {
    double now = fabs(magnitude - definition(code)), before = fabs(magnitude - definition(best));
    if (now < before || (now == before && code % 2 == 0)) {
      best = code;
    }
  }
  return best;
}

static void check_encode(float value) {
  int want = nearest(fabs((double)value)) | (signbit(value) ? 0x80 : 0);
  if (nvfp4_e4m3_from_f32(value) != want) {
    fail_msg("%a: 0x%02X, want 0x%02X", (double)value, nvfp4_e4m3_from_f32(value), want);
  }
}

static void values(void **state) {
  (void)state;
  for (int byte = 0; byte < 256; ++byte) {
    bool nan = (byte & 0x7F) == 0x7F;
    assert_int_equal(nvfp4_e4m3_is_nan((uint8_t)byte), nan);
    if (nan) {
      assert_true(isnan(nvfp4_e4m3_to_f32((uint8_t)byte)));
    } else {
      assert_f32_bits(nvfp4_e4m3_to_f32((uint8_t)byte), (float)definition(byte));
      assert_int_equal(nvfp4_e4m3_from_f32((float)definition(byte)), byte);
    }
  }
}

static void rounds_to_nearest_even(void **state) {
  (void)state;
  for (uint32_t top = 0; top < 65536; ++top) { /* every bf16 */
    if ((top & 0x7FFF) < 0x7F80) {
      check_encode(f32_from_bits(top << 16));
    }
  }
  for (int code = 0; code < 0x7E; ++code) {
    uint32_t tie = f32_bits((float)(0.5 * (definition(code) + definition(code + 1))));
    for (uint32_t bits = tie - 200; bits <= tie + 200; ++bits) {
      check_encode(f32_from_bits(bits));
      check_encode(-f32_from_bits(bits));
    }
    assert_int_equal(nvfp4_e4m3_from_f32(f32_from_bits(tie)), code + code % 2);
  }
}

static void specials(void **state) {
  (void)state;
  assert_int_equal(nvfp4_e4m3_from_f32(-0.0f), 0x80);
  assert_int_equal(nvfp4_e4m3_from_f32(464.0f), 0x7E);
  assert_int_equal(nvfp4_e4m3_from_f32(3.4e38f), 0x7E);
  assert_int_equal(nvfp4_e4m3_from_f32(INFINITY), 0x7E);
  assert_int_equal(nvfp4_e4m3_from_f32(-INFINITY), 0xFE);
  assert_int_equal(nvfp4_e4m3_from_f32(f32_from_bits(0x7F800001u)), 0x7F);
  assert_int_equal(nvfp4_e4m3_from_f32(f32_from_bits(0xFFC00000u)), 0x7F);
}

/* What the canonical order of additions rests on: the product of two scales and a block's dot is exact in fp32. A dot of 16 products of E2M1 values
 * is a multiple of 1/4 of at most 16 * 36. */
static void block_terms_are_exact(void **state) {
  (void)state;
  int64_t inexact = 0;
  for (int a = 1; a < 0x7F; ++a) {
    for (int b = a; b < 0x7F; ++b) {
      float scales = nvfp4_e4m3_to_f32((uint8_t)a) * nvfp4_e4m3_to_f32((uint8_t)b);
      inexact += (double)scales != definition(a) * definition(b);
      for (int quarters = -2304; quarters <= 2304; ++quarters) {
        float term = scales * (0.25f * (float)quarters);
        inexact += (double)term != definition(a) * definition(b) * (0.25 * quarters);
      }
    }
  }
  assert_int_equal(inexact, 0);
}

static void golden(void **state) {
  (void)state;
  nvfp4_checkpoint *tables;
  nvfp4_reason reason;
  assert_ok(nvfp4_checkpoint_open(GOLDEN "tables/encode.safetensors", 0, &tables, &reason), reason);
  const nvfp4_tensor *in = golden_tensor(tables, "e4m3", "in");
  const nvfp4_tensor *code = golden_tensor(tables, "e4m3", "code_saturating");
  const nvfp4_tensor *decode = golden_tensor(tables, "e4m3", "decode");
  assert_int_equal(code->shape[0], in->shape[0]);
  for (int64_t i = 0; i < in->shape[0]; ++i) {
    float value;
    memcpy(&value, (const char *)in->data + 4 * i, sizeof value);
    int want = ((const uint8_t *)code->data)[i];
    assert_int_equal(nvfp4_e4m3_from_f32(value), (want & 0x7F) == 0x7F ? 0x7F : want);
  }
  for (int byte = 0; byte < 256; ++byte) {
    float value;
    memcpy(&value, (const char *)decode->data + 4 * byte, sizeof value);
    if (!nvfp4_e4m3_is_nan((uint8_t)byte)) {
      assert_f32_bits(value, nvfp4_e4m3_to_f32((uint8_t)byte));
    }
  }
  nvfp4_checkpoint_close(tables);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(values),   cmocka_unit_test(rounds_to_nearest_even),
      cmocka_unit_test(specials), cmocka_unit_test(block_terms_are_exact),
      cmocka_unit_test(golden),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
