/* SPDX-License-Identifier: Apache-2.0 */
#include "kernels/cuda/sm90.h"

#include <stdint.h>

#include "base/reason.h"
#include "cuda/cuda.h"
#include "kernels/cuda/arguments.h"
#include "kernels/cuda/linear.h"
#include "kernels/cuda/mma.h"
#include "kernels/cuda/quantise.h"

nvfp4_status cuda_sm90_is_supported(const nvfp4_machine *machine, nvfp4_reason *reason) {
  return cuda_is_supported(machine, 90, 90, reason);
}

/* x for copies of 64 k's, rows of 128 bytes as wgmma's swizzle has them, of `rows` rows; zero beyond its last row and its last k. */
static nvfp4_status map_x(const nvfp4_host *host, const cuda_mma_args *a, int type, int rows, nvfp4_cu_tensor_map *out,
                          nvfp4_reason *reason) {
  const int data_type = type == 0 ? NVFP4_CU_TENSOR_MAP_BFLOAT16 : NVFP4_CU_TENSOR_MAP_FLOAT16;
  const uint64_t sizes[] = {(uint64_t)a->k, (uint64_t)a->m}, strides_bytes[] = {(uint64_t)a->ldx_elems * 2};
  const uint32_t box[] = {64, (uint32_t)rows}, element_strides[] = {1, 1};
  return nvfp4_cuda_check(
      host->cuda, "cuTensorMapEncodeTiled",
      nvfp4_cuda_api(host->cuda)
          ->tensor_map_encode_tiled(out, data_type, 2, (void *)(uintptr_t)a->x, sizes, strides_bytes, box, element_strides, 0,
                                    NVFP4_CU_TENSOR_MAP_SWIZZLE_128B, NVFP4_CU_TENSOR_MAP_L2_PROMOTION_128B, 0),
      reason);
}

nvfp4_status cuda_sm90_apply(const nvfp4_host *host, const nvfp4_packed *packed, const nvfp4_kernel_args *args, const void *x,
                             int64_t ldx_elems, nvfp4_dtype x_dtype, void *x_copy, cuda_sm90_order order, nvfp4_reason *reason) {
  const int type = x_dtype == NVFP4_DTYPE_BF16 ? 0 : 1;
  cuda_mma_args a;
  nvfp4_cu_tensor_map map;
  NVFP4_TRY(cuda_mma_arguments(host, packed, args, x, ldx_elems, x_copy, 1, &a, reason));
  const cuda_sm90_launch chosen = cuda_sm90_choose(a.m, a.n, a.k, order);
  if (chosen.code == NULL) {
    return nvfp4_reject(reason, NVFP4_E_SHAPE, "M = %lld, N = %lld; one call computes at most 2^27 tiles of 128 x 128: cut x into parts",
                        (long long)a.m, (long long)a.n);
  }
  a.slices = chosen.slices;
  a.block_tiles = chosen.block_tiles;
  a.chunk_pairs = chosen.chunk_pairs;
  a.cluster = chosen.cluster;
  if (chosen.box > 0) {
    NVFP4_TRY(map_x(host, &a, type, chosen.box, &map, reason));
  }
  /* The kernels read weights while those before them end, and touch nothing else before they have (mma.cuh). */
  const nvfp4_cu_launch_attribute attributes[] = {
      {.id = NVFP4_CU_LAUNCH_PROGRAMMATIC_STREAM_SERIALIZATION, .value.programmatic_stream_serialization = 1},
      {.id = NVFP4_CU_LAUNCH_CLUSTER_DIMENSION, .value.cluster = {(unsigned)chosen.cluster, 1, 1}}};
  const nvfp4_cu_launch launch = {.grid_x = (unsigned)chosen.blocks,
                                  .grid_y = 1,
                                  .grid_z = 1,
                                  .block_x = (unsigned)chosen.threads,
                                  .block_y = 1,
                                  .block_z = 1,
                                  .shared_bytes = (unsigned)chosen.shared_bytes,
                                  .stream = args->stream,
                                  .attributes = attributes,
                                  .attribute_count = chosen.cluster > 1 ? 2 : 1};
  void *parameters[] = {&a, &map};
  return nvfp4_cuda_launch(host->cuda, &chosen.code[type], &launch, parameters, reason);
}

nvfp4_status cuda_sm90_w4a4_can_implement(const nvfp4_layer_desc *desc, nvfp4_reason *reason) {
  (void)desc; /* any N, any K that is a multiple of 16, any M, all element types */
  (void)reason;
  return NVFP4_OK;
}

nvfp4_status cuda_sm90_apply_w4a4(const nvfp4_host *host, const nvfp4_packed *packed, const nvfp4_kernel_args *args, cuda_sm90_order order,
                                  nvfp4_reason *reason) {
  NVFP4_TRY(cuda_sm90_quantise_to_bf16(host, args, args->workspace, reason));
  return cuda_sm90_apply(host, packed, args, args->workspace, args->k, NVFP4_DTYPE_BF16, NULL, order, reason);
}
