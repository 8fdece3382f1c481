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

/* Of a lane's rows of weights n and n + 2. */
struct row_constants {
  float alpha0 = 0, alpha1 = 0, bias0 = 0, bias1 = 0;
};

/* Finishes and writes a warp's sums of the row tile which begins at row0. */
template <class X>
struct row_store {
  const cuda_mma_args &a;
  int n; /* of the lane: rows of weights n and n + 2 */
  bool vectors, biased;
  row_constants constants;

  static __device__ bool in_vectors(const cuda_mma_args &a, int row0) {
    return a.y_dtype != NVFP4_DTYPE_F32 && row0 + 16 <= a.n && a.ldy_elems % 4 == 0 && reinterpret_cast<uintptr_t>(a.y) % 8 == 0;
  }
  static __device__ row_constants constants_of(const cuda_mma_args &a, int row0) {
    const int n = row0 + row_of_slot(threadIdx.x % 32 / 4);
    row_constants of;
    if (in_vectors(a, row0)) {
      of.alpha0 = a.alpha[n];
      of.alpha1 = a.alpha[n + 2];
      if (a.bias != nullptr) {
        of.bias0 = load_f32(a.bias, a.bias_dtype, n);
        of.bias1 = load_f32(a.bias, a.bias_dtype, n + 2);
      }
    }
    return of;
  }
  /* `of`: constants_of(args, row0), which take a while to come. */
  __device__ row_store(const cuda_mma_args &args, int row0, const row_constants &of)
      : a(args), n(row0 + row_of_slot(threadIdx.x % 32 / 4)), vectors(in_vectors(args, row0)), biased(args.bias != nullptr), constants(of) {}
  __device__ row_store(const cuda_mma_args &args, int row0) : row_store(args, row0, constants_of(args, row0)) {}

  /* 8 rows of x from column0 on: the values of an MMA. */
  __device__ void operator()(int column0, float v0, float v1, float v2, float v3) const {
    const int g = threadIdx.x % 32 / 4, t = threadIdx.x % 4;
    if (!vectors) {
      const float v[4] = {v0, v1, v2, v3};
#pragma unroll
      for (int i = 0; i < 4; i++) {
        const int m = column0 + 2 * t + i % 2, row = n + i / 2 * 2;
        if (m < a.m && row < a.n) {
          store_result(a, m, row, v[i], X::UNSCALE);
        }
      }
      return;
    }
    auto finish = [&](float sum, float alpha, float bias) {
      sum = __fmul_rn(sum, X::UNSCALE);
      return biased ? __fmaf_rn(alpha, sum, bias) : __fmul_rn(alpha, sum);
    };
    auto pack = [&](float low, float high) { return to_16(a.y_dtype, low) | to_16(a.y_dtype, high) << 16; };
    uint2 four; /* transposed: rows of weights 4 t to 4 t + 3 of the tile, row g of x */
    four.x = transpose(pack(finish(v0, constants.alpha0, constants.bias0), finish(v1, constants.alpha0, constants.bias0)));
    four.y = transpose(pack(finish(v2, constants.alpha1, constants.bias1), finish(v3, constants.alpha1, constants.bias1)));
    if (column0 + g < a.m) {
      *reinterpret_cast<uint2 *>(static_cast<uint16_t *>(a.y) + (long long)(column0 + g) * a.ldy_elems + (n - row_of_slot(g)) + 4 * t) = four;
    }
  }
};

template <int SLICES>
__device__ inline float4 sum_in_order(const float4 (&slices)[SLICES]) {
  float4 sum = slices[0];
#pragma unroll
  for (int s = 1; s < SLICES; s++) {
    sum.x = __fadd_rn(sum.x, slices[s].x);
    sum.y = __fadd_rn(sum.y, slices[s].y);
    sum.z = __fadd_rn(sum.z, slices[s].z);
    sum.w = __fadd_rn(sum.w, slices[s].w);
  }
  return sum;
}

/* Two values rounded as by to_16, the first in the lower half. */
struct bf16_pair {
  static __device__ uint32_t pack(float low, float high) {
    const __nv_bfloat162 v = __floats2bfloat162_rn(low, high);
    return *reinterpret_cast<const uint32_t *>(&v) & ~(__hneu2_mask(v, v) & 0x003F003Fu); /* the conversion makes a NaN 7FFF */
  }
};
struct f16_pair {
  static __device__ uint32_t pack(float low, float high) {
    const __half2 v = __floats2half2_rn(low, high);
    return *reinterpret_cast<const uint32_t *>(&v) & ~(__hneu2_mask(v, v) & 0x01FF01FFu);
  }
};

/* The same for COLUMNS rows of x: d[4 c + i] is value i of the MMA of column tile c. What is one for all values is asked once: it is done while the tensor cores wait. */
template <class X, int COLUMNS>
__device__ inline void store_columns(const cuda_mma_args &a, int row0, int column0, const float (&d)[COLUMNS / 2]) {
  const int g = threadIdx.x % 32 / 4, t = threadIdx.x % 4, n = row0 + row_of_slot(g);
  float alpha[2], bias[2]; /* of rows n and n + 2 */
#pragma unroll
  for (int h = 0; h < 2; h++) {
    const int row = n + 2 * h;
    alpha[h] = row < a.n ? a.alpha[row] : 0;
    bias[h] = row < a.n && a.bias != nullptr ? load_f32(a.bias, a.bias_dtype, row) : -0.0f; /* added to anything, -0 changes no bit */
  }
  auto finish = [&](int i) { return __fmaf_rn(alpha[i / 2 % 2], __fmul_rn(d[i], X::UNSCALE), bias[i / 2 % 2]); };
  auto store = [&](auto form) { /* transposed: rows of weights 4 t to 4 t + 3 of the tile, row g of x */
    uint16_t *y = static_cast<uint16_t *>(a.y) + (long long)(column0 + g) * a.ldy_elems + row0 + 4 * t;
#pragma unroll
    for (int c = 0; c < COLUMNS / 8; c++, y += 8 * a.ldy_elems) {
      uint2 four;
      four.x = transpose(form.pack(finish(4 * c), finish(4 * c + 1)));
      four.y = transpose(form.pack(finish(4 * c + 2), finish(4 * c + 3)));
      if (column0 + 8 * c + g < a.m) {
        *reinterpret_cast<uint2 *>(y) = four;
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
    store(bf16_pair());
  } else {
    store(f16_pair());
  }
}

#endif
