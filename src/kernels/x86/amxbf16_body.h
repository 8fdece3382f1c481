/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The kernels with AMX bf16 tiles, in which block scales are folded into the values: all but how x is prepared, and their cards. The file that includes this has defined AMXBF16_STEP,
 * the k of a TDPBF16PS, 16 or 32.
 *
 * What TDPBF16PS does with a step, for each m and n (Intel SDM): the even k's ascending and the odd k's ascending, each from 0 with fused additions, their sum, and this is added to the
 * total. Every addition rounds to nearest even, and subnormal numbers are zeros, whatever MXCSR says. Here
 *   - an E2M1 value (2 significant bits) times an E4M3 scale (4) has at most 6 significant bits and is 0 or between 2^-10 and 2688 in magnitude: exact in bf16, which has 8;
 *   - the order does not depend on M or the number of threads; the zeros beyond K are terms of +0 after all others.
 * Weight scales are neither NaN nor negative: the layer refuses them.
 */
#ifndef NVFP4_KERNELS_X86_AMXBF16_BODY_H
#define NVFP4_KERNELS_X86_AMXBF16_BODY_H

#include "kernels/x86/amx.h"

enum { X_LINE = 32 /* k in 64 bytes */ };

typedef uint16_t x_lines[AMX_ROWS][X_LINE]; /* [m][k] */
typedef x_lines x_tile[N16K64_K / X_LINE];
typedef uint16_t w_tile[N16K64_K / 2][N16K64_N][2]; /* [k / 2][n][k % 2] */

_Static_assert(sizeof(w_tile) <= AMX_W_TILE_BYTES, "the panel must hold it");

/* Row `row`, block `block` of x tiles: 16 k. */
AVX512_INLINE void put_x(x_tile *tiles, int64_t row, int64_t block, __m256i bf16) {
  int64_t k = block % N16K64_BLOCKS * NVFP4_BLOCK;
  _mm256_store_si256((__m256i *)(void *)&tiles[block / N16K64_BLOCKS][k / X_LINE][row][k % X_LINE], bf16);
}

/* 8 k of 16 rows n; to: [k / 2][n][k % 2]. */
AVX512_INLINE void decode_half(__m512i codes, __m512 sw, uint16_t (*to)[N16K64_N][2]) {
  const __m512 e2m1 = _mm512_setr_ps(0, 0.5f, 1, 1.5f, 2, 3, 4, 6, 0, -0.5f, -1, -1.5f, -2, -3, -4, -6);
  AVX512_UNROLL(4)
  for (int pair = 0; pair < 4; pair++) {
    /* Nibbles of a lane: k = 0, 4, 1, 5, 2, 6, 3, 7. VPERMPS looks at the lowest four bits of an index. */
    int nibble = pair < 2 ? 4 * pair : 4 * pair - 7;
    __m512i even = _mm512_castps_si512(_mm512_mul_ps(_mm512_permutexvar_ps(_mm512_srli_epi32(codes, 4u * (unsigned)nibble), e2m1), sw));
    __m512i odd = _mm512_castps_si512(_mm512_mul_ps(_mm512_permutexvar_ps(_mm512_srli_epi32(codes, 4u * (unsigned)nibble + 8), e2m1), sw));
    _mm512_store_si512(to[pair], _mm512_mask_mov_epi16(_mm512_srli_epi32(even, 16), 0xAAAAAAAA, odd));
  }
}

static void decode(const uint8_t *tile, char *to) {
  uint16_t(*pairs)[N16K64_N][2] = (void *)to;
  for (int b = 0; b < N16K64_BLOCKS; b++) {
    __m512 sw_2m8 = avx512_e4m3_2m8(_mm_load_si128((const __m128i *)(const void *)(tile + b * N16K64_N)));
    __m512 sw = _mm512_mul_ps(sw_2m8, _mm512_set1_ps(0x1p8f));
    for (int half = 0; half < 2; half++, pairs += 4) {
      decode_half(_mm512_load_si512(tile + N16K64_SCALES + b * N16K64_BLOCK_CODES + half * 64), sw, pairs);
    }
  }
}

