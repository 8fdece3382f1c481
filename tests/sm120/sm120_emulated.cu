/* SPDX-License-Identifier: Apache-2.0 */
// archs: sm_90 compute_90
// spills: decoding takes registers, and speed is not asked for
/* The kernels of cuda_sm120_w4a4 with nothing but the instruction replaced, for GPUs from Hopper on: four MMAs of 16 k's with bf16. A code times its scale has at most 6 significant bits and is
 * exact in bf16; which k's are in which MMA does not matter, as long as A and B agree: each takes four of the eight codes of a register, with their own block's scale. */
#include "instruction.h"
#include "kernels/cuda/sm120.cuh"

struct sm120_mma {
  /* Codes `first` and the next of a register, times a scale, as two bf16 numbers. */
  static __device__ uint32_t pair(uint32_t codes, int first, float scale) {
    const float low = __fmul_rn(e2m1_to_f32(codes >> 4 * first & 15), scale), high = __fmul_rn(e2m1_to_f32(codes >> (4 * first + 4) & 15), scale);
    return __bfloat16_as_ushort(__float2bfloat16_rn(low)) | (uint32_t)__bfloat16_as_ushort(__float2bfloat16_rn(high)) << 16;
  }

  static __device__ void run(float (&d)[4], const uint4 &a, uint32_t a_scales, uint32_t b0, uint32_t b1, uint32_t b_scales) {
    const int lane = threadIdx.x % 32;
    const uint32_t codes[4] = {a.x, a.y, a.z, a.w}, columns[2] = {b0, b1};
    const uint32_t scales[2] = {__shfl_sync(~0u, a_scales, instruction_lane_of_a_scale(instruction_a_row(lane, 0))),
                                __shfl_sync(~0u, a_scales, instruction_lane_of_a_scale(instruction_a_row(lane, 1)))};
    const uint32_t column_scales = __shfl_sync(~0u, b_scales, instruction_lane_of_b_scale(instruction_b_column(lane)));
    auto scale = [](uint32_t four, int k) { return e4m3_to_f32(four >> k / 16 * 8 & 0xFF); };
    for (int half = 0; half < 2; half++) {
      const float s0 = scale(scales[0], instruction_a_k(lane, 2 * half)), s1 = scale(scales[1], instruction_a_k(lane, 2 * half + 1));
      const float sb = scale(column_scales, instruction_b_k(lane, half));
      for (int four = 0; four < 8; four += 4) {
        const fragment f = {{pair(codes[2 * half], four, s0), pair(codes[2 * half + 1], four, s1), pair(codes[2 * half], four + 2, s0),
                             pair(codes[2 * half + 1], four + 2, s1)}};
        bf16::mma(d, f, pair(columns[half], four, sb), pair(columns[half], four + 2, sb));
      }
    }
  }
};

SM120_SHAPES(NVFP4_SM120_KERNEL)
