/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the Arm kernels share, in instructions that every AArch64 processor has: a block of x, scales, the activation quantiser, the finish. The layout is n16k64:
 * an accumulator of one row of x and one row tile is 4 vectors of 4 n.
 * Loads and stores go through bytes, so that pointers need no alignment.
 */
#ifndef NVFP4_KERNELS_ARM_NEON_H
#define NVFP4_KERNELS_ARM_NEON_H

#include <arm_neon.h>
#include <string.h>

#include "base/reason.h"
#include "format/e4m3.h"
#include "format/scale_layout.h"
#include "kernels/n16k64.h"

#define ARM_INLINE static inline __attribute__((always_inline))

/* OK if the machine is an AArch64 one that has all bits of `isa`; names the first that it lacks. */
static inline nvfp4_status arm_check_machine(const nvfp4_machine *machine, uint32_t isa, nvfp4_reason *reason) {
  if (machine->arch != NVFP4_ARCH_AARCH64) {
    return nvfp4_reject(reason, NVFP4_E_MACHINE, "the processor is not an AArch64 one; this kernel needs that");
  }
  for (uint32_t bit = 1; bit <= isa && bit != 0; bit <<= 1) {
    if ((isa & bit) != 0 && (machine->isa & bit) == 0) {
      return nvfp4_reject(reason, NVFP4_E_MACHINE, "the processor lacks %s; this kernel needs it", nvfp4_isa_name(bit));
    }
  }
  return NVFP4_OK;
}

/* 16 elements of F32, F16 or BF16 as fp32, exactly. */
static inline void arm_load_x(const void *x, nvfp4_dtype dtype, float32x4_t out[4]) {
  const uint8_t *from = x;
  for (int i = 0; i < 2; i++) {
    if (dtype == NVFP4_DTYPE_F32) {
      out[2 * i] = vreinterpretq_f32_u8(vld1q_u8(from + 32 * i));
      out[2 * i + 1] = vreinterpretq_f32_u8(vld1q_u8(from + 32 * i + 16));
      continue;
    }
    uint16x8_t bits = vreinterpretq_u16_u8(vld1q_u8(from + 16 * i));
    if (dtype == NVFP4_DTYPE_BF16) {
      out[2 * i] = vreinterpretq_f32_u16(vzip1q_u16(vdupq_n_u16(0), bits));
      out[2 * i + 1] = vreinterpretq_f32_u16(vzip2q_u16(vdupq_n_u16(0), bits));
    } else {
      out[2 * i] = vcvt_f32_f16(vget_low_f16(vreinterpretq_f16_u16(bits)));
      out[2 * i + 1] = vcvt_high_f32_f16(vreinterpretq_f16_u16(bits));
    }
  }
}

/*
 * 16 scales, each times 2^-8: an E4M3 number's bits, shifted, are an f16 whose exponent has a bias of 15 instead of 7; subnormals become subnormals. So the
 * conversion to fp32 is exact. E4M3 NaNs, finite as f16, are made NaN.
 */
ARM_INLINE void arm_scales_over_256(const uint8_t *scales, float32x4_t out[4]) {
  uint8x16_t bytes = vld1q_u8(scales);
  int8x16_t is_nan = vreinterpretq_s8_u8(vceqq_u8(vorrq_u8(bytes, vdupq_n_u8(0x80)), vdupq_n_u8(0xFF)));
  int8x16_t wide = vreinterpretq_s8_u8(bytes);
  int16x8_t no_second_sign = vdupq_n_s16((int16_t)0xBFFF);
  for (int half = 0; half < 2; half++) {
    int16x8_t bits = half == 0 ? vshll_n_s8(vget_low_s8(wide), 7) : vshll_high_n_s8(wide, 7);
    int16x8_t nan = half == 0 ? vmovl_s8(vget_low_s8(is_nan)) : vmovl_high_s8(is_nan);
    float16x8_t f16 = vreinterpretq_f16_s16(vorrq_s16(vandq_s16(bits, no_second_sign), nan));
    out[2 * half] = vcvt_f32_f16(vget_low_f16(f16));
    out[2 * half + 1] = vcvt_high_f32_f16(f16);
  }
}

/* ------------------------------------------------------------------------------------------------------------------ W4A4: x */

/* Twice the value of each E2M1 code, for TBL. */
ARM_INLINE int8x16_t arm_e2m1_doubled(void) {
  static const int8_t table[16] = {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};
  return vld1q_s8(table);
}

/* nvfp4_e2m1_from_f32 of 4 values: the rounding is the addition's. FMINNM keeps the number if the other is a NaN, as the comparisons there do. */
ARM_INLINE uint32x4_t arm_e2m1_from_f32(float32x4_t value) {
  float32x4_t a = vabsq_f32(value);
  float32x4_t least = vdupq_n_f32(0x1p23f + 7);
  least = vminnmq_f32(vaddq_f32(vaddq_f32(a, a), vdupq_n_f32(0x1p23f)), least);
  least = vminnmq_f32(vaddq_f32(a, vdupq_n_f32(0x1p23f + 2)), least);
  least = vminnmq_f32(vaddq_f32(vmulq_n_f32(a, 0.5f), vdupq_n_f32(0x1p23f + 4)), least);
  uint32x4_t sign = vandq_u32(vshrq_n_u32(vreinterpretq_u32_f32(value), 28), vdupq_n_u32(8));
  return vorrq_u32(sign, vandq_u32(vreinterpretq_u32_f32(least), vdupq_n_u32(7)));
}

