/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Our graph, given to the real cuDNN without a GPU: it makes plans for GPUs that are described to it, with a driver that does nothing (tests/mock/libcuda_plans.c). Skipped where there is no cuDNN. The
 * description is cuDNN's own, undocumented and of its version, therefore used here alone; a version that wants other keys skips, too.
 */
#include "kernels/vendor/cudnn_plan.h"

#include <stdio.h>
#include <stdlib.h>

#include "support.h"

#if __has_include(<cudnn_graph.h>)
#include <stdbool.h>

#include <cudnn_graph.h>

#define SAME(ours, theirs) _Static_assert((int)(ours) == (int)(theirs), #theirs)
SAME(NVFP4_DNN_NOT_SUPPORTED, CUDNN_STATUS_NOT_SUPPORTED);
SAME(NVFP4_DNN_FLOAT, CUDNN_DATA_FLOAT);
SAME(NVFP4_DNN_HALF, CUDNN_DATA_HALF);
SAME(NVFP4_DNN_BFLOAT16, CUDNN_DATA_BFLOAT16);
SAME(NVFP4_DNN_FP8_E4M3, CUDNN_DATA_FP8_E4M3);
SAME(NVFP4_DNN_POINTWISE_ADD, CUDNN_POINTWISE_ADD);
SAME(NVFP4_DNN_POINTWISE_MUL, CUDNN_POINTWISE_MUL);
SAME(NVFP4_DNN_HEUR_MODE_FALLBACK, CUDNN_HEUR_MODE_FALLBACK);
SAME(NVFP4_DNN_HEUR_MODE_A, CUDNN_HEUR_MODE_A);
SAME(NVFP4_DNN_NOTE_NONDETERMINISTIC, CUDNN_NUMERICAL_NOTE_NONDETERMINISTIC);
_Static_assert((int)NVFP4_DNN_NOTE_COUNT >= (int)CUDNN_NUMERICAL_NOTE_TYPE_COUNT, "CUDNN_NUMERICAL_NOTE_TYPE_COUNT");
SAME(NVFP4_DNN_POINTWISE, CUDNN_BACKEND_POINTWISE_DESCRIPTOR);
SAME(NVFP4_DNN_ENGINE, CUDNN_BACKEND_ENGINE_DESCRIPTOR);
SAME(NVFP4_DNN_ENGINECFG, CUDNN_BACKEND_ENGINECFG_DESCRIPTOR);
SAME(NVFP4_DNN_ENGINEHEUR, CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR);
SAME(NVFP4_DNN_EXECUTION_PLAN, CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR);
SAME(NVFP4_DNN_OPERATION_POINTWISE, CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR);
SAME(NVFP4_DNN_OPERATIONGRAPH, CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR);
SAME(NVFP4_DNN_VARIANT_PACK, CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR);
SAME(NVFP4_DNN_TENSOR, CUDNN_BACKEND_TENSOR_DESCRIPTOR);
SAME(NVFP4_DNN_MATMUL, CUDNN_BACKEND_MATMUL_DESCRIPTOR);
SAME(NVFP4_DNN_OPERATION_MATMUL, CUDNN_BACKEND_OPERATION_MATMUL_DESCRIPTOR);
SAME(NVFP4_DNN_TYPE_HANDLE, CUDNN_TYPE_HANDLE);
SAME(NVFP4_DNN_TYPE_DATA_TYPE, CUDNN_TYPE_DATA_TYPE);
SAME(NVFP4_DNN_TYPE_BOOLEAN, CUDNN_TYPE_BOOLEAN);
SAME(NVFP4_DNN_TYPE_INT64, CUDNN_TYPE_INT64);
SAME(NVFP4_DNN_TYPE_VOID_PTR, CUDNN_TYPE_VOID_PTR);
SAME(NVFP4_DNN_TYPE_HEUR_MODE, CUDNN_TYPE_HEUR_MODE);
SAME(NVFP4_DNN_TYPE_NUMERICAL_NOTE, CUDNN_TYPE_NUMERICAL_NOTE);
SAME(NVFP4_DNN_TYPE_POINTWISE_MODE, CUDNN_TYPE_POINTWISE_MODE);
SAME(NVFP4_DNN_TYPE_DESCRIPTOR, CUDNN_TYPE_BACKEND_DESCRIPTOR);
SAME(NVFP4_DNN_TYPE_TENSOR_REORDERING, CUDNN_TYPE_TENSOR_REORDERING_MODE);
SAME(NVFP4_DNN_TYPE_INT32, CUDNN_TYPE_INT32);
SAME(NVFP4_DNN_TYPE_CHAR, CUDNN_TYPE_CHAR);
SAME(NVFP4_DNN_POINTWISE_MODE, CUDNN_ATTR_POINTWISE_MODE);
SAME(NVFP4_DNN_POINTWISE_MATH_PREC, CUDNN_ATTR_POINTWISE_MATH_PREC);
SAME(NVFP4_DNN_ENGINEHEUR_MODE, CUDNN_ATTR_ENGINEHEUR_MODE);
SAME(NVFP4_DNN_ENGINEHEUR_OPERATION_GRAPH, CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH);
SAME(NVFP4_DNN_ENGINEHEUR_RESULTS, CUDNN_ATTR_ENGINEHEUR_RESULTS);
SAME(NVFP4_DNN_ENGINECFG_ENGINE, CUDNN_ATTR_ENGINECFG_ENGINE);
SAME(NVFP4_DNN_PLAN_ENGINE_CONFIG, CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG);
SAME(NVFP4_DNN_PLAN_WORKSPACE_SIZE, CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE);
SAME(NVFP4_DNN_OPERATION_POINTWISE_PW, CUDNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR);
SAME(NVFP4_DNN_OPERATION_POINTWISE_X, CUDNN_ATTR_OPERATION_POINTWISE_XDESC);
SAME(NVFP4_DNN_OPERATION_POINTWISE_B, CUDNN_ATTR_OPERATION_POINTWISE_BDESC);
SAME(NVFP4_DNN_OPERATION_POINTWISE_Y, CUDNN_ATTR_OPERATION_POINTWISE_YDESC);
SAME(NVFP4_DNN_OPERATIONGRAPH_OPS, CUDNN_ATTR_OPERATIONGRAPH_OPS);
SAME(NVFP4_DNN_TENSOR_BYTE_ALIGNMENT, CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT);
SAME(NVFP4_DNN_TENSOR_DATA_TYPE, CUDNN_ATTR_TENSOR_DATA_TYPE);
SAME(NVFP4_DNN_TENSOR_DIMENSIONS, CUDNN_ATTR_TENSOR_DIMENSIONS);
SAME(NVFP4_DNN_TENSOR_STRIDES, CUDNN_ATTR_TENSOR_STRIDES);
SAME(NVFP4_DNN_TENSOR_UNIQUE_ID, CUDNN_ATTR_TENSOR_UNIQUE_ID);
SAME(NVFP4_DNN_TENSOR_IS_VIRTUAL, CUDNN_ATTR_TENSOR_IS_VIRTUAL);
SAME(NVFP4_DNN_TENSOR_REORDERING_MODE, CUDNN_ATTR_TENSOR_REORDERING_MODE);
SAME(NVFP4_DNN_VARIANT_PACK_UNIQUE_IDS, CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS);
SAME(NVFP4_DNN_VARIANT_PACK_DATA_POINTERS, CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS);
SAME(NVFP4_DNN_VARIANT_PACK_WORKSPACE, CUDNN_ATTR_VARIANT_PACK_WORKSPACE);
SAME(NVFP4_DNN_ENGINE_NUMERICAL_NOTE, CUDNN_ATTR_ENGINE_NUMERICAL_NOTE);
SAME(NVFP4_DNN_MATMUL_COMP_TYPE, CUDNN_ATTR_MATMUL_COMP_TYPE);
SAME(NVFP4_DNN_OPERATION_MATMUL_A, CUDNN_ATTR_OPERATION_MATMUL_ADESC);
SAME(NVFP4_DNN_OPERATION_MATMUL_B, CUDNN_ATTR_OPERATION_MATMUL_BDESC);
SAME(NVFP4_DNN_OPERATION_MATMUL_C, CUDNN_ATTR_OPERATION_MATMUL_CDESC);
SAME(NVFP4_DNN_OPERATION_MATMUL_DESC, CUDNN_ATTR_OPERATION_MATMUL_DESC);
#if CUDNN_VERSION >= 91300
SAME(NVFP4_DNN_FP4_E2M1, CUDNN_DATA_FP4_E2M1);
SAME(NVFP4_DNN_REORDERING_F8_128X4, CUDNN_TENSOR_REORDERING_F8_128x4);
SAME(NVFP4_DNN_OPERATION_BLOCK_SCALE_DEQUANTIZE, CUDNN_BACKEND_OPERATION_BLOCK_SCALE_DEQUANTIZE_DESCRIPTOR);
SAME(NVFP4_DNN_DEVICEPROP, CUDNN_BACKEND_DEVICEPROP_DESCRIPTOR);
SAME(NVFP4_DNN_ENGINEHEUR_DEVICEPROP, CUDNN_ATTR_ENGINEHEUR_DEVICEPROP);
SAME(NVFP4_DNN_PLAN_DEVICEPROP, CUDNN_ATTR_EXECUTION_PLAN_DEVICEPROP);
SAME(NVFP4_DNN_DEQUANTIZE_X, CUDNN_ATTR_OPERATION_BLOCK_SCALE_DEQUANTIZE_XDESC);
SAME(NVFP4_DNN_DEQUANTIZE_SCALE, CUDNN_ATTR_OPERATION_BLOCK_SCALE_DEQUANTIZE_SCALE_DESC);
SAME(NVFP4_DNN_DEQUANTIZE_Y, CUDNN_ATTR_OPERATION_BLOCK_SCALE_DEQUANTIZE_YDESC);
SAME(NVFP4_DNN_DEQUANTIZE_MATH_PREC, CUDNN_ATTR_OPERATION_BLOCK_SCALE_DEQUANTIZE_MATH_PREC);
SAME(NVFP4_DNN_DEQUANTIZE_BLOCK_SIZE, CUDNN_ATTR_OPERATION_BLOCK_SCALE_DEQUANTIZE_BLOCK_SIZE);
SAME(NVFP4_DNN_DEVICEPROP_JSON, CUDNN_ATTR_DEVICEPROP_JSON_REPRESENTATION);
#endif
#endif

