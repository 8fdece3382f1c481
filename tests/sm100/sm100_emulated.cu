/* SPDX-License-Identifier: Apache-2.0 */
// archs: sm_90a
/* The device code of cuda_sm100_w4a4 for Hopper, tensor memory and MMAs emulated: TMA, barriers, the walk over tiles and slices, clusters and the epilogue are the kernel's. */
#include "emulated.cuh"
#include "../../src/kernels/cuda/sm100_w4a4.cu"
