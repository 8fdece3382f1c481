/* SPDX-License-Identifier: Apache-2.0 */
/*
 * x86_amx_w4a4: y[m,n] = alpha[n] * sum over blocks b ascending ( float(dot16(x, w)) * (sx[m,b] * sw[n,b]) ) (+ bias[n])
 *
 * Class CANONICAL: the bits of nvfp4_spec_w4a4, for any M, N, K and any number of threads. AMX tiles with int8, AVX-512 F, BW, VL, DQ.
 * Packed layout: n16k64. Workspace: x quantised, as x tiles. A block is one TDPBSSD of 16 m x 16 n x 16 k, which gives 4 * dot exactly; the scales need vectors, so the dots
 * go through memory in L1, and the sums of 16 m stay in registers.
 */
#include "kernels/x86/amx.h"
#include "kernels/x86/avx512_quantise.h"

typedef struct x_tile {
  int8_t x2[AMX_ROWS][N16K64_K]; /* doubled values */
  float scale[N16K64_BLOCKS][AMX_ROWS];
} x_tile;

typedef struct w_tile {
  int8_t w2[N16K64_BLOCKS][4][N16K64_N][4]; /* [block][k / 4][n][k % 4]: doubled values */
  float scale[N16K64_BLOCKS][N16K64_N];     /* a quarter of it: the dots are of doubled values */
} w_tile;

_Static_assert(sizeof(w_tile) <= AMX_W_TILE_BYTES, "the panel must hold it");
_Static_assert(sizeof(x_tile) % 64 == 0 && sizeof(w_tile) % 64 == 0, "the next ones are aligned too");

/* ------------------------------------------------------------------------------------------------------------- preparing x */

typedef struct x_writer {
  x_tile *tiles;
  int64_t row;
} x_writer;

AVX512_INLINE void put_block(void *arg, int64_t block, __m128i x2, float scale) {
  const x_writer *writer = arg;
  x_tile *tile = writer->tiles + block / N16K64_BLOCKS;
  int64_t b = block % N16K64_BLOCKS;
  _mm_store_si128((__m128i *)(void *)&tile->x2[writer->row][b * NVFP4_BLOCK], x2);
  tile->scale[b][writer->row] = scale;
}

static void prepare(const nvfp4_kernel_args *args, int64_t m, int64_t first, int64_t last, char *tiles, int64_t row) {
  x_writer writer = {(x_tile *)(void *)tiles, row};
  avx512_quantise(args, m, first, last, put_block, &writer);
}

/* -------------------------------------------------------------------------------------------------------------------- sums */

static void decode(const uint8_t *tile, char *to) {
  const __m512i doubled = _mm512_broadcast_i32x4(_mm_setr_epi8(0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12));
  const __m512i low = _mm512_set1_epi8(15);
  w_tile *w = (w_tile *)(void *)to;
  for (int b = 0; b < N16K64_BLOCKS; b++) {
    for (int half = 0; half < 2; half++) {
      __m512i codes = _mm512_load_si512(tile + N16K64_SCALES + b * N16K64_BLOCK_CODES + half * 64);
      _mm512_store_si512(w->w2[b][2 * half], _mm512_shuffle_epi8(doubled, _mm512_and_si512(codes, low)));
      _mm512_store_si512(w->w2[b][2 * half + 1], _mm512_shuffle_epi8(doubled, _mm512_and_si512(_mm512_srli_epi16(codes, 4), low)));
    }
    __m512 sw_2m8 = avx512_e4m3_2m8(_mm_load_si128((const __m128i *)(const void *)(tile + b * N16K64_N)));
    _mm512_store_ps(w->scale[b], _mm512_mul_ps(sw_2m8, _mm512_set1_ps(0x1p8f / 4)));
  }
}

/* Begins the dots of block b in tile b; x and w go through the tiles a and c. Literals, as the instructions want them. */
#define START_DOTS(b, a, c, x, w)                  \
  do {                                             \
    amx_zero(b);                                   \
    amx_load(a, &(x)->x2[0][b * NVFP4_BLOCK], 64); \
    amx_load(c, (w)->w2[b], 64);                   \
    amx_dot_int8(b, a, c);                         \
  } while (0)

AVX512_INLINE void add_terms(const x_tile *x, const w_tile *w, int b, int32_t (*from)[N16K64_N], __m512 sum[AMX_ROWS]) {
  __m512 sw = _mm512_load_ps(w->scale[b]);
  AVX512_UNROLL(16)
  for (int m = 0; m < AMX_ROWS; m++) {
    __m512 dot = _mm512_cvtepi32_ps(_mm512_load_si512(from[m]));
    sum[m] = _mm512_fmadd_ps(dot, _mm512_mul_ps(sw, _mm512_set1_ps(x->scale[b][m])), sum[m]);
  }
}

