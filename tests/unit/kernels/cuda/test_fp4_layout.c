/* SPDX-License-Identifier: Apache-2.0 */
/* Packed weights and activations for FP4 tensor cores: every byte, padding too, against the formulas of src/format. */
#include "kernels/cuda/fp4_layout.h"

#include <stdlib.h>

#include "cuda_support.h"
#include "format/activation.h"
#include "format/half.h"
#include "format/scale_layout.h"

typedef struct fixture {
  nvfp4_context *context;
  nvfp4_place place;
  nvfp4_visit visit;
} fixture;

static void enter(fixture *f) {
  nvfp4_reason reason = {0};
  f->context = test_cuda_context("");
  assert_ok(nvfp4_place_find(f->context->cuda, (nvfp4_device){NVFP4_DEVICE_CUDA, 0}, &f->place, &reason), reason);
  assert_ok(nvfp4_place_enter(&f->place, true, &f->visit, &reason), reason);
}

static void leave(fixture *f) {
  nvfp4_reason reason = {0};
  assert_ok(nvfp4_place_leave(&f->visit, &reason), reason);
  nvfp4_context_destroy(f->context);
  assert_int_equal(test_cuda_live(), 0);
}

static uint8_t *read_back(const fixture *f, const void *from, size_t bytes) {
  nvfp4_reason reason = {0};
  uint8_t *to = malloc(bytes);
  assert_ok(nvfp4_cuda_copy_now(f->place.cuda, to, from, bytes, &reason), reason);
  return to;
}

static const int64_t shapes[][2] = {{1, 16}, {37, 80}, {128, 64}, {130, 208}, {255, 320}};

/* What the codes must be: row after row, zeros beyond k and n. */
static void check_codes(const uint8_t *found, const uint8_t *canonical, int64_t rows, int64_t rows_padded, int64_t k) {
  const int64_t width = (k + 63) / 64 * 32;
  for (int64_t i = 0; i < rows_padded * width; i++) {
    int64_t row = i / width, byte = i % width;
    assert_int_equal(found[i], row < rows && byte < k / 2 ? canonical[row * (k / 2) + byte] : 0);
  }
}

static void check_scales(const uint8_t *found, const uint8_t *linear, int64_t rows, int64_t k, nvfp4_scale_layout layout) {
  size_t bytes = nvfp4_scales_bytes(layout, rows, k / NVFP4_BLOCK);
  uint8_t *want = malloc(bytes);
  nvfp4_scales_from_linear(layout, linear, k / NVFP4_BLOCK, rows, k / NVFP4_BLOCK,
                           want); /* a column of tiles is 64 k: the padding of K adds none */
  assert_memory_equal(found, want, bytes);
  free(want);
}

static void test_weights(void **state) {
  (void)state;
  fixture f;
  enter(&f);
  const nvfp4_layout *layout = &nvfp4_layout_cuda_fp4;
  for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++) {
    nvfp4_reason reason = {0};
    int64_t n = shapes[i][0], k = shapes[i][1], np = (n + 127) / 128 * 128, kp = (k + 63) / 64 * 64;
    test_layer test = test_layer_make(n, k, i + 1);
    nvfp4_weights weights = test_layer_weights(&test), there;
    void *uploaded, *alpha_there;
    float *alpha = malloc((size_t)n * sizeof *alpha);
    for (int64_t row = 0; row < n; row++) {
      alpha[row] = i % 2 == 0 || row < n - 1 ? 0.375f : 0.5f; /* every second layer: the last row has another */
    }
    assert_ok(nvfp4_place_weights(&f.visit, &weights, &there, &uploaded, &reason), reason);
    assert_ok(nvfp4_place_copy(&f.visit, alpha, (size_t)n * sizeof *alpha, &alpha_there, &reason), reason);
    nvfp4_process_args args = {sizeof args, &there, alpha_there, alpha_there, f.visit.stream};
    nvfp4_packed packed = {0};
    assert_ok(layout->process_weights_after_loading(&f.context->host, &args, &packed, &reason), reason);
    assert_ok(nvfp4_place_wait(&f.visit, &reason), reason);

    assert_int_equal(packed.data_bytes, np * kp / 2 + np * kp / 16);
    assert_int_equal(packed.data_bytes, layout->packed_bytes(n, k, NVFP4_DTYPE_NONE));
    assert_ptr_equal(cuda_fp4_codes(&packed), packed.data);
    assert_ptr_equal(cuda_fp4_scales(&packed), (uint8_t *)packed.data + np * kp / 2);
    assert_int_equal((uintptr_t)packed.data % CUDA_FP4_ALIGNMENT, 0);
    uint8_t *bytes = read_back(&f, packed.data, packed.data_bytes);
    check_codes(bytes, test.codes, n, np, k);
    check_scales(bytes + np * kp / 2, test.scales, n, k, NVFP4_SCALES_128X4);
    float found;
    assert_int_equal(cuda_fp4_uniform_alpha(&packed, &found), i % 2 == 0);
    assert_true(i % 2 != 0 || found == 0.375f);

    uint8_t *codes = malloc((size_t)(n * k / 2)), *scales = malloc((size_t)(n * k / 16));
    assert_ok(layout->unpack(&f.context->host, &packed, codes, scales, &reason), reason);
    assert_memory_equal(codes, test.codes, (size_t)(n * k / 2));
    assert_memory_equal(scales, test.scales, (size_t)(n * k / 16));
    layout->free_packed(&f.context->host, &packed);
    nvfp4_place_free(&f.place, uploaded);
    nvfp4_place_free(&f.place, alpha_there);
    free(alpha);
    free(bytes);
    free(codes);
    free(scales);
    test_layer_free(&test);
  }
  leave(&f);
}

