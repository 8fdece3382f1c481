/* SPDX-License-Identifier: Apache-2.0 */
#include <math.h>
#include <nvfp4/model.h>

#include "support.h"

enum { DRAWS = 20000 };

static void greedy_takes_the_first_of_the_largest(void **state) {
  (void)state;
  nvfp4_sampler sampler = {.temperature = 0, .seed = 5};
  float logits[] = {1, 3, NAN, 3, -INFINITY};
  assert_int_equal(nvfp4_sample(&sampler, logits, 5), 1);
  assert_int_equal(sampler.seed, 5);
  assert_f32_bits(logits[3], 3);
  float none[] = {NAN, NAN};
  assert_int_equal(nvfp4_sample(&sampler, none, 2), 0);
  sampler.temperature = 1;
  assert_int_equal(nvfp4_sample(&sampler, none, 2), 0);
  float infinite[] = {0, INFINITY};
  assert_int_equal(nvfp4_sample(&sampler, infinite, 2), 1);
}

/* Draws from logits 0, -1, .. -7 in a scattered order; returns how often each came. */
static void draw(nvfp4_sampler sampler, int counts[8]) {
  static const float logits[8] = {-3, 0, -5, -1, -7, -2, -6, -4};
  memset(counts, 0, 8 * sizeof counts[0]);
  for (int i = 0; i < DRAWS; i++) {
    float copy[8];
    memcpy(copy, logits, sizeof copy);
    int32_t token = nvfp4_sample(&sampler, copy, 8);
    assert_in_range(token, 0, 7);
    counts[(int)-logits[token]]++;
  }
}

/* Each count within six standard deviations of its expectation. */
static void check_counts(const int counts[8], int kept, double temperature) {
  double total = 0;
  for (int i = 0; i < kept; i++) {
    total += exp(-i / temperature);
  }
  for (int i = 0; i < 8; i++) {
    double p = i < kept ? exp(-i / temperature) / total : 0;
    double deviation = sqrt(DRAWS * p * (1 - p));
    if (fabs(counts[i] - DRAWS * p) > 6 * deviation) {
      fail_msg("logit -%d: %d draws, expected %g +- %g", i, counts[i], DRAWS * p, deviation);
    }
  }
}

static void draws_by_probability(void **state) {
  (void)state;
  int counts[8];
  draw((nvfp4_sampler){1, 0, 1, 1}, counts);
  check_counts(counts, 8, 1);
  draw((nvfp4_sampler){2.5f, 0, 1, 2}, counts);
  check_counts(counts, 8, 2.5);
  draw((nvfp4_sampler){1, 3, 1, 3}, counts);
  check_counts(counts, 3, 1);
  draw((nvfp4_sampler){1, 1, 1, 4}, counts);
  check_counts(counts, 1, 1);
  draw((nvfp4_sampler){1, 100, 1, 5}, counts);
  check_counts(counts, 8, 1);
  /* The masses are 0.632, 0.865, 0.950, ...: 0.86 needs two tokens, 0.87 three. */
  draw((nvfp4_sampler){1, 0, 0.86f, 6}, counts);
  check_counts(counts, 2, 1);
  draw((nvfp4_sampler){1, 0, 0.87f, 7}, counts);
  check_counts(counts, 3, 1);
  draw((nvfp4_sampler){1, 0, 0, 8}, counts);
  check_counts(counts, 1, 1);
}

/* Of equal logits the lowest ids are kept, exactly as many as asked for. */
static void ties(void **state) {
  (void)state;
  int seen[6] = {0};
  nvfp4_sampler sampler = {1, 3, 1, 11};
  for (int i = 0; i < 1000; i++) {
    float logits[6] = {1, 2, 1, 1, 1, 1};
    seen[nvfp4_sample(&sampler, logits, 6)]++;
  }
  assert_true(seen[0] > 0 && seen[1] > 0 && seen[2] > 0);
  assert_int_equal(seen[3] + seen[4] + seen[5], 0);
  memset(seen, 0, sizeof seen);
  sampler = (nvfp4_sampler){1, 0, 0.5f, 12};
  for (int i = 0; i < 1000; i++) {
    float logits[6] = {0, 0, 0, 0, 0, 0};
    seen[nvfp4_sample(&sampler, logits, 6)]++;
  }
  assert_true(seen[0] > 0 && seen[1] > 0 && seen[2] > 0);
  assert_int_equal(seen[3] + seen[4] + seen[5], 0);
}

/* The same on every machine: 4000 draws, hashed; the value is that of a straightforward implementation (sorted, with libm's exp) in Python. */
static void sequence_is_fixed(void **state) {
  (void)state;
  nvfp4_sampler sampler = {0.8f, 40, 0.95f, 42};
  uint32_t hash = 0x811C9DC5u;
  for (int i = 0; i < 4000; i++) {
    float logits[100];
    for (int j = 0; j < 100; j++) {
      logits[j] = (float)((j * 37 + i * 11) % 100) * 0.0625f;
    }
    hash = (hash ^ (uint32_t)nvfp4_sample(&sampler, logits, 100)) * 0x01000193u;
  }
  assert_int_equal(hash, 0x524C768C);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(greedy_takes_the_first_of_the_largest), cmocka_unit_test(draws_by_probability),
                                     cmocka_unit_test(ties), cmocka_unit_test(sequence_is_fixed)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
