/* SPDX-License-Identifier: Apache-2.0 */
/* Sums in the registers of a warpgroup's accumulators to y. */
#ifndef NVFP4_KERNELS_CUDA_SM90_STORE_CUH
#define NVFP4_KERNELS_CUDA_SM90_STORE_CUH

#include "kernels/cuda/sm90.cuh"

/* Two values rounded as by to_16, the first in the lower half. */
struct to_bf16_pair {
  static __device__ uint32_t pack(float low, float high) {
    const __nv_bfloat162 v = __floats2bfloat162_rn(low, high);
    return *reinterpret_cast<const uint32_t *>(&v) & ~(__hneu2_mask(v, v) & 0x003F003Fu); /* the conversion makes a NaN 7FFF */
  }
};
struct to_f16_pair {
  static __device__ uint32_t pack(float low, float high) {
    const __half2 v = __floats2half2_rn(low, high);
    return *reinterpret_cast<const uint32_t *>(&v) & ~(__hneu2_mask(v, v) & 0x01FF01FFu);
  }
};

/* Finishes and writes a warp's 16 rows of weights from row0 on x COLUMNS rows of x from column0 on: d as the MMAs leave it. */
template <class X, int COLUMNS>
__device__ inline void store_sums(const cuda_mma_args &a, int row0, int column0, const float (&d)[COLUMNS / 2]) {
  const int lane = threadIdx.x % 32, g = lane / 4, t = lane % 4, n = row0 + row_of_slot(g);
  float alpha[2], bias[2]; /* of rows n and n + 2 */
#pragma unroll
  for (int h = 0; h < 2; h++) {
    const int row = n + 2 * h;
    alpha[h] = row < a.n ? a.alpha[row] : 0;
    bias[h] = row < a.n && a.bias != nullptr ? load_f32(a.bias, a.bias_dtype, row) : -0.0f; /* added to anything, -0 changes no bit */
  }
  auto finish = [&](int i) { return __fmaf_rn(alpha[i / 2 % 2], __fmul_rn(d[i], X::UNSCALE), bias[i / 2 % 2]); };
  auto store_pairs = [&](auto form) { /* transposed, four neighbours of a row of y are a lane's */
    uint16_t *y = static_cast<uint16_t *>(a.y) + (long long)(column0 + g) * a.ldy_elems + row0 + 4 * t;
    const long long step = 8 * a.ldy_elems;
#pragma unroll
    for (int c = 0; c < COLUMNS / 8; c++, y += step) {
      uint2 v;
      v.x = transpose(form.pack(finish(4 * c), finish(4 * c + 1)));
      v.y = transpose(form.pack(finish(4 * c + 2), finish(4 * c + 3)));
      if (column0 + 8 * c + g < a.m) {
        *reinterpret_cast<uint2 *>(y) = v;
      }
    }
  };
  if (a.y_dtype == NVFP4_DTYPE_F32 || row0 + 16 > a.n || a.ldy_elems % 4 != 0 || reinterpret_cast<uintptr_t>(a.y) % 8 != 0) {
#pragma unroll
    for (int i = 0; i < COLUMNS / 2; i++) {
      const int m = column0 + i / 4 * 8 + 2 * t + i % 2, row = n + i / 2 % 2 * 2;
      if (m < a.m && row < a.n) {
        store_f32(a.y, a.y_dtype, m * a.ldy_elems + row, finish(i));
      }
    }
  } else if (a.y_dtype == NVFP4_DTYPE_BF16) {
    store_pairs(to_bf16_pair());
  } else {
    store_pairs(to_f16_pair());
  }
}

#endif