/* nvfp4_quantise_activation_row of one block, operation by operation -> 16 codes (a byte each) and the scale. */
static inline uint8x16_t arm_quantise_block(const float32x4_t x[4], float s_a, uint8_t *scale) {
  uint32x4_t most = vdupq_n_u32(0);
  for (int i = 0; i < 4; i++) { /* magnitudes are ordered as integers, NaN above all */
    most = vmaxq_u32(most, vandq_u32(vreinterpretq_u32_f32(x[i]), vdupq_n_u32(0x7FFFFFFF)));
  }
  uint32_t most_bits = vmaxvq_u32(most);
  float amax;
  memcpy(&amax, &most_bits, sizeof amax);
  *scale = nvfp4_e4m3_from_f32(s_a * (amax * (1.0f / 6.0f)));
  if (nvfp4_e4m3_is_nan(*scale)) {
    return vdupq_n_u8(0);
  }
  float f = nvfp4_e4m3_to_f32(*scale);
  float o = f != 0 ? 1.0f / (f * (1.0f / s_a)) : 0.0f;
  uint16x8_t codes[2];
  for (int i = 0; i < 2; i++) {
    uint32x4_t low = arm_e2m1_from_f32(vmulq_n_f32(x[2 * i], o)), high = arm_e2m1_from_f32(vmulq_n_f32(x[2 * i + 1], o));
    codes[i] = vuzp1q_u16(vreinterpretq_u16_u32(low), vreinterpretq_u16_u32(high));
  }
  return vuzp1q_u8(vreinterpretq_u8_u16(codes[0]), vreinterpretq_u8_u16(codes[1]));
}

/* Block `block` of row m of x, quantised here or by the caller: twice its 16 values, and *scale = 64 times the scale's value, which makes up for doubling both
 * factors and for arm_scales_over_256. */
static inline int8x16_t arm_x_block(const nvfp4_kernel_args *args, int64_t m, int64_t block, float *scale) {
  const nvfp4_quantised_x *q = args->quantised_x;
  uint8x16_t codes;
  uint8_t byte;
  if (q != NULL) {
    uint8x8_t pairs = vld1_u8(q->codes + m * q->codes_stride_bytes + block * (NVFP4_BLOCK / 2));
    uint8x8_t even = vand_u8(pairs, vdup_n_u8(15)), odd = vshr_n_u8(pairs, 4);
    codes = vcombine_u8(vzip1_u8(even, odd), vzip2_u8(even, odd));
    byte = q->scale_layout == NVFP4_SCALES_LINEAR ? q->scales[m * q->scales_stride_bytes + block]
                                                  : q->scales[nvfp4_scale_offset(q->scale_layout, args->k / NVFP4_BLOCK, m, block)];
  } else {
    size_t bytes = args->x_dtype == NVFP4_DTYPE_F32 ? 4 : 2;
    float32x4_t x[4];
    arm_load_x((const char *)args->x + (size_t)(m * args->ldx_elems + block * NVFP4_BLOCK) * bytes, args->x_dtype, x);
    codes = arm_quantise_block(x, args->s_a, &byte);
  }
  *scale = 64.0f * nvfp4_e4m3_to_f32(byte);
  return vqtbl1q_s8(arm_e2m1_doubled(), codes);
}

/* --------------------------------------------------------------------------------------------------------------------- finish */

/* Writes rows [m_first, m_first + rows) x the row tile's columns of y: alpha, bias, one rounding; nothing beyond column n. */
static inline void arm_store_tile(const nvfp4_host *host, const nvfp4_kernel_args *args, int64_t row_tile, int64_t m_first, int64_t rows,
                                  const float32x4_t (*acc)[4]) {
  int64_t n_first = row_tile * N16K64_N;
  int64_t columns = args->n - n_first < N16K64_N ? args->n - n_first : N16K64_N;
  size_t y_bytes = args->y_dtype == NVFP4_DTYPE_F32 ? 4 : 2, bias_bytes = args->bias_dtype == NVFP4_DTYPE_F32 ? 4 : 2;
  float alpha[N16K64_N] = {0}, bias[N16K64_N] = {0}, v[N16K64_N];
  memcpy(alpha, args->alpha + n_first, (size_t)columns * sizeof *alpha);
  if (args->bias != NULL) {
    host->to_f32((const char *)args->bias + (size_t)n_first * bias_bytes, args->bias_dtype, bias, columns);
  }
  for (int64_t m = 0; m < rows; m++) {
    for (int j = 0; j < 4; j++) {
      float32x4_t a = vld1q_f32(alpha + 4 * j);
      float32x4_t value = args->bias != NULL ? vfmaq_f32(vld1q_f32(bias + 4 * j), a, acc[m][j]) : vmulq_f32(a, acc[m][j]);
      float32x4_t nan = vreinterpretq_f32_u32(vdupq_n_u32(0x7FC00000));
      vst1q_f32(v + 4 * j, vbslq_f32(vceqq_f32(value, value), value, nan));
    }
    host->from_f32(v, args->y_dtype, (char *)args->y + (size_t)((m_first + m) * args->ldy_elems + n_first) * y_bytes, columns);
  }
}

#endif
