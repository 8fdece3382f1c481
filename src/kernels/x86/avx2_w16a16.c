/* SPDX-License-Identifier: Apache-2.0 */
/*
 * x86_avx2_w16a16: y[m,n] = alpha[n] * acc (+ bias[n]); acc = fmaf(x[m,k], w[n,k], acc) over k ascending
 *
 * Dense layers: weights bf16, f16 or f32. Class CANONICAL: the bits of nvfp4_spec_w16a16, for any M, N, K and any number of threads. AVX2, FMA and F16C.
 * Packed layout: dense_n16. Workspace: x as fp32, [panel of 64 k][m][64 k], so that a panel's rows of x are neighbours.
 */
#include "kernels/dense_n16.h"
#include "kernels/x86/avx2.h"

enum {
  PANEL = 64, /* k of weights that are decoded for many rows of x */
  ROWS = 6,   /* rows of x whose sums are in registers at once: 6 * 2 of 16, with two weights and one x */
  FEW = 2     /* rows of x for which weights go straight from the packed bytes into the sums */
};

#define AVX2_INLINE static inline __attribute__((always_inline))

/* Of FEW rows of x: the bytes ahead to prefetch, since the processors' own prefetchers stop at page ends. */
#define AHEAD 4096

typedef float decoded[PANEL][DENSE_N16_N];

typedef struct w16a16_job {
  const nvfp4_packed *packed;
  const nvfp4_kernel_args *args;
  float *x;
  avx2_split split;
} w16a16_job;

static int64_t panels(int64_t k) { return (k + PANEL - 1) / PANEL; }

static size_t workspace_bytes(const nvfp4_layer_desc *desc, int64_t m) { return (size_t)(m * panels(desc->k) * PANEL) * sizeof(float); }

static void prepare_row(void *arg, size_t row) {
  const w16a16_job *job = arg;
  const nvfp4_kernel_args *args = job->args;
  size_t bytes = avx2_dtype_bytes(args->x_dtype);
  const char *x = (const char *)args->x + (size_t)((int64_t)row * args->ldx_elems) * bytes;
  for (int64_t k = 0; k < args->k; k += 8) {
    float *to = job->x + (k / PANEL * args->m + (int64_t)row) * PANEL + k % PANEL;
    float part[8] = {0};
    if (args->k - k < 8) { /* what lies beyond K is not to be read */
      memcpy(part, x + (size_t)k * bytes, (size_t)(args->k - k) * bytes);
    }
    _mm256_storeu_ps(to, avx2_load8(args->k - k < 8 ? (const char *)part : x + (size_t)k * bytes, args->x_dtype));
  }
}

/* The weights of k (even) and, if count is 2, of k + 1: w[k][half of the 16 rows]. */
AVX2_INLINE void load_pair(const uint8_t *tile, int64_t k, int count, nvfp4_dtype dtype, __m256 w[2][2]) {
  for (int h = 0; h < 2; h++) {
    if (dtype == NVFP4_DTYPE_BF16) {
      __m256i pair = _mm256_load_si256((const __m256i *)(const void *)(tile + k * 32 + 32 * h));
      w[0][h] = _mm256_castsi256_ps(_mm256_and_si256(pair, _mm256_set1_epi32(-0x10000)));
      w[1][h] = _mm256_castsi256_ps(_mm256_slli_epi32(pair, 16));
    } else {
      int64_t stride = dtype == NVFP4_DTYPE_F32 ? 64 : 32;
      w[0][h] = avx2_load8(tile + k * stride + stride / 2 * h, dtype);
      w[1][h] = count == 2 ? avx2_load8(tile + (k + 1) * stride + stride / 2 * h, dtype) : w[0][h];
    }
  }
}

