/* SPDX-License-Identifier: Apache-2.0 */
/* The host side that the tensor-core kernels share: what they refuse, the arguments of their device code, the shared memory of few.cuh. */
#ifndef NVFP4_KERNELS_CUDA_MMA_H
#define NVFP4_KERNELS_CUDA_MMA_H

#include <nvfp4/kernel.h>

#include "kernels/cuda/arguments.h"

/* nvfp4_numerics.order where K is cut into cuda_mma_slices() parts */
#define CUDA_MMA_ORDER_SLICES "tensor cores, steps of 16 k's in the order of cuda_mma, slices of K by N and K, fp32"

/* For W4A16: any N, any K that is a multiple of 16, x in bf16 or f16: others would be rounded. */
nvfp4_status cuda_mma_w4a16_can_implement(const nvfp4_layer_desc *desc, nvfp4_reason *reason);

/* Bytes for a copy of x [m, k] whose rows begin at multiples of 16 bytes. */
size_t cuda_mma_x_bytes(const nvfp4_layer_desc *desc, int64_t m);

/* *out: what args and the packed weights (layout cuda_mma) say, with x [m, k] in bf16 or f16 and K in `slices`. If the rows of x do not begin at multiples of 16 bytes, enqueues a copy
 * to x_copy, cuda_mma_x_bytes, which out->x then is. */
nvfp4_status cuda_mma_arguments(const nvfp4_host *host, const nvfp4_packed *packed, const nvfp4_kernel_args *args, const void *x,
                                int64_t ldx_elems, void *x_copy, int slices, cuda_mma_args *out, nvfp4_reason *reason);

/*
 * few_rows of few.cuh: sets a->chunk_pairs and returns the bytes of shared memory, at most `most`. x of all slices is there in one chunk, or in two that are as large as they can be: steps of
 * `depth` pairs; then the sums of `threads` threads for `columns` rows of x.
 */
int64_t cuda_mma_few_shared_bytes(cuda_mma_args *a, int64_t threads, int64_t columns, int64_t depth, int64_t most);

#endif
