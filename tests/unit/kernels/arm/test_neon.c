/* SPDX-License-Identifier: Apache-2.0 */
/* src/kernels/arm/neon.h against src/format, exhaustively where a type is small. */
#include "support.h"

#if defined(__aarch64__)
#include <math.h>

#include "format/activation.h"
#include "format/e2m1.h"
#include "format/half.h"
#include "kernels/arm/neon.h"

static void test_scales(void **state) {
  (void)state;
  for (int first = 0; first < 256; first += 16) {
    uint8_t bytes[16];
    float32x4_t values[4];
    float got[16];
    for (int i = 0; i < 16; i++) {
      bytes[i] = (uint8_t)(first + i);
    }
    arm_scales_over_256(bytes, values);
    memcpy(got, values, sizeof got);
    for (int i = 0; i < 16; i++) {
      float want = nvfp4_e4m3_to_f32(bytes[i]);
      if (isnan(want)) {
        assert_true(isnan(got[i]));
      } else {
        assert_f32_bits(got[i] * 256.0f, want);
      }
    }
  }
}

static void test_load_x(void **state) {
  (void)state;
  for (int half = 0; half < 2; half++) {
    nvfp4_dtype dtype = half == 0 ? NVFP4_DTYPE_F16 : NVFP4_DTYPE_BF16;
    for (uint32_t first = 0; first < 65536; first += 16) {
      uint16_t bits[16];
      float32x4_t values[4];
      float want[16], got[16];
      for (uint32_t i = 0; i < 16; i++) {
        bits[i] = (uint16_t)(first + i);
      }
      nvfp4_to_f32(bits, dtype, want, 16);
      arm_load_x(bits, dtype, values);
      memcpy(got, values, sizeof got);
      for (int i = 0; i < 16; i++) {
        if (isnan(want[i])) {
          assert_true(isnan(got[i]));
        } else {
          assert_f32_bits(got[i], want[i]);
        }
      }
    }
  }
}

/* Every 997th float, and the neighbourhoods of all that separate codes. */
static void test_e2m1(void **state) {
  (void)state;
  static const float edges[] = {0.25f, 0.75f, 1.25f, 1.75f, 2.5f, 3.5f, 5.0f, 6.0f};
  for (uint64_t bits = 0; bits < (uint64_t)1 << 32; bits += 997 * 4) {
    float values[4];
    uint32_t got[4];
    for (uint32_t i = 0; i < 4; i++) {
      values[i] = f32_from_bits((uint32_t)bits + i * 997);
    }
    vst1q_u32(got, arm_e2m1_from_f32(vld1q_f32(values)));
    for (int i = 0; i < 4; i++) {
      assert_int_equal(got[i], nvfp4_e2m1_from_f32(values[i]));
    }
  }
  for (size_t i = 0; i < sizeof edges / sizeof edges[0]; i++) {
    for (uint32_t off = 0; off < 5; off++) {
      float value = f32_from_bits(f32_bits(edges[i]) - 2 + off);
      assert_int_equal(vgetq_lane_u32(arm_e2m1_from_f32(vdupq_n_f32(value)), 0), nvfp4_e2m1_from_f32(value));
      assert_int_equal(vgetq_lane_u32(arm_e2m1_from_f32(vdupq_n_f32(-value)), 0), nvfp4_e2m1_from_f32(-value));
    }
  }
}

static void test_quantise_block(void **state) {
  (void)state;
  static const float factors[] = {1.0f, 31.0f, 0x1p-30f, 0x1p40f, 0.0f, 0x1p-149f, 0x1p-127f, INFINITY, NAN, -2.0f};
  static const float rare[] = {0.0f, -0.0f, INFINITY, -INFINITY, NAN, -NAN, 0x1p-149f, 0x1.fffffep127f};
  test_random random = {3};
  for (int round = 0; round < 20000; round++) {
    float x[16], s_a = factors[(round / 4) % 10];
    uint8_t codes[8], got_codes[16], packed[8], scale, got_scale;
    float size = ldexpf(1.0f, (int)(test_random_u64(&random) % 40) - 20);
    for (int i = 0; i < 16; i++) {
      x[i] = test_random_gauss(&random) * size;
    }
    if (round % 4 == 0) {
      x[round / 4 % 16] = rare[test_random_u64(&random) % 8];
    } else if (round % 64 == 1) {
      memset(x, round % 128 == 1 ? 0 : 0x80, sizeof x);
    }
    nvfp4_quantise_activation_row(x, 16, s_a, codes, &scale);
    const float32x4_t in[4] = {vld1q_f32(x), vld1q_f32(x + 4), vld1q_f32(x + 8), vld1q_f32(x + 12)};
    vst1q_u8(got_codes, arm_quantise_block(in, s_a, &got_scale));
    nvfp4_e2m1_pack(got_codes, 16, packed);
    assert_int_equal(got_scale, scale);
    assert_memory_equal(packed, codes, 8);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_scales),
      cmocka_unit_test(test_load_x),
      cmocka_unit_test(test_e2m1),
      cmocka_unit_test(test_quantise_block),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
#else
static void test_needs_aarch64(void **state) {
  (void)state;
  print_message("arm/neon.h: this build is for another processor\n");
  skip();
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_needs_aarch64)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
#endif
