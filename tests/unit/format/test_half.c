/* SPDX-License-Identifier: Apache-2.0 */
#include "format/half.h"

#include <math.h>
#include <stdbool.h>

#include "support.h"

/* The two formats by their definitions: 1 + exponent + fraction bits, IEEE 754. */
typedef struct half_kind {
  nvfp4_dtype dtype;
  int fraction_bits, bias;
  uint32_t infinity;
  float (*to)(uint16_t);
  uint16_t (*from)(float);
  const char *golden;
} half_kind;

static const half_kind kinds[2] = {
    {NVFP4_DTYPE_BF16, 7, 127, 0x7F80, nvfp4_bf16_to_f32, nvfp4_bf16_from_f32, "to_bf16"},
    {NVFP4_DTYPE_F16, 10, 15, 0x7C00, nvfp4_f16_to_f32, nvfp4_f16_from_f32, "to_f16"},
};

/* A magnitude; infinity stands for the next power of two, so that the middle below it is where overflow begins. */
static double definition(const half_kind *kind, uint32_t magnitude) {
  int exponent = (int)(magnitude >> kind->fraction_bits);
  int fraction = (int)(magnitude & ((1u << kind->fraction_bits) - 1));
  int one = 1 << kind->fraction_bits;
  return exponent == 0 ? ldexp(fraction, 1 - kind->bias - kind->fraction_bits)
                       : ldexp(one + fraction, exponent - kind->bias - kind->fraction_bits);
}

static void decodes_every_value(void **state) {
  (void)state;
  for (int which = 0; which < 2; ++which) {
    const half_kind *kind = &kinds[which];
    for (uint32_t bits = 0; bits < 65536; ++bits) {
      uint32_t magnitude = bits & 0x7FFF;
      float value = kind->to((uint16_t)bits);
      assert_int_equal(signbit(value) != 0, bits >> 15);
      if (magnitude > kind->infinity) {
        assert_true(isnan(value));
        assert_int_equal(kind->from(value), bits | 1u << (kind->fraction_bits - 1));
        continue;
      }
      assert_f32_bits(fabsf(value), magnitude == kind->infinity ? INFINITY : (float)definition(kind, magnitude));
      assert_int_equal(kind->from(value), bits);
    }
  }
}

/* Around every value and every middle of two. */
static void rounds_to_nearest_even(void **state) {
  (void)state;
  for (int which = 0; which < 2; ++which) {
    const half_kind *kind = &kinds[which];
    for (uint32_t low = 0; low < kind->infinity; ++low) {
      double middle = 0.5 * (definition(kind, low) + definition(kind, low + 1));
      uint32_t tie = f32_bits((float)middle);
      assert_true((double)f32_from_bits(tie) == middle);
      for (int32_t ulps = -4; ulps <= 4; ++ulps) {
        uint32_t want = ulps < 0 ? low : ulps > 0 ? low + 1 : low + low % 2;
        float value = f32_from_bits((uint32_t)((int32_t)tie + ulps));
        if (kind->from(value) != want || kind->from(-value) != (want | 0x8000)) {
          fail_msg("%a: 0x%04X, want 0x%04X", (double)value, kind->from(value), want);
        }
      }
    }
  }
}

static void specials(void **state) {
  (void)state;
  assert_int_equal(nvfp4_f16_from_f32(65504.0f), 0x7BFF);
  assert_int_equal(nvfp4_f16_from_f32(65520.0f), 0x7C00);
  assert_int_equal(nvfp4_f16_from_f32(-1e30f), 0xFC00);
  assert_int_equal(nvfp4_f16_from_f32(INFINITY), 0x7C00);
  assert_int_equal(nvfp4_bf16_from_f32(f32_from_bits(0x7F7FFFFFu)), 0x7F80);
  assert_int_equal(nvfp4_f16_from_f32(f32_from_bits(1)), 0);
  assert_int_equal(nvfp4_f16_from_f32(f32_from_bits(0x80000001u)), 0x8000);
  for (int bit = 0; bit < 23; ++bit) { /* also NaNs whose payload lies below the kept bits */
    for (uint32_t sign = 0; sign < 2; ++sign) {
      float nan = f32_from_bits(sign << 31 | 0x7F800000u | 1u << bit);
      assert_true((nvfp4_f16_from_f32(nan) & 0x7E00) == 0x7E00);
      assert_true((nvfp4_bf16_from_f32(nan) & 0x7FC0) == 0x7FC0);
      assert_int_equal(nvfp4_f16_from_f32(nan) >> 15, sign);
      assert_int_equal(nvfp4_bf16_from_f32(nan) >> 15, sign);
    }
  }
}

