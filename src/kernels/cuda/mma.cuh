/* SPDX-License-Identifier: Apache-2.0 */
/* What the tensor-core kernels share: weights of the layout cuda_mma to operand A, the MMA of one warp, results to y. */
#ifndef NVFP4_KERNELS_CUDA_MMA_CUH
#define NVFP4_KERNELS_CUDA_MMA_CUH

#include "kernels/cuda/arguments.h"
#include "kernels/cuda/format.cuh"
#include "kernels/cuda/mma_layout.h"

/* Operand A of an MMA with 16 k's, of one lane: (row g, k 2t), (g + 8, 2t), (g, 2t + 8), (g + 8, 2t + 8), two k's each. */
struct fragment {
  uint32_t r[4];
};

/* The codes of a word, those of part i in r[i]: sign, exponent and fraction at bits 15, 8, 7 and 6 of the halves. Other bits are anything. */
__device__ inline fragment codes_of_word(uint32_t word) {
  const uint32_t rotated = __funnelshift_r(word, word, 6);
  return {{rotated, word << 4, rotated << 4, word ^ word << 8}};
}
constexpr uint32_t CODES = 0x81C081C0u;

/*
 * Element types of x. Each has
 *   scales(bytes)          four scales of a tile, those of the steps, times a power of two (zero is -0): steps 0 and 2 in one word, 1 and 3 in the other
 *   weights(word, s0, s1)  operand A: codes times the scales of slots g and g + 8, each in both halves of a word; exact
 *   UNSCALE                the power of two by which the results are too small
 */
struct bf16 {
  /* A code's bits as those of a bf16 are its value times 2^-126, subnormal ones included; a scale becomes its value times 2^118. */
  static constexpr float UNSCALE = 256;

  /* 226 is added to the exponent of the placed scale. */
  static __device__ uint2 scales(uint32_t bytes) {
    constexpr uint32_t RAISE = (226u << 7) * 0x10001u;
    return make_uint2(__byte_perm(bytes, 0, 0x4240) * 16 + RAISE, __byte_perm(bytes, 0, 0x4341) * 16 + RAISE);
  }

  static __device__ uint32_t multiply(uint32_t a, uint32_t b) {
    uint32_t c;
    asm("fma.rn.bf16x2 %0, %1, %2, %3;" : "=r"(c) : "r"(a), "r"(b), "r"(0x80008000u)); /* a b - 0: before sm_90 there is no mul.bf16x2 */
    return c;
  }

  static __device__ fragment weights(uint32_t word, uint32_t s0, uint32_t s1) {
    const fragment codes = codes_of_word(word);
    return {{multiply(codes.r[0] & CODES, s0), multiply(codes.r[1] & CODES, s1), multiply(codes.r[2] & CODES, s0), multiply(codes.r[3] & CODES, s1)}};
  }

  static __device__ void mma(float (&c)[4], const fragment &a, uint32_t b0, uint32_t b1) {
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
                 : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                 : "r"(a.r[0]), "r"(a.r[1]), "r"(a.r[2]), "r"(a.r[3]), "r"(b0), "r"(b1));
  }
};

struct f16 {
  /* A code's bits as those of an f16 are its value times 2^-14; a scale becomes its value times 2^6. Products are multiples of 2^-18, and 10.5 at most: exact. */
  static constexpr float UNSCALE = 256;

  /* 2 is added to the exponent of the placed scale. */
  static __device__ uint2 scales(uint32_t bytes) {
    constexpr uint32_t RAISE = (2u << 10) * 0x10001u;
    return make_uint2((bytes & 0x00FF00FFu) * 128 + RAISE, (bytes >> 8 & 0x00FF00FFu) * 128 + RAISE);
  }

  static __device__ uint32_t multiply(uint32_t a, uint32_t b) {
    uint32_t c;
    asm("mul.rn.f16x2 %0, %1, %2;" : "=r"(c) : "r"(a), "r"(b));
    return c;
  }

  static __device__ fragment weights(uint32_t word, uint32_t s0, uint32_t s1) {
    const fragment codes = codes_of_word(word);
    auto place = [](uint32_t two) { return (two & 0x80008000u) | (two << 3 & 0x0E000E00u); };
    return {{multiply(place(codes.r[0]), s0), multiply(place(codes.r[1]), s1), multiply(place(codes.r[2]), s0), multiply(place(codes.r[3]), s1)}};
  }

