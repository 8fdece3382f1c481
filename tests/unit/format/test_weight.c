/* SPDX-License-Identifier: Apache-2.0 */
#include "format/weight.h"

#include <math.h>
#include <stdbool.h>
#include <stdlib.h>

#include "format/e2m1.h"
#include "format/e4m3.h"
#include "support.h"

static uint8_t code_of(const uint8_t *codes, int64_t i) { return codes[i / 2] >> (i % 2 * 4) & 15; }

/* A finite fp32 of any exponent in [low, high). */
static float random_magnitude(test_random *random, int low, int high) {
  int exponent = low + (int)(test_random_u64(random) % (uint64_t)(high - low));
  return ldexpf(1 + test_random_uniform(random), exponent);
}

/* ---------------------------------------------------------------------------------------------------------------- dequantising */

/* Is `got` the fp32 nearest to number/divisor (ties to even)? Decided without a division: both middles to its neighbours, times the divisor, against the
 * number. A middle has 25 bits and a divisor 24: exact in double, as the number is. */
static bool is_rounded_quotient(float got, double number, double divisor) {
  double a = fabs((double)got), n = fabs(number);
  double above = 0.5 * (a + (double)nextafterf((float)a, INFINITY)) * divisor;
  double below = a > 0 ? 0.5 * (a + (double)nextafterf((float)a, 0)) * divisor : -1;
  bool even = f32_bits(got) % 2 == 0;
  return (signbit(got) != 0) == (signbit(number) != 0) && (even ? below <= n && n <= above : below < n && n < above);
}

static void dequantises_every_code(void **state) {
  (void)state;
  test_random random = {2};
  for (int round = 0; round < 200; ++round) {
    float global = round == 0 ? 1.0f : random_magnitude(&random, round % 4 == 0 ? -126 : -30, round % 4 == 0 ? 110 : 12);
    for (int scale = 0; scale < 256; ++scale) {
      for (int code = 0; code < 16; ++code) {
        float product = nvfp4_dequantise((uint8_t)code, (uint8_t)scale, (nvfp4_global){global, false});
        float quotient = nvfp4_dequantise((uint8_t)code, (uint8_t)scale, (nvfp4_global){global, true});
        if (nvfp4_e4m3_is_nan((uint8_t)scale)) {
          assert_true(isnan(product) && isnan(quotient));
          continue;
        }
        double number = (double)nvfp4_e2m1_to_f32((uint8_t)code) * (double)nvfp4_e4m3_to_f32((uint8_t)scale);
        assert_f32_bits(product, (float)(number * (double)global));
        if (isfinite(quotient)) {
          assert_true(is_rounded_quotient(quotient, number, (double)global));
        } else {
          assert_true(fabs(number) / (double)global >= 0x1.FFFFFFp127);
        }
      }
    }
  }
}

static void dequantises_matrices(void **state) {
  (void)state;
  enum { N = 5, K = 48, STRIDE = 40, SCALE_STRIDE = 4 };
  test_random random = {3};
  uint8_t codes[N * STRIDE], scales[N * SCALE_STRIDE];
  for (size_t i = 0; i < sizeof codes; ++i) {
    codes[i] = (uint8_t)(test_random_u64(&random) >> 32);
  }
  for (size_t i = 0; i < sizeof scales; ++i) {
    scales[i] = (uint8_t)(test_random_u64(&random) >> 32);
  }
  const nvfp4_weights weights = {.struct_size = sizeof weights,
                                 .n = N,
                                 .k = K,
                                 .codes = codes,
                                 .codes_stride_bytes = STRIDE,
                                 .scales = scales,
                                 .scales_stride_bytes = SCALE_STRIDE};
  const nvfp4_partition partitions[3] = {
      {.n_first = 0, .n_rows = 2, .weight = {0.013f, false}},
      {.n_first = 2, .n_rows = 1, .weight = {713.5f, true}},
      {.n_first = 3, .n_rows = 2, .weight = {1.0f, false}},
  };
  const int owner[N] = {0, 0, 1, 2, 2};
  nvfp4_reason reason;
  for (int first = 0; first < N; ++first) {
    for (int rows = 0; rows <= N - first; ++rows) {
      float out[N * K + 1];
      out[rows * K] = 77.0f;
      assert_ok(nvfp4_weights_dequantise(&weights, partitions, 3, first, rows, out, &reason), reason);
      assert_f32_bits(out[rows * K], 77.0f);
      for (int i = 0; i < rows * K; ++i) {
        int n = first + i / K, k = i % K;
        float want = nvfp4_dequantise(code_of(codes + n * STRIDE, k), scales[n * SCALE_STRIDE + k / 16], partitions[owner[n]].weight);
        assert_true(isnan(want) ? isnan(out[i]) : f32_bits(want) == f32_bits(out[i]));
      }
    }
  }
}

