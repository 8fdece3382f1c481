/* SPDX-License-Identifier: Apache-2.0 */
/* Weights and descriptions of layers that are not NVFP4; those of NVFP4 layers are tested with the layouts (test_layers.c, test_golden.c). */
#include <stdlib.h>

#include "checkpoint/checkpoint.h"
#include "format/half.h"
#include "support.h"

enum { N = 3, K = 64 };

static uint8_t bytes[N * K * 8];

/* A layer over `bytes`. */
static nvfp4_layer_info layer_of(nvfp4_tensor *weight, nvfp4_dtype dtype) {
  *weight = (nvfp4_tensor){.name = "w.weight", .dtype = dtype, .rank = 2, .shape = {N, K}, .data = bytes, .file = "test"};
  nvfp4_dtype_bytes(dtype, N * K, &weight->bytes);
  return (nvfp4_layer_info){.name = "w", .n = N, .k = K, .weight = weight, .note = ""};
}

/* The values of the tensor, in a type that holds them exactly; the description says which. */
static void dense_types(void **state) {
  (void)state;
  static const struct {
    nvfp4_dtype stored, dense;
  } cases[] = {{NVFP4_DTYPE_F32, NVFP4_DTYPE_F32},      {NVFP4_DTYPE_F16, NVFP4_DTYPE_F16},  {NVFP4_DTYPE_BF16, NVFP4_DTYPE_BF16},
               {NVFP4_DTYPE_F8_E4M3, NVFP4_DTYPE_BF16}, {NVFP4_DTYPE_Q4_0, NVFP4_DTYPE_F32}, {NVFP4_DTYPE_Q4_1, NVFP4_DTYPE_F32},
               {NVFP4_DTYPE_Q8_0, NVFP4_DTYPE_F32},     {NVFP4_DTYPE_F64, NVFP4_DTYPE_F32}};
  test_random random = {5};
  for (size_t i = 0; i < sizeof bytes; i++) {
    bytes[i] = (uint8_t)(test_random_u64(&random) & 0x3F); /* no NaN, whose bits a conversion may change */
  }
  const nvfp4_checkpoint checkpoint = {0};
  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
    nvfp4_tensor weight;
    nvfp4_layer_info info = layer_of(&weight, cases[i].stored);
    nvfp4_reason reason = {0};
    nvfp4_weights weights;
    nvfp4_layer_desc desc;
    void *owned;
    assert_ok(nvfp4_layer_desc_from_checkpoint(&info, &desc, &reason), reason);
    assert_int_equal(desc.mode, NVFP4_MODE_UNQUANTISED);
    assert_int_equal(desc.weight_dtype, cases[i].dense);
    assert_int_equal(desc.partition_count, 0);
    assert_ok(nvfp4_checkpoint_weights(&checkpoint, &info, &weights, &owned, &reason), reason);
    assert_int_equal(weights.dtype, cases[i].dense);
    assert_null(weights.codes);
    assert_int_equal(owned == NULL, cases[i].stored == cases[i].dense);
    assert_ptr_equal(weights.values, owned != NULL ? owned : bytes);
    float want[N * K], found[N * K];
    assert_ok(nvfp4_tensor_to_f32(&weight, 0, N * K, want, &reason), reason);
    nvfp4_to_f32(weights.values, weights.dtype, found, N * K);
    assert_memory_equal(found, want, sizeof want);
    nvfp4_weights_free(owned);
  }
}

static void other_types_are_refused(void **state) {
  (void)state;
  const nvfp4_checkpoint checkpoint = {0};
  for (int i = 0; i < 2; i++) {
    nvfp4_tensor weight;
    nvfp4_layer_info info = layer_of(&weight, i == 0 ? NVFP4_DTYPE_I8 : NVFP4_DTYPE_F32);
    weight.rank = i == 0 ? 2 : 3;
    info.note = "a note";
    nvfp4_reason reason = {0};
    nvfp4_weights weights;
    nvfp4_layer_desc desc;
    void *owned;
    assert_int_equal(nvfp4_checkpoint_weights(&checkpoint, &info, &weights, &owned, &reason), NVFP4_E_UNSUPPORTED);
    assert_non_null(strstr(reason.text, "layer w is neither NVFP4 nor dense: a note; needs "));
    assert_int_equal(nvfp4_layer_desc_from_checkpoint(&info, &desc, NULL), NVFP4_E_UNSUPPORTED);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(dense_types), cmocka_unit_test(other_types_are_refused)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
