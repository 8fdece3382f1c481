/* SPDX-License-Identifier: Apache-2.0 */
/*
 * y^T = W x^T on FP4 tensor cores, of packed weights in the layout cuda_fp4_128x4 and x quantised into the same form. Tiles, shared and tensor memory: sm100_tile.h.
 *
 * A thread block has four warps that finish and write y, one that brings stages of 256 k's, codes by tensor map and scales by bulk copy, and one that issues copies of scales to tensor memory and
 * MMAs. Stages go round between the last two; accumulators between MMAs and the epilogue. The block persists over tiles, or computes one slice of one tile, as one of a cluster whose sums meet through
 * shared memory.
 *
 * Order of additions: an MMA adds 64 k's to the accumulator, in ascending order over a slice of K; slices are added in order, in fp32.
 *
 * Tests compile this file for Hopper with tensor memory emulated (NVFP4_EMULATE_TCGEN05): all but tcgen05.cuh is the same code.
 */
#ifndef NVFP4_KERNELS_CUDA_SM100_CUH
#define NVFP4_KERNELS_CUDA_SM100_CUH

#include "kernels/cuda/async.cuh"
#include "kernels/cuda/sm100_tile.h"
#ifndef NVFP4_EMULATE_TCGEN05
#include "kernels/cuda/tcgen05.cuh"
#endif
#include "kernels/cuda/tiles.cuh"

/* The slices of tiles that a thread block computes, one after the other. */
struct sm100_walk {
  const cuda_sm100_args &a;
  tile_order order;
  int tile, slice, row_tile, column_tile, first_stage, end_stage;

  __device__ explicit sm100_walk(const cuda_sm100_args &args)
      : a(args), order{(int)((args.n + CUDA_SM100_ROWS - 1) / CUDA_SM100_ROWS), (int)((args.m + args.shape.columns - 1) / args.shape.columns)} {
    tile = (int)blockIdx.x / (a.clustered ? a.slices : 1);
    slice = a.clustered ? (int)blockIdx.x % a.slices : 0;
    place();
  }
  __device__ bool done() const { return tile >= order.row_tiles * order.column_tiles; }
  __device__ void next() {
    if (a.clustered) {
      tile = order.row_tiles * order.column_tiles;
    } else if (++slice == a.slices) {
      slice = 0;
      tile += (int)gridDim.x;
    }
    place();
  }
  __device__ void place() {
    if (done()) {
      return;
    }
    order.place(tile, &row_tile, &column_tile);
    first_stage = cuda_sm100_first_stage(&a, slice);
    end_stage = cuda_sm100_first_stage(&a, slice + 1);
  }
  __device__ long long column0() const { return (long long)column_tile * a.shape.columns; }
};

/* One of `count` stages or accumulators, and the phase of its two barriers: full, and, `count` barriers further, empty. */
struct sm100_ring {
  int count, at;
  uint32_t barriers;
  unsigned phase;
  __device__ sm100_ring(int of, uint32_t first_barrier) : count(of), at(0), barriers(first_barrier), phase(0) {}
  __device__ uint32_t full() const { return barriers + 8 * at; }
  __device__ uint32_t empty() const { return full() + 8 * count; }
  __device__ void next() {
    if (++at == count) {
      at = 0;
      phase ^= 1;
    }
  }
};

