/* SPDX-License-Identifier: Apache-2.0 */
/*
 * avx2_w4a4: y[m,n] = alpha[n] * sum over blocks b ascending ( float(dot16(x, w)) * (sx[m,b] * sw[n,b]) ) (+ bias[n])
 *
 * Class CANONICAL: the bits of nvfp4_spec_w4a4, for any M, N, K and any number of threads. Packed layout: n16k64.
 * A block's dot product: four VPMADDUBSW (a pair is at most 2 * 24 * 12 = 576), added in 16 bits (at most 2304), one VPMADDWD with ones.
 */
#include <immintrin.h>

enum { W4A4_START_MASK = 0xFFFF }; /* a sum is two int16 that w4a4_total adds */

/* The empty asm keeps the additions in this order: compilers that balance them into trees keep all products of a block at once, more than there are registers. */
static inline __m256i w4a4_step(__m256i sum, __m256i w, __m256i x2) {
  sum = _mm256_add_epi16(sum, _mm256_maddubs_epi16(w, x2));
  __asm__("" : "+x"(sum));
  return sum;
}

static inline __m256i w4a4_total(__m256i sum) { return _mm256_madd_epi16(sum, _mm256_set1_epi16(1)); }

#include "kernels/x86/avx2_w4a4_body.h"

static nvfp4_status is_supported(const nvfp4_machine *machine, nvfp4_reason *reason) {
  return avx2_is_supported(machine, NVFP4_ISA_AVX2 | NVFP4_ISA_FMA | NVFP4_ISA_F16C, reason);
}

const nvfp4_kernel nvfp4_kernel_x86_avx2_w4a4 = {
    .struct_size = sizeof(nvfp4_kernel),
    .id = "x86_avx2_w4a4",
    .summary = "the canonical W4A4 result with AVX2",
    .layout = &nvfp4_layout_n16k64,
    .numerics = {NVFP4_MODE_W4A4, NVFP4_CLASS_CANONICAL, NVFP4_FLAG_BATCH_INVARIANT | NVFP4_FLAG_DETERMINISTIC, NVFP4_ORDER_CANONICAL_W4A4},
    .device = NVFP4_DEVICE_CPU,
    .verified = "AMD EPYC (Zen 5), 2026-11-22",
    .is_supported = is_supported,
    .can_implement = avx2_can_implement,
    .workspace_bytes = w4a4_workspace_bytes,
    .apply_weights = w4a4_apply_weights,
};
