/* SPDX-License-Identifier: Apache-2.0 */
/* The host side that the kernels for Hopper share. */
#ifndef NVFP4_KERNELS_CUDA_SM90_H
#define NVFP4_KERNELS_CUDA_SM90_H

#include <nvfp4/kernel.h>

#include "kernels/cuda/sm90_choice.h"

nvfp4_status cuda_sm90_is_supported(const nvfp4_machine *machine, nvfp4_reason *reason);

/* Enqueues y = x W^T for packed weights in the layout cuda_mma. x [m, k] in bf16 or f16, with args' other members; x_copy: cuda_mma_x_bytes, for an x at other addresses. */
nvfp4_status cuda_sm90_apply(const nvfp4_host *host, const nvfp4_packed *packed, const nvfp4_kernel_args *args, const void *x,
                             int64_t ldx_elems, nvfp4_dtype x_dtype, void *x_copy, cuda_sm90_order order, nvfp4_reason *reason);

/* nvfp4_numerics.order of CUDA_SM90_ANY; the other is CUDA_MMA_ORDER_SLICES */
#define CUDA_SM90_ORDER_ANY "tensor cores, steps of 16 k's in the order of cuda_mma, K whole or in slices by M, N and K, fp32"

#endif
