/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The W4A4 kernels with 256-bit vectors: all of x86_avx2_w4a4 and of x86_avxvnni_w4a4, which differ in the step alone; -mavxvnni chooses.
 *
 * Dot-product instructions take one unsigned and one signed operand. Unsigned are here the weights, twice the value plus 12, 0..24; signed is x, twice the value;
 * sums start at -12 * sum of x2, which takes away what the 12 added. Blocks beyond K are zeros with scale 0: their terms are +0, and a sum that starts at +0 and has no
 * subnormal terms is never -0.
 *
 * Workspace: [k tile][m] of w4a4_x, so that a k tile's rows of x are neighbours.
 */
#ifndef NVFP4_KERNELS_X86_AVX2_W4A4_H
#define NVFP4_KERNELS_X86_AVX2_W4A4_H

#include "format/e4m3.h"
#include "format/scale_layout.h"
#include "kernels/x86/avx2.h"

/* ------------------------------------------------------------------------------------------------------------------ the step */

/* w4a4_step: sum + 4 products a lane n, w unsigned bytes and x2 signed bytes. w4a4_total: 8 int32. `start & W4A4_START_MASK` in every lane is a sum of `start`. */
#ifdef __AVXVNNI__

enum { W4A4_START_MASK = -1 };

static inline __m256i w4a4_step(__m256i sum, __m256i w, __m256i x2) { return _mm256_dpbusd_avx_epi32(sum, w, x2); }

static inline __m256i w4a4_total(__m256i sum) { return sum; }

#else

enum { W4A4_START_MASK = 0xFFFF }; /* a lane is two int16: each the start and 4 pairs of products, within +-(2304 + 4 * 2 * 24 * 12) */

/* The empty asm keeps the additions in this order: compilers that balance them into trees keep all products of a block at once, more than there are registers. */
static inline __m256i w4a4_step(__m256i sum, __m256i w, __m256i x2) {
  sum = _mm256_add_epi16(sum, _mm256_maddubs_epi16(w, x2));
  __asm__("" : "+x"(sum));
  return sum;
}

static inline __m256i w4a4_total(__m256i sum) { return _mm256_madd_epi16(sum, _mm256_set1_epi16(1)); }

#endif

/* ---------------------------------------------------------------------------------------------------------------- the memory */

/* Rows of x that use a weight in a register at once. */
enum { W4A4_ROWS = 3 };

/* 64 k of a row of x, quantised. */
typedef struct w4a4_x {
  int8_t x2[N16K64_K];
  int32_t start[N16K64_BLOCKS]; /* -12 * sum of x2, masked by W4A4_START_MASK */
  float scale[N16K64_BLOCKS];   /* times 2^6: 2^8 for avx2_scales_2m8 and 1/4 for the doubled values */
} w4a4_x;

/* A tile of weights, decoded. */
typedef struct w4a4_tile {
  __m256i w[N16K64_BLOCKS][4][2]; /* [block][4 k's][half of the 16 rows] */
  __m256 sw[N16K64_BLOCKS][2];
} w4a4_tile;

typedef struct w4a4_job {
  const nvfp4_packed *packed;
  const nvfp4_kernel_args *args;
  w4a4_x *x;
  avx2_split split;
} w4a4_job;

static size_t w4a4_workspace_bytes(const nvfp4_layer_desc *desc, int64_t m) {
  return (size_t)(m * n16k64_k_tiles(desc->k)) * sizeof(w4a4_x);
}

/* ------------------------------------------------------------------------------------------------------------------------- x */

/* codes: 64 bytes, a code each, k ascending. scales beyond the row's blocks are 0. */
static inline void w4a4_put_x(w4a4_x *out, const __m256i codes[2], __m128 scales) {
  const __m256i doubled =
      _mm256_setr_epi8(0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12, 0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12);
  __m256i sums[2]; /* of 4 k's */
  for (int i = 0; i < 2; i++) {
    __m256i x2 = _mm256_shuffle_epi8(doubled, codes[i]);
    _mm256_storeu_si256((__m256i *)(void *)(out->x2 + 32 * i), x2);
    sums[i] = _mm256_madd_epi16(_mm256_maddubs_epi16(_mm256_set1_epi8(1), x2), _mm256_set1_epi16(1));
  }
  __m256i blocks = _mm256_hadd_epi32(sums[0], sums[1]);
  blocks = _mm256_hadd_epi32(blocks, blocks); /* 0, 2, 0, 2 | 1, 3, 1, 3 */
  __m128i ascending = _mm_unpacklo_epi32(_mm256_castsi256_si128(blocks), _mm256_extracti128_si256(blocks, 1));
  __m128i offsets = _mm_mullo_epi32(ascending, _mm_set1_epi32(-12));
  _mm_storeu_si128((__m128i *)(void *)out->start, _mm_and_si128(offsets, _mm_set1_epi32(W4A4_START_MASK)));
  _mm_storeu_ps(out->scale, _mm_mul_ps(scales, _mm_set1_ps(0x1p6f)));
}

