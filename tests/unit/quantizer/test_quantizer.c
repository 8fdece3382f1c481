/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE /* mkdtemp */
#include <math.h>
#include <nvfp4/model.h>
#include <signal.h>
#include <sys/resource.h>

#include "unit/quantizer/quantizer_support.h"

static nvfp4_reason reason;
static nvfp4_context *context;
static char parent[256], output[512];

static int set_up(void **state) {
  (void)state;
  nvfp4_options options = {.struct_size = sizeof options, .threads = 2};
  path_in(make_folder(parent), "out", output);
  return nvfp4_context_create(&options, &context, &reason);
}

static int tear_down(void **state) {
  (void)state;
  nvfp4_context_destroy(context);
  remove_folder(parent);
  return 0;
}

static nvfp4_quantize_options options_of(nvfp4_layout_kind layout, const char *calibration) {
  return (nvfp4_quantize_options){
      .struct_size = sizeof(nvfp4_quantize_options), .layout = layout, .calibration = calibration, .calibration_tokens = 300};
}

static float amax_of(const nvfp4_tensor *tensor) {
  int64_t count = tensor->shape[0] * tensor->shape[1];
  float *x = malloc((size_t)count * sizeof *x), amax = 0;
  assert_ok(nvfp4_tensor_to_f32(tensor, 0, (uint64_t)count, x, &reason), reason);
  for (int64_t i = 0; i < count; i++) {
    amax = fmaxf(amax, fabsf(x[i]));
  }
  free(x);
  return amax;
}

/* Opens the output as any reader would, and checks modes and globals of every layer; then the model runs. */
static void check_output(nvfp4_layout_kind layout, bool calibrated, bool lm_head) {
  nvfp4_checkpoint *made = NULL, *tiny = NULL;
  assert_ok(nvfp4_checkpoint_open(output, 0, &made, &reason), reason);
  assert_ok(nvfp4_checkpoint_open(TINY, 0, &tiny, &reason), reason);
  assert_null(nvfp4_checkpoint_warning(made, 0));
  size_t quantised = 0;
  const nvfp4_layer_info *layer;
  for (size_t i = 0; (layer = nvfp4_checkpoint_layer(made, i)) != NULL; i++) {
    if (strcmp(layer->name, "model.embed_tokens") == 0) {
      assert_int_equal(layer->mode, NVFP4_MODE_UNQUANTISED);
      continue;
    }
    char name[128];
    bool head = strcmp(layer->name, "lm_head") == 0;
    snprintf(name, sizeof name, "%s.weight", head ? "model.embed_tokens" : layer->name);
    float amax = amax_of(nvfp4_checkpoint_find(tiny, name));
    assert_int_equal(layer->layout, layout);
    assert_int_equal(layer->mode, calibrated ? NVFP4_MODE_W4A4 : NVFP4_MODE_W4A16);
    assert_int_equal(layer->partition_count, 1);
    assert_int_equal(layer->partitions[0].weight.kind,
                     layout == NVFP4_LAYOUT_COMPRESSED_TENSORS ? NVFP4_GLOBAL_DIVISOR : NVFP4_GLOBAL_MULTIPLIER);
    assert_f32_bits(layer->partitions[0].weight.value, layout == NVFP4_LAYOUT_COMPRESSED_TENSORS ? 2688.0f / amax : amax / 2688.0f);
    assert_int_equal(layer->partitions[0].input.value > 0, calibrated);
    quantised++;
  }
  assert_int_equal(quantised, lm_head ? 15 : 14);
  nvfp4_model *model = NULL;
  nvfp4_model_options options = {.struct_size = sizeof options};
  static const int32_t tokens[] = {5, 200, 17, 300};
  float logits[TINY_WORDS];
  assert_ok(nvfp4_model_create(context, made, &options, &model, &reason), reason);
  assert_ok(nvfp4_model_forward(model, tokens, 4, false, logits, &reason), reason);
  for (int i = 0; i < TINY_WORDS; i++) {
    assert_true(isfinite(logits[i]));
  }
  nvfp4_model_destroy(model);
  nvfp4_checkpoint_close(made);
  nvfp4_checkpoint_close(tiny);
}

