/* SPDX-License-Identifier: Apache-2.0 */
#include <math.h>

#include "layer/layer.h"
#include "layer_support.h"

static float alpha_of(nvfp4_global weight, nvfp4_global input, nvfp4_mode mode) {
  nvfp4_partition partition = {0, 1, weight, input};
  float alpha = NAN;
  nvfp4_reason reason = {0};
  assert_ok(nvfp4_partition_alpha(&partition, mode, &alpha, &reason), reason);
  return alpha;
}

/* The formulas, each from doubles and rounded once. */
static void test_formulas(void **state) {
  (void)state;
  test_random random = {3};
  for (int i = 0; i < 100000; i++) {
    float w = ldexpf(1.0f + test_random_uniform(&random), (int)(test_random_u64(&random) % 40) - 25);
    float x = ldexpf(1.0f + test_random_uniform(&random), (int)(test_random_u64(&random) % 40) - 25);
    nvfp4_global wm = {w, false}, xm = {x, false}, wd = {w, true}, xd = {x, true};
    assert_f32_bits(alpha_of(wm, xm, NVFP4_MODE_W4A4), (float)((double)x * w));
    assert_f32_bits(alpha_of(wd, xd, NVFP4_MODE_W4A4), (float)(1.0 / ((double)x * w)));
    assert_f32_bits(alpha_of(wd, xm, NVFP4_MODE_W4A4), (float)((double)x / w));
    assert_f32_bits(alpha_of(wm, xm, NVFP4_MODE_W4A16), w);
    assert_f32_bits(alpha_of(wd, xd, NVFP4_MODE_W4A16), (float)(1.0 / (double)w));
  }
}

static void test_refuses_what_fp32_cannot_hold(void **state) {
  (void)state;
  const nvfp4_partition bad[] = {
      {0, 4, {1e-30f, false}, {1e-30f, false}}, {0, 4, {1e30f, false}, {1e30f, false}}, {0, 4, {1e-30f, true}, {1e-30f, true}}};
  for (size_t i = 0; i < 3; i++) {
    float alpha = 5.0f;
    nvfp4_reason reason = {0};
    assert_int_equal(nvfp4_partition_alpha(&bad[i], NVFP4_MODE_W4A4, &alpha, &reason), NVFP4_E_UNSUPPORTED);
    assert_non_null(strstr(reason.text, "rows 0 to 3"));
    assert_f32_bits(alpha, 5.0f);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_formulas), cmocka_unit_test(test_refuses_what_fp32_cannot_hold)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
