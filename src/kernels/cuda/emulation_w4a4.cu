/* SPDX-License-Identifier: Apache-2.0 */
/* Device code of cuda_emulation_w4a4: a block's dot product in integers (four dp4a), exact, times the scales, exact, added in fp32. */
#include "kernels/cuda/emulation.cuh"

enum { WORDS = 4, STRIDE = STEP * WORDS + 1 }; /* 16 codes: four words of four signed bytes; odd, so that a column's words lie in 32 banks */

/* A block's 16 codes -> four words; its scale. */
__device__ static void decode(const uint8_t *codes, const uint8_t *scales, long long row, long long rows, long long block, long long blocks,
                              int *words, float *scale) {
  uint2 packed = make_uint2(0, 0);
  *scale = 0.0f;
  if (row < rows && block < blocks) {
    packed = *reinterpret_cast<const uint2 *>(codes + (row * blocks + block) * (NVFP4_BLOCK / 2));
    *scale = e4m3_to_f32(scales[row * blocks + block]);
  }
  words[0] = e2m1_doubled_x4(packed.x & 0xFFFF);
  words[1] = e2m1_doubled_x4(packed.x >> 16);
  words[2] = e2m1_doubled_x4(packed.y & 0xFFFF);
  words[3] = e2m1_doubled_x4(packed.y >> 16);
}

template <int ROWS>
__device__ static void compute(const cuda_emulation_args &a) {
  __shared__ int w[COLUMNS][STRIDE], x[16 * ROWS][STRIDE];
  __shared__ float sw[COLUMNS][STEP + 1], sx[16 * ROWS][STEP + 1];
  int tx = threadIdx.x % 16, ty = threadIdx.x / 16, own_row = threadIdx.x / STEP, own_block = threadIdx.x % STEP;
  long long blocks = a.k / NVFP4_BLOCK, m_first, n_first;
  first_of_tile<ROWS>(a, &m_first, &n_first);
  float acc[ROWS][4] = {};
  for (long long first = 0; first < blocks; first += STEP) {
    decode(a.codes, a.scales, n_first + own_row, a.n, first + own_block, blocks, &w[own_row][own_block * WORDS], &sw[own_row][own_block]);
    if (own_row < 16 * ROWS) {
      float scale;
      decode(a.x_codes, a.x_scales, m_first + own_row, a.m, first + own_block, blocks, &x[own_row][own_block * WORDS], &scale);
      sx[own_row][own_block] = __fmul_rn(0.25f, scale); /* both sides are doubled codes; exact: the smallest E4M3 value is 2^-9 */
    }
    __syncthreads();
    for (int block = 0; block < STEP && first + block < blocks; block++) {
#pragma unroll
      for (int i = 0; i < ROWS; i++) {
#pragma unroll
        for (int j = 0; j < 4; j++) {
          int dot4 = 0;
          for (int word = 0; word < WORDS; word++) {
            dot4 = __dp4a(x[ty + 16 * i][block * WORDS + word], w[tx + 16 * j][block * WORDS + word], dot4);
          }
          float scale = __fmul_rn(sx[ty + 16 * i][block], sw[tx + 16 * j][block]);
          acc[i][j] = __fadd_rn(acc[i][j], __fmul_rn((float)dot4, scale));
        }
      }
    }
    __syncthreads();
  }
  store_tile<ROWS>(a, m_first, n_first, acc);
}

extern "C" __global__ void __launch_bounds__(CUDA_EMULATION_THREADS) nvfp4_emulation_w4a4_16(const cuda_emulation_args a) { compute<1>(a); }
extern "C" __global__ void __launch_bounds__(CUDA_EMULATION_THREADS) nvfp4_emulation_w4a4_64(const cuda_emulation_args a) { compute<4>(a); }