/* Adds k and, if count is 2, k + 1 of `tiles` row tiles for `rows` rows of x, all constants where this is inlined. x [rows][PANEL], from k on. */
AVX2_INLINE void add_pair(const uint8_t *tile, int64_t tile_bytes, int64_t k, int count, nvfp4_dtype dtype, const float *x, int rows,
                          int tiles, __m256 (*acc)[FEW][2]) {
  for (int t = 0; t < tiles; t++) {
    __m256 w[2][2];
    load_pair(tile + t * tile_bytes, k, count, dtype, w);
    for (int i = 0; i < count; i++) {
      for (int m = 0; m < rows; m++) {
        __m256 value = _mm256_set1_ps(x[m * PANEL + i]);
        acc[t][m][0] = _mm256_fmadd_ps(value, w[i][0], acc[t][m][0]);
        acc[t][m][1] = _mm256_fmadd_ps(value, w[i][1], acc[t][m][1]);
      }
    }
  }
}

/* One or two rows of x, `tiles` row tiles: 4 chains of FMAs beside each other. sums [tiles][rows]. */
AVX2_INLINE void sum_few(const uint8_t *tile, int64_t tile_bytes, int64_t k_all, nvfp4_dtype dtype, const float *x, int rows, int tiles,
                         float (*sums)[DENSE_N16_N]) {
  __m256 acc[2][FEW][2];
  for (int t = 0; t < tiles; t++) {
    for (int m = 0; m < rows; m++) {
      acc[t][m][0] = acc[t][m][1] = _mm256_setzero_ps();
    }
  }
  for (; k_all >= PANEL; k_all -= PANEL, x += rows * PANEL, tile += dense_n16_bytes(PANEL, dtype)) {
    for (int64_t k = 0; k < PANEL; k += 2) {
      for (int t = 0; t < tiles; t++) {
        _mm_prefetch((const char *)((uintptr_t)tile + (uintptr_t)(t * tile_bytes + dense_n16_bytes(k, dtype)) + AHEAD), _MM_HINT_T0);
      }
      add_pair(tile, tile_bytes, k, 2, dtype, x + k, rows, tiles, acc);
    }
  }
  for (int64_t k = 0; k + 1 < k_all; k += 2) {
    add_pair(tile, tile_bytes, k, 2, dtype, x + k, rows, tiles, acc);
  }
  if (k_all % 2 == 1) {
    add_pair(tile, tile_bytes, k_all - 1, 1, dtype, x + k_all - 1, rows, tiles, acc);
  }
  for (int t = 0; t < tiles; t++) {
    for (int m = 0; m < rows; m++) {
      _mm256_storeu_ps(sums[t * rows + m], acc[t][m][0]);
      _mm256_storeu_ps(sums[t * rows + m] + 8, acc[t][m][1]);
    }
  }
}

/* The first `count` k of a panel as fp32. */
AVX2_INLINE void decode_as(const uint8_t *tile, int64_t count, nvfp4_dtype dtype, decoded to) {
  for (int64_t k = 0; k < count; k += 2) {
    __m256 w[2][2];
    int pair = count - k < 2 ? 1 : 2;
    load_pair(tile, k, pair, dtype, w);
    for (int i = 0; i < pair; i++) {
      _mm256_store_ps(to[k + i], w[i][0]);
      _mm256_store_ps(to[k + i] + 8, w[i][1]);
    }
  }
}

static void decode(const uint8_t *tile, int64_t count, nvfp4_dtype dtype, decoded to) {
  if (dtype == NVFP4_DTYPE_BF16) {
    decode_as(tile, count, NVFP4_DTYPE_BF16, to);
  } else if (dtype == NVFP4_DTYPE_F16) {
    decode_as(tile, count, NVFP4_DTYPE_F16, to);
  } else {
    decode_as(tile, count, NVFP4_DTYPE_F32, to);
  }
}

