/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Draws tokens with IEEE additions, multiplications and divisions alone, in order of the ids: the same seed and logits give the same token on every machine.
 * Nothing is sorted: weights are floats >= 0, whose bit patterns are in their own order, so that the smallest weight that is kept is found by bisection.
 */
#include <math.h>
#include <stdint.h>
#include <string.h>

#include <nvfp4/model.h>

/* SplitMix64 (Steele, Lea, Flood 2014): 53 random bits in [0, 1). */
static double next_uniform(uint64_t *state) {
  uint64_t z = *state += 0x9E3779B97F4A7C15u;
  z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
  z = (z ^ z >> 27) * 0x94D049BB133111EBu;
  z ^= z >> 31;
  return (double)(z >> 11) * 0x1p-53;
}

/* e^x for x <= 0, to within 2 ulp. Not libm's, whose last bit differs between systems. */
static double exp_nonpositive(double x) {
  if (x < -700) {
    return 0;
  }
  /* x = n ln 2 + r with |r| <= ln 2 / 2; ln 2 in two parts, the first with so few bits that n times it is exact. */
  double n = (double)(int64_t)(x * 1.4426950408889634 - 0.5);
  double r = (x - n * 0x1.62e42feep-1) - n * 0x1.a39ef35793c76p-33;
  double sum = 1;
  for (int i = 13; i > 0; i--) { /* Taylor: the next term is below 2^-57 */
    sum = 1 + r / i * sum;
  }
  uint64_t bits = (uint64_t)((int64_t)n + 1023) << 52; /* 2^n, normal as x >= -700 */
  double power;
  memcpy(&power, &bits, sizeof power);
  return sum * power;
}

static float float_of(uint32_t bits) {
  float value;
  memcpy(&value, &bits, sizeof value);
  return value;
}

/* How much of the weights is >= limit: their number, or their sum. */
static double share_above(const float *weights, size_t count, float limit, bool number) {
  double share = 0;
  for (size_t i = 0; i < count; i++) {
    if (weights[i] >= limit) {
      share += number ? 1 : (double)weights[i];
    }
  }
  return share;
}

/* Keeps the largest weights until `wanted` of them (number) or of their sum is reached, the lowest ids of equals, and zeroes the others. */
static void keep_largest(float *weights, size_t count, double wanted, bool number) {
  uint32_t low = 0, high = 0x3F800000u; /* weights are in [0, 1]; share_above(low) >= wanted */
  if (share_above(weights, count, 1, number) >= wanted) {
    low = high;
  }
  while (high - low > 1) {
    uint32_t middle = low + (high - low) / 2;
    if (share_above(weights, count, float_of(middle), number) >= wanted) {
      low = middle;
    } else {
      high = middle;
    }
  }
  float limit = float_of(low), above = float_of(low + 1);
  double share = share_above(weights, count, above, number);
  for (size_t i = 0; i < count; i++) {
    if (weights[i] >= above) {
      continue;
    }
    if (weights[i] == limit && share < wanted) {
      share += number ? 1 : (double)weights[i];
    } else {
      weights[i] = 0;
    }
  }
}

/* The largest, the lowest id of equals; NaN is never one. */
static size_t largest(const float *logits, size_t count) {
  size_t best = 0;
  float most = -INFINITY;
  for (size_t i = 0; i < count; i++) {
    if (logits[i] > most) {
      most = logits[i];
      best = i;
    }
  }
  return best;
}

int32_t nvfp4_sample(nvfp4_sampler *sampler, float *logits, size_t vocabulary) {
  size_t best = largest(logits, vocabulary);
  if (vocabulary == 0 || !(sampler->temperature > 0) || isinf(logits[best])) {
    return (int32_t)best;
  }
  double top = logits[best], temperature = (double)sampler->temperature;
  for (size_t i = 0; i < vocabulary; i++) {
    double below = ((double)logits[i] - top) / temperature;
    logits[i] = below <= 0 ? (float)exp_nonpositive(below) : 0; /* NaN: 0 */
  }
  if (sampler->top_k > 0 && (size_t)sampler->top_k < vocabulary) {
    keep_largest(logits, vocabulary, sampler->top_k, true);
  }
  double total = share_above(logits, vocabulary, 0, false);
  if (sampler->top_p < 1) {
    keep_largest(logits, vocabulary, (double)sampler->top_p * total, false);
    total = share_above(logits, vocabulary, 0, false);
  }
  double left = next_uniform(&sampler->seed) * total;
  size_t drawn = best;
  for (size_t i = 0; i < vocabulary; i++) {
    if (logits[i] > 0) {
      drawn = i;
      left -= (double)logits[i];
      if (left < 0) {
        break;
      }
    }
  }
  return (int32_t)drawn;
}