enum { SKIPPED = 77 }; /* SKIP_RETURN_CODE in tests/CMakeLists.txt */

static nvfp4_dnn_api api;

/* NULL: this cuDNN does not take the description. */
static nvfp4_dnn_desc *describe(int compute_capability) {
  char json[1024];
  nvfp4_dnn_desc *desc = NULL;
  int length = snprintf(json, sizeof json,
                        "{\"deviceVer\": %d, \"multiProcessorCount\": 148, \"maxGridSize\": [2147483647, 65535, 65535], \"maxBlockSize\": "
                        "[1024, 1024, 64], \"regsPerBlock\": 65536, \"warpSize\": 32, \"maxSharedMemoryPerBlock\": 49152, "
                        "\"maxSharedMemoryPerBlockOptin\": 232448, \"reservedSharedMemoryPerBlock\": 1024, \"maxRegistersPerSM\": 65536, "
                        "\"maxCtasPerSM\": 32, \"maxThreadsPerBlock\": 1024, \"maxThreadsPerSM\": 2048, \"pciDeviceId\": 0, "
                        "\"isTccDriver\": 0, \"supportCoopLaunch\": 1, \"totalGlobalMem\": 191414272000, \"smClockRateKHz\": 1965000, "
                        "\"memClockRateKHz\": 3996000, \"l2CacheSize\": 132644864, \"cudaDeviceId\": 0, \"driverVer\": 13000, "
                        "\"deviceName\": \"NVIDIA B200\"}",
                        10 * compute_capability);
  assert_int_equal(api.desc_create(NVFP4_DNN_DEVICEPROP, &desc), NVFP4_DNN_SUCCESS);
  if (api.desc_set(desc, NVFP4_DNN_DEVICEPROP_JSON, NVFP4_DNN_TYPE_CHAR, length + 1, json) != NVFP4_DNN_SUCCESS ||
      api.desc_finalize(desc) != NVFP4_DNN_SUCCESS) {
    api.desc_destroy(desc);
    return NULL;
  }
  return desc;
}

