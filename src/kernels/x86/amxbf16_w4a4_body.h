/* SPDX-License-Identifier: Apache-2.0 */
/*
 * W4A4 with AMX bf16 tiles: x quantised, its block scales folded into the values as the weights' are. All but the kernels' cards.
 *
 * With both factors of an E2M1 value and an E4M3 scale there are no subnormal numbers: all products are multiples of 2^-20, so sums of them, rounded or not, are too. A NaN scale of x
 * makes its 16 values NaN, and NaN times any weight is NaN.
 */
#ifndef NVFP4_KERNELS_X86_AMXBF16_W4A4_BODY_H
#define NVFP4_KERNELS_X86_AMXBF16_W4A4_BODY_H

#include "kernels/x86/amxbf16_body.h"
#include "kernels/x86/avx512_quantise.h"

typedef struct x_writer {
  x_tile *tiles;
  int64_t row;
} x_writer;

AVX512_INLINE void put_block(void *arg, int64_t block, __m128i x2, float scale) {
  const x_writer *writer = arg;
  __m512 x = _mm512_mul_ps(_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(x2)), _mm512_set1_ps(0.5f * scale));
  put_x(writer->tiles, writer->row, block, _mm512_cvtepi32_epi16(_mm512_srli_epi32(_mm512_castps_si512(x), 16)));
}

static void prepare(const nvfp4_kernel_args *args, int64_t m, int64_t first, int64_t last, char *tiles, int64_t row) {
  x_writer writer = {(x_tile *)(void *)tiles, row};
  avx512_quantise(args, m, first, last, put_block, &writer);
}

static const amx_kernel kernel = AMXBF16_KERNEL(prepare);

static size_t workspace_bytes(const nvfp4_layer_desc *desc, int64_t m) { return amx_workspace_bytes(&kernel, m, desc->k); }

static nvfp4_status apply_weights(const nvfp4_host *host, const nvfp4_packed *packed, const nvfp4_kernel_args *args, nvfp4_reason *reason) {
  (void)reason;
  return amx_apply(&kernel, host, packed, args);
}

#endif
