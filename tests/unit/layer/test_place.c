/* SPDX-License-Identifier: Apache-2.0 */
/* Layers that live on a GPU: selection, self-test, packing from host and device memory, calls, capture. */
#define _POSIX_C_SOURCE 200809L /* setenv */
#include "layer/place.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include "cuda_support.h"

enum { M = 5, N = 37, K = 80 };

typedef struct gpu_layer {
  nvfp4_context *context;
  nvfp4_plan *plan;
  nvfp4_place place;
  test_layer test;
  nvfp4_layer_desc desc;
} gpu_layer;

/* Other kernels are disabled where they take long to test; so are libraries of vendors, which this machine may have. */
static gpu_layer open_layer(const char *mock, const char *kernel) {
  const char *others = strstr(kernel, "emulation") != NULL ? "vendor_*,cuda_sm*" : "vendor_*,cuda_emulation_*,*_prefill_*,*_w4a16";
  gpu_layer g = {.context = test_cuda_context(mock), .test = test_layer_make(N, K, 5)};
  nvfp4_reason reason = {0};
  g.desc = test_layer_desc(&g.test, NVFP4_MODE_W4A4);
  g.desc.device = (nvfp4_device){NVFP4_DEVICE_CUDA, 0};
  nvfp4_policy policy = {.struct_size = sizeof policy, .kernel = kernel, .disable = others};
  assert_ok(nvfp4_init_linear_kernel(g.context, &g.desc, &policy, &g.plan, NULL, &reason), reason);
  assert_string_equal(nvfp4_plan_kernel(g.plan, M), kernel);
  assert_ok(nvfp4_place_find(g.context->cuda, g.desc.device, &g.place, &reason), reason);
  return g;
}

static void close_layer(gpu_layer *g) {
  nvfp4_plan_free(g->plan);
  test_layer_free(&g->test);
  nvfp4_context_destroy(g->context);
  assert_int_equal(test_cuda_live(), 0);
}

/* The stage and reason of a kernel for a layer on a GPU. */
static void assert_stage(const char *mock, int ordinal, const char *id, nvfp4_stage stage, const char *text) {
  nvfp4_context *context = test_cuda_context(mock);
  test_layer test = test_layer_make(N, K, 5);
  nvfp4_layer_desc desc = test_layer_desc(&test, NVFP4_MODE_W4A4);
  nvfp4_plan *plan = NULL;
  nvfp4_report *report = NULL;
  nvfp4_reason reason = {0};
  bool found = false;
  desc.device = (nvfp4_device){NVFP4_DEVICE_CUDA, ordinal};
  nvfp4_policy policy = {.struct_size = sizeof policy, .kernel = id};
  nvfp4_init_linear_kernel(context, &desc, &policy, &plan, &report, &reason);
  for (size_t i = 0; i < report->row_count; i++) {
    if (strcmp(report->rows[i].id, id) == 0) {
      found = true;
      assert_string_equal(nvfp4_stage_name(report->rows[i].stage), nvfp4_stage_name(stage));
      if (strstr(report->rows[i].reason, text) == NULL) {
        fail_msg("no \"%s\" in \"%s\"", text, report->rows[i].reason);
      }
    }
  }
  assert_true(found);
  nvfp4_plan_free(plan);
  nvfp4_report_free(report);
  test_layer_free(&test);
  nvfp4_context_destroy(context);
}