static void test_activations(void **state) {
  (void)state;
  static const nvfp4_scale_layout layouts[] = {NVFP4_SCALES_128X4, NVFP4_SCALES_8X4};
  fixture f;
  enter(&f);
  for (size_t i = 0; i < 2 * sizeof shapes / sizeof shapes[0]; i++) {
    nvfp4_reason reason = {0};
    int64_t m = shapes[i / 2][0], k = shapes[i / 2][1], kp = (k + 63) / 64 * 64;
    nvfp4_scale_layout layout = layouts[i % 2];
    test_random random = {i + 5};
    uint16_t *x = malloc((size_t)(m * k) * sizeof *x);
    uint8_t *codes = malloc((size_t)(m * k / 2)), *scales = malloc((size_t)(m * k / 16));
    float *row = malloc((size_t)k * sizeof *row);
    for (int64_t j = 0; j < m; j++) {
      for (int64_t l = 0; l < k; l++) {
        row[l] = test_random_gauss(&random);
      }
      nvfp4_from_f32(row, NVFP4_DTYPE_BF16, x + j * k, k);
      nvfp4_to_f32(x + j * k, NVFP4_DTYPE_BF16, row, k);
      nvfp4_quantise_activation_row(row, k, 33.0f, codes + j * k / 2, scales + j * k / 16);
    }
    size_t bytes = cuda_fp4_x_bytes(m, k, layout);
    void *x_there, *memory;
    uint8_t *poison = malloc(bytes + 64);
    memset(poison, 0xEE, bytes + 64);
    assert_ok(nvfp4_place_copy(&f.visit, x, (size_t)(m * k) * sizeof *x, &x_there, &reason), reason);
    assert_ok(nvfp4_place_copy(&f.visit, poison, bytes + 64, &memory, &reason), reason);
    nvfp4_kernel_args args = {.struct_size = sizeof args,
                              .m = m,
                              .k = k,
                              .x = x_there,
                              .ldx_elems = k,
                              .x_dtype = NVFP4_DTYPE_BF16,
                              .s_a = 33.0f,
                              .workspace = (uint8_t *)memory + 64, /* the alignment that a workspace has */
                              .workspace_bytes = bytes,
                              .stream = f.visit.stream};
    cuda_fp4_x out;
    assert_ok(cuda_fp4_quantise(&f.context->host, &args, layout, &out, &reason), reason);
    assert_ok(nvfp4_place_wait(&f.visit, &reason), reason);
    assert_int_equal((uintptr_t)out.codes % CUDA_FP4_ALIGNMENT + (uintptr_t)out.scales % CUDA_FP4_ALIGNMENT, 0);
    assert_int_equal((uintptr_t)out.rest % CUDA_FP4_ALIGNMENT, 0);
    assert_true((uint8_t *)out.rest <= (uint8_t *)memory + 64 + bytes);
    uint8_t *found = read_back(&f, out.codes, (size_t)(m * kp / 2));
    check_codes(found, codes, m, m, k);
    free(found);
    found = read_back(&f, out.scales, nvfp4_scales_bytes(layout, m, kp / NVFP4_BLOCK));
    check_scales(found, scales, m, k, layout);
    free(found);
    nvfp4_place_free(&f.place, x_there);
    nvfp4_place_free(&f.place, memory);
    free(poison);
    free(x);
    free(codes);
    free(scales);
    free(row);
  }
  leave(&f);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_weights), cmocka_unit_test(test_activations)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
