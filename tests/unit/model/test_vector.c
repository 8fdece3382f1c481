/* SPDX-License-Identifier: Apache-2.0 */
#include "model/vector.h"

#include <stdlib.h>

#include "support.h"

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
  const struct CMUnitTest tests[] = {cmocka_unit_test(weighted_rows)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
