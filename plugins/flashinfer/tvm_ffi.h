/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The part of the TVM-FFI C ABI that FlashInfer's modules are called by, declared here so that the plug-in is built and tested without Python's packages. Names, values and layouts are those of tvm/ffi/c_api.h and
 * dlpack.h in apache-tvm-ffi 0.1.15; tests/plugins/test_tvm_ffi.c compares them with those headers where there are some.
 *
 * A function NAME is the symbol __tvm_ffi_NAME: 0, or -1 with an error to be taken with TVMFFIErrorMoveFromRaised.
 */
#ifndef NVFP4_PLUGINS_TVM_FFI_H
#define NVFP4_PLUGINS_TVM_FFI_H

#include <stddef.h>
#include <stdint.h>

enum { FFI_NONE = 0, FFI_INT = 1, FFI_BOOL = 2, FFI_TENSOR = 7 }; /* TVMFFITypeIndex; the last is kTVMFFIDLTensorPtr */
enum { FFI_DEVICE_CUDA = 2 };                                     /* DLDeviceType */
enum { FFI_UINT = 1, FFI_FLOAT = 2, FFI_BFLOAT = 4 };             /* DLDataTypeCode */

/* DLDevice, DLDataType, DLTensor */
typedef struct ffi_device {
  int32_t type, ordinal;
} ffi_device;

typedef struct ffi_dtype {
  uint8_t code, bits;
  uint16_t lanes;
} ffi_dtype;

typedef struct ffi_tensor {
  void *data;
  ffi_device device;
  int32_t dimensions;
  ffi_dtype dtype;
  int64_t *shape, *strides;
  uint64_t offset_bytes;
} ffi_tensor;

/* TVMFFIAny */
typedef struct ffi_any {
  int32_t type;
  uint32_t zero;
  union {
    int64_t integer;
    void *pointer;
  } value;
} ffi_any;

/* TVMFFIByteArray; TVMFFIObject, and of TVMFFIErrorCell, which follows it in an error, the front */
typedef struct ffi_text {
  const char *data;
  size_t size;
} ffi_text;

typedef struct ffi_error {
  uint64_t references;
  int32_t type;
  uint32_t padding;
  void (*deleter)(void *self, int flags);
  ffi_text kind, message;
} ffi_error;

typedef int (*ffi_function)(void *handle, const ffi_any *arguments, int32_t count, ffi_any *result); /* TVMFFISafeCallType */

/* Of libtvm_ffi.so */
typedef int (*ffi_set_stream)(int32_t device_type, int32_t ordinal, void *stream, void **before); /* TVMFFIEnvSetStream: of this thread */
typedef void (*ffi_move_error)(void **error);                                                     /* TVMFFIErrorMoveFromRaised */
typedef int (*ffi_release)(void *object);                                                         /* TVMFFIObjectDecRef */

#endif
