/* SPDX-License-Identifier: Apache-2.0 */
/* The products of a slice of K, by one warpgroup: dequantised weights as operand A in registers, x as operand B in shared memory. Order of memory: async.cuh, "A ring of stages". */
#ifndef NVFP4_KERNELS_CUDA_SM90_SLICE_CUH
#define NVFP4_KERNELS_CUDA_SM90_SLICE_CUH

#include "kernels/cuda/sm90.cuh"

struct no_turn {
  __device__ void begin() const {}
  __device__ void end() const {}
};

/*
 * d = the products of one slice of K: the next `count` stages of the ring, of whose weights the warpgroup computes tile `tile`. Where warpgroups take turns to issue MMAs, `turn` begins and ends one.
 * RING: x(), weights(), full() and empty() are addresses of the stage that it is at, of which `phase` is the phase; next() goes on.
 */
template <class X, int COLUMNS, int BUFFERS, class RING, class TURN>
__device__ inline void multiply_slice(float (&d)[COLUMNS / 2], RING &ring, int count, int tile, const TURN &turn) {
  const int warp = threadIdx.x / 32 % 4, lane = threadIdx.x % 32;
  const uint32_t codes_of_lane = tile * CUDA_MMA_TILE_BYTES + warp * 1024 + lane * 16;
  const uint32_t scales_of_lane = tile * CUDA_MMA_TILE_BYTES + CUDA_MMA_SCALES_AT + warp * 128 + lane / 4 * 16;
  uint32_t before = 0; /* the stage before, whose MMAs may be under way */
#pragma unroll 1
  for (int pair = 0; pair < count; pair++) {
    barrier_wait(ring.full(), ring.phase);
    fragment w[BUFFERS][4];
#pragma unroll
    for (int block = 0; block < 2; block++) {
      uint4 words = load_shared_16(ring.weights() + codes_of_lane + block * 512);
      uint2 scales = load_shared_8(ring.weights() + scales_of_lane + block * 8); /* of slots g and g + 8 */
      fragment(&frag)[4] = w[block % BUFFERS];
      wgmma_wait<BUFFERS - 1>(); /* frag is free */
      asm volatile("" : "+r"(words.x), "+r"(words.y), "+r"(words.z), "+r"(words.w), "+r"(scales.x), "+r"(scales.y)::"memory");
      if (block == BUFFERS - 1) { /* nothing of the stage before is under way */
        __syncwarp();             /* lane 0 arrives for what all lanes have read */
        barrier_arrive_if(before, lane == 0 && pair > 0);
      }
      const uint32_t word[4] = {words.x, words.y, words.z, words.w};
      const uint2 s0 = X::scales(scales.x), s1 = X::scales(scales.y);
#pragma unroll
      for (int step = 0; step < 4; step++) {
        frag[step] = X::weights(word[step], scale_of_step(s0, step), scale_of_step(s1, step));
      }
      const uint32_t b = wgmma_descriptor(ring.x() + block * (COLUMNS * 128));
      turn.begin();
      wgmma_fence(frag);
#pragma unroll
      for (int step = 0; step < 4; step++) {
        wgmma<X, COLUMNS>::run(d, frag[step], b + step * WGMMA_STEP, pair > 0 || block > 0 || step > 0);
      }
      wgmma_commit();
      turn.end();
    }
    before = ring.empty();
    ring.next();
  }
  wgmma_wait<0>();
  __syncwarp();
  barrier_arrive_if(before, lane == 0);
#pragma unroll
  for (int j = 0; j < COLUMNS / 2; j++) {
    asm volatile("" : "+f"(d[j])::"memory"); /* not read before the wait */
  }
}

#endif
