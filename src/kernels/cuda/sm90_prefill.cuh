/* SPDX-License-Identifier: Apache-2.0 */
/*
 * y = x W^T for hundreds of rows of x and more, where arithmetic is the limit: y^T = W x^T on the warpgroup's tensor cores, both operands in shared memory.
 *
 * A thread block persists over tiles of y: 128 weight rows x COLUMNS rows of x. Stages of 64 k's go round between two warpgroups of producers and two of consumers, which do nothing but MMAs
 * of 64 rows each: that keeps the tensor cores at work, and dequantising hides behind them. A producer warp has 16 of the rows: it brings their packed weights to shared memory (bulk copies,
 * PACKED pairs ahead), dequantises them once for all columns of the tile, and stores them as operand A. One producer asks for x by tensor map.
 *
 * The blocks of a cluster of CLUSTER compute tiles with the same rows of x: each brings its part of them to all.
 *
 * Order of additions, that of few.cuh too: an MMA adds 16 k's to the accumulator, in ascending order over a slice of K; slices are added in order, in fp32 (SLICED; the others take K in one).
 */
#ifndef NVFP4_KERNELS_CUDA_SM90_PREFILL_CUH
#define NVFP4_KERNELS_CUDA_SM90_PREFILL_CUH

#include "kernels/cuda/sm90_many.cuh"

template <class X_, int COLUMNS_, int STAGES_, bool SLICED_, int CLUSTER_, int PRODUCER_WARPS_, int PRODUCER_REGISTERS_, int CONSUMER_REGISTERS_>
struct prefill_shape {
  using X = X_;
  static constexpr int COLUMNS = COLUMNS_, STAGES = STAGES_, CLUSTER = CLUSTER_;
  static constexpr bool SLICED = SLICED_;
  static constexpr int ROWS = 128, PRODUCER_WARPS = PRODUCER_WARPS_, THREADS = 32 * PRODUCER_WARPS + 256;
  static constexpr int TILES = ROWS / 16 / PRODUCER_WARPS; /* row tiles of a producer warp */
  static constexpr int PRODUCER_REGISTERS = PRODUCER_REGISTERS_, CONSUMER_REGISTERS = CONSUMER_REGISTERS_;
  static constexpr int K = 64; /* of a stage: rows of 128 bytes, which the swizzle is for */
  static constexpr int W_BYTES = ROWS * K * 2, X_BYTES = COLUMNS * K * 2, STAGE_BYTES = W_BYTES + X_BYTES;
  static constexpr int PACKED = 3, PACKED_CODES = TILES * 1024, PACKED_BYTES = PACKED_CODES + TILES * 128; /* a warp's of 128 k's: codes, scales */
  static constexpr int PACKED_AT = STAGES * STAGE_BYTES, BARRIERS_AT = PACKED_AT + PRODUCER_WARPS * PACKED * PACKED_BYTES;
  static constexpr int SHARED_BYTES = 1024 + BARRIERS_AT + 8 * (2 * STAGES + PRODUCER_WARPS * PACKED); /* 1024: to begin at a multiple of it */
  static_assert(SHARED_BYTES <= 227 * 1024);
};

/* Which tiles of y a block computes, one after the other. */
template <class S>
struct prefill_walk {
  tile_order order; /* row_tiles: for all blocks of a cluster */
  int tile, step, row_tile, column_tile;
  __device__ explicit prefill_walk(const cuda_mma_args &a)
      : order{(int)((a.n + S::ROWS * S::CLUSTER - 1) / (S::ROWS * S::CLUSTER)), (int)((a.m + S::COLUMNS - 1) / S::COLUMNS)},
        tile((int)blockIdx.x / S::CLUSTER),
        step((int)gridDim.x / S::CLUSTER) {
    place();
  }
  __device__ bool done() const { return tile >= order.row_tiles * order.column_tiles; }
  __device__ void next() {
    tile += step;
    place();
  }
  __device__ void place() {
    order.place(tile, &row_tile, &column_tile);
    row_tile = row_tile * S::CLUSTER + (int)blockIdx.x % S::CLUSTER;
  }
};

/* A stage of the ring, and the phase of its barriers. */
template <class S>
struct prefill_ring {
  uint32_t shared; /* the stages, packed weights, the barriers of the stages, those of packed weights */
  int stage = 0;
  unsigned phase = 0;
  __device__ uint32_t weights() const { return shared + stage * S::STAGE_BYTES; }
  __device__ uint32_t x() const { return weights() + S::W_BYTES; }
  __device__ uint32_t full() const { return shared + S::BARRIERS_AT + 8 * stage; }
  __device__ uint32_t empty() const { return full() + 8 * S::STAGES; }
  __device__ void next() {
    if (++stage == S::STAGES) {
      stage = 0;
      phase ^= 1;
    }
  }
};