static void dequantise_refuses(void **state) {
  (void)state;
  uint8_t codes[16] = {0}, scales[2] = {0};
  float out[32];
  const nvfp4_weights good = {
      .struct_size = sizeof good, .n = 2, .k = 16, .codes = codes, .codes_stride_bytes = 8, .scales = scales, .scales_stride_bytes = 1};
  const nvfp4_partition whole = {.n_first = 0, .n_rows = 2, .weight = {1, false}};
  nvfp4_reason reason;
  assert_ok(nvfp4_weights_dequantise(&good, &whole, 1, 0, 2, out, &reason), reason);

  nvfp4_weights bad = good;
  bad.memory = NVFP4_MEMORY_CUDA;
  assert_int_equal(nvfp4_weights_dequantise(&bad, &whole, 1, 0, 2, out, &reason), NVFP4_E_ARG);
  bad = good;
  bad.k = 24;
  assert_int_equal(nvfp4_weights_dequantise(&bad, &whole, 1, 0, 2, out, &reason), NVFP4_E_SHAPE);
  bad = good;
  bad.codes_stride_bytes = 7;
  assert_int_equal(nvfp4_weights_dequantise(&bad, &whole, 1, 0, 2, out, &reason), NVFP4_E_SHAPE);
  assert_int_equal(nvfp4_weights_dequantise(&good, &whole, 1, 1, 2, out, &reason), NVFP4_E_SHAPE);
  assert_int_equal(nvfp4_weights_dequantise(&good, &whole, 1, INT64_MAX, 2, out, NULL), NVFP4_E_SHAPE);
  assert_int_equal(nvfp4_weights_dequantise(&good, &whole, 0, 0, 2, out, &reason), NVFP4_E_SHAPE);
  assert_int_equal(nvfp4_weights_dequantise(NULL, &whole, 1, 0, 2, out, &reason), NVFP4_E_ARG);
  nvfp4_partition part = whole;
  part.n_rows = 3;
  assert_int_equal(nvfp4_weights_dequantise(&good, &part, 1, 0, 2, out, &reason), NVFP4_E_SHAPE);
  part = whole;
  part.weight.value = 0;
  assert_int_equal(nvfp4_weights_dequantise(&good, &part, 1, 0, 2, out, &reason), NVFP4_E_ARG);
}

/* ------------------------------------------------------------------------------------------------------------------ the blocks */

/* Codes are nearest, ties to even, and the error is theirs: by distances from all eight levels. */
static void check_block(const float x[16], float global, uint8_t scale, const uint8_t codes[8], double error) {
  double step = (double)nvfp4_e4m3_to_f32(scale) * (double)global, sum = 0;
  for (int i = 0; i < 16; ++i) {
    int best = 0;
    for (int code = 1; code < 8; ++code) {
      double now = fabs(fabs((double)x[i]) - (double)nvfp4_e2m1_table[code] * step);
      double before = fabs(fabs((double)x[i]) - (double)nvfp4_e2m1_table[best] * step);
      best = now < before || (now == before && code % 2 == 0) ? code : best;
    }
    assert_int_equal(code_of(codes, i) & 7, best);
    assert_true(x[i] == 0 || (code_of(codes, i) >= 8) == (x[i] < 0));
    double difference = (double)x[i] - (double)nvfp4_e2m1_to_f32(code_of(codes, i)) * step;
    sum += difference * difference;
  }
  assert_true(sum == error);
}

