/* SPDX-License-Identifier: Apache-2.0 */
// archs: sm_90a
// spills: a few registers, once a tile or a slice of it; in loops over K one reload at most
/*
 * Device code of the kernels for Hopper, for x in bf16 and in f16. Which kernel serves which M: sm90_choice.c. Registers bound how many warps a thread block may
 * have and how many loads each has under way: hence six of the kernels for few rows, each for thread blocks alone and in clusters of two.
 */
#include "kernels/cuda/few.cuh"
#include "kernels/cuda/sm90_mid.cuh"
#include "kernels/cuda/sm90_prefill.cuh"
#include "kernels/cuda/sm90_split.cuh"
#include "kernels/cuda/sm90_totals.cuh"

#define NVFP4_FEW(type, threads, depth)                                                                                                    \
  extern "C" __global__ void __launch_bounds__(threads, 1) nvfp4_sm90_##type##_few8_##threads(const __grid_constant__ cuda_mma_args a) {   \
    few_rows<type, 1, depth, false, x_by_bulk<1, depth>>(a);                                                                                                    \
  }                                                                                                                                        \
  extern "C" __global__ void __launch_bounds__(threads, 1) nvfp4_sm90_##type##_few8x2_##threads(const __grid_constant__ cuda_mma_args a) { \
    few_rows<type, 1, depth, true, x_by_bulk<1, depth>>(a);                                                                                                     \
  }
#define NVFP4_MID(type, name, ...)                                                                                     \
  using type##_##name = mid_shape<type, __VA_ARGS__>;                                                                  \
  extern "C" __global__ void __launch_bounds__(type##_##name::THREADS, 1)                                              \
      nvfp4_sm90_##type##_##name(const __grid_constant__ cuda_mma_args a, const __grid_constant__ cuda_tensor_map x) { \
    mid_rows<type##_##name>(a, x);                                                                                     \
  }
#define NVFP4_PREFILL(type, name, ...)                                                                                 \
  using type##_##name = prefill_shape<type, __VA_ARGS__>;                                                              \
  extern "C" __global__ void __launch_bounds__(type##_##name::THREADS, 1)                                              \
      nvfp4_sm90_##type##_##name(const __grid_constant__ cuda_mma_args a, const __grid_constant__ cuda_tensor_map x) { \
    prefill_rows<type##_##name>(a, x);                                                                                 \
  }
#define NVFP4_TOTALS(type, name, ...)                                                                                  \
  using type##_##name = totals_shape<type, __VA_ARGS__>;                                                               \
  extern "C" __global__ void __launch_bounds__(type##_##name::THREADS, 1)                                              \
      nvfp4_sm90_##type##_##name(const __grid_constant__ cuda_mma_args a, const __grid_constant__ cuda_tensor_map x) { \
    totals_rows<type##_##name>(a, x);                                                                                  \
  }
#define NVFP4_SPLIT(type, name, ...)                                                                                   \
  using type##_##name = split_shape<type, __VA_ARGS__>;                                                                \
  extern "C" __global__ void __launch_bounds__(type##_##name::THREADS, 1)                                              \
      nvfp4_sm90_##type##_##name(const __grid_constant__ cuda_mma_args a, const __grid_constant__ cuda_tensor_map x) { \
    split_rows<type##_##name>(a, x);                                                                                   \
  }

#define NVFP4_KERNELS(type)                            \
  NVFP4_FEW(type, 256, 8)                              \
  NVFP4_FEW(type, 384, 6)                              \
  NVFP4_FEW(type, 512, 4)                              \
  NVFP4_FEW(type, 768, 3)                              \
  NVFP4_FEW(type, 896, 2)                              \
  NVFP4_FEW(type, 1024, 2)                             \
  NVFP4_MID(type, mid16, 16, 4, 3, 2)                  \
  NVFP4_MID(type, mid32, 32, 4, 3, 1)                  \
  NVFP4_MID(type, mid64, 64, 2, 4, 2)                  \
  NVFP4_MID(type, mid3x64, 64, 3, 3, 2)                \
  NVFP4_MID(type, mid128, 128, 2, 2, 2)                \
  NVFP4_MID(type, mid3x128, 128, 3, 1, 2)              \
  NVFP4_SPLIT(type, split16, 16, 4, 5)                 \
  NVFP4_SPLIT(type, split32, 32, 4, 4)                 \
  NVFP4_SPLIT(type, split64, 64, 2, 5)                 \
  NVFP4_SPLIT(type, split128, 128, 2, 3)               \
  NVFP4_PREFILL(type, whole256, 2, 256, 3, false, 2)   \
  NVFP4_PREFILL(type, sliced1x128, 1, 128, 5, true, 2) \
  NVFP4_PREFILL(type, sliced128, 2, 128, 5, true, 2)   \
  NVFP4_PREFILL(type, sliced3x128, 3, 128, 4, true, 1) \
  NVFP4_PREFILL(type, sliced192, 2, 192, 3, true, 1)   \
  NVFP4_TOTALS(type, sliced256, 7, 2, 32)

NVFP4_KERNELS(bf16)
NVFP4_KERNELS(f16)
