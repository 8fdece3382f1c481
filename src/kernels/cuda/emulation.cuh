/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the two emulation kernels share. A thread block computes a tile of y, 64 columns and 16 ROWS rows; its 16 x 16 threads ROWS x 4 values each: row i is ty + 16 i, column j is
 * tx + 16 j of the tile. Codes are decoded into shared memory, STEP blocks of 16 k's at a time; each value of y is one thread's sum, in ascending k.
 */
#ifndef NVFP4_KERNELS_CUDA_EMULATION_CUH
#define NVFP4_KERNELS_CUDA_EMULATION_CUH

#include "kernels/cuda/arguments.h"
#include "kernels/cuda/format.cuh"

enum { COLUMNS = CUDA_EMULATION_COLUMNS, STEP = 4 };
static_assert(COLUMNS * STEP == CUDA_EMULATION_THREADS, "a thread decodes a block of a row of the weights");

/* Where a thread block's tile begins: the tiles of a band of rows follow each other, so that they share x in the L2 cache. */
template <int ROWS>
__device__ inline void first_of_tile(const cuda_emulation_args &a, long long *m, long long *n) {
  long long tiles = (a.n + COLUMNS - 1) / COLUMNS;
  *m = blockIdx.x / tiles * (16 * ROWS);
  *n = blockIdx.x % tiles * COLUMNS;
}

/* alpha, bias, one rounding. */
template <int ROWS>
__device__ inline void store_tile(const cuda_emulation_args &a, long long m_first, long long n_first, const float (&acc)[ROWS][4]) {
#pragma unroll /* here and below: acc stays in registers */
  for (int j = 0; j < 4; j++) {
    long long n = n_first + threadIdx.x % 16 + 16 * j;
#pragma unroll
    for (int i = 0; i < ROWS; i++) {
      long long m = m_first + threadIdx.x / 16 + 16 * i;
      if (m < a.m && n < a.n) {
        float v = a.bias != nullptr ? __fmaf_rn(a.alpha[n], acc[i][j], load_f32(a.bias, a.bias_dtype, n)) : __fmul_rn(a.alpha[n], acc[i][j]);
        store_f32(a.y, a.y_dtype, m * a.ldy_elems + n, v);
      }
    }
  }
}

#endif
