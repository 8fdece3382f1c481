/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE /* mkdtemp */
#include <math.h>
#include <nvfp4/model.h>

#include "unit/quantizer/quantizer_support.h"

static nvfp4_reason reason;
static nvfp4_context *context;

static int set_up(void **state) {
  (void)state;
  nvfp4_options options = {.struct_size = sizeof options, .threads = 2};
  return nvfp4_context_create(&options, &context, &reason);
}

static int tear_down(void **state) {
  (void)state;
  nvfp4_context_destroy(context);
  return 0;
}

/* What another observer sees of the same tokens. */
typedef struct seen {
  char names[64][64];
  float amax[64];
  size_t count;
} seen;

static void see(void *cookie, const char *layer, const float *x, int64_t m, int64_t k) {
  seen *all = cookie;
  size_t i = 0;
  while (i < all->count && strcmp(all->names[i], layer) != 0) {
    i++;
  }
  if (i == all->count) {
    snprintf(all->names[i], sizeof all->names[i], "%s", layer);
    all->amax[i] = 0;
    all->count++;
  }
  for (int64_t j = 0; j < m * k; j++) {
    all->amax[i] = fmaxf(all->amax[i], fabsf(x[j]));
  }
}

static void observe_text(const nvfp4_checkpoint *checkpoint, const char *text, size_t limit, seen *all) {
  nvfp4_tokenizer *tokenizer = NULL;
  nvfp4_model *model = NULL;
  nvfp4_model_options options = {.struct_size = sizeof options};
  int32_t *tokens = NULL;
  size_t count = 0;
  static float logits[512 * TINY_WORDS];
  all->count = 0;
  assert_ok(nvfp4_tokenizer_create(checkpoint, &tokenizer, &reason), reason);
  assert_ok(nvfp4_tokenize(tokenizer, text, strlen(text), false, &tokens, &count, &reason), reason);
  assert_ok(nvfp4_model_create(context, checkpoint, &options, &model, &reason), reason);
  nvfp4_model_observe(model, see, all);
  count = count < limit ? count : limit;
  for (size_t first = 0; first < count; first += 512) {
    nvfp4_model_rewind(model, 0);
    assert_ok(nvfp4_model_forward(model, tokens + first, count - first < 512 ? count - first : 512, true, logits, &reason), reason);
  }
  nvfp4_model_destroy(model);
  nvfp4_tokens_free(tokens);
  nvfp4_tokenizer_destroy(tokenizer);
}

static void compare_with_observer(const char *path, size_t limit, bool lm_head) {
  char *text = test_read_file("data/persuasion.txt", NULL);
  nvfp4_quantize_job job = open_job(path, NVFP4_LAYOUT_MODELOPT, 1);
  job.context = context;
  job.options.calibration = text;
  job.options.calibration_tokens = (int64_t)limit;
  job.options.lm_head = lm_head;
  assert_ok(nvfp4_quantize_plan(&job, &reason), reason);
  assert_ok(nvfp4_quantize_calibrate(&job, &reason), reason);
  static seen all;
  observe_text(job.source, text, limit > 0 ? limit : 4096, &all);
  assert_int_equal(all.count, 15);
  for (size_t i = 0; i < all.count; i++) {
    char name[256], gguf[80];
    if (job.source->gguf != NULL) {
      snprintf(gguf, sizeof gguf, "%s.weight", all.names[i]);
      assert_true(nvfp4_gguf_hf_name(gguf, name, sizeof name));
      *strrchr(name, '.') = '\0';
    } else {
      snprintf(name, sizeof name, "%s", all.names[i]);
    }
    if (strcmp(name, "lm_head") != 0 || lm_head) {
      assert_f32_bits(planned(&job, name)->input_amax, all.amax[i]);
    }
  }
  close_job(&job);
  free(text);
}

static void amax_is_what_the_model_feeds_its_layers(void **state) {
  (void)state;
  compare_with_observer(TINY, 700, false);
  compare_with_observer(TINY, 0, true); /* 4096 tokens */
}

static void gguf_layers_are_found_by_their_names(void **state) {
  (void)state;
  char folder[256], path[512];
  write_tiny_gguf(path_in(make_folder(folder), "tiny.gguf", path));
  compare_with_observer(path, 600, true);
  remove_folder(folder);
}