/* One thread. */
__device__ inline void sm100_produce(const cuda_sm100_args &a, const cuda_tensor_map &weights, const cuda_tensor_map &x, uint32_t shared, sm100_ring stages) {
  const cuda_sm100_shape &s = a.shape;
  wait_for_previous();
  for (sm100_walk walk(a); !walk.done(); walk.next()) {
    const long long column0 = walk.column0();
    const int x_tiles = cuda_sm100_x_tiles(&a, column0);
    const uint8_t *weight_scales = a.weight_scales + (long long)walk.row_tile * a.k_steps * CUDA_SM100_SCALE_BYTES;
    const uint8_t *x_scales = a.x_scales + column0 / 128 * a.k_steps * CUDA_SM100_SCALE_BYTES;
    for (int stage = walk.first_stage; stage < walk.end_stage; stage++, stages.next()) {
      const uint32_t to = shared + stages.at * s.stage_bytes, full = stages.full();
      const unsigned bytes = cuda_sm100_steps(&a, stage) * CUDA_SM100_SCALE_BYTES; /* of a row of tiles of scales */
      const long long from = (long long)stage * CUDA_SM100_STEPS * CUDA_SM100_SCALE_BYTES;
      barrier_wait(stages.empty(), stages.phase ^ 1);
      barrier_expect(full, (CUDA_SM100_ROWS + s.columns) * CUDA_SM100_ROW_BYTES + (1 + x_tiles) * bytes);
      copy_tensor(to, weights, stage * CUDA_SM100_ROW_BYTES, walk.row_tile * CUDA_SM100_ROWS, full);
      copy_tensor(to + s.x_at, x, stage * CUDA_SM100_ROW_BYTES, (int)column0, full);
      copy_bulk(to + s.weight_scales_at, weight_scales + from, bytes, full);
      for (int tile = 0; tile < x_tiles; tile++) {
        copy_bulk(to + s.x_scales_at + tile * CUDA_SM100_STEPS * CUDA_SM100_SCALE_BYTES, x_scales + (long long)tile * a.k_steps * CUDA_SM100_SCALE_BYTES + from, bytes,
                  full);
      }
    }
  }
}

/* One warp. */
__device__ inline void sm100_multiply(const cuda_sm100_args &a, uint32_t shared, uint32_t tensor, sm100_ring stages, sm100_ring accumulators) {
  const cuda_sm100_shape &s = a.shape;
  const uint32_t instruction = cuda_sm100_instruction(s.columns);
  for (sm100_walk walk(a); !walk.done(); walk.next(), accumulators.next()) {
    const int x_tiles = cuda_sm100_x_tiles(&a, walk.column0());
    const uint32_t sum = tensor + cuda_sm100_accumulator(&s, accumulators.at);
    barrier_wait(accumulators.empty(), accumulators.phase ^ 1);
    tensor_after_barrier();
    for (int stage = walk.first_stage; stage < walk.end_stage; stage++, stages.next()) {
      const uint32_t at = shared + stages.at * s.stage_bytes;
      const int steps = cuda_sm100_steps(&a, stage);
      barrier_wait(stages.full(), stages.phase);
      tensor_after_barrier();
      for (int step = 0; step < steps; step++) {
        tensor_copy_scales(tensor + cuda_sm100_weight_scales(step), cuda_sm100_scales(at + s.weight_scales_at + step * CUDA_SM100_SCALE_BYTES));
        for (int tile = 0; tile < x_tiles; tile++) {
          tensor_copy_scales(tensor + cuda_sm100_x_scales(&s, step, tile),
                             cuda_sm100_scales(at + s.x_scales_at + (tile * CUDA_SM100_STEPS + step) * CUDA_SM100_SCALE_BYTES));
        }
      }
      for (int step = 0; step < steps; step++) {
        tensor_multiply(sum, cuda_sm100_operand(at, step), cuda_sm100_operand(at + s.x_at, step), instruction, tensor + cuda_sm100_weight_scales(step),
                        tensor + cuda_sm100_x_scales(&s, step, 0), stage > walk.first_stage || step > 0);
      }
      tensor_commit(stages.empty());
    }
    tensor_commit(accumulators.full());
  }
}

/* What a thread of the epilogue needs to finish the sums of its row of weights. */
struct sm100_finish {
  const cuda_sm100_args &a;
  long long n;
  float alpha = 0, bias = -0.0f; /* -0 added to anything changes no bit */
  __device__ sm100_finish(const cuda_sm100_args &args, int row_tile) : a(args), n((long long)row_tile * CUDA_SM100_ROWS + threadIdx.x) {
    if (n < a.n) {
      alpha = a.alpha[n];
      bias = a.bias != nullptr ? load_f32(a.bias, a.bias_dtype, n) : bias;
    }
  }
  __device__ void operator()(long long m, float sum) const {
    if (n < a.n && m < a.m) {
      store_f32(a.y, a.y_dtype, m * a.ldy_elems + n, __fmaf_rn(alpha, sum, bias));
    }
  }
};

