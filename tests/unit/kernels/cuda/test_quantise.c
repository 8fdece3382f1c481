/* SPDX-License-Identifier: Apache-2.0 */
/* Codes and scales of the device's quantiser: those of src/format, in every scale layout, tiles filled with zeros. */
#include "kernels/cuda/quantise.h"

#include <stdlib.h>

#include "cuda_support.h"
#include "format/activation.h"
#include "format/scale_layout.h"

enum { M = 131, K = 208, BLOCKS = K / NVFP4_BLOCK };
static const float s_a = 57.5f;

typedef struct quantised {
  uint8_t codes[M * K / 2];
  uint8_t scales[256 * 16 + 8]; /* room for any layout, and a byte behind it */
} quantised;

/* Runs it at the visit's place, from x or from what is quantised. */
static void run(const nvfp4_host *host, const nvfp4_visit *visit, const float *x, const quantised *from, nvfp4_scale_layout from_layout,
                nvfp4_scale_layout layout, quantised *out) {
  nvfp4_reason reason = {0};
  void *inputs[2], *outputs;
  size_t scale_bytes = nvfp4_scales_bytes(layout, M, BLOCKS), x_bytes = (size_t)(M * K) * sizeof *x;
  assert_ok(
      nvfp4_place_copy(visit, x != NULL ? (const void *)x : from->codes, x != NULL ? x_bytes : sizeof from->codes, &inputs[0], &reason),
      reason);
  assert_ok(nvfp4_place_copy(visit, from != NULL ? from->scales : out->scales, sizeof out->scales, &inputs[1], &reason), reason);
  memset(out, 0xEE, sizeof *out);
  assert_ok(nvfp4_place_copy(visit, out, sizeof *out, &outputs, &reason), reason);
  nvfp4_quantised_x q = {.codes = inputs[0],
                         .codes_stride_bytes = K / 2,
                         .scales = inputs[1],
                         .scale_layout = from_layout,
                         .scales_stride_bytes = from_layout == NVFP4_SCALES_LINEAR ? BLOCKS : 0};
  nvfp4_kernel_args args = {.struct_size = sizeof args,
                            .m = M,
                            .k = K,
                            .x = x != NULL ? inputs[0] : NULL,
                            .ldx_elems = K,
                            .x_dtype = NVFP4_DTYPE_F32,
                            .quantised_x = x != NULL ? NULL : &q,
                            .s_a = s_a,
                            .stream = visit->stream};
  uint8_t *codes = outputs;
  assert_ok(cuda_quantise(host, &args, K, layout, codes, codes + sizeof out->codes, &reason), reason);
  assert_ok(nvfp4_cuda_copy_rows(host->cuda, out, sizeof *out, outputs, sizeof *out, sizeof *out, 1, visit->stream, &reason), reason);
  assert_ok(nvfp4_place_wait(visit, &reason), reason);
  assert_int_equal(out->scales[scale_bytes], 0xEE); /* nothing beyond */
  nvfp4_place_free(visit->place, inputs[0]);
  nvfp4_place_free(visit->place, inputs[1]);
  nvfp4_place_free(visit->place, outputs);
}

static void test_every_layout(void **state) {
  (void)state;
  static const nvfp4_scale_layout layouts[] = {NVFP4_SCALES_LINEAR, NVFP4_SCALES_128X4, NVFP4_SCALES_8X4};
  nvfp4_context *context = test_cuda_context("");
  nvfp4_reason reason = {0};
  nvfp4_place place;
  nvfp4_visit visit;
  assert_ok(nvfp4_place_find(context->cuda, (nvfp4_device){NVFP4_DEVICE_CUDA, 0}, &place, &reason), reason);
  assert_ok(nvfp4_place_enter(&place, true, &visit, &reason), reason);
  float *x = malloc((size_t)(M * K) * sizeof *x);
  quantised *linear = calloc(1, sizeof *linear), *want = calloc(1, sizeof *want), *found = calloc(1, sizeof *found);
  test_random random = {11};
  for (int i = 0; i < M * K; i++) {
    x[i] = i / K % 7 == 3 ? 0.0f : test_random_gauss(&random) * (float)(1 << i % 9);
  }
  x[5 * K + 3] = f32_from_bits(0x7FC00000);
  x[6 * K + 4] = f32_from_bits(0xFF800000);
  for (int m = 0; m < M; m++) {
    nvfp4_quantise_activation_row(x + m * K, K, s_a, linear->codes + m * K / 2, linear->scales + m * BLOCKS);
  }
  for (int i = 0; i < 3; i++) {
    nvfp4_scales_from_linear(layouts[i], linear->scales, BLOCKS, M, BLOCKS, want->scales);
    size_t bytes = nvfp4_scales_bytes(layouts[i], M, BLOCKS);
    run(&context->host, &visit, x, NULL, NVFP4_SCALES_LINEAR, layouts[i], found);
    assert_memory_equal(found->codes, linear->codes, sizeof linear->codes);
    assert_memory_equal(found->scales, want->scales, bytes);
    run(&context->host, &visit, NULL, linear, NVFP4_SCALES_LINEAR, layouts[i], found);
    assert_memory_equal(found->codes, linear->codes, sizeof linear->codes);
    assert_memory_equal(found->scales, want->scales, bytes);
    memcpy(want->codes, linear->codes, sizeof linear->codes);
    run(&context->host, &visit, NULL, want, layouts[i], NVFP4_SCALES_LINEAR, found);
    assert_memory_equal(found->scales, linear->scales, M * BLOCKS);
  }
  free(x);
  free(linear);
  free(want);
  free(found);
  assert_ok(nvfp4_place_leave(&visit, &reason), reason);
  nvfp4_context_destroy(context);
  assert_int_equal(test_cuda_live(), 0);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_every_layout)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