/* Copies tiny with one linear layer more, which no model runs. */
static void copy_with_stranger(const char *folder) {
  nvfp4_checkpoint *tiny = NULL;
  static const uint16_t zeros[16 * 16];
  test_tensor tensors[64] = {{"model.layers.0.extra_proj.weight", NVFP4_DTYPE_BF16, 2, {16, 16}, zeros}};
  assert_ok(nvfp4_checkpoint_open(TINY, 0, &tiny, &reason), reason);
  size_t count = 1;
  const nvfp4_tensor *tensor;
  for (size_t i = 0; (tensor = nvfp4_checkpoint_tensor(tiny, i)) != NULL; i++) {
    tensors[count++] = (test_tensor){tensor->name, tensor->dtype, tensor->rank, {tensor->shape[0], tensor->shape[1]}, tensor->data};
  }
  write_tensors(folder, "model.safetensors", tensors, count);
  nvfp4_checkpoint_close(tiny);
  static const char *const names[] = {"config.json", "tokenizer.json", "tokenizer_config.json"};
  for (int i = 0; i < 3; i++) {
    char path[512];
    char *text = test_read_file(path_in(TINY, names[i], path), NULL);
    write_text(folder, names[i], text);
    free(text);
  }
}

static void layers_that_are_never_run_are_refused(void **state) {
  (void)state;
  char folder[256];
  copy_with_stranger(make_folder(folder));
  nvfp4_quantize_job job = open_job(folder, NVFP4_LAYOUT_MODELOPT, 1);
  job.context = context;
  job.options.calibration = "Some words.";
  assert_ok(nvfp4_quantize_plan(&job, &reason), reason);
  assert_int_equal(nvfp4_quantize_calibrate(&job, &reason), NVFP4_E_UNSUPPORTED);
  assert_non_null(strstr(reason.text, "model.layers.0.extra_proj"));
  close_job(&job);
  remove_folder(folder);
}

/* Rows that the model feeds q, k and v of the first block. */
typedef struct rows_seen {
  float *x; /* [count, TINY_HIDDEN] */
  int64_t count;
} rows_seen;

static void keep_rows(void *cookie, const char *layer, const float *x, int64_t m, int64_t k) {
  rows_seen *rows = cookie;
  if (strcmp(layer, "model.layers.0.self_attn.q_proj") == 0) {
    rows->x = realloc(rows->x, (size_t)((rows->count + m) * k) * sizeof *x);
    assert_non_null(rows->x);
    memcpy(rows->x + rows->count * k, x, (size_t)(m * k) * sizeof *x);
    rows->count += m;
  }
}

/* What is kept of a layer's inputs, against the inputs themselves; for as many rows as the sketch has it holds them all, and for more the squares of
 * its products with a vector are near those of the rows'. */
