/* SPDX-License-Identifier: Apache-2.0 */
/* What the mock libraries compute: y = alpha x w^T + bias of FP4 codes and scales in tiles, with the canonical sums. */
#ifndef NVFP4_TESTS_MOCK_FP4_PRODUCT_H
#define NVFP4_TESTS_MOCK_FP4_PRODUCT_H

#include <nvfp4/nvfp4.h>

#include "mock.h"

typedef struct mock_fp4_product {
  int64_t m, n, k;
  const uint8_t *x, *w;               /* [m, k/2], [n, k/2] */
  const uint8_t *x_scales, *w_scales; /* [m, k/16], [n, k/16] in tiles */
  float alpha;
  const float *alpha_there; /* on the device; NULL: alpha */
  bool alpha_of_rows;       /* alpha_there has n */
  bool x_scales_8x4;        /* tiles of 8x4 instead of 128x4; w's are 128x4 always */
  const int *shuffled;      /* [32]: where row i of each 32 is in w; NULL: in its place */
  const void *bias;         /* [n], or NULL */
  void *y;
  int64_t ldy_elems;
  nvfp4_dtype y_dtype, bias_dtype;
  void *workspace; /* spoilt */
  size_t workspace_bytes;
} mock_fp4_product;

/* For mock_cuda_launch, whose one argument is a mock_fp4_product. */
extern const mock_kernel mock_fp4_kernel;

#endif
