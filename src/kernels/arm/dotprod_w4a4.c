/* SPDX-License-Identifier: Apache-2.0 */
/*
 * arm_dotprod_w4a4: y[m,n] = alpha[n] * sum over blocks b ascending ( float(dot16(x, w)) * (sx[m,b] * sw[n,b]) ) (+ bias[n])
 *
 * Class CANONICAL. A half block of 4 n is 16 bytes; TBL makes int8 of its nibbles, twice the E2M1 values, and SDOT sums 4 k in each of 4 lanes of n. Everything
 * but the addition to the accumulator is exact, so that it may be fused with the product.
 * Needs FEAT_DotProd (Armv8.2; Neoverse-N1, Cortex-A76, Apple M1 and later). Packed layout: n16k64.
 * Workspace: x as doubled int8 [groups of 4 rows][block][rows of the group][16 k], and its scales fp32 [groups][block][rows].
 *
 * Instructions for a block (16 k) of 16 n in gcc 12's code: 98 for one row of x, 144, 191, 236 for two, three, four. Run under qemu-user only; speed never measured
 * by us.
 */
#include "base/alloc.h"
#include "kernels/arm/neon.h"

/* Rows of x that share one decoding of a weight block: 16 accumulators and 4 registers of x. */
enum { ROWS = 4 };

typedef struct job {
  const nvfp4_host *host;
  const nvfp4_packed *packed;
  const nvfp4_kernel_args *args;
  int8_t *x;      /* [groups][blocks][rows of the group][16] */
  float *sx;      /* [groups][blocks][rows of the group] */
  int64_t groups; /* of ROWS rows of x */
} job;

static size_t x_bytes(int64_t m, int64_t k) { return (size_t)nvfp4_round_up(m * k, 64); }

static size_t workspace_bytes(const nvfp4_layer_desc *desc, int64_t m) {
  return x_bytes(m, desc->k) + (size_t)(m * (desc->k / NVFP4_BLOCK)) * sizeof(float);
}

static int64_t rows_of_group(const nvfp4_kernel_args *args, int64_t group) {
  return args->m - group * ROWS < ROWS ? args->m - group * ROWS : ROWS;
}

static void prepare_row(void *arg, size_t row) {
  const job *j = arg;
  int64_t m = (int64_t)row, blocks = j->args->k / NVFP4_BLOCK, rows = rows_of_group(j->args, m / ROWS);
  for (int64_t block = 0; block < blocks; block++) {
    int64_t at = m / ROWS * ROWS * blocks + block * rows + m % ROWS;
    vst1q_s8(j->x + at * NVFP4_BLOCK, arm_x_block(j->args, m, block, &j->sx[at]));
  }
}

/* Sums of one row tile for `rows` (a constant where this is inlined) rows of x. */
ARM_INLINE void sum_tile(const uint8_t *tile, int64_t blocks, const int8_t *x, const float *sx, int rows, float32x4_t (*out)[4]) {
  const int8x16_t values = arm_e2m1_doubled();
  const uint8x16_t low_nibble = vdupq_n_u8(15);
  float32x4_t acc[ROWS][4];
  for (int r = 0; r < rows; r++) {
    acc[r][0] = acc[r][1] = acc[r][2] = acc[r][3] = vdupq_n_f32(0);
  }
  for (int64_t block = 0; block < blocks; block++, x += rows * NVFP4_BLOCK, sx += rows) {
    int64_t b = block % N16K64_BLOCKS;
    const uint8_t *codes = tile + N16K64_SCALES + b * N16K64_BLOCK_CODES;
    float32x4_t sw[4];
    arm_scales_over_256(tile + b * N16K64_N, sw);
    for (int n4 = 0; n4 < 4; n4++) {
      uint8x16_t first = vld1q_u8(codes + 16 * n4), second = vld1q_u8(codes + 64 + 16 * n4);
      int8x16_t w0 = vqtbl1q_s8(values, vandq_u8(first, low_nibble)), w4 = vqtbl1q_s8(values, vshrq_n_u8(first, 4));
      int8x16_t w8 = vqtbl1q_s8(values, vandq_u8(second, low_nibble)), w12 = vqtbl1q_s8(values, vshrq_n_u8(second, 4));
      for (int r = 0; r < rows; r++) {
        int8x16_t xr = vld1q_s8(x + r * NVFP4_BLOCK);
        int32x4_t dot4 = vdotq_laneq_s32(vdupq_n_s32(0), w0, xr, 0);
        dot4 = vdotq_laneq_s32(dot4, w4, xr, 1);
        dot4 = vdotq_laneq_s32(dot4, w8, xr, 2);
        dot4 = vdotq_laneq_s32(dot4, w12, xr, 3);
        acc[r][n4] = vfmaq_f32(acc[r][n4], vcvtq_f32_s32(dot4), vmulq_n_f32(sw[n4], sx[r]));
      }
    }
    tile += b == N16K64_BLOCKS - 1 ? N16K64_TILE_BYTES : 0;
  }
  for (int r = 0; r < rows; r++) {
    out[r][0] = acc[r][0];
    out[r][1] = acc[r][1];
    out[r][2] = acc[r][2];
    out[r][3] = acc[r][3];
  }
}

