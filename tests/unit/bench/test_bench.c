/* SPDX-License-Identifier: Apache-2.0 */
#include <math.h>
#include <nvfp4/bench.h>

#include "support.h"

enum { BUFFER = 4 << 20 };

static nvfp4_context *make_context(const char *plugins) {
  nvfp4_options options = {.struct_size = sizeof options, .threads = 2, .plugins = plugins};
  nvfp4_context *context;
  nvfp4_reason reason = {0};
  assert_ok(nvfp4_context_create(&options, &context, &reason), reason);
  return context;
}

static const nvfp4_bench_shape shapes[] = {{64, 128}, {33, 48}};
static const int64_t ms[] = {1, 17};

static nvfp4_bench_options tiny(const char *const *kernels, size_t count) {
  return (nvfp4_bench_options){.struct_size = sizeof(nvfp4_bench_options),
                               .kernels = kernels,
                               .kernel_count = count,
                               .shapes = shapes,
                               .shape_count = 2,
                               .ms = ms,
                               .m_count = 2,
                               .seconds = 1e-4,
                               .rotate_bytes = BUFFER};
}

static void expect_sound(const nvfp4_bench_result *r) {
  assert_int_equal(r->status, NVFP4_OK);
  assert_true(r->calls >= 3);
  assert_true(r->us > 0 && r->us_p10 > 0 && r->us_p10 <= r->us && r->us <= r->us_p90);
  assert_true(fabs(r->gbps - (strstr(r->kernel, "_w16a16") != NULL ? 2 : 0.5625) * (double)(r->n * r->k) / r->us * 1e-3) <= 1e-9 * r->gbps);
  assert_true(fabs(r->gflops - 2.0 * (double)(r->m * r->n * r->k) / r->us * 1e-3) <= 1e-9 * r->gflops);
  assert_true(r->roof_share > 0);
}

/* By shape, then M, then kernel. */
static void test_order(void **state) {
  (void)state;
  static const char *const kernels[] = {"ref_w4a16", "ref_w4a4"};
  nvfp4_context *context = make_context(NULL);
  nvfp4_bench_options options = tiny(kernels, 2);
  nvfp4_bench *bench = NULL;
  nvfp4_reason reason = {0};
  assert_ok(nvfp4_bench_run(context, &options, &bench, &reason), reason);
  assert_int_equal(bench->threads, 2);
  assert_int_equal(bench->result_count, 8);
  assert_true(bench->before.read_gbps > 0 && bench->after.read_gbps > 0);
  for (size_t i = 0; i < 8; i++) {
    const nvfp4_bench_result *r = &bench->results[i];
    assert_string_equal(r->kernel, kernels[i % 2]);
    assert_int_equal(r->m, ms[i / 2 % 2]);
    assert_int_equal(r->n, shapes[i / 4].n);
    assert_int_equal(r->k, shapes[i / 4].k);
    expect_sound(r);
  }
  nvfp4_bench_free(bench);
  nvfp4_context_destroy(context);
}

static void test_all_kernels(void **state) {
  (void)state;
  nvfp4_context *context = make_context(NULL);
  nvfp4_bench_options options = tiny(NULL, 0);
  nvfp4_bench_shape shape = nvfp4_bench_resident_shape(context);
  assert_true(shape.n > 0 && shape.n % 64 == 0 && shape.k % NVFP4_BLOCK == 0);
  options.resident = true;
  nvfp4_bench *bench = NULL;
  nvfp4_reason reason = {0};
  assert_ok(nvfp4_bench_run(context, &options, &bench, &reason), reason);
  size_t runnable = 0;
  for (size_t i = 0; i < nvfp4_kernel_count(context); i++) {
    nvfp4_kernel_info info;
    assert_ok(nvfp4_kernel_get(context, i, NULL, &info, &reason), reason);
    runnable += info.stage == NVFP4_STAGE_ELIGIBLE;
  }
  assert_int_equal(bench->result_count, 4 * runnable);
  for (size_t i = 0; i < bench->result_count; i++) {
    const nvfp4_bench_result *r = &bench->results[i];
    if (r->m == 1 && r->status == NVFP4_E_POLICY) { /* a kernel for more rows */
      assert_non_null(strstr(r->reason, "serves M from"));
    } else {
      expect_sound(r);
    }
  }
  nvfp4_bench_free(bench);
  nvfp4_context_destroy(context);
}

