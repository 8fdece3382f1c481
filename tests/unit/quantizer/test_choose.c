/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE /* mkdtemp */
#include <math.h>

#include "unit/quantizer/quantizer_support.h"

static nvfp4_reason reason;

/* a: exact in NVFP4; b, d: gaussian, d larger than b; c: equal weights but for an outlier in each block, which fit badly. */
static nvfp4_quantize_job job_of(const char *folder) {
  enum { SMALL = 32 * 64, LARGE = 96 * 64 };
  static float exact[SMALL], gauss[SMALL], spread[SMALL], large[LARGE];
  test_random random = {12};
  for (int i = 0; i < LARGE; i++) {
    large[i] = test_random_gauss(&random);
  }
  for (int i = 0; i < SMALL; i++) {
    gauss[i] = test_random_gauss(&random);
    exact[i] = i % 16 == 0 ? 6.0f : i % 2 == 0 ? 3.0f : -1.5f;
    spread[i] = i % 16 == 0 ? 6.0f : 1.25f; /* in the middle of two codes */
  }
  const test_tensor tensors[] = {{"a.weight", NVFP4_DTYPE_F32, 2, {32, 64}, exact},
                                 {"b.weight", NVFP4_DTYPE_F32, 2, {32, 64}, gauss},
                                 {"c.weight", NVFP4_DTYPE_F32, 2, {32, 64}, spread},
                                 {"d.weight", NVFP4_DTYPE_F32, 2, {96, 64}, large}};
  write_tensors(folder, "model.safetensors", tensors, 4);
  nvfp4_quantize_job job = open_job(folder, NVFP4_LAYOUT_MODELOPT, 2);
  assert_ok(nvfp4_quantize_plan(&job, &reason), reason);
  assert_ok(nvfp4_quantize_measure(&job, &reason), reason);
  return job;
}

static const nvfp4_planned_tensor *of_module(const nvfp4_quantize_job *job, char module) {
  for (size_t i = 0; i < job->tensor_count; i++) {
    if (job->tensors[i].name[0] == module) {
      return &job->tensors[i];
    }
  }
  fail();
  return NULL;
}

/* An F32 layer that stays takes 32 bits: 27.5 more. Of 12288 weights, 2048 more at 32 bits make 9.08 bits on average. */
static void the_budget_is_kept(void **state) {
  (void)state;
  static const struct {
    double bits;
    const char *stay;
  } cases[] = {{4.5, ""}, {9.0, ""}, {9.1, "b"}, {13.7, "bc"}};
  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
    char folder[256];
    nvfp4_quantize_job job = job_of(make_folder(folder));
    job.options.scales = NVFP4_SCALES_RTN;
    job.options.bits_per_weight = cases[i].bits;
    assert_ok(nvfp4_quantize_choose_layers(&job, &reason), reason);
    const nvfp4_planned_tensor *b = of_module(&job, 'b'), *c = of_module(&job, 'c');
    assert_true(b->measured && nvfp4_relative_error(b->error.weight) > 0.007);
    assert_true(nvfp4_relative_error(of_module(&job, 'a')->error.weight) < 1e-12); /* the multiplier is rounded */
    bool b_first = nvfp4_relative_error(b->error.weight) > nvfp4_relative_error(c->error.weight);
    size_t stay = strlen(cases[i].stay);
    assert_int_equal(job.stats.layers, 4 - (int64_t)stay);
    assert_int_equal(job.excluded_count, 1 + stay); /* lm_head */
    if (stay == 1) {
      const nvfp4_planned_tensor *left = b_first ? b : c;
      assert_false(left->quantise);
      assert_string_equal(left->name, b_first ? "b.weight" : "c.weight");
      assert_string_equal(job.excluded[0], b_first ? "b" : "c");
      assert_int_equal(left->dtype, NVFP4_DTYPE_F32);
    } else if (stay == 2) {
      assert_false(b->quantise || c->quantise);
    }
    close_job(&job);
    remove_folder(folder);
  }
}

