/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ref_w4a16: y[m,n] = alpha[n] * acc (+ bias[n]); acc = fmaf(part, sw[n,b], acc) over blocks b ascending; part = fmaf(x[m,k], w[n,k], part) over the block's k ascending
 *
 * Class CANONICAL: the bits of nvfp4_spec_w4a16, for any M, N, K and any number of threads. Plain C, vectorised over n by the compiler.
 * Packed layout: ref_n32. Workspace: x as fp32 [m, k].
 */
#include <math.h>

#include "base/clones.h"
#include "kernels/ref/n32.h"

/* Rows of x that share one decoding of a weight block. */
enum { ROWS = 8 };

typedef struct w4a16_job {
  const nvfp4_host *host;
  const nvfp4_packed *packed;
  const nvfp4_kernel_args *args;
  float *x;       /* [m, k] */
  int64_t groups; /* of ROWS rows of x */
} w4a16_job;

static size_t workspace_bytes(const nvfp4_layer_desc *desc, int64_t m) { return (size_t)(m * desc->k) * sizeof(float); }

static void prepare_row(void *arg, size_t row) {
  const w4a16_job *job = arg;
  const nvfp4_kernel_args *args = job->args;
  size_t x_bytes = args->x_dtype == NVFP4_DTYPE_F32 ? 4 : 2;
  job->host->to_f32((const char *)args->x + (size_t)((int64_t)row * args->ldx_elems) * x_bytes, args->x_dtype,
                    job->x + (int64_t)row * args->k, args->k);
}

/* Sums of a tile of 32 n for `rows` rows of x; acc [rows][32] starts at zero. */
NVFP4_CLONES_FMA
static void sum_tile_w4a16(const uint8_t *block_bytes, int64_t blocks, const float *x, int64_t k, int64_t rows, float (*acc)[REF_TILE]) {
  for (int64_t block = 0; block < blocks; block++, block_bytes += REF_BLOCK_BYTES) {
    int16_t w2[NVFP4_BLOCK][REF_TILE];
    float w[NVFP4_BLOCK][REF_TILE], sw[REF_TILE];
    ref_decode_block(block_bytes, w2, sw);
    for (int i = 0; i < NVFP4_BLOCK; i++) {
      for (int n = 0; n < REF_TILE; n++) {
        w[i][n] = 0.5f * (float)w2[i][n];
      }
    }
    for (int64_t m = 0; m < rows; m++) {
      float part[REF_TILE] = {0};
      for (int i = 0; i < NVFP4_BLOCK; i++) {
        float value = x[m * k + block * NVFP4_BLOCK + i];
        for (int n = 0; n < REF_TILE; n++) {
          part[n] = fmaf(value, w[i][n], part[n]);
        }
      }
      for (int n = 0; n < REF_TILE; n++) {
        acc[m][n] = fmaf(part[n], sw[n], acc[m][n]);
      }
    }
  }
}

static void apply_tile(void *arg, size_t index) {
  const w4a16_job *job = arg;
  const nvfp4_kernel_args *args = job->args;
  int64_t tile = (int64_t)index / job->groups, m_first = (int64_t)index % job->groups * ROWS;
  int64_t rows = args->m - m_first < ROWS ? args->m - m_first : ROWS;
  float acc[ROWS][REF_TILE] = {{0}};
  sum_tile_w4a16(ref_block(job->packed, tile, 0), args->k / NVFP4_BLOCK, job->x + m_first * args->k, args->k, rows, acc);
  ref_store_tile(job->host, args, tile, m_first, rows, acc);
}

static nvfp4_status apply_weights(const nvfp4_host *host, const nvfp4_packed *packed, const nvfp4_kernel_args *args, nvfp4_reason *reason) {
  (void)reason;
  w4a16_job job = {.host = host, .packed = packed, .args = args, .x = args->workspace, .groups = (args->m + ROWS - 1) / ROWS};
  host->parallel_for(host->cookie, (size_t)args->m, prepare_row, &job);
  host->parallel_for(host->cookie, (size_t)(ref_tiles(args->n) * job.groups), apply_tile, &job);
  return NVFP4_OK;
}

const nvfp4_kernel nvfp4_kernel_ref_w4a16 = {
    .struct_size = sizeof(nvfp4_kernel),
    .id = "ref_w4a16",
    .summary = "the canonical W4A16 result in plain C, on any CPU",
    .layout = &nvfp4_layout_ref_n32,
    .numerics = {NVFP4_MODE_W4A16, NVFP4_CLASS_CANONICAL, NVFP4_FLAG_BATCH_INVARIANT | NVFP4_FLAG_DETERMINISTIC,
                 NVFP4_ORDER_CANONICAL_W4A16},
    .device = NVFP4_DEVICE_CPU,
    .verified = "AMD EPYC (Zen 5), x86-64, 2026-11-22",
    .is_supported = ref_is_supported,
    .can_implement = ref_can_implement,
    .workspace_bytes = workspace_bytes,
    .apply_weights = apply_weights,
};
