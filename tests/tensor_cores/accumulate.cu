// archs: sm_80 sm_90a
/* SPDX-License-Identifier: Apache-2.0 */
/* One dot product of 16 by a tensor core, for each test: d = c + sum of a[k] * b[k]. Row 0 and column 0 of a tile; the rest is zero. */
#include <cuda_bf16.h>
#include <cuda_fp16.h>

struct pair_bf16 {
  static __device__ unsigned pack(float low, float high) {
    return __bfloat16_as_ushort(__float2bfloat16_rn(low)) | (unsigned)__bfloat16_as_ushort(__float2bfloat16_rn(high)) << 16;
  }
  static __device__ void multiply(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
  }
};

struct pair_f16 {
  static __device__ unsigned pack(float low, float high) {
    return __half_as_ushort(__float2half_rn(low)) | (unsigned)__half_as_ushort(__float2half_rn(high)) << 16;
  }
  static __device__ void multiply(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
  }
};

/* A warp a test. PTX ISA, "Matrix fragments for mma.m16n8k16": lane t of row 0 holds k = 2t, 2t+1 and 2t+8, 2t+9. */
template <typename pair>
__device__ static void by_mma(const float *a, const float *b, const float *c, float *d, int tests) {
  int lane = threadIdx.x % 32;
  for (int i = blockIdx.x; i < tests; i += gridDim.x) {
    bool own = lane < 4;
    const float *x = a + 16 * i + 2 * lane, *y = b + 16 * i + 2 * lane;
    unsigned af[4] = {own ? pair::pack(x[0], x[1]) : 0, 0, own ? pair::pack(x[8], x[9]) : 0, 0};
    unsigned bf[2] = {own ? pair::pack(y[0], y[1]) : 0, own ? pair::pack(y[8], y[9]) : 0};
    float acc[4] = {lane == 0 ? c[i] : 0.0f, 0.0f, 0.0f, 0.0f};
    pair::multiply(acc, af, bf);
    if (lane == 0) {
      d[i] = acc[0];
    }
  }
}

extern "C" __global__ void accumulate_mma_bf16(const float *a, const float *b, const float *c, float *d, int tests) {
  by_mma<pair_bf16>(a, b, c, d, tests);
}

extern "C" __global__ void accumulate_mma_f16(const float *a, const float *b, const float *c, float *d, int tests) {
  by_mma<pair_f16>(a, b, c, d, tests);
}

/* wgmma.m64n8k16, a from registers, b from shared memory: 8 columns x 16 k's as two matrices of 8 rows x 16 bytes, no swizzle. */
extern "C" __global__ void accumulate_wgmma_bf16(const float *a, const float *b, const float *c, float *d, int tests) {
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
  __shared__ __align__(128) unsigned tile[64];
  int lane = threadIdx.x;
  for (int i = blockIdx.x; i < tests; i += gridDim.x) {
    if (lane < 64) { /* column 0 is the first row of each of the two matrices */
      int half = lane / 32, word = lane % 32;
      const float *y = b + 16 * i + 8 * half + 2 * word;
      tile[lane] = word < 4 ? pair_bf16::pack(y[0], y[1]) : 0;
    }
    asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
    __syncthreads();
    unsigned long long at = static_cast<unsigned>(__cvta_generic_to_shared(tile));
    unsigned long long description = (at & 0x3FFFF) >> 4 | 128ull >> 4 << 16 | 128ull >> 4 << 32;
    bool own = lane < 4;
    const float *x = a + 16 * i + 2 * lane;
    unsigned a0 = own ? pair_bf16::pack(x[0], x[1]) : 0, a2 = own ? pair_bf16::pack(x[8], x[9]) : 0;
    float acc[4] = {lane == 0 ? c[i] : 0.0f, 0.0f, 0.0f, 0.0f};
    asm volatile(
        "wgmma.fence.sync.aligned;\n"
        "wgmma.mma_async.sync.aligned.m64n8k16.f32.bf16.bf16 {%0,%1,%2,%3}, {%4,%5,%6,%7}, %8, 1, 1, 1, 0;\n"
        "wgmma.commit_group.sync.aligned;\n"
        "wgmma.wait_group.sync.aligned 0;"
        : "+f"(acc[0]), "+f"(acc[1]), "+f"(acc[2]), "+f"(acc[3])
        : "r"(a0), "r"(0), "r"(a2), "r"(0), "l"(description)
        : "memory");
    __syncthreads();
    if (lane == 0) {
      d[i] = acc[0];
    }
  }
#endif
}
