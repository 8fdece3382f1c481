/* SPDX-License-Identifier: Apache-2.0 */
#include "format/fp8.h"

#include <math.h>

#include "format/e4m3.h"
#include "format/half.h"
#include "support.h"

/* E4M3 of every upper half of an fp32, three neighbours of it, and every tie, divided by scales of all sorts. */
static void is_e4m3(void **state) {
  (void)state;
  static const float scales[] = {1.0f, 0.007f, 0x1p-20f, 3e8f};
  float x[4];
  uint16_t q[4];
  for (uint32_t high = 0; high < 0x10000; high++) {
    for (int i = 0; i < 4; i++) {
      x[i] = f32_from_bits(high << 16 | (uint32_t)(i == 3 ? 0xFFFF : i));
    }
    for (size_t s = 0; s < sizeof scales / sizeof scales[0]; s++) {
      nvfp4_fp8_quantise_row(x, 4, scales[s], q);
      for (int i = 0; i < 4; i++) {
        float want = nvfp4_e4m3_to_f32(nvfp4_e4m3_from_f32(x[i] / scales[s])), found = nvfp4_bf16_to_f32(q[i]);
        if (isnan(want) ? !isnan(found) : f32_bits(want) != f32_bits(found)) {
          fail_msg("%a / %a: %a, needs %a", (double)x[i], (double)scales[s], (double)found, (double)want);
        }
      }
    }
  }
}

static void decodes(void **state) {
  (void)state;
  uint8_t bytes[256];
  uint16_t values[256];
  for (int i = 0; i < 256; i++) {
    bytes[i] = (uint8_t)i;
  }
  nvfp4_fp8_to_bf16(bytes, 256, values);
  for (int i = 0; i < 256; i++) {
    assert_f32_bits(nvfp4_bf16_to_f32(values[i]), nvfp4_e4m3_to_f32((uint8_t)i));
  }
}

static void scales_of_rows(void **state) {
  (void)state;
  const float x[] = {1, -896, 3, NAN};
  assert_f32_bits(nvfp4_fp8_amax(x, 4), 896);
  assert_f32_bits(nvfp4_fp8_scale_of(896), 2);
  assert_f32_bits(nvfp4_fp8_scale_of(0), 1);
  assert_f32_bits(nvfp4_fp8_scale_of(0x1p-149f), 1); /* nothing of such a row is left in E4M3, whatever the scale */
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(is_e4m3), cmocka_unit_test(decodes), cmocka_unit_test(scales_of_rows)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
