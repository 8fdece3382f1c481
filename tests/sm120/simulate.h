/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The kernels of src/kernels/cuda/sm120.cuh on the CPU, thread block by thread block: copies to shared memory by stages, ldmatrix, the MMAs of each warp lane by lane, slices, y. Every place is
 * asked of sm120_index.h, as the device code does; what ldmatrix and the MMA do is written from the PTX manual (instruction.h).
 */
#ifndef NVFP4_TESTS_SM120_SIMULATE_H
#define NVFP4_TESTS_SM120_SIMULATE_H

#include "kernels/cuda/arguments.h"
#include "kernels/cuda/sm120_index.h"

/* A launch: `grid` thread blocks of `block` threads. If they are not what the shape needs nothing is written. */
void sm120_simulate(sm120_shape shape, const cuda_sm120_args *a, unsigned grid, unsigned block);

#endif
