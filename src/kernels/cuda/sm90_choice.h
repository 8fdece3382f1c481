/* SPDX-License-Identifier: Apache-2.0 */
/* Which device kernel of sm90_w4a16.cu computes a product on Hopper, and how it is launched. A pure function: no driver, no GPU. */
#ifndef NVFP4_KERNELS_CUDA_SM90_CHOICE_H
#define NVFP4_KERNELS_CUDA_SM90_CHOICE_H

#include "cuda/cuda.h"

typedef enum cuda_sm90_order {
  CUDA_SM90_SLICES, /* K in cuda_mma_slices() parts: one order of additions for all M */
  CUDA_SM90_ANY     /* that, or K in one part: whatever is faster */
} cuda_sm90_order;

typedef struct cuda_sm90_launch {
  const nvfp4_cuda_kernel *code;        /* [2]: for x in bf16, in f16. NULL: it is more than one call computes, 2^27 tiles of y */
  int columns;                          /* rows of x in a box of the tensor map that it takes; 0: it takes none */
  int slices, block_tiles, chunk_pairs; /* for cuda_mma_args */
  int threads, cluster;                 /* cluster: thread blocks */
  int64_t blocks, shared_bytes;
} cuda_sm90_launch;

/* m, n, k: up to 2^30 each. */
cuda_sm90_launch cuda_sm90_choose(int64_t m, int64_t n, int64_t k, cuda_sm90_order order);

#endif
