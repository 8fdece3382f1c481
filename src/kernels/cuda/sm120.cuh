/* SPDX-License-Identifier: Apache-2.0 */
/*
 * y = x W^T with codes and block scales of both straight to the MMA (mma.sync with block scales, one warp). Where everything is: sm120_index.h. Asynchronous copies bring codes and scales as they
 * lie in the layout cuda_fp4_128x4 to shared memory, stages - 1 pairs of 64 k's ahead.
 *
 * The kernels are launched while the one before, the quantiser, is at work (programmatic launch): until it has ended they read weights alone.
 *
 * Order of additions, one for all shapes: an MMA adds 64 k's to the accumulator, in ascending order over a slice of K; slices are added in order, in fp32.
 *
 * Mma::run(d, a, sa, b0, b1, sb) is the instruction: tests/sm120/sm120_emulated.cu has another one, for GPUs that lack it.
 */
#ifndef NVFP4_KERNELS_CUDA_SM120_CUH
#define NVFP4_KERNELS_CUDA_SM120_CUH

#include "kernels/cuda/mma.cuh"
#include "kernels/cuda/sm120_index.h"

/* The other half of a line of 128 bytes comes to L2 too: the next pair wants it. */
__device__ inline void copy_weights_async(uint32_t to, const void *from, uint32_t bytes) {
  asm volatile("cp.async.cg.shared.global.L2::128B [%0], [%1], 16, %2;" ::"r"(to), "l"(from), "r"(bytes) : "memory");
}
__device__ inline void copy_word_async(uint32_t to, const void *from, uint32_t bytes) {
  asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;" ::"r"(to), "l"(from), "r"(bytes) : "memory");
}
__device__ inline uint32_t load_word(uint32_t from) {
  uint32_t v;
  asm volatile("ld.shared.u32 %0, [%1];" : "=r"(v) : "r"(from) : "memory");
  return v;
}

__device__ inline void store_sum(uint32_t to, float v) { asm volatile("st.shared.f32 [%0], %1;" ::"r"(to), "f"(v) : "memory"); }
__device__ inline float load_sum(uint32_t from) { return __uint_as_float(load_word(from)); }

template <int SLABS, int COLUMNS, int WARP_SLABS, int WARP_COLUMNS, int STAGES_>
struct sm120_tile {
  static constexpr sm120_shape SHAPE = {SLABS, COLUMNS, WARP_SLABS, WARP_COLUMNS, STAGES_};
  static constexpr bool SPLIT = SLABS == 1;
  static constexpr int STAGES = STAGES_, STAGE_BYTES = sm120_stage_bytes(SHAPE), GROUP_BYTES = sm120_group_bytes(SHAPE);
  static constexpr int WARPS = sm120_warps(SHAPE), THREADS = 32 * WARPS; /* of a group */
  static constexpr int ROW_TILES = 2 * WARP_SLABS, COLUMN_TILES = WARP_COLUMNS / 8;
  static constexpr int SUMS = ROW_TILES * COLUMN_TILES; /* of a lane, four each */
  static constexpr int ROWS = SLABS * SM120_SLAB;
  static constexpr int CODES = sm120_codes_copies(SHAPE) / THREADS, X_CODES = sm120_x_codes_copies(SHAPE) / THREADS;
  static constexpr int SCALES = sm120_scales_copies(SHAPE), X_SCALES = sm120_x_scales_copies(SHAPE);
  static constexpr int X_SCALES_EACH = (X_SCALES + THREADS - 1) / THREADS;
  static_assert(STAGE_BYTES % 128 == 0 && COLUMN_TILES % 2 == 0 && SCALES <= THREADS && CODES * THREADS == sm120_codes_copies(SHAPE) &&
                X_CODES * THREADS == sm120_x_codes_copies(SHAPE));
  static_assert((!SPLIT || WARPS == 1) && THREADS % ROWS == 0 && sm120_sum_at(SHAPE, COLUMNS, 0) <= GROUP_BYTES);
};

