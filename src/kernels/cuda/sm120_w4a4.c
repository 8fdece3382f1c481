/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cuda_sm120_w4a4: y[m,n] = alpha[n] * sum over k ( ( x[m,k] * sx[m,k/16] ) * ( w[n,k] * sw[n,k/16] ) ) (+ bias[n]), x quantised to NVFP4
 *
 * For GeForce and RTX Pro Blackwell (compute capability 12.0) and DGX Spark (12.1), whose mma.sync takes E2M1 codes and E4M3 block scales as they are. Two launches: the quantiser
 * (quantise.cu), then tiles of y (sm120.cuh). One layout and one order of additions for all M: an MMA has 64 k's, and K is cut into slices by N and K alone. Class BOUNDED if the tensor cores add
 * as docs/numerics.md, "FP4 tensor cores", assumes: nobody has measured it, and the self-test decides. BATCH_INVARIANT: a row's sums do not depend on M, nor, in an MMA, on a value's place.
 * Packed layout: cuda_fp4_128x4. Workspace: codes and scales of x.
 */
#include "base/reason.h"
#include "cuda/cuda.h"
#include "kernels/cuda/arguments.h"
#include "kernels/cuda/fp4_layout.h"
#include "kernels/cuda/linear.h"
#include "kernels/cuda/sm120_index.h"

extern const unsigned char nvfp4_fatbin_sm120_w4a4[];

typedef struct tile_kernel {
  sm120_shape shape;
  nvfp4_cuda_kernel kernel;
} tile_kernel;

#define TILE_KERNEL(name, ...) static const tile_kernel name = {{__VA_ARGS__}, {nvfp4_fatbin_sm120_w4a4, "nvfp4_sm120_" #name}};
SM120_SHAPES(TILE_KERNEL)

enum { MOST_ROWS = 1 << 30, MOST_K = 1 << 24 }; /* 128 rows of codes have less than 2^31 bytes */

static nvfp4_status is_supported(const nvfp4_machine *machine, nvfp4_reason *reason) {
  NVFP4_TRY(cuda_is_supported(machine, 120, 121, reason));
  return cuda_driver_is_supported(machine, 12080, reason);
}

static nvfp4_status can_implement(const nvfp4_layer_desc *desc, nvfp4_reason *reason) {
  (void)desc; /* any N, any K that is a multiple of 16, any M, all element types */
  (void)reason;
  return NVFP4_OK;
}

static size_t workspace_bytes(const nvfp4_layer_desc *desc, int64_t m) { return cuda_fp4_x_bytes(m, desc->k, NVFP4_SCALES_128X4); }

/* By N and K alone. A warp of split16 has 7 KiB of weights under way: 512 of them keep the memory of the largest of these GPUs (170 multiprocessors, 1.8 TB/s) at work. */
static int slices_of(int64_t n, int64_t k) {
  const int64_t warps = (n + SM120_SLAB - 1) / SM120_SLAB /* a slice */, pairs = (k + 127) / 128;
  int slices = SM120_SLICES;
  while (slices > 1 && (slices > pairs || slices / 2 * warps >= 512)) {
    slices /= 2;
  }
  return slices;
}

static int64_t tiles_of(const tile_kernel *tile, int64_t m, int64_t n) {
  return sm120_row_tiles(tile->shape, n) * sm120_column_tiles(tile->shape, m);
}

/* Few rows of x: weights are what has to be brought, by many warps. Many: large tiles if there are nearly as many as multiprocessors, or if K is too short to be cut, which is also the self-test's. */
static const tile_kernel *choose(int64_t m, int64_t n, int slices, int multiprocessors) {
  if (m <= 32) {
    return m <= 16 ? &split16 : &split32;
  }
  const tile_kernel *const large[] = {&sequence128, &sequence64};
  for (size_t i = m <= 64 ? 1 : 0; i < sizeof large / sizeof large[0]; i++) {
    if (slices == 1 || 4 * tiles_of(large[i], m, n) >= 3 * (int64_t)multiprocessors) {
      return large[i];
    }
  }
  return &split64;
}

