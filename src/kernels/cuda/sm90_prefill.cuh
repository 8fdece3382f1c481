/* SPDX-License-Identifier: Apache-2.0 */
/*
 * y = x W^T for more rows of x than sm90_mid.cuh is for, where arithmetic is the limit: y^T = W x^T on the warpgroup's tensor cores, with dequantised weights as operand A in registers, and
 * x as operand B in shared memory.
 *
 * A thread block persists over tiles of y: 64 weight rows a warpgroup x COLUMNS rows of x. One thread brings stages of 128 k's, x by tensor map and packed weights by bulk copy. Two warpgroups
 * take turns: one dequantises its next 64 k's while the MMAs of the other are under way. Left alone, both dequantise at the same time, and the tensor cores wait; three find something to do.
 * Operand A from shared memory, dequantised once by warps that do nothing else, was slower: shared memory's bandwidth, which x alone needs half of, was the limit.
 *
 * Order of additions, that of few.cuh too: an MMA adds 16 k's to the accumulator, in ascending order over a slice of K; slices are added in order, in fp32 (SLICED; the others take K in one).
 *
 * Order of memory: async.cuh, "A ring of stages". What else there is: y, bias and alpha are touched after the first full barrier, hence after wait_for_previous(), which the producer of every
 * block has passed before it asks for x. Named barriers 1 and 2 order no memory; of barrier 1 an arrival is left over at the end.
 */
#ifndef NVFP4_KERNELS_CUDA_SM90_PREFILL_CUH
#define NVFP4_KERNELS_CUDA_SM90_PREFILL_CUH

#include "kernels/cuda/sm90_slice.cuh"
#include "kernels/cuda/tiles.cuh"

template <class X_, int WARPGROUPS_, int COLUMNS_, int STAGES_, bool SLICED_, int BUFFERS_>
struct prefill_shape {
  using X = X_;
  static constexpr int WARPGROUPS = WARPGROUPS_, COLUMNS = COLUMNS_, STAGES = STAGES_;
  static constexpr int BUFFERS = BUFFERS_; /* of operand A: 2 if the next is made while the MMAs of one are under way; for 1, registers decide */
  static constexpr bool SLICED = SLICED_, TURNS = WARPGROUPS == 2;
  static constexpr int ROWS = 64 * WARPGROUPS, THREADS = 128 * (1 + WARPGROUPS), REGISTERS = 65536 / THREADS / 8 * 8;
  static constexpr int PRODUCER_REGISTERS = WARPGROUPS == 2 ? 40 : 24, CONSUMER_REGISTERS = (REGISTERS * (1 + WARPGROUPS) - PRODUCER_REGISTERS) / WARPGROUPS / 8 * 8;
  static constexpr int BLOCK_BYTES = COLUMNS * 128; /* x of 64 k's: rows of 128 bytes, which the swizzle is for */
  static constexpr int X_BYTES = 2 * BLOCK_BYTES, STAGE_BYTES = (X_BYTES + WARPGROUPS * CUDA_MMA_TILE_BYTES + 1023) / 1024 * 1024;
  static_assert(STAGES * (STAGE_BYTES + 16) + 1024 <= CUDA_SM90_SHARED_BYTES); /* 1024: to begin at a multiple of it */
};

/* Which tiles of y a block computes, one after the other. */
template <class S>
struct prefill_walk {
  tile_order order;
  int tile, row_tile, column_tile;
  __device__ explicit prefill_walk(const cuda_mma_args &a)
      : order{(int)((a.n + S::ROWS - 1) / S::ROWS), (int)((a.m + S::COLUMNS - 1) / S::COLUMNS)}, tile((int)blockIdx.x) {
    order.place(tile, &row_tile, &column_tile);
  }
  __device__ bool done() const { return tile >= order.row_tiles * order.column_tiles; }
  __device__ void next() {
    tile += (int)gridDim.x;
    order.place(tile, &row_tile, &column_tile);
  }
};

/* A stage of the ring, and the phase of its barriers. */
template <class S>
struct prefill_ring {
  uint32_t shared; /* the stages, then their barriers */
  int stage = 0;
  unsigned phase = 0;
  __device__ uint32_t x() const { return shared + stage * S::STAGE_BYTES; }
  __device__ uint32_t weights() const { return x() + S::X_BYTES; }
  __device__ uint32_t full() const { return shared + S::STAGES * S::STAGE_BYTES + 8 * stage; }
  __device__ uint32_t empty() const { return full() + 8 * S::STAGES; }
  __device__ void next() {
    if (++stage == S::STAGES) {
      stage = 0;
      phase ^= 1;
    }
  }
};

