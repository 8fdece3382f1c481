/* SPDX-License-Identifier: Apache-2.0 */
/*
 * x86_amxbf16_w4a16: y[m,n] = alpha[n] * sum over k ( x[m,k] * (w[n,k] * sw) ) (+ bias[n])
 *
 * Class BOUNDED, for bf16 x, any N and K, M from 16. AMX tiles with bf16, AVX-512 F, BW, VL, DQ. Packed layout: n16k64. Workspace: x as x tiles. Steps of 32 k.
 *
 * The bound of docs/numerics.md holds: the factors are exact (amxbf16_body.h), a product is fused into its addition, and of the roundings to nearest even a term passes through at most
 * K - 1 additions, in whatever order they are, and the finish: n = K <= K + 8. Subnormal x and subnormal sums are zeros, which the bound's e covers. Other x than bf16 would be rounded
 * for the tiles, and is refused.
 */
#define AMXBF16_STEP 32
#include "kernels/x86/amxbf16_body.h"

static void prepare(const nvfp4_kernel_args *args, int64_t m, int64_t first, int64_t last, char *tiles, int64_t row) {
  const uint16_t *x = (const uint16_t *)args->x + m * args->ldx_elems;
  for (int64_t block = first; block < last; block++) {
    put_x((x_tile *)(void *)tiles, row, block - first, _mm256_loadu_si256((const __m256i *)(const void *)(x + block * NVFP4_BLOCK)));
  }
}

static const amx_kernel kernel = AMXBF16_KERNEL(prepare);

static size_t workspace_bytes(const nvfp4_layer_desc *desc, int64_t m) { return amx_workspace_bytes(&kernel, m, desc->k); }

static nvfp4_status apply_weights(const nvfp4_host *host, const nvfp4_packed *packed, const nvfp4_kernel_args *args, nvfp4_reason *reason) {
  (void)reason;
  return amx_apply(&kernel, host, packed, args);
}

AVX512_PLAIN static nvfp4_status can_implement(const nvfp4_layer_desc *desc, nvfp4_reason *reason) {
  if (desc->x_dtype != NVFP4_DTYPE_BF16) {
    return nvfp4_reject(reason, NVFP4_E_DTYPE, "x is %s, which the bf16 tiles would round; needs BF16, and other W4A16 kernels take it",
                        nvfp4_dtype_name(desc->x_dtype));
  }
  return NVFP4_OK;
}

const nvfp4_kernel nvfp4_kernel_x86_amxbf16_w4a16 = {
    .struct_size = sizeof(nvfp4_kernel),
    .id = "x86_amxbf16_w4a16",
    .summary = "W4A16 with AMX bf16 tiles for bf16 x, within the bound",
    .layout = &nvfp4_layout_n16k64,
    .numerics = {NVFP4_MODE_W4A16, NVFP4_CLASS_BOUNDED, NVFP4_FLAG_BATCH_INVARIANT | NVFP4_FLAG_DETERMINISTIC,
                 "w4a16: exact products in bf16 tiles, TDPBF16PS over 32 k, steps ascending, fp32"},
    .device = NVFP4_DEVICE_CPU,
    .m_first = AMX_M_FIRST,
    .m_last = NVFP4_M_MAX,
    .verified = "Intel Xeon (family 6 model 207), 2026-11-23",
    .is_supported = is_supported,
    .can_implement = can_implement,
    .workspace_bytes = workspace_bytes,
    .apply_weights = apply_weights,
};