static nvfp4_status apply_weights(const nvfp4_host *host, const nvfp4_packed *packed, const nvfp4_kernel_args *args, nvfp4_reason *reason) {
  const nvfp4_cu_api *api = nvfp4_cuda_api(host->cuda);
  nvfp4_cu_device device;
  int multiprocessors;
  NVFP4_TRY(nvfp4_cuda_check(host->cuda, "cuCtxGetDevice", api->context_get_device(&device), reason));
  NVFP4_TRY(nvfp4_cuda_check(host->cuda, "cuDeviceGetAttribute",
                             api->device_get_attribute(&multiprocessors, NVFP4_CU_ATTRIBUTE_MULTIPROCESSOR_COUNT, device), reason));
  const int slices = slices_of(args->n, args->k);
  const tile_kernel *tile = choose(args->m, args->n, slices, multiprocessors);
  if (args->m > MOST_ROWS || args->n > MOST_ROWS || args->k > MOST_K || tiles_of(tile, args->m, args->n) > INT32_MAX) {
    return nvfp4_reject(
        reason, NVFP4_E_SHAPE,
        "M = %lld, N = %lld, K = %lld; one call takes at most 2^30 rows of x and of weights, 2^24 of K and 2^31 tiles of y, "
        "%d x %d each: cut the layer or x into parts",
        (long long)args->m, (long long)args->n, (long long)args->k, tile->shape.columns, tile->shape.slabs * SM120_SLAB);
  }
  cuda_fp4_x x;
  NVFP4_TRY(cuda_fp4_quantise(host, args, NVFP4_SCALES_128X4, &x, reason));
  cuda_sm120_args a = {.m = args->m,
                       .n = args->n,
                       .k_padded = cuda_fp4_padded_k(args->k),
                       .codes = cuda_fp4_codes(packed),
                       .scales = cuda_fp4_scales(packed),
                       .x_codes = x.codes,
                       .x_scales = x.scales,
                       .alpha = args->alpha,
                       .bias = args->bias,
                       .y = args->y,
                       .ldy_elems = args->ldy_elems,
                       .y_dtype = (int32_t)args->y_dtype,
                       .bias_dtype = (int32_t)args->bias_dtype,
                       .slices = slices};
  const int groups = tile->shape.slabs == 1 ? slices : 1;
  /* Programmatic launch: weights are read while the quantiser is at work, and nothing else before it has ended. */
  const nvfp4_cu_launch_attribute overlap = {.id = NVFP4_CU_LAUNCH_PROGRAMMATIC_STREAM_SERIALIZATION,
                                             .value.programmatic_stream_serialization = 1};
  const nvfp4_cu_launch launch = {.grid_x = (unsigned)tiles_of(tile, args->m, args->n),
                                  .grid_y = 1,
                                  .grid_z = 1,
                                  .block_x = (unsigned)(groups * sm120_warps(tile->shape) * 32),
                                  .block_y = 1,
                                  .block_z = 1,
                                  .shared_bytes = (unsigned)(groups * sm120_group_bytes(tile->shape)),
                                  .stream = args->stream,
                                  .attributes = &overlap,
                                  .attribute_count = 1};
  void *parameters[] = {&a};
  return nvfp4_cuda_launch(host->cuda, &tile->kernel, &launch, parameters, reason);
}

const nvfp4_kernel nvfp4_kernel_cuda_sm120_w4a4 = {
    .struct_size = sizeof(nvfp4_kernel),
    .id = "cuda_sm120_w4a4",
    .summary = "W4A4 on the FP4 tensor cores of GeForce, RTX Pro and DGX Spark Blackwell, one order of additions for all M",
    .layout = &nvfp4_layout_cuda_fp4,
    .numerics = {NVFP4_MODE_W4A4, NVFP4_CLASS_BOUNDED, NVFP4_FLAG_BATCH_INVARIANT | NVFP4_FLAG_DETERMINISTIC,
                 "w4a4: mma.sync of FP4, steps of 64 k's ascending, slices of K by N and K, fp32"},
    .device = NVFP4_DEVICE_CUDA,
    .verified = "compiles; never executed by us",
    .is_supported = is_supported,
    .can_implement = can_implement,
    .workspace_bytes = workspace_bytes,
    .apply_weights = apply_weights,
};