/* The loops are those functions, at any alignment and length. */
static void arrays(void **state) {
  (void)state;
  static uint8_t half[2 * 65536 + 3], back[2 * 65536 + 3], single[4 * 65536 + 3];
  for (int which = 0; which < 2; ++which) {
    const half_kind *kind = &kinds[which];
    for (size_t shift = 0; shift < 2; ++shift) {
      int64_t count = 65536 - (int64_t)shift;
      for (uint32_t i = 0; i < 65536; ++i) {
        uint16_t bits = (uint16_t)i;
        memcpy(half + shift + 2 * i, &bits, sizeof bits);
      }
      memset(single, 0xA5, sizeof single);
      memset(back, 0xA5, sizeof back);
      float *unaligned = (float *)(void *)(single + shift);
      nvfp4_to_f32(half + shift, kind->dtype, unaligned, count);
      nvfp4_from_f32(unaligned, kind->dtype, back + shift, count);
      for (int64_t i = 0; i < count; ++i) {
        uint32_t got;
        uint16_t again;
        memcpy(&got, single + shift + 4 * i, sizeof got);
        memcpy(&again, back + shift + 2 * i, sizeof again);
        assert_int_equal(got, f32_bits(kind->to((uint16_t)i)));
        assert_int_equal(again, kind->from(f32_from_bits(got)));
      }
      assert_int_equal(single[shift + 4 * (size_t)count], 0xA5);
      assert_int_equal(back[shift + 2 * (size_t)count], 0xA5);
    }
  }
  const float plain[3] = {1.0f, -2.5f, 3.0f};
  float copy[3];
  nvfp4_to_f32(plain, NVFP4_DTYPE_F32, copy, 3);
  assert_memory_equal(copy, plain, sizeof plain);
  memset(copy, 0, sizeof copy);
  nvfp4_from_f32(plain, NVFP4_DTYPE_F32, copy, 3);
  assert_memory_equal(copy, plain, sizeof plain);
}

static void golden(void **state) {
  (void)state;
  nvfp4_checkpoint *tables;
  nvfp4_reason reason;
  assert_ok(nvfp4_checkpoint_open(GOLDEN "tables/encode.safetensors", 0, &tables, &reason), reason);
  const nvfp4_tensor *in = golden_tensor(tables, "f32", "in");
  for (int which = 0; which < 2; ++which) {
    const nvfp4_tensor *out = golden_tensor(tables, "f32", kinds[which].golden);
    for (int64_t i = 0; i < in->shape[0]; ++i) {
      float value;
      int32_t want;
      memcpy(&value, (const char *)in->data + 4 * i, sizeof value);
      memcpy(&want, (const char *)out->data + 4 * i, sizeof want);
      uint32_t magnitude = (uint32_t)want & 0x7FFF;
      if (magnitude > kinds[which].infinity) { /* a NaN's payload is each library's own */
        assert_true((kinds[which].from(value) & 0x7FFF) > kinds[which].infinity);
      } else {
        assert_int_equal(kinds[which].from(value), want & 0xFFFF);
      }
    }
  }
  nvfp4_checkpoint_close(tables);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(decodes_every_value),
      cmocka_unit_test(rounds_to_nearest_even),
      cmocka_unit_test(specials),
      cmocka_unit_test(arrays),
      cmocka_unit_test(golden),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
