/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The part of cuBLASLt that this library calls, declared here so that it builds and is tested without a CUDA toolkit. Names, values and layouts are those of NVIDIA's cuBLAS reference, chapter
 * "Using the cuBLASLt API" (12.8 and later); tests/unit/kernels/vendor/test_cublaslt_w4a4.c compares them with cublasLt.h where there is one.
 */
#ifndef NVFP4_KERNELS_VENDOR_CUBLASLT_H
#define NVFP4_KERNELS_VENDOR_CUBLASLT_H

#include <stddef.h>
#include <stdint.h>

enum { NVFP4_LT_LEAST_VERSION = 120800 }; /* the first with 4-bit types and block scales */

enum { /* cublasStatus_t */
       NVFP4_LT_SUCCESS = 0,
       NVFP4_LT_ARCH_MISMATCH = 8,
       NVFP4_LT_NOT_SUPPORTED = 15
};
enum { NVFP4_LT_OP_N = 0, NVFP4_LT_OP_T = 1 }; /* cublasOperation_t */
enum { NVFP4_LT_COMPUTE_32F = 68 };            /* cublasComputeType_t */
enum {                                         /* cudaDataType_t */
       NVFP4_LT_R_32F = 0,
       NVFP4_LT_R_16F = 2,
       NVFP4_LT_R_16BF = 14,
       NVFP4_LT_R_4F_E2M1 = 33
};
enum { NVFP4_LT_SCALE_VEC16_UE4M3 = 1 }; /* cublasLtMatmulMatrixScale_t */
enum { NVFP4_LT_EPILOGUE_BIAS = 4 };     /* cublasLtEpilogue_t */
enum {                                   /* cublasLtMatmulDescAttributes_t */
       NVFP4_LT_DESC_TRANSA = 3,         /* int32 */
       NVFP4_LT_DESC_TRANSB = 4,         /* int32 */
       NVFP4_LT_DESC_EPILOGUE = 7,       /* uint32 */
       NVFP4_LT_DESC_BIAS_POINTER = 8,
       NVFP4_LT_DESC_A_SCALE_POINTER = 17,
       NVFP4_LT_DESC_B_SCALE_POINTER = 18,
       NVFP4_LT_DESC_BIAS_DATA_TYPE = 26, /* int32 */
       NVFP4_LT_DESC_A_SCALE_MODE = 31,   /* int32 */
       NVFP4_LT_DESC_B_SCALE_MODE = 32    /* int32 */
};
enum { NVFP4_LT_LAYOUT_COLS = 3, NVFP4_LT_LAYOUT_LD = 4 }; /* cublasLtMatrixLayoutAttribute_t: uint64, int64 */
enum {                                                     /* cublasLtMatmulPreferenceAttributes_t */
       NVFP4_LT_PREF_MAX_WORKSPACE_BYTES = 1,              /* uint64 */
       NVFP4_LT_PREF_MIN_ALIGNMENT_A_BYTES = 5,            /* uint32, as the next three */
       NVFP4_LT_PREF_MIN_ALIGNMENT_B_BYTES = 6,
       NVFP4_LT_PREF_MIN_ALIGNMENT_C_BYTES = 7,
       NVFP4_LT_PREF_MIN_ALIGNMENT_D_BYTES = 8
};

typedef struct nvfp4_lt_algo { /* cublasLtMatmulAlgo_t */
  uint64_t data[8];
} nvfp4_lt_algo;

typedef struct nvfp4_lt_heuristic { /* cublasLtMatmulHeuristicResult_t */
  nvfp4_lt_algo algo;
  size_t workspace_bytes;
  int state; /* a cublasStatus_t */
  float waves;
  int reserved[4];
} nvfp4_lt_heuristic;

typedef struct nvfp4_lt_handle nvfp4_lt_handle; /* cublasLtHandle_t and the descriptors are pointers */
typedef struct nvfp4_lt_desc nvfp4_lt_desc;
typedef struct nvfp4_lt_layout nvfp4_lt_layout;
typedef struct nvfp4_lt_preference nvfp4_lt_preference;

/* X(member, symbol, result, arguments) */
#define NVFP4_LT_FUNCTIONS(X)                                                                                                             \
  X(get_version, "cublasLtGetVersion", size_t, (void))                                                                                    \
  X(get_status_name, "cublasLtGetStatusName", const char *, (int status))                                                                 \
  X(create, "cublasLtCreate", int, (nvfp4_lt_handle * *handle))                                                                           \
  X(destroy, "cublasLtDestroy", int, (nvfp4_lt_handle * handle))                                                                          \
  X(desc_create, "cublasLtMatmulDescCreate", int, (nvfp4_lt_desc * *desc, int compute_type, int scale_type))                              \
  X(desc_destroy, "cublasLtMatmulDescDestroy", int, (nvfp4_lt_desc * desc))                                                               \
  X(desc_set, "cublasLtMatmulDescSetAttribute", int, (nvfp4_lt_desc * desc, int attribute, const void *value, size_t bytes))              \
  X(layout_create, "cublasLtMatrixLayoutCreate", int, (nvfp4_lt_layout * *layout, int type, uint64_t rows, uint64_t columns, int64_t ld)) \
  X(layout_destroy, "cublasLtMatrixLayoutDestroy", int, (nvfp4_lt_layout * layout))                                                       \
  X(layout_set, "cublasLtMatrixLayoutSetAttribute", int, (nvfp4_lt_layout * layout, int attribute, const void *value, size_t bytes))      \
  X(preference_create, "cublasLtMatmulPreferenceCreate", int, (nvfp4_lt_preference * *preference))                                        \
  X(preference_destroy, "cublasLtMatmulPreferenceDestroy", int, (nvfp4_lt_preference * preference))                                       \
  X(preference_set, "cublasLtMatmulPreferenceSetAttribute", int,                                                                          \
    (nvfp4_lt_preference * preference, int attribute, const void *value, size_t bytes))                                                   \
  X(get_heuristic, "cublasLtMatmulAlgoGetHeuristic", int,                                                                                 \
    (nvfp4_lt_handle * handle, nvfp4_lt_desc * desc, nvfp4_lt_layout * a, nvfp4_lt_layout * b, nvfp4_lt_layout * c, nvfp4_lt_layout * d,  \
     nvfp4_lt_preference * preference, int requested, nvfp4_lt_heuristic *results, int *returned))                                        \
  X(matmul, "cublasLtMatmul", int,                                                                                                        \
    (nvfp4_lt_handle * handle, nvfp4_lt_desc * desc, const void *alpha, const void *a, nvfp4_lt_layout *a_layout, const void *b,          \
     nvfp4_lt_layout *b_layout, const void *beta, const void *c, nvfp4_lt_layout *c_layout, void *d, nvfp4_lt_layout *d_layout,           \
     const nvfp4_lt_algo *algo, void *workspace, size_t workspace_bytes, void *stream))

typedef struct nvfp4_lt_api {
#define NVFP4_LT_MEMBER(member, symbol, result, arguments) result(*member) arguments;
  NVFP4_LT_FUNCTIONS(NVFP4_LT_MEMBER)
#undef NVFP4_LT_MEMBER
} nvfp4_lt_api;

#endif
