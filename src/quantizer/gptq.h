/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Second-order rounding (GPTQ: Frantar et al., arXiv 2210.17323, algorithm 1, in blocks of 16 with a scale each). A layer's rows w are rounded to q so that
 *
 *   (w - q) H (w - q)^T,   H = X^T X + damping * mean(diag) * I,   X = the inputs that a calibration text gives the layer
 *
 * is small, not (w - q)^2. With the upper Cholesky factor U of the inverse, H^-1 = U^T U, column j costs ((w_j - q_j) / U_jj)^2, and what is left of it is made up for in the
 * columns after it:
 *
 *   for j = 0 .. K-1:   e = (w_j - q_j) / U_jj;   w_i -= e U_ji for all i > j
 *
 * In double. Each row is by itself, and what is done for it does not depend on threads. Its linear algebra is that of OpenBLAS, which must have
 * been told to use one thread: ours call it, and the number of its own would change sums. The bits are those of its kernels for the processor.
 */
#ifndef NVFP4_QUANTIZER_GPTQ_H
#define NVFP4_QUANTIZER_GPTQ_H

#include <nvfp4/nvfp4.h>
#include <nvfp4/quantize.h>

#include "base/threads.h"
#include "quantizer/blas.h"

/* Adds x^T x of m rows of x [m, k] to `hessian` [k, k]: its upper triangle only. */
nvfp4_status nvfp4_gptq_add_rows(const nvfp4_blas *blas, nvfp4_threads *threads, double *hessian, int64_t k, const float *x, int64_t m,
                                 nvfp4_reason *reason);

/* hessian (upper triangle) -> U (upper triangle; the rest is scratch). *damping, such as 0.01, grows tenfold as long as the matrix is not positive
 * definite. Errors: NVFP4_E_FORMAT if it is not with a damping of 1 either, as with NaN in it. */
nvfp4_status nvfp4_gptq_factor(const nvfp4_blas *blas, double *hessian, int64_t k, double *damping, nvfp4_reason *reason);

/* As nvfp4_quantise_matrix, by second order. Block scales are found when their columns are reached: `search` with weights 1/U_jj^2 gives one, and sweep then
 * rounds the block, its errors made up for inside it, with the 16 scales around that and takes the one of least cost; ties: the smallest. */
nvfp4_status nvfp4_gptq_round(const nvfp4_blas *blas, const float *x, int64_t n, int64_t k, float global, nvfp4_scale_search search,
                              const double *factor, uint8_t *codes, uint8_t *scales, double error[2], nvfp4_reason *reason);

#endif
