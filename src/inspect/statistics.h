/* SPDX-License-Identifier: Apache-2.0 */
/* Statistics of NVFP4 weights in the canonical form. */
#ifndef NVFP4_INSPECT_STATISTICS_H
#define NVFP4_INSPECT_STATISTICS_H

#include <nvfp4/inspect.h>

#include "base/threads.h"

/* Counts every block into out. */
void nvfp4_count_blocks(nvfp4_threads *threads, const nvfp4_weights *weights, nvfp4_layer_inspection *out);

/* Rows of a sample: each step-th from 0 on. */
#define NVFP4_SAMPLED_ROWS 512
static inline int64_t nvfp4_sample_step(int64_t n) { return (n + NVFP4_SAMPLED_ROWS - 1) / NVFP4_SAMPLED_ROWS; }

/* Of the sampled rows: columns[k] gets the sum of squares of column k, rows[i] that of row i * step, without the global scale; *largest the largest magnitude of rows [0, n)
 * times its factor. factors: [sampled rows]. */
void nvfp4_sum_squares(const nvfp4_weights *weights, const double *factors, double *columns, double *rows, double *largest);

/* rows[n] gets the sum of squares of row n over up to 64 of its blocks, without the global scale. */
void nvfp4_row_squares(const nvfp4_weights *weights, double *rows);

/* Where the byte of row n, block b lies in a matrix [n][blocks], if what is read as linear was written in the 128x4 order, or the other way round. */
typedef enum nvfp4_arrangement { NVFP4_AS_READ, NVFP4_UNSWIZZLED, NVFP4_SWIZZLED } nvfp4_arrangement;

/* Share of the variance of log2(scale) that row and column explain, over up to 8 bands of 128 rows; blocks % 4 and n % 128 are 0. -1: no variance. */
double nvfp4_explained_variance(const nvfp4_weights *weights, nvfp4_arrangement arrangement);
/* What random scales have on average, and the standard deviation of that. */
void nvfp4_explained_by_chance(const nvfp4_weights *weights, double *mean, double *deviation);

#endif
