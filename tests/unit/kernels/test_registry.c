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

/* What is not given is listed with what to do, and stands there once its plug-in is open or not. */
static void test_plugins_def(void **state) {
  (void)state;
  size_t count, found = 0;
  const nvfp4_plugin_entry *entries = nvfp4_plugin_kernels(&count);
  nvfp4_context *context;
  nvfp4_reason reason = {0};
  assert_ok(nvfp4_context_create(NULL, &context, &reason), reason);
  for (size_t i = 0; i < nvfp4_kernel_count(context); i++) {
    nvfp4_kernel_info info;
    assert_ok(nvfp4_kernel_get(context, i, NULL, &info, &reason), reason);
    for (size_t j = 0; j < count; j++) {
      if (strcmp(info.id, entries[j].id) == 0) {
        assert_int_equal(info.stage, NVFP4_STAGE_PLUGIN_MISSING);
        assert_string_equal(info.reason, entries[j].missing);
        assert_true(info.backends[0] != '\0');
        found++;
      }
    }
  }
  assert_int_equal(found, count);
  nvfp4_context_destroy(context);
}

static void round_trip(nvfp4_context *context, const nvfp4_layout *layout, const nvfp4_weights *weights, uint8_t *codes, uint8_t *scales) {
  nvfp4_reason reason = {0};
  float *alpha = calloc((size_t)weights->n, sizeof *alpha);
  nvfp4_process_args args = {sizeof args, weights, alpha, alpha, NULL};
  nvfp4_packed packed = {0};
  assert_ok(layout->process_weights_after_loading(&context->host, &args, &packed, &reason), reason);
  assert_int_equal(packed.data_bytes, layout->packed_bytes(weights->n, weights->k, weights->dtype));
  assert_ok(layout->unpack(&context->host, &packed, codes, scales, &reason), reason);
  layout->free_packed(&context->host, &packed);
  free(alpha);
}

static void round_trip_nvfp4(nvfp4_context *context, const nvfp4_layout *layout, int64_t n, int64_t k, uint64_t seed) {
  test_layer test = test_layer_make(n, k, seed);
  nvfp4_weights weights = test_layer_weights(&test);
  uint8_t *codes = malloc((size_t)(n * k / 2)), *scales = malloc((size_t)(n * k / 16));
  round_trip(context, layout, &weights, codes, scales);
  assert_memory_equal(codes, test.codes, n * k / 2);
  assert_memory_equal(scales, test.scales, n * k / 16);
  free(codes);
  free(scales);
  test_layer_free(&test);
}

/* Any bits, whatever number they are; rows have a gap of 3 bytes. */
static void round_trip_dense(nvfp4_context *context, const nvfp4_layout *layout, int64_t n, int64_t k, uint64_t seed) {
  static const nvfp4_dtype dtypes[] = {NVFP4_DTYPE_F32, NVFP4_DTYPE_F16, NVFP4_DTYPE_BF16};
  test_random random = {seed};
  for (int i = 0; i < 3; i++) {
    int64_t row = k * (dtypes[i] == NVFP4_DTYPE_F32 ? 4 : 2), stride = row + 3;
    uint8_t *values = malloc((size_t)(n * stride)), *unpacked = malloc((size_t)(n * row));
    for (int64_t j = 0; j < n * stride; j++) {
      values[j] = (uint8_t)test_random_u64(&random);
    }
    nvfp4_weights weights = {
        .struct_size = sizeof weights, .n = n, .k = k, .dtype = dtypes[i], .values = values, .values_stride_bytes = stride};
    round_trip(context, layout, &weights, unpacked, NULL);
    for (int64_t j = 0; j < n; j++) {
      assert_memory_equal(unpacked + j * row, values + j * stride, row);
    }
    free(unpacked);
    free(values);
  }
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
    bool dense = kernel->numerics.mode == NVFP4_MODE_UNQUANTISED;
    for (int shape = 0; shape < 20; shape++) {
      (dense ? round_trip_dense : round_trip_nvfp4)(context, kernel->layout, ns[shape % 5], ks[shape / 5] - (dense ? shape % 3 : 0),
                                                    (uint64_t)shape);
    }
  }
  nvfp4_context_destroy(context);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_follows_kernels_def), cmocka_unit_test(test_plugins_def),
                                     cmocka_unit_test(test_layouts_round_trip)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
