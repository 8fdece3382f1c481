/* SPDX-License-Identifier: Apache-2.0 */
/*
 * CUTLASS's block-scaled GEMM behind a C interface: what gemm.cu has of C++, and what plugin.c knows of it.
 *
 *   y[m,n] = round(alpha[n] * sum over blocks ( sx[m,b] * sw[n,b] * sum in the block ( x[m,k] * w[n,k] ) ) + bias[n])      with fmaf, in the epilogue
 */
#ifndef NVFP4_PLUGINS_CUTLASS_GEMM_H
#define NVFP4_PLUGINS_CUTLASS_GEMM_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* All pointers are the device's: codes of x and w at multiples of 16 bytes, [m, k/2] and [n, k/2] without gaps; their scales in tiles of 128 x 4, whole and padded with zeros; y at a multiple of 16, as its rows. */
typedef struct cutlass_gemm_args {
  int64_t m, n, k; /* k: a multiple of 32; n: of 8 */
  const void *x, *w, *x_scales, *w_scales;
  const float *alpha; /* [n]; NULL: 1 */
  const void *bias;   /* [n] in bf16; NULL: 0; not with f32 y */
  void *y;
  int64_t ldy_elems;
  void *workspace;
  size_t workspace_bytes;
  void *stream;
} cutlass_gemm_args;

/* Enqueues the GEMM with y in bf16 or f32. NULL if it is on its way, or else what went wrong. To be called on a GPU of that capability alone: without a driver CUTLASS ends the process. */
typedef const char *(*cutlass_gemm)(const cutlass_gemm_args *args);
const char *cutlass_gemm_sm100_bf16(const cutlass_gemm_args *args);
const char *cutlass_gemm_sm100_f32(const cutlass_gemm_args *args);
const char *cutlass_gemm_sm120_bf16(const cutlass_gemm_args *args);
const char *cutlass_gemm_sm120_f32(const cutlass_gemm_args *args);

#ifdef __cplusplus
}
#endif

#endif
