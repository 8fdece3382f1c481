/* SPDX-License-Identifier: Apache-2.0 */
#include "ref_kernel_cases.h"

#include <fenv.h>
#include <math.h>
#include <stdlib.h>

#include "format/half.h"
#include "kernels/registry.h"
#if defined(__x86_64__)
#include <xmmintrin.h>
#endif

void skip_unless_supported(const char *kernel) {
  nvfp4_machine machine = {.struct_size = sizeof machine};
  nvfp4_machine_probe(&machine);
  size_t count;
  const nvfp4_registry_entry *entries = nvfp4_registry(&count);
  for (size_t i = 0; i < count; i++) {
    if (strcmp(entries[i].id, kernel) == 0) {
      if (entries[i].kernel == NULL || entries[i].kernel->is_supported(&machine, NULL) != NVFP4_OK) {
        skip();
      }
      return;
    }
  }
  fail_msg("no kernel %s in the registry", kernel);
}

static const canonical_kernel *under_test(void **state) {
  const canonical_kernel *kernel = *state;
  skip_unless_supported(kernel->id);
  return kernel;
}

static nvfp4_options force(const canonical_kernel *kernel, int threads) {
  return (nvfp4_options){
      .struct_size = sizeof(nvfp4_options),
      .threads = threads,
      .policy = {.struct_size = sizeof(nvfp4_policy), .kernel = kernel->together != NULL ? kernel->together : kernel->id}};
}

static float *random_x(int64_t m, int64_t k, uint64_t seed) {
  test_random random = {seed};
  float *x = malloc((size_t)(m * k) * sizeof *x);
  for (int64_t i = 0; i < m * k; i++) {
    x[i] = test_random_gauss(&random) * (float)(1 + i % 5);
  }
  return x;
}

static void expect_bits(const float *got, const float *want, int64_t m, int64_t n) {
  for (int64_t i = 0; i < m * n; i++) {
    if (f32_bits(got[i]) != f32_bits(want[i])) {
      fail_msg("M=%lld N=%lld row %lld column %lld: got %a, want %a", (long long)m, (long long)n, (long long)(i / n), (long long)(i % n),
               (double)got[i], (double)want[i]);
    }
  }
}

void canonical_shapes(void **state) {
  const canonical_kernel *kernel = under_test(state);
  static const int64_t ns[] = {1, 2, 15, 16, 17, 31, 32, 33, 63, 64, 65, 100}, ks[] = {16, 32, 48, 64, 240, 256, 272};
  static const int64_t ms[] = {1, 2, 7, 8, 9, 16, 17};
  nvfp4_options options = force(kernel, 1);
  for (size_t a = 0; a < sizeof ns / sizeof ns[0]; a++) {
    for (size_t b = 0; b < sizeof ks / sizeof ks[0]; b++) {
      int64_t m = ms[(a * 7 + b) % 7];
      int64_t k = kernel->mode == NVFP4_MODE_UNQUANTISED ? ks[b] - (int64_t)(a + b) % 5 : ks[b];
      test_layer layer = test_layer_make(ns[a], k, a * 100 + b);
      nvfp4_layer_desc desc = test_layer_desc(&layer, kernel->mode);
      bool with_bias = (a + b) % 2 == 1;
      desc.bias_dtype = with_bias ? NVFP4_DTYPE_F32 : NVFP4_DTYPE_NONE;
      float *x = random_x(m, k, 11 + a + b), *want = malloc((size_t)(m * ns[a]) * sizeof *want);
      test_layer_reference(&layer, kernel->mode, x, m, with_bias, want);
      float *got = test_layer_run(&options, &layer, &desc, x, m);
      expect_bits(got, want, m, ns[a]);
      free(got);
      free(want);
      free(x);
      test_layer_free(&layer);
    }
  }
}

void canonical_dtypes(void **state) {
  const canonical_kernel *kernel = under_test(state);
  static const nvfp4_dtype dtypes[] = {NVFP4_DTYPE_F32, NVFP4_DTYPE_F16, NVFP4_DTYPE_BF16};
  enum { M = 3, N = 41, K = 96 };
  nvfp4_options options = force(kernel, 2);
  test_layer layer = test_layer_make(N, K, 5);
  float *full = random_x(M, K, 3), x[M * K], want[M * N];
  for (int i = 0; i < 3; i++) {
    uint16_t narrow[M * K];
    nvfp4_from_f32(full, dtypes[i], dtypes[i] == NVFP4_DTYPE_F32 ? (void *)x : narrow, M * K);
    if (dtypes[i] != NVFP4_DTYPE_F32) {
      nvfp4_to_f32(narrow, dtypes[i], x, M * K);
    }
    test_layer_reference(&layer, kernel->mode, x, M, false, want);
    for (int j = 0; j < 3; j++) {
      nvfp4_layer_desc desc = test_layer_desc(&layer, kernel->mode);
      desc.x_dtype = dtypes[i];
      desc.y_dtype = dtypes[j];
      void *got = test_layer_run(&options, &layer, &desc, dtypes[i] == NVFP4_DTYPE_F32 ? (void *)x : narrow, M);
      float rounded[M * N];
      uint16_t rounded16[M * N];
      nvfp4_from_f32(want, dtypes[j], dtypes[j] == NVFP4_DTYPE_F32 ? (void *)rounded : rounded16, M * N);
      assert_memory_equal(got, dtypes[j] == NVFP4_DTYPE_F32 ? (void *)rounded : rounded16,
                          dtypes[j] == NVFP4_DTYPE_F32 ? sizeof rounded : sizeof rounded16);
      free(got);
    }
  }
  free(full);
  test_layer_free(&layer);
}

