/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The part of the CUDA driver API that this library calls, declared here so that it builds and is tested without a CUDA toolkit. Names, values and layouts are
 * those of NVIDIA's "CUDA Driver API" reference (12.0 and later); tests/unit/cuda/test_api.c compares them with cuda.h where there is one.
 */
#ifndef NVFP4_CUDA_API_H
#define NVFP4_CUDA_API_H

#include <stddef.h>
#include <stdint.h>

typedef int nvfp4_cu_device;
typedef unsigned long long nvfp4_cu_address; /* CUdeviceptr */
typedef struct CUctx_st *nvfp4_cu_context;
typedef struct CUstream_st *nvfp4_cu_stream;
typedef struct CUevent_st *nvfp4_cu_event;
typedef struct CUlib_st *nvfp4_cu_library;
typedef struct CUkern_st *nvfp4_cu_kernel;
typedef struct CUfunc_st *nvfp4_cu_function;
typedef struct CUgraph_st *nvfp4_cu_graph;
typedef struct CUgraphExec_st *nvfp4_cu_graph_exec;

enum { /* CUresult */
       NVFP4_CU_SUCCESS = 0,
       NVFP4_CU_ERROR_OUT_OF_MEMORY = 2
};

enum { /* CUdevice_attribute */
       NVFP4_CU_ATTRIBUTE_MULTIPROCESSOR_COUNT = 16,
       NVFP4_CU_ATTRIBUTE_L2_CACHE_BYTES = 38,
       NVFP4_CU_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR = 75,
       NVFP4_CU_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR = 76,
       NVFP4_CU_ATTRIBUTE_MOST_SHARED_BYTES_OF_BLOCK = 97
};

enum { NVFP4_CU_STREAM_NON_BLOCKING = 1 };                                /* CUstream_flags */
enum { NVFP4_CU_CAPTURE_THREAD_LOCAL = 1, NVFP4_CU_CAPTURE_RELAXED = 2 }; /* CUstreamCaptureMode */
enum { NVFP4_CU_FUNCTION_MAX_DYNAMIC_SHARED_BYTES = 8 };                  /* CUfunction_attribute */
enum { NVFP4_CU_MEMORY_UNIFIED = 4 };                                     /* CUmemorytype: the address tells */
enum { NVFP4_CU_GET_DEFAULT = 0 };                                        /* CUdriverProcAddress_flags */

/* CUDA_MEMCPY2D */
typedef struct nvfp4_cu_copy_2d {
  size_t source_x_bytes, source_y;
  int source_type;
  const void *source_host;
  nvfp4_cu_address source_device;
  void *source_array;
  size_t source_pitch;
  size_t target_x_bytes, target_y;
  int target_type;
  void *target_host;
  nvfp4_cu_address target_device;
  void *target_array;
  size_t target_pitch;
  size_t width_bytes, height;
} nvfp4_cu_copy_2d;

enum { /* CUlaunchAttributeID */
       NVFP4_CU_LAUNCH_CLUSTER_DIMENSION = 4,
       NVFP4_CU_LAUNCH_PROGRAMMATIC_STREAM_SERIALIZATION = 6
};

/* CUlaunchAttribute: the value is a union of 64 bytes. */
typedef struct nvfp4_cu_launch_attribute {
  int id;
  char pad[4];
  union {
    char bytes[64];
    struct {
      unsigned x, y, z;
    } cluster;
    int programmatic_stream_serialization;
    void *alignment;
  } value;
} nvfp4_cu_launch_attribute;

/* CUlaunchConfig */
typedef struct nvfp4_cu_launch {
  unsigned grid_x, grid_y, grid_z, block_x, block_y, block_z, shared_bytes;
  nvfp4_cu_stream stream;
  const nvfp4_cu_launch_attribute *attributes;
  unsigned attribute_count;
} nvfp4_cu_launch;

