/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>

#include "bench/cells.h"
#include "cuda_support.h"

static void test_cells(void **state) {
  (void)state;
  nvfp4_context *context = test_cuda_context("");
  static const char *const kernels[] = {"cuda_emulation_w4a4", "cuda_emulation_w4a16"};
  static const nvfp4_bench_shape shapes[] = {{64, 64}, {33, 48}};
  static const int64_t ms[] = {1, 300};
  const nvfp4_bench_options options = {.struct_size = sizeof options,
                                       .kernels = kernels,
                                       .kernel_count = 2,
                                       .shapes = shapes,
                                       .shape_count = 2,
                                       .ms = ms,
                                       .m_count = 2,
                                       .seconds = 1e-6,
                                       .rotate_bytes = 5000,
                                       .device = {NVFP4_DEVICE_CUDA, 0}};
  nvfp4_bench *bench;
  nvfp4_reason reason = {0};
  assert_ok(nvfp4_bench_run(context, &options, &bench, &reason), reason);
  assert_int_equal(bench->result_count, 2 * 2 * 3);
  assert_true(bench->before.read_gbps > 0 && bench->after.read_gbps > 0);
  for (size_t i = 0; i < bench->result_count; i++) {
    const nvfp4_bench_result *r = &bench->results[i];
    assert_string_equal(r->kernel, i % 3 == 2 ? "cublas_bf16" : kernels[i % 3]);
    assert_int_equal(r->n, shapes[i / 6].n);
    assert_int_equal(r->m, ms[i / 3 % 2]);
    if (i % 3 < 2) {
      assert_int_equal(r->status, NVFP4_OK);
      assert_true(r->us > 0 && r->us_p10 <= r->us && r->us <= r->us_p90 && r->gbps > 0 && r->roof_share > 0 && r->calls >= 5);
      assert_true(r->rel_err >= 0 && r->rel_err < 0x1p-8 && r->pack_gbps > 0); /* half an ulp of bf16 y, at most */
    } else if (r->status != NVFP4_OK) {
      assert_true(r->rel_err == -1);
      assert_non_null(strstr(r->reason, "cuBLAS"));
    }
  }
  nvfp4_bench_free(bench);
  nvfp4_context_destroy(context);
  assert_int_equal(test_cuda_live(), 0);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_cells)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
