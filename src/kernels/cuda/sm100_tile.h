/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cuda_sm100_w4a4's arguments and index maths, for the host, the device code and the tests, which compare all of it with what CUTLASS computes. PTX ISA: "tcgen05", "Matrix descriptors",
 * "Instruction descriptor", "Scale factors".
 *
 * A tile of y is computed transposed, y^T = W x^T: the MMA's M are 128 rows of weights, one for each lane of tensor memory; its N are `columns` rows of x. So few rows of x cost an MMA with a small
 * N, where the other way round they would take 128 rows; alpha and bias belong to a lane; and the lanes of a warp write neighbours of a row of y, whatever its stride.
 *
 * A stage of shared memory holds 256 k's: codes in rows of 128 bytes, swizzled as TMA and the MMA have it (16-byte chunk c of row r is at c ^ r % 8), at a multiple of 1024; and scales in tiles of
 * 128 rows x 4, 512 bytes for each 64 k's, as memory has them.
 *
 *   stage:          weights [128][128], x [columns][128], scales of weights [4][512], scales of x [x_tiles][4][512]
 *   tensor memory:  accumulators [2][columns] of fp32, or one; scales of weights for four steps of 64 k's, 4 columns each; those of x, 4 x_tiles each
 */
#ifndef NVFP4_KERNELS_CUDA_SM100_TILE_H
#define NVFP4_KERNELS_CUDA_SM100_TILE_H

#include <stdbool.h>
#include <stdint.h>

#ifdef __CUDACC__
#define NVFP4_HOST_DEVICE __host__ __device__
#else
#define NVFP4_HOST_DEVICE
#endif

enum {
  CUDA_SM100_ROWS = 128, /* of weights, of a tile */
  CUDA_SM100_COLUMNS_MOST = 256,
  CUDA_SM100_ROW_BYTES = 128,   /* of codes of a row, of a stage: 256 k's */
  CUDA_SM100_STEPS = 4,         /* MMAs of a stage: 64 k's each */
  CUDA_SM100_SCALE_BYTES = 512, /* a tile of scales: 128 rows, 64 k's */
  CUDA_SM100_STAGES_MOST = 10,
  CUDA_SM100_SHARED_BYTES =
      226 * 1024,                  /* all but the kernel's barriers: one thread block a multiprocessor, which then has all tensor memory */
  CUDA_SM100_ALIGNMENT = 1024,     /* of stages */
  CUDA_SM100_TENSOR_COLUMNS = 512, /* of tensor memory: all */
  CUDA_SM100_WEIGHT_SCALES_COLUMN = 464,
  CUDA_SM100_X_SCALES_COLUMN = 480,
  CUDA_SM100_EPILOGUE_WARPS = 4, /* warp w has the lanes of tensor memory from 32 (w % 4) on */
  CUDA_SM100_THREADS = 32 * (CUDA_SM100_EPILOGUE_WARPS + 2)
};

/* How the host shares out tensor memory and shared memory. Offsets in bytes; those of operands and scales are within a stage, which begins with the weights. */
typedef struct cuda_sm100_shape {
  int32_t columns;      /* rows of x of a tile: 16, 32, 64, 128 or 256 */
  int32_t x_tiles;      /* tiles of scales that these take: 1 or 2 */
  int32_t accumulators; /* 2: the epilogue of a tile goes on beside the MMAs of the next */
  int32_t stages, stage_bytes;
  int32_t x_at, weight_scales_at, x_scales_at;
  int32_t
      sums_at; /* [columns][128] fp32: sums of slices before, or, where slices are computed by a cluster, that of the block's slice, in the place of the stages */
} cuda_sm100_shape;

typedef struct cuda_sm100_args {
  int64_t m, n;
  const uint8_t *weight_scales, *x_scales; /* tiles of 128 rows x 4: [n/128][k_steps] and [m/128][k_steps], rounded up */
  const float *alpha;                      /* [n] */
  const void *bias;                        /* NULL: none */
  void *y;
  int64_t ldy_elems;
  int32_t y_dtype, bias_dtype;
  int32_t k_steps;   /* of 64 k's, the last one padded with zeros */
  int32_t slices;    /* K is cut into so many parts, whose sums are added in order */
  int32_t clustered; /* 1: the blocks of a cluster compute a slice each; 0: a block computes all slices of a tile, one after the other */
  int32_t reserved;
  cuda_sm100_shape shape;
} cuda_sm100_args;

