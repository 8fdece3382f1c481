/* SPDX-License-Identifier: Apache-2.0 */
/*
 * y = x W^T for hundreds of rows of x and more, where arithmetic is the limit: y^T = W x^T on the warpgroup's tensor cores, with dequantised weights as operand A in registers, and x as
 * operand B in shared memory.
 *
 * A thread block persists over tiles of y: ROWS = 64 WARPGROUPS weight rows x COLUMNS rows of x. One thread brings stages of 128 k's, x by tensor map and packed weights by bulk copy. Each of
 * the other warpgroups dequantises 64 rows while its MMAs of the 64 k's before are under way. Weights do not go through shared memory again, as operand A of both: storing them and reading
 * them with every MMA would fill its bandwidth.
 *
 * The blocks of a cluster of CLUSTER compute tiles with the same rows of x: each brings its part of them to all.
 *
 * Order of additions, that of few.cuh too: an MMA adds 16 k's to the accumulator, in ascending order over a slice of K; slices are added in order, in fp32 (SLICED; the others take K in one).
 */
#ifndef NVFP4_KERNELS_CUDA_SM90_PREFILL_CUH
#define NVFP4_KERNELS_CUDA_SM90_PREFILL_CUH

#include "kernels/cuda/sm90_many.cuh"
#include "kernels/cuda/sm90_store.cuh"

template <class X_, int WARPGROUPS_, int COLUMNS_, int STAGES_, bool SLICED_, int BUFFERS_, bool TURNS_, int CLUSTER_, int PRODUCER_REGISTERS_, int CONSUMER_REGISTERS_>
struct prefill_shape {
  using X = X_;
  static constexpr int WARPGROUPS = WARPGROUPS_, COLUMNS = COLUMNS_, STAGES = STAGES_, CLUSTER = CLUSTER_;
  static constexpr int BUFFERS = BUFFERS_; /* of operand A, as in many_shape */
  static constexpr bool SLICED = SLICED_, TURNS = TURNS_;
  static constexpr int PRODUCER_REGISTERS = PRODUCER_REGISTERS_, CONSUMER_REGISTERS = CONSUMER_REGISTERS_;
  static constexpr int ROWS = 64 * WARPGROUPS, THREADS = 128 * (WARPGROUPS + 1);
  static constexpr int BLOCK_BYTES = COLUMNS * 128; /* x of 64 k's: rows of 128 bytes, which the swizzle is for */
  static constexpr int X_BYTES = 2 * BLOCK_BYTES, W_BYTES = WARPGROUPS * CUDA_MMA_TILE_BYTES, STAGE_BYTES = (X_BYTES + W_BYTES + 1023) / 1024 * 1024;
  static constexpr int SHARED_BYTES = STAGES * (STAGE_BYTES + 16) + 1024; /* 1024: to begin at a multiple of it */
  static_assert(SHARED_BYTES <= 227 * 1024);
  static_assert(PRODUCER_REGISTERS + WARPGROUPS * CONSUMER_REGISTERS <= 65536 / THREADS / 8 * 8 * (WARPGROUPS + 1), "what a block gets at its launch is all that can be redistributed");
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
  constexpr int X_ROWS = S::COLUMNS / S::CLUSTER; /* that this block brings */
  const int rank = (int)blockIdx.x % S::CLUSTER;
  const int pairs = (int)((a.k + CUDA_MMA_PAIR - 1) / CUDA_MMA_PAIR), weight_tiles = (int)((a.n + CUDA_MMA_ROWS - 1) / CUDA_MMA_ROWS);
  wait_for_previous();
  for (prefill_walk<S> walk(a); !walk.done(); walk.next()) {
    const int tile = min(walk.row_tile * S::WARPGROUPS, weight_tiles - 1); /* in a cluster's last, beyond all: any, since nothing of it is stored */
    const int group = tile / CUDA_MMA_GROUP * CUDA_MMA_GROUP, width = min(weight_tiles - group, (int)CUDA_MMA_GROUP);
    const unsigned bytes = min(S::WARPGROUPS, weight_tiles - tile) * CUDA_MMA_TILE_BYTES;
    const uint8_t *weights = a.weights + ((size_t)group * pairs + tile - group) * CUDA_MMA_TILE_BYTES;
    for (int pair = 0; pair < pairs; pair++) {
      barrier_wait(ring.empty(), ring.phase ^ 1);
      barrier_expect(ring.full(), S::X_BYTES + bytes);
      copy_bulk(ring.weights(), weights, bytes, ring.full());
#pragma unroll
      for (int block = 0; block < 2; block++) {
        const uint32_t to = ring.x() + block * S::BLOCK_BYTES + rank * X_ROWS * 128;
        const int k = pair * CUDA_MMA_PAIR + block * 64, row = walk.column_tile * S::COLUMNS + rank * X_ROWS;
        if (S::CLUSTER == 1) {
          copy_tensor(to, x, k, row, ring.full());
        } else {
          copy_tensor_multicast(to, x, k, row, ring.full(), (1 << S::CLUSTER) - 1);
        }
      }
      weights += width * CUDA_MMA_TILE_BYTES;
      ring.next();
    }
  }
}

