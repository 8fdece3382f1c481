/* SPDX-License-Identifier: Apache-2.0 */
#include "kernels/registry.h"

#include <stdlib.h>

#include "kernels/plugin.h"
#include "layer/context.h"
#include "layer_support.h"

/* Every line of kernels.def is here, in its order, built or with a reason; what is built is complete and named as its line. */
static void test_follows_kernels_def(void **state) {
  (void)state;
  char *def = test_read_file("src/kernels/kernels.def", NULL);
  size_t count, line = 0;
  const nvfp4_registry_entry *entries = nvfp4_registry(&count);
  for (char *at = strstr(def, "\nNVFP4_KERNEL("); at != NULL; at = strstr(at + 1, "\nNVFP4_KERNEL("), line++) {
    assert_true(line < count);
    const char *id = at + strlen("\nNVFP4_KERNEL(");
    assert_memory_equal(id, entries[line].id, strlen(entries[line].id));
    assert_int_equal(id[strlen(entries[line].id)], ',');
    if (entries[line].kernel != NULL) {
      nvfp4_reason reason = {0};
      assert_ok(nvfp4_kernel_check(entries[line].kernel, &reason), reason);
      assert_string_equal(entries[line].kernel->id, entries[line].id);
    } else {
      assert_true(strlen(entries[line].not_built) > 0);
    }
  }
  assert_int_equal(line, count);
  free(def);
}

/* unpack(process(w)) == w for every CPU layout, at shapes around the tiles and with strides. */
static void test_layouts_round_trip(void **state) {
  (void)state;
  static const int64_t ns[] = {1, 31, 32, 33, 70}, ks[] = {16, 48, 64, 144};
  size_t count;
  const nvfp4_registry_entry *entries = nvfp4_registry(&count);
  nvfp4_context *context;
  nvfp4_reason reason = {0};
  assert_ok(nvfp4_context_create(NULL, &context, &reason), reason);
  for (size_t i = 0; i < count; i++) {
    const nvfp4_kernel *kernel = entries[i].kernel;
    if (kernel == NULL || kernel->device != NVFP4_DEVICE_CPU || kernel->is_supported(nvfp4_context_machine(context), NULL) != NVFP4_OK) {
      continue;
    }
    for (int shape = 0; shape < 20; shape++) {
      test_layer test = test_layer_make(ns[shape % 5], ks[shape / 5], (uint64_t)shape);
      nvfp4_weights weights = test_layer_weights(&test);
      float *alpha = calloc((size_t)test.n, sizeof *alpha);
      nvfp4_process_args args = {sizeof args, &weights, alpha, alpha, NULL};
      nvfp4_packed packed = {0};
      assert_ok(kernel->layout->process_weights_after_loading(&context->host, &args, &packed, &reason), reason);
      assert_int_equal(packed.data_bytes, kernel->layout->packed_bytes(test.n, test.k));
      uint8_t *codes = malloc((size_t)(test.n * test.k / 2)), *scales = malloc((size_t)(test.n * test.k / 16));
      assert_ok(kernel->layout->unpack(&context->host, &packed, codes, scales, &reason), reason);
      assert_memory_equal(codes, test.codes, test.n * test.k / 2);
      assert_memory_equal(scales, test.scales, test.n * test.k / 16);
      kernel->layout->free_packed(&context->host, &packed);
      free(codes);
      free(scales);
      free(alpha);
      test_layer_free(&test);
    }
  }
  nvfp4_context_destroy(context);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_follows_kernels_def), cmocka_unit_test(test_layouts_round_trip)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
