/* SPDX-License-Identifier: Apache-2.0 */
/*
 * flashinfer_trtllm, the packed layout of TensorRT-LLM's FP4 kernels: that of host->cuda_fp4 with the rows of each 32 in another order, codes and scales alike. The kernels compute y transposed, and in this order a
 * thread's results are neighbours in y.
 *
 *   row 8 * (r % 4) + r / 4 of 32 holds what was row r
 *
 * Source: shuffle_matrix_a and shuffle_matrix_sf_a of FlashInfer 0.7.2 (flashinfer/utils.py, srcToDstBlk32RowMap) with epilogue_tile_m = 128, which is what vLLM gives. Scales are shuffled before they are put into
 * tiles; as 32 rows are a quarter of a tile, that is the same as shuffling the 16-byte rows of a tile, which hold rows r, r + 32, r + 64 and r + 96.
 */
#ifndef NVFP4_PLUGINS_FLASHINFER_TRTLLM_LAYOUT_H
#define NVFP4_PLUGINS_FLASHINFER_TRTLLM_LAYOUT_H

#include <nvfp4/kernel.h>

extern const nvfp4_layout flashinfer_layout_trtllm;

/* host->cuda_fp4's packed_bytes, which is asked for without a host. */
void flashinfer_layout_trtllm_base(const nvfp4_layout *cuda_fp4);

#endif
