/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the AVX-512 kernels share: how the work is cut, reading x, block scales, and the finish (alpha, bias, one rounding, stores).
 *
 *   group     rows of x that one pass over a weight tile serves: their sums stay in registers. The last group may be smaller.
 *   panel     some groups and a range of k, small enough for the L2 cache
 *   task      one block of groups x some row tiles of the weights, over all k: panel by panel, so that x comes from L2 and a tile of weights from L1
 *
 * x lies in the workspace as records, one a row and block of 16 k, in the order in which a pass reads them: [group][block][row of the group].
 *
 * Only for files compiled with -mavx512f -mavx512bw -mavx512vl -mavx512dq. Everything is static: a function that the linker may share would bring AVX-512 code into
 * files for plain x86-64.
 */
#ifndef NVFP4_KERNELS_X86_AVX512_H
#define NVFP4_KERNELS_X86_AVX512_H

#include <immintrin.h>
#include <string.h>

#include "base/reason.h"
#include "kernels/n16k64.h"

/* For functions that run on processors without AVX-512, too. */
#define AVX512_PLAIN __attribute__((target("no-avx")))
/* Before a loop whose sums must stay in registers. */
#define AVX512_PRAGMA(text) _Pragma(#text)
#if defined(__clang__)
#define AVX512_UNROLL(times) AVX512_PRAGMA(clang loop unroll(full))
#else
#define AVX512_UNROLL(times) AVX512_PRAGMA(GCC unroll times)
#endif
/* For bodies that are made for several constant numbers of rows. */
#define AVX512_INLINE static inline __attribute__((always_inline))

/* ------------------------------------------------------------------------------------------------------------------ questions */

/* needed: nvfp4_isa bits; the refusal names the first that is missing. */
AVX512_PLAIN static inline nvfp4_status avx512_is_supported(const nvfp4_machine *machine, uint32_t needed, nvfp4_reason *reason) {
  uint32_t missing = needed & ~machine->isa;
  if (missing == 0) {
    return NVFP4_OK;
  }
  return nvfp4_reject(reason, NVFP4_E_MACHINE, "the processor \"%s\" lacks %s; the kernel needs it, and the ref kernels run without",
                      machine->cpu, nvfp4_isa_name(missing & (~missing + 1)));
}

AVX512_PLAIN static inline nvfp4_status avx512_can_implement(const nvfp4_layer_desc *desc, nvfp4_reason *reason) {
  (void)desc; /* any N, any K that is a multiple of 16, any M, all element types */
  (void)reason;
  return NVFP4_OK;
}

enum {
  AVX512_TASK_TILES = 8,          /* row tiles a task, at most */
  AVX512_BLOCK_ROWS = 96,         /* rows of x a task, at most: with the above, 48 KiB of sums on the stack */
  AVX512_PANEL_BYTES = 384 << 10, /* of x: leaves room in an L2 of 1 MiB for the weights' stream */
  AVX512_PREPARE_BLOCKS = 1024,   /* a task of preparing: some 10 us */
  AVX512_WEIGHTS_AHEAD = 8192,    /* bytes to prefetch ahead; measured */
  AVX512_X_AHEAD = 512
};

/* -------------------------------------------------------------------------------------------------------------------- reading */

static inline size_t avx512_dtype_bytes(nvfp4_dtype dtype) { return dtype == NVFP4_DTYPE_F32 ? 4 : 2; }

/* The elements of `lanes`; the others are 0, and their memory is not touched. */
static inline __m512 avx512_load(const void *from, nvfp4_dtype dtype, __mmask16 lanes) {
  if (dtype == NVFP4_DTYPE_F32) {
    return _mm512_maskz_loadu_ps(lanes, from);
  }
  __m256i halves = _mm256_maskz_loadu_epi16(lanes, from);
  return dtype == NVFP4_DTYPE_F16 ? _mm512_cvtph_ps(halves) : _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(halves), 16));
}

/* 16 elements of x, row m, from k on. */
static inline __m512 avx512_load_x(const nvfp4_kernel_args *args, int64_t m, int64_t k) {
  return avx512_load((const char *)args->x + (size_t)(m * args->ldx_elems + k) * avx512_dtype_bytes(args->x_dtype), args->x_dtype, 0xFFFF);
}

/* 16 E4M3 codes that are neither negative nor NaN, times 2^-8: shifted by 7 bits they are f16 numbers with the exponent bias 15 instead of 7, subnormals included. The layer refuses
 * other weight scales. */
