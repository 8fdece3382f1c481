/* SPDX-License-Identifier: Apache-2.0 */
/*
 * arm_neon_w4a16: y[m,n] = alpha[n] * acc (+ bias[n]); acc = fmaf(part, sw[n,b], acc) over blocks b ascending; part = fmaf(x[m,k], w[n,k], part) over the block's k ascending
 *
 * Class CANONICAL. Lanes are 4 n. An E2M1 value as f16 has a low byte of zero: TBL gives the high bytes of 16 values at once, FCVTL widens them, exactly.
 * Runs on every AArch64 processor. Packed layout: n16k64. Workspace: x as fp32 [groups of 8 rows][block][rows of the group][16 k].
 *
 * Instructions for a block (16 k) of 16 n in gcc 12's code: 292 for one row of x, 388 for two, 584 for four, 1058 for eight (64 a row are the FMAs). Run under
 * qemu-user only; speed never measured by us.
 */
#include "kernels/arm/neon.h"

/* Rows of x that share one decoding of a weight block. */
enum { ROWS = 8 };

typedef struct job {
  const nvfp4_host *host;
  const nvfp4_packed *packed;
  const nvfp4_kernel_args *args;
  float *x;       /* [groups][blocks][rows of the group][16] */
  int64_t groups; /* of ROWS rows of x */
} job;

static size_t workspace_bytes(const nvfp4_layer_desc *desc, int64_t m) { return (size_t)(m * desc->k) * sizeof(float); }

static int64_t rows_of_group(const nvfp4_kernel_args *args, int64_t group) {
  return args->m - group * ROWS < ROWS ? args->m - group * ROWS : ROWS;
}

static void prepare_row(void *arg, size_t row) {
  const job *j = arg;
  const nvfp4_kernel_args *args = j->args;
  int64_t m = (int64_t)row, rows = rows_of_group(args, m / ROWS);
  size_t bytes = args->x_dtype == NVFP4_DTYPE_F32 ? 4 : 2;
  float *to = j->x + m / ROWS * ROWS * args->k + m % ROWS * NVFP4_BLOCK;
  for (int64_t k = 0; k < args->k; k += NVFP4_BLOCK, to += rows * NVFP4_BLOCK) {
    float32x4_t x[4];
    arm_load_x((const char *)args->x + (size_t)(m * args->ldx_elems + k) * bytes, args->x_dtype, x);
    for (int i = 0; i < 4; i++) {
      vst1q_f32(to + 4 * i, x[i]);
    }
  }
}

/* High bytes of f16: 4 k's of 4 n -> w[k], a lane an n. */
ARM_INLINE void widen(uint8x16_t high_bytes, float32x4_t w[4]) {
  const uint8x16_t zero = vdupq_n_u8(0);
  float16x8_t k01 = vreinterpretq_f16_u8(vzip1q_u8(zero, high_bytes)), k23 = vreinterpretq_f16_u8(vzip2q_u8(zero, high_bytes));
  w[0] = vcvt_f32_f16(vget_low_f16(k01));
  w[1] = vcvt_high_f32_f16(k01);
  w[2] = vcvt_f32_f16(vget_low_f16(k23));
  w[3] = vcvt_high_f32_f16(k23);
}

/* Half a block of 4 n (16 bytes, a 32-bit lane an n) -> the values of its 8 k's. */
ARM_INLINE void decode_half(const uint8_t *codes, float32x4_t w[8]) {
  static const uint8_t k_major[16] = {0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15};
  static const uint8_t high_byte[16] = {0x00, 0x38, 0x3C, 0x3E, 0x40, 0x42, 0x44, 0x46, 0x80, 0xB8, 0xBC, 0xBE, 0xC0, 0xC2, 0xC4, 0xC6};
  const uint8x16_t values = vld1q_u8(high_byte);
  uint8x16_t pairs = vqtbl1q_u8(vld1q_u8(codes), vld1q_u8(k_major));
  widen(vqtbl1q_u8(values, vandq_u8(pairs, vdupq_n_u8(15))), w);
  widen(vqtbl1q_u8(values, vshrq_n_u8(pairs, 4)), w + 4);
}

/* part + 8 products, one fmaf after the other. */
ARM_INLINE float32x4_t add_half(float32x4_t part, const float *x, const float32x4_t w[8]) {
  float32x4_t x0 = vld1q_f32(x), x4 = vld1q_f32(x + 4);
  part = vfmaq_laneq_f32(part, w[0], x0, 0);
  part = vfmaq_laneq_f32(part, w[1], x0, 1);
  part = vfmaq_laneq_f32(part, w[2], x0, 2);
  part = vfmaq_laneq_f32(part, w[3], x0, 3);
  part = vfmaq_laneq_f32(part, w[4], x4, 0);
  part = vfmaq_laneq_f32(part, w[5], x4, 1);
  part = vfmaq_laneq_f32(part, w[6], x4, 2);
  return vfmaq_laneq_f32(part, w[7], x4, 3);
}