/* `rows` <= ROWS rows of x times `count` k of a decoded panel; `rows` is a constant where this is inlined. */
AVX2_INLINE void add_rows(const float (*w)[DENSE_N16_N], int64_t count, const float (*x)[PANEL], int rows, float (*sums)[DENSE_N16_N]) {
  __m256 acc[ROWS][2];
  for (int m = 0; m < rows; m++) {
    acc[m][0] = _mm256_loadu_ps(sums[m]);
    acc[m][1] = _mm256_loadu_ps(sums[m] + 8);
  }
  for (int64_t k = 0; k < count; k++) {
    __m256 w0 = _mm256_load_ps(w[k]), w1 = _mm256_load_ps(w[k] + 8);
    for (int m = 0; m < rows; m++) {
      __m256 value = _mm256_set1_ps(x[m][k]);
      acc[m][0] = _mm256_fmadd_ps(value, w0, acc[m][0]);
      acc[m][1] = _mm256_fmadd_ps(value, w1, acc[m][1]);
    }
  }
  for (int m = 0; m < rows; m++) {
    _mm256_storeu_ps(sums[m], acc[m][0]);
    _mm256_storeu_ps(sums[m] + 8, acc[m][1]);
  }
}

/* Not inlined: alone, its sums stay in registers. */
static __attribute__((noinline)) void add_up_to_6_rows(const float (*w)[DENSE_N16_N], int64_t count, const float (*x)[PANEL], int64_t rows,
                                                       float (*sums)[DENSE_N16_N]) {
  switch (rows) {
    case 1:
      add_rows(w, count, x, 1, sums);
      break;
    case 2:
      add_rows(w, count, x, 2, sums);
      break;
    case 3:
      add_rows(w, count, x, 3, sums);
      break;
    case 4:
      add_rows(w, count, x, 4, sums);
      break;
    case 5:
      add_rows(w, count, x, 5, sums);
      break;
    default:
      add_rows(w, count, x, ROWS, sums);
      break;
  }
}

/* Many rows of x: a panel of weights is decoded once for all. x: the first panel's rows, the next m_all further on. */
static void sum_rows(const uint8_t *tile, int64_t k_all, nvfp4_dtype dtype, const float (*x)[PANEL], int64_t m_all, int64_t rows,
                     float (*sums)[DENSE_N16_N]) {
  memset(sums, 0, (size_t)rows * sizeof *sums);
  for (; k_all > 0; k_all -= PANEL, tile += dense_n16_bytes(PANEL, dtype), x += m_all) {
    _Alignas(32) decoded w;
    int64_t count = k_all < PANEL ? k_all : PANEL;
    decode(tile, count, dtype, w);
    for (int64_t m = 0; m < rows; m += ROWS) {
      add_up_to_6_rows((const float(*)[DENSE_N16_N])w, count, x + m, rows - m, sums + m);
    }
  }
}

