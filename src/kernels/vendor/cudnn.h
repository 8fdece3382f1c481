/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The part of cuDNN's graph API (its "backend" C API) that this library calls, declared here so that it builds and is tested without cuDNN. Names and values are those of NVIDIA's cuDNN Backend API
 * reference (9.13 and later); tests/unit/kernels/vendor/test_cudnn_plan.c compares them with cudnn_graph.h where there is one.
 */
#ifndef NVFP4_KERNELS_VENDOR_CUDNN_H
#define NVFP4_KERNELS_VENDOR_CUDNN_H

#include <stddef.h>
#include <stdint.h>

/* The first without known faults in block-scaled products: FlashInfer's mm_fp4 avoids the older ones. */
enum { NVFP4_DNN_LEAST_VERSION = 91300 };

enum { NVFP4_DNN_SUCCESS = 0, NVFP4_DNN_NOT_SUPPORTED = 3000, NVFP4_DNN_NOT_SUPPORTED_LAST = 3999 }; /* cudnnStatus_t */
enum {                                                                                               /* cudnnDataType_t */
       NVFP4_DNN_FLOAT = 0,
       NVFP4_DNN_HALF = 2,
       NVFP4_DNN_BFLOAT16 = 9,
       NVFP4_DNN_FP8_E4M3 = 12,
       NVFP4_DNN_FP4_E2M1 = 16
};
enum { NVFP4_DNN_POINTWISE_ADD = 0, NVFP4_DNN_POINTWISE_MUL = 1 };       /* cudnnPointwiseMode_t */
enum { NVFP4_DNN_HEUR_MODE_FALLBACK = 2, NVFP4_DNN_HEUR_MODE_A = 3 };    /* cudnnBackendHeurMode_t */
enum { NVFP4_DNN_NOTE_NONDETERMINISTIC = 4, NVFP4_DNN_NOTE_COUNT = 16 }; /* cudnnBackendNumericalNote_t, and more than there are */
enum { NVFP4_DNN_REORDERING_F8_128X4 = 3 };                              /* cudnnBackendTensorReordering_t */

enum { /* cudnnBackendDescriptorType_t */
       NVFP4_DNN_POINTWISE = 0,
       NVFP4_DNN_ENGINE = 2,
       NVFP4_DNN_ENGINECFG = 3,
       NVFP4_DNN_ENGINEHEUR = 4,
       NVFP4_DNN_EXECUTION_PLAN = 5,
       NVFP4_DNN_OPERATION_POINTWISE = 13,
       NVFP4_DNN_OPERATIONGRAPH = 15,
       NVFP4_DNN_VARIANT_PACK = 16,
       NVFP4_DNN_TENSOR = 17,
       NVFP4_DNN_MATMUL = 18,
       NVFP4_DNN_OPERATION_MATMUL = 19,
       NVFP4_DNN_OPERATION_BLOCK_SCALE_DEQUANTIZE = 37,
       NVFP4_DNN_DEVICEPROP = 38
};

enum { /* cudnnBackendAttributeType_t */
       NVFP4_DNN_TYPE_HANDLE = 0,
       NVFP4_DNN_TYPE_DATA_TYPE = 1,
       NVFP4_DNN_TYPE_BOOLEAN = 2,
       NVFP4_DNN_TYPE_INT64 = 3,
       NVFP4_DNN_TYPE_VOID_PTR = 6,
       NVFP4_DNN_TYPE_HEUR_MODE = 8,
       NVFP4_DNN_TYPE_NUMERICAL_NOTE = 11,
       NVFP4_DNN_TYPE_POINTWISE_MODE = 14,
       NVFP4_DNN_TYPE_DESCRIPTOR = 15,
       NVFP4_DNN_TYPE_TENSOR_REORDERING = 20,
       NVFP4_DNN_TYPE_INT32 = 23,
       NVFP4_DNN_TYPE_CHAR = 24
};

