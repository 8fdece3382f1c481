/* SPDX-License-Identifier: Apache-2.0 */
/* The end of a kernel whose GEMM gives bare fp32 sums: for backends that have no alpha for each row, no bias, or want other N and strides of y than there are. */
#ifndef NVFP4_KERNELS_CUDA_FP4_FINISH_H
#define NVFP4_KERNELS_CUDA_FP4_FINISH_H

#include <nvfp4/kernel.h>

/* Enqueues on args->stream: y[m,n] = alpha[n] * acc[m,n] (+ bias[n]) as docs/numerics.md has it, with alpha, bias and y of args. acc: fp32, on the device, rows ld_acc_elems >= n apart. */
nvfp4_status cuda_fp4_finish(const nvfp4_host *host, const nvfp4_kernel_args *args, const float *acc, int64_t ld_acc_elems,
                             nvfp4_reason *reason);

#endif
