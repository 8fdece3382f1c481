/* SPDX-License-Identifier: Apache-2.0 */
#include "kernels/dense_n16.h"

#include <math.h>

#include "layer/context.h"
#include "support.h"

static nvfp4_context *context;

static nvfp4_packed pack(const void *values, nvfp4_dtype dtype, int64_t n, int64_t k) {
  nvfp4_weights weights = {.struct_size = sizeof weights,
                           .n = n,
                           .k = k,
                           .dtype = dtype,
                           .values = values,
                           .values_stride_bytes = k * (dtype == NVFP4_DTYPE_F32 ? 4 : 2)};
  nvfp4_process_args args = {sizeof args, &weights, NULL, NULL, NULL};
  nvfp4_packed packed = {0};
  nvfp4_reason reason = {0};
  assert_ok(nvfp4_layout_dense_n16.process_weights_after_loading(&context->host, &args, &packed, &reason), reason);
  assert_int_equal(dense_n16_dtype(&packed), dtype);
  return packed;
}

/* Row n, k is the number 100 n + k: where the header says it is, zeros elsewhere. */
static void test_places(void **state) {
  (void)state;
  enum { N = 17, K = 5 };
  uint16_t narrow[N * K];
  uint32_t wide[N * K];
  for (int i = 0; i < N * K; i++) {
    wide[i] = narrow[i] = (uint16_t)(1000 + i / K * 100 + i % K);
  }
  for (int dtype = NVFP4_DTYPE_F32; dtype <= NVFP4_DTYPE_BF16; dtype++) {
    nvfp4_packed packed = pack(dtype == NVFP4_DTYPE_F32 ? (void *)wide : narrow, (nvfp4_dtype)dtype, N, K);
    int64_t tile_bytes = dtype == NVFP4_DTYPE_F32 ? K * 64 : 3 * 64;
    assert_int_equal(packed.data_bytes, 2 * tile_bytes);
    for (int n = 0; n < 32; n++) {
      const uint8_t *tile = dense_n16_tile(&packed, n / 16);
      assert_ptr_equal(tile, (uint8_t *)packed.data + n / 16 * tile_bytes);
      for (int k = 0; k < (dtype == NVFP4_DTYPE_F32 ? K : 6); k++) {
        uint32_t want = n < N && k < K ? (uint32_t)(1000 + n * 100 + k) : 0, found = 0;
        if (dtype == NVFP4_DTYPE_F32) {
          memcpy(&found, tile + (k * 16 + n % 16) * 4, 4);
        } else if (dtype == NVFP4_DTYPE_F16) {
          memcpy(&found, tile + (k * 16 + n % 16) * 2, 2);
        } else {
          uint32_t lane;
          memcpy(&lane, tile + (k / 2 * 16 + n % 16) * 4, 4);
          found = k % 2 == 0 ? lane >> 16 : lane & 0xFFFF;
        }
        assert_int_equal(found, want);
      }
    }
    nvfp4_layout_dense_n16.free_packed(&context->host, &packed);
  }
}

static void test_says_whether_weights_are_normal(void **state) {
  (void)state;
  static const struct {
    float value;
    bool normal;
  } cases[] = {{1, true},          {0, true},         {-0.0f, true},      {-0x1p-48f, true}, {0x1.fffffep-49f, false},
               {0x1p-149f, false}, {INFINITY, false}, {-INFINITY, false}, {NAN, false},      {0x1.fffffep127f, true}};
  float values[18 * 300];
  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
    for (int j = 0; j < 18 * 300; j++) {
      values[j] = 1.5f;
    }
    values[17 * 300 + 290] = cases[i].value;
    nvfp4_packed packed = pack(values, NVFP4_DTYPE_F32, 18, 300);
    assert_int_equal(packed.private_elems[DENSE_N16_NORMAL], cases[i].normal);
    nvfp4_layout_dense_n16.free_packed(&context->host, &packed);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_places), cmocka_unit_test(test_says_whether_weights_are_normal)};
  if (nvfp4_context_create(NULL, &context, NULL) != NVFP4_OK) {
    return 1;
  }
  int failed = cmocka_run_group_tests(tests, NULL, NULL);
  nvfp4_context_destroy(context);
  return failed;
}