/* The sum over k ascending of weights * squared distances, by the codes. */
static double weighted_error(const float x[16], const float *weights, float global, uint8_t scale, const uint8_t codes[8]) {
  double step = (double)nvfp4_e4m3_to_f32(scale) * (double)global, sum = 0;
  for (int i = 0; i < 16; ++i) {
    double difference = (double)x[i] - (double)nvfp4_e2m1_to_f32(code_of(codes, i)) * step;
    sum += (weights != NULL ? (double)weights[i] : 1.0) * (difference * difference);
  }
  return sum;
}

/* Sweep against trying all; no other search may be better. */
static void check_sweep(const float x[16], const float *weights, float global) {
  uint8_t codes[8], want_codes[8], other_codes[8];
  double error, want_error;
  uint8_t scale = nvfp4_quantise_block(x, weights, global, NVFP4_SCALES_SWEEP, codes, &error);
  uint8_t want = nvfp4_quantise_block_exhaustive(x, weights, global, want_codes, &want_error);
  if (scale != want || error != want_error || memcmp(codes, want_codes, 8) != 0) {
    fail_msg("scale 0x%02X, error %a; the exhaustive search has 0x%02X, %a (global %a, x %a %a %a ...)", scale, error, want, want_error,
             (double)global, (double)x[0], (double)x[1], (double)x[2]);
  }
  assert_true(error == weighted_error(x, NULL, global, scale, codes));
  const nvfp4_scale_search others[] = {NVFP4_SCALES_RTN, NVFP4_SCALES_FOUR_OVER_SIX};
  for (int i = 0; i < 2; ++i) {
    uint8_t other = nvfp4_quantise_block(x, weights, global, others[i], other_codes, NULL);
    assert_true(weighted_error(x, weights, global, scale, codes) <= weighted_error(x, weights, global, other, other_codes));
  }
}

typedef enum block_kind {
  GAUSS,
  STUDENT_T,
  OUTLIER,
  ONE_HOT,
  EQUAL,
  ON_THE_GRID, /* exact for one or more scales */
  ANY_EXPONENTS,
  FEW_BITS, /* many ties */
  CLIPPED,  /* on the grid but for one: the best scale may lie far below */
  COARSE,   /* small multiples of a small scale, which no smaller one may hit: the best may lie far above */
  KINDS
} block_kind;

static void random_block(test_random *random, block_kind kind, float global, float size, float x[16]) {
  int place = (int)(test_random_u64(random) % 16);
  float step = size * nvfp4_e4m3_to_f32((uint8_t)(0x30 + test_random_u64(random) % 16));
  float small_step = global * nvfp4_e4m3_to_f32((uint8_t)(1 + test_random_u64(random) % 24));
  for (int i = 0; i < 16; ++i) {
    float g = test_random_gauss(random);
    float sign = g < 0 ? -1.0f : 1.0f;
    switch (kind) {
      case STUDENT_T:
        x[i] = size * g / sqrtf(0.02f + powf(test_random_uniform(random), 2));
        break;
      case OUTLIER:
        x[i] = size * g * (i == place ? 100.0f : 1.0f);
        break;
      case ONE_HOT:
        x[i] = i == place ? size * g : 0;
        break;
      case EQUAL:
        x[i] = size * sign;
        break;
      case ON_THE_GRID:
        x[i] = step * nvfp4_e2m1_to_f32((uint8_t)(test_random_u64(random) % 16));
        break;
      case ANY_EXPONENTS:
        x[i] = size * sign * random_magnitude(random, -40, 1);
        break;
      case FEW_BITS:
        x[i] = size * (float)((int)(test_random_u64(random) % 49) - 24);
        break;
      case CLIPPED:
        x[i] = step * (i == place ? 6 + 4 * test_random_uniform(random) : nvfp4_e2m1_to_f32((uint8_t)(test_random_u64(random) % 16)));
        break;
      case COARSE:
        x[i] = small_step * (i == place ? 0.1f * g : nvfp4_e2m1_to_f32((uint8_t)(test_random_u64(random) % 4)));
        break;
      case GAUSS:
      case KINDS:
        x[i] = size * g;
        break;
    }
  }
}

