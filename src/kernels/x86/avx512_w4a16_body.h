/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The body of the AVX-512 kernels for W4A16; one file includes it once. A step multiplies a 32-bit lane of x, one k in fp32 or two in bf16, by the weights of 16 rows. The including file
 * defines before
 *
 *   STEPS                                     of a block: 16 or 8
 *   CAREFUL                                   1 if prepare may return true
 *   decode(codes, i)                          64 bytes of codes, half a block -> the weights of its step i < STEPS / 2
 *   multiply_add(x, w, sum, careful)          sum + x * w as the definition has it, if prepare did not return true or careful is true
 *   prepare                                   that of avx512_kernel
 *
 *   few rows (up to FEW_ROWS)   weights go from the packed bytes through registers into the sums
 *   more                        a k tile of two row tiles is decoded into L1 and serves all groups of a task. Each lane of x that is loaded serves both row tiles, so that the
 *                               multiplications, not the loads, fill the ports: for 6 rows, 8 loads a step of 12 multiplications.
 */
#ifndef NVFP4_KERNELS_X86_AVX512_W4A16_BODY_H
#define NVFP4_KERNELS_X86_AVX512_W4A16_BODY_H

#include "kernels/x86/avx512.h"

enum {
  GROUP_ROWS = 6,
  FEW_ROWS = 4,
  TOGETHER = 8, /* few rows take so many sums of blocks at once: two multiplications a cycle with a latency of 4 */
  PAIR = 2,
  CHUNK_BLOCKS = 2 * N16K64_BLOCKS /* that are decoded at once */ /* row tiles that a lane of x serves */
};

/* x of one row and block. */
typedef struct record {
  int32_t x[STEPS];
} record;

static inline __m512 block_scales(const uint8_t *tile, int64_t block) {
  const __m128i *codes = (const __m128i *)(const void *)(tile + block * N16K64_N);
  return _mm512_mul_ps(avx512_e4m3_2m8(_mm_load_si128(codes)), _mm512_set1_ps(256.0f));
}

/* ------------------------------------------------------------------------------------------------------------------ few rows */

/* Blocks [block, block + together) for `rows` rows: rows * together independent sums hide the latency. */
AVX512_INLINE void sum_blocks(const uint8_t *tile, int64_t block, const record *x, __m512 *acc, const int rows, const int together,
                              const bool careful) {
  const uint8_t *at = tile + block / N16K64_BLOCKS * N16K64_TILE_BYTES;
  const int64_t b = together >= N16K64_BLOCKS ? 0 : block % N16K64_BLOCKS;
  __m512 part[TOGETHER];
  AVX512_UNROLL(8)
  for (int i = 0; i < rows * together; i++) {
    part[i] = _mm512_setzero_ps();
  }
  AVX512_UNROLL(2)
  for (int half = 0; half < 2; half++) {
    __m512i codes[TOGETHER];
    AVX512_UNROLL(8)
    for (int t = 0; t < together; t++) {
      codes[t] = _mm512_load_si512(at + t / N16K64_BLOCKS * N16K64_TILE_BYTES + N16K64_SCALES +
                                   (b + t % N16K64_BLOCKS) * N16K64_BLOCK_CODES + half * 64);
      __asm__("" : "+v"(codes[t])); /* in a register: folded into the shifts, the loads would fill the load ports */
    }
    AVX512_UNROLL(8)
    for (int i = 0; i < STEPS / 2; i++) {
      AVX512_UNROLL(8)
      for (int t = 0; t < together; t++) {
        __m512i w = decode(codes[t], i);
        AVX512_UNROLL(8)
        for (int r = 0; r < rows; r++) {
          __m512i lane = _mm512_set1_epi32(x[t * rows + r].x[half * (STEPS / 2) + i]);
          part[t * rows + r] = multiply_add(lane, w, part[t * rows + r], careful);
        }
      }
    }
  }
  AVX512_UNROLL(8)
  for (int t = 0; t < together; t++) {
    __m512 sw = block_scales(at + t / N16K64_BLOCKS * N16K64_TILE_BYTES, b + t % N16K64_BLOCKS);
    AVX512_UNROLL(8)
    for (int r = 0; r < rows; r++) {
      acc[r] = _mm512_fmadd_ps(part[t * rows + r], sw, acc[r]);
    }
  }
}

