/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tensor memory and the MMAs on it, of Blackwell's sm_100 family. PTX ISA, "TensorCore 5th Generation Family Instructions". Addresses of tensor memory: lane << 16 | column of 32 bits.
 *
 * Each function is called by whole warps. That one thread issues what is asynchronous is their affair; it is always the same, since order is kept, and commit waits, for what one thread issued.
 */
#ifndef NVFP4_KERNELS_CUDA_TCGEN05_CUH
#define NVFP4_KERNELS_CUDA_TCGEN05_CUH

#include <stdint.h>

/* elect.sync elects the same thread each time, and tells the compiler that it is one: operands stay in uniform registers. */
__device__ inline bool tensor_issuer() {
  uint32_t elected;
  asm volatile("{\n.reg .pred p;\nelect.sync _|p, 0xFFFFFFFF;\nselp.b32 %0, 1, 0, p;\n}" : "=r"(elected));
  return elected != 0;
}

/* All 512 columns; waits until nobody else has some. The address is written to shared memory. To be given back by the same warp. */
__device__ inline void tensor_alloc(uint32_t address_to) {
  asm volatile("tcgen05.alloc.cta_group::1.sync.aligned.shared::cta.b32 [%0], 512;" ::"r"(address_to) : "memory");
  asm volatile("tcgen05.relinquish_alloc_permit.cta_group::1.sync.aligned;");
}
__device__ inline void tensor_free(uint32_t address) { asm volatile("tcgen05.dealloc.cta_group::1.sync.aligned.b32 %0, 512;" ::"r"(address) : "memory"); }

/* On both sides of a barrier that orders instructions on tensor memory of different threads. */
__device__ inline void tensor_before_barrier() { asm volatile("tcgen05.fence::before_thread_sync;" ::: "memory"); }
__device__ inline void tensor_after_barrier() { asm volatile("tcgen05.fence::after_thread_sync;" ::: "memory"); }

/* 32 rows of 16 bytes to 4 columns of each 32 lanes. MMAs that are issued after it see them, those issued before do not: CUTLASS too fills the same columns again and again. */
__device__ inline void tensor_copy_scales(uint32_t to, uint64_t scales) {
  if (tensor_issuer()) {
    asm volatile("tcgen05.cp.cta_group::1.32x128b.warpx4 [%0], %1;" ::"r"(to), "l"(scales) : "memory");
  }
}

/* d = a b^T + (add ? d : 0), 64 k's with a scale for each 16. */
__device__ inline void tensor_multiply(uint32_t d, uint64_t a, uint64_t b, uint32_t instruction, uint32_t a_scales, uint32_t b_scales, bool add) {
  if (tensor_issuer()) {
    asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, %6, 0;\n"
                 "tcgen05.mma.cta_group::1.kind::mxf4nvf4.block_scale.block16 [%0], %1, %2, %3, [%4], [%5], p;\n}" ::"r"(d),
                 "l"(a), "l"(b), "r"(instruction), "r"(a_scales), "r"(b_scales), "r"((int)add)
                 : "memory");
  }
}

/* The barrier is told once all that was issued before is done. */
__device__ inline void tensor_commit(uint32_t barrier) {
  if (tensor_issuer()) {
    asm volatile("tcgen05.commit.cta_group::1.mbarrier::arrive::one.shared::cluster.b64 [%0];" ::"r"(barrier) : "memory");
  }
}

/* 16 columns of the thread's lane; the address is that of the warp's first lane. */
__device__ inline void tensor_load(uint32_t from, float (&v)[16]) {
  asm volatile("tcgen05.ld.sync.aligned.32x32b.x16.b32 {%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15}, [%16];\n"
               "tcgen05.wait::ld.sync.aligned;"
               : "=f"(v[0]), "=f"(v[1]), "=f"(v[2]), "=f"(v[3]), "=f"(v[4]), "=f"(v[5]), "=f"(v[6]), "=f"(v[7]), "=f"(v[8]), "=f"(v[9]), "=f"(v[10]),
                 "=f"(v[11]), "=f"(v[12]), "=f"(v[13]), "=f"(v[14]), "=f"(v[15])
               : "r"(from)
               : "memory");
}

#endif
