/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the AVX2 kernels share: reading x, block scales, splitting the work, and the finish (alpha, bias, one rounding, stores).
 *
 * Only for files compiled with -mavx2 -mfma -mf16c. Everything is static: a function that the linker may share would bring AVX2 code into files for plain x86-64.
 */
#ifndef NVFP4_KERNELS_X86_AVX2_H
#define NVFP4_KERNELS_X86_AVX2_H

#include <immintrin.h>
#include <string.h>

#include "base/reason.h"
#include "kernels/n16k64.h"

/* ------------------------------------------------------------------------------------------------------------------ questions */

/* needed: nvfp4_isa bits; the refusal names the first that is missing. */
static inline nvfp4_status avx2_is_supported(const nvfp4_machine *machine, uint32_t needed, nvfp4_reason *reason) {
  uint32_t missing = needed & ~machine->isa;
  if (missing == 0) {
    return NVFP4_OK;
  }
  return nvfp4_reject(reason, NVFP4_E_MACHINE, "the processor \"%s\" lacks %s; the kernel needs it, and the ref kernels run without",
                      machine->cpu, nvfp4_isa_name(missing & (~missing + 1)));
}

static inline nvfp4_status avx2_can_implement(const nvfp4_layer_desc *desc, nvfp4_reason *reason) {
  (void)desc; /* any N, any K that is a multiple of 16, any M, all element types */
  (void)reason;
  return NVFP4_OK;
}

/* -------------------------------------------------------------------------------------------------------------------- reading */

static inline size_t avx2_dtype_bytes(nvfp4_dtype dtype) { return dtype == NVFP4_DTYPE_F32 ? 4 : 2; }

/* 8 elements of any alignment, exactly. */
static inline __m256 avx2_load8(const void *from, nvfp4_dtype dtype) {
  if (dtype == NVFP4_DTYPE_F32) {
    return _mm256_loadu_ps(from);
  }
  __m128i halves = _mm_loadu_si128(from);
  return dtype == NVFP4_DTYPE_F16 ? _mm256_cvtph_ps(halves) : _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(halves), 16));
}

/* Asks for the tile 16 tiles ahead, since the processors' own prefetchers stop at page ends. It may lie beyond the weights: a prefetch never faults. */
static inline void avx2_prefetch_tile(const uint8_t *tile) {
  for (uintptr_t line = 0; line < N16K64_TILE_BYTES; line += 64) {
    _mm_prefetch((const char *)((uintptr_t)tile + 16 * N16K64_TILE_BYTES + line), _MM_HINT_T0);
  }
}

/* The E4M3 scales of 16 rows, times 2^-8: shifted by 7 bits they are f16 numbers with the exponent bias 15 instead of 7, subnormals included. Weight scales are neither
 * negative nor NaN: the layer refuses them. */
static inline void avx2_scales_2m8(const uint8_t *scales, __m256 out[2]) {
  __m256i f16 = _mm256_slli_epi16(_mm256_cvtepu8_epi16(_mm_load_si128((const __m128i *)(const void *)scales)), 7);
  out[0] = _mm256_cvtph_ps(_mm256_castsi256_si128(f16));
  out[1] = _mm256_cvtph_ps(_mm256_extracti128_si256(f16, 1));
}

/* ---------------------------------------------------------------------------------------------------------------- the work */

/* A task: at most AVX2_M_BLOCK rows of x times some neighbouring row tiles of the weights. A multiple of the 3 and 6 rows that the kernels take at once; enough that decoding a
 * tile for them costs little; and their sums fit L1. */
enum { AVX2_M_BLOCK = 120 };

typedef struct avx2_split {
  int64_t row_tiles, tiles_per_task, tile_tasks, m_blocks;
} avx2_split;

/* About 32 tasks a thread, so that a thread that was held up leaves little behind. */
static inline avx2_split avx2_split_work(const nvfp4_host *host, int64_t m, int64_t n) {
  avx2_split split = {.row_tiles = n16k64_row_tiles(n), .m_blocks = (m + AVX2_M_BLOCK - 1) / AVX2_M_BLOCK};
  int64_t tasks = 32 * (int64_t)host->threads(host->cookie);
  split.tiles_per_task = split.row_tiles * split.m_blocks / tasks;
  split.tiles_per_task = split.tiles_per_task < 1 ? 1 : split.tiles_per_task;
  split.tile_tasks = (split.row_tiles + split.tiles_per_task - 1) / split.tiles_per_task;
  return split;
}

