/* SPDX-License-Identifier: Apache-2.0 */
/*
 * x86_amxbf16_w4a4: y[m,n] = alpha[n] * sum over k ( (x[m,k] * sx) * (w[n,k] * sw) ) (+ bias[n]), the scales folded into bf16 values
 *
 * Class BOUNDED, for any M, N, K. AMX tiles with bf16, AVX-512 F, BW, VL, DQ. Packed layout: n16k64. Workspace: x quantised, as x tiles.
 *
 * The bound of docs/numerics.md holds:
 *   - An E2M1 value (2 significant bits) times an E4M3 scale (4) has at most 6 significant bits, and is 0 or between 2^-10 and 2688: bf16, with 8, holds it exactly.
 *   - So TDPBF16PS multiplies the exact factors. It adds in fp32 and rounds each addition to nearest even, whatever MXCSR says. A term's product is fused into its addition.
 *   - It takes subnormal numbers for 0. There are none: factors, products and hence all sums are multiples of 2^-20, which no addition that rounds leaves, so a sum is 0 or
 *     at least 2^-20.
 *   - Each term passes through at most K additions and the finish, in whatever order the additions are: n = K + 1 <= K + 8.
 *
 * Order (Intel SDM): in each step of 32 k the 16 even ones ascending and the 16 odd ones ascending from 0, their sum, and this is added to the total; steps ascending. Neither
 * M nor the number of threads takes part in it, and zeros beyond K change nothing. So rows do not depend on the batch.
 * A NaN scale of x makes its 16 values NaN; NaN times any weight is NaN.
 */
#include "kernels/x86/amx.h"

enum {
  M_FIRST = 16, /* below that, the vectors of VNNI are faster */
  STEP = 32     /* k of a TDPBF16PS */
};

typedef uint16_t x_tile[N16K64_K / STEP][AMX_ROWS][STEP];        /* [step][m][k] */
typedef uint16_t w_tile[N16K64_K / STEP][STEP / 2][N16K64_N][2]; /* [step][k / 2][n][k % 2] */
typedef struct step_bytes {
  char at[AMX_ROWS * STEP * 2];
} step_bytes; /* of one step, of either */

_Static_assert(sizeof(w_tile) <= AMX_W_TILE_BYTES, "the panel must hold it");

/* ------------------------------------------------------------------------------------------------------------- preparing x */

typedef struct x_writer {
  x_tile *tiles;
  int64_t row;
} x_writer;

AVX512_INLINE void put_block(void *arg, int64_t block, __m128i x2, float scale) {
  const x_writer *writer = arg;
  int64_t k = block % N16K64_BLOCKS * NVFP4_BLOCK;
  uint16_t *to = &writer->tiles[block / N16K64_BLOCKS][k / STEP][writer->row][k % STEP];
  __m512 x = _mm512_mul_ps(_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(x2)), _mm512_set1_ps(0.5f * scale));
  _mm256_store_si256((__m256i *)(void *)to, _mm512_cvtepi32_epi16(_mm512_srli_epi32(_mm512_castps_si512(x), 16)));
}

static void prepare(const nvfp4_kernel_args *args, int64_t m, int64_t first, int64_t last, char *tiles, int64_t row) {
  x_writer writer = {(x_tile *)(void *)tiles, row};
  avx512_quantise(args, m, first, last, put_block, &writer);
}

/* -------------------------------------------------------------------------------------------------------------------- sums */

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
  uint16_t(*pairs)[N16K64_N][2] = (void *)to; /* the steps follow each other */
  for (int b = 0; b < N16K64_BLOCKS; b++) {
    __m512 sw_2m8 = avx512_e4m3_2m8(_mm_load_si128((const __m128i *)(const void *)(tile + b * N16K64_N)));
    __m512 sw = _mm512_mul_ps(sw_2m8, _mm512_set1_ps(0x1p8f));
    for (int half = 0; half < 2; half++, pairs += 4) {
      decode_half(_mm512_load_si512(tile + N16K64_SCALES + b * N16K64_BLOCK_CODES + half * 64), sw, pairs);
    }
  }
}

/* Sums stay in tiles 0-3 for a panel: [m][n], [m][n + 16], [m + 16][n], [m + 16][n + 16]. */
AVX512_INLINE void multiply_tiles(const amx_operands *o, const bool two_m, const bool two_n) {
  float(*sums[2])[N16K64_N] = {o->sums, o->sums + o->sums_stride};
  const step_bytes *x[2] = {(const void *)o->x, (const void *)(o->x + o->x_stride)};
  const step_bytes *w[2] = {(const void *)o->w, (const void *)(o->w + o->w_stride)};
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
  for (int64_t step = 0; step < o->k_tiles * (N16K64_K / STEP); step++) {
    amx_load(4, x[0] + step, 64);
    amx_load(6, w[0] + step, 64);
    amx_dot_bf16(0, 4, 6);
    if (two_n) {
      amx_load(7, w[1] + step, 64);
      amx_dot_bf16(1, 4, 7);
    }
    if (two_m) {
      amx_load(5, x[1] + step, 64);
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

static const amx_kernel kernel = {
    /* Tiles 0-3: sums of 16 m x 16 n; 4, 5: 16 m x 32 k of x; 6, 7: 32 k x 16 n of the weights. */
    .config = {.palette = 1, .row_bytes = {64, 64, 64, 64, 64, 64, 64, 64}, .rows = {16, 16, 16, 16, 16, 16, 16, 16}},
    .x_tile_bytes = sizeof(x_tile),
    .w_tile_bytes = sizeof(w_tile),
    .prepare = prepare,
    .decode = decode,
    .multiply = multiply};

static size_t workspace_bytes(const nvfp4_layer_desc *desc, int64_t m) { return amx_workspace_bytes(&kernel, m, desc->k); }

static nvfp4_status apply_weights(const nvfp4_host *host, const nvfp4_packed *packed, const nvfp4_kernel_args *args, nvfp4_reason *reason) {
  (void)reason;
  return amx_apply(&kernel, host, packed, args);
}

AVX512_PLAIN static nvfp4_status is_supported(const nvfp4_machine *machine, nvfp4_reason *reason) {
  return avx512_is_supported(
      machine, NVFP4_ISA_AVX512F | NVFP4_ISA_AVX512BW | NVFP4_ISA_AVX512VL | NVFP4_ISA_AVX512DQ | NVFP4_ISA_AMX_TILE | NVFP4_ISA_AMX_BF16,
      reason);
}

const nvfp4_kernel nvfp4_kernel_x86_amxbf16_w4a4 = {
    .struct_size = sizeof(nvfp4_kernel),
    .id = "x86_amxbf16_w4a4",
    .summary = "W4A4 with AMX bf16 tiles, scales folded into the values, within the bound",
    .layout = &nvfp4_layout_n16k64,
    .numerics = {NVFP4_MODE_W4A4, NVFP4_CLASS_BOUNDED, NVFP4_FLAG_BATCH_INVARIANT | NVFP4_FLAG_DETERMINISTIC,
                 "w4a4: exact products in bf16 tiles, TDPBF16PS over 32 k, steps ascending, fp32"},
    .device = NVFP4_DEVICE_CPU,
    .m_first = M_FIRST,
    .m_last = NVFP4_M_MAX,
    .verified = "compiles; never executed by us",
    .is_supported = is_supported,
    .can_implement = avx512_can_implement,
    .workspace_bytes = workspace_bytes,
    .apply_weights = apply_weights,
};
