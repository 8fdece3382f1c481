/* SPDX-License-Identifier: Apache-2.0 */
/* What layouts share that pack the rows of a layer in tiles, one after another in one allocation. */
#ifndef NVFP4_KERNELS_PACKING_H
#define NVFP4_KERNELS_PACKING_H

#include <nvfp4/kernel.h>

/* The argument of a task that packs tile `index`; the tile's bytes are not zeroed. */
typedef struct nvfp4_packing {
  const nvfp4_weights *weights;
  uint8_t *data; /* of the first tile, 64-byte aligned */
} nvfp4_packing;

/* A layout's process_weights_after_loading: `bytes` from the host, and `pack_tile` for each of `tiles`, in parallel. */
nvfp4_status nvfp4_pack_tiles(const nvfp4_host *host, const nvfp4_weights *weights, size_t bytes, size_t tiles, nvfp4_task_fn pack_tile,
                              nvfp4_packed *out, nvfp4_reason *reason);
/* A layout's free_packed. */
void nvfp4_free_packed(const nvfp4_host *host, nvfp4_packed *packed);

#endif
