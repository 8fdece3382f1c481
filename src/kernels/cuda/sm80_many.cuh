/* SPDX-License-Identifier: Apache-2.0 */
/*
 * y = x W^T for many rows of x, with the MMA of one warp: y^T = W x^T, with dequantised weights as operand A in registers, and x as operand B from shared memory.
 *
 * A group of warps computes ROWS rows of weights x COLUMNS rows of x over some slices of K. It brings both to shared memory by asynchronous copies, STAGES - 1 blocks of 64 k's ahead. Each
 * warp dequantises its row tiles once, for all columns.
 *
 * Order of additions, that of few.cuh too: an MMA adds 16 k's to the accumulator, in ascending order over a slice of K; slices are added in order, in fp32. Where the slices are:
 *   SEQUENCE   a thread block is one group, which computes all slices, one after the other
 *   SPLIT      a thread block has a group for each slice: for layers with too few tiles to keep a GPU at work
 */
#ifndef NVFP4_KERNELS_CUDA_SM80_MANY_CUH
#define NVFP4_KERNELS_CUDA_SM80_MANY_CUH

#include "kernels/cuda/tiles.cuh"

enum slicing { SEQUENCE, SPLIT };

template <class X_, int ROW_TILES_, int COLUMN_TILES_, int WARPS_, int STAGES_, slicing SLICING_>
struct many_shape {
  using X = X_;
  static constexpr int ROW_TILES = ROW_TILES_, COLUMN_TILES = COLUMN_TILES_; /* of 16 and of 8, of a warp */
  static constexpr int WARPS = WARPS_;                                       /* of a group: they share the columns */
  static constexpr int STAGES = STAGES_;
  static constexpr slicing SLICING = SLICING_;
  static constexpr int THREADS = 32 * WARPS; /* a group */
  static constexpr int ROWS = 16 * ROW_TILES * WARPS, COLUMNS = 8 * COLUMN_TILES;
  /* A stage: x [COLUMNS][64], the 16-byte chunk c of row r at c ^ r % 8; codes [row tiles][32 lanes] of 16 bytes; scales [row tiles][8 g] of 8 bytes. */
  static constexpr int CODES_AT = COLUMNS * 128, SCALES_AT = CODES_AT + ROWS / 16 * 512, STAGE_BYTES = SCALES_AT + ROWS / 16 * 64;
  static constexpr int GROUP_BYTES = STAGES * STAGE_BYTES;
  static_assert(GROUP_BYTES == CUDA_SM80_GROUP_BYTES(ROWS, COLUMNS, STAGES));
  static constexpr int SUMS = COLUMN_TILES * ROW_TILES; /* of a lane, float4 */
  static_assert(STAGE_BYTES % 128 == 0 && 256 % ROWS == 0 && ROWS / 16 * 8 <= THREADS && COLUMN_TILES % 2 == 0);
  static_assert(SLICING != SPLIT || SUMS * THREADS * 16 <= GROUP_BYTES);
};

/* Copies if `copy`; without a branch, across which the compiler would not mix copies and MMAs. Of 16 bytes, `bytes` are copied and the rest becomes zero. */
__device__ inline void copy_async_16_if(bool copy, uint32_t to, const void *from, uint32_t bytes) {
  asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, %0, 0;\n@p cp.async.cg.shared.global [%1], [%2], 16, %3;\n}" ::"r"((int)copy), "r"(to), "l"(from), "r"(bytes) : "memory");
}
__device__ inline void copy_async_8_if(bool copy, uint32_t to, const void *from) {
  asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, %0, 0;\n@p cp.async.ca.shared.global [%1], [%2], 8;\n}" ::"r"((int)copy), "r"(to), "l"(from) : "memory");
}