  static __device__ void mma(float (&c)[4], const fragment &a, uint32_t b0, uint32_t b1) {
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
                 : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                 : "r"(a.r[0]), "r"(a.r[1]), "r"(a.r[2]), "r"(a.r[3]), "r"(b0), "r"(b1));
  }
};

/* That of one step, in both halves. */
__device__ inline uint32_t scale_of_step(uint2 scales, int step) {
  uint32_t v = step % 2 ? scales.y : scales.x; /* in PTX, since the multiplication can take either half for both */
  if (step / 2) {
    asm("{\n.reg .b16 low, high;\nmov.b32 {low, high}, %0;\nmov.b32 %0, {high, high};\n}" : "+r"(v));
  } else {
    asm("{\n.reg .b16 low, high;\nmov.b32 {low, high}, %0;\nmov.b32 %0, {low, low};\n}" : "+r"(v));
  }
  return v;
}

/* Where a slice of K begins, in pairs of 64 k's. `slices` is a power of two: a division takes a hundred cycles, and it is among the first things that a kernel does. */
__device__ inline int first_pair_of(int slice, int pairs, int slices) { return slice * pairs >> (31 - __clz(slices)); }

/* Row of a row tile that slot g of the MMA holds; slot g + 8 holds the one two further. */
__device__ inline int row_of_slot(int g) { return g / 2 * 4 + g % 2; }

/* v as a bf16 or an f16, to nearest even; a NaN becomes the positive quiet one, as in store_f32. */
__device__ inline uint32_t to_16(int dtype, float v) {
  const bool nan = v != v;
  if (dtype == NVFP4_DTYPE_BF16) {
    return nan ? 0x7FC0 : __bfloat16_as_ushort(__float2bfloat16_rn(v));
  }
  return nan ? 0x7E00 : __half_as_ushort(__float2half_rn(v));
}

/* Finishes and writes one sum: row n of the weights, row m of x. */
__device__ inline void store_result(const cuda_mma_args &a, long long m, long long n, float sum, float unscale) {
  sum = __fmul_rn(sum, unscale);
  float v = a.bias != nullptr ? __fmaf_rn(a.alpha[n], sum, load_f32(a.bias, a.bias_dtype, n)) : __fmul_rn(a.alpha[n], sum);
  store_f32(a.y, a.y_dtype, m * a.ldy_elems + n, v);
}

/* Brings what the 16 rows of weights from row0 on need at the end to the first-level cache. For one warp. */
__device__ inline void prefetch_row_constants(const cuda_mma_args &a, int row0) {
  const int row = row0 + threadIdx.x % 32;
  if (threadIdx.x % 32 < 16 && row < a.n) {
    asm volatile("prefetch.global.L1 [%0];" ::"l"(a.alpha + row));
  }
}

/* The next kernel in the stream may start; it waits for this one before it touches anything but weights. */
__device__ inline void launch_dependents() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.launch_dependents;");
#endif
}
/* Returns once all kernels before this one are done. Weights, alpha excepted, nothing may be touched before. */
__device__ inline void wait_for_previous() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

/* Copies `bytes` of 16 bytes to shared memory, the rest becomes zero. */
__device__ inline void copy_async_16(uint32_t to, const void *from, uint32_t bytes) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(from), "r"(bytes) : "memory");
}
__device__ inline void copy_async_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }
template <int PENDING>
__device__ inline void copy_async_wait() {
  asm volatile("cp.async.wait_group %0;" ::"n"(PENDING) : "memory");
}

/* Four matrices of 8 x 8 elements of 16 bits: lane 8 i + r gives the address of row r of matrix i, and lane 4 r + c gets, as word i, columns 2c and 2c + 1 of row r of it. */
__device__ inline uint4 load_matrices(uint32_t from) {
  uint4 v;
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];" : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w) : "r"(from) : "memory");
  return v;
}

__device__ inline void store_shared_16(uint32_t to, float v0, float v1, float v2, float v3) {
  asm volatile("st.shared.v4.f32 [%0], {%1, %2, %3, %4};" ::"r"(to), "f"(v0), "f"(v1), "f"(v2), "f"(v3) : "memory");
}

__device__ inline float load_shared_float(uint32_t from) {
  float v;
  asm volatile("ld.shared.f32 %0, [%1];" : "=f"(v) : "r"(from) : "memory");
  return v;
}

__device__ inline uint32_t shared_address(const void *pointer) { return (uint32_t)__cvta_generic_to_shared(pointer); }

#endif
