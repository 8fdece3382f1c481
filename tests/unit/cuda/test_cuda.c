/* SPDX-License-Identifier: Apache-2.0 */
#define _POSIX_C_SOURCE 200809L /* setenv */
#include "cuda/cuda.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdlib.h>

#include "base/reason.h"
#include "cuda_support.h"

extern const unsigned char nvfp4_fatbin_check_scales[];
static const nvfp4_cuda_kernel kernel = {nvfp4_fatbin_check_scales, "nvfp4_check_scales"};

static nvfp4_cuda *open_mock(const char *mock) {
  nvfp4_reason reason = {0};
  nvfp4_cuda *cuda;
  setenv("MOCK_CUDA", mock, 1);
  assert_ok(nvfp4_cuda_open(NVFP4_CUDA_DRIVER, &cuda, &reason), reason);
  return cuda;
}

/* Enters the primary context of device 0. */
static bool enter(nvfp4_cuda *cuda) {
  nvfp4_reason reason = {0};
  nvfp4_cu_context context;
  bool pushed;
  assert_ok(nvfp4_cuda_context(cuda, 0, &context, &reason), reason);
  assert_ok(nvfp4_cuda_enter(cuda, context, &pushed, &reason), reason);
  return pushed;
}

static void test_refusals(void **state) {
  (void)state;
  static const struct {
    const char *mock, *text;
  } cases[] = {
      {"absent=cuLibraryLoadData", "CUDA driver: it has no cuLibraryLoadData (500); needs a driver for CUDA 12.0 or newer"},
      {"driver=11080", "CUDA driver: it is for CUDA 11.8; needs 12.0 or newer: update the driver"},
      {"fail=cuInit:100", "CUDA driver: cuInit: no CUDA-capable device is detected (100)"},
  };
  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
    nvfp4_reason reason = {0};
    nvfp4_cuda *cuda = NULL;
    setenv("MOCK_CUDA", cases[i].mock, 1);
    assert_int_not_equal(nvfp4_cuda_open(NVFP4_CUDA_DRIVER, &cuda, &reason), NVFP4_OK);
    assert_string_equal(reason.text, cases[i].text);
    assert_null(cuda);
  }
}

/* The caller's context if it is of the device; otherwise the primary one, which is given back at the end. */
static void test_contexts(void **state) {
  (void)state;
  int (*create)(nvfp4_cu_context *, unsigned, nvfp4_cu_device), (*destroy)(nvfp4_cu_context);
  nvfp4_cuda *cuda = open_mock("devices=2");
  void *library = dlopen(NVFP4_CUDA_DRIVER, RTLD_NOW), *symbols[] = {dlsym(library, "cuCtxCreate_v2"), dlsym(library, "cuCtxDestroy_v2")};
  memcpy(&create, &symbols[0], sizeof create);
  memcpy(&destroy, &symbols[1], sizeof destroy);
  nvfp4_cu_context own, found, other, current;
  nvfp4_reason reason = {0};
  assert_int_equal(create(&own, 0, 0), 0);
  assert_ok(nvfp4_cuda_context(cuda, 0, &found, &reason), reason);
  assert_ptr_equal(found, own);
  assert_ok(nvfp4_cuda_context(cuda, 1, &other, &reason), reason);
  assert_ptr_not_equal(other, own);
  bool pushed;
  assert_ok(nvfp4_cuda_enter(cuda, own, &pushed, &reason), reason);
  assert_false(pushed);
  long long none = 0;
  void *nowhere = NULL, *parameters[] = {&nowhere, &none, &none, &none, &nowhere};
  const nvfp4_cu_launch launch = {.grid_x = 1, .grid_y = 1, .grid_z = 1, .block_x = 32, .block_y = 1, .block_z = 1};
  assert_ok(nvfp4_cuda_launch(cuda, &kernel, &launch, parameters, &reason), reason);
  size_t loads = test_cuda_loads(), once = 0;
  for (int i = 0; i < 2; i++) { /* the kernels of a file are loaded once into a context, */
    assert_ok(nvfp4_cuda_load_known(cuda, &reason), reason);
    once = i == 0 ? test_cuda_loads() - loads : once;
    assert_int_equal(test_cuda_loads() - loads, once);
  }
  assert_true(once > 0);
  assert_ok(nvfp4_cuda_enter(cuda, other, &pushed, &reason), reason);
  assert_true(pushed);
  assert_ok(nvfp4_cuda_load_known(cuda, &reason), reason); /* and into another one */
  assert_int_equal(test_cuda_loads() - loads, 2 * once);
  nvfp4_cuda_api(cuda)->context_get_current(&current);
  assert_ptr_equal(current, other);
  nvfp4_cuda_leave(cuda, pushed);
  nvfp4_cuda_api(cuda)->context_get_current(&current);
  assert_ptr_equal(current, own);
  destroy(own);
  assert_ok(nvfp4_cuda_context(cuda, 0, &found, &reason), reason);
  assert_ptr_not_equal(found, own);
  assert_int_equal(nvfp4_cuda_context(cuda, 2, &found, &reason), NVFP4_E_DEVICE);
  assert_int_equal(nvfp4_cuda_context(cuda, -1, &found, &reason), NVFP4_E_ARG);
  nvfp4_cuda_close(cuda);
}