static void test_selection(void **state) {
  (void)state;
  if (!test_cuda_is_mock()) {
    skip();
  }
  const char *id = "cuda_emulation_w4a4";
  assert_stage("", 0, id, NVFP4_STAGE_CHOSEN, "");
  assert_stage("", 0, "ref_w4a4", NVFP4_STAGE_CANNOT_IMPLEMENT, "works on the CPU");
  assert_stage("", 1, id, NVFP4_STAGE_UNSUPPORTED_MACHINE, "the machine has 1 GPU; cuda:1 needs 2");
  assert_stage("devices=2", 1, id, NVFP4_STAGE_CHOSEN, "");
  assert_stage("sm=75", 0, id, NVFP4_STAGE_UNSUPPORTED_MACHINE,
               "the GPU (Mock GPU 0) has compute capability 7.5; needs compute capability 8.0 or newer");
  assert_stage("fail=cuInit:100", 0, id, NVFP4_STAGE_UNSUPPORTED_MACHINE, "no CUDA-capable device is detected");
  assert_stage("driver=11080", 0, id, NVFP4_STAGE_UNSUPPORTED_MACHINE, "needs 12.0 or newer");
  assert_stage("fail=cuLibraryLoadData:200", 0, id, NVFP4_STAGE_FAILED_SELF_TEST, "cuLibraryLoadData: device kernel image is invalid");
  assert_stage("fail=cuLaunchKernelEx:2", 0, id, NVFP4_STAGE_FAILED_SELF_TEST, "out of memory");
}

/* Bad scales are named, wherever the weights lie; nothing is left behind. */
static void test_bad_scales(void **state) {
  (void)state;
  gpu_layer g = open_layer("", "cuda_emulation_w4a4");
  nvfp4_reason reason = {0};
  nvfp4_layer *layer = NULL;
  nvfp4_weights weights = test_layer_weights(&g.test), there;
  g.test.scales[20 * (K / 16) + 3] = 0x7F;
  g.test.scales[30 * (K / 16)] = 0x81;
  assert_int_equal(nvfp4_layer_create(g.context, g.plan, &weights, &layer, &reason), NVFP4_E_FORMAT);
  assert_string_equal(reason.text, "block scale 0x7F (NaN) at row 20, block 3; needs an E4M3 number from 0 to 448");
  nvfp4_visit visit;
  void *owned;
  g.test.scales[20 * (K / 16) + 3] = 0x38;
  assert_ok(nvfp4_place_enter(&g.place, true, &visit, &reason), reason);
  assert_ok(nvfp4_place_weights(&visit, &weights, &there, &owned, &reason), reason);
  assert_int_equal(there.memory, NVFP4_MEMORY_CUDA);
  assert_ok(nvfp4_place_wait(&visit, &reason), reason);
  assert_int_equal(nvfp4_layer_create(g.context, g.plan, &there, &layer, &reason), NVFP4_E_FORMAT);
  assert_string_equal(reason.text, "block scale 0x81 (negative) at row 30, block 0; needs an E4M3 number from 0 to 448");
  nvfp4_place_free(&g.place, owned);
  assert_ok(nvfp4_place_leave(&visit, &reason), reason);
  nvfp4_place cpu = {0};
  nvfp4_visit at_cpu;
  assert_ok(nvfp4_place_enter(&cpu, true, &at_cpu, &reason), reason);
  assert_int_equal(nvfp4_place_weights(&at_cpu, &there, &weights, &owned, &reason), NVFP4_E_UNSUPPORTED);
  assert_ok(nvfp4_place_leave(&at_cpu, &reason), reason);
  close_layer(&g);
}

