/* SPDX-License-Identifier: Apache-2.0 */
/* On processors with AMX; what the kernel does with tiles, checkkern proves over emulated ones (tests/plugins/amx_emulated.h). */
#include <math.h>
#include <stdlib.h>

#include "format/activation.h"
#include "kernels/ref/spec.h"
#include "layer/layer.h"
#include "ref_kernel_cases.h"

#define KERNEL "x86_amxbf16_w4a4"

enum { M = 37, N = 75, K = 1040 };

static float *run(const test_layer *layer, int threads, const float *x, int64_t m) {
  nvfp4_options options = {
      .struct_size = sizeof options, .threads = threads, .policy = {.struct_size = sizeof(nvfp4_policy), .kernel = KERNEL}};
  nvfp4_layer_desc desc = test_layer_desc(layer, NVFP4_MODE_W4A4);
  desc.m_first = 16;
  desc.m_last = NVFP4_M_MAX;
  return test_layer_run(&options, layer, &desc, x, m);
}

static float *random_x(void) {
  test_random random = {8};
  float *x = malloc(sizeof(float[M][K]));
  for (int i = 0; i < M * K; i++) {
    x[i] = test_random_gauss(&random) * (float)(1 + i % 5);
  }
  return x;
}

/* gamma(K + 8) A of docs/numerics.md, around the exact sum. */
static void test_bound(void **state) {
  (void)state;
  skip_unless_supported(KERNEL);
  test_layer layer = test_layer_make(N, K, 31);
  float alpha, *x = random_x(), *y = run(&layer, 2, x, M);
  assert_int_equal(nvfp4_partition_alpha(&layer.partitions[0], NVFP4_MODE_W4A4, &alpha, NULL), NVFP4_OK);
  for (int m = 0; m < M; m++) {
    uint8_t codes[K / 2], scales[K / NVFP4_BLOCK];
    nvfp4_quantise_activation_row(x + m * K, K, nvfp4_activation_factor(layer.partitions[0].input), codes, scales);
    for (int n = 0; n < N; n++) {
      uint64_t absolute;
      nvfp4_spec_row w = {layer.codes + n * K / 2, layer.scales + n * K / NVFP4_BLOCK};
      double exact = (double)alpha * 0x1p-20 * (double)nvfp4_oracle_w4a4((nvfp4_spec_row){codes, scales}, w, K, &absolute);
      double gamma = (K + 8) * 0x1p-24 / (1 - (K + 8) * 0x1p-24);
      assert_true(fabs((double)y[m * N + n] - exact) <= gamma * (double)alpha * 0x1p-20 * (double)absolute);
    }
  }
  free(y);
  free(x);
  test_layer_free(&layer);
}

static void test_batch_and_threads(void **state) {
  (void)state;
  skip_unless_supported(KERNEL);
  test_layer layer = test_layer_make(N, K, 32);
  float *x = random_x(), *want = run(&layer, 1, x, M);
  for (int threads = 1; threads <= 3; threads++) {
    float *got = run(&layer, threads, x + 20 * K, 16);
    assert_memory_equal(got, want + 20 * N, sizeof(float[16][N]));
    free(got);
  }
  free(want);
  free(x);
  test_layer_free(&layer);
}

static void test_nan_row(void **state) {
  (void)state;
  skip_unless_supported(KERNEL);
  test_layer layer = test_layer_make(N, K, 33);
  float *x = random_x();
  x[5 * K + 1030] = NAN;
  float *y = run(&layer, 1, x, M);
  for (int i = 0; i < M * N; i++) {
    assert_int_equal(isnan(y[i]) != 0, i / N == 5);
  }
  free(y);
  free(x);
  test_layer_free(&layer);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_bound), cmocka_unit_test(test_batch_and_threads),
                                     cmocka_unit_test(test_nan_row)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
