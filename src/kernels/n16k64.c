/* SPDX-License-Identifier: Apache-2.0 */
#include "kernels/n16k64.h"

#include <string.h>

#include "kernels/packing.h"

static size_t packed_bytes(int64_t n, int64_t k, nvfp4_dtype weight_dtype) {
  (void)weight_dtype;
  return (size_t)(n16k64_row_tiles(n) * n16k64_k_tiles(k)) * N16K64_TILE_BYTES;
}

/* Canonical bytes of row n, block b (8 of codes) <-> its 8 bytes in a tile: byte j of the canonical form is k = 2j (low), 2j+1 (high). */
static void pack_codes(const uint8_t *from, uint8_t *block, int64_t n) {
  for (int half = 0; half < 2; half++) {
    for (int i = 0; i < 4; i++) {
      int low = from[4 * half + i / 2] >> (i % 2 * 4) & 15, high = from[4 * half + 2 + i / 2] >> (i % 2 * 4) & 15;
      block[half * 64 + n * 4 + i] = (uint8_t)(low | high << 4);
    }
  }
}

static void unpack_codes(const uint8_t *block, int64_t n, uint8_t *to) {
  for (int half = 0; half < 2; half++) {
    const uint8_t *lane = block + half * 64 + n * 4;
    for (int j = 0; j < 2; j++) {
      to[4 * half + j] = (uint8_t)((lane[2 * j] & 15) | (lane[2 * j + 1] & 15) << 4);
      to[4 * half + 2 + j] = (uint8_t)(lane[2 * j] >> 4 | (lane[2 * j + 1] & 0xF0));
    }
  }
}

static void pack_rows(void *arg, size_t row_tile) {
  const nvfp4_packing *job = arg;
  const nvfp4_weights *w = job->weights;
  int64_t k_tiles = n16k64_k_tiles(w->k), n_first = (int64_t)row_tile * N16K64_N;
  int64_t rows = w->n - n_first < N16K64_N ? w->n - n_first : N16K64_N;
  uint8_t *tiles = job->data + (int64_t)row_tile * k_tiles * N16K64_TILE_BYTES;
  memset(tiles, 0, (size_t)(k_tiles * N16K64_TILE_BYTES));
  for (int64_t n = 0; n < rows; n++) {
    const uint8_t *codes = w->codes + (n_first + n) * w->codes_stride_bytes;
    const uint8_t *scales = w->scales + (n_first + n) * w->scales_stride_bytes;
    for (int64_t block = 0; block < w->k / NVFP4_BLOCK; block++) {
      uint8_t *tile = tiles + block / N16K64_BLOCKS * N16K64_TILE_BYTES;
      int64_t b = block % N16K64_BLOCKS;
      tile[b * N16K64_N + n] = scales[block];
      pack_codes(codes + block * (NVFP4_BLOCK / 2), tile + N16K64_SCALES + b * N16K64_BLOCK_CODES, n);
    }
  }
}

static nvfp4_status process_weights_after_loading(const nvfp4_host *host, const nvfp4_process_args *args, nvfp4_packed *out,
                                                  nvfp4_reason *reason) {
  const nvfp4_weights *w = args->weights;
  return nvfp4_pack_tiles(host, w, packed_bytes(w->n, w->k, w->dtype), (size_t)n16k64_row_tiles(w->n), pack_rows, out, reason);
}

static nvfp4_status unpack(const nvfp4_host *host, const nvfp4_packed *packed, uint8_t *codes, uint8_t *scales, nvfp4_reason *reason) {
  (void)host;
  (void)reason;
  int64_t blocks = packed->k / NVFP4_BLOCK;
  for (int64_t n = 0; n < packed->n; n++) {
    for (int64_t block = 0; block < blocks; block++) {
      const uint8_t *tile = n16k64_tiles(packed, n / N16K64_N) + block / N16K64_BLOCKS * N16K64_TILE_BYTES;
      int64_t b = block % N16K64_BLOCKS;
      scales[n * blocks + block] = tile[b * N16K64_N + n % N16K64_N];
      unpack_codes(tile + N16K64_SCALES + b * N16K64_BLOCK_CODES, n % N16K64_N, codes + (n * blocks + block) * (NVFP4_BLOCK / 2));
    }
  }
  return NVFP4_OK;
}

const nvfp4_layout nvfp4_layout_n16k64 = {
    .struct_size = sizeof(nvfp4_layout),
    .name = "n16k64",
    .packed_bytes = packed_bytes,
    .process_weights_after_loading = process_weights_after_loading,
    .unpack = unpack,
    .free_packed = nvfp4_free_packed,
};
