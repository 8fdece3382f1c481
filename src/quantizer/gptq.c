/* SPDX-License-Identifier: Apache-2.0 */
#include "quantizer/gptq.h"

#include "base/reason.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/clones.h"
#include "format/e2m1.h"
#include "format/e4m3.h"
#include "format/weight.h"

enum {
  PANEL = 128, /* columns whose errors reach the columns after them at once, and rows of the Hessian that are a task */
  LANES = 8,   /* scales tried at once */
  TRIED = 16,  /* scales tried by sweep */
  SCALE_FIRST = 0x01,
  SCALE_LAST = 0x7E
};

nvfp4_status nvfp4_gptq_available(nvfp4_reason *reason) {
  nvfp4_blas blas;
  return nvfp4_blas_open(NULL, &blas, reason);
}

/* --------------------------------------------------------------------------------------------------------------- the Hessian */

typedef struct add_job {
  const nvfp4_blas *blas;
  double *hessian;
  const double *x;
  int64_t k, m;
} add_job;

static void add_panel(void *arg, size_t index) {
  const add_job *job = arg;
  int64_t first = (int64_t)index * PANEL, k = job->k, rows = k - first < PANEL ? k - first : PANEL;
  job->blas->dgemm(NVFP4_BLAS_ROW_MAJOR, NVFP4_BLAS_TRANS, NVFP4_BLAS_NO_TRANS, (int)rows, (int)(k - first), (int)job->m, 1.0,
                   job->x + first, (int)k, job->x + first, (int)k, 1.0, job->hessian + first * k + first, (int)k);
}

nvfp4_status nvfp4_gptq_add_rows(const nvfp4_blas *blas, nvfp4_threads *threads, double *hessian, int64_t k, const float *x, int64_t m,
                                 nvfp4_reason *reason) {
  double *wide = malloc((size_t)(m * k) * sizeof *wide);
  if (wide == NULL) {
    return nvfp4_reject(reason, NVFP4_E_NOMEM, "out of memory for %lld rows of %lld inputs", (long long)m, (long long)k);
  }
  for (int64_t i = 0; i < m * k; i++) {
    wide[i] = (double)x[i];
  }
  add_job job = {blas, hessian, wide, k, m};
  nvfp4_parallel_for(threads, (size_t)((k + PANEL - 1) / PANEL), add_panel, &job);
  free(wide);
  return NVFP4_OK;
}

/* H^-1 = U^T U in place; false if H is not positive definite, or not finite. LAPACK's matrices lie by columns: its lower triangle is our upper
 * one, and its L of L L^T our U. */
static bool factor_inverse(const nvfp4_blas *blas, double *h, int64_t k) {
  const int n = (int)k;
  int info = 0;
  blas->dpotrf("L", &n, h, &n, &info, 1);
  if (info == 0) {
    blas->dpotri("L", &n, h, &n, &info, 1);
  }
  if (info == 0) {
    blas->dpotrf("L", &n, h, &n, &info, 1);
  }
  if (info != 0) {
    return false;
  }
  for (int64_t i = 0; i < k; i++) { /* a NaN passes LAPACK's checks */
    if (!(h[i * k + i] > 0) || !isfinite(h[i * k + i])) {
      return false;
    }
  }
  return true;
}

nvfp4_status nvfp4_gptq_factor(const nvfp4_blas *blas, double *hessian, int64_t k, double *damping, nvfp4_reason *reason) {
  double *diagonal = malloc((size_t)k * sizeof *diagonal), mean = 0;
  if (diagonal == NULL) {
    return nvfp4_reject(reason, NVFP4_E_NOMEM, "out of memory for a diagonal of %lld", (long long)k);
  }
  for (int64_t i = 0; i < k; i++) { /* the lower triangle keeps what a failure spoils */
    diagonal[i] = hessian[i * k + i];
    mean += diagonal[i] / (double)k;
    for (int64_t j = 0; j < i; j++) {
      hessian[i * k + j] = hessian[j * k + i];
    }
  }
  mean = mean > 0 ? mean : 1; /* inputs that are all 0: any rounding will do */
  bool done = false;
  /* Tenfold each time, up to about 1. */
  for (double tried = *damping; !done && tried<2; tried = tried> 0 ? 10 * tried : 1e-6) {
    for (int64_t i = 0; i < k; i++) {
      hessian[i * k + i] = diagonal[i] + tried * mean;
      for (int64_t j = 0; j < i; j++) {
        hessian[j * k + i] = hessian[i * k + j];
      }
    }
    done = factor_inverse(blas, hessian, k);
    *damping = done ? tried : *damping;
  }
  free(diagonal);
  return done ? NVFP4_OK
              : nvfp4_reject(
                    reason, NVFP4_E_FORMAT,
                    "the Hessian of %lld inputs is not positive definite with a damping of 1 either: do they hold infinities or NaN?",
                    (long long)k);
}

