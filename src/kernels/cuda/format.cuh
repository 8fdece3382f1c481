/* SPDX-License-Identifier: Apache-2.0 */
/* Device code: the formats of src/format, bit for bit. Everything that rounds is written as the operation it is (__fmul_rn, ...); the files are compiled with -fmad=false and without
 * flush-to-zero or approximate division. */
#ifndef NVFP4_KERNELS_CUDA_FORMAT_CUH
#define NVFP4_KERNELS_CUDA_FORMAT_CUH

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <nvfp4/nvfp4.h>

/* eem as the top bits of an fp32: 2^(e - 127) (1 + m/2), or m/2 * 2^-126 if e = 0. Times 2^126 that is the E2M1 value. */
__device__ inline float e2m1_to_f32(unsigned code) {
  float magnitude = __fmul_rn(__uint_as_float((code & 7) << 22), 0x1p126f);
  return (code & 8) != 0 ? -magnitude : magnitude;
}

/* Four codes (16 bits) -> four signed bytes: twice their values. */
__device__ inline int e2m1_doubled_x4(unsigned codes) {
  unsigned magnitudes = __byte_perm(0x03020100, 0x0C080604, codes & 0x7777);
  unsigned negative = __byte_perm(0x0000FF00, 0, codes >> 3 & 0x1111);
  return (int)__vsub4(magnitudes ^ negative, negative);
}

/* Round to nearest, ties to the even code, saturating: the least of three lines (src/format/e2m1.h). */
__device__ inline unsigned e2m1_from_f32(float value) {
  float a = fabsf(value);
  float halves = __fadd_rn(__fmul_rn(2.0f, a), 0x1p23f);
  float ones = __fadd_rn(a, 0x1p23f + 2);
  float twos = __fadd_rn(__fmul_rn(0.5f, a), 0x1p23f + 4);
  float least = fminf(fminf(halves, ones), fminf(twos, 0x1p23f + 7)); /* fminf drops a NaN */
  return (__float_as_uint(value) >> 28 & 8) | (__float_as_uint(least) & 7);
}

/* As e2m1_to_f32, with four bits of exponent, three of fraction and the bias 7. */
__device__ inline float e4m3_to_f32(unsigned code) {
  float magnitude = __fmul_rn(__uint_as_float((code & 0x7F) << 20), 0x1p120f);
  magnitude = (code & 0x7F) == 0x7F ? __uint_as_float(0x7FC00000) : magnitude;
  return (code & 0x80) != 0 ? -magnitude : magnitude;
}

/* Of a value that is not negative: to nearest, ties to even, saturating at 448; NaN gives 0x7F. src/format/e4m3.c. */
__device__ inline unsigned e4m3_from_f32(float value) {
  unsigned bits = __float_as_uint(value);
  if (bits > 0x7F800000u) {
    return 0x7F;
  }
  if (bits < 0x3C800000u) { /* below 2^-6: adding 2^14, whose ulp is 2^-9, rounds */
    return __float_as_uint(__fadd_rn(value, 0x1p14f)) - 0x46800000u;
  }
  bits += 0x7FFFFu + (bits >> 20 & 1);
  unsigned code = (bits >> 20) - ((127u - 7u) << 3);
  return code < 0x7E ? code : 0x7E;
}

/* Element `i` of x, of an nvfp4_dtype, as fp32: exact. */
__device__ inline float load_f32(const void *x, int dtype, long long i) {
  if (dtype == NVFP4_DTYPE_F32) {
    return static_cast<const float *>(x)[i];
  }
  unsigned short bits = static_cast<const unsigned short *>(x)[i];
  return dtype == NVFP4_DTYPE_BF16 ? __uint_as_float((unsigned)bits << 16) : __half2float(__ushort_as_half(bits));
}

/* Rounds v to nearest even and writes it; a NaN becomes the positive quiet one. */
__device__ inline void store_f32(void *y, int dtype, long long i, float v) {
  bool nan = v != v;
  if (dtype == NVFP4_DTYPE_F32) {
    static_cast<unsigned *>(y)[i] = nan ? 0x7FC00000u : __float_as_uint(v);
  } else if (dtype == NVFP4_DTYPE_BF16) {
    static_cast<unsigned short *>(y)[i] = nan ? 0x7FC0 : __bfloat16_as_ushort(__float2bfloat16_rn(v));
  } else {
    static_cast<unsigned short *>(y)[i] = nan ? 0x7E00 : __half_as_ushort(__float2half_rn(v));
  }
}

/* nvfp4_scale_offset() of src/format/scale_layout.c. */
__device__ inline long long scale_offset(int layout, long long columns, long long row, long long column) {
  long long tiles = (columns + 3) / 4;
  if (layout == NVFP4_SCALES_128X4) {
    return (row / 128 * tiles + column / 4) * 512 + row % 32 * 16 + row / 32 % 4 * 4 + column % 4;
  }
  if (layout == NVFP4_SCALES_8X4) {
    return (row / 8 * tiles + column / 4) * 32 + row % 8 * 4 + column % 4;
  }
  return row * columns + column;
}

#endif
