/* SPDX-License-Identifier: Apache-2.0 */
#define _XOPEN_SOURCE 700 /* mkdtemp, truncate */
#include <math.h>
#include <nvfp4/model.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "support.h"

enum { VOCABULARY = 256, WINDOW = 150, WINDOWS = 2, SCORED = WINDOW - 1 - WINDOW / 2, COUNT = WINDOW * WINDOWS };

typedef struct fixture {
  nvfp4_context *context[2]; /* 2 threads, 1 thread */
  nvfp4_checkpoint *checkpoint[2];
  nvfp4_model *base, *model, *one_thread; /* the latter two of the same checkpoint */
  int32_t tokens[COUNT];
  char folder[32], path[48];
} fixture;

static int setup(void **state) {
  static fixture f = {.folder = "/tmp/nvfp4-kl-XXXXXX"};
  static const char *const paths[] = {GOLDEN "modelopt_w4a16", GOLDEN "modelopt_nvfp4"};
  nvfp4_reason reason = {0};
  for (int i = 0; i < 2; i++) {
    nvfp4_options options = {.struct_size = sizeof options, .threads = 2 - i};
    assert_ok(nvfp4_context_create(&options, &f.context[i], &reason), reason);
    assert_ok(nvfp4_checkpoint_open(paths[i], 0, &f.checkpoint[i], &reason), reason);
  }
  assert_ok(nvfp4_model_create(f.context[0], f.checkpoint[0], NULL, &f.base, &reason), reason);
  assert_ok(nvfp4_model_create(f.context[0], f.checkpoint[1], NULL, &f.model, &reason), reason);
  assert_ok(nvfp4_model_create(f.context[1], f.checkpoint[1], NULL, &f.one_thread, &reason), reason);
  for (int i = 0; i < COUNT; i++) {
    f.tokens[i] = (i * i + 3 * i) % VOCABULARY;
  }
  assert_non_null(mkdtemp(f.folder));
  snprintf(f.path, sizeof f.path, "%s/base", f.folder);
  nvfp4_perplexity_result result;
  assert_ok(nvfp4_perplexity(f.base, f.tokens, COUNT, WINDOW, 0, f.path, NULL, NULL, &result, &reason), reason);
  *state = &f;
  return 0;
}

static int teardown(void **state) {
  fixture *f = *state;
  nvfp4_model_destroy(f->base);
  nvfp4_model_destroy(f->model);
  nvfp4_model_destroy(f->one_thread);
  for (int i = 0; i < 2; i++) {
    nvfp4_checkpoint_close(f->checkpoint[i]);
    nvfp4_context_destroy(f->context[i]);
  }
  unlink(f->path);
  return rmdir(f->folder);
}

/* ln p of every token at every scored position, in double. */
static double *log_probs(fixture *f, nvfp4_model *model) {
  nvfp4_reason reason = {0};
  static float logits[WINDOW * VOCABULARY];
  double *out = malloc(sizeof(double) * WINDOWS * SCORED * VOCABULARY), *at = out;
  assert_non_null(out);
  for (int w = 0; w < WINDOWS; w++) {
    nvfp4_model_rewind(model, 0);
    assert_ok(nvfp4_model_forward(model, f->tokens + w * WINDOW, WINDOW, true, logits, &reason), reason);
    for (int i = WINDOW / 2; i + 1 < WINDOW; i++) {
      const float *row = logits + i * VOCABULARY;
      double sum = 0;
      for (int t = 0; t < VOCABULARY; t++) {
        sum += exp((double)row[t]);
      }
      for (int t = 0; t < VOCABULARY; t++) {
        *at++ = (double)row[t] - log(sum);
      }
    }
  }
  return out;
}

static int top(const double *row) {
  int best = 0;
  for (int t = 1; t < VOCABULARY; t++) {
    best = row[t] > row[best] ? t : best;
  }
  return best;
}

static int ascending(const void *a, const void *b) { return *(const double *)a > *(const double *)b ? 1 : -1; }

static void assert_near(double found, double wanted, double by) {
  if (!(fabs(found - wanted) <= by)) {
    fail_msg("%.17g is not %.17g", found, wanted);
  }
}

/* All statistics against their definition, from both models' logits: they differ by the file's 16 bits. The largest span of these logits is below 16, so that
 * a step is below 16 / 65535, half of it 2^-13: so far may a log-probability be off; p, a mean of KLD and its quantiles too (|d p ln p| <= |d ln p|), a logarithm
 * of a perplexity no less. */
