/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How a tensor core adds: d = c + sum of 16 products. docs/numerics.md ("Tensor cores") holds what it printed on which GPU, and what follows for kernels of class BOUNDED.
 *
 * Model with B bits, after Fasi, Higham, Mikaitis, Pranesh, "Numerical behavior of NVIDIA tensor cores" (2021): products are exact; products and c are aligned to the largest of their exponents, what lies below
 * 2^-B of it is cut off; the sum of these is exact, and is cut (not rounded) to fp32. It says which B, and whether the 16 products are added at once or in two groups of 8, c with the
 * first, gives the bits of the hardware in every one of many random tests.
 *
 *   tensor_core_accumulation [DEVICE]
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "layer/place.h"

enum { K = 16, TESTS = 200000 };

typedef struct problem {
  float a[TESTS][K], b[TESTS][K], c[TESTS], d[TESTS];
  int count;
} problem;

typedef struct tensor_core {
  nvfp4_place place;
  nvfp4_visit visit;
  nvfp4_cuda_kernel kernel;
  unsigned threads;
} tensor_core;

extern const unsigned char nvfp4_fatbin_accumulate[];

/* ------------------------------------------------------------------------------------------------------------------- the device */

static void need(nvfp4_status status, const nvfp4_reason *reason) {
  if (status != NVFP4_OK) {
    fprintf(stderr, "tensor_core_accumulation: %s\n", reason->text);
    exit(2);
  }
}

static void compute(const tensor_core *t, problem *p) {
  nvfp4_reason reason = {0};
  void *a, *b, *c, *d;
  size_t rows = (size_t)p->count * K * sizeof(float), each = (size_t)p->count * sizeof(float);
  need(nvfp4_place_copy(&t->visit, p->a, rows, &a, &reason), &reason);
  need(nvfp4_place_copy(&t->visit, p->b, rows, &b, &reason), &reason);
  need(nvfp4_place_copy(&t->visit, p->c, each, &c, &reason), &reason);
  need(nvfp4_place_alloc(&t->place, each, &d, &reason), &reason);
  const nvfp4_cu_launch launch = {
      .grid_x = 512, .grid_y = 1, .grid_z = 1, .block_x = t->threads, .block_y = 1, .block_z = 1, .stream = t->visit.stream};
  void *parameters[] = {&a, &b, &c, &d, &p->count};
  need(nvfp4_cuda_launch(t->place.cuda, &t->kernel, &launch, parameters, &reason), &reason);
  need(nvfp4_cuda_copy_rows(t->place.cuda, p->d, each, d, each, each, 1, t->visit.stream, &reason), &reason);
  need(nvfp4_place_wait(&t->visit, &reason), &reason);
  void *const memory[] = {a, b, c, d};
  for (int i = 0; i < 4; i++) {
    nvfp4_place_free(&t->place, memory[i]);
  }
}

/* --------------------------------------------------------------------------------------------------------------- single questions */

/* d for one sum: the products, c. Factors of half the exponent each, which f16 holds too. */
static float add(const tensor_core *t, problem *p, const float *products, float c) {
  p->count = 1;
  for (int k = 0; k < K; k++) {
    int e = 0;
    frexpf(products[k], &e);
    p->a[0][k] = ldexpf(products[k], -e / 2);
    p->b[0][k] = ldexpf(1.0f, e / 2);
  }
  p->c[0] = c;
  compute(t, p);
  return p->d[0];
}

