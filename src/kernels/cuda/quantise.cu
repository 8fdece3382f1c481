/* SPDX-License-Identifier: Apache-2.0 */
/* The activation quantiser of docs/numerics.md on the device, bit for bit. A thread makes a block of 16: 8 bytes of codes and a scale. */
#include "kernels/cuda/arguments.h"
#include "kernels/cuda/format.cuh"
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

extern "C" __global__ void nvfp4_quantise(const cuda_quantise_args a) {
  launch_dependents();
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
  }
  if (row < a.m && block < a.code_columns) {
    *reinterpret_cast<unsigned long long *>(a.codes + (row * a.code_columns + block) * (NVFP4_BLOCK / 2)) = codes;
  }
  a.scales[scale_offset(a.scale_layout, a.columns, row, block)] = (uint8_t)scale;
}
