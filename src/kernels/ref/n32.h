/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ref_n32, the packed layout of the ref kernels: tiles of 32 output rows, in which n runs fastest, so that plain C vectorises over n.
 *
 *   tile t = rows 32t .. 32t+31 (rows beyond n: zeros); block b = k's 16b .. 16b+15
 *
 *   data:  for each tile, for each block:   256 bytes of codes  [8 pairs of k][32 n]   low nibble = even k, high = odd k
 *                                            32 bytes of scales  [32 n]                 E4M3
 */
#ifndef NVFP4_KERNELS_REF_N32_H
#define NVFP4_KERNELS_REF_N32_H

#include <nvfp4/kernel.h>

#include "format/e2m1.h"
#include "format/e4m3.h"

enum { REF_TILE = 32, REF_BLOCK_CODES = NVFP4_BLOCK / 2 * REF_TILE, REF_BLOCK_BYTES = REF_BLOCK_CODES + REF_TILE };

extern const nvfp4_layout nvfp4_layout_ref_n32;

static inline int64_t ref_tiles(int64_t n) { return (n + REF_TILE - 1) / REF_TILE; }

/* Codes of block `block` of tile `tile`; the block's scales follow at + REF_BLOCK_CODES. */
static inline const uint8_t *ref_block(const nvfp4_packed *packed, int64_t tile, int64_t block) {
  return (const uint8_t *)packed->data + (tile * (packed->k / NVFP4_BLOCK) + block) * REF_BLOCK_BYTES;
}

/* Decodes a block: w2[i][n] = twice the E2M1 value of (k = 16 * block + i, n), sw[n] = the scale. Inlined into each kernel's clones. */
static inline void ref_decode_block(const uint8_t *bytes, int16_t w2[NVFP4_BLOCK][REF_TILE], float sw[REF_TILE]) {
  for (int pair = 0; pair < NVFP4_BLOCK / 2; pair++) {
    for (int n = 0; n < REF_TILE; n++) {
      w2[2 * pair][n] = (int16_t)nvfp4_e2m1_doubled(bytes[pair * REF_TILE + n] & 15);
      w2[2 * pair + 1][n] = (int16_t)nvfp4_e2m1_doubled(bytes[pair * REF_TILE + n] >> 4);
    }
  }
  for (int n = 0; n < REF_TILE; n++) {
    sw[n] = nvfp4_e4m3_to_f32(bytes[REF_BLOCK_CODES + n]);
  }
}

/* What both kernels answer. */
nvfp4_status ref_is_supported(const nvfp4_machine *machine, nvfp4_reason *reason);
nvfp4_status ref_can_implement(const nvfp4_layer_desc *desc, nvfp4_reason *reason);

/* Writes rows [m_first, m_first + rows) x the tile's columns of y from sums acc [rows][REF_TILE]: alpha, bias, one rounding. */
void ref_store_tile(const nvfp4_host *host, const nvfp4_kernel_args *args, int64_t tile, int64_t m_first, int64_t rows,
                    const float (*acc)[REF_TILE]);

#endif