static void ask_bits(const tensor_core *t, problem *p) {
  int products_kept = 0, c_kept = 0;
  for (int bits = 18; bits < 40; bits++) { /* 1 + 2^-bits - 1 */
    float tiny = ldexpf(1.0f, -bits);
    const float largest_product[K] = {1.0f, tiny, -1.0f}, largest_c[K] = {-1.0f, tiny};
    products_kept = add(t, p, largest_product, 0.0f) == tiny ? bits : products_kept;
    c_kept = add(t, p, largest_c, 1.0f) == tiny ? bits : c_kept;
  }
  printf("  smallest 2^-e that survives 1 + 2^-e - 1: e = %d among products, %d beside c = 1\n", products_kept, c_kept);
  float below = ldexpf(1.75f, -products_kept);
  const float up[K] = {1.0f, below, -1.0f}, down[K] = {1.0f, -below, -1.0f};
  printf("  1.75 * 2^-%d there: +%.4g and %.4g of 2^-%d (1 and -1: cut off; 2 and -2: rounded; 1 and -2: downwards)\n", products_kept,
         (double)ldexpf(add(t, p, up, 0.0f), products_kept), (double)ldexpf(add(t, p, down, 0.0f), products_kept), products_kept);
  const float tie[K] = {1.0f, 0x1.8p-23f}, more[K] = {1.0f, 0x1.8p-24f}, minus[K] = {-1.0f, -0x1.8p-24f};
  printf("  1 + 3 * 2^-24 gives 1 + %g * 2^-23 (1: cut, 2: to nearest even)\n", (double)ldexpf(add(t, p, tie, 0.0f) - 1.0f, 23));
  printf("  1 + 1.5 * 2^-24 gives 1 + %g * 2^-23, and its negative -1 - %g * 2^-23 (0: cut, 1: to nearest)\n",
         (double)ldexpf(add(t, p, more, 0.0f) - 1.0f, 23), (double)ldexpf(-1.0f - add(t, p, minus, 0.0f), 23));
}

/* Which products share a group: 2^-24 beside 1 at place i, then -1 at place j. In one group the 2^-24 survives. */
static void ask_groups(const tensor_core *t, problem *p) {
  printf("  places that are added at once with k = 0:");
  for (int j = 2; j < K; j++) {
    float products[K] = {1.0f, 0x1p-24f};
    products[j] = -1.0f;
    if (add(t, p, products, 0.0f) == 0x1p-24f) {
      printf(" %d", j);
    }
  }
  printf("\n  and with c:");
  for (int j = 0; j < K; j++) {
    float products[K] = {0};
    products[j] = -1.0f;
    products[(j + 1) % 2 + j / 2 * 2] = 0x1p-24f; /* its neighbour */
    if (add(t, p, products, 1.0f) == 0x1p-24f) {
      printf(" %d", j);
    }
  }
  printf("\n");
}

/* --------------------------------------------------------------------------------------------------------------------- the model */

typedef struct model {
  int bits, group; /* products that are added at once: 8 or 16 */
  bool normalised; /* a product's exponent is that of its value; otherwise the sum of its factors' exponents */
} model;

static int exponent_of(float value) {
  int e;
  frexpf(value, &e);
  return e - 1;
}

/* Cuts value * 2^-unit to an integer, towards zero. */
static int64_t cut(double value, int unit) { return (int64_t)trunc(ldexp(value, -unit)); }

static float cut_to_f32(int64_t sum, int unit) {
  uint64_t magnitude = (uint64_t)(sum < 0 ? -sum : sum);
  while (magnitude >> 24 != 0) {
    magnitude >>= 1;
    unit++;
  }
  float value = ldexpf((float)magnitude, unit);
  return sum < 0 ? -value : value;
}

static float predict(model m, const float *a, const float *b, float c) {
  for (int first = 0; first < K; first += m.group) {
    int most = c != 0 ? exponent_of(c) : -1000;
    for (int k = first; k < first + m.group; k++) {
      int e = a[k] == 0 || b[k] == 0 ? -1000 : m.normalised ? exponent_of(a[k] * b[k]) : exponent_of(a[k]) + exponent_of(b[k]);
      most = e > most ? e : most;
    }
    if (most == -1000) {
      continue;
    }
    int64_t sum = cut(c, most - m.bits);
    for (int k = first; k < first + m.group; k++) {
      sum += cut((double)a[k] * b[k], most - m.bits);
    }
    c = cut_to_f32(sum, most - m.bits);
  }
  return c;
}

static uint64_t state = 7;
static uint32_t draw(void) { /* Knuth's MMIX generator */
  state = state * 6364136223846793005u + 1442695040888963407u;
  return (uint32_t)(state >> 33);
}

/* +-1.xxxxxxx * 2^(-spread .. 0): seven random fraction bits, which bf16 and f16 hold. */
static float draw_factor(int spread) {
  float value = ldexpf((float)(128 + draw() % 128), -7 - (spread > 0 ? (int)(draw() % (unsigned)spread) : 0));
  return draw() % 2 == 0 ? value : -value;
}

