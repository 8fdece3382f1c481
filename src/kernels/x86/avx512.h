/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the AVX-512 kernels share: how the work is cut, reading x, block scales, and the finish (alpha, bias, one rounding, stores).
 *
 *   group     rows of x that one pass over a weight tile serves: their sums stay in registers. The last group may be smaller.
 *   panel     some groups and a range of k, small enough for the L2 cache
 *   task      one block of groups x some row tiles of the weights, over all k: panel by panel, so that x comes from L2 and a tile of weights from L1
 *
 * x lies in the workspace as records, one a row and block of 16 k, in the order in which a pass reads them: [group][block][row of the group]. A dense layer's last block may be
 * shorter.
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

/* What a pass adds to its sums: neighbouring row tiles of the weights times the records of a group, over a panel. */
typedef struct avx512_part {
  const uint8_t *weights; /* of the first row tile, from the panel's first k on */
  int64_t tile_bytes;     /* to the next row tile */
  int64_t tiles;          /* at most those of the kernel */
  int64_t k;              /* a multiple of 16, but at the end of a dense layer's K */
  const void *records;
  float (*acc)[N16K64_N]; /* [rows of the pass][16] */
  int64_t acc_rows;       /* to the sums of the next row tile */
} avx512_part;

typedef void (*avx512_sum_fn)(const avx512_part *part);

/* A pass for up to `rows` rows: groups of fewer rows take the next larger pass, with records of zeros. */
typedef struct avx512_pass {
  int rows;
  avx512_sum_fn sum;
} avx512_pass;

typedef struct avx512_kernel {
  size_t record_bytes;
  int group_rows;       /* of a full group: those of the last pass */
  int block_groups;     /* groups a task */
  int tiles;            /* row tiles that a pass is given at once */
  int64_t panel_blocks; /* blocks of k a panel, at most, if several groups read a tile; 0: as the L2 cache has it */
  /* Where the weights of a row tile begin, from k on, a multiple of 64. */
  const uint8_t *(*weights)(const nvfp4_packed *packed, int64_t row_tile, int64_t k);
  const avx512_pass *passes; /* ascending */
  /* Makes the records of row m, blocks [first, last); record b lies at + (b - first) * stride. */
  void (*prepare)(const nvfp4_kernel_args *args, int64_t m, int64_t first, int64_t last, char *record, size_t stride);
} avx512_kernel;

typedef struct avx512_job {
  const avx512_kernel *kernel;
  const nvfp4_packed *packed;
  const nvfp4_kernel_args *args;
  int64_t blocks;                 /* K/16, rounded up */
  int64_t prepare_blocks, chunks; /* blocks a task of preparing, tasks a group */
  int64_t task_tiles, tile_tasks; /* row tiles a task, tasks a block of groups */
} avx512_job;

static inline int64_t avx512_blocks(int64_t k) { return (k + NVFP4_BLOCK - 1) / NVFP4_BLOCK; }

static inline const uint8_t *avx512_n16k64_weights(const nvfp4_packed *packed, int64_t row_tile, int64_t k) {
  return n16k64_tiles(packed, row_tile) + k / N16K64_K * N16K64_TILE_BYTES;
}

static inline int64_t avx512_groups(const avx512_kernel *kernel, int64_t m) { return (m + kernel->group_rows - 1) / kernel->group_rows; }

/* The pass that serves a group of that many rows. */
static inline const avx512_pass *avx512_pass_for(const avx512_kernel *kernel, int64_t rows) {
  const avx512_pass *pass = kernel->passes;
  while (pass->rows < rows) {
    pass++;
  }
  return pass;
}

static inline int64_t avx512_rows_of(const avx512_job *job, int64_t group) {
  int64_t left = job->args->m - group * job->kernel->group_rows;
  return left < job->kernel->group_rows ? left : job->kernel->group_rows;
}

/* All groups before this one are full. */
static inline char *avx512_records(const avx512_job *job, int64_t group, int64_t pass_rows, int64_t block) {
  int64_t records = group * job->kernel->group_rows * job->blocks + block * pass_rows;
  return (char *)job->args->workspace + (size_t)records * job->kernel->record_bytes;
}

