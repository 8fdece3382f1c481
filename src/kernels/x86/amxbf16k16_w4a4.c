/* SPDX-License-Identifier: Apache-2.0 */
/*
 * x86_amxbf16k16_w4a4: y[m,n] = alpha[n] * sum over blocks b ascending ( sum over k in b ( (x[m,k] * sx) * (w[n,k] * sw) ) ) (+ bias[n])
 *
 * Class CANONICAL: the bits of nvfp4_spec_w4a4, for any M, N, K and any number of threads. AMX tiles with bf16, AVX-512 F, BW, VL, DQ. Packed layout: n16k64. Workspace: x quantised,
 * as x tiles.
 *
 * A TDPBF16PS takes the 16 k of one block. All products are multiples of u = sx * sw / 4 and any sum of them is at most 2304 u (docs/numerics.md), where u itself has at most 8
 * significant bits: every partial sum inside the block is exact in fp32, in any order. Their total is added to the sum by one addition that rounds to nearest even: the canonical
 * one. This rests on the instruction's adding the total of a step and not each product to the sum (amxbf16_w4a4_body.h); the self-test would find a processor that differs.
 */
#define AMXBF16_STEP 16
#include "kernels/x86/amxbf16_w4a4_body.h"

const nvfp4_kernel nvfp4_kernel_x86_amxbf16k16_w4a4 = {
    .struct_size = sizeof(nvfp4_kernel),
    .id = "x86_amxbf16k16_w4a4",
    .summary = "the canonical W4A4 result with AMX bf16 tiles, a block an instruction",
    .layout = &nvfp4_layout_n16k64,
    .numerics = {NVFP4_MODE_W4A4, NVFP4_CLASS_CANONICAL, NVFP4_FLAG_BATCH_INVARIANT | NVFP4_FLAG_DETERMINISTIC, NVFP4_ORDER_CANONICAL_W4A4},
    .device = NVFP4_DEVICE_CPU,
    .m_first = AMX_M_FIRST,
    .m_last = NVFP4_M_MAX,
    .verified = "Intel Xeon (family 6 model 207), 2026-11-23",
    .is_supported = is_supported,
    .can_implement = avx512_can_implement,
    .workspace_bytes = workspace_bytes,
    .apply_weights = apply_weights,
};
