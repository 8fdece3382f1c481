/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The canonical results, written to be read: one output at a time, one operation a line. Every CANONICAL kernel gives these bits; docs/numerics.md argues why.
 * Also the exact oracle, which no order of additions can change.
 */
#ifndef NVFP4_KERNELS_REF_SPEC_H
#define NVFP4_KERNELS_REF_SPEC_H

#include <nvfp4/nvfp4.h>

/* One row of codes (low nibble = even k) and its E4M3 scales (linear). */
typedef struct nvfp4_spec_row {
  const uint8_t *codes, *scales;
} nvfp4_spec_row;

/* W4A4: acc = 0; for each block ascending: acc = acc + float(dot) * (sx * sw), all in fp32. */
float nvfp4_spec_w4a4(nvfp4_spec_row x, nvfp4_spec_row w, int64_t k);

/* W4A16: for each block ascending: part = 0; for each k ascending: part = fmaf(x, w, part); acc = fmaf(part, sw, acc). */
float nvfp4_spec_w4a16(const float *x, nvfp4_spec_row w, int64_t k);

/* Dense (W16A16): for each k ascending: acc = fmaf(x, w, acc). w: the weights as fp32, exactly. */
float nvfp4_spec_w16a16(const float *x, const float *w, int64_t k);

/* v = bias ? fmaf(alpha, acc, *bias) : alpha * acc. A NaN becomes the positive quiet one, since its sign differs between processors. */
float nvfp4_spec_finish(float acc, float alpha, const float *bias);

/* The exact W4A4 sum (before alpha) in units of 2^-20, and in *absolute (may be NULL) the sum over all k of the products' magnitudes. E4M3 values are multiples of
 * 2^-9, E2M1 values of 2^-1: a term is a multiple of 2^-20. |term| <= 16 * 36 * 448^2 < 2^27, so K/16 <= 2^16 of them stay below 2^63: exact up to
 * K = 2^20. Scales must not be NaN. */
int64_t nvfp4_oracle_w4a4(nvfp4_spec_row x, nvfp4_spec_row w, int64_t k, uint64_t *absolute);

#endif