enum { /* cudnnBackendAttributeName_t */
       NVFP4_DNN_POINTWISE_MODE = 0,
       NVFP4_DNN_POINTWISE_MATH_PREC = 1,
       NVFP4_DNN_ENGINEHEUR_MODE = 200,
       NVFP4_DNN_ENGINEHEUR_OPERATION_GRAPH = 201,
       NVFP4_DNN_ENGINEHEUR_RESULTS = 202,
       NVFP4_DNN_ENGINEHEUR_DEVICEPROP = 204,
       NVFP4_DNN_ENGINECFG_ENGINE = 300,
       NVFP4_DNN_PLAN_HANDLE = 400,
       NVFP4_DNN_PLAN_ENGINE_CONFIG = 401,
       NVFP4_DNN_PLAN_WORKSPACE_SIZE = 402,
       NVFP4_DNN_PLAN_DEVICEPROP = 407,
       NVFP4_DNN_OPERATION_POINTWISE_PW = 750,
       NVFP4_DNN_OPERATION_POINTWISE_X = 751,
       NVFP4_DNN_OPERATION_POINTWISE_B = 752,
       NVFP4_DNN_OPERATION_POINTWISE_Y = 753,
       NVFP4_DNN_OPERATIONGRAPH_HANDLE = 800,
       NVFP4_DNN_OPERATIONGRAPH_OPS = 801,
       NVFP4_DNN_TENSOR_BYTE_ALIGNMENT = 900,
       NVFP4_DNN_TENSOR_DATA_TYPE = 901,
       NVFP4_DNN_TENSOR_DIMENSIONS = 902,
       NVFP4_DNN_TENSOR_STRIDES = 903,
       NVFP4_DNN_TENSOR_UNIQUE_ID = 906,
       NVFP4_DNN_TENSOR_IS_VIRTUAL = 907,
       NVFP4_DNN_TENSOR_REORDERING_MODE = 909,
       NVFP4_DNN_VARIANT_PACK_UNIQUE_IDS = 1000,
       NVFP4_DNN_VARIANT_PACK_DATA_POINTERS = 1001,
       NVFP4_DNN_VARIANT_PACK_WORKSPACE = 1003,
       NVFP4_DNN_ENGINE_NUMERICAL_NOTE = 1303,
       NVFP4_DNN_MATMUL_COMP_TYPE = 1500,
       NVFP4_DNN_OPERATION_MATMUL_A = 1520,
       NVFP4_DNN_OPERATION_MATMUL_B = 1521,
       NVFP4_DNN_OPERATION_MATMUL_C = 1522,
       NVFP4_DNN_OPERATION_MATMUL_DESC = 1523,
       NVFP4_DNN_DEQUANTIZE_X = 2600,
       NVFP4_DNN_DEQUANTIZE_SCALE = 2601,
       NVFP4_DNN_DEQUANTIZE_Y = 2602,
       NVFP4_DNN_DEQUANTIZE_MATH_PREC = 2603,
       NVFP4_DNN_DEQUANTIZE_BLOCK_SIZE = 2604,
       NVFP4_DNN_DEVICEPROP_JSON = 2702
};

typedef struct nvfp4_dnn_handle nvfp4_dnn_handle; /* cudnnHandle_t and cudnnBackendDescriptor_t are pointers */
typedef struct nvfp4_dnn_desc nvfp4_dnn_desc;

/* X(member, symbol, result, arguments) */
#define NVFP4_DNN_FUNCTIONS(X)                                                                                                            \
  X(get_version, "cudnnGetVersion", size_t, (void))                                                                                       \
  X(get_error_string, "cudnnGetErrorString", const char *, (int status))                                                                  \
  X(get_last_error, "cudnnGetLastErrorString", void, (char *text, size_t bytes))                                                          \
  X(create, "cudnnCreate", int, (nvfp4_dnn_handle * *handle))                                                                             \
  X(destroy, "cudnnDestroy", int, (nvfp4_dnn_handle * handle))                                                                            \
  X(set_stream, "cudnnSetStream", int, (nvfp4_dnn_handle * handle, void *stream))                                                         \
  X(desc_create, "cudnnBackendCreateDescriptor", int, (int type, nvfp4_dnn_desc **desc))                                                  \
  X(desc_destroy, "cudnnBackendDestroyDescriptor", int, (nvfp4_dnn_desc * desc))                                                          \
  X(desc_finalize, "cudnnBackendFinalize", int, (nvfp4_dnn_desc * desc))                                                                  \
  X(desc_set, "cudnnBackendSetAttribute", int, (nvfp4_dnn_desc * desc, int name, int type, int64_t count, const void *values))            \
  X(desc_get, "cudnnBackendGetAttribute", int, (nvfp4_dnn_desc * desc, int name, int type, int64_t wanted, int64_t *count, void *values)) \
  X(execute, "cudnnBackendExecute", int, (nvfp4_dnn_handle * handle, nvfp4_dnn_desc * plan, nvfp4_dnn_desc * variant_pack))

typedef struct nvfp4_dnn_api {
#define NVFP4_DNN_MEMBER(member, symbol, result, arguments) result(*member) arguments;
  NVFP4_DNN_FUNCTIONS(NVFP4_DNN_MEMBER)
#undef NVFP4_DNN_MEMBER
} nvfp4_dnn_api;

#endif
