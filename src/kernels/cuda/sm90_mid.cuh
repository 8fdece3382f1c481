/* SPDX-License-Identifier: Apache-2.0 */
/*
 * y = x W^T for tens of rows of x, up to a few hundred: limited by reading weights, or by dequantising them. y^T = W x^T on the warpgroup's tensor cores, with dequantised weights as operand A
 * in registers and x as operand B in shared memory.
 *
 * A thread block computes one tile of y, of one slice of K: args.block_tiles times 64 weight rows x COLUMNS rows of x. One warp brings weights (bulk copies, which begin before the kernels
 * before this one have ended) and x (by tensor map); stages of 128 k's go round between it and WARPGROUPS warpgroups, which compute up to M_TILES tiles of 64 rows each. The blocks of a cluster
 * compute the slices of a tile; their sums meet through shared memory of the cluster.
 *
 * Order of additions, that of few.cuh too: an MMA adds 16 k's to the accumulator, in ascending order over a slice of K; slices are added in order, in fp32.
 *
 * Order of memory: async.cuh, "A ring of stages"; the lanes that copy without having told the barrier how many bytes come do so in the phase that lane 0's arrival ends. What else there is:
 *   sums over stages       each warpgroup has waited for all copies and for all its MMAs; named barrier 1 joins the warpgroups that have tiles. The producer has no copy under way then
 *   sums to the cluster    the first barrier of the cluster, which all threads of all its blocks reach, those of warps without work too; it releases and acquires
 *   a block's end          the second one: no block ends before the others have read its sums
 *   y, bias, alpha         touched after the last full barrier, hence after wait_for_previous(), which every block's producer has passed before it asks for x
 */
#ifndef NVFP4_KERNELS_CUDA_SM90_MID_CUH
#define NVFP4_KERNELS_CUDA_SM90_MID_CUH

#include "kernels/cuda/sm90.cuh"
#include "kernels/cuda/tiles.cuh"

/* BUFFERS of operand A: 2 if the MMAs of one are under way while the other is made; 1 leaves that to other warps. */
template <class X_, int COLUMNS_, int WARPGROUPS_, int M_TILES_, int BUFFERS_>
struct mid_shape {
  using X = X_;
  static constexpr int COLUMNS = COLUMNS_, WARPGROUPS = WARPGROUPS_, M_TILES = M_TILES_, BUFFERS = BUFFERS_;
  static constexpr int TILES = WARPGROUPS * M_TILES, CONSUMERS = 128 * WARPGROUPS;
  /* One warp produces; it has the registers of a warpgroup, of which it gives most to the consumers. */
  static constexpr int THREADS = CONSUMERS + 128, REGISTERS = 65536 / THREADS / 8 * 8, PRODUCER_REGISTERS = 24;
  static constexpr int CONSUMER_REGISTERS = (REGISTERS * THREADS - 128 * PRODUCER_REGISTERS) / CONSUMERS / 8 * 8;
  static constexpr int X_BYTES = COLUMNS * CUDA_MMA_PAIR * 2;
  static constexpr int STAGES_MOST = 16, BARRIERS_BYTES = 1024, ALIGNMENT = 1024; /* of operand B */
  static constexpr int STAGES_BYTES = CUDA_SM90_SHARED_BYTES - ALIGNMENT - BARRIERS_BYTES;
  static_assert(TILES * 64 * COLUMNS * 4 <= STAGES_BYTES, "the sums of a slice take the place of the stages");
};

/* What a thread block computes, and where its stages are: barriers, then [stages] x and weights. */
template <class S>
struct mid_block {
  int pairs, first_pair, end_pair, first_tile, tiles, weight_tiles, column0;
  uint32_t shared;
  int stage_bytes, stages;

