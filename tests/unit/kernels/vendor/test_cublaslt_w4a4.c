/* SPDX-License-Identifier: Apache-2.0 */
/* cuBLASLt as the kernel calls it, on mocks: our declarations against NVIDIA's header, results in every form, refusals, threads. */
#define _POSIX_C_SOURCE 200809L /* setenv */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include "cuda_support.h"
#include "kernels/vendor/cublaslt.h"

#if __has_include(<cublasLt.h>)
#include <cublasLt.h>

#define SAME(ours, theirs) _Static_assert((int)(ours) == (int)(theirs), #theirs)
#define SAME_MEMBER(ours, theirs)                                                                                       \
  _Static_assert(offsetof(nvfp4_lt_heuristic, ours) == offsetof(cublasLtMatmulHeuristicResult_t, theirs) &&             \
                     sizeof(((nvfp4_lt_heuristic *)0)->ours) == sizeof(((cublasLtMatmulHeuristicResult_t *)0)->theirs), \
                 #theirs)
SAME(NVFP4_LT_SUCCESS, CUBLAS_STATUS_SUCCESS);
SAME(NVFP4_LT_ARCH_MISMATCH, CUBLAS_STATUS_ARCH_MISMATCH);
SAME(NVFP4_LT_NOT_SUPPORTED, CUBLAS_STATUS_NOT_SUPPORTED);
SAME(NVFP4_LT_OP_N, CUBLAS_OP_N);
SAME(NVFP4_LT_OP_T, CUBLAS_OP_T);
SAME(NVFP4_LT_COMPUTE_32F, CUBLAS_COMPUTE_32F);
SAME(NVFP4_LT_R_32F, CUDA_R_32F);
SAME(NVFP4_LT_R_16F, CUDA_R_16F);
SAME(NVFP4_LT_R_16BF, CUDA_R_16BF);
SAME(NVFP4_LT_EPILOGUE_BIAS, CUBLASLT_EPILOGUE_BIAS);
SAME(NVFP4_LT_DESC_TRANSA, CUBLASLT_MATMUL_DESC_TRANSA);
SAME(NVFP4_LT_DESC_TRANSB, CUBLASLT_MATMUL_DESC_TRANSB);
SAME(NVFP4_LT_DESC_EPILOGUE, CUBLASLT_MATMUL_DESC_EPILOGUE);
SAME(NVFP4_LT_DESC_BIAS_POINTER, CUBLASLT_MATMUL_DESC_BIAS_POINTER);
SAME(NVFP4_LT_DESC_A_SCALE_POINTER, CUBLASLT_MATMUL_DESC_A_SCALE_POINTER);
SAME(NVFP4_LT_DESC_B_SCALE_POINTER, CUBLASLT_MATMUL_DESC_B_SCALE_POINTER);
SAME(NVFP4_LT_DESC_BIAS_DATA_TYPE, CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE);
SAME(NVFP4_LT_LAYOUT_COLS, CUBLASLT_MATRIX_LAYOUT_COLS);
SAME(NVFP4_LT_LAYOUT_LD, CUBLASLT_MATRIX_LAYOUT_LD);
SAME(NVFP4_LT_PREF_MAX_WORKSPACE_BYTES, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES);
SAME(NVFP4_LT_PREF_MIN_ALIGNMENT_A_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES);
SAME(NVFP4_LT_PREF_MIN_ALIGNMENT_B_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES);
SAME(NVFP4_LT_PREF_MIN_ALIGNMENT_C_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES);
SAME(NVFP4_LT_PREF_MIN_ALIGNMENT_D_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES);
_Static_assert(sizeof(nvfp4_lt_algo) == sizeof(cublasLtMatmulAlgo_t), "cublasLtMatmulAlgo_t");
_Static_assert(sizeof(nvfp4_lt_heuristic) == sizeof(cublasLtMatmulHeuristicResult_t), "cublasLtMatmulHeuristicResult_t");
SAME_MEMBER(algo, algo);
SAME_MEMBER(workspace_bytes, workspaceSize);
SAME_MEMBER(state, state);
#if CUBLAS_VERSION >= 120800
SAME(NVFP4_LT_R_4F_E2M1, CUDA_R_4F_E2M1);
SAME(NVFP4_LT_SCALE_VEC16_UE4M3, CUBLASLT_MATMUL_MATRIX_SCALE_VEC16_UE4M3);
SAME(NVFP4_LT_DESC_A_SCALE_MODE, CUBLASLT_MATMUL_DESC_A_SCALE_MODE);
SAME(NVFP4_LT_DESC_B_SCALE_MODE, CUBLASLT_MATMUL_DESC_B_SCALE_MODE);
#endif
#endif

static const char kernel[] = "vendor_cublaslt_w4a4";

static bool is_open(void) {
  char line[1024];
  bool found = false;
  FILE *maps = fopen("/proc/self/maps", "r");
  assert_non_null(maps);
  while (fgets(line, sizeof line, maps) != NULL) {
    found = found || strstr(line, "libcublasLt") != NULL;
  }
  fclose(maps);
  return found;
}

/* What a context on `mock` says of the kernel for a small layer. */
static nvfp4_stage stage_of(const char *mock, const char *library, char text[512]) {
  setenv("MOCK_CUBLASLT", library, 1);
  nvfp4_context *context = test_cuda_context(mock);
  test_layer test = test_layer_make(64, 128, 1);
  nvfp4_layer_desc desc = test_layer_desc(&test, NVFP4_MODE_W4A4);
  nvfp4_report *report = NULL;
  nvfp4_plan *plan = NULL;
  nvfp4_reason reason = {0};
  nvfp4_stage stage = NVFP4_STAGE_NOT_BUILT;
  desc.device = (nvfp4_device){NVFP4_DEVICE_CUDA, 0};
  assert_ok(nvfp4_init_linear_kernel(context, &desc, NULL, &plan, &report, &reason), reason);
  text[0] = '\0';
  for (size_t i = 0; i < report->row_count; i++) {
    if (strcmp(report->rows[i].id, kernel) == 0) {
      stage = report->rows[i].stage;
      snprintf(text, 512, "%s", report->rows[i].reason);
    }
  }
  nvfp4_report_free(report);
  nvfp4_plan_free(plan);
  test_layer_free(&test);
  nvfp4_context_destroy(context);
  assert_int_equal(test_cuda_live(), 0);
  setenv("MOCK_CUBLASLT", "", 1);
  return stage;
}

/* The first test: later ones open the library. */
static void test_opened_for_blackwell_alone(void **state) {
  (void)state;
  char text[512];
  assert_int_equal(stage_of("sm=90", "", text), NVFP4_STAGE_UNSUPPORTED_MACHINE);
  assert_string_equal(text, "the GPU (Mock GPU 0) has compute capability 9.0; needs compute capability 10.0 or newer");
  assert_false(is_open());
  assert_int_equal(stage_of("sm=100", "", text), NVFP4_STAGE_CHOSEN);
  assert_true(is_open());
}

static void test_refusals(void **state) {
  (void)state;
  static const char *const ways[] = {"refuse=status", "refuse=count", "refuse=state"};
  char text[512];
  for (int i = 0; i < 3; i++) {
    assert_int_equal(stage_of("sm=120", ways[i], text), NVFP4_STAGE_UNSUPPORTED_MACHINE);
    assert_string_equal(text,
                        "cuBLASLt 13.1.0 has no NVFP4 product for this GPU (N = 37, K = 80, M = 16); needs one of compute capability "
                        "10.0 or newer that it knows: a newer cuBLAS may, or another kernel serves");
  }
  assert_int_equal(stage_of("sm=100", "version=120508", text), NVFP4_STAGE_UNSUPPORTED_MACHINE);
  assert_string_equal(text, "cuBLASLt is 12.5; needs 12.8 or newer: install that, where the loader finds it first");
  assert_int_equal(stage_of("sm=100", "refuse=matmul", text), NVFP4_STAGE_FAILED_SELF_TEST);
  assert_string_equal(text, "cuBLASLt: cublasLtMatmul: CUBLAS_STATUS_EXECUTION_FAILED");
}

static const test_cuda_case cases[] = {
    {1, 64, 128, NVFP4_DTYPE_BF16, NVFP4_DTYPE_NONE, false},  {17, 40, 80, NVFP4_DTYPE_F16, NVFP4_DTYPE_F16, false},
    {33, 136, 208, NVFP4_DTYPE_BF16, NVFP4_DTYPE_F32, false}, {130, 4, 16, NVFP4_DTYPE_F32, NVFP4_DTYPE_NONE, false},
    {5, 37, 144, NVFP4_DTYPE_BF16, NVFP4_DTYPE_BF16, false}, /* from here on not in the direct form */
    {16, 64, 128, NVFP4_DTYPE_BF16, NVFP4_DTYPE_NONE, true},  {140, 70, 48, NVFP4_DTYPE_F32, NVFP4_DTYPE_BF16, true}};

static void run_cases(const char *library) {
  setenv("MOCK_CUBLASLT", library, 1);
  nvfp4_context *context = test_cuda_context("sm=103");
  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
    test_cuda_exact(context, kernel, &cases[i]);
  }
  nvfp4_context_destroy(context);
  assert_int_equal(test_cuda_live(), 0);
  setenv("MOCK_CUBLASLT", "", 1);
}

