/* SPDX-License-Identifier: Apache-2.0 */
/*
 * avx2_w4a4: y[m,n] = alpha[n] * sum over blocks b ascending ( float(dot16(x, w)) * (sx[m,b] * sw[n,b]) ) (+ bias[n])
 *
 * Class CANONICAL: the bits of nvfp4_spec_w4a4, for any M, N, K and any number of threads. Packed layout: n16k64.
 * A block's dot product for 8 rows of weights: four VPMADDUBSW, added in 16 bits, and one VPMADDWD with ones.
 *
 * Measured: AMD EPYC (Zen 5, 4.1 GHz, a virtual machine with other users), gcc 12, 2026-11-22; one thread, roofs of the same run:
 *   M = 1, 4096 x 4096 from memory 35 GB/s (reading alone: 39), from L2 36; M = 16: 240, M = 512: 255 GFLOP/s (fp32 FMAs of 256 bits: 131)
 */
#include "kernels/x86/avx2_w4a4.h"

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
