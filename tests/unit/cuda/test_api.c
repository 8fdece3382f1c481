/* SPDX-License-Identifier: Apache-2.0 */
/* Our declarations of the CUDA driver API against cuda.h, where there is one (it was if this compiles with checks; otherwise nothing is tested). */
#include "cuda/api.h"

#include "support.h"

#if __has_include(<cuda.h>)
#include <cuda.h>

#define SAME_MEMBER(ours, member, theirs, name) \
  _Static_assert(offsetof(ours, member) == offsetof(theirs, name) && sizeof(((ours *)0)->member) == sizeof(((theirs *)0)->name), #name)

_Static_assert(sizeof(nvfp4_cu_copy_2d) == sizeof(CUDA_MEMCPY2D), "CUDA_MEMCPY2D");
SAME_MEMBER(nvfp4_cu_copy_2d, source_type, CUDA_MEMCPY2D, srcMemoryType);
SAME_MEMBER(nvfp4_cu_copy_2d, source_device, CUDA_MEMCPY2D, srcDevice);
SAME_MEMBER(nvfp4_cu_copy_2d, source_pitch, CUDA_MEMCPY2D, srcPitch);
SAME_MEMBER(nvfp4_cu_copy_2d, target_type, CUDA_MEMCPY2D, dstMemoryType);
SAME_MEMBER(nvfp4_cu_copy_2d, target_device, CUDA_MEMCPY2D, dstDevice);
SAME_MEMBER(nvfp4_cu_copy_2d, target_pitch, CUDA_MEMCPY2D, dstPitch);
SAME_MEMBER(nvfp4_cu_copy_2d, width_bytes, CUDA_MEMCPY2D, WidthInBytes);
SAME_MEMBER(nvfp4_cu_copy_2d, height, CUDA_MEMCPY2D, Height);

_Static_assert(sizeof(nvfp4_cu_launch) == sizeof(CUlaunchConfig), "CUlaunchConfig");
SAME_MEMBER(nvfp4_cu_launch, grid_x, CUlaunchConfig, gridDimX);
SAME_MEMBER(nvfp4_cu_launch, block_x, CUlaunchConfig, blockDimX);
SAME_MEMBER(nvfp4_cu_launch, shared_bytes, CUlaunchConfig, sharedMemBytes);
SAME_MEMBER(nvfp4_cu_launch, stream, CUlaunchConfig, hStream);
SAME_MEMBER(nvfp4_cu_launch, attributes, CUlaunchConfig, attrs);
SAME_MEMBER(nvfp4_cu_launch, attribute_count, CUlaunchConfig, numAttrs);

_Static_assert(sizeof(nvfp4_cu_launch_attribute) == sizeof(CUlaunchAttribute), "CUlaunchAttribute");
SAME_MEMBER(nvfp4_cu_launch_attribute, id, CUlaunchAttribute, id);
SAME_MEMBER(nvfp4_cu_launch_attribute, value.cluster, CUlaunchAttribute, value.clusterDim);
SAME_MEMBER(nvfp4_cu_launch_attribute, value.programmatic_stream_serialization, CUlaunchAttribute,
            value.programmaticStreamSerializationAllowed);
_Static_assert(sizeof(nvfp4_cu_tensor_map) == sizeof(CUtensorMap), "CUtensorMap");

static void test_values(void **state) {
  (void)state;
  assert_int_equal(NVFP4_CU_SUCCESS, CUDA_SUCCESS);
  assert_int_equal(NVFP4_CU_ERROR_OUT_OF_MEMORY, CUDA_ERROR_OUT_OF_MEMORY);
  assert_int_equal(NVFP4_CU_ATTRIBUTE_MULTIPROCESSOR_COUNT, CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT);
  assert_int_equal(NVFP4_CU_ATTRIBUTE_L2_CACHE_BYTES, CU_DEVICE_ATTRIBUTE_L2_CACHE_SIZE);
  assert_int_equal(NVFP4_CU_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR);
  assert_int_equal(NVFP4_CU_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR);
  assert_int_equal(NVFP4_CU_ATTRIBUTE_MOST_SHARED_BYTES_OF_BLOCK, CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN);
  assert_int_equal(NVFP4_CU_STREAM_NON_BLOCKING, CU_STREAM_NON_BLOCKING);
  assert_int_equal(NVFP4_CU_CAPTURE_THREAD_LOCAL, CU_STREAM_CAPTURE_MODE_THREAD_LOCAL);
  assert_int_equal(NVFP4_CU_CAPTURE_RELAXED, CU_STREAM_CAPTURE_MODE_RELAXED);
  assert_int_equal(NVFP4_CU_FUNCTION_MAX_DYNAMIC_SHARED_BYTES, CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES);
  assert_int_equal(NVFP4_CU_MEMORY_UNIFIED, CU_MEMORYTYPE_UNIFIED);
  assert_int_equal(NVFP4_CU_GET_DEFAULT, CU_GET_PROC_ADDRESS_DEFAULT);
  assert_int_equal(NVFP4_CU_LAUNCH_CLUSTER_DIMENSION, CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION);
  assert_int_equal(NVFP4_CU_LAUNCH_PROGRAMMATIC_STREAM_SERIALIZATION, CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION);
}
#else
static void test_values(void **state) {
  (void)state;
  skip(); /* no cuda.h */
}
#endif

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_values)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
