/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sm90_prefill.cuh's tiles of 128 weight rows x 256 rows of x, with K in slices: accumulators take the registers, so that most totals of the slices before live in shared memory, and each thread
 * adds to its own. Two warpgroups take turns as there; one that was a turn ahead, so that the other had two while it adds, and turns that nobody takes were slower.
 *
 * Little is left for stages: x comes in blocks of 64 k's x 128 rows, each a stage; packed weights, which have 128 k's, in a ring of their own.
 *
 * Order of additions: sm90_prefill.cuh. Order of memory: async.cuh, "A ring of stages", for both rings; totals are written and read by one thread.
 */
#ifndef NVFP4_KERNELS_CUDA_SM90_TOTALS_CUH
#define NVFP4_KERNELS_CUDA_SM90_TOTALS_CUH

#include "kernels/cuda/sm90_prefill.cuh"

/* KEPT: totals of a thread that stay in registers. */
template <class X_, int X_STAGES_, int WEIGHT_STAGES_, int KEPT_>
struct totals_shape {
  using X = X_;
  static constexpr int WARPGROUPS = 2, ROWS = 128, COLUMNS = 256, PART = 128, BOXES = 2, THREADS = 384;
  static constexpr int X_STAGES = X_STAGES_, WEIGHT_STAGES = WEIGHT_STAGES_, KEPT = KEPT_;
  static constexpr int PRODUCER_REGISTERS = 24, CONSUMER_REGISTERS = 240;
  static constexpr int X_BYTES = PART * 128, WEIGHT_BYTES = WARPGROUPS * CUDA_MMA_TILE_BYTES;
  static constexpr int WEIGHTS_AT = X_STAGES * X_BYTES, TOTALS_AT = WEIGHTS_AT + WEIGHT_STAGES * WEIGHT_BYTES;
  static constexpr int BARRIERS_AT = TOTALS_AT + (COLUMNS / 2 - KEPT) * 4 * 128 * WARPGROUPS, BARRIERS_BYTES = 16 * (X_STAGES + WEIGHT_STAGES);
  static_assert(BARRIERS_AT + 1024 <= CUDA_SM90_SHARED_BYTES && BARRIERS_BYTES <= 512);
};

/* Stages of one kind, of `BYTES` each. */
template <int STAGES, int BYTES>
struct totals_ring {
  uint32_t stages, barriers;
  int stage = 0;
  unsigned phase = 0;
  __device__ uint32_t at() const { return stages + stage * BYTES; }
  __device__ uint32_t weights() const { return at(); }
  __device__ uint32_t full() const { return barriers + 8 * stage; }
  __device__ uint32_t empty() const { return full() + 8 * STAGES; }
  __device__ void next() {
    if (++stage == STAGES) {
      stage = 0;
      phase ^= 1;
    }
  }
};

template <class S>
struct totals_rings {
  totals_ring<S::X_STAGES, S::X_BYTES> x;
  totals_ring<S::WEIGHT_STAGES, S::WEIGHT_BYTES> weights;
  uint32_t totals;
  /* x at a multiple of 1024; barriers in front of it if there is room, else behind all. */
  __device__ explicit totals_rings(uint32_t begin) {
    const uint32_t aligned = (begin + 1023) & ~1023u;
    x.stages = aligned;
    weights.stages = aligned + S::WEIGHTS_AT;
    totals = aligned + S::TOTALS_AT;
    x.barriers = aligned - begin >= S::BARRIERS_BYTES ? begin : aligned + S::BARRIERS_AT;
    weights.barriers = x.barriers + 16 * S::X_STAGES;
  }
};

