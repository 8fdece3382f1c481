/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the AMX kernels share: how the work is cut.
 *
 *   x tile   16 rows of x by 64 k, quantised, as a kernel's tiles want them; zeros beyond M and K. In the workspace: [m / 16][k / 64].
 *   w tile   16 rows of the weights by 64 k, decoded for the tiles
 *   panel    AMX_PANEL k tiles: two row tiles of the weights, decoded, stay in L1, a task's x in L2 (256 KiB at most)
 *   task     AMX_TASK_M x tiles and AMX_TASK_N row tiles at most, over all k: panel by panel, and in a panel two row tiles by two row tiles, so that a decoded w tile serves
 *            up to 256 rows of x
 *
 * The tile configuration is a thread's: a task sets it and releases it, so that no thread keeps AMX state. (The probe of the machine asks the system for leave to use AMX, once a process.)
 */
#ifndef NVFP4_KERNELS_X86_AMX_H
#define NVFP4_KERNELS_X86_AMX_H

#include "kernels/x86/amx_tile.h"
#include "kernels/x86/avx512_quantise.h"

enum {
  AMX_ROWS = 16, /* of a tile */
  AMX_PANEL = 8,
  AMX_TASK_M = 16,
  AMX_TASK_N = 4,          /* with the above, 64 KiB of sums on the stack */
  AMX_W_TILE_BYTES = 2048, /* of a decoded w tile, at most */
  AMX_PREPARE = 8          /* k tiles a task of preparing */
};

/* Two row tiles of sums and of decoded weights at most; the distances are in bytes. */
typedef struct amx_operands {
  const char *x, *w;       /* of the first k tile; the next follow */
  size_t x_stride;         /* to the next 16 rows of x */
  size_t w_stride;         /* to the next row tile */
  float (*sums)[N16K64_N]; /* [m][16]; 16 rows of x after the other */
  size_t sums_stride;      /* rows of sums to the next row tile */
  int64_t k_tiles;
} amx_operands;

typedef struct amx_kernel {
  amx_config config;
  size_t x_tile_bytes, w_tile_bytes;
  /* Row `row` of 16 of the x tiles from `tiles` on, blocks [first, last) of row m of x. */
  void (*prepare)(const nvfp4_kernel_args *args, int64_t m, int64_t first, int64_t last, char *tiles, int64_t row);
  void (*decode)(const uint8_t *tile, char *w);
  /* Adds to the sums; m_tiles and n_tiles are 1 or 2. */
  void (*multiply)(const amx_operands *operands, int64_t m_tiles, int64_t n_tiles);
} amx_kernel;

typedef struct amx_job {
  const amx_kernel *kernel;
  const nvfp4_packed *packed;
  const nvfp4_kernel_args *args;
  int64_t k_tiles, m_tiles;
  int64_t chunks;              /* tasks of preparing, 16 rows */
  int64_t task_tiles, n_tasks; /* row tiles a task, tasks for AMX_TASK_M x tiles */
} amx_job;

static inline int64_t amx_least(int64_t a, int64_t b) { return a < b ? a : b; }

static inline int64_t amx_m_tiles(int64_t m) { return (m + AMX_ROWS - 1) / AMX_ROWS; }

static inline size_t amx_workspace_bytes(const amx_kernel *kernel, int64_t m, int64_t k) {
  return (size_t)(amx_m_tiles(m) * n16k64_k_tiles(k)) * kernel->x_tile_bytes;
}

static inline char *amx_x_tile(const amx_job *job, int64_t m_tile, int64_t k_tile) {
  return (char *)job->args->workspace + (size_t)(m_tile * job->k_tiles + k_tile) * job->kernel->x_tile_bytes;
}

static void amx_prepare_task(void *arg, size_t index) {
  const amx_job *job = arg;
  int64_t m_tile = (int64_t)index / job->chunks, first = (int64_t)index % job->chunks * AMX_PREPARE;
  int64_t last = amx_least(first + AMX_PREPARE, job->k_tiles), last_block = amx_least(last * N16K64_BLOCKS, job->args->k / NVFP4_BLOCK);
  int64_t m = m_tile * AMX_ROWS, rows = amx_least(job->args->m - m, AMX_ROWS);
  char *tiles = amx_x_tile(job, m_tile, first);
  memset(tiles, 0, (size_t)(last - first) * job->kernel->x_tile_bytes);
  for (int64_t row = 0; row < rows; row++) {
    job->kernel->prepare(job->args, m + row, first * N16K64_BLOCKS, last_block, tiles, row);
  }
}

