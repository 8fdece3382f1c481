/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The fp32 sum that attention consists of, in a fixed order, a product and an addition at a time (no FMA): the same bits on every machine, whatever the number of
 * rows or threads.
 */
#ifndef NVFP4_MODEL_VECTOR_H
#define NVFP4_MODEL_VECTOR_H

#include <stdint.h>

#define NVFP4_VECTOR_LANES 16

/* out[i] = sum over j in [0, count) of a[j] * b[j*ld + i], j ascending, for i in [0, length); length is a multiple of NVFP4_VECTOR_LANES. */
void nvfp4_weighted_rows(const float *a, int64_t count, const float *b, int64_t ld, int64_t length, float *out);

#endif
