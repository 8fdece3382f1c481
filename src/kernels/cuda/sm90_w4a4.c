/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cuda_sm90_w4a4: y[m,n] = alpha[n] * sum over k ( ( x[m,k] * sx[m,k/16] ) * ( w[n,k] * sw[n,k/16] ) ) (+ bias[n]), x quantised to NVFP4
 *
 * The quantiser's codes and scales (quantise.cu) are the canonical ones, or those that the caller gives. Times their scales they are exact in bf16 (dequantise.cu), as the weights are, so that
 * the W4A16 path of cuda_sm90_w4a16 computes the W4A4 result: nothing is rounded before the sum. Class BOUNDED; BATCH_INVARIANT. Packed layout: cuda_mma.
 * Workspace: x in bf16 [m, k], codes [m, k/2] and scales [m, k/16].
 */
#include "base/reason.h"
#include "cuda/cuda.h"
#include "kernels/cuda/arguments.h"
#include "kernels/cuda/mma.h"
#include "kernels/cuda/mma_layout.h"
#include "kernels/cuda/quantise.h"
#include "kernels/cuda/sm90.h"

enum { THREADS = 128 };

extern const unsigned char nvfp4_fatbin_dequantise[];
static const nvfp4_cuda_kernel dequantise_kernel = {nvfp4_fatbin_dequantise, "nvfp4_dequantise"};

static nvfp4_status can_implement(const nvfp4_layer_desc *desc, nvfp4_reason *reason) {
  (void)desc; /* any N, any K that is a multiple of 16, any M, all element types */
  (void)reason;
  return NVFP4_OK;
}

static size_t workspace_bytes(const nvfp4_layer_desc *desc, int64_t m) {
  return (size_t)m * (size_t)(desc->k / NVFP4_BLOCK) * (32 + 8 + 1);
}

static nvfp4_status apply_weights(const nvfp4_host *host, const nvfp4_packed *packed, const nvfp4_kernel_args *args, nvfp4_reason *reason) {
  const int64_t blocks = args->m * (args->k / NVFP4_BLOCK), grid = (blocks + THREADS - 1) / THREADS;
  uint16_t *x = args->workspace;
  uint8_t *codes = (uint8_t *)(x + blocks * NVFP4_BLOCK), *scales = codes + blocks * (NVFP4_BLOCK / 2);
  NVFP4_TRY(cuda_quantise(host, args, args->k, NVFP4_SCALES_LINEAR, codes, scales, reason)); /* refuses what is too large for a grid */
  cuda_dequantise_args a = {.blocks = blocks, .codes = codes, .scales = scales, .x = x};
  const nvfp4_cu_launch launch = {
      .grid_x = (unsigned)grid, .grid_y = 1, .grid_z = 1, .block_x = THREADS, .block_y = 1, .block_z = 1, .stream = args->stream};
  void *parameters[] = {&a};
  NVFP4_TRY(nvfp4_cuda_launch(host->cuda, &dequantise_kernel, &launch, parameters, reason));
  return cuda_sm90_apply(host, packed, args, x, args->k, NVFP4_DTYPE_BF16, NULL, CUDA_SM90_SLICES, reason);
}

const nvfp4_kernel nvfp4_kernel_cuda_sm90_w4a4 = {
    .struct_size = sizeof(nvfp4_kernel),
    .id = "cuda_sm90_w4a4",
    .summary = "exact W4A4 products on Hopper's bf16 tensor cores",
    .layout = &nvfp4_layout_cuda_mma,
    .numerics = {NVFP4_MODE_W4A4, NVFP4_CLASS_BOUNDED, NVFP4_FLAG_BATCH_INVARIANT | NVFP4_FLAG_DETERMINISTIC,
                 "w4a4: " CUDA_MMA_ORDER_SLICES},
    .device = NVFP4_DEVICE_CUDA,
    .verified = "NVIDIA H200, driver 580.159.04, CUDA 13.0, 2026-11-23",
    .is_supported = cuda_sm90_is_supported,
    .can_implement = can_implement,
    .workspace_bytes = workspace_bytes,
    .apply_weights = apply_weights,
};