template <class S>
__device__ inline void prefill_consume(const cuda_mma_args &a, prefill_ring<S> ring) {
  using X = typename S::X;
  const int warpgroup = threadIdx.x / 128 - 1, warp = threadIdx.x / 32 % 4, lane = threadIdx.x % 32;
  const int pairs = (int)((a.k + CUDA_MMA_PAIR - 1) / CUDA_MMA_PAIR), slices = S::SLICED ? a.slices : 1;
  const uint32_t codes_of_lane = warpgroup * CUDA_MMA_TILE_BYTES + warp * 1024 + lane * 16;
  const uint32_t scales_of_lane = warpgroup * CUDA_MMA_TILE_BYTES + CUDA_MMA_SCALES_AT + warp * 128 + lane / 4 * 16;
  float d[S::COLUMNS / 2], total[S::SLICED ? S::COLUMNS / 2 : 1];
  auto give_back = [&](uint32_t empty, bool give) { /* a stage, to all blocks of the cluster, which wrote x there */
    if (S::CLUSTER == 1) {
      barrier_arrive_if(empty, give && lane == 0);
    } else {
      barrier_arrive_of_cluster(empty, lane % S::CLUSTER, give && lane < S::CLUSTER);
    }
  };
  auto turn_begin = [](int warpgroup) {
    if (S::TURNS) {
      asm volatile("bar.sync %0, 256;" ::"r"(1 + warpgroup) : "memory");
    }
  };
  auto turn_end = [](int warpgroup) {
    if (S::TURNS) {
      asm volatile("bar.arrive %0, 256;" ::"r"(1 + (warpgroup + 1) % S::WARPGROUPS) : "memory");
    }
  };
  if (warpgroup == S::WARPGROUPS - 1) {
    turn_end(warpgroup); /* the first one begins */
  }
  for (prefill_walk<S> walk(a); !walk.done(); walk.next()) {
#pragma unroll
    for (int j = 0; j < (S::SLICED ? S::COLUMNS / 2 : 1); j++) {
      total[j] = -0.0f; /* plus anything: that, bit for bit */
    }
#pragma unroll 1
    for (int slice = 0; slice < slices; slice++) {
      const int count = (slice + 1) * pairs / slices - slice * pairs / slices;
      uint32_t before = 0; /* the stage before, whose MMAs may be under way */
#pragma unroll 1
      for (int pair = 0; pair < count; pair++) {
        barrier_wait(ring.full(), ring.phase);
        fragment w[S::BUFFERS][4];
#pragma unroll
        for (int block = 0; block < 2; block++) {
          uint4 words = load_shared_16(ring.weights() + codes_of_lane + block * 512);
          uint2 scales = load_shared_8(ring.weights() + scales_of_lane + block * 8); /* of slots g and g + 8 */
          fragment(&frag)[4] = w[block % S::BUFFERS];
          wgmma_wait<S::BUFFERS - 1>(); /* frag is free */
          asm volatile("" : "+r"(words.x), "+r"(words.y), "+r"(words.z), "+r"(words.w), "+r"(scales.x), "+r"(scales.y)::"memory");
          if (block == S::BUFFERS - 1) { /* nothing of the stage before is under way */
            give_back(before, pair > 0);
          }
          const uint32_t word[4] = {words.x, words.y, words.z, words.w};
          const uint2 s0 = X::scales(scales.x), s1 = X::scales(scales.y);
#pragma unroll
          for (int step = 0; step < 4; step++) {
            frag[step] = X::weights(word[step], scale_of_step(s0, step), scale_of_step(s1, step));
          }
          const uint32_t b = wgmma_descriptor(ring.x() + block * S::BLOCK_BYTES);
          turn_begin(warpgroup);
          wgmma_fence(frag);
#pragma unroll
          for (int step = 0; step < 4; step++) {
            wgmma<X, S::COLUMNS>::run(d, frag[step], b + step * WGMMA_STEP, pair > 0 || block > 0 || step > 0);
          }
          wgmma_commit();
          turn_end(warpgroup);
        }
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
      store_sums<X, S::COLUMNS>(a, row0, walk.column_tile * S::COLUMNS, total);
    } else {
      store_sums<X, S::COLUMNS>(a, row0, walk.column_tile * S::COLUMNS, d);
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
      barrier_init(ring.empty() + 8 * i, 4 * S::WARPGROUPS * S::CLUSTER);
    }
    asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
  }
  S::CLUSTER == 1 ? __syncthreads() : cluster_sync();
  if (threadIdx.x < 128) {
    give_registers<S::PRODUCER_REGISTERS>();
    if (threadIdx.x == 0) {
      prefill_produce<S>(a, x, ring);
    }
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