/* size / global walks from where every code is 0 through subnormal scales to saturation. */
static void sweep_is_exhaustive(void **state) {
  (void)state;
  test_random random = {4};
  for (int round = 0; round < 20000; ++round) {
    float x[16];
    float global = random_magnitude(&random, round % 5 == 0 ? -100 : -12, round % 5 == 0 ? 60 : 2);
    global = round % 7 == 0 ? 1.0f : global;
    float size = global * (round % 3 == 0 ? random_magnitude(&random, -14, 14) : random_magnitude(&random, -2, 7));
    random_block(&random, (block_kind)(round % KINDS), global, size, x);
    check_sweep(x, NULL, global);
    float weights[16]; /* some far apart, some 0 */
    for (int i = 0; i < 16; ++i) {
      weights[i] = test_random_u64(&random) % 5 == 0 ? 0 : random_magnitude(&random, round % 2 == 0 ? -40 : -3, round % 2 == 0 ? 40 : 3);
    }
    check_sweep(x, weights, global);
  }
}

/* Trying all, here with errors from distances alone, finds the least weighted error: the exhaustive search is itself right. */
static void weighted_search_is_least(void **state) {
  (void)state;
  test_random random = {9};
  for (int round = 0; round < 300; ++round) {
    float x[16], weights[16], global = random_magnitude(&random, -12, 2);
    random_block(&random, (block_kind)(round % KINDS), global, global * random_magnitude(&random, -2, 7), x);
    for (int i = 0; i < 16; ++i) {
      weights[i] = random_magnitude(&random, -6, 6);
    }
    uint8_t codes[8];
    uint8_t scale = nvfp4_quantise_block(x, weights, global, NVFP4_SCALES_SWEEP, codes, NULL);
    double found = weighted_error(x, weights, global, scale, codes);
    for (int other = 1; other <= 0x7E; ++other) {
      double step = (double)nvfp4_e4m3_to_f32((uint8_t)other) * (double)global, sum = 0;
      for (int i = 0; i < 16; ++i) {
        double least = fabs((double)x[i]);
        for (int code = 1; code < 8; ++code) {
          least = fmin(least, fabs(fabs((double)x[i]) - (double)nvfp4_e2m1_table[code] * step));
        }
        sum += (double)weights[i] * (least * least);
      }
      assert_true(found <= sum);
    }
  }
}

/* Weights of 0 everywhere say nothing: the search is the one without weights. */
static void zero_weights_are_equal_weights(void **state) {
  (void)state;
  test_random random = {10};
  const float zeros[16] = {0};
  float x[16];
  uint8_t codes[8], want[8];
  random_block(&random, GAUSS, 0.01f, 1, x);
  assert_int_equal(nvfp4_quantise_block(x, zeros, 0.01f, NVFP4_SCALES_SWEEP, codes, NULL),
                   nvfp4_quantise_block(x, NULL, 0.01f, NVFP4_SCALES_SWEEP, want, NULL));
  assert_memory_equal(codes, want, 8);
}

/* Blocks of which each candidate is the exact one. */
static void four_over_six_takes_the_better(void **state) {
  (void)state;
  const float six[16] = {6, -4, 3, 2}, four[16] = {4, -3, 2, 1};
  uint8_t codes[8];
  double error;
  float global = 0x1p-6f;
  assert_int_equal(nvfp4_quantise_block(six, NULL, global, NVFP4_SCALES_FOUR_OVER_SIX, codes, &error), nvfp4_e4m3_from_f32(64));
  assert_true(error == 0);
  assert_int_equal(nvfp4_quantise_block(four, NULL, global, NVFP4_SCALES_FOUR_OVER_SIX, codes, &error), nvfp4_e4m3_from_f32(64));
  assert_true(error == 0);
  /* An element that only the scale for 4 hits decides if it counts, and not if it does not. */
  float x[16] = {6, 4.5f, 3, 3}, weights[16] = {0, 1, 0, 0};
  assert_int_equal(nvfp4_quantise_block(x, weights, global, NVFP4_SCALES_FOUR_OVER_SIX, codes, NULL), nvfp4_e4m3_from_f32(96));
  weights[1] = 0;
  weights[2] = 0;
  weights[0] = 1;
  assert_int_equal(nvfp4_quantise_block(x, weights, global, NVFP4_SCALES_FOUR_OVER_SIX, codes, NULL), nvfp4_e4m3_from_f32(64));
}

