/* SPDX-License-Identifier: Apache-2.0 */
/*
 * y = x W^T for more rows of x than sm90_mid.cuh is for, where arithmetic is the limit: y^T = W x^T on the warpgroup's tensor cores, with dequantised weights as operand A in registers, and
 * x as operand B in shared memory.
 *
 * A thread block persists over tiles of y: 128 weight rows x COLUMNS rows of x. One thread brings stages of 128 k's, x by tensor map and packed weights by bulk copy. Two warpgroups compute
 * 64 rows each, and take turns: one dequantises its next 64 k's while the MMAs of the other are under way. Left alone, both dequantise at the same time, and the tensor cores wait.
 * Operand A from shared memory, dequantised once by warps that do nothing else, was slower: shared memory's bandwidth, which x alone needs half of, was the limit.
 *
 * Order of additions, that of few.cuh too: an MMA adds 16 k's to the accumulator, in ascending order over a slice of K; slices are added in order, in fp32 (SLICED; the others take K in one).
 *
 * Order of memory: async.cuh, "A ring of stages". What else there is: y, bias and alpha are touched after the first full barrier, hence after wait_for_previous(), which the producer of every
 * block has passed before it asks for x. Named barriers 1 and 2 order no memory; of barrier 1 an arrival is left over at the end.
 */
#ifndef NVFP4_KERNELS_CUDA_SM90_PREFILL_CUH
#define NVFP4_KERNELS_CUDA_SM90_PREFILL_CUH

#include "kernels/cuda/sm90.cuh"
#include "kernels/cuda/tiles.cuh"

template <class X_, int COLUMNS_, int STAGES_, bool SLICED_, int BUFFERS_>
struct prefill_shape {
  using X = X_;
  static constexpr int COLUMNS = COLUMNS_, STAGES = STAGES_;
  static constexpr bool SLICED = SLICED_;
  static constexpr int BUFFERS = BUFFERS_; /* of operand A: 2 if the next is made while the MMAs of one are under way; for 1, registers decide */
  static constexpr int WARPGROUPS = 2, ROWS = 64 * WARPGROUPS, THREADS = 128 * (1 + WARPGROUPS);
  static constexpr int PRODUCER_REGISTERS = 40, CONSUMER_REGISTERS = 232;
  static constexpr int BLOCK_BYTES = COLUMNS * 128; /* x of 64 k's: rows of 128 bytes, which the swizzle is for */
  static constexpr int X_BYTES = 2 * BLOCK_BYTES, STAGE_BYTES = (X_BYTES + WARPGROUPS * CUDA_MMA_TILE_BYTES + 1023) / 1024 * 1024;
  static_assert(STAGES * (STAGE_BYTES + 16) + 1024 <= CUDA_SM90_SHARED_BYTES); /* 1024: to begin at a multiple of it */
  static_assert(PRODUCER_REGISTERS + WARPGROUPS * CONSUMER_REGISTERS <= 65536 / THREADS / 8 * 8 * (1 + WARPGROUPS), "no more than what the block begins with");
  static_assert(CUDA_MMA_GROUP % WARPGROUPS == 0, "a block's tiles of weights lie together");
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
  wait_for_previous();
  for (prefill_walk<S> walk(a); !walk.done(); walk.next()) {
    const int tile = walk.row_tile * S::WARPGROUPS, group = tile / CUDA_MMA_GROUP * CUDA_MMA_GROUP, width = min(weight_tiles - group, (int)CUDA_MMA_GROUP);
    const unsigned bytes = min(S::WARPGROUPS, weight_tiles - tile) * CUDA_MMA_TILE_BYTES;
    const uint8_t *weights = a.weights + ((size_t)group * pairs + tile - group) * CUDA_MMA_TILE_BYTES;
    for (int pair = 0; pair < pairs; pair++) {
      barrier_wait(ring.empty(), ring.phase ^ 1);
      barrier_expect(ring.full(), S::X_BYTES + bytes);
      copy_bulk(ring.weights(), weights, bytes, ring.full());
      copy_tensor(ring.x(), x, pair * CUDA_MMA_PAIR, walk.column_tile * S::COLUMNS, ring.full());
      copy_tensor(ring.x() + S::BLOCK_BYTES, x, pair * CUDA_MMA_PAIR + 64, walk.column_tile * S::COLUMNS, ring.full());
      weights += width * CUDA_MMA_TILE_BYTES;
      ring.next();
    }
  }
}

/* The turn of a warpgroup to issue MMAs: it is the other's after it. Barriers 1 and 2 are theirs. */
__device__ inline void turn_begin(int warpgroup) { asm volatile("bar.sync %0, 256;" ::"r"(1 + warpgroup) : "memory"); }
__device__ inline void turn_end(int warpgroup) { asm volatile("bar.arrive %0, 256;" ::"r"(2 - warpgroup) : "memory"); }

template <class S>
__device__ inline void prefill_consume(const cuda_mma_args &a, prefill_ring<S> ring) {
  using X = typename S::X;
  const int warpgroup = threadIdx.x / 128 - 1, warp = threadIdx.x / 32 % 4, lane = threadIdx.x % 32;
  const int pairs = (int)((a.k + CUDA_MMA_PAIR - 1) / CUDA_MMA_PAIR), slices = S::SLICED ? a.slices : 1;
  const uint32_t codes_of_lane = warpgroup * CUDA_MMA_TILE_BYTES + warp * 1024 + lane * 16;
  const uint32_t scales_of_lane = warpgroup * CUDA_MMA_TILE_BYTES + CUDA_MMA_SCALES_AT + warp * 128 + lane / 4 * 16;
  float d[S::COLUMNS / 2], total[S::SLICED ? S::COLUMNS / 2 : 1];
  if (warpgroup == 1) {
    turn_end(warpgroup); /* the first turn */
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
            __syncwarp();                /* lane 0 arrives for what all lanes have read */
            barrier_arrive_if(before, lane == 0 && pair > 0);
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
      __syncwarp();
      barrier_arrive_if(before, lane == 0);
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
    prefill_consume<S>(a, ring);
  }
}

#endif
