/* SPDX-License-Identifier: Apache-2.0 */
/*
 * y = x W^T for up to 8 COLUMN_TILES rows of x: memory-bound. Weights go straight from global memory to registers, since one warp alone uses them; x waits in shared memory.
 *
 * A warp computes one slice of K of one row tile; a thread block has warps for some row tiles, gridDim.x apart, x all slices. The sums of the slices are added in order, in fp32. The order of
 * additions is that of sm90_prefill.cuh.
 */
#ifndef NVFP4_KERNELS_CUDA_FEW_CUH
#define NVFP4_KERNELS_CUDA_FEW_CUH

#include "kernels/cuda/mma.cuh"

__device__ inline uint4 load_weights(const uint8_t *p) {
  uint4 v;
  asm volatile("ld.global.nc.L1::no_allocate.L2::128B.v4.u32 {%0,%1,%2,%3}, [%4];" : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w) : "l"(p));
  return v;
}

/* What a lane loads of a row tile and 128 k's. The lanes of the same g share their scales: lane t has those of slot t % 2 and block t / 2 of 64 k's. */
struct lane_weights {
  uint4 words[2];
  uint32_t scales;
};

/*
 * DEPTH: pairs (of 64 k's) that a warp has under way. Shared memory: x, [1 or 2 chunks][m][slices][chunk_pairs * 128] and 8 elements after each row, so that lanes meet different banks; then
 * the sums of the warps, if there are several slices. Two chunks if one does not hold a slice.
 */
