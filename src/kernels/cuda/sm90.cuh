/* SPDX-License-Identifier: Apache-2.0 */
/* sm_90a: the warpgroup's MMA with operand A in registers. PTX ISA, "Asynchronous Warpgroup Level Matrix Multiply-Accumulate". */
#ifndef NVFP4_KERNELS_CUDA_SM90_CUH
#define NVFP4_KERNELS_CUDA_SM90_CUH

#include "kernels/cuda/async.cuh"
#include "kernels/cuda/mma.cuh"

/*
 * Operand B in shared memory, K-major, rows of 128 bytes swizzled (16-byte chunk c of row r is at c ^ r % 8), at a multiple of 1024. The lower half of its descriptor; the upper half is a
 * constant (1024 bytes from 8 rows to the next; swizzle of 128 bytes). The next 16 k's: WGMMA_STEP more.
 */
__device__ inline uint32_t wgmma_descriptor(uint32_t address) { return address >> 4 | 1u << 16; }
enum { WGMMA_STEP = 32 >> 4 };
#define NVFP4_WGMMA_DESCRIPTOR_HIGH "0x40000040"

/* Before the MMAs of `a`. As operands of the fence, they are made before it: else the compiler makes some between the MMAs, and waits for each of those. */
__device__ inline void wgmma_fence(fragment (&a)[4]) {
  asm volatile("wgmma.fence.sync.aligned;"
               : "+r"(a[0].r[0]), "+r"(a[0].r[1]), "+r"(a[0].r[2]), "+r"(a[0].r[3]), "+r"(a[1].r[0]), "+r"(a[1].r[1]), "+r"(a[1].r[2]), "+r"(a[1].r[3]),
                 "+r"(a[2].r[0]), "+r"(a[2].r[1]), "+r"(a[2].r[2]), "+r"(a[2].r[3]), "+r"(a[3].r[0]), "+r"(a[3].r[1]), "+r"(a[3].r[2]), "+r"(a[3].r[3])
               :
               : "memory");
}
__device__ inline void wgmma_commit() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }
template <int PENDING>
__device__ inline void wgmma_wait() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(PENDING) : "memory");
}

#define NVFP4_F4(d, i) "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3])
#define NVFP4_F16(d, i) NVFP4_F4(d, i), NVFP4_F4(d, i + 4), NVFP4_F4(d, i + 8), NVFP4_F4(d, i + 12)

/* d = a b + (add ? d : 0), for 64 rows of a and N columns of b. d[4 c + i]: row g + 8 (i / 2), column 8 c + 2 t + i % 2 of a warp's 16 rows. */
template <class X, int N>
struct wgmma;

#define NVFP4_WGMMA(X, type, N, d_names, a_names, b_name, add_name, d_operands)                                                           \
  template <>                                                                                                                              \
  struct wgmma<X, N> {                                                                                                                     \
    static __device__ void run(float (&d)[N / 2], const fragment &a, uint32_t b, bool add) {                                              \
      asm volatile("{\n.reg .pred p;\n.reg .b64 b;\nsetp.ne.b32 p, %" add_name ", 0;\nmov.b64 b, {%" b_name ", " NVFP4_WGMMA_DESCRIPTOR_HIGH "};\n"                                                                  \
                   "wgmma.mma_async.sync.aligned.m64n" #N "k16.f32." type "." type " {" d_names "}, {" a_names "}, b"              \
                   ", p, 1, 1, 0;\n}"                                                                                                      \
                   : d_operands                                                                                                            \
                   : "r"(a.r[0]), "r"(a.r[1]), "r"(a.r[2]), "r"(a.r[3]), "r"(b), "r"((int)add));                                           \
    }                                                                                                                                      \
  };

#define NVFP4_OPERANDS16 NVFP4_F4(d, 0), NVFP4_F4(d, 4)
NVFP4_WGMMA(bf16, "bf16", 16, "%0,%1,%2,%3,%4,%5,%6,%7", "%8,%9,%10,%11", "12", "13", NVFP4_OPERANDS16)
NVFP4_WGMMA(f16, "f16", 16, "%0,%1,%2,%3,%4,%5,%6,%7", "%8,%9,%10,%11", "12", "13", NVFP4_OPERANDS16)

#define NVFP4_D32 \
  "%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15"
#define NVFP4_OPERANDS32 NVFP4_F16(d, 0)
NVFP4_WGMMA(bf16, "bf16", 32, NVFP4_D32, "%16,%17,%18,%19", "20", "21", NVFP4_OPERANDS32)
NVFP4_WGMMA(f16, "f16", 32, NVFP4_D32, "%16,%17,%18,%19", "20", "21", NVFP4_OPERANDS32)

#define NVFP4_D64 \
  "%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,%16,%17,%18,%19,%20,%21,%22,%23,%24,%25," \
  "%26,%27,%28,%29,%30,%31"
#define NVFP4_OPERANDS64 NVFP4_F16(d, 0), NVFP4_F16(d, 16)
NVFP4_WGMMA(bf16, "bf16", 64, NVFP4_D64, "%32,%33,%34,%35", "36", "37", NVFP4_OPERANDS64)
NVFP4_WGMMA(f16, "f16", 64, NVFP4_D64, "%32,%33,%34,%35", "36", "37", NVFP4_OPERANDS64)