/* Rows with and without gaps, at any address, short and long: the first wrong scale is found wherever it is, and no gap is looked at. */
static void test_scale_check(void **state) {
  (void)state;
  enum { MOST = 70000 };
  static const struct {
    int64_t n, blocks, stride, at;
  } cases[] = {{1, 1, 1, 0},   {3, 5, 5, 1},    {7, 48, 48, 16},    {5, 33, 40, 0},  {4, 32, 48, 0},          {4, 64, 80, 32},
               {2, 64, 65, 3}, {300, 7, 9, 16}, {3, 9000, 9008, 0}, {MOST, 1, 1, 0}, {MOST - 300, 1, 16, 16}, {1, MOST, MOST, 5}};
  nvfp4_context *context = test_cuda_context("");
  nvfp4_place place;
  nvfp4_visit visit;
  nvfp4_reason reason = {0};
  void *scales;
  uint8_t *host = malloc(MOST * 16 + 64);
  assert_ok(nvfp4_place_find(context->cuda, (nvfp4_device){NVFP4_DEVICE_CUDA, 0}, &place, &reason), reason);
  assert_ok(nvfp4_place_enter(&place, true, &visit, &reason), reason);
  assert_ok(nvfp4_place_alloc(&place, MOST * 16 + 64, &scales, &reason), reason);
  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
    const int64_t n = cases[i].n, blocks = cases[i].blocks, stride = cases[i].stride, bytes = cases[i].at + n * stride,
                  last = n * blocks - 1;
    const nvfp4_weights weights = {.struct_size = sizeof weights,
                                   .memory = NVFP4_MEMORY_CUDA,
                                   .n = n,
                                   .k = blocks * NVFP4_BLOCK,
                                   .codes = scales, /* not read */
                                   .scales = (uint8_t *)scales + cases[i].at,
                                   .scales_stride_bytes = stride};
    const int64_t wrong[] = {-1, 0, last / 3, last / 2, last};
    for (size_t j = 0; j < sizeof wrong / sizeof wrong[0]; j++) {
      static const uint8_t values[] = {0x7F, 0x80, 0xFF, 0xC4};
      char text[128];
      memset(host, 0xFF, (size_t)bytes); /* the gaps */
      for (int64_t row = 0; row < n; row++) {
        memset(host + cases[i].at + row * stride, row % 2 == 0 ? 0x7E : 0, (size_t)blocks);
      }
      for (int64_t at = wrong[j]; at >= 0 && at <= last; at += last + 1 - at > 11 ? 11 : 1) { /* it, and others behind it */
        host[cases[i].at + at / blocks * stride + at % blocks] = values[(wrong[j] + at) % 4];
      }
      assert_ok(nvfp4_cuda_copy_now(place.cuda, scales, host, (size_t)bytes, &reason), reason);
      assert_ok(nvfp4_place_begin_check(&visit, &weights, 100, &reason), reason);
      const nvfp4_status status = nvfp4_place_end_check(&visit, &weights, 100, &reason);
      assert_int_equal(status, wrong[j] < 0 ? NVFP4_OK : NVFP4_E_FORMAT);
      snprintf(text, sizeof text, "at row %lld, block %lld;", (long long)(100 + wrong[j] / blocks), (long long)(wrong[j] % blocks));
      if (wrong[j] >= 0 && strstr(reason.text, text) == NULL) {
        fail_msg("case %zu: no \"%s\" in \"%s\"", i, text, reason.text);
      }
    }
  }
  nvfp4_place_free(&place, scales);
  assert_ok(nvfp4_place_leave(&visit, &reason), reason);
  free(host);
  nvfp4_context_destroy(context);
  assert_int_equal(test_cuda_live(), 0);
}

typedef struct maker {
  const gpu_layer *g;
  int number;
} maker;

static void *make_layers(void *arg) {
  const maker *m = arg;
  const int rounds = 20, wrong = m->number; /* the row; the odd makers' scales are right */
  test_layer test = test_layer_make(N, K, 5);
  nvfp4_weights weights = test_layer_weights(&test);
  char want[128];
  snprintf(want, sizeof want, "block scale 0x7F (NaN) at row %d, block 1; needs an E4M3 number from 0 to 448", wrong);
  test.scales[wrong * (K / 16) + 1] = m->number % 2 == 0 ? 0x7F : 0x38;
  for (int i = 0; i < rounds; i++) {
    nvfp4_reason reason = {0};
    nvfp4_layer *layer = NULL;
    const nvfp4_status status = nvfp4_layer_create(m->g->context, m->g->plan, &weights, &layer, &reason);
    assert_int_equal(status, m->number % 2 == 0 ? NVFP4_E_FORMAT : NVFP4_OK);
    assert_string_equal(reason.text, m->number % 2 == 0 ? want : "");
    nvfp4_layer_destroy(layer);
  }
  test_layer_free(&test);
  return NULL;
}

