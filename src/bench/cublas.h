/* SPDX-License-Identifier: Apache-2.0 */
/* cuBLAS, opened at run time if there is one: the bf16 matrix product that NVFP4 kernels are measured against. */
#ifndef NVFP4_BENCH_CUBLAS_H
#define NVFP4_BENCH_CUBLAS_H

#include <nvfp4/nvfp4.h>

typedef struct nvfp4_cublas nvfp4_cublas;

enum { NVFP4_CUBLAS_WORKSPACE_BYTES = 64 << 20 };

/* Opens libcublas.so.13 or .12 for work on `stream`, in the current context, which must be a primary one; workspace: of the device, NVFP4_CUBLAS_WORKSPACE_BYTES. On success *out is freed by
 * nvfp4_cublas_close. NVFP4_E_MACHINE: there is none. */
nvfp4_status nvfp4_cublas_open(void *stream, void *workspace, nvfp4_cublas **out, nvfp4_reason *reason);
/* NULL is allowed. */
void nvfp4_cublas_close(nvfp4_cublas *cublas);

/* Enqueues y [m, n] = x [m, k] w [n, k]^T, all bf16 without gaps, sums in fp32. */
nvfp4_status nvfp4_cublas_bf16(nvfp4_cublas *cublas, int64_t m, int64_t n, int64_t k, const void *x, const void *w, void *y,
                               nvfp4_reason *reason);

#endif
