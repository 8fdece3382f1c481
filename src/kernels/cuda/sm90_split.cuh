/* SPDX-License-Identifier: Apache-2.0 */
/*
 * y = x W^T for tens to hundreds of rows of x, and layers of so few rows that their K is cut into slices: y^T = W x^T on the warpgroup's tensor cores, as in sm90_prefill.cuh.
 *
 * A thread block, or a cluster of two, computes one tile of y, 64 weight rows x COLUMNS rows of x, all slices of K: each of its warpgroups one slice, or two, one after the other, so that some
 * dequantise while the MMAs of others are under way. Each has a ring of stages of 128 k's for itself, and a warp that fills it: weights, from before the kernels before this one have ended, and x by
 * tensor map. The sums of the slices take the place of the stages; then all warps add them.
 *
 * Order of additions, that of few.cuh too: an MMA adds 16 k's to the accumulator, in ascending order over a slice of K; slices are added in order, in fp32.
 *
 * Order of memory: async.cuh, "A ring of stages". What else there is:
 *   sums over stages       a warpgroup has waited for all copies to its stages and for all its MMAs; its named barrier joins its warps. Its producer has no copy under way then
 *   sums to all            the first barrier of the cluster, or that of all consumers
 *   a block's end          the second one of the cluster: no block ends before the other has read its sums
 *   y, bias, alpha         touched after a full barrier, hence after wait_for_previous(), which each producer has passed before it asks for x
 */
#ifndef NVFP4_KERNELS_CUDA_SM90_SPLIT_CUH
#define NVFP4_KERNELS_CUDA_SM90_SPLIT_CUH

#include "kernels/cuda/sm90_slice.cuh"
#include "kernels/cuda/tiles.cuh"

template <class X_, int COLUMNS_, int PARTS_, int STAGES_>
struct split_shape {
  using X = X_;
  static constexpr int COLUMNS = COLUMNS_, PARTS = PARTS_, STAGES = STAGES_, BUFFERS = 2; /* of operand A */
  static constexpr int CONSUMERS = 128 * PARTS, THREADS = CONSUMERS + 128, REGISTERS = 65536 / THREADS / 8 * 8, PRODUCER_REGISTERS = 24;
  static constexpr int CONSUMER_REGISTERS = (REGISTERS * THREADS - 128 * PRODUCER_REGISTERS) / CONSUMERS / 8 * 8;
  static constexpr int X_BYTES = COLUMNS * CUDA_MMA_PAIR * 2, STAGE_BYTES = (X_BYTES + CUDA_MMA_TILE_BYTES + 1023) / 1024 * 1024;
  static constexpr int RING_BYTES = STAGES * STAGE_BYTES, ROUNDS = 2; /* slices of a warpgroup, at most */
  static constexpr int SUMS_BYTES = COLUMNS * 256;                    /* of a slice */
  static_assert(PARTS <= 4 && PARTS * (RING_BYTES + 16 * STAGES) + 1024 <= CUDA_SM90_SHARED_BYTES); /* 1024: to begin at a multiple of it */
  static_assert(ROUNDS * SUMS_BYTES <= RING_BYTES);
};

/* A part's stages in shared memory: [PARTS] rings, then the barriers. */
template <class S>
struct split_ring {
  uint32_t shared;
  int part;
  int stage = 0;
  unsigned phase = 0;
  __device__ uint32_t x(int block) const { return shared + part * S::RING_BYTES + stage * S::STAGE_BYTES + block * (S::X_BYTES / 2); } /* of 64 k's */
  __device__ uint32_t weights() const { return x(2); }
  __device__ uint32_t full() const { return shared + S::PARTS * S::RING_BYTES + (part * S::STAGES + stage) * 8; }
  __device__ uint32_t empty() const { return full() + 8 * S::PARTS * S::STAGES; }
  /* After the stages: 16 rows of weights, 8 of x; float4 of the lanes. */
  __device__ uint32_t sums(int of_part, int round, int row_tile, int c) const {
    return shared + of_part * S::RING_BYTES + round * S::SUMS_BYTES + (row_tile * (S::COLUMNS / 8) + c) * 512;
  }
  __device__ void next() {
    if (++stage == S::STAGES) {
      stage = 0;
      phase ^= 1;
    }
  }
};

/* Of the thread blocks that share a tile, one or two. */
__device__ inline int split_rank(const cuda_mma_args &a) { return (int)blockIdx.x & (a.cluster - 1); }

