/* SPDX-License-Identifier: Apache-2.0 */
// archs: sm_80 compute_80
// spills: two registers of a kernel for f16, beside its loop over K
/* Device code of cuda_sm80_w4a16, for x in bf16 and in f16. Which kernel serves which M: sm80_w4a16.c. */
#include "kernels/cuda/few.cuh"
#include "kernels/cuda/sm80_many.cuh"

#define NVFP4_FEW(type, threads, depth)                                                                                                              \
  extern "C" __global__ void __launch_bounds__(threads, 1) nvfp4_sm80_##type##_few8_##threads(const __grid_constant__ cuda_mma_args a) {             \
    few_rows<type, 1, depth, false, x_by_threads>(a);                                                                                                                     \
  }
/* At most `threads` threads in a block, and registers for `blocks` of them in a multiprocessor. */
#define NVFP4_MANY(type, name, threads, blocks, ...)                                                                                                 \
  extern "C" __global__ void __launch_bounds__(threads, blocks) nvfp4_sm80_##type##_##name(const __grid_constant__ cuda_mma_args a) {                \
    many_rows<many_shape<type, __VA_ARGS__>>(a);                                                                                                     \
  }

#define NVFP4_KERNELS(type)                                    \
  NVFP4_FEW(type, 512, 4)                                      \
  NVFP4_FEW(type, 768, 2)                                      \
  NVFP4_MANY(type, split16, 256, 1, 2, 2, 1, 3, SPLIT)         \
  NVFP4_MANY(type, split32, 256, 1, 2, 4, 1, 2, SPLIT)         \
  NVFP4_MANY(type, split64, 256, 1, 2, 8, 1, 2, SPLIT)         \
  NVFP4_MANY(type, sequence16, 128, 3, 2, 2, 4, 4, SEQUENCE)   \
  NVFP4_MANY(type, sequence32, 128, 3, 2, 4, 4, 4, SEQUENCE)   \
  NVFP4_MANY(type, sequence64_3, 128, 2, 2, 8, 4, 3, SEQUENCE) \
  NVFP4_MANY(type, sequence64_4, 128, 2, 2, 8, 4, 4, SEQUENCE)

NVFP4_KERNELS(bf16)
NVFP4_KERNELS(f16)
