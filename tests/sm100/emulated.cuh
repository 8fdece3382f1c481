/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The functions of src/kernels/cuda/tcgen05.cuh for GPUs without tensor memory: it is in global memory, one for each multiprocessor, of which a thread block of sm100.cuh takes all shared memory. The
 * warp computes what the tensor cores would, at once, from the shared memory and the tensor memory that descriptors and addresses say (model.h). To be included before the kernel.
 */
#ifndef NVFP4_TESTS_TCGEN05_EMULATED_CUH
#define NVFP4_TESTS_TCGEN05_EMULATED_CUH

#define NVFP4_EMULATE_TCGEN05
#include "../../src/kernels/cuda/async.cuh"
#include "../../src/kernels/cuda/mma.cuh"
#include "model.h"

enum { EMULATED_MULTIPROCESSORS = 160, EMULATED_COLUMNS = 512, EMULATED_LANES = 128 };

__device__ static uint32_t emulated_tensor_memory[EMULATED_MULTIPROCESSORS][EMULATED_COLUMNS][EMULATED_LANES];

/* Mostly short, in one of eight cases longer than an MMA takes here: so that the warps of a block meet in other orders each time. */
__device__ inline void emulated_delay() {
  const unsigned random = (unsigned)clock64() * 2654435761u;
  __nanosleep(random >> 29 == 0 ? 400000 : random >> 24 & 255);
  __syncwarp();
}

/* The word at an address: lane << 16 | column. */
__device__ inline uint32_t *emulated_word(uint32_t address, uint32_t lane = 0) {
  unsigned multiprocessor;
  asm volatile("mov.u32 %0, %%smid;" : "=r"(multiprocessor));
  if (multiprocessor >= EMULATED_MULTIPROCESSORS || (address & 0xFFFF) >= EMULATED_COLUMNS || (address >> 16) + lane >= EMULATED_LANES) {
    __trap();
  }
  return &emulated_tensor_memory[multiprocessor][address & 0xFFFF][(address >> 16) + lane];
}

/* At an address as descriptors have it: of the block's own shared memory. */
__device__ inline uint32_t emulated_shared_word(uint32_t address) {
  extern __shared__ uint8_t own[];
  uint32_t v;
  asm volatile("ld.shared.u32 %0, [%1];" : "=r"(v) : "r"((shared_address(own) & ~0x3FFFFu) + address) : "memory");
  return v;
}

__device__ inline void tensor_alloc(uint32_t address_to) {
  for (uint32_t i = threadIdx.x % 32; i < EMULATED_COLUMNS * EMULATED_LANES; i += 32) {
    *emulated_word(i % EMULATED_LANES << 16 | i / EMULATED_LANES) = 0x7FFFFFFF; /* NaN, as fp32 and as scales */
  }
  if (threadIdx.x % 32 == 0) {
    asm volatile("st.shared.u32 [%0], %1;" ::"r"(address_to), "r"(0) : "memory");
  }
  __syncwarp();
}
__device__ inline void tensor_free(uint32_t) {}
__device__ inline void tensor_before_barrier() {}
__device__ inline void tensor_after_barrier() {}

__device__ inline void tensor_copy_scales(uint32_t to, uint64_t scales) {
  if (!tcgen05_descriptor_is_valid(scales)) {
    __trap();
  }
  for (uint32_t word = 0; word < 4; word++) {
    const uint32_t v = emulated_shared_word(tcgen05_address(scales, threadIdx.x % 32, 4 * word));
    for (uint32_t part = 0; part < 4; part++) { /* of the lanes */
      *emulated_word(to + word, 32 * part + threadIdx.x % 32) = v;
    }
  }
  __syncwarp();
}

/* 64 k's of a row: twice its E2M1 values, four to a word, and their scales. */
struct emulated_row {
  int words[16];
  float scales[4];
  __device__ emulated_row(uint64_t descriptor, uint32_t scales_at, uint32_t row) {
    const uint32_t bytes = *emulated_word(scales_at + tcgen05_scale_column(row), row % 32);
#pragma unroll
    for (uint32_t i = 0; i < 8; i++) {
      const uint32_t codes = emulated_shared_word(tcgen05_address(descriptor, row, 4 * i));
      words[2 * i] = e2m1_doubled_x4(codes & 0xFFFF);
      words[2 * i + 1] = e2m1_doubled_x4(codes >> 16);
    }
#pragma unroll
    for (int i = 0; i < 4; i++) {
      scales[i] = e4m3_to_f32(bytes >> 8 * i & 0x7F);
    }
  }
};

__device__ inline void tensor_multiply(uint32_t d, uint64_t a, uint64_t b, uint32_t instruction, uint32_t a_scales, uint32_t b_scales, bool add) {
  if (!tcgen05_instruction_is_valid(instruction) || !tcgen05_descriptor_is_valid(a) || !tcgen05_descriptor_is_valid(b)) {
    __trap();
  }
  for (uint32_t lane = threadIdx.x % 32; lane < EMULATED_LANES; lane += 32) {
    const emulated_row w(a, a_scales, lane);
    for (uint32_t column = 0; column < tcgen05_instruction_n(instruction); column++) {
      const emulated_row x(b, b_scales, column);
      uint32_t *at = emulated_word(d + column, lane);
      float sum = add ? __uint_as_float(*at) : 0;
#pragma unroll
      for (int block = 0; block < 4; block++) {
        int dot = 0;
#pragma unroll
        for (int i = 4 * block; i < 4 * block + 4; i++) {
          dot = __dp4a(w.words[i], x.words[i], dot);
        }
        sum = __fmaf_rn(0.25f * (float)dot, w.scales[block] * x.scales[block], sum);
      }
      *at = __float_as_uint(sum);
    }
  }
  __syncwarp();
}

__device__ inline void tensor_commit(uint32_t barrier) {
  emulated_delay();
  barrier_arrive_if(barrier, threadIdx.x % 32 == 0);
}

__device__ inline void tensor_load(uint32_t from, float (&v)[16]) {
  emulated_delay();
  for (uint32_t i = 0; i < 16; i++) {
    v[i] = __uint_as_float(*emulated_word(from + i, threadIdx.x % 32));
  }
}

#endif