/* What task `index` does. */
typedef struct avx2_task {
  int64_t m_first, rows, row_tile, row_tile_end;
} avx2_task;

static inline avx2_task avx2_task_of(const avx2_split *split, int64_t m, size_t index) {
  avx2_task task = {.m_first = (int64_t)index / split->tile_tasks * AVX2_M_BLOCK,
                    .row_tile = (int64_t)index % split->tile_tasks * split->tiles_per_task};
  task.rows = m - task.m_first < AVX2_M_BLOCK ? m - task.m_first : AVX2_M_BLOCK;
  task.row_tile_end = task.row_tile + split->tiles_per_task;
  task.row_tile_end = task.row_tile_end < split->row_tiles ? task.row_tile_end : split->row_tiles;
  return task;
}

/* --------------------------------------------------------------------------------------------------------------------- finish */

/* Rounds 8 floats (NaNs: positive quiet ones) to dtype, with the bits of format/half.h. */
static inline void avx2_store8(__m256 v, nvfp4_dtype dtype, void *to) {
  if (dtype == NVFP4_DTYPE_F32) {
    _mm256_storeu_ps(to, v);
  } else if (dtype == NVFP4_DTYPE_F16) {
    _mm_storeu_si128(to, _mm256_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT));
  } else {
    __m256i bits = _mm256_castps_si256(v);
    __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
    __m256i rounded = _mm256_srli_epi32(_mm256_add_epi32(_mm256_add_epi32(bits, odd), _mm256_set1_epi32(0x7FFF)), 16);
    __m256i packed = _mm256_packus_epi32(rounded, rounded);
    _mm_storeu_si128(to, _mm256_castsi256_si128(_mm256_permute4x64_epi64(packed, 0x08)));
  }
}

/* y[m_first + i, 16 * row_tile ...] of sums acc [rows][16]: fmaf(alpha, acc, bias) or alpha * acc. */
static inline void avx2_finish(const nvfp4_kernel_args *args, int64_t row_tile, int64_t m_first, int64_t rows,
                               const float (*acc)[N16K64_N]) {
  int64_t n_first = row_tile * N16K64_N;
  int64_t columns = args->n - n_first < N16K64_N ? args->n - n_first : N16K64_N;
  float alpha_rows[N16K64_N] = {0}, bias_rows[N16K64_N] = {0};
  memcpy(alpha_rows, args->alpha + n_first, (size_t)columns * sizeof(float));
  if (args->bias != NULL) {
    size_t bytes = avx2_dtype_bytes(args->bias_dtype);
    memcpy(bias_rows, (const char *)args->bias + (size_t)n_first * bytes, (size_t)columns * bytes);
  }
  __m256 alpha[2], bias[2];
  for (int h = 0; h < 2; h++) {
    alpha[h] = _mm256_loadu_ps(alpha_rows + 8 * h);
    bias[h] = avx2_load8((const char *)bias_rows + 8 * (size_t)h * avx2_dtype_bytes(args->bias_dtype), args->bias_dtype);
  }
  const __m256 nan = _mm256_castsi256_ps(_mm256_set1_epi32(0x7FC00000));
  size_t y_bytes = avx2_dtype_bytes(args->y_dtype);
  for (int64_t m = 0; m < rows; m++) {
    float part_of_tile[N16K64_N];
    char *y = (char *)args->y + (size_t)((m_first + m) * args->ldy_elems + n_first) * y_bytes;
    char *to = columns == N16K64_N ? y : (char *)part_of_tile;
    for (int h = 0; h < 2; h++) {
      __m256 sum = _mm256_loadu_ps(acc[m] + 8 * h);
      __m256 v = args->bias != NULL ? _mm256_fmadd_ps(alpha[h], sum, bias[h]) : _mm256_mul_ps(alpha[h], sum);
      v = _mm256_blendv_ps(v, nan, _mm256_cmp_ps(v, v, _CMP_UNORD_Q));
      avx2_store8(v, args->y_dtype, to + 8 * (size_t)h * y_bytes);
    }
    if (to != y) {
      memcpy(y, part_of_tile, (size_t)columns * y_bytes);
    }
  }
}

#endif
