/* SPDX-License-Identifier: Apache-2.0 */
#include "inspect/statistics.h"

#include <math.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "base/clones.h"
#include "format/e2m1.h"
#include "format/e4m3.h"

/* ------------------------------------------------------------------------------------------------------------------- blocks */

enum { ROWS_A_TASK = 64, BAND = 128, MAX_BANDS = 8 };

typedef struct count_job {
  const nvfp4_weights *weights;
  atomic_uint_fast64_t scales[256], largest_6, largest_4, dead, lost;
} count_job;

typedef struct block_counts {
  uint64_t largest_6, largest_4, dead, lost;
} block_counts;

/* Eight bytes are the sixteen codes of a block: sums within nibbles say how large the largest is. */
NVFP4_CLONES_AVX2 static void count_blocks_of_row(const uint8_t *codes, const uint8_t *scales, int64_t blocks, block_counts *out) {
  const uint64_t ones = UINT64_C(0x1111111111111111), magnitudes = 7 * ones, tops = 8 * ones;
  uint64_t six = 0, four = 0, dead = 0, lost = 0;
  for (int64_t b = 0; b < blocks; b++) {
    uint64_t block;
    memcpy(&block, codes + 8 * b, sizeof block);
    block &= magnitudes;
    uint64_t has_6 = ((block + ones) & tops) != 0, has_4 = ((block + 2 * ones) & tops) != 0; /* code 7; 6 or 7 */
    uint64_t zero = block == 0, no_scale = (scales[b] & 0x7F) == 0;
    six += has_6;
    four += has_4;
    dead += zero | no_scale;
    lost += (zero ^ 1) & no_scale;
  }
  out->largest_6 += six;
  out->largest_4 += four - six;
  out->dead += dead;
  out->lost += lost;
}

static void count_rows(void *arg, size_t index) {
  count_job *job = arg;
  const nvfp4_weights *w = job->weights;
  int64_t first = (int64_t)index * ROWS_A_TASK, last = first + ROWS_A_TASK < w->n ? first + ROWS_A_TASK : w->n;
  const int64_t blocks = w->k / NVFP4_BLOCK;
  uint64_t table[4][256] = {{0}}; /* neighbours are often the same: one table would wait for itself */
  block_counts counts = {0, 0, 0, 0};
  for (int64_t n = first; n < last; n++) {
    const uint8_t *scales = w->scales + n * w->scales_stride_bytes;
    count_blocks_of_row(w->codes + n * w->codes_stride_bytes, scales, blocks, &counts);
    for (int64_t b = 0; b < blocks; b++) {
      table[b % 4][scales[b]]++;
    }
  }
  for (int i = 0; i < 256; i++) {
    uint64_t count = table[0][i] + table[1][i] + table[2][i] + table[3][i];
    if (count != 0) {
      atomic_fetch_add_explicit(&job->scales[i], count, memory_order_relaxed);
    }
  }
  atomic_fetch_add_explicit(&job->largest_6, counts.largest_6, memory_order_relaxed);
  atomic_fetch_add_explicit(&job->largest_4, counts.largest_4, memory_order_relaxed);
  atomic_fetch_add_explicit(&job->dead, counts.dead, memory_order_relaxed);
  atomic_fetch_add_explicit(&job->lost, counts.lost, memory_order_relaxed);
}

void nvfp4_count_blocks(nvfp4_threads *threads, const nvfp4_weights *weights, nvfp4_layer_inspection *out) {
  count_job job = {.weights = weights};
  nvfp4_parallel_for(threads, (size_t)((weights->n + ROWS_A_TASK - 1) / ROWS_A_TASK), count_rows, &job);
  for (int i = 0; i < 256; i++) {
    out->scales[i] = job.scales[i];
  }
  out->blocks = (uint64_t)weights->n * (uint64_t)(weights->k / NVFP4_BLOCK);
  out->largest_6 = job.largest_6;
  out->largest_4 = job.largest_4;
  out->dead = job.dead;
  out->lost = job.lost;
}

/* ------------------------------------------------------------------------------------------------------------------ squares */

/* 4 times the squares of a byte's codes, the low one first. */
static void fill_squares(float squares[256][2]) {
  for (int byte = 0; byte < 256; byte++) {
    float low = (float)nvfp4_e2m1_doubled((uint8_t)(byte & 15)), high = (float)nvfp4_e2m1_doubled((uint8_t)(byte >> 4));
    squares[byte][0] = low * low;
    squares[byte][1] = high * high;
  }
}

/* The square of a scale; NaN, which is counted elsewhere, is nothing here. */
static double scale_square(uint8_t byte) {
  double scale = (double)nvfp4_e4m3_to_f32(byte);
  return isnan(scale) ? 0 : scale * scale;
}

