/* SPDX-License-Identifier: Apache-2.0 */
#include "kernels/cuda/fp4_layout.h"

#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/reason.h"
#include "cuda/cuda.h"
#include "format/scale_layout.h"
#include "kernels/cuda/quantise.h"

enum { ALPHA_IS_UNIFORM, ALPHA_BITS }; /* private_elems */

int64_t cuda_fp4_padded_n(int64_t n) { return nvfp4_round_up(n, CUDA_FP4_ROWS); }

int64_t cuda_fp4_padded_k(int64_t k) { return nvfp4_round_up(k, CUDA_FP4_K); }

/* Whole tiles: a multiple of 128 x 32. */
static size_t codes_bytes(int64_t n, int64_t k) { return (size_t)cuda_fp4_padded_n(n) * (size_t)(cuda_fp4_padded_k(k) / 2); }

static size_t scales_bytes(int64_t n, int64_t k) { return nvfp4_scales_bytes(NVFP4_SCALES_128X4, n, k / NVFP4_BLOCK); }

static size_t packed_bytes(int64_t n, int64_t k, nvfp4_dtype dtype) {
  (void)dtype; /* no dense weights */
  return codes_bytes(n, k) + scales_bytes(n, k);
}

const uint8_t *cuda_fp4_codes(const nvfp4_packed *packed) { return packed->data; }

const uint8_t *cuda_fp4_scales(const nvfp4_packed *packed) { return (const uint8_t *)packed->data + codes_bytes(packed->n, packed->k); }

bool cuda_fp4_uniform_alpha(const nvfp4_packed *packed, float *alpha) {
  const uint32_t bits = (uint32_t)packed->private_elems[ALPHA_BITS];
  memcpy(alpha, &bits, sizeof bits);
  return packed->private_elems[ALPHA_IS_UNIFORM] != 0;
}

/* Reads alpha [n] back, which waits for the stream: once a layer. */
static nvfp4_status find_alpha(const nvfp4_host *host, const float *alpha, nvfp4_packed *packed, void *stream, nvfp4_reason *reason) {
  const size_t bytes = (size_t)packed->n * sizeof(uint32_t);
  if (alpha == NULL) {
    return NVFP4_OK; /* no input global: no W4A4 kernel will serve */
  }
  uint32_t *bits = malloc(bytes);
  if (bits == NULL) {
    return nvfp4_reject(reason, NVFP4_E_NOMEM, "out of memory for a layer of %lld rows", (long long)packed->n);
  }
  nvfp4_status status = nvfp4_cuda_copy_rows(host->cuda, bits, bytes, alpha, bytes, bytes, 1, stream, reason);
  if (status == NVFP4_OK) {
    status = nvfp4_cuda_check(host->cuda, "cuStreamSynchronize", nvfp4_cuda_api(host->cuda)->stream_synchronize(stream), reason);
  }
  if (status == NVFP4_OK) {
    bool uniform = true;
    for (int64_t n = 1; n < packed->n; n++) {
      uniform = uniform && bits[n] == bits[0];
    }
    packed->private_elems[ALPHA_IS_UNIFORM] = uniform;
    packed->private_elems[ALPHA_BITS] = bits[0];
  }
  free(bits);
  return status;
}

/* The activation quantiser, given what is quantised already, pads and swizzles. It leaves the rows beyond n, which lie behind the others. */
static nvfp4_status fill(const nvfp4_host *host, const nvfp4_process_args *args, nvfp4_packed *packed, nvfp4_reason *reason) {
  const nvfp4_weights *w = args->weights;
  const nvfp4_quantised_x canonical = {.codes = w->codes,
                                       .codes_stride_bytes = w->codes_stride_bytes,
                                       .scales = w->scales,
                                       .scale_layout = NVFP4_SCALES_LINEAR,
                                       .scales_stride_bytes = w->scales_stride_bytes};
  const nvfp4_kernel_args repack = {.struct_size = sizeof repack, .m = w->n, .k = w->k, .quantised_x = &canonical, .stream = args->stream};
  uint8_t *codes = packed->data, *scales = codes + codes_bytes(w->n, w->k);
  NVFP4_TRY(cuda_quantise(host, &repack, cuda_fp4_padded_k(w->k), NVFP4_SCALES_128X4, codes, scales, reason));
  uint8_t *beyond = codes + w->n * (cuda_fp4_padded_k(w->k) / 2);
  if (beyond < scales) {
    NVFP4_TRY(nvfp4_cuda_check(
        host->cuda, "cuMemsetD8Async",
        nvfp4_cuda_api(host->cuda)->fill((nvfp4_cu_address)(uintptr_t)beyond, 0, (size_t)(scales - beyond), args->stream), reason));
  }
  return find_alpha(host, args->alpha_w4a4, packed, args->stream, reason);
}

