/* SPDX-License-Identifier: Apache-2.0 */
#include "sm120/simulate.h"

#include <stdlib.h>
#include <string.h>

#include "format/e2m1.h"
#include "format/e4m3.h"
#include "format/half.h"
#include "kernels/ref/spec.h"
#include "sm120/instruction.h"

enum { MOST_ROW_TILES = 4, MOST_COLUMN_TILES = 8, MOST_WARPS = 8 };

/* What the lanes of a warp have in registers. */
typedef struct warp {
  float d[MOST_ROW_TILES][MOST_COLUMN_TILES][LANES][4], total[MOST_ROW_TILES][MOST_COLUMN_TILES][LANES][4];
} warp;

/* A group of warps, which computes slices of K; `shared` is its part of shared memory. */
typedef struct group {
  sm120_shape shape;
  const cuda_sm120_args *a;
  int first_slab, first_column, pair, last_pair, load_stage, stage;
  uint8_t *shared;
  warp *warps;
} group;

/* ------------------------------------------------------------------------------------------------------------------ copies */

/* cp.async of `bytes`, or zeros. */
static void copy(uint8_t *to, const uint8_t *from, bool there, size_t bytes) {
  if (there) {
    memcpy(to, from, bytes);
  } else {
    memset(to, 0, bytes);
  }
}

/* The next pair of 64 k's to the next stage. */
static void load(group *g) {
  const cuda_sm120_args *a = g->a;
  const sm120_shape s = g->shape;
  const int row_bytes = (int)a->k_padded / 2, tiles = (int)a->k_padded / 64;
  uint8_t *stage = g->shared + g->load_stage * sm120_stage_bytes(s);
  if (g->pair < g->last_pair) {
    const int halves = tiles - 2 * g->pair;
    for (int i = 0; i < sm120_codes_copies(s); i++) {
      const sm120_copy c = sm120_codes_copy(g->first_slab, row_bytes, i);
      const uint8_t *from = a->codes + sm120_codes_base(g->first_slab, row_bytes) + c.from + g->pair * SM120_PAIR_CODES;
      copy(stage + c.to, from, c.half < halves, SM120_PIECE);
    }
    for (int i = 0; i < sm120_x_codes_copies(s); i++) {
      const sm120_copy c = sm120_x_codes_copy(s, g->first_column, row_bytes, i);
      const uint8_t *from = a->x_codes + sm120_x_codes_base(g->first_column, row_bytes) + c.from + g->pair * SM120_PAIR_CODES;
      copy(stage + c.to, from, c.half < halves && c.row < a->m, SM120_PIECE);
    }
    for (int i = 0; i < sm120_scales_copies(s); i++) {
      const sm120_copy c = sm120_scales_copy(s, g->first_slab, i);
      const uint8_t *from = a->scales + sm120_scales_base(g->first_slab, tiles) + c.from + g->pair * SM120_PAIR_SCALES;
      copy(stage + c.to, from, c.half < halves, SM120_PIECE);
    }
    for (int i = 0; i < sm120_x_scales_copies(s); i++) {
      const sm120_copy c = sm120_x_scales_copy(s, g->first_column, i);
      const uint8_t *from = a->x_scales + sm120_x_scales_base(g->first_column, tiles) + c.from + g->pair * SM120_PAIR_SCALES;
      copy(stage + c.to, from, c.half < halves && c.row < a->m, sizeof(uint32_t));
    }
  }
  g->pair++;
  g->load_stage = (g->load_stage + 1) % s.stages;
}

/* ------------------------------------------------------------------------------------------------------------- instructions */

static uint32_t word(const uint8_t *at) {
  uint32_t v;
  memcpy(&v, at, sizeof v);
  return v;
}

/* ldmatrix.x4: lane 8 i + r has the address of row r of matrix i; lane 4 r + c gets bytes 4 c to 4 c + 3 of row r of each. */
static void load_matrices(const uint8_t *const addresses[LANES], uint32_t words[LANES][4]) {
  for (int lane = 0; lane < LANES; lane++) {
    for (int i = 0; i < 4; i++) {
      words[lane][i] = word(addresses[8 * i + lane / 4] + lane % 4 * 4);
    }
  }
}

/* A register's eight codes times the scales of their blocks. */
static void decode(uint32_t codes, uint32_t scales, int k, float *out) {
  for (int i = 0; i < 8; i++) {
    out[i] = nvfp4_e2m1_to_f32((uint8_t)(codes >> 4 * i & 15)) * nvfp4_e4m3_to_f32((uint8_t)(scales >> (k + i) / 16 * 8));
  }
}

