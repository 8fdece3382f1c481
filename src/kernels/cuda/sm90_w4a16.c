/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cuda_sm90_w4a16: y[m,n] = alpha[n] * sum over k ( x[m,k] * ( w[n,k] * sw[n,k/16] ) ) (+ bias[n]), for x in bf16 or f16
 *
 * Weights times their scales are exact in bf16 and in f16; the tensor cores add in fp32 (docs/numerics.md, "Tensor cores"). Class BOUNDED; BATCH_INVARIANT: few.cuh, sm90_mid.cuh, sm90_split.cuh and
 * sm90_prefill.cuh, of which sm90_choice.c takes the fastest, add in one order, which N and K fix. Packed layout: cuda_mma. Workspace: a copy of x, used if the rows of x do not begin at multiples of
 * 16 bytes.
 */
#include "kernels/cuda/mma.h"
#include "kernels/cuda/mma_layout.h"
#include "kernels/cuda/sm90.h"

static nvfp4_status apply_weights(const nvfp4_host *host, const nvfp4_packed *packed, const nvfp4_kernel_args *args, nvfp4_reason *reason) {
  return cuda_sm90_apply(host, packed, args, args->x, args->ldx_elems, args->x_dtype, args->workspace, CUDA_SM90_SLICES, reason);
}

const nvfp4_kernel nvfp4_kernel_cuda_sm90_w4a16 = {
    .struct_size = sizeof(nvfp4_kernel),
    .id = "cuda_sm90_w4a16",
    .summary = "W4A16 on Hopper's tensor cores, one order of additions for all M",
    .layout = &nvfp4_layout_cuda_mma,
    .numerics = {NVFP4_MODE_W4A16, NVFP4_CLASS_BOUNDED, NVFP4_FLAG_BATCH_INVARIANT | NVFP4_FLAG_DETERMINISTIC,
                 "w4a16: " CUDA_MMA_ORDER_SLICES},
    .device = NVFP4_DEVICE_CUDA,
    .verified = "NVIDIA H200, driver 580.159.04, CUDA 13.0, 2026-11-24",
    .is_supported = cuda_sm90_is_supported,
    .can_implement = cuda_mma_w4a16_can_implement,
    .workspace_bytes = cuda_mma_x_bytes,
    .apply_weights = apply_weights,
};