/* Each thread gets the answer of its own scales. */
static void test_threads_make_layers(void **state) {
  (void)state;
  enum { THREADS = 5 };
  gpu_layer g = open_layer("", "cuda_emulation_w4a4");
  maker makers[THREADS];
  pthread_t threads[THREADS];
  for (int i = 0; i < THREADS; i++) {
    makers[i] = (maker){&g, i};
    assert_int_equal(pthread_create(&threads[i], NULL, make_layers, &makers[i]), 0);
  }
  for (int i = 0; i < THREADS; i++) {
    pthread_join(threads[i], NULL);
  }
  close_layer(&g);
}

/* Weights in memory of the device, with gaps; x, y and workspace there; plain and captured. */
static void test_device_memory(void **state) {
  (void)state;
  gpu_layer g = open_layer("", "cuda_emulation_w4a4");
  nvfp4_reason reason = {0};
  nvfp4_layer *layer;
  nvfp4_weights weights = test_layer_weights(&g.test), there;
  nvfp4_visit visit;
  void *owned, *x_there, *y_there, *workspace;
  float x[M * K], want[M * N], y[M * N];
  test_random random = {9};
  for (int i = 0; i < M * K; i++) {
    x[i] = test_random_gauss(&random);
  }
  test_layer_reference(&g.test, NVFP4_MODE_W4A4, x, M, false, want);
  assert_ok(nvfp4_place_enter(&g.place, true, &visit, &reason), reason);
  assert_ok(nvfp4_place_weights(&visit, &weights, &there, &owned, &reason), reason);
  assert_ok(nvfp4_place_wait(&visit, &reason), reason);
  assert_ok(nvfp4_layer_create(g.context, g.plan, &there, &layer, &reason), reason);
  nvfp4_place_free(&g.place, owned);
  assert_false(nvfp4_layer_borrows_weights(layer));
  size_t bytes = nvfp4_layer_workspace_bytes(layer, M);
  memset(y, 0xFF, sizeof y);
  assert_ok(nvfp4_place_copy(&visit, x, sizeof x, &x_there, &reason), reason);
  assert_ok(nvfp4_place_alloc(&g.place, bytes, &workspace, &reason), reason);
  const nvfp4_cu_api *api = nvfp4_cuda_api(g.place.cuda);
  for (int captured = 0; captured <= 1; captured++) {
    assert_ok(nvfp4_place_copy(&visit, y, sizeof y, &y_there, &reason), reason);
    nvfp4_apply_args args = {.struct_size = sizeof args,
                             .m = M,
                             .x = x_there,
                             .ldx_elems = K,
                             .y = y_there,
                             .ldy_elems = N,
                             .workspace = workspace,
                             .workspace_bytes = bytes,
                             .stream = visit.stream};
    float found[M * N];
    nvfp4_cu_graph graph;
    nvfp4_cu_graph_exec exec;
    if (captured) {
      assert_int_equal(api->stream_begin_capture(visit.stream, 0), 0);
    }
    assert_ok(nvfp4_layer_apply(layer, &args, &reason), reason);
    if (captured) { /* layers come and go meanwhile */
      nvfp4_layer *another;
      const size_t live = test_cuda_live();
      assert_ok(nvfp4_layer_create(g.context, g.plan, &weights, &another, &reason), reason);
      nvfp4_layer_destroy(another);
      assert_int_equal(test_cuda_live(), live);
      assert_int_equal(api->stream_end_capture(visit.stream, &graph), 0);
      assert_int_equal(api->graph_instantiate(&exec, graph, 0), 0);
      assert_int_equal(api->graph_launch(exec, visit.stream), 0);
      api->graph_destroy(graph);
    }
    assert_ok(nvfp4_cuda_copy_rows(g.place.cuda, found, sizeof y, y_there, sizeof y, sizeof y, 1, visit.stream, &reason), reason);
    assert_ok(nvfp4_place_wait(&visit, &reason), reason);
    assert_memory_equal(found, want, sizeof want);
    if (captured) {
      api->graph_exec_destroy(exec);
    }
    nvfp4_place_free(&g.place, y_there);
  }
  nvfp4_place_free(&g.place, x_there);
  nvfp4_place_free(&g.place, workspace);
  assert_ok(nvfp4_place_leave(&visit, &reason), reason);
  nvfp4_layer_destroy(layer);
  close_layer(&g);
}