static void both_layouts_open_again_and_run(void **state) {
  (void)state;
  for (int variant = 0; variant < 8; variant++) {
    nvfp4_layout_kind layout = variant & 1 ? NVFP4_LAYOUT_COMPRESSED_TENSORS : NVFP4_LAYOUT_MODELOPT;
    nvfp4_quantize_options options = options_of(layout, variant & 2 ? "It is a truth universally acknowledged" : NULL);
    options.lm_head = (variant & 4) != 0;
    options.globals = NVFP4_GLOBALS_AMAX; /* check_output looks at each tensor's; test_choose.c at shared ones */
    nvfp4_quantize_stats stats = {.struct_size = sizeof stats};
    assert_ok(nvfp4_quantize_checkpoint(context, TINY, output, &options, &stats, &reason), reason);
    check_output(layout, options.calibration != NULL, options.lm_head);
    assert_int_equal(stats.layers, options.lm_head ? 15 : 14);
    assert_int_equal(stats.struct_size, sizeof stats);
    assert_int_equal(stats.input_bytes, 2 * (86016 + 320 * 64 + 5 * 64));
    assert_true(stats.relative_squared_error > 0.005 && stats.relative_squared_error < 0.0091); /* gaussian weights, rounded to nearest */
    assert_int_equal(count_files(output), layout == NVFP4_LAYOUT_MODELOPT ? 6 : 5);
    remove_folder(output);
  }
}

/* amax/2688, of the amax that calibration found. */
static void input_scales_are_those_of_the_calibration(void **state) {
  (void)state;
  for (int ct = 0; ct < 2; ct++) {
    nvfp4_quantize_options options =
        options_of(ct ? NVFP4_LAYOUT_COMPRESSED_TENSORS : NVFP4_LAYOUT_MODELOPT, "Anne Elliot, with all her claims");
    assert_ok(nvfp4_quantize_checkpoint(context, TINY, output, &options, NULL, &reason), reason);
    nvfp4_quantize_job job = open_job(TINY, options.layout, 1);
    job.context = context;
    job.options.calibration = options.calibration;
    assert_ok(nvfp4_quantize_plan(&job, &reason), reason);
    assert_ok(nvfp4_quantize_calibrate(&job, &reason), reason);
    nvfp4_checkpoint *made = NULL;
    assert_ok(nvfp4_checkpoint_open(output, 0, &made, &reason), reason);
    for (size_t i = 0; i < job.tensor_count; i++) {
      const nvfp4_planned_tensor *tensor = &job.tensors[i];
      if (tensor->quantise) {
        const nvfp4_layer_info *layer = nvfp4_checkpoint_find_layer(made, tensor->name);
        assert_f32_bits(layer->partitions[0].input.value, ct ? 2688.0f / tensor->input_amax : tensor->input_amax / 2688.0f);
      }
    }
    nvfp4_checkpoint_close(made);
    close_job(&job);
    remove_folder(output);
  }
}

static void expect_same_file(const char *a, const char *b, const char *name) {
  char path[512];
  size_t bytes[2];
  char *texts[2] = {test_read_file(path_in(a, name, path), &bytes[0]), test_read_file(path_in(b, name, path), &bytes[1])};
  assert_int_equal(bytes[0], bytes[1]);
  assert_memory_equal(texts[0], texts[1], bytes[0]);
  free(texts[0]);
  free(texts[1]);
}

/* A model and its GGUF, whose q and k rows lie otherwise and whose norms are F32, give the same file. */
static void gguf_and_safetensors_give_the_same_weights(void **state) {
  (void)state;
  char gguf[512], other[512];
  write_tiny_gguf(path_in(parent, "tiny.gguf", gguf));
  path_in(parent, "other", other);
  for (int lm_head = 0; lm_head < 2; lm_head++) {
    nvfp4_quantize_options options = options_of(NVFP4_LAYOUT_MODELOPT, NULL);
    options.scales = NVFP4_SCALES_SWEEP;
    options.lm_head = lm_head != 0;
    assert_ok(nvfp4_quantize_checkpoint(context, TINY, output, &options, NULL, &reason), reason);
    assert_ok(nvfp4_quantize_checkpoint(context, gguf, other, &options, NULL, &reason), reason);
    expect_same_file(output, other, "model.safetensors");
    expect_same_file(output, other, "hf_quant_config.json");
    json_t *a = read_json(output, "tokenizer.json"), *b = read_json(other, "tokenizer.json");
    assert_true(json_equal(a, b));
    json_decref(a);
    json_decref(b);
    assert_int_equal(count_files(other), 6);
    remove_folder(output);
    remove_folder(other);
  }
}

