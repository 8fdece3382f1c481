/* SPDX-License-Identifier: Apache-2.0 */
/*
 * y = x W^T for up to 8 COLUMN_TILES rows of x: memory-bound. Weights go straight from global memory to registers, since one warp alone uses them; x waits in shared memory.
 *
 * A warp computes one slice of K of one row tile; a thread block, or a cluster of two, has warps for some row tiles x all slices. Of a cluster each block has half of the slices, so that it needs
 * half of x; it computes all its row tiles at once. The sums of the slices are added in order, in fp32. The order of additions is that of sm90_prefill.cuh.
 *
 * Order of memory, in a cluster: both blocks have begun (the first barrier of the cluster) before one writes sums to the other; the second one makes them seen, and after it nobody touches the
 * other's memory.
 */
#ifndef NVFP4_KERNELS_CUDA_FEW_CUH
#define NVFP4_KERNELS_CUDA_FEW_CUH

#include "kernels/cuda/async.cuh"
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
 * DEPTH: pairs (of 64 k's) that a warp has under way. Shared memory: x, [1 or 2 chunks][m][slices of the block][chunk_pairs * 128] and 8 elements after each row, so that lanes meet different
 * banks; then the sums of the slices, if there are several, of the row tiles that the block finishes. Two chunks if one does not hold a slice.
 * PAIRED: blocks are in clusters of two, else alone. There are no divisions by what is no constant before weights are asked for: one takes a hundred cycles.
 */
template <class X, int COLUMN_TILES, int DEPTH, bool PAIRED>
__device__ inline void few_rows(const cuda_mma_args &a) {
  extern __shared__ __align__(128) uint8_t shared[];
  launch_dependents();
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  constexpr int CLUSTER = PAIRED ? 2 : 1;
  const int rank = blockIdx.x % CLUSTER, unit = blockIdx.x / CLUSTER, units = gridDim.x / CLUSTER; /* blocks or clusters */
  const int m = (int)a.m, slices = a.slices, slices_here = slices / CLUSTER, log_here = 31 - __clz(slices_here), first_slice = rank * slices_here;
  const int row_of_warp = warp >> log_here, slice_here = warp & (slices_here - 1), slice = first_slice + slice_here, row_tiles_here = (int)(blockDim.x / 32) >> log_here;
  const int pairs = (int)((a.k + CUDA_MMA_PAIR - 1) / CUDA_MMA_PAIR), row_tiles = (int)((a.n + 15) / 16);
  const int first = first_pair_of(slice, pairs, slices), count = first_pair_of(slice + 1, pairs, slices) - first;

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
      prefetch_row_constants(a, tile * 16);
    }
  };
  int tile = row_of_warp * units + unit;
  start(tile);
  if constexpr (PAIRED) {
    cluster_arrive_relaxed();
  }
  const int steps = (pairs + slices - 1) >> (31 - __clz(slices)), chunk = a.chunk_pairs, chunks = steps <= chunk ? 1 : (steps + chunk - 1) / chunk;
  const int tiles_at_a_time = row_tiles_here * units, rounds = tiles_at_a_time >= row_tiles ? 1 : (row_tiles + tiles_at_a_time - 1) / tiles_at_a_time;

  /* ---- x */
  const int row_bytes = slices_here * chunk * (CUDA_MMA_PAIR * 2) + 16;
  auto fetch_x = [&](int which, int buffer) { /* eight threads for 64 k's of a slice, the next eight for the next slice */
    const int eight = threadIdx.x / 8, s = eight & (slices_here - 1), begin = (first_pair_of(first_slice + s, pairs, slices) + which * chunk) * CUDA_MMA_PAIR;
    const uint32_t to = shared_address(shared) + buffer * m * row_bytes + s * chunk * (CUDA_MMA_PAIR * 2);
    for (int i = (eight >> log_here) * 64 + threadIdx.x % 8 * 8; i < chunk * CUDA_MMA_PAIR; i += (int)(blockDim.x / 8 >> log_here) * 64) {
      const int k = begin + i;
      const uint16_t *from = static_cast<const uint16_t *>(a.x) + (k < a.k ? k : 0);
      for (int row = 0; row < m; row++) {
        copy_async_16(to + row * row_bytes + i * 2, from + row * a.ldx_elems, k < a.k ? 16 : 0);
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
    of_lane[l] = min(8 * l + lane % 8, m - 1) * row_bytes + slice_here * chunk * (CUDA_MMA_PAIR * 2) + lane / 8 * 16;
  }
  float4 *sums = reinterpret_cast<float4 *>(shared + (chunks > 1 ? 2 : 1) * m * row_bytes); /* [row tiles][slices][COLUMN_TILES][32] */
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
    /* Of a cluster's row tiles, each block finishes every other one. */
    const uint32_t mine = shared_address(sums) + (row_of_warp / CLUSTER * slices + slice) * COLUMN_TILES * 512 + lane * 16;
    if constexpr (PAIRED) {
      cluster_wait();
    }
#pragma unroll
    for (int l = 0; l < COLUMN_TILES; l++) {
      if constexpr (PAIRED) {
        store_to_cluster(mine + l * 512, row_of_warp % CLUSTER, c[l][0], c[l][1], c[l][2], c[l][3]);
      } else {
        store_shared_16(mine + l * 512, c[l][0], c[l][1], c[l][2], c[l][3]);
      }
    }
    if constexpr (PAIRED) {
      cluster_sync();
    } else {
      __syncthreads();
    }
    for (int e = threadIdx.x; e < (row_tiles_here - rank + CLUSTER - 1) / CLUSTER * COLUMN_TILES * 128; e += blockDim.x) {
      const int of_row = e / (COLUMN_TILES * 128), within = e % (COLUMN_TILES * 128);
      const float *all = reinterpret_cast<const float *>(sums) + of_row * slices * COLUMN_TILES * 128 + within;
      float sum = all[0];
      for (int s = 1; s < slices; s++) {
        sum = __fadd_rn(sum, all[s * COLUMN_TILES * 128]);
      }
      store(round * tiles_at_a_time + (rank + of_row * CLUSTER) * units + unit, within / 128, within / 4 % 32, within % 4, sum);
    }
    __syncthreads();
  }
}

#endif