static inline __m512 avx512_e4m3_2m8(__m128i codes) { return _mm512_cvtph_ps(_mm256_slli_epi16(_mm256_cvtepu8_epi16(codes), 7)); }

/* Brings memory that a pass will read into L1: the weights some microseconds ahead, since they may come from DRAM and the processors' own prefetchers stop at page ends; the
 * records of x, `bytes` a block, a little ahead, since they come from L2. Both may reach beyond what will be read: a prefetch does not fault. */
AVX512_INLINE void avx512_prefetch(const uint8_t *tile, int64_t block, const void *records, int bytes) {
  const char *weights = (const char *)tile + block * (N16K64_TILE_BYTES / N16K64_BLOCKS) + AVX512_WEIGHTS_AHEAD;
  for (int i = 0; i < 3; i++) {
    _mm_prefetch(weights + 64 * i, _MM_HINT_T0);
  }
  AVX512_UNROLL(12)
  for (int i = 0; i + 64 <= bytes; i += 64) {
    _mm_prefetch((const char *)records + AVX512_X_AHEAD + i, _MM_HINT_T0);
  }
}

/* -------------------------------------------------------------------------------------------------------------------- the work */

struct avx512_job;

/* Some groups of rows, row tiles and blocks of k, whose products a kernel adds to sums; all indices are those of the whole layer. */
typedef struct avx512_panel {
  int64_t tile_first, tile_last, group_first, group_last, block_first, blocks;
  float (*acc)[N16K64_N]; /* avx512_acc finds a tile's and group's */
} avx512_panel;

typedef struct avx512_kernel {
  size_t record_bytes;
  int group_rows;       /* of a full group: the last of pass_rows */
  int block_groups;     /* groups a task */
  int64_t panel_blocks; /* blocks of k a panel, at most, if several groups read a tile; 0: as the L2 cache has it */
  int tile_step;        /* tasks have a multiple of so many row tiles (1 or 2), but for the last one */
  const int *pass_rows; /* ascending: a group of fewer rows is filled up to the next of them by records of zeros */
  /* Makes the records of row m, blocks [first, last); record b lies at + (b - first) * stride. True: the kernel must take care of them (avx512_careful). */
  bool (*prepare)(const nvfp4_kernel_args *args, int64_t m, int64_t first, int64_t last, char *record, size_t stride);
  void (*sum_panel)(const struct avx512_job *job, const avx512_panel *panel);
} avx512_kernel;

typedef struct avx512_job {
  const avx512_kernel *kernel;
  const nvfp4_packed *packed;
  const nvfp4_kernel_args *args;
  int64_t blocks;                 /* K/16, rounded up */
  int64_t prepare_blocks, chunks; /* blocks a task of preparing, tasks a group */
  int64_t task_tiles, tile_tasks; /* row tiles a task, tasks a block of groups */
  uint8_t *careful;               /* [group][chunk]: what prepare returned for any of its rows; after the records in the workspace */
} avx512_job;

static inline int64_t avx512_blocks(int64_t k) { return (k + NVFP4_BLOCK - 1) / NVFP4_BLOCK; }

static inline int64_t avx512_groups(const avx512_kernel *kernel, int64_t m) { return (m + kernel->group_rows - 1) / kernel->group_rows; }

/* Those of the pass that serves a group of that many rows. */
static inline int64_t avx512_pass_rows(const avx512_kernel *kernel, int64_t rows) {
  const int *pass_rows = kernel->pass_rows;
  while (*pass_rows < rows) {
    pass_rows++;
  }
  return *pass_rows;
}

static inline int64_t avx512_rows_of(const avx512_job *job, int64_t group) {
  int64_t left = job->args->m - group * job->kernel->group_rows;
  return left < job->kernel->group_rows ? left : job->kernel->group_rows;
}

/* Rows of the pass that serves the group; its records have so many. */
static inline int64_t avx512_pass_rows_of(const avx512_job *job, int64_t group) {
  return avx512_pass_rows(job->kernel, avx512_rows_of(job, group));
}

/* All groups before this one are full. */
static inline char *avx512_records(const avx512_job *job, int64_t group, int64_t block) {
  int64_t records = group * job->kernel->group_rows * job->blocks + block * avx512_pass_rows_of(job, group);
  return (char *)job->args->workspace + (size_t)records * job->kernel->record_bytes;
}