/* The pairs of a part, in the order in which they are computed. */
template <class S>
struct split_walk {
  int pairs, slices, step, slice, pair, end;
  __device__ split_walk(const cuda_mma_args &a, int part)
      : pairs((int)((a.k + CUDA_MMA_PAIR - 1) / CUDA_MMA_PAIR)), slices(a.slices), step(S::PARTS * a.cluster), slice(split_rank(a) * S::PARTS + part) {
    begin();
  }
  __device__ void begin() {
    pair = first_pair_of(slice, pairs, slices);
    end = first_pair_of(slice + 1, pairs, slices);
  }
  __device__ bool done() const { return slice >= slices; }
  __device__ void next_slice() {
    slice += step;
    begin();
  }
  __device__ void next() {
    if (++pair == end) {
      next_slice();
    }
  }
};

/* A warp for each part, of which lane 0 does it all. */
template <class S>
__device__ inline void split_produce(const cuda_mma_args &a, const cuda_tensor_map &x, const split_ring<S> &first_stage, int tile, int column0) {
  const int weight_tiles = (int)((a.n + CUDA_MMA_ROWS - 1) / CUDA_MMA_ROWS), group = tile / CUDA_MMA_GROUP * CUDA_MMA_GROUP, width = min(weight_tiles - group, (int)CUDA_MMA_GROUP);
  const bool copies = threadIdx.x % 32 == 0;
  const split_walk<S> first_pair(a, first_stage.part);
  const uint8_t *weights = a.weights + ((size_t)group * first_pair.pairs + tile - group) * CUDA_MMA_TILE_BYTES;
  split_ring<S> ring = first_stage;
  split_walk<S> walk = first_pair;
  auto fetch_weights = [&](int pair) {
    barrier_expect(ring.full(), S::X_BYTES + CUDA_MMA_TILE_BYTES);
    copy_bulk(ring.weights(), weights + (size_t)pair * width * CUDA_MMA_TILE_BYTES, CUDA_MMA_TILE_BYTES, ring.full());
  };
  auto fetch_x = [&](int pair) {
    copy_tensor(ring.x(0), x, pair * CUDA_MMA_PAIR, column0, ring.full());
    copy_tensor(ring.x(1), x, pair * CUDA_MMA_PAIR + 64, column0, ring.full());
  };
  if (copies) {
    for (int i = 0; i < S::STAGES; i++) {
      barrier_init(ring.full() + 8 * i, 1);
      barrier_init(ring.empty() + 8 * i, 128);
    }
    ring_made();
    for (int i = 0; i < S::STAGES && !walk.done(); i++, walk.next(), ring.next()) {
      fetch_weights(walk.pair);
    }
    prefetch_map(x);
  }
  __syncwarp();
  join_named(0, S::CONSUMERS + 32 * S::PARTS);
  if (!copies) {
    return;
  }
  wait_for_previous();
  ring = first_stage;
  walk = first_pair;
  for (int i = 0; i < S::STAGES && !walk.done(); i++, walk.next(), ring.next()) {
    fetch_x(walk.pair);
  }
  for (; !walk.done(); walk.next(), ring.next()) {
    barrier_wait(ring.empty(), ring.phase ^ 1);
    fetch_weights(walk.pair);
    fetch_x(walk.pair);
  }
}

/* A part's warpgroup. The sums of its slices go to shared memory. */
template <class S>
__device__ inline void split_consume(const cuda_mma_args &a, split_ring<S> ring) {
  const int part = ring.part, warp = threadIdx.x / 32 % 4, lane = threadIdx.x % 32;
  float d[S::COLUMNS / 2] = {}, first[S::COLUMNS / 2];
  int rounds = 0;
#pragma unroll 1
  for (split_walk<S> walk(a, part); !walk.done(); walk.next_slice(), rounds++) {
#pragma unroll
    for (int j = 0; j < S::COLUMNS / 2; j++) {
      first[j] = d[j];
    }
    multiply_slice<typename S::X, S::COLUMNS, S::BUFFERS>(d, ring, walk.end - walk.pair, 0, no_turn());
  }
  join_named(1 + part, 128); /* the stages are no longer used */
  auto put = [&](int round, const float (&sums)[S::COLUMNS / 2]) {
#pragma unroll
    for (int c = 0; c < S::COLUMNS / 8; c++) {
      store_shared_16(ring.sums(part, round, warp, c) + lane * 16, sums[4 * c], sums[4 * c + 1], sums[4 * c + 2], sums[4 * c + 3]);
    }
  };
  if (rounds == 2) {
    put(0, first);
  }
  put(rounds - 1, d);
}

