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

enum { MULTIPROCESSORS = 132, SHARED_BYTES = 227 * 1024 };

/* few_rows of few.cuh: for up to 8 or 16 rows of x, by the threads of a block. All numbers here are those of sm90_w4a16.cu. */
typedef struct few_kernel {
  int threads, depth;
  nvfp4_cuda_kernel kernel[2]; /* bf16, f16 */
} few_kernel;

#define KERNELS(name)                                                                                       \
  {                                                                                                         \
    {nvfp4_fatbin_sm90_w4a16, "nvfp4_sm90_bf16_" name}, { nvfp4_fatbin_sm90_w4a16, "nvfp4_sm90_f16_" name } \
  }

static const few_kernel few_8[] = {
    {512, 4, KERNELS("few8_512")}, {768, 3, KERNELS("few8_768")}, {896, 2, KERNELS("few8_896")}, {1024, 2, KERNELS("few8_1024")}};
static const few_kernel few_16[] = {
    {512, 3, KERNELS("few16_512")}, {768, 3, KERNELS("few16_768")}, {896, 2, KERNELS("few16_896")}, {1024, 2, KERNELS("few16_1024")}};

/* many_rows of sm90_many.cuh */
typedef struct many_kernel {
  int columns, threads;
  nvfp4_cuda_kernel kernel[2];
} many_kernel;

static const many_kernel whole[] = {{32, 640, KERNELS("whole32")}, {64, 640, KERNELS("whole64")}, {128, 384, KERNELS("whole128")}};
static const many_kernel cluster[] = {{32, 640, KERNELS("cluster32")}, {64, 640, KERNELS("cluster64")}, {128, 384, KERNELS("cluster128")}};
static const many_kernel sequence = {64, 384, KERNELS("sequence64")};

nvfp4_status cuda_sm90_is_supported(const nvfp4_machine *machine, nvfp4_reason *reason) {
  return cuda_is_supported(machine, 90, 90, reason);
}

/* With what programmatic launch allows: the kernels read weights while those before them end, and touch nothing else before they have (mma.cuh). */
static nvfp4_status launch(const nvfp4_host *host, const nvfp4_cuda_kernel *kernel, int64_t blocks, int threads, int64_t shared_bytes,
                           int cluster_size, cuda_mma_args *a, nvfp4_cu_stream stream, nvfp4_reason *reason) {
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
  void *parameters[] = {a};
  return nvfp4_cuda_launch(host->cuda, kernel, &launch, parameters, reason);
}

static int64_t ceiling(int64_t a, int64_t b) { return (a + b - 1) / b; }

static nvfp4_status launch_few(const nvfp4_host *host, cuda_mma_args *a, int type, nvfp4_cu_stream stream, nvfp4_reason *reason) {
  const int64_t row_tiles = ceiling(a->n, 16), columns = a->m <= 8 ? 8 : 16, warps_most = 32 / a->slices;
  int64_t here = ceiling(row_tiles, MULTIPROCESSORS); /* row tiles of a block */
  here = here < warps_most ? here : warps_most;
  const int threads = (int)here * a->slices * 32;
  const few_kernel *few = a->m <= 8 ? few_8 : few_16;
  while (few->threads < threads) {
    few++;
  }
  const int64_t shared_bytes = cuda_mma_few_shared_bytes(a, threads, columns, few->depth, SHARED_BYTES);
  const int64_t blocks = ceiling(row_tiles, here);
  return launch(host, &few->kernel[type], blocks < MULTIPROCESSORS ? blocks : MULTIPROCESSORS, threads, shared_bytes, 1, a, stream, reason);
}

static nvfp4_status launch_many(const nvfp4_host *host, cuda_mma_args *a, int type, nvfp4_cu_stream stream, nvfp4_reason *reason) {
  const int size = a->m <= 32 ? 0 : a->m <= 64 ? 1 : 2;
  const int64_t row_tiles = ceiling(a->n, CUDA_SM90_MANY_ROWS);
  const many_kernel *many = &whole[size];
  int cluster_size = 1;
  if (a->slices > 1) { /* enough tiles: a block computes all slices of one */
    many = row_tiles * ceiling(a->m, cluster[size].columns) < MULTIPROCESSORS ? &cluster[size] : &sequence;
    cluster_size = many == &sequence ? 1 : a->slices;
  }
  const int64_t tiles = row_tiles * ceiling(a->m, many->columns);
  if (tiles > INT32_MAX / 8) {
    return nvfp4_reject(reason, NVFP4_E_SHAPE, "M = %lld, N = %lld; one call computes at most 2^28 tiles of %d x %d: cut x into parts",
                        (long long)a->m, (long long)a->n, CUDA_SM90_MANY_ROWS, many->columns);
  }
  const int64_t blocks = cluster_size > 1 ? tiles * cluster_size : tiles < MULTIPROCESSORS ? tiles : MULTIPROCESSORS;
  return launch(host, &many->kernel[type], blocks, many->threads, CUDA_SM90_MANY_SHARED_BYTES, cluster_size, a, stream, reason);
}

nvfp4_status cuda_sm90_apply(const nvfp4_host *host, const nvfp4_packed *packed, const nvfp4_kernel_args *args, const void *x,
                             int64_t ldx_elems, nvfp4_dtype x_dtype, void *x_copy, cuda_sm90_order order, nvfp4_reason *reason) {
  const int slices = order == CUDA_SM90_WHOLE ? 1 : cuda_mma_slices(args->n, args->k);
  cuda_mma_args a;
  NVFP4_TRY(cuda_mma_arguments(host, packed, args, x, ldx_elems, x_copy, slices, &a, reason));
  const int type = x_dtype == NVFP4_DTYPE_BF16 ? 0 : 1;
  return a.m <= 16 ? launch_few(host, &a, type, args->stream, reason) : launch_many(host, &a, type, args->stream, reason);
}
