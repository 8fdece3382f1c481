/* SPDX-License-Identifier: Apache-2.0 */
// archs 12.9: sm_120f
// archs 12.8: sm_120a
/* Device code of cuda_sm120_w4a4: the instruction, for the kernels of sm120.cuh. Which of them serves which M: sm120_w4a4.c. sm_120f is for compute capability 12.0 and 12.1, sm_120a for 12.0. */
#include "kernels/cuda/sm120.cuh"

/* d += A B, with a scale for each 16 k's of a row and of a column (PTX manual, "mma with block scaling"): e2m1 codes, ue4m3 scales, fp32 sums. */
struct sm120_mma {
  static __device__ void run(float (&d)[4], const uint4 &a, uint32_t a_scales, uint32_t b0, uint32_t b1, uint32_t b_scales) {
    asm volatile(
        "mma.sync.aligned.kind::mxf4nvf4.block_scale.scale_vec::4X.m16n8k64.row.col.f32.e2m1.e2m1.f32.ue4m3 "
        "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3}, {%10}, {%12, %12}, {%11}, {%12, %12};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a.x), "r"(a.y), "r"(a.z), "r"(a.w), "r"(b0), "r"(b1), "r"(a_scales), "r"(b_scales), "n"(0));
  }
};

SM120_SHAPES(NVFP4_SM120_KERNEL)
