/* SPDX-License-Identifier: Apache-2.0 */
/* The CUDA probe against the mock driver (tests/mock), which LD_LIBRARY_PATH puts in front. */
#define _POSIX_C_SOURCE 200809L /* setenv */
#include <stdio.h>
#include <stdlib.h>

#include "machine/probe.h"
#include "support.h"

static nvfp4_machine probe(const char *mock) {
  nvfp4_machine m;
  memset(&m, 0, sizeof m);
  setenv("MOCK_CUDA", mock, 1);
  nvfp4_probe_cuda(&m);
  return m;
}

static void test_gpus(void **state) {
  (void)state;
  nvfp4_machine m = probe("devices=2,sm=121,driver=13010");
  assert_string_equal(m.cuda_missing, "");
  assert_int_equal(m.cuda_driver, 13010);
  assert_int_equal(m.gpu_count, 2);
  assert_string_equal(m.gpus[1].name, "Mock GPU 1");
  assert_int_equal(m.gpus[1].sm, 121);
  assert_int_equal(m.gpus[1].multiprocessors, 132);
  assert_int_equal(m.gpus[1].memory_bytes, (uint64_t)16 << 30);
  assert_int_equal(m.gpus[1].l2_bytes, 50 << 20);
  assert_int_equal(m.gpus[1].shared_bytes, 227 << 10);
  assert_int_equal(probe("devices=17").gpu_count, NVFP4_MAX_GPUS);
  assert_int_equal(probe("devices=0").gpu_count, 0);
}

/* Nothing but the reason is said. */
static void assert_missing(const char *mock, const char *want) {
  nvfp4_machine m = probe(mock), empty;
  assert_string_equal(m.cuda_missing, want);
  memset(&empty, 0, sizeof empty);
  memcpy(empty.cuda_missing, m.cuda_missing, sizeof empty.cuda_missing);
  assert_memory_equal(&m, &empty, sizeof m);
}

static void test_every_call_can_fail(void **state) {
  (void)state;
  static const char *const calls[] = {"cuInit",          "cuDriverGetVersion",   "cuDeviceGetCount", "cuDeviceGet",
                                      "cuDeviceGetName", "cuDeviceGetAttribute", "cuDeviceTotalMem"};
  for (size_t i = 0; i < sizeof calls / sizeof calls[0]; i++) {
    for (int nameless = 0; nameless <= 1; nameless++) {
      char mock[64], want[128];
      snprintf(mock, sizeof mock, "devices=2,fail=%s:%d", calls[i], nameless ? 777 : 100);
      snprintf(want, sizeof want, "CUDA driver: %s: %s (%d)", calls[i], nameless ? "error" : "no CUDA-capable device is detected",
               nameless ? 777 : 100);
      assert_missing(mock, want);
    }
  }
}

static void test_no_driver_or_an_old_one(void **state) {
  (void)state;
  nvfp4_machine m;
  memset(&m, 0, sizeof m);
  nvfp4_probe_cuda_library("libnvfp4-has-no-such.so.1", &m);
  assert_non_null(strstr(m.cuda_missing, "no CUDA driver: libnvfp4-has-no-such.so.1: "));
  memset(&m, 0, sizeof m);
  nvfp4_probe_cuda_library("libc.so.6", &m);
  assert_string_equal(m.cuda_missing, "CUDA driver: it has no cuGetProcAddress_v2; needs a driver for CUDA 12.0 or newer");
  assert_missing("absent=cuLibraryLoadData", "CUDA driver: it has no cuLibraryLoadData (500); needs a driver for CUDA 12.0 or newer");
  assert_missing("driver=11080", "CUDA driver: it is for CUDA 11.8; needs 12.0 or newer: update the driver");
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_gpus), cmocka_unit_test(test_every_call_can_fail),
                                     cmocka_unit_test(test_no_driver_or_an_old_one)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
