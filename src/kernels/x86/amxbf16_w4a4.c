/* SPDX-License-Identifier: Apache-2.0 */
/*
 * x86_amxbf16_w4a4: y[m,n] = alpha[n] * sum over k ( (x[m,k] * sx) * (w[n,k] * sw) ) (+ bias[n])
 *
 * Class BOUNDED, for any M, N, K. AMX tiles with bf16, AVX-512 F, BW, VL, DQ. Packed layout: n16k64. Workspace: x quantised, as x tiles. Steps of 32 k, the most that an instruction takes.
 *
 * The bound of docs/numerics.md holds: the factors are exact (amxbf16_w4a4_body.h), a product is fused into its addition, and of the roundings to nearest even a term passes through
 * at most K - 1 additions, in whatever order they are, and the finish: n = K <= K + 8.
 */
#define AMXBF16_STEP 32
#include "kernels/x86/amxbf16_w4a4_body.h"

const nvfp4_kernel nvfp4_kernel_x86_amxbf16_w4a4 = {
    .struct_size = sizeof(nvfp4_kernel),
    .id = "x86_amxbf16_w4a4",
    .summary = "W4A4 with AMX bf16 tiles, scales folded into the values, within the bound",
    .layout = &nvfp4_layout_n16k64,
    .numerics = {NVFP4_MODE_W4A4, NVFP4_CLASS_BOUNDED, NVFP4_FLAG_BATCH_INVARIANT | NVFP4_FLAG_DETERMINISTIC,
                 "w4a4: exact products in bf16 tiles, TDPBF16PS over 32 k, steps ascending, fp32"},
    .device = NVFP4_DEVICE_CPU,
    .m_first = AMX_M_FIRST,
    .m_last = NVFP4_M_MAX,
    .verified = "Intel Xeon (family 6 model 207), 2026-11-23",
    .is_supported = is_supported,
    .can_implement = avx512_can_implement,
    .workspace_bytes = workspace_bytes,
    .apply_weights = apply_weights,
};