static void sweep_at_the_ends(void **state) {
  (void)state;
  const float globals[] = {0x1p-149f, 0x1p-126f, 1e-30f, 1.0f, 1e30f, 0x1p120f, 3.4e38f};
  const float values[] = {0x1p-149f, 0x1p-126f, 1e-20f, 1.0f, 0x1.8p1f, 1e20f, 0x1.FFFFFEp127f};
  for (size_t g = 0; g < sizeof globals / sizeof *globals; ++g) {
    for (size_t v = 0; v < sizeof values / sizeof *values; ++v) {
      for (int count = 1; count <= 16; count += 5) {
        float x[16] = {0};
        for (int i = 0; i < count; ++i) {
          x[i] = values[v] / (float)(1 + i % 3);
        }
        check_sweep(x, NULL, globals[g]);
      }
    }
  }
}

static void blocks_are_nearest(void **state) {
  (void)state;
  test_random random = {5};
  for (int round = 0; round < 20000; ++round) {
    float x[16], global = random_magnitude(&random, -20, 4), amax = 0;
    uint8_t codes[8];
    double error;
    random_block(&random, (block_kind)(round % KINDS), global, global * random_magnitude(&random, -12, 12), x);
    for (int i = 0; i < 16; ++i) {
      amax = fmaxf(amax, fabsf(x[i]));
    }
    uint8_t scale = nvfp4_quantise_block(x, NULL, global, NVFP4_SCALES_RTN, codes, &error);
    if (amax > 0) {
      float quotient = amax / (6.0f * global);
      assert_int_equal(scale, nvfp4_e4m3_from_f32(quotient < 0x1p-9f ? 0x1p-9f : quotient));
      check_block(x, global, scale, codes, error);
    }
    scale = nvfp4_quantise_block(x, NULL, global, NVFP4_SCALES_SWEEP, codes, &error);
    if (amax > 0) {
      check_block(x, global, scale, codes, error);
    }
  }
}

static void ties_go_to_even(void **state) {
  (void)state;
  const float ties[7] = {0.25f, 0.75f, 1.25f, 1.75f, 2.5f, 3.5f, 5.0f};
  const uint8_t even[7] = {0, 2, 2, 4, 4, 6, 6};
  for (int scale = 1; scale <= 0x7E; ++scale) {
    float step = 0.5f * nvfp4_e4m3_to_f32((uint8_t)scale);
    float x[16] = {6 * step};
    uint8_t codes[8];
    for (int i = 0; i < 7; ++i) {
      x[1 + i] = ties[i] * step;
      x[8 + i] = -ties[i] * step;
    }
    assert_int_equal(nvfp4_quantise_block(x, NULL, 0.5f, NVFP4_SCALES_RTN, codes, NULL), scale);
    for (int i = 0; i < 7; ++i) {
      assert_int_equal(code_of(codes, 1 + i), even[i]);
      assert_int_equal(code_of(codes, 8 + i), even[i] | 8);
    }
  }
}

/* At the edges between two scales the order of fp32 operations shows: amax / (6 * global). */
static void scale_is_modelopts(void **state) {
  (void)state;
  test_random random = {8};
  for (int scale = 1; scale < 0x7E; ++scale) {
    for (int round = 0; round < 20; ++round) {
      float global = random_magnitude(&random, -20, 4);
      float middle = 0.5f * (nvfp4_e4m3_to_f32((uint8_t)scale) + nvfp4_e4m3_to_f32((uint8_t)(scale + 1)));
      uint32_t amax = f32_bits(middle * 6 * global);
      for (uint32_t bits = amax - 4; bits <= amax + 4; ++bits) {
        float x[16] = {f32_from_bits(bits)};
        uint8_t codes[8];
        volatile float six = 6.0f * global;
        int want = nvfp4_e4m3_from_f32(x[0] / six);
        assert_int_equal(nvfp4_quantise_block(x, NULL, global, NVFP4_SCALES_RTN, codes, NULL), want);
      }
    }
  }
}

