/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cuda_emulation_w4a16: y[m,n] = alpha[n] * sum over blocks b ascending ( sw[n,b] * sum over k in b ascending ( x[m,k] * w[n,k] ) ) (+ bias[n])
 *
 * Class CANONICAL: the bits of the CPU's kernels, for any M, N and K and any type of x, f32 too, which tensor cores would round. On any NVIDIA GPU from compute capability 8.0
 * on. Tiles of y (emulation_w4a16.cu). Packed layout: cuda_linear. No workspace.
 */
#include "base/reason.h"
#include "kernels/cuda/emulation.h"
#include "kernels/cuda/linear.h"

extern const unsigned char nvfp4_fatbin_emulation_w4a16[];
static const nvfp4_cuda_kernel few = {nvfp4_fatbin_emulation_w4a16, "nvfp4_emulation_w4a16_16"};
static const nvfp4_cuda_kernel many = {nvfp4_fatbin_emulation_w4a16, "nvfp4_emulation_w4a16_64"};

static size_t workspace_bytes(const nvfp4_layer_desc *desc, int64_t m) {
  (void)desc;
  (void)m;
  return 0;
}

static nvfp4_status apply_weights(const nvfp4_host *host, const nvfp4_packed *packed, const nvfp4_kernel_args *args, nvfp4_reason *reason) {
  cuda_emulation_args a = cuda_emulation_arguments(packed, args);
  a.x = args->x;
  a.ldx_elems = args->ldx_elems;
  return cuda_emulation_launch(host, &few, &many, &a, args->stream, reason);
}

const nvfp4_kernel nvfp4_kernel_cuda_emulation_w4a16 = {
    .struct_size = sizeof(nvfp4_kernel),
    .id = "cuda_emulation_w4a16",
    .summary = "the canonical W4A16 result on any NVIDIA GPU",
    .layout = &nvfp4_layout_cuda_linear,
    .numerics = {NVFP4_MODE_W4A16, NVFP4_CLASS_CANONICAL, NVFP4_FLAG_BATCH_INVARIANT | NVFP4_FLAG_DETERMINISTIC,
                 NVFP4_ORDER_CANONICAL_W4A16},
    .device = NVFP4_DEVICE_CUDA,
    .verified = "NVIDIA H200, driver 580.159.04, CUDA 13.0, 2026-11-23",
    .is_supported = cuda_emulation_is_supported,
    .can_implement = cuda_emulation_can_implement,
    .workspace_bytes = workspace_bytes,
    .apply_weights = apply_weights,
};
