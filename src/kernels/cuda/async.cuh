/* SPDX-License-Identifier: Apache-2.0 */
/* Hopper and later: mbarriers, copies by the bulk and by tensor map, clusters of thread blocks. PTX ISA, "mbarrier", "cp.async.bulk", "barrier.cluster". */
#ifndef NVFP4_KERNELS_CUDA_ASYNC_CUH
#define NVFP4_KERNELS_CUDA_ASYNC_CUH

#include <stdint.h>

/*
 * A ring of stages, between one that copies and warps that compute; a stage has a full and an empty barrier. Why nothing is read too early or overwritten too soon:
 *   barriers made, then used    by the one that copies, which begins at once (ring_made), by others after a barrier of the block
 *   copy, then read             a full barrier's phase ends when all bytes are there; who has waited for it sees them, whether by ld.shared or as an MMA's operand
 *   read by ld.shared, then     the words were in registers before MMAs of the stage began, and these have been waited for (wgmma_wait); each lane arrives at the empty barrier for
 *     copied over                 what it has read (one for its warp, after __syncwarp(), is no faster); the copy is issued after its phase has ended
 *   read by MMAs, then copied   the same wgmma_wait
 *     over
 *   phases                      one that copies waits for the other parity of empty: the first round passes at once. A full barrier cannot be a phase ahead, since the next one begins
 *                                 with a stage that has been given back, nor an empty one, since each lane arrives once for each time that it was full
 *   generic writes              there are none to a stage while copies or MMAs use it: no fence.proxy.async is needed
 */
__device__ inline void barrier_init(uint32_t barrier, unsigned arrivals) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(barrier), "r"(arrivals) : "memory");
}
/* After the barriers of a ring have been made by this thread, so that its copies may use them. */
__device__ inline void ring_made() { asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory"); }
__device__ inline void barrier_arrive(uint32_t barrier) { asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(barrier) : "memory"); }
/* Arrives if `arrive`; without a branch, which would make the compiler wait for MMAs that are under way. */
__device__ inline void barrier_arrive_if(uint32_t barrier, bool arrive) {
  asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, %1, 0;\n@p mbarrier.arrive.shared::cta.b64 _, [%0];\n}" ::"r"(barrier), "r"((int)arrive) : "memory");
}
/* Arrives, and expects so many bytes of copies. */
__device__ inline void barrier_expect(uint32_t barrier, unsigned bytes) {
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(barrier), "r"(bytes) : "memory");
}
__device__ inline void barrier_wait(uint32_t barrier, unsigned parity) {
  asm volatile("{\n.reg .pred p;\nagain:\nmbarrier.try_wait.parity.shared::cta.b64 p, [%0], %1;\n@p bra done;\nbra again;\ndone:\n}" ::"r"(barrier),
               "r"(parity)
               : "memory");
}

/* What this thread has written by st.shared, copies that come later may write over. */
__device__ inline void fence_async() { asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); }

/* Global to shared memory; the barrier is told. Addresses and bytes: multiples of 16. */
__device__ inline void copy_bulk(uint32_t to, const void *from, unsigned bytes, uint32_t barrier) {
  asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::"r"(to), "l"(from), "r"(bytes), "r"(barrier)
               : "memory");
}

/* The driver's CUtensorMap. */
struct alignas(128) cuda_tensor_map {
  uint64_t opaque[16];
};

/* For its first copy. */
__device__ inline void prefetch_map(const cuda_tensor_map &map) { asm volatile("prefetch.tensormap [%0];" ::"l"(&map) : "memory"); }

/* The same at a tensor map's columns and row. What is beyond the tensor is zero. */
__device__ inline void copy_tensor(uint32_t to, const cuda_tensor_map &map, int column, int row, uint32_t barrier) {
  asm volatile("cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%2, %3}], [%4];" ::"r"(to), "l"(&map), "r"(column), "r"(row),
               "r"(barrier)
               : "memory");
}

/* All threads of the cluster arrive, and see, after the wait, what the others have written before they arrived. */
__device__ inline void cluster_arrive() { asm volatile("barrier.cluster.arrive.aligned;" ::: "memory"); }
__device__ inline void cluster_wait() { asm volatile("barrier.cluster.wait.aligned;" ::: "memory"); }
/* For who wants to know no more than that the others have begun; a release would wait for the loads that are under way. */
__device__ inline void cluster_arrive_relaxed() { asm volatile("barrier.cluster.arrive.relaxed.aligned;" ::: "memory"); }
__device__ inline void cluster_sync() {
  cluster_arrive();
  cluster_wait();
}
/* Four floats to `address` of this block's shared memory, of the block `rank` of the cluster. */
__device__ inline void store_to_cluster(uint32_t address, unsigned rank, float v0, float v1, float v2, float v3) {
  uint32_t there;
  asm volatile("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(there) : "r"(address), "r"(rank));
  asm volatile("st.shared::cluster.v4.f32 [%0], {%1, %2, %3, %4};" ::"r"(there), "f"(v0), "f"(v1), "f"(v2), "f"(v3) : "memory");
}
/* Four floats at `address` of this block's shared memory, of the block `rank` of the cluster. */
__device__ inline float4 load_of_cluster(uint32_t address, unsigned rank) {
  uint32_t there;
  float4 v;
  asm volatile("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(there) : "r"(address), "r"(rank));
  asm volatile("ld.shared::cluster.v4.f32 {%0, %1, %2, %3}, [%4];" : "=f"(v.x), "=f"(v.y), "=f"(v.z), "=f"(v.w) : "r"(there) : "memory");
  return v;
}
/* One float. */
__device__ inline float load_float_of_cluster(uint32_t address, unsigned rank) {
  uint32_t there;
  float v;
  asm volatile("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(there) : "r"(address), "r"(rank));
  asm volatile("ld.shared::cluster.f32 %0, [%1];" : "=f"(v) : "r"(there) : "memory");
  return v;
}

#endif
