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

/* "sdot vD.4s, v16.16b, v17.16b" for D = 0 .. 15, as numbers: without a flag assemblers refuse the name. What the registers hold does not matter. */
static void dot_neon(int64_t count) {
  for (; count > 0; count--) {
    __asm__ volatile(
        ".inst 0x4e919600, 0x4e919601, 0x4e919602, 0x4e919603, 0x4e919604, 0x4e919605, 0x4e919606, 0x4e919607\n\t"
        ".inst 0x4e919608, 0x4e919609, 0x4e91960a, 0x4e91960b, 0x4e91960c, 0x4e91960d, 0x4e91960e, 0x4e91960f"
        :
        :
        : "v0", "v1", "v2", "v3", "v4", "v5", "v6", "v7", "v8", "v9", "v10", "v11", "v12", "v13", "v14", "v15");
  }
}

const nvfp4_peak nvfp4_peaks_f32[] = {{"neon", NVFP4_ISA_NEON, fma_neon, SUMS * 4 * 2}, {0}};
const nvfp4_peak nvfp4_peaks_i8[] = {{"dotprod", NVFP4_ISA_DOTPROD, dot_neon, SUMS * 16 * 2}, {0}};
#elif !defined(__x86_64__)
const nvfp4_peak nvfp4_peaks_f32[] = {{0}};
const nvfp4_peak nvfp4_peaks_i8[] = {{0}};
#endif
