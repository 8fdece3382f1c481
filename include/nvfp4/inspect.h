/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the numbers of an NVFP4 layer say about the file they came from. Conventions as in nvfp4.h.
 *
 * A file that swaps nibbles, divides by its global scale where its format multiplies, or swizzles its block scales has sound bytes and wrong weights. Statistics show
 * that, where the weights of a trained model have structure:
 *
 *   global inverted   the weights' root mean square is larger than any model's, and with the reciprocal it is not
 *   swizzled scales   block scales depend on their row and on their column. How much of the variance of log2(scale) does that explain (R^2 of an analysis of
 *                     variance), as the scales lie, and if they lay in the 128x4 order? Scrambled, it is next to nothing.
 *   nibble order      the sizes of the columns of W follow what else the checkpoint says of these channels: the weights of the norms of the same block, the columns
 *                     of the embedding, the rows of the layer that feeds this one. Is the correlation there as the nibbles are read, or only in another order?
 *
 * Random weights have no such structure, and nothing is claimed of them. docs/formats.md has the rates of detection.
 */
#ifndef NVFP4_INSPECT_H
#define NVFP4_INSPECT_H

#include <nvfp4/nvfp4.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef enum nvfp4_suspicion {
  NVFP4_SUSPICION_BAD_SCALES = 1 << 0,      /* NaN or negative block scales: cannot be run */
  NVFP4_SUSPICION_GLOBAL_INVERTED = 1 << 1, /* a weight global that looks like the reciprocal of what its format wants */
  NVFP4_SUSPICION_SWIZZLED = 1 << 2,        /* scales in the 128x4 order where the format has them linear */
  NVFP4_SUSPICION_UNSWIZZLED = 1 << 3,      /* scales linear where the format has the 128x4 order */
  NVFP4_SUSPICION_NIBBLES_SWAPPED = 1 << 4, /* high and low nibble of each byte */
  NVFP4_SUSPICION_NIBBLES_HALVES =
      1 << 5,                         /* the order of GGUF (element j beside j + 8) where the format has pairs, or the other way round */
  NVFP4_SUSPICION_BAD_FACTOR = 1 << 6 /* FP8: a weight or input scale that is not finite and > 0, or NaN weights */
} nvfp4_suspicion;

/* "bad_scales", "global_inverted", "swizzled", "unswizzled", "nibbles_swapped", "nibbles_halves", "bad_factor"; NULL if bit is none. */
NVFP4_API const char *nvfp4_suspicion_name(uint32_t bit);

/* Correlations of column sizes with `reference`, in three orders of nibbles. */
typedef struct nvfp4_nibble_evidence {
  char reference[128]; /* a tensor, or the rows of a layer; empty: there is nothing to compare with */
  double as_read, swapped, halves;
} nvfp4_nibble_evidence;

typedef struct nvfp4_layer_inspection {
  /* Of every block. */
  uint64_t blocks;
  uint64_t scales[256]; /* how often each E4M3 byte is a block scale */
  uint64_t largest_6;   /* blocks whose largest |code| is 6, and 4: nearly all are one of these */
  uint64_t largest_4;
  uint64_t dead; /* blocks of which every weight is 0 */
  uint64_t lost; /* of these, those whose scale is 0 and whose codes are not */
  /* Of up to 512 rows, evenly spread: root mean square and largest magnitude of the dequantised weights. */
  double rms, largest;
  /* Share of the variance of log2(scale) that row and column explain, as the format has the scales, and if they were in the other order: 128x4 where it has
   * them linear, linear where (Comfy) it has 128x4. -1: not applicable (N % 128 or K % 64), or no variance. */
  double explained_as_read, explained_otherwise;
  nvfp4_nibble_evidence nibbles;
  uint32_t suspicions; /* nvfp4_suspicion bits */
  char text[1024];     /* what is suspected, with the evidence; empty: nothing */
} nvfp4_layer_inspection;

/* Looks at one layer: reads its weights once, beside samples of others in the checkpoint. An FP8 layer: its factors and NaN weights only; others: nothing to say. Memory: none for
 * formats that hold the canonical form, one layer's weights otherwise. The checkpoint may have been opened with NVFP4_OPEN_SKIP_SCALES. The result does not depend on the number
 * of threads. */
NVFP4_API nvfp4_status nvfp4_inspect_layer(nvfp4_context *context, const nvfp4_checkpoint *checkpoint, const nvfp4_layer_info *layer,
                                           nvfp4_layer_inspection *out, nvfp4_reason *reason);

#ifdef __cplusplus
}
#endif
#endif
