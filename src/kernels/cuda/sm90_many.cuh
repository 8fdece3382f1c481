/* SPDX-License-Identifier: Apache-2.0 */
/*
 * y = x W^T for many rows of x, on the warpgroup's tensor cores: y^T = W x^T, with dequantised weights as operand A in registers, and x as operand B in shared memory.
 *
 * A thread block computes a tile of y: ROWS weight rows x COLUMNS rows of x. The first warpgroup brings weights (bulk copies) and x (through registers), WARPGROUPS others compute 64 M_TILES rows each. Stages of 128 k's go round between them.
 *
 * Order of additions, that of few.cuh too: an MMA adds 16 k's to the accumulator, in ascending order over a slice of K; slices are added in order, in fp32. Where the slices are:
 *   CLUSTER    each block of a cluster of args.slices blocks computes one slice; the sums meet through shared memory of the cluster. One tile a cluster.
 *   SEQUENCE   a block computes all slices, one after the other, and persists over tiles.
 *   WHOLE      as SEQUENCE, for args.slices = 1: no second set of sums
 */
#ifndef NVFP4_KERNELS_CUDA_SM90_MANY_CUH
#define NVFP4_KERNELS_CUDA_SM90_MANY_CUH

#include "kernels/cuda/sm90.cuh"
#include "kernels/cuda/tiles.cuh"

enum slicing { CLUSTER, SEQUENCE, WHOLE };

template <class X_, int COLUMNS_, int WARPGROUPS_, int M_TILES_, int BUFFERS_, int STAGES_, slicing SLICING_, int PRODUCER_REGISTERS_, int CONSUMER_REGISTERS_>
struct many_shape {
  using X = X_;
  static constexpr int COLUMNS = COLUMNS_, WARPGROUPS = WARPGROUPS_, M_TILES = M_TILES_, STAGES = STAGES_;
  static constexpr int BUFFERS = BUFFERS_; /* of operand A: 2 if the MMAs of one are under way while the other is made; 1 leaves that to the other warpgroups */
  static constexpr slicing SLICING = SLICING_;
  static constexpr int PRODUCER_REGISTERS = PRODUCER_REGISTERS_, CONSUMER_REGISTERS = CONSUMER_REGISTERS_;
  static constexpr int TILES = WARPGROUPS * M_TILES, ROWS = 64 * TILES, THREADS = 128 * (WARPGROUPS + 1);
  static constexpr int X_BYTES = COLUMNS * CUDA_MMA_PAIR * 2, W_BYTES = TILES * CUDA_MMA_TILE_BYTES, STAGE_BYTES = (X_BYTES + W_BYTES + 1023) / 1024 * 1024;
  static constexpr int PARTIAL_STRIDE = ROWS + 8; /* floats; CLUSTER: sums of a slice, [COLUMNS][ROWS], padded against bank conflicts */
  static constexpr int SHARED_BYTES = STAGES * STAGE_BYTES + 1024 + 16 * STAGES; /* 1024: to begin at a multiple of it */
  static_assert(SLICING != CLUSTER || COLUMNS * PARTIAL_STRIDE * 4 <= STAGES * STAGE_BYTES);
  static_assert(SHARED_BYTES <= 227 * 1024);
};

