/* SPDX-License-Identifier: Apache-2.0 */
/* Rows of an NVFP4 layer in the canonical form, from any layout; docs/formats.md has the pictures. */
#include <string.h>

#include "checkpoint/checkpoint.h"
#include "format/scale_layout.h"

/* The low nibbles of 8 bytes, together in the lower 32 bits; the high nibbles of each byte must be zero. */
static uint64_t gather(uint64_t nibbles) {
  nibbles = (nibbles | nibbles >> 4) & 0x00FF00FF00FF00FFu;
  nibbles = (nibbles | nibbles >> 8) & 0x0000FFFF0000FFFFu;
  return (nibbles | nibbles >> 16) & 0xFFFFFFFFu;
}

/* Blocks of 64 elements as ggml has them: in each 16, byte j holds element j low and element j + 8 high. */
static void read_gguf(const uint8_t *in, int64_t blocks, uint8_t *codes, uint8_t *scales) {
  for (int64_t i = 0; i < blocks; i++, in += GGUF_BLOCK_BYTES) {
    if (scales != NULL) {
      memcpy(scales + 4 * i, in, 4);
    }
    for (int64_t j = 0; codes != NULL && j < 4; j++) {
      uint64_t q;
      memcpy(&q, in + 4 + 8 * j, sizeof q);
      q = gather(q & 0x0F0F0F0F0F0F0F0Fu) | gather(q >> 4 & 0x0F0F0F0F0F0F0F0Fu) << 32;
      memcpy(codes + 32 * i + 8 * j, &q, sizeof q);
    }
  }
}

static void read_comfy(const uint8_t *in, const uint8_t *tiles, int64_t first, int64_t count, int64_t k, uint8_t *codes, uint8_t *scales) {
  int64_t blocks = k / NVFP4_BLOCK;
  const uint8_t *from = in + first * (k / 2);
  for (int64_t i = 0; codes != NULL && i < count * (k / 2); i++) {
    codes[i] = (uint8_t)(from[i] >> 4 | from[i] << 4);
  }
  for (int64_t row = 0; scales != NULL && row < count; row++) {
    for (int64_t block = 0; block < blocks; block++) {
      scales[row * blocks + block] = tiles[nvfp4_scale_offset(NVFP4_SCALES_128X4, blocks, first + row, block)];
    }
  }
}

void nvfp4_layer_read_rows(const nvfp4_checkpoint *checkpoint, const nvfp4_layer_info *layer, int64_t first, int64_t count, uint8_t *codes,
                           uint8_t *scales) {
  const uint8_t *weight = layer->weight->data;
  int64_t k = layer->k, code_bytes = k / 2, scale_bytes = k / NVFP4_BLOCK;
  if (layer->layout == NVFP4_LAYOUT_GGUF) {
    int64_t blocks = k / GGUF_BLOCK_ELEMS;
    read_gguf(weight + first * blocks * GGUF_BLOCK_BYTES, count * blocks, codes, scales);
    return;
  }
  const uint8_t *stored = nvfp4_layer_scales(checkpoint, layer)->data;
  if (layer->layout == NVFP4_LAYOUT_COMFY) {
    read_comfy(weight, stored, first, count, k, codes, scales);
    return;
  }
  if (codes != NULL) {
    memcpy(codes, weight + first * code_bytes, (size_t)(count * code_bytes));
  }
  if (scales != NULL) {
    memcpy(scales, stored + first * scale_bytes, (size_t)(count * scale_bytes));
  }
}
