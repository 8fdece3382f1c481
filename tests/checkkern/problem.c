/* SPDX-License-Identifier: Apache-2.0 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "checkkern.h"
#include "format/activation.h"
#include "format/half.h"

/* xorshift64*, with a good first state from any seed. */
typedef struct source {
  uint64_t state;
} source;

static uint64_t draw(source *s) {
  s->state ^= s->state >> 12;
  s->state ^= s->state << 25;
  s->state ^= s->state >> 27;
  return s->state * 0x2545F4914F6CDD1Du;
}

static source source_of(int64_t seed, uint64_t stream) {
  source s = {((uint64_t)seed * 4 + stream) * 0x9E3779B97F4A7C15u | 1};
  draw(&s);
  return s;
}

static uint64_t below(source *s, uint64_t end) { return (draw(s) >> 16) % end; }
/* Near enough to a normal distribution: twelve uniform numbers. */
static float gauss(source *s) {
  int64_t sum = 0;
  for (int i = 0; i < 12; i++) {
    sum += (int64_t)(draw(s) >> 44);
  }
  return (float)(sum - 6 * 0x100000) * 0x1p-20f;
}

static void *get(size_t bytes) {
  void *memory = calloc(1, bytes);
  if (memory == NULL) {
    fprintf(stderr, "checkkern: out of memory\n");
    exit(2);
  }
  return memory;
}

static void set_code(ck_problem *p, int64_t n, int64_t k, unsigned code) {
  uint8_t *byte = &p->codes[n * (p->k / 2) + k / 2];
  *byte = (uint8_t)(k % 2 == 0 ? (*byte & 0xF0) | code : (*byte & 0x0F) | code << 4);
}

static void make_codes(ck_problem *p, const ck_case *c) {
  source s = source_of(c->seed, 0);
  for (int64_t n = 0; n < p->n; n++) {
    for (int64_t k = 0; k < p->k; k++) {
      switch (c->codes) {
        case CK_CODES_MAX:
          set_code(p, n, k, 7);
          break;
        case CK_CODES_ALTERNATING:
          set_code(p, n, k, (n + k) % 2 == 0 ? 7 : 15);
          break;
        case CK_CODES_MINUS_ZERO:
          set_code(p, n, k, k % 3 == 0 ? 0 : 8);
          break;
        case CK_CODES_ALL:
          set_code(p, n, k, (unsigned)((k + 5 * n) % 16));
          break;
        case CK_CODES_ONE_HOT: /* another place in each row: a layout that mixes up places shows */
          set_code(p, n, k, k == (n * 29 + c->seed) % p->k ? (unsigned)(1 + n % 7) : 0);
          break;
        default:
          set_code(p, n, k, (unsigned)below(&s, 16));
      }
    }
  }
}

static void make_scales(ck_problem *p, const ck_case *c) {
  source s = source_of(c->seed, 1);
  for (int64_t i = 0; i < p->n * p->blocks; i++) {
    static const uint8_t extremes[] = {0x00, 0x01, 0x07, 0x08, 0x38, 0x7D, 0x7E};
    switch (c->scales) {
      case CK_SCALES_ANY:
        p->scales[i] = (uint8_t)below(&s, 0x7F);
        break;
      case CK_SCALES_MAX:
        p->scales[i] = 0x7E;
        break;
      case CK_SCALES_ZERO:
        p->scales[i] = i / p->blocks % 3 == 0 || i % 3 != 1 ? 0 : 0x38; /* whole rows, and some blocks of the others */
        break;
      case CK_SCALES_SUBNORMAL:
        p->scales[i] = (uint8_t)(1 + below(&s, 7));
        break;
      case CK_SCALES_EXTREMES:
        p->scales[i] = extremes[below(&s, sizeof extremes)];
        break;
      default: /* what quantisers make: the upper third of the range */
        p->scales[i] = (uint8_t)(0x58 + below(&s, 0x7F - 0x58));
    }
  }
}

/* Element [m, k] of x, or [n, k] of dense weights. */
static float value_of(const ck_case *c, int64_t kind, source *s, int64_t m, int64_t k) {
  switch (kind) {
    case CK_VALUES_MAX:
      return 2688.0f / 96.0f;
    case CK_VALUES_ALTERNATING:
      return (m + k) % 2 == 0 ? 2688.0f / 96.0f : -2688.0f / 96.0f;
    case CK_VALUES_ZEROS:
      return m % 3 == 2 ? gauss(s) : below(s, 2) == 0 ? 0.0f : -0.0f;
    case CK_VALUES_ONE_HOT:
      return k == (m * 13 + c->seed) % c->k ? 1.0f + 0.5f * (float)(m % 8) : 0.0f;
    case CK_VALUES_WIDE: /* exponents that differ within a block and between blocks: sums round at every step */
      return ldexpf(gauss(s), (int)below(s, 24) - 12);
    case CK_VALUES_HUGE:
      return ldexpf(gauss(s), m % 2 == 0 ? 100 : 14);
    case CK_VALUES_SUBNORMAL:
      return ldexpf(gauss(s), m % 2 == 0 ? -140 : -126);
    case CK_VALUES_NAN:
      return m % 3 == 1 && k == (m * 7 + 3) % c->k ? NAN : gauss(s);
    case CK_VALUES_INF:
      if (m % 3 == 1 && (k == (m * 7 + 3) % c->k || (m % 2 == 0 && k == 5))) {
        return k == 5 ? -INFINITY : INFINITY;
      }
      return gauss(s);
    default:
      return gauss(s);
  }
}

