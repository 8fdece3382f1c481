/* SPDX-License-Identifier: Apache-2.0 */
/*
 * arm_i8mm_w4a4: y[m,n] = alpha[n] * sum over blocks b ascending ( float(dot16(x, w)) * (sx[m,b] * sw[n,b]) ) (+ bias[n])
 *
 * Class CANONICAL. SMMLA multiplies 2 rows of x (8 k each) by 2 rows of w: low and high nibbles of half a block, zipped, are 8 consecutive k of each n. It is for M from 2:
 * a single row would waste half of each instruction, and arm_dotprod_w4a4 serves it from the same packed weights.
 * Needs FEAT_I8MM (Armv8.6; Neoverse-V1 and N2, Apple M2 and later). Packed layout: n16k64.
 * Workspace: x as doubled int8 [groups of 2 pairs of rows][block][pairs of the group][2 halves][2 rows][8 k], and its scales fp32 [groups][block][pairs][2 rows, each twice].
 *
 * Instructions for a block (16 k) of 16 n in gcc 12's code: 154 for one or two rows of x, 215 for three or four (arm_dotprod_w4a4: 144, 236). Run under qemu-user
 * only; speed never measured by us.
 */
#include "base/alloc.h"
#include "kernels/arm/neon.h"

/* Rows of x that share one decoding of a weight block: 16 accumulators and 4 registers of x. */
enum { ROWS = 4, PAIRS = ROWS / 2 };

typedef struct job {
  const nvfp4_host *host;
  const nvfp4_packed *packed;
  const nvfp4_kernel_args *args;
  int8_t *x;      /* [groups][blocks][pairs of the group][2][2][8] */
  float *sx;      /* [groups][blocks][pairs of the group][4] */
  int64_t groups; /* of ROWS rows of x */
} job;

static int64_t pairs_of(int64_t rows) { return (rows + 1) / 2; }

static size_t x_bytes(int64_t m, int64_t k) { return (size_t)nvfp4_round_up(pairs_of(m) * 2 * k, 64); }

static size_t workspace_bytes(const nvfp4_layer_desc *desc, int64_t m) {
  return x_bytes(m, desc->k) + (size_t)(pairs_of(m) * 4 * (desc->k / NVFP4_BLOCK)) * sizeof(float);
}

static int64_t pairs_of_group(const nvfp4_kernel_args *args, int64_t group) {
  int64_t left = pairs_of(args->m) - group * PAIRS;
  return left < PAIRS ? left : PAIRS;
}

/* Rows 2 * index and, if there is one, 2 * index + 1; otherwise zeros. */
static void prepare_pair(void *arg, size_t index) {
  const job *j = arg;
  int64_t pair = (int64_t)index, m = 2 * pair, blocks = j->args->k / NVFP4_BLOCK, pairs = pairs_of_group(j->args, pair / PAIRS);
  bool both = m + 1 < j->args->m;
  for (int64_t block = 0; block < blocks; block++) {
    int64_t at = pair / PAIRS * PAIRS * blocks + block * pairs + pair % PAIRS;
    float even_scale, odd_scale = 0;
    int8x16_t even = arm_x_block(j->args, m, block, &even_scale);
    int8x16_t odd = both ? arm_x_block(j->args, m + 1, block, &odd_scale) : vdupq_n_s8(0);
    vst1q_s8(j->x + at * 32, vcombine_s8(vget_low_s8(even), vget_low_s8(odd)));
    vst1q_s8(j->x + at * 32 + 16, vcombine_s8(vget_high_s8(even), vget_high_s8(odd)));
    vst1q_f32(j->sx + at * 4, vcombine_f32(vdup_n_f32(even_scale), vdup_n_f32(odd_scale)));
  }
}

/* acc + float(dot4) * (sx * sw), exact but for the addition; lanes are 2 rows of x, each for 2 n. */
ARM_INLINE float32x4_t add_block(float32x4_t acc, int8x16_t x_first, int8x16_t x_second, int8x16_t w_first, int8x16_t w_second,
                                 float32x4_t sx, float32x4_t sw) {
  int32x4_t dot4 = vmmlaq_s32(vmmlaq_s32(vdupq_n_s32(0), x_first, w_first), x_second, w_second);
  return vfmaq_f32(acc, vcvtq_f32_s32(dot4), vmulq_f32(sx, sw));
}

ARM_INLINE int8x16_t zip_low(int8x16_t a, int8x16_t b) {
  return vreinterpretq_s8_s32(vzip1q_s32(vreinterpretq_s32_s8(a), vreinterpretq_s32_s8(b)));
}
ARM_INLINE int8x16_t zip_high(int8x16_t a, int8x16_t b) {
  return vreinterpretq_s8_s32(vzip2q_s32(vreinterpretq_s32_s8(a), vreinterpretq_s32_s8(b)));
}
ARM_INLINE float32x4_t low_twice(float32x4_t a) { return vcombine_f32(vget_low_f32(a), vget_low_f32(a)); }
ARM_INLINE float32x4_t high_twice(float32x4_t a) { return vcombine_f32(vget_high_f32(a), vget_high_f32(a)); }

