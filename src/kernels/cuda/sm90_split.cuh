/* SPDX-License-Identifier: Apache-2.0 */
/*
 * y = x W^T for tens to hundreds of rows of x, and layers of so few rows that their K is cut into slices: y^T = W x^T on the warpgroup's tensor cores, as in sm90_prefill.cuh.
 *
 * A thread block computes one tile of y, 64 weight rows x COLUMNS rows of x, all slices of K: PARTS warpgroups each compute one slice at a time, those PARTS apart, so that some dequantise while
 * the MMAs of others are under way. Each has a ring of stages of 128 k's for itself, and a warp that fills it: weights, from before the kernels before this one have ended, and x by tensor map.
 *
 * Order of additions, that of few.cuh too: an MMA adds 16 k's to the accumulator, in ascending order over a slice of K; slices are added in order, in fp32: the total goes from warpgroup to
 * warpgroup through shared memory.
 *
 * Order of memory: async.cuh, "A ring of stages". A thread of a warpgroup reads and writes the part of the total that is its own in all warpgroups; named barrier 1 + part: the warpgroup before has
 * written it. y, bias and alpha are touched after a full barrier, hence after wait_for_previous(), which each producer has passed before it asks for x.
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
  static constexpr int TOTAL_BYTES = COLUMNS * 256, RING_BYTES = STAGES * STAGE_BYTES;
  static constexpr int AHEAD = 8; /* pairs of weights that are on the way to the L2 cache */
  static_assert(PARTS <= 4 && PARTS * (RING_BYTES + 16 * STAGES) + TOTAL_BYTES + 1024 <= CUDA_SM90_SHARED_BYTES); /* 1024: to begin at a multiple of it */
};

/* A part's stages in shared memory: [PARTS] rings, the total, then the barriers. */
template <class S>
struct split_ring {
  uint32_t shared;
  int part;
  int stage = 0;
  unsigned phase = 0;
  __device__ uint32_t x() const { return shared + part * S::RING_BYTES + stage * S::STAGE_BYTES; }
  __device__ uint32_t weights() const { return x() + S::X_BYTES; }
  __device__ uint32_t full() const { return shared + S::PARTS * S::RING_BYTES + S::TOTAL_BYTES + (part * S::STAGES + stage) * 8; }
  __device__ uint32_t empty() const { return full() + 8 * S::PARTS * S::STAGES; }
  __device__ void next() {
    if (++stage == S::STAGES) {
      stage = 0;
      phase ^= 1;
    }
  }
};

/* The pairs of a part, in the order in which they are computed. */
template <class S>
struct split_walk {
  int pairs, slices, slice, pair, end;
  __device__ split_walk(const cuda_mma_args &a, int part) : pairs((int)((a.k + CUDA_MMA_PAIR - 1) / CUDA_MMA_PAIR)), slices(a.slices), slice(part) { begin(); }
  __device__ void begin() {
    pair = slice * pairs / slices;
    end = (slice + 1) * pairs / slices;
  }
  __device__ bool done() const { return slice >= slices; }
  __device__ void next() {
    if (++pair == end) {
      slice += S::PARTS;
      begin();
    }
  }
};

/* One thread of a warp for each part. */
template <class S>
__device__ inline void split_produce(const cuda_mma_args &a, const cuda_tensor_map &x, split_ring<S> ring, int tile, int column0) {
  const int weight_tiles = (int)((a.n + CUDA_MMA_ROWS - 1) / CUDA_MMA_ROWS), group = tile / CUDA_MMA_GROUP * CUDA_MMA_GROUP, width = min(weight_tiles - group, (int)CUDA_MMA_GROUP);
  split_walk<S> walk(a, ring.part), far = walk;
  const uint8_t *weights = a.weights + ((size_t)group * walk.pairs + tile - group) * CUDA_MMA_TILE_BYTES;
  auto weights_of = [&](int pair) { return weights + (size_t)pair * width * CUDA_MMA_TILE_BYTES; };
  auto fetch_weights = [&](int pair) {
    barrier_expect(ring.full(), S::X_BYTES + CUDA_MMA_TILE_BYTES);
    copy_bulk(ring.weights(), weights_of(pair), CUDA_MMA_TILE_BYTES, ring.full());
  };
  auto fetch_x = [&](int pair) {
    copy_tensor(ring.x(), x, pair * CUDA_MMA_PAIR, column0, ring.full());
    copy_tensor(ring.x() + S::X_BYTES / 2, x, pair * CUDA_MMA_PAIR + 64, column0, ring.full());
  };
  const split_ring<S> first_stage = ring;
  const split_walk<S> first_pair = walk;
  for (int i = 0; i < S::STAGES && !walk.done(); i++, walk.next(), ring.next()) {
    fetch_weights(walk.pair);
  }
  far = walk;
  for (int i = 0; i < S::AHEAD && !far.done(); i++, far.next()) {
    prefetch_bulk(weights_of(far.pair), CUDA_MMA_TILE_BYTES);
  }
  wait_for_previous();
  ring = first_stage;
  walk = first_pair;
  for (int i = 0; i < S::STAGES && !walk.done(); i++, walk.next(), ring.next()) {
    fetch_x(walk.pair);
  }
  for (; !walk.done(); walk.next(), ring.next()) {
    if (!far.done()) {
      prefetch_bulk(weights_of(far.pair), CUDA_MMA_TILE_BYTES);
      far.next();
    }
    barrier_wait(ring.empty(), ring.phase ^ 1);
    fetch_weights(walk.pair);
    fetch_x(walk.pair);
  }
}

