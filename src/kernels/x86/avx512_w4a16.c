/* SPDX-License-Identifier: Apache-2.0 */
/*
 * x86_avx512_w4a16: y[m,n] = alpha[n] * acc (+ bias[n]); acc = fmaf(part, sw[n,b], acc) over blocks b ascending; part = fmaf(x[m,k], w[n,k], part) over the block's k ascending
 *
 * Class CANONICAL: the bits of nvfp4_spec_w4a16, for any M, N, K and any number of threads. AVX-512 F, BW, VL, DQ and FMA.
 * Packed layout: n16k64. Workspace: x as fp32. A lane is a row n. VPERMPS looks up by the low 4 bits of each lane, so a shift and a look-up give the 16 weights of one k.
 *
 * Measured on an AMD EPYC (Zen 5, 4.2 GHz, 2 cores of a shared machine), 2026-11-22, one thread, gcc 12, against roofs of the same run (read 35-40 GB/s, fp32 FMA 268 GFLOP/s):
 *   M = 1    4096x4096, 4096x14336 (N x K) and 14336x4096, weights from DRAM: 31 to 33 GB/s, 82 to 94 % of the read bandwidth; weights in L2: 36 GB/s
 *   M = 16   4096x4096, from DRAM: 215 GFLOP/s, 0.80 times the fp32 FMA peak
 *   M = 512  4096x4096: 205 to 219 GFLOP/s, 0.77 to 0.82 times the fp32 FMA peak
 */
#include "kernels/x86/avx512.h"

enum { STEPS = NVFP4_BLOCK, CAREFUL = 0 };

static bool prepare(const nvfp4_kernel_args *args, int64_t m, int64_t first, int64_t last, char *to, size_t stride) {
  for (int64_t block = first; block < last; block++, to += stride) {
    _mm512_store_ps(to, avx512_load_x(args, m, block * NVFP4_BLOCK));
  }
  return false;
}

AVX512_INLINE __m512i decode(__m512i codes, const int i) {
  const __m512 values =
      _mm512_setr_ps(0.0f, 0.5f, 1.0f, 1.5f, 2.0f, 3.0f, 4.0f, 6.0f, -0.0f, -0.5f, -1.0f, -1.5f, -2.0f, -3.0f, -4.0f, -6.0f);
  return _mm512_castps_si512(_mm512_permutexvar_ps(_mm512_srli_epi32(codes, (unsigned)(i < 4 ? 8 * i : 8 * (i - 4) + 4)), values));
}

AVX512_INLINE __m512 multiply_add(__m512i x, __m512i w, __m512 sum, const bool careful) {
  (void)careful;
  return _mm512_fmadd_ps(_mm512_castsi512_ps(x), _mm512_castsi512_ps(w), sum);
}

#include "kernels/x86/avx512_w4a16_body.h"

AVX512_PLAIN static nvfp4_status is_supported(const nvfp4_machine *machine, nvfp4_reason *reason) {
  return avx512_is_supported(machine, NVFP4_ISA_FMA | NVFP4_ISA_AVX512F | NVFP4_ISA_AVX512BW | NVFP4_ISA_AVX512VL | NVFP4_ISA_AVX512DQ,
                             reason);
}

const nvfp4_kernel nvfp4_kernel_x86_avx512_w4a16 = {
    .struct_size = sizeof(nvfp4_kernel),
    .id = "x86_avx512_w4a16",
    .summary = "the canonical W4A16 result with AVX-512",
    .layout = &nvfp4_layout_n16k64,
    .numerics = {NVFP4_MODE_W4A16, NVFP4_CLASS_CANONICAL, NVFP4_FLAG_BATCH_INVARIANT | NVFP4_FLAG_DETERMINISTIC,
                 NVFP4_ORDER_CANONICAL_W4A16},
    .device = NVFP4_DEVICE_CPU,
    .verified = "AMD EPYC (Zen 5), 2026-11-22",
    .is_supported = is_supported,
    .can_implement = avx512_can_implement,
    .workspace_bytes = workspace_bytes,
    .apply_weights = apply_weights,
};