/* The weights of a producer warp, which alone uses its copies of them: one lane keeps PACKED pairs under way, through tiles and pairs. */
template <class S>
struct prefill_weights {
  prefill_walk<S> walk;
  uint32_t to, barrier; /* the warp's */
  int warp, pairs, weight_tiles, pairs_left = 0, pair_bytes = 0;
  const uint8_t *from = nullptr;

  __device__ prefill_weights(const cuda_mma_args &a, uint32_t shared)
      : walk(a),
        to(shared + S::PACKED_AT + threadIdx.x / 32 * S::PACKED * S::PACKED_BYTES),
        barrier(shared + S::BARRIERS_AT + 8 * (2 * S::STAGES + threadIdx.x / 32 * S::PACKED)),
        warp(threadIdx.x / 32),
        pairs((int)((a.k + CUDA_MMA_PAIR - 1) / CUDA_MMA_PAIR)),
        weight_tiles((int)((a.n + CUDA_MMA_ROWS - 1) / CUDA_MMA_ROWS)) {}

  __device__ void fetch(const cuda_mma_args &a, int slot) {
    if (pairs_left == 0) {
      if (walk.done()) {
        return;
      }
      const int tile = min(walk.row_tile * (S::ROWS / CUDA_MMA_ROWS) + warp * S::TILES / 4, weight_tiles - 1); /* beyond the last, it again: those results are not stored */
      const int group = tile / CUDA_MMA_GROUP * CUDA_MMA_GROUP, width = min(weight_tiles - group, (int)CUDA_MMA_GROUP);
      from = a.weights + ((size_t)group * pairs + tile - group) * CUDA_MMA_TILE_BYTES;
      pair_bytes = width * CUDA_MMA_TILE_BYTES;
      pairs_left = pairs;
      walk.next();
    }
    const uint32_t at = to + slot * S::PACKED_BYTES, told = barrier + 8 * slot;
    barrier_expect(told, S::PACKED_BYTES);
    copy_bulk(at, from + warp * S::TILES % 4 * 1024, S::PACKED_CODES, told);
    copy_bulk(at + S::PACKED_CODES, from + CUDA_MMA_SCALES_AT + warp * S::TILES % 4 * 128, S::PACKED_BYTES - S::PACKED_CODES, told);
    from += pair_bytes;
    pairs_left--;
  }
};

template <class S>
__device__ inline void prefill_produce(const cuda_mma_args &a, const cuda_tensor_map &x, prefill_ring<S> ring) {
  using X = typename S::X;
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  prefill_weights<S> weights(a, ring.shared);
  if (lane == 0) {
    for (int i = 0; i < S::PACKED; i++) {
      weights.fetch(a, i);
    }
  }
  wait_for_previous();

  /* stmatrix: matrices are slots 0 to 7 and 8 to 15 of 8 k's, then of the next 8. Lane 8 i + r has the address of row r of matrix i; the k's of step s lie in chunks 2s and 2s + 1. */
  const int swizzled = warp * S::TILES * 16 * 128 + lane % 16 * 128 + ((lane / 16 ^ lane % 8) << 4);
  constexpr int X_ROWS = S::COLUMNS / S::CLUSTER; /* that this block brings */
  const int rank = (int)blockIdx.x % S::CLUSTER;
  int slot = 0;
  unsigned slot_phase = 0;
  for (prefill_walk<S> walk(a); !walk.done(); walk.next()) {
    const int first_row = walk.column_tile * S::COLUMNS + rank * X_ROWS;
    for (int pair = 0; pair < weights.pairs; pair++) {
      const uint32_t packed = weights.to + slot * S::PACKED_BYTES;
      barrier_wait(weights.barrier + 8 * slot, slot_phase);
#pragma unroll
      for (int block = 0; block < 2; block++) {
        uint4 words[S::TILES];
        uint2 scales[S::TILES];
#pragma unroll
        for (int i = 0; i < S::TILES; i++) {
          words[i] = load_shared_16(packed + i * 1024 + block * 512 + lane * 16);
          scales[i] = load_shared_8(packed + S::PACKED_CODES + i * 128 + lane / 4 * 16 + block * 8);
        }
        barrier_wait(ring.empty(), ring.phase ^ 1);
        if (threadIdx.x == 0) {
          const uint32_t to = ring.x() + rank * X_ROWS * S::K * 2;
          barrier_expect(ring.full(), S::X_BYTES);
          if (S::CLUSTER == 1) {
            copy_tensor(to, x, pair * CUDA_MMA_PAIR + block * S::K, first_row, ring.full());
          } else {
            copy_tensor_multicast(to, x, pair * CUDA_MMA_PAIR + block * S::K, first_row, ring.full(), (1 << S::CLUSTER) - 1);
          }
        }
        __syncwarp();
#pragma unroll
        for (int i = 0; i < S::TILES; i++) {
          const uint32_t word[4] = {words[i].x, words[i].y, words[i].z, words[i].w};
          const uint2 s0 = X::scales(scales[i].x), s1 = X::scales(scales[i].y);
          fragment w[4];
#pragma unroll
          for (int step = 0; step < 4; step++) {
            w[step] = X::weights(word[step], scale_of_step(s0, step), scale_of_step(s1, step));
          }
#pragma unroll
          for (int step = 0; step < 4; step++) {
            store_matrices(ring.weights() + i * 16 * 128 + (swizzled ^ step << 5), w[step]);
          }
        }
        fence_shared_for_wgmma();
        __syncwarp();
        barrier_arrive_if(ring.full(), lane == 0);
        ring.next();
      }
      if (lane == 0) { /* all lanes have read the slot */
        weights.fetch(a, slot);
      }
      if (++slot == S::PACKED) {
        slot = 0;
        slot_phase ^= 1;
      }
    }
  }
}

