/* SPDX-License-Identifier: Apache-2.0 */
/*
 * y = x W^T for up to 8 COLUMN_TILES rows of x: memory-bound. Weights go straight from global memory to registers, since one warp alone uses them; x waits in shared memory.
 *
 * A warp computes one slice of K of one row tile; a thread block, or a cluster of two, has warps for some row tiles x all slices. Of a cluster each block has half of the slices, so that it needs
 * half of x; it computes all its row tiles at once. The sums of the slices are added in order, in fp32. The order of additions is that of sm90_prefill.cuh.
 *
 * Order of memory, in a cluster: both blocks have begun (the first barrier of the cluster) before one writes sums to the other; the second one makes them seen, and after it nobody touches the
 * other's memory. y, bias, alpha: touched after the first barrier of the block, which those who copy x join after wait_for_previous().
 */
#ifndef NVFP4_KERNELS_CUDA_FEW_CUH
#define NVFP4_KERNELS_CUDA_FEW_CUH

#include "kernels/cuda/async.cuh"
#include "kernels/cuda/mma.cuh"

__device__ inline uint4 load_weights(const uint8_t *p) {
  uint4 v;
  asm volatile("ld.global.nc.L1::no_allocate.L2::128B.v4.u32 {%0,%1,%2,%3}, [%4];" : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w) : "l"(p));
  return v;
}

/* What a lane loads of a row tile and 128 k's. The lanes of the same g share their scales: lane t has those of slot t % 2 and block t / 2 of 64 k's. */
struct lane_weights {
  uint4 words[2];
  uint32_t scales;
};

/*
 * A block's part of K, and where x waits in shared memory, after what is said to come first: [1 or 2 chunks][m][slices of the block][chunk_pairs * 128], and 8 elements after each row, so that lanes
 * meet different banks. Two chunks if one does not hold a slice. There are no divisions by what is no constant, each of which takes a hundred cycles.
 */
struct few_part {
  const cuda_mma_args &a;
  uint32_t shared;
  int pairs, log_slices, slices, first_slice; /* slices of the block */
  int row, slice;                             /* of the warp: row tile and slice, of those of the block */
  int first, count;                           /* pairs of that slice */

  __device__ few_part(const cuda_mma_args &args, uint32_t at, int cluster, int rank)
      : a(args), shared(at), pairs((int)((a.k + CUDA_MMA_PAIR - 1) / CUDA_MMA_PAIR)), log_slices(31 - __clz(a.slices / cluster)), slices(a.slices / cluster), first_slice(rank * slices),
        row(threadIdx.x / 32 >> log_slices), slice(threadIdx.x / 32 & (slices - 1)), first(first_of(slice)), count(first_of(slice + 1) - first) {}
  __device__ int first_of(int of_slice) const { return first_pair_of(first_slice + of_slice, pairs, a.slices); }
  __device__ int row_bytes() const { return slices * a.chunk_pairs * (CUDA_MMA_PAIR * 2) + 16; }
  __device__ int buffer_bytes() const { return (int)a.m * row_bytes(); }
  __device__ uint32_t x(int buffer, int of_slice) const { return shared + buffer * buffer_bytes() + of_slice * a.chunk_pairs * (CUDA_MMA_PAIR * 2); }
};

/* How x comes: before Hopper all threads copy a chunk, and wait for it. */
struct x_by_threads {
  enum { BARRIERS_BYTES = 0 };
  const few_part &p;
  __device__ int piece_pairs() const { return p.a.chunk_pairs; }
  __device__ void begin() const {
    wait_for_previous();
    fetch(0, 0);
    join();
  }
  __device__ void fetch(int which, int buffer) const { /* eight threads for 64 k's of a slice, the next eight for the next slice */
    const int eight = threadIdx.x / 8, s = eight & (p.slices - 1), begin = (p.first_of(s) + which * p.a.chunk_pairs) * CUDA_MMA_PAIR;
    for (int i = (eight >> p.log_slices) * 64 + threadIdx.x % 8 * 8; i < p.a.chunk_pairs * CUDA_MMA_PAIR; i += (int)(blockDim.x / 8 >> p.log_slices) * 64) {
      const int k = begin + i;
      const uint16_t *from = static_cast<const uint16_t *>(p.a.x) + (k < p.a.k ? k : 0);
      for (int row = 0; row < (int)p.a.m; row++) {
        copy_async_16(p.x(buffer, s) + row * p.row_bytes() + i * 2, from + row * p.a.ldx_elems, k < p.a.k ? 16 : 0);
      }
    }
    copy_async_commit();
  }
  __device__ void wait(int, int, unsigned) const {}
  __device__ void join() const {
    copy_async_wait<0>();
    __syncthreads();
  }
};

