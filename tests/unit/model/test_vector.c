/* SPDX-License-Identifier: Apache-2.0 */
#include "model/vector.h"

#include <math.h>
#include <stdlib.h>

#include "support.h"

static void weighted_rows(void **state) {
  (void)state;
  enum { ROWS = 7, COUNT = 70, LDB = 199, LDO = 201 };
  test_random random = {9};
  static float a[ROWS * COUNT], b[COUNT * LDB], out[ROWS * LDO];
  for (int i = 0; i < ROWS * COUNT; i++) {
    a[i] = test_random_gauss(&random);
  }
  for (int i = 0; i < COUNT * LDB; i++) {
    b[i] = test_random_gauss(&random);
  }
  for (int64_t length = NVFP4_VECTOR_LANES; length <= 192; length += NVFP4_VECTOR_LANES) {
    for (int64_t count = 0; count <= COUNT; count += 7) {
      int64_t rows = 1 + (count + length) % ROWS;
      nvfp4_weighted_rows(a, COUNT, rows, count, b, LDB, length, out, LDO);
      for (int64_t at = 0; at < rows * length; at++) {
        int64_t r = at / length, i = at % length;
        float sum = 0;
        for (int64_t j = 0; j < count; j++) {
          float product = a[r * COUNT + j] * b[j * LDB + i];
          sum += product;
        }
        assert_f32_bits(out[r * LDO + i], sum);
      }
    }
  }
}

/* 4 units in the last place of fp32: rounding the argument's reduction, the polynomial and its evaluation. */
static void assert_close(float found, double wanted) { assert_true(fabs((double)found - wanted) <= 4 * 0x1p-24 * fabs(wanted)); }

static void softmax(void **state) {
  (void)state;
  test_random random = {11};
  static float x[80], before[80];
  for (int64_t count = 1; count <= 64; count++) {
    double largest = -INFINITY, total = 0;
    for (int64_t i = 0; i < count; i++) {
      before[i] = x[i] = 20 * test_random_gauss(&random);
      largest = fmax(largest, (double)(before[i] * 0.125f));
    }
    float sum = nvfp4_softmax(x, count, 0.125f);
    for (int64_t i = 0; i < count; i++) {
      double wanted = exp((double)(before[i] * 0.125f - (float)largest));
      assert_close(x[i], wanted);
      total += wanted;
    }
    assert_true(fabs((double)sum - total) <= 16 * 0x1p-24 * total);
  }
  /* A score far below the rest has no weight, whatever its distance; a NaN reaches the sum. */
  x[0] = 0;
  x[1] = -1e30f;
  assert_true(nvfp4_softmax(x, 2, 1) == 1.0f && x[1] < 1e-37f);
  x[0] = 0;
  x[1] = NAN;
  assert_true(isnan(nvfp4_softmax(x, 2, 1)));
}

/* Against double: terms of fp32 are 4 units off at most (above), the subtraction before them 2^-24 |x - shift|. */
static void sums(void **state) {
  (void)state;
  test_random random = {13};
  static float x[80];
  static uint16_t code[80];
  for (int64_t count = 1; count <= 70; count++) {
    int64_t top = 0, found;
    for (int64_t i = 0; i < count; i++) {
      x[i] = 4 * test_random_gauss(&random);
      code[i] = (uint16_t)(test_random_u64(&random) >> 48);
      top = x[i] > x[top] ? i : top;
    }
    x[count - 1] = x[top]; /* a second largest: the first place counts */
    assert_f32_bits(nvfp4_largest(x, count, &found), x[top]);
    assert_int_equal(found, top);
    double wanted = 0, divergence = 0, absolute = 0, log_sum = 0.75;
    for (int64_t i = 0; i < count; i++) {
      wanted += exp((double)x[i] - (double)x[top]);
      float log_p = (float)code[i] * 0x1p-12f + -17.0f; /* -17 to -1, exact */
      double p = log_p > -16.0f ? exp((double)log_p) : 0, term = (double)log_p - ((double)x[i] - (double)x[top] - log_sum);
      divergence += p * term;
      absolute += p * (fabs((double)log_p) + fabs((double)x[i] - (double)x[top]) + log_sum);
    }
    assert_true(fabs(nvfp4_exp_sum(x, count, x[top]) - wanted) <= 8 * 0x1p-24 * wanted);
    assert_true(fabs(nvfp4_divergence(code, -17.0f, 0x1p-12f, x, x[top], log_sum, count) - divergence) <= 8 * 0x1p-24 * absolute);
  }
  x[1] = NAN;
  assert_true(isnan(nvfp4_exp_sum(x, 3, 0)));
}

static void swiglu(void **state) {
  (void)state;
  test_random random = {12};
  static float gate[40], up[40], before[40];
  for (int64_t count = 0; count <= 38; count++) {
    for (int i = 0; i < 40; i++) {
      before[i] = gate[i] = i == 3 ? -200.0f : i == 5 ? 200.0f : 5 * test_random_gauss(&random);
      up[i] = test_random_gauss(&random);
    }
    nvfp4_swiglu(gate, up, count);
    for (int64_t i = 0; i < 40; i++) {
      double g = (double)before[i];
      if (i >= count) {
        assert_f32_bits(gate[i], before[i]);
      } else if (i == 3) {
        assert_true(fabs((double)gate[i]) < 1e-35);
      } else {
        assert_close(gate[i], g / (1 + exp(-g)) * (double)up[i]);
      }
    }
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(weighted_rows), cmocka_unit_test(softmax), cmocka_unit_test(sums),
                                     cmocka_unit_test(swiglu)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
