/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The activation quantiser of the AVX-512 W4A4 kernels: nvfp4_quantise_activation_row bit for bit, 16 blocks at a time. What becomes of a block is the kernel's affair.
 *
 * Only for files compiled with -mavx512f -mavx512bw -mavx512vl -mavx512dq; everything is static, for the reason in avx512.h.
 */
#ifndef NVFP4_KERNELS_X86_AVX512_QUANTISE_H
#define NVFP4_KERNELS_X86_AVX512_QUANTISE_H

#include "format/e4m3.h"
#include "format/scale_layout.h"
#include "kernels/x86/avx512.h"

/* Takes a block: its number counted from `first`, 16 int8 of twice the E2M1 values, the E4M3 scale's value. With a NaN for a scale, what the codes are does not matter. */
typedef void (*avx512_put_fn)(void *arg, int64_t block, __m128i x2, float scale);

static inline __m128i avx512_e2m1_doubled(__m128i codes) {
  return _mm_shuffle_epi8(_mm_setr_epi8(0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12), codes);
}

/* The value of nvfp4_e4m3_from_f32 of t >= 0. NaN: 448 and *nan. */
static inline __m512 avx512_e4m3_round(__m512 t, __mmask16 *nan) {
  __m512i bits = _mm512_castps_si512(t);
  *nan = _mm512_cmp_ps_mask(t, t, _CMP_UNORD_Q);
  __m512i small = _mm512_sub_epi32(_mm512_castps_si512(_mm512_add_ps(t, _mm512_set1_ps(0x1p14f))), _mm512_set1_epi32(0x46800000));
  __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 20), _mm512_set1_epi32(1));
  __m512i rounded = _mm512_srli_epi32(_mm512_add_epi32(_mm512_add_epi32(bits, odd), _mm512_set1_epi32(0x7FFFF)), 20);
  __m512i code = _mm512_min_epi32(_mm512_sub_epi32(rounded, _mm512_set1_epi32((127 - 7) << 3)), _mm512_set1_epi32(0x7E));
  code = _mm512_mask_mov_epi32(code, _mm512_cmplt_epi32_mask(bits, _mm512_set1_epi32(0x3C800000)), small);
  return _mm512_mul_ps(avx512_e4m3_2m8(_mm512_cvtepi32_epi8(code)), _mm512_set1_ps(256.0f));
}

/* nvfp4_e2m1_from_f32, doubled. */
static inline __m128i avx512_e2m1_round_doubled(__m512 value) {
  __m512 a = _mm512_abs_ps(value);
  /* VMINPS gives its second operand if either is a NaN. */
  __m512 least = _mm512_min_ps(_mm512_fmadd_ps(a, _mm512_set1_ps(2.0f), _mm512_set1_ps(0x1p23f)), _mm512_set1_ps(0x1p23f + 7));
  least = _mm512_min_ps(_mm512_add_ps(a, _mm512_set1_ps(0x1p23f + 2)), least);
  least = _mm512_min_ps(_mm512_fmadd_ps(a, _mm512_set1_ps(0.5f), _mm512_set1_ps(0x1p23f + 4)), least);
  __m512i sign = _mm512_and_si512(_mm512_srli_epi32(_mm512_castps_si512(value), 28), _mm512_set1_epi32(8));
  __m512i code = _mm512_or_si512(_mm512_and_si512(_mm512_castps_si512(least), _mm512_set1_epi32(7)), sign);
  return avx512_e2m1_doubled(_mm512_cvtepi32_epi8(code));
}

/* Blocks [first, last) of row m as the caller quantised it. */
AVX512_INLINE void avx512_take_quantised(const nvfp4_kernel_args *args, int64_t m, int64_t first, int64_t last, avx512_put_fn put,
                                         void *arg) {
  const nvfp4_quantised_x *q = args->quantised_x;
  for (int64_t block = first; block < last; block++) {
    __m128i pairs = _mm_loadl_epi64((const __m128i *)(const void *)(q->codes + m * q->codes_stride_bytes + block * (NVFP4_BLOCK / 2)));
    __m128i mask = _mm_set1_epi8(15);
    __m128i codes = _mm_unpacklo_epi8(_mm_and_si128(pairs, mask), _mm_and_si128(_mm_srli_epi16(pairs, 4), mask));
    size_t at = q->scale_layout == NVFP4_SCALES_LINEAR ? (size_t)(m * q->scales_stride_bytes + block)
                                                       : nvfp4_scale_offset(q->scale_layout, args->k / NVFP4_BLOCK, m, block);
    put(arg, block - first, avx512_e2m1_doubled(codes), nvfp4_e4m3_to_f32(q->scales[at]));
  }
}

/* Blocks [first, last) of row m of x: operation by operation nvfp4_quantise_activation_row, or as the caller quantised them. put is to be a constant, so that it is inlined. */
AVX512_INLINE void avx512_quantise(const nvfp4_kernel_args *args, int64_t m, int64_t first, int64_t last, avx512_put_fn put, void *arg) {
  enum { TOGETHER = 16 };
  if (args->quantised_x != NULL) {
    avx512_take_quantised(args, m, first, last, put, arg);
    return;
  }
  const __m512 s_a = _mm512_set1_ps(args->s_a), sixth = _mm512_set1_ps(1.0f / 6.0f), inverse_s_a = _mm512_set1_ps(1.0f / args->s_a);
  for (int64_t block = first; block < last; block += TOGETHER) {
    int64_t blocks = last - block < TOGETHER ? last - block : TOGETHER;
    _Alignas(64) int32_t amax[TOGETHER] = {0};
    for (int64_t b = 0; b < blocks; b++) {
      __m512i bits = _mm512_castps_si512(avx512_load_x(args, m, (block + b) * NVFP4_BLOCK));
      amax[b] = _mm512_reduce_max_epi32(_mm512_and_si512(bits, _mm512_set1_epi32(0x7FFFFFFF)));
    }
    __mmask16 nan;
    __m512 t = _mm512_mul_ps(s_a, _mm512_mul_ps(_mm512_castsi512_ps(_mm512_load_si512(amax)), sixth));
    __m512 f = avx512_e4m3_round(t, &nan);
    __mmask16 positive = _mm512_cmp_ps_mask(f, _mm512_setzero_ps(), _CMP_NEQ_OQ);
    float scales[TOGETHER], factors[TOGETHER];
    _mm512_storeu_ps(scales, _mm512_mask_mov_ps(f, nan, _mm512_castsi512_ps(_mm512_set1_epi32(0x7FC00000))));
    _mm512_storeu_ps(factors, _mm512_maskz_div_ps(positive, _mm512_set1_ps(1.0f), _mm512_mul_ps(f, inverse_s_a)));
    for (int64_t b = 0; b < blocks; b++) {
      __m512 x = avx512_load_x(args, m, (block + b) * NVFP4_BLOCK);
      put(arg, block + b - first, avx512_e2m1_round_doubled(_mm512_mul_ps(x, _mm512_set1_ps(factors[b]))), scales[b]);
    }
  }
}

#endif
