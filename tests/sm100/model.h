/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What descriptors of tcgen05 and TMA's swizzle mean, as the PTX ISA has it ("Matrix descriptors", "Canonical layouts", "Instruction descriptor", "tcgen05.cp", "Swizzling modes"): written from the
 * manual and not from src, for the simulator and for the emulation on Hopper. What the kernel does not use is left out, and found to be invalid.
 */
#ifndef NVFP4_TESTS_TCGEN05_MODEL_H
#define NVFP4_TESTS_TCGEN05_MODEL_H

#include <stdbool.h>
#include <stdint.h>

#ifdef __CUDACC__
#define TCGEN05_MODEL static __host__ __device__ inline
#else
#define TCGEN05_MODEL static inline
#endif

/* Swizzle of 128 bytes: bits 4 to 6 of an address with bits 7 to 9. */
TCGEN05_MODEL uint32_t tcgen05_swizzle_128(uint32_t address) { return address ^ (address >> 7 & 7) << 4; }

/* Fields of a matrix descriptor, in bytes. */
TCGEN05_MODEL uint32_t tcgen05_start(uint64_t descriptor) { return (uint32_t)(descriptor & 0x3FFF) * 16; }
TCGEN05_MODEL uint32_t tcgen05_leading(uint64_t descriptor) { return (uint32_t)(descriptor >> 16 & 0x3FFF) * 16; }
TCGEN05_MODEL uint32_t tcgen05_stride(uint64_t descriptor) { return (uint32_t)(descriptor >> 32 & 0x3FFF) * 16; }

/* Version 1, no base offset, relative leading dimension; swizzle of 128 bytes, or none. */
TCGEN05_MODEL bool tcgen05_descriptor_is_valid(uint64_t descriptor) {
  return (descriptor >> 46 & 0x7FFF) == 1 && (descriptor >> 61 == 2 || descriptor >> 61 == 0) && (descriptor >> 14 & 3) == 0 &&
         (descriptor >> 30 & 3) == 0;
}

/* Byte `byte` of row `row` of a K-major matrix: groups of 8 rows, swizzled rows of 128 bytes; or, not swizzled, of 8 rows x 16 bytes. */
TCGEN05_MODEL uint32_t tcgen05_address(uint64_t descriptor, uint32_t row, uint32_t byte) {
  const uint32_t group = tcgen05_start(descriptor) + row / 8 * tcgen05_stride(descriptor);
  return descriptor >> 61 == 2 ? tcgen05_swizzle_128(group + row % 8 * 128 + byte)
                               : group + row % 8 * 16 + byte / 16 * tcgen05_leading(descriptor) + byte % 16;
}

/* kind::mxf4nvf4, block16: dense, K-major, E2M1 by E2M1, not negated, UE4M3, M = 128, K = 64; scales in the first byte. */
TCGEN05_MODEL bool tcgen05_instruction_is_valid(uint32_t instruction) {
  return (instruction & ~(0x3Fu << 17)) == (1u << 7 | 1u << 10 | 8u << 24);
}
TCGEN05_MODEL uint32_t tcgen05_instruction_n(uint32_t instruction) { return (instruction >> 17 & 0x3F) * 8; }

/* scale_vec::4X, scales of row (A) or column (B) `row`: column of tensor memory after the first; the lane is row % 32, the byte the block of 16 k's. */
TCGEN05_MODEL uint32_t tcgen05_scale_column(uint32_t row) { return row / 32; }

#endif
