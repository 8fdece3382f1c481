/* SPDX-License-Identifier: Apache-2.0 */
/*
 * arm_neon_w16a16: y[m,n] = alpha[n] * acc (+ bias[n]); acc = fmaf(x[m,k], w[n,k], acc) over k ascending
 *
 * Dense layers: weights bf16, f16 or f32. Class CANONICAL: the bits of nvfp4_spec_w16a16, for any M, N, K and any number of threads. Lanes are 4 n. Runs on every AArch64 processor.
 * Packed layout: dense_n16. Workspace: x as fp32 [m][K rounded up to 4].
 *
 * Run under qemu-user only; speed never measured by us.
 */
#include "kernels/arm/neon.h"
#include "kernels/dense_n16.h"

/* Rows of x whose sums are in registers at once: 4 * 4 of 32, with 4 k of each row and the weights of two k. */
enum { ROWS = 4, STEP = 4 };

typedef struct job {
  const nvfp4_host *host;
  const nvfp4_packed *packed;
  const nvfp4_kernel_args *args;
  float *x;
  int64_t ldx;    /* K rounded up to STEP */
  int64_t groups; /* of ROWS rows of x */
} job;

static int64_t padded(int64_t k) { return (k + STEP - 1) / STEP * STEP; }

static size_t workspace_bytes(const nvfp4_layer_desc *desc, int64_t m) { return (size_t)(m * padded(desc->k)) * sizeof(float); }

static void prepare_row(void *arg, size_t row) {
  const job *j = arg;
  const nvfp4_kernel_args *args = j->args;
  size_t bytes = args->x_dtype == NVFP4_DTYPE_F32 ? 4 : 2;
  float *to = j->x + (int64_t)row * j->ldx;
  j->host->to_f32((const char *)args->x + (size_t)((int64_t)row * args->ldx_elems) * bytes, args->x_dtype, to, args->k);
  for (int64_t k = args->k; k < j->ldx; k++) {
    to[k] = 0; /* loaded, and no term of a sum */
  }
}

/* The weights of k: 4 vectors of 4 n. */
ARM_INLINE void load_k(const uint8_t *tile, int64_t k, nvfp4_dtype dtype, float32x4_t w[4]) {
  if (dtype == NVFP4_DTYPE_BF16) {
    const uint8_t *pairs = tile + k / 2 * 64;
    for (int i = 0; i < 4; i++) {
      uint32x4_t pair = vreinterpretq_u32_u8(vld1q_u8(pairs + 16 * i));
      w[i] = vreinterpretq_f32_u32(k % 2 == 0 ? vandq_u32(pair, vdupq_n_u32(0xFFFF0000u)) : vshlq_n_u32(pair, 16));
    }
  } else {
    arm_load_x(tile + k * (dtype == NVFP4_DTYPE_F32 ? 64 : 32), dtype, w);
  }
}

#define ADD_LANE(lane)                                                \
  do {                                                                \
    load_k(tile, k + lane, dtype, w);                                 \
    for (int r = 0; r < rows; r++) {                                  \
      for (int i = 0; i < 4; i++) {                                   \
        acc[r][i] = vfmaq_laneq_f32(acc[r][i], w[i], value[r], lane); \
      }                                                               \
    }                                                                 \
  } while (0)

/* k .. k + count - 1 for `rows` rows of x; count is 4, or less at the end of K. dtype and rows are constants where this is inlined. */
ARM_INLINE void add_step(const uint8_t *tile, int64_t k, int64_t count, nvfp4_dtype dtype, const float *x, int64_t ldx, int rows,
                         float32x4_t (*acc)[4]) {
  float32x4_t value[ROWS], w[4];
  for (int r = 0; r < rows; r++) {
    value[r] = vld1q_f32(x + r * ldx + k);
  }
  ADD_LANE(0);
  if (count > 1) {
    ADD_LANE(1);
  }
  if (count > 2) {
    ADD_LANE(2);
  }
  if (count > 3) {
    ADD_LANE(3);
  }
}

