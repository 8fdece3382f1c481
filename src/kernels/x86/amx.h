/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the AMX kernels share: how the work is cut. A matrix product after Goto and van de Geijn (Anatomy of High-Performance Matrix Multiplication, 2008), with the weights decoded
 * where others pack.
 *
 *   x tile   16 rows of x by 64 k as a kernel's tiles want them; zeros beyond M and K. In the workspace: [panel][m / 16][k tile of the panel], so that what a task reads of a panel
 *            lies together. With [m / 16][k / 64] it would lie at strides of K * 32 bytes, which for powers of two are few sets of a cache.
 *   w tile   16 rows of the weights by 64 k, decoded for the tiles
 *   panel    AMX_PANEL k tiles
 *   task     AMX_TASK_M x tiles and AMX_TASK_N row tiles of the weights at most, over all k. Panel by panel: decodes its weights, which stay in L2 (128 KiB at most) as the sums do
 *            (128 KiB), and serve up to 256 rows; then two x tiles, which stay in L1 (32 KiB), by two w tiles. The next two x tiles come from L3 to L2 meanwhile.
 *
 * The tile configuration is a thread's: a task sets it and releases it, so that no thread keeps AMX state. (The probe of the machine asks the system for leave to use AMX, once a process.)
 */
#ifndef NVFP4_KERNELS_X86_AMX_H
#define NVFP4_KERNELS_X86_AMX_H

#include "kernels/x86/amx_tile.h"
#include "kernels/x86/avx512.h"

enum {
  AMX_M_FIRST = 16, /* below that, the vectors of VNNI are faster */
  AMX_ROWS = 16,    /* of a tile */
  AMX_PANEL = 8,
  AMX_TASK_M = 16,
  AMX_TASK_N = 8,
  AMX_TASKS_A_THREAD = 4, /* at least, where there is enough work: threads are not equally fast, and two on one core are slower than half */
  AMX_W_TILE_BYTES = 2048, /* of a decoded w tile, at most */
  AMX_AHEAD_UNIT = 256     /* bytes: a cache line for each 16 k of a k tile */
};

/* Two x tiles and two row tiles at most; the distances are in bytes. */
typedef struct amx_operands {
  const char *x, *w;       /* of the first k tile; the next follow */
  size_t x_stride;         /* to the next 16 rows of x */
  size_t w_stride;         /* to the next row tile */
  float (*sums)[N16K64_N]; /* [m][16]; 16 rows of x after the other */
  size_t sums_stride;      /* rows of sums to the next row tile */
  int64_t k_tiles;
  const char *ahead; /* x that will be wanted next: amx_prefetch() brings so many bytes of it a k tile to L2 */
  int64_t ahead_bytes;
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
  int64_t panels;
  int64_t task_tiles, n_tasks; /* row tiles a task, tasks for AMX_TASK_M x tiles */
} amx_job;

static inline int64_t amx_least(int64_t a, int64_t b) { return a < b ? a : b; }

static inline int64_t amx_m_tiles(int64_t m) { return (m + AMX_ROWS - 1) / AMX_ROWS; }

static inline size_t amx_workspace_bytes(const amx_kernel *kernel, int64_t m, int64_t k) {
  return (size_t)(amx_m_tiles(m) * n16k64_k_tiles(k)) * kernel->x_tile_bytes;
}

static inline int64_t amx_panel_tiles(const amx_job *job, int64_t panel) { return amx_least(job->k_tiles - panel * AMX_PANEL, AMX_PANEL); }

/* The first of a panel. All panels before it are whole. */
static inline char *amx_x_tile(const amx_job *job, int64_t panel, int64_t m_tile) {
  int64_t before = panel * AMX_PANEL * job->m_tiles + m_tile * amx_panel_tiles(job, panel);
  return (char *)job->args->workspace + (size_t)before * job->kernel->x_tile_bytes;
}

static void amx_prepare_task(void *arg, size_t index) {
  const amx_job *job = arg;
  int64_t m_tile = (int64_t)index / job->panels, panel = (int64_t)index % job->panels, k_tiles = amx_panel_tiles(job, panel);
  int64_t first = panel * AMX_PANEL * N16K64_BLOCKS, last = amx_least(first + k_tiles * N16K64_BLOCKS, job->args->k / NVFP4_BLOCK);
  int64_t m = m_tile * AMX_ROWS, rows = amx_least(job->args->m - m, AMX_ROWS);
  char *tiles = amx_x_tile(job, panel, m_tile);
  if (rows < AMX_ROWS || last - first < k_tiles * N16K64_BLOCKS) {
    memset(tiles, 0, (size_t)k_tiles * job->kernel->x_tile_bytes);
  }
  for (int64_t row = 0; row < rows; row++) {
    job->kernel->prepare(job->args, m + row, first, last, tiles, row);
  }
}

