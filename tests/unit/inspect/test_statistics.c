/* SPDX-License-Identifier: Apache-2.0 */
#include "inspect/statistics.h"

#include <math.h>
#include <stdlib.h>

#include "format/e2m1.h"
#include "format/e4m3.h"
#include "format/scale_layout.h"
#include "support.h"

enum { N = 1500, K = 208, BLOCKS = K / NVFP4_BLOCK, CODES_STRIDE = K / 2 + 3, SCALES_STRIDE = BLOCKS + 2 };

static uint8_t codes[N * CODES_STRIDE], scales[N * SCALES_STRIDE];

static nvfp4_weights weights_of(int64_t n) {
  return (nvfp4_weights){.struct_size = sizeof(nvfp4_weights),
                         .n = n,
                         .k = K,
                         .codes = codes,
                         .codes_stride_bytes = CODES_STRIDE,
                         .scales = scales,
                         .scales_stride_bytes = SCALES_STRIDE};
}

static float code_at(int64_t n, int64_t k) { return nvfp4_e2m1_to_f32((uint8_t)(codes[n * CODES_STRIDE + k / 2] >> (k % 2 * 4) & 15)); }

/* All kinds of blocks: of zeros of both signs, of small codes, any; scales of all bytes. */
static void fill(void) {
  test_random random = {31};
  for (size_t i = 0; i < sizeof scales; i++) {
    scales[i] = (uint8_t)test_random_u64(&random);
  }
  for (int64_t n = 0; n < N; n++) {
    for (int64_t b = 0; b < BLOCKS; b++) {
      uint8_t mask = (uint8_t[]){0x88, 0x99, 0xBB, 0xFF, 0xEE}[test_random_u64(&random) % 5];
      for (int j = 0; j < 8; j++) {
        codes[n * CODES_STRIDE + 8 * b + j] = (uint8_t)test_random_u64(&random) & mask;
      }
      if (b == 3) {
        codes[n * CODES_STRIDE + 8 * b + n % 8] |= 0x60; /* 4 or 6 is the largest */
        scales[n * SCALES_STRIDE + b] &= n % 3 == 0 ? 0x80 : 0xFF;
      }
    }
  }
}

static void counts_blocks(void **state) {
  (void)state;
  nvfp4_reason reason = {0};
  nvfp4_threads *threads;
  nvfp4_layer_inspection found = {0}, want = {0};
  const nvfp4_weights weights = weights_of(N);
  fill();
  for (int64_t n = 0; n < N; n++) {
    for (int64_t b = 0; b < BLOCKS; b++) {
      float largest = 0;
      for (int64_t k = 16 * b; k < 16 * b + 16; k++) {
        largest = fmaxf(largest, fabsf(code_at(n, k)));
      }
      uint8_t scale = scales[n * SCALES_STRIDE + b];
      bool no_scale = nvfp4_e4m3_to_f32(scale) == 0;
      want.blocks++;
      want.scales[scale]++;
      want.largest_6 += largest == 6;
      want.largest_4 += largest == 4;
      want.dead += largest == 0 || no_scale;
      want.lost += largest != 0 && no_scale;
    }
  }
  assert_true(want.dead > want.lost && want.lost > 0 && want.largest_4 > 0 && want.largest_6 > 0);
  for (int count = 1; count <= 3; count++) {
    assert_ok(nvfp4_threads_create(count, NULL, NULL, &threads, &reason), reason);
    nvfp4_count_blocks(threads, &weights, &found);
    nvfp4_threads_destroy(threads);
    assert_memory_equal(&found, &want, sizeof found);
  }
}

/* Sums in double of numbers that are exact in it: they differ by the order of additions at most. */
static void assert_near(double found, double wanted) { assert_true(fabs(found - wanted) <= 1e-12 * fabs(wanted)); }

