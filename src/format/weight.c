/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Weight blocks both ways. Everything here is exact or rounds once, in double:
 *
 *   step      = scale * global has 4 + 24 significant bits, a tie point between two codes (3 bits) times step 31: both are doubles. So comparing
 *               |x| with the tie points rounds the true quotient x/step, with no division.
 *   error     = sum over k ascending of (x - e2m1 * step)^2, every operation one rounding in double. The code nearest to x has the least
 *               |x - e2m1 * step|, in the rounded numbers as in the true ones, since rounding is monotone.
 *
 * The scale sweep finds the best of 126 scales by trying 8 or 16 of them and proving the others worse by two bounds on their error that are monotone
 * in the scale. The bounds are computed by the same operations, term by term and in the same order as the error itself, so that rounding,
 * being monotone, keeps their order: no margin is needed, and the result is that of trying all.
 */
#include "format/weight.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "base/clones.h"
#include "base/fp_env.h"
#include "base/reason.h"
#include "format/e2m1.h"
#include "format/e4m3.h"
#include "format/global.h"

enum {
  CODE_FIRST = 0x01, /* of the positive finite E4M3 codes */
  CODE_LAST = 0x7E,
  CODE_ONE = 0x38,
  LANES = 8, /* scales tried at once */
  BELOW = 2  /* how far below the rounded scale the trial begins: measured, 2 is faster than 3 and 4 */
};

static double step_of(int code, float global) { return (double)nvfp4_e4m3_table[code] * (double)global; }

/* ---------------------------------------------------------------------------------------------------------------- dequantising */

/*
 * A multiplier: the product has 6 + 24 significant bits, a double holds it. Otherwise the quotient p/d, of a 6-bit number by a 24-bit one (divisor) or of
 * a 30-bit one by 2688 = 21 * 2^7 (amax), is rounded to double and then to float. That goes wrong only if p/d lies so near to a tie point t of two
 * floats, without being it, that the double is t. t has at most 25 bits, so |p - t*d|, not being 0, is at least one unit of t*d's 49 bits: p/d is
 * at least 2^-49 away from t, relatively, while the double is within 2^-53 of p/d.
 */
float nvfp4_dequantise(uint8_t code, uint8_t scale, nvfp4_global global) {
  double above = (double)nvfp4_e2m1_to_f32(code) * (double)nvfp4_e4m3_to_f32(scale), below = 1.0;
  nvfp4_global_multiply(global, &above, &below);
  return (float)(above / below);
}

static void dequantise_row(const uint8_t *codes, const uint8_t *scales, int64_t k, nvfp4_global global, float *out) {
  for (int64_t block = 0; block < k / NVFP4_BLOCK; ++block) {
    float magnitude[8];
    for (int code = 0; code < 8; ++code) {
      magnitude[code] = nvfp4_dequantise((uint8_t)code, scales[block], global);
    }
    for (int i = 0; i < NVFP4_BLOCK; ++i) {
      int64_t at = block * NVFP4_BLOCK + i;
      int code = codes[at / 2] >> (at % 2 * 4) & 15;
      out[at] = code >= 8 ? -magnitude[code & 7] : magnitude[code];
    }
  }
}