static void inputs_are_reduced(void **state) {
  (void)state;
  static const int64_t limits[] = {NVFP4_SKETCH_ROWS, 700};
  char *text = test_read_file("data/persuasion.txt", NULL);
  for (int i = 0; i < 2; i++) {
    nvfp4_quantize_job job = open_job(TINY, NVFP4_LAYOUT_MODELOPT, 1);
    job.context = context;
    job.options.calibration = text;
    job.options.calibration_tokens = limits[i];
    assert_ok(nvfp4_quantize_plan(&job, &reason), reason);
    assert_ok(nvfp4_quantize_calibrate(&job, &reason), reason);
    const nvfp4_planned_tensor *q = planned(&job, "model.layers.0.self_attn.q_proj");
    assert_ptr_equal(q->input, planned(&job, "model.layers.0.self_attn.v_proj")->input);
    assert_ptr_not_equal(q->input, planned(&job, "model.layers.0.mlp.up_proj")->input);
    assert_ptr_not_equal(q->input, planned(&job, "model.layers.1.self_attn.q_proj")->input);
    assert_int_equal(job.input_count, 8); /* four a block */
    assert_null(q->input->hessian);
    assert_int_equal(q->input->rows, limits[i]);

    nvfp4_tokenizer *tokenizer = NULL;
    int32_t *tokens = NULL;
    size_t count = 0;
    rows_seen rows = {0};
    nvfp4_model_options options = {.struct_size = sizeof options};
    assert_ok(nvfp4_tokenizer_create(job.source, &tokenizer, &reason), reason);
    assert_ok(nvfp4_tokenize(tokenizer, text, strlen(text), false, &tokens, &count, &reason), reason);
    assert_ok(nvfp4_observe_text(context, job.source, &options, tokens, (size_t)limits[i], keep_rows, NULL, &rows, &reason), reason);
    assert_int_equal(rows.count, limits[i]);
    double of_rows = 0, of_sketch = 0;
    for (int64_t row = 0; row < rows.count; row++) {
      double product = 0;
      for (int64_t j = 0; j < TINY_HIDDEN; j++) {
        product += (double)rows.x[row * TINY_HIDDEN + j] * (j % 3 == 0 ? 1 : -1);
      }
      of_rows += product * product;
    }
    for (int64_t row = 0; row < NVFP4_SKETCH_ROWS; row++) {
      double product = 0;
      for (int64_t j = 0; j < TINY_HIDDEN; j++) {
        product += (double)q->input->sketch[j * NVFP4_SKETCH_ROWS + row] * (j % 3 == 0 ? 1 : -1);
      }
      of_sketch += product * product;
    }
    /* The estimate's variance is at most 2/32 of its square: 4 standard deviations. */
    assert_true(fabs(of_sketch / of_rows - 1) <= (i == 0 ? 1e-6 : 1.0));
    for (int64_t j = 0; j < TINY_HIDDEN; j++) {
      double squares = 0;
      for (int64_t row = 0; row < rows.count; row++) {
        squares += (double)rows.x[row * TINY_HIDDEN + j] * (double)rows.x[row * TINY_HIDDEN + j];
      }
      assert_true(fabs((double)q->input->importance[j] * (double)rows.count - squares) <= (double)(rows.count + 2) * 0x1p-24 * squares);
    }
    free(rows.x);
    nvfp4_tokens_free(tokens);
    nvfp4_tokenizer_destroy(tokenizer);
    close_job(&job);
  }
  free(text);
}

/* The range of least error on the sampled rows is never worse than amax, and one of its halves. */
static void ranges_are_amax_or_its_halves(void **state) {
  (void)state;
  nvfp4_quantize_job job = open_job(TINY, NVFP4_LAYOUT_MODELOPT, 1);
  job.context = context;
  job.options.calibration = "Anne Elliot, with all her claims of birth, beauty, and mind";
  job.options.input_range = NVFP4_INPUT_MSE;
  assert_ok(nvfp4_quantize_plan(&job, &reason), reason);
  assert_ok(nvfp4_quantize_calibrate(&job, &reason), reason);
  for (size_t i = 0; i < job.tensor_count; i++) {
    const nvfp4_planned_tensor *tensor = &job.tensors[i];
    if (tensor->quantise) {
      int exponent;
      float part = frexpf(tensor->input_amax / tensor->input->amax, &exponent);
      assert_f32_bits(part, 0.5f);
      assert_in_range(1 - exponent, 0, 6);
      assert_null(tensor->input->sample);
    }
  }
  close_job(&job);
}

static void an_empty_text_is_refused(void **state) {
  (void)state;
  nvfp4_quantize_job job = open_job(TINY, NVFP4_LAYOUT_MODELOPT, 1);
  job.context = context;
  job.options.calibration = "";
  assert_ok(nvfp4_quantize_plan(&job, &reason), reason);
  assert_int_equal(nvfp4_quantize_calibrate(&job, &reason), NVFP4_E_ARG);
  assert_non_null(strstr(reason.text, "empty"));
  close_job(&job);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(amax_is_what_the_model_feeds_its_layers), cmocka_unit_test(gguf_layers_are_found_by_their_names),
      cmocka_unit_test(layers_that_are_never_run_are_refused),   cmocka_unit_test(inputs_are_reduced),
      cmocka_unit_test(ranges_are_amax_or_its_halves),           cmocka_unit_test(an_empty_text_is_refused),
  };
  return cmocka_run_group_tests(tests, set_up, tear_down);
}