/* Sums stay in tiles 0-3 for a panel: [m][n], [m][n + 16], [m + 16][n], [m + 16][n + 16]. The w tiles come from L2 for every pair of x tiles, which stay in L1. */
AVX512_INLINE void multiply_tiles(const amx_operands *o, const bool two_m, const bool two_n) {
  float(*sums[2])[N16K64_N] = {o->sums, o->sums + o->sums_stride};
  amx_load(0, sums[0], 64);
  if (two_n) {
    amx_load(1, sums[1], 64);
  }
  if (two_m) {
    amx_load(2, sums[0] + AMX_ROWS, 64);
  }
  if (two_m && two_n) {
    amx_load(3, sums[1] + AMX_ROWS, 64);
  }
  for (int64_t k = 0; k < o->k_tiles * N16K64_K; k += AMXBF16_STEP) {
    const char *x = o->x + k / X_LINE * (int64_t)sizeof(x_lines) + k % X_LINE * 2, *w = o->w + k * N16K64_N * 2;
    amx_prefetch(o, k, AMXBF16_STEP);
    /* All loads first: faster where the core's other hyperthread waits for the tile unit, the same where there is none. */
    amx_load(4, x, 64);
    amx_load_stream(6, w, 64);
    if (two_n) {
      amx_load_stream(7, w + o->w_stride, 64);
    }
    if (two_m) {
      amx_load(5, x + o->x_stride, 64);
    }
    amx_dot_bf16(0, 4, 6);
    if (two_n) {
      amx_dot_bf16(1, 4, 7);
    }
    if (two_m) {
      amx_dot_bf16(2, 5, 6);
    }
    if (two_m && two_n) {
      amx_dot_bf16(3, 5, 7);
    }
  }
  amx_store(0, sums[0], 64);
  if (two_n) {
    amx_store(1, sums[1], 64);
  }
  if (two_m) {
    amx_store(2, sums[0] + AMX_ROWS, 64);
  }
  if (two_m && two_n) {
    amx_store(3, sums[1] + AMX_ROWS, 64);
  }
}

static void multiply(const amx_operands *o, int64_t m_tiles, int64_t n_tiles) {
  if (m_tiles == 2 && n_tiles == 2) {
    multiply_tiles(o, true, true);
  } else if (m_tiles == 2) {
    multiply_tiles(o, true, false);
  } else if (n_tiles == 2) {
    multiply_tiles(o, false, true);
  } else {
    multiply_tiles(o, false, false);
  }
}

/* Tiles 0-3: sums of 16 m x 16 n; 4, 5: 16 m x a step of x; 6, 7: a step x 16 n of the weights. */
#define AMXBF16_KERNEL(prepare_x)                                                                                                \
  {                                                                                                                              \
    .config = {.palette = 1,                                                                                                     \
               .row_bytes = {64, 64, 64, 64, 2 * AMXBF16_STEP, 2 * AMXBF16_STEP, 64, 64},                                        \
               .rows = {16, 16, 16, 16, 16, 16, AMXBF16_STEP / 2, AMXBF16_STEP / 2}},                                            \
    .x_tile_bytes = sizeof(x_tile), .w_tile_bytes = sizeof(w_tile), .prepare = prepare_x, .decode = decode, .multiply = multiply \
  }

AVX512_PLAIN static nvfp4_status is_supported(const nvfp4_machine *machine, nvfp4_reason *reason) {
  return avx512_is_supported(
      machine, NVFP4_ISA_AVX512F | NVFP4_ISA_AVX512BW | NVFP4_ISA_AVX512VL | NVFP4_ISA_AVX512DQ | NVFP4_ISA_AMX_TILE | NVFP4_ISA_AMX_BF16,
      reason);
}

#endif
