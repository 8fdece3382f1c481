/* SPDX-License-Identifier: Apache-2.0 */
/* The error of a sample of y: 0 for what is exact, what was added to it otherwise, and never that of other rows. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "bench/cells.h"
#include "support.h"

enum { N = 130, K = 48, M = 23 };

static uint8_t codes[N * K / 2], scales[N * K / NVFP4_BLOCK];
static uint16_t x[M * K];
static const nvfp4_bench_inputs inputs = {N, K, M, codes, scales, x};

/* Weights 1 in row n's block n % 3 and 0 elsewhere; x[m, k] = 1.5 * 2^(k / 16): y[m, n] = 24 * 2^(n % 3), in W4A4 too, since a sixth of x is a scale. */
static float y_of(int64_t n) { return 24.0f * (float)(1 << n % 3); }

static int fill(void **state) {
  (void)state;
  for (int n = 0; n < N; n++) {
    memset(codes + n * K / 2 + n % 3 * 8, 0x22, 8);
  }
  memset(scales, 0x38, sizeof scales);
  for (int i = 0; i < M * K; i++) {
    static const uint16_t numbers[] = {0x3FC0, 0x4040, 0x40C0};
    x[i] = numbers[i % K / 16];
  }
  return 0;
}

static uint16_t bf16(float value) {
  uint32_t bits;
  memcpy(&bits, &value, sizeof bits);
  return (uint16_t)(bits >> 16);
}

static void begin(nvfp4_bench_sample *sample) {
  nvfp4_reason reason = {0};
  assert_ok(nvfp4_bench_sample_begin(&inputs, sample, &reason), reason);
  for (int64_t i = 0; i < sample->rows * N; i++) {
    sample->y[i] = bf16(y_of(i % N));
  }
}

static void test_rows(void **state) {
  (void)state;
  nvfp4_bench_sample sample;
  begin(&sample);
  assert_int_equal(nvfp4_bench_sample_row(&sample, 0), 0);
  assert_int_equal(nvfp4_bench_sample_row(&sample, sample.rows - 1), M - 1);
  for (int64_t i = 1; i < sample.rows; i++) {
    assert_true(nvfp4_bench_sample_row(&sample, i) > nvfp4_bench_sample_row(&sample, i - 1));
  }
  nvfp4_bench_sample_end(&sample);
}

static void test_error(void **state) {
  nvfp4_context *context = *state;
  static const nvfp4_mode modes[] = {NVFP4_MODE_W4A16, NVFP4_MODE_W4A4};
  for (int i = 0; i < 2; i++) {
    nvfp4_bench_sample sample;
    nvfp4_reason reason = {0};
    double error = -1;
    begin(&sample);
    assert_ok(nvfp4_bench_sample_error(&context->host, &sample, modes[i], &error, &reason), reason);
    assert_true(error == 0);
    for (int64_t j = 0; j < sample.rows * N; j++) {
      sample.y[j] = bf16(1.25f * y_of(j % N));
    }
    assert_ok(nvfp4_bench_sample_error(&context->host, &sample, modes[i], &error, &reason), reason);
    assert_true(fabs(error - 0.25) < 1e-12);
    sample.y[(sample.rows - 1) * N] = 0xFFFF;
    assert_int_equal(nvfp4_bench_sample_error(&context->host, &sample, modes[i], &error, &reason), NVFP4_E_INTERNAL);
    assert_non_null(strstr(reason.text, "y[22, 0] is no number"));
    nvfp4_bench_sample_end(&sample);
  }
}

static int make_context(void **state) {
  fill(state);
  return nvfp4_context_create(NULL, (nvfp4_context **)state, NULL);
}

static int destroy_context(void **state) {
  nvfp4_context_destroy(*state);
  return 0;
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test_setup(test_rows, fill),
                                     cmocka_unit_test_setup_teardown(test_error, make_context, destroy_context)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
