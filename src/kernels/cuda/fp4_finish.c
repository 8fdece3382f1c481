/* SPDX-License-Identifier: Apache-2.0 */
#include "kernels/cuda/fp4_finish.h"

#include "base/reason.h"
#include "cuda/cuda.h"
#include "kernels/cuda/arguments.h"

extern const unsigned char nvfp4_fatbin_fp4_finish[];
static const nvfp4_cuda_kernel finish_kernel = {nvfp4_fatbin_fp4_finish, "nvfp4_fp4_finish"};

nvfp4_status cuda_fp4_finish(const nvfp4_host *host, const nvfp4_kernel_args *args, const float *acc, int64_t ld_acc_elems,
                             nvfp4_reason *reason) {
  const int64_t across = (args->n + CUDA_FP4_FINISH_COLUMNS - 1) / CUDA_FP4_FINISH_COLUMNS;
  if (args->m > INT32_MAX / across) {
    return nvfp4_reject(reason, NVFP4_E_SHAPE, "M = %lld, N = %lld; one call finishes at most 2^31 pieces of %d columns: cut x into parts",
                        (long long)args->m, (long long)args->n, CUDA_FP4_FINISH_COLUMNS);
  }
  cuda_fp4_finish_args a = {.m = args->m,
                            .n = args->n,
                            .acc = acc,
                            .ld_acc_elems = ld_acc_elems,
                            .alpha = args->alpha,
                            .bias = args->bias,
                            .y = args->y,
                            .ldy_elems = args->ldy_elems,
                            .y_dtype = (int32_t)args->y_dtype,
                            .bias_dtype = (int32_t)args->bias_dtype};
  const nvfp4_cu_launch launch = {.grid_x = (unsigned)(args->m * across),
                                  .grid_y = 1,
                                  .grid_z = 1,
                                  .block_x = CUDA_FP4_FINISH_COLUMNS,
                                  .block_y = 1,
                                  .block_z = 1,
                                  .stream = args->stream};
  void *parameters[] = {&a};
  return nvfp4_cuda_launch(host->cuda, &finish_kernel, &launch, parameters, reason);
}