static void test_memory(void **state) {
  (void)state;
  nvfp4_cuda *cuda = open_mock("");
  nvfp4_reason reason = {0};
  bool pushed = enter(cuda);
  nvfp4_cu_stream stream;
  uint8_t from[60], to[60] = {0};
  void *there;
  for (size_t i = 0; i < sizeof from; i++) {
    from[i] = (uint8_t)i;
  }
  assert_ok(nvfp4_cuda_stream(cuda, &stream, &reason), reason);
  assert_ok(nvfp4_cuda_alloc(cuda, 40, &there, &reason), reason);
  assert_ok(nvfp4_cuda_copy_rows(cuda, there, 8, from, 12, 8, 5, stream, &reason), reason); /* gaps on one side */
  assert_ok(nvfp4_cuda_copy_rows(cuda, to, 11, there, 8, 8, 5, stream, &reason), reason);
  assert_ok(nvfp4_cuda_stream_finish(cuda, stream, &reason), reason);
  for (size_t i = 0; i < 60; i++) {
    assert_int_equal(to[i], i % 11 < 8 && i < 55 ? (i / 11) * 12 + i % 11 : 0);
  }
  nvfp4_cuda_free(cuda, there);
  nvfp4_cuda_free(cuda, NULL);
  nvfp4_cuda_leave(cuda, pushed);
  nvfp4_cuda_close(cuda);
  assert_int_equal(test_cuda_live(), 0);
  cuda = open_mock("fail=cuMemAlloc:2");
  pushed = enter(cuda);
  assert_int_equal(nvfp4_cuda_alloc(cuda, (size_t)1 << 50, &there, &reason), NVFP4_E_NOMEM);
  assert_string_equal(reason.text, "out of GPU memory: 1125899906842624 bytes; free some, or use another device");
  nvfp4_cuda_leave(cuda, pushed);
  nvfp4_cuda_close(cuda);
}

static void *launch_often(void *arg) {
  nvfp4_cuda *cuda = arg;
  nvfp4_reason reason = {0};
  bool pushed = enter(cuda);
  void *first;
  assert_ok(nvfp4_cuda_alloc(cuda, 8, &first, &reason), reason);
  for (int i = 0; i < 100; i++) {
    long long none = 0;
    void *parameters[] = {&first, &none, &none, &none, &first};
    const nvfp4_cu_launch launch = {
        .grid_x = 1, .grid_y = 1, .grid_z = 1, .block_x = 32, .block_y = 1, .block_z = 1, .shared_bytes = 49153};
    assert_ok(nvfp4_cuda_launch(cuda, &kernel, &launch, parameters, &reason), reason);
  }
  assert_ok(nvfp4_cuda_load_known(cuda, &reason), reason);
  nvfp4_cuda_free(cuda, first);
  nvfp4_cuda_leave(cuda, pushed);
  return NULL;
}