/* tiny in two shards with an index; the rest of the folder as it is. */
static void shards_are_put_together(void **state) {
  (void)state;
  nvfp4_checkpoint *tiny = NULL;
  test_tensor tensors[2][32];
  size_t counts[2] = {0, 0};
  static const char *const shards[] = {"model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"};
  char input[512], other[512], path[512];
  assert_int_equal(mkdir(path_in(parent, "sharded", input), 0777), 0);
  assert_ok(nvfp4_checkpoint_open(TINY, 0, &tiny, &reason), reason);
  json_t *map = json_object();
  const nvfp4_tensor *tensor;
  for (size_t i = 0; (tensor = nvfp4_checkpoint_tensor(tiny, i)) != NULL; i++) {
    tensors[i % 2][counts[i % 2]++] =
        (test_tensor){tensor->name, tensor->dtype, tensor->rank, {tensor->shape[0], tensor->shape[1]}, tensor->data};
    json_object_set_new(map, tensor->name, json_string(shards[i % 2]));
  }
  write_tensors(input, shards[0], tensors[0], counts[0]);
  write_tensors(input, shards[1], tensors[1], counts[1]);
  json_t *index = json_pack("{s:o}", "weight_map", map);
  assert_int_equal(json_dump_file(index, path_in(input, "model.safetensors.index.json", path), 0), 0);
  json_decref(index);
  char *text = test_read_file(TINY "/config.json", NULL);
  write_text(input, "config.json", text);
  free(text);
  nvfp4_checkpoint_close(tiny);
  assert_ok(nvfp4_quantize_checkpoint(context, TINY, output, NULL, NULL, &reason), reason);
  assert_ok(nvfp4_quantize_checkpoint(context, input, path_in(parent, "other", other), NULL, NULL, &reason), reason);
  expect_same_file(output, other, "model.safetensors");
  expect_same_file(output, other, "config.json");
  remove_folder(output);
  remove_folder(other);
  remove_folder(input);
}

typedef struct steps {
  uint64_t done, total;
  size_t count;
} steps;

static void step(void *cookie, uint64_t done, uint64_t total) {
  steps *all = cookie;
  assert_true(done >= all->done && done <= total);
  assert_true(all->count == 0 || total == all->total);
  *all = (steps){done, total, all->count + 1};
}

static void progress_ends_at_its_total(void **state) {
  (void)state;
  steps all = {0};
  nvfp4_quantize_options options = options_of(NVFP4_LAYOUT_MODELOPT, "words");
  options.progress = step;
  options.progress_cookie = &all;
  assert_ok(nvfp4_quantize_checkpoint(context, TINY, output, &options, NULL, &reason), reason);
  assert_true(all.count > 20);
  assert_int_equal(all.done, all.total);
  remove_folder(output);
}

typedef struct told_layers {
  size_t count, unquantised;
  double squared[16], output[16];
  char last[64];
} told_layers;

static void tell_layer(void *cookie, const nvfp4_quantized_layer *layer) {
  told_layers *told = cookie;
  assert_in_range(told->count, 0, 15);
  assert_true(strcmp(told->last, layer->name) < 0);
  assert_string_equal(layer->name + strlen(layer->name) - strlen("_proj"), "_proj");
  snprintf(told->last, sizeof told->last, "%s", layer->name);
  assert_true(layer->n * layer->k >= 32 * 64);
  told->unquantised += layer->mode == NVFP4_MODE_UNQUANTISED;
  told->squared[told->count] = layer->relative_squared_error;
  told->output[told->count++] = layer->relative_output_error;
}

