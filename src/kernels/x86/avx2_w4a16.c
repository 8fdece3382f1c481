/* SPDX-License-Identifier: Apache-2.0 */
/*
 * avx2_w4a16: y[m,n] = alpha[n] * acc (+ bias[n]); acc = fmaf(part, sw[n,b], acc) over blocks b ascending; part = fmaf(x[m,k], w[n,k], part) over the block's k ascending
 *
 * Class CANONICAL: the bits of nvfp4_spec_w4a16, for any M, N, K and any number of threads. Packed layout: n16k64.
 * Blocks beyond K are left out, not added as zeros: -0 + 0 would be +0.
 * Workspace: x as fp32, [k tile][m][64 k], so that a k tile's rows of x are neighbours.
 *
 * Measured: AMD EPYC (Zen 5, 4.1 GHz, a virtual machine with other users), gcc 12, 2026-11-22; one thread, roofs of the same run:
 *   M = 1, 4096 x 4096 from memory 12.6 GB/s (reading alone: 39; decoding is the limit), from L2 13; M = 16: 103, M = 512: 113 GFLOP/s (fp32 FMAs of 256 bits: 131)
 */
#include "kernels/x86/avx2.h"

/* Rows of x whose sums of a block are in registers at once: 6 * 2 of 16, with two weights and one x. */
enum { ROWS = 6 };

/* A tile of weights, decoded. */
typedef struct w4a16_tile {
  __m256 w[N16K64_K][2]; /* [k][half of the 16 rows] */
  __m256 sw[N16K64_BLOCKS][2];
} w4a16_tile;

typedef struct w4a16_job {
  const nvfp4_packed *packed;
  const nvfp4_kernel_args *args;
  float *x;
  avx2_split split;
} w4a16_job;

static size_t workspace_bytes(const nvfp4_layer_desc *desc, int64_t m) {
  return (size_t)(m * n16k64_k_tiles(desc->k) * N16K64_K) * sizeof(float);
}

static void prepare_row(void *arg, size_t row) {
  const w4a16_job *job = arg;
  const nvfp4_kernel_args *args = job->args;
  size_t bytes = avx2_dtype_bytes(args->x_dtype);
  const char *x = (const char *)args->x + (size_t)((int64_t)row * args->ldx_elems) * bytes;
  for (int64_t k = 0; k < args->k; k += 8) {
    float *to = job->x + (k / N16K64_K * args->m + (int64_t)row) * N16K64_K + k % N16K64_K;
    _mm256_storeu_ps(to, avx2_load8(x + (size_t)k * bytes, args->x_dtype));
  }
}

static inline void scales(const uint8_t *bytes, __m256 sw[2]) {
  avx2_scales_2m8(bytes, sw);
  sw[0] = _mm256_mul_ps(sw[0], _mm256_set1_ps(0x1p8f));
  sw[1] = _mm256_mul_ps(sw[1], _mm256_set1_ps(0x1p8f));
}

/* 32 bytes of codes [8 n][i 0..3] -> [i 0, 1 of 4 n][i 2, 3 of 4 n] in either half, so that bytes that are paired lie where the floats will be. */
static inline __m256i load_codes(const uint8_t *codes) {
  const __m256i order = _mm256_broadcastsi128_si256(_mm_setr_epi8(0, 1, 4, 5, 8, 9, 12, 13, 2, 3, 6, 7, 10, 11, 14, 15));
  return _mm256_shuffle_epi8(_mm256_load_si256((const __m256i *)(const void *)codes), order);
}

