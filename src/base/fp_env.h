/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The floating-point environment that the canonical numbers are defined in: round to nearest even, subnormals kept. A caller's thread may have
 * another one (audio and game code set FTZ/DAZ; -ffast-math sets it for a whole process), so every worker sets it and restores what it found.
 */
#ifndef NVFP4_BASE_FP_ENV_H
#define NVFP4_BASE_FP_ENV_H

#include <stdint.h>

#if defined(__x86_64__)
#include <xmmintrin.h>

typedef struct nvfp4_fp_env {
  uint32_t control;
} nvfp4_fp_env;

static inline nvfp4_fp_env nvfp4_fp_env_enter(void) {
  nvfp4_fp_env before = {_mm_getcsr()};
  /* Default: all exceptions masked (0x1F80), rounding 00, FTZ (bit 15) and DAZ (bit 6) off. Sticky flags are kept: the caller may read them. */
  _mm_setcsr((before.control & 0x3Fu) | 0x1F80u);
  return before;
}

static inline void nvfp4_fp_env_leave(nvfp4_fp_env before) {
  _mm_setcsr((before.control & ~0x3Fu) | ((before.control | _mm_getcsr()) & 0x3Fu));
}

#elif defined(__aarch64__)

typedef struct nvfp4_fp_env {
  uint64_t control;
} nvfp4_fp_env;

static inline nvfp4_fp_env nvfp4_fp_env_enter(void) {
  nvfp4_fp_env before;
  __asm__ volatile("mrs %0, fpcr" : "=r"(before.control));
  /* RMode bits 23:22, FZ bit 24, FZ16 bit 19, DN bit 25, AHP bit 26; AH, FIZ, NEP bits 1, 0, 2 of FEAT_AFP. */
  uint64_t control = before.control & ~((uint64_t)0x7C80007u);
  __asm__ volatile("msr fpcr, %0" : : "r"(control) : "memory");
  return before;
}

static inline void nvfp4_fp_env_leave(nvfp4_fp_env before) { __asm__ volatile("msr fpcr, %0" : : "r"(before.control) : "memory"); }

#else
#error "nvfp4: no floating-point environment for this architecture"
#endif

#endif