static void apply_tile(void *arg, size_t index) {
  const job *j = arg;
  const nvfp4_kernel_args *args = j->args;
  int64_t row_tile = (int64_t)index / j->groups, group = (int64_t)index % j->groups, blocks = args->k / NVFP4_BLOCK;
  int64_t rows = rows_of_group(args, group);
  const uint8_t *tile = n16k64_tiles(j->packed, row_tile);
  const int8_t *x = j->x + group * blocks * ROWS * NVFP4_BLOCK;
  const float *sx = j->sx + group * blocks * ROWS;
  float32x4_t acc[ROWS][4];
  switch (rows) {
    case 1:
      sum_tile(tile, blocks, x, sx, 1, acc);
      break;
    case 2:
      sum_tile(tile, blocks, x, sx, 2, acc);
      break;
    case 3:
      sum_tile(tile, blocks, x, sx, 3, acc);
      break;
    default:
      sum_tile(tile, blocks, x, sx, 4, acc);
      break;
  }
  arm_store_tile(j->host, args, row_tile, group * ROWS, rows, acc);
}

static nvfp4_status is_supported(const nvfp4_machine *machine, nvfp4_reason *reason) {
  return arm_check_machine(machine, NVFP4_ISA_NEON | NVFP4_ISA_DOTPROD, reason);
}

static nvfp4_status can_implement(const nvfp4_layer_desc *desc, nvfp4_reason *reason) {
  (void)desc; /* any N, any K that is a multiple of 16, any M, all element types */
  (void)reason;
  return NVFP4_OK;
}

static nvfp4_status apply_weights(const nvfp4_host *host, const nvfp4_packed *packed, const nvfp4_kernel_args *args, nvfp4_reason *reason) {
  (void)reason;
  job j = {.host = host, .packed = packed, .args = args, .x = args->workspace, .groups = (args->m + ROWS - 1) / ROWS};
  j.sx = (float *)(void *)((char *)args->workspace + x_bytes(args->m, args->k));
  host->parallel_for(host->cookie, (size_t)args->m, prepare_row, &j);
  host->parallel_for(host->cookie, (size_t)(n16k64_row_tiles(args->n) * j.groups), apply_tile, &j);
  return NVFP4_OK;
}

const nvfp4_kernel nvfp4_kernel_arm_dotprod_w4a4 = {
    .struct_size = sizeof(nvfp4_kernel),
    .id = "arm_dotprod_w4a4",
    .summary = "W4A4 with SDOT, on AArch64 processors with FEAT_DotProd",
    .layout = &nvfp4_layout_n16k64,
    .numerics = {NVFP4_MODE_W4A4, NVFP4_CLASS_CANONICAL, NVFP4_FLAG_BATCH_INVARIANT | NVFP4_FLAG_DETERMINISTIC, NVFP4_ORDER_CANONICAL_W4A4},
    .device = NVFP4_DEVICE_CPU,
    .verified = "qemu-user 7.2 (-cpu max), 2026-11-22: bits proven; speed never measured",
    .is_supported = is_supported,
    .can_implement = can_implement,
    .workspace_bytes = workspace_bytes,
    .apply_weights = apply_weights,
};
