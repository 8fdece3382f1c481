/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>

#include "ref_kernel_cases.h"

static void test_shapes(void **state) {
  (void)state;
  skip_unless_supported("x86_avx512_w16a16");
  check_shapes("x86_avx512_w16a16", NVFP4_MODE_UNQUANTISED);
}

static void test_dtypes(void **state) {
  (void)state;
  skip_unless_supported("x86_avx512_w16a16");
  check_dtypes("x86_avx512_w16a16", NVFP4_MODE_UNQUANTISED);
}

static void test_batch_and_threads(void **state) {
  (void)state;
  skip_unless_supported("x86_avx512_w16a16");
  check_batch_and_threads("x86_avx512_w16a16", NVFP4_MODE_UNQUANTISED);
}

static void test_special_x(void **state) {
  (void)state;
  skip_unless_supported("x86_avx512_w16a16");
  check_special_x("x86_avx512_w16a16", NVFP4_MODE_UNQUANTISED);
}

static void test_caller_fp_env(void **state) {
  (void)state;
  skip_unless_supported("x86_avx512_w16a16");
  check_caller_fp_env("x86_avx512_w16a16", NVFP4_MODE_UNQUANTISED);
}

/* More rows and more k than a panel of x has (48 rows and 128 blocks), and row tiles for several tasks. */
static void test_panels(void **state) {
  (void)state;
  skip_unless_supported("x86_avx512_w16a16");
  enum { M = 53, N = 150, K = 2192 };
  nvfp4_options options = {
      .struct_size = sizeof options, .threads = 2, .policy = {.struct_size = sizeof(nvfp4_policy), .kernel = "x86_avx512_w16a16"}};
  test_layer layer = test_layer_make(N, K, 21);
  nvfp4_layer_desc desc = test_layer_desc(&layer, NVFP4_MODE_UNQUANTISED);
  test_random random = {22};
  float *x = malloc(sizeof(float) * M * K), *want = malloc(sizeof(float) * M * N);
  for (int i = 0; i < M * K; i++) {
    x[i] = test_random_gauss(&random);
  }
  test_layer_reference(&layer, NVFP4_MODE_UNQUANTISED, x, M, false, want);
  float *got = test_layer_run(&options, &layer, &desc, x, M);
  assert_memory_equal(got, want, sizeof(float) * M * N);
  free(got);
  free(want);
  free(x);
  test_layer_free(&layer);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_shapes),    cmocka_unit_test(test_dtypes),        cmocka_unit_test(test_batch_and_threads),
      cmocka_unit_test(test_special_x), cmocka_unit_test(test_caller_fp_env), cmocka_unit_test(test_panels),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
