/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The activation quantiser of docs/numerics.md on the device, bit for bit. A thread makes a block of 16: 8 bytes of codes and a scale, or what they stand for in bf16: an E2M1 value times an E4M3
 * value has 6 significant bits at most, so nothing is rounded.
 */
#include "kernels/cuda/mma.cuh"

/* 16 elements of x from element `first` on, as fp32: exact. */
__device__ static void load_block(const cuda_quantise_args &a, long long first, float (&x)[NVFP4_BLOCK]) {
  const uint8_t *from = static_cast<const uint8_t *>(a.x) + first * (a.x_dtype == NVFP4_DTYPE_F32 ? 4 : 2);
  if (a.x_dtype == NVFP4_DTYPE_F32 || reinterpret_cast<uintptr_t>(from) % 16 != 0) {
#pragma unroll
    for (int j = 0; j < NVFP4_BLOCK; j++) {
      x[j] = load_f32(a.x, a.x_dtype, first + j);
    }
    return;
  }
  const uint4 low = reinterpret_cast<const uint4 *>(from)[0], high = reinterpret_cast<const uint4 *>(from)[1];
  const uint32_t two[NVFP4_BLOCK / 2] = {low.x, low.y, low.z, low.w, high.x, high.y, high.z, high.w};
  if (__builtin_expect(a.x_dtype == NVFP4_DTYPE_BF16, 1)) {
#pragma unroll
    for (int j = 0; j < NVFP4_BLOCK / 2; j++) {
      x[2 * j] = __uint_as_float(two[j] << 16);
      x[2 * j + 1] = __uint_as_float(two[j] & 0xFFFF0000u);
    }
  } else {
#pragma unroll
    for (int j = 0; j < NVFP4_BLOCK / 2; j++) {
      x[2 * j] = __half2float(__ushort_as_half((unsigned short)two[j]));
      x[2 * j + 1] = __half2float(__ushort_as_half((unsigned short)(two[j] >> 16)));
    }
  }
}

/* The scale of 16 numbers. *o: what they are multiplied by before they become E2M1, unless the scale is a NaN. */
__device__ static unsigned scale_of_block(const float (&x)[NVFP4_BLOCK], float s_a, float inverse_s_a, float *o) {
  unsigned most = 0; /* max |x| by the bits: a NaN is above all numbers */
#pragma unroll
  for (int i = 0; i < NVFP4_BLOCK; i++) {
    most = max(most, __float_as_uint(x[i]) & 0x7FFFFFFFu);
  }
  const unsigned scale = e4m3_from_f32(__fmul_rn(s_a, __fmul_rn(__uint_as_float(most), 1.0f / 6.0f)));
  const float f = e4m3_to_f32(scale);
  *o = f != 0 ? __frcp_rn(__fmul_rn(f, inverse_s_a)) : 0.0f;
  return scale;
}

/* The codes of 16 numbers, the first in the lowest nibble, and their scale. */
__device__ static unsigned long long quantise_block(const float (&x)[NVFP4_BLOCK], float s_a, float inverse_s_a, unsigned *scale) {
  float o;
  *scale = scale_of_block(x, s_a, inverse_s_a, &o);
  if (*scale == 0x7F) {
    return 0;
  }
  unsigned codes[2] = {0, 0};
#pragma unroll
  for (int i = 0; i < NVFP4_BLOCK; i++) {
    codes[i / 8] |= e2m1_from_f32(__fmul_rn(x[i], o)) << 4 * (i % 8);
  }
  return (unsigned long long)codes[1] << 32 | codes[0];
}

__device__ static void store_block(const uint32_t (&two)[NVFP4_BLOCK / 2], uint16_t *x) {
  uint4 *to = reinterpret_cast<uint4 *>(x);
  to[0] = make_uint4(two[0], two[1], two[2], two[3]);
  to[1] = make_uint4(two[4], two[5], two[6], two[7]);
}

/* Two numbers that are bf16s. */
__device__ static uint32_t as_bf16(float low, float high) {
  return __bfloat16_as_ushort(__float2bfloat16_rn(low)) | (uint32_t)__bfloat16_as_ushort(__float2bfloat16_rn(high)) << 16;
}

/*
 * What e2m1_to_f32 makes of e2m1_from_f32's code, in half as many instructions. Values from 2^e to 2^(e + 1) are multiples of 2^(e - 1), those below 1 multiples of 1/2, and a code is even where the
 * multiple is. So is the last bit of a float near 1.5 * 2^(22 + e), whose ulp that is: adding rounds as the code does. Infinity and NaN, which come out as NaN, become 6, as does what rounds to 8.
 */
__device__ static float round_to_e2m1(float value) {
  const float power = __uint_as_float(__float_as_uint(fmaxf(fabsf(value), 1.0f)) & 0x7F800000u);
  const float rounded = __fmaf_rn(-power, 0x1.8p22f, __fmaf_rn(power, 0x1.8p22f, value));
  return copysignf(fminf(fabsf(rounded), 6.0f), value);
}

/* values [16] = x as codes times their scale: a NaN if the scale is. */
__device__ static void round_block(const float (&x)[NVFP4_BLOCK], float s_a, float inverse_s_a, uint16_t *values) {
  float o;
  const float f = e4m3_to_f32(scale_of_block(x, s_a, inverse_s_a, &o));
  uint32_t two[NVFP4_BLOCK / 2];
#pragma unroll
  for (int j = 0; j < NVFP4_BLOCK / 2; j++) {
    two[j] = as_bf16(__fmul_rn(round_to_e2m1(__fmul_rn(x[2 * j], o)), f), __fmul_rn(round_to_e2m1(__fmul_rn(x[2 * j + 1], o)), f));
  }
  store_block(two, values);
}

/* x [16] = codes times scale. */
__device__ static void dequantise_block(unsigned long long codes, unsigned scale, uint16_t *x) {
  const float f = e4m3_to_f32(scale);
  uint32_t two[NVFP4_BLOCK / 2];
#pragma unroll
  for (int j = 0; j < NVFP4_BLOCK / 2; j++) {
    two[j] = as_bf16(__fmul_rn(e2m1_to_f32((unsigned)(codes >> 8 * j) & 15), f), __fmul_rn(e2m1_to_f32((unsigned)(codes >> (8 * j + 4)) & 15), f));
  }
  store_block(two, x);
}

/* 32 registers: it finds room beside kernels that leave so many of a multiprocessor, and is there when they end. */
extern "C" __global__ void __launch_bounds__(128, 16) nvfp4_quantise(const cuda_quantise_args a) {
  launch_dependents();
  const unsigned i = blockIdx.x * blockDim.x + threadIdx.x, columns = (unsigned)a.columns; /* less than 2^32: a longer division would take hundreds of cycles */
  const long long blocks = a.k / NVFP4_BLOCK, row = i / columns, block = i % columns;
  wait_for_previous(); /* the kernels before this one make x, and read what this one writes over */
  if (row >= a.rows) {
    return;
  }
  unsigned scale = 0;
  unsigned long long codes = 0;
  if (row < a.m && block < blocks) {
    if (a.x != nullptr) {
      float x[NVFP4_BLOCK];
      load_block(a, row * a.ldx_elems + block * NVFP4_BLOCK, x);
      if (a.values != nullptr) {
        round_block(x, a.s_a, a.inverse_s_a, a.values + (row * blocks + block) * NVFP4_BLOCK);
        return;
      }
      codes = quantise_block(x, a.s_a, a.inverse_s_a, &scale);
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
