/* SPDX-License-Identifier: Apache-2.0 */
#include "format/activation.h"

#include <math.h>
#include <stdlib.h>

#include "format/e2m1.h"
#include "format/e4m3.h"
#include "format/half.h"
#include "support.h"

static uint8_t code_of(const uint8_t *codes, int64_t i) { return codes[i / 2] >> (i % 2 * 4) & 15; }

/* 0x0 and 0x8 are equal: tools differ in the sign of a zero. */
static uint8_t without_zero_sign(uint8_t code) { return code == 8 ? 0 : code; }

/* The header's formula, an operation a statement. */
static void specification(const float x[16], float s_a, uint8_t codes[16], uint8_t *scale) {
  float amax = 0;
  bool nan = false;
  for (int i = 0; i < 16; ++i) {
    nan = nan || isnan(x[i]);
    amax = fabsf(x[i]) > amax ? fabsf(x[i]) : amax;
  }
  memset(codes, 0, 16);
  *scale = 0x7F;
  if (nan) {
    return;
  }
  volatile float t = amax * (1.0f / 6.0f);
  t = s_a * t;
  t = t > 448.0f ? 448.0f : t;
  *scale = nvfp4_e4m3_from_f32(t);
  volatile float o = 1.0f / s_a;
  o = nvfp4_e4m3_to_f32(*scale) * o;
  o = 1.0f / o;
  if (*scale == 0) {
    o = 0;
  }
  for (int i = 0; i < 16; ++i) {
    volatile float product = x[i] * o;
    codes[i] = nvfp4_e2m1_from_f32(product);
  }
}

static void check_row(const float *x, int64_t k, float s_a) {
  uint8_t *codes = malloc((size_t)k / 2), *scales = malloc((size_t)k / 16);
  nvfp4_quantise_activation_row(x, k, s_a, codes, scales);
  for (int64_t block = 0; block < k / 16; ++block) {
    uint8_t want[16], scale;
    specification(x + block * 16, s_a, want, &scale);
    assert_int_equal(scales[block], scale);
    for (int i = 0; i < 16; ++i) {
      assert_int_equal(code_of(codes, block * 16 + i), want[i]);
    }
  }
  free(codes);
  free(scales);
}

static void factor(void **state) {
  (void)state;
  assert_f32_bits(nvfp4_activation_factor((nvfp4_global){0.003f, false}), 1.0f / 0.003f);
  assert_f32_bits(nvfp4_activation_factor((nvfp4_global){757.85f, true}), 757.85f);
}

static void follows_the_specification(void **state) {
  (void)state;
  test_random random = {1};
  enum { K = 4096 };
  static float x[K];
  for (int round = 0; round < 60; ++round) {
    float amax = 0;
    float spread = ldexpf(1, (int)(test_random_u64(&random) % 60) - 30);
    for (int i = 0; i < K; ++i) {
      x[i] = test_random_gauss(&random) * spread;
      if (round % 3 == 1) { /* blocks of very different sizes: subnormal scales, scales that vanish, saturation */
        x[i] *= ldexpf(1, i / 16 % 40 - 20);
      } else if (round % 3 == 2) {
        x[i] = nvfp4_bf16_to_f32(nvfp4_bf16_from_f32(x[i]));
      }
      amax = fmaxf(amax, fabsf(x[i]));
    }
    check_row(x, K, 2688.0f / amax);
    check_row(x, K, 2688.0f / spread);
    check_row(x, 16 * (1 + round), 1.0f / (amax / 2688.0f));
  }
}

/* At the edges between two scales the order of operations shows. */
static void scales_at_the_edges(void **state) {
  (void)state;
  test_random random = {2};
  for (int scale = 0; scale < 0x7E; ++scale) {
    float middle = 0.5f * (nvfp4_e4m3_to_f32((uint8_t)scale) + nvfp4_e4m3_to_f32((uint8_t)(scale + 1)));
    for (int round = 0; round < 20; ++round) {
      float s_a = 1 + 1000 * test_random_uniform(&random);
      uint32_t amax = f32_bits(middle * 6 / s_a);
      for (uint32_t bits = amax - 4; bits <= amax + 4; ++bits) {
        float x[16] = {f32_from_bits(bits)};
        check_row(x, 16, s_a);
      }
    }
  }
}

