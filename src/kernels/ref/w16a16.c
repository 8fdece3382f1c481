/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ref_w16a16: y[m,n] = alpha[n] * acc (+ bias[n]); acc = fmaf(x[m,k], w[n,k], acc) over k ascending
 *
 * Dense layers: weights bf16, f16 or f32. Class CANONICAL: the bits of nvfp4_spec_w16a16, for any M, N, K and any number of threads. Plain C, vectorised over n by the compiler.
 * Packed layout: dense_n16, two of whose tiles are one of REF_TILE. Workspace: x as fp32 [m, k].
 */
#include <math.h>
#include <string.h>

#include "base/clones.h"
#include "kernels/dense_n16.h"
#include "kernels/ref/n32.h"

/* Rows of x that share one decoding of a block of weights, and the k of such a block; even. */
enum { ROWS = 8, BLOCK = 16 };

typedef struct w16a16_job {
  const nvfp4_host *host;
  const nvfp4_packed *packed;
  const nvfp4_kernel_args *args;
  float *x;       /* [m, k] */
  int64_t groups; /* of ROWS rows of x */
} w16a16_job;

static size_t workspace_bytes(const nvfp4_layer_desc *desc, int64_t m) { return (size_t)(m * desc->k) * sizeof(float); }

static void prepare_row(void *arg, size_t row) {
  const w16a16_job *job = arg;
  const nvfp4_kernel_args *args = job->args;
  size_t x_bytes = args->x_dtype == NVFP4_DTYPE_F32 ? 4 : 2;
  job->host->to_f32((const char *)args->x + (size_t)((int64_t)row * args->ldx_elems) * x_bytes, args->x_dtype,
                    job->x + (int64_t)row * args->k, args->k);
}

/* 16 rows n of `count` k's into w[k][16]. */
static void decode(const nvfp4_host *host, const uint8_t *tile, nvfp4_dtype dtype, int64_t count, float (*w)[REF_TILE]) {
  float values[BLOCK * DENSE_N16_N];
  int64_t stored = dtype == NVFP4_DTYPE_BF16 ? (count + 1) / 2 * 2 : count;
  host->to_f32(tile, dtype, values, stored * DENSE_N16_N);
  for (int64_t k = 0; k < count; k++) {
    for (int n = 0; n < DENSE_N16_N; n++) {
      w[k][n] = dtype == NVFP4_DTYPE_BF16 ? values[k / 2 * 2 * DENSE_N16_N + 2 * n + (1 - k % 2)] : values[k * DENSE_N16_N + n];
    }
  }
}

/* Sums of 32 n over `count` k's for `rows` rows of x. */
NVFP4_CLONES_FMA
static void add_block_w16a16(float (*w)[REF_TILE], int64_t count, const float *x, int64_t ldx, int64_t rows, float (*acc)[REF_TILE]) {
  for (int64_t m = 0; m < rows; m++) {
    float sum[REF_TILE];
    memcpy(sum, acc[m], sizeof sum);
    for (int64_t k = 0; k < count; k++) {
      float value = x[m * ldx + k];
      for (int n = 0; n < REF_TILE; n++) {
        sum[n] = fmaf(value, w[k][n], sum[n]);
      }
    }
    memcpy(acc[m], sum, sizeof sum);
  }
}

static void apply_tile(void *arg, size_t index) {
  const w16a16_job *job = arg;
  const nvfp4_kernel_args *args = job->args;
  nvfp4_dtype dtype = dense_n16_dtype(job->packed);
  int64_t tile = (int64_t)index / job->groups, m_first = (int64_t)index % job->groups * ROWS;
  int64_t rows = args->m - m_first < ROWS ? args->m - m_first : ROWS;
  bool both = 2 * tile + 1 < dense_n16_tiles(args->n);
  float acc[ROWS][REF_TILE] = {{0}}, w[BLOCK][REF_TILE] = {{0}};
  for (int64_t k = 0; k < args->k; k += BLOCK) {
    int64_t count = args->k - k < BLOCK ? args->k - k : BLOCK;
    for (int half = 0; half <= both; half++) {
      const uint8_t *from = dense_n16_tile(job->packed, 2 * tile + half) + dense_n16_bytes(k, dtype);
      decode(job->host, from, dtype, count, (float(*)[REF_TILE])(void *)&w[0][half * DENSE_N16_N]);
    }
    add_block_w16a16(w, count, job->x + m_first * args->k + k, args->k, rows, acc);
  }
  ref_store_tile(job->host, args, tile, m_first, rows, (const float(*)[REF_TILE])acc);
}

static nvfp4_status apply_weights(const nvfp4_host *host, const nvfp4_packed *packed, const nvfp4_kernel_args *args, nvfp4_reason *reason) {
  (void)reason;
  w16a16_job job = {.host = host, .packed = packed, .args = args, .x = args->workspace, .groups = (args->m + ROWS - 1) / ROWS};
  host->parallel_for(host->cookie, (size_t)args->m, prepare_row, &job);
  host->parallel_for(host->cookie, (size_t)(ref_tiles(args->n) * job.groups), apply_tile, &job);
  return NVFP4_OK;
}

const nvfp4_kernel nvfp4_kernel_ref_w16a16 = {
    .struct_size = sizeof(nvfp4_kernel),
    .id = "ref_w16a16",
    .summary = "the canonical result of dense layers in plain C, on any CPU",
    .layout = &nvfp4_layout_dense_n16,
    .numerics = {NVFP4_MODE_UNQUANTISED, NVFP4_CLASS_CANONICAL, NVFP4_FLAG_BATCH_INVARIANT | NVFP4_FLAG_DETERMINISTIC,
                 NVFP4_ORDER_CANONICAL_W16A16},
    .device = NVFP4_DEVICE_CPU,
    .verified = "AMD EPYC (Zen 5), x86-64, 2026-11-23",
    .is_supported = ref_is_supported,
    .can_implement = ref_can_implement,
    .workspace_bytes = workspace_bytes,
    .apply_weights = apply_weights,
};
