/* SPDX-License-Identifier: Apache-2.0 */
#include "kernels/cuda/mma_layout.h"

#include "base/alloc.h"
#include "base/reason.h"
#include "cuda/cuda.h"
#include "kernels/cuda/arguments.h"

extern const unsigned char nvfp4_fatbin_mma_layout[];
static const nvfp4_cuda_kernel pack_kernel = {nvfp4_fatbin_mma_layout, "nvfp4_mma_pack"};
static const nvfp4_cuda_kernel unpack_kernel = {nvfp4_fatbin_mma_layout, "nvfp4_mma_unpack"};

static int64_t pairs_of(int64_t k) { return (k + CUDA_MMA_PAIR - 1) / CUDA_MMA_PAIR; }

static int64_t tiles_of(int64_t n, int64_t k) { return (n + CUDA_MMA_ROWS - 1) / CUDA_MMA_ROWS * pairs_of(k); }

int cuda_mma_slices(int64_t n, int64_t k) {
  enum { DEEP_PAIRS = 64 }; /* from there on M = 1 gains more by eight slices than greater M loses (docs/performance.md) */
  const int64_t row_tiles = (n + 15) / 16, each = (row_tiles + 131) / 132; /* of 132 multiprocessors */
  int slices = each == 1 || (each == 2 && pairs_of(k) > DEEP_PAIRS) ? 8 : each <= 8 ? 4 : 1;
  while (slices > pairs_of(k)) {
    slices /= 2;
  }
  return slices;
}

static size_t packed_bytes(int64_t n, int64_t k, nvfp4_dtype dtype) {
  (void)dtype; /* no dense weights */
  return (size_t)tiles_of(n, k) * CUDA_MMA_TILE_BYTES;
}

/* A thread block for each tile. */
static nvfp4_status launch(const nvfp4_host *host, const nvfp4_cuda_kernel *kernel, int64_t tiles, void *args, nvfp4_cu_stream stream,
                           nvfp4_reason *reason) {
  const nvfp4_cu_launch launch = {
      .grid_x = (unsigned)tiles, .grid_y = 1, .grid_z = 1, .block_x = CUDA_MMA_PACK_THREADS, .block_y = 1, .block_z = 1, .stream = stream};
  void *parameters[] = {args};
  return nvfp4_cuda_launch(host->cuda, kernel, &launch, parameters, reason);
}

static nvfp4_status process_weights_after_loading(const nvfp4_host *host, const nvfp4_process_args *args, nvfp4_packed *out,
                                                  nvfp4_reason *reason) {
  const nvfp4_weights *w = args->weights;
  const int64_t tiles = tiles_of(w->n, w->k);
  if (tiles > INT32_MAX) {
    return nvfp4_reject(reason, NVFP4_E_SHAPE,
                        "N = %lld, K = %lld; a layer of this layout has at most 2^31 tiles of %d x %d: cut it into parts", (long long)w->n,
                        (long long)w->k, CUDA_MMA_ROWS, CUDA_MMA_PAIR);
  }
  cuda_mma_pack_args a = {.n = w->n,
                          .k = w->k,
                          .codes = w->codes,
                          .scales = w->scales,
                          .codes_stride = w->codes_stride_bytes,
                          .scales_stride = w->scales_stride_bytes};
  const size_t bytes = packed_bytes(w->n, w->k, w->dtype);
  NVFP4_TRY(nvfp4_cuda_alloc(host->cuda, bytes, (void **)&a.packed, reason));
  nvfp4_status status = launch(host, &pack_kernel, tiles, &a, args->stream, reason);
  if (status != NVFP4_OK) {
    nvfp4_cuda_free(host->cuda, a.packed);
    return status;
  }
  *out = (nvfp4_packed){.struct_size = sizeof *out, .data = a.packed, .data_bytes = bytes, .n = w->n, .k = w->k};
  return NVFP4_OK;
}

static nvfp4_status unpack(const nvfp4_host *host, const nvfp4_packed *packed, uint8_t *codes, uint8_t *scales, nvfp4_reason *reason) {
  const size_t code_bytes = (size_t)packed->n * (size_t)(packed->k / 2),
               scale_bytes = (size_t)packed->n * (size_t)(packed->k / NVFP4_BLOCK);
  uint8_t *canonical;
  nvfp4_cu_stream stream = NULL;
  NVFP4_TRY(nvfp4_cuda_alloc(host->cuda, code_bytes + scale_bytes, (void **)&canonical, reason));
  nvfp4_status status = nvfp4_cuda_stream(host->cuda, &stream, reason);
  if (status == NVFP4_OK) {
    cuda_mma_unpack_args a = {.n = packed->n, .k = packed->k, .packed = packed->data, .codes = canonical, .scales = canonical + code_bytes};
    status = launch(host, &unpack_kernel, tiles_of(packed->n, packed->k), &a, stream, reason);
  }
  nvfp4_status finished = nvfp4_cuda_stream_finish(host->cuda, stream, status == NVFP4_OK ? reason : NULL);
  status = status != NVFP4_OK ? status : finished;
  if (status == NVFP4_OK) {
    status = nvfp4_cuda_copy_now(host->cuda, codes, canonical, code_bytes, reason);
  }
  if (status == NVFP4_OK) {
    status = nvfp4_cuda_copy_now(host->cuda, scales, canonical + code_bytes, scale_bytes, reason);
  }
  nvfp4_cuda_free(host->cuda, canonical);
  return status;
}

static void free_packed(const nvfp4_host *host, nvfp4_packed *packed) {
  nvfp4_cuda_free(host->cuda, packed->data);
  packed->data = NULL;
}

const nvfp4_layout nvfp4_layout_cuda_mma = {
    .struct_size = sizeof(nvfp4_layout),
    .name = "cuda_mma",
    .packed_bytes = packed_bytes,
    .process_weights_after_loading = process_weights_after_loading,
    .unpack = unpack,
    .free_packed = free_packed,
};