/* A warp, of which lane 0 does it all. */
template <class S>
__device__ inline void totals_produce(const cuda_mma_args &a, const cuda_tensor_map &x, totals_rings<S> rings) {
  if (threadIdx.x == 0) {
    for (int i = 0; i < S::X_STAGES; i++) {
      barrier_init(rings.x.full() + 8 * i, 1);
      barrier_init(rings.x.empty() + 8 * i, 128 * S::WARPGROUPS);
    }
    for (int i = 0; i < S::WEIGHT_STAGES; i++) {
      barrier_init(rings.weights.full() + 8 * i, 1);
      barrier_init(rings.weights.empty() + 8 * i, 128 * S::WARPGROUPS);
    }
    ring_made();
    prefetch_map(x);
  }
  __syncwarp();
  join_named(0, 32 + 128 * S::WARPGROUPS);
  if (threadIdx.x != 0) {
    return;
  }
  wait_for_previous();
  const int pairs = (int)((a.k + CUDA_MMA_PAIR - 1) / CUDA_MMA_PAIR);
  auto copy_tile = [&](const prefill_walk<S> &walk, int parts) {
    prefill_weights<S> weights(a, pairs, walk.row_tile);
    for (int pair = 0; pair < pairs; pair++) {
      barrier_wait(rings.weights.empty(), rings.weights.phase ^ 1);
      weights.copy(rings.weights, 0);
      rings.weights.next();
      for (int block = 0; block < 2; block++) {
        for (int part = 0; part < parts; part++, rings.x.next()) {
          barrier_wait(rings.x.empty(), rings.x.phase ^ 1);
          barrier_expect(rings.x.full(), S::X_BYTES);
          copy_tensor(rings.x.at(), x, pair * CUDA_MMA_PAIR + 64 * block, walk.column0 + part * S::PART, rings.x.full());
        }
      }
    }
  };
  prefill_walk<S> walk(a);
  for (; walk.whole(); walk.unit += (int)gridDim.x) {
    copy_tile(walk, 2);
  }
  if (walk.half()) {
    copy_tile(walk, 1);
  }
}

/* d = the products of one slice of K, of PARTS times 128 rows of x: multiply_slice() for two rings. */
template <class S, int PARTS>
__device__ inline void totals_multiply(float (&d)[PARTS][S::PART / 2], totals_rings<S> &rings, int count, int tile, const prefill_turn &turn) {
  using X = typename S::X;
  const int warp = threadIdx.x / 32 % 4, lane = threadIdx.x % 32;
  const uint32_t codes_of_lane = tile * CUDA_MMA_TILE_BYTES + warp * 1024 + lane * 16;
  const uint32_t scales_of_lane = tile * CUDA_MMA_TILE_BYTES + CUDA_MMA_SCALES_AT + warp * 128 + lane / 4 * 16;
  uint32_t before[PARTS] = {}; /* stages of the block before, whose MMAs may be under way */
#pragma unroll 1
  for (int pair = 0; pair < count; pair++) {
    barrier_wait(rings.weights.full(), rings.weights.phase);
    fragment w[2][4];
#pragma unroll
    for (int block = 0; block < 2; block++) {
      uint4 words = load_shared_16(rings.weights.at() + codes_of_lane + block * 512);
      uint2 scales = load_shared_8(rings.weights.at() + scales_of_lane + block * 8); /* of slots g and g + 8 */
      fragment(&frag)[4] = w[block];
      asm volatile("" : "+r"(words.x), "+r"(words.y), "+r"(words.z), "+r"(words.w), "+r"(scales.x), "+r"(scales.y)::"memory");
      const uint32_t word[4] = {words.x, words.y, words.z, words.w};
      const uint2 s0 = X::scales(scales.x), s1 = X::scales(scales.y);
#pragma unroll
      for (int step = 0; step < 4; step++) {
        frag[step] = X::weights(word[step], scale_of_step(s0, step), scale_of_step(s1, step));
      }
      wgmma_wait<0>(); /* the MMAs of the block before are done by now, or nearly: the stages are wanted */
#pragma unroll
      for (int part = 0; part < PARTS; part++) {
        barrier_arrive_if(before[part], pair > 0 || block > 0);
      }
      uint32_t b[PARTS];
#pragma unroll
      for (int part = 0; part < PARTS; part++, rings.x.next()) {
        barrier_wait(rings.x.full(), rings.x.phase);
        b[part] = wgmma_descriptor(rings.x.at());
        before[part] = rings.x.empty();
      }
      turn.begin();
      wgmma_fence(frag);
#pragma unroll
      for (int part = 0; part < PARTS; part++) {
#pragma unroll
        for (int step = 0; step < 4; step++) {
          wgmma<X, S::PART>::run(d[part], frag[step], b[part] + step * WGMMA_STEP, pair > 0 || block > 0 || step > 0);
        }
      }
      wgmma_commit();
      turn.end();
    }
    barrier_arrive(rings.weights.empty()); /* the words are in registers */
    rings.weights.next();
  }
  wgmma_wait<0>();
#pragma unroll
  for (int part = 0; part < PARTS; part++) {
    barrier_arrive(before[part]);
#pragma unroll
    for (int j = 0; j < S::PART / 2; j++) {
      asm volatile("" : "+f"(d[part][j])::"memory"); /* not read before the wait */
    }
  }
}

