/* SPDX-License-Identifier: Apache-2.0 */
#include "quantizer/gptq.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "format/e2m1.h"
#include "format/e4m3.h"
#include "format/weight.h"
#include "support.h"

static nvfp4_reason reason;

static nvfp4_blas blas;
static nvfp4_threads *threads;

static int set_up(void **state) {
  (void)state;
  blas.set_threads(1);
  return nvfp4_threads_create(2, NULL, NULL, &threads, &reason);
}

static int tear_down(void **state) {
  (void)state;
  nvfp4_threads_destroy(threads);
  return 0;
}

static double *doubles(int64_t count) {
  double *values = calloc((size_t)count, sizeof *values);
  assert_non_null(values);
  return values;
}

static float *gaussian(int64_t count, uint64_t seed) {
  test_random random = {seed};
  float *values = malloc((size_t)count * sizeof *values);
  assert_non_null(values);
  for (int64_t i = 0; i < count; i++) {
    values[i] = test_random_gauss(&random);
  }
  return values;
}

/* Inputs whose columns go together and differ in size. */
static float *correlated(int64_t m, int64_t k, uint64_t seed) {
  float *x = gaussian(m * k, seed), *common = gaussian(m, seed + 1);
  for (int64_t i = 0; i < m * k; i++) {
    x[i] = (x[i] + 2 * common[i / k]) * (i % k % 7 == 0 ? 4.0f : 0.5f);
  }
  free(common);
  return x;
}

static double *hessian_of(const float *x, int64_t m, int64_t k) {
  double *h = doubles(k * k);
  assert_ok(nvfp4_gptq_add_rows(&blas, threads, h, k, x, m, &reason), reason);
  return h;
}

/* ----------------------------------------------------------------------------------------- a plain implementation, by textbook */

/* The inverse of a [k, k], by Gauss and Jordan. */
static double *inverse(const double *a, int64_t k) {
  double *left = doubles(k * k), *right = doubles(k * k);
  memcpy(left, a, (size_t)(k * k) * sizeof *a);
  for (int64_t i = 0; i < k; i++) {
    right[i * k + i] = 1;
  }
  for (int64_t i = 0; i < k; i++) {
    double pivot = left[i * k + i];
    for (int64_t j = 0; j < k; j++) {
      left[i * k + j] /= pivot;
      right[i * k + j] /= pivot;
    }
    for (int64_t row = 0; row < k; row++) {
      double factor = left[row * k + i];
      for (int64_t j = 0; row != i && j < k; j++) {
        left[row * k + j] -= factor * left[i * k + j];
        right[row * k + j] -= factor * right[i * k + j];
      }
    }
  }
  free(left);
  return right;
}

/* The value of the E2M1 code nearest to w / step, ties to the even one. */
static double nearest(double w, double step) {
  double best = 0;
  for (int code = 1; code < 8; code++) {
    double value = (double)nvfp4_e2m1_table[code] * step, now = fabs(fabs(w) - value), before = fabs(fabs(w) - best);
    if (now < before || (now == before && code % 2 == 0)) {
      best = value;
    }
  }
  return copysign(best, w);
}

/* Optimal brain quantisation with the columns in order (Frantar et al., equations 2 and 3): after column j the inverse of the Hessian loses it. Rounds columns
 * first .. first+15 of w with the step and updates w beyond them; the cost is the sum of e^2 / [H^-1]_jj. */
static double reference_block(double *w, double *inverse_h, int64_t k, int64_t first, double step, double q[16]) {
  double cost = 0;
  for (int64_t j = first; j < first + 16; j++) {
    double d = inverse_h[j * k + j];
    q[j - first] = nearest(w[j], step);
    double e = (w[j] - q[j - first]) / d;
    cost += e * e * d;
    for (int64_t i = j + 1; i < k; i++) {
      w[i] -= e * inverse_h[j * k + i];
    }
    for (int64_t i = j + 1; i < k; i++) {
      for (int64_t l = j + 1; l < k; l++) {
        inverse_h[i * k + l] -= inverse_h[i * k + j] * inverse_h[j * k + l] / d;
      }
    }
  }
  return cost;
}

