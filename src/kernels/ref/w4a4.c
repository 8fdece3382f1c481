/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ref_w4a4: y[m,n] = alpha[n] * sum over blocks b ascending ( float(dot16(x, w)) * (sx[m,b] * sw[n,b]) ) (+ bias[n])
 *
 * Class CANONICAL: the bits of nvfp4_spec_w4a4, for any M, N, K and any number of threads. Plain C, vectorised over n by the compiler.
 * Packed layout: ref_n32. Workspace: the quantised x as doubled codes, int16 [m, k], and its scales, fp32 [m, k/16].
 */
#include <string.h>

#include "base/alloc.h"
#include "base/clones.h"
#include "format/e2m1.h"
#include "format/e4m3.h"
#include "format/scale_layout.h"
#include "kernels/ref/n32.h"

/* Rows of x that share one decoding of a weight block. */
enum { ROWS = 8 };

typedef struct w4a4_job {
  const nvfp4_host *host;
  const nvfp4_packed *packed;
  const nvfp4_kernel_args *args;
  int16_t *x2;    /* [m, k] twice the E2M1 value */
  float *sx;      /* [m, k/16] */
  int64_t groups; /* of ROWS rows of x */
} w4a4_job;

static size_t codes_bytes(int64_t m, int64_t k) { return (size_t)nvfp4_round_up(m * k * (int64_t)sizeof(int16_t), 64); }

static size_t workspace_bytes(const nvfp4_layer_desc *desc, int64_t m) {
  return codes_bytes(m, desc->k) + (size_t)(m * (desc->k / NVFP4_BLOCK)) * sizeof(float);
}

/* One row of x -> x2 and sx: quantised here, or taken as the caller quantised it. */
static void prepare_row(void *arg, size_t row) {
  const w4a4_job *job = arg;
  const nvfp4_kernel_args *args = job->args;
  int64_t m = (int64_t)row, blocks = args->k / NVFP4_BLOCK;
  size_t x_bytes = args->x_dtype == NVFP4_DTYPE_F32 ? 4 : 2;
  for (int64_t block = 0; block < blocks; block++) {
    uint8_t codes[NVFP4_BLOCK / 2], scale;
    const nvfp4_quantised_x *q = args->quantised_x;
    if (q != NULL) {
      memcpy(codes, q->codes + m * q->codes_stride_bytes + block * (NVFP4_BLOCK / 2), sizeof codes);
      scale = q->scale_layout == NVFP4_SCALES_LINEAR ? q->scales[m * q->scales_stride_bytes + block]
                                                     : q->scales[nvfp4_scale_offset(q->scale_layout, blocks, m, block)];
    } else {
      float x[NVFP4_BLOCK];
      job->host->to_f32((const char *)args->x + (size_t)(m * args->ldx_elems + block * NVFP4_BLOCK) * x_bytes, args->x_dtype, x,
                        NVFP4_BLOCK);
      job->host->quantise_row(x, NVFP4_BLOCK, args->s_a, codes, &scale);
    }
    int16_t *x2 = job->x2 + m * args->k + block * NVFP4_BLOCK;
    for (int pair = 0; pair < NVFP4_BLOCK / 2; pair++) {
      x2[2 * pair] = (int16_t)nvfp4_e2m1_doubled(codes[pair] & 15);
      x2[2 * pair + 1] = (int16_t)nvfp4_e2m1_doubled(codes[pair] >> 4);
    }
    job->sx[m * blocks + block] = nvfp4_e4m3_to_f32(scale);
  }
}

/* Sums of a tile of 32 n for `rows` rows of x; acc [rows][32] starts at zero. */
NVFP4_CLONES_AVX2
static void sum_tile_w4a4(const uint8_t *block_bytes, int64_t blocks, const int16_t *x2, const float *sx, int64_t k, int64_t rows,
                          float (*acc)[REF_TILE]) {
  for (int64_t block = 0; block < blocks; block++, block_bytes += REF_BLOCK_BYTES) {
    int16_t w2[NVFP4_BLOCK][REF_TILE];
    float sw[REF_TILE];
    ref_decode_block(block_bytes, w2, sw);
    for (int64_t m = 0; m < rows; m++) {
      int16_t dot4[REF_TILE] = {0}; /* |dot4| <= 2304 fits */
      for (int i = 0; i < NVFP4_BLOCK; i++) {
        int16_t x = x2[m * k + block * NVFP4_BLOCK + i];
        for (int n = 0; n < REF_TILE; n++) {
          dot4[n] = (int16_t)(dot4[n] + x * w2[i][n]);
        }
      }
      float scale_x = 0.25f * sx[m * blocks + block]; /* exact: the smallest E4M3 value is 2^-9 */
      for (int n = 0; n < REF_TILE; n++) {
        acc[m][n] = acc[m][n] + (float)dot4[n] * (scale_x * sw[n]);
      }
    }
  }
}

static void apply_tile(void *arg, size_t index) {
  const w4a4_job *job = arg;
  const nvfp4_kernel_args *args = job->args;
  int64_t tile = (int64_t)index / job->groups, m_first = (int64_t)index % job->groups * ROWS;
  int64_t rows = args->m - m_first < ROWS ? args->m - m_first : ROWS, blocks = args->k / NVFP4_BLOCK;
  float acc[ROWS][REF_TILE] = {{0}};
  sum_tile_w4a4(ref_block(job->packed, tile, 0), blocks, job->x2 + m_first * args->k, job->sx + m_first * blocks, args->k, rows, acc);
  ref_store_tile(job->host, args, tile, m_first, rows, acc);
}

static nvfp4_status apply_weights(const nvfp4_host *host, const nvfp4_packed *packed, const nvfp4_kernel_args *args, nvfp4_reason *reason) {
  (void)reason;
  w4a4_job job = {.host = host, .packed = packed, .args = args, .groups = (args->m + ROWS - 1) / ROWS};
  job.x2 = args->workspace;
  job.sx = (float *)(void *)((char *)args->workspace + codes_bytes(args->m, args->k));
  host->parallel_for(host->cookie, (size_t)args->m, prepare_row, &job);
  host->parallel_for(host->cookie, (size_t)(ref_tiles(args->n) * job.groups), apply_tile, &job);
  return NVFP4_OK;
}

const nvfp4_kernel nvfp4_kernel_ref_w4a4 = {
    .struct_size = sizeof(nvfp4_kernel),
    .id = "ref_w4a4",
    .summary = "the canonical W4A4 result in plain C, on any CPU",
    .layout = &nvfp4_layout_ref_n32,
    .numerics = {NVFP4_MODE_W4A4, NVFP4_CLASS_CANONICAL, NVFP4_FLAG_BATCH_INVARIANT | NVFP4_FLAG_DETERMINISTIC, NVFP4_ORDER_CANONICAL_W4A4},
    .device = NVFP4_DEVICE_CPU,
    .verified = "AMD EPYC (Zen 5), x86-64, 2026-11-22",
    .is_supported = ref_is_supported,
    .can_implement = ref_can_implement,
    .workspace_bytes = workspace_bytes,
    .apply_weights = apply_weights,
};
