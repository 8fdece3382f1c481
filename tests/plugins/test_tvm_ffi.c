/* SPDX-License-Identifier: Apache-2.0 */
/* Our declarations of TVM-FFI's C ABI beside its own, where there are some; their sizes in any case. */
#include "flashinfer/tvm_ffi.h"

#include "support.h"

#if __has_include(<tvm/ffi/c_api.h>)
#include <tvm/ffi/c_api.h>
#define SAME(ours, member, theirs, its)                                                                                        \
  _Static_assert(offsetof(ours, member) == offsetof(theirs, its) && sizeof(((ours *)0)->member) == sizeof(((theirs *)0)->its), \
                 #theirs "." #its)
SAME(ffi_tensor, data, DLTensor, data);
SAME(ffi_tensor, device, DLTensor, device);
SAME(ffi_tensor, dimensions, DLTensor, ndim);
SAME(ffi_tensor, dtype, DLTensor, dtype);
SAME(ffi_tensor, shape, DLTensor, shape);
SAME(ffi_tensor, strides, DLTensor, strides);
SAME(ffi_tensor, offset_bytes, DLTensor, byte_offset);
SAME(ffi_device, ordinal, DLDevice, device_id);
SAME(ffi_dtype, bits, DLDataType, bits);
SAME(ffi_dtype, lanes, DLDataType, lanes);
SAME(ffi_any, type, TVMFFIAny, type_index);
SAME(ffi_any, zero, TVMFFIAny, zero_padding);
SAME(ffi_any, value, TVMFFIAny, v_int64);
SAME(ffi_text, data, TVMFFIByteArray, data);
SAME(ffi_text, size, TVMFFIByteArray, size);
_Static_assert(sizeof(TVMFFIObject) == offsetof(ffi_error, kind), "TVMFFIObject");
_Static_assert(offsetof(TVMFFIErrorCell, kind) == 0 &&
                   offsetof(TVMFFIErrorCell, message) == offsetof(ffi_error, message) - sizeof(TVMFFIObject),
               "TVMFFIErrorCell");
_Static_assert((int)FFI_NONE == (int)kTVMFFINone && (int)FFI_INT == (int)kTVMFFIInt && (int)FFI_BOOL == (int)kTVMFFIBool &&
                   (int)FFI_TENSOR == (int)kTVMFFIDLTensorPtr,
               "TVMFFITypeIndex");
_Static_assert((int)FFI_DEVICE_CUDA == (int)kDLCUDA && (int)FFI_UINT == (int)kDLUInt && (int)FFI_FLOAT == (int)kDLFloat &&
                   (int)FFI_BFLOAT == (int)kDLBfloat,
               "dlpack.h");
#endif

static void test_sizes(void **state) {
  (void)state;
  assert_int_equal(sizeof(ffi_tensor), 48);
  assert_int_equal(sizeof(ffi_any), 16);
  assert_int_equal(offsetof(ffi_error, kind), 24);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_sizes)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