/* Whether any row of the group is one that the kernel must take care of. */
static inline bool avx512_careful(const avx512_job *job, int64_t group) {
  return memchr(job->careful + group * job->chunks, 1, (size_t)job->chunks) != NULL;
}

static inline float (*avx512_acc(const avx512_job *job, const avx512_panel *panel, int64_t tile, int64_t group))[N16K64_N] {
  int64_t groups = (tile - panel->tile_first) * (panel->group_last - panel->group_first) + group - panel->group_first;
  return panel->acc + groups * job->kernel->group_rows;
}

/* The records' part of the workspace. */
static inline size_t avx512_records_bytes(const avx512_kernel *kernel, int64_t m, int64_t k) {
  int64_t full = m / kernel->group_rows * kernel->group_rows;
  int64_t rows = full + (full < m ? avx512_pass_rows(kernel, m - full) : 0);
  return (size_t)(rows * avx512_blocks(k)) * kernel->record_bytes;
}

static inline avx512_job avx512_job_of(const avx512_kernel *kernel, int64_t m, int64_t k) {
  avx512_job job = {.kernel = kernel, .blocks = avx512_blocks(k)};
  int64_t rows = m < kernel->group_rows ? m : kernel->group_rows;
  job.prepare_blocks = (AVX512_PREPARE_BLOCKS + rows - 1) / rows;
  job.chunks = (job.blocks + job.prepare_blocks - 1) / job.prepare_blocks;
  return job;
}

static inline size_t avx512_workspace_bytes(const avx512_kernel *kernel, int64_t m, int64_t k) {
  return avx512_records_bytes(kernel, m, k) + (size_t)(avx512_groups(kernel, m) * avx512_job_of(kernel, m, k).chunks);
}

static void avx512_prepare_task(void *arg, size_t index) {
  const avx512_job *job = arg;
  int64_t group = (int64_t)index / job->chunks, first = (int64_t)index % job->chunks * job->prepare_blocks;
  int64_t last = first + job->prepare_blocks < job->blocks ? first + job->prepare_blocks : job->blocks;
  int64_t rows = avx512_rows_of(job, group), pass_rows = avx512_pass_rows_of(job, group);
  size_t record_bytes = job->kernel->record_bytes, stride = (size_t)pass_rows * record_bytes;
  char *records = avx512_records(job, group, first);
  bool careful = false;
  for (int64_t row = 0; row < rows; row++) {
    careful |=
        job->kernel->prepare(job->args, group * job->kernel->group_rows + row, first, last, records + (size_t)row * record_bytes, stride);
  }
  for (int64_t block = first; block < last && rows < pass_rows; block++) {
    memset(records + (size_t)(block - first) * stride + (size_t)rows * record_bytes, 0, (size_t)(pass_rows - rows) * record_bytes);
  }
  job->careful[index] = careful;
}