/* Everything at once, for both kinds of rounding: the output opens and runs, its bytes do not depend on threads, and what is told adds up. */
static void all_choices_together(void **state) {
  (void)state;
  char *text = test_read_file("data/persuasion.txt", NULL), other[512];
  nvfp4_options one_thread = {.struct_size = sizeof one_thread, .threads = 1};
  nvfp4_context *one = NULL;
  assert_ok(nvfp4_context_create(&one_thread, &one, &reason), reason);
  double nearest = 0;
  const int methods = nvfp4_gptq_available(&reason) == NVFP4_OK ? 2 : 1;
  for (int method = 0; method < methods; method++) {
    nvfp4_quantize_options options = options_of(NVFP4_LAYOUT_MODELOPT, text);
    told_layers told = {0};
    steps all = {0};
    options.scales = NVFP4_SCALES_SWEEP;
    options.mode = NVFP4_MODE_W4A16;
    options.rounding = method == 1 ? NVFP4_ROUNDING_GPTQ : NVFP4_ROUNDING_NEAREST;
    options.globals = NVFP4_GLOBALS_SEARCH;
    options.bits_per_weight = 5.5; /* 7475 of the 86016 weights may keep 16 bits: one or two small layers */
    options.input_range = NVFP4_INPUT_MSE;
    options.layer = tell_layer;
    options.layer_cookie = &told;
    options.progress = step;
    options.progress_cookie = &all;
    nvfp4_quantize_stats stats = {.struct_size = sizeof stats};
    assert_ok(nvfp4_quantize_checkpoint(context, TINY, output, &options, &stats, &reason), reason);
    assert_int_equal(all.done, all.total);
    assert_int_equal(told.count, 14);
    assert_int_equal(told.count - told.unquantised, stats.layers);
    assert_true(told.unquantised > 0 && stats.bits_per_weight > 4.5 && stats.bits_per_weight <= 5.5);
    assert_true(stats.relative_output_error > 0 && stats.relative_output_error < 0.1);
    for (size_t i = 0; i < told.count; i++) {
      assert_true(told.squared[i] > 0 && told.output[i] > 0);
    }
    if (method == 1) { /* what GPTQ is for */
      assert_true(stats.relative_output_error < nearest);
    }
    nearest = stats.relative_output_error;
    nvfp4_checkpoint *made = NULL;
    nvfp4_model *model = NULL;
    assert_ok(nvfp4_checkpoint_open(output, 0, &made, &reason), reason);
    assert_null(nvfp4_checkpoint_warning(made, 0));
    assert_ok(nvfp4_model_create(context, made, NULL, &model, &reason), reason);
    nvfp4_model_destroy(model);
    nvfp4_checkpoint_close(made);

    options.layer = NULL;
    options.progress = NULL;
    assert_ok(nvfp4_quantize_checkpoint(one, TINY, path_in(parent, "other", other), &options, NULL, &reason), reason);
    expect_same_file(output, other, "model.safetensors");
    expect_same_file(output, other, "config.json");
    remove_folder(output);
    remove_folder(other);
  }
  nvfp4_context_destroy(one);
  free(text);
}

/* Refused, and nothing is left in the folder that was not there before. */
static void expect_refused(const char *input, const char *to, const nvfp4_quantize_options *options, nvfp4_status status,
                           const char *says) {
  size_t before = count_files(parent);
  nvfp4_quantize_stats stats = {.struct_size = sizeof stats, .layers = 77};
  assert_int_equal(nvfp4_quantize_checkpoint(context, input, to, options, &stats, &reason), status);
  if (strstr(reason.text, says) == NULL) {
    fail_msg("\"%s\" does not say \"%s\"", reason.text, says);
  }
  assert_int_equal(stats.layers, 77);
  assert_int_equal(count_files(parent), before);
}