/* Of two layers' parts, each with a largest weight of its own. */
static void parts_share_a_multiplier(void **state) {
  (void)state;
  static const struct {
    const char *tensor;
    float amax, shared;
  } cases[] = {{"a.k_proj.weight", 2, 3}, {"a.q_proj.weight", 3, 3},  {"a.v_proj.weight", 1, 3}, {"b.gate_proj.weight", 1, 5},
               {"b.q_proj.weight", 2, 2}, {"b.up_proj.weight", 5, 5}, {"b.w1.weight", 7, 7},     {"o_proj.weight", 9, 9},
               {"q_proj.weight", 1, 4},   {"v_proj.weight", 4, 4}};
  enum { CASES = sizeof cases / sizeof cases[0] };
  static float data[CASES][16 * 16];
  test_tensor tensors[CASES];
  for (size_t i = 0; i < CASES; i++) {
    data[i][5] = -cases[i].amax;
    tensors[i] = (test_tensor){cases[i].tensor, NVFP4_DTYPE_F32, 2, {16, 16}, data[i]};
  }
  char folder[256];
  write_tensors(make_folder(folder), "model.safetensors", tensors, CASES);
  for (int fuse = 0; fuse < 2; fuse++) {
    nvfp4_quantize_job job = open_job(folder, NVFP4_LAYOUT_MODELOPT, 1);
    job.options.globals = fuse == 1 ? NVFP4_GLOBALS_FUSED : NVFP4_GLOBALS_AMAX;
    assert_ok(nvfp4_quantize_plan(&job, &reason), reason);
    assert_ok(nvfp4_quantize_measure(&job, &reason), reason);
    assert_ok(nvfp4_quantize_fuse_globals(&job, &reason), reason);
    for (size_t i = 0; i < CASES; i++) {
      assert_f32_bits(job.tensors[i].amax, fuse == 1 ? cases[i].shared : cases[i].amax);
    }
    close_job(&job);
  }
  remove_folder(folder);
}

/* All layers of some size: nothing would be left to quantise. */
static void a_budget_for_all_is_refused(void **state) {
  (void)state;
  char folder[256];
  static const uint16_t ones[16 * 16] = {0x3F80, 0x4040};
  const test_tensor tensor = {"a.weight", NVFP4_DTYPE_BF16, 2, {16, 16}, ones};
  write_tensors(make_folder(folder), "model.safetensors", &tensor, 1);
  nvfp4_quantize_job job = open_job(folder, NVFP4_LAYOUT_MODELOPT, 1);
  assert_ok(nvfp4_quantize_plan(&job, &reason), reason);
  assert_ok(nvfp4_quantize_measure(&job, &reason), reason);
  job.options.bits_per_weight = 16;
  assert_int_equal(nvfp4_quantize_choose_layers(&job, &reason), NVFP4_E_ARG);
  assert_non_null(strstr(reason.text, "16 bits a weight"));
  close_job(&job);
  remove_folder(folder);
}

/* The headroom with the least error of all nine, by quantising with each. */
static void the_best_multiplier_is_found(void **state) {
  (void)state;
  char folder[256];
  nvfp4_quantize_job job = job_of(make_folder(folder));
  job.options.scales = NVFP4_SCALES_RTN;
  nvfp4_planned_tensor *tensor = (nvfp4_planned_tensor *)of_module(&job, 'd');
  assert_ok(nvfp4_quantize_choose_global(&job, tensor, &reason), reason);
  assert_f32_bits(tensor->headroom, 1); /* not asked for */
  job.options.globals = NVFP4_GLOBALS_SEARCH;
  assert_ok(nvfp4_quantize_choose_global(&job, tensor, &reason), reason);
  double least = INFINITY, found = 0;
  static uint8_t codes[96 * 32], scales[96 * 4];
  for (int i = 0; i < NVFP4_HEADROOMS; i++) {
    float headroom = 1 + (float)i / 8;
    double error[2];
    assert_ok(nvfp4_quantise_matrix(tensor->source->data, 96, 64, nvfp4_global_from_amax(headroom * tensor->amax), NVFP4_SCALES_RTN, NULL,
                                    codes, scales, error, &reason),
              reason);
    least = error[0] < least ? error[0] : least;
    found = headroom == tensor->headroom ? error[0] : found;
  }
  assert_true(found > 0 && fabs(found - least) <= 1e-12 * least);
  close_job(&job);
  remove_folder(folder);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(parts_share_a_multiplier),
      cmocka_unit_test(the_budget_is_kept),
      cmocka_unit_test(a_budget_for_all_is_refused),
      cmocka_unit_test(the_best_multiplier_is_found),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
