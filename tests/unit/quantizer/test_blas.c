/* SPDX-License-Identifier: Apache-2.0 */
#include "quantizer/blas.h"

#include "support.h"

static nvfp4_reason reason;

static void what_is_missing_is_said(void **state) {
  (void)state;
  nvfp4_blas blas;
  assert_int_equal(nvfp4_blas_open("libno-such-library.so", &blas, &reason), NVFP4_E_UNSUPPORTED);
  assert_non_null(strstr(reason.text, "libno-such-library.so"));
  assert_non_null(strstr(reason.text, "libopenblas0"));
  assert_int_equal(nvfp4_blas_open("libm.so.6", &blas, &reason), NVFP4_E_UNSUPPORTED);
  assert_non_null(strstr(reason.text, "libm.so.6 has no cblas_dgemm"));
}

/* The arguments are what the library takes them for: [1 2; 3 4] [1 0; 2 1] and its like transposed, a 2x2 factor, its inverse. */
static void functions_are_what_they_are_called(void **state) {
  (void)state;
  nvfp4_blas blas;
  if (nvfp4_blas_open(NULL, &blas, &reason) != NVFP4_OK) {
    skip();
  }
  const double a[4] = {1, 2, 3, 4}, b[4] = {1, 0, 2, 1};
  double c[4] = {100, 100, 100, 100};
  blas.dgemm(NVFP4_BLAS_ROW_MAJOR, NVFP4_BLAS_NO_TRANS, NVFP4_BLAS_NO_TRANS, 2, 2, 2, -1.0, a, 2, b, 2, 1.0, c, 2);
  assert_true(c[0] == 95 && c[1] == 98 && c[2] == 89 && c[3] == 96);
  blas.dgemm(NVFP4_BLAS_ROW_MAJOR, NVFP4_BLAS_TRANS, NVFP4_BLAS_NO_TRANS, 2, 2, 2, 1.0, a, 2, b, 2, 0.0, c, 2);
  assert_true(c[0] == 7 && c[1] == 3 && c[2] == 10 && c[3] == 4);
  double h[4] = {4, 2, 77, 10}; /* by columns: [4 2; 2 10] = L L^T, L = [2 0; 1 3] */
  const int n = 2;
  int info = -1;
  blas.dpotrf("L", &n, h, &n, &info, 1);
  assert_int_equal(info, 0);
  assert_true(h[0] == 2 && h[1] == 1 && h[2] == 77 && h[3] == 3);
  blas.dpotri("L", &n, h, &n, &info, 1); /* the inverse is [10 -2; -2 4] / 36 */
  assert_int_equal(info, 0);
  assert_true(h[0] * 36 > 9.999 && h[0] * 36 < 10.001 && h[1] * 36 > -2.001 && h[1] * 36 < -1.999 && h[2] == 77);
  h[0] = -1;
  blas.dpotrf("L", &n, h, &n, &info, 1);
  assert_int_equal(info, 1);
  int threads = blas.get_threads();
  blas.set_threads(1);
  assert_int_equal(blas.get_threads(), 1);
  blas.set_threads(threads);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(what_is_missing_is_said), cmocka_unit_test(functions_are_what_they_are_called)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