ARM_INLINE void sum_tile(const uint8_t *tile, int64_t k_all, nvfp4_dtype dtype, const float *x, int64_t ldx, int rows,
                         float32x4_t (*sums)[4]) {
  float32x4_t acc[ROWS][4];
  for (int r = 0; r < rows; r++) {
    for (int i = 0; i < 4; i++) {
      acc[r][i] = vdupq_n_f32(0);
    }
  }
  int64_t k = 0;
  for (; k + STEP <= k_all; k += STEP) {
    add_step(tile, k, STEP, dtype, x, ldx, rows, acc);
  }
  if (k < k_all) {
    add_step(tile, k, k_all - k, dtype, x, ldx, rows, acc);
  }
  for (int r = 0; r < rows; r++) {
    for (int i = 0; i < 4; i++) {
      sums[r][i] = acc[r][i];
    }
  }
}

/* 1 to ROWS rows of x. */
#define SUM(dtype)                                                                                                            \
  static void sum_##dtype(const uint8_t *tile, int64_t k, const float *x, int64_t ldx, int64_t rows, float32x4_t(*sums)[4]) { \
    if (rows == ROWS) {                                                                                                       \
      sum_tile(tile, k, NVFP4_DTYPE_##dtype, x, ldx, ROWS, sums);                                                             \
      return;                                                                                                                 \
    }                                                                                                                         \
    if (rows >= 2) {                                                                                                          \
      sum_tile(tile, k, NVFP4_DTYPE_##dtype, x, ldx, 2, sums);                                                                \
    }                                                                                                                         \
    if (rows % 2 == 1) {                                                                                                      \
      sum_tile(tile, k, NVFP4_DTYPE_##dtype, x + (rows - 1) * ldx, ldx, 1, sums + rows - 1);                                  \
    }                                                                                                                         \
  }
SUM(F32)
SUM(F16)
SUM(BF16)

static void apply_tile(void *arg, size_t index) {
  const job *j = arg;
  const nvfp4_kernel_args *args = j->args;
  int64_t row_tile = (int64_t)index / j->groups, m_first = (int64_t)index % j->groups * ROWS;
  int64_t rows = args->m - m_first < ROWS ? args->m - m_first : ROWS;
  const uint8_t *tile = dense_n16_tile(j->packed, row_tile);
  const float *x = j->x + m_first * j->ldx;
  nvfp4_dtype dtype = dense_n16_dtype(j->packed);
  float32x4_t sums[ROWS][4];
  (dtype == NVFP4_DTYPE_BF16 ? sum_BF16 : dtype == NVFP4_DTYPE_F16 ? sum_F16 : sum_F32)(tile, args->k, x, j->ldx, rows, sums);
  arm_store_tile(j->host, args, row_tile, m_first, rows, (const float32x4_t(*)[4])sums);
}

static nvfp4_status is_supported(const nvfp4_machine *machine, nvfp4_reason *reason) {
  return arm_check_machine(machine, NVFP4_ISA_NEON, reason);
}

static nvfp4_status can_implement(const nvfp4_layer_desc *desc, nvfp4_reason *reason) {
  (void)desc; /* any N, K and M, all element types */
  (void)reason;
  return NVFP4_OK;
}

static nvfp4_status apply_weights(const nvfp4_host *host, const nvfp4_packed *packed, const nvfp4_kernel_args *args, nvfp4_reason *reason) {
  (void)reason;
  job j = {
      .host = host, .packed = packed, .args = args, .x = args->workspace, .ldx = padded(args->k), .groups = (args->m + ROWS - 1) / ROWS};
  host->parallel_for(host->cookie, (size_t)args->m, prepare_row, &j);
  host->parallel_for(host->cookie, (size_t)(dense_n16_tiles(args->n) * j.groups), apply_tile, &j);
  return NVFP4_OK;
}

const nvfp4_kernel nvfp4_kernel_arm_neon_w16a16 = {
    .struct_size = sizeof(nvfp4_kernel),
    .id = "arm_neon_w16a16",
    .summary = "the canonical result of dense layers with NEON, on any AArch64 processor",
    .layout = &nvfp4_layout_dense_n16,
    .numerics = {NVFP4_MODE_UNQUANTISED, NVFP4_CLASS_CANONICAL, NVFP4_FLAG_BATCH_INVARIANT | NVFP4_FLAG_DETERMINISTIC,
                 NVFP4_ORDER_CANONICAL_W16A16},
    .device = NVFP4_DEVICE_CPU,
    .verified = "qemu-user 7.2 (-cpu max), 2026-11-23: bits proven; speed never measured",
    .is_supported = is_supported,
    .can_implement = can_implement,
    .workspace_bytes = workspace_bytes,
    .apply_weights = apply_weights,
};
