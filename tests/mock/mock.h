/* SPDX-License-Identifier: Apache-2.0 */
/* The kernels that the mock driver computes on the CPU: the arguments of the device code, and the results that it must give. */
#ifndef NVFP4_TESTS_MOCK_H
#define NVFP4_TESTS_MOCK_H

#include <stddef.h>
#include <stdint.h>

#include "cuda/api.h"

enum { MOCK_ARGUMENTS = 8 };

typedef struct mock_kernel {
  const char *name;
  size_t sizes[MOCK_ARGUMENTS]; /* of the arguments; 0: no more */
  void (*compute)(void *const *arguments, unsigned grid, unsigned block);
} mock_kernel;

/* Of the launch that is computed: blocks of a cluster, bytes of dynamic shared memory. */
typedef struct mock_shape {
  unsigned cluster, shared_bytes;
} mock_shape;
extern mock_shape mock_launched;

/* Ends with a NULL name. */
extern const mock_kernel mock_kernels[];

/* For mock libraries that compute on the device: enqueues such a kernel, as cuLaunchKernelEx does one of the library's. Returns a CUresult. */
__attribute__((visibility("default"))) int mock_cuda_launch(const mock_kernel *kernel, nvfp4_cu_stream stream, void **arguments);

/* Exported for tests: what was made and is not freed. */
__attribute__((visibility("default"))) size_t mock_cuda_live(void);
/* How often a kernel was loaded into a context. */
__attribute__((visibility("default"))) size_t mock_cuda_loads(void);
/* Bytes of memory, in whole pages, that were taken at most since the last call; from now on those that are taken now. */
__attribute__((visibility("default"))) size_t mock_cuda_most_bytes(void);
__attribute__((visibility("default"))) int cuCtxCreate_v2(nvfp4_cu_context *context, unsigned flags, nvfp4_cu_device device);
__attribute__((visibility("default"))) int cuCtxDestroy_v2(nvfp4_cu_context context);
__attribute__((visibility("default"))) int cuGetProcAddress_v2(const char *symbol, void **function, int version, uint64_t flags,
                                                               int *status);

#endif