/* One thread. */
template <class S>
__device__ inline void prefill_produce(const cuda_mma_args &a, const cuda_tensor_map &x, prefill_ring<S> ring) {
  const int pairs = (int)((a.k + CUDA_MMA_PAIR - 1) / CUDA_MMA_PAIR), weight_tiles = (int)((a.n + CUDA_MMA_ROWS - 1) / CUDA_MMA_ROWS);
  constexpr int PIECES = CUDA_MMA_GROUP % S::WARPGROUPS == 0 ? 1 : 2; /* of the block's tiles of weights: those of a group lie together */
  wait_for_previous();
  for (prefill_walk<S> walk(a); !walk.done(); walk.next()) {
    const int first = walk.row_tile * S::WARPGROUPS, tiles = min(S::WARPGROUPS, weight_tiles - first);
    const uint8_t *weights[PIECES];
    int bytes[PIECES], step[PIECES];
#pragma unroll
    for (int i = 0, tile = first; i < PIECES; i++) {
      const int group = tile / CUDA_MMA_GROUP * CUDA_MMA_GROUP, width = min(weight_tiles - group, (int)CUDA_MMA_GROUP), end = min(first + tiles, group + CUDA_MMA_GROUP);
      weights[i] = a.weights + ((size_t)group * pairs + tile - group) * CUDA_MMA_TILE_BYTES;
      bytes[i] = (end - tile) * CUDA_MMA_TILE_BYTES;
      step[i] = width * CUDA_MMA_TILE_BYTES;
      tile = end;
    }
    for (int pair = 0; pair < pairs; pair++) {
      barrier_wait(ring.empty(), ring.phase ^ 1);
      barrier_expect(ring.full(), S::X_BYTES + tiles * CUDA_MMA_TILE_BYTES);
      copy_bulk(ring.weights(), weights[0], bytes[0], ring.full());
      if (PIECES > 1 && bytes[PIECES - 1] > 0) {
        copy_bulk(ring.weights() + bytes[0], weights[PIECES - 1], bytes[PIECES - 1], ring.full());
      }
      copy_tensor(ring.x(), x, pair * CUDA_MMA_PAIR, walk.column_tile * S::COLUMNS, ring.full());
      copy_tensor(ring.x() + S::BLOCK_BYTES, x, pair * CUDA_MMA_PAIR + 64, walk.column_tile * S::COLUMNS, ring.full());
#pragma unroll
      for (int i = 0; i < PIECES; i++) {
        weights[i] += step[i];
      }
      ring.next();
    }
  }
}

/* The turn of a warpgroup to issue MMAs: it is the other's after it. Barriers 1 and 2 are theirs. */
struct prefill_turn {
  int warpgroup;
  __device__ void begin() const { join_named(1 + warpgroup, 256); }
  __device__ void end() const { arrive_named(2 - warpgroup, 256); }
};

template <class S, class TURN>
__device__ inline void prefill_consume(const cuda_mma_args &a, prefill_ring<S> ring, const TURN &turn) {
  using X = typename S::X;
  const int warpgroup = threadIdx.x / 128 - 1, warp = threadIdx.x / 32 % 4;
  const int pairs = (int)((a.k + CUDA_MMA_PAIR - 1) / CUDA_MMA_PAIR), slices = S::SLICED ? a.slices : 1;
  constexpr int TOTALS = S::SLICED ? S::COLUMNS / 2 : 0;
  float d[S::COLUMNS / 2], total[TOTALS > 0 ? TOTALS : 1];
  for (prefill_walk<S> walk(a); !walk.done(); walk.next()) {
#pragma unroll
    for (int j = 0; j < TOTALS; j++) {
      total[j] = -0.0f; /* plus anything: that, bit for bit */
    }
#pragma unroll 1
    for (int slice = 0; slice < slices; slice++) {
      multiply_slice<X, S::COLUMNS, S::BUFFERS>(d, ring, (slice + 1) * pairs / slices - slice * pairs / slices, warpgroup, turn);
#pragma unroll
      for (int j = 0; j < TOTALS; j++) {
        total[j] = __fadd_rn(total[j], d[j]);
      }
    }
    const int row0 = walk.row_tile * S::ROWS + warpgroup * 64 + warp * 16;
    if constexpr (S::SLICED) {
      store_columns<X, S::COLUMNS>(a, row0, walk.column_tile * S::COLUMNS, total);
    } else {
      store_columns<X, S::COLUMNS>(a, row0, walk.column_tile * S::COLUMNS, d);
    }
  }
}

template <class S>
__device__ inline void prefill_rows(const cuda_mma_args &a, const cuda_tensor_map &x) {
  extern __shared__ uint8_t unaligned[];
  prefill_ring<S> ring;
  ring.shared = (shared_address(unaligned) + 1023) & ~1023u;
  launch_dependents();
  if (threadIdx.x == 0) {
    for (int i = 0; i < S::STAGES; i++) {
      barrier_init(ring.full() + 8 * i, 1);
      barrier_init(ring.empty() + 8 * i, 4 * S::WARPGROUPS);
    }
    asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
  }
  __syncthreads();
  if (threadIdx.x < 128) {
    give_registers<S::PRODUCER_REGISTERS>();
    if (threadIdx.x == 0) {
      prefill_produce<S>(a, x, ring);
    }
  } else {
    take_registers<S::CONSUMER_REGISTERS>();
    const int warpgroup = threadIdx.x / 128 - 1;
    if constexpr (S::TURNS) {
      const prefill_turn turn{warpgroup};
      if (warpgroup == 1) {
        turn.end(); /* the first turn */
      }
      prefill_consume<S>(a, ring, turn);
    } else {
      prefill_consume<S>(a, ring, no_turn());
    }
  }
}

#endif