/* A warpgroup's part of one tile, or of half of one: PARTS of 128 rows of x. */
template <class S, int PARTS>
__device__ inline void totals_tile(const cuda_mma_args &a, const prefill_walk<S> &walk, totals_rings<S> &rings, const prefill_turn &turn) {
  const int warpgroup = threadIdx.x / 128 - 1, warp = threadIdx.x / 32 % 4;
  const int pairs = (int)((a.k + CUDA_MMA_PAIR - 1) / CUDA_MMA_PAIR), row0 = walk.row_tile * S::ROWS + warpgroup * 64 + warp * 16;
  const uint32_t own = rings.totals + (threadIdx.x - 128) * 16;
  constexpr int COUNT = S::PART / 2;
  float d[PARTS][COUNT], kept[S::KEPT + 1];
#pragma unroll 1
  for (int slice = 0;; slice++) {
    totals_multiply<S, PARTS>(d, rings, first_pair_of(slice + 1, pairs, a.slices) - first_pair_of(slice, pairs, a.slices), warpgroup, turn);
    if (slice > 0) {
#pragma unroll
      for (int j = 0; j < PARTS * COUNT; j += 4) {
        float *v = &d[j / COUNT][j % COUNT];
        if (j < S::KEPT) {
#pragma unroll
          for (int i = 0; i < 4; i++) {
            v[i] = __fadd_rn(kept[j + i], v[i]);
          }
        } else {
          const uint4 total = load_shared_16(own + (j - S::KEPT) / 4 * (16 * 128 * S::WARPGROUPS));
          v[0] = __fadd_rn(__uint_as_float(total.x), v[0]);
          v[1] = __fadd_rn(__uint_as_float(total.y), v[1]);
          v[2] = __fadd_rn(__uint_as_float(total.z), v[2]);
          v[3] = __fadd_rn(__uint_as_float(total.w), v[3]);
        }
      }
    }
    if (slice + 1 == a.slices) {
      break;
    }
#pragma unroll
    for (int j = 0; j < PARTS * COUNT; j += 4) {
      const float *v = &d[j / COUNT][j % COUNT];
      if (j < S::KEPT) {
#pragma unroll
        for (int i = 0; i < 4; i++) {
          kept[j + i] = v[i];
        }
      } else {
        store_shared_16(own + (j - S::KEPT) / 4 * (16 * 128 * S::WARPGROUPS), v[0], v[1], v[2], v[3]);
      }
    }
  }
#pragma unroll
  for (int part = 0; part < PARTS; part++) {
    store_columns<typename S::X, S::PART>(a, row0, walk.column0 + part * S::PART, d[part]);
  }
}

template <class S>
__device__ inline void totals_consume(const cuda_mma_args &a, totals_rings<S> rings, const prefill_turn &turn) {
  prefill_walk<S> walk(a);
  for (; walk.whole(); walk.unit += (int)gridDim.x) {
    totals_tile<S, 2>(a, walk, rings, turn);
  }
  if (walk.half()) {
    totals_tile<S, 1>(a, walk, rings, turn);
  }
}

template <class S>
__device__ inline void totals_rows(const cuda_mma_args &a, const cuda_tensor_map &x) {
  extern __shared__ uint8_t unaligned[];
  const totals_rings<S> rings(shared_address(unaligned));
  launch_dependents();
  if (threadIdx.x < 128) {
    give_registers<S::PRODUCER_REGISTERS>();
    if (threadIdx.x < 32) {
      totals_produce<S>(a, x, rings);
    }
  } else {
    take_registers<S::CONSUMER_REGISTERS>();
    join_named(0, 32 + 128 * S::WARPGROUPS); /* the rings are made */
    const prefill_turn turn{(int)threadIdx.x / 128 - 1};
    if (turn.warpgroup == 1) {
      turn.end(); /* the first turn */
    }
    totals_consume<S>(a, rings, turn);
  }
}

#endif
