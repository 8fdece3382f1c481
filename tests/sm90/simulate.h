/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Device code of Hopper's kernels on the CPU: what it needs of CUDA, and a simulator of the PTX that it has inline. host.py makes of each asm statement a call of ptx().
 *
 * Simulated, as the PTX ISA has it: threads (fibers), of which any may run whenever it is not at a barrier; warps' exchanges and MMA; named barriers; mbarriers; bulk and tensor copies, swizzled;
 * the warpgroup's MMA with its descriptors, fences and groups; clusters, of which a block may begin after another; setmaxnreg. Copies and MMAs of warpgroups are done at any time between their issue
 * and the wait for them; the seed decides. Reported:
 *   - a barrier that is never satisfied: threads wait, and nothing is under way
 *   - shared memory that is used while a copy to it is under way, is outside of what the block has or misaligned; MMAs that read what was not copied. Other reads of it before it is written give
 *     0xFF: the last row tiles of sm90_prefill.cuh compute with what is there, and drop the result
 *   - a copy or a store over what an MMA that has not been waited for reads; a copy over what st.shared wrote, without a fence between the proxies
 *   - operand A's registers written while an MMA reads them, MMAs without wgmma.fence, a thread that ends with MMAs under way, a block with copies
 *   - mbarriers that were not made or not fenced, or have too many arrivals; shared memory of a block that has not begun or has ended; copies of x before griddepcontrol.wait, or of what is
 *     neither x nor weights
 * Not simulated: the order in which ordinary loads and stores of other threads become visible (here at once), caches, the rounding within an MMA (here one rounding, of the sum of 16 exact products
 * and the accumulator), speed.
 */
#ifndef NVFP4_TESTS_SM90_SIMULATE_H
#define NVFP4_TESTS_SM90_SIMULATE_H

#include <cmath>
#include <cstdint>
#include <cstring>
#include <functional>

extern "C" {
#include "format/half.h"
}

/* ------------------------------------------------------------------------------------------------------------------ the simulator */

struct simulated_launch {
  unsigned blocks, threads, cluster; /* of a block; blocks of a cluster */
  size_t shared_bytes;
  const uint8_t *weights; /* all that bulk copies may read, and x, */
  size_t weights_bytes;
  const void *x; /* after griddepcontrol.wait */
  size_t x_bytes;
  uint64_t seed;
};

/* Runs a kernel, one cluster after the other. Returns what went wrong, or nullptr. */
const char *simulate(const simulated_launch &launch, const std::function<void()> &kernel);

/* A tensor map of 16-bit elements, in the words of a cuda_tensor_map: boxes of `box` rows x 64. */
struct simulated_map {
  const uint16_t *elements;
  uint64_t rows, columns, stride, box;
};

/* How an MMA adds products to an accumulator. */
inline float simulated_sum(float c, const double (&products)[16]) {
  double sum = 0; /* exact */
  for (double p : products) {
    sum += p;
  }
  return (float)((double)c + sum);
}

extern int planted; /* the fault of host.py that is there; 0: none */

/* An operand of an asm statement: where it is, and the value of one that is only read. */
struct ptx_operand {
  void *at;
  uint64_t value;
};
template <class T>
ptx_operand ptx_in(const T &v) {
  ptx_operand o = {const_cast<T *>(&v), 0};
  memcpy(&o.value, &v, sizeof v);
  return o;
}
template <class T>
ptx_operand ptx_out(T &v) { /* "=" and "+" */
  return {&v, 0};
}
void ptx_run(const char *text, const ptx_operand *operands);
template <class... O>
void ptx(const char *text, O... o) {
  const ptx_operand operands[] = {o..., {}};
  ptx_run(text, operands);
}

/* --------------------------------------------------------------------------------------------------------------------------- CUDA */

#define __device__
#define __global__
#define __shared__
#define __grid_constant__
#define __launch_bounds__(...)
#define __align__(...)