/* Value of e4m3_rn(t), t >= 0 or NaN, saturating at 448. */
static inline __m128 w4a4_round_to_e4m3(__m128 t) {
  t = _mm_min_ps(_mm_set1_ps(NVFP4_E4M3_MAX), t); /* a NaN t stays: MINPS gives its second operand */
  __m128 subnormal =
      _mm_sub_ps(_mm_add_ps(t, _mm_set1_ps(0x1p14f)), _mm_set1_ps(0x1p14f)); /* the ulp of 2^14 is 2^-9, as that of subnormals */
  __m128i bits = _mm_castps_si128(t);
  __m128i odd = _mm_and_si128(_mm_srli_epi32(bits, 20), _mm_set1_epi32(1));
  __m128i up = _mm_add_epi32(_mm_add_epi32(bits, odd), _mm_set1_epi32(0x7FFFF));
  __m128 normal = _mm_castsi128_ps(_mm_and_si128(up, _mm_set1_epi32(~0xFFFFF)));
  __m128 rounded = _mm_blendv_ps(normal, subnormal, _mm_cmplt_ps(t, _mm_set1_ps(0x1p-6f)));
  return _mm_blendv_ps(rounded, t, _mm_cmpunord_ps(t, t));
}

/* Codes of 8 values in 32-bit lanes; operation by operation nvfp4_e2m1_from_f32. */
static inline __m256i w4a4_round_to_e2m1(__m256 value) {
  __m256 a = _mm256_andnot_ps(_mm256_set1_ps(-0.0f), value);
  __m256 halves = _mm256_add_ps(_mm256_add_ps(a, a), _mm256_set1_ps(0x1p23f));
  __m256 ones = _mm256_add_ps(a, _mm256_set1_ps(0x1p23f + 2));
  __m256 twos = _mm256_add_ps(_mm256_mul_ps(a, _mm256_set1_ps(0.5f)), _mm256_set1_ps(0x1p23f + 4));
  __m256 least = _mm256_min_ps(halves, _mm256_set1_ps(0x1p23f + 7)); /* of a NaN: the second operand */
  least = _mm256_min_ps(twos, _mm256_min_ps(ones, least));
  __m256i sign = _mm256_and_si256(_mm256_srli_epi32(_mm256_castps_si256(value), 28), _mm256_set1_epi32(8));
  return _mm256_or_si256(sign, _mm256_and_si256(_mm256_castps_si256(least), _mm256_set1_epi32(7)));
}

/* Greatest magnitude of each of 4 blocks, by the bits: a NaN is above all. */
static inline __m128 w4a4_amax(const __m256 x[8]) {
  __m128i most[4];
  for (int b = 0; b < 4; b++) {
    const __m256i magnitude = _mm256_set1_epi32(0x7FFFFFFF);
    __m256i of8 = _mm256_max_epi32(_mm256_and_si256(_mm256_castps_si256(x[2 * b]), magnitude),
                                   _mm256_and_si256(_mm256_castps_si256(x[2 * b + 1]), magnitude));
    most[b] = _mm_max_epi32(_mm256_castsi256_si128(of8), _mm256_extracti128_si256(of8, 1));
  }
  __m128i of01 = _mm_max_epi32(_mm_unpacklo_epi32(most[0], most[1]), _mm_unpackhi_epi32(most[0], most[1]));
  __m128i of23 = _mm_max_epi32(_mm_unpacklo_epi32(most[2], most[3]), _mm_unpackhi_epi32(most[2], most[3]));
  return _mm_castsi128_ps(_mm_max_epi32(_mm_unpacklo_epi64(of01, of23), _mm_unpackhi_epi64(of01, of23)));
}