/* ------------------------------------------------------------------------------------------------------------------- a block */

/* The block's corner of U, which all rows share. */
typedef struct corner {
  double u[NVFP4_BLOCK][NVFP4_BLOCK]; /* above the diagonal */
  double inverse[NVFP4_BLOCK];        /* 1 / U_jj */
  float weights[NVFP4_BLOCK];         /* 1 / U_jj^2 */
} corner;

/* The E2M1 magnitude nearest to a / step, ties to the even code. */
static inline double nearest_level(double a, double step) {
  return 0.5 * ((a > 0.25 * step) + (a >= 0.75 * step) + (a > 1.25 * step) + (a >= 1.75 * step)) + (a > 2.5 * step) + (a >= 3.5 * step) +
         2 * (a > 5 * step);
}

/* Rounds the block with each scale step[lane]: what it costs. */
NVFP4_CLONES_FMA static void lanes_costs(const double w[NVFP4_BLOCK], const corner *c, const double step[LANES], double cost[LANES]) {
  double v[NVFP4_BLOCK][LANES], sum[LANES] = {0};
  for (int i = 0; i < NVFP4_BLOCK; i++) {
    for (int lane = 0; lane < LANES; lane++) {
      v[i][lane] = w[i];
    }
  }
  for (int i = 0; i < NVFP4_BLOCK; i++) {
    double e[LANES];
    for (int lane = 0; lane < LANES; lane++) {
      double q = copysign(nearest_level(fabs(v[i][lane]), step[lane]) * step[lane], v[i][lane]);
      e[lane] = (v[i][lane] - q) * c->inverse[i];
      sum[lane] += e[lane] * e[lane];
    }
    for (int j = i + 1; j < NVFP4_BLOCK; j++) {
      for (int lane = 0; lane < LANES; lane++) {
        v[j][lane] -= e[lane] * c->u[i][j];
      }
    }
  }
  memcpy(cost, sum, sizeof sum);
}

static double step_of(int scale, float global) { return (double)nvfp4_e4m3_table[scale] * (double)global; }

/* Of the scales around `centre` the one of least cost. */
static int best_scale(const double w[NVFP4_BLOCK], const corner *c, int centre, float global) {
  int first = centre - TRIED / 2, best = centre;
  first = first < SCALE_FIRST ? SCALE_FIRST : first > SCALE_LAST - TRIED + 1 ? SCALE_LAST - TRIED + 1 : first;
  double least = INFINITY;
  for (int next = first; next < first + TRIED; next += LANES) {
    double step[LANES], cost[LANES];
    for (int lane = 0; lane < LANES; lane++) {
      step[lane] = step_of(next + lane, global);
    }
    lanes_costs(w, c, step, cost);
    for (int lane = 0; lane < LANES; lane++) {
      if (cost[lane] < least) {
        least = cost[lane];
        best = next + lane;
      }
    }
  }
  return best;
}

/* Rounds the 16 columns at w, makes up for errors inside them, and leaves the e of each. Returns the scale. */
static uint8_t round_block(const double *w, const corner *c, float global, nvfp4_scale_search search, uint8_t codes[NVFP4_BLOCK / 2],
                           double e[NVFP4_BLOCK]) {
  float x[NVFP4_BLOCK];
  bool zero = true;
  for (int i = 0; i < NVFP4_BLOCK; i++) {
    x[i] = (float)w[i];
    zero = zero && x[i] == 0;
  }
  int scale = nvfp4_quantise_block(x, c->weights, global, search, codes, NULL);
  if (search == NVFP4_SCALES_SWEEP && !zero) {
    scale = best_scale(w, c, scale, global);
  }
  double step = step_of(scale, global), v[NVFP4_BLOCK];
  uint8_t code[NVFP4_BLOCK];
  memcpy(v, w, sizeof v);
  for (int i = 0; i < NVFP4_BLOCK; i++) {
    double level = nearest_level(fabs(v[i]), step);
    code[i] = (uint8_t)(nvfp4_e2m1_from_f32((float)level) | (signbit(v[i]) ? 8 : 0));
    e[i] = (v[i] - copysign(level * step, v[i])) * c->inverse[i];
    for (int j = i + 1; j < NVFP4_BLOCK; j++) {
      v[j] -= e[i] * c->u[i][j];
    }
  }
  nvfp4_e2m1_pack(code, NVFP4_BLOCK, codes);
  return (uint8_t)scale;
}