struct uint2 {
  uint32_t x, y;
};
struct uint4 {
  uint32_t x, y, z, w;
};
struct float4 {
  float x, y, z, w;
};
struct dim3 {
  unsigned x;
};
inline uint2 make_uint2(uint32_t x, uint32_t y) { return {x, y}; }
inline uint4 make_uint4(uint32_t x, uint32_t y, uint32_t z, uint32_t w) { return {x, y, z, w}; }

extern dim3 threadIdx, blockIdx, blockDim, gridDim;
extern uint8_t unaligned[], shared[]; /* a block's dynamic shared memory, but for its content, which only its addresses lead to */
uint32_t __cvta_generic_to_shared(const void *begin);
void __syncthreads();
void __syncwarp();
uint32_t __shfl_sync(unsigned mask, uint32_t v, int lane, int width = 32);
template <class T>
T __ldg(const T *from) {
  return *from;
}

template <class T>
T min(T a, T b) {
  return b < a ? b : a;
}
template <class T>
T max(T a, T b) {
  return a < b ? b : a;
}

inline float __fadd_rn(float a, float b) { return a + b; }
inline float __fmul_rn(float a, float b) { return a * b; }
inline float __frcp_rn(float a) { return 1 / a; }
inline float __fmaf_rn(float a, float b, float c) { return std::fma(a, b, c); }
inline int __clz(int v) { return __builtin_clz((unsigned)v); }
template <class TO, class FROM>
TO bits_as(FROM v) {
  static_assert(sizeof(TO) == sizeof(FROM));
  TO to;
  memcpy(&to, &v, sizeof to);
  return to;
}
inline float __uint_as_float(uint32_t v) { return bits_as<float>(v); }
inline uint32_t __float_as_uint(float v) { return bits_as<uint32_t>(v); }
inline uint32_t __funnelshift_r(uint32_t low, uint32_t high, unsigned by) { return (uint32_t)(((uint64_t)high << 32 | low) >> by % 32); }
inline uint32_t __byte_perm(uint32_t a, uint32_t b, uint32_t selectors) {
  const uint64_t bytes = (uint64_t)b << 32 | a;
  uint32_t v = 0;
  for (int i = 0; i < 4; i++) {
    v |= (uint32_t)(bytes >> 8 * (selectors >> 4 * i & 7) & 255) << 8 * i;
  }
  return v;
}
inline uint32_t __vsub4(uint32_t a, uint32_t b) { return ((a | 0x80808080u) - (b & 0x7F7F7F7Fu)) ^ ((a ^ ~b) & 0x80808080u); }

/* 16-bit floats, and two of them. */
struct __half {
  uint16_t bits;
};
struct __nv_bfloat16 {
  uint16_t bits;
};
template <class T>
struct alignas(4) pair_of {
  T x, y;
};
using __half2 = pair_of<__half>;
using __nv_bfloat162 = pair_of<__nv_bfloat16>;
inline __half __ushort_as_half(uint16_t v) { return {v}; }
inline uint16_t __half_as_ushort(__half v) { return v.bits; }
inline uint16_t __bfloat16_as_ushort(__nv_bfloat16 v) { return v.bits; }
inline float __half2float(__half v) { return nvfp4_f16_to_f32(v.bits); }
inline __half __float2half_rn(float v) { return {std::isnan(v) ? (uint16_t)0x7FFF : nvfp4_f16_from_f32(v)}; }
inline __nv_bfloat16 __float2bfloat16_rn(float v) { return {std::isnan(v) ? (uint16_t)0x7FFF : nvfp4_bf16_from_f32(v)}; }
inline __half2 __floats2half2_rn(float x, float y) { return {__float2half_rn(x), __float2half_rn(y)}; }
inline __nv_bfloat162 __floats2bfloat162_rn(float x, float y) { return {__float2bfloat16_rn(x), __float2bfloat16_rn(y)}; }
/* All bits of each half of a pair if it is a NaN, which is unequal to itself. */
template <class T>
uint32_t __hneu2_mask(pair_of<T> v, pair_of<T>) {
  return (v.x.bits == 0x7FFF ? 0xFFFFu : 0) | (v.y.bits == 0x7FFF ? 0xFFFF0000u : 0);
}

#endif
