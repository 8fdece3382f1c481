/* SPDX-License-Identifier: Apache-2.0 */
/*
 * x86_avx512_w16a16: y[m,n] = alpha[n] * acc (+ bias[n]); acc = fmaf(x[m,k], w[n,k], acc) over k ascending
 *
 * Dense layers: weights bf16, f16 or f32. Class CANONICAL: the bits of nvfp4_spec_w16a16, for any M, N, K and any number of threads. AVX-512 F, BW, VL, DQ and FMA.
 * Packed layout: dense_n16. Workspace: x as fp32. A lane is a row n; an x is broadcast. The sums of two row tiles run beside each other, since each is one chain of FMAs;
 * with one row of x tile comes after tile: one chain is as fast as memory, which likes one stream.
 */
#include "kernels/dense_n16.h"
#include "kernels/x86/avx512.h"

enum {
  GROUP_ROWS = 12,
  TILES = 2,        /* row tiles at once: 24 sums in registers at most */
  PANEL_BLOCKS = 32 /* 512 k: two row tiles of bf16 stay in L1 */
};

/* x [16] of one row and block; zeros beyond K, which no sum takes in. */
typedef struct record {
  float x[NVFP4_BLOCK];
} record;

static bool prepare(const nvfp4_kernel_args *args, int64_t m, int64_t first, int64_t last, char *to, size_t stride) {
  size_t bytes = avx512_dtype_bytes(args->x_dtype);
  for (int64_t block = first; block < last; block++, to += stride) {
    int64_t k = block * NVFP4_BLOCK;
    __mmask16 lanes = args->k - k < NVFP4_BLOCK ? (__mmask16)((1u << (args->k - k)) - 1) : 0xFFFF;
    _mm512_store_ps(to, avx512_load((const char *)args->x + (size_t)(m * args->ldx_elems + k) * bytes, args->x_dtype, lanes));
  }
  return false;
}

/* The weights of an even k and, if count is 2, of the next. */
AVX512_INLINE void load_pair(const uint8_t *tile, int64_t k, const int count, const nvfp4_dtype dtype, __m512 w[2]) {
  if (dtype == NVFP4_DTYPE_BF16) {
    __m512i pair = _mm512_load_si512(tile + k * 32);
    w[0] = _mm512_castsi512_ps(_mm512_and_si512(pair, _mm512_set1_epi32(-0x10000)));
    w[1] = _mm512_castsi512_ps(_mm512_slli_epi32(pair, 16));
  } else if (dtype == NVFP4_DTYPE_F16) {
    w[0] = _mm512_cvtph_ps(_mm256_load_si256((const __m256i *)(const void *)(tile + k * 32)));
    w[1] = _mm512_cvtph_ps(_mm256_load_si256((const __m256i *)(const void *)(tile + k * 32 + 32)));
  } else {
    w[0] = _mm512_load_ps(tile + k * 64);
    w[1] = count == 2 ? _mm512_load_ps(tile + k * 64 + 64) : w[0];
  }
}

/* Adds k and, if count is 2, k + 1, of `tiles` row tiles for `rows` rows of x. sum [tiles][rows]. */
AVX512_INLINE void add_pair(const uint8_t *weights, int64_t tile_bytes, int64_t k, const float *x, const int count, const nvfp4_dtype dtype,
                            const int rows, const int tiles, __m512 *sum) {
  __m512 w[TILES][2];
  AVX512_UNROLL(2)
  for (int t = 0; t < tiles; t++) {
    load_pair(weights + t * tile_bytes, k, count, dtype, w[t]);
  }
  AVX512_UNROLL(2)
  for (int i = 0; i < count; i++) {
    AVX512_UNROLL(12)
    for (int r = 0; r < rows; r++) {
      __m512 value = _mm512_set1_ps(x[r * NVFP4_BLOCK + i]);
      AVX512_UNROLL(2)
      for (int t = 0; t < tiles; t++) {
        sum[t * rows + r] = _mm512_fmadd_ps(value, w[t][i], sum[t * rows + r]);
      }
    }
  }
}

/* The weights come from DRAM, some microseconds ahead: when a row tile ends, the tile that follows the `tiles` at work comes next. x comes from L2. left: bytes of a
 * tile from here on. */