static void test_results(void **state) {
  (void)state;
  run_cases("");
  run_cases("refuse=bias"); /* then the bias is ours */
}

/* Sums that do not fit the workspace's 64 MiB are made 128 rows at a time. */
static void test_many_sums(void **state) {
  (void)state;
  nvfp4_context *context = test_cuda_context("sm=100");
  test_cuda_exact(context, kernel, &(test_cuda_case){133, 70001, 16, NVFP4_DTYPE_BF16, NVFP4_DTYPE_NONE, false});
  nvfp4_context_destroy(context);
}

enum { THREADS = 4, THREAD_M = 20, THREAD_N = 64, THREAD_K = 64 };

typedef struct thread_call {
  const nvfp4_layer *layer;
  const float *x;
  int64_t m;
  float y[THREAD_M * THREAD_N];
  nvfp4_status status;
} thread_call;

static void *apply_often(void *cookie) {
  thread_call *call = cookie;
  nvfp4_apply_args args = {
      .struct_size = sizeof args, .m = call->m, .x = call->x, .ldx_elems = THREAD_K, .y = call->y, .ldy_elems = THREAD_N};
  for (int i = 0; i < 50 && call->status == NVFP4_OK; i++) {
    call->status = nvfp4_layer_apply_host(call->layer, &args, NULL);
  }
  return NULL;
}