/* Sums of one row tile for `rows` (a constant where this is inlined) of the group's rows of x; acc starts at zero. */
ARM_INLINE void sum_tile(const uint8_t *tile, int64_t blocks, const float *x, int64_t rows_of_x, int rows, float32x4_t (*acc)[4]) {
  for (int64_t block = 0; block < blocks; block++, x += rows_of_x * NVFP4_BLOCK) {
    int64_t b = block % N16K64_BLOCKS;
    const uint8_t *codes = tile + N16K64_SCALES + b * N16K64_BLOCK_CODES;
    float32x4_t sw[4];
    arm_scales_over_256(tile + b * N16K64_N, sw);
    for (int n4 = 0; n4 < 4; n4++) {
      float32x4_t w[8], part[ROWS], scale = vmulq_n_f32(sw[n4], 256.0f);
      const float *x_here = x;
      __asm__ volatile("" : "+r"(x_here)); /* or gcc moves the broadcasts of x out of this loop, and spills them */
      decode_half(codes + 16 * n4, w);
      for (int r = 0; r < rows; r++) {
        part[r] = add_half(vdupq_n_f32(0), x_here + r * NVFP4_BLOCK, w);
      }
      decode_half(codes + 64 + 16 * n4, w);
      for (int r = 0; r < rows; r++) {
        part[r] = add_half(part[r], x_here + r * NVFP4_BLOCK + 8, w);
        acc[r][n4] = vfmaq_f32(acc[r][n4], part[r], scale);
      }
    }
    tile += b == N16K64_BLOCKS - 1 ? N16K64_TILE_BYTES : 0;
  }
}

static void apply_tile(void *arg, size_t index) {
  const job *j = arg;
  const nvfp4_kernel_args *args = j->args;
  int64_t row_tile = (int64_t)index / j->groups, group = (int64_t)index % j->groups, blocks = args->k / NVFP4_BLOCK;
  int64_t rows = rows_of_group(args, group), done = 0;
  const uint8_t *tile = n16k64_tiles(j->packed, row_tile);
  const float *x = j->x + group * ROWS * args->k;
  float32x4_t acc[ROWS][4];
  memset(acc, 0, sizeof acc);
  if (rows == ROWS) {
    sum_tile(tile, blocks, x, ROWS, ROWS, acc);
    done = ROWS;
  }
  for (; rows - done >= 4; done += 4) {
    sum_tile(tile, blocks, x + done * NVFP4_BLOCK, rows, 4, acc + done);
  }
  for (; rows - done >= 2; done += 2) {
    sum_tile(tile, blocks, x + done * NVFP4_BLOCK, rows, 2, acc + done);
  }
  for (; done < rows; done++) {
    sum_tile(tile, blocks, x + done * NVFP4_BLOCK, rows, 1, acc + done);
  }
  arm_store_tile(j->host, args, row_tile, group * ROWS, rows, acc);
}

static nvfp4_status is_supported(const nvfp4_machine *machine, nvfp4_reason *reason) {
  return arm_check_machine(machine, NVFP4_ISA_NEON, reason);
}

static nvfp4_status can_implement(const nvfp4_layer_desc *desc, nvfp4_reason *reason) {
  (void)desc; /* any N, any K that is a multiple of 16, any M, all element types */
  (void)reason;
  return NVFP4_OK;
}

static nvfp4_status apply_weights(const nvfp4_host *host, const nvfp4_packed *packed, const nvfp4_kernel_args *args, nvfp4_reason *reason) {
  (void)reason;
  job j = {.host = host, .packed = packed, .args = args, .x = args->workspace, .groups = (args->m + ROWS - 1) / ROWS};
  host->parallel_for(host->cookie, (size_t)args->m, prepare_row, &j);
  host->parallel_for(host->cookie, (size_t)(n16k64_row_tiles(args->n) * j.groups), apply_tile, &j);
  return NVFP4_OK;
}

const nvfp4_kernel nvfp4_kernel_arm_neon_w4a16 = {
    .struct_size = sizeof(nvfp4_kernel),
    .id = "arm_neon_w4a16",
    .summary = "W4A16 with NEON, on any AArch64 processor",
    .layout = &nvfp4_layout_n16k64,
    .numerics = {NVFP4_MODE_W4A16, NVFP4_CLASS_CANONICAL, NVFP4_FLAG_BATCH_INVARIANT | NVFP4_FLAG_DETERMINISTIC,
                 NVFP4_ORDER_CANONICAL_W4A16},
    .device = NVFP4_DEVICE_CPU,
    .verified = "qemu-user 7.2 (-cpu max), 2026-11-22: bits proven; speed never measured",
    .is_supported = is_supported,
    .can_implement = can_implement,
    .workspace_bytes = workspace_bytes,
    .apply_weights = apply_weights,
};
