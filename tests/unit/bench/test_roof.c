/* SPDX-License-Identifier: Apache-2.0 */
#include "bench/roof.h"

#include <math.h>

#include "support.h"

static nvfp4_context *make_context(int threads) {
  nvfp4_options options = {.struct_size = sizeof options, .threads = threads};
  nvfp4_context *context;
  nvfp4_reason reason = {0};
  assert_ok(nvfp4_context_create(&options, &context, &reason), reason);
  return context;
}

static void test_measures(void **state) {
  (void)state;
  nvfp4_context *context = make_context(2);
  nvfp4_roof roof;
  nvfp4_reason reason = {0};
  assert_ok(nvfp4_roof_measure(context, 8 << 20, &roof, &reason), reason);
  assert_int_equal(roof.struct_size, sizeof roof);
  assert_int_equal(roof.threads, 2);
  assert_true(roof.read_gbps > 0 && isfinite(roof.read_gbps));
  /* A figure and its name go together. */
  assert_true((roof.f32_gflops > 0) == (strcmp(roof.f32_name, "not measured") != 0));
  assert_true((roof.i8_gops > 0) == (strcmp(roof.i8_name, "not measured") != 0));
  assert_int_equal(nvfp4_roof_measure(NULL, 0, &roof, &reason), NVFP4_E_ARG);
  assert_int_equal(nvfp4_roof_measure(context, 0, NULL, &reason), NVFP4_E_ARG);
  assert_true(strlen(reason.text) > 0);
  nvfp4_context_destroy(context);
}

/* The widest comes first, and every peak that this computer has can run. */
static void test_peaks(void **state) {
  (void)state;
  nvfp4_machine machine;
  nvfp4_machine_probe(&machine);
  const nvfp4_peak *lists[] = {nvfp4_peaks_f32, nvfp4_peaks_i8};
  for (int i = 0; i < 2; i++) {
    for (const nvfp4_peak *peak = lists[i]; peak->run != NULL; peak++) {
      assert_true(peak->operations > 0 && peak->isa != 0);
      if ((machine.isa & peak->isa) == peak->isa) {
        peak->run(3);
      }
    }
  }
}

static void test_share(void **state) {
  (void)state;
  nvfp4_roof roof = {.read_gbps = 10, .f32_gflops = 100, .i8_gops = 400};
  /* 1000 x 1600 weights are 900 kB, at 10 GB/s 90 us; 3.2e6 operations a row, at 400e9/s 8 us. */
  assert_true(fabs(nvfp4_roof_share(&roof, 1000, 1600, 1, 0.5625, 90) - 1) < 1e-12);
  assert_true(fabs(nvfp4_roof_share(&roof, 1000, 1600, 1, 0.5625, 180) - 0.5) < 1e-12);
  assert_true(fabs(nvfp4_roof_share(&roof, 1000, 1600, 100, 0.5625, 1600) - 0.5) < 1e-12);
  roof.i8_gops = 0; /* not measured: fp32 counts */
  assert_true(fabs(nvfp4_roof_share(&roof, 1000, 1600, 100, 0.5625, 3200) - 1) < 1e-12);
  assert_true(nvfp4_roof_share(&roof, 1000, 1600, 1, 0.5625, 0) == 0);
  nvfp4_roof none = {0};
  assert_true(nvfp4_roof_share(&none, 1000, 1600, 1, 0.5625, 5) == 0);
}

static void test_greater(void **state) {
  (void)state;
  nvfp4_roof a = {.threads = 2, .read_gbps = 10, .f32_gflops = 100, .i8_gops = 400},
             b = {.threads = 2, .read_gbps = 12, .f32_gflops = 90, .i8_gops = 500};
  nvfp4_roof roof = nvfp4_roof_greater(&a, &b);
  assert_true(roof.read_gbps == 12 && roof.f32_gflops == 100 && roof.i8_gops == 500 && roof.threads == 2);
}

static void test_uncached_bytes(void **state) {
  (void)state;
  nvfp4_machine machine = {0};
  assert_int_equal(nvfp4_uncached_bytes(&machine), 256 << 20);
  machine.l3_bytes = (uint64_t)1 << 30;
  assert_int_equal(nvfp4_uncached_bytes(&machine), (uint64_t)4 << 30);
  machine.memory_bytes = (uint64_t)1 << 30;
  assert_int_equal(nvfp4_uncached_bytes(&machine), 256 << 20);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_measures), cmocka_unit_test(test_peaks), cmocka_unit_test(test_share),
                                     cmocka_unit_test(test_greater), cmocka_unit_test(test_uncached_bytes)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
