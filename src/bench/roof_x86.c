/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Twelve independent sums: enough to hide a latency of five cycles on two ports, and they fit sixteen registers. The empty asm makes an operand look new in
 * every step, lest the compiler move work out of the loop, and keeps the results.
 */
#include "bench/roof.h"

#if defined(__x86_64__)
#include <immintrin.h>

enum { SUMS = 12 };

#define PEAK(NAME, TARGET, TYPE, ZERO, A, B, STEP)                      \
  __attribute__((target(TARGET))) static void NAME(int64_t count) {     \
    TYPE sum[SUMS], a = A, b = B;                                       \
    for (int i = 0; i < SUMS; i++) {                                    \
      sum[i] = ZERO;                                                    \
    }                                                                   \
    for (; count > 0; count--) {                                        \
      __asm__ volatile("" : "+x"(a));                                   \
      _Pragma("GCC unroll 12") for (int i = 0; i < SUMS; i++) { STEP; } \
    }                                                                   \
    for (int i = 0; i < SUMS; i++) {                                    \
      __asm__ volatile("" : : "x"(sum[i]));                             \
    }                                                                   \
  }

PEAK(fma_avx512, "avx512f", __m512, _mm512_setzero_ps(), _mm512_set1_ps(1.0001f), _mm512_set1_ps(1e-9f),
     sum[i] = _mm512_fmadd_ps(a, b, sum[i]))
PEAK(fma_avx2, "avx2,fma", __m256, _mm256_setzero_ps(), _mm256_set1_ps(1.0001f), _mm256_set1_ps(1e-9f),
     sum[i] = _mm256_fmadd_ps(a, b, sum[i]))
PEAK(dot_avx512, "avx512f,avx512vnni", __m512i, _mm512_setzero_si512(), _mm512_set1_epi8(3), _mm512_set1_epi8(1),
     sum[i] = _mm512_dpbusd_epi32(sum[i], a, b))
PEAK(dot_avxvnni, "avx2,avxvnni", __m256i, _mm256_setzero_si256(), _mm256_set1_epi8(3), _mm256_set1_epi8(1),
     sum[i] = _mm256_dpbusd_avx_epi32(sum[i], a, b))
/* What AVX2 has: 16-bit sums of pairs, then 32-bit sums of these. `a` must look new in every product. */
PEAK(dot_avx2, "avx2", __m256i, _mm256_setzero_si256(), _mm256_set1_epi8(3), _mm256_set1_epi8(1),
     __asm__ volatile(""
                      : "+x"(a));
     sum[i] = _mm256_add_epi32(sum[i], _mm256_madd_epi16(_mm256_maddubs_epi16(a, b), b)))

const nvfp4_peak nvfp4_peaks_f32[] = {
    {"avx512f", NVFP4_ISA_AVX512F, fma_avx512, SUMS * 16 * 2}, {"avx2+fma", NVFP4_ISA_AVX2 | NVFP4_ISA_FMA, fma_avx2, SUMS * 8 * 2}, {0}};
const nvfp4_peak nvfp4_peaks_i8[] = {{"avx512vnni", NVFP4_ISA_AVX512F | NVFP4_ISA_AVX512VNNI, dot_avx512, SUMS * 64 * 2},
                                     {"avxvnni", NVFP4_ISA_AVX2 | NVFP4_ISA_AVXVNNI, dot_avxvnni, SUMS * 32 * 2},
                                     {"avx2 maddubs", NVFP4_ISA_AVX2, dot_avx2, SUMS * 32 * 2},
                                     {0}};
#endif
