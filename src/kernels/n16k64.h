/* SPDX-License-Identifier: Apache-2.0 */
/*
 * n16k64, the packed layout of the SIMD kernels on every CPU: tiles of 16 output rows x 64 k, 576 bytes each, 64-byte aligned, k tiles running fastest.
 *
 *   tile (t, g): rows n = 16t .. 16t+15, k = 64g .. 64g+63, four blocks b = 0..3 of 16 k (rows and blocks beyond N and K: zeros)
 *
 *   offset   0   64 bytes of scales    [b 0..3][n 0..15]              E4M3
 *   offset  64  512 bytes of codes     [b 0..3][half 0..1][n 0..15][i 0..3]
 *                                      low nibble: k = 16b + 8 half + i, high nibble: k = 16b + 8 half + 4 + i
 *
 * So the 32-bit lane of row n in a load of half a block holds 8 consecutive k's of that row; its low nibbles are the four k's that one 4-way int8 dot product (VPDPBUSD, SDOT,
 * PMADDUBSW + PMADDWD) takes, and its high nibbles the next four.
 */
#ifndef NVFP4_KERNELS_N16K64_H
#define NVFP4_KERNELS_N16K64_H

#include <nvfp4/kernel.h>

enum {
  N16K64_N = 16,
  N16K64_K = 64,
  N16K64_BLOCKS = 4,        /* of 16 k in a tile */
  N16K64_SCALES = 64,       /* bytes, at the tile's start */
  N16K64_BLOCK_CODES = 128, /* bytes of one block's codes */
  N16K64_TILE_BYTES = 576
};

extern const nvfp4_layout nvfp4_layout_n16k64;

static inline int64_t n16k64_row_tiles(int64_t n) { return (n + N16K64_N - 1) / N16K64_N; }
static inline int64_t n16k64_k_tiles(int64_t k) { return (k + N16K64_K - 1) / N16K64_K; }

/* The first of the k tiles of rows 16*row_tile ...; the next follow at N16K64_TILE_BYTES. */
static inline const uint8_t *n16k64_tiles(const nvfp4_packed *packed, int64_t row_tile) {
  return (const uint8_t *)packed->data + row_tile * n16k64_k_tiles(packed->k) * N16K64_TILE_BYTES;
}

#endif
