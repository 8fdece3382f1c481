/* SPDX-License-Identifier: Apache-2.0 */
/*
 * x86_avx512bf16_w4a16: y[m,n] = alpha[n] * acc (+ bias[n]); acc = fmaf(part, sw[n,b], acc) over blocks b ascending; part = fmaf(x[m,k], w[n,k], part) over the block's k ascending
 *
 * Class CANONICAL: the bits of nvfp4_spec_w4a16, for any M, N, K and any number of threads; x of type bf16. AVX-512 F, BW, VL, DQ, BF16 and FMA.
 * Packed layout: n16k64. Workspace: x as bf16. A lane is a row n.
 *
 * VDPBF16PS adds the products of two k's to a sum, each by an FMA that rounds to nearest even, the high half of the lanes first; E2M1 values are bf16 numbers. So pairs with the even k in
 * the high half give the canonical sum, at twice the rate of the FMA. But it takes and gives zeros for subnormal numbers: rows with nonzero |x| < 2^-118, for which a sum may be
 * subnormal, take FMAs (docs/numerics.md has the proof). The self-test would find a processor that adds otherwise.
 */
#include "kernels/x86/avx512.h"

enum { STEPS = NVFP4_BLOCK / 2, CAREFUL = 1, LEAST_BF16 = (127 - 118) << 7 /* bits of 2^-118 */ };

static bool prepare(const nvfp4_kernel_args *args, int64_t m, int64_t first, int64_t last, char *to, size_t stride) {
  const uint16_t *x = (const uint16_t *)args->x + m * args->ldx_elems;
  __mmask16 small = 0;
  for (int64_t block = first; block < last; block++, to += stride) {
    __m256i pairs = _mm256_loadu_si256((const __m256i *)(const void *)(x + block * NVFP4_BLOCK));
    __m256i magnitude = _mm256_and_si256(pairs, _mm256_set1_epi16(0x7FFF)), one = _mm256_set1_epi16(1);
    small |= _mm256_cmplt_epu16_mask(_mm256_sub_epi16(magnitude, one), _mm256_set1_epi16(LEAST_BF16 - 1)); /* 0 - 1 is large */
    _mm256_storeu_si256((__m256i *)(void *)to, _mm256_rol_epi32(pairs, 16));
  }
  return small != 0;
}

/* Pairs i of half a block: k = 2i in the high half. VPERMW looks up by the low bits of 16-bit words. */
AVX512_INLINE __m512i decode(__m512i codes, const int i) {
  const __m512i values = _mm512_broadcast_i64x4(_mm256_setr_epi16(0x0000, 0x3F00, 0x3F80, 0x3FC0, 0x4000, 0x4040, 0x4080, 0x40C0, -0x8000,
                                                                  -0x4100, -0x4080, -0x4040, -0x4000, -0x3FC0, -0x3F80, -0x3F40));
  const __m512i bytes = _mm512_broadcast_i32x4(i % 2 == 0 ? _mm_setr_epi8(1, 1, 0, 0, 5, 5, 4, 4, 9, 9, 8, 8, 13, 13, 12, 12)
                                                          : _mm_setr_epi8(3, 3, 2, 2, 7, 7, 6, 6, 11, 11, 10, 10, 15, 15, 14, 14));
  __m512i words = _mm512_shuffle_epi8(codes, bytes);
  return _mm512_permutexvar_epi16(i < 2 ? words : _mm512_srli_epi16(words, 4), values);
}

AVX512_INLINE __m512 multiply_add(__m512i x, __m512i w, __m512 sum, const bool careful) {
  if (careful) {
    const __m512i high = _mm512_set1_epi32((int)0xFFFF0000);
    sum = _mm512_fmadd_ps(_mm512_castsi512_ps(_mm512_and_si512(x, high)), _mm512_castsi512_ps(_mm512_and_si512(w, high)), sum);
    return _mm512_fmadd_ps(_mm512_castsi512_ps(_mm512_slli_epi32(x, 16)), _mm512_castsi512_ps(_mm512_slli_epi32(w, 16)), sum);
  }
  return _mm512_dpbf16_ps(sum, (__m512bh)x, (__m512bh)w);
}

#include "kernels/x86/avx512_w4a16_body.h"

AVX512_PLAIN static nvfp4_status is_supported(const nvfp4_machine *machine, nvfp4_reason *reason) {
  return avx512_is_supported(
      machine, NVFP4_ISA_FMA | NVFP4_ISA_AVX512F | NVFP4_ISA_AVX512BW | NVFP4_ISA_AVX512VL | NVFP4_ISA_AVX512DQ | NVFP4_ISA_AVX512BF16,
      reason);
}

AVX512_PLAIN static nvfp4_status can_implement(const nvfp4_layer_desc *desc, nvfp4_reason *reason) {
  if (desc->x_dtype != NVFP4_DTYPE_BF16) {
    return nvfp4_reject(reason, NVFP4_E_UNSUPPORTED,
                        "x is %s; the kernel multiplies bf16 numbers: give x as BF16, or let x86_avx512_w4a16 serve",
                        nvfp4_dtype_name(desc->x_dtype));
  }
  return avx512_can_implement(desc, reason);
}

const nvfp4_kernel nvfp4_kernel_x86_avx512bf16_w4a16 = {
    .struct_size = sizeof(nvfp4_kernel),
    .id = "x86_avx512bf16_w4a16",
    .summary = "the canonical W4A16 result of bf16 x with AVX-512 BF16",
    .layout = &nvfp4_layout_n16k64,
    .numerics = {NVFP4_MODE_W4A16, NVFP4_CLASS_CANONICAL, NVFP4_FLAG_BATCH_INVARIANT | NVFP4_FLAG_DETERMINISTIC,
                 NVFP4_ORDER_CANONICAL_W4A16},
    .device = NVFP4_DEVICE_CPU,
    .verified = "AMD EPYC (Zen 5), 2026-11-23",
    .is_supported = is_supported,
    .can_implement = can_implement,
    .workspace_bytes = workspace_bytes,
    .apply_weights = apply_weights,
};
