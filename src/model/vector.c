/* SPDX-License-Identifier: Apache-2.0 */
#include "model/vector.h"

#include <string.h>

#include "base/clones.h"

#define LANES NVFP4_VECTOR_LANES

/* The vector extension of GCC and Clang: the accumulators stay in registers, which loops over arrays do not reliably reach. Unaligned. */
typedef float lanes __attribute__((vector_size(4 * LANES), aligned(4), may_alias));

static inline float add_lanes(const lanes *sum) {
  float part[LANES];
  memcpy(part, sum, sizeof part);
  for (int half = LANES / 2; half > 0; half /= 2) {
    for (int i = 0; i < half; i++) {
      part[i] += part[i + half];
    }
  }
  return part[0];
}

/* R rows and V vectors at a time: their sums stay in registers, and a vector of b serves all rows. */
static inline __attribute__((always_inline)) void weighted_block(const int R, const int V, const float *a, int64_t lda, int64_t count,
                                                                 const float *b, int64_t ldb, float *out, int64_t ldo) {
  lanes sum[4][4] = {{{0}}};
  for (int64_t j = 0; j < count; j++) {
    const float *row = b + j * ldb;
    for (int r = 0; r < R; r++) {
      for (int v = 0; v < V; v++) {
        sum[r][v] += a[r * lda + j] * *(const lanes *)(row + v * LANES);
      }
    }
  }
  for (int r = 0; r < R; r++) {
    for (int v = 0; v < V; v++) {
      *(lanes *)(out + r * ldo + v * LANES) = sum[r][v];
    }
  }
}

NVFP4_CLONES_FMA static void weighted_rows(const float *a, int64_t lda, int64_t rows, int64_t count, const float *b, int64_t ldb,
                                           int64_t length, float *out, int64_t ldo) {
  for (int64_t r = 0; r < rows;) {
    int64_t left = rows - r, i = 0;
    const float *ar = a + r * lda;
    float *to = out + r * ldo;
    if (left >= 3) {
      for (; i + 2 * LANES <= length; i += 2 * LANES) {
        weighted_block(3, 2, ar, lda, count, b + i, ldb, to + i, ldo);
      }
      for (; i < length; i += LANES) {
        weighted_block(3, 1, ar, lda, count, b + i, ldb, to + i, ldo);
      }
      r += 3;
    } else {
      for (; i + 4 * LANES <= length; i += 4 * LANES) {
        weighted_block(1, 4, ar, lda, count, b + i, ldb, to + i, ldo);
      }
      for (; i < length; i += LANES) {
        weighted_block(1, 1, ar, lda, count, b + i, ldb, to + i, ldo);
      }
      r += 1;
    }
  }
}

void nvfp4_weighted_rows(const float *a, int64_t lda, int64_t rows, int64_t count, const float *b, int64_t ldb, int64_t length, float *out,
                         int64_t ldo) {
  weighted_rows(a, lda, rows, count, b, ldb, length, out, ldo);
}

/* ----------------------------------------------------------------------------------------------------------- exponentials */

typedef int32_t int_lanes __attribute__((vector_size(4 * LANES), aligned(4), may_alias));

/* Macros and pointers, since a function that takes or returns such a vector has another ABI in each clone. */
#define SPLAT(x) ((x) - (lanes){0})
#define CHOOSE(mask, a, b) ((lanes)(((mask) & (int_lanes)(a)) | (~(mask) & (int_lanes)(b))))

/*
 * exp(x) = 2^n exp(r), n = x / ln 2 rounded, |r| <= ln 2 / 2. Polynomial and two-part ln 2 are those of expf in S. L. Moshier's Cephes library: about 1 ulp.
 * Below -87 and above 88 it is exp(-87) and exp(88), so that the power of two is a normal number; NaN stays NaN.
 */
static inline __attribute__((always_inline)) void exp_lanes(lanes *in_out) {
  const float round = 12582912.0f; /* 1.5 * 2^23: a float near it has no fraction, and its low bits are the integer */
  lanes x = *in_out;
  x = CHOOSE(x < SPLAT(-87.0f), SPLAT(-87.0f), x);
  x = CHOOSE(x > SPLAT(88.0f), SPLAT(88.0f), x);
  lanes shifted = x * 1.44269504f + round;
  lanes n = shifted - round;
  lanes r = x - n * 0.693359375f - n * -2.12194440e-4f;
  lanes p = SPLAT(1.9875691500e-4f);
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  lanes y = p * (r * r) + r + 1.0f;
  int_lanes power = ((int_lanes)shifted << 23) + (int_lanes)SPLAT(1.0f); /* the bits of 2^n */
  *in_out = y * (lanes)power;
}

