/* SPDX-License-Identifier: Apache-2.0 */
#include "kernels/ref/n32.h"

#include <math.h>
#include <string.h>

#include "kernels/packing.h"
#include "kernels/ref/spec.h"

static size_t packed_bytes(int64_t n, int64_t k, nvfp4_dtype weight_dtype) {
  (void)weight_dtype;
  return (size_t)ref_tiles(n) * (size_t)(k / NVFP4_BLOCK) * REF_BLOCK_BYTES;
}

static void pack_tile(void *arg, size_t tile) {
  const nvfp4_packing *job = arg;
  const nvfp4_weights *w = job->weights;
  int64_t blocks = w->k / NVFP4_BLOCK, n_first = (int64_t)tile * REF_TILE;
  int64_t rows = w->n - n_first < REF_TILE ? w->n - n_first : REF_TILE;
  uint8_t *out = job->data + tile * (size_t)blocks * REF_BLOCK_BYTES;
  memset(out, 0, (size_t)blocks * REF_BLOCK_BYTES);
  for (int64_t n = 0; n < rows; n++) {
    const uint8_t *codes = w->codes + (n_first + n) * w->codes_stride_bytes;
    const uint8_t *scales = w->scales + (n_first + n) * w->scales_stride_bytes;
    for (int64_t block = 0; block < blocks; block++) {
      uint8_t *to = out + block * REF_BLOCK_BYTES;
      for (int pair = 0; pair < NVFP4_BLOCK / 2; pair++) {
        to[pair * REF_TILE + n] = codes[block * (NVFP4_BLOCK / 2) + pair];
      }
      to[REF_BLOCK_CODES + n] = scales[block];
    }
  }
}

static nvfp4_status process_weights_after_loading(const nvfp4_host *host, const nvfp4_process_args *args, nvfp4_packed *out,
                                                  nvfp4_reason *reason) {
  const nvfp4_weights *w = args->weights;
  return nvfp4_pack_tiles(host, w, packed_bytes(w->n, w->k, w->dtype), (size_t)ref_tiles(w->n), pack_tile, out, reason);
}

static nvfp4_status unpack(const nvfp4_host *host, const nvfp4_packed *packed, uint8_t *codes, uint8_t *scales, nvfp4_reason *reason) {
  (void)host;
  (void)reason;
  int64_t blocks = packed->k / NVFP4_BLOCK;
  for (int64_t n = 0; n < packed->n; n++) {
    for (int64_t block = 0; block < blocks; block++) {
      const uint8_t *from = ref_block(packed, n / REF_TILE, block) + n % REF_TILE;
      for (int pair = 0; pair < NVFP4_BLOCK / 2; pair++) {
        codes[(n * blocks + block) * (NVFP4_BLOCK / 2) + pair] = from[pair * REF_TILE];
      }
      scales[n * blocks + block] = from[REF_BLOCK_CODES];
    }
  }
  return NVFP4_OK;
}

const nvfp4_layout nvfp4_layout_ref_n32 = {
    .struct_size = sizeof(nvfp4_layout),
    .name = "ref_n32",
    .packed_bytes = packed_bytes,
    .process_weights_after_loading = process_weights_after_loading,
    .unpack = unpack,
    .free_packed = nvfp4_free_packed,
};

nvfp4_status ref_is_supported(const nvfp4_machine *machine, nvfp4_reason *reason) {
  (void)machine; /* plain C: any processor */
  (void)reason;
  return NVFP4_OK;
}

nvfp4_status ref_can_implement(const nvfp4_layer_desc *desc, nvfp4_reason *reason) {
  (void)desc; /* any N, any K that is a multiple of 16, any M, all element types */
  (void)reason;
  return NVFP4_OK;
}

void ref_store_tile(const nvfp4_host *host, const nvfp4_kernel_args *args, int64_t tile, int64_t m_first, int64_t rows,
                    const float (*acc)[REF_TILE]) {
  int64_t n_first = tile * REF_TILE;
  int64_t columns = args->n - n_first < REF_TILE ? args->n - n_first : REF_TILE;
  size_t y_bytes = args->y_dtype == NVFP4_DTYPE_F32 ? 4 : 2;
  float bias[REF_TILE], v[REF_TILE];
  if (args->bias != NULL) {
    size_t bias_bytes = args->bias_dtype == NVFP4_DTYPE_F32 ? 4 : 2;
    host->to_f32((const char *)args->bias + (size_t)n_first * bias_bytes, args->bias_dtype, bias, columns);
  }
  for (int64_t m = 0; m < rows; m++) {
    for (int64_t n = 0; n < columns; n++) {
      v[n] = nvfp4_spec_finish(acc[m][n], args->alpha[n_first + n], args->bias != NULL ? &bias[n] : NULL);
    }
    char *y = (char *)args->y + (size_t)((m_first + m) * args->ldy_elems + n_first) * y_bytes;
    host->from_f32(v, args->y_dtype, y, columns);
  }
}