/* Sums of one row tile for `pairs` (a constant where this is inlined) pairs of rows of x. */
ARM_INLINE void sum_tile(const uint8_t *tile, int64_t blocks, const int8_t *x, const float *sx, int pairs, float32x4_t (*out)[4]) {
  const int8x16_t values = arm_e2m1_doubled();
  const uint8x16_t low_nibble = vdupq_n_u8(15);
  float32x4_t acc[PAIRS][4][2];
  for (int p = 0; p < pairs; p++) {
    for (int n4 = 0; n4 < 4; n4++) {
      acc[p][n4][0] = acc[p][n4][1] = vdupq_n_f32(0);
    }
  }
  for (int64_t block = 0; block < blocks; block++, x += pairs * 32, sx += pairs * 4) {
    int64_t b = block % N16K64_BLOCKS;
    const uint8_t *codes = tile + N16K64_SCALES + b * N16K64_BLOCK_CODES;
    float32x4_t sw[4];
    arm_scales_over_256(tile + b * N16K64_N, sw);
    for (int n4 = 0; n4 < 4; n4++) {
      uint8x16_t first = vld1q_u8(codes + 16 * n4), second = vld1q_u8(codes + 64 + 16 * n4);
      int8x16_t w0 = vqtbl1q_s8(values, vandq_u8(first, low_nibble)), w4 = vqtbl1q_s8(values, vshrq_n_u8(first, 4));
      int8x16_t w8 = vqtbl1q_s8(values, vandq_u8(second, low_nibble)), w12 = vqtbl1q_s8(values, vshrq_n_u8(second, 4));
      for (int p = 0; p < pairs; p++) {
        int8x16_t x_first = vld1q_s8(x + p * 32), x_second = vld1q_s8(x + p * 32 + 16);
        float32x4_t scale = vld1q_f32(sx + p * 4);
        acc[p][n4][0] = add_block(acc[p][n4][0], x_first, x_second, zip_low(w0, w4), zip_low(w8, w12), scale, low_twice(sw[n4]));
        acc[p][n4][1] = add_block(acc[p][n4][1], x_first, x_second, zip_high(w0, w4), zip_high(w8, w12), scale, high_twice(sw[n4]));
      }
    }
    tile += b == N16K64_BLOCKS - 1 ? N16K64_TILE_BYTES : 0;
  }
  for (int p = 0; p < pairs; p++) {
    for (int n4 = 0; n4 < 4; n4++) {
      out[2 * p][n4] = vcombine_f32(vget_low_f32(acc[p][n4][0]), vget_low_f32(acc[p][n4][1]));
      out[2 * p + 1][n4] = vcombine_f32(vget_high_f32(acc[p][n4][0]), vget_high_f32(acc[p][n4][1]));
    }
  }
}

static void apply_tile(void *arg, size_t index) {
  const job *j = arg;
  const nvfp4_kernel_args *args = j->args;
  int64_t row_tile = (int64_t)index / j->groups, group = (int64_t)index % j->groups, blocks = args->k / NVFP4_BLOCK;
  int64_t rows = args->m - group * ROWS < ROWS ? args->m - group * ROWS : ROWS;
  const uint8_t *tile = n16k64_tiles(j->packed, row_tile);
  const int8_t *x = j->x + group * blocks * PAIRS * 32;
  const float *sx = j->sx + group * blocks * PAIRS * 4;
  float32x4_t acc[ROWS][4];
  if (pairs_of_group(args, group) == 2) {
    sum_tile(tile, blocks, x, sx, 2, acc);
  } else {
    sum_tile(tile, blocks, x, sx, 1, acc);
  }
  arm_store_tile(j->host, args, row_tile, group * ROWS, rows, acc);
}

static nvfp4_status is_supported(const nvfp4_machine *machine, nvfp4_reason *reason) {
  return arm_check_machine(machine, NVFP4_ISA_NEON | NVFP4_ISA_I8MM, reason);
}

static nvfp4_status can_implement(const nvfp4_layer_desc *desc, nvfp4_reason *reason) {
  (void)desc; /* any N, any K that is a multiple of 16, all element types */
  (void)reason;
  return NVFP4_OK;
}

static nvfp4_status apply_weights(const nvfp4_host *host, const nvfp4_packed *packed, const nvfp4_kernel_args *args, nvfp4_reason *reason) {
  (void)reason;
  job j = {.host = host, .packed = packed, .args = args, .x = args->workspace, .groups = (args->m + ROWS - 1) / ROWS};
  j.sx = (float *)(void *)((char *)args->workspace + x_bytes(args->m, args->k));
  host->parallel_for(host->cookie, (size_t)pairs_of(args->m), prepare_pair, &j);
  host->parallel_for(host->cookie, (size_t)(n16k64_row_tiles(args->n) * j.groups), apply_tile, &j);
  return NVFP4_OK;
}

const nvfp4_kernel nvfp4_kernel_arm_i8mm_w4a4 = {
    .struct_size = sizeof(nvfp4_kernel),
    .id = "arm_i8mm_w4a4",
    .summary = "W4A4 with SMMLA for M from 2, on AArch64 processors with FEAT_I8MM",
    .layout = &nvfp4_layout_n16k64,
    .numerics = {NVFP4_MODE_W4A4, NVFP4_CLASS_CANONICAL, NVFP4_FLAG_BATCH_INVARIANT | NVFP4_FLAG_DETERMINISTIC, NVFP4_ORDER_CANONICAL_W4A4},
    .device = NVFP4_DEVICE_CPU,
    .m_first = 2,
    .m_last = NVFP4_M_MAX,
    .verified = "qemu-user 7.2 (-cpu max), 2026-11-22: bits proven; speed never measured",
    .is_supported = is_supported,
    .can_implement = can_implement,
    .workspace_bytes = workspace_bytes,
    .apply_weights = apply_weights,
};