/* A kernel's share for k [k, k + steps) of a panel. */
AVX512_INLINE void amx_prefetch(const amx_operands *o, int64_t k, int64_t steps) {
  for (int64_t at = k * o->ahead_bytes / N16K64_K; at < (k + steps) * o->ahead_bytes / N16K64_K; at += 64) {
    _mm_prefetch(o->ahead + at, _MM_HINT_T1);
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

  _Alignas(64) char w[AMX_TASK_N * AMX_PANEL * AMX_W_TILE_BYTES];
  _Alignas(64) float sums[AMX_TASK_N * AMX_TASK_M * AMX_ROWS][N16K64_N];
  const int64_t n_pairs = (n_tiles + 1) / 2, share = (2 * (int64_t)kernel->x_tile_bytes + n_pairs - 1) / n_pairs;
  amx_operands operands = {.w_stride = AMX_PANEL * kernel->w_tile_bytes,
                           .sums_stride = (size_t)m_tiles * AMX_ROWS,
                           .ahead_bytes = (share + AMX_AHEAD_UNIT - 1) / AMX_AHEAD_UNIT * AMX_AHEAD_UNIT};
  memset(sums, 0, (size_t)n_tiles * operands.sums_stride * sizeof sums[0]);
  amx_configure(&kernel->config);
  for (int64_t panel = 0; panel < job->panels; panel++) {
    operands.k_tiles = amx_panel_tiles(job, panel);
    operands.x_stride = (size_t)operands.k_tiles * kernel->x_tile_bytes;
    for (int64_t n = 0; n < n_tiles; n++) {
      const uint8_t *tiles = n16k64_tiles(job->packed, n_first + n) + panel * AMX_PANEL * N16K64_TILE_BYTES;
      amx_decode_panel(kernel, tiles, operands.k_tiles, w + (size_t)n * operands.w_stride);
    }
    for (int64_t m = 0; m < m_tiles; m += 2) {
      operands.x = amx_x_tile(job, panel, m_first + m);
      const char *next =
          m + 2 < m_tiles ? operands.x + 2 * operands.x_stride : amx_x_tile(job, amx_least(panel + 1, job->panels - 1), m_first);
      for (int64_t n = 0; n < n_tiles; n += 2) {
        operands.w = w + (size_t)n * operands.w_stride;
        operands.sums = sums + (size_t)n * operands.sums_stride + m * AMX_ROWS;
        operands.ahead = next + n / 2 * operands.k_tiles * operands.ahead_bytes;
        kernel->multiply(&operands, amx_least(m_tiles - m, 2), amx_least(n_tiles - n, 2));
      }
    }
  }
  amx_release();
  /* 16 rows of all row tiles after the other: neighbours in y share cache lines. */
  int64_t m_last = amx_least(job->args->m, (m_first + m_tiles) * AMX_ROWS);
  for (int64_t m = m_first * AMX_ROWS; m < m_last; m += AMX_ROWS) {
    for (int64_t n = 0; n < n_tiles; n++) {
      const float(*of)[N16K64_N] = (const float(*)[N16K64_N])(sums + (size_t)n * operands.sums_stride + (m - m_first * AMX_ROWS));
      avx512_finish(job->args, n_first + n, m, amx_least(m_last - m, AMX_ROWS), of);
    }
  }
}

static inline nvfp4_status amx_apply(const amx_kernel *kernel, const nvfp4_host *host, const nvfp4_packed *packed,
                                     const nvfp4_kernel_args *args) {
  amx_job job = {.kernel = kernel, .packed = packed, .args = args, .k_tiles = n16k64_k_tiles(args->k), .m_tiles = amx_m_tiles(args->m)};
  job.panels = (job.k_tiles + AMX_PANEL - 1) / AMX_PANEL;
  host->parallel_for(host->cookie, (size_t)(job.m_tiles * job.panels), amx_prepare_task, &job);

  /* Row tiles in pairs where that leaves enough tasks. */
  int64_t m_tasks = (job.m_tiles + AMX_TASK_M - 1) / AMX_TASK_M, row_tiles = n16k64_row_tiles(args->n);
  int64_t fair = m_tasks * row_tiles / (AMX_TASKS_A_THREAD * (int64_t)host->threads(host->cookie));
  job.task_tiles = fair >= AMX_TASK_N ? AMX_TASK_N : fair >= 2 ? fair / 2 * 2 : 1;
  job.n_tasks = (row_tiles + job.task_tiles - 1) / job.task_tiles;
  host->parallel_for(host->cookie, (size_t)(m_tasks * job.n_tasks), amx_multiply_task, &job);
  return NVFP4_OK;
}

#endif