static void free_packed(const nvfp4_host *host, nvfp4_packed *packed) {
  nvfp4_cuda_free(host->cuda, packed->data);
  packed->data = NULL;
}

static nvfp4_status process_weights_after_loading(const nvfp4_host *host, const nvfp4_process_args *args, nvfp4_packed *out,
                                                  nvfp4_reason *reason) {
  const nvfp4_weights *w = args->weights;
  nvfp4_packed packed = {.struct_size = sizeof packed, .data_bytes = packed_bytes(w->n, w->k, w->dtype), .n = w->n, .k = w->k};
  NVFP4_TRY(nvfp4_cuda_alloc(host->cuda, packed.data_bytes, &packed.data, reason));
  nvfp4_status status = fill(host, args, &packed, reason);
  if (status != NVFP4_OK) {
    free_packed(host, &packed);
    return status;
  }
  *out = packed;
  return NVFP4_OK;
}

static nvfp4_status unpack(const nvfp4_host *host, const nvfp4_packed *packed, uint8_t *codes, uint8_t *scales, nvfp4_reason *reason) {
  const size_t row = (size_t)packed->k / 2, row_padded = (size_t)cuda_fp4_padded_k(packed->k) / 2,
               tile_bytes = scales_bytes(packed->n, packed->k);
  uint8_t *tiles = malloc(tile_bytes);
  if (tiles == NULL) {
    return nvfp4_reject(reason, NVFP4_E_NOMEM, "out of memory: %zu bytes for block scales", tile_bytes);
  }
  nvfp4_cu_stream stream = NULL;
  nvfp4_status status = nvfp4_cuda_stream(host->cuda, &stream, reason);
  if (status == NVFP4_OK) {
    status = nvfp4_cuda_copy_rows(host->cuda, codes, row, cuda_fp4_codes(packed), row_padded, row, (size_t)packed->n, stream, reason);
  }
  if (status == NVFP4_OK) {
    status = nvfp4_cuda_copy_rows(host->cuda, tiles, tile_bytes, cuda_fp4_scales(packed), tile_bytes, tile_bytes, 1, stream, reason);
  }
  nvfp4_status finished = nvfp4_cuda_stream_finish(host->cuda, stream, status == NVFP4_OK ? reason : NULL);
  status = status != NVFP4_OK ? status : finished;
  if (status == NVFP4_OK) {
    nvfp4_scales_to_linear(NVFP4_SCALES_128X4, tiles, packed->n, packed->k / NVFP4_BLOCK, scales, packed->k / NVFP4_BLOCK);
  }
  free(tiles);
  return status;
}

const nvfp4_layout nvfp4_layout_cuda_fp4 = {
    .struct_size = sizeof(nvfp4_layout),
    .name = "cuda_fp4_128x4",
    .packed_bytes = packed_bytes,
    .process_weights_after_loading = process_weights_after_loading,
    .unpack = unpack,
    .free_packed = free_packed,
};

/* ----------------------------------------------------------------------------------------------------------------- activations */

static size_t x_codes_bytes(int64_t m, int64_t k) { return (size_t)nvfp4_round_up(m * (cuda_fp4_padded_k(k) / 2), CUDA_FP4_ALIGNMENT); }

static size_t x_scales_bytes(int64_t m, int64_t k, nvfp4_scale_layout layout) {
  return (size_t)nvfp4_round_up((int64_t)nvfp4_scales_bytes(layout, m, cuda_fp4_padded_k(k) / NVFP4_BLOCK), CUDA_FP4_ALIGNMENT);
}

size_t cuda_fp4_x_bytes(int64_t m, int64_t k, nvfp4_scale_layout layout) {
  return CUDA_FP4_ALIGNMENT + x_codes_bytes(m, k) + x_scales_bytes(m, k, layout); /* a workspace begins at a multiple of 64 */
}

nvfp4_status cuda_fp4_quantise(const nvfp4_host *host, const nvfp4_kernel_args *args, nvfp4_scale_layout layout, cuda_fp4_x *out,
                               nvfp4_reason *reason) {
  uint8_t *workspace = args->workspace;
  out->codes = workspace + (CUDA_FP4_ALIGNMENT - (uintptr_t)workspace % CUDA_FP4_ALIGNMENT) % CUDA_FP4_ALIGNMENT;
  out->scales = out->codes + x_codes_bytes(args->m, args->k);
  out->rest = out->scales + x_scales_bytes(args->m, args->k, layout);
  return cuda_quantise(host, args, cuda_fp4_padded_k(args->k), layout, out->codes, out->scales, reason);
}