/* Such bytes with a code each -> w[i], 8 floats. A value is a bf16 number: both its bytes are looked up and paired to dwords of two k's. */
static inline void decode4(__m256i codes, __m256 w[4]) {
  const __m256i high_bytes =
      _mm256_setr_epi8(0, 0x3F, 0x3F, 0x3F, 0x40, 0x40, 0x40, 0x40, -0x80, -0x41, -0x41, -0x41, -0x40, -0x40, -0x40, -0x40, 0, 0x3F, 0x3F,
                       0x3F, 0x40, 0x40, 0x40, 0x40, -0x80, -0x41, -0x41, -0x41, -0x40, -0x40, -0x40, -0x40);
  const __m256i low_bytes = _mm256_setr_epi8(0, 0, -0x80, -0x40, 0, 0x40, -0x80, -0x40, 0, 0, -0x80, -0x40, 0, 0x40, -0x80, -0x40, 0, 0,
                                             -0x80, -0x40, 0, 0x40, -0x80, -0x40, 0, 0, -0x80, -0x40, 0, 0x40, -0x80, -0x40);
  const __m256 upper = _mm256_castsi256_ps(_mm256_set1_epi32(-0x10000));
  __m256i high = _mm256_shuffle_epi8(high_bytes, codes), low = _mm256_shuffle_epi8(low_bytes, codes);
  __m256i k01 = _mm256_unpacklo_epi8(low, high), k23 = _mm256_unpackhi_epi8(low, high);
  w[0] = _mm256_castsi256_ps(_mm256_slli_epi32(k01, 16));
  w[1] = _mm256_and_ps(_mm256_castsi256_ps(k01), upper);
  w[2] = _mm256_castsi256_ps(_mm256_slli_epi32(k23, 16));
  w[3] = _mm256_and_ps(_mm256_castsi256_ps(k23), upper);
}

/* w[i]: 8 k's of 8 rows. */
static inline void decode8(const uint8_t *codes, __m256 w[8]) {
  const __m256i nibble = _mm256_set1_epi8(15);
  __m256i both = load_codes(codes);
  decode4(_mm256_and_si256(both, nibble), w);
  decode4(_mm256_and_si256(_mm256_srli_epi16(both, 4), nibble), w + 4);
}

/* A quarter of a block for 1 or 2 rows of x: the 4 k's that are the low (shift 0) or high (4) nibbles of codes, from x[m][k] on. */
static inline __attribute__((always_inline)) void add_quarter(const uint8_t *codes, int shift, const float (*x)[N16K64_K], int k, int rows,
                                                              __m256 part[2][2]) {
  for (int h = 0; h < 2; h++) {
    __m256i both = load_codes(codes + 32 * h);
    __m256 w[4];
    decode4(_mm256_and_si256(_mm256_srli_epi16(both, shift), _mm256_set1_epi8(15)), w);
    for (int m = 0; m < rows; m++) {
      for (int i = 0; i < 4; i++) {
        part[m][h] = _mm256_fmadd_ps(_mm256_set1_ps(x[m][k + i]), w[i], part[m][h]);
      }
    }
  }
}

/* `count` blocks of a tile for `rows` rows of x, both constants where this is inlined: 2 * count * rows chains of 16 fmaf run beside each other. */
static inline __attribute__((always_inline)) void add_blocks(const uint8_t *tile, int first, int count, const float (*x)[N16K64_K],
                                                             int rows, __m256 acc[2][2]) {
  const uint8_t *codes = tile + N16K64_SCALES + first * N16K64_BLOCK_CODES;
  int k = first * NVFP4_BLOCK;
  __m256 part[2][2][2]; /* [block][row][half] */
  for (int b = 0; b < count; b++) {
    for (int m = 0; m < rows; m++) {
      part[b][m][0] = part[b][m][1] = _mm256_setzero_ps();
    }
  }
  for (int b = 0; b < count; b++) {
    add_quarter(codes + b * N16K64_BLOCK_CODES, 0, x, k + b * NVFP4_BLOCK, rows, part[b]);
  }
  for (int b = 0; b < count; b++) {
    add_quarter(codes + b * N16K64_BLOCK_CODES, 4, x, k + b * NVFP4_BLOCK + 4, rows, part[b]);
  }
  for (int b = 0; b < count; b++) {
    add_quarter(codes + b * N16K64_BLOCK_CODES + 64, 0, x, k + b * NVFP4_BLOCK + 8, rows, part[b]);
  }
  for (int b = 0; b < count; b++) {
    add_quarter(codes + b * N16K64_BLOCK_CODES + 64, 4, x, k + b * NVFP4_BLOCK + 12, rows, part[b]);
  }
  for (int b = 0; b < count; b++) {
    __m256 sw[2];
    scales(tile + (first + b) * N16K64_N, sw);
    for (int m = 0; m < rows; m++) {
      acc[m][0] = _mm256_fmadd_ps(part[b][m][0], sw[0], acc[m][0]);
      acc[m][1] = _mm256_fmadd_ps(part[b][m][1], sw[1], acc[m][1]);
    }
  }
}