template <class S>
__device__ inline void prefill_consume(const cuda_mma_args &a, prefill_ring<S> ring) {
  using X = typename S::X;
  const int warpgroup = threadIdx.x / 128 - S::PRODUCER_WARPS / 4, warp = threadIdx.x / 32 % 4, lane = threadIdx.x % 32;
  const int pairs = (int)((a.k + CUDA_MMA_PAIR - 1) / CUDA_MMA_PAIR), slices = S::SLICED ? a.slices : 1;
  float d[S::COLUMNS / 2], total[S::SLICED ? S::COLUMNS / 2 : 1];
  auto give_back = [&](uint32_t empty, bool give) { /* a stage, to all blocks of the cluster, whose x it had */
    if (S::CLUSTER == 1) {
      barrier_arrive_if(empty, give && lane == 0);
    } else {
      barrier_arrive_of_cluster(empty, lane % S::CLUSTER, give && lane < S::CLUSTER);
    }
  };
  for (prefill_walk<S> walk(a); !walk.done(); walk.next()) {
#pragma unroll
    for (int j = 0; j < (S::SLICED ? S::COLUMNS / 2 : 1); j++) {
      total[j] = -0.0f; /* plus anything: that, bit for bit */
    }
#pragma unroll 1
    for (int slice = 0; slice < slices; slice++) {
      const int stages = 2 * ((slice + 1) * pairs / slices - slice * pairs / slices);
      uint32_t before = 0; /* the stage before, whose MMAs may be under way */
#pragma unroll 1
      for (int i = 0; i < stages; i++) {
        barrier_wait(ring.full(), ring.phase);
        const uint32_t w_at = wgmma_descriptor(ring.weights() + warpgroup * 64 * 128), x_at = wgmma_descriptor(ring.x());
        asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
#pragma unroll
        for (int step = 0; step < 4; step++) {
          wgmma_shared<X, S::COLUMNS>::run(d, w_at + step * WGMMA_STEP, x_at + step * WGMMA_STEP, i > 0 || step > 0);
        }
        wgmma_commit();
        wgmma_wait<1>();
        give_back(before, i > 0);
        before = ring.empty();
        ring.next();
      }
      wgmma_wait<0>();
      give_back(before, true);
#pragma unroll
      for (int j = 0; j < S::COLUMNS / 2; j++) {
        asm volatile("" : "+f"(d[j])::"memory"); /* not read before the wait */
        if (S::SLICED) {
          total[S::SLICED ? j : 0] = __fadd_rn(total[S::SLICED ? j : 0], d[j]);
        }
      }
    }
    const int row0 = walk.row_tile * S::ROWS + warpgroup * 64 + warp * 16;
    if constexpr (S::SLICED) {
      store_columns<S>(a, row0, walk.column_tile * S::COLUMNS, total);
    } else {
      store_columns<S>(a, row0, walk.column_tile * S::COLUMNS, d);
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
      barrier_init(ring.full() + 8 * i, 1 + S::PRODUCER_WARPS); /* x, and weights */
      barrier_init(ring.empty() + 8 * i, S::ROWS / 16 * S::CLUSTER);
    }
    for (int i = 0; i < S::PRODUCER_WARPS * S::PACKED; i++) {
      barrier_init(ring.empty() + 8 * (S::STAGES + i), 1);
    }
    asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
  }
  S::CLUSTER == 1 ? __syncthreads() : cluster_sync();
  if (threadIdx.x < 32 * S::PRODUCER_WARPS) {
    give_registers<S::PRODUCER_REGISTERS>();
    prefill_produce<S>(a, x, ring);
  } else {
    take_registers<S::CONSUMER_REGISTERS>();
    prefill_consume<S>(a, ring);
  }
  if (S::CLUSTER > 1) {
    __syncwarp();
    cluster_sync(); /* none leaves while others write to its shared memory */
  }
}

#endif
