/* SPDX-License-Identifier: Apache-2.0 */
#include "kernels/cuda/sm90.h"

#include <stdint.h>

#include "base/reason.h"
#include "cuda/cuda.h"
#include "kernels/cuda/arguments.h"
#include "kernels/cuda/linear.h"
#include "kernels/cuda/mma.h"
#include "kernels/cuda/mma_layout.h"

extern const unsigned char nvfp4_fatbin_sm90_w4a16[];

/* Up to so many rows of x few.cuh and sm90_mid.cuh are the faster ones. */
enum { MULTIPROCESSORS = 132, FEW_M = 8, MID_M = 128 };

/* few_rows of few.cuh: for up to FEW_M rows of x, by the threads of a block. All numbers here are those of sm90_w4a16.cu. */
typedef struct few_kernel {
  int threads, depth;
  nvfp4_cuda_kernel kernel[2]; /* bf16, f16 */
} few_kernel;

#define KERNELS(name)                                                                                       \
  {                                                                                                         \
    {nvfp4_fatbin_sm90_w4a16, "nvfp4_sm90_bf16_" name}, { nvfp4_fatbin_sm90_w4a16, "nvfp4_sm90_f16_" name } \
  }

static const few_kernel few_kernels[] = {
    {512, 4, KERNELS("few8_512")}, {768, 3, KERNELS("few8_768")}, {896, 2, KERNELS("few8_896")}, {1024, 2, KERNELS("few8_1024")}};
/* mid_rows of sm90_mid.cuh: rows of x and tiles of 64 rows of weights, at most, of a thread block. */
typedef struct mid_kernel {
  int columns, tiles, threads;
  nvfp4_cuda_kernel kernel[2];
} mid_kernel;

static const mid_kernel mid_kernels[] = {{16, 12, 640, KERNELS("mid16")},
                                         {32, 12, 640, KERNELS("mid32")},
                                         {64, 9, 512, KERNELS("mid64")},
                                         {128, 4, 384, KERNELS("mid128")},
                                         {256, 2, 384, KERNELS("mid256")}};

/*
 * prefill_rows of sm90_prefill.cuh. cost: of a tile, in quarters of that of one of 128 columns, as measured on an H200; less than in
 * proportion, since weights are dequantised once for all columns.
 */
typedef struct prefill_kernel {
  int columns, cost;
  nvfp4_cuda_kernel kernel[2];
} prefill_kernel;

static const prefill_kernel whole[] = {{128, 4, KERNELS("whole128")}, {256, 6, KERNELS("whole256")}};
static const prefill_kernel sliced[] = {{128, 4, KERNELS("sliced128")}, {192, 5, KERNELS("sliced192")}};

nvfp4_status cuda_sm90_is_supported(const nvfp4_machine *machine, nvfp4_reason *reason) {
  return cuda_is_supported(machine, 90, 90, reason);
}

/* With what programmatic launch allows: the kernels read weights while those before them end, and touch nothing else before they have (mma.cuh). */
static nvfp4_status launch(const nvfp4_host *host, const nvfp4_cuda_kernel *kernel, int64_t blocks, int threads, int64_t shared_bytes,
                           int cluster_size, void **parameters, nvfp4_cu_stream stream, nvfp4_reason *reason) {
  const nvfp4_cu_launch_attribute attributes[] = {
      {.id = NVFP4_CU_LAUNCH_PROGRAMMATIC_STREAM_SERIALIZATION, .value.programmatic_stream_serialization = 1},
      {.id = NVFP4_CU_LAUNCH_CLUSTER_DIMENSION, .value.cluster = {(unsigned)cluster_size, 1, 1}}};
  const nvfp4_cu_launch launch = {.grid_x = (unsigned)blocks,
                                  .grid_y = 1,
                                  .grid_z = 1,
                                  .block_x = (unsigned)threads,
                                  .block_y = 1,
                                  .block_z = 1,
                                  .shared_bytes = (unsigned)shared_bytes,
                                  .stream = stream,
                                  .attributes = attributes,
                                  .attribute_count = cluster_size > 1 ? 2 : 1};
  return nvfp4_cuda_launch(host->cuda, kernel, &launch, parameters, reason);
}

static int64_t ceiling(int64_t a, int64_t b) { return (a + b - 1) / b; }

static nvfp4_status launch_few(const nvfp4_host *host, cuda_mma_args *a, int type, nvfp4_cu_stream stream, nvfp4_reason *reason) {
  const int64_t row_tiles = ceiling(a->n, 16), warps_most = 32 / a->slices;
  int64_t here = ceiling(row_tiles, MULTIPROCESSORS); /* row tiles of a block */
  here = here < warps_most ? here : warps_most;
  const int threads = (int)here * a->slices * 32;
  const few_kernel *few = few_kernels;
  while (few->threads < threads) {
    few++;
  }
  const int64_t shared_bytes = cuda_mma_few_shared_bytes(a, threads, FEW_M, few->depth, CUDA_SM90_SHARED_BYTES);
  const int64_t blocks = ceiling(row_tiles, here);
  return launch(host, &few->kernel[type], blocks < MULTIPROCESSORS ? blocks : MULTIPROCESSORS, threads, shared_bytes, 1, (void *[]){a},
                stream, reason);
}

