/* SPDX-License-Identifier: Apache-2.0 */
/* Golden logits, and the promise that a batch gives the bits of its rows one by one. */
#include "support.h"

#include <math.h>
#include <nvfp4/model.h>
#include <stdio.h>
#include <stdlib.h>

#define VOCABULARY 256
#define TOKENS 12

typedef struct golden {
  nvfp4_context *context;
  nvfp4_checkpoint *checkpoint, *expected;
  int32_t tokens[TOKENS];
} golden;

static void open_golden(golden *g, const char *checkpoint, const char *expected, int threads) {
  nvfp4_reason reason = {0};
  nvfp4_options options = {.struct_size = sizeof options, .threads = threads};
  assert_ok(nvfp4_context_create(&options, &g->context, &reason), reason);
  assert_ok(nvfp4_checkpoint_open(checkpoint, 0, &g->checkpoint, &reason), reason);
  char path[256];
  snprintf(path, sizeof path, GOLDEN "%s/expected.safetensors", expected);
  assert_ok(nvfp4_checkpoint_open(path, 0, &g->expected, &reason), reason);
  const nvfp4_tensor *tokens = nvfp4_checkpoint_find(g->expected, "tokens");
  assert_non_null(tokens);
  assert_int_equal(tokens->bytes, sizeof g->tokens);
  memcpy(g->tokens, tokens->data, sizeof g->tokens);
}

static void close_golden(golden *g) {
  nvfp4_checkpoint_close(g->expected);
  nvfp4_checkpoint_close(g->checkpoint);
  nvfp4_context_destroy(g->context);
}

static nvfp4_model *make_model(const golden *g, nvfp4_mode mode, int64_t batch) {
  nvfp4_reason reason = {0};
  nvfp4_model_options options = {.struct_size = sizeof options, .mode = mode, .batch_tokens = batch};
  nvfp4_model *model = NULL;
  assert_ok(nvfp4_model_create(g->context, g->checkpoint, &options, &model, &reason), reason);
  return model;
}

/* Largest difference of any logit; NaN counts as infinite. */
static double largest_difference(const float *logits, const nvfp4_tensor *expected) {
  assert_int_equal(expected->bytes, (uint64_t)TOKENS * VOCABULARY * sizeof(float));
  double largest = 0;
  for (int i = 0; i < TOKENS * VOCABULARY; i++) {
    float want;
    memcpy(&want, (const char *)expected->data + 4 * i, sizeof want);
    double difference = fabs((double)logits[i] - (double)want);
    if (!(difference <= largest)) {
      largest = isnan(difference) ? INFINITY : difference;
    }
  }
  return largest;
}

static void check_logits(const char *checkpoint, const char *expected, bool w4a4) {
  golden g;
  open_golden(&g, checkpoint, expected, 2);
  static float logits[TOKENS * VOCABULARY];
  static const struct {
    nvfp4_mode mode;
    const char *key;
  } runs[] = {{NVFP4_MODE_W4A16, "logits_w4a16"}, {NVFP4_MODE_UNQUANTISED, "logits_w4a4"}};
  for (int run = 0; run < (w4a4 ? 2 : 1); run++) {
    nvfp4_reason reason = {0};
    nvfp4_model *model = make_model(&g, runs[run].mode, 0);
    assert_ok(nvfp4_model_forward(model, g.tokens, TOKENS, true, logits, &reason), reason);
    const nvfp4_tensor *want = nvfp4_checkpoint_find(g.expected, runs[run].key);
    assert_non_null(want);
    /* Both sides are fp32 with other orders of addition; tests/golden/README.md gives the bound. */
    double difference = largest_difference(logits, want);
    print_message("%s %s: largest difference %.2e\n", checkpoint, runs[run].key, difference);
    if (difference > 1e-4) {
      fail_msg("%s: %s differs by %g", checkpoint, runs[run].key, difference);
    }
    nvfp4_model_destroy(model);
  }
  close_golden(&g);
}

static void golden_logits(void **state) {
  (void)state;
  static const struct {
    const char *name;
    bool w4a4;
  } models[] = {
      {"modelopt_nvfp4", true},       {"modelopt_nvfp4_bias", true}, {"modelopt_nvfp4_lmhead", true}, {"modelopt_nvfp4_sharded", true},
      {"modelopt_nvfp4_split", true}, {"modelopt_mixed", true},      {"modelopt_w4a16", false},       {"ct_nvfp4", true},
      {"ct_nvfp4a16", false},         {"ct_mixed_fp8", true},
  };
  for (size_t i = 0; i < sizeof models / sizeof models[0]; i++) {
    char path[256];
    snprintf(path, sizeof path, GOLDEN "%s", models[i].name);
    check_logits(path, models[i].name, models[i].w4a4);
  }
}

/* The same model by llama.cpp's converter: rows of q and k permuted for the interleaved rotation, block order of GGUF. */
static void golden_logits_of_gguf(void **state) {
  (void)state;
  check_logits(GOLDEN "gguf_mlx/llama-modelopt-nvfp4.gguf", "modelopt_nvfp4", true);
}

static void forward(nvfp4_model *model, const int32_t *tokens, size_t count, bool all, float *logits) {
  nvfp4_reason reason = {0};
  assert_ok(nvfp4_model_forward(model, tokens, count, all, logits, &reason), reason);
}

