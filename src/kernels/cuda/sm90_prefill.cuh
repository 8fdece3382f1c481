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
  static constexpr int PRODUCER_REGISTERS = WARPGROUPS <= 2 ? 40 : 32;
  static constexpr int CONSUMER_REGISTERS = WARPGROUPS == 1 ? 256 : (REGISTERS * (1 + WARPGROUPS) - PRODUCER_REGISTERS) / WARPGROUPS / 8 * 8; /* 256: the most */
  static constexpr int BLOCK_BYTES = COLUMNS * 128;      /* x of 64 k's: rows of 128 bytes, which the swizzle is for */
  static constexpr int BOXES = COLUMNS > 128 ? 2 : 1, BOX_BYTES = BLOCK_BYTES / BOXES; /* in which they come; smaller ones take more time */
  static constexpr int X_BYTES = 2 * BLOCK_BYTES, STAGE_BYTES = (X_BYTES + WARPGROUPS * CUDA_MMA_TILE_BYTES + 1023) / 1024 * 1024;
  static_assert(STAGES * (STAGE_BYTES + 16) + 1024 <= CUDA_SM90_SHARED_BYTES); /* 1024: to begin at a multiple of it */
};

/* What of y a block computes: tiles, one after the other, and then, if there are blocks for all of them, half a tile of the last round, of columns: else some would have nothing to do. */
template <class S>
struct prefill_walk {
  tile_order order;
  int tiles; /* that are computed as a whole */
  int unit, row_tile, column0;
  __device__ explicit prefill_walk(const cuda_mma_args &a)
      : order{(int)((a.n + S::ROWS - 1) / S::ROWS), (int)((a.m + S::COLUMNS - 1) / S::COLUMNS)}, tiles(order.row_tiles * order.column_tiles), unit((int)blockIdx.x) {
    const int blocks = (int)gridDim.x, last = tiles % blocks;
    tiles -= 2 * last <= blocks ? last : 0;
  }
  __device__ void place(int tile, int column) {
    order.place(tile, &row_tile, &column0);
    column0 = column0 * S::COLUMNS + column;
  }
  /* Places a tile, the next one after unit += gridDim.x; false if there is none. */
  __device__ bool whole() {
    place(unit, 0);
    return unit < tiles;
  }
  /* After the tiles: places half of one. */
  __device__ bool half() {
    const int past = unit - tiles, tile = tiles + past / 2;
    place(tile, past % 2 * (S::COLUMNS / 2));
    return tile < order.row_tiles * order.column_tiles;
  }
};

/* A stage of the ring, and the phase of its barriers. */
template <class S>
struct prefill_ring {
  uint32_t shared; /* the stages, then their barriers */
  int stage = 0;
  unsigned phase = 0;
  __device__ uint32_t x(int block) const { return shared + stage * S::STAGE_BYTES + block * S::BLOCK_BYTES; } /* of 64 k's */
  __device__ uint32_t weights() const { return x(2); }
  __device__ uint32_t full() const { return shared + S::STAGES * S::STAGE_BYTES + 8 * stage; }
  __device__ uint32_t empty() const { return full() + 8 * S::STAGES; }
  __device__ void next() {
    if (++stage == S::STAGES) {
      stage = 0;
      phase ^= 1;
    }
  }
};

/* The packed weights of a block's row tiles. */
template <class S>
struct prefill_weights {
  static constexpr int PIECES = CUDA_MMA_GROUP % S::WARPGROUPS == 0 ? 1 : 2; /* those of a group lie together */
  const uint8_t *from[PIECES];
  int bytes[PIECES], step[PIECES], all_bytes;
  __device__ prefill_weights(const cuda_mma_args &a, int pairs, int row_tile) {
    const int weight_tiles = (int)((a.n + CUDA_MMA_ROWS - 1) / CUDA_MMA_ROWS), first = row_tile * S::WARPGROUPS, tiles = min(S::WARPGROUPS, weight_tiles - first);
    all_bytes = tiles * CUDA_MMA_TILE_BYTES;
#pragma unroll
    for (int i = 0, tile = first; i < PIECES; i++) {
      const int group = tile / CUDA_MMA_GROUP * CUDA_MMA_GROUP, width = min(weight_tiles - group, (int)CUDA_MMA_GROUP), end = min(first + tiles, group + CUDA_MMA_GROUP);
      from[i] = a.weights + ((size_t)group * pairs + tile - group) * CUDA_MMA_TILE_BYTES;
      bytes[i] = (end - tile) * CUDA_MMA_TILE_BYTES;
      step[i] = width * CUDA_MMA_TILE_BYTES;
      tile = end;
    }
  }
  /* The next pair's to the ring's stage, of whose barrier `x_bytes` more are expected. */
  template <class RING>
  __device__ void copy(const RING &ring, int x_bytes) {
    barrier_expect(ring.full(), x_bytes + all_bytes);
    copy_bulk(ring.weights(), from[0], bytes[0], ring.full());
    if (PIECES > 1 && bytes[PIECES - 1] > 0) {
      copy_bulk(ring.weights() + bytes[0], from[PIECES - 1], bytes[PIECES - 1], ring.full());
    }
#pragma unroll
    for (int i = 0; i < PIECES; i++) {
      from[i] += step[i];
    }
  }
};