/* The warps of all parts add, of all BLOCKS that share the tile, each for some columns of 16 rows of weights. ROUNDS: slices of a part. */
template <class S, int BLOCKS, int ROUNDS>
__device__ inline void split_add(const cuda_mma_args &a, const split_ring<S> &ring, int tile, int column0) {
  constexpr int AT_A_TIME = S::PARTS * BLOCKS, SUMS = (S::COLUMNS / 8 + AT_A_TIME - 1) / AT_A_TIME; /* slices, of all parts; 8 rows of x, of a warp */
  const int row_tile = threadIdx.x / 32 % 4, used = (min(S::COLUMNS, (int)a.m - column0) + 7) / 8, first = ring.part * BLOCKS + split_rank(a);
  const row_store<typename S::X> store(a, tile * CUDA_MMA_ROWS + row_tile * 16);
  if (BLOCKS > 1) {
    cluster_sync();
  } else {
    join_named(1 + S::PARTS, S::CONSUMERS);
  }
  float4 sums[SUMS];
#pragma unroll
  for (int i = 0; i < SUMS; i++) {
    const int c = first + i * AT_A_TIME;
    if (c < used) {
      float4 slices[AT_A_TIME * ROUNDS];
#pragma unroll
      for (int s = 0; s < AT_A_TIME * ROUNDS; s++) { /* as split_walk deals them out */
        slices[s] = load_of_cluster(ring.sums(s % S::PARTS, s / AT_A_TIME, row_tile, c) + threadIdx.x % 32 * 16, s / S::PARTS % BLOCKS);
      }
      sums[i] = sum_in_order(slices);
      asm volatile("" : "+f"(sums[i].x), "+f"(sums[i].y), "+f"(sums[i].z), "+f"(sums[i].w)::"memory"); /* all is read */
    }
  }
  if (BLOCKS > 1) {
    cluster_arrive();
  }
#pragma unroll
  for (int i = 0; i < SUMS; i++) {
    const int c = first + i * AT_A_TIME;
    if (c < used) {
      store(column0 + 8 * c, sums[i].x, sums[i].y, sums[i].z, sums[i].w);
    }
  }
  if (BLOCKS > 1) {
    cluster_wait();
  }
}

template <class S>
__device__ inline void split_rows(const cuda_mma_args &a, const cuda_tensor_map &x) {
  extern __shared__ uint8_t unaligned[];
  const int warp = __shfl_sync(~0u, threadIdx.x / 32, 0); /* so that the compiler knows it to be one of the warp */
  const int part = warp < S::CONSUMERS / 32 ? warp / 4 : warp - S::CONSUMERS / 32;
  const int column_tiles = (int)((a.m + S::COLUMNS - 1) / S::COLUMNS), unit = a.cluster > 1 ? (int)blockIdx.x / 2 : (int)blockIdx.x;
  const int tile = column_tiles > 1 ? unit / column_tiles : unit, column0 = (unit - tile * column_tiles) * S::COLUMNS;
  const split_ring<S> ring = {(shared_address(unaligned) + 1023) & ~1023u, part};
  launch_dependents();
  if (warp >= S::CONSUMERS / 32) {
    give_registers<S::PRODUCER_REGISTERS>();
    if (part < S::PARTS) {
      split_produce<S>(a, x, ring, tile, column0);
    }
    __syncwarp();
    if (a.cluster > 1) {
      cluster_sync();
      cluster_sync();
    }
  } else {
    take_registers<S::CONSUMER_REGISTERS>();
    prefetch_row_constants(a, tile * CUDA_MMA_ROWS + warp % 4 * 16);
    join_named(0, S::CONSUMERS + 32 * S::PARTS); /* the rings are made */
    split_consume<S>(a, ring);
    const bool two_rounds = a.slices > S::PARTS * a.cluster;
    if (a.cluster > 1) {
      two_rounds ? split_add<S, 2, 2>(a, ring, tile, column0) : split_add<S, 2, 1>(a, ring, tile, column0);
    } else {
      two_rounds ? split_add<S, 1, 2>(a, ring, tile, column0) : split_add<S, 1, 1>(a, ring, tile, column0);
    }
  }
}

#endif
