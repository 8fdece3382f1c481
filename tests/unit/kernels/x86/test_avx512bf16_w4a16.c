/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>

#include "format/half.h"
#include "kernels/registry.h"
#include "ref_kernel_cases.h"

#define KERNEL "x86_avx512bf16_w4a16"

static const nvfp4_kernel *find(void) {
  size_t count;
  const nvfp4_registry_entry *entries = nvfp4_registry(&count);
  for (size_t i = 0; i < count; i++) {
    if (strcmp(entries[i].id, KERNEL) == 0) {
      return entries[i].kernel;
    }
  }
  return NULL;
}

/* Other x than bf16 would be rounded. */
static void test_x_types(void **state) {
  (void)state;
  const nvfp4_kernel *kernel = find();
  if (kernel == NULL) {
    skip();
  }
  test_layer layer = test_layer_make(32, 64, 30);
  nvfp4_layer_desc desc = test_layer_desc(&layer, NVFP4_MODE_W4A16);
  nvfp4_reason reason = {0};
  desc.x_dtype = NVFP4_DTYPE_F32;
  assert_int_equal(kernel->can_implement(&desc, &reason), NVFP4_E_DTYPE);
  assert_non_null(strstr(reason.text, "F32"));
  desc.x_dtype = NVFP4_DTYPE_F16;
  assert_int_equal(kernel->can_implement(&desc, NULL), NVFP4_E_DTYPE);
  desc.x_dtype = NVFP4_DTYPE_BF16;
  assert_int_equal(kernel->can_implement(&desc, NULL), NVFP4_OK);
  test_layer_free(&layer);
}

/* Where the instruction is slow, the fp32 kernel serves, and the report says why. */
static void test_not_on_intel(void **state) {
  (void)state;
  const nvfp4_kernel *kernel = find();
  if (kernel == NULL) {
    skip();
  }
  nvfp4_machine machine = {.struct_size = sizeof machine, .arch = NVFP4_ARCH_X86_64, .isa = UINT32_MAX, .cpu = "AMD EPYC 9575F"};
  assert_int_equal(kernel->is_supported(&machine, NULL), NVFP4_OK);
  nvfp4_reason reason = {0};
  strcpy(machine.cpu, "Intel(R) Xeon(R) Processor");
  assert_int_equal(kernel->is_supported(&machine, &reason), NVFP4_E_MACHINE);
  assert_non_null(strstr(reason.text, "x86_avx512_w4a16"));
  strcpy(machine.cpu, "AMD EPYC 7B13");
  machine.isa &= ~(uint32_t)NVFP4_ISA_AVX512BF16;
  assert_int_equal(kernel->is_supported(&machine, &reason), NVFP4_E_MACHINE);
  assert_non_null(strstr(reason.text, "avx512bf16"));
}

/* The reference's bits, for few rows and for many, over several panels; row 3 is so small that sums are subnormal, which the instruction would flush. */
static void test_bits(void **state) {
  (void)state;
  skip_unless_supported(KERNEL);
  enum { M = 53, N = 150, K = 2192 };
  nvfp4_options options = {.struct_size = sizeof options, .threads = 2, .policy = {.struct_size = sizeof(nvfp4_policy), .kernel = KERNEL}};
  test_layer layer = test_layer_make(N, K, 21);
  nvfp4_layer_desc desc = test_layer_desc(&layer, NVFP4_MODE_W4A16);
  desc.x_dtype = NVFP4_DTYPE_BF16;
  test_random random = {22};
  uint16_t *x = malloc(sizeof(uint16_t) * M * K);
  float *values = malloc(sizeof(float) * M * K), *want = malloc(sizeof(float) * M * N);
  for (int i = 0; i < M * K; i++) {
    x[i] = nvfp4_bf16_from_f32(test_random_gauss(&random) * (i / K == 3 ? 0x1p-127f : 1.0f));
    values[i] = nvfp4_bf16_to_f32(x[i]);
  }
  for (int m = 1; m <= M; m += 4) {
    test_layer_reference(&layer, NVFP4_MODE_W4A16, values, m, false, want);
    float *got = test_layer_run(&options, &layer, &desc, x, m);
    assert_memory_equal(got, want, sizeof(float) * m * N);
    free(got);
  }
  free(x);
  free(values);
  free(want);
  test_layer_free(&layer);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_x_types), cmocka_unit_test(test_not_on_intel), cmocka_unit_test(test_bits)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