void canonical_batch_and_threads(void **state) {
  const canonical_kernel *kernel = under_test(state);
  enum { M = 250, N = 75, K = 160 }; /* more rows than a task takes */
  test_layer layer = test_layer_make(N, K, 6);
  nvfp4_layer_desc desc = test_layer_desc(&layer, kernel->mode);
  nvfp4_options one = force(kernel, 1);
  float *x = random_x(M, K, 4), *want = test_layer_run(&one, &layer, &desc, x, M);
  for (int threads = 2; threads <= 5; threads++) {
    nvfp4_options many = force(kernel, threads);
    float *got = test_layer_run(&many, &layer, &desc, x, M);
    expect_bits(got, want, M, N);
    free(got);
  }
  for (int64_t row = 0; row < M; row += 13) {
    float *got = test_layer_run(&one, &layer, &desc, x + row * K, 1);
    expect_bits(got, want + row * N, 1, N);
    free(got);
  }
  free(want);
  free(x);
  test_layer_free(&layer);
}

/* A NaN makes its row NaN and leaves the others; infinities, zeros of both signs, subnormals and huge values as the reference has them. */
void canonical_special_x(void **state) {
  const canonical_kernel *kernel = under_test(state);
  enum { M = 6, N = 33, K = 64 };
  nvfp4_options options = force(kernel, 2);
  test_layer layer = test_layer_make(N, K, 9);
  nvfp4_layer_desc desc = test_layer_desc(&layer, kernel->mode);
  float *x = random_x(M, K, 5), want[M * N];
  x[1 * K + 17] = NAN;
  x[2 * K + 3] = INFINITY;
  for (int i = 0; i < K; i++) {
    x[3 * K + i] = i % 2 == 0 ? 0.0f : -0.0f;
    x[4 * K + i] = (float)(i - 30) * 0x1p-149f;
    x[5 * K + i] = (float)(i - 31) * 0x1p120f;
  }
  test_layer_reference(&layer, kernel->mode, x, M, false, want);
  float *got = test_layer_run(&options, &layer, &desc, x, M);
  expect_bits(got, want, M, N);
  for (int n = 0; n < N; n++) {
    assert_int_equal(f32_bits(got[1 * N + n]), 0x7FC00000u);
    assert_false(isnan(got[0 * N + n]));
  }
  free(got);
  free(x);
  test_layer_free(&layer);
}

/* A caller with flush-to-zero and another rounding mode gets the same bits, and its settings back. */
void canonical_caller_fp_env(void **state) {
  const canonical_kernel *kernel = under_test(state);
  enum { M = 4, N = 33, K = 64 };
  nvfp4_options options = force(kernel, 1); /* one thread: the caller's own */
  test_layer layer = test_layer_make(N, K, 12);
  nvfp4_layer_desc desc = test_layer_desc(&layer, kernel->mode);
  float *x = random_x(M, K, 6), want[M * N];
  for (int i = 0; i < K; i++) {
    x[i] *= 0x1p-140f;
  }
  test_layer_reference(&layer, kernel->mode, x, M, false, want);
  fesetround(FE_UPWARD);
#if defined(__x86_64__)
  unsigned before = _mm_getcsr() | 0x8040u;
  _mm_setcsr(before);
#elif defined(__aarch64__)
  uint64_t before, after;
  __asm__ volatile("mrs %0, fpcr" : "=r"(before));
  before |= 0x7080000u; /* FZ16 (which not all processors have), FZ, DN, AHP */
  __asm__ volatile("msr fpcr, %0" : : "r"(before) : "memory");
  __asm__ volatile("mrs %0, fpcr" : "=r"(before));
#endif
  float *got = test_layer_run(&options, &layer, &desc, x, M);
#if defined(__x86_64__)
  unsigned after = _mm_getcsr();
  _mm_setcsr(0x1F80u);
  assert_int_equal(before & ~0x3Fu, after & ~0x3Fu);
#elif defined(__aarch64__)
  __asm__ volatile("mrs %0, fpcr" : "=r"(after));
  __asm__ volatile("msr fpcr, %0" : : "r"(before & ~(uint64_t)0x7080000u) : "memory");
  assert_int_equal(before, after);
#endif
  assert_int_equal(fegetround(), FE_UPWARD);
  fesetround(FE_TONEAREST);
  expect_bits(got, want, M, N);
  free(got);
  free(x);
  test_layer_free(&layer);
}

void canonical_large(void **state) {
  const canonical_kernel *kernel = under_test(state);
  const int m = kernel->large.m, n = kernel->large.n;
  nvfp4_options options = force(kernel, 2);
  test_layer layer = test_layer_make(n, kernel->large.k, 21);
  nvfp4_layer_desc desc = test_layer_desc(&layer, kernel->mode);
  float *x = random_x(m, kernel->large.k, 22), *want = malloc(sizeof(float) * (size_t)(m * n));
  test_layer_reference(&layer, kernel->mode, x, m, false, want);
  float *got = test_layer_run(&options, &layer, &desc, x, m);
  expect_bits(got, want, m, n);
  free(got);
  free(want);
  free(x);
  test_layer_free(&layer);
}
