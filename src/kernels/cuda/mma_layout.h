/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cuda_mma, the packed layout of the tensor-core kernels: weights lie in the order in which the lanes of a warp feed them to an MMA as operand A, and one layout serves every M.
 *
 *   data:  tiles of 64 rows x 128 k, [ceil(n / 256)][ceil(k / 128)][4]: of 256 rows (the last of them may be fewer tiles) those of the same k's are one piece; rows and k's beyond the
 *          layer are zero
 *   tile:  codes [4 row tiles of 16][2 blocks of 64 k][32 lanes][4 steps] of 32 bits, then scales [4 row tiles][8 g][2 blocks of 64 k][2 rows][4 steps] of 8 bits
 *
 * k. A step is an MMA with the 16 k's of one block scale, in natural order, so that x needs no other: lane 4 g + t has of slots g and g + 8 of a row tile the k's 2t, 2t + 1, 2t + 8 and
 * 2t + 9 of the 16. The lanes of the same g need the same scales: 16 bytes for 128 k's.
 *
 * Rows. Slots g and g + 8 of the MMA hold rows 4 (g / 2) + g % 2 and the one two further of the row tile: transposed, a lane's results are four neighbours in y.
 *
 * Codes. A 32-bit word holds two k's (one in each half) of (g, k 2t..), (g + 8, k 2t..), (g, k 2t + 8..), (g + 8, k 2t + 8..): parts 0 to 3. With r the word rotated right by 6, bits 15, 8, 7 and 6 of
 * the halves, where a bf16 has its sign, the lowest exponent bits and the highest of the fraction, are the codes (sign, exponent, fraction) of
 *
 *   part 0 in r, part 1 in word << 4, part 2 in r << 4, part 3 in word ^ word << 8
 *
 * so that four shifts and four LOP3 take the eight codes from a word. In a half, they lie at
 *
 *   part 0   5 of the other half, 14, 13, 12         part 2   1 of the other half, 10, 9, 8
 *   part 1   11, 4, 3, 2                             part 3   15, 0, 7, 6; to which is added, modulo 2, what lies 8 bits lower: 7, 8, and of the upper half 15, 14 of the lower one
 *
 * No four rotations read disjoint bits: 1 + z + z^2 + z^9, modulo z^16 - 1, divides no other polynomial of the kind to 1 + z + .. + z^15. Hence the sum in part 3.
 *
 * Scales. Positive E4M3 values as (exponent + 19) << 3 | fraction, subnormal ones normalised: shifted, this is the upper part of a bf16 or f16. Zero as 30 << 3: what is added to the exponent
 * makes that overflow into the sign, so that it becomes -0.
 */
#ifndef NVFP4_KERNELS_CUDA_MMA_LAYOUT_H
#define NVFP4_KERNELS_CUDA_MMA_LAYOUT_H

enum {
  CUDA_MMA_ROWS = 64, /* a tile */
  CUDA_MMA_GROUP = 4, /* tiles that lie together */
  CUDA_MMA_PAIR = 128,
  CUDA_MMA_TILE_BYTES = 4608,
  CUDA_MMA_SCALES_AT = 4096,
  CUDA_MMA_PACK_THREADS = 256 /* one tile */
};

#ifndef __CUDACC__
#include <nvfp4/kernel.h>

extern const nvfp4_layout nvfp4_layout_cuda_mma;

/*
 * Into how many slices kernels of this layout cut K, one after the other (slice i begins with pair i * pairs / slices): 1, 4 or 8, or 2 if K is short. It depends on N and K alone, so that the
 * order of additions is one for all M: few rows of weights need several warps each to keep 132 multiprocessors (an H100 or H200) at work.
 */
int cuda_mma_slices(int64_t n, int64_t k);
#endif

#endif