/* Plays `mock` from the next call of the driver on. */
static void play(const gpu_layer *g, const char *mock) {
  setenv("MOCK_CUDA", mock, 1);
  assert_int_equal(nvfp4_cuda_api(g->place.cuda)->init(0), 0); /* reads the environment again */
}

/* Whichever of the driver's calls fails, the layer is refused with what the driver says, what was made is freed, and no context stays current. Good scales and a bad one, from the host and there. */
static void every_call_fails(const char *mock, const char *kernel, int least_calls) {
  gpu_layer g = open_layer(mock, kernel);
  nvfp4_reason reason = {0};
  nvfp4_visit visit;
  nvfp4_weights weights[2] = {test_layer_weights(&g.test)};
  void *owned;
  assert_ok(nvfp4_place_enter(&g.place, true, &visit, &reason), reason);
  assert_ok(nvfp4_place_weights(&visit, &weights[0], &weights[1], &owned, &reason), reason);
  assert_ok(nvfp4_place_leave(&visit, &reason), reason);
  nvfp4_layer *first = NULL;
  play(&g, "fail=cuMemAlloc:2");
  assert_int_equal(nvfp4_layer_create(g.context, g.plan, &weights[0], &first, &reason), NVFP4_E_NOMEM);
  assert_non_null(strstr(reason.text, "out of GPU memory"));
  play(&g, mock); /* from now on kernels are loaded, which stay */
  assert_ok(nvfp4_layer_create(g.context, g.plan, &weights[0], &first, &reason), reason);
  nvfp4_layer_destroy(first);
  for (int i = 0; i < 4; i++) {
    const nvfp4_status want = i < 2 ? NVFP4_OK : NVFP4_E_FORMAT;
    nvfp4_layer *layer = NULL;
    nvfp4_status status = NVFP4_E_DEVICE;
    const size_t live = test_cuda_live();
    int calls = 1; /* cuInit */
    while (status == NVFP4_E_DEVICE) {
      char failing[80];
      nvfp4_cu_context current;
      snprintf(failing, sizeof failing, "%s,fail=%d:700", mock, ++calls);
      play(&g, failing);
      status = nvfp4_layer_create(g.context, g.plan, &weights[i % 2], &layer, &reason);
      assert_int_equal(status, status == NVFP4_E_DEVICE ? NVFP4_E_DEVICE : want);
      assert_true(status != NVFP4_E_DEVICE || strstr(reason.text, "(700)") != NULL);
      play(&g, mock);
      assert_int_equal(nvfp4_cuda_api(g.place.cuda)->context_get_current(&current), 0);
      assert_null(current);
      if (status == NVFP4_OK) {
        nvfp4_layer_destroy(layer);
      }
      assert_int_equal(test_cuda_live(), live);
    }
    assert_true(calls > least_calls); /* it is not that one was overlooked */
    if (i == 1) {                     /* wrong from now on, on both sides */
      g.test.scales[2] = 0x80;
      assert_ok(nvfp4_place_enter(&g.place, true, &visit, &reason), reason);
      assert_ok(nvfp4_cuda_copy_now(g.place.cuda, (uint8_t *)(uintptr_t)weights[1].scales, g.test.scales, 3, &reason), reason);
      assert_ok(nvfp4_place_leave(&visit, &reason), reason);
    }
  }
  assert_ok(nvfp4_place_enter(&g.place, false, &visit, &reason), reason);
  nvfp4_place_free(&g.place, owned);
  assert_ok(nvfp4_place_leave(&visit, &reason), reason);
  close_layer(&g);
}