static void threads_share_kernels(const char *mock) {
  nvfp4_cuda *cuda = open_mock(mock);
  pthread_t threads[4];
  for (int i = 0; i < 4; i++) {
    pthread_create(&threads[i], NULL, launch_often, cuda);
  }
  for (int i = 0; i < 4; i++) {
    pthread_join(threads[i], NULL);
  }
  assert_int_equal(test_cuda_live(), 1); /* the library, loaded once */
  nvfp4_cuda_close(cuda);
  assert_int_equal(test_cuda_live(), 0);
}

static void test_threads_share_kernels(void **state) {
  (void)state;
  threads_share_kernels("");
  threads_share_kernels("absent=cuLibraryEnumerateKernels"); /* a driver for 12.0 */
}

static nvfp4_cuda_lane *take(nvfp4_cuda *cuda, int ordinal) {
  nvfp4_reason reason = {0};
  nvfp4_cu_context context;
  nvfp4_cuda_lane *lane;
  assert_ok(nvfp4_cuda_context(cuda, ordinal, &context, &reason), reason);
  assert_ok(nvfp4_cuda_lane_take(cuda, context, &lane, &reason), reason);
  return lane;
}

/* One for each who takes; a kept one is taken again, in its own context, and ends with its last holder. */
static void test_lanes(void **state) {
  (void)state;
  nvfp4_cuda *cuda = open_mock("devices=2");
  nvfp4_reason reason = {0};
  bool pushed = enter(cuda);
  nvfp4_cuda_lane *one = take(cuda, 0), *two = take(cuda, 0);
  assert_ptr_not_equal(one, two);
  assert_ptr_not_equal(one->stream, two->stream);
  nvfp4_cuda_lane_keep(cuda, one);
  nvfp4_cuda_lane_keep(cuda, two);
  nvfp4_cuda_lane_return(cuda, two);
  assert_ptr_equal(take(cuda, 0), two);
  nvfp4_cuda_lane_drop(cuda, two); /* by who kept it, while it is taken */
  assert_int_equal(test_cuda_live(), 2);
  nvfp4_cuda_lane_return(cuda, two);
  assert_int_equal(test_cuda_live(), 1);
  assert_null(one->answer);
  assert_ok(nvfp4_cuda_lane_answer(cuda, one, &reason), reason);
  uint64_t *answer = one->answer;
  assert_ok(nvfp4_cuda_lane_answer(cuda, one, &reason), reason);
  assert_ptr_equal(one->answer, answer);
  nvfp4_cuda_lane_return(cuda, one);
  nvfp4_cuda_lane *other = take(cuda, 1);
  assert_ptr_not_equal(other, one);
  nvfp4_cuda_lane_return(cuda, other);
  assert_int_equal(test_cuda_live(), 2); /* stream and answer */
  nvfp4_cuda_lane_drop(cuda, one);
  nvfp4_cuda_lane_drop(cuda, NULL);
  nvfp4_cuda_leave(cuda, pushed);
  nvfp4_cuda_close(cuda);
  assert_int_equal(test_cuda_live(), 0);
}

static void *take_often(void *arg) {
  nvfp4_cuda *cuda = arg;
  nvfp4_reason reason = {0};
  bool pushed = enter(cuda);
  for (int i = 0; i < 200; i++) {
    nvfp4_cuda_lane *lane = take(cuda, 0);
    assert_ok(nvfp4_cuda_lane_answer(cuda, lane, &reason), reason);
    *lane->answer = (uint64_t)i; /* nobody else's */
    nvfp4_cuda_lane_keep(cuda, lane);
    assert_int_equal(*lane->answer, i);
    nvfp4_cuda_lane_return(cuda, lane);
    nvfp4_cuda_lane_drop(cuda, lane);
  }
  nvfp4_cuda_leave(cuda, pushed);
  return NULL;
}