/*
 * On Hopper the first warp of each slice copies, in pieces, of which each has a barrier: whoever multiplies waits for no more than it needs. Order of memory:
 *   barriers made, then used      by the warp that copies, after __syncwarp(), by others after the first barrier of the block
 *   copy, then read               a lane for each row and piece; all copy in the phase that the arrival of row 0's lane ends
 *   read, then copied over        a barrier of the block: join(), after each chunk
 *   zeros beyond K, then read     written before that arrival
 *   zeros, then copied over       fence.proxy.async by who wrote them; the same warp copies. It waits for weights that are under way; where all of x is there at once it is not needed
 *   phases                        a buffer is filled again after join(), before which all have waited who will. Of pieces without bytes the phase ends, too
 */
template <int COLUMN_TILES, int DEPTH>
struct x_by_bulk {
  enum { PIECES = 4, BARRIERS_BYTES = CUDA_SM90_FEW_BARRIERS_BYTES };
  const few_part &p;
  struct lane_copy {
    uint32_t to, barrier;
    const uint16_t *from;
    int bytes;
  };
  __device__ int piece_pairs() const { return (p.a.chunk_pairs + PIECES * DEPTH - 1) / (PIECES * DEPTH) * DEPTH; }
  __device__ uint32_t full(int buffer, int piece) const { return p.shared - BARRIERS_BYTES + ((buffer * p.slices + p.slice) * PIECES + piece) * 8; }
  __device__ void begin() const {
    if (p.row == 0) {
      const int lane = threadIdx.x % 32;
      if (lane < 2 * PIECES) {
        barrier_init(full(lane / PIECES, lane % PIECES), 1);
        ring_made();
      }
      __syncwarp();
      const lane_copy first = expect(0, 0);
      wait_for_previous();
      copy(first);
    }
    join();
  }
  __device__ void fetch(int which, int buffer) const {
    if (p.row == 0) {
      copy(expect(which, buffer));
    }
  }
  __device__ void wait(int buffer, int piece, unsigned phase) const { barrier_wait(full(buffer, piece), phase); }
  __device__ void join() const { __syncthreads(); }

  /* Expects the lane's piece, and makes what is beyond K zero. */
  __device__ lane_copy expect(int which, int buffer) const {
    const int row = threadIdx.x % 8, piece = threadIdx.x % 32 / 8, m = (int)p.a.m, row_bytes = p.row_bytes(), pairs = p.a.chunk_pairs, k = (int)p.a.k;
    const int chunk = p.first + which * pairs, begin = chunk + piece * piece_pairs(), chunk_end = min(chunk + pairs, p.first + p.count), end = min(begin + piece_pairs(), chunk_end);
    const int bytes = max(min(end * CUDA_MMA_PAIR, k) - begin * CUDA_MMA_PAIR, 0) * 2;
    const uint32_t to = p.x(buffer, p.slice) + row * row_bytes, barrier = full(buffer, piece);
    if (chunk_end * CUDA_MMA_PAIR > k) { /* weights beyond K are zero, but times a NaN, of which there may be the bits, they are none */
#pragma unroll
      for (int l = 0; l < COLUMN_TILES; l++) {
        for (int i = k + 8 * piece; i < chunk_end * CUDA_MMA_PAIR && row + 8 * l < m; i += 32) {
          store_shared_16(to + 8 * l * row_bytes + (i - chunk * CUDA_MMA_PAIR) * 2, 0, 0, 0, 0);
        }
      }
      if (which > 0) { /* there are several chunks */
        fence_async();
      }
      __syncwarp();
    }
    if (row == 0) {
      barrier_expect(barrier, bytes * m);
    }
    return {to + (begin - chunk) * (CUDA_MMA_PAIR * 2), barrier, static_cast<const uint16_t *>(p.a.x) + row * p.a.ldx_elems + begin * CUDA_MMA_PAIR, bytes};
  }
  __device__ void copy(const lane_copy &of) const {
#pragma unroll
    for (int l = 0; l < COLUMN_TILES; l++) {
      if (of.bytes > 0 && (int)threadIdx.x % 8 + 8 * l < (int)p.a.m) {
        copy_bulk(of.to + 8 * l * p.row_bytes(), of.from + 8 * l * p.a.ldx_elems, of.bytes, of.barrier);
      }
    }
  }
};

/*
 * DEPTH: pairs (of 64 k's) that a warp has under way. Shared memory: x, as few_part says; then the sums of the slices, if there are several, of the row tiles that the block finishes. PAIRED: blocks
 * are in clusters of two, else alone. X_COMES: one of the above.
 */
