/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cuda_emulation_w4a4: y[m,n] = alpha[n] * sum over blocks b ascending ( float(dot16(x, w)) * (sx[m,b] * sw[n,b]) ) (+ bias[n])
 *
 * Class CANONICAL: the bits of the CPU's kernels, for any M, N and K, on any NVIDIA GPU from compute capability 8.0 on: the oracle on the device, and what serves where nothing
 * faster can. Two launches: the quantiser (quantise.cu), then tiles of y (emulation_w4a4.cu). Packed layout: cuda_linear.
 * Workspace: codes [m, k/2] and scales [m, k/16] of x.
 */
#include "base/alloc.h"
#include "base/reason.h"
#include "kernels/cuda/emulation.h"
#include "kernels/cuda/linear.h"
#include "kernels/cuda/quantise.h"

extern const unsigned char nvfp4_fatbin_emulation_w4a4[];
static const nvfp4_cuda_kernel few = {nvfp4_fatbin_emulation_w4a4, "nvfp4_emulation_w4a4_16"};
static const nvfp4_cuda_kernel many = {nvfp4_fatbin_emulation_w4a4, "nvfp4_emulation_w4a4_64"};

static size_t codes_bytes(int64_t m, int64_t k) { return (size_t)nvfp4_round_up(m * (k / 2), 64); }

static size_t workspace_bytes(const nvfp4_layer_desc *desc, int64_t m) {
  return codes_bytes(m, desc->k) + (size_t)(m * (desc->k / NVFP4_BLOCK));
}

static nvfp4_status apply_weights(const nvfp4_host *host, const nvfp4_packed *packed, const nvfp4_kernel_args *args, nvfp4_reason *reason) {
  uint8_t *x_codes = args->workspace, *x_scales = x_codes + codes_bytes(args->m, args->k);
  NVFP4_TRY(cuda_quantise(host, args, args->k, NVFP4_SCALES_LINEAR, x_codes, x_scales, reason));
  cuda_emulation_args a = cuda_emulation_arguments(packed, args);
  a.x_codes = x_codes;
  a.x_scales = x_scales;
  return cuda_emulation_launch(host, &few, &many, &a, args->stream, reason);
}

const nvfp4_kernel nvfp4_kernel_cuda_emulation_w4a4 = {
    .struct_size = sizeof(nvfp4_kernel),
    .id = "cuda_emulation_w4a4",
    .summary = "the canonical W4A4 result on any NVIDIA GPU",
    .layout = &nvfp4_layout_cuda_linear,
    .numerics = {NVFP4_MODE_W4A4, NVFP4_CLASS_CANONICAL, NVFP4_FLAG_BATCH_INVARIANT | NVFP4_FLAG_DETERMINISTIC, NVFP4_ORDER_CANONICAL_W4A4},
    .device = NVFP4_DEVICE_CUDA,
    .verified = "NVIDIA H200, driver 580.159.04, CUDA 13.0, 2026-11-23",
    .is_supported = cuda_emulation_is_supported,
    .can_implement = cuda_emulation_can_implement,
    .workspace_bytes = workspace_bytes,
    .apply_weights = apply_weights,
};