static void fill(problem *p) {
  p->count = TESTS;
  for (int i = 0; i < TESTS; i++) {
    int spread = i % 13; /* f16 holds all of it */
    for (int k = 0; k < K; k++) {
      p->a[i][k] = draw_factor(spread);
      p->b[i][k] = draw_factor(spread);
    }
    p->c[i] = i % 4 == 0 ? 0.0f : draw_factor(2 * spread) * (1.0f + (float)(draw() % (1 << 15)) * 0x1p-23f);
  }
}

static void try_models(const tensor_core *t, problem *p) {
  static const int groups[] = {8, 16, 4};
  fill(p);
  compute(t, p);
  double worst = 0;
  for (int i = 0; i < TESTS; i++) {
    double exact = p->c[i], absolute = fabs(exact);
    for (int k = 0; k < K; k++) {
      exact += (double)p->a[i][k] * p->b[i][k];
      absolute += fabs((double)p->a[i][k] * p->b[i][k]);
    }
    double error = fabs(p->d[i] - exact) / absolute;
    worst = error > worst ? error : worst;
  }
  printf("  largest |error| / sum of magnitudes, of %d random sums: %.2f * 2^-24\n", TESTS, ldexp(worst, 24));
  for (int g = 0; g < 3; g++) {
    for (int bits = 22; bits <= 30; bits++) {
      for (int normalised = 0; normalised <= 1; normalised++) {
        const model m = {bits, groups[g], normalised != 0};
        int same = 0;
        for (int i = 0; i < TESTS; i++) {
          same += memcmp(&(float){predict(m, p->a[i], p->b[i], p->c[i])}, &p->d[i], sizeof(float)) == 0;
        }
        if (same == TESTS) {
          printf("  all as the model with %d bits has them, %d products at once, exponents of %s\n", bits, groups[g],
                 normalised ? "products" : "factors");
        }
      }
    }
  }
}

/* The same products in another order. */
static void try_orders(const tensor_core *t, problem *p) {
  float *before = malloc(sizeof p->d);
  fill(p);
  compute(t, p);
  memcpy(before, p->d, sizeof p->d);
  for (int i = 0; i < TESTS; i++) {
    for (int k = K - 1; k > 0; k--) {
      int other = (int)(draw() % (unsigned)(k + 1));
      float a = p->a[i][k], b = p->b[i][k];
      p->a[i][k] = p->a[i][other];
      p->b[i][k] = p->b[i][other];
      p->a[i][other] = a;
      p->b[i][other] = b;
    }
  }
  compute(t, p);
  int same = 0;
  for (int i = 0; i < TESTS; i++) {
    same += memcmp(&before[i], &p->d[i], sizeof(float)) == 0;
  }
  printf("  the 16 products in another order: %d of %d the same\n", same, TESTS);
  free(before);
}

int main(int argc, char **argv) {
  static const struct {
    const char *name;
    unsigned threads;
    int sm;
  } kernels[] = {{"accumulate_mma_bf16", 32, 0}, {"accumulate_mma_f16", 32, 0}, {"accumulate_wgmma_bf16", 128, 90}};
  const nvfp4_device device = {NVFP4_DEVICE_CUDA, argc > 1 ? atoi(argv[1]) : 0};
  nvfp4_reason reason = {0};
  nvfp4_machine machine;
  nvfp4_cuda *cuda;
  tensor_core t = {0};
  problem *p = malloc(sizeof *p);
  nvfp4_machine_probe(&machine);
  need(nvfp4_cuda_open(NVFP4_CUDA_DRIVER, &cuda, &reason), &reason);
  need(nvfp4_place_find(cuda, device, &t.place, &reason), &reason);
  need(nvfp4_place_enter(&t.place, true, &t.visit, &reason), &reason);
  printf("%s, sm_%d\n", machine.gpus[device.ordinal].name, machine.gpus[device.ordinal].sm);
  for (size_t i = 0; p != NULL && i < sizeof kernels / sizeof kernels[0]; i++) {
    if (kernels[i].sm != 0 && kernels[i].sm != machine.gpus[device.ordinal].sm) {
      continue;
    }
    t.kernel = (nvfp4_cuda_kernel){nvfp4_fatbin_accumulate, kernels[i].name};
    t.threads = kernels[i].threads;
    printf("%s\n", kernels[i].name);
    ask_bits(&t, p);
    ask_groups(&t, p);
    try_models(&t, p);
    try_orders(&t, p);
  }
  nvfp4_place_leave(&t.visit, NULL);
  nvfp4_cuda_close(cuda);
  free(p);
  return 0;
}