/*
 * 16 m x 16 n, in three stages, so that tiles, stores and vectors overlap: a tile works on a block until four blocks later its dots go to memory, and two more blocks later the vectors
 * read them. The buffers are 4 KiB in all, since a load waits for a store before it whose address has the same low 12 bits.
 */
static void multiply_tile(const x_tile *x, const w_tile *w, int64_t k_tiles, float (*sums)[N16K64_N]) {
  _Alignas(64) int32_t dots[N16K64_BLOCKS][AMX_ROWS][N16K64_N];
  __m512 sum[AMX_ROWS];
  AVX512_UNROLL(16)
  for (int m = 0; m < AMX_ROWS; m++) {
    sum[m] = _mm512_load_ps(sums[m]);
  }
  START_DOTS(0, 4, 6, x, w);
  START_DOTS(1, 5, 7, x, w);
  START_DOTS(2, 4, 6, x, w);
  START_DOTS(3, 5, 7, x, w);
  for (int64_t k = 0; k < k_tiles; k++, x++, w++) {
    int64_t next = k + 1 < k_tiles; /* the last k tile is begun again, for nothing */
    amx_store(0, dots[0], 64);
    START_DOTS(0, 4, 6, x + next, w + next);
    if (k > 0) {
      add_terms(x - 1, w - 1, 2, dots[2], sum);
    }
    amx_store(1, dots[1], 64);
    START_DOTS(1, 5, 7, x + next, w + next);
    if (k > 0) {
      add_terms(x - 1, w - 1, 3, dots[3], sum);
    }
    amx_store(2, dots[2], 64);
    START_DOTS(2, 4, 6, x + next, w + next);
    add_terms(x, w, 0, dots[0], sum);
    amx_store(3, dots[3], 64);
    START_DOTS(3, 5, 7, x + next, w + next);
    add_terms(x, w, 1, dots[1], sum);
  }
  add_terms(x - 1, w - 1, 2, dots[2], sum);
  add_terms(x - 1, w - 1, 3, dots[3], sum);
  AVX512_UNROLL(16)
  for (int m = 0; m < AMX_ROWS; m++) {
    _mm512_store_ps(sums[m], sum[m]);
  }
}

static void multiply(const amx_operands *o, int64_t m_tiles, int64_t n_tiles) {
  for (int64_t m = 0; m < m_tiles; m++) {
    for (int64_t n = 0; n < n_tiles; n++) {
      const void *x = o->x + (size_t)m * o->x_stride, *w = o->w + (size_t)n * o->w_stride;
      multiply_tile(x, w, o->k_tiles, o->sums + (size_t)n * o->sums_stride + m * AMX_ROWS);
    }
  }
}

static const amx_kernel kernel = {
    /* Tiles 0-3: dots of 16 m x 16 n; 4, 5: 16 m x 16 k of x; 6, 7: 16 k x 16 n of the weights. */
    .config = {.palette = 1, .row_bytes = {64, 64, 64, 64, 16, 16, 64, 64}, .rows = {16, 16, 16, 16, 16, 16, 4, 4}},
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
      machine, NVFP4_ISA_AVX512F | NVFP4_ISA_AVX512BW | NVFP4_ISA_AVX512VL | NVFP4_ISA_AVX512DQ | NVFP4_ISA_AMX_TILE | NVFP4_ISA_AMX_INT8,
      reason);
}

const nvfp4_kernel nvfp4_kernel_x86_amx_w4a4 = {
    .struct_size = sizeof(nvfp4_kernel),
    .id = "x86_amx_w4a4",
    .summary = "the canonical W4A4 result with AMX int8 tiles",
    .layout = &nvfp4_layout_n16k64,
    .numerics = {NVFP4_MODE_W4A4, NVFP4_CLASS_CANONICAL, NVFP4_FLAG_BATCH_INVARIANT | NVFP4_FLAG_DETERMINISTIC, NVFP4_ORDER_CANONICAL_W4A4},
    .device = NVFP4_DEVICE_CPU,
    .m_first = AMX_M_FIRST,
    .m_last = NVFP4_M_MAX,
    .verified = "Intel Xeon (family 6 model 207), 2026-11-23",
    .is_supported = is_supported,
    .can_implement = avx512_can_implement,
    .workspace_bytes = workspace_bytes,
    .apply_weights = apply_weights,
};