/* 1 or 2 rows of x: weights go from the packed bytes into the sums. */
static inline __attribute__((always_inline)) void sum_few(const uint8_t *tile, int64_t blocks, const float (*x)[N16K64_K], int rows,
                                                          float (*sums)[N16K64_N]) {
  __m256 acc[2][2];
  for (int m = 0; m < rows; m++) {
    acc[m][0] = acc[m][1] = _mm256_setzero_ps();
  }
  for (; blocks >= N16K64_BLOCKS; blocks -= N16K64_BLOCKS, tile += N16K64_TILE_BYTES, x += rows) {
    avx2_prefetch_tile(tile);
    add_blocks(tile, 0, 2, x, rows, acc);
    add_blocks(tile, 2, 2, x, rows, acc);
  }
  for (int b = 0; b < blocks; b++) {
    add_blocks(tile, b, 1, x, rows, acc);
  }
  for (int m = 0; m < rows; m++) {
    _mm256_storeu_ps(sums[m], acc[m][0]);
    _mm256_storeu_ps(sums[m] + 8, acc[m][1]);
  }
}

static __attribute__((noinline)) void sum_row(const uint8_t *tile, int64_t blocks, const float (*x)[N16K64_K], float (*sums)[N16K64_N]) {
  sum_few(tile, blocks, x, 1, sums);
}

static __attribute__((noinline)) void sum_two_rows(const uint8_t *tile, int64_t blocks, const float (*x)[N16K64_K],
                                                   float (*sums)[N16K64_N]) {
  sum_few(tile, blocks, x, 2, sums);
}

static inline void decode_tile(const uint8_t *tile, w4a16_tile *out) {
  for (int b = 0; b < N16K64_BLOCKS; b++) {
    scales(tile + b * N16K64_N, out->sw[b]);
    for (int half = 0; half < 2; half++) {
      for (int h = 0; h < 2; h++) {
        __m256 w[8];
        decode8(tile + N16K64_SCALES + b * N16K64_BLOCK_CODES + 64 * half + 32 * h, w);
        for (int i = 0; i < 8; i++) {
          out->w[b * NVFP4_BLOCK + 8 * half + i][h] = w[i];
        }
      }
    }
  }
}

/* `rows` <= ROWS rows of x times a decoded tile; `rows` is a constant where this is inlined. */
static inline __attribute__((always_inline)) void add_rows(const w4a16_tile *tile, int blocks, const float (*x)[N16K64_K], int rows,
                                                           float (*sums)[N16K64_N]) {
  for (int b = 0; b < blocks; b++) {
    __m256 part[ROWS][2];
    for (int m = 0; m < rows; m++) {
      part[m][0] = part[m][1] = _mm256_setzero_ps();
    }
    for (int k = b * NVFP4_BLOCK; k < (b + 1) * NVFP4_BLOCK; k++) {
      __m256 w0 = tile->w[k][0], w1 = tile->w[k][1];
      for (int m = 0; m < rows; m++) {
        __m256 value = _mm256_set1_ps(x[m][k]);
        part[m][0] = _mm256_fmadd_ps(value, w0, part[m][0]);
        part[m][1] = _mm256_fmadd_ps(value, w1, part[m][1]);
      }
    }
    for (int m = 0; m < rows; m++) {
      _mm256_storeu_ps(sums[m], _mm256_fmadd_ps(part[m][0], tile->sw[b][0], _mm256_loadu_ps(sums[m])));
      _mm256_storeu_ps(sums[m] + 8, _mm256_fmadd_ps(part[m][1], tile->sw[b][1], _mm256_loadu_ps(sums[m] + 8)));
    }
  }
}