/* Four warps; a thread has a row of weights. sums: those of shape.sums_at. */
__device__ inline void sm100_epilogue(const cuda_sm100_args &a, float *sums, uint32_t tensor, sm100_ring accumulators) {
  const uint32_t lanes = (threadIdx.x / 32 * 32) << 16;
  for (sm100_walk walk(a); !walk.done(); walk.next(), accumulators.next()) {
    const long long column0 = walk.column0();
    const int used = (int)min((long long)a.shape.columns, a.m - column0);
    const bool last = !a.clustered && walk.slice + 1 == a.slices;
    barrier_wait(accumulators.full(), accumulators.phase);
    tensor_after_barrier();
    const sm100_finish finish(a, walk.row_tile);
    for (int column = 0; column < used; column += 16) {
      float v[16];
      tensor_load(tensor + lanes + cuda_sm100_accumulator(&a.shape, accumulators.at) + column, v);
#pragma unroll
      for (int i = 0; i < 16; i++) {
        float *sum = sums + (column + i) * CUDA_SM100_ROWS + threadIdx.x;
        if (!a.clustered && walk.slice > 0) {
          v[i] = __fadd_rn(*sum, v[i]);
        }
        if (last) {
          finish(column0 + column + i, v[i]);
        } else {
          *sum = v[i];
        }
      }
    }
    tensor_before_barrier();
    __syncwarp();
    barrier_arrive_if(accumulators.empty(), threadIdx.x % 32 == 0);
  }
}

/* Each block of the cluster adds the slices of its columns. */
__device__ inline void sm100_add_slices(const cuda_sm100_args &a, uint32_t sums) {
  const sm100_walk walk(a);
  const sm100_finish finish(a, walk.row_tile);
  const long long column0 = walk.column0();
  const int used = (int)min((long long)a.shape.columns, a.m - column0);
  for (int column = walk.slice; column < used; column += a.slices) {
    const uint32_t at = sums + (column * CUDA_SM100_ROWS + threadIdx.x) * 4;
    float sum = load_float_of_cluster(at, 0);
    for (int slice = 1; slice < a.slices; slice++) {
      sum = __fadd_rn(sum, load_float_of_cluster(at, slice));
    }
    finish(column0 + column, sum);
  }
}

__device__ inline void sm100_tiles(const cuda_sm100_args &a, const cuda_tensor_map &weights, const cuda_tensor_map &x) {
  extern __shared__ uint8_t unaligned[];
  __shared__ uint64_t barriers[2 * CUDA_SM100_STAGES_MOST + 4];
  __shared__ uint32_t tensor_address;
  const cuda_sm100_shape &s = a.shape;
  const uint32_t padding = -shared_address(unaligned) % CUDA_SM100_ALIGNMENT, shared = shared_address(unaligned) + padding;
  const sm100_ring stages(s.stages, shared_address(barriers)), accumulators(s.accumulators, stages.barriers + 16 * s.stages);
  const int warp = threadIdx.x / 32, PRODUCER = CUDA_SM100_EPILOGUE_WARPS, MULTIPLIER = PRODUCER + 1;
  launch_dependents();
  if (threadIdx.x == 0) {
    for (int i = 0; i < s.stages; i++) {
      barrier_init(stages.full() + 8 * i, 1);
      barrier_init(stages.empty() + 8 * i, 1);
    }
    for (int i = 0; i < s.accumulators; i++) {
      barrier_init(accumulators.full() + 8 * i, 1);
      barrier_init(accumulators.empty() + 8 * i, CUDA_SM100_EPILOGUE_WARPS);
    }
    asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
  }
  if (warp == MULTIPLIER) {
    tensor_alloc(shared_address(&tensor_address));
    tensor_before_barrier();
  }
  __syncthreads();
  tensor_after_barrier();
  const uint32_t tensor = *static_cast<volatile uint32_t *>(&tensor_address);
  if (warp == MULTIPLIER) {
    sm100_multiply(a, shared, tensor, stages, accumulators);
  } else if (warp == PRODUCER) {
    if (threadIdx.x % 32 == 0) {
      sm100_produce(a, weights, x, shared, stages);
    }
    __syncwarp();
  } else {
    sm100_epilogue(a, reinterpret_cast<float *>(unaligned + padding + s.sums_at), tensor, accumulators);
  }
  tensor_before_barrier();
  __syncthreads();
  if (warp == MULTIPLIER) {
    tensor_after_barrier();
    tensor_free(tensor);
  }
  if (a.clustered) {
    cluster_sync();
    if (warp < CUDA_SM100_EPILOGUE_WARPS) {
      sm100_add_slices(a, shared + s.sums_at);
      __syncwarp();
    }
    cluster_sync(); /* the others read this block's sums no more */
  }
}

#endif