/* -------------------------------------------------------------------------------------------------------------------- a layer */

static corner corner_at(const double *factor, int64_t k, int64_t column) {
  corner c;
  for (int i = 0; i < NVFP4_BLOCK; i++) {
    const double *row = factor + (column + i) * k + column;
    c.inverse[i] = 1 / row[i];
    c.weights[i] = (float)(c.inverse[i] * c.inverse[i]);
    for (int j = i + 1; j < NVFP4_BLOCK; j++) {
      c.u[i][j] = row[j];
    }
  }
  return c;
}

/* Rounds columns first .. end of all rows; e [n, PANEL] gets their errors. */
static void round_panel(const nvfp4_blas *blas, double *w, int64_t n, int64_t k, int64_t first, int64_t end, float global,
                        nvfp4_scale_search search, const double *factor, uint8_t *codes, uint8_t *scales, double *e) {
  for (int64_t column = first; column < end; column += NVFP4_BLOCK) {
    const corner c = corner_at(factor, k, column);
    const int64_t block = column / NVFP4_BLOCK, next = column + NVFP4_BLOCK;
    for (int64_t row = 0; row < n; row++) {
      scales[row * (k / NVFP4_BLOCK) + block] = round_block(
          w + row * k + column, &c, global, search, codes + row * (k / 2) + block * (NVFP4_BLOCK / 2), e + row * PANEL + column - first);
    }
    if (next < end) {
      blas->dgemm(NVFP4_BLAS_ROW_MAJOR, NVFP4_BLAS_NO_TRANS, NVFP4_BLAS_NO_TRANS, (int)n, (int)(end - next), NVFP4_BLOCK, -1.0,
                  e + column - first, PANEL, factor + column * k + next, (int)k, 1.0, w + next, (int)k);
    }
  }
}

/* The squared error of a row against its codes, and its squares. */
static void add_errors(const float *x, int64_t k, float global, const uint8_t *codes, const uint8_t *scales, double error[2]) {
  for (int64_t i = 0; i < k; i++) {
    double level = (double)nvfp4_e2m1_to_f32(codes[i / 2] >> (i % 2 * 4) & 15),
           difference = (double)x[i] - level * step_of(scales[i / NVFP4_BLOCK], global);
    error[0] += difference * difference;
    error[1] += (double)x[i] * (double)x[i];
  }
}

nvfp4_status nvfp4_gptq_round(const nvfp4_blas *blas, const float *x, int64_t n, int64_t k, float global, nvfp4_scale_search search,
                              const double *factor, uint8_t *codes, uint8_t *scales, double error[2], nvfp4_reason *reason) {
  double *w = malloc((size_t)(n * k) * sizeof *w), *e = malloc((size_t)(n * PANEL) * sizeof *e);
  if (w == NULL || e == NULL) {
    free(w);
    free(e);
    return nvfp4_reject(reason, NVFP4_E_NOMEM, "out of memory for %lld rows of %lld weights", (long long)n, (long long)k);
  }
  for (int64_t i = 0; i < n * k; i++) {
    w[i] = (double)x[i];
  }
  for (int64_t first = 0; first < k; first += PANEL) {
    const int64_t end = first + PANEL < k ? first + PANEL : k;
    round_panel(blas, w, n, k, first, end, global, search, factor, codes, scales, e);
    if (end < k) {
      blas->dgemm(NVFP4_BLAS_ROW_MAJOR, NVFP4_BLAS_NO_TRANS, NVFP4_BLAS_NO_TRANS, (int)n, (int)(k - end), (int)(end - first), -1.0, e,
                  PANEL, factor + first * k + end, (int)k, 1.0, w + end, (int)k);
    }
  }
  error[0] = error[1] = 0;
  for (int64_t row = 0; row < n; row++) {
    add_errors(x + row * k, k, global, codes + row * (k / 2), scales + row * (k / NVFP4_BLOCK), error);
  }
  free(w);
  free(e);
  return NVFP4_OK;
}
