/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cuda_sm90_w4a4: y[m,n] = alpha[n] * sum over k ( ( x[m,k] * sx[m,k/16] ) * ( w[n,k] * sw[n,k/16] ) ) (+ bias[n]), x quantised to NVFP4
 *
 * The quantiser's codes and scales are the canonical ones, or those that the caller gives. Times their scales they are exact in bf16, as which quantise.cu writes them, as the weights are, so that
 * the W4A16 path of cuda_sm90_w4a16 computes the W4A4 result: nothing is rounded before the sum. Class BOUNDED; BATCH_INVARIANT. Packed layout: cuda_mma. Workspace: x in bf16 [m, k].
 */
#include "kernels/cuda/mma.h"
#include "kernels/cuda/mma_layout.h"
#include "kernels/cuda/sm90.h"

static nvfp4_status apply_weights(const nvfp4_host *host, const nvfp4_packed *packed, const nvfp4_kernel_args *args, nvfp4_reason *reason) {
  return cuda_sm90_apply_w4a4(host, packed, args, CUDA_SM90_SLICES, reason);
}

const nvfp4_kernel nvfp4_kernel_cuda_sm90_w4a4 = {
    .struct_size = sizeof(nvfp4_kernel),
    .id = "cuda_sm90_w4a4",
    .summary = "exact W4A4 products on Hopper's bf16 tensor cores",
    .layout = &nvfp4_layout_cuda_mma,
    .numerics = {NVFP4_MODE_W4A4, NVFP4_CLASS_BOUNDED, NVFP4_FLAG_BATCH_INVARIANT | NVFP4_FLAG_DETERMINISTIC,
                 "w4a4: " CUDA_MMA_ORDER_SLICES},
    .device = NVFP4_DEVICE_CUDA,
    .verified = "NVIDIA H200, driver 580.159.04, CUDA 13.0, 2026-11-24",
    .is_supported = cuda_sm90_is_supported,
    .can_implement = cuda_sm90_w4a4_can_implement,
    .workspace_bytes = cuda_mma_x_bytes,
    .apply_weights = apply_weights,
};