template <class X, int COLUMN_TILES, int DEPTH>
__device__ inline void few_rows(const cuda_mma_args &a) {
  extern __shared__ __align__(128) uint8_t shared[];
  launch_dependents();
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  const int m = (int)a.m, slices = a.slices, row_tiles_here = blockDim.x / 32 / slices, row_of_warp = warp / slices, slice = warp % slices;
  const int pairs = (int)((a.k + CUDA_MMA_PAIR - 1) / CUDA_MMA_PAIR), row_tiles = (int)((a.n + 15) / 16);
  const int first = slice * pairs / slices, count = (slice + 1) * pairs / slices - first;
  const int steps = (pairs + slices - 1) / slices, chunk = a.chunk_pairs, chunks = (steps + chunk - 1) / chunk;
  const int tiles_at_a_time = row_tiles_here * (int)gridDim.x, rounds = (row_tiles + tiles_at_a_time - 1) / tiles_at_a_time;

  /* ---- weights */
  lane_weights ring[DEPTH];
  const uint8_t *codes = nullptr, *scales = nullptr; /* of the next pair to be loaded, */
  const int weight_tiles = (int)((a.n + CUDA_MMA_ROWS - 1) / CUDA_MMA_ROWS);
  int pair_bytes = 0; /* from a pair to the next */
  int left = 0;                                      /* of which there are so many */
  auto load = [&](lane_weights &w) {
    if (left > 0) {
      w.words[0] = load_weights(codes);
      w.words[1] = load_weights(codes + 512);
      w.scales = __ldg(reinterpret_cast<const uint32_t *>(scales));
    }
    left--;
    codes += pair_bytes;
    scales += pair_bytes;
  };
  auto start = [&](int tile) {
    const int group = tile / (4 * CUDA_MMA_GROUP) * CUDA_MMA_GROUP, width = min(weight_tiles - group, (int)CUDA_MMA_GROUP);
    const uint8_t *from = a.weights + ((size_t)group * pairs + first * width + tile / 4 - group) * CUDA_MMA_TILE_BYTES;
    pair_bytes = width * CUDA_MMA_TILE_BYTES;
    codes = from + tile % 4 * 1024 + lane * 16;
    scales = from + CUDA_MMA_SCALES_AT + tile % 4 * 128 + lane * 4;
    left = tile < row_tiles ? count : 0;
#pragma unroll
    for (int d = 0; d < DEPTH; d++) {
      load(ring[d]);
    }
    if (tile < row_tiles) {
      asm volatile("prefetch.global.L2 [%0];" ::"l"(a.alpha + tile * 16)); /* for the end */
    }
  };
  int tile = row_of_warp * gridDim.x + blockIdx.x;
  start(tile);

  /* ---- x */
  const int row_bytes = slices * chunk * (CUDA_MMA_PAIR * 2) + 16;
  auto fetch_x = [&](int which, int buffer) {
    uint32_t to = shared_address(shared) + buffer * m * row_bytes;
    for (int i = threadIdx.x; i < slices * chunk * (CUDA_MMA_PAIR / 8); i += blockDim.x) {
      int s = i / (chunk * (CUDA_MMA_PAIR / 8)), k = (s * pairs / slices + which * chunk) * CUDA_MMA_PAIR + i % (chunk * (CUDA_MMA_PAIR / 8)) * 8;
      const uint16_t *from = static_cast<const uint16_t *>(a.x) + (k < a.k ? k : 0);
      for (int row = 0; row < m; row++) {
        copy_async_16(to + row * row_bytes + i * 16, from + row * a.ldx_elems, k < a.k ? 16 : 0);
      }
    }
    copy_async_commit();
  };
  wait_for_previous();
  fetch_x(0, 0);
  copy_async_wait<0>();
  __syncthreads();

  uint32_t of_lane[COLUMN_TILES]; /* 8 k's of two steps' 32 of a row of x, for load_matrices; columns beyond m repeat the last: they are not written */
#pragma unroll
  for (int l = 0; l < COLUMN_TILES; l++) {
    of_lane[l] = min(8 * l + lane % 8, m - 1) * row_bytes + slice * chunk * (CUDA_MMA_PAIR * 2) + lane / 8 * 16;
  }
  float4 *sums = reinterpret_cast<float4 *>(shared + (chunks > 1 ? 2 : 1) * m * row_bytes); /* [warps][COLUMN_TILES][32] */
  int ahead = 0;
  for (int round = 0; round < rounds; round++, tile += tiles_at_a_time) {
    if (round > 0) {
      start(tile);
    }
    float c[COLUMN_TILES][4] = {};
    auto multiply = [&](const lane_weights &w, const uint32_t (&x)[COLUMN_TILES], int offset) {
#pragma unroll
      for (int block = 0; block < 2; block++) {
        const uint2 s0 = X::scales(__shfl_sync(~0u, w.scales, 2 * block, 4)), s1 = X::scales(__shfl_sync(~0u, w.scales, 2 * block + 1, 4));
#pragma unroll
        for (int half = 0; half < 2; half++) {
          uint4 b[COLUMN_TILES];
#pragma unroll
          for (int l = 0; l < COLUMN_TILES; l++) {
            b[l] = load_matrices(x[l] + offset + block * 128 + half * 64);
          }
          const fragment low = X::weights(half ? w.words[block].z : w.words[block].x, scale_of_step(s0, 2 * half), scale_of_step(s1, 2 * half));
#pragma unroll
          for (int l = 0; l < COLUMN_TILES; l++) {
            X::mma(c[l], low, b[l].x, b[l].y);
          }
          const fragment high = X::weights(half ? w.words[block].w : w.words[block].y, scale_of_step(s0, 2 * half + 1), scale_of_step(s1, 2 * half + 1));
#pragma unroll
          for (int l = 0; l < COLUMN_TILES; l++) {
            X::mma(c[l], high, b[l].z, b[l].w);
          }
        }
      }
    };
    for (int which = 0; which < chunks; which++) {
      int buffer = 0;
      if (chunks > 1) { /* the next chunk, of the next round too, comes while this one is used */
        buffer = ahead++ & 1;
        if (which + 1 < chunks || round + 1 < rounds) {
          fetch_x((which + 1) % chunks, buffer ^ 1);
        }
      }
      uint32_t x[COLUMN_TILES];
#pragma unroll
      for (int l = 0; l < COLUMN_TILES; l++) {
        x[l] = shared_address(shared) + buffer * m * row_bytes + of_lane[l];
      }
      int left_here = tile < row_tiles ? min(count - which * chunk, chunk) : 0;
      for (; left_here >= DEPTH; left_here -= DEPTH) {
#pragma unroll
        for (int d = 0; d < DEPTH; d++) {
          multiply(ring[d], x, d * CUDA_MMA_PAIR * 2);
          load(ring[d]);
        }
#pragma unroll
        for (int l = 0; l < COLUMN_TILES; l++) {
          x[l] += DEPTH * CUDA_MMA_PAIR * 2;
        }
      }
#pragma unroll
      for (int d = 0; d < DEPTH - 1; d++) { /* the end of a slice */
        if (d < left_here) {
          multiply(ring[d], x, d * CUDA_MMA_PAIR * 2);
        }
      }
      if (chunks > 1) {
        copy_async_wait<0>();
        __syncthreads();
      }
    }

    /* ---- the slices in order, then y */
    auto store = [&](int of_tile, int l, int at, int i, float sum) { /* value i of lane `at` */
      const long long n = (long long)of_tile * 16 + row_of_slot(at / 4) + i / 2 * 2;
      const int row = 8 * l + at % 4 * 2 + i % 2;
      if (row < m && n < a.n) {
        store_result(a, row, n, sum, X::UNSCALE);
      }
    };
    if (slices == 1) {
#pragma unroll
      for (int l = 0; l < COLUMN_TILES; l++) {
#pragma unroll
        for (int i = 0; i < 4; i++) {
          store(tile, l, lane, i, c[l][i]);
        }
      }
      continue;
    }
#pragma unroll
    for (int l = 0; l < COLUMN_TILES; l++) {
      sums[(warp * COLUMN_TILES + l) * 32 + lane] = make_float4(c[l][0], c[l][1], c[l][2], c[l][3]);
    }
    __syncthreads();
    const float *all = reinterpret_cast<const float *>(sums + row_of_warp * slices * COLUMN_TILES * 32);
    for (int e = slice * 32 + lane; e < COLUMN_TILES * 128; e += slices * 32) {
      float sum = all[e];
      for (int s = 1; s < slices; s++) {
        sum = __fadd_rn(sum, all[s * COLUMN_TILES * 128 + e]);
      }
      store(tile, e / 128, e / 4 % 32, e % 4, sum);
    }
    __syncthreads();
  }
}

#endif