static void test_threads_take_lanes(void **state) {
  (void)state;
  nvfp4_cuda *cuda = open_mock("");
  pthread_t threads[4];
  for (int i = 0; i < 4; i++) {
    pthread_create(&threads[i], NULL, take_often, cuda);
  }
  for (int i = 0; i < 4; i++) {
    pthread_join(threads[i], NULL);
  }
  assert_int_equal(test_cuda_live(), 0);
  nvfp4_cuda_close(cuda);
}

/* A fatbin without code for the GPU, or of a newer toolkit than the driver's. */
static void test_code_that_does_not_load(void **state) {
  (void)state;
  static const char *const mocks[] = {"fail=cuLibraryLoadData:200", "fail=cuLibraryGetKernel:200", "fail=cuLaunchKernelEx:200"};
  for (size_t i = 0; i < 3; i++) {
    nvfp4_cuda *cuda = open_mock(mocks[i]);
    bool pushed = enter(cuda);
    nvfp4_reason reason = {0};
    const nvfp4_cu_launch launch = {.grid_x = 1, .grid_y = 1, .grid_z = 1, .block_x = 32, .block_y = 1, .block_z = 1};
    void *parameters[] = {&pushed, &pushed, &pushed, &pushed, &pushed};
    assert_int_equal(nvfp4_cuda_launch(cuda, &kernel, &launch, parameters, &reason), NVFP4_E_DEVICE);
    assert_non_null(strstr(reason.text, "device kernel image is invalid (200)"));
    nvfp4_cuda_leave(cuda, pushed);
    nvfp4_cuda_close(cuda);
  }
}

static int companions_open, companion_fails;

static nvfp4_status open_companion(nvfp4_cuda *cuda, void **out, nvfp4_reason *reason) {
  assert_non_null(cuda);
  companions_open += companion_fails == 0;
  *out = &companions_open;
  return companion_fails != 0 ? nvfp4_reject(reason, NVFP4_E_MACHINE, "no library") : NVFP4_OK;
}

static void close_companion(void *companion) { --*(int *)companion; }

/* Opened once, each kind of its own; a failure is asked again; closed with the driver. */
static void test_companions(void **state) {
  (void)state;
  static const nvfp4_cuda_companion one = {open_companion, close_companion}, other = {open_companion, close_companion};
  nvfp4_cuda *cuda = open_mock("");
  nvfp4_reason reason = {0};
  void *found = NULL;
  companion_fails = 1;
  assert_int_equal(nvfp4_cuda_find_companion(cuda, &one, &found, &reason), NVFP4_E_MACHINE);
  assert_string_equal(reason.text, "no library");
  assert_null(found);
  companion_fails = 0;
  for (int i = 0; i < 2; i++) {
    assert_ok(nvfp4_cuda_find_companion(cuda, &one, &found, &reason), reason);
    assert_ptr_equal(found, &companions_open);
    assert_int_equal(companions_open, 1);
  }
  assert_ok(nvfp4_cuda_find_companion(cuda, &other, &found, &reason), reason);
  assert_int_equal(companions_open, 2);
  nvfp4_cuda_close(cuda);
  assert_int_equal(companions_open, 0);
}

int main(void) {
  if (!test_cuda_is_mock()) {
    return 0; /* it plays errors: nothing for a real driver */
  }
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_refusals),
                                     cmocka_unit_test(test_contexts),
                                     cmocka_unit_test(test_companions),
                                     cmocka_unit_test(test_memory),
                                     cmocka_unit_test(test_lanes),
                                     cmocka_unit_test(test_threads_take_lanes),
                                     cmocka_unit_test(test_threads_share_kernels),
                                     cmocka_unit_test(test_code_that_does_not_load)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
