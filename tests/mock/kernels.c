/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>

#include "format/activation.h"
#include "format/half.h"
#include "format/scale_layout.h"
#include "kernels/cuda/arguments.h"
#include "kernels/ref/spec.h"
#include "mock.h"

static void check_scales(void *const *arguments, unsigned grid, unsigned block) {
  const uint8_t *scales = *(const uint8_t **)arguments[0];
  long long stride = *(long long *)arguments[1], rows = *(long long *)arguments[2], blocks = *(long long *)arguments[3];
  unsigned long long *first = *(unsigned long long **)arguments[4];
  for (long long i = 0; i < (long long)grid * block && i < rows * blocks; i++) {
    if (scales[i / blocks * stride + i % blocks] >= 0x7F && (unsigned long long)i < *first) {
      *first = (unsigned long long)i;
    }
  }
}

static size_t width(int32_t dtype) { return dtype == NVFP4_DTYPE_F32 ? 4 : 2; }

static void quantise(void *const *arguments, unsigned grid, unsigned block) {
  const cuda_quantise_args *a = arguments[0];
  int64_t blocks = a->k / NVFP4_BLOCK;
  for (int64_t i = 0; i < (int64_t)grid * block && i < a->rows * a->columns; i++) {
    int64_t row = i / a->columns, column = i % a->columns;
    uint8_t scale = 0, *codes = a->codes + (row * blocks + column) * (NVFP4_BLOCK / 2);
    if (row < a->m && column < blocks && a->x != NULL) {
      float x[NVFP4_BLOCK];
      nvfp4_to_f32((const char *)a->x + (size_t)(row * a->ldx_elems + column * NVFP4_BLOCK) * width(a->x_dtype), (nvfp4_dtype)a->x_dtype, x,
                   NVFP4_BLOCK);
      nvfp4_quantise_activation_row(x, NVFP4_BLOCK, a->s_a, codes, &scale);
    } else if (row < a->m && column < blocks) {
      bool linear = a->q_scale_layout == NVFP4_SCALES_LINEAR;
      memcpy(codes, a->q_codes + row * a->q_codes_stride + column * (NVFP4_BLOCK / 2), NVFP4_BLOCK / 2);
      scale = a->q_scales[linear ? (size_t)(row * a->q_scales_stride + column)
                                 : nvfp4_scale_offset((nvfp4_scale_layout)a->q_scale_layout, blocks, row, column)];
    }
    a->scales[nvfp4_scale_offset((nvfp4_scale_layout)a->scale_layout, blocks, row, column)] = scale;
  }
}

/* Tiles of `rows` x 64; those that the grid has. */
static void emulate(const cuda_emulation_args *a, nvfp4_mode mode, int64_t rows, unsigned grid) {
  int64_t columns = (a->n + CUDA_EMULATION_COLUMNS - 1) / CUDA_EMULATION_COLUMNS, blocks = a->k / NVFP4_BLOCK;
  float *x = malloc((size_t)a->k * sizeof *x);
  for (int64_t m = 0; m < a->m; m++) {
    if (mode == NVFP4_MODE_W4A16) {
      nvfp4_to_f32((const char *)a->x + (size_t)(m * a->ldx_elems) * width(a->x_dtype), (nvfp4_dtype)a->x_dtype, x, a->k);
    }
    for (int64_t n = 0; n < a->n; n++) {
      if (m / rows * columns + n / CUDA_EMULATION_COLUMNS < (int64_t)grid) {
        nvfp4_spec_row w = {a->codes + n * blocks * (NVFP4_BLOCK / 2), a->scales + n * blocks};
        float acc, bias;
        if (mode == NVFP4_MODE_W4A16) {
          acc = nvfp4_spec_w4a16(x, w, a->k);
        } else {
          acc = nvfp4_spec_w4a4((nvfp4_spec_row){a->x_codes + m * blocks * (NVFP4_BLOCK / 2), a->x_scales + m * blocks}, w, a->k);
        }
        if (a->bias != NULL) {
          nvfp4_to_f32((const char *)a->bias + (size_t)n * width(a->bias_dtype), (nvfp4_dtype)a->bias_dtype, &bias, 1);
        }
        float v = nvfp4_spec_finish(acc, a->alpha[n], a->bias != NULL ? &bias : NULL);
        nvfp4_from_f32(&v, (nvfp4_dtype)a->y_dtype, (char *)a->y + (size_t)(m * a->ldy_elems + n) * width(a->y_dtype), 1);
      }
    }
  }
  free(x);
}

static void w4a4_16(void *const *arguments, unsigned grid, unsigned block) {
  (void)block;
  emulate(arguments[0], NVFP4_MODE_W4A4, 16, grid);
}
static void w4a4_64(void *const *arguments, unsigned grid, unsigned block) {
  (void)block;
  emulate(arguments[0], NVFP4_MODE_W4A4, 64, grid);
}
static void w4a16_16(void *const *arguments, unsigned grid, unsigned block) {
  (void)block;
  emulate(arguments[0], NVFP4_MODE_W4A16, 16, grid);
}
static void w4a16_64(void *const *arguments, unsigned grid, unsigned block) {
  (void)block;
  emulate(arguments[0], NVFP4_MODE_W4A16, 64, grid);
}

static void read_buffer(void *const *arguments, unsigned grid, unsigned block) { (void)arguments, (void)grid, (void)block; }

const mock_kernel mock_kernels[] = {
    {"nvfp4_read", {sizeof(void *), sizeof(long long), sizeof(void *)}, read_buffer},
    {"nvfp4_check_scales", {sizeof(void *), sizeof(long long), sizeof(long long), sizeof(long long), sizeof(void *)}, check_scales},
    {"nvfp4_quantise", {sizeof(cuda_quantise_args)}, quantise},
    {"nvfp4_emulation_w4a4_16", {sizeof(cuda_emulation_args)}, w4a4_16},
    {"nvfp4_emulation_w4a4_64", {sizeof(cuda_emulation_args)}, w4a4_64},
    {"nvfp4_emulation_w4a16_16", {sizeof(cuda_emulation_args)}, w4a16_16},
    {"nvfp4_emulation_w4a16_64", {sizeof(cuda_emulation_args)}, w4a16_64},
    {NULL, {0}, NULL},
};
