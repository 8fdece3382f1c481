/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>

#include "format/half.h"
#include "kernels/registry.h"
#include "ref_kernel_cases.h"

#define KERNEL "x86_avx512bf16_w4a16"

static const nvfp4_kernel *the_kernel(void) {
  size_t count;
  const nvfp4_registry_entry *entries = nvfp4_registry(&count);
  for (size_t i = 0; i < count; i++) {
    if (strcmp(entries[i].id, KERNEL) == 0) {
      return entries[i].kernel;
    }
  }
  return NULL;
}

static void test_refusals(void **state) {
  (void)state;
  const nvfp4_kernel *kernel = the_kernel();
  if (kernel == NULL) {
    skip();
  }
  nvfp4_reason reason = {0};
  nvfp4_machine machine = {.struct_size = sizeof machine, .isa = UINT32_MAX, .cpu = "AMD EPYC"};
  assert_int_equal(kernel->is_supported(&machine, &reason), NVFP4_OK);
  strcpy(machine.cpu, "Intel(R) Xeon(R) Processor");
  assert_int_equal(kernel->is_supported(&machine, &reason), NVFP4_E_MACHINE);
  assert_non_null(strstr(reason.text, "x86_avx512_w4a16"));
  nvfp4_layer_desc desc = {.struct_size = sizeof desc, .n = 16, .k = 16, .x_dtype = NVFP4_DTYPE_BF16};
  assert_int_equal(kernel->can_implement(&desc, &reason), NVFP4_OK);
  desc.x_dtype = NVFP4_DTYPE_F16;
  assert_int_equal(kernel->can_implement(&desc, &reason), NVFP4_E_UNSUPPORTED);
  assert_non_null(strstr(reason.text, "bf16"));
}

/* Rows for several tasks and panels; row `tiny` has a number for which VDPBF16PS would give a zero. */
static void check_rows(int m_count, int tiny) {
  enum { M = 203, N = 150, K = 2192 };
  nvfp4_options options = {.struct_size = sizeof options, .threads = 2, .policy = {.struct_size = sizeof(nvfp4_policy), .kernel = KERNEL}};
  test_layer layer = test_layer_make(N, K, 21);
  nvfp4_layer_desc desc = test_layer_desc(&layer, NVFP4_MODE_W4A16);
  desc.x_dtype = NVFP4_DTYPE_BF16;
  test_random random = {22};
  float *x = malloc(sizeof(float) * M * K), *want = malloc(sizeof(float) * M * N);
  uint16_t *narrow = malloc(sizeof(uint16_t) * M * K);
  for (int i = 0; i < M * K; i++) {
    x[i] = test_random_gauss(&random) * (i / K == tiny ? 0x1p-125f : 1.0f);
  }
  nvfp4_from_f32(x, NVFP4_DTYPE_BF16, narrow, M * K);
  nvfp4_to_f32(narrow, NVFP4_DTYPE_BF16, x, M * K);
  test_layer_reference(&layer, NVFP4_MODE_W4A16, x, m_count, false, want);
  float *got = test_layer_run(&options, &layer, &desc, narrow, m_count);
  assert_memory_equal(got, want, sizeof(float) * (size_t)(m_count * N));
  free(got);
  free(narrow);
  free(want);
  free(x);
  test_layer_free(&layer);
}

static void test_rows(void **state) {
  (void)state;
  skip_unless_supported(KERNEL);
  check_rows(1, -1);
  check_rows(3, 1);
  check_rows(53, -1);
  check_rows(203, 100);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_refusals), cmocka_unit_test(test_rows)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