/* Decodes a panel of a row tile, and asks for the next one, which comes from DRAM while this one is multiplied. */
static inline void amx_decode_panel(const amx_kernel *kernel, const uint8_t *tiles, int64_t k_tiles, char *w) {
  for (int64_t k = 0; k < k_tiles; k++, tiles += N16K64_TILE_BYTES) {
    for (uintptr_t line = 0; line < N16K64_TILE_BYTES; line += 64) {
      _mm_prefetch((const char *)((uintptr_t)tiles + AMX_PANEL * N16K64_TILE_BYTES + line), _MM_HINT_T1);
    }
    kernel->decode(tiles, w + (size_t)k * kernel->w_tile_bytes);
  }
}

static void amx_multiply_task(void *arg, size_t index) {
  const amx_job *job = arg;
  const amx_kernel *kernel = job->kernel;
  int64_t m_first = (int64_t)index / job->n_tasks * AMX_TASK_M, m_tiles = amx_least(job->m_tiles - m_first, AMX_TASK_M);
  int64_t n_first = (int64_t)index % job->n_tasks * job->task_tiles;
  int64_t n_tiles = amx_least(n16k64_row_tiles(job->args->n) - n_first, job->task_tiles);

  _Alignas(64) char w[2 * AMX_PANEL * AMX_W_TILE_BYTES];
  _Alignas(64) float sums[AMX_TASK_N * AMX_TASK_M * AMX_ROWS][N16K64_N];
  amx_operands operands = {.w = w,
                           .x_stride = (size_t)job->k_tiles * kernel->x_tile_bytes,
                           .w_stride = AMX_PANEL * kernel->w_tile_bytes,
                           .sums_stride = (size_t)m_tiles * AMX_ROWS};
  memset(sums, 0, (size_t)n_tiles * operands.sums_stride * sizeof sums[0]);
  amx_configure(&kernel->config);
  for (int64_t k = 0; k < job->k_tiles; k += AMX_PANEL) {
    operands.k_tiles = amx_least(job->k_tiles - k, AMX_PANEL);
    for (int64_t n = 0; n < n_tiles; n += 2) {
      int64_t pair = amx_least(n_tiles - n, 2);
      for (int64_t i = 0; i < pair; i++) {
        const uint8_t *tiles = n16k64_tiles(job->packed, n_first + n + i) + k * N16K64_TILE_BYTES;
        amx_decode_panel(kernel, tiles, operands.k_tiles, w + (size_t)i * operands.w_stride);
      }
      for (int64_t m = 0; m < m_tiles; m += 2) {
        operands.x = amx_x_tile(job, m_first + m, k);
        operands.sums = sums + (size_t)n * operands.sums_stride + m * AMX_ROWS;
        kernel->multiply(&operands, amx_least(m_tiles - m, 2), pair);
      }
    }
  }
  amx_release();
  int64_t rows = amx_least(job->args->m - m_first * AMX_ROWS, m_tiles * AMX_ROWS);
  for (int64_t n = 0; n < n_tiles; n++) {
    avx512_finish(job->args, n_first + n, m_first * AMX_ROWS, rows, (const float(*)[N16K64_N])(sums + (size_t)n * operands.sums_stride));
  }
}

static inline nvfp4_status amx_apply(const amx_kernel *kernel, const nvfp4_host *host, const nvfp4_packed *packed,
                                     const nvfp4_kernel_args *args) {
  amx_job job = {.kernel = kernel, .packed = packed, .args = args, .k_tiles = n16k64_k_tiles(args->k), .m_tiles = amx_m_tiles(args->m)};
  job.chunks = (job.k_tiles + AMX_PREPARE - 1) / AMX_PREPARE;
  host->parallel_for(host->cookie, (size_t)(job.m_tiles * job.chunks), amx_prepare_task, &job);

  /* About 4 tasks a thread at least, so that a thread that was held up leaves little behind; row tiles in pairs where that leaves enough. */
  int64_t m_tasks = (job.m_tiles + AMX_TASK_M - 1) / AMX_TASK_M, row_tiles = n16k64_row_tiles(args->n);
  int64_t fair = m_tasks * row_tiles / (4 * (int64_t)host->threads(host->cookie));
  job.task_tiles = fair >= AMX_TASK_N ? AMX_TASK_N : fair >= 2 ? 2 : 1;
  job.n_tasks = (row_tiles + job.task_tiles - 1) / job.task_tiles;
  host->parallel_for(host->cookie, (size_t)(m_tasks * job.n_tasks), amx_multiply_task, &job);
  return NVFP4_OK;
}

#endif