/* Every scale of the sweep's 16 is tried by itself on the whole block. */
static void reference_row(const float *x, const double *inverse_h, int64_t k, float global, nvfp4_scale_search search, float *dequantised,
                          uint8_t *scales) {
  double *w = doubles(k), *left = doubles(k * k), *trial_w = doubles(k), *trial_left = doubles(k * k);
  for (int64_t i = 0; i < k; i++) {
    w[i] = (double)x[i];
  }
  memcpy(left, inverse_h, (size_t)(k * k) * sizeof *left);
  for (int64_t first = 0; first < k; first += 16) {
    float block[16], weights[16];
    uint8_t codes[8];
    double q[16];
    memcpy(trial_left, left, (size_t)(k * k) * sizeof *left);
    memcpy(trial_w, w, (size_t)k * sizeof *w);
    reference_block(trial_w, trial_left, k, first, 1, q); /* its diagonal, when column j's turn comes, is U_jj^2 */
    for (int i = 0; i < 16; i++) {
      block[i] = (float)w[first + i];
      weights[i] = (float)(1 / trial_left[(first + i) * k + first + i]);
    }
    int best = nvfp4_quantise_block(block, weights, global, search, codes, NULL);
    if (search == NVFP4_SCALES_SWEEP) {
      int from = best - 8 < 1 ? 1 : best - 8 > 0x7E - 15 ? 0x7E - 15 : best - 8;
      double least = INFINITY;
      for (int scale = from; scale < from + 16; scale++) {
        memcpy(trial_left, left, (size_t)(k * k) * sizeof *left);
        memcpy(trial_w, w, (size_t)k * sizeof *w);
        double cost = reference_block(trial_w, trial_left, k, first, (double)nvfp4_e4m3_table[scale] * (double)global, q);
        if (cost < least) {
          least = cost;
          best = scale;
        }
      }
    }
    reference_block(w, left, k, first, (double)nvfp4_e4m3_table[best] * (double)global, q);
    scales[first / 16] = (uint8_t)best;
    for (int i = 0; i < 16; i++) {
      dequantised[first + i] = (float)q[i];
    }
  }
  free(w);
  free(left);
  free(trial_w);
  free(trial_left);
}

/* -------------------------------------------------------------------------------------------------------------------- tests */

static float dequantised(const uint8_t *codes, const uint8_t *scales, int64_t i, float global) {
  return nvfp4_dequantise(codes[i / 2] >> (i % 2 * 4) & 15, scales[i / 16], (nvfp4_global){global, NVFP4_GLOBAL_MULTIPLIER});
}

/* K beyond a panel of 128 columns, so that errors cross its end. */
static void it_is_the_plain_algorithm(void **state) {
  (void)state;
  enum { N = 4, K = 160, M = 400 };
  float *x = correlated(M, K, 1), *w = gaussian(N * K, 2);
  double *h = hessian_of(x, M, K), *full = doubles(K * K), damping = 0.01, mean = 0;
  for (int i = 0; i < K; i++) {
    mean += h[i * K + i] / K;
  }
  for (int i = 0; i < K; i++) {
    for (int j = 0; j < K; j++) {
      full[i * K + j] = h[i <= j ? i * K + j : j * K + i] + (i == j ? 0.01 * mean : 0);
    }
  }
  double *inverse_h = inverse(full, K);
  assert_ok(nvfp4_gptq_factor(&blas, h, K, &damping, &reason), reason);
  assert_true(damping == 0.01);
  const nvfp4_scale_search searches[] = {NVFP4_SCALES_RTN, NVFP4_SCALES_FOUR_OVER_SIX, NVFP4_SCALES_SWEEP};
  for (int s = 0; s < 3; s++) {
    uint8_t codes[N * K / 2], scales[N * K / 16], want_scales[K / 16];
    double error[2], sum = 0;
    const float global = 0.002f;
    assert_ok(nvfp4_gptq_round(&blas, w, N, K, global, searches[s], h, codes, scales, error, &reason), reason);
    for (int row = 0; row < N; row++) {
      float want[K];
      reference_row(w + row * K, inverse_h, K, global, searches[s], want, want_scales);
      assert_memory_equal(scales + row * (K / 16), want_scales, K / 16);
      for (int i = 0; i < K; i++) {
        float got = dequantised(codes + row * (K / 2), scales + row * (K / 16), i, global);
        assert_f32_bits(got, want[i]);
        sum += ((double)w[row * K + i] - (double)got) * ((double)w[row * K + i] - (double)got);
      }
    }
    assert_true(fabs(sum - error[0]) <= 1e-5 * error[0]); /* q is rounded to fp32 here */
  }
  free(x);
  free(w);
  free(h);
  free(full);
  free(inverse_h);
}