/* One layer, threads with other M and addresses: the descriptors that they share must not mix. */
static void test_threads(void **state) {
  (void)state;
  nvfp4_context *context = test_cuda_context("sm=100");
  nvfp4_reason reason = {0};
  test_layer test = test_layer_make(THREAD_N, THREAD_K, 5);
  nvfp4_weights weights = test_layer_weights(&test);
  nvfp4_layer_desc desc = test_layer_desc(&test, NVFP4_MODE_W4A4);
  nvfp4_policy policy = {.struct_size = sizeof policy, .kernel = kernel};
  nvfp4_plan *plan;
  nvfp4_layer *layer;
  desc.device = (nvfp4_device){NVFP4_DEVICE_CUDA, 0};
  assert_ok(nvfp4_init_linear_kernel(context, &desc, &policy, &plan, NULL, &reason), reason);
  assert_ok(nvfp4_layer_create(context, plan, &weights, &layer, &reason), reason);
  pthread_t threads[THREADS];
  thread_call *calls = calloc(THREADS, sizeof *calls);
  float *x = malloc(THREADS * THREAD_M * THREAD_K * sizeof *x), want[THREAD_M * THREAD_N];
  test_random random = {9};
  for (int i = 0; i < THREADS * THREAD_M * THREAD_K; i++) {
    x[i] = test_random_gauss(&random);
  }
  for (int i = 0; i < THREADS; i++) {
    calls[i] = (thread_call){.layer = layer, .x = x + i * THREAD_M * THREAD_K, .m = 4 + 4 * i};
    assert_int_equal(pthread_create(&threads[i], NULL, apply_often, &calls[i]), 0);
  }
  for (int i = 0; i < THREADS; i++) {
    pthread_join(threads[i], NULL);
    assert_int_equal(calls[i].status, NVFP4_OK);
    test_layer_reference(&test, NVFP4_MODE_W4A4, calls[i].x, calls[i].m, false, want);
    assert_memory_equal(calls[i].y, want, (size_t)calls[i].m * THREAD_N * sizeof *want);
  }
  free(calls);
  free(x);
  nvfp4_layer_destroy(layer);
  nvfp4_plan_free(plan);
  test_layer_free(&test);
  nvfp4_context_destroy(context);
  assert_int_equal(test_cuda_live(), 0);
}

int main(void) {
  if (!test_cuda_is_mock()) {
    return 0; /* a real GPU and library: checkkern */
  }
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_opened_for_blackwell_alone), cmocka_unit_test(test_refusals),
                                     cmocka_unit_test(test_results), cmocka_unit_test(test_many_sums), cmocka_unit_test(test_threads)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