static inline size_t avx512_workspace_bytes(const avx512_kernel *kernel, int64_t m, int64_t k) {
  int64_t full = m / kernel->group_rows * kernel->group_rows;
  int64_t rows = full + (full < m ? avx512_pass_for(kernel, m - full)->rows : 0);
  return (size_t)(rows * avx512_blocks(k)) * kernel->record_bytes;
}

static void avx512_prepare_task(void *arg, size_t index) {
  const avx512_job *job = arg;
  int64_t group = (int64_t)index / job->chunks, first = (int64_t)index % job->chunks * job->prepare_blocks;
  int64_t last = first + job->prepare_blocks < job->blocks ? first + job->prepare_blocks : job->blocks;
  int64_t rows = avx512_rows_of(job, group), pass_rows = avx512_pass_for(job->kernel, rows)->rows;
  size_t record_bytes = job->kernel->record_bytes, stride = (size_t)pass_rows * record_bytes;
  char *records = avx512_records(job, group, pass_rows, first);
  for (int64_t row = 0; row < rows; row++) {
    job->kernel->prepare(job->args, group * job->kernel->group_rows + row, first, last, records + (size_t)row * record_bytes, stride);
  }
  for (int64_t block = first; block < last && rows < pass_rows; block++) {
    memset(records + (size_t)(block - first) * stride + (size_t)rows * record_bytes, 0, (size_t)(pass_rows - rows) * record_bytes);
  }
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
  memset(acc, 0, (size_t)((tile_last - tile_first) * block_rows) * sizeof acc[0]);
  for (int64_t block = 0; block < job->blocks; block += panel_blocks) {
    int64_t k = block * NVFP4_BLOCK, k_left = job->args->k - k;
    avx512_part part = {.k = k_left < panel_blocks * NVFP4_BLOCK ? k_left : panel_blocks * NVFP4_BLOCK, .acc_rows = block_rows};
    part.tile_bytes = kernel->weights(job->packed, 1, 0) - kernel->weights(job->packed, 0, 0);
    for (int64_t tile = tile_first; tile < tile_last; tile += part.tiles) {
      part.weights = kernel->weights(job->packed, tile, k);
      part.tiles = tile_last - tile < kernel->tiles ? tile_last - tile : kernel->tiles;
      for (int64_t group = group_first; group < group_last; group++) {
        const avx512_pass *pass = avx512_pass_for(kernel, avx512_rows_of(job, group));
        part.records = avx512_records(job, group, pass->rows, block);
        part.acc = acc + (tile - tile_first) * block_rows + (group - group_first) * kernel->group_rows;
        pass->sum(&part);
      }
    }
  }
  for (int64_t tile = tile_first; tile < tile_last; tile++) {
    avx512_finish(job->args, tile, m_first, rows, (const float(*)[N16K64_N])(acc + (tile - tile_first) * block_rows));
  }
}

static inline nvfp4_status avx512_apply(const avx512_kernel *kernel, const nvfp4_host *host, const nvfp4_packed *packed,
                                        const nvfp4_kernel_args *args) {
  avx512_job job = {.kernel = kernel, .packed = packed, .args = args, .blocks = avx512_blocks(args->k)};
  int64_t groups = avx512_groups(kernel, args->m), row_tiles = n16k64_row_tiles(args->n);
  int64_t rows = args->m < kernel->group_rows ? args->m : kernel->group_rows;
  job.prepare_blocks = (AVX512_PREPARE_BLOCKS + rows - 1) / rows;
  job.chunks = (job.blocks + job.prepare_blocks - 1) / job.prepare_blocks;
  host->parallel_for(host->cookie, (size_t)(groups * job.chunks), avx512_prepare_task, &job);

  /* About 4 tasks a thread at least, so that a thread that was held up leaves little behind. */
  int64_t group_blocks = (groups + kernel->block_groups - 1) / kernel->block_groups;
  int64_t fair = group_blocks * row_tiles / (4 * (int64_t)host->threads(host->cookie));
  job.task_tiles = fair < 1 ? 1 : fair < AVX512_TASK_TILES ? fair : AVX512_TASK_TILES;
  job.tile_tasks = (row_tiles + job.task_tiles - 1) / job.task_tiles;
  host->parallel_for(host->cookie, (size_t)(group_blocks * job.tile_tasks), avx512_sum_task, &job);
  return NVFP4_OK;
}

#endif
