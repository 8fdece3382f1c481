/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cuDNN's execution plan of an NVFP4 product: block-scale dequantise x and w -> matrix product -> times a global scale -> plus bias, as one graph, which its engines fuse.
 *
 *   X [1, m, k] and W [1, k, n] (K-major both) in E2M1 with scales [1, m, k/16], [1, k/16, n] in E4M3, REORDERING_F8_128x4: rows padded to 128, columns to 4
 *   Y [1, m, n] of y_dtype without gaps; the global scale [1, 1, 1] in fp32; the bias [1, 1, n] of bias_dtype. What is between them is virtual, in fp32.
 */
#ifndef NVFP4_KERNELS_VENDOR_CUDNN_PLAN_H
#define NVFP4_KERNELS_VENDOR_CUDNN_PLAN_H

#include <nvfp4/nvfp4.h>

#include "kernels/vendor/cudnn.h"

typedef struct cudnn_product {
  int64_t m, n, k; /* k a multiple of 32 */
  nvfp4_dtype y_dtype;
  bool with_scale;        /* times the global scale */
  nvfp4_dtype bias_dtype; /* NONE: no bias; a bias only with a scale */
} cudnn_product;

/* Unique ids of a graph's tensors that a variant pack gives addresses for. */
enum { CUDNN_X = 1, CUDNN_W, CUDNN_X_SCALES, CUDNN_W_SCALES, CUDNN_Y, CUDNN_SCALE, CUDNN_BIAS };

/* What an address must be a multiple of; scale and bias: of their elements. */
enum { CUDNN_ALIGNMENT = 16 };

/* What a plan may want of a workspace; those known want none. */
enum { CUDNN_WORKSPACE_BYTES = 1 << 20 };

/* Opens libcudnn.so.9 and fills *api. NVFP4_E_MACHINE: it is missing or older than 9.13. */
nvfp4_status cudnn_open(nvfp4_dnn_api *api, nvfp4_reason *reason);

/* NVFP4_OK, or NVFP4_E_DEVICE with cuDNN's words. */
nvfp4_status cudnn_check(const nvfp4_dnn_api *api, const char *call, int status, nvfp4_reason *reason);

typedef struct cudnn_plan cudnn_plan;

/*
 * Makes the plan for the GPU of `handle`; or, without a handle, for the device that `properties`, a finalised descriptor of cuDNN's, describes: such a plan cannot be executed. The first engine
 * that cuDNN's heuristic names and whose notes do not say "non-deterministic" is taken. *out is freed by cudnn_plan_free. NVFP4_E_MACHINE: cuDNN has none for that GPU. Takes seconds at first, tenths of one later.
 */
nvfp4_status cudnn_plan_make(const nvfp4_dnn_api *api, nvfp4_dnn_handle *handle, nvfp4_dnn_desc *properties, const cudnn_product *product,
                             cudnn_plan **out, nvfp4_reason *reason);
void cudnn_plan_free(const nvfp4_dnn_api *api, cudnn_plan *plan);

nvfp4_dnn_desc *cudnn_plan_descriptor(const cudnn_plan *plan);

#endif