/* x for copies of 64 k's, rows of 128 bytes as wgmma's swizzle has them, of `columns` rows; zero beyond its last row and its last k. */
static nvfp4_status map_x(const nvfp4_host *host, const cuda_mma_args *a, int type, int columns, nvfp4_cu_tensor_map *out,
                          nvfp4_reason *reason) {
  const int data_type = type == 0 ? NVFP4_CU_TENSOR_MAP_BFLOAT16 : NVFP4_CU_TENSOR_MAP_FLOAT16;
  const uint64_t sizes[] = {(uint64_t)a->k, (uint64_t)a->m}, strides_bytes[] = {(uint64_t)a->ldx_elems * 2};
  const uint32_t box[] = {64, (uint32_t)columns}, element_strides[] = {1, 1};
  return nvfp4_cuda_check(
      host->cuda, "cuTensorMapEncodeTiled",
      nvfp4_cuda_api(host->cuda)
          ->tensor_map_encode_tiled(out, data_type, 2, (void *)(uintptr_t)a->x, sizes, strides_bytes, box, element_strides, 0,
                                    NVFP4_CU_TENSOR_MAP_SWIZZLE_128B, NVFP4_CU_TENSOR_MAP_L2_PROMOTION_128B, 0),
      reason);
}

/*
 * As few rounds of thread blocks as its tiles allow, then as small tiles as these rounds allow. The cost is in cycles for 16 k's of a row tile of 64: those of the MMA, a column in half a cycle,
 * and of the instructions that make its operand A.
 */
static int64_t plan_mid(const mid_kernel *mid, const cuda_mma_args *a, int64_t *block_tiles) {
  /* Clusters of 4 or 8 do not fill a GPU whose clusters of multiprocessors (GPCs) are 16 or 18 and some fewer: 15 of 8 were seen on an H200. */
  const int64_t at_a_time = (a->slices >= 4 ? 120 : MULTIPROCESSORS) / a->slices;
  const int64_t tiles = ceiling(a->n, CUDA_MMA_ROWS), column_tiles = ceiling(a->m, mid->columns);
  const int64_t rounds = ceiling(ceiling(tiles, mid->tiles) * column_tiles, at_a_time);
  *block_tiles = ceiling(tiles, rounds * at_a_time / column_tiles);
  return rounds * *block_tiles * (mid->columns / 2 + 22);
}

static nvfp4_status launch_mid(const nvfp4_host *host, cuda_mma_args *a, int type, nvfp4_cu_stream stream, nvfp4_reason *reason) {
  const mid_kernel *mid = NULL;
  int64_t block_tiles = 0, least = INT64_MAX;
  for (size_t i = 0; i < sizeof mid_kernels / sizeof *mid_kernels; i++) {
    int64_t tiles, cost = plan_mid(&mid_kernels[i], a, &tiles);
    if (cost < least) {
      least = cost;
      mid = &mid_kernels[i];
      block_tiles = tiles;
    }
  }
  a->block_tiles = (int32_t)block_tiles;
  nvfp4_cu_tensor_map x;
  NVFP4_TRY(map_x(host, a, type, mid->columns, &x, reason));
  const int64_t blocks = ceiling(ceiling(a->n, CUDA_MMA_ROWS), block_tiles) * ceiling(a->m, mid->columns) * a->slices;
  return launch(host, &mid->kernel[type], blocks, mid->threads, CUDA_SM90_SHARED_BYTES, a->slices, (void *[]){a, &x}, stream, reason);
}

static nvfp4_status launch_prefill(const nvfp4_host *host, cuda_mma_args *a, int type, nvfp4_cu_stream stream, nvfp4_reason *reason) {
  const prefill_kernel *kernels = a->slices > 1 ? sliced : whole;
  const int64_t row_tiles = ceiling(a->n, CUDA_SM90_PREFILL_ROWS);
  int64_t tiles[2], cost[2];
  for (int i = 0; i < 2; i++) {
    tiles[i] = row_tiles * ceiling(a->m, kernels[i].columns);
    cost[i] = ceiling(tiles[i], MULTIPROCESSORS) * kernels[i].cost;
  }
  if (a->slices > 1 && tiles[0] <= MULTIPROCESSORS / 2) { /* not enough tiles: a slice to a block */
    return launch_mid(host, a, type, stream, reason);
  }
  const int best = cost[0] < cost[1] ? 0 : 1;
  if (tiles[best] > INT32_MAX / 8) {
    return nvfp4_reject(reason, NVFP4_E_SHAPE, "M = %lld, N = %lld; one call computes at most 2^28 tiles of %d x %d: cut x into parts",
                        (long long)a->m, (long long)a->n, CUDA_SM90_PREFILL_ROWS, kernels[best].columns);
  }
  nvfp4_cu_tensor_map x;
  NVFP4_TRY(map_x(host, a, type, kernels[best].columns, &x, reason));
  const int64_t blocks = tiles[best] < MULTIPROCESSORS ? tiles[best] : MULTIPROCESSORS;
  return launch(host, &kernels[best].kernel[type], blocks, CUDA_SM90_PREFILL_THREADS, CUDA_SM90_SHARED_BYTES, 1, (void *[]){a, &x}, stream,
                reason);
}

nvfp4_status cuda_sm90_apply(const nvfp4_host *host, const nvfp4_packed *packed, const nvfp4_kernel_args *args, const void *x,
                             int64_t ldx_elems, nvfp4_dtype x_dtype, void *x_copy, cuda_sm90_order order, nvfp4_reason *reason) {
  const int slices = order == CUDA_SM90_WHOLE ? 1 : cuda_mma_slices(args->n, args->k);
  cuda_mma_args a;
  NVFP4_TRY(cuda_mma_arguments(host, packed, args, x, ldx_elems, x_copy, slices, &a, reason));
  const int type = x_dtype == NVFP4_DTYPE_BF16 ? 0 : 1;
  return a.m <= FEW_M   ? launch_few(host, &a, type, args->stream, reason)
         : a.m <= MID_M ? launch_mid(host, &a, type, args->stream, reason)
                        : launch_prefill(host, &a, type, args->stream, reason);
}