/* Sums in double, where they are exact, rounded to fp32 once. */
static void multiply(float d[LANES][4], uint32_t a[LANES][4], uint32_t a_scales[LANES], uint32_t b[LANES][2], uint32_t b_scales[LANES]) {
  float rows[INSTRUCTION_ROWS][INSTRUCTION_K], column[8];
  double columns[INSTRUCTION_K][INSTRUCTION_COLUMNS], sums[INSTRUCTION_ROWS][INSTRUCTION_COLUMNS] = {0};
  for (int lane = 0; lane < LANES; lane++) {
    for (int i = 0; i < 4; i++) {
      const int row = instruction_a_row(lane, i), k = instruction_a_k(lane, i);
      decode(a[lane][i], a_scales[instruction_lane_of_a_scale(row)], k, &rows[row][k]);
    }
    for (int i = 0; i < 2; i++) {
      const int which = instruction_b_column(lane), k = instruction_b_k(lane, i);
      decode(b[lane][i], b_scales[instruction_lane_of_b_scale(which)], k, column);
      for (int j = 0; j < 8; j++) {
        columns[k + j][which] = column[j];
      }
    }
  }
  for (int row = 0; row < INSTRUCTION_ROWS; row++) {
    double *sum = sums[row];
    for (int k = 0; k < INSTRUCTION_K; k++) {
      const double value = rows[row][k], *others = columns[k];
      for (int c = 0; c < INSTRUCTION_COLUMNS; c++) {
        sum[c] += value * others[c];
      }
    }
  }
  for (int lane = 0; lane < LANES; lane++) {
    for (int i = 0; i < 4; i++) {
      d[lane][i] = (float)(d[lane][i] + sums[instruction_d_row(lane, i)][instruction_d_column(lane, i)]);
    }
  }
}

/* 64 k's of a warp. */
static void compute_half(const group *g, int which, int half) {
  const sm120_shape s = g->shape;
  const uint8_t *stage = g->shared + g->stage * sm120_stage_bytes(s);
  const int slab = sm120_warp_slab(s, which), column = sm120_warp_column(s, which);
  uint32_t a[MOST_ROW_TILES][LANES][4], a_scales[MOST_ROW_TILES][LANES];
  const uint8_t *addresses[LANES];
  for (int r = 0; r < 2 * s.warp_slabs; r++) {
    for (int lane = 0; lane < LANES; lane++) {
      addresses[lane] = stage + sm120_matrix_at(slab * SM120_SLAB + 16 * r, half, lane);
      a_scales[r][lane] = word(stage + sm120_scale_at(s, half, slab + r / 2, r % 2, sm120_slot_of_scale(lane)));
    }
    load_matrices(addresses, a[r]);
  }
  for (int c = 0; c < s.warp_columns / 8; c++) {
    uint32_t words[LANES][4], b[LANES][2], b_scales[LANES];
    for (int lane = 0; lane < LANES; lane++) {
      addresses[lane] = stage + sm120_x_codes_at(s) + sm120_matrix_at(column + c / 2 * 16, half, lane);
      b_scales[lane] = word(stage + sm120_x_scale_at(s, half, column + 8 * c + sm120_column_of_scale(lane)));
    }
    load_matrices(addresses, words);
    for (int lane = 0; lane < LANES; lane++) {
      b[lane][0] = words[lane][c % 2];
      b[lane][1] = words[lane][c % 2 + 2];
    }
    for (int r = 0; r < 2 * s.warp_slabs; r++) {
      multiply(g->warps[which].d[r][c], a[r], a_scales[r], b, b_scales);
    }
  }
}

/* ------------------------------------------------------------------------------------------------------------- thread blocks */

/* Slices first to last - 1, one after the other: their sum in `total`. */
static void compute_slices(group *g, int first, int last) {
  const cuda_sm120_args *a = g->a;
  g->pair = sm120_first_pair(a->k_padded, a->slices, first);
  g->last_pair = sm120_first_pair(a->k_padded, a->slices, last);
  for (int i = 0; i < g->shape.stages - 1; i++) {
    load(g);
  }
  for (int slice = first; slice < last; slice++) {
    const int pairs = sm120_first_pair(a->k_padded, a->slices, slice + 1) - sm120_first_pair(a->k_padded, a->slices, slice);
    for (int w = 0; w < sm120_warps(g->shape); w++) {
      memset(g->warps[w].d, 0, sizeof g->warps[w].d);
    }
    for (int i = 0; i < pairs; i++) {
      load(g);
      for (int w = 0; w < sm120_warps(g->shape); w++) {
        compute_half(g, w, 0);
        compute_half(g, w, 1);
      }
      g->stage = (g->stage + 1) % g->shape.stages;
    }
    for (int w = 0; w < sm120_warps(g->shape); w++) {
      float *total = &g->warps[w].total[0][0][0][0], *d = &g->warps[w].d[0][0][0][0];
      for (size_t i = 0; i < sizeof g->warps[w].d / sizeof *d; i++) {
        total[i] = slice == first ? d[i] : total[i] + d[i];
      }
    }
  }
}

