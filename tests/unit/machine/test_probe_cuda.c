/* SPDX-License-Identifier: Apache-2.0 */
/* The CUDA probe against a fake driver: this very program, opened by the name NULL (the build exports its symbols). */
#include "machine/probe.h"

#include <stdio.h>
#include <stdlib.h>

#include "support.h"

static struct {
  const char *failing; /* the function that fails */
  int error;
  int devices;
  int nameless_errors; /* cuGetErrorString knows none */
} fake;

static int result(const char *function) { return fake.failing != NULL && strcmp(fake.failing, function) == 0 ? fake.error : 0; }

NVFP4_API int cuInit(unsigned call_flags);
NVFP4_API int cuDriverGetVersion(int *version);
NVFP4_API int cuGetErrorString(int error, const char **text);
NVFP4_API int cuDeviceGetCount(int *count);
NVFP4_API int cuDeviceGet(int *device, int ordinal);
NVFP4_API int cuDeviceGetName(char *name, int size, int device);
NVFP4_API int cuDeviceGetAttribute(int *value, int attribute, int device);
NVFP4_API int cuDeviceTotalMem_v2(size_t *bytes, int device);

int cuInit(unsigned call_flags) { return call_flags == 0 ? result("cuInit") : 1; }
int cuDriverGetVersion(int *version) {
  *version = 13010;
  return result("cuDriverGetVersion");
}
int cuGetErrorString(int error, const char **text) {
  *text = error == 100 ? "no CUDA-capable device is detected" : NULL;
  return fake.nameless_errors;
}
int cuDeviceGetCount(int *count) {
  *count = fake.devices;
  return result("cuDeviceGetCount");
}
int cuDeviceGet(int *device, int ordinal) {
  *device = 1000 + ordinal; /* a handle is not an ordinal */
  return result("cuDeviceGet");
}
int cuDeviceGetName(char *name, int size, int device) {
  snprintf(name, (size_t)size, "GPU %d", device);
  return result("cuDeviceGetName");
}
int cuDeviceGetAttribute(int *value, int attribute, int device) {
  *value = attribute == 75 ? 12 : attribute == 76 ? 1 : attribute == 16 ? device : -1;
  return device == 1001 ? result("cuDeviceGetAttribute") : 0; /* the second GPU fails */
}
int cuDeviceTotalMem_v2(size_t *bytes, int device) {
  *bytes = (size_t)device << 30;
  return result("cuDeviceTotalMem");
}

static nvfp4_machine probe(void) {
  nvfp4_machine m;
  memset(&m, 0, sizeof m);
  nvfp4_probe_cuda_library(NULL, &m);
  return m;
}

static void test_gpus(void **state) {
  (void)state;
  fake.failing = NULL;
  fake.devices = 2;
  nvfp4_machine m = probe();
  assert_string_equal(m.cuda_missing, "");
  assert_int_equal(m.cuda_driver, 13010);
  assert_int_equal(m.gpu_count, 2);
  assert_string_equal(m.gpus[1].name, "GPU 1001");
  assert_int_equal(m.gpus[1].sm, 121);
  assert_int_equal(m.gpus[1].multiprocessors, 1001);
  assert_int_equal(m.gpus[1].memory_bytes, (uint64_t)1001 << 30);
  fake.devices = NVFP4_MAX_GPUS + 1;
  assert_int_equal(probe().gpu_count, NVFP4_MAX_GPUS);
}

static void test_every_call_can_fail(void **state) {
  (void)state;
  static const char *const calls[] = {"cuInit",          "cuDriverGetVersion",   "cuDeviceGetCount", "cuDeviceGet",
                                      "cuDeviceGetName", "cuDeviceGetAttribute", "cuDeviceTotalMem"};
  for (size_t i = 0; i < sizeof calls / sizeof calls[0]; i++) {
    for (int nameless = 0; nameless <= 1; nameless++) {
      fake.failing = calls[i];
      fake.error = 100;
      fake.devices = 2;
      fake.nameless_errors = nameless;
      nvfp4_machine m = probe(), empty;
      char want[128];
      snprintf(want, sizeof want, "CUDA driver: %s: %s (100)", calls[i], nameless ? "error" : "no CUDA-capable device is detected");
      assert_string_equal(m.cuda_missing, want);
      memset(&empty, 0, sizeof empty);
      memcpy(empty.cuda_missing, m.cuda_missing, sizeof empty.cuda_missing);
      assert_memory_equal(&m, &empty, sizeof m); /* nothing else is said */
    }
  }
  fake.nameless_errors = 0;
}

static void test_no_library(void **state) {
  (void)state;
  nvfp4_machine m;
  memset(&m, 0, sizeof m);
  nvfp4_probe_cuda_library("libnvfp4-has-no-such.so.1", &m);
  assert_non_null(strstr(m.cuda_missing, "no CUDA driver: libnvfp4-has-no-such.so.1: "));
  memset(&m, 0, sizeof m);
  nvfp4_probe_cuda_library("libc.so.6", &m);
  assert_string_equal(m.cuda_missing, "CUDA driver: it has no cuInit");
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_gpus), cmocka_unit_test(test_every_call_can_fail),
                                     cmocka_unit_test(test_no_library)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