static nvfp4_status check_weights(const nvfp4_weights *weights, const nvfp4_partition *partitions, int64_t partition_count, int64_t n_first,
                                  int64_t n_rows, const float *out, nvfp4_reason *reason) {
  if (weights == NULL || weights->struct_size < sizeof *weights || partitions == NULL || out == NULL) {
    return nvfp4_reject(reason, NVFP4_E_ARG,
                        "weights (with its struct_size), partitions and out are needed, one is missing: pass them all");
  }
  if (weights->memory == NVFP4_MEMORY_CUDA) {
    return nvfp4_reject(reason, NVFP4_E_ARG, "the weights lie in GPU memory, host memory is needed: copy them to the host first");
  }
  if (weights->n <= 0 || weights->k <= 0 || weights->k % NVFP4_BLOCK != 0) {
    return nvfp4_reject(reason, NVFP4_E_SHAPE,
                        "weights of shape [%" PRId64 ", %" PRId64 "], but N > 0 and K > 0 in multiples of 16 are needed", weights->n,
                        weights->k);
  }
  if (weights->codes == NULL || weights->scales == NULL || weights->codes_stride_bytes < weights->k / 2 ||
      weights->scales_stride_bytes < weights->k / NVFP4_BLOCK) {
    return nvfp4_reject(reason, NVFP4_E_SHAPE,
                        "code rows are %" PRId64 " and scale rows %" PRId64 " bytes apart (or absent), but K = %" PRId64 " needs %" PRId64
                        " and %" PRId64,
                        weights->codes_stride_bytes, weights->scales_stride_bytes, weights->k, weights->k / 2, weights->k / NVFP4_BLOCK);
  }
  if (n_first < 0 || n_rows < 0 || n_first > weights->n || n_rows > weights->n - n_first) {
    return nvfp4_reject(reason, NVFP4_E_SHAPE, "%" PRId64 " rows from row %" PRId64 " were asked for, but there are %" PRId64, n_rows,
                        n_first, weights->n);
  }
  int64_t row = 0;
  for (int64_t i = 0; i < partition_count; ++i) {
    if (partitions[i].n_first != row || partitions[i].n_rows <= 0 || partitions[i].n_rows > weights->n - row) {
      return nvfp4_reject(reason, NVFP4_E_SHAPE,
                          "partition %" PRId64 " holds %" PRId64 " rows from row %" PRId64
                          ", but partitions must follow each other without gaps: "
                          "row %" PRId64 " is next, of %" PRId64,
                          i, partitions[i].n_rows, partitions[i].n_first, row, weights->n);
    }
    if (!(partitions[i].weight.value > 0) || !isfinite(partitions[i].weight.value)) {
      return nvfp4_reject(reason, NVFP4_E_ARG, "partition %" PRId64 "'s weight global scale is %g, a finite number above 0 is needed", i,
                          (double)partitions[i].weight.value);
    }
    row += partitions[i].n_rows;
  }
  if (row != weights->n) {
    return nvfp4_reject(reason, NVFP4_E_SHAPE, "the partitions end at row %" PRId64 ", but there are %" PRId64 " rows: cover them all", row,
                        weights->n);
  }
  return NVFP4_OK;
}

nvfp4_status nvfp4_weights_dequantise(const nvfp4_weights *weights, const nvfp4_partition *partitions, int64_t partition_count,
                                      int64_t n_first, int64_t n_rows, float *out, nvfp4_reason *reason) {
  NVFP4_TRY(check_weights(weights, partitions, partition_count, n_first, n_rows, out, reason));
  nvfp4_fp_env env = nvfp4_fp_env_enter();
  const nvfp4_partition *partition = partitions;
  for (int64_t n = n_first; n < n_first + n_rows; ++n) {
    while (n >= partition->n_first + partition->n_rows) {
      ++partition;
    }
    dequantise_row(weights->codes + n * weights->codes_stride_bytes, weights->scales + n * weights->scales_stride_bytes, weights->k,
                   partition->weight, out + (n - n_first) * weights->k);
  }
  nvfp4_fp_env_leave(env);
  return NVFP4_OK;
}

/* ------------------------------------------------------------------------------------------------------------------ one block */

/* The magnitude's code nearest to a/step, ties to the even code. A double, as what it is counted from: lanes of one width vectorise. */
static inline double nearest(double a, double step) {
  double code = a > 0.25 * step ? 1 : 0;
  code += a >= 0.75 * step ? 1 : 0;
  code += a > 1.25 * step ? 1 : 0;
  code += a >= 1.75 * step ? 1 : 0;
  code += a > 2.5 * step ? 1 : 0;
  code += a >= 3.5 * step ? 1 : 0;
  code += a > 5 * step ? 1 : 0;
  return code;
}

static const float equal_weights[NVFP4_BLOCK] = {1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1};

/*
 * Codes for a given step, and their weighted squared error. Whatever the weights, a code's own term is least at the nearest value. The distance is that
 * of the magnitudes, which is the same number. The sum, whose order counts, stands apart: the loop before it vectorises.
 */