void nvfp4_sum_squares(const nvfp4_weights *weights, const double *factors, double *columns, double *rows, double *largest) {
  const int64_t step = nvfp4_sample_step(weights->n), blocks = weights->k / NVFP4_BLOCK;
  float squares[256][2];
  fill_squares(squares);
  memset(columns, 0, (size_t)weights->k * sizeof *columns);
  *largest = 0;
  for (int64_t n = 0, i = 0; n < weights->n; n += step, i++) {
    const uint8_t *codes = weights->codes + n * weights->codes_stride_bytes, *scales = weights->scales + n * weights->scales_stride_bytes;
    double row = 0, most = 0;
    for (int64_t b = 0; b < blocks; b++) {
      const double scale = 0.25 * scale_square(scales[b]);
      float sum = 0, top = 0; /* at most 16 * 144: exact */
      for (int j = 0; j < 8; j++) {
        const float *pair = squares[codes[8 * b + j]];
        columns[16 * b + 2 * j] += (double)pair[0] * scale;
        columns[16 * b + 2 * j + 1] += (double)pair[1] * scale;
        sum += pair[0] + pair[1];
        top = pair[0] > top ? pair[0] : top;
        top = pair[1] > top ? pair[1] : top;
      }
      row += (double)sum * scale;
      most = (double)top * scale > most ? (double)top * scale : most;
    }
    rows[i] = row;
    most = sqrt(most) * factors[i];
    *largest = most > *largest ? most : *largest;
  }
}

void nvfp4_row_squares(const nvfp4_weights *weights, double *rows) {
  enum { BLOCKS = 64 };
  const int64_t blocks = weights->k / NVFP4_BLOCK, step = (blocks + BLOCKS - 1) / BLOCKS;
  float squares[256][2];
  fill_squares(squares);
  for (int64_t n = 0; n < weights->n; n++) {
    const uint8_t *codes = weights->codes + n * weights->codes_stride_bytes, *scales = weights->scales + n * weights->scales_stride_bytes;
    rows[n] = 0;
    for (int64_t b = 0; b < blocks; b += step) {
      float sum = 0;
      for (int j = 0; j < 8; j++) {
        sum += squares[codes[8 * b + j]][0] + squares[codes[8 * b + j]][1];
      }
      rows[n] += (double)sum * scale_square(scales[b]);
    }
  }
}

/* ------------------------------------------------------------------------------------------------------- order of the scales */

/* The rows of a sample of whole bands. In both orders a band of 128 rows takes the same bytes. */
static int64_t band_count(const nvfp4_weights *w) { return w->n / BAND < MAX_BANDS ? w->n / BAND : MAX_BANDS; }

/* Where, in a band of 128 rows, the scale of row n, block b lies as it is read. */
static int64_t place_in_band(nvfp4_arrangement arrangement, int64_t n, int64_t b, int64_t blocks) {
  if (arrangement == NVFP4_UNSWIZZLED) { /* tiles of 32 x 4 x 4 bytes, one after the other */
    return b / 4 * 512 + n % 32 * 16 + n / 32 * 4 + b % 4;
  }
  int64_t at = n * blocks + b;
  if (arrangement == NVFP4_SWIZZLED) {
    int64_t tile = at / 512, in = at % 512;
    return (in / 16 + in / 4 % 4 * 32) * blocks + tile * 4 + in % 4;
  }
  return at;
}

double nvfp4_explained_variance(const nvfp4_weights *weights, nvfp4_arrangement arrangement) {
  const int64_t blocks = weights->k / NVFP4_BLOCK, bands = band_count(weights);
  float logs[256];
  for (int i = 0; i < 256; i++) {
    logs[i] = i > 0 && i < 0x7F ? log2f(nvfp4_e4m3_to_f32((uint8_t)i)) : -10; /* half the smallest */
  }
  double *columns = calloc((size_t)blocks, sizeof *columns), total = 0, squares = 0, by_rows = 0, by_columns = 0;
  if (columns == NULL) {
    return -1;
  }
  for (int64_t band = 0; band < bands; band++) {
    const int64_t first = weights->n / BAND * band / bands * BAND;
    for (int64_t n = 0; n < BAND; n++) {
      double row = 0;
      for (int64_t b = 0; b < blocks; b++) {
        const int64_t at = place_in_band(arrangement, n, b, blocks);
        const double log = (double)logs[weights->scales[(first + at / blocks) * weights->scales_stride_bytes + at % blocks]];
        row += log;
        squares += log * log;
        columns[b] += log;
      }
      total += row;
      by_rows += row * row / (double)blocks;
    }
  }
  const double rows = (double)(bands * BAND), mean = total * total / (rows * (double)blocks);
  for (int64_t b = 0; b < blocks; b++) {
    by_columns += columns[b] * columns[b] / rows;
  }
  free(columns);
  return squares - mean > 1e-9 * squares ? (by_rows + by_columns - 2 * mean) / (squares - mean) : -1;
}

void nvfp4_explained_by_chance(const nvfp4_weights *weights, double *mean, double *deviation) {
  const double rows = (double)(band_count(weights) * BAND), blocks = (double)(weights->k / NVFP4_BLOCK);
  *mean = (rows + blocks - 2) / (rows * blocks - 1);
  *deviation = sqrt(2 * (rows + blocks - 2)) / (rows * blocks - 1);
}