/* All rows of x, FEW at most, times `tiles` row tiles, 1 or 2; not inlined: alone, its sums stay in registers. */
#define SUM_FEW(dtype)                                                                                                                    \
  static __attribute__((noinline)) void sum_few_##dtype(const uint8_t *tile, int64_t tile_bytes, int64_t k, const float *x, int64_t rows, \
                                                        int64_t tiles, float(*sums)[DENSE_N16_N]) {                                       \
    if (rows == 1 && tiles == 2) {                                                                                                        \
      sum_few(tile, tile_bytes, k, NVFP4_DTYPE_##dtype, x, 1, 2, sums);                                                                   \
    } else if (rows == 1) {                                                                                                               \
      sum_few(tile, tile_bytes, k, NVFP4_DTYPE_##dtype, x, 1, 1, sums);                                                                   \
    } else {                                                                                                                              \
      for (int64_t t = 0; t < tiles; t++) {                                                                                               \
        sum_few(tile + t * tile_bytes, tile_bytes, k, NVFP4_DTYPE_##dtype, x, 2, 1, sums + t * rows);                                     \
      }                                                                                                                                   \
    }                                                                                                                                     \
  }
SUM_FEW(F32)
SUM_FEW(F16)
SUM_FEW(BF16)

static void run_few(const w16a16_job *job, const avx2_task *task) {
  const nvfp4_kernel_args *args = job->args;
  nvfp4_dtype dtype = dense_n16_dtype(job->packed);
  int64_t tile_bytes = dense_n16_bytes(args->k, dtype);
  for (int64_t row_tile = task->row_tile; row_tile < task->row_tile_end; row_tile += 2) {
    float sums[2 * FEW][DENSE_N16_N];
    int64_t tiles = task->row_tile_end - row_tile < 2 ? 1 : 2;
    const uint8_t *tile = dense_n16_tile(job->packed, row_tile);
    if (dtype == NVFP4_DTYPE_BF16) {
      sum_few_BF16(tile, tile_bytes, args->k, job->x, args->m, tiles, sums);
    } else if (dtype == NVFP4_DTYPE_F16) {
      sum_few_F16(tile, tile_bytes, args->k, job->x, args->m, tiles, sums);
    } else {
      sum_few_F32(tile, tile_bytes, args->k, job->x, args->m, tiles, sums);
    }
    for (int64_t t = 0; t < tiles; t++) {
      avx2_finish(args, row_tile + t, 0, args->m, (const float(*)[DENSE_N16_N])(sums + t * args->m));
    }
  }
}

static void run_task(void *arg, size_t index) {
  const w16a16_job *job = arg;
  const nvfp4_kernel_args *args = job->args;
  avx2_task task = avx2_task_of(&job->split, args->m, index);
  if (args->m <= FEW) {
    run_few(job, &task);
    return;
  }
  const float(*x)[PANEL] = (const float(*)[PANEL])(const void *)job->x;
  for (int64_t row_tile = task.row_tile; row_tile < task.row_tile_end; row_tile++) {
    float sums[AVX2_M_BLOCK][DENSE_N16_N];
    sum_rows(dense_n16_tile(job->packed, row_tile), args->k, dense_n16_dtype(job->packed), x + task.m_first, args->m, task.rows, sums);
    avx2_finish(args, row_tile, task.m_first, task.rows, (const float(*)[DENSE_N16_N])sums);
  }
}

static nvfp4_status apply_weights(const nvfp4_host *host, const nvfp4_packed *packed, const nvfp4_kernel_args *args, nvfp4_reason *reason) {
  (void)reason;
  w16a16_job job = {.packed = packed, .args = args, .x = args->workspace, .split = avx2_split_work(host, args->m, args->n)};
  host->parallel_for(host->cookie, (size_t)args->m, prepare_row, &job);
  host->parallel_for(host->cookie, (size_t)(job.split.tile_tasks * job.split.m_blocks), run_task, &job);
  return NVFP4_OK;
}

static nvfp4_status is_supported(const nvfp4_machine *machine, nvfp4_reason *reason) {
  return avx2_is_supported(machine, NVFP4_ISA_AVX2 | NVFP4_ISA_FMA | NVFP4_ISA_F16C, reason);
}

const nvfp4_kernel nvfp4_kernel_x86_avx2_w16a16 = {
    .struct_size = sizeof(nvfp4_kernel),
    .id = "x86_avx2_w16a16",
    .summary = "the canonical result of dense layers with AVX2 and FMA",
    .layout = &nvfp4_layout_dense_n16,
    .numerics = {NVFP4_MODE_UNQUANTISED, NVFP4_CLASS_CANONICAL, NVFP4_FLAG_BATCH_INVARIANT | NVFP4_FLAG_DETERMINISTIC,
                 NVFP4_ORDER_CANONICAL_W16A16},
    .device = NVFP4_DEVICE_CPU,
    .verified = "AMD EPYC (Zen 5), 2026-11-23",
    .is_supported = is_supported,
    .can_implement = avx2_can_implement,
    .workspace_bytes = workspace_bytes,
    .apply_weights = apply_weights,
};
