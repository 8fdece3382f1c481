/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cuda_sm80_w4a16: y[m,n] = alpha[n] * sum over k ( x[m,k] * ( w[n,k] * sw[n,k/16] ) ) (+ bias[n]), for x in bf16 or f16
 *
 * For Ampere, Ada and any later GPU: code for sm_80, and PTX that the driver compiles for others. Weights times their scales are exact in bf16 and in f16; the tensor cores add in fp32
 * (docs/numerics.md, "Tensor cores"). Class BOUNDED, which has been measured on an H200; elsewhere the self-test decides. BATCH_INVARIANT: few.cuh and sm80_many.cuh add in one order, which
 * N and K fix, that of cuda_sm90_w4a16. Packed layout: cuda_mma. Workspace: a copy of x, used if the rows of x do not begin at multiples of 16 bytes.
 */
#include "base/reason.h"
#include "cuda/cuda.h"
#include "kernels/cuda/arguments.h"
#include "kernels/cuda/linear.h"
#include "kernels/cuda/mma.h"
#include "kernels/cuda/mma_layout.h"

extern const unsigned char nvfp4_fatbin_sm80_w4a16[];

#define KERNELS(name)                                                                                       \
  {                                                                                                         \
    {nvfp4_fatbin_sm80_w4a16, "nvfp4_sm80_bf16_" name}, { nvfp4_fatbin_sm80_w4a16, "nvfp4_sm80_f16_" name } \
  }

/* few_rows of few.cuh, for up to 8 rows of x, by the threads of a block. All numbers here are those of sm80_w4a16.cu. */
typedef struct few_kernel {
  int threads, depth;
  nvfp4_cuda_kernel kernel[2]; /* bf16, f16 */
} few_kernel;

enum { FEW_M = 8, FEW_THREADS = 768 };
static const few_kernel few_kernels[] = {{512, 4, KERNELS("few8_512")}, {FEW_THREADS, 2, KERNELS("few8_768")}};

/* many_rows of sm80_many.cuh. */
typedef struct many_kernel {
  int64_t m_last;                           /* rows of x for which it is meant */
  int columns, rows, threads, shared_bytes; /* of a group */
  int blocks;                               /* that a multiprocessor should have room for */
  nvfp4_cuda_kernel kernel[2];
} many_kernel;

/* Of those for M the first that there is shared memory for, or else the last: it does with the 99 KiB of compute capability 8.6 and 8.9. */
enum { MANY_KERNELS = 4 };
static const many_kernel sequence[MANY_KERNELS] = {
    {16, 16, 128, 128, CUDA_SM80_GROUP_BYTES(128, 16, 4), 2, KERNELS("sequence16")},
    {32, 32, 128, 128, CUDA_SM80_GROUP_BYTES(128, 32, 4), 2, KERNELS("sequence32")},
    {NVFP4_M_MAX, 64, 128, 128, CUDA_SM80_GROUP_BYTES(128, 64, 4), 2, KERNELS("sequence64_4")},
    {NVFP4_M_MAX, 64, 128, 128, CUDA_SM80_GROUP_BYTES(128, 64, 3), 2, KERNELS("sequence64_3")}};
static const many_kernel split[MANY_KERNELS] = {{16, 16, 32, 32, CUDA_SM80_GROUP_BYTES(32, 16, 3), 1, KERNELS("split16")},
                                                {32, 32, 32, 32, CUDA_SM80_GROUP_BYTES(32, 32, 2), 1, KERNELS("split32")},
                                                {NVFP4_M_MAX, 64, 32, 32, CUDA_SM80_GROUP_BYTES(32, 64, 2), 1, KERNELS("split64")},
                                                {NVFP4_M_MAX, 32, 32, 32, CUDA_SM80_GROUP_BYTES(32, 32, 2), 1, KERNELS("split32")}};

static nvfp4_status is_supported(const nvfp4_machine *machine, nvfp4_reason *reason) { return cuda_is_supported(machine, 80, 0, reason); }

static int64_t ceiling(int64_t a, int64_t b) { return (a + b - 1) / b; }

static nvfp4_status launch(const nvfp4_host *host, const nvfp4_cuda_kernel *kernel, int64_t blocks, int64_t threads, int64_t shared_bytes,
                           cuda_mma_args *a, nvfp4_cu_stream stream, nvfp4_reason *reason) {
  const nvfp4_cu_launch launch = {.grid_x = (unsigned)blocks,
                                  .grid_y = 1,
                                  .grid_z = 1,
                                  .block_x = (unsigned)threads,
                                  .block_y = 1,
                                  .block_z = 1,
                                  .shared_bytes = (unsigned)shared_bytes,
                                  .stream = stream};
  void *parameters[] = {a};
  return nvfp4_cuda_launch(host->cuda, kernel, &launch, parameters, reason);
}