template <class Mma, class S>
__device__ inline void sm120_compute(const cuda_sm120_args &a) {
  extern __shared__ __align__(128) uint8_t shared[];
  const int group = S::SPLIT ? threadIdx.x / S::THREADS : 0, thread = threadIdx.x % S::THREADS, warp = thread / 32, lane = thread % 32;
  const int first_slice = group, last_slice = S::SPLIT ? group + 1 : a.slices;
  const int first_slab = sm120_first_slab(S::SHAPE, a.m, blockIdx.x), first_column = sm120_first_column(S::SHAPE, a.m, blockIdx.x);
  const uint32_t stages = shared_address(shared) + group * S::GROUP_BYTES;
  auto synchronise = [&] { /* the group */
    if (S::SPLIT) {
      __syncwarp();
    } else {
      __syncthreads();
    }
  };

  /* ---- what a thread copies: from the block's first rows on, of the next pair. What is beyond K or M becomes zero. */
  const int row_bytes = (int)a.k_padded / 2, tiles = (int)a.k_padded / 64, m = (int)a.m;
  int pair = sm120_first_pair(a.k_padded, a.slices, first_slice), load_stage = 0;
  const int last_pair = sm120_first_pair(a.k_padded, a.slices, last_slice);
  const uint8_t *codes = a.codes + sm120_codes_base(first_slab, row_bytes) + pair * SM120_PAIR_CODES;
  const uint8_t *x_codes = a.x_codes + sm120_x_codes_base(first_column, row_bytes) + pair * SM120_PAIR_CODES;
  const uint8_t *scales = a.scales + sm120_scales_base(first_slab, tiles) + pair * SM120_PAIR_SCALES;
  const uint8_t *x_scales = a.x_scales + sm120_x_scales_base(first_column, tiles) + pair * SM120_PAIR_SCALES;
  const int half_of_codes = thread / 2 % 2; /* of all of a thread's: its chunk is one */
  sm120_copy of_codes[S::CODES], of_x_codes[S::X_CODES], of_x_scales[S::X_SCALES_EACH];
#pragma unroll
  for (int i = 0; i < S::CODES; i++) {
    of_codes[i] = sm120_codes_copy(first_slab, row_bytes, thread + i * S::THREADS);
  }
#pragma unroll
  for (int i = 0; i < S::X_CODES; i++) {
    of_x_codes[i] = sm120_x_codes_copy(S::SHAPE, first_column, row_bytes, thread + i * S::THREADS);
  }
#pragma unroll
  for (int i = 0; i < S::X_SCALES_EACH; i++) {
    of_x_scales[i] = sm120_x_scales_copy(S::SHAPE, first_column, thread + i * S::THREADS);
  }
  const sm120_copy of_scales = sm120_scales_copy(S::SHAPE, first_slab, thread);
  auto copy_weights = [&](int ahead) { /* of the pair `ahead` of the next */
    if (pair + ahead < last_pair) {
      const uint32_t to = stages + (load_stage + ahead) * S::STAGE_BYTES;
      const int halves = tiles - 2 * (pair + ahead);
#pragma unroll
      for (int i = 0; i < S::CODES; i++) {
        const bool there = half_of_codes < halves;
        copy_weights_async(to + of_codes[i].to, there ? codes + of_codes[i].from + ahead * SM120_PAIR_CODES : a.codes, there ? 16 : 0);
      }
      if (thread < S::SCALES) {
        const bool there = of_scales.half < halves;
        copy_async_16(to + of_scales.to, there ? scales + of_scales.from + ahead * SM120_PAIR_SCALES : a.scales, there ? 16 : 0);
      }
    }
  };
  auto copy_x = [&] { /* and go on to the next pair */
    if (pair < last_pair) {
      const uint32_t to = stages + load_stage * S::STAGE_BYTES;
      const int halves = tiles - 2 * pair;
#pragma unroll
      for (int i = 0; i < S::X_CODES; i++) {
        const bool there = half_of_codes < halves && of_x_codes[i].row < m;
        copy_async_16(to + of_x_codes[i].to, there ? x_codes + of_x_codes[i].from : a.x_codes, there ? 16 : 0);
      }
#pragma unroll
      for (int i = 0; i < S::X_SCALES_EACH; i++) {
        if (thread + i * S::THREADS < S::X_SCALES) {
          const bool there = of_x_scales[i].half < halves && of_x_scales[i].row < m;
          copy_word_async(to + of_x_scales[i].to, there ? x_scales + of_x_scales[i].from : a.x_scales, there ? 4 : 0);
        }
      }
    }
    copy_async_commit();
    pair++;
    codes += SM120_PAIR_CODES;
    x_codes += SM120_PAIR_CODES;
    scales += SM120_PAIR_SCALES;
    x_scales += SM120_PAIR_SCALES;
    load_stage = load_stage + 1 == S::STAGES ? 0 : load_stage + 1;
  };
#pragma unroll
  for (int i = 0; i < S::STAGES - 1; i++) {
    copy_weights(i);
  }
  wait_for_previous(); /* the quantiser */
#pragma unroll
  for (int i = 0; i < S::STAGES - 1; i++) {
    copy_x();
  }

  /* ---- products. Operands of an MMA are loaded while those of the one before are under way. */
  const int warp_slab = sm120_warp_slab(S::SHAPE, warp), warp_column = sm120_warp_column(S::SHAPE, warp);
  float d[S::ROW_TILES][S::COLUMN_TILES][4], total[S::SPLIT ? 1 : S::ROW_TILES][S::COLUMN_TILES][4];
  uint4 w[2][S::ROW_TILES], x[2][S::COLUMN_TILES / 2];
  uint32_t w_scales[2][S::ROW_TILES], x_scales_of[2][S::COLUMN_TILES];
  int stage = 0;
  auto load_operands = [&](int half) {
    const uint32_t at = stages + stage * S::STAGE_BYTES;
#pragma unroll
    for (int r = 0; r < S::ROW_TILES; r++) {
      w[half][r] = load_matrices(at + sm120_matrix_at(warp_slab * SM120_SLAB + 16 * r, half, lane));
      w_scales[half][r] = load_word(at + sm120_scale_at(S::SHAPE, half, warp_slab + r / 2, r % 2, sm120_slot_of_scale(lane)));
    }
#pragma unroll
    for (int c = 0; c < S::COLUMN_TILES; c++) {
      if (c % 2 == 0) {
        x[half][c / 2] = load_matrices(at + sm120_x_codes_at(S::SHAPE) + sm120_matrix_at(warp_column + 8 * c, half, lane));
      }
      x_scales_of[half][c] = load_word(at + sm120_x_scale_at(S::SHAPE, half, warp_column + 8 * c + sm120_column_of_scale(lane)));
    }
  };
  auto multiply = [&](int half) {
#pragma unroll
    for (int c = 0; c < S::COLUMN_TILES; c++) {
#pragma unroll
      for (int r = 0; r < S::ROW_TILES; r++) {
        const uint4 &x2 = x[half][c / 2];
        Mma::run(d[r][c], w[half][r], w_scales[half][r], c % 2 ? x2.y : x2.x, c % 2 ? x2.w : x2.z, x_scales_of[half][c]);
      }
    }
  };
  copy_async_wait<S::STAGES - 2>();
  synchronise();
  load_operands(0);
  for (int slice = first_slice; slice < last_slice; slice++) {
#pragma unroll
    for (int i = 0; i < S::SUMS * 4; i++) {
      d[i / 4 / S::COLUMN_TILES][i / 4 % S::COLUMN_TILES][i % 4] = 0;
    }
    const int pairs = sm120_first_pair(a.k_padded, a.slices, slice + 1) - sm120_first_pair(a.k_padded, a.slices, slice);
    for (int i = 0; i < pairs; i++) {
      copy_weights(0); /* to the stage before this one, which all have read */
      copy_x();
      load_operands(1);
      multiply(0);
      copy_async_wait<S::STAGES - 2>();
      synchronise();
      stage = stage + 1 == S::STAGES ? 0 : stage + 1;
      load_operands(0); /* beyond the last pair they are not used */
      multiply(1);
    }
    if (!S::SPLIT) {
#pragma unroll
      for (int i = 0; i < S::SUMS * 4; i++) {
        const int r = i / 4 / S::COLUMN_TILES, c = i / 4 % S::COLUMN_TILES;
        total[r][c][i % 4] = slice == 0 ? d[r][c][i % 4] : __fadd_rn(total[r][c][i % 4], d[r][c][i % 4]);
      }
    }
  }

  /* ---- y: sums through shared memory, where the group's stages were, so that neighbouring threads write neighbours */
  synchronise();
#pragma unroll
  for (int r = 0; r < S::ROW_TILES; r++) {
#pragma unroll
    for (int c = 0; c < S::COLUMN_TILES; c++) {
#pragma unroll
      for (int i = 0; i < 4; i++) {
        const int place = sm120_place(S::SHAPE, warp_slab + r / 2, r % 2, sm120_slot_of_value(lane, i));
        store_sum(stages + sm120_sum_at(S::SHAPE, warp_column + 8 * c + sm120_column_of_value(lane, i), place), (S::SPLIT ? d[r][c] : total[S::SPLIT ? 0 : r][c])[i]);
      }
    }
  }
  __syncthreads();
  const int n = sm120_row_of_place(S::SHAPE, first_slab, threadIdx.x % S::ROWS);
  if (n >= a.n) {
    return;
  }
  const float alpha = a.alpha[n], bias = a.bias != nullptr ? load_f32(a.bias, a.bias_dtype, n) : -0.0f; /* added to anything, -0 changes no bit */
  const int columns = min(m - first_column, S::SHAPE.columns);
  for (int c = threadIdx.x / S::ROWS; c < columns; c += blockDim.x / S::ROWS) {
    const uint32_t at = shared_address(shared) + sm120_sum_at(S::SHAPE, c, threadIdx.x % S::ROWS);
    float sum = load_sum(at);
    for (int slice = 1; slice < (S::SPLIT ? a.slices : 1); slice++) {
      sum = __fadd_rn(sum, load_sum(at + slice * S::GROUP_BYTES));
    }
    store_f32(a.y, a.y_dtype, (first_column + c) * a.ldy_elems + n, __fmaf_rn(alpha, sum, bias));
  }
}

/* The kernels of a file that has a struct sm120_mma: SM120_SHAPES(NVFP4_SM120_KERNEL). */
#define NVFP4_SM120_KERNEL(name, slabs, ...)                                                                                                       \
  extern "C" __global__ void __launch_bounds__((slabs) == 1 ? SM120_SLICES * 32 : sm120_tile<slabs, __VA_ARGS__>::THREADS, 1)                      \
      nvfp4_sm120_##name(const __grid_constant__ cuda_sm120_args a) {                                                                              \
    sm120_compute<sm120_mma, sm120_tile<slabs, __VA_ARGS__>>(a);                                                                                   \
  }

#endif
