/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>

#include "ref_kernel_cases.h"

static void test_shapes(void **state) {
  (void)state;
  skip_unless_supported("x86_avx512vnni_w4a4");
  check_shapes("x86_avx512vnni_w4a4", NVFP4_MODE_W4A4);
}

static void test_dtypes(void **state) {
  (void)state;
  skip_unless_supported("x86_avx512vnni_w4a4");
  check_dtypes("x86_avx512vnni_w4a4", NVFP4_MODE_W4A4);
}

static void test_batch_and_threads(void **state) {
  (void)state;
  skip_unless_supported("x86_avx512vnni_w4a4");
  check_batch_and_threads("x86_avx512vnni_w4a4", NVFP4_MODE_W4A4);
}

static void test_special_x(void **state) {
  (void)state;
  skip_unless_supported("x86_avx512vnni_w4a4");
  check_special_x("x86_avx512vnni_w4a4", NVFP4_MODE_W4A4);
}

static void test_caller_fp_env(void **state) {
  (void)state;
  skip_unless_supported("x86_avx512vnni_w4a4");
  check_caller_fp_env("x86_avx512vnni_w4a4", NVFP4_MODE_W4A4);
}

/* More rows and more k than a panel of x has (96 rows and 168 blocks), and row tiles for several tasks. */
static void test_panels(void **state) {
  (void)state;
  skip_unless_supported("x86_avx512vnni_w4a4");
  enum { M = 100, N = 150, K = 3152 };
  nvfp4_options options = {
      .struct_size = sizeof options, .threads = 2, .policy = {.struct_size = sizeof(nvfp4_policy), .kernel = "x86_avx512vnni_w4a4"}};
  test_layer layer = test_layer_make(N, K, 21);
  nvfp4_layer_desc desc = test_layer_desc(&layer, NVFP4_MODE_W4A4);
  test_random random = {22};
  float *x = malloc(sizeof(float) * M * K), *want = malloc(sizeof(float) * M * N);
  for (int i = 0; i < M * K; i++) {
    x[i] = test_random_gauss(&random);
  }
  test_layer_reference(&layer, NVFP4_MODE_W4A4, x, M, false, want);
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