static void sums_squares(void **state) {
  (void)state;
  static double columns[K], rows[NVFP4_SAMPLED_ROWS], factors[NVFP4_SAMPLED_ROWS], want_columns[K], all_rows[N];
  double largest, want_largest = 0;
  fill();
  for (int64_t n = 1; n <= N; n += 1499) {
    const nvfp4_weights weights = weights_of(n);
    const int64_t step = nvfp4_sample_step(n);
    assert_int_equal(step, n == 1 ? 1 : 3);
    memset(want_columns, 0, sizeof want_columns);
    for (int i = 0; i < NVFP4_SAMPLED_ROWS; i++) {
      factors[i] = 1 + i % 3;
    }
    nvfp4_sum_squares(&weights, factors, columns, rows, &largest);
    for (int64_t r = 0, i = 0; r < n; r += step, i++) {
      double row = 0;
      for (int64_t k = 0; k < K; k++) {
        double scale = (double)nvfp4_e4m3_to_f32(scales[r * SCALES_STRIDE + k / 16]);
        double w = isnan(scale) ? 0 : (double)code_at(r, k) * scale;
        row += w * w;
        want_columns[k] += w * w;
        want_largest = fmax(want_largest, fabs(w) * factors[i]);
      }
      assert_near(rows[i], row);
    }
    for (int64_t k = 0; k < K; k++) {
      assert_near(columns[k], want_columns[k]);
    }
    assert_near(largest, want_largest);
  }
  const nvfp4_weights weights = weights_of(N);
  nvfp4_row_squares(&weights, all_rows); /* up to 64 blocks: all; 4 times the squares */
  for (int64_t i = 0; 3 * i < N; i++) {
    assert_near(all_rows[3 * i], 4 * rows[i]);
  }
}

/* Scales of rows and columns of their own: all is explained in the order that they were made in, and little in another. */
static void explains_scales(void **state) {
  (void)state;
  enum { ROWS = 384, COLUMNS = 12 };
  static uint8_t linear[ROWS * COLUMNS], other[ROWS * COLUMNS];
  test_random random = {37};
  nvfp4_weights weights = {
      .struct_size = sizeof weights, .n = ROWS, .k = COLUMNS * NVFP4_BLOCK, .scales = linear, .scales_stride_bytes = COLUMNS};
  uint8_t row_code[ROWS], column_code[COLUMNS];
  for (int n = 0; n < ROWS; n++) {
    row_code[n] = (uint8_t)(8 * (1 + test_random_u64(&random) % 7)); /* powers of two: whole logarithms */
  }
  for (int b = 0; b < COLUMNS; b++) {
    column_code[b] = (uint8_t)(8 * (test_random_u64(&random) % 8));
  }
  for (int i = 0; i < ROWS * COLUMNS; i++) {
    linear[i] = row_code[i / COLUMNS] + column_code[i % COLUMNS];
  }
  assert_near(nvfp4_explained_variance(&weights, NVFP4_AS_READ), 1);
  assert_true(nvfp4_explained_variance(&weights, NVFP4_UNSWIZZLED) < 0.5);
  assert_true(nvfp4_explained_variance(&weights, NVFP4_SWIZZLED) < 0.5);
  weights.scales = other;
  nvfp4_scales_from_linear(NVFP4_SCALES_128X4, linear, COLUMNS, ROWS, COLUMNS, other);
  assert_near(nvfp4_explained_variance(&weights, NVFP4_UNSWIZZLED), 1);
  assert_true(nvfp4_explained_variance(&weights, NVFP4_AS_READ) < 0.5);
  nvfp4_scales_to_linear(NVFP4_SCALES_128X4, linear, ROWS, COLUMNS, other, COLUMNS);
  assert_near(nvfp4_explained_variance(&weights, NVFP4_SWIZZLED), 1);
  memset(other, 0x38, sizeof other);
  assert_true(nvfp4_explained_variance(&weights, NVFP4_AS_READ) == -1);
  /* By chance: 20 matrices of random scales are all within what is said to be far beyond chance. */
  double mean, deviation;
  nvfp4_explained_by_chance(&weights, &mean, &deviation);
  for (int trial = 0; trial < 20; trial++) {
    for (size_t i = 0; i < sizeof other; i++) {
      other[i] = (uint8_t)(0x30 + test_random_u64(&random) % 32);
    }
    assert_true(fabs(nvfp4_explained_variance(&weights, NVFP4_AS_READ) - mean) < 7 * deviation);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(counts_blocks), cmocka_unit_test(sums_squares), cmocka_unit_test(explains_scales)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
