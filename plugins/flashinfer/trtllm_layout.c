/* SPDX-License-Identifier: Apache-2.0 */
#include "flashinfer/trtllm_layout.h"

#include <stdatomic.h>

#include "fp4.h"

enum { GROUP = 32, TILE_BYTES = 512, TILE_ROW_BYTES = 16 };

static _Atomic(const nvfp4_layout *) base;

void flashinfer_layout_trtllm_base(const nvfp4_layout *cuda_fp4) { atomic_store(&base, cuda_fp4); }

static size_t packed_bytes(int64_t n, int64_t k, nvfp4_dtype weight_dtype) { return atomic_load(&base)->packed_bytes(n, k, weight_dtype); }

/* Enqueues the copy of all rows of `from` to their places in `to`, or, if back, the inverse. */
static nvfp4_status shuffle(const nvfp4_host *host, const nvfp4_packed *to, const nvfp4_packed *from, bool back, void *stream,
                            nvfp4_reason *reason) {
  const int64_t rows = fp4_round_up(from->n, FP4_ROWS), row_bytes = fp4_round_up(from->k, FP4_K) / 2;
  const int64_t tiles = rows / FP4_ROWS * (fp4_round_up(from->k, FP4_K) / FP4_K);
  uint8_t *to_codes = to->data, *to_scales = to_codes + rows * row_bytes;
  const uint8_t *codes = from->data, *scales = codes + rows * row_bytes;
  for (int64_t r = 0; r < GROUP; r++) {
    const int64_t shuffled = 8 * (r % 4) + r / 4, target = back ? r : shuffled, source = back ? shuffled : r;
    nvfp4_status status =
        host->cuda_copy(host->cookie, to_codes + target * row_bytes, (size_t)(GROUP * row_bytes), codes + source * row_bytes,
                        (size_t)(GROUP * row_bytes), (size_t)row_bytes, (size_t)(rows / GROUP), stream, reason);
    if (status == NVFP4_OK) {
      status = host->cuda_copy(host->cookie, to_scales + target * TILE_ROW_BYTES, TILE_BYTES, scales + source * TILE_ROW_BYTES, TILE_BYTES,
                               TILE_ROW_BYTES, (size_t)tiles, stream, reason);
    }
    if (status != NVFP4_OK) {
      return status;
    }
  }
  return NVFP4_OK;
}

static nvfp4_status process_weights_after_loading(const nvfp4_host *host, const nvfp4_process_args *args, nvfp4_packed *out,
                                                  nvfp4_reason *reason) {
  nvfp4_packed plain = {0}, packed;
  nvfp4_status status = host->cuda_fp4->process_weights_after_loading(host, args, &plain, reason);
  if (status != NVFP4_OK) {
    return status;
  }
  packed = plain; /* with its size and what it knows of alpha */
  status = host->cuda_alloc(host->cookie, packed.data_bytes, &packed.data, reason);
  if (status == NVFP4_OK) {
    status = shuffle(host, &packed, &plain, false, args->stream, reason);
    nvfp4_status waited = host->cuda_wait(host->cookie, args->stream, status == NVFP4_OK ? reason : NULL); /* before `plain` goes */
    status = status != NVFP4_OK ? status : waited;
    if (status != NVFP4_OK) {
      host->cuda_free(host->cookie, packed.data);
    }
  }
  host->cuda_fp4->free_packed(host, &plain);
  if (status == NVFP4_OK) {
    *out = packed;
  }
  return status;
}

static nvfp4_status unpack(const nvfp4_host *host, const nvfp4_packed *packed, uint8_t *codes, uint8_t *scales, nvfp4_reason *reason) {
  nvfp4_packed plain = *packed;
  nvfp4_status status = host->cuda_alloc(host->cookie, packed->data_bytes, &plain.data, reason);
  if (status != NVFP4_OK) {
    return status;
  }
  status = shuffle(host, &plain, packed, true, NULL, reason);
  nvfp4_status waited = host->cuda_wait(host->cookie, NULL, status == NVFP4_OK ? reason : NULL);
  status = status != NVFP4_OK ? status : waited;
  if (status == NVFP4_OK) {
    status = host->cuda_fp4->unpack(host, &plain, codes, scales, reason);
  }
  host->cuda_free(host->cookie, plain.data);
  return status;
}

static void free_packed(const nvfp4_host *host, nvfp4_packed *packed) {
  host->cuda_free(host->cookie, packed->data);
  packed->data = NULL;
}

const nvfp4_layout flashinfer_layout_trtllm = {
    .struct_size = sizeof(nvfp4_layout),
    .name = "flashinfer_trtllm",
    .packed_bytes = packed_bytes,
    .process_weights_after_loading = process_weights_after_loading,
    .unpack = unpack,
    .free_packed = free_packed,
};