/* A part's warpgroup. */
template <class S>
__device__ inline void split_consume(const cuda_mma_args &a, split_ring<S> ring, int tile, int column0) {
  const int part = ring.part, thread = threadIdx.x % 128;
  const uint32_t total = ring.shared + S::PARTS * S::RING_BYTES + thread * 16; /* float4 [COLUMNS / 8][128 threads] */
  float d[S::COLUMNS / 2];
#pragma unroll 1
  for (split_walk<S> walk(a, part); !walk.done(); walk.slice += S::PARTS, walk.begin()) {
    multiply_slice<typename S::X, S::COLUMNS, S::BUFFERS>(d, ring, walk.end - walk.pair, 0, no_turn());
    if (walk.slice > 0) {
      join_named(1 + part, 256);
#pragma unroll
      for (int c = 0; c < S::COLUMNS / 8; c++) {
        const uint4 sum = load_shared_16(total + c * 2048);
        d[4 * c] = __fadd_rn(__uint_as_float(sum.x), d[4 * c]);
        d[4 * c + 1] = __fadd_rn(__uint_as_float(sum.y), d[4 * c + 1]);
        d[4 * c + 2] = __fadd_rn(__uint_as_float(sum.z), d[4 * c + 2]);
        d[4 * c + 3] = __fadd_rn(__uint_as_float(sum.w), d[4 * c + 3]);
      }
    }
    if (walk.slice + 1 < a.slices) {
#pragma unroll
      for (int c = 0; c < S::COLUMNS / 8; c++) {
        store_shared_16(total + c * 2048, d[4 * c], d[4 * c + 1], d[4 * c + 2], d[4 * c + 3]);
      }
      arrive_named(1 + (part + 1) % S::PARTS, 256);
    }
  }
  if ((a.slices - 1) % S::PARTS == part) {
    store_columns<typename S::X, S::COLUMNS>(a, tile * CUDA_MMA_ROWS + thread / 32 * 16, column0, d);
  }
}

template <class S>
__device__ inline void split_rows(const cuda_mma_args &a, const cuda_tensor_map &x) {
  extern __shared__ uint8_t unaligned[];
  const int warp = __shfl_sync(~0u, threadIdx.x / 32, 0); /* so that the compiler knows it to be one of the warp */
  const int part = warp < S::CONSUMERS / 32 ? warp / 4 : warp - S::CONSUMERS / 32;
  const int column_tiles = (int)((a.m + S::COLUMNS - 1) / S::COLUMNS);
  const int tile = (int)blockIdx.x / column_tiles, column0 = (int)blockIdx.x % column_tiles * S::COLUMNS;
  split_ring<S> ring = {(shared_address(unaligned) + 1023) & ~1023u, part};
  launch_dependents();
  if (threadIdx.x == 0) {
    const split_ring<S> first = {ring.shared, 0};
    for (int i = 0; i < S::PARTS * S::STAGES; i++) {
      barrier_init(first.full() + 8 * i, 1);
      barrier_init(first.empty() + 8 * i, 4);
    }
    asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
  }
  __syncthreads();
  if (warp >= S::CONSUMERS / 32) {
    give_registers<S::PRODUCER_REGISTERS>();
    if (part < S::PARTS && threadIdx.x % 32 == 0) {
      split_produce<S>(a, x, ring, tile, column0);
    }
    __syncwarp();
  } else {
    take_registers<S::CONSUMER_REGISTERS>();
    split_consume<S>(a, ring, tile, column0);
  }
}

#endif
