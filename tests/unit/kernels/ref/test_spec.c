/* SPDX-License-Identifier: Apache-2.0 */
#include <math.h>

#include "kernels/ref/spec.h"
#include "layer_support.h"

enum { K = 256 };

static void random_row(test_random *random, uint8_t *codes, uint8_t *scales) {
  for (int i = 0; i < K / 2; i++) {
    codes[i] = (uint8_t)(test_random_u64(random) >> 9);
  }
  for (int i = 0; i < K / 16; i++) {
    scales[i] = (uint8_t)(test_random_u64(random) % 0x7F);
  }
}

/* The canonical sum differs from the exact one by the roundings of K/16 - 1 additions: gamma_(K/16-1) times the sum of magnitudes. */
static void test_w4a4_keeps_the_bound(void **state) {
  (void)state;
  test_random random = {7};
  uint8_t xc[K / 2], xs[K / 16], wc[K / 2], ws[K / 16];
  for (int i = 0; i < 2000; i++) {
    random_row(&random, xc, xs);
    random_row(&random, wc, ws);
    uint64_t absolute;
    int64_t exact = nvfp4_oracle_w4a4((nvfp4_spec_row){xc, xs}, (nvfp4_spec_row){wc, ws}, K, &absolute);
    double acc = nvfp4_spec_w4a4((nvfp4_spec_row){xc, xs}, (nvfp4_spec_row){wc, ws}, K);
    double n = K / 16 - 1, bound = n * 0x1p-24 / (1 - n * 0x1p-24) * (double)absolute * 0x1p-20;
    assert_true(fabs(acc - (double)exact * 0x1p-20) <= bound);
  }
}

/* One block has no addition that rounds: the canonical result is exact. */
static void test_one_block_is_exact(void **state) {
  (void)state;
  test_random random = {8};
  uint8_t xc[K / 2], xs[K / 16], wc[K / 2], ws[K / 16];
  for (int i = 0; i < 20000; i++) {
    random_row(&random, xc, xs);
    random_row(&random, wc, ws);
    int64_t exact = nvfp4_oracle_w4a4((nvfp4_spec_row){xc, xs}, (nvfp4_spec_row){wc, ws}, 16, NULL);
    assert_true((double)nvfp4_spec_w4a4((nvfp4_spec_row){xc, xs}, (nvfp4_spec_row){wc, ws}, 16) == (double)exact * 0x1p-20);
  }
}

/* The oracle's largest sum: all codes 6, all scales 448, K = 2^20 / 64 here; the term times 2^16 blocks stays below 2^63. */
static void test_oracle_range(void **state) {
  (void)state;
  uint8_t codes[K / 2], scales[K / 16];
  memset(codes, 0x77, sizeof codes);
  memset(scales, 0x7E, sizeof scales);
  int64_t sum = nvfp4_oracle_w4a4((nvfp4_spec_row){codes, scales}, (nvfp4_spec_row){codes, scales}, K, NULL);
  assert_true(sum == (int64_t)16 * 16 * 36 * 448 * 448 * (1 << 20));
  assert_true((double)(sum / (K / 16)) * 65536.0 < 0x1p63);
}

static void test_w4a16_order(void **state) {
  (void)state;
  /* 2^24 + 1 rounds to 2^24 in fp32: an ascending order loses the ones, a descending one would keep them. */
  float x[16] = {0x1p24f, 1, 1};
  uint8_t codes[8] = {0x22, 0x02}, scale = 0x38; /* w = 1, 1, 1; scale 1 */
  assert_f32_bits(nvfp4_spec_w4a16(x, (nvfp4_spec_row){codes, &scale}, 16), 0x1p24f);
}

static void test_finish(void **state) {
  (void)state;
  float bias = 1.0f;
  assert_f32_bits(nvfp4_spec_finish(3.0f, 0.1f, NULL), 3.0f * 0.1f);
  assert_f32_bits(nvfp4_spec_finish(3.0f, 0.1f, &bias), fmaf(0.1f, 3.0f, 1.0f));
  assert_int_equal(f32_bits(nvfp4_spec_finish(f32_from_bits(0xFFC00001u), 1.0f, NULL)), 0x7FC00000u);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_w4a4_keeps_the_bound),
      cmocka_unit_test(test_one_block_is_exact),
      cmocka_unit_test(test_oracle_range),
      cmocka_unit_test(test_w4a16_order),
      cmocka_unit_test(test_finish),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