  __device__ mid_block(const cuda_mma_args &a, uint32_t at) : shared(at) {
    const int slice = (int)blockIdx.x & (a.slices - 1), unit = (int)blockIdx.x >> (31 - __clz(a.slices)), column_tiles = (int)((a.m + S::COLUMNS - 1) / S::COLUMNS);
    pairs = (int)((a.k + CUDA_MMA_PAIR - 1) / CUDA_MMA_PAIR);
    first_pair = first_pair_of(slice, pairs, a.slices);
    end_pair = first_pair_of(slice + 1, pairs, a.slices);
    weight_tiles = (int)((a.n + CUDA_MMA_ROWS - 1) / CUDA_MMA_ROWS);
    const int row = column_tiles > 1 ? unit / column_tiles : unit;
    first_tile = row * a.block_tiles;
    tiles = min(a.block_tiles, weight_tiles - first_tile);
    column0 = (unit - row * column_tiles) * S::COLUMNS;
    stage_bytes = (S::X_BYTES + a.block_tiles * CUDA_MMA_TILE_BYTES + S::ALIGNMENT - 1) / S::ALIGNMENT * S::ALIGNMENT;
    stages = min(S::STAGES_BYTES / stage_bytes, S::STAGES_MOST);
  }
  __device__ uint32_t first_stage() const { return shared + S::BARRIERS_BYTES; }
  /* The sums of a slice, after it: 16 rows of weights, 8 of x; float4 of the lanes. */
  __device__ uint32_t sums(int row_tile, int c) const { return first_stage() + (row_tile * (S::COLUMNS / 8) + c) * 512; }
};

/* A stage of the ring, and the phase of its barriers. */
template <class S>
struct mid_ring {
  uint32_t stage, full; /* addresses */
  unsigned phase = 0;
  __device__ explicit mid_ring(const mid_block<S> &b) : stage(b.first_stage()), full(b.shared) {}
  __device__ uint32_t empty() const { return full + 8 * S::STAGES_MOST; }
  __device__ void next(const mid_block<S> &b) {
    stage += b.stage_bytes;
    full += 8;
    if (full == b.shared + 8 * b.stages) {
      stage = b.first_stage();
      full = b.shared;
      phase ^= 1;
    }
  }
};

/* One warp. A lane for each piece of the tiles' weights (those of a group lie together), and one for x. */
template <class S>
__device__ inline void mid_produce(const cuda_mma_args &a, const cuda_tensor_map &x, const mid_block<S> &b) {
  const int lane = threadIdx.x % 32, group = b.first_tile / CUDA_MMA_GROUP + lane, group_tile = group * CUDA_MMA_GROUP;
  const int begin = max(b.first_tile, group_tile), end = min(b.first_tile + b.tiles, group_tile + CUDA_MMA_GROUP), width = min(b.weight_tiles - group_tile, (int)CUDA_MMA_GROUP);
  const int bytes = (end - begin) * CUDA_MMA_TILE_BYTES, to = S::X_BYTES + (begin - b.first_tile) * CUDA_MMA_TILE_BYTES;
  const uint8_t *weights = a.weights + ((size_t)group_tile * b.pairs + (size_t)b.first_pair * width + begin - group_tile) * CUDA_MMA_TILE_BYTES;
  auto fetch_weights = [&](const mid_ring<S> &ring) {
    if (lane == 0) {
      barrier_expect(ring.full, S::X_BYTES + b.tiles * CUDA_MMA_TILE_BYTES);
    }
    if (bytes > 0) {
      copy_bulk(ring.stage + to, weights, bytes, ring.full);
      weights += width * CUDA_MMA_TILE_BYTES;
    }
  };
  auto fetch_x = [&](const mid_ring<S> &ring, int pair) {
    if (lane < 2) { /* 64 k's each: rows of 128 bytes, which the swizzle is for */
      copy_tensor(ring.stage + lane * (S::X_BYTES / 2), x, pair * CUDA_MMA_PAIR + lane * 64, b.column0, ring.full);
    }
  };
  const int ahead = min(b.first_pair + b.stages, b.end_pair);
  mid_ring<S> ring(b);
  if (lane < b.stages) {
    barrier_init(b.shared + 8 * lane, 1);
    barrier_init(b.shared + 8 * (S::STAGES_MOST + lane), 128 * min(b.tiles, S::WARPGROUPS));
    ring_made();
  }
  __syncwarp();
  for (int pair = b.first_pair; pair < ahead; pair++) {
    fetch_weights(ring);
    ring.next(b);
  }
  __syncwarp();
  join_named(0, S::CONSUMERS + 32);
  prefetch_map(x);
  wait_for_previous();
  ring = mid_ring<S>(b);
  for (int pair = b.first_pair; pair < ahead; pair++) {
    fetch_x(ring, pair);
    ring.next(b);
  }
  for (int pair = ahead; pair < b.end_pair; pair++) {
    barrier_wait(ring.empty(), ring.phase ^ 1);
    fetch_weights(ring);
    fetch_x(ring, pair);
    ring.next(b);
  }
}

