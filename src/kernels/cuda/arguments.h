/* SPDX-License-Identifier: Apache-2.0 */
/* What the host side hands to the device code of the kernels in this folder: plain structs, passed by value. Pointers are the device's. */
#ifndef NVFP4_KERNELS_CUDA_ARGUMENTS_H
#define NVFP4_KERNELS_CUDA_ARGUMENTS_H

#include <nvfp4/nvfp4.h>

/* quantise.cu */
typedef struct cuda_quantise_args {
  int64_t m, k;
  const void *x; /* NULL: q_codes and q_scales hold what came quantised */
  int64_t ldx_elems;
  int32_t x_dtype;
  float s_a, inverse_s_a; /* 1 / s_a, to nearest even */
  const uint8_t *q_codes, *q_scales;
  int64_t q_codes_stride, q_scales_stride;
  int32_t q_scale_layout;
  int32_t scale_layout;  /* of `scales` */
  uint8_t *codes;        /* [m, 8 code_columns] without gaps */
  uint8_t *scales;       /* k/16 a row, in that layout, whole tiles */
  int64_t rows, columns; /* of scales with their padding: what is beyond m and k/16 becomes zero */
  int64_t code_columns;  /* blocks of codes in a row, k/16 at least and `columns` at most: those beyond k/16 become zero */
  uint16_t *values;      /* NULL, or codes times scales as bf16 [m, k], which are then made instead: rows is m, columns k/16 */
} cuda_quantise_args;

/* emulation_w4a4.cu and emulation_w4a16.cu. Weights in the layout cuda_linear. */
typedef struct cuda_emulation_args {
  int64_t m, n, k;
  const uint8_t *codes, *scales;     /* of the weights: [n, k/2], [n, k/16] */
  const uint8_t *x_codes, *x_scales; /* W4A4: [m, k/2], [m, k/16] */
  const void *x;                     /* W4A16 */
  int64_t ldx_elems;
  int32_t x_dtype, y_dtype, bias_dtype;
  int32_t reserved;
  const float *alpha; /* [n] */
  const void *bias;   /* NULL: none */
  void *y;
  int64_t ldy_elems;
} cuda_emulation_args;

/* fp4_finish.cu */
typedef struct cuda_fp4_finish_args {
  int64_t m, n;
  const float *acc; /* [m, n], rows ld_acc_elems apart */
  int64_t ld_acc_elems;
  const float *alpha; /* [n] */
  const void *bias;   /* [n], or NULL */
  void *y;
  int64_t ldy_elems;
  int32_t y_dtype, bias_dtype;
} cuda_fp4_finish_args;

/* sm120_w4a4.cu. Weights in the layout cuda_fp4_128x4, x as cuda_fp4_quantise makes it. */
typedef struct cuda_sm120_args {
  int64_t m, n, k_padded;
  const uint8_t *codes, *scales, *x_codes, *x_scales;
  const float *alpha; /* [n] */
  const void *bias;   /* NULL: none */
  void *y;
  int64_t ldy_elems;
  int32_t y_dtype, bias_dtype;
  int32_t slices; /* K is cut into so many parts, whose sums are added in order */
} cuda_sm120_args;

/* A thread block of fp4_finish.cu: so many columns of a row. */
enum { CUDA_FP4_FINISH_COLUMNS = 256 };

/* mma_layout.cu. The packed layout cuda_mma is described in mma_layout.h. */
typedef struct cuda_mma_pack_args {
  int64_t n, k;
  const uint8_t *codes, *scales; /* canonical */
  int64_t codes_stride, scales_stride;
  uint8_t *packed;
} cuda_mma_pack_args;

typedef struct cuda_mma_unpack_args {
  int64_t n, k;
  const uint8_t *packed;
  uint8_t *codes, *scales; /* canonical, without gaps */
} cuda_mma_unpack_args;

/* sm80_w4a16.cu and sm90_w4a16.cu. Weights in the layout cuda_mma; x is bf16 or f16, the kernel says which, and its rows begin at multiples of 16 bytes. */
typedef struct cuda_mma_args {
  int64_t m, n, k;
  const uint8_t *weights;
  const void *x;
  int64_t ldx_elems;
  const float *alpha; /* [n] */
  const void *bias;   /* NULL: none */
  void *y;
  int64_t ldy_elems;
  int32_t y_dtype, bias_dtype;
  int32_t slices;      /* K is cut into so many parts, whose sums are added in order */
  int32_t chunk_pairs; /* the kernels for few rows: so many pairs of x a slice are in shared memory at a time; 0 is not allowed */
  int32_t block_tiles; /* sm90_mid.cuh: tiles of 64 rows of weights that a thread block computes */
  int32_t cluster;     /* few.cuh, sm90_split.cuh: thread blocks that share the slices of a tile: 1 or 2 */
} cuda_mma_args;

/* Hopper: the most shared memory that a thread block can have. */
enum { CUDA_SM90_SHARED_BYTES = 227 * 1024 };

/* few.cuh there, before x: barriers of [2 chunks][up to 8 slices][4 pieces]. */
enum { CUDA_SM90_FEW_BARRIERS_BYTES = 2 * 8 * 4 * 8 };

/* sm80_many.cuh: shared memory of a group of warps that computes `rows` rows of weights and `columns` of x, by stages of 64 k's. */
#define CUDA_SM80_GROUP_BYTES(rows, columns, stages) ((stages) * ((columns)*128 + (rows) / 16 * (512 + 64)))

/* A thread block of 16 x 16 threads computes a tile of y: 64 columns and 16 times this many rows. */
enum { CUDA_EMULATION_COLUMNS = 64, CUDA_EMULATION_THREADS = 256 };

#endif
