/* SPDX-License-Identifier: Apache-2.0 */
/* What the tests of plug-ins for GPUs share. They run on the mock driver. */
#ifndef NVFP4_TESTS_PLUGIN_SUPPORT_H
#define NVFP4_TESTS_PLUGIN_SUPPORT_H

#include "cuda_support.h"

/* A context with the plug-in on a GPU of capability sm; 0: without a GPU. Skips the test if the driver is not the mock. */
nvfp4_context *plugin_context(const char *plugin, int sm);

/* What the context says of kernel `id`: the stage, and a reason that has `text`. */
void plugin_check_state(nvfp4_context *context, const char *id, nvfp4_stage stage, const char *text);

/* y of shapes and M around every tile: test_cuda_exact. */
void plugin_check_results(nvfp4_context *context, const char *kernel, bool two_alphas, nvfp4_dtype y_dtype, nvfp4_dtype bias_dtype);

/* A W4A4 layer on cuda:0 with bf16 x and y. */
nvfp4_layer_desc plugin_layer_desc(const test_layer *test);

#endif