/* A kernel that fails its self-test is not timed, and the others are. */
static void test_wrong_kernel(void **state) {
  (void)state;
  static const char *const kernels[] = {"plugin_faulty_w4a16", "ref_w4a16"};
  nvfp4_context *context = make_context(TEST_PLUGINS "faulty_5.so");
  nvfp4_bench_options options = tiny(kernels, 2);
  nvfp4_bench *bench = NULL;
  nvfp4_reason reason = {0};
  assert_ok(nvfp4_bench_run(context, &options, &bench, &reason), reason);
  for (size_t i = 0; i < bench->result_count; i += 2) {
    assert_int_equal(bench->results[i].status, NVFP4_E_POLICY);
    assert_true(bench->results[i].us == 0 && bench->results[i].roof_share == 0);
    assert_non_null(strstr(bench->results[i].reason, "plugin_faulty_w4a16"));
    expect_sound(&bench->results[i + 1]);
  }
  nvfp4_bench_free(bench);
  nvfp4_context_destroy(context);
}

static void count_calls(void *cookie, const char *kernel, int64_t n, int64_t k, int64_t m) {
  (void)n, (void)k, (void)m;
  assert_string_equal(kernel, "ref_w4a4");
  ++*(int *)cookie;
}

static void test_progress(void **state) {
  (void)state;
  static const char *const kernels[] = {"ref_w4a4"};
  nvfp4_context *context = make_context(NULL);
  nvfp4_bench_options options = tiny(kernels, 1);
  int calls = 0;
  options.progress = count_calls;
  options.progress_cookie = &calls;
  nvfp4_bench *bench = NULL;
  nvfp4_reason reason = {0};
  assert_ok(nvfp4_bench_run(context, &options, &bench, &reason), reason);
  assert_int_equal(calls, 4);
  nvfp4_bench_free(bench);
  nvfp4_context_destroy(context);
}

static void test_refusals(void **state) {
  (void)state;
  static const char *const unknown[] = {"no_such_kernel"};
  static const nvfp4_bench_shape bad_k = {16, 24}, bad_n = {0, 16};
  static const int64_t bad_m = 0;
  nvfp4_context *context = make_context(NULL);
  nvfp4_bench *bench = NULL;
  nvfp4_reason reason = {0};
  nvfp4_bench_options options = tiny(unknown, 1);
  assert_int_equal(nvfp4_bench_run(context, &options, &bench, &reason), NVFP4_E_ARG);
  assert_non_null(strstr(reason.text, "no_such_kernel"));
  options = tiny(NULL, 0);
  options.shapes = &bad_k;
  options.shape_count = 1;
  assert_int_equal(nvfp4_bench_run(context, &options, &bench, &reason), NVFP4_E_SHAPE);
  assert_non_null(strstr(reason.text, "K = 24"));
  options.shapes = &bad_n;
  assert_int_equal(nvfp4_bench_run(context, &options, &bench, &reason), NVFP4_E_SHAPE);
  options = tiny(NULL, 0);
  options.ms = &bad_m;
  options.m_count = 1;
  assert_int_equal(nvfp4_bench_run(context, &options, &bench, &reason), NVFP4_E_SHAPE);
  options.m_count = 0;
  assert_int_equal(nvfp4_bench_run(context, &options, &bench, &reason), NVFP4_E_ARG);
  options = tiny(NULL, 0);
  options.struct_size = 1;
  assert_int_equal(nvfp4_bench_run(context, &options, &bench, &reason), NVFP4_E_ARG);
  assert_null(bench);
  nvfp4_bench_free(NULL);
  nvfp4_context_destroy(context);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_order), cmocka_unit_test(test_all_kernels), cmocka_unit_test(test_wrong_kernel),
                                     cmocka_unit_test(test_progress), cmocka_unit_test(test_refusals)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
