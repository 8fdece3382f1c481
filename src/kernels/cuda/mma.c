/* SPDX-License-Identifier: Apache-2.0 */
#include "kernels/cuda/mma.h"

#include <stdint.h>

#include "base/reason.h"
#include "cuda/cuda.h"
#include "kernels/cuda/mma_layout.h"

enum { MAX_ELEMS = 1 << 30 };

nvfp4_status cuda_mma_w4a16_can_implement(const nvfp4_layer_desc *desc, nvfp4_reason *reason) {
  if (desc->x_dtype == NVFP4_DTYPE_F32) {
    return nvfp4_reject(
        reason, NVFP4_E_DTYPE,
        "x is F32, and f32 activations would be rounded: tensor cores take BF16 or F16; pass those, or name cuda_emulation_w4a16");
  }
  return NVFP4_OK;
}

size_t cuda_mma_x_bytes(const nvfp4_layer_desc *desc, int64_t m) { return (size_t)m * (size_t)desc->k * 2; }

nvfp4_status cuda_mma_arguments(const nvfp4_host *host, const nvfp4_packed *packed, const nvfp4_kernel_args *args, const void *x,
                                int64_t ldx_elems, void *x_copy, int slices, cuda_mma_args *out, nvfp4_reason *reason) {
  if (args->m > MAX_ELEMS || args->n > MAX_ELEMS || args->k > MAX_ELEMS) {
    return nvfp4_reject(reason, NVFP4_E_SHAPE,
                        "M = %lld, N = %lld, K = %lld; the tensor-core kernels take at most 2^30 of each: cut the layer or x into parts",
                        (long long)args->m, (long long)args->n, (long long)args->k);
  }
  if ((uintptr_t)x % 16 != 0 || ldx_elems % 8 != 0 || ldx_elems > MAX_ELEMS) {
    NVFP4_TRY(nvfp4_cuda_copy_rows(host->cuda, x_copy, (size_t)args->k * 2, x, (size_t)ldx_elems * 2, (size_t)args->k * 2, (size_t)args->m,
                                   args->stream, reason));
    x = x_copy;
    ldx_elems = args->k;
  }
  *out = (cuda_mma_args){.m = args->m,
                         .n = args->n,
                         .k = args->k,
                         .weights = packed->data,
                         .x = x,
                         .ldx_elems = ldx_elems,
                         .alpha = args->alpha,
                         .bias = args->bias,
                         .y = args->y,
                         .ldy_elems = args->ldy_elems,
                         .y_dtype = (int32_t)args->y_dtype,
                         .bias_dtype = (int32_t)args->bias_dtype,
                         .slices = slices,
                         .cluster = 1};
  return NVFP4_OK;
}

int64_t cuda_mma_few_shared_bytes(cuda_mma_args *a, int64_t threads, int64_t columns, int64_t depth, int64_t most) {
  const int64_t pairs = (a->k + CUDA_MMA_PAIR - 1) / CUDA_MMA_PAIR,
                steps = ((pairs + a->slices - 1) / a->slices + depth - 1) / depth * depth;
  const int64_t slices_here = a->slices / a->cluster, row_tiles = threads / 32 / slices_here;
  const int64_t sums = a->slices > 1 ? (row_tiles + a->cluster - 1) / a->cluster * a->slices * columns * 64 : 0,
                pair_bytes = slices_here * CUDA_MMA_PAIR * 2;
  int64_t chunk = steps, bytes = a->m * (steps * pair_bytes + 16) + sums;
  if (bytes > most) {
    chunk = ((most - sums) / (2 * a->m) - 16) / pair_bytes / depth * depth;
    bytes = 2 * a->m * (chunk * pair_bytes + 16) + sums;
  }
  a->chunk_pairs = (int32_t)chunk;
  return bytes;
}