NVFP4_CLONES_FMA static double encode_block(const float x[NVFP4_BLOCK], const float weights[NVFP4_BLOCK], double step,
                                            uint8_t codes[NVFP4_BLOCK / 2]) {
  int32_t code[NVFP4_BLOCK];
  double term[NVFP4_BLOCK];
  for (int i = 0; i < NVFP4_BLOCK; ++i) {
    double a = fabs((double)x[i]);
    double magnitude = nearest(a, step);
    double level = 0.5 * (magnitude + (magnitude > 4 ? magnitude - 4 : 0)) + (magnitude > 6 ? magnitude - 6 : 0);
    double difference = a - level * step;
    term[i] = (double)weights[i] * (difference * difference);
    code[i] = (int32_t)magnitude | (signbit(x[i]) ? 8 : 0);
  }
  for (int i = 0; i < NVFP4_BLOCK / 2; ++i) {
    codes[i] = (uint8_t)(code[2 * i] | code[2 * i + 1] << 4);
  }
  double error = 0;
  for (int i = 0; i < NVFP4_BLOCK; ++i) {
    error += term[i];
  }
  return error;
}

/* Weights that are all 0 make every scale the best one: the block is then searched as if they were all 1. */
static const float *weights_of(const float *weights) {
  for (int i = 0; weights != NULL && i < NVFP4_BLOCK; ++i) {
    if (weights[i] > 0) {
      return weights;
    }
  }
  return equal_weights;
}

/* Magnitudes are in the order of their bits; integers, since a maximum of floats does not vectorise. */
static float block_amax(const float x[NVFP4_BLOCK]) {
  int32_t bits[NVFP4_BLOCK], most = 0;
  memcpy(bits, x, sizeof bits);
  for (int i = 0; i < NVFP4_BLOCK; ++i) {
    int32_t magnitude = bits[i] & INT32_MAX;
    most = magnitude > most ? magnitude : most;
  }
  float amax;
  memcpy(&amax, &most, sizeof amax);
  return amax;
}

/* The scale that makes amax the level `level`. ModelOpt's arithmetic: fp32, the product first. Not 0, since amax is not. */
static int rounded_scale(float amax, float level, float global) {
  int code = nvfp4_e4m3_from_f32(amax / (level * global));
  return code > CODE_FIRST ? code : CODE_FIRST;
}

static uint8_t zero_block(uint8_t codes[NVFP4_BLOCK / 2], double *error) {
  memset(codes, 0, NVFP4_BLOCK / 2);
  if (error != NULL) {
    *error = 0;
  }
  return CODE_ONE;
}

uint8_t nvfp4_quantise_block_exhaustive(const float x[16], const float *weights, float global, uint8_t codes[8], double *error) {
  if (block_amax(x) == 0) {
    return zero_block(codes, error);
  }
  weights = weights_of(weights);
  int best = CODE_FIRST;
  double least = encode_block(x, weights, step_of(best, global), codes);
  for (int code = CODE_FIRST + 1; code <= CODE_LAST; ++code) {
    double sum = encode_block(x, weights, step_of(code, global), codes);
    if (sum < least) {
      least = sum;
      best = code;
    }
  }
  double squared = encode_block(x, equal_weights, step_of(best, global), codes);
  if (error != NULL) {
    *error = squared;
  }
  return (uint8_t)best;
}

/* Of the scales that make amax 6 and 4 the one of less error; ties: the former. */
static int four_or_six(const float x[NVFP4_BLOCK], const float weights[NVFP4_BLOCK], float amax, float global) {
  uint8_t codes[NVFP4_BLOCK / 2];
  int six = rounded_scale(amax, 6.0f, global), four = rounded_scale(amax, 4.0f, global);
  return encode_block(x, weights, step_of(four, global), codes) < encode_block(x, weights, step_of(six, global), codes) ? four : six;
}

/* -------------------------------------------------------------------------------------------------------------- the scale sweep */

static inline double least_of(double a, double b) { return a < b ? a : b; }

/* A block in double: magnitudes, and what a squared error counts. */
typedef struct wide_block {
  double a[NVFP4_BLOCK], weight[NVFP4_BLOCK];
} wide_block;

/* The errors of the scales step[lane], summed over k: the least distance from a to a level, squared, weighted. */
NVFP4_CLONES_AVX2 static void lanes_errors(const wide_block *block, const double step[LANES], double error[LANES]) {
  const double *a = block->a;
  double sum[LANES] = {0};
  for (int i = 0; i < NVFP4_BLOCK; ++i) {
    for (int lane = 0; lane < LANES; ++lane) {
      double s = step[lane];
      double distance = least_of(a[i], fabs(a[i] - 0.5 * s));
      distance = least_of(distance, fabs(a[i] - s));
      distance = least_of(distance, fabs(a[i] - 1.5 * s));
      distance = least_of(distance, fabs(a[i] - 2 * s));
      distance = least_of(distance, fabs(a[i] - 3 * s));
      distance = least_of(distance, fabs(a[i] - 4 * s));
      distance = least_of(distance, fabs(a[i] - 6 * s));
      sum[lane] += block->weight[i] * (distance * distance);
    }
  }
  memcpy(error, sum, sizeof sum);
}