/* CUtensorMap: opaque, 128 bytes, at an address that is a multiple of 64 (of 128 in CUDA 13's header). */
typedef struct nvfp4_cu_tensor_map {
  _Alignas(128) uint64_t opaque[16];
} nvfp4_cu_tensor_map;

enum {
  NVFP4_CU_TENSOR_MAP_UINT8 = 0, /* CUtensorMapDataType */
  NVFP4_CU_TENSOR_MAP_FLOAT16 = 6,
  NVFP4_CU_TENSOR_MAP_BFLOAT16 = 9,
  NVFP4_CU_TENSOR_MAP_SWIZZLE_128B = 3,
  NVFP4_CU_TENSOR_MAP_L2_PROMOTION_128B = 2
};

/*
 * X(member, symbol, the CUDA version whose meaning of the symbol this is, arguments): what cuGetProcAddress is asked for. All return a CUresult. Older drivers than 12.4 lack the functions
 * of 12.4: then their members are NULL.
 */
#define NVFP4_CU_FUNCTIONS(X)                                                                                                              \
  X(init, "cuInit", 2000, (unsigned flags))                                                                                                \
  X(driver_get_version, "cuDriverGetVersion", 2020, (int *version))                                                                        \
  X(get_error_name, "cuGetErrorName", 6000, (int error, const char **text))                                                                \
  X(get_error_string, "cuGetErrorString", 6000, (int error, const char **text))                                                            \
  X(device_get_count, "cuDeviceGetCount", 2000, (int *count))                                                                              \
  X(device_get, "cuDeviceGet", 2000, (nvfp4_cu_device * device, int ordinal))                                                              \
  X(device_get_name, "cuDeviceGetName", 2000, (char *name, int size, nvfp4_cu_device device))                                              \
  X(device_get_attribute, "cuDeviceGetAttribute", 2000, (int *value, int attribute, nvfp4_cu_device device))                               \
  X(device_total_mem, "cuDeviceTotalMem", 3020, (size_t * bytes, nvfp4_cu_device device))                                                  \
  X(primary_context_retain, "cuDevicePrimaryCtxRetain", 7000, (nvfp4_cu_context * context, nvfp4_cu_device device))                        \
  X(primary_context_release, "cuDevicePrimaryCtxRelease", 11000, (nvfp4_cu_device device))                                                 \
  X(context_get_current, "cuCtxGetCurrent", 4000, (nvfp4_cu_context * context))                                                            \
  X(context_get_device, "cuCtxGetDevice", 2000, (nvfp4_cu_device * device))                                                                \
  X(context_get_id, "cuCtxGetId", 12000, (nvfp4_cu_context context, unsigned long long *id))                                               \
  X(context_push, "cuCtxPushCurrent", 4000, (nvfp4_cu_context context))                                                                    \
  X(context_pop, "cuCtxPopCurrent", 4000, (nvfp4_cu_context * context))                                                                    \
  X(exchange_capture_mode, "cuThreadExchangeStreamCaptureMode", 10010, (int *mode))                                                        \
  X(alloc, "cuMemAlloc", 3020, (nvfp4_cu_address * address, size_t bytes))                                                                 \
  X(alloc_host, "cuMemAllocHost", 3020, (void **memory, size_t bytes))                                                                     \
  X(free_host, "cuMemFreeHost", 2000, (void *memory))                                                                                      \
  X(free, "cuMemFree", 3020, (nvfp4_cu_address address))                                                                                   \
  X(copy, "cuMemcpyAsync", 4000, (nvfp4_cu_address to, nvfp4_cu_address from, size_t bytes, nvfp4_cu_stream stream))                       \
  X(copy_2d, "cuMemcpy2DAsync", 3020, (const nvfp4_cu_copy_2d *copy, nvfp4_cu_stream stream))                                              \
  X(fill, "cuMemsetD8Async", 3020, (nvfp4_cu_address to, unsigned char value, size_t bytes, nvfp4_cu_stream stream))                       \
  X(fill_words, "cuMemsetD32Async", 3020, (nvfp4_cu_address to, unsigned value, size_t words, nvfp4_cu_stream stream))                     \
  X(stream_create, "cuStreamCreate", 2000, (nvfp4_cu_stream * stream, unsigned flags))                                                     \
  X(stream_synchronize, "cuStreamSynchronize", 2000, (nvfp4_cu_stream stream))                                                             \
  X(stream_destroy, "cuStreamDestroy", 4000, (nvfp4_cu_stream stream))                                                                     \
  X(stream_begin_capture, "cuStreamBeginCapture", 10010, (nvfp4_cu_stream stream, int mode))                                               \
  X(stream_end_capture, "cuStreamEndCapture", 10000, (nvfp4_cu_stream stream, nvfp4_cu_graph * graph))                                     \
  X(graph_instantiate, "cuGraphInstantiateWithFlags", 11040, (nvfp4_cu_graph_exec * exec, nvfp4_cu_graph graph, unsigned long long flags)) \
  X(graph_launch, "cuGraphLaunch", 10000, (nvfp4_cu_graph_exec exec, nvfp4_cu_stream stream))                                              \
  X(graph_exec_destroy, "cuGraphExecDestroy", 10000, (nvfp4_cu_graph_exec exec))                                                           \
  X(graph_destroy, "cuGraphDestroy", 10000, (nvfp4_cu_graph graph))                                                                        \
  X(event_create, "cuEventCreate", 2000, (nvfp4_cu_event * event, unsigned flags))                                                         \
  X(event_record, "cuEventRecord", 2000, (nvfp4_cu_event event, nvfp4_cu_stream stream))                                                   \
  X(event_synchronize, "cuEventSynchronize", 2000, (nvfp4_cu_event event))                                                                 \
  X(event_elapsed, "cuEventElapsedTime", 2000, (float *milliseconds, nvfp4_cu_event first, nvfp4_cu_event last))                           \
  X(event_destroy, "cuEventDestroy", 4000, (nvfp4_cu_event event))                                                                         \
  X(library_load, "cuLibraryLoadData", 12000,                                                                                              \
    (nvfp4_cu_library * library, const void *image, int *jit_options, void **jit_values, unsigned jit_count, int *options, void **values,  \
     unsigned count))                                                                                                                      \
  X(library_unload, "cuLibraryUnload", 12000, (nvfp4_cu_library library))                                                                  \
  X(library_get_kernel, "cuLibraryGetKernel", 12000, (nvfp4_cu_kernel * kernel, nvfp4_cu_library library, const char *name))               \
  X(library_get_kernel_count, "cuLibraryGetKernelCount", 12040, (unsigned *count, nvfp4_cu_library library))                               \
  X(library_enumerate_kernels, "cuLibraryEnumerateKernels", 12040, (nvfp4_cu_kernel * kernels, unsigned count, nvfp4_cu_library library))  \
  X(kernel_get_function, "cuKernelGetFunction", 12000, (nvfp4_cu_function * function, nvfp4_cu_kernel kernel))                             \
  X(kernel_set_attribute, "cuKernelSetAttribute", 12000, (int attribute, int value, nvfp4_cu_kernel kernel, nvfp4_cu_device device))       \
  X(launch, "cuLaunchKernelEx", 11060, (const nvfp4_cu_launch *launch, nvfp4_cu_function function, void **parameters, void **extra))       \
  X(tensor_map_encode_tiled, "cuTensorMapEncodeTiled", 12000,                                                                              \
    (nvfp4_cu_tensor_map * map, int data_type, uint32_t rank, void *address, const uint64_t *sizes, const uint64_t *strides_bytes,         \
     const uint32_t *box, const uint32_t *element_strides, int interleave, int swizzle, int l2_promotion, int out_of_bounds))

typedef struct nvfp4_cu_api {
#define NVFP4_CU_MEMBER(member, symbol, version, arguments) int(*member) arguments;
  NVFP4_CU_FUNCTIONS(NVFP4_CU_MEMBER)
#undef NVFP4_CU_MEMBER
} nvfp4_cu_api;

#endif
