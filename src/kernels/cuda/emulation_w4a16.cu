/* SPDX-License-Identifier: Apache-2.0 */
/* Device code of cuda_emulation_w4a16: the operations of docs/numerics.md, one by one. */
#include "kernels/cuda/emulation.cuh"

enum { STRIDE = STEP * NVFP4_BLOCK + 1 }; /* odd, so that a column's numbers lie in 32 banks */

template <int ROWS>
__device__ static void compute(const cuda_emulation_args &a) {
  __shared__ float w[COLUMNS][STRIDE], x[16 * ROWS][STRIDE], sw[COLUMNS][STEP + 1];
  int tx = threadIdx.x % 16, ty = threadIdx.x / 16, own_row = threadIdx.x / STEP, own_block = threadIdx.x % STEP;
  long long blocks = a.k / NVFP4_BLOCK, m_first, n_first;
  first_of_tile<ROWS>(a, &m_first, &n_first);
  float acc[ROWS][4] = {};
  for (long long first = 0; first < blocks; first += STEP) {
    bool there = n_first + own_row < a.n && first + own_block < blocks;
    long long at = (n_first + own_row) * blocks + first + own_block;
    uint2 codes = there ? reinterpret_cast<const uint2 *>(a.codes)[at] : make_uint2(0, 0);
    sw[own_row][own_block] = there ? e4m3_to_f32(a.scales[at]) : 0.0f;
    for (int i = 0; i < NVFP4_BLOCK; i++) {
      w[own_row][own_block * NVFP4_BLOCK + i] = e2m1_to_f32((i < 8 ? codes.x >> 4 * i : codes.y >> 4 * (i - 8)) & 15);
    }
    for (int i = threadIdx.x; i < 16 * ROWS * STEP * NVFP4_BLOCK; i += CUDA_EMULATION_THREADS) { /* a row's k's by neighbouring threads */
      int row = i / (STEP * NVFP4_BLOCK), k = i % (STEP * NVFP4_BLOCK);
      bool inside = m_first + row < a.m && first * NVFP4_BLOCK + k < a.k;
      x[row][k] = inside ? load_f32(a.x, a.x_dtype, (m_first + row) * a.ldx_elems + first * NVFP4_BLOCK + k) : 0.0f;
    }
    __syncthreads();
    for (int block = 0; block < STEP && first + block < blocks; block++) {
      float part[ROWS][4] = {};
      for (int k = block * NVFP4_BLOCK; k < (block + 1) * NVFP4_BLOCK; k++) {
#pragma unroll
        for (int i = 0; i < ROWS; i++) {
#pragma unroll
          for (int j = 0; j < 4; j++) {
            part[i][j] = __fmaf_rn(x[ty + 16 * i][k], w[tx + 16 * j][k], part[i][j]);
          }
        }
      }
#pragma unroll
      for (int i = 0; i < ROWS; i++) {
#pragma unroll
        for (int j = 0; j < 4; j++) {
          acc[i][j] = __fmaf_rn(part[i][j], sw[tx + 16 * j][block], acc[i][j]);
        }
      }
    }
    __syncthreads();
  }
  store_tile<ROWS>(a, m_first, n_first, acc);
}

extern "C" __global__ void __launch_bounds__(CUDA_EMULATION_THREADS) nvfp4_emulation_w4a16_16(const cuda_emulation_args a) { compute<1>(a); }
extern "C" __global__ void __launch_bounds__(CUDA_EMULATION_THREADS) nvfp4_emulation_w4a16_64(const cuda_emulation_args a) { compute<4>(a); }