template <class S>
__device__ inline void many_rows(const cuda_mma_args &a) {
  using X = typename S::X;
  extern __shared__ uint8_t unaligned[];
  const uint32_t shared = (shared_address(unaligned) + 1023) & ~1023u, full = shared + S::STAGES * S::STAGE_BYTES, empty = full + 8 * S::STAGES;
  launch_dependents();
  if (threadIdx.x == 0) {
    for (int i = 0; i < S::STAGES; i++) {
      barrier_init(full + 8 * i, 1 + 4); /* the weights, and four warps with x */
      barrier_init(empty + 8 * i, 4 * S::WARPGROUPS);
    }
    asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
  }
  __syncthreads();

  const int pairs = (int)((a.k + CUDA_MMA_PAIR - 1) / CUDA_MMA_PAIR);
  const tile_order order = {(int)((a.n + S::ROWS - 1) / S::ROWS), (int)((a.m + S::COLUMNS - 1) / S::COLUMNS)};
  const int tiles = order.row_tiles * order.column_tiles;
  const bool cluster = S::SLICING == CLUSTER;
  const int rank = cluster ? (int)(blockIdx.x % a.slices) : 0;
  const int first_pair = cluster ? rank * pairs / a.slices : 0, last_pair = cluster ? (rank + 1) * pairs / a.slices : pairs;
  const int first_tile = cluster ? blockIdx.x / a.slices : blockIdx.x, tile_step = cluster ? tiles : gridDim.x;
  const int lane = threadIdx.x % 32;
  int stage = 0;
  unsigned phase = 0;
  auto advance = [&] {
    if (++stage == S::STAGES) {
      stage = 0;
      phase ^= 1;
    }
  };

  if (threadIdx.x < 128) { /* ---- producers */
    give_registers<S::PRODUCER_REGISTERS>();
    const int warp = threadIdx.x / 32;

    /* Weights: one thread, which follows `weights` through tiles and pairs. */
    const int weight_tiles = (int)((a.n + CUDA_MMA_ROWS - 1) / CUDA_MMA_ROWS);
    static_assert(CUDA_MMA_GROUP % S::TILES == 0, "a block's tiles lie together");
    int weights_tile = first_tile - tile_step, weights_left = 0;
    unsigned weights_bytes = 0, pair_bytes = 0;
    const uint8_t *weights = nullptr;
    auto fetch_weights = [&](int to_stage) {
      if (weights_left == 0) {
        weights_tile += tile_step;
        if (weights_tile >= tiles) {
          return;
        }
        int row_tile, column_tile;
        order.place(weights_tile, &row_tile, &column_tile);
        weights_left = last_pair - first_pair;
        const int tile0 = row_tile * S::TILES, group = tile0 / CUDA_MMA_GROUP * CUDA_MMA_GROUP, width = min(weight_tiles - group, (int)CUDA_MMA_GROUP);
        weights_bytes = min(S::TILES, weight_tiles - tile0) * CUDA_MMA_TILE_BYTES;
        pair_bytes = width * CUDA_MMA_TILE_BYTES;
        weights = a.weights + ((size_t)group * pairs + first_pair * width + tile0 - group) * CUDA_MMA_TILE_BYTES;
      }
      barrier_expect(full + 8 * to_stage, weights_bytes);
      copy_bulk(shared + to_stage * S::STAGE_BYTES + S::X_BYTES, weights, weights_bytes, full + 8 * to_stage);
      weights += pair_bytes;
      weights_left--;
    };
    if (threadIdx.x == 0) {
      for (int i = 0; i < S::STAGES; i++) {
        fetch_weights(i);
      }
    }
    wait_for_previous();

    /*
     * x: a warp reads 4 rows of 64 k's at once, a lane 8 k's of them: a chunk of 16 bytes, which it stores where operand B's swizzle has it.
     */
    constexpr int UNITS = S::COLUMNS / 16, SET = UNITS < 4 ? UNITS : 4, PARTS = UNITS / SET, PER_PAIR = 2 * PARTS; /* a set: up to 16 rows of 64 k's; so many sets a pair */
    constexpr int SETS = SET == 1 ? 8 : 16 / SET, UNROLL = SETS > PER_PAIR ? SETS : PER_PAIR;
    static_assert(UNITS % SET == 0 && UNROLL % SETS == 0 && UNROLL % PER_PAIR == 0);
    uint4 ring[SETS][SET]; /* what is under way */
    int load_tile = first_tile, load_pair = first_pair, row_tile, column_tile;
    const int row_of_lane = warp * UNITS * 4 + lane / 8, chunk = lane % 8, k_of_lane = chunk * 8;
    order.place(load_tile, &row_tile, &column_tile);
    const int ldx_bytes = (int)a.ldx_elems * 2;
    auto load = [&](uint4 (&set)[SET], int which) { /* which of a pair; what is beyond K is cleared before it is stored, and rows beyond M are not used */
      if (load_tile < tiles) {
        const int k = min(load_pair * CUDA_MMA_PAIR + which / PARTS * 64 + k_of_lane, (int)a.k - 8);
        const int row = column_tile * S::COLUMNS + row_of_lane + which % PARTS * SET * 4;
        const uint8_t *from = static_cast<const uint8_t *>(a.x) + 2 * k;
#pragma unroll
        for (int u = 0; u < SET; u++) {
          set[u] = __ldg(reinterpret_cast<const uint4 *>(from + (long long)min(row + 4 * u, (int)a.m - 1) * ldx_bytes));
        }
        if (which == PER_PAIR - 1 && ++load_pair == last_pair) {
          load_pair = first_pair;
          load_tile += tile_step;
          order.place(load_tile, &row_tile, &column_tile);
        }
      }
    };
#pragma unroll
    for (int i = 0; i < SETS; i++) {
      load(ring[i], i % PER_PAIR);
    }
    const int offset_even = row_of_lane * 128 + ((chunk ^ (row_of_lane & 7)) << 4), offset_odd = row_of_lane * 128 + ((chunk ^ (row_of_lane & 7) ^ 4) << 4);
    const int tiles_here = first_tile < tiles ? (tiles - first_tile + tile_step - 1) / tile_step : 0, count = tiles_here * (last_pair - first_pair);
    int pair = first_pair;
    for (int done = 0; done < count;) {
#pragma unroll
      for (int i = 0; i < UNROLL; i++) {
        if (i % PER_PAIR == 0) {
          if (done == count) {
            break;
          }
          barrier_wait(empty + 8 * stage, phase ^ 1);
          if (threadIdx.x == 0 && done >= S::STAGES) {
            fetch_weights(stage);
          }
          __syncwarp();
        }
        const int which = i % PER_PAIR, block = which / PARTS, part = which % PARTS;
        if ((pair + 1) * CUDA_MMA_PAIR > (int)a.k) { /* the last one, for some K: the same for all */
          const bool inside = pair * CUDA_MMA_PAIR + block * 64 + k_of_lane < a.k;
#pragma unroll
          for (int u = 0; u < SET; u++) {
            ring[i % SETS][u] = inside ? ring[i % SETS][u] : make_uint4(0, 0, 0, 0);
          }
        }
        const uint32_t to = shared + stage * S::STAGE_BYTES + block * S::COLUMNS * 128;
#pragma unroll
        for (int u = part * SET; u < (part + 1) * SET; u++) {
          const uint4 &v = ring[i % SETS][u - part * SET];
          asm volatile("st.shared.v4.u32 [%0], {%1, %2, %3, %4};" ::"r"(to + u * 512 + (u % 2 ? offset_odd : offset_even)), "r"(v.x), "r"(v.y), "r"(v.z), "r"(v.w)
                       : "memory");
        }
        load(ring[i % SETS], (i + SETS) % PER_PAIR);
        if (which == PER_PAIR - 1) {
          __syncwarp();
          if (lane == 0) {
            barrier_arrive(full + 8 * stage);
          }
          advance();
          done++;
          pair = pair + 1 == last_pair ? first_pair : pair + 1;
        }
      }
    }
  } else { /* ---- consumers */
    take_registers<S::CONSUMER_REGISTERS>();
    const int warpgroup = threadIdx.x / 128 - 1, warp = threadIdx.x / 32 % 4;
    float d[S::M_TILES][S::COLUMNS / 2], total[S::SLICING == SEQUENCE ? S::M_TILES : 1][S::COLUMNS / 2];
    for (int tile = first_tile; tile < tiles; tile += tile_step) {
      int row_tile, column_tile;
      order.place(tile, &row_tile, &column_tile);
      const int slices = S::SLICING == SEQUENCE ? a.slices : 1;
      int pair = first_pair;
      for (int slice = 0; slice < slices; slice++) {
        const int slice_end = S::SLICING == SEQUENCE ? (slice + 1) * pairs / slices : last_pair;
        bool add = false;
        int before = -1; /* a stage that is not yet given back */
        for (; pair < slice_end; pair++) {
          barrier_wait(full + 8 * stage, phase);
          fence_shared_for_wgmma();
          const uint32_t x_at = shared + stage * S::STAGE_BYTES, w = x_at + S::X_BYTES + warpgroup * S::M_TILES * CUDA_MMA_TILE_BYTES;
          fragment frag[S::BUFFERS][4];
#pragma unroll
          for (int block = 0; block < 2; block++) {
#pragma unroll
            for (int i = 0; i < S::M_TILES; i++) {
              uint4 words;
              uint2 scales; /* of slots g and g + 8 */
              const uint32_t from = w + i * CUDA_MMA_TILE_BYTES;
              asm volatile("ld.shared.v4.u32 {%0, %1, %2, %3}, [%4];"
                           : "=r"(words.x), "=r"(words.y), "=r"(words.z), "=r"(words.w)
                           : "r"(from + warp * 1024 + block * 512 + lane * 16));
              asm volatile("ld.shared.v2.u32 {%0, %1}, [%2];"
                           : "=r"(scales.x), "=r"(scales.y)
                           : "r"(from + CUDA_MMA_SCALES_AT + warp * 128 + lane / 4 * 16 + block * 8));
              const int which = (block * S::M_TILES + i) % S::BUFFERS;
              wgmma_wait<S::BUFFERS - 1>(); /* frag[which] is free */
              asm volatile("" : "+r"(words.x), "+r"(words.y), "+r"(words.z), "+r"(words.w), "+r"(scales.x), "+r"(scales.y)::"memory");
              if (block * S::M_TILES + i == S::BUFFERS - 1) { /* nothing of the stage before is under way */
                barrier_arrive_if(empty + 8 * before, lane == 0 && before >= 0);
              }
              const uint2 s0 = X::scales(scales.x), s1 = X::scales(scales.y);
              const uint32_t word[4] = {words.x, words.y, words.z, words.w};
#pragma unroll
              for (int step = 0; step < 4; step++) {
                frag[which][step] = X::weights(word[step], scale_of_step(s0, step), scale_of_step(s1, step));
              }
              const uint32_t b = wgmma_descriptor(x_at + block * S::COLUMNS * 128);
              wgmma_fence(frag[which]);
#pragma unroll
              for (int step = 0; step < 4; step++) {
                wgmma<X, S::COLUMNS>::run(d[i], frag[which][step], b + step * WGMMA_STEP, add || block > 0 || step > 0);
              }
              wgmma_commit();
            }
          }
          add = true;
          before = stage;
          advance();
        }
        wgmma_wait<0>();
        __syncwarp();
        if (lane == 0) {
          barrier_arrive(empty + 8 * before);
        }
        if (S::SLICING == SEQUENCE) {
#pragma unroll
          for (int i = 0; i < S::M_TILES; i++) {
#pragma unroll
            for (int j = 0; j < S::COLUMNS / 2; j++) {
              total[i][j] = slice == 0 ? d[i][j] : __fadd_rn(total[i][j], d[i][j]);
            }
          }
        }
      }
      const int row0 = row_tile * S::ROWS + warpgroup * S::M_TILES * 64 + warp * 16;
      if (S::SLICING != CLUSTER) {
#pragma unroll
        for (int i = 0; i < S::M_TILES; i++) {
          store_columns<X, S::COLUMNS>(a, row0 + i * 64, column_tile * S::COLUMNS, S::SLICING == SEQUENCE ? total[i] : d[i]);
        }
      } else { /* sums to shared memory: the stages are no longer used */
        asm volatile("bar.sync 1, %0;" ::"n"(128 * S::WARPGROUPS) : "memory");
        const int column = 2 * (lane % 4), row = warpgroup * S::M_TILES * 64 + warp * 16 + row_of_slot(lane / 4);
        const uint32_t to = shared + (column * S::PARTIAL_STRIDE + row) * 4;
#pragma unroll
        for (int i = 0; i < S::M_TILES; i++) {
#pragma unroll
          for (int j = 0; j < S::COLUMNS / 2; j++) {
            const int offset = (j / 4 * 8 + j % 2) * S::PARTIAL_STRIDE + i * 64 + j / 2 % 2 * 2;
            asm volatile("st.shared.f32 [%0], %1;" ::"r"(to + offset * 4), "f"(d[i][j]) : "memory");
          }
        }
      }
    }
  }
  __syncwarp();
  if (cluster) { /* each block adds the slices of its part of the columns, in order */
    cluster_sync();
    int row_tile, column_tile;
    order.place(first_tile, &row_tile, &column_tile);
    const int columns = min(S::COLUMNS, (int)a.m - column_tile * S::COLUMNS);
    for (int i = threadIdx.x; i < (columns - rank + a.slices - 1) / a.slices * (S::ROWS / 4); i += S::THREADS) {
      const int column = rank + i / (S::ROWS / 4) * a.slices, row = i % (S::ROWS / 4) * 4;
      const uint32_t at = shared + (column * S::PARTIAL_STRIDE + row) * 4;
      float4 sum = load_of_cluster(at, 0);
      for (int s = 1; s < a.slices; s++) {
        const float4 v = load_of_cluster(at, s);
        sum.x = __fadd_rn(sum.x, v.x);
        sum.y = __fadd_rn(sum.y, v.y);
        sum.z = __fadd_rn(sum.z, v.z);
        sum.w = __fadd_rn(sum.w, v.w);
      }
      const float four[4] = {sum.x, sum.y, sum.z, sum.w};
#pragma unroll
      for (int j = 0; j < 4; j++) {
        const long long n = (long long)row_tile * S::ROWS + row + j;
        if (n < a.n) {
          store_result(a, column_tile * S::COLUMNS + column, n, four[j], X::UNSCALE);
        }
      }
    }
    cluster_sync(); /* the others have read this block's sums */
  }
}

#endif