/* From fp32 to the type and back, in place: the values that a kernel gets. */
static void round_to(float *values, int64_t count, nvfp4_dtype dtype) {
  uint16_t narrow;
  for (int64_t i = 0; dtype != NVFP4_DTYPE_F32 && i < count; i++) {
    nvfp4_from_f32(&values[i], dtype, &narrow, 1);
    nvfp4_to_f32(&narrow, dtype, &values[i], 1);
  }
}

static void make_dense_weights(ck_problem *p, const ck_case *c) {
  source s = source_of(c->seed, 0);
  p->w = get((size_t)(p->n * p->k) * sizeof(float));
  for (int64_t i = 0; i < p->n * p->k; i++) {
    p->w[i] = value_of(c, c->weights, &s, i / p->k, i % p->k);
  }
  round_to(p->w, p->n * p->k, (nvfp4_dtype)c->w);
}

static void make_alpha(ck_problem *p, const ck_case *c) {
  source s = source_of(c->seed, 3);
  for (int64_t n = 0; n < p->n; n++) {
    switch (c->alpha) {
      case CK_ALPHA_PARTITIONS: /* two that meet inside a tile */
        p->alpha[n] = n < (p->n + 1) / 2 ? 0x1.8p-7f : 0x1.23456p-5f;
        break;
      case CK_ALPHA_ROWS:
        p->alpha[n] = ldexpf(1.0f + (float)below(&s, 1 << 23) * 0x1p-23f, (int)below(&s, 16) - 12);
        break;
      case CK_ALPHA_TINY: /* y becomes subnormal */
        p->alpha[n] = ldexpf(1.0f + (float)below(&s, 1 << 23) * 0x1p-23f, -140 + (int)below(&s, 10));
        break;
      default:
        p->alpha[n] = 1.0f;
    }
  }
}

ck_problem ck_problem_make(const ck_case *c, nvfp4_mode mode) {
  ck_problem p = {.m = c->m, .n = c->n, .k = c->k, .blocks = c->k / NVFP4_BLOCK};
  if (mode == NVFP4_MODE_UNQUANTISED) {
    make_dense_weights(&p, c);
  } else {
    p.codes = get((size_t)(p.n * p.k / 2));
    p.scales = get((size_t)(p.n * p.blocks));
    make_codes(&p, c);
    make_scales(&p, c);
  }
  p.x = get((size_t)(p.m * p.k) * sizeof(float));
  p.alpha = get((size_t)p.n * sizeof(float));
  make_alpha(&p, c);
  source s = source_of(c->seed, 2);
  for (int64_t i = 0; i < p.m * p.k; i++) {
    p.x[i] = value_of(c, c->values, &s, i / p.k, i % p.k);
  }
  round_to(p.x, p.m * p.k, (nvfp4_dtype)c->x);
  if (c->bias != NVFP4_DTYPE_NONE) {
    p.bias = get((size_t)p.n * sizeof(float));
    for (int64_t n = 0; n < p.n; n++) {
      p.bias[n] = c->alpha == CK_ALPHA_TINY ? ldexpf(gauss(&s), -135) : gauss(&s) * 37.0f;
    }
    round_to(p.bias, p.n, (nvfp4_dtype)c->bias);
  }
  if (mode == NVFP4_MODE_W4A4) {
    p.input = (nvfp4_global){c->seed % 2 == 0 ? 1.0f / 96.0f : 96.5f, c->seed % 2 == 0 ? NVFP4_GLOBAL_MULTIPLIER : NVFP4_GLOBAL_DIVISOR};
    p.s_a = nvfp4_activation_factor(p.input);
    p.x_codes = get((size_t)(p.m * p.k / 2));
    p.x_scales = get((size_t)(p.m * p.blocks));
    for (int64_t m = 0; m < p.m; m++) {
      nvfp4_quantise_activation_row(p.x + m * p.k, p.k, p.s_a, p.x_codes + m * p.k / 2, p.x_scales + m * p.blocks);
    }
  }
  return p;
}

void ck_problem_free(ck_problem *p) {
  free(p->codes);
  free(p->scales);
  free(p->w);
  free(p->x);
  free(p->x_codes);
  free(p->x_scales);
  free(p->alpha);
  free(p->bias);
}
