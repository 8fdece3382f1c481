/* SPDX-License-Identifier: Apache-2.0 */
/* What the kernel does with tiles, checkkern proves over emulated ones (tests/plugins/amx_emulated.h); here: what it takes, and that it serves where there is AMX. */
#include <math.h>
#include <stdlib.h>

#include "format/e2m1.h"
#include "format/e4m3.h"
#include "format/half.h"
#include "kernels/registry.h"
#include "layer/layer.h"
#include "ref_kernel_cases.h"

#define KERNEL "x86_amxbf16_w4a16"

enum { M = 37, N = 75, K = 1040 };

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
  test_layer layer = test_layer_make(N, K, 30);
  nvfp4_layer_desc desc = test_layer_desc(&layer, NVFP4_MODE_W4A16);
  nvfp4_reason reason = {0};
  desc.x_dtype = NVFP4_DTYPE_F32;
  assert_int_equal(kernel->can_implement(&desc, &reason), NVFP4_E_DTYPE);
  assert_non_null(strstr(reason.text, "F32"));
  desc.x_dtype = NVFP4_DTYPE_F16;
  assert_int_equal(kernel->can_implement(&desc, NULL), NVFP4_E_DTYPE);
  desc.x_dtype = NVFP4_DTYPE_BF16;
  assert_int_equal(kernel->can_implement(&desc, &reason), NVFP4_OK);
  test_layer_free(&layer);
}

/* gamma(K + 8) A of docs/numerics.md, around the sum in double; and a row's bits do not depend on M or the number of threads. */
static void test_bound(void **state) {
  (void)state;
  skip_unless_supported(KERNEL);
  test_layer layer = test_layer_make(N, K, 31);
  nvfp4_layer_desc desc = test_layer_desc(&layer, NVFP4_MODE_W4A16);
  desc.m_first = 16;
  desc.m_last = NVFP4_M_MAX;
  desc.x_dtype = NVFP4_DTYPE_BF16;
  nvfp4_options options = {.struct_size = sizeof options, .threads = 2, .policy = {.struct_size = sizeof(nvfp4_policy), .kernel = KERNEL}};
  test_random random = {8};
  uint16_t *x = malloc(sizeof(uint16_t[M][K]));
  for (int i = 0; i < M * K; i++) {
    x[i] = nvfp4_bf16_from_f32(test_random_gauss(&random));
  }
  float alpha, *y = test_layer_run(&options, &layer, &desc, x, M);
  assert_int_equal(nvfp4_partition_alpha(&layer.partitions[0], NVFP4_MODE_W4A16, &alpha, NULL), NVFP4_OK);
  for (int m = 0; m < M; m++) {
    for (int n = 0; n < N; n++) {
      double exact = 0, absolute = 0, gamma = (K + 8) * 0x1p-24 / (1 - (K + 8) * 0x1p-24);
      for (int k = 0; k < K; k++) {
        uint8_t code = layer.codes[n * K / 2 + k / 2] >> (k % 2 * 4) & 15;
        double term = (double)nvfp4_bf16_to_f32(x[m * K + k]) * nvfp4_e2m1_to_f32(code) *
                      nvfp4_e4m3_to_f32(layer.scales[n * K / NVFP4_BLOCK + k / NVFP4_BLOCK]);
        exact += term;
        absolute += fabs(term);
      }
      assert_true(fabs((double)y[m * N + n] - (double)alpha * exact) <= gamma * (double)alpha * absolute);
    }
  }
  options.threads = 1;
  float *some = test_layer_run(&options, &layer, &desc, x + 20 * K, 16);
  assert_memory_equal(some, y + 20 * N, sizeof(float[16][N]));
  free(some);
  free(y);
  free(x);
  test_layer_free(&layer);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_x_types), cmocka_unit_test(test_bound)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
