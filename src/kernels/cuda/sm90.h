/* SPDX-License-Identifier: Apache-2.0 */
/* The host side that the kernels for Hopper share: which device kernel serves which M, and how it is launched. */
#ifndef NVFP4_KERNELS_CUDA_SM90_H
#define NVFP4_KERNELS_CUDA_SM90_H

#include <nvfp4/kernel.h>

nvfp4_status cuda_sm90_is_supported(const nvfp4_machine *machine, nvfp4_reason *reason);

/* Any N, any K that is a multiple of 16, x in bf16 or f16: others would be rounded. */
nvfp4_status cuda_sm90_w4a16_can_implement(const nvfp4_layer_desc *desc, nvfp4_reason *reason);

/* Bytes for a copy of x [m, k] whose rows begin at multiples of 16 bytes. */
size_t cuda_sm90_x_bytes(const nvfp4_layer_desc *desc, int64_t m);

typedef enum cuda_sm90_order {
  CUDA_SM90_SLICES, /* any M: K in cuda_mma_slices() parts */
  CUDA_SM90_WHOLE   /* K in one part */
} cuda_sm90_order;

/* Enqueues y = x W^T for packed weights in the layout cuda_mma. x [m, k] in bf16 or f16, with args' other members; x_copy: cuda_sm90_x_bytes, for an x at other addresses. */
nvfp4_status cuda_sm90_apply(const nvfp4_host *host, const nvfp4_packed *packed, const nvfp4_kernel_args *args, const void *x,
                             int64_t ldx_elems, nvfp4_dtype x_dtype, void *x_copy, cuda_sm90_order order, nvfp4_reason *reason);

/* nvfp4_numerics.order */
#define CUDA_SM90_ORDER_SLICES "tensor cores, steps of 16 k's in the order of cuda_mma, slices of K by N and K, fp32"
#define CUDA_SM90_ORDER_WHOLE "tensor cores, steps of 16 k's in the order of cuda_mma, fp32"

#endif
