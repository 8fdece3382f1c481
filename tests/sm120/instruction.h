/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mma.sync.m16n8k64 with block scales, scale_vec::4X, as the PTX manual has it (9.7.14.5, "Matrix fragments for mma.m16n8k64", and "Block scaling for mma.sync"): which lane has what. Written from
 * the manual, not from src/kernels/cuda/sm120_index.h, which it checks. For the host (tests/sm120/simulate.c) and the device (tests/sm120/sm120_emulated.cu). CUTLASS's traits of the same instruction
 * (SM120_16x8x64_TN_VS) say the same.
 */
#ifndef NVFP4_TESTS_SM120_INSTRUCTION_H
#define NVFP4_TESTS_SM120_INSTRUCTION_H

#ifdef __CUDACC__
#define INSTRUCTION_FUNCTION __device__ inline
#else
#define INSTRUCTION_FUNCTION static inline
#endif

enum { INSTRUCTION_ROWS = 16, INSTRUCTION_COLUMNS = 8, INSTRUCTION_K = 64, INSTRUCTION_SCALES = 4, LANES = 32 };

/* Register `i` of A (4) and of B (2): eight codes of a row or column, the first in the lowest nibble, of k's from here on. */
INSTRUCTION_FUNCTION int instruction_a_row(int lane, int i) { return (lane >> 2) + (i == 1 || i == 3 ? 8 : 0); }
INSTRUCTION_FUNCTION int instruction_a_k(int lane, int i) { return (lane & 3) * 8 + (i < 2 ? 0 : 32); }
INSTRUCTION_FUNCTION int instruction_b_column(int lane) { return lane >> 2; }
INSTRUCTION_FUNCTION int instruction_b_k(int lane, int i) { return (lane & 3) * 8 + (i == 0 ? 0 : 32); }

/* The lane whose register has a row's scales, with thread-id-a 0, and a column's, with thread-id-b 0; byte b is that of k's 16 b to 16 b + 15. */
INSTRUCTION_FUNCTION int instruction_lane_of_a_scale(int row) { return (row & 7) * 4 + (row >> 3); }
INSTRUCTION_FUNCTION int instruction_lane_of_b_scale(int column) { return column * 4; }

/* Value `i` of C and D (4). */
INSTRUCTION_FUNCTION int instruction_d_row(int lane, int i) { return (lane >> 2) + (i < 2 ? 0 : 8); }
INSTRUCTION_FUNCTION int instruction_d_column(int lane, int i) { return (lane & 3) * 2 + (i & 1); }

#endif
