/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cuda_sm100_w4a4: y[m,n] = alpha[n] * sum over blocks b ( sx[m,b] * sw[n,b] * sum over k in b ( x[m,k] * w[n,k] ) ) (+ bias[n]), x quantised to NVFP4, on the FP4 tensor cores of compute
 * capability 10.x and 11.0 (tcgen05.mma, kind::mxf4nvf4)
 *
 * The quantiser's codes and scales are the canonical ones, or those that the caller gives. Class BOUNDED; K in cuda_sm100_plan's slices, which N and K decide, in ascending order at any M.
 * Packed layout: cuda_fp4_128x4, whose zeros make any N and any K that is a multiple of 16 whole tiles. Workspace: x in the same form.
 *
 * Experimental: no such GPU was at hand. The self-test must find its results right before it serves.
 */
#include "base/reason.h"
#include "cuda/cuda.h"
#include "kernels/cuda/fp4_layout.h"
#include "kernels/cuda/linear.h"
#include "kernels/cuda/sm100_tile.h"

extern const unsigned char nvfp4_fatbin_sm100_w4a4[];
static const nvfp4_cuda_kernel kernel = {nvfp4_fatbin_sm100_w4a4, "nvfp4_sm100_w4a4"};

enum { MAX_ELEMS = 1 << 30, LEAST_DRIVER = 12090 /* the first that knows code for a family */ };

/* Codes of `rows` rows for copies of `box_rows` rows of 256 k's, swizzled; zero beyond the last row and the last k. */
static nvfp4_status map_codes(const nvfp4_host *host, const uint8_t *codes, int64_t rows, int64_t k, int box_rows, nvfp4_cu_tensor_map *out,
                              nvfp4_reason *reason) {
  const uint64_t row_bytes = (uint64_t)cuda_fp4_padded_k(k) / 2, sizes[] = {row_bytes, (uint64_t)rows}, strides_bytes[] = {row_bytes};
  const uint32_t box[] = {CUDA_SM100_ROW_BYTES, (uint32_t)box_rows}, element_strides[] = {1, 1};
  return nvfp4_cuda_check(
      host->cuda, "cuTensorMapEncodeTiled",
      nvfp4_cuda_api(host->cuda)
          ->tensor_map_encode_tiled(out, NVFP4_CU_TENSOR_MAP_UINT8, 2, (void *)(uintptr_t)codes, sizes, strides_bytes, box, element_strides,
                                    0, NVFP4_CU_TENSOR_MAP_SWIZZLE_128B, NVFP4_CU_TENSOR_MAP_L2_PROMOTION_128B, 0),
      reason);
}

static nvfp4_status is_supported(const nvfp4_machine *machine, nvfp4_reason *reason) {
  NVFP4_TRY(cuda_is_supported(machine, 100, 110, reason));
  return cuda_driver_is_supported(machine, LEAST_DRIVER, reason);
}

static nvfp4_status can_implement(const nvfp4_layer_desc *desc, nvfp4_reason *reason) {
  (void)desc; /* any N, any K that is a multiple of 16, any M, all element types */
  (void)reason;
  return NVFP4_OK;
}

static size_t workspace_bytes(const nvfp4_layer_desc *desc, int64_t m) { return cuda_fp4_x_bytes(m, desc->k, NVFP4_SCALES_128X4); }

static nvfp4_status apply_weights(const nvfp4_host *host, const nvfp4_packed *packed, const nvfp4_kernel_args *args, nvfp4_reason *reason) {
  if (args->m > MAX_ELEMS || args->n > MAX_ELEMS || args->k > MAX_ELEMS) {
    return nvfp4_reject(reason, NVFP4_E_SHAPE,
                        "M = %lld, N = %lld, K = %lld; this kernel takes at most 2^30 of each: cut the layer or x into parts",
                        (long long)args->m, (long long)args->n, (long long)args->k);
  }
  cuda_sm100_args a = {.alpha = args->alpha,
                       .bias = args->bias,
                       .y = args->y,
                       .ldy_elems = args->ldy_elems,
                       .y_dtype = (int32_t)args->y_dtype,
                       .bias_dtype = (int32_t)args->bias_dtype,
                       .weight_scales = cuda_fp4_scales(packed)};
  int64_t tiles, blocks;
  cuda_sm100_plan(args->m, args->n, args->k, &a, &tiles, &blocks);
  if (tiles > INT32_MAX / 8) {
    return nvfp4_reject(reason, NVFP4_E_SHAPE, "M = %lld, N = %lld; one call computes at most 2^28 tiles of %d x %d: cut x into parts",
                        (long long)a.m, (long long)a.n, CUDA_SM100_ROWS, a.shape.columns);
  }
  cuda_fp4_x x;
  nvfp4_cu_tensor_map weights_map, x_map;
  NVFP4_TRY(cuda_fp4_quantise(host, args, NVFP4_SCALES_128X4, &x, reason));
  a.x_scales = x.scales;
  NVFP4_TRY(map_codes(host, cuda_fp4_codes(packed), cuda_fp4_padded_n(a.n), args->k, CUDA_SM100_ROWS, &weights_map, reason));
  NVFP4_TRY(map_codes(host, x.codes, a.m, args->k, a.shape.columns, &x_map, reason));
  const nvfp4_cu_launch_attribute attributes[] = {
      {.id = NVFP4_CU_LAUNCH_PROGRAMMATIC_STREAM_SERIALIZATION, .value.programmatic_stream_serialization = 1},
      {.id = NVFP4_CU_LAUNCH_CLUSTER_DIMENSION, .value.cluster = {(unsigned)a.slices, 1, 1}}};
  const nvfp4_cu_launch launch = {.grid_x = (unsigned)blocks,
                                  .grid_y = 1,
                                  .grid_z = 1,
                                  .block_x = CUDA_SM100_THREADS,
                                  .block_y = 1,
                                  .block_z = 1,
                                  .shared_bytes = CUDA_SM100_SHARED_BYTES,
                                  .stream = args->stream,
                                  .attributes = attributes,
                                  .attribute_count = a.clustered ? 2 : 1};
  return nvfp4_cuda_launch(host->cuda, &kernel, &launch, (void *[]){&a, &weights_map, &x_map}, reason);
}

const nvfp4_kernel nvfp4_kernel_cuda_sm100_w4a4 = {
    .struct_size = sizeof(nvfp4_kernel),
    .id = "cuda_sm100_w4a4",
    .summary = "FP4 tensor cores of B200, B300 and Thor by tcgen05; experimental",
    .layout = &nvfp4_layout_cuda_fp4,
    .numerics = {NVFP4_MODE_W4A4, NVFP4_CLASS_BOUNDED, NVFP4_FLAG_BATCH_INVARIANT | NVFP4_FLAG_DETERMINISTIC,
                 "w4a4: tcgen05, steps of 64 k's ascending, slices of K by N and K, fp32"},
    .device = NVFP4_DEVICE_CUDA,
    .verified = "compiles; never executed by us",
    .is_supported = is_supported,
    .can_implement = can_implement,
    .workspace_bytes = workspace_bytes,
    .apply_weights = apply_weights,
};