/* format/activation.h for 4 blocks, of which the first `blocks` exist. */
static inline void w4a4_quantise_tile(const char *x, nvfp4_dtype dtype, int64_t blocks, float s_a, w4a4_x *out) {
  __m256 in[8];
  for (int i = 0; i < 8; i++) {
    in[i] = i < 2 * blocks ? avx2_load8(x + 8 * (size_t)i * avx2_dtype_bytes(dtype), dtype) : _mm256_setzero_ps();
  }
  const __m128 factor = _mm_set1_ps(s_a), inverse = _mm_div_ps(_mm_set1_ps(1.0f), factor);
  __m128 f = w4a4_round_to_e4m3(_mm_mul_ps(factor, _mm_mul_ps(w4a4_amax(in), _mm_set1_ps(1.0f / 6.0f))));
  __m128 quotient = _mm_div_ps(_mm_set1_ps(1.0f), _mm_mul_ps(f, inverse));
  float o[N16K64_BLOCKS];
  _mm_storeu_ps(o, _mm_and_ps(quotient, _mm_cmpneq_ps(f, _mm_setzero_ps())));
  __m256i codes[2];
  for (int i = 0; i < 2; i++) {
    __m256i c[4]; /* 8 codes each */
    for (int j = 0; j < 4; j++) {
      c[j] = w4a4_round_to_e2m1(_mm256_mul_ps(in[4 * i + j], _mm256_set1_ps(o[2 * i + j / 2])));
    }
    __m256i bytes = _mm256_packus_epi16(_mm256_packs_epi32(c[0], c[1]), _mm256_packs_epi32(c[2], c[3]));
    codes[i] = _mm256_permutevar8x32_epi32(bytes, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
  }
  __m128i exists = _mm_cmpgt_epi32(_mm_set1_epi32((int)blocks), _mm_setr_epi32(0, 1, 2, 3));
  w4a4_put_x(out, codes, _mm_and_ps(f, _mm_castsi128_ps(exists)));
}

/* The same from codes and scales that the caller made. */
static inline void w4a4_take_tile(const nvfp4_quantised_x *q, int64_t m, int64_t k_tile, int64_t k, w4a4_x *out) {
  int64_t columns = k / NVFP4_BLOCK, first = k_tile * N16K64_BLOCKS;
  int64_t blocks = columns - first < N16K64_BLOCKS ? columns - first : N16K64_BLOCKS;
  uint8_t bytes[N16K64_K / 2] = {0};
  float scales[N16K64_BLOCKS] = {0};
  memcpy(bytes, q->codes + m * q->codes_stride_bytes + first * (NVFP4_BLOCK / 2), (size_t)blocks * (NVFP4_BLOCK / 2));
  for (int64_t b = 0; b < blocks; b++) {
    size_t at = q->scale_layout == NVFP4_SCALES_LINEAR ? (size_t)(m * q->scales_stride_bytes + first + b)
                                                       : nvfp4_scale_offset(q->scale_layout, columns, m, first + b);
    scales[b] = nvfp4_e4m3_to_f32(q->scales[at]);
  }
  const __m256i nibble = _mm256_set1_epi8(15);
  __m256i both = _mm256_loadu_si256((const __m256i *)(const void *)bytes);
  __m256i even = _mm256_and_si256(both, nibble), odd = _mm256_and_si256(_mm256_srli_epi16(both, 4), nibble);
  __m256i low = _mm256_unpacklo_epi8(even, odd), high = _mm256_unpackhi_epi8(even, odd); /* blocks 0, 2 and 1, 3 */
  __m256i codes[2] = {_mm256_permute2x128_si256(low, high, 0x20), _mm256_permute2x128_si256(low, high, 0x31)};
  w4a4_put_x(out, codes, _mm_loadu_ps(scales));
}

static void w4a4_prepare_row(void *arg, size_t row) {
  const w4a4_job *job = arg;
  const nvfp4_kernel_args *args = job->args;
  int64_t m = (int64_t)row, columns = args->k / NVFP4_BLOCK, k_tiles = n16k64_k_tiles(args->k);
  size_t bytes = avx2_dtype_bytes(args->x_dtype);
  for (int64_t t = 0; t < k_tiles; t++) {
    w4a4_x *out = job->x + t * args->m + m;
    if (args->quantised_x != NULL) {
      w4a4_take_tile(args->quantised_x, m, t, args->k, out);
    } else {
      const char *x = (const char *)args->x + (size_t)(m * args->ldx_elems + t * N16K64_K) * bytes;
      w4a4_quantise_tile(x, args->x_dtype, columns - t * N16K64_BLOCKS, args->s_a, out);
    }
  }
}

/* ---------------------------------------------------------------------------------------------------------------------- sums */

/* w[i][h]: k's 4i .. 4i+3 of rows 8h .. 8h+7. 32 bytes of codes: the low nibbles are 4 k's of 8 rows, the high nibbles the next 4. */
static inline void w4a4_decode_block(const uint8_t *codes, __m256i w[4][2]) {
  const __m256i nibble = _mm256_set1_epi8(15);
  const __m256i plus12 = _mm256_setr_epi8(12, 13, 14, 15, 16, 18, 20, 24, 12, 11, 10, 9, 8, 6, 4, 0, 12, 13, 14, 15, 16, 18, 20, 24, 12, 11,
                                          10, 9, 8, 6, 4, 0);
  for (int half = 0; half < 2; half++) {
    for (int h = 0; h < 2; h++) {
      __m256i both = _mm256_load_si256((const __m256i *)(const void *)(codes + 64 * half + 32 * h));
      w[2 * half][h] = _mm256_shuffle_epi8(plus12, _mm256_and_si256(both, nibble));
      w[2 * half + 1][h] = _mm256_shuffle_epi8(plus12, _mm256_and_si256(_mm256_srli_epi16(both, 4), nibble));
    }
  }
}

/* The 4 bytes at x2 in every lane. */
static inline __m256i w4a4_four_k(const int8_t *x2) {
  int32_t lane;
  memcpy(&lane, x2, sizeof lane);
  return _mm256_set1_epi32(lane);
}

/* terms[m][h] = dot * sx of block b for `rows` rows of x; `rows` is a constant where this is inlined. Each w is used by all rows at once: loads are what limits. */
static inline __attribute__((always_inline)) void w4a4_block_terms(const __m256i w[4][2], const w4a4_x *x, int rows, int b,
                                                                   __m256 terms[][2]) {
  __m256i sums[W4A4_ROWS][2];
  for (int m = 0; m < rows; m++) {
    sums[m][0] = sums[m][1] = _mm256_set1_epi32(x[m].start[b]);
  }
  for (int i = 0; i < 4; i++) {
    for (int m = 0; m < rows; m++) {
      __m256i x2 = w4a4_four_k(x[m].x2 + b * NVFP4_BLOCK + 4 * i);
      sums[m][0] = w4a4_step(sums[m][0], w[i][0], x2);
      sums[m][1] = w4a4_step(sums[m][1], w[i][1], x2);
    }
  }
  for (int m = 0; m < rows; m++) {
    for (int h = 0; h < 2; h++) {
      terms[m][h] = _mm256_mul_ps(_mm256_cvtepi32_ps(w4a4_total(sums[m][h])), _mm256_set1_ps(x[m].scale[b]));
    }
  }
}

/* One or two rows of x: weights go from the packed bytes into the sums. The terms are exact, so that a fused addition is the canonical one. */
static inline __attribute__((always_inline)) void w4a4_sum_few(const uint8_t *tile, int64_t k_tiles, const w4a4_x *x, int rows,
                                                               float (*sums)[N16K64_N]) {
  __m256 acc[2][2];
  for (int m = 0; m < rows; m++) {
    acc[m][0] = acc[m][1] = _mm256_setzero_ps();
  }
  for (int64_t t = 0; t < k_tiles; t++, tile += N16K64_TILE_BYTES, x += rows) {
    avx2_prefetch_tile(tile);
    for (int b = 0; b < N16K64_BLOCKS; b++) {
      __m256i w[4][2];
      __m256 sw[2], terms[2][2];
      w4a4_decode_block(tile + N16K64_SCALES + b * N16K64_BLOCK_CODES, w);
      avx2_scales_2m8(tile + b * N16K64_N, sw);
      w4a4_block_terms((const __m256i(*)[2])w, x, rows, b, terms);
      for (int m = 0; m < rows; m++) {
        acc[m][0] = _mm256_fmadd_ps(terms[m][0], sw[0], acc[m][0]);
        acc[m][1] = _mm256_fmadd_ps(terms[m][1], sw[1], acc[m][1]);
      }
    }
  }
  for (int m = 0; m < rows; m++) {
    _mm256_storeu_ps(sums[m], acc[m][0]);
    _mm256_storeu_ps(sums[m] + 8, acc[m][1]);
  }
}

/* `rows` <= W4A4_ROWS rows of x times a decoded tile. */
static inline __attribute__((always_inline)) void w4a4_add_rows(const w4a4_tile *tile, const w4a4_x *x, int rows, float (*sums)[N16K64_N]) {
  for (int b = 0; b < N16K64_BLOCKS; b++) {
    __m256 terms[W4A4_ROWS][2];
    w4a4_block_terms(tile->w[b], x, rows, b, terms);
    for (int m = 0; m < rows; m++) {
      _mm256_storeu_ps(sums[m], _mm256_fmadd_ps(terms[m][0], tile->sw[b][0], _mm256_loadu_ps(sums[m])));
      _mm256_storeu_ps(sums[m] + 8, _mm256_fmadd_ps(terms[m][1], tile->sw[b][1], _mm256_loadu_ps(sums[m] + 8)));
    }
  }
}

/* Any number of rows. Not inlined: alone, its sums stay in registers. */
static __attribute__((noinline)) void w4a4_add_tile(const w4a4_tile *tile, const w4a4_x *x, int64_t rows, float (*sums)[N16K64_N]) {
  int64_t m = 0;
  for (; m + W4A4_ROWS <= rows; m += W4A4_ROWS) {
    w4a4_add_rows(tile, x + m, W4A4_ROWS, sums + m);
  }
  if (rows - m == 2) {
    w4a4_add_rows(tile, x + m, 2, sums + m);
  } else if (rows - m == 1) {
    w4a4_add_rows(tile, x + m, 1, sums + m);
  }
}

/* Many rows of x: a tile is decoded once for all. x: the first k tile's rows, the next m_all further on. */
static inline void w4a4_sum_rows(const uint8_t *tile, int64_t k_tiles, const w4a4_x *x, int64_t m_all, int64_t rows,
                                 float (*sums)[N16K64_N]) {
  memset(sums, 0, (size_t)rows * sizeof *sums);
  for (int64_t t = 0; t < k_tiles; t++, tile += N16K64_TILE_BYTES, x += m_all) {
    w4a4_tile decoded;
    avx2_prefetch_tile(tile);
    for (int b = 0; b < N16K64_BLOCKS; b++) {
      w4a4_decode_block(tile + N16K64_SCALES + b * N16K64_BLOCK_CODES, decoded.w[b]);
      avx2_scales_2m8(tile + b * N16K64_N, decoded.sw[b]);
    }
    w4a4_add_tile(&decoded, x, rows, sums);
  }
}

static void w4a4_run_task(void *arg, size_t index) {
  const w4a4_job *job = arg;
  const nvfp4_kernel_args *args = job->args;
  avx2_task task = avx2_task_of(&job->split, args->m, index);
  int64_t k_tiles = n16k64_k_tiles(args->k);
  for (int64_t row_tile = task.row_tile; row_tile < task.row_tile_end; row_tile++) {
    float sums[AVX2_M_BLOCK][N16K64_N];
    const uint8_t *tile = n16k64_tiles(job->packed, row_tile);
    if (args->m == 1) {
      w4a4_sum_few(tile, k_tiles, job->x, 1, sums);
    } else if (args->m == 2) {
      w4a4_sum_few(tile, k_tiles, job->x, 2, sums);
    } else {
      w4a4_sum_rows(tile, k_tiles, job->x + task.m_first, args->m, task.rows, sums);
    }
    avx2_finish(args, row_tile, task.m_first, task.rows, (const float(*)[N16K64_N])sums);
  }
}

static nvfp4_status w4a4_apply_weights(const nvfp4_host *host, const nvfp4_packed *packed, const nvfp4_kernel_args *args,
                                       nvfp4_reason *reason) {
  (void)reason;
  w4a4_job job = {.packed = packed, .args = args, .x = args->workspace, .split = avx2_split_work(host, args->m, args->n)};
  host->parallel_for(host->cookie, (size_t)args->m, w4a4_prepare_row, &job);
  host->parallel_for(host->cookie, (size_t)(job.split.tile_tasks * job.split.m_blocks), w4a4_run_task, &job);
  return NVFP4_OK;
}

#endif
