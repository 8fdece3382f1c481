/* SPDX-License-Identifier: Apache-2.0 */
#include "sm100/simulate.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "format/e2m1.h"
#include "format/e4m3.h"
#include "format/half.h"
#include "kernels/ref/spec.h"
#include "sm100/model.h"

enum { LANES = 128 };

typedef struct multiprocessor {
  uint8_t shared[CUDA_SM100_SHARED_BYTES];
  uint8_t tensor[LANES][CUDA_SM100_TENSOR_COLUMNS][4];
} multiprocessor;

/* TMA with a swizzle of 128 bytes; what is beyond the tensor is zero. */
static void copy_tensor(multiprocessor *sm, uint32_t to, const sm100_map *map, int64_t column, int64_t row, const sm100_fault *fault) {
  const uint64_t *m = *map;
  for (int64_t r = 0; r < (int64_t)m[5]; r++) {
    for (int64_t c = 0; c < (int64_t)m[4]; c++) {
      const uint32_t address = to + (uint32_t)(r * (int64_t)m[4] + c);
      const bool within = column + c < (int64_t)m[1] && row + r < (int64_t)m[2];
      sm->shared[fault->copies_unswizzled ? address : tcgen05_swizzle_128(address)] =
          within ? ((const uint8_t *)(uintptr_t)m[0])[(row + r) * (int64_t)m[3] + column + c] : 0;
    }
  }
}

/* tcgen05.cp.32x128b.warpx4 */
static void copy_scales(multiprocessor *sm, uint32_t to, uint64_t descriptor) {
  for (uint32_t lane = 0; lane < LANES; lane++) {
    for (uint32_t byte = 0; byte < 16; byte++) {
      const uint32_t from = tcgen05_address(descriptor, lane % 32, byte);
      sm->tensor[lane][to + byte / 4][byte % 4] = tcgen05_descriptor_is_valid(descriptor) ? sm->shared[from % sizeof sm->shared] : 0x7F;
    }
  }
}

/* A row of an operand, times its scales: exact. */
static void read_row(const multiprocessor *sm, uint64_t descriptor, uint32_t scales, uint32_t row, float out[64]) {
  for (uint32_t k = 0; k < 64; k++) {
    const uint8_t pair = sm->shared[tcgen05_address(descriptor, row, k / 2) % sizeof sm->shared];
    const uint8_t scale = sm->tensor[row % 32][(scales + tcgen05_scale_column(row)) % CUDA_SM100_TENSOR_COLUMNS][k / 16];
    out[k] = nvfp4_e2m1_to_f32(pair >> k % 2 * 4 & 15) * nvfp4_e4m3_to_f32(scale & 0x7F);
  }
}

static void multiply(multiprocessor *sm, uint32_t d, uint64_t a, uint64_t b, uint32_t instruction, uint32_t a_scales, uint32_t b_scales,
                     bool add) {
  const bool valid = tcgen05_descriptor_is_valid(a) && tcgen05_descriptor_is_valid(b) && tcgen05_instruction_is_valid(instruction);
  float w[LANES][64], x[64];
  for (uint32_t lane = 0; lane < LANES; lane++) {
    read_row(sm, a, a_scales, lane, w[lane]);
  }
  for (uint32_t column = 0; column < tcgen05_instruction_n(instruction) && d + column < CUDA_SM100_TENSOR_COLUMNS; column++) {
    read_row(sm, b, b_scales, column, x);
    for (uint32_t lane = 0; lane < LANES; lane++) {
      double sum = 0;
      float c;
      memcpy(&c, sm->tensor[lane][d + column], sizeof c);
      for (int k = 0; k < 64; k++) {
        sum += (double)w[lane][k] * (double)x[k];
      }
      c = valid ? (float)(sum + (add ? (double)c : 0)) : NAN;
      memcpy(sm->tensor[lane][d + column], &c, sizeof c);
    }
  }
}

