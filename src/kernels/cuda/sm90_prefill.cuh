/* SPDX-License-Identifier: Apache-2.0 */
/*
 * y = x W^T for hundreds of rows of x and more, where arithmetic is the limit: y^T = W x^T on the warpgroup's tensor cores, both operands in shared memory.
 *
 * A thread block persists over tiles of y: ROWS = 64 WARPGROUPS weight rows x COLUMNS rows of x. Stages of 64 k's go round between its first warpgroup, the producers, and the others,
 * which do nothing but MMAs: that keeps the tensor cores at work, and dequantising hides behind them. Producers read packed weights straight into registers (a warp's loads are 512 bytes
 * that lie together, two pairs ahead), dequantise them once for all columns of the tile, and store them as operand A; one of them asks for x by tensor map.
 *
 * The blocks of a cluster of CLUSTER compute tiles with the same rows of x: each brings its part of them to all.
 *
 * Order of additions, that of few.cuh too: an MMA adds 16 k's to the accumulator, in ascending order over a slice of K; slices are added in order, in fp32 (SLICED; the others take K in one).
 */
#ifndef NVFP4_KERNELS_CUDA_SM90_PREFILL_CUH
#define NVFP4_KERNELS_CUDA_SM90_PREFILL_CUH

#include "kernels/cuda/few.cuh"
#include "kernels/cuda/sm90_many.cuh"

template <class X_, int WARPGROUPS_, int COLUMNS_, int STAGES_, bool SLICED_, int CLUSTER_, int PRODUCER_REGISTERS_, int CONSUMER_REGISTERS_>
struct prefill_shape {
  using X = X_;
  static constexpr int WARPGROUPS = WARPGROUPS_, COLUMNS = COLUMNS_, STAGES = STAGES_, CLUSTER = CLUSTER_;
  static constexpr bool SLICED = SLICED_;
  static constexpr int PRODUCER_REGISTERS = PRODUCER_REGISTERS_, CONSUMER_REGISTERS = CONSUMER_REGISTERS_;
  static constexpr int ROWS = 64 * WARPGROUPS, THREADS = 128 * (WARPGROUPS + 1);
  static constexpr int K = 64; /* of a stage: rows of 128 bytes, which the swizzle is for */
  static constexpr int W_BYTES = ROWS * K * 2, X_BYTES = COLUMNS * K * 2, STAGE_BYTES = W_BYTES + X_BYTES;
  static constexpr int SHARED_BYTES = STAGES * (STAGE_BYTES + 16) + 1024; /* 1024: to begin at a multiple of it */
  static_assert(SHARED_BYTES <= 227 * 1024);
  static_assert(CUDA_MMA_GROUP % WARPGROUPS == 0, "a block's tiles of weights lie together");
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
  uint32_t shared; /* the stages, then their barriers */
  int stage = 0;
  unsigned phase = 0;
  __device__ uint32_t weights() const { return shared + stage * S::STAGE_BYTES; }
  __device__ uint32_t x() const { return weights() + S::W_BYTES; }
  __device__ uint32_t full() const { return shared + S::STAGES * S::STAGE_BYTES + 8 * stage; }
  __device__ uint32_t empty() const { return full() + 8 * S::STAGES; }
  __device__ void next() {
    if (++stage == S::STAGES) {
      stage = 0;
      phase ^= 1;
    }
  }
};

/* What a lane dequantises of a row tile, and the scales of its two rows there: 128 k's. */
struct prefill_weights {
  uint4 words[2], scales; /* of 64 k's each; scales of 64 k's: two rows */
};