/* x^T x, whatever the pieces it comes in and the threads. */
static void hessians_are_sums(void **state) {
  (void)state;
  enum { K = 144, M = 37 };
  float *x = correlated(M, K, 3);
  double *h = hessian_of(x, M, K), *pieces = doubles(K * K);
  nvfp4_threads *one;
  assert_ok(nvfp4_threads_create(1, NULL, NULL, &one, &reason), reason);
  for (int first = 0; first < M; first += 10) {
    assert_ok(nvfp4_gptq_add_rows(&blas, one, pieces, K, x + first * K, M - first < 10 ? M - first : 10, &reason), reason);
  }
  for (int i = 0; i < K; i++) {
    for (int j = i; j < K; j++) {
      double want = 0, size = 0;
      for (int row = 0; row < M; row++) {
        double term = (double)x[row * K + i] * (double)x[row * K + j]; /* exact */
        want += term;
        size += fabs(term);
      }
      assert_true(fabs(h[i * K + j] - want) <= M * 0x1p-52 * size);
      assert_true(fabs(pieces[i * K + j] - want) <= M * 0x1p-52 * size);
    }
  }
  nvfp4_threads_destroy(one);
  free(x);
  free(h);
  free(pieces);
}

/* Nothing to make up for: the codes and scales of the sweep, and of rtn. */
static void the_identity_gives_the_search_alone(void **state) {
  (void)state;
  enum { N = 9, K = 272 };
  float *w = gaussian(N * K, 4);
  const nvfp4_scale_search searches[] = {NVFP4_SCALES_RTN, NVFP4_SCALES_FOUR_OVER_SIX, NVFP4_SCALES_SWEEP};
  double *h = doubles(K * K), damping = 0;
  for (int i = 0; i < K; i++) {
    h[i * K + i] = 1;
    w[5 * K + i] = 0; /* zero blocks too */
  }
  assert_ok(nvfp4_gptq_factor(&blas, h, K, &damping, &reason), reason);
  for (int s = 0; s < 3; s++) {
    uint8_t codes[N * K / 2], scales[N * K / 16], want_codes[N * K / 2], want_scales[N * K / 16];
    double error[2], want_error[2];
    assert_ok(nvfp4_gptq_round(&blas, w, N, K, 0.001f, searches[s], h, codes, scales, error, &reason), reason);
    assert_ok(nvfp4_quantise_matrix(w, N, K, 0.001f, searches[s], NULL, want_codes, want_scales, want_error, &reason), reason);
    assert_memory_equal(codes, want_codes, sizeof codes);
    assert_memory_equal(scales, want_scales, sizeof scales);
    assert_true(fabs(error[0] - want_error[0]) <= 1e-9 * error[0] && error[1] > 0);
  }
  free(w);
  free(h);
}