static void specials(void **state) {
  (void)state;
  float x[64] = {0};
  uint8_t codes[32], scales[4];
  x[0] = -0.0f;
  x[16 + 3] = NAN;
  x[16 + 4] = INFINITY;
  x[32 + 1] = -INFINITY;
  x[32 + 2] = 1.0f;
  x[48 + 5] = -1e-20f; /* its scale vanishes */
  nvfp4_quantise_activation_row(x, 64, 1.0f, codes, scales);
  const uint8_t want_scales[4] = {0x00, 0x7F, 0x7E, 0x00};
  assert_memory_equal(scales, want_scales, 4);
  for (int i = 0; i < 64; ++i) {
    int want = i == 0 || i == 48 + 5 ? 8 : i == 32 + 1 ? 15 : 0; /* 1/448 is below 0.25 */
    assert_int_equal(code_of(codes, i), want);
  }
  /* A NaN of either sign, at each of the 16 places. */
  for (int i = 0; i < 32; ++i) {
    float block[16] = {1, 2, 3, 4, 5, 6};
    block[i % 16] = f32_from_bits(i < 16 ? 0x7F800001u : 0xFFC00000u);
    nvfp4_quantise_activation_row(block, 16, 100.0f, codes, scales);
    assert_int_equal(scales[0], 0x7F);
    for (int j = 0; j < 16; ++j) {
      assert_int_equal(code_of(codes, j), 0);
    }
  }
}

static void golden(void **state) {
  (void)state;
  static const char *const cases[] = {"randn_bf16", "randn_f16", "randn_f32", "overflow", "sa_one",        "tiny",
                                      "zeros",      "inf",       "huge",      "ties",     "scale_ties_f32"};
  nvfp4_checkpoint *tables;
  nvfp4_reason reason;
  assert_ok(nvfp4_checkpoint_open(GOLDEN "tables/scaled_fp4_quant.safetensors", 0, &tables, &reason), reason);
  for (size_t c = 0; c < sizeof cases / sizeof *cases; ++c) {
    const nvfp4_tensor *x = golden_tensor(tables, cases[c], "x");
    const nvfp4_tensor *want_codes = golden_tensor(tables, cases[c], "codes");
    const nvfp4_tensor *want_scales = golden_tensor(tables, cases[c], "scale");
    int64_t rows = x->shape[0], k = x->shape[1];
    size_t count = (size_t)(rows * k);
    float s_a, *values = malloc(count * 4);
    uint8_t *codes = malloc(count / 2), *scales = malloc(count / 16);
    memcpy(&s_a, golden_tensor(tables, cases[c], "s_a")->data, sizeof s_a);
    nvfp4_to_f32(x->data, x->dtype, values, rows * k);
    for (int64_t row = 0; row < rows; ++row) {
      nvfp4_quantise_activation_row(values + row * k, k, s_a, codes + row * k / 2, scales + row * k / 16);
    }
    assert_int_equal(want_scales->bytes, count / 16);
    assert_memory_equal(scales, want_scales->data, count / 16);
    for (int64_t i = 0; i < rows * k; ++i) {
      if (without_zero_sign(code_of(codes, i)) != without_zero_sign(code_of(want_codes->data, i))) {
        fail_msg("%s, element %d: code %d, want %d", cases[c], (int)i, code_of(codes, i), code_of(want_codes->data, i));
      }
    }
    free(values);
    free(codes);
    free(scales);
  }
  nvfp4_checkpoint_close(tables);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(factor),
      cmocka_unit_test(follows_the_specification),
      cmocka_unit_test(scales_at_the_edges),
      cmocka_unit_test(specials),
      cmocka_unit_test(golden),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