static void refusals(void **state) {
  (void)state;
  nvfp4_quantize_options options = options_of((nvfp4_layout_kind)9, NULL);
  expect_refused(TINY, output, &options, NVFP4_E_ARG, "layout 9");
  options = options_of(NVFP4_LAYOUT_MODELOPT, NULL);
  options.scales = (nvfp4_scale_search)7;
  expect_refused(TINY, output, &options, NVFP4_E_ARG, "7");
  options = options_of(NVFP4_LAYOUT_MODELOPT, NULL);
  options.calibration_tokens = -1;
  expect_refused(TINY, output, &options, NVFP4_E_ARG, "-1");
  options = options_of(NVFP4_LAYOUT_MODELOPT, NULL);
  options.rounding = (nvfp4_rounding)5;
  expect_refused(TINY, output, &options, NVFP4_E_ARG, "rounding 5");
  options = options_of(NVFP4_LAYOUT_MODELOPT, NULL);
  options.input_range = (nvfp4_input_range)5;
  expect_refused(TINY, output, &options, NVFP4_E_ARG, "input range 5");
  options = options_of(NVFP4_LAYOUT_MODELOPT, NULL);
  options.mode = NVFP4_MODE_FP8;
  expect_refused(TINY, output, &options, NVFP4_E_ARG, "cannot be made");
  const double bits[] = {4.4, 17, NAN};
  for (int i = 0; i < 3; i++) {
    options = options_of(NVFP4_LAYOUT_MODELOPT, NULL);
    options.bits_per_weight = bits[i];
    expect_refused(TINY, output, &options, NVFP4_E_ARG, "bits a weight");
  }
  options = options_of(NVFP4_LAYOUT_MODELOPT, NULL);
  options.damping = 2;
  expect_refused(TINY, output, &options, NVFP4_E_ARG, "damping 2");
  for (int i = 0; i < 4; i++) { /* all these need a calibration text */
    options = options_of(NVFP4_LAYOUT_MODELOPT, NULL);
    options.mode = i == 0 ? NVFP4_MODE_W4A4 : NVFP4_MODE_W4A16;
    options.importance = i == 1;
    options.rounding = i == 2 ? NVFP4_ROUNDING_GPTQ : NVFP4_ROUNDING_NEAREST;
    options.input_range = i == 3 ? NVFP4_INPUT_MSE : NVFP4_INPUT_AMAX;
    expect_refused(TINY, output, &options, NVFP4_E_ARG, "no calibration text");
  }
  options = options_of(NVFP4_LAYOUT_MODELOPT, NULL);
  options.struct_size = 3;
  expect_refused(TINY, output, &options, NVFP4_E_ARG, "struct_size");
  expect_refused("no/such/model", output, NULL, NVFP4_E_IO, "no/such/model");
  expect_refused(TINY, TINY "/", NULL, NVFP4_E_ARG, "folder of the input");
  expect_refused(GOLDEN "modelopt_nvfp4", output, NULL, NVFP4_E_UNSUPPORTED, "quantised already");
  expect_refused(TINY, GOLDEN "ct_nvfp4", NULL, NVFP4_E_IO, "holds a checkpoint already");
  expect_refused(TINY, "tests/golden/README.md", NULL, NVFP4_E_IO, "folder");
  options = options_of(NVFP4_LAYOUT_MODELOPT, "");
  expect_refused(TINY, output, &options, NVFP4_E_ARG, "empty");
  assert_int_equal(nvfp4_quantize_checkpoint(NULL, TINY, output, NULL, NULL, &reason), NVFP4_E_ARG);
  assert_int_equal(nvfp4_quantize_checkpoint(context, NULL, output, NULL, NULL, NULL), NVFP4_E_ARG);
  nvfp4_quantize_stats stats = {0};
  assert_int_equal(nvfp4_quantize_checkpoint(context, TINY, output, NULL, &stats, &reason), NVFP4_E_ARG);
}

/* A file that may not grow stands for a full disk. */
static void a_full_disk_leaves_nothing(void **state) {
  (void)state;
  struct rlimit before, small;
  assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
  signal(SIGXFSZ, SIG_IGN);
  static const rlim_t sizes[] = {1000, 20000, 80000}; /* in tokenizer.json, in the header, in the weights */
  for (int i = 0; i < 3; i++) {
    small = before;
    small.rlim_cur = sizes[i];
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    nvfp4_status status = nvfp4_quantize_checkpoint(context, TINY, output, NULL, NULL, &reason);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
    assert_int_equal(status, NVFP4_E_IO);
    assert_non_null(strstr(reason.text, "too large"));
    assert_int_equal(access(output, F_OK), -1);
  }
  signal(SIGXFSZ, SIG_DFL);
}

static void older_callers_stay_valid(void **state) {
  (void)state;
  nvfp4_quantize_options options = options_of(NVFP4_LAYOUT_MODELOPT, NULL);
  options.struct_size = offsetof(nvfp4_quantize_options, progress);
  options.progress = (nvfp4_progress_fn)(uintptr_t)1; /* beyond the caller's struct */
  nvfp4_quantize_stats stats = {.struct_size = offsetof(nvfp4_quantize_stats, weights), .weights = 77};
  assert_ok(nvfp4_quantize_checkpoint(context, TINY, output, &options, &stats, &reason), reason);
  assert_int_equal(stats.layers, 14);
  assert_int_equal(stats.weights, 77);
  remove_folder(output);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(both_layouts_open_again_and_run),
      cmocka_unit_test(input_scales_are_those_of_the_calibration),
      cmocka_unit_test(gguf_and_safetensors_give_the_same_weights),
      cmocka_unit_test(shards_are_put_together),
      cmocka_unit_test(progress_ends_at_its_total),
      cmocka_unit_test(all_choices_together),
      cmocka_unit_test(refusals),
      cmocka_unit_test(a_full_disk_leaves_nothing),
      cmocka_unit_test(older_callers_stay_valid),
  };
  return cmocka_run_group_tests(tests, set_up, tear_down);
}