/* sum over rows of d H d^T, d = w - q */
static double output_error(const float *w, int64_t n, int64_t k, const uint8_t *codes, const uint8_t *scales, float global, const float *x,
                           int64_t m) {
  double sum = 0;
  for (int64_t row = 0; row < n; row++) {
    for (int64_t t = 0; t < m; t++) {
      double y = 0;
      for (int64_t i = 0; i < k; i++) {
        y += ((double)w[row * k + i] - (double)dequantised(codes, scales, row * k + i, global)) * (double)x[t * k + i];
      }
      sum += y * y;
    }
  }
  return sum;
}

/* On inputs that go together, errors of the outputs fall by more than half, for what it is made. */
static void outputs_gain(void **state) {
  (void)state;
  enum { N = 8, K = 128, M = 512 };
  float *x = correlated(M, K, 5), *w = gaussian(N * K, 6);
  double *h = hessian_of(x, M, K), damping = 0.01, error[2];
  uint8_t codes[N * K / 2], scales[N * K / 16];
  assert_ok(nvfp4_gptq_factor(&blas, h, K, &damping, &reason), reason);
  assert_ok(nvfp4_quantise_matrix(w, N, K, 0.001f, NVFP4_SCALES_SWEEP, NULL, codes, scales, error, &reason), reason);
  double before = output_error(w, N, K, codes, scales, 0.001f, x, M);
  assert_ok(nvfp4_gptq_round(&blas, w, N, K, 0.001f, NVFP4_SCALES_SWEEP, h, codes, scales, error, &reason), reason);
  assert_true(output_error(w, N, K, codes, scales, 0.001f, x, M) < 0.5 * before);
  free(x);
  free(w);
  free(h);
}

/* Fewer rows than columns: singular. The damping that is asked for makes it definite; none at all grows until it is. */
static void damping_grows(void **state) {
  (void)state;
  enum { K = 64, M = 8 };
  float *x = gaussian(M * K, 7);
  double *h = hessian_of(x, M, K), damping = 0.01;
  assert_ok(nvfp4_gptq_factor(&blas, h, K, &damping, &reason), reason);
  assert_true(damping == 0.01);
  free(h);
  h = hessian_of(x, M, K);
  h[0] -= 0.02 * M; /* not even semidefinite: its least eigenvalue goes down by that at most, 0.02 of the diagonal's mean */
  damping = 0.0001;
  double *again = doubles(K * K), enough;
  memcpy(again, h, K * K * sizeof *h);
  assert_ok(nvfp4_gptq_factor(&blas, h, K, &damping, &reason), reason);
  assert_true(fabs(damping - 0.1) < 0.01);
  /* What failed before left no trace. */
  enough = damping;
  assert_ok(nvfp4_gptq_factor(&blas, again, K, &enough, &reason), reason);
  assert_true(enough == damping);
  for (int i = 0; i < K; i++) {
    for (int j = i; j < K; j++) {
      assert_true(h[i * K + j] == again[i * K + j]);
    }
  }
  for (int i = 0; i < K * K; i++) { /* inputs that are all 0 */
    h[i] = 0;
  }
  assert_ok(nvfp4_gptq_factor(&blas, h, K, &damping, &reason), reason);
  h[K + 2] = NAN;
  damping = 0.01;
  for (int i = 0; i < K; i++) {
    h[i * K + i] = 1;
  }
  assert_int_equal(nvfp4_gptq_factor(&blas, h, K, &damping, &reason), NVFP4_E_FORMAT);
  assert_non_null(strstr(reason.text, "positive definite"));
  free(x);
  free(h);
  free(again);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(it_is_the_plain_algorithm),
      cmocka_unit_test(hessians_are_sums),
      cmocka_unit_test(the_identity_gives_the_search_alone),
      cmocka_unit_test(outputs_gain),
      cmocka_unit_test(damping_grows),
  };
  if (nvfp4_blas_open(NULL, &blas, &reason) != NVFP4_OK) {
    printf("skipped: %s\n", reason.text);
    return 0;
  }
  return cmocka_run_group_tests(tests, set_up, tear_down);
}
