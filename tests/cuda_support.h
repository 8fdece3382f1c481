/* SPDX-License-Identifier: Apache-2.0 */
/* For tests of the CUDA side: on the mock driver, or, what does not ask for it, on a real GPU. */
#ifndef NVFP4_TESTS_CUDA_SUPPORT_H
#define NVFP4_TESTS_CUDA_SUPPORT_H

#include "layer/layer.h"
#include "layer_support.h"

/* Whether libcuda.so.1 is the mock. Tests that play errors skip() otherwise. */
bool test_cuda_is_mock(void);
/* What was made on the mock and is not freed; 0 on a real driver. */
size_t test_cuda_live(void);
/* mock_cuda_most_bytes; 0 on a real driver. */
size_t test_cuda_most_bytes(void);
/* How often a kernel was loaded into a context; 0 with a real driver. */
size_t test_cuda_loads(void);

/* A context on the driver as MOCK_CUDA=`mock` has it. In a build without CUDA compiler the CUDA kernels are put into its list: the mock needs no device code. Skips the test if there is no
 * GPU at all. */
nvfp4_context *test_cuda_context(const char *mock);

/* Makes the layer on cuda:0 with `kernel`, applies it to x in host memory, of desc->x_dtype; returns y of desc->y_dtype, malloc'ed and poisoned before. */
void *test_cuda_run(nvfp4_context *context, const char *kernel, const test_layer *layer, nvfp4_layer_desc desc, const void *x,
                    const nvfp4_quantised_x *quantised_x, int64_t m);

/* A layer with bf16 x, as FP4 libraries are asked for it. */
typedef struct test_cuda_case {
  int64_t m, n, k;
  nvfp4_dtype y_dtype, bias_dtype; /* bias: NONE, or a type */
  bool two_alphas;                 /* two partitions with different weight globals */
} test_cuda_case;

/* For W4A4 kernels whose library the tests mock: the canonical bits, which mock libraries give. */
void test_cuda_exact(nvfp4_context *context, const char *kernel, const test_cuda_case *c);

/* fp32 x and y at several shapes and M, with and without bias, two partitions: the bits of the reference. */
void test_cuda_reference(const char *kernel, nvfp4_mode mode);
/* x of x_dtype and fp32 y at several shapes and M >= m_first: twice the bound of docs/numerics.md around the canonical result, as in the self-test. */
void test_cuda_bound(const char *kernel, nvfp4_mode mode, nvfp4_dtype x_dtype, int64_t m_first);

#endif