/* A warpgroup, for its TILES tiles: those WARPGROUPS apart. Sums go to y, or those of a slice to shared memory. */
template <class S, int TILES>
__device__ inline void mid_consume(const cuda_mma_args &a, const mid_block<S> &b, int warpgroup) {
  using X = typename S::X;
  float d[TILES][S::COLUMNS / 2] = {};
  const int warp = threadIdx.x / 32 % 4, lane = threadIdx.x % 32;
  const int codes = S::X_BYTES + warpgroup * CUDA_MMA_TILE_BYTES + warp * 1024 + lane * 16;
  const int scales_at = S::X_BYTES + warpgroup * CUDA_MMA_TILE_BYTES + CUDA_MMA_SCALES_AT + warp * 128 + lane / 4 * 16;
  uint32_t before = 0; /* a stage that is not yet given back: its barrier */
  mid_ring<S> ring(b);
  for (int pair = b.first_pair; pair < b.end_pair; pair++) {
    barrier_wait(ring.full, ring.phase);
    fragment frag[S::BUFFERS][4];
#pragma unroll
    for (int block = 0; block < 2; block++) {
#pragma unroll
      for (int i = 0; i < TILES; i++) {
        const int tile = i * S::WARPGROUPS * CUDA_MMA_TILE_BYTES, which = (block * TILES + i) % S::BUFFERS;
        uint4 words = load_shared_16(ring.stage + codes + tile + block * 512);
        uint2 scales = load_shared_8(ring.stage + scales_at + tile + block * 8); /* of slots g and g + 8 */
        wgmma_wait<S::BUFFERS - 1>();                                            /* frag[which] is free */
        asm volatile("" : "+r"(words.x), "+r"(words.y), "+r"(words.z), "+r"(words.w), "+r"(scales.x), "+r"(scales.y)::"memory");
        if (block * TILES + i == S::BUFFERS - 1) { /* nothing of the stage before is under way */
          barrier_arrive_if(before, before != 0);
        }
        const uint2 s0 = X::scales(scales.x), s1 = X::scales(scales.y);
        const uint32_t word[4] = {words.x, words.y, words.z, words.w};
#pragma unroll
        for (int step = 0; step < 4; step++) {
          frag[which][step] = X::weights(word[step], scale_of_step(s0, step), scale_of_step(s1, step));
        }
        const uint32_t x = wgmma_descriptor(ring.stage + block * (S::X_BYTES / 2));
        wgmma_fence(frag[which]);
#pragma unroll
        for (int step = 0; step < 4; step++) {
          wgmma<X, S::COLUMNS>::run(d[i], frag[which][step], x + step * WGMMA_STEP, true);
        }
        wgmma_commit();
      }
    }
    before = ring.empty();
    ring.next(b);
  }
  wgmma_wait<0>();
  if (a.slices > 1) { /* the stages are no longer used */
    join_named(1, 128 * min(b.tiles, S::WARPGROUPS));
  }
#pragma unroll
  for (int i = 0; i < TILES; i++) {
    const int row_tile = (warpgroup + i * S::WARPGROUPS) * 4 + warp;
    if (a.slices > 1) {
#pragma unroll
      for (int c = 0; c < S::COLUMNS / 8; c++) {
        store_shared_16(b.sums(row_tile, c) + lane * 16, d[i][4 * c], d[i][4 * c + 1], d[i][4 * c + 2], d[i][4 * c + 3]);
      }
    } else {
      store_columns<X, S::COLUMNS>(a, b.first_tile * 64 + row_tile * 16, b.column0, d[i]);
    }
  }
}