/* The errors of the scales first .. first+LANES-1. */
static void trial_errors(const wide_block *block, int first, float global, double error[LANES]) {
  double step[LANES];
  for (int lane = 0; lane < LANES; ++lane) {
    step[lane] = step_of(first + lane, global);
  }
  lanes_errors(block, step, error);
}

/* What clipping the element `at` at 6 costs: one term of the error, and the smaller the scale, the more. */
static double clipping_error(const wide_block *block, int at, double step) {
  double excess = block->a[at] - 6 * step;
  return excess > 0 ? block->weight[at] * (excess * excess) : 0;
}

/* What the elements below step/2 cost, whose neighbours are the levels 0 and step/2. While the scale grows, an element joins them with the error 0 at
 * step = 2a, goes up to a^2 at 4a, and stays: a part of the error, and the larger the scale, the more.
 * Not inlined: gcc 12 would unroll it into the search and spill, which makes the search a third slower. */
__attribute__((noinline)) static double underflow_error(const wide_block *block, double step) {
  double error = 0;
  for (int i = 0; i < NVFP4_BLOCK; ++i) {
    double below = 0.5 * step - block->a[i];
    double distance = least_of(block->a[i], below > 0 ? below : 0);
    error += block->weight[i] * (distance * distance);
  }
  return error;
}

typedef struct best_scale {
  int code;
  double error;
} best_scale;

/* Tries LANES scales from `first`. */
static best_scale try_scales(const wide_block *block, int first, float global, best_scale best) {
  double error[LANES];
  trial_errors(block, first, global, error);
  for (int lane = 0; lane < LANES; ++lane) {
    if (error[lane] < best.error || (error[lane] == best.error && first + lane < best.code)) {
      best = (best_scale){first + lane, error[lane]};
    }
  }
  return best;
}

/* first, held so that all lanes are scales. */
static int clamp_first(int first) {
  int most = CODE_LAST - LANES + 1;
  return first < CODE_FIRST ? CODE_FIRST : first > most ? most : first;
}

static best_scale sweep(const float x[NVFP4_BLOCK], const float weights[NVFP4_BLOCK], float amax, float global) {
  wide_block block;
  int clipped = 0; /* the element whose clipping bounds the search below: the largest, of equal ones that of most weight */
  for (int i = 0; i < NVFP4_BLOCK; ++i) {
    block.a[i] = fabs((double)x[i]);
    block.weight[i] = (double)weights[i];
    if (block.a[i] > block.a[clipped] || (block.a[i] == block.a[clipped] && block.weight[i] > block.weight[clipped])) {
      clipped = i;
    }
  }
  best_scale best = {CODE_LAST + 1, INFINITY};
  int next = clamp_first(rounded_scale(amax, 6.0f, global) - BELOW);
  int first = next, end = next; /* the scales tried so far */
  for (;;) {
    best = try_scales(&block, next, global, best);
    first = next < first ? next : first;
    end = next + LANES > end ? next + LANES : end;
    /* Below, an equal error would win, being of a smaller code; above it would not. */
    if (first > CODE_FIRST && clipping_error(&block, clipped, step_of(first - 1, global)) <= best.error) {
      next = clamp_first(first - LANES);
    } else if (end <= CODE_LAST && underflow_error(&block, step_of(end, global)) < best.error) {
      next = clamp_first(end);
    } else {
      return best;
    }
  }
}

static int find_scale(const float x[NVFP4_BLOCK], const float weights[NVFP4_BLOCK], float amax, float global, nvfp4_scale_search search) {
  switch (search) {
    case NVFP4_SCALES_SWEEP:
      return sweep(x, weights, amax, global).code;
    case NVFP4_SCALES_FOUR_OVER_SIX:
      return four_or_six(x, weights, amax, global);
    case NVFP4_SCALES_RTN:
      break;
  }
  return rounded_scale(amax, 6.0f, global);
}