template <class X, int COLUMN_TILES, int DEPTH, bool PAIRED, class X_COMES>
__device__ inline void few_rows(const cuda_mma_args &a) {
  extern __shared__ __align__(128) uint8_t shared[];
  launch_dependents();
  constexpr int CLUSTER = PAIRED ? 2 : 1;
  const int rank = blockIdx.x % CLUSTER, unit = blockIdx.x / CLUSTER, units = gridDim.x / CLUSTER; /* blocks or clusters */
  const few_part part(a, shared_address(shared) + X_COMES::BARRIERS_BYTES, CLUSTER, rank);
  const X_COMES x_comes = {part};
  const int lane = threadIdx.x % 32, m = (int)a.m, slices = a.slices, row_tiles_here = (int)(blockDim.x / 32) >> part.log_slices, row_tiles = (int)((a.n + 15) / 16);

  /* ---- weights */
  lane_weights ring[DEPTH];
  const uint8_t *codes = nullptr, *scales = nullptr; /* of the next pair to be loaded, */
  const int weight_tiles = (int)((a.n + CUDA_MMA_ROWS - 1) / CUDA_MMA_ROWS);
  int pair_bytes = 0;                                /* from a pair to the next */
  int left = 0;                                      /* of which there are so many */
  auto load = [&](lane_weights &w) {
    if (left > 0) {
      w.words[0] = load_weights(codes);
      w.words[1] = load_weights(codes + 512);
      w.scales = __ldg(reinterpret_cast<const uint32_t *>(scales));
    }
    left--;
    codes += pair_bytes;
    scales += pair_bytes;
  };
  auto start = [&](int tile) {
    const int group = tile / (4 * CUDA_MMA_GROUP) * CUDA_MMA_GROUP, width = min(weight_tiles - group, (int)CUDA_MMA_GROUP);
    const uint8_t *from = a.weights + ((size_t)group * part.pairs + part.first * width + tile / 4 - group) * CUDA_MMA_TILE_BYTES;
    pair_bytes = width * CUDA_MMA_TILE_BYTES;
    codes = from + tile % 4 * 1024 + lane * 16;
    scales = from + CUDA_MMA_SCALES_AT + tile % 4 * 128 + lane * 4;
    left = tile < row_tiles ? part.count : 0;
#pragma unroll
    for (int d = 0; d < DEPTH; d++) {
      load(ring[d]);
    }
    if (tile < row_tiles) {
      prefetch_row_constants(a, tile * 16);
    }
  };
  start(part.row * units + unit);
  if constexpr (PAIRED) {
    cluster_arrive_relaxed();
  }
  x_comes.begin();

  const int steps = (part.pairs + slices - 1) >> (31 - __clz(slices)), chunk = a.chunk_pairs, chunks = steps <= chunk ? 1 : (steps + chunk - 1) / chunk;
  const int row_bytes = part.row_bytes(), piece_pairs = x_comes.piece_pairs();
  uint32_t of_lane[COLUMN_TILES]; /* 8 k's of two steps' 32 of a row of x, for load_matrices; columns beyond m repeat the last: they are not written */
#pragma unroll
  for (int l = 0; l < COLUMN_TILES; l++) {
    of_lane[l] = part.x(0, part.slice) + min(8 * l + lane % 8, m - 1) * row_bytes + lane / 8 * 16;
  }
  const uint32_t sums = part.x(chunks > 1 ? 2 : 1, 0); /* float4 [row tiles][slices][COLUMN_TILES][32] */
  int fill = 0; /* how often a chunk has come before the one that is used */
  for (int first_tile = unit; first_tile < row_tiles; first_tile += row_tiles_here * units) {
    const int tile = first_tile + part.row * units;
    if (first_tile != unit) {
      start(tile);
    }
    float c[COLUMN_TILES][4] = {};
    auto multiply = [&](const lane_weights &w, const uint32_t (&x)[COLUMN_TILES], int offset) {
#pragma unroll
      for (int block = 0; block < 2; block++) {
        const uint2 s0 = X::scales(__shfl_sync(~0u, w.scales, 2 * block, 4)), s1 = X::scales(__shfl_sync(~0u, w.scales, 2 * block + 1, 4));
#pragma unroll
        for (int half = 0; half < 2; half++) {
          uint4 b[COLUMN_TILES];
#pragma unroll
          for (int l = 0; l < COLUMN_TILES; l++) {
            b[l] = load_matrices(x[l] + offset + block * 128 + half * 64);
          }
          const fragment low = X::weights(half ? w.words[block].z : w.words[block].x, scale_of_step(s0, 2 * half), scale_of_step(s1, 2 * half));
#pragma unroll
          for (int l = 0; l < COLUMN_TILES; l++) {
            X::mma(c[l], low, b[l].x, b[l].y);
          }
          const fragment high = X::weights(half ? w.words[block].w : w.words[block].y, scale_of_step(s0, 2 * half + 1), scale_of_step(s1, 2 * half + 1));
#pragma unroll
          for (int l = 0; l < COLUMN_TILES; l++) {
            X::mma(c[l], high, b[l].z, b[l].w);
          }
        }
      }
    };
    for (int which = 0; which < chunks; which++) {
      const int buffer = fill & 1;
      const unsigned phase = fill >> 1 & 1;
      if (chunks > 1) { /* the next chunk, of the next row tiles too, comes while this one is used */
        fill++;
        if (which + 1 < chunks || (!PAIRED && first_tile + row_tiles_here * units < row_tiles)) {
          x_comes.fetch(which + 1 < chunks ? which + 1 : 0, buffer ^ 1);
        }
      }
      uint32_t x[COLUMN_TILES];
#pragma unroll
      for (int l = 0; l < COLUMN_TILES; l++) {
        x[l] = of_lane[l] + buffer * m * row_bytes;
      }
      int to_come = tile < row_tiles ? min(part.count - which * chunk, chunk) : 0;
      for (int piece = 0; to_come > 0; piece++, to_come -= piece_pairs) {
        x_comes.wait(buffer, piece, phase);
        int left_here = min(to_come, piece_pairs);
        for (; left_here >= DEPTH; left_here -= DEPTH) {
#pragma unroll
          for (int d = 0; d < DEPTH; d++) {
            multiply(ring[d], x, d * CUDA_MMA_PAIR * 2);
            load(ring[d]);
          }
#pragma unroll
          for (int l = 0; l < COLUMN_TILES; l++) {
            x[l] += DEPTH * CUDA_MMA_PAIR * 2;
          }
        }
#pragma unroll
        for (int d = 0; d < DEPTH - 1; d++) { /* the end of a slice */
          if (d < left_here) {
            multiply(ring[d], x, d * CUDA_MMA_PAIR * 2);
          }
        }
      }
      if (chunks > 1) {
        x_comes.join();
      }
    }

    /* ---- the slices in order, then y */
    auto store = [&](int of_tile, int l, int at, int i, float sum) { /* value i of lane `at` */
      const long long n = (long long)of_tile * 16 + row_of_slot(at / 4) + i / 2 * 2;
      const int row = 8 * l + at % 4 * 2 + i % 2;
      if (row < m && n < a.n) {
        store_result(a, row, n, sum, X::UNSCALE);
      }
    };
    if (slices == 1) {
#pragma unroll
      for (int l = 0; l < COLUMN_TILES; l++) {
#pragma unroll
        for (int i = 0; i < 4; i++) {
          store(tile, l, lane, i, c[l][i]);
        }
      }
      continue;
    }
    /* Of a cluster's row tiles, each block finishes every other one. */
    const uint32_t mine = sums + (part.row / CLUSTER * slices + part.first_slice + part.slice) * COLUMN_TILES * 512 + lane * 16;
    if constexpr (PAIRED) {
      cluster_wait();
    }
#pragma unroll
    for (int l = 0; l < COLUMN_TILES; l++) {
      if constexpr (PAIRED) {
        store_to_cluster(mine + l * 512, part.row % CLUSTER, c[l][0], c[l][1], c[l][2], c[l][3]);
      } else {
        store_shared_16(mine + l * 512, c[l][0], c[l][1], c[l][2], c[l][3]);
      }
    }
    if constexpr (PAIRED) {
      cluster_sync();
    } else {
      __syncthreads();
    }
    for (unsigned e = threadIdx.x; e < (unsigned)(row_tiles_here - rank + CLUSTER - 1) / CLUSTER * COLUMN_TILES * 128; e += blockDim.x) {
      const unsigned of_row = e / (COLUMN_TILES * 128), within = e % (COLUMN_TILES * 128);
      const uint32_t all = sums + (of_row * slices * COLUMN_TILES * 128 + within) * 4;
      float of_slice[8]; /* of as many as there can be, so that all are loaded at once */
#pragma unroll
      for (int s = 0; s < 8; s++) {
        of_slice[s] = s < slices ? load_shared_float(all + s * COLUMN_TILES * 512) : 0;
      }
      float sum = of_slice[0];
#pragma unroll
      for (int s = 1; s < 8; s++) {
        sum = s < slices ? __fadd_rn(sum, of_slice[s]) : sum;
      }
      store(first_tile + (rank + of_row * CLUSTER) * units, within / 128, within / 4 % 32, within % 4, sum);
    }
    if (PAIRED) { /* a cluster computes all its row tiles at once */
      break;
    }
    __syncthreads();
  }
}

#endif
