/* SPDX-License-Identifier: Apache-2.0 */
#include "kernels/cuda/sm100_tile.h"

#include "kernels/cuda/fp4_layout.h"

/* MULTIPROCESSORS: of a B200. Others have other numbers, which only the share of work is affected by. */
enum { MULTIPROCESSORS = 148, SLICES_MOST = 8, COLUMNS_LEAST = 16 };

static int64_t ceiling(int64_t a, int64_t b) { return (a + b - 1) / b; }

/* As many as give each multiprocessor a tile of 128 rows of weights at most, and each slice two stages at least. */
static int slices_of(int64_t n, int64_t k) {
  const int64_t row_tiles = ceiling(n, CUDA_SM100_ROWS), stages = ceiling(k, CUDA_SM100_ROW_BYTES * 2);
  int slices = SLICES_MOST;
  while (slices > 1 && (row_tiles * slices > MULTIPROCESSORS || stages < 2 * slices)) {
    slices /= 2;
  }
  return slices;
}

static cuda_sm100_shape shape_of(int columns, int slices, bool clustered) {
  cuda_sm100_shape s = {.columns = columns,
                        .x_tiles = (int32_t)ceiling(columns, 128),
                        .accumulators = 2 * columns <= CUDA_SM100_WEIGHT_SCALES_COLUMN ? 2 : 1,
                        .x_at = CUDA_SM100_ROWS * CUDA_SM100_ROW_BYTES};
  const int32_t scales_bytes = CUDA_SM100_STEPS * CUDA_SM100_SCALE_BYTES;
  const int32_t sums_bytes = slices > 1 && !clustered ? columns * CUDA_SM100_ROWS * (int32_t)sizeof(float) : 0;
  s.weight_scales_at = s.x_at + columns * CUDA_SM100_ROW_BYTES;
  s.x_scales_at = s.weight_scales_at + scales_bytes;
  s.stage_bytes = s.x_scales_at + s.x_tiles * scales_bytes;
  s.stages = (CUDA_SM100_SHARED_BYTES - CUDA_SM100_ALIGNMENT - sums_bytes) / s.stage_bytes;
  s.stages = s.stages < CUDA_SM100_STAGES_MOST ? s.stages : CUDA_SM100_STAGES_MOST;
  s.sums_at = clustered ? 0 : s.stages * s.stage_bytes;
  return s;
}

void cuda_sm100_plan(int64_t m, int64_t n, int64_t k, cuda_sm100_args *args, int64_t *all_tiles, int64_t *blocks) {
  const int slices = slices_of(n, k);
  const int most = slices == 1 ? CUDA_SM100_COLUMNS_MOST : 128; /* 256 columns of sums would leave no room for stages */
  int columns = COLUMNS_LEAST;
  while (columns < m && columns < most) {
    columns *= 2;
  }
  const int64_t tiles = ceiling(n, CUDA_SM100_ROWS) * ceiling(m, columns);
  const bool clustered = ceiling(tiles * slices, MULTIPROCESSORS) <
                         ceiling(tiles, MULTIPROCESSORS) * slices; /* by the slices that a multiprocessor computes */
  args->m = m;
  args->n = n;
  args->k_steps = (int32_t)ceiling(k, CUDA_FP4_K);
  args->slices = slices;
  args->clustered = clustered;
  args->shape = shape_of(columns, slices, clustered);
  *all_tiles = tiles;
  *blocks = clustered ? tiles * slices : tiles < MULTIPROCESSORS ? tiles : MULTIPROCESSORS;
}
