/* SPDX-License-Identifier: Apache-2.0 */
/* Random layers for tests, and their reference result one output at a time. */
#ifndef NVFP4_TESTS_LAYER_SUPPORT_H
#define NVFP4_TESTS_LAYER_SUPPORT_H

#include "support.h"

typedef struct test_layer {
  int64_t n, k;
  uint8_t *codes, *scales; /* [n, k/2], [n, k/16] without gaps */
  float *bias;             /* [n] */
  nvfp4_partition partitions[4];
  int64_t partition_count;
  /* The same layer as a dense one, mode UNQUANTISED. */
  nvfp4_dtype dtype; /* each of three by turns of the seed */
  float *w;          /* [n, k] */
  void *values;      /* w as dtype */
  nvfp4_partition dense;
} test_layer;

/* Random codes (all 16), scales from 0 to 448, one partition with multipliers. A k that is not a multiple of 16 is for dense layers. */
test_layer test_layer_make(int64_t n, int64_t k, uint64_t seed);
void test_layer_free(test_layer *layer);
nvfp4_weights test_layer_weights(const test_layer *layer);
nvfp4_weights test_layer_dense_weights(const test_layer *layer);
nvfp4_layer_desc test_layer_desc(const test_layer *layer, nvfp4_mode mode);

/* Reference: y [m, n] in fp32 from x [m, k] in fp32 (values as the layer gets them). */
void test_layer_reference(const test_layer *layer, nvfp4_mode mode, const float *x, int64_t m, bool with_bias, float *y);

/* Makes the layer with `options`, applies it to x (of desc->x_dtype, ldx k) and returns y (of desc->y_dtype, ldy n), malloc'ed and poisoned before. */
void *test_layer_run(const nvfp4_options *options, const test_layer *layer, const nvfp4_layer_desc *desc, const void *x, int64_t m);

#endif