AVX512_INLINE void sum_few(const uint8_t *tile, int64_t blocks, const record *x, float (*acc)[N16K64_N], const int rows,
                           const bool careful) {
  const int together = TOGETHER / rows;
  __m512 sum[FEW_ROWS];
  AVX512_UNROLL(4)
  for (int r = 0; r < rows; r++) {
    sum[r] = _mm512_load_ps(acc[r]);
  }
  int64_t block = 0;
  for (; block + together <= blocks; block += together) {
    for (int t = 0; t < together; t++) {
      avx512_prefetch(tile, block + t, x + (block + t) * rows, rows * (int)sizeof *x);
    }
    sum_blocks(tile, block, x + block * rows, sum, rows, together, careful);
  }
  for (; block < blocks; block++) {
    sum_blocks(tile, block, x + block * rows, sum, rows, 1, careful);
  }
  AVX512_UNROLL(4)
  for (int r = 0; r < rows; r++) {
    _mm512_store_ps(acc[r], sum[r]);
  }
}

/* ----------------------------------------------------------------------------------------------------------------- more rows */

/* Some k tiles of two row tiles, decoded. */
typedef struct decoded {
  __m512i w[CHUNK_BLOCKS][STEPS][PAIR];
  __m512 sw[CHUNK_BLOCKS][PAIR];
} decoded;

static void decode_tile(const uint8_t *tile, int of_pair, int64_t first_block, decoded *out) {
  for (uintptr_t line = 0; line < N16K64_TILE_BYTES; line += 64) { /* a prefetch beyond the weights does not fault */
    _mm_prefetch((const char *)((uintptr_t)tile + AVX512_WEIGHTS_AHEAD + line), _MM_HINT_T0);
  }
  for (int b = 0; b < N16K64_BLOCKS; b++) {
    out->sw[first_block + b][of_pair] = block_scales(tile, b);
    for (int half = 0; half < 2; half++) {
      __m512i codes = _mm512_load_si512(tile + N16K64_SCALES + b * N16K64_BLOCK_CODES + half * 64);
      AVX512_UNROLL(8)
      for (int i = 0; i < STEPS / 2; i++) {
        out->w[first_block + b][half * (STEPS / 2) + i][of_pair] = decode(codes, i);
      }
    }
  }
}

/* acc [rows][16] of the first row tile; that of the second is further on by `second` rows. */
AVX512_INLINE void sum_pair(const decoded *chunk, int64_t blocks, const record *x, float (*acc)[N16K64_N], int64_t second, const int rows,
                            const bool careful) {
  __m512 sum[GROUP_ROWS][PAIR];
  AVX512_UNROLL(6)
  for (int r = 0; r < rows; r++) {
    sum[r][0] = _mm512_load_ps(acc[r]);
    sum[r][1] = _mm512_load_ps(acc[second + r]);
  }
  for (int64_t b = 0; b < blocks; b++, x += rows) {
    __m512 part[GROUP_ROWS][PAIR];
    AVX512_UNROLL(6)
    for (int r = 0; r < rows; r++) {
      part[r][0] = part[r][1] = _mm512_setzero_ps();
    }
    for (int step = 0; step < STEPS; step++) {
      __m512i w0 = chunk->w[b][step][0], w1 = chunk->w[b][step][1];
      AVX512_UNROLL(6)
      for (int r = 0; r < rows; r++) {
        __m512i lane = _mm512_set1_epi32(x[r].x[step]);
        part[r][0] = multiply_add(lane, w0, part[r][0], careful);
        part[r][1] = multiply_add(lane, w1, part[r][1], careful);
      }
    }
    AVX512_UNROLL(6)
    for (int r = 0; r < rows; r++) {
      sum[r][0] = _mm512_fmadd_ps(part[r][0], chunk->sw[b][0], sum[r][0]);
      sum[r][1] = _mm512_fmadd_ps(part[r][1], chunk->sw[b][1], sum[r][1]);
    }
  }
  AVX512_UNROLL(6)
  for (int r = 0; r < rows; r++) {
    _mm512_store_ps(acc[r], sum[r][0]);
    _mm512_store_ps(acc[second + r], sum[r][1]);
  }
}

/* -------------------------------------------------------------------------------------------------------------------- passes */

/* careful: what prepare said of the group. Two bodies, so that multiply_add sees a constant; one if CAREFUL is 0. */
#define PASS_FEW(rows)                                                                                                \
  static void few_##rows(const uint8_t *tile, int64_t blocks, const record *x, float(*acc)[N16K64_N], bool careful) { \
    if (CAREFUL && careful) {                                                                                         \
      sum_few(tile, blocks, x, acc, rows, true);                                                                      \
    } else {                                                                                                          \
      sum_few(tile, blocks, x, acc, rows, false);                                                                     \
    }                                                                                                                 \
  }
