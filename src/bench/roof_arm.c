/* SPDX-License-Identifier: Apache-2.0 */
/* As roof_x86.c; with 32 registers, sixteen sums. */
#include "bench/roof.h"

#if defined(__aarch64__)
#include <arm_neon.h>

enum { SUMS = 16 };

static void fma_neon(int64_t count) {
  float32x4_t sum[SUMS], a = vdupq_n_f32(1.0001f), b = vdupq_n_f32(1e-9f);
  for (int i = 0; i < SUMS; i++) {
    sum[i] = vdupq_n_f32(0);
  }
  for (; count > 0; count--) {
    __asm__ volatile("" : "+w"(a));
#pragma GCC unroll 16
    for (int i = 0; i < SUMS; i++) {
      sum[i] = vfmaq_f32(sum[i], a, b);
    }
  }
  for (int i = 0; i < SUMS; i++) {
    __asm__ volatile("" : : "w"(sum[i]));
  }
}

/* In assembly, so that no compiler flag is needed; the assembler wants to know the extension, too. */
#if defined(__clang__)
__attribute__((target("dotprod")))
#else
__attribute__((target("arch=armv8.2-a+dotprod")))
#endif
static void
dot_neon(int64_t count) {
  int32x4_t sum[SUMS];
  int8x16_t a = vdupq_n_s8(3), b = vdupq_n_s8(1);
  for (int i = 0; i < SUMS; i++) {
    sum[i] = vdupq_n_s32(0);
  }
  for (; count > 0; count--) {
#pragma GCC unroll 16
    for (int i = 0; i < SUMS; i++) {
      __asm__ volatile("sdot %0.4s, %1.16b, %2.16b" : "+w"(sum[i]) : "w"(a), "w"(b));
    }
  }
}

const nvfp4_peak nvfp4_peaks_f32[] = {{"neon", NVFP4_ISA_NEON, fma_neon, SUMS * 4 * 2}, {0}};
const nvfp4_peak nvfp4_peaks_i8[] = {{"dotprod", NVFP4_ISA_DOTPROD, dot_neon, SUMS * 16 * 2}, {0}};
#elif !defined(__x86_64__)
const nvfp4_peak nvfp4_peaks_f32[] = {{0}};
const nvfp4_peak nvfp4_peaks_i8[] = {{0}};
#endif
