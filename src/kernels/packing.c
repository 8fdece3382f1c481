/* SPDX-License-Identifier: Apache-2.0 */
#include "kernels/packing.h"

#include "base/reason.h"

nvfp4_status nvfp4_pack_tiles(const nvfp4_host *host, const nvfp4_weights *weights, size_t bytes, size_t tiles, nvfp4_task_fn pack_tile,
                              nvfp4_packed *out, nvfp4_reason *reason) {
  uint8_t *data = host->alloc(host->cookie, bytes, 64);
  if (data == NULL) {
    return nvfp4_reject(reason, NVFP4_E_NOMEM, "out of memory: %zu bytes for the packed weights", bytes);
  }
  nvfp4_packing packing = {weights, data};
  host->parallel_for(host->cookie, tiles, pack_tile, &packing);
  *out = (nvfp4_packed){.struct_size = sizeof *out, .data = data, .data_bytes = bytes, .n = weights->n, .k = weights->k};
  return NVFP4_OK;
}

void nvfp4_free_packed(const nvfp4_host *host, nvfp4_packed *packed) {
  host->free(host->cookie, packed->data, packed->data_bytes);
  packed->data = NULL;
}