template <class S, int TILES>
__device__ inline void mid_consume_tiles(const cuda_mma_args &a, const mid_block<S> &b, int warpgroup, int tiles) {
  if constexpr (TILES > 0) {
    if (tiles == TILES) {
      mid_consume<S, TILES>(a, b, warpgroup);
    } else {
      mid_consume_tiles<S, TILES - 1>(a, b, warpgroup, tiles);
    }
  }
}

/* Each block of the cluster adds the slices of its part. A warp has eight loads under way, since each takes a good part of a microsecond. */
template <class S, int SLICES>
__device__ inline void mid_add_slices(const cuda_mma_args &a, const mid_block<S> &b) {
  constexpr int COLUMN_TILES = S::COLUMNS / 8, AT_A_TIME = 8 / SLICES;
  using store = row_store<typename S::X>;
  const int lane = threadIdx.x % 32, used = (min(S::COLUMNS, (int)a.m - b.column0) + 7) / 8;
  /* Of eight pieces, of 16 rows of weights and 8 of x each, a block has those SLICES apart. */
  for (int first = (int)threadIdx.x / 32 * 8; first < b.tiles * 4 * COLUMN_TILES; first += S::CONSUMERS / 32 * 8) {
    float4 slices[AT_A_TIME][SLICES];
    row_constants constants[AT_A_TIME];
#pragma unroll
    for (int i = 0; i < AT_A_TIME; i++) {
      const int piece = first + (int)blockIdx.x % SLICES + i * SLICES, row_tile = piece / COLUMN_TILES, c = piece % COLUMN_TILES;
      if (c < used) {
        constants[i] = store::constants_of(a, b.first_tile * 64 + row_tile * 16);
#pragma unroll
        for (int s = 0; s < SLICES; s++) {
          slices[i][s] = load_of_cluster(b.sums(row_tile, c) + lane * 16, s);
        }
      }
    }
#pragma unroll
    for (int i = 0; i < AT_A_TIME; i++) {
      const int piece = first + (int)blockIdx.x % SLICES + i * SLICES, row_tile = piece / COLUMN_TILES, c = piece % COLUMN_TILES;
      if (c < used) {
        const float4 sum = sum_in_order(slices[i]);
        store(a, b.first_tile * 64 + row_tile * 16, constants[i])(b.column0 + 8 * c, sum.x, sum.y, sum.z, sum.w);
      }
    }
  }
}

template <class S>
__device__ inline void mid_rows(const cuda_mma_args &a, const cuda_tensor_map &x) {
  extern __shared__ uint8_t unaligned[];
  const mid_block<S> b(a, (shared_address(unaligned) + S::ALIGNMENT - 1) & ~(uint32_t)(S::ALIGNMENT - 1));
  launch_dependents();
  const int warp = __shfl_sync(~0u, threadIdx.x / 32, 0); /* so that the compiler knows it to be one of the warp */
  if (warp >= S::CONSUMERS / 32) {
    give_registers<S::PRODUCER_REGISTERS>();
    if (warp == S::CONSUMERS / 32) {
      mid_produce<S>(a, x, b);
    }
    __syncwarp();
    if (a.slices > 1) {
      cluster_sync();
      cluster_sync();
    }
  } else {
    take_registers<S::CONSUMER_REGISTERS>();
    for (int row_tile = warp; row_tile < b.tiles * 4; row_tile += S::CONSUMERS / 32) {
      prefetch_row_constants(a, b.first_tile * 64 + row_tile * 16);
    }
    join_named(0, S::CONSUMERS + 32); /* the ring is made */
    const int warpgroup = warp / 4, tiles_here = (b.tiles - warpgroup + S::WARPGROUPS - 1) / S::WARPGROUPS;
    mid_consume_tiles<S, S::M_TILES>(a, b, warpgroup, tiles_here);
    if (a.slices > 1) {
      cluster_sync();
      switch (a.slices) {
        case 2:
          mid_add_slices<S, 2>(a, b);
          break;
        case 4:
          mid_add_slices<S, 4>(a, b);
          break;
        default:
          mid_add_slices<S, 8>(a, b);
      }
      cluster_sync(); /* the others have read this block's sums */
    }
  }
}

#endif