template <class S>
__device__ inline void many_rows(const cuda_mma_args &a) {
  using X = typename S::X;
  extern __shared__ __align__(128) uint8_t shared[];
  const int group = S::SLICING == SPLIT ? threadIdx.x / S::THREADS : 0, thread = threadIdx.x % S::THREADS, warp = thread / 32, lane = thread % 32;
  const int pairs = (int)((a.k + CUDA_MMA_PAIR - 1) / CUDA_MMA_PAIR), weight_tiles = (int)((a.n + CUDA_MMA_ROWS - 1) / CUDA_MMA_ROWS);
  const int first_slice = group, last_slice = S::SLICING == SPLIT ? group + 1 : a.slices;
  const int first_pair = first_slice * pairs / a.slices, last_pair = last_slice * pairs / a.slices;
  const tile_order order = {(int)((a.n + S::ROWS - 1) / S::ROWS), (int)((a.m + S::COLUMNS - 1) / S::COLUMNS)};
  int row_tile, column_tile;
  order.place(blockIdx.x, &row_tile, &column_tile);
  const int row0 = row_tile * S::ROWS, column0 = column_tile * S::COLUMNS;
  const uint32_t stages = shared_address(shared) + group * S::GROUP_BYTES;
  auto synchronise = [&] { /* the group */
    if (S::WARPS == 1) {
      __syncwarp();
    } else {
      asm volatile("bar.sync %0, %1;" ::"r"(1 + group), "n"(S::THREADS) : "memory");
    }
  };

  /* ---- what a thread copies: of the weights some lanes' codes and one g's scales, of x chunk `chunk` of some rows */
  constexpr int CODE_COPIES = S::ROWS / 16 * 32 / S::THREADS, X_COPIES = S::COLUMNS * 8 / S::THREADS;
  const int first_tile = row0 / (CUDA_MMA_ROWS * CUDA_MMA_GROUP) * CUDA_MMA_GROUP, width = min(weight_tiles - first_tile, (int)CUDA_MMA_GROUP);
  auto tile_of = [&](int which) { return (min(which / 4, weight_tiles - 1) - first_tile) * CUDA_MMA_TILE_BYTES; }; /* beyond the layer's last tile: not used */
  int codes_from[CODE_COPIES];
#pragma unroll
  for (int i = 0; i < CODE_COPIES; i++) {
    const int which = row0 / 16 + warp + i * S::WARPS;
    codes_from[i] = tile_of(which) + which % 4 * 1024 + lane * 16;
  }
  const bool has_scales = thread < S::ROWS / 16 * 8;
  const int scales_of = row0 / 16 + thread / 8, scales_from = tile_of(scales_of) + CUDA_MMA_SCALES_AT + scales_of % 4 * 128 + thread % 8 * 16;
  const uint8_t *weights = a.weights + ((size_t)first_tile * pairs + (size_t)first_pair * width) * CUDA_MMA_TILE_BYTES; /* of the next pair */
  const int chunk = thread % 8, x_row = thread / 8, columns = min((int)a.m - column0, S::COLUMNS);
  const uint8_t *x = static_cast<const uint8_t *>(a.x) + ((size_t)column0 * a.ldx_elems + (size_t)first_pair * CUDA_MMA_PAIR + chunk * 8) * 2; /* of the next 64 k's */
  size_t x_from[X_COPIES];
#pragma unroll
  for (int i = 0; i < X_COPIES; i++) {
    x_from[i] = (x_row + i * (S::THREADS / 8)) * a.ldx_elems * 2;
  }
  int x_left = (int)a.k - first_pair * CUDA_MMA_PAIR - chunk * 8, left = 2 * (last_pair - first_pair), block = 0, load_stage = 0;
  auto load = [&] {
    const uint32_t to = stages + load_stage * S::STAGE_BYTES;
    const bool copy = left > 0;
#pragma unroll
    for (int i = 0; i < CODE_COPIES; i++) {
      copy_async_16_if(copy, to + S::CODES_AT + (thread + i * S::THREADS) * 16, weights + codes_from[i] + block * 512, 16);
    }
    copy_async_8_if(copy && has_scales, to + S::SCALES_AT + thread * 8, weights + scales_from + block * 8);
    const uint8_t *from = x_left > 0 ? x : static_cast<const uint8_t *>(a.x);
#pragma unroll
    for (int i = 0; i < X_COPIES; i++) { /* rows beyond M stay what they are: a column of operand B does not reach the others */
      const int row = x_row + i * (S::THREADS / 8);
      copy_async_16_if(copy && row < columns, to + row * 128 + ((chunk ^ (row & 7)) << 4), from + x_from[i], x_left > 0 ? 16 : 0);
    }
    copy_async_commit();
    x += 128;
    x_left -= 64;
    block ^= 1;
    weights += block == 0 ? width * CUDA_MMA_TILE_BYTES : 0;
    load_stage = load_stage + 1 == S::STAGES ? 0 : load_stage + 1;
    left--;
  };
#pragma unroll
  for (int i = 0; i < S::STAGES - 1; i++) {
    load();
  }

  /* ---- products. Operands of a step are made while the MMAs of the one before are under way. */
  float d[S::ROW_TILES][S::COLUMNS / 2], total[S::SLICING == SEQUENCE ? S::ROW_TILES : 1][S::COLUMNS / 2];
  uint32_t words[S::ROW_TILES][4];
  uint2 scales[S::ROW_TILES][2]; /* of slots g and g + 8 */
  fragment w[2][S::ROW_TILES];
  uint4 b[2][S::COLUMN_TILES / 2];
  const uint32_t x_of_lane = lane / 16 * 1024 + lane % 8 * 128 + ((lane / 8 % 2 ^ lane % 8) << 4); /* for load_matrices: two column tiles, 16 k's */
  int stage = 0;
  auto load_words = [&] {
    const uint32_t at = stages + stage * S::STAGE_BYTES;
#pragma unroll
    for (int r = 0; r < S::ROW_TILES; r++) {
      const int which = warp * S::ROW_TILES + r;
      uint2 bytes;
      asm volatile("ld.shared.v4.u32 {%0, %1, %2, %3}, [%4];"
                   : "=r"(words[r][0]), "=r"(words[r][1]), "=r"(words[r][2]), "=r"(words[r][3])
                   : "r"(at + S::CODES_AT + which * 512 + lane * 16)
                   : "memory");
      asm volatile("ld.shared.v2.u32 {%0, %1}, [%2];" : "=r"(bytes.x), "=r"(bytes.y) : "r"(at + S::SCALES_AT + which * 64 + lane / 4 * 8) : "memory");
      scales[r][0] = X::scales(bytes.x);
      scales[r][1] = X::scales(bytes.y);
    }
  };
  auto make_operands = [&](int step) {
#pragma unroll
    for (int c = 0; c < S::COLUMN_TILES / 2; c++) {
      b[step % 2][c] = load_matrices(stages + stage * S::STAGE_BYTES + c * 2048 + (x_of_lane ^ step * 32));
    }
#pragma unroll
    for (int r = 0; r < S::ROW_TILES; r++) {
      w[step % 2][r] = X::weights(words[r][step], scale_of_step(scales[r][0], step), scale_of_step(scales[r][1], step));
    }
  };
  copy_async_wait<S::STAGES - 2>();
  synchronise();
  load_words();
  make_operands(0);
  for (int slice = first_slice; slice < last_slice; slice++) {
#pragma unroll
    for (int r = 0; r < S::ROW_TILES; r++) {
#pragma unroll
      for (int i = 0; i < S::COLUMNS / 2; i++) {
        d[r][i] = 0;
      }
    }
    for (int blocks = 2 * ((slice + 1) * pairs / a.slices - slice * pairs / a.slices); blocks > 0; blocks--) {
#pragma unroll
      for (int step = 0; step < 4; step++) {
        if (step == 0) { /* to the stage before this one, which all have read */
          load();
        } else if (step == 3) { /* beyond the last block what is read of the next stage is not used */
          copy_async_wait<S::STAGES - 2>();
          synchronise();
          stage = stage + 1 == S::STAGES ? 0 : stage + 1;
          load_words();
        }
        make_operands((step + 1) % 4);
#pragma unroll
        for (int c = 0; c < S::COLUMN_TILES; c++) {
#pragma unroll
          for (int r = 0; r < S::ROW_TILES; r++) {
            const uint4 &x2 = b[step % 2][c / 2];
            X::mma(reinterpret_cast<float(&)[4]>(d[r][4 * c]), w[step % 2][r], c % 2 ? x2.z : x2.x, c % 2 ? x2.w : x2.y);
          }
        }
      }
    }
    if (S::SLICING == SEQUENCE) {
#pragma unroll
      for (int r = 0; r < S::ROW_TILES; r++) {
#pragma unroll
        for (int i = 0; i < S::COLUMNS / 2; i++) {
          total[r][i] = slice == 0 ? d[r][i] : __fadd_rn(total[r][i], d[r][i]);
        }
      }
    }
  }

  /* ---- y */
  const int row_of_warp = row0 + warp * S::ROW_TILES * 16;
  if (S::SLICING == SEQUENCE) {
#pragma unroll
    for (int r = 0; r < S::ROW_TILES; r++) {
      store_columns<X, S::COLUMNS>(a, row_of_warp + r * 16, column0, total[r]);
    }
    return;
  }
  float4 *sums = reinterpret_cast<float4 *>(shared); /* [slices][SUMS][threads]; the stages are no longer used */
  __syncthreads();
#pragma unroll
  for (int i = 0; i < S::SUMS; i++) {
    const float *v = &d[i / S::COLUMN_TILES][i % S::COLUMN_TILES * 4];
    sums[(group * S::SUMS + i) * S::THREADS + thread] = make_float4(v[0], v[1], v[2], v[3]);
  }
  __syncthreads();
  for (int i = group; i < S::SUMS; i += a.slices) { /* a group adds some of them, in order */
    float sum[4];
    for (int slice = 0; slice < a.slices; slice++) {
      const float4 v = sums[(slice * S::SUMS + i) * S::THREADS + thread];
      const float part[4] = {v.x, v.y, v.z, v.w};
#pragma unroll
      for (int j = 0; j < 4; j++) {
        sum[j] = slice == 0 ? part[j] : __fadd_rn(sum[j], part[j]);
      }
    }
    store_columns<X, 8>(a, row_of_warp + i / S::COLUMN_TILES * 16, column0 + i % S::COLUMN_TILES * 8, sum);
  }
}

#endif
