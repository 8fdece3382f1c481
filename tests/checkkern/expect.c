/* SPDX-License-Identifier: Apache-2.0 */
#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "checkkern.h"
#include "format/e2m1.h"
#include "format/e4m3.h"
#include "format/half.h"
#include "kernels/ref/spec.h"

static void *get(int64_t count, size_t size) {
  void *memory = calloc((size_t)count, size);
  if (memory == NULL) {
    fprintf(stderr, "checkkern: out of memory\n");
    exit(2);
  }
  return memory;
}

/* NVFP4 weights of row n. */
static nvfp4_spec_row row_of(const ck_problem *p, int64_t n) {
  return p->w != NULL ? (nvfp4_spec_row){NULL, NULL} : (nvfp4_spec_row){p->codes + n * p->k / 2, p->scales + n * p->blocks};
}

static float canonical_sum(const ck_problem *p, nvfp4_mode mode, int64_t m, int64_t n) {
  if (mode == NVFP4_MODE_UNQUANTISED) {
    return nvfp4_spec_w16a16(p->x + m * p->k, p->w + n * p->k, p->k);
  }
  return mode == NVFP4_MODE_W4A4
             ? nvfp4_spec_w4a4((nvfp4_spec_row){p->x_codes + m * p->k / 2, p->x_scales + m * p->blocks}, row_of(p, n), p->k)
             : nvfp4_spec_w4a16(p->x + m * p->k, row_of(p, n), p->k);
}

/* y* and A of one element: docs/numerics.md, "The bound". A double holds each term exactly; the additions' error is at most k * 2^-53 * A. */
static void exact_element(const ck_problem *p, nvfp4_mode mode, int64_t m, int64_t n, double *exact, double *absolute) {
  double sum = 0, magnitude = 0;
  nvfp4_spec_row w = row_of(p, n);
  if (mode == NVFP4_MODE_UNQUANTISED) {
    for (int64_t k = 0; k < p->k; k++) {
      double term = (double)p->x[m * p->k + k] * p->w[n * p->k + k];
      sum += term;
      magnitude += fabs(term);
    }
  } else if (mode == NVFP4_MODE_W4A4) {
    nvfp4_spec_row x = {p->x_codes + m * p->k / 2, p->x_scales + m * p->blocks};
    for (int64_t block = 0; block < p->blocks; block++) {
      if (nvfp4_e4m3_is_nan(x.scales[block])) {
        *exact = *absolute = NAN;
        return;
      }
    }
    uint64_t units;
    sum = (double)nvfp4_oracle_w4a4(x, w, p->k, &units) * 0x1p-20;
    magnitude = (double)units * 0x1p-20;
  } else {
    for (int64_t k = 0; k < p->k; k++) {
      uint8_t code = (k & 1) != 0 ? w.codes[k / 2] >> 4 : w.codes[k / 2] & 15;
      double term = (double)p->x[m * p->k + k] * nvfp4_e2m1_to_f32(code) * nvfp4_e4m3_to_f32(w.scales[k / NVFP4_BLOCK]);
      sum += term;
      magnitude += fabs(term);
    }
  }
  double bias = p->bias != NULL ? p->bias[n] : 0.0f;
  *exact = p->alpha[n] * sum + bias;
  *absolute = p->alpha[n] * magnitude + fabs(bias);
}

ck_expected ck_expected_make(const ck_problem *p, const nvfp4_kernel *kernel) {
  nvfp4_mode mode = kernel->numerics.mode;
  ck_expected e = {.numerics_class = kernel->numerics.numerics_class, .canonical = get(p->m * p->n, sizeof(float))};
  for (int64_t m = 0; m < p->m; m++) {
    for (int64_t n = 0; n < p->n; n++) {
      e.canonical[m * p->n + n] = nvfp4_spec_finish(canonical_sum(p, mode, m, n), p->alpha[n], p->bias != NULL ? &p->bias[n] : NULL);
    }
  }
  if (e.numerics_class == NVFP4_CLASS_BOUNDED) {
    e.exact = get(p->m * p->n, sizeof(double));
    e.absolute = get(p->m * p->n, sizeof(double));
    e.underflow = get(p->n, sizeof(double));
    for (int64_t i = 0; i < p->m * p->n; i++) {
      exact_element(p, mode, i / p->n, i % p->n, &e.exact[i], &e.absolute[i]);
    }
    for (int64_t n = 0; mode == NVFP4_MODE_UNQUANTISED && n < p->n; n++) {
      e.underflow[n] = p->alpha[n] * 0x1p-150 * (double)p->k;
    }
    for (int64_t n = 0; mode == NVFP4_MODE_W4A16 && n < p->n; n++) {
      double scales = 0;
      for (int64_t block = 0; block < p->blocks; block++) {
        scales += nvfp4_e4m3_to_f32(p->scales[n * p->blocks + block]);
      }
      e.underflow[n] = p->alpha[n] * 0x1p-126 * (96 * scales + 17 * (double)p->blocks);
    }
  }
  return e;
}