static void zero_blocks(void **state) {
  (void)state;
  const uint8_t zeros[8] = {0};
  for (int i = 0; i < 3; ++i) {
    float x[16] = {0, -0.0f};
    uint8_t codes[8];
    double error = 1;
    memset(codes, 0xFF, sizeof codes);
    uint8_t scale = i < 2 ? nvfp4_quantise_block(x, NULL, 0.5f, (nvfp4_scale_search)i, codes, &error)
                          : nvfp4_quantise_block_exhaustive(x, NULL, 0.5f, codes, &error);
    assert_int_equal(scale, 0x38);
    assert_memory_equal(codes, zeros, sizeof zeros);
    assert_true(error == 0);
    assert_int_equal(nvfp4_quantise_block(x, NULL, 0.5f, NVFP4_SCALES_RTN, codes, NULL), 0x38);
  }
}

/* ---------------------------------------------------------------------------------------------------------------------- matrix */

static void global_from_amax(void **state) {
  (void)state;
  assert_f32_bits(nvfp4_global_from_amax(2688.0f), 1.0f);
  assert_f32_bits(nvfp4_global_from_amax(0.1f), 0.1f / 2688.0f);
  assert_f32_bits(nvfp4_global_from_amax(0.0f), 1.0f);
  assert_f32_bits(nvfp4_global_from_amax(0x1p-149f), 1.0f);
}

/* Relative squared errors of the searches on 2^20 samples. The limits are published figures for this block size, rounded up. */
static void quality(void **state) {
  (void)state;
  enum { N = 256, K = 4096 };
  static const double limits[2][3] = {{0.0091, 0.00665, 0.00760}, {0.0087, 0.00685, 0.00763}};
  float *x = malloc(sizeof(float) * N * K);
  uint8_t *codes = malloc(N * K / 2), *scales = malloc(N * K / 16);
  nvfp4_reason reason;
  for (int laplace = 0; laplace < 2; ++laplace) {
    test_random random = {6};
    float amax = 0;
    double squares = 0;
    for (int i = 0; i < N * K; ++i) {
      float g = test_random_gauss(&random);
      x[i] = 0.02f * (laplace ? copysignf(logf(1 - test_random_uniform(&random)), g) : g);
      amax = fmaxf(amax, fabsf(x[i]));
      squares += (double)x[i] * (double)x[i];
    }
    for (int search = 0; search < 3; ++search) {
      float global = nvfp4_global_from_amax(search == NVFP4_SCALES_FOUR_OVER_SIX ? 1.75f * amax : amax);
      double error[2], sum = 0;
      assert_ok(nvfp4_quantise_matrix(x, N, K, global, (nvfp4_scale_search)search, NULL, codes, scales, error, &reason), reason);
      for (int i = 0; i < N * K; ++i) {
        float w = nvfp4_dequantise(code_of(codes, i), scales[i / 16], (nvfp4_global){global, false});
        sum += ((double)x[i] - (double)w) * ((double)x[i] - (double)w);
      }
      /* The sums' orders differ and w is rounded to fp32: 2^-24 of a weight against an error of about a tenth of it. */
      assert_true(fabs(sum - error[0]) <= 1e-5 * error[0] && fabs(squares - error[1]) <= 1e-9 * squares);
      assert_true(error[0] / error[1] <= limits[laplace][search]);
    }
  }
  free(x);
  free(codes);
  free(scales);
}

static void matrix_is_its_blocks(void **state) {
  (void)state;
  enum { N = 7, K = 80 };
  test_random random = {7};
  float x[N * K], importance[K];
  for (int i = 0; i < K; ++i) {
    importance[i] = random_magnitude(&random, -10, 10);
  }
  for (int i = 0; i < N * K; ++i) {
    x[i] = i / 16 % 6 == 5 ? 0 : test_random_gauss(&random);
  }
  for (int variant = 0; variant < 6; ++variant) {
    const nvfp4_scale_search search = (nvfp4_scale_search)(variant / 2);
    const float *weights = variant % 2 == 1 ? importance : NULL;
    uint8_t codes[N * K / 2], scales[N * K / 16];
    double error[2], sum = 0;
    nvfp4_reason reason;
    assert_ok(nvfp4_quantise_matrix(x, N, K, 0.002f, search, weights, codes, scales, error, &reason), reason);
    for (int block = 0; block < N * K / 16; ++block) {
      uint8_t want[8];
      double one;
      const float *of_block = weights != NULL ? weights + block % (K / 16) * 16 : NULL;
      assert_int_equal(nvfp4_quantise_block(x + block * 16, of_block, 0.002f, search, want, &one), scales[block]);
      assert_memory_equal(codes + block * 8, want, 8);
      sum += one;
    }
    assert_true(sum == error[0]);
  }
}