uint8_t nvfp4_quantise_block(const float x[16], const float *weights, float global, nvfp4_scale_search search, uint8_t codes[8],
                             double *error) {
  float amax = block_amax(x);
  if (amax == 0) {
    return zero_block(codes, error);
  }
  int scale = find_scale(x, weights_of(weights), amax, global, search);
  double sum = encode_block(x, equal_weights, step_of(scale, global), codes);
  if (error != NULL) {
    *error = sum;
  }
  return (uint8_t)scale;
}

/* ---------------------------------------------------------------------------------------------------------------------- matrix */

float nvfp4_global_from_amax(float amax) {
  float global = amax / (6 * NVFP4_E4M3_MAX);
  return global > 0 ? global : 1;
}

static nvfp4_status check_matrix(const float *x, int64_t n, int64_t k, float global, nvfp4_scale_search search, const float *importance,
                                 const uint8_t *codes, const uint8_t *scales, nvfp4_reason *reason) {
  if (x == NULL || codes == NULL || scales == NULL) {
    return nvfp4_reject(reason, NVFP4_E_ARG, "x, codes and scales are needed, one is NULL: pass them all");
  }
  if (search != NVFP4_SCALES_RTN && search != NVFP4_SCALES_SWEEP && search != NVFP4_SCALES_FOUR_OVER_SIX) {
    return nvfp4_reject(reason, NVFP4_E_ARG, "scale search %d is not known: use NVFP4_SCALES_RTN, _FOUR_OVER_SIX or _SWEEP", (int)search);
  }
  if (n < 0 || k <= 0 || k % NVFP4_BLOCK != 0) {
    return nvfp4_reject(reason, NVFP4_E_SHAPE,
                        "a matrix of shape [%" PRId64 ", %" PRId64 "], but N >= 0 and K > 0 in multiples of 16 are needed", n, k);
  }
  if (!(global > 0) || !isfinite(global)) {
    return nvfp4_reject(reason, NVFP4_E_ARG, "the global scale is %g, a finite number above 0 is needed: see nvfp4_global_from_amax",
                        (double)global);
  }
  for (int64_t i = 0; importance != NULL && i < k; ++i) {
    if (!(importance[i] >= 0) || !isfinite(importance[i])) {
      return nvfp4_reject(reason, NVFP4_E_ARG, "importance of column %" PRId64 " is %g, finite numbers of at least 0 are needed", i,
                          (double)importance[i]);
    }
  }
  for (int64_t row = 0; row < n; ++row) {
    uint32_t most = 0;
    for (int64_t i = 0; i < k; ++i) {
      uint32_t bits;
      memcpy(&bits, x + row * k + i, sizeof bits);
      bits &= 0x7FFFFFFFu;
      most = bits > most ? bits : most;
    }
    if (most < 0x7F800000u) {
      continue;
    }
    int64_t column = 0;
    while (isfinite(x[row * k + column])) {
      ++column;
    }
    return nvfp4_reject(reason, NVFP4_E_FORMAT,
                        "the weight at row %" PRId64 ", column %" PRId64 " is %g, but NVFP4 holds finite numbers only: repair the source",
                        row, column, (double)x[row * k + column]);
  }
  return NVFP4_OK;
}

nvfp4_status nvfp4_quantise_matrix(const float *x, int64_t n, int64_t k, float global, nvfp4_scale_search search, const float *importance,
                                   uint8_t *codes, uint8_t *scales, double error[2], nvfp4_reason *reason) {
  NVFP4_TRY(check_matrix(x, n, k, global, search, importance, codes, scales, reason));
  nvfp4_fp_env env = nvfp4_fp_env_enter();
  double errors = 0, squares = 0;
  for (int64_t block = 0; block < n * (k / NVFP4_BLOCK); ++block) {
    const float *in = x + block * NVFP4_BLOCK;
    const float *weights = importance != NULL ? importance + block * NVFP4_BLOCK % k : NULL;
    double sum;
    scales[block] = nvfp4_quantise_block(in, weights, global, search, codes + block * (NVFP4_BLOCK / 2), &sum);
    errors += sum;
    for (int i = 0; i < NVFP4_BLOCK; ++i) {
      squares += (double)in[i] * (double)in[i];
    }
  }
  nvfp4_fp_env_leave(env);
  if (error != NULL) {
    error[0] = errors;
    error[1] = squares;
  }
  return NVFP4_OK;
}