/* A stage, as the producer of sm100.cuh fills it and its MMAs read it. */
static void run_stage(multiprocessor *sm, const cuda_sm100_args *a, const sm100_map *weights, const sm100_map *x, int64_t row_tile,
                      int64_t column0, int stage, uint32_t at, uint32_t sum, bool first, const sm100_fault *fault) {
  const cuda_sm100_shape *s = &a->shape;
  const int steps = cuda_sm100_steps(a, stage), x_tiles = cuda_sm100_x_tiles(a, column0);
  const size_t bytes = (size_t)steps * CUDA_SM100_SCALE_BYTES, from = (size_t)stage * CUDA_SM100_STEPS * CUDA_SM100_SCALE_BYTES,
               row_bytes = (size_t)a->k_steps * CUDA_SM100_SCALE_BYTES;
  copy_tensor(sm, at, weights, (int64_t)stage * CUDA_SM100_ROW_BYTES, row_tile * CUDA_SM100_ROWS, fault);
  copy_tensor(sm, at + (uint32_t)s->x_at, x, (int64_t)stage * CUDA_SM100_ROW_BYTES, column0, fault);
  memcpy(sm->shared + at + s->weight_scales_at, a->weight_scales + (size_t)row_tile * row_bytes + from, bytes);
  for (int tile = 0; tile < x_tiles; tile++) {
    memcpy(sm->shared + at + s->x_scales_at + tile * CUDA_SM100_STEPS * CUDA_SM100_SCALE_BYTES,
           a->x_scales + (size_t)(column0 / 128 + tile) * row_bytes + from, bytes);
  }
  for (int step = 0; step < steps; step++) {
    const uint32_t scales = at + (uint32_t)(s->weight_scales_at + step * CUDA_SM100_SCALE_BYTES);
    copy_scales(sm, cuda_sm100_weight_scales(step) ^ fault->scale_column, cuda_sm100_scales(scales) ^ fault->scales);
    for (int tile = 0; tile < x_tiles; tile++) {
      const uint32_t x_scales = at + (uint32_t)(s->x_scales_at + (tile * CUDA_SM100_STEPS + step) * CUDA_SM100_SCALE_BYTES);
      copy_scales(sm, cuda_sm100_x_scales(s, step, tile), cuda_sm100_scales(x_scales) ^ fault->scales);
    }
  }
  for (int step = 0; step < steps; step++) {
    multiply(sm, sum, cuda_sm100_operand(at, step) ^ fault->operand, cuda_sm100_operand(at + (uint32_t)s->x_at, step) ^ fault->operand,
             cuda_sm100_instruction(s->columns) ^ fault->instruction, cuda_sm100_weight_scales(step), cuda_sm100_x_scales(s, step, 0),
             !first || step > 0);
  }
}

static void finish(const cuda_sm100_args *a, int64_t m, int64_t n, float sum) {
  const size_t y_width = a->y_dtype == NVFP4_DTYPE_F32 ? 4 : 2, bias_width = a->bias_dtype == NVFP4_DTYPE_F32 ? 4 : 2;
  float bias;
  if (a->bias != NULL) {
    nvfp4_to_f32((const char *)a->bias + (size_t)n * bias_width, (nvfp4_dtype)a->bias_dtype, &bias, 1);
  }
  const float v = nvfp4_spec_finish(sum, a->alpha[n], a->bias != NULL ? &bias : NULL);
  nvfp4_from_f32(&v, (nvfp4_dtype)a->y_dtype, (char *)a->y + (size_t)(m * a->ldy_elems + n) * y_width, 1);
}

void sm100_simulate(const cuda_sm100_args *a, const sm100_map *weights, const sm100_map *x, const sm100_fault *fault) {
  const cuda_sm100_shape *s = &a->shape;
  multiprocessor *sm = malloc(sizeof *sm);
  float *sums = malloc((size_t)s->columns * LANES * sizeof *sums);
  memset(sm, 0xFF, sizeof *sm); /* NaN everywhere */
  int stages = 0, accumulators = 0;
  for (int64_t row0 = 0; row0 < a->n; row0 += CUDA_SM100_ROWS) {
    for (int64_t column0 = 0; column0 < a->m; column0 += s->columns) {
      for (int slice = 0; slice < a->slices; slice++, accumulators++) {
        const uint32_t sum = cuda_sm100_accumulator(s, accumulators % s->accumulators);
        const int first = cuda_sm100_first_stage(a, slice), end = cuda_sm100_first_stage(a, slice + 1);
        for (int stage = first; stage < end; stage++, stages++) {
          const uint32_t at = CUDA_SM100_ALIGNMENT + (uint32_t)(stages % s->stages * s->stage_bytes);
          run_stage(sm, a, weights, x, row0 / CUDA_SM100_ROWS, column0, stage, at, sum, stage == first, fault);
        }
        for (int64_t lane = 0; lane < LANES; lane++) {
          for (int64_t column = 0; column < s->columns; column++) {
            float v, *of = &sums[column * LANES + lane];
            memcpy(&v, sm->tensor[lane][sum + column], sizeof v);
            *of = slice == 0 ? v : *of + v;
            if (slice + 1 == a->slices && column0 + column < a->m && row0 + lane < a->n) {
              finish(a, column0 + column, row0 + lane, *of);
            }
          }
        }
      }
    }
  }
  free(sums);
  free(sm);
}
