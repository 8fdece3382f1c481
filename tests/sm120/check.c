/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Whole launches of each shape of cuda_sm120_w4a4, simulated, against the canonical result. All sums are exact in fp32, so that the order of additions does not matter and bits are compared.
 *
 * Compiled once a PLANT: 0 is the kernel as it is, which must be right; the others have a wrong map of sm120_index.h, which must be found.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "format/scale_layout.h"
#include "kernels/ref/spec.h"

/* Each block: the header with one name changed, then the wrong function under the right name. */
#if PLANT == 1 /* a slab's rows one after the other in y */
#define sm120_row_of_place right_row_of_place
#include "kernels/cuda/sm120_index.h"
#undef sm120_row_of_place
static inline int sm120_row_of_place(sm120_shape s, int first_slab, int place) {
  (void)s;
  return first_slab * SM120_SLAB + place;
}
#elif PLANT == 2 /* rows of a slab one after the other */
#define sm120_scale_at right_scale_at
#include "kernels/cuda/sm120_index.h"
#undef sm120_scale_at
static inline int sm120_scale_at(sm120_shape s, int half, int slab, int row_tile, int slot) {
  return sm120_scales_at(s) + ((half * s.slabs + slab) * SM120_SLAB + 16 * row_tile + slot) * 4;
}
#elif PLANT == 3 /* the scales of the first 64 k's for all 128 */
#define sm120_x_scale_at right_x_scale_at
#include "kernels/cuda/sm120_index.h"
#undef sm120_x_scale_at
static inline int sm120_x_scale_at(sm120_shape s, int half, int column) {
  (void)half;
  return right_x_scale_at(s, 0, column);
}
#elif PLANT == 4 /* chunks where they would be if they did not change places */
#define sm120_matrix_at right_matrix_at
#include "kernels/cuda/sm120_index.h"
#undef sm120_matrix_at
static inline int sm120_matrix_at(int first, int half, int lane) {
  return (first + lane % 16) * SM120_PAIR_CODES + (2 * half + lane / 16) * SM120_PIECE;
}
#elif PLANT == 5 /* lane t = 1 has the scales of slot g, as t = 0 */
#define sm120_slot_of_scale right_slot_of_scale
#include "kernels/cuda/sm120_index.h"
#undef sm120_slot_of_scale
static inline int sm120_slot_of_scale(int lane) { return lane / 4; }
#elif PLANT == 6 /* lanes in columns, not in rows */
#define sm120_column_of_scale right_column_of_scale
#include "kernels/cuda/sm120_index.h"
#undef sm120_column_of_scale
static inline int sm120_column_of_scale(int lane) { return lane % 8; }
#elif PLANT == 7 /* values 1 and 2 of D change places: the row */
#define sm120_slot_of_value right_slot_of_value
#include "kernels/cuda/sm120_index.h"
#undef sm120_slot_of_value
static inline int sm120_slot_of_value(int lane, int i) { return lane / 4 + i % 2 * 8; }
#elif PLANT == 8 /* a lane's columns four apart */
#define sm120_column_of_value right_column_of_value
#include "kernels/cuda/sm120_index.h"
#undef sm120_column_of_value
static inline int sm120_column_of_value(int lane, int i) { return lane % 4 + i % 2 * 4; }
#elif PLANT == 9 /* half a pair at the end of K is forgotten */
#define sm120_first_pair right_first_pair
#include "kernels/cuda/sm120_index.h"
#undef sm120_first_pair
static inline int sm120_first_pair(int64_t k_padded, int slices, int slice) { return (int)(k_padded / 128 * slice / slices); }
#elif PLANT == 10 /* tiles of x in the order of those of the weights */
#define sm120_first_column right_first_column
#include "kernels/cuda/sm120_index.h"
#undef sm120_first_column
static inline int sm120_first_column(sm120_shape s, int64_t m, int64_t block) {
  return (int)(block / sm120_column_tiles(s, m) % sm120_column_tiles(s, m)) * s.columns;
}
#elif PLANT == 11 /* warps that share columns */
#define sm120_warp_column right_warp_column
#include "kernels/cuda/sm120_index.h"
#undef sm120_warp_column
static inline int sm120_warp_column(sm120_shape s, int warp) { return warp * s.warp_columns % s.columns; }
#elif PLANT == 12 /* rows 32 to 127 take the scales of rows 0 to 31 */
#define sm120_x_scales_copy right_x_scales_copy
#include "kernels/cuda/sm120_index.h"
#undef sm120_x_scales_copy
static inline sm120_copy sm120_x_scales_copy(sm120_shape s, int first_column, int i) {
  sm120_copy copy = right_x_scales_copy(s, first_column, i);
  copy.from -= copy.row % 128 / 32 * 4;
  return copy;
}
#elif PLANT == 13 /* each slab takes the scales of the first of its tile */
#define sm120_scales_copy right_scales_copy
#include "kernels/cuda/sm120_index.h"
#undef sm120_scales_copy
static inline sm120_copy sm120_scales_copy(sm120_shape s, int first_slab, int i) { return right_scales_copy(s, first_slab / 4 * 4, i); }
#elif PLANT == 14 /* the two halves of a pair change places */
#define sm120_codes_copy right_codes_copy
#include "kernels/cuda/sm120_index.h"
#undef sm120_codes_copy
static inline sm120_copy sm120_codes_copy(int first_slab, int row_bytes, int i) {
  sm120_copy copy = right_codes_copy(first_slab, row_bytes, i);
  copy.from ^= 2 * SM120_PIECE;
  return copy;
}
#elif PLANT == 15 /* codes of x over the last row of the weights */
#define sm120_x_codes_at right_x_codes_at
#include "kernels/cuda/sm120_index.h"
#undef sm120_x_codes_at
static inline int sm120_x_codes_at(sm120_shape s) { return right_x_codes_at(s) - SM120_PAIR_CODES; }
#elif PLANT == 16 /* rows of a slab that lie together in the layout are taken to be together in the matrix */
#define sm120_row_tiles right_row_tiles
#include "kernels/cuda/sm120_index.h"
#undef sm120_row_tiles
static inline int64_t sm120_row_tiles(sm120_shape s, int64_t n) { return (n + s.slabs * SM120_SLAB - 1) / (s.slabs * SM120_SLAB); }
#endif

