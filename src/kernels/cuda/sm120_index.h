/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cuda_sm120_w4a4: where everything is. Integer functions alone, for the device (sm120.cuh) and for the host, where tests/sm120/simulate.c computes whole thread blocks through them.
 *
 * y^T = W x^T: rows of weights are rows of operand A, rows of x are columns of operand B. A thread block has one group of warps, or one for each slice of K; a group computes 32 `slabs` rows of
 * weights x `columns` rows of x, and a warp 32 `warp_slabs` x `warp_columns` of them. It takes 128 k's (a pair of 64, the k's of an MMA) at a time, in stages of shared memory:
 *
 *   stage:  codes of W [32 slabs][64 bytes], codes of x [columns][64 bytes], scales of W [2][slabs][8 j][4 i], scales of x [2][columns], four (64 k's) in a word
 *
 * Rows. A slab is those 32 of a tile of 128 rows of the layout cuda_fp4_128x4 whose scales of 64 k's are 128 bytes that lie together: rows 8 slab + 32 i + j of the tile, i < 4, j < 8. It is two
 * row tiles of an MMA: slot s of row tile r holds i = 2 r + s / 8, j = s % 8. Lanes then read their scales from different banks.
 *
 * Codes. Rows of 64 bytes are four chunks of 16, which change places so that eight rows of a chunk, which ldmatrix reads at a time, lie in different banks.
 */
#ifndef NVFP4_KERNELS_CUDA_SM120_INDEX_H
#define NVFP4_KERNELS_CUDA_SM120_INDEX_H

#include <stdint.h>

#ifdef __CUDACC__
#define SM120_FUNCTION __host__ __device__ constexpr
#else
#define SM120_FUNCTION static inline
#endif

typedef struct sm120_shape {
  int slabs, columns;           /* of a group */
  int warp_slabs, warp_columns; /* of a warp */
  int stages;
} sm120_shape;

/* name, and the members of sm120_shape. One slab: the groups of a block are the slices of K. More: a group computes all slices, one after the other. */
#define SM120_SHAPES(X)          \
  X(split16, 1, 16, 1, 16, 4)    \
  X(split32, 1, 32, 1, 32, 3)    \
  X(split64, 1, 64, 1, 64, 3)    \
  X(sequence64, 4, 64, 2, 16, 5) \
  X(sequence128, 4, 128, 2, 32, 5)

enum {
  SM120_SLICES = 4,         /* at most */
  SM120_SLAB = 32,          /* rows */
  SM120_PAIR_CODES = 64,    /* bytes of a row's codes of a pair */
  SM120_PAIR_SCALES = 1024, /* bytes from a pair's scales to the next pair's, in the layout 128x4 */
  SM120_PIECE = 16          /* bytes of a copy, but of the scales of x, which are copied in words */
};

/* ------------------------------------------------------------------------------------------------------------------ the grid */

/* Slabs that have a row below n. */
SM120_FUNCTION int sm120_slabs(int64_t n) { return (int)(n / 128 * 4 + (n % 128 >= 32 ? 4 : (n % 128 + 7) / 8)); }

/* Tiles of y, of a group's size: the blocks of a grid. All tiles of the same weights follow each other. */
SM120_FUNCTION int64_t sm120_row_tiles(sm120_shape s, int64_t n) { return (sm120_slabs(n) + s.slabs - 1) / s.slabs; }
SM120_FUNCTION int64_t sm120_column_tiles(sm120_shape s, int64_t m) { return (m + s.columns - 1) / s.columns; }

/* The first slab, and the first row of x, of a block. */
SM120_FUNCTION int sm120_first_slab(sm120_shape s, int64_t m, int64_t block) { return (int)(block / sm120_column_tiles(s, m)) * s.slabs; }
SM120_FUNCTION int sm120_first_column(sm120_shape s, int64_t m, int64_t block) {
  return (int)(block % sm120_column_tiles(s, m)) * s.columns;
}

/* Slice i begins with this pair of k's; k_padded: a multiple of 64. */
SM120_FUNCTION int sm120_first_pair(int64_t k_padded, int slices, int slice) { return (int)((k_padded + 127) / 128 * slice / slices); }

SM120_FUNCTION int sm120_warps(sm120_shape s) { return s.slabs / s.warp_slabs * (s.columns / s.warp_columns); } /* of a group */
SM120_FUNCTION int sm120_warp_slab(sm120_shape s, int warp) { return warp % (s.slabs / s.warp_slabs) * s.warp_slabs; }
SM120_FUNCTION int sm120_warp_column(sm120_shape s, int warp) { return warp / (s.slabs / s.warp_slabs) * s.warp_columns; }

/* Row of the weights: slot of an MMA, row tile 0 or 1 of a slab. */
SM120_FUNCTION int sm120_row(int slab, int row_tile, int slot) {
  return slab / 4 * 128 + slab % 4 * 8 + (2 * row_tile + slot / 8) * 32 + slot % 8;
}

/* ------------------------------------------------------------------------------------------------------------- shared memory */

SM120_FUNCTION int sm120_x_codes_at(sm120_shape s) { return s.slabs * SM120_SLAB * SM120_PAIR_CODES; }
SM120_FUNCTION int sm120_scales_at(sm120_shape s) { return sm120_x_codes_at(s) + s.columns * SM120_PAIR_CODES; }
SM120_FUNCTION int sm120_x_scales_at(sm120_shape s) { return sm120_scales_at(s) + 2 * s.slabs * SM120_SLAB * 4; }
SM120_FUNCTION int sm120_stage_bytes(sm120_shape s) { return sm120_x_scales_at(s) + 2 * s.columns * 4; }
SM120_FUNCTION int sm120_group_bytes(sm120_shape s) { return s.stages * sm120_stage_bytes(s); }

/* 16 bytes of a row's codes */
SM120_FUNCTION int sm120_chunk_at(int row, int chunk) { return row * SM120_PAIR_CODES + (chunk ^ (row / 2 & 3)) * SM120_PIECE; }

/* At the end, instead of stages, sums of a group: [columns][rows, in ascending order, and four more: lanes write to different banks] */
SM120_FUNCTION int sm120_place(sm120_shape s, int slab, int row_tile, int slot) {
  return ((2 * row_tile + slot / 8) * s.slabs + slab) * 8 + slot % 8;
}
SM120_FUNCTION int sm120_row_of_place(sm120_shape s, int first_slab, int place) {
  return first_slab / 4 * 128 + first_slab % 4 * 8 + place / (8 * s.slabs) * 32 + place % (8 * s.slabs);
}
SM120_FUNCTION int sm120_sum_at(sm120_shape s, int column, int place) { return (column * (s.slabs * SM120_SLAB + 4) + place) * 4; }

/* The word with a row's scales of 64 k's: of `slab` of the stage and half a pair; of column `column`. */
SM120_FUNCTION int sm120_scale_at(sm120_shape s, int half, int slab, int row_tile, int slot) {
  return sm120_scales_at(s) + ((half * s.slabs + slab) * 8 + slot % 8) * 16 + (2 * row_tile + slot / 8) * 4;
}
SM120_FUNCTION int sm120_x_scale_at(sm120_shape s, int half, int column) { return sm120_x_scales_at(s) + (half * s.columns + column) * 4; }

/* -------------------------------------------------------------------------------------------------------------------- copies */

/* A piece of a stage: `from` is its offset in the array from the block's base on, for the pair 0, `to` in the stage, `half` of the pair, and `row` that of the array. */
typedef struct sm120_copy {
  int from, to, half, row;
} sm120_copy;

/* The base: of codes, whose rows are row_bytes apart, the block's tile of 128 rows of weights, or its first row of x; of scales the tile of 128 rows of either. A row has `tiles` tiles of 64 k's. */
SM120_FUNCTION int64_t sm120_codes_base(int first_slab, int64_t row_bytes) { return first_slab / 4 * 128 * row_bytes; }
SM120_FUNCTION int64_t sm120_x_codes_base(int first_column, int64_t row_bytes) { return first_column * row_bytes; }
SM120_FUNCTION int64_t sm120_scales_base(int first_slab, int64_t tiles) { return first_slab / 4 * tiles * 512; }
SM120_FUNCTION int64_t sm120_x_scales_base(int first_column, int64_t tiles) { return first_column / 128 * tiles * 512; }

SM120_FUNCTION int sm120_codes_copies(sm120_shape s) { return s.slabs * SM120_SLAB * 4; }
SM120_FUNCTION sm120_copy sm120_codes_copy(int first_slab, int row_bytes, int i) {
  const int local = i / 4, chunk = i % 4, slab = first_slab + local / SM120_SLAB, row_tile = local / 16 % 2, slot = local % 16;
  const sm120_copy copy = {sm120_row(slab % 4, row_tile, slot) * row_bytes + chunk * SM120_PIECE, sm120_chunk_at(local, chunk), chunk / 2,
                           sm120_row(slab, row_tile, slot)};
  return copy;
}

SM120_FUNCTION int sm120_x_codes_copies(sm120_shape s) { return s.columns * 4; }
SM120_FUNCTION sm120_copy sm120_x_codes_copy(sm120_shape s, int first_column, int row_bytes, int i) {
  const int local = i / 4, chunk = i % 4;
  const sm120_copy copy = {local * row_bytes + chunk * SM120_PIECE, sm120_x_codes_at(s) + sm120_chunk_at(local, chunk), chunk / 2,
                           first_column + local};
  return copy;
}

/* A tile is [r % 32][r / 32] of words. */
SM120_FUNCTION int sm120_scales_copies(sm120_shape s) { return 2 * s.slabs * 8; }
SM120_FUNCTION sm120_copy sm120_scales_copy(sm120_shape s, int first_slab, int i) {
  const int half = i / (s.slabs * 8), piece = i % (s.slabs * 8);
  const sm120_copy copy = {half * 512 + (first_slab % 4 * 8 + piece) * SM120_PIECE, sm120_scales_at(s) + i * SM120_PIECE, half,
                           sm120_row(first_slab + piece / 8, 0, piece % 8)};
  return copy;
}

SM120_FUNCTION int sm120_x_scales_copies(sm120_shape s) { return 2 * s.columns; }
SM120_FUNCTION sm120_copy sm120_x_scales_copy(sm120_shape s, int first_column, int i) {
  const int half = i / s.columns, row = first_column + i % s.columns;
  const sm120_copy copy = {half * 512 + row % 32 * 16 + row % 128 / 32 * 4, sm120_x_scales_at(s) + i * 4, half, row};
  return copy;
}

/* ----------------------------------------------------------------------------------------------- the lanes of a warp, an MMA */

/*
 * mma.m16n8k64 with block scales, "scale_vec::4X" (PTX manual, "Matrix fragments for mma.m16n8k64" and "block scaling"). Lane 4 g + t holds
 *   A   register i: row slot g + 8 (i % 2), k's 8 t + 32 (i / 2) and the next seven, the first in the lowest nibble
 *   B   register i: column g, k's 8 t + 32 i and the next seven
 *   scales of A, with thread-id 0: slot g in lane t = 0 and slot g + 8 in lane t = 1; of B, with thread-id 0: column g in lane t = 0. Byte b: the k's 16 b to 16 b + 15
 *   D   value i: slot g + 8 (i / 2), column 2 t + i % 2
 */

/* ldmatrix.x4 of 16 rows (or columns) from row `first` on, a multiple of 16: what the lane gives as an address. Its words 0 to 3 are registers 0 to 3 of A; of two column tiles, words 0 and 2 are
 * B of the first, 1 and 3 of the second. */
SM120_FUNCTION int sm120_matrix_at(int first, int half, int lane) { return sm120_chunk_at(first + lane % 16, 2 * half + lane / 16); }

/* Whose scales a lane gives. Of B every lane gives those of its column: that of t = 0 counts. */
SM120_FUNCTION int sm120_slot_of_scale(int lane) { return lane / 4 + lane % 2 * 8; }
SM120_FUNCTION int sm120_column_of_scale(int lane) { return lane / 4; }

SM120_FUNCTION int sm120_slot_of_value(int lane, int i) { return lane / 4 + i / 2 * 8; }
SM120_FUNCTION int sm120_column_of_value(int lane, int i) { return lane % 4 * 2 + i % 2; }

#endif
