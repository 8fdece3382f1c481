/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The activation quantiser of docs/numerics.md on the device, bit for bit. A thread makes a block of 16: 8 bytes of codes and a scale, or what they stand for in bf16: an E2M1 value times an E4M3
 * value has 6 significant bits at most, so nothing is rounded.
 */
#include "kernels/cuda/mma.cuh"

/* The codes of 16 numbers, the first in the lowest nibble, and their scale. */
__device__ static unsigned long long quantise_block(const float (&x)[NVFP4_BLOCK], float s_a, unsigned *scale) {
  unsigned most = 0; /* max |x| by the bits: a NaN is above all numbers */
  for (int i = 0; i < NVFP4_BLOCK; i++) {
    most = max(most, __float_as_uint(x[i]) & 0x7FFFFFFFu);
  }
  *scale = e4m3_from_f32(__fmul_rn(s_a, __fmul_rn(__uint_as_float(most), 1.0f / 6.0f)));
  if (*scale == 0x7F) {
    return 0;
  }
  float f = e4m3_to_f32(*scale);
  float o = f != 0 ? __fdiv_rn(1.0f, __fmul_rn(f, __fdiv_rn(1.0f, s_a))) : 0.0f;
  unsigned long long codes = 0;
  for (int i = 0; i < NVFP4_BLOCK; i++) {
    codes |= (unsigned long long)e2m1_from_f32(__fmul_rn(x[i], o)) << 4 * i;
  }
  return codes;
}

/* x [16] = codes times scale. */
__device__ static void dequantise_block(unsigned long long codes, unsigned scale, uint16_t *x) {
  const float f = e4m3_to_f32(scale);
  uint32_t two[NVFP4_BLOCK / 2];
#pragma unroll
  for (int j = 0; j < NVFP4_BLOCK / 2; j++) {
    const float low = __fmul_rn(e2m1_to_f32((unsigned)(codes >> 8 * j) & 15), f), high = __fmul_rn(e2m1_to_f32((unsigned)(codes >> (8 * j + 4)) & 15), f);
    two[j] = __bfloat16_as_ushort(__float2bfloat16_rn(low)) | (uint32_t)__bfloat16_as_ushort(__float2bfloat16_rn(high)) << 16; /* exact */
  }
  uint4 *to = reinterpret_cast<uint4 *>(x);
  to[0] = make_uint4(two[0], two[1], two[2], two[3]);
  to[1] = make_uint4(two[4], two[5], two[6], two[7]);
}

extern "C" __global__ void nvfp4_quantise(const cuda_quantise_args a) {
  launch_dependents();
  wait_for_previous(); /* the kernels before this one make x, and read what this one writes over */
  long long blocks = a.k / NVFP4_BLOCK, i = (long long)blockIdx.x * blockDim.x + threadIdx.x;
  long long row = i / a.columns, block = i % a.columns;
  if (row >= a.rows) {
    return;
  }
  unsigned scale = 0;
  unsigned long long codes = 0;
  if (row < a.m && block < blocks) {
    if (a.x != nullptr) {
      float x[NVFP4_BLOCK];
      for (int j = 0; j < NVFP4_BLOCK; j++) {
        x[j] = load_f32(a.x, a.x_dtype, row * a.ldx_elems + block * NVFP4_BLOCK + j);
      }
      codes = quantise_block(x, a.s_a, &scale);
    } else {
      const uint8_t *from = a.q_codes + row * a.q_codes_stride + block * (NVFP4_BLOCK / 2); /* at any address */
      for (int j = 0; j < NVFP4_BLOCK / 2; j++) {
        codes |= (unsigned long long)from[j] << 8 * j;
      }
      scale = a.q_scale_layout == NVFP4_SCALES_LINEAR ? a.q_scales[row * a.q_scales_stride + block]
                                                      : a.q_scales[scale_offset(a.q_scale_layout, blocks, row, block)];
    }
    if (a.values != nullptr) {
      dequantise_block(codes, scale, a.values + (row * blocks + block) * NVFP4_BLOCK);
      return;
    }
  }
  if (row < a.m && block < a.code_columns) {
    *reinterpret_cast<unsigned long long *>(a.codes + (row * a.code_columns + block) * (NVFP4_BLOCK / 2)) = codes;
  }
  a.scales[scale_offset(a.scale_layout, a.columns, row, block)] = (uint8_t)scale;
}