#ifndef __CUDACC__
/*
 * Fills in what follows from the shape alone: m, n, k_steps, slices, clustered and shape. slices depends on n and k only, so that a row's bits do not depend on m. *tiles: of y; *blocks: the grid.
 */
void cuda_sm100_plan(int64_t m, int64_t n, int64_t k, cuda_sm100_args *args, int64_t *tiles, int64_t *blocks);
#endif

/* M = 128, N = columns, both K-major E2M1, scales in UE4M3, the first byte of their column: bits 4-5 and 29-30. */
static NVFP4_HOST_DEVICE inline uint32_t cuda_sm100_instruction(int columns) {
  return 1u << 7 | 1u << 10 | (uint32_t)(columns / 8) << 17 | (uint32_t)(CUDA_SM100_ROWS / 16) << 24;
}

/* A descriptor's start: of the block's own shared memory, without the upper bits that say which block of the cluster. In units of 16 bytes. */
static NVFP4_HOST_DEVICE inline uint64_t cuda_sm100_start(uint32_t address) { return (address & 0x3FFFF) / 16; }

/* Codes at an address of shared memory: K-major, swizzle of 128 bytes, 1024 bytes from 8 rows to the next. The next 64 k's: 32 bytes on, within the swizzle's row. */
static NVFP4_HOST_DEVICE inline uint64_t cuda_sm100_operand(uint32_t address, int step) {
  return (uint64_t)2 << 61 | (uint64_t)1 << 46 | (uint64_t)(1024 / 16) << 32 | (uint64_t)1 << 16 |
         cuda_sm100_start(address + 32 * (uint32_t)step);
}

/* A tile of scales for tcgen05.cp.32x128b: not swizzled, rows of 16 bytes, 128 bytes from 8 rows to the next. */
static NVFP4_HOST_DEVICE inline uint64_t cuda_sm100_scales(uint32_t address) {
  return (uint64_t)1 << 46 | (uint64_t)(128 / 16) << 32 | (uint64_t)1 << 16 | cuda_sm100_start(address);
}

/* Columns of tensor memory. */
static NVFP4_HOST_DEVICE inline uint32_t cuda_sm100_accumulator(const cuda_sm100_shape *s, int which) {
  return (uint32_t)(which * s->columns);
}
static NVFP4_HOST_DEVICE inline uint32_t cuda_sm100_weight_scales(int step) {
  return (uint32_t)(CUDA_SM100_WEIGHT_SCALES_COLUMN + 4 * step);
}
static NVFP4_HOST_DEVICE inline uint32_t cuda_sm100_x_scales(const cuda_sm100_shape *s, int step, int tile) {
  return (uint32_t)(CUDA_SM100_X_SCALES_COLUMN + 4 * (step * s->x_tiles + tile));
}

/* Stages of 256 k's, the last one may have fewer steps; a slice is those from stage slice * stages / slices on. */
static NVFP4_HOST_DEVICE inline int cuda_sm100_k_stages(int k_steps) { return (k_steps + CUDA_SM100_STEPS - 1) / CUDA_SM100_STEPS; }
static NVFP4_HOST_DEVICE inline int cuda_sm100_first_stage(const cuda_sm100_args *a, int slice) {
  return (int)((int64_t)cuda_sm100_k_stages(a->k_steps) * slice / a->slices);
}
static NVFP4_HOST_DEVICE inline int cuda_sm100_steps(const cuda_sm100_args *a, int stage) {
  const int left = a->k_steps - stage * CUDA_SM100_STEPS;
  return left < CUDA_SM100_STEPS ? left : CUDA_SM100_STEPS;
}

/* Tiles of scales of the rows of x from column0 on. */
static NVFP4_HOST_DEVICE inline int cuda_sm100_x_tiles(const cuda_sm100_args *a, int64_t column0) {
  return a->m - column0 > 128 ? a->shape.x_tiles : 1;
}

#endif
