/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cuda_sm90_prefill_w4a16: as cuda_sm90_w4a16, for rows of x enough that K in fewer slices is faster: in one, which needs no second set of sums, so that tiles are larger (sm90_prefill.cuh), or in
 * two. The order of additions depends on M: where the plan is to be batch-invariant, cuda_sm90_w4a16 serves all M.
 */
#include "kernels/cuda/mma.h"
#include "kernels/cuda/mma_layout.h"
#include "kernels/cuda/sm90.h"

static nvfp4_status apply_weights(const nvfp4_host *host, const nvfp4_packed *packed, const nvfp4_kernel_args *args, nvfp4_reason *reason) {
  return cuda_sm90_apply(host, packed, args, args->x, args->ldx_elems, args->x_dtype, args->workspace, CUDA_SM90_ANY, reason);
}

const nvfp4_kernel nvfp4_kernel_cuda_sm90_prefill_w4a16 = {
    .struct_size = sizeof(nvfp4_kernel),
    .id = "cuda_sm90_prefill_w4a16",
    .summary = "W4A16 on Hopper's tensor cores for many rows",
    .layout = &nvfp4_layout_cuda_mma,
    .numerics = {NVFP4_MODE_W4A16, NVFP4_CLASS_BOUNDED, NVFP4_FLAG_DETERMINISTIC, "w4a16: " CUDA_SM90_ORDER_ANY},
    .device = NVFP4_DEVICE_CUDA,
    .m_first = CUDA_SM90_ANY_M,
    .m_last = NVFP4_M_MAX,
    .verified = "NVIDIA H200, driver 580.159.04, CUDA 13.0, 2026-11-24",
    .is_supported = cuda_sm90_is_supported,
    .can_implement = cuda_mma_w4a16_can_implement,
    .workspace_bytes = cuda_mma_x_bytes,
    .apply_weights = apply_weights,
};
