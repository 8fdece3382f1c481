/* SPDX-License-Identifier: Apache-2.0 */
/*
 * FlashInfer's modules: shared objects that FlashInfer has compiled ("flashinfer.gemm" does it at first use, or `python -m flashinfer.aot`), given by the user, never compiled here. They are opened once, when the
 * plug-in is, and stay open: code with GPU kernels is not unloaded.
 *
 *   NVFP4_FLASHINFER_MODULE   paths, comma-separated: fp4_gemm_cutlass.so (compute capability 10.0 to 11.0), fp4_gemm_cutlass_sm103.so, fp4_gemm_cutlass_sm120.so, trtllm_gemm.so (10.0 and 10.3). The name says for
 *                             which GPU it is, as FlashInfer gives it
 *   NVFP4_FLASHINFER_TVM_FFI  path of libtvm_ffi.so, of Python's package apache-tvm-ffi (default: as the dynamic linker finds it)
 *   NVFP4_FLASHINFER_CUBINS   folder of the GPU code of trtllm_gemm: flashinfer_cubin/cubins of Python's package flashinfer-cubin, of the module's version
 *
 * Calls into a module are for GPUs that it is for, and no others: on an error of the driver some of them end the process.
 */
#ifndef NVFP4_PLUGINS_FLASHINFER_MODULES_H
#define NVFP4_PLUGINS_FLASHINFER_MODULES_H

#include "flashinfer/tvm_ffi.h"
#include "fp4.h"

typedef enum flashinfer_kind { FLASHINFER_CUTLASS, FLASHINFER_TRTLLM } flashinfer_kind;

/* Reads the environment and opens what it names; once, later calls do nothing. What is missing is a reason of flashinfer_find. */
void flashinfer_open(void);

/* The function fp4_gemm or trtllm_gemm for GPUs of capability sm; NULL, and a refusal, if no module has it. */
ffi_function flashinfer_find(flashinfer_kind kind, int sm, nvfp4_reason *reason);

/* A matrix of `rows` x `columns` (rows 0: a vector) without gaps on a device. shape and strides of the tensor point into it. */
typedef struct flashinfer_tensor {
  ffi_tensor tensor;
  int64_t shape[2], strides[2];
} flashinfer_tensor;
void flashinfer_matrix(flashinfer_tensor *out, void *data, int64_t rows, int64_t columns, ffi_dtype dtype, int ordinal);

ffi_any flashinfer_argument(flashinfer_tensor *tensor);

/* Calls `function` with its work on `stream`. name is for the error: NVFP4_E_DEVICE with the module's words. */
nvfp4_status flashinfer_call(ffi_function function, const char *name, const ffi_any *arguments, int32_t count, int ordinal, void *stream,
                             nvfp4_reason *reason);

#endif