/* Not inlined: alone, its sums stay in registers. */
static __attribute__((noinline)) void add_up_to_6_rows(const w4a16_tile *tile, int blocks, const float (*x)[N16K64_K], int64_t rows,
                                                       float (*sums)[N16K64_N]) {
  switch (rows) {
    case 1:
      add_rows(tile, blocks, x, 1, sums);
      break;
    case 2:
      add_rows(tile, blocks, x, 2, sums);
      break;
    case 3:
      add_rows(tile, blocks, x, 3, sums);
      break;
    case 4:
      add_rows(tile, blocks, x, 4, sums);
      break;
    case 5:
      add_rows(tile, blocks, x, 5, sums);
      break;
    default:
      add_rows(tile, blocks, x, ROWS, sums);
      break;
  }
}

/* Many rows of x: a tile is decoded once for all. x: the first k tile's rows, the next m_all further on. */
static void sum_rows(const uint8_t *tile, int64_t blocks, const float (*x)[N16K64_K], int64_t m_all, int64_t rows,
                     float (*sums)[N16K64_N]) {
  memset(sums, 0, (size_t)rows * sizeof *sums);
  for (int64_t block = 0; block < blocks; block += N16K64_BLOCKS, tile += N16K64_TILE_BYTES, x += m_all) {
    w4a16_tile decoded;
    avx2_prefetch_tile(tile);
    decode_tile(tile, &decoded);
    int here = blocks - block < N16K64_BLOCKS ? (int)(blocks - block) : N16K64_BLOCKS;
    for (int64_t m = 0; m < rows; m += ROWS) {
      add_up_to_6_rows(&decoded, here, x + m, rows - m, sums + m);
    }
  }
}

static void run_task(void *arg, size_t index) {
  const w4a16_job *job = arg;
  const nvfp4_kernel_args *args = job->args;
  avx2_task task = avx2_task_of(&job->split, args->m, index);
  int64_t blocks = args->k / NVFP4_BLOCK;
  const float(*x)[N16K64_K] = (const float(*)[N16K64_K])(const void *)job->x;
  for (int64_t row_tile = task.row_tile; row_tile < task.row_tile_end; row_tile++) {
    float sums[AVX2_M_BLOCK][N16K64_N];
    const uint8_t *tile = n16k64_tiles(job->packed, row_tile);
    if (args->m == 1) {
      sum_row(tile, blocks, x, sums);
    } else if (args->m == 2) {
      sum_two_rows(tile, blocks, x, sums);
    } else {
      sum_rows(tile, blocks, x + task.m_first, args->m, task.rows, sums);
    }
    avx2_finish(args, row_tile, task.m_first, task.rows, (const float(*)[N16K64_N])sums);
  }
}

static nvfp4_status apply_weights(const nvfp4_host *host, const nvfp4_packed *packed, const nvfp4_kernel_args *args, nvfp4_reason *reason) {
  (void)reason;
  w4a16_job job = {.packed = packed, .args = args, .x = args->workspace, .split = avx2_split_work(host, args->m, args->n)};
  host->parallel_for(host->cookie, (size_t)args->m, prepare_row, &job);
  host->parallel_for(host->cookie, (size_t)(job.split.tile_tasks * job.split.m_blocks), run_task, &job);
  return NVFP4_OK;
}

static nvfp4_status is_supported(const nvfp4_machine *machine, nvfp4_reason *reason) {
  return avx2_is_supported(machine, NVFP4_ISA_AVX2 | NVFP4_ISA_FMA | NVFP4_ISA_F16C, reason);
}

const nvfp4_kernel nvfp4_kernel_x86_avx2_w4a16 = {
    .struct_size = sizeof(nvfp4_kernel),
    .id = "x86_avx2_w4a16",
    .summary = "the canonical W4A16 result with AVX2 and FMA",
    .layout = &nvfp4_layout_n16k64,
    .numerics = {NVFP4_MODE_W4A16, NVFP4_CLASS_CANONICAL, NVFP4_FLAG_BATCH_INVARIANT | NVFP4_FLAG_DETERMINISTIC,
                 NVFP4_ORDER_CANONICAL_W4A16},
    .device = NVFP4_DEVICE_CPU,
    .verified = "AMD EPYC (Zen 5), 2026-11-23",
    .is_supported = is_supported,
    .can_implement = avx2_can_implement,
    .workspace_bytes = workspace_bytes,
    .apply_weights = apply_weights,
};