/* A warp, of which lane 0 does it all. */
template <class S>
__device__ inline void prefill_produce(const cuda_mma_args &a, const cuda_tensor_map &x, prefill_ring<S> ring) {
  const int pairs = (int)((a.k + CUDA_MMA_PAIR - 1) / CUDA_MMA_PAIR), early = min(S::STAGES, pairs);
  prefill_walk<S> walk(a);
  int boxes = S::BOXES; /* of 64 k's: half a tile has one */
  if (!walk.whole()) {
    walk.half();
    boxes = 1;
  }
  prefill_weights<S> weights(a, pairs, walk.row_tile);
  auto copy_x = [&](int pair) {
    for (int block = 0; block < 2; block++) {
      for (int box = 0; box < boxes; box++) {
        copy_tensor(ring.x(block) + box * S::BOX_BYTES, x, pair * CUDA_MMA_PAIR + 64 * block, walk.column0 + box * (S::COLUMNS / 2), ring.full());
      }
    }
  };
  const prefill_ring<S> first = ring;
  if (threadIdx.x == 0) {
    for (int i = 0; i < S::STAGES; i++) {
      barrier_init(ring.full() + 8 * i, 1);
      barrier_init(ring.empty() + 8 * i, 128 * S::WARPGROUPS);
    }
    ring_made();
    for (int pair = 0; pair < early; pair++, ring.next()) {
      weights.copy(ring, 2 * boxes * S::BOX_BYTES);
    }
    prefetch_map(x);
  }
  __syncwarp();
  join_named(0, 32 + 128 * S::WARPGROUPS);
  if (threadIdx.x != 0) {
    return;
  }
  wait_for_previous();
  ring = first;
  for (int pair = 0; pair < early; pair++, ring.next()) {
    copy_x(pair);
  }
  bool last = walk.unit >= walk.tiles;
  for (int pair = early;; pair = 0) {
    for (; pair < pairs; pair++, ring.next()) {
      barrier_wait(ring.empty(), ring.phase ^ 1);
      weights.copy(ring, 2 * boxes * S::BOX_BYTES);
      copy_x(pair);
    }
    walk.unit += (int)gridDim.x;
    if (last) {
      return;
    }
    if (!walk.whole()) {
      if (!walk.half()) {
        return;
      }
      boxes = 1;
      last = true;
    }
    weights = prefill_weights<S>(a, pairs, walk.row_tile);
  }
}

/* The turn of a warpgroup to issue MMAs: it is the other's after it. Barriers 1 and 2 are theirs. */
struct prefill_turn {
  int warpgroup;
  __device__ void begin() const { join_named(1 + warpgroup, 256); }
  __device__ void end() const { arrive_named(2 - warpgroup, 256); }
};

/* A warpgroup's part of one tile, or of half of one: COLUMNS. */
template <class S, int COLUMNS, class TURN>
__device__ inline void prefill_tile(const cuda_mma_args &a, const prefill_walk<S> &walk, prefill_ring<S> &ring, const TURN &turn) {
  using X = typename S::X;
  const int warpgroup = threadIdx.x / 128 - 1, warp = threadIdx.x / 32 % 4;
  const int pairs = (int)((a.k + CUDA_MMA_PAIR - 1) / CUDA_MMA_PAIR), row0 = walk.row_tile * S::ROWS + warpgroup * 64 + warp * 16;
  float d[COLUMNS / 2];
  if constexpr (S::SLICED) {
    float total[COLUMNS / 2];
#pragma unroll
    for (int j = 0; j < COLUMNS / 2; j++) {
      total[j] = -0.0f; /* plus anything: that, bit for bit */
    }
#pragma unroll 1
    for (int slice = 0; slice < a.slices; slice++) {
      multiply_slice<X, COLUMNS, S::BUFFERS>(d, ring, first_pair_of(slice + 1, pairs, a.slices) - first_pair_of(slice, pairs, a.slices), warpgroup, turn);
#pragma unroll
      for (int j = 0; j < COLUMNS / 2; j++) {
        total[j] = __fadd_rn(total[j], d[j]);
      }
    }
    store_columns<X, COLUMNS>(a, row0, walk.column0, total);
  } else {
    multiply_slice<X, COLUMNS, S::BUFFERS>(d, ring, pairs, warpgroup, turn);
    store_columns<X, COLUMNS>(a, row0, walk.column0, d);
  }
}

template <class S, class TURN>
__device__ inline void prefill_consume(const cuda_mma_args &a, prefill_ring<S> ring, const TURN &turn) {
  prefill_walk<S> walk(a);
  for (; walk.whole(); walk.unit += (int)gridDim.x) {
    prefill_tile<S, S::COLUMNS>(a, walk, ring, turn);
  }
  if (walk.half()) {
    prefill_tile<S, S::COLUMNS / 2>(a, walk, ring, turn);
  }
}

template <class S>
__device__ inline void prefill_rows(const cuda_mma_args &a, const cuda_tensor_map &x) {
  extern __shared__ uint8_t unaligned[];
  prefill_ring<S> ring;
  ring.shared = (shared_address(unaligned) + 1023) & ~1023u;
  launch_dependents();
  if (threadIdx.x < 128) {
    give_registers<S::PRODUCER_REGISTERS>();
    if (threadIdx.x < 32) {
      prefill_produce<S>(a, x, ring);
    }
  } else {
    take_registers<S::CONSUMER_REGISTERS>();
    join_named(0, 32 + 128 * S::WARPGROUPS); /* the ring is made */
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