#include "sm120/simulate.c"

static uint32_t state = 1;
static uint32_t draw(uint32_t count) { /* Knuth's MMIX generator, the upper bits */
  static uint64_t bits = 7;
  bits = bits * 6364136223846793005u + 1442695040888963407u;
  state = (uint32_t)(bits >> 33);
  return state % count;
}

/* Codes and scales of a matrix, canonical, and as the device has them; scales of 0.5, 1, 1.5 and 2. */
typedef struct matrix {
  uint8_t *codes, *scales, *padded_codes, *tiles;
} matrix;

static matrix make_matrix(int64_t rows, int64_t padded_rows, int64_t k) {
  static const uint8_t scales[] = {0x30, 0x38, 0x3C, 0x40};
  const int64_t blocks = k / 16, row_bytes = nvfp4_round_up(k, 64) / 2, tile_bytes = nvfp4_round_up(rows, 128) * row_bytes / 8;
  matrix m = {malloc((size_t)(rows * k / 2)), malloc((size_t)(rows * blocks)), calloc((size_t)padded_rows, (size_t)row_bytes),
              malloc((size_t)tile_bytes)};
  for (int64_t i = 0; i < rows * k / 2; i++) {
    m.codes[i] = (uint8_t)draw(256);
  }
  for (int64_t i = 0; i < rows * blocks; i++) {
    m.scales[i] = scales[draw(4)];
  }
  for (int64_t row = 0; row < rows; row++) {
    memcpy(m.padded_codes + row * row_bytes, m.codes + row * k / 2, (size_t)k / 2);
  }
  nvfp4_scales_from_linear(NVFP4_SCALES_128X4, m.scales, blocks, rows, blocks, m.tiles);
  return m;
}

static void free_matrix(matrix m) {
  free(m.codes);
  free(m.scales);
  free(m.padded_codes);
  free(m.tiles);
}

/* Wrong values of y. */
static int64_t run(sm120_shape shape, int64_t m, int64_t n, int64_t k, int slices) {
  matrix w = make_matrix(n, nvfp4_round_up(n, 128), k), x = make_matrix(m, m, k);
  float *alpha = malloc((size_t)n * sizeof *alpha), *y = malloc((size_t)(m * n) * sizeof *y);
  int64_t wrong = 0;
  for (int64_t i = 0; i < n; i++) {
    alpha[i] = i % 3 == 0 ? 0.25f : i % 3 == 1 ? 1.0f : 2.0f;
  }
  memset(y, 0xFF, (size_t)(m * n) * sizeof *y);
  const cuda_sm120_args a = {.m = m,
                             .n = n,
                             .k_padded = nvfp4_round_up(k, 64),
                             .codes = w.padded_codes,
                             .scales = w.tiles,
                             .x_codes = x.padded_codes,
                             .x_scales = x.tiles,
                             .alpha = alpha,
                             .y = y,
                             .ldy_elems = n,
                             .y_dtype = NVFP4_DTYPE_F32,
                             .slices = slices};
  const int groups = shape.slabs == 1 ? slices : 1;
  sm120_simulate(shape, &a, (unsigned)(sm120_row_tiles(shape, n) * sm120_column_tiles(shape, m)),
                 (unsigned)(groups * sm120_warps(shape) * 32));
  for (int64_t i = 0; i < m * n; i++) {
    const nvfp4_spec_row row = {w.codes + i % n * k / 2, w.scales + i % n * (k / 16)};
    const float want = alpha[i % n] * nvfp4_spec_w4a4((nvfp4_spec_row){x.codes + i / n * k / 2, x.scales + i / n * (k / 16)}, row, k);
    wrong += y[i] != want;
  }
  free_matrix(w);
  free_matrix(x);
  free(alpha);
  free(y);
  return wrong;
}

int main(void) {
  static const struct {
    const char *name;
    sm120_shape shape;
  } shapes[] = {
#define ROW(name, ...) {#name, {__VA_ARGS__}},
      SM120_SHAPES(ROW)};
  static const struct {
    int64_t m, n, k;
    int slices;
  } problems[] = {{1, 1, 16, 1},     {5, 37, 80, 1},     {16, 128, 128, 1},   {17, 130, 192, 2},
                  {64, 161, 336, 2}, {128, 128, 512, 4}, {141, 300, 1040, 4}, {257, 65, 720, 3}};
  int64_t wrong = 0;
  for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++) {
    for (size_t j = 0; j < sizeof problems / sizeof problems[0]; j++) {
      const int64_t here = run(shapes[i].shape, problems[j].m, problems[j].n, problems[j].k, problems[j].slices);
      if (here != 0) {
        printf("%s: M = %" PRId64 ", N = %" PRId64 ", K = %" PRId64 ": %" PRId64 " wrong\n", shapes[i].name, problems[j].m, problems[j].n,
               problems[j].k, here);
      }
      wrong += here;
      if (PLANT != 0 && wrong != 0) {
        return 0;
      }
    }
  }
  return wrong == 0 && PLANT == 0 ? 0 : 1;
}