AVX512_INLINE void prefetch(const uint8_t *weights, int64_t tile_bytes, int64_t left, const record *x, const nvfp4_dtype dtype,
                            const int rows, const int tiles) {
  int64_t ahead = left > AVX512_WEIGHTS_AHEAD ? AVX512_WEIGHTS_AHEAD : AVX512_WEIGHTS_AHEAD + (tiles - 1) * tile_bytes;
  for (int t = 0; t < tiles; t++) {
    for (int64_t line = 0; line < dense_n16_bytes(NVFP4_BLOCK, dtype); line += 64) {
      _mm_prefetch((const char *)((uintptr_t)(weights + t * tile_bytes) + (uintptr_t)(ahead + line)), _MM_HINT_T0);
    }
  }
  AVX512_UNROLL(12)
  for (int r = 0; r < rows; r++) {
    _mm_prefetch((const char *)((uintptr_t)(x + r) + AVX512_X_AHEAD), _MM_HINT_T0);
  }
}

/* Neighbouring row tiles of the weights times the records of a group, over a panel. */
typedef struct part {
  const uint8_t *weights; /* of the first row tile, from the panel's first k on */
  int64_t tile_bytes;     /* to the next row tile */
  int64_t tiles;          /* 1 to TILES */
  int64_t k;              /* a multiple of 16, but at the end of K */
  const record *records;
  float (*acc)[N16K64_N]; /* [rows of the pass][16] */
  int64_t acc_rows;       /* to the sums of the next row tile */
} part;

/* Row tiles [first, first + tiles) of the part. */
AVX512_INLINE void sum_tiles(const part *p, int64_t first, const nvfp4_dtype dtype, const int rows, const int tiles) {
  const int64_t tile_bytes = p->tile_bytes, acc_rows = p->acc_rows;
  const uint8_t *weights = p->weights + first * tile_bytes;
  const record *x = p->records;
  float(*acc)[N16K64_N] = p->acc + first * acc_rows;
  __m512 sum[TILES * GROUP_ROWS];
  AVX512_UNROLL(2)
  for (int t = 0; t < tiles; t++) {
    AVX512_UNROLL(12)
    for (int r = 0; r < rows; r++) {
      sum[t * rows + r] = _mm512_load_ps(acc[t * acc_rows + r]);
    }
  }
  const uint8_t *end = weights + dense_n16_bytes(p->k, dtype);
  for (int64_t block = 0; block < p->k / NVFP4_BLOCK; block++, x += rows) {
    prefetch(weights, tile_bytes, end - weights, x, dtype, rows, tiles);
    for (int64_t k = 0; k < NVFP4_BLOCK; k += 2) {
      add_pair(weights, tile_bytes, k, x->x + k, 2, dtype, rows, tiles, sum);
    }
    weights += dense_n16_bytes(NVFP4_BLOCK, dtype);
  }
  int64_t rest = p->k % NVFP4_BLOCK;
  for (int64_t k = 0; k + 1 < rest; k += 2) {
    add_pair(weights, tile_bytes, k, x->x + k, 2, dtype, rows, tiles, sum);
  }
  if (rest % 2 == 1) {
    add_pair(weights, tile_bytes, rest - 1, x->x + rest - 1, 1, dtype, rows, tiles, sum);
  }
  AVX512_UNROLL(2)
  for (int t = 0; t < tiles; t++) {
    AVX512_UNROLL(12)
    for (int r = 0; r < rows; r++) {
      _mm512_store_ps(acc[t * acc_rows + r], sum[t * rows + r]);
    }
  }
}

AVX512_INLINE void sum_part(const part *p, const nvfp4_dtype dtype, const int rows) {
  const int together = rows == 1 ? 1 : TILES;
  int64_t tile = 0;
  for (; tile + together <= p->tiles; tile += together) {
    sum_tiles(p, tile, dtype, rows, together);
  }
  for (; tile < p->tiles; tile++) {
    sum_tiles(p, tile, dtype, rows, 1);
  }
}

#define PASS(dtype, rows) \
  static void sum_##dtype##_##rows(const part *p) { sum_part(p, NVFP4_DTYPE_##dtype, rows); }
