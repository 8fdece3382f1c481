/* SPDX-License-Identifier: Apache-2.0 */
#include <math.h>
#include <nvfp4/model.h>
#include <stdlib.h>

#include "model/transformer.h"
#include "support.h"

enum { VOCABULARY = 256, WINDOW = 150, COUNT = 320 };

typedef struct fixture {
  nvfp4_context *context;
  nvfp4_checkpoint *checkpoint;
  nvfp4_model *model;
  int32_t tokens[COUNT];
} fixture;

static int setup(void **state) {
  static fixture f;
  nvfp4_reason reason = {0};
  nvfp4_options options = {.struct_size = sizeof options, .threads = 2};
  assert_ok(nvfp4_context_create(&options, &f.context, &reason), reason);
  assert_ok(nvfp4_checkpoint_open(GOLDEN "modelopt_w4a16", 0, &f.checkpoint, &reason), reason);
  assert_ok(nvfp4_model_create(f.context, f.checkpoint, NULL, &f.model, &reason), reason);
  for (int i = 0; i < COUNT; i++) {
    f.tokens[i] = (i * i + 3 * i) % VOCABULARY;
  }
  *state = &f;
  return 0;
}

static int teardown(void **state) {
  fixture *f = *state;
  nvfp4_model_destroy(f->model);
  nvfp4_checkpoint_close(f->checkpoint);
  nvfp4_context_destroy(f->context);
  return 0;
}

/* The definition, from all logits of a window: sums the losses of the tokens after its middle, and their squares. */
static void score(fixture *f, const int32_t *window, double *loss, double *squares) {
  nvfp4_reason reason = {0};
  float *logits = malloc(WINDOW * VOCABULARY * sizeof *logits);
  assert_non_null(logits);
  nvfp4_model_rewind(f->model, 0);
  assert_ok(nvfp4_model_forward(f->model, window, WINDOW, true, logits, &reason), reason);
  for (int i = WINDOW / 2; i + 1 < WINDOW; i++) {
    double sum = 0;
    for (int j = 0; j < VOCABULARY; j++) {
      sum += exp((double)logits[i * VOCABULARY + j]);
    }
    double one = log(sum) - (double)logits[i * VOCABULARY + window[i + 1]];
    *loss += one;
    *squares += one * one;
  }
  free(logits);
}

/* The library sums exponentials of fp32 numbers, of 1 ulp or 2 (2^-22), after a subtraction that is rounded once (x e^-x 2^-24 < 2^-25): the sum, and with it the
 * perplexity, is right to 2^-21. */
static void assert_close(double a, double b) {
  if (!(fabs(a - b) <= ldexp(fabs(b), -21))) {
    fail_msg("%.17g is not %.17g", a, b);
  }
}

static void progress(void *cookie, uint64_t done, uint64_t total) {
  uint64_t *seen = cookie;
  assert_int_equal(done, ++*seen);
  assert_int_equal(total, 2);
}

static void is_the_definition(void **state) {
  fixture *f = *state;
  nvfp4_reason reason = {0};
  nvfp4_perplexity_result result;
  uint64_t seen = 0;
  assert_ok(nvfp4_perplexity(f->model, f->tokens, COUNT, WINDOW, 0, NULL, progress, &seen, &result, &reason), reason);
  assert_int_equal(seen, 2);
  assert_int_equal(result.windows, 2);
  assert_int_equal(result.scored_tokens, 2 * (WINDOW / 2 - 1));
  double loss = 0, squares = 0, n = 2 * (WINDOW / 2 - 1);
  score(f, f->tokens, &loss, &squares);
  score(f, f->tokens + WINDOW, &loss, &squares);
  assert_close(result.perplexity, exp(loss / n));
  double variance = squares / n - loss / n * (loss / n);
  assert_close(result.standard_error, exp(loss / n) * sqrt(variance / (n - 1)));
}

static void begins_windows_if_asked(void **state) {
  fixture *f = *state;
  nvfp4_reason reason = {0};
  nvfp4_perplexity_result result;
  assert_int_equal(f->model->window_bos, -1);
  f->model->window_bos = 77;
  assert_ok(nvfp4_perplexity(f->model, f->tokens, COUNT, WINDOW, 1, NULL, NULL, NULL, &result, &reason), reason);
  f->model->window_bos = -1;
  assert_int_equal(result.windows, 1);
  int32_t window[WINDOW];
  memcpy(window, f->tokens, sizeof window);
  window[0] = 77;
  double loss = 0, squares = 0;
  score(f, window, &loss, &squares);
  assert_close(result.perplexity, exp(loss / (WINDOW / 2 - 1)));
}

static void refuses_bad_windows(void **state) {
  fixture *f = *state;
  nvfp4_reason reason = {0};
  nvfp4_perplexity_result result;
  assert_int_equal(nvfp4_perplexity(f->model, f->tokens, COUNT, 3, 0, NULL, NULL, NULL, &result, &reason), NVFP4_E_ARG);
  assert_int_equal(nvfp4_perplexity(f->model, f->tokens, COUNT, 513, 0, NULL, NULL, NULL, &result, &reason), NVFP4_E_ARG);
  assert_int_equal(nvfp4_perplexity(f->model, f->tokens, WINDOW - 1, WINDOW, 0, NULL, NULL, NULL, &result, &reason), NVFP4_E_ARG);
  assert_non_null(strstr(reason.text, "149 tokens"));
  const int32_t last = f->tokens[2 * WINDOW - 1]; /* a target only: the model never reads it */
  f->tokens[2 * WINDOW - 1] = INT32_MAX;
  assert_int_equal(nvfp4_perplexity(f->model, f->tokens, COUNT, WINDOW, 0, NULL, NULL, NULL, &result, &reason), NVFP4_E_ARG);
  assert_non_null(strstr(reason.text, "token 299 is 2147483647"));
  f->tokens[2 * WINDOW - 1] = last;
  assert_int_equal(nvfp4_perplexity(f->model, NULL, COUNT, WINDOW, 0, NULL, NULL, NULL, &result, NULL), NVFP4_E_ARG);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(is_the_definition), cmocka_unit_test(begins_windows_if_asked),
                                     cmocka_unit_test(refuses_bad_windows)};
  return cmocka_run_group_tests(tests, setup, teardown);
}
