/* SPDX-License-Identifier: Apache-2.0 */
/* CUTLASS behind plugins/cutlass/gemm.h, computed on the CPU on the mock driver's memory. It demands what gemm.cu demands. */
#include "cutlass/gemm.h"

#include <math.h>
#include <stdbool.h>

#include "format/e2m1.h"
#include "format/e4m3.h"
#include "format/half.h"
#include "format/scale_layout.h"
#include "mock/mock.h"

typedef struct gemm {
  cutlass_gemm_args args;
  bool bf16;
} gemm;

static float value(const uint8_t *codes, const uint8_t *scales, int64_t row, int64_t k, int64_t k_all) {
  uint8_t code = codes[row * (k_all / 2) + k / 2] >> k % 2 * 4 & 15;
  return nvfp4_e2m1_to_f32(code) * nvfp4_e4m3_to_f32(scales[nvfp4_scale_offset(NVFP4_SCALES_128X4, k_all / 16, row, k / 16)]);
}

static void compute(void *const *arguments, unsigned grid, unsigned block) {
  (void)grid, (void)block;
  const gemm *g = arguments[0];
  const cutlass_gemm_args *a = &g->args;
  for (int64_t m = 0; m < a->m; m++) {
    for (int64_t n = 0; n < a->n; n++) {
      double sum = 0;
      for (int64_t k = 0; k < a->k; k++) {
        sum += (double)value(a->x, a->x_scales, m, k, a->k) * (double)value(a->w, a->w_scales, n, k, a->k);
      }
      float bias = 0;
      if (a->bias != NULL) {
        nvfp4_to_f32((const uint16_t *)a->bias + n, NVFP4_DTYPE_BF16, &bias, 1);
      }
      float y = fmaf(a->alpha != NULL ? a->alpha[n] : 1.0f, (float)sum, bias);
      if (g->bf16) {
        ((uint16_t *)a->y)[m * a->ldy_elems + n] = nvfp4_bf16_from_f32(y);
      } else {
        ((float *)a->y)[m * a->ldy_elems + n] = y;
      }
    }
  }
}

static const char *run(const cutlass_gemm_args *args, bool bf16) {
  const void *const pointers[] = {args->x, args->w, args->x_scales, args->w_scales, args->y};
  for (int i = 0; i < 5; i++) {
    if (pointers[i] == NULL || (uintptr_t)pointers[i] % 16 != 0) {
      return "a pointer is not aligned";
    }
  }
  if (args->k % 32 != 0 || args->n % 8 != 0 || args->ldy_elems % (bf16 ? 8 : 4) != 0 || (!bf16 && args->bias != NULL)) {
    return "a size or a stride does not fit";
  }
  static const mock_kernel kernel = {"cutlass", {sizeof(gemm)}, compute};
  gemm g = {*args, bf16};
  return mock_cuda_launch(&kernel, args->stream, (void *[]){&g}) == 0 ? NULL : "Error Internal";
}

const char *cutlass_gemm_sm100_bf16(const cutlass_gemm_args *args) { return run(args, true); }
const char *cutlass_gemm_sm100_f32(const cutlass_gemm_args *args) { return run(args, false); }
const char *cutlass_gemm_sm120_bf16(const cutlass_gemm_args *args) { return run(args, true); }
const char *cutlass_gemm_sm120_f32(const cutlass_gemm_args *args) { return run(args, false); }
