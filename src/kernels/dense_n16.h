/* SPDX-License-Identifier: Apache-2.0 */
/*
 * dense_n16, the packed layout of dense weights on every CPU: tiles of 16 output rows, 64-byte aligned, in which n runs fastest. Rows beyond N are zeros.
 *
 *   tile t = rows 16t .. 16t+15, all k
 *
 *   bf16   [K/2, rounded up][n 0..15][2]   the odd k first, then the even one: in a 32-bit lane the even k is the high half
 *   f16    [K][n 0..15]                    and 32 bytes of zeros if K is odd
 *   f32    [K][n 0..15]
 *
 * A bf16 lane is what VDPBF16PS and TDPBF16PS take: they add the product of the high halves first, so that the even k comes first, as the canonical order has it. What stands beyond an
 * odd K is zero, but it is no term of the sum: -0 + 0 would be +0.
 *
 * private_elems: DENSE_N16_DTYPE and DENSE_N16_NORMAL of nvfp4_packed.
 */
#ifndef NVFP4_KERNELS_DENSE_N16_H
#define NVFP4_KERNELS_DENSE_N16_H

#include <nvfp4/kernel.h>

enum { DENSE_N16_N = 16 };

/* Members of private_elems. */
enum {
  DENSE_N16_DTYPE = 0, /* nvfp4_dtype of the weights: F32, F16 or BF16 */
  DENSE_N16_NORMAL = 1 /* 1: every weight is zero or finite with |w| >= 2^-48; for kernels that flush subnormal numbers, docs/numerics.md */
};

extern const nvfp4_layout nvfp4_layout_dense_n16;

static inline int64_t dense_n16_tiles(int64_t n) { return (n + DENSE_N16_N - 1) / DENSE_N16_N; }

/* Bytes that the first k of a tile take; k is even but at the end. Tiles lie dense_n16_bytes(K, dtype) apart. */
static inline int64_t dense_n16_bytes(int64_t k, nvfp4_dtype dtype) { return dtype == NVFP4_DTYPE_F32 ? k * 64 : (k + 1) / 2 * 64; }

static inline nvfp4_dtype dense_n16_dtype(const nvfp4_packed *packed) { return (nvfp4_dtype)packed->private_elems[DENSE_N16_DTYPE]; }

static inline const uint8_t *dense_n16_tile(const nvfp4_packed *packed, int64_t tile) {
  return (const uint8_t *)packed->data + tile * dense_n16_bytes(packed->k, dense_n16_dtype(packed));
}

#endif