/* All at once, one by one, in batches of five, and the last logits alone; with one thread and with two. */
static void batch_invariance(const char *name, nvfp4_mode mode) {
  char path[256];
  snprintf(path, sizeof path, GOLDEN "%s", name);
  static float first[TOKENS * VOCABULARY], other[TOKENS * VOCABULARY];
  for (int threads = 1; threads <= 3; threads++) {
    golden g;
    open_golden(&g, path, name, threads);
    nvfp4_model *model = make_model(&g, mode, 0);
    forward(model, g.tokens, TOKENS, true, threads == 1 ? first : other);
    if (threads > 1) {
      assert_memory_equal(first, other, sizeof first);
    }
    nvfp4_model_rewind(model, 0);
    for (int i = 0; i < TOKENS; i++) {
      assert_int_equal(nvfp4_model_position(model), i);
      forward(model, g.tokens + i, 1, i % 2 == 0, other + i * VOCABULARY);
    }
    assert_memory_equal(first, other, sizeof first);
    nvfp4_model_rewind(model, 7);
    forward(model, g.tokens + 7, 5, false, other);
    assert_memory_equal(first + 11 * VOCABULARY, other, VOCABULARY * sizeof(float));
    nvfp4_model_destroy(model);
    model = make_model(&g, mode, 5);
    forward(model, g.tokens, TOKENS, true, other);
    assert_memory_equal(first, other, sizeof first);
    nvfp4_model_destroy(model);
    close_golden(&g);
  }
}

static void batches_give_the_bits_of_rows(void **state) {
  (void)state;
  batch_invariance("modelopt_nvfp4_bias", NVFP4_MODE_UNQUANTISED);
  batch_invariance("modelopt_nvfp4", NVFP4_MODE_W4A16);
  batch_invariance("modelopt_mixed", NVFP4_MODE_UNQUANTISED);
}

/* More positions than a tile of keys: the cache's tiles and the rotation of every position are used. */
static void long_context_by_batches(void **state) {
  (void)state;
  golden g;
  open_golden(&g, GOLDEN "modelopt_nvfp4", "modelopt_nvfp4", 2);
  int32_t tokens[150];
  for (int i = 0; i < 150; i++) {
    tokens[i] = (i * 37 + 5) % VOCABULARY;
  }
  float *whole = malloc(150 * VOCABULARY * sizeof *whole), *parts = malloc(150 * VOCABULARY * sizeof *parts);
  assert_non_null(whole);
  assert_non_null(parts);
  nvfp4_model *model = make_model(&g, NVFP4_MODE_W4A16, 0);
  forward(model, tokens, 150, true, whole);
  nvfp4_model_rewind(model, 0);
  static const size_t cuts[] = {63, 1, 1, 62, 1, 1, 21};
  size_t at = 0;
  for (size_t i = 0; i < sizeof cuts / sizeof cuts[0]; i++) {
    forward(model, tokens + at, cuts[i], true, parts + at * VOCABULARY);
    at += cuts[i];
  }
  assert_int_equal(at, 150);
  assert_memory_equal(whole, parts, 150 * VOCABULARY * sizeof *whole);
  free(whole);
  free(parts);
  nvfp4_model_destroy(model);
  close_golden(&g);
}

/* Sixteen-bit activations: what the layers are fed changes, so do the logits, a little. */
static void rounds_activations(void **state) {
  (void)state;
  golden g;
  open_golden(&g, GOLDEN "modelopt_w4a16", "modelopt_w4a16", 1);
  static float logits[TOKENS * VOCABULARY];
  const nvfp4_tensor *want = nvfp4_checkpoint_find(g.expected, "logits_w4a16");
  static const nvfp4_dtype types[] = {NVFP4_DTYPE_BF16, NVFP4_DTYPE_F16};
  double differences[2];
  for (int i = 0; i < 2; i++) {
    nvfp4_reason reason = {0};
    nvfp4_model_options options = {.struct_size = sizeof options, .activation = types[i]};
    nvfp4_model *model = NULL;
    assert_ok(nvfp4_model_create(g.context, g.checkpoint, &options, &model, &reason), reason);
    forward(model, g.tokens, TOKENS, true, logits);
    differences[i] = largest_difference(logits, want);
    nvfp4_model_destroy(model);
  }
  /* bf16 has 3 bits fewer than f16, and f16 13 fewer than fp32. */
  assert_true(differences[0] > differences[1]);
  assert_true(differences[1] > 1e-5);
  assert_true(differences[0] < 0.5);
  close_golden(&g);
}

static void refuses_bad_calls(void **state) {
  (void)state;
  golden g;
  open_golden(&g, GOLDEN "modelopt_nvfp4", "modelopt_nvfp4", 1);
  nvfp4_reason reason = {0};
  nvfp4_model_options options = {.struct_size = sizeof options, .context_tokens = 8};
  nvfp4_model *model = NULL;
  assert_ok(nvfp4_model_create(g.context, g.checkpoint, &options, &model, &reason), reason);
  static float logits[TOKENS * VOCABULARY];
  assert_int_equal(nvfp4_model_forward(model, g.tokens, 0, false, logits, &reason), NVFP4_E_ARG);
  assert_int_equal(nvfp4_model_forward(model, g.tokens, 9, false, logits, &reason), NVFP4_E_ARG);
  assert_non_null(strstr(reason.text, "context of 8"));
  int32_t outside[2] = {1, VOCABULARY};
  assert_int_equal(nvfp4_model_forward(model, outside, 2, false, logits, &reason), NVFP4_E_ARG);
  assert_non_null(strstr(reason.text, "token 1 is 256"));
  assert_int_equal(nvfp4_model_position(model), 0);
  forward(model, g.tokens, 8, false, logits);
  assert_int_equal(nvfp4_model_forward(model, g.tokens, 1, false, logits, NULL), NVFP4_E_ARG);
  nvfp4_model_destroy(model);
  close_golden(&g);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(golden_logits),           cmocka_unit_test(golden_logits_of_gguf), cmocka_unit_test(batches_give_the_bits_of_rows),
      cmocka_unit_test(long_context_by_batches), cmocka_unit_test(rounds_activations),    cmocka_unit_test(refuses_bad_calls),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