static size_t width(int32_t dtype) { return dtype == NVFP4_DTYPE_F32 ? 4 : 2; }

static void store(const cuda_sm120_args *a, int64_t m, int64_t n, float sum) {
  if (m < a->m && n < a->n) {
    float bias;
    if (a->bias != NULL) {
      nvfp4_to_f32((const char *)a->bias + (size_t)n * width(a->bias_dtype), (nvfp4_dtype)a->bias_dtype, &bias, 1);
    }
    const float v = nvfp4_spec_finish(sum, a->alpha[n], a->bias != NULL ? &bias : NULL);
    nvfp4_from_f32(&v, (nvfp4_dtype)a->y_dtype, (char *)a->y + (size_t)(m * a->ldy_elems + n) * width(a->y_dtype), 1);
  }
}

/* The sums of a group to its shared memory. */
static void store_sums(const group *g) {
  const sm120_shape s = g->shape;
  for (int w = 0; w < sm120_warps(s); w++) {
    for (int i = 0; i < 2 * s.warp_slabs * (s.warp_columns / 8) * LANES * 4; i++) {
      const int value = i % 4, lane = i / 4 % LANES, c = i / 4 / LANES % (s.warp_columns / 8), r = i / 4 / LANES / (s.warp_columns / 8);
      const int place = sm120_place(s, sm120_warp_slab(s, w) + r / 2, r % 2, sm120_slot_of_value(lane, value));
      const int column = sm120_warp_column(s, w) + 8 * c + sm120_column_of_value(lane, value);
      memcpy(g->shared + sm120_sum_at(s, column, place), &g->warps[w].total[r][c][lane][value], sizeof(float));
    }
  }
}

/* groups: one that computed all slices, or one for each slice. */
static void store_block(const group *groups, int count) {
  const group *g = &groups[0];
  for (int c = 0; c < g->shape.columns; c++) {
    for (int place = 0; place < g->shape.slabs * SM120_SLAB; place++) {
      const int at = sm120_sum_at(g->shape, c, place);
      float sum, part;
      memcpy(&sum, groups[0].shared + at, sizeof sum);
      for (int slice = 1; slice < count; slice++) {
        memcpy(&part, groups[slice].shared + at, sizeof part);
        sum += part;
      }
      store(g->a, g->first_column + c, sm120_row_of_place(g->shape, g->first_slab, place), sum);
    }
  }
}

void sm120_simulate(sm120_shape shape, const cuda_sm120_args *a, unsigned grid, unsigned block) {
  const int count = shape.slabs == 1 ? a->slices : 1, warps = sm120_warps(shape);
  const size_t shared_bytes = (size_t)sm120_group_bytes(shape);
  if (block != (unsigned)(count * warps * LANES) || grid != sm120_row_tiles(shape, a->n) * sm120_column_tiles(shape, a->m) ||
      warps > MOST_WARPS || count > SM120_SLICES) {
    return;
  }
  group groups[SM120_SLICES];
  uint8_t *shared = malloc(shared_bytes * (size_t)count);
  warp *all = malloc(sizeof *all * (size_t)(count * warps));
  for (unsigned b = 0; b < grid; b++) {
    memset(shared, 0x7F, shared_bytes * (size_t)count); /* 6 and NaN */
    for (int i = 0; i < count; i++) {
      groups[i] = (group){.shape = shape,
                          .a = a,
                          .first_slab = sm120_first_slab(shape, a->m, b),
                          .first_column = sm120_first_column(shape, a->m, b),
                          .shared = shared + (size_t)i * shared_bytes,
                          .warps = all + i * warps};
      compute_slices(&groups[i], count > 1 ? i : 0, count > 1 ? i + 1 : a->slices);
      store_sums(&groups[i]);
    }
    store_block(groups, count);
  }
  free(all);
  free(shared);
}
