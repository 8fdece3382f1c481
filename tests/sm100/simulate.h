/* SPDX-License-Identifier: Apache-2.0 */
/* The device code of cuda_sm100_w4a4 on the CPU: its loops, over a simulated multiprocessor whose TMA, tensor memory and MMA read what descriptors, tensor maps and addresses say. */
#ifndef NVFP4_TESTS_TCGEN05_SIMULATE_H
#define NVFP4_TESTS_TCGEN05_SIMULATE_H

#include "cuda/api.h"
#include "kernels/cuda/sm100_tile.h"

/* Bits that are turned round in what the kernel makes, to see that they matter; all zero: the kernel. */
typedef struct sm100_fault {
  uint64_t operand, scales; /* of descriptors */
  uint32_t instruction, scale_column;
  bool copies_unswizzled;
} sm100_fault;

/* A tensor map as the mock driver encodes it: address, sizes [2], bytes from row to row, box [2], data type, swizzle. */
typedef uint64_t sm100_map[16];

void sm100_simulate(const cuda_sm100_args *args, const sm100_map *weights, const sm100_map *x, const sm100_fault *fault);

#endif