static nvfp4_status launch_few(const nvfp4_host *host, cuda_mma_args *a, int type, int multiprocessors, int shared_bytes_most,
                               nvfp4_cu_stream stream, nvfp4_reason *reason) {
  const int64_t row_tiles = ceiling(a->n, 16), each = ceiling(row_tiles, multiprocessors), most = FEW_THREADS / 32 / a->slices;
  const int64_t here = each < most ? each : most, threads = here * a->slices * 32; /* row tiles of a block */
  const few_kernel *few = few_kernels;
  while (few->threads < threads) {
    few++;
  }
  const int64_t shared_bytes = cuda_mma_few_shared_bytes(a, threads, FEW_M, few->depth, shared_bytes_most);
  const int64_t blocks = ceiling(row_tiles, here);
  return launch(host, &few->kernel[type], blocks < multiprocessors ? blocks : multiprocessors, threads, shared_bytes, a, stream, reason);
}

static const many_kernel *choose(const many_kernel kernels[MANY_KERNELS], int64_t m, int groups, int shared_bytes_most) {
  const many_kernel *k = kernels;
  while (k < &kernels[MANY_KERNELS - 1] && (m > k->m_last || k->blocks * groups * k->shared_bytes > shared_bytes_most)) {
    k++;
  }
  return k;
}

static nvfp4_status launch_many(const nvfp4_host *host, cuda_mma_args *a, int type, int multiprocessors, int shared_bytes_most,
                                nvfp4_cu_stream stream, nvfp4_reason *reason) {
  const many_kernel *many = choose(sequence, a->m, 1, shared_bytes_most);
  int groups = 1;
  /* Three quarters: a block of SPLIT brings more of x for the same number of sums. */
  if (a->slices > 1 && ceiling(a->n, many->rows) * ceiling(a->m, many->columns) * 4 < 3 * (int64_t)multiprocessors) {
    groups = a->slices;
    many = choose(split, a->m, groups, shared_bytes_most);
  }
  const int64_t tiles = ceiling(a->n, many->rows) * ceiling(a->m, many->columns);
  if (tiles > INT32_MAX) {
    return nvfp4_reject(reason, NVFP4_E_SHAPE, "M = %lld, N = %lld; one call computes at most 2^31 tiles of %d x %d: cut x into parts",
                        (long long)a->m, (long long)a->n, many->rows, many->columns);
  }
  return launch(host, &many->kernel[type], tiles, groups * many->threads, groups * many->shared_bytes, a, stream, reason);
}

static nvfp4_status apply_weights(const nvfp4_host *host, const nvfp4_packed *packed, const nvfp4_kernel_args *args, nvfp4_reason *reason) {
  const nvfp4_cu_api *api = nvfp4_cuda_api(host->cuda);
  nvfp4_cu_device device;
  int multiprocessors, shared_bytes_most;
  NVFP4_TRY(nvfp4_cuda_check(host->cuda, "cuCtxGetDevice", api->context_get_device(&device), reason));
  NVFP4_TRY(nvfp4_cuda_check(host->cuda, "cuDeviceGetAttribute",
                             api->device_get_attribute(&multiprocessors, NVFP4_CU_ATTRIBUTE_MULTIPROCESSOR_COUNT, device), reason));
  NVFP4_TRY(nvfp4_cuda_check(host->cuda, "cuDeviceGetAttribute",
                             api->device_get_attribute(&shared_bytes_most, NVFP4_CU_ATTRIBUTE_MOST_SHARED_BYTES_OF_BLOCK, device), reason));
  cuda_mma_args a;
  NVFP4_TRY(
      cuda_mma_arguments(host, packed, args, args->x, args->ldx_elems, args->workspace, cuda_mma_slices(args->n, args->k), &a, reason));
  const int type = args->x_dtype == NVFP4_DTYPE_BF16 ? 0 : 1;
  /* few_rows brings all of x before it begins: that pays where warps compute long slices of K. */
  return a.m <= FEW_M && a.slices <= 2 ? launch_few(host, &a, type, multiprocessors, shared_bytes_most, args->stream, reason)
                                       : launch_many(host, &a, type, multiprocessors, shared_bytes_most, args->stream, reason);
}

const nvfp4_kernel nvfp4_kernel_cuda_sm80_w4a16 = {
    .struct_size = sizeof(nvfp4_kernel),
    .id = "cuda_sm80_w4a16",
    .summary = "W4A16 on tensor cores of any NVIDIA GPU from Ampere on (Blackwell: by its PTX), one order of additions for all M",
    .layout = &nvfp4_layout_cuda_mma,
    .numerics = {NVFP4_MODE_W4A16, NVFP4_CLASS_BOUNDED, NVFP4_FLAG_BATCH_INVARIANT | NVFP4_FLAG_DETERMINISTIC,
                 "w4a16: " CUDA_MMA_ORDER_SLICES},
    .device = NVFP4_DEVICE_CUDA,
    .verified = "its PTX: NVIDIA H200, driver 580.159.04, CUDA 13.0, 2026-11-24; its code for sm_80: compiles; never executed by us",
    .is_supported = is_supported,
    .can_implement = cuda_mma_w4a16_can_implement,
    .workspace_bytes = cuda_mma_x_bytes,
    .apply_weights = apply_weights,
};