static void test_every_call_fails(void **state) {
  (void)state;
  if (!test_cuda_is_mock()) {
    skip();
  }
  every_call_fails("devices=1", "cuda_emulation_w4a4", 12);
  every_call_fails("devices=1", "cuda_sm90_w4a4", 12);
  every_call_fails("sm=120", "cuda_sm120_w4a4", 12);
}

/* While a layer is made, its canonical weights lie beside the packed ones, if they come from the host, and next to nothing does if they are there. */
static void test_transient_memory(void **state) {
  (void)state;
  enum { ROWS = 256, COLUMNS = 2048, CANONICAL = ROWS * COLUMNS / 16 * 9, SMALL = 8 * 4096 }; /* alphas, scale check: a page each */
  nvfp4_context *context = test_cuda_context("");
  if (!test_cuda_is_mock()) {
    nvfp4_context_destroy(context);
    skip();
  }
  test_layer test = test_layer_make(ROWS, COLUMNS, 5);
  nvfp4_layer_desc desc = test_layer_desc(&test, NVFP4_MODE_W4A4);
  desc.device = (nvfp4_device){NVFP4_DEVICE_CUDA, 0};
  const nvfp4_policy policy = {.struct_size = sizeof policy, .kernel = "cuda_sm90_w4a4"};
  nvfp4_reason reason = {0};
  nvfp4_plan *plan;
  nvfp4_place place;
  nvfp4_visit visit;
  nvfp4_weights host = test_layer_weights(&test), there;
  void *owned;
  assert_ok(nvfp4_init_linear_kernel(context, &desc, &policy, &plan, NULL, &reason), reason);
  assert_ok(nvfp4_place_find(context->cuda, desc.device, &place, &reason), reason);
  assert_ok(nvfp4_place_enter(&place, true, &visit, &reason), reason);
  assert_ok(nvfp4_place_weights(&visit, &host, &there, &owned, &reason), reason);
  assert_ok(nvfp4_place_wait(&visit, &reason), reason);
  for (int on_device = 0; on_device < 2; on_device++) {
    nvfp4_layer *layer;
    test_cuda_most_bytes();
    size_t before = test_cuda_most_bytes();
    assert_ok(nvfp4_layer_create(context, plan, on_device ? &there : &host, &layer, &reason), reason);
    size_t most = test_cuda_most_bytes() - before, packed = (size_t)nvfp4_layer_packed_bytes(layer);
    assert_in_range(most, packed, packed + (on_device ? 0 : CANONICAL) + SMALL);
    nvfp4_layer_destroy(layer);
  }
  const size_t loads = test_cuda_loads(); /* kernels are loaded for the first layer of a context */
  nvfp4_layer *layer;
  assert_ok(nvfp4_layer_create(context, plan, &there, &layer, &reason), reason);
  assert_true(loads > 0);
  assert_int_equal(test_cuda_loads(), loads);
  nvfp4_layer_destroy(layer);
  nvfp4_place_free(&place, owned);
  assert_ok(nvfp4_place_leave(&visit, &reason), reason);
  nvfp4_plan_free(plan);
  test_layer_free(&test);
  nvfp4_context_destroy(context);
  assert_int_equal(test_cuda_live(), 0);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_selection),       cmocka_unit_test(test_bad_scales),
                                     cmocka_unit_test(test_scale_check),     cmocka_unit_test(test_threads_make_layers),
                                     cmocka_unit_test(test_device_memory),   cmocka_unit_test(test_every_call_fails),
                                     cmocka_unit_test(test_transient_memory)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