/* Rounds to dtype, with the bits of format/half.h; NaNs must be the positive quiet one. */
static inline void avx512_store(__m512 v, nvfp4_dtype dtype, void *to, __mmask16 lanes) {
  if (dtype == NVFP4_DTYPE_F32) {
    _mm512_mask_storeu_ps(to, lanes, v);
  } else if (dtype == NVFP4_DTYPE_F16) {
    _mm256_mask_storeu_epi16(to, lanes, _mm512_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
  } else {
    __m512i bits = _mm512_castps_si512(v);
    __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
    __m512i rounded = _mm512_srli_epi32(_mm512_add_epi32(_mm512_add_epi32(bits, odd), _mm512_set1_epi32(0x7FFF)), 16);
    _mm256_mask_storeu_epi16(to, lanes, _mm512_cvtepi32_epi16(rounded));
  }
}

/* y[m_first + i, 16 * row_tile ...] of sums acc [rows][16]: fmaf(alpha, acc, bias) or alpha * acc. */
static inline void avx512_finish(const nvfp4_kernel_args *args, int64_t row_tile, int64_t m_first, int64_t rows,
                                 const float (*acc)[N16K64_N]) {
  int64_t n_first = row_tile * N16K64_N;
  __mmask16 lanes = args->n - n_first < N16K64_N ? (__mmask16)((1u << (args->n - n_first)) - 1) : 0xFFFF;
  const __m512 nan = _mm512_castsi512_ps(_mm512_set1_epi32(0x7FC00000));
  __m512 alpha = _mm512_maskz_loadu_ps(lanes, args->alpha + n_first), bias = _mm512_setzero_ps();
  if (args->bias != NULL) {
    bias = avx512_load((const char *)args->bias + (size_t)n_first * avx512_dtype_bytes(args->bias_dtype), args->bias_dtype, lanes);
  }
  for (int64_t i = 0; i < rows; i++) {
    __m512 sum = _mm512_load_ps(acc[i]);
    __m512 v = args->bias != NULL ? _mm512_fmadd_ps(alpha, sum, bias) : _mm512_mul_ps(alpha, sum);
    v = _mm512_mask_mov_ps(v, _mm512_cmp_ps_mask(v, v, _CMP_UNORD_Q), nan);
    char *y = (char *)args->y + (size_t)((m_first + i) * args->ldy_elems + n_first) * avx512_dtype_bytes(args->y_dtype);
    avx512_store(v, args->y_dtype, y, lanes);
  }
}

static void avx512_sum_task(void *arg, size_t index) {
  const avx512_job *job = arg;
  const avx512_kernel *kernel = job->kernel;
  int64_t group_first = (int64_t)index / job->tile_tasks * kernel->block_groups, groups = avx512_groups(kernel, job->args->m);
  int64_t group_last = group_first + kernel->block_groups < groups ? group_first + kernel->block_groups : groups;
  int64_t tile_first = (int64_t)index % job->tile_tasks * job->task_tiles, tiles = n16k64_row_tiles(job->args->n);
  int64_t tile_last = tile_first + job->task_tiles < tiles ? tile_first + job->task_tiles : tiles;
  int64_t block_rows = (group_last - group_first) * kernel->group_rows;
  int64_t m_first = group_first * kernel->group_rows, rows = job->args->m - m_first < block_rows ? job->args->m - m_first : block_rows;
  int64_t panel_blocks = AVX512_PANEL_BYTES / (rows * (int64_t)kernel->record_bytes) / N16K64_BLOCKS * N16K64_BLOCKS;
  if (kernel->panel_blocks != 0 && kernel->panel_blocks < panel_blocks && group_last - group_first > 1) {
    panel_blocks = kernel->panel_blocks;
  }

  _Alignas(64) float acc[AVX512_TASK_TILES * AVX512_BLOCK_ROWS][N16K64_N];
  int64_t acc_tiles = (tile_last - tile_first + kernel->tile_step - 1) / kernel->tile_step * kernel->tile_step;
  memset(acc, 0, (size_t)(acc_tiles * block_rows) * sizeof acc[0]);
  avx512_panel panel = {tile_first, tile_last, group_first, group_last, 0, panel_blocks, acc};
  for (; panel.block_first < job->blocks; panel.block_first += panel_blocks) {
    panel.blocks = job->blocks - panel.block_first < panel_blocks ? job->blocks - panel.block_first : panel_blocks;
    kernel->sum_panel(job, &panel);
  }
  for (int64_t tile = tile_first; tile < tile_last; tile++) {
    avx512_finish(job->args, tile, m_first, rows, (const float(*)[N16K64_N])avx512_acc(job, &panel, tile, group_first));
  }
}

static inline nvfp4_status avx512_apply(const avx512_kernel *kernel, const nvfp4_host *host, const nvfp4_packed *packed,
                                        const nvfp4_kernel_args *args) {
  avx512_job job = avx512_job_of(kernel, args->m, args->k);
  job.packed = packed;
  job.args = args;
  job.careful = (uint8_t *)args->workspace + avx512_records_bytes(kernel, args->m, args->k);
  int64_t groups = avx512_groups(kernel, args->m), row_tiles = n16k64_row_tiles(args->n);
  host->parallel_for(host->cookie, (size_t)(groups * job.chunks), avx512_prepare_task, &job);

  /* About 4 tasks a thread at least, so that a thread that was held up leaves little behind. */
  int64_t group_blocks = (groups + kernel->block_groups - 1) / kernel->block_groups;
  int64_t fair = group_blocks * row_tiles / (4 * (int64_t)host->threads(host->cookie)) / kernel->tile_step * kernel->tile_step;
  job.task_tiles = fair < kernel->tile_step ? kernel->tile_step : fair < AVX512_TASK_TILES ? fair : AVX512_TASK_TILES;
  job.tile_tasks = (row_tiles + job.task_tiles - 1) / job.task_tiles;
  host->parallel_for(host->cookie, (size_t)(group_blocks * job.tile_tasks), avx512_sum_task, &job);
  return NVFP4_OK;
}

#endif
