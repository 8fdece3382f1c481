/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a transformer computes in fp32 between its linear layers. Every result is made in a fixed order, an operation at a time (no FMA, no libm): the same
 * bits on every machine, whatever the number of rows or threads.
 */
#ifndef NVFP4_MODEL_VECTOR_H
#define NVFP4_MODEL_VECTOR_H

#include <stdint.h>

#define NVFP4_VECTOR_LANES 16

/* out[r*ldo + i] = sum over j in [0, count) of a[r*lda + j] * b[j*ldb + i], j ascending, for r in [0, rows) and i in [0, length); length is a multiple of
 * NVFP4_VECTOR_LANES. */
void nvfp4_weighted_rows(const float *a, int64_t lda, int64_t rows, int64_t count, const float *b, int64_t ldb, int64_t length, float *out,
                         int64_t ldo);

/* x[i] = exp(x[i] * scale - the largest of them) for i in [0, count), count >= 1; returns their sum: lane l sums the i = l (mod 16) ascending, then the
 * lanes are added in a tree. Writes x up to the next multiple of NVFP4_VECTOR_LANES. */
float nvfp4_softmax(float *x, int64_t count, float scale);

/* The largest of x[0..count), count >= 1, and into *index its first place. */
float nvfp4_largest(const float *x, int64_t count, int64_t *index);

/* The sum of exp(x[i] - shift), the exponentials in fp32, added in double: lanes and tree as above. */
double nvfp4_exp_sum(const float *x, int64_t count, float shift);

/* Of p(i) = exp(least + step * code[i]) from q(i) = exp(x[i] - shift - log_sum): the sum of p(i) (ln p(i) - ln q(i)) over those i with ln p(i) > -16. Terms in fp32,
 * added in double as above. */
double nvfp4_divergence(const uint16_t *code, float least, float step, const float *x, float shift, double log_sum, int64_t count);

/* gate[i] = gate[i] / (1 + exp(-gate[i])) * up[i] */
void nvfp4_swiglu(float *gate, const float *up, int64_t count);

#endif
