/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cuda_fp4_128x4, the packed layout of everything that feeds FP4 tensor cores (Blackwell): vendor libraries, plug-ins, kernels of our own.
 *
 *   data:  codes [np, kp/2], row-major, the even k in the low nibble; then scales [np, kp/16] in tiles of 128 rows x 4 (NVFP4_SCALES_128X4, 512 bytes a tile, np/128 x kp/64 tiles)
 *
 * np is n rounded up to 128, kp is k rounded up to 64: whole tiles, and the multiple of 32 that the libraries ask for. Codes and scales beyond n and k are zero, so that what is padded adds
 * exact zeros. Codes begin at a multiple of 256 bytes, scales at one of 4096 behind them: 16 is what TMA and the libraries need.
 *
 * The tile is that of "1D Block Scaling Factors Layout" in the cuBLAS manual and of the scale operands in the PTX manual (tcgen05.mma, scale_vec::4X): libraries and tcgen05.cp take it as it is.
 */
#ifndef NVFP4_KERNELS_CUDA_FP4_LAYOUT_H
#define NVFP4_KERNELS_CUDA_FP4_LAYOUT_H

enum { CUDA_FP4_ROWS = 128, CUDA_FP4_K = 64, CUDA_FP4_ALIGNMENT = 256 };

#ifndef __CUDACC__
#include <nvfp4/kernel.h>

extern const nvfp4_layout nvfp4_layout_cuda_fp4;

/* np and kp */
int64_t cuda_fp4_padded_n(int64_t n);
int64_t cuda_fp4_padded_k(int64_t k);

/* Codes and scales of packed weights. */
const uint8_t *cuda_fp4_codes(const nvfp4_packed *packed);
const uint8_t *cuda_fp4_scales(const nvfp4_packed *packed);

/* Whether all rows have the same W4A4 alpha: then *alpha is it. Found once, when the layer was packed. (private_elems[0] and, as fp32 bits, [1]) */
bool cuda_fp4_uniform_alpha(const nvfp4_packed *packed, float *alpha);

/* Quantised activations in a workspace: codes [m, kp/2] and scales [m, kp/16] in tiles, padded with zeros as the weights are (codes have no rows beyond m). */
typedef struct cuda_fp4_x {
  uint8_t *codes, *scales;
  void *rest; /* of the workspace: what is behind. All three are multiples of CUDA_FP4_ALIGNMENT. */
} cuda_fp4_x;

/* What a workspace needs for it; a kernel adds what it wants of `rest`. */
size_t cuda_fp4_x_bytes(int64_t m, int64_t k, nvfp4_scale_layout layout);

/* Enqueues cuda_quantise of args' x into the front of args->workspace. layout: NVFP4_SCALES_128X4, or NVFP4_SCALES_8X4. */
nvfp4_status cuda_fp4_quantise(const nvfp4_host *host, const nvfp4_kernel_args *args, nvfp4_scale_layout layout, cuda_fp4_x *out,
                               nvfp4_reason *reason);
#endif

#endif
