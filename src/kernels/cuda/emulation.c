/* SPDX-License-Identifier: Apache-2.0 */
#include "kernels/cuda/emulation.h"

#include "base/reason.h"
#include "kernels/cuda/linear.h"

nvfp4_status cuda_emulation_is_supported(const nvfp4_machine *machine, nvfp4_reason *reason) {
  return cuda_is_supported(machine, 80, 0, reason);
}

nvfp4_status cuda_emulation_can_implement(const nvfp4_layer_desc *desc, nvfp4_reason *reason) {
  (void)desc; /* any N, any K that is a multiple of 16, any M, all element types */
  (void)reason;
  return NVFP4_OK;
}

cuda_emulation_args cuda_emulation_arguments(const nvfp4_packed *packed, const nvfp4_kernel_args *args) {
  return (cuda_emulation_args){.m = args->m,
                               .n = args->n,
                               .k = args->k,
                               .codes = cuda_linear_codes(packed),
                               .scales = cuda_linear_scales(packed),
                               .x_dtype = (int32_t)args->x_dtype,
                               .y_dtype = (int32_t)args->y_dtype,
                               .bias_dtype = (int32_t)args->bias_dtype,
                               .alpha = args->alpha,
                               .bias = args->bias,
                               .y = args->y,
                               .ldy_elems = args->ldy_elems};
}

nvfp4_status cuda_emulation_launch(const nvfp4_host *host, const nvfp4_cuda_kernel *few, const nvfp4_cuda_kernel *many,
                                   cuda_emulation_args *a, void *stream, nvfp4_reason *reason) {
  int64_t rows = a->m <= 16 ? 16 : 64;
  int64_t columns = (a->n + CUDA_EMULATION_COLUMNS - 1) / CUDA_EMULATION_COLUMNS, tiles = (a->m + rows - 1) / rows * columns;
  if (tiles > INT32_MAX) {
    return nvfp4_reject(reason, NVFP4_E_SHAPE, "M = %lld, N = %lld; one call computes at most 2^31 tiles of %lld x %d: cut x into parts",
                        (long long)a->m, (long long)a->n, (long long)rows, CUDA_EMULATION_COLUMNS);
  }
  const nvfp4_cu_launch launch = {
      .grid_x = (unsigned)tiles, .grid_y = 1, .grid_z = 1, .block_x = CUDA_EMULATION_THREADS, .block_y = 1, .block_z = 1, .stream = stream};
  void *parameters[] = {a};
  return nvfp4_cuda_launch(host->cuda, rows == 16 ? few : many, &launch, parameters, reason);
}