void ck_expected_free(ck_expected *e) {
  free(e->canonical);
  free(e->exact);
  free(e->absolute);
  free(e->underflow);
}

/* Half the smallest subnormal number, the unit roundoff, and where rounding gives infinity. */
static void rounding_of(nvfp4_dtype dtype, double *tiny, double *unit, double *overflow) {
  *tiny = dtype == NVFP4_DTYPE_F16 ? 0x1p-25 : dtype == NVFP4_DTYPE_BF16 ? 0x1p-134 : 0x1p-150;
  *unit = dtype == NVFP4_DTYPE_F16 ? 0x1p-11 : dtype == NVFP4_DTYPE_BF16 ? 0x1p-8 : 0;
  *overflow = dtype == NVFP4_DTYPE_F16 ? 65520.0 : FLT_MAX;
}

/* Class of the value first, so that a NaN is never within a bound. */
static bool bounded_holds(const ck_expected *e, const ck_problem *p, int64_t i, float got, nvfp4_dtype dtype, double *bound) {
  double exact = e->exact[i], absolute = e->absolute[i], tiny, unit, overflow;
  rounding_of(dtype, &tiny, &unit, &overflow);
  *bound = 0;
  if (isnan(exact)) {
    return isnan(got);
  }
  if (isinf(exact)) {
    return got == (float)exact;
  }
  if (absolute >= 0x1p127) {
    return true; /* an intermediate sum may overflow, or not, as the order has it: the bound says nothing */
  }
  double terms = (double)p->k + 8, gamma = terms * 0x1p-24 / (1 - terms * 0x1p-24);
  double before = gamma * absolute + e->underflow[i % p->n] * (1 + gamma);
  *bound = before + unit * (fabs(exact) + before) + tiny + (double)p->k * DBL_EPSILON * absolute; /* the last: of y* itself, a double */
  if (isinf(got)) {
    return fabs(exact) + before >= overflow && (got > 0) == (exact > 0);
  }
  return fabs((double)got - exact) <= *bound;
}

bool ck_expected_holds(const ck_expected *e, const ck_problem *p, int64_t row, int64_t column, const void *y, nvfp4_dtype dtype, char *text,
                       size_t size) {
  size_t bytes = dtype == NVFP4_DTYPE_F32 ? 4 : 2;
  int64_t i = row * p->n + column;
  uint8_t want_bits[4] = {0}, unwritten[4] = {0xA5, 0xA5, 0xA5, 0xA5};
  float want = e->canonical[i], got;
  nvfp4_from_f32(&want, dtype, want_bits, 1);
  nvfp4_to_f32(want_bits, dtype, &want, 1);
  nvfp4_to_f32(y, dtype, &got, 1);
  if (memcmp(y, unwritten, bytes) == 0 && memcmp(want_bits, unwritten, bytes) != 0) {
    snprintf(text, size, "was not written");
    return false;
  }
  if (e->numerics_class == NVFP4_CLASS_CANONICAL) {
    if (memcmp(y, want_bits, bytes) == 0) {
      return true;
    }
    const char *note = isnan(want) && isnan(got) ? ": not the positive quiet NaN"
                       : isnan(want)             ? ": a NaN became a number"
                       : isnan(got)              ? ": a number became NaN"
                       : want == got             ? ": the sign of zero"
                                                 : "";
    snprintf(text, size, "found %a, needs %a%s", (double)got, (double)want, note);
    return false;
  }
  double bound;
  if (bounded_holds(e, p, i, got, dtype, &bound)) {
    return true;
  }
  snprintf(text, size, "found %a, needs %a +- %.3g (difference %.3g)", (double)got, e->exact[i], bound, (double)got - e->exact[i]);
  return false;
}