#define PASSES(dtype)                                                      \
  PASS(dtype, 1)                                                           \
  PASS(dtype, 2)                                                           \
  PASS(dtype, 4)                                                           \
  PASS(dtype, 6)                                                           \
  PASS(dtype, 8)                                                           \
  PASS(dtype, 12)                                                          \
  static void (*const sums_##dtype[GROUP_ROWS + 1])(const part *) = {      \
      [1] = sum_##dtype##_1, [2] = sum_##dtype##_2, [4] = sum_##dtype##_4, \
      [6] = sum_##dtype##_6, [8] = sum_##dtype##_8, [12] = sum_##dtype##_12};
PASSES(F32)
PASSES(F16)
PASSES(BF16)

static void sum_panel(const avx512_job *job, const avx512_panel *panel) {
  const nvfp4_dtype dtype = dense_n16_dtype(job->packed);
  void (*const *sums)(const part *) = dtype == NVFP4_DTYPE_F32 ? sums_F32 : dtype == NVFP4_DTYPE_F16 ? sums_F16 : sums_BF16;
  const int64_t k = panel->block_first * NVFP4_BLOCK, k_left = job->args->k - k, k_most = panel->blocks * NVFP4_BLOCK;
  part p = {.k = k_left < k_most ? k_left : k_most,
            .tile_bytes = dense_n16_tile(job->packed, 1) - dense_n16_tile(job->packed, 0),
            .acc_rows = (panel->group_last - panel->group_first) * GROUP_ROWS};
  for (int64_t tile = panel->tile_first; tile < panel->tile_last; tile += TILES) {
    p.weights = dense_n16_tile(job->packed, tile) + dense_n16_bytes(k, dtype);
    p.tiles = panel->tile_last - tile < TILES ? panel->tile_last - tile : TILES;
    for (int64_t group = panel->group_first; group < panel->group_last; group++) {
      p.records = (const record *)(const void *)avx512_records(job, group, panel->block_first);
      p.acc = avx512_acc(job, panel, tile, group);
      sums[avx512_pass_rows_of(job, group)](&p);
    }
  }
}

static const int pass_rows[] = {1, 2, 4, 6, 8, GROUP_ROWS};
static const avx512_kernel kernel = {.record_bytes = sizeof(record),
                                     .group_rows = GROUP_ROWS,
                                     .block_groups = 8,
                                     .panel_blocks = PANEL_BLOCKS,
                                     .tile_step = 1,
                                     .pass_rows = pass_rows,
                                     .prepare = prepare,
                                     .sum_panel = sum_panel};

static size_t workspace_bytes(const nvfp4_layer_desc *desc, int64_t m) { return avx512_workspace_bytes(&kernel, m, desc->k); }

static nvfp4_status apply_weights(const nvfp4_host *host, const nvfp4_packed *packed, const nvfp4_kernel_args *args, nvfp4_reason *reason) {
  (void)reason;
  return avx512_apply(&kernel, host, packed, args);
}

AVX512_PLAIN static nvfp4_status is_supported(const nvfp4_machine *machine, nvfp4_reason *reason) {
  return avx512_is_supported(machine, NVFP4_ISA_FMA | NVFP4_ISA_AVX512F | NVFP4_ISA_AVX512BW | NVFP4_ISA_AVX512VL | NVFP4_ISA_AVX512DQ,
                             reason);
}

const nvfp4_kernel nvfp4_kernel_x86_avx512_w16a16 = {
    .struct_size = sizeof(nvfp4_kernel),
    .id = "x86_avx512_w16a16",
    .summary = "the canonical result of dense layers with AVX-512",
    .layout = &nvfp4_layout_dense_n16,
    .numerics = {NVFP4_MODE_UNQUANTISED, NVFP4_CLASS_CANONICAL, NVFP4_FLAG_BATCH_INVARIANT | NVFP4_FLAG_DETERMINISTIC,
                 NVFP4_ORDER_CANONICAL_W16A16},
    .device = NVFP4_DEVICE_CPU,
    .verified = "AMD EPYC (Zen 5), 2026-11-23",
    .is_supported = is_supported,
    .can_implement = avx512_can_implement,
    .workspace_bytes = workspace_bytes,
    .apply_weights = apply_weights,
};