static void is_the_definition(void **state) {
  fixture *f = *state;
  nvfp4_reason reason = {0};
  const double near = 0x1p-13 + 0x1p-15; /* fp32 terms */
  enum { N = WINDOWS * SCORED };
  nvfp4_kl_divergence_result result;
  assert_ok(nvfp4_kl_divergence(f->model, f->path, 0, NULL, NULL, &result, &reason), reason);
  double *base = log_probs(f, f->base), *model = log_probs(f, f->model);
  double loss = 0, base_loss = 0, kld[N], change[N], mean = 0, squares = 0, change_mean = 0, change_squares = 0;
  int same = 0;
  for (int i = 0; i < N; i++) {
    const double *p = base + i * VOCABULARY, *q = model + i * VOCABULARY;
    int target = f->tokens[i / SCORED * WINDOW + WINDOW / 2 + i % SCORED + 1];
    loss -= q[target] / N;
    base_loss -= p[target] / N;
    kld[i] = 0;
    for (int t = 0; t < VOCABULARY; t++) {
      kld[i] += exp(p[t]) * (p[t] - q[t]);
    }
    change[i] = exp(q[target]) - exp(p[target]);
    mean += kld[i] / N;
    squares += kld[i] * kld[i] / N;
    change_mean += change[i] / N;
    change_squares += change[i] * change[i] / N;
    same += top(p) == top(q);
  }
  assert_int_equal(result.window, WINDOW);
  assert_int_equal(result.windows, WINDOWS);
  assert_int_equal(result.scored_tokens, N);
  assert_near(log(result.perplexity.value), loss, near);
  assert_near(log(result.base_perplexity.value), base_loss, near);
  assert_near(result.log_ratio.value, loss - base_loss, near);
  assert_near(log(result.ratio.value), loss - base_loss, near);
  assert_near(result.difference.value, exp(loss) - exp(base_loss), near * (exp(loss) + exp(base_loss)));
  assert_near(result.divergence.value, mean, near);
  assert_true(mean > 0.01); /* else the above shows nothing */
  assert_near(result.divergence.standard_error, sqrt((squares - mean * mean) / (N - 1)), near);
  assert_near(result.probability_change.value, change_mean, near);
  assert_near(result.probability_change_rms.value, sqrt(change_squares), near);
  assert_true(result.correlation > -1 && result.correlation < 1);
  qsort(kld, N, sizeof *kld, ascending);
  qsort(change, N, sizeof *change, ascending);
  static const double shares[NVFP4_QUANTILES] = NVFP4_QUANTILE_SHARES;
  for (int i = 0; i < NVFP4_QUANTILES; i++) {
    double place = shares[i] * (N - 1), part = place - floor(place);
    int at = (int)place, next = at + 1 < N ? at + 1 : at;
    assert_near(result.divergence_quantiles[i], (1 - part) * kld[at] + part * kld[next], near);
    assert_near(result.probability_change_quantiles[i], (1 - part) * change[at] + part * change[next], near);
  }
  assert_near(result.same_top.value, (double)same / N, 0); /* no two logits of this model are within a step */
  assert_near(result.same_top.standard_error, sqrt(result.same_top.value * (1 - result.same_top.value) / (N - 1)), 1e-15);
  free(base);
  free(model);
}

static void the_same_model_is_no_distance(void **state) {
  fixture *f = *state;
  nvfp4_reason reason = {0};
  nvfp4_kl_divergence_result result;
  assert_ok(nvfp4_kl_divergence(f->base, f->path, 1, NULL, NULL, &result, &reason), reason);
  assert_int_equal(result.scored_tokens, SCORED);
  assert_near(result.divergence.value, 0, 0x1p-13);
  assert_near(result.log_ratio.value, 0, 0x1p-13);
  assert_near(result.same_top.value, 1, 0);
}

static void threads_make_no_difference(void **state) {
  fixture *f = *state;
  nvfp4_reason reason = {0};
  nvfp4_kl_divergence_result one, two;
  memset(&one, 0, sizeof one);
  memset(&two, 0, sizeof two);
  assert_ok(nvfp4_kl_divergence(f->model, f->path, 0, NULL, NULL, &two, &reason), reason);
  assert_ok(nvfp4_kl_divergence(f->one_thread, f->path, 0, NULL, NULL, &one, &reason), reason);
  assert_memory_equal(&one, &two, sizeof one);
}

static void refuses_bad_files(void **state) {
  fixture *f = *state;
  nvfp4_reason reason = {0};
  nvfp4_kl_divergence_result result;
  assert_int_equal(nvfp4_kl_divergence(f->model, f->path, -1, NULL, NULL, &result, &reason), NVFP4_E_ARG);
  assert_int_equal(nvfp4_kl_divergence(f->model, "/nonexistent", 0, NULL, NULL, &result, &reason), NVFP4_E_IO);
  size_t bytes;
  char *text = test_read_file(f->path, &bytes), bad[64];
  snprintf(bad, sizeof bad, "%s/bad", f->folder);
  for (int what = 0; what < 5; what++) {
    static const char *const says[] = {"vocabulary of 255", "scored token 1 has steps of nan", "from inf", "bad: token 0 is -1",
                                       "bad: token 149 is -1"}; /* a target only */
    static const nvfp4_status status[] = {NVFP4_E_SHAPE, NVFP4_E_FORMAT, NVFP4_E_FORMAT, NVFP4_E_FORMAT, NVFP4_E_FORMAT};
    const size_t rows = 20 + 4 * COUNT, row = 8 + 2 * VOCABULARY;
    char *copy = malloc(bytes);
    assert_non_null(copy);
    memcpy(copy, text, bytes);
    const float nan = NAN, inf = INFINITY;
    const int32_t minus_one = -1, vocabulary = VOCABULARY - 1;
    memcpy(copy + (what == 0   ? 12
                   : what == 1 ? rows + row
                   : what == 2 ? rows + 4
                   : what == 3 ? 20
                               : 20 + 4 * (WINDOW - 1)), /* VOCABULARY - 1 makes rows no shorter: they are even */
           what == 0   ? (const void *)&vocabulary
           : what == 1 ? (const void *)&nan
           : what == 2 ? (const void *)&inf
                       : (const void *)&minus_one,
           4);
    FILE *file = fopen(bad, "wb");
    fwrite(copy, 1, bytes, file);
    fclose(file);
    assert_int_equal(nvfp4_kl_divergence(f->model, bad, 0, NULL, NULL, &result, &reason), status[what]);
    assert_non_null(strstr(reason.text, says[what]));
    free(copy);
  }
  unlink(bad);
  free(text);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(is_the_definition), cmocka_unit_test(the_same_model_is_no_distance),
                                     cmocka_unit_test(threads_make_no_difference), cmocka_unit_test(refuses_bad_files)};
  return cmocka_run_group_tests(tests, setup, teardown);
}