NVFP4_CLONES_FMA static float softmax_lanes(float *x, int64_t count, float scale) {
  for (int64_t i = count; i % LANES != 0; i++) {
    x[i] = x[count - 1];
  }
  lanes most = *(const lanes *)x * scale;
  for (int64_t i = 0; i < count; i += LANES) {
    lanes *at = (lanes *)(x + i);
    *at *= scale;
    most = CHOOSE(*at > most, *at, most);
  }
  float largest = most[0];
  for (int l = 1; l < LANES; l++) {
    largest = most[l] > largest ? most[l] : largest;
  }
  lanes sum = {0};
  for (int64_t i = 0; i < count; i += LANES) {
    lanes e = *(const lanes *)(x + i) - largest;
    exp_lanes(&e);
    *(lanes *)(x + i) = e;
    for (int64_t l = count - i; l < LANES; l++) {
      e[l] = 0;
    }
    sum += e;
  }
  return add_lanes(&sum);
}

float nvfp4_softmax(float *x, int64_t count, float scale) { return softmax_lanes(x, count, scale); }

typedef double double_lanes __attribute__((vector_size(8 * LANES), aligned(8), may_alias));

static inline double add_double_lanes(const double_lanes *sum) {
  double part[LANES];
  memcpy(part, sum, sizeof part);
  for (int half = LANES / 2; half > 0; half /= 2) {
    for (int i = 0; i < half; i++) {
      part[i] += part[i + half];
    }
  }
  return part[0];
}

NVFP4_CLONES_FMA static float largest_lanes(const float *x, int64_t count) {
  int64_t whole = count / LANES * LANES;
  lanes most = SPLAT(x[0]);
  for (int64_t i = 0; i < whole; i += LANES) {
    lanes at = *(const lanes *)(x + i);
    most = CHOOSE(at > most, at, most);
  }
  float largest = most[0];
  for (int l = 1; l < LANES; l++) {
    largest = most[l] > largest ? most[l] : largest;
  }
  for (int64_t i = whole; i < count; i++) {
    largest = x[i] > largest ? x[i] : largest;
  }
  return largest;
}

float nvfp4_largest(const float *x, int64_t count, int64_t *index) {
  float largest = largest_lanes(x, count);
  int64_t i = 0;
  while (i + 1 < count && x[i] != largest) {
    i++;
  }
  *index = i;
  return largest;
}

NVFP4_CLONES_FMA static double exp_sum_lanes(const float *x, int64_t count, float shift) {
  double_lanes sum = {0};
  for (int64_t i = 0; i < count; i += LANES) {
    lanes e = SPLAT(0.0f);
    int64_t left = count - i;
    memcpy(&e, x + i, (size_t)(left < LANES ? left : LANES) * sizeof(float));
    e = e - shift;
    exp_lanes(&e);
    for (int64_t l = left; l < LANES; l++) {
      e[l] = 0;
    }
    sum += __builtin_convertvector(e, double_lanes);
  }
  return add_double_lanes(&sum);
}

double nvfp4_exp_sum(const float *x, int64_t count, float shift) { return exp_sum_lanes(x, count, shift); }

typedef uint16_t code_lanes __attribute__((vector_size(2 * LANES), aligned(2), may_alias));

NVFP4_CLONES_FMA static double divergence_lanes(const uint16_t *code, float least, float step, const float *x, float shift, double log_sum,
                                                int64_t count) {
  double_lanes sum = {0}, mass = {0};
  for (int64_t i = 0; i < count; i += LANES) {
    code_lanes c = {0};
    lanes at = {0};
    size_t left = (size_t)(count - i < LANES ? count - i : LANES);
    memcpy(&c, code + i, left * sizeof *code);
    memcpy(&at, x + i, left * sizeof *x);
    lanes log_p = __builtin_convertvector(c, lanes) * step + least, p = log_p;
    exp_lanes(&p);
    p = CHOOSE(log_p > SPLAT(-16.0f), p, SPLAT(0.0f));
    for (size_t l = left; l < LANES; l++) {
      p[l] = 0;
    }
    sum += __builtin_convertvector(p * (log_p - (at - shift)), double_lanes);
    mass += __builtin_convertvector(p, double_lanes);
  }
  return add_double_lanes(&sum) + log_sum * add_double_lanes(&mass);
}

double nvfp4_divergence(const uint16_t *code, float least, float step, const float *x, float shift, double log_sum, int64_t count) {
  return divergence_lanes(code, least, step, x, shift, log_sum, count);
}

static inline __attribute__((always_inline)) void swiglu_vector(lanes *gate, const lanes *up) {
  lanes e = -*gate;
  exp_lanes(&e);
  *gate = *gate / (1.0f + e) * *up;
}

NVFP4_CLONES_FMA static void swiglu_lanes(float *gate, const float *up, int64_t count) {
  int64_t whole = count / LANES * LANES;
  for (int64_t i = 0; i < whole; i += LANES) {
    swiglu_vector((lanes *)(gate + i), (const lanes *)(up + i));
  }
  size_t bytes = (size_t)(count - whole) * sizeof(float);
  lanes g = {0}, u = {0};
  memcpy(&g, gate + whole, bytes);
  memcpy(&u, up + whole, bytes);
  swiglu_vector(&g, &u);
  memcpy(gate + whole, &g, bytes);
}

void nvfp4_swiglu(float *gate, const float *up, int64_t count) { swiglu_lanes(gate, up, count); }
