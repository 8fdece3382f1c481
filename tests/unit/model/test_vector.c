/* SPDX-License-Identifier: Apache-2.0 */
#include "model/vector.h"

#include <stdlib.h>

#include "support.h"

enum { MAX_K = 200 };

/* The order that the header promises, term by term. */
static float dot_as_promised(const float *x, const float *w, int64_t k) {
  float lanes[NVFP4_VECTOR_LANES] = {0};
  for (int64_t i = 0; i < k; i++) {
    float product = x[i] * w[i];
    lanes[i % NVFP4_VECTOR_LANES] += product;
  }
  for (int half = NVFP4_VECTOR_LANES / 2; half > 0; half /= 2) {
    for (int i = 0; i < half; i++) {
      lanes[i] += lanes[i + half];
    }
  }
  return lanes[0];
}

static void dot4(void **state) {
  (void)state;
  test_random random = {7};
  static float x[MAX_K + 1], w[4 * MAX_K + 1];
  for (int64_t k = 0; k <= MAX_K; k++) {
    /* Unaligned, too. */
    float *xk = x + k % 2, *wk = w + k / 2 % 2;
    for (int64_t i = 0; i < k; i++) {
      xk[i] = test_random_gauss(&random);
    }
    for (int64_t i = 0; i < 4 * k; i++) {
      wk[i] = test_random_gauss(&random);
    }
    float out[4];
    nvfp4_dot4(xk, wk, k, out);
    for (int r = 0; r < 4; r++) {
      assert_f32_bits(out[r], dot_as_promised(xk, wk + r * k, k));
    }
  }
}

static void weighted_rows(void **state) {
  (void)state;
  test_random random = {9};
  static float a[70], b[70 * 200], out[200];
  for (int i = 0; i < 70; i++) {
    a[i] = test_random_gauss(&random);
  }
  for (int i = 0; i < 70 * 200; i++) {
    b[i] = test_random_gauss(&random);
  }
  for (int64_t length = NVFP4_VECTOR_LANES; length <= 192; length += NVFP4_VECTOR_LANES) {
    for (int64_t count = 0; count <= 70; count += 7) {
      nvfp4_weighted_rows(a, count, b, 199, length, out);
      for (int64_t i = 0; i < length; i++) {
        float sum = 0;
        for (int64_t j = 0; j < count; j++) {
          float product = a[j] * b[j * 199 + i];
          sum += product;
        }
        assert_f32_bits(out[i], sum);
      }
    }
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(dot4), cmocka_unit_test(weighted_rows)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
