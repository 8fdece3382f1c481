/* SPDX-License-Identifier: Apache-2.0 */
/* Tiles of y: the order in which they are computed, and how a warp writes its part. */
#ifndef NVFP4_KERNELS_CUDA_TILES_CUH
#define NVFP4_KERNELS_CUDA_TILES_CUH

#include "kernels/cuda/mma.cuh"

/* Bands of 8 tiles of x, within them all rows of weights, so that what runs at a time shares both. */
struct tile_order {
  int row_tiles, column_tiles;
  __device__ void place(int tile, int *row_tile, int *column_tile) const {
    constexpr int BAND = 8;
    int band = tile / (BAND * row_tiles), within = tile % (BAND * row_tiles), width = min(BAND, column_tiles - band * BAND);
    *row_tile = within / width;
    *column_tile = band * BAND + within % width;
  }
};

/* Lane 4 r + c gives columns 2c and 2c + 1 of row r of 8 x 8 elements of 16 bits, and gets those of the transposed matrix. */
__device__ inline uint32_t transpose(uint32_t v) {
  asm("movmatrix.sync.aligned.m8n8.trans.b16 %0, %0;" : "+r"(v));
  return v;
}

/* A warp's sums of one row tile, which begins at row0, and COLUMNS rows of x from column0 on: d[4 c + i] is value i of the MMA of column tile c. */
template <class X, int COLUMNS>
__device__ inline void store_columns(const cuda_mma_args &a, int row0, int column0, const float (&d)[COLUMNS / 2]) {
  const int lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;
  const bool vectors = a.y_dtype != NVFP4_DTYPE_F32 && row0 + 16 <= a.n && a.ldy_elems % 4 == 0 && reinterpret_cast<uintptr_t>(a.y) % 8 == 0;
  const int n = row0 + row_of_slot(g);
  if (!vectors) {
#pragma unroll
    for (int i = 0; i < COLUMNS / 2; i++) {
      int m = column0 + i / 4 * 8 + 2 * t + i % 2, row = n + i / 2 % 2 * 2;
      if (m < a.m && row < a.n) {
        store_result(a, m, row, d[i], X::UNSCALE);
      }
    }
    return;
  }
  const float alpha0 = a.alpha[n], alpha1 = a.alpha[n + 2];
  const bool biased = a.bias != nullptr;
  const float bias0 = biased ? load_f32(a.bias, a.bias_dtype, n) : 0, bias1 = biased ? load_f32(a.bias, a.bias_dtype, n + 2) : 0;
  auto finish = [&](float sum, float alpha, float bias) {
    sum = __fmul_rn(sum, X::UNSCALE);
    return biased ? __fmaf_rn(alpha, sum, bias) : __fmul_rn(alpha, sum);
  };
  auto pack = [&](float low, float high) { return to_16(a.y_dtype, low) | to_16(a.y_dtype, high) << 16; };
  uint16_t *y = static_cast<uint16_t *>(a.y) + (long long)(column0 + g) * a.ldy_elems + row0 + 4 * t;
#pragma unroll
  for (int c = 0; c < COLUMNS / 8; c++) {
    uint2 v;
    v.x = transpose(pack(finish(d[4 * c], alpha0, bias0), finish(d[4 * c + 1], alpha0, bias0)));
    v.y = transpose(pack(finish(d[4 * c + 2], alpha1, bias1), finish(d[4 * c + 3], alpha1, bias1)));
    if (column0 + 8 * c + g < a.m) {
      *reinterpret_cast<uint2 *>(y + (long long)c * 8 * a.ldy_elems) = v;
    }
  }
}

#endif
