/* SPDX-License-Identifier: Apache-2.0 */
/* CUTLASS behind plugins/cutlass/gemm.h, computed on the CPU on the mock driver's memory. It demands what gemm.cu demands. */
#include "cutlass/gemm.h"

#include "mock/fp4_product.h"

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
  mock_fp4_product product = {.m = args->m,
                              .n = args->n,
                              .k = args->k,
                              .x = args->x,
                              .w = args->w,
                              .x_scales = args->x_scales,
                              .w_scales = args->w_scales,
                              .alpha = 1,
                              .alpha_there = args->alpha,
                              .alpha_of_rows = true,
                              .bias = args->bias,
                              .bias_dtype = NVFP4_DTYPE_BF16,
                              .y = args->y,
                              .ldy_elems = args->ldy_elems,
                              .y_dtype = bf16 ? NVFP4_DTYPE_BF16 : NVFP4_DTYPE_F32,
                              .workspace = args->workspace,
                              .workspace_bytes = args->workspace_bytes};
  return mock_cuda_launch(&mock_fp4_kernel, args->stream, (void *[]){&product}) == 0 ? NULL : "Error Internal";
}

const char *cutlass_gemm_sm100_bf16(const cutlass_gemm_args *args) { return run(args, true); }
const char *cutlass_gemm_sm100_f32(const cutlass_gemm_args *args) { return run(args, false); }
const char *cutlass_gemm_sm120_bf16(const cutlass_gemm_args *args) { return run(args, true); }
const char *cutlass_gemm_sm120_f32(const cutlass_gemm_args *args) { return run(args, false); }