static void matrix_refuses(void **state) {
  (void)state;
  float x[64] = {1, 2, 3};
  uint8_t codes[32], scales[4], untouched[32];
  nvfp4_reason reason;
  memset(codes, 0xA5, sizeof codes);
  memset(untouched, 0xA5, sizeof untouched);
  const float bad[] = {NAN, INFINITY, -INFINITY};
  for (int i = 0; i < 3; ++i) {
    x[32 + 17] = bad[i];
    assert_int_equal(nvfp4_quantise_matrix(x, 2, 32, 0.1f, NVFP4_SCALES_RTN, NULL, codes, scales, NULL, &reason), NVFP4_E_FORMAT);
    assert_non_null(strstr(reason.text, "row 1, column 17"));
  }
  x[32 + 17] = 0;
  assert_int_equal(nvfp4_quantise_matrix(x, 4, 8, 0.1f, NVFP4_SCALES_RTN, NULL, codes, scales, NULL, &reason), NVFP4_E_SHAPE);
  assert_int_equal(nvfp4_quantise_matrix(x, 2, 32, 0.0f, NVFP4_SCALES_RTN, NULL, codes, scales, NULL, &reason), NVFP4_E_ARG);
  assert_int_equal(nvfp4_quantise_matrix(x, 2, 32, NAN, NVFP4_SCALES_RTN, NULL, codes, scales, NULL, &reason), NVFP4_E_ARG);
  assert_int_equal(nvfp4_quantise_matrix(x, 2, 32, INFINITY, NVFP4_SCALES_RTN, NULL, codes, scales, NULL, NULL), NVFP4_E_ARG);
  assert_int_equal(nvfp4_quantise_matrix(x, 2, 32, 0.1f, (nvfp4_scale_search)3, NULL, codes, scales, NULL, &reason), NVFP4_E_ARG);
  for (int i = 0; i < 3; ++i) {
    const float importance[32] = {[5] = i == 0 ? NAN : i == 1 ? INFINITY : -1};
    assert_int_equal(nvfp4_quantise_matrix(x, 2, 32, 0.1f, NVFP4_SCALES_RTN, importance, codes, scales, NULL, &reason), NVFP4_E_ARG);
    assert_non_null(strstr(reason.text, "column 5"));
  }
  assert_int_equal(nvfp4_quantise_matrix(NULL, 2, 32, 0.1f, NVFP4_SCALES_RTN, NULL, codes, scales, NULL, &reason), NVFP4_E_ARG);
  assert_memory_equal(codes, untouched, sizeof codes);
  assert_ok(nvfp4_quantise_matrix(x, 2, 32, 0.1f, NVFP4_SCALES_RTN, NULL, codes, scales, NULL, &reason), reason);
  assert_ok(nvfp4_quantise_matrix(x, 0, 32, 0.1f, NVFP4_SCALES_RTN, NULL, codes, scales, NULL, &reason), reason);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(dequantises_every_code),
      cmocka_unit_test(dequantises_matrices),
      cmocka_unit_test(dequantise_refuses),
      cmocka_unit_test(sweep_is_exhaustive),
      cmocka_unit_test(sweep_at_the_ends),
      cmocka_unit_test(weighted_search_is_least),
      cmocka_unit_test(zero_weights_are_equal_weights),
      cmocka_unit_test(four_over_six_takes_the_better),
      cmocka_unit_test(blocks_are_nearest),
      cmocka_unit_test(ties_go_to_even),
      cmocka_unit_test(scale_is_modelopts),
      cmocka_unit_test(zero_blocks),
      cmocka_unit_test(global_from_amax),
      cmocka_unit_test(quality),
      cmocka_unit_test(matrix_is_its_blocks),
      cmocka_unit_test(matrix_refuses),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