#define NVFP4_D96 \
  "%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,%16,%17,%18,%19,%20,%21,%22,%23,%24,%25," \
  "%26,%27,%28,%29,%30,%31,%32,%33,%34,%35,%36,%37,%38,%39,%40,%41,%42,%43,%44,%45,%46,%47"
#define NVFP4_OPERANDS96 NVFP4_OPERANDS64, NVFP4_F16(d, 32)
NVFP4_WGMMA(bf16, "bf16", 96, NVFP4_D96, "%48,%49,%50,%51", "52", "53", NVFP4_OPERANDS96)
NVFP4_WGMMA(f16, "f16", 96, NVFP4_D96, "%48,%49,%50,%51", "52", "53", NVFP4_OPERANDS96)

#define NVFP4_D128 \
  "%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,%16,%17,%18,%19,%20,%21,%22,%23,%24,%25," \
  "%26,%27,%28,%29,%30,%31,%32,%33,%34,%35,%36,%37,%38,%39,%40,%41,%42,%43,%44,%45,%46,%47,%48,%49," \
  "%50,%51,%52,%53,%54,%55,%56,%57,%58,%59,%60,%61,%62,%63"
#define NVFP4_OPERANDS128 NVFP4_F16(d, 0), NVFP4_F16(d, 16), NVFP4_F16(d, 32), NVFP4_F16(d, 48)
NVFP4_WGMMA(bf16, "bf16", 128, NVFP4_D128, "%64,%65,%66,%67", "68", "69", NVFP4_OPERANDS128)
NVFP4_WGMMA(f16, "f16", 128, NVFP4_D128, "%64,%65,%66,%67", "68", "69", NVFP4_OPERANDS128)

#define NVFP4_D192 \
  "%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,%16,%17,%18,%19,%20,%21,%22,%23,%24,%25," \
  "%26,%27,%28,%29,%30,%31,%32,%33,%34,%35,%36,%37,%38,%39,%40,%41,%42,%43,%44,%45,%46,%47,%48,%49,%50,%51," \
  "%52,%53,%54,%55,%56,%57,%58,%59,%60,%61,%62,%63,%64,%65,%66,%67,%68,%69,%70,%71,%72,%73,%74,%75,%76,%77," \
  "%78,%79,%80,%81,%82,%83,%84,%85,%86,%87,%88,%89,%90,%91,%92,%93,%94,%95"
#define NVFP4_OPERANDS192 NVFP4_OPERANDS128, NVFP4_F16(d, 64), NVFP4_F16(d, 80)
NVFP4_WGMMA(bf16, "bf16", 192, NVFP4_D192, "%96,%97,%98,%99", "100", "101", NVFP4_OPERANDS192)
NVFP4_WGMMA(f16, "f16", 192, NVFP4_D192, "%96,%97,%98,%99", "100", "101", NVFP4_OPERANDS192)

#define NVFP4_D256 \
  "%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,%16,%17,%18,%19,%20,%21,%22,%23,%24,%25," \
  "%26,%27,%28,%29,%30,%31,%32,%33,%34,%35,%36,%37,%38,%39,%40,%41,%42,%43,%44,%45,%46,%47,%48,%49,%50,%51," \
  "%52,%53,%54,%55,%56,%57,%58,%59,%60,%61,%62,%63,%64,%65,%66,%67,%68,%69,%70,%71,%72,%73,%74,%75,%76,%77," \
  "%78,%79,%80,%81,%82,%83,%84,%85,%86,%87,%88,%89,%90,%91,%92,%93,%94,%95,%96,%97,%98,%99,%100,%101,%102,%103," \
  "%104,%105,%106,%107,%108,%109,%110,%111,%112,%113,%114,%115,%116,%117,%118,%119,%120,%121,%122,%123,%124,%125,%126,%127"
#define NVFP4_OPERANDS256 NVFP4_OPERANDS128, NVFP4_F16(d, 64), NVFP4_F16(d, 80), NVFP4_F16(d, 96), NVFP4_F16(d, 112)
NVFP4_WGMMA(bf16, "bf16", 256, NVFP4_D256, "%128,%129,%130,%131", "132", "133", NVFP4_OPERANDS256)
NVFP4_WGMMA(f16, "f16", 256, NVFP4_D256, "%128,%129,%130,%131", "132", "133", NVFP4_OPERANDS256)

__device__ inline uint4 load_shared_16(uint32_t from) {
  uint4 v;
  asm volatile("ld.shared.v4.u32 {%0, %1, %2, %3}, [%4];" : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w) : "r"(from) : "memory");
  return v;
}
__device__ inline uint2 load_shared_8(uint32_t from) {
  uint2 v;
  asm volatile("ld.shared.v2.u32 {%0, %1}, [%2];" : "=r"(v.x), "=r"(v.y) : "r"(from) : "memory");
  return v;
}

/* Named barriers, of so many threads: whole warps. Who joins waits for all, and sees what those have written who have arrived. */
__device__ inline void join_named(int barrier, int threads) { asm volatile("bar.sync %0, %1;" ::"r"(barrier), "r"(threads) : "memory"); }
__device__ inline void arrive_named(int barrier, int threads) { asm volatile("bar.arrive %0, %1;" ::"r"(barrier), "r"(threads) : "memory"); }

template <int REGISTERS>
__device__ inline void take_registers() {
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(REGISTERS));
}
template <int REGISTERS>
__device__ inline void give_registers() {
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(REGISTERS));
}

#endif
