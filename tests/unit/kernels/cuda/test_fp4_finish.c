/* SPDX-License-Identifier: Apache-2.0 */
/* alpha, bias and one rounding over sums in fp32: the bits of nvfp4_spec_finish, in every type, with gaps between rows, through the table that plug-ins get. */
#include "kernels/cuda/fp4_finish.h"

#include <stdlib.h>

#include "cuda_support.h"
#include "format/half.h"
#include "kernels/ref/spec.h"

static void run(const nvfp4_host *host, const nvfp4_visit *visit, int64_t m, int64_t n, nvfp4_dtype y_dtype, nvfp4_dtype bias_dtype) {
  const int64_t ld_acc = n + 3, ldy = n + 5;
  const size_t elem = y_dtype == NVFP4_DTYPE_F32 ? 4 : 2, acc_bytes = (size_t)(m * ld_acc) * sizeof(float),
               y_bytes = (size_t)(m * ldy) * elem;
  nvfp4_reason reason = {0};
  test_random random = {(uint64_t)(m + n)};
  float *acc = malloc(acc_bytes), *alpha = malloc((size_t)n * sizeof *alpha), *bias = malloc((size_t)n * sizeof *bias);
  uint8_t *want = malloc(y_bytes), *y = malloc(y_bytes), *typed_bias = malloc((size_t)n * 4);
  for (int64_t i = 0; i < m * ld_acc; i++) {
    acc[i] = test_random_gauss(&random) * 300.0f;
  }
  acc[0] = f32_from_bits(0xFFC00001); /* NaN */
  for (int64_t i = 0; i < n; i++) {
    alpha[i] = test_random_gauss(&random);
    bias[i] = test_random_gauss(&random);
  }
  if (bias_dtype != NVFP4_DTYPE_NONE) {
    nvfp4_from_f32(bias, bias_dtype, typed_bias, n);
    nvfp4_to_f32(typed_bias, bias_dtype, bias, n);
  }
  memset(want, 0xEE, y_bytes); /* gaps between rows stay as they are */
  memcpy(y, want, y_bytes);
  for (int64_t i = 0; i < m * n; i++) {
    float v = nvfp4_spec_finish(acc[i / n * ld_acc + i % n], alpha[i % n], bias_dtype != NVFP4_DTYPE_NONE ? &bias[i % n] : NULL);
    nvfp4_from_f32(&v, y_dtype, want + (size_t)(i / n * ldy + i % n) * elem, 1);
  }
  void *there[4];
  assert_ok(nvfp4_place_copy(visit, acc, acc_bytes, &there[0], &reason), reason);
  assert_ok(nvfp4_place_copy(visit, alpha, (size_t)n * sizeof *alpha, &there[1], &reason), reason);
  assert_ok(nvfp4_place_copy(visit, typed_bias, (size_t)n * 4, &there[2], &reason), reason);
  assert_ok(nvfp4_place_copy(visit, y, y_bytes, &there[3], &reason), reason);
  nvfp4_kernel_args args = {.struct_size = sizeof args,
                            .m = m,
                            .n = n,
                            .alpha = there[1],
                            .bias = bias_dtype != NVFP4_DTYPE_NONE ? there[2] : NULL,
                            .bias_dtype = bias_dtype,
                            .y = there[3],
                            .ldy_elems = ldy,
                            .y_dtype = y_dtype,
                            .stream = visit->stream};
  assert_ok(host->cuda_finish(host->cookie, &args, there[0], ld_acc, &reason), reason);
  assert_ok(host->cuda_copy(host->cookie, y, y_bytes, there[3], y_bytes, y_bytes, 1, visit->stream, &reason), reason);
  assert_ok(host->cuda_wait(host->cookie, visit->stream, &reason), reason);
  assert_memory_equal(y, want, y_bytes);
  for (int i = 0; i < 4; i++) {
    host->cuda_free(host->cookie, there[i]);
  }
  free(acc);
  free(alpha);
  free(bias);
  free(want);
  free(y);
  free(typed_bias);
}

static void test_finish(void **state) {
  (void)state;
  static const nvfp4_dtype types[] = {NVFP4_DTYPE_F32, NVFP4_DTYPE_F16, NVFP4_DTYPE_BF16, NVFP4_DTYPE_NONE};
  nvfp4_context *context = test_cuda_context("");
  nvfp4_reason reason = {0};
  nvfp4_place place;
  nvfp4_visit visit;
  assert_ok(nvfp4_place_find(context->cuda, (nvfp4_device){NVFP4_DEVICE_CUDA, 0}, &place, &reason), reason);
  assert_ok(nvfp4_place_enter(&place, true, &visit, &reason), reason);
  assert_string_equal(context->host.cuda_fp4->name, "cuda_fp4_128x4");
  for (int y = 0; y < 3; y++) {
    for (int bias = 0; bias < 4; bias++) {
      run(&context->host, &visit, 1, 1, types[y], types[bias]);
      run(&context->host, &visit, 3, 255, types[y], types[bias]);
      run(&context->host, &visit, 5, 513, types[y], types[bias]);
    }
  }
  nvfp4_kernel_args large = {.m = (int64_t)1 << 31, .n = 1};
  assert_int_equal(cuda_fp4_finish(&context->host, &large, NULL, 1, &reason), NVFP4_E_SHAPE);
  assert_ok(nvfp4_place_leave(&visit, &reason), reason);
  nvfp4_context_destroy(context);
  assert_int_equal(test_cuda_live(), 0);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_finish)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
