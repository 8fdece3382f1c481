/* SPDX-License-Identifier: Apache-2.0 */
/* Quantised activations as bf16: an E2M1 value times an E4M3 value has 6 significant bits at most, so nothing is rounded. A thread a block of 16. */
#include "kernels/cuda/arguments.h"
#include "kernels/cuda/format.cuh"

extern "C" __global__ void nvfp4_dequantise(const cuda_dequantise_args a) {
  const long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= a.blocks) {
    return;
  }
  const uint2 codes = reinterpret_cast<const uint2 *>(a.codes)[i];
  const float scale = e4m3_to_f32(a.scales[i]);
  uint32_t x[NVFP4_BLOCK / 2];
#pragma unroll
  for (int j = 0; j < NVFP4_BLOCK / 2; j++) {
    const unsigned two = (j < 4 ? codes.x : codes.y) >> j % 4 * 8;
    const float low = __fmul_rn(e2m1_to_f32(two & 15), scale), high = __fmul_rn(e2m1_to_f32(two >> 4 & 15), scale);
    x[j] = __bfloat16_as_ushort(__float2bfloat16_rn(low)) | (uint32_t)__bfloat16_as_ushort(__float2bfloat16_rn(high)) << 16; /* exact */
  }
  uint4 *to = reinterpret_cast<uint4 *>(a.x) + 2 * i;
  to[0] = make_uint4(x[0], x[1], x[2], x[3]);
  to[1] = make_uint4(x[4], x[5], x[6], x[7]);
}