#define PASS_PAIR(rows)                                                                                                                 \
  static void pair_##rows(const decoded *chunk, int64_t blocks, const record *x, float(*acc)[N16K64_N], int64_t second, bool careful) { \
    if (CAREFUL && careful) {                                                                                                           \
      sum_pair(chunk, blocks, x, acc, second, rows, true);                                                                              \
    } else {                                                                                                                            \
      sum_pair(chunk, blocks, x, acc, second, rows, false);                                                                             \
    }                                                                                                                                   \
  }
PASS_FEW(1)
PASS_FEW(2)
PASS_FEW(4)
PASS_PAIR(1)
PASS_PAIR(2)
PASS_PAIR(4)
PASS_PAIR(6)

static const int pass_rows[] = {1, 2, 4, GROUP_ROWS};
static void (*const few[])(const uint8_t *, int64_t, const record *, float (*)[N16K64_N], bool) = {[1] = few_1, [2] = few_2, [4] = few_4};
typedef void (*pair_fn)(const decoded *chunk, int64_t blocks, const record *x, float (*acc)[N16K64_N], int64_t second, bool careful);
static const pair_fn pairs[] = {[1] = pair_1, [2] = pair_2, [4] = pair_4, [6] = pair_6};

static void sum_panel_few(const avx512_job *job, const avx512_panel *panel) {
  const record *x = (const record *)(const void *)avx512_records(job, 0, panel->block_first);
  for (int64_t tile = panel->tile_first; tile < panel->tile_last; tile++) {
    const uint8_t *weights = n16k64_tiles(job->packed, tile) + panel->block_first / N16K64_BLOCKS * N16K64_TILE_BYTES;
    few[avx512_pass_rows_of(job, 0)](weights, panel->blocks, x, avx512_acc(job, panel, tile, 0), avx512_careful(job, 0));
  }
}

static void sum_panel(const avx512_job *job, const avx512_panel *panel) {
  if (job->args->m <= FEW_ROWS) {
    sum_panel_few(job, panel);
    return;
  }
  struct {
    pair_fn sum;
    int64_t rows;
    const record *x;        /* of the panel's first block */
    float (*acc)[N16K64_N]; /* of the first row tile */
    bool careful;
  } groups[AVX512_BLOCK_ROWS / GROUP_ROWS];
  int64_t group_count = panel->group_last - panel->group_first, acc_rows = group_count * GROUP_ROWS;
  for (int64_t i = 0; i < group_count; i++) {
    int64_t group = panel->group_first + i;
    groups[i].rows = avx512_pass_rows_of(job, group);
    groups[i].sum = pairs[groups[i].rows];
    groups[i].x = (const record *)(const void *)avx512_records(job, group, panel->block_first);
    groups[i].acc = avx512_acc(job, panel, panel->tile_first, group);
    groups[i].careful = avx512_careful(job, group);
  }
  for (int64_t tile = panel->tile_first; tile < panel->tile_last; tile += PAIR) {
    for (int64_t first = 0; first < panel->blocks; first += CHUNK_BLOCKS) {
      int64_t blocks = panel->blocks - first < CHUNK_BLOCKS ? panel->blocks - first : CHUNK_BLOCKS;
      decoded chunk;
      for (int i = 0; i < PAIR; i++) { /* a last tile by itself is its own partner; nobody reads the second sums */
        const uint8_t *weights = n16k64_tiles(job->packed, tile + i < panel->tile_last ? tile + i : tile) +
                                 (panel->block_first + first) / N16K64_BLOCKS * N16K64_TILE_BYTES;
        for (int64_t block = 0; block < blocks; block += N16K64_BLOCKS) {
          decode_tile(weights + block / N16K64_BLOCKS * N16K64_TILE_BYTES, i, block, &chunk);
        }
      }
      for (int64_t i = 0; i < group_count; i++) {
        groups[i].sum(&chunk, blocks, groups[i].x + first * groups[i].rows, groups[i].acc + (tile - panel->tile_first) * acc_rows, acc_rows,
                      groups[i].careful);
      }
    }
  }
}

static const avx512_kernel kernel = {.record_bytes = sizeof(record),
                                     .group_rows = GROUP_ROWS,
                                     .block_groups = AVX512_BLOCK_ROWS / GROUP_ROWS,
                                     .tile_step = PAIR,
                                     .pass_rows = pass_rows,
                                     .prepare = prepare,
                                     .sum_panel = sum_panel};

static size_t workspace_bytes(const nvfp4_layer_desc *desc, int64_t m) { return avx512_workspace_bytes(&kernel, m, desc->k); }

static nvfp4_status apply_weights(const nvfp4_host *host, const nvfp4_packed *packed, const nvfp4_kernel_args *args, nvfp4_reason *reason) {
  (void)reason;
  return avx512_apply(&kernel, host, packed, args);
}

#endif
