/* SPDX-License-Identifier: Apache-2.0 */
/*
 * x86_avx512_w16a16: y[m,n] = alpha[n] * acc (+ bias[n]); acc = fmaf(x[m,k], w[n,k], acc) over k ascending
 *
 * Dense layers: weights bf16, f16 or f32. Class CANONICAL: the bits of nvfp4_spec_w16a16, for any M, N, K and any number of threads. AVX-512 F, BW, VL, DQ and FMA.
 * Packed layout: dense_n16. Workspace: x as fp32. A lane is a row n; an x is broadcast. The sums of several row tiles run beside each other: each of them is one chain of FMAs.
 */
#include "kernels/dense_n16.h"
#include "kernels/x86/avx512.h"

enum {
  GROUP_ROWS = 12,
  TILES = 4,        /* row tiles at once, for up to 6 rows of x; 2 for more: 24 sums in registers at most */
  PANEL_BLOCKS = 32 /* 512 k: two row tiles of bf16 stay in L1 */
};

/* x [16] of one row and block; zeros beyond K, which no sum takes in. */
typedef struct record {
  float x[NVFP4_BLOCK];
} record;

static void prepare(const nvfp4_kernel_args *args, int64_t m, int64_t first, int64_t last, char *to, size_t stride) {
  size_t bytes = avx512_dtype_bytes(args->x_dtype);
  for (int64_t block = first; block < last; block++, to += stride) {
    int64_t k = block * NVFP4_BLOCK;
    __mmask16 lanes = args->k - k < NVFP4_BLOCK ? (__mmask16)((1u << (args->k - k)) - 1) : 0xFFFF;
    _mm512_store_ps(to, avx512_load((const char *)args->x + (size_t)(m * args->ldx_elems + k) * bytes, args->x_dtype, lanes));
  }
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
  AVX512_UNROLL(4)
  for (int t = 0; t < tiles; t++) {
    load_pair(weights + t * tile_bytes, k, count, dtype, w[t]);
  }
  AVX512_UNROLL(2)
  for (int i = 0; i < count; i++) {
    AVX512_UNROLL(12)
    for (int r = 0; r < rows; r++) {
      __m512 value = _mm512_set1_ps(x[r * NVFP4_BLOCK + i]);
      AVX512_UNROLL(4)
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

/* Row tiles [first, first + tiles) of the part. */
AVX512_INLINE void sum_tiles(const avx512_part *part, int64_t first, const nvfp4_dtype dtype, const int rows, const int tiles) {
  const int64_t tile_bytes = part->tile_bytes, acc_rows = part->acc_rows;
  const uint8_t *weights = part->weights + first * tile_bytes;
  const record *x = part->records;
  float(*acc)[N16K64_N] = part->acc + first * acc_rows;
  __m512 sum[24];
  AVX512_UNROLL(4)
  for (int t = 0; t < tiles; t++) {
    AVX512_UNROLL(12)
    for (int r = 0; r < rows; r++) {
      sum[t * rows + r] = _mm512_load_ps(acc[t * acc_rows + r]);
    }
  }
  const uint8_t *end = weights + dense_n16_bytes(part->k, dtype);
  for (int64_t block = 0; block < part->k / NVFP4_BLOCK; block++, x += rows) {
    prefetch(weights, tile_bytes, end - weights, x, dtype, rows, tiles);
    for (int64_t k = 0; k < NVFP4_BLOCK; k += 2) {
      add_pair(weights, tile_bytes, k, x->x + k, 2, dtype, rows, tiles, sum);
    }
    weights += dense_n16_bytes(NVFP4_BLOCK, dtype);
  }
  int64_t rest = part->k % NVFP4_BLOCK;
  for (int64_t k = 0; k + 1 < rest; k += 2) {
    add_pair(weights, tile_bytes, k, x->x + k, 2, dtype, rows, tiles, sum);
  }
  if (rest % 2 == 1) {
    add_pair(weights, tile_bytes, rest - 1, x->x + rest - 1, 1, dtype, rows, tiles, sum);
  }
  AVX512_UNROLL(4)
  for (int t = 0; t < tiles; t++) {
    AVX512_UNROLL(12)
    for (int r = 0; r < rows; r++) {
      _mm512_store_ps(acc[t * acc_rows + r], sum[t * rows + r]);
    }
  }
}

AVX512_INLINE void sum_part(const avx512_part *part, const nvfp4_dtype dtype, const int rows) {
  const int together = rows <= 6 ? TILES : 2;
  int64_t tile = 0;
  for (; tile + together <= part->tiles; tile += together) {
    sum_tiles(part, tile, dtype, rows, together);
  }
  for (; tile < part->tiles; tile++) {
    sum_tiles(part, tile, dtype, rows, 1);
  }
}

static const uint8_t *weights_at(const nvfp4_packed *packed, int64_t row_tile, int64_t k) {
  return dense_n16_tile(packed, row_tile) + dense_n16_bytes(k, dense_n16_dtype(packed));
}

#define PASS(dtype, rows) \
  static void sum_##dtype##_##rows(const avx512_part *part) { sum_part(part, NVFP4_DTYPE_##dtype, rows); }
#define KERNEL(dtype)                                                                                               \
  PASS(dtype, 1)                                                                                                    \
  PASS(dtype, 2)                                                                                                    \
  PASS(dtype, 4)                                                                                                    \
  PASS(dtype, 6)                                                                                                    \
  PASS(dtype, 8)                                                                                                    \
  PASS(dtype, 12)                                                                                                   \
  static const avx512_pass passes_##dtype[] = {{1, sum_##dtype##_1}, {2, sum_##dtype##_2}, {4, sum_##dtype##_4},    \
                                               {6, sum_##dtype##_6}, {8, sum_##dtype##_8}, {12, sum_##dtype##_12}}; \
  static const avx512_kernel kernel_##dtype = {.record_bytes = sizeof(record),                                      \
                                               .group_rows = GROUP_ROWS,                                            \
                                               .block_groups = 8,                                                   \
                                               .tiles = TILES,                                                      \
                                               .panel_blocks = PANEL_BLOCKS,                                        \
                                               .weights = weights_at,                                               \
                                               .passes = passes_##dtype,                                            \
                                               .prepare = prepare};
KERNEL(F32)
KERNEL(F16)
KERNEL(BF16)

static size_t workspace_bytes(const nvfp4_layer_desc *desc, int64_t m) { return avx512_workspace_bytes(&kernel_BF16, m, desc->k); }

static nvfp4_status apply_weights(const nvfp4_host *host, const nvfp4_packed *packed, const nvfp4_kernel_args *args, nvfp4_reason *reason) {
  (void)reason;
  nvfp4_dtype dtype = dense_n16_dtype(packed);
  return avx512_apply(dtype == NVFP4_DTYPE_F32 ? &kernel_F32 : dtype == NVFP4_DTYPE_F16 ? &kernel_F16 : &kernel_BF16, host, packed, args);
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