static nvfp4_status plan_for(int compute_capability, const cudnn_product *product, nvfp4_reason *reason) {
  nvfp4_dnn_desc *gpu = describe(compute_capability);
  cudnn_plan *plan = NULL;
  assert_non_null(gpu);
  nvfp4_status status = cudnn_plan_make(&api, NULL, gpu, product, &plan, reason);
  if (status == NVFP4_OK) {
    assert_non_null(cudnn_plan_descriptor(plan));
    cudnn_plan_free(&api, plan);
  }
  api.desc_destroy(gpu);
  return status;
}

/* The forms of vendor_cudnn_w4a4. */
static const cudnn_product products[] = {{128, 256, 64, NVFP4_DTYPE_BF16, true, NVFP4_DTYPE_BF16},
                                         {16, 4096, 4096, NVFP4_DTYPE_BF16, true, NVFP4_DTYPE_NONE},
                                         {1024, 264, 192, NVFP4_DTYPE_F16, true, NVFP4_DTYPE_F32},
                                         {16, 8, 64, NVFP4_DTYPE_F32, true, NVFP4_DTYPE_F32},
                                         {16, 48, 128, NVFP4_DTYPE_F32, false, NVFP4_DTYPE_NONE}};

static void test_blackwell(void **state) {
  (void)state;
  static const int gpus[] = {100, 103, 110, 120, 121};
  for (size_t gpu = 0; gpu < sizeof gpus / sizeof gpus[0]; gpu++) {
    const bool first_of_family = gpus[gpu] == 100 || gpus[gpu] == 120; /* the others: one plan, they take a second each */
    for (size_t i = 0; i < (first_of_family ? sizeof products / sizeof products[0] : 1); i++) {
      nvfp4_reason reason = {0};
      if (plan_for(gpus[gpu], &products[i], &reason) != NVFP4_OK) {
        fail_msg("sm_%d, product %zu: %s", gpus[gpu], i, reason.text);
      }
    }
  }
}

static void test_refusals(void **state) {
  (void)state;
  cudnn_product product = products[0];
  nvfp4_reason reason = {0};
  assert_int_equal(plan_for(90, &product, &reason), NVFP4_E_MACHINE);
  assert_non_null(strstr(reason.text, "has no NVFP4 product for this GPU (N = 256, K = 64, M = 128)"));
  product.k = 48; /* why K is padded */
  assert_int_equal(plan_for(100, &product, &reason), NVFP4_E_MACHINE);
}

int main(void) {
  nvfp4_reason reason = {0};
  if (cudnn_open(&api, &reason) != NVFP4_OK) {
    printf("skipped: %s\n", reason.text);
    return SKIPPED;
  }
  nvfp4_dnn_desc *gpu = describe(100);
  if (gpu == NULL) {
    printf("skipped: cuDNN %zu wants another description of a GPU\n", api.get_version());
    return SKIPPED;
  }
  api.desc_destroy(gpu);
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_blackwell), cmocka_unit_test(test_refusals)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