template <class S>
__device__ inline void prefill_produce(const cuda_mma_args &a, const cuda_tensor_map &x, prefill_ring<S> ring) {
  using X = typename S::X;
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  const int pairs = (int)((a.k + CUDA_MMA_PAIR - 1) / CUDA_MMA_PAIR), weight_tiles = (int)((a.n + CUDA_MMA_ROWS - 1) / CUDA_MMA_ROWS);

  /* Loads run ahead of the rest, through tiles and pairs. A warp has row tile `warp` of each of the block's tiles of weights; those beyond the last repeat it, and their results are not
   * stored. */
  prefill_walk<S> ahead(a);
  int pairs_left = 0, pair_bytes = 0;
  const uint8_t *from = nullptr;
  int beyond[S::WARPGROUPS] = {}; /* bytes to the second tile, ... */
  auto begin_tile = [&] {
    const int tile0 = min(ahead.row_tile * S::WARPGROUPS, weight_tiles - 1), group = tile0 / CUDA_MMA_GROUP * CUDA_MMA_GROUP;
    const int width = min(weight_tiles - group, (int)CUDA_MMA_GROUP);
    from = a.weights + ((size_t)group * pairs + tile0 - group) * CUDA_MMA_TILE_BYTES;
#pragma unroll
    for (int i = 1; i < S::WARPGROUPS; i++) {
      beyond[i] = min(i, weight_tiles - 1 - tile0) * CUDA_MMA_TILE_BYTES;
    }
    pair_bytes = width * CUDA_MMA_TILE_BYTES;
    pairs_left = pairs;
  };
  auto load = [&](prefill_weights(&w)[S::WARPGROUPS]) {
    if (ahead.done()) {
      return;
    }
    if (pairs_left == 0) {
      begin_tile();
    }
#pragma unroll
    for (int i = 0; i < S::WARPGROUPS; i++) {
      const uint8_t *tile = from + beyond[i];
      w[i].words[0] = load_weights(tile + warp * 1024 + lane * 16);
      w[i].words[1] = load_weights(tile + warp * 1024 + 512 + lane * 16);
      w[i].scales = load_weights(tile + CUDA_MMA_SCALES_AT + warp * 128 + lane / 4 * 16);
    }
    from += pair_bytes;
    if (--pairs_left == 0) {
      ahead.next();
    }
  };
  prefill_weights first[S::WARPGROUPS], second[S::WARPGROUPS];
  load(first);
  load(second);
  wait_for_previous();

  prefill_walk<S> walk(a);
  int pair = 0;
  /* stmatrix: matrices are slots 0 to 7 and 8 to 15 of 8 k's, then of the next 8. Lane 8 i + r has the address of row r of matrix i; the k's of step s lie in chunks 2s and 2s + 1. */
  const int row = lane % 16, swizzled = warp * 16 * 128 + row * 128 + ((lane / 16 ^ row % 8) << 4);
  constexpr int X_ROWS = S::COLUMNS / S::CLUSTER; /* that this block brings */
  const int rank = (int)blockIdx.x % S::CLUSTER;
  auto store = [&](const prefill_weights(&w)[S::WARPGROUPS]) {
#pragma unroll
    for (int block = 0; block < 2; block++) {
      barrier_wait(ring.empty(), ring.phase ^ 1);
      if (threadIdx.x == 0) {
        barrier_expect(ring.full(), S::X_BYTES);
        const uint32_t to = ring.x() + rank * X_ROWS * S::K * 2;
        const int k = pair * CUDA_MMA_PAIR + block * S::K, first_row = walk.column_tile * S::COLUMNS + rank * X_ROWS;
        if (S::CLUSTER == 1) {
          copy_tensor(to, x, k, first_row, ring.full());
        } else {
          copy_tensor_multicast(to, x, k, first_row, ring.full(), (1 << S::CLUSTER) - 1);
        }
      }
      __syncwarp();
#pragma unroll
      for (int i = 0; i < S::WARPGROUPS; i++) {
        const uint4 &words = w[i].words[block];
        const uint32_t word[4] = {words.x, words.y, words.z, words.w};
        const uint2 s0 = X::scales(block ? w[i].scales.z : w[i].scales.x), s1 = X::scales(block ? w[i].scales.w : w[i].scales.y);
#pragma unroll
        for (int step = 0; step < 4; step++) {
          store_matrices(ring.weights() + i * 64 * 128 + (swizzled ^ step << 5), X::weights(word[step], scale_of_step(s0, step), scale_of_step(s1, step)));
        }
      }
      fence_shared_for_wgmma();
      __syncwarp();
      barrier_arrive_if(ring.full(), lane == 0);
      ring.next();
    }
    if (++pair == pairs) {
      pair = 0;
      walk.next();
    }
  };
  while (!walk.done()) {
    store(first);
    load(first);
    if (walk.done()) {
      break;
    }
    store(second);
    load(second);
  }
}

template <class S>
__device__ inline void prefill_consume(const cuda_mma_args &a, prefill_ring<S> ring) {
  using X = typename S::X;
  const int warpgroup = threadIdx.x / 128 - 1, warp = threadIdx.x / 32 % 4, lane = threadIdx.x % 32;
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
    for (int slice = 0; slice < slices; slice++) {
      const int stages = 2 * ((slice + 1) * pairs / slices - slice * pairs / slices);
      uint32_t before = 0; /* the stage before, whose MMAs may be under way */
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
          total[S::SLICED ? j : 0] = slice == 0 ? d[j] : __fadd_rn(total[S::SLICED ? j : 0], d[j]);
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
      barrier_init(ring.full() + 8 * i, 1 + 4); /* x, and four warps with weights */
      barrier_init(ring.empty() + 8 * i, 4 * S::WARPGROUPS * S::CLUSTER);
    }
    asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
  }
  S::CLUSTER == 1 ? __syncthreads() : cluster_sync();
  if (threadIdx.x < 128) {
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
