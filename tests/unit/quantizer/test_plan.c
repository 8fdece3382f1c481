/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE /* mkdtemp */
#include "unit/quantizer/quantizer_support.h"

static float zeros[64 * 64];
static nvfp4_reason reason;

static bool is_excluded(const nvfp4_quantize_job *job, const char *name) {
  for (size_t i = 0; i < job->excluded_count; i++) {
    if (strcmp(job->excluded[i], name) == 0) {
      return true;
    }
  }
  return false;
}

static void linear_layers_are_quantised_and_all_else_copied(void **state) {
  (void)state;
  static const struct {
    test_tensor tensor;
    bool quantised, excluded;
  } cases[] = {
      {{"lm_head.weight", NVFP4_DTYPE_BF16, 2, {32, 32}, zeros}, false, true},
      {{"model.embed_tokens.weight", NVFP4_DTYPE_BF16, 2, {32, 32}, zeros}, false, true},
      {{"model.layers.0.input_layernorm.weight", NVFP4_DTYPE_BF16, 1, {32}, zeros}, false, false},
      {{"model.layers.0.mlp.down_proj.weight", NVFP4_DTYPE_F32, 2, {32, 24}, zeros}, false, true}, /* K is no multiple of 16 */
      {{"model.layers.0.mlp.experts.gate_up_proj", NVFP4_DTYPE_BF16, 3, {2, 32, 32}, zeros}, false, true},
      {{"model.layers.0.mlp.gate.weight", NVFP4_DTYPE_F32, 2, {4, 32}, zeros}, false, true}, /* a router */
      {{"model.layers.0.mlp.gate_proj.weight", NVFP4_DTYPE_F16, 2, {24, 32}, zeros}, true, false},
      {{"model.layers.0.mlp.up_proj.weight", NVFP4_DTYPE_BF16, 2, {24, 32}, zeros}, true, false},
      {{"model.layers.0.norm_2d.weight", NVFP4_DTYPE_F32, 2, {4, 32}, zeros}, false, true},
      {{"model.layers.0.self_attn.q_proj.bias", NVFP4_DTYPE_F32, 1, {32}, zeros}, false, false},
      {{"model.layers.0.self_attn.q_proj.weight", NVFP4_DTYPE_F32, 2, {32, 16}, zeros}, true, false},
      {{"model.layers.0.table", NVFP4_DTYPE_I32, 2, {4, 16}, zeros}, false, false},
      {{"model.layers.1.up_proj.weight", NVFP4_DTYPE_I32, 2, {4, 16}, zeros}, false, true},
      {{"scalar", NVFP4_DTYPE_F32, 0, {0}, zeros}, false, false},
  };
  enum { COUNT = sizeof cases / sizeof cases[0] };
  test_tensor tensors[COUNT];
  for (size_t i = 0; i < COUNT; i++) {
    tensors[i] = cases[i].tensor;
  }
  char folder[256];
  write_tensors(make_folder(folder), "model.safetensors", tensors, COUNT);
  nvfp4_quantize_job job = open_job(folder, NVFP4_LAYOUT_MODELOPT, 1);
  assert_ok(nvfp4_quantize_plan(&job, &reason), reason);
  assert_int_equal(job.tensor_count, COUNT);
  assert_int_equal(job.stats.layers, 3);
  for (size_t i = 0; i < COUNT; i++) {
    char module[128];
    snprintf(module, sizeof module, "%s", tensors[i].name);
    char *suffix = strstr(module, ".weight");
    if (suffix != NULL) {
      *suffix = '\0';
    }
    const nvfp4_planned_tensor *tensor = planned(&job, cases[i].quantised ? module : tensors[i].name);
    assert_int_equal(tensor->quantise, cases[i].quantised);
    if (!cases[i].quantised) {
      assert_int_equal(tensor->dtype, tensors[i].dtype);
    }
    assert_int_equal(is_excluded(&job, module), cases[i].excluded);
    assert_int_equal(tensor->head_rows, 0);
  }
  assert_int_equal(planned(&job, "scalar")->rows, 1);
  assert_int_equal(planned(&job, "model.layers.0.mlp.experts.gate_up_proj")->columns, 32 * 32);
  close_job(&job);
  remove_folder(folder);
}

static void lm_head_only_when_asked(void **state) {
  (void)state;
  nvfp4_quantize_job job = open_job(TINY, NVFP4_LAYOUT_MODELOPT, 1); /* tied */
  assert_ok(nvfp4_quantize_plan(&job, &reason), reason);
  assert_int_equal(job.stats.layers, 14);
  assert_false(job.own_lm_head);
  assert_true(is_excluded(&job, "lm_head")); /* the model has one though the file has not */
  nvfp4_quantize_plan_free(&job);
  job.stats.layers = 0;
  job.options.lm_head = true;
  assert_ok(nvfp4_quantize_plan(&job, &reason), reason);
  assert_int_equal(job.stats.layers, 15);
  assert_true(job.own_lm_head);
  assert_false(is_excluded(&job, "lm_head"));
  assert_true(planned(&job, "lm_head")->quantise);
  assert_ptr_equal(planned(&job, "lm_head")->source, planned(&job, "model.embed_tokens.weight")->source);
  close_job(&job);

  static const test_tensor lonely[] = {{"model.layers.0.q_proj.weight", NVFP4_DTYPE_F32, 2, {16, 16}, zeros}};
  char folder[256];
  write_tensors(make_folder(folder), "model.safetensors", lonely, 1);
  expect_refused_plan(folder, true, NVFP4_E_UNSUPPORTED, "embed_tokens");
  remove_folder(folder);
}

static void quantised_inputs_are_refused(void **state) {
  (void)state;
  static const char *const paths[] = {GOLDEN "modelopt_nvfp4",
                                      GOLDEN "modelopt_w4a16",
                                      GOLDEN "ct_nvfp4",
                                      GOLDEN "ct_nvfp4a16",
                                      GOLDEN "ct_mixed_fp8",
                                      GOLDEN "modelopt_mixed",
                                      GOLDEN "gguf_mlx/llama-modelopt-nvfp4.gguf"};
  for (size_t i = 0; i < sizeof paths / sizeof paths[0]; i++) {
    expect_refused_plan(paths[i], false, NVFP4_E_UNSUPPORTED, "quantised already");
  }
  char folder[256];
  static const test_tensor plain[] = {{"model.layers.0.q_proj.weight", NVFP4_DTYPE_F32, 2, {16, 16}, zeros}};
  write_tensors(make_folder(folder), "model.safetensors", plain, 1);
  write_text(folder, "config.json", "{\"quantization_config\": {\"quant_method\": \"gptq\", \"bits\": 4}}");
  nvfp4_checkpoint *checkpoint = NULL;
  if (nvfp4_checkpoint_open(folder, 0, &checkpoint, &reason) == NVFP4_OK) { /* a reader may refuse it earlier */
    nvfp4_checkpoint_close(checkpoint);
    expect_refused_plan(folder, false, NVFP4_E_UNSUPPORTED, "gptq");
  }
  write_text(folder, "config.json", "{\"model_type\": \"gpt2\"}");
  expect_refused_plan(folder, false, NVFP4_E_UNSUPPORTED, "[K, N]");
  remove_folder(folder);
}

static void nothing_to_quantise_is_refused(void **state) {
  (void)state;
  static const test_tensor norms[] = {{"model.embed_tokens.weight", NVFP4_DTYPE_F32, 2, {16, 16}, zeros},
                                      {"model.layers.0.norm.weight", NVFP4_DTYPE_F32, 1, {16}, zeros}};
  char folder[256];
  write_tensors(make_folder(folder), "model.safetensors", norms, 2);
  expect_refused_plan(folder, false, NVFP4_E_UNSUPPORTED, "no linear layer");
  remove_folder(folder);
}

static void gguf_tensors_get_their_names_and_rows(void **state) {
  (void)state;
  char folder[256], path[512];
  write_tiny_gguf(path_in(make_folder(folder), "tiny.gguf", path));
  nvfp4_quantize_job job = open_job(path, NVFP4_LAYOUT_MODELOPT, 1);
  assert_ok(nvfp4_quantize_plan(&job, &reason), reason);
  assert_int_equal(job.stats.layers, 14);
  assert_int_equal(planned(&job, "model.layers.1.self_attn.q_proj")->head_rows, TINY_HEAD);
  assert_int_equal(planned(&job, "model.layers.1.self_attn.k_proj")->head_rows, TINY_HEAD);
  assert_int_equal(planned(&job, "model.layers.1.self_attn.v_proj")->head_rows, 0);
  assert_int_equal(planned(&job, "model.norm.weight")->dtype, NVFP4_DTYPE_NONE); /* to be seen */
  assert_int_equal(planned(&job, "model.embed_tokens.weight")->dtype, NVFP4_DTYPE_BF16);
  for (size_t i = 1; i < job.tensor_count; i++) {
    assert_true(strcmp(job.tensors[i - 1].name, job.tensors[i].name) < 0);
  }
  close_job(&job);
  remove_folder(folder);
}

/* A GGUF file with one tensor more than the metadata of tiny, or another architecture. */
static void refuse_gguf(const char *arch, const char *tensor, uint32_t type, int64_t rows, const char *says) {
  char folder[256], path[512];
  int64_t shape[2] = {rows, 256};
  static uint8_t data[64 * 256 * 4];
  gguf_file file = {0};
  if (arch != NULL) {
    gguf_text(&file, "general.architecture", arch);
  } else {
    tiny_metadata(&file);
  }
  size_t bytes = type == GGUF_Q4_K ? (size_t)rows * 144 : (size_t)rows * 256 * 4;
  gguf_tensor(&file, tensor, type, 2, shape, data, bytes);
  gguf_write(&file, path_in(make_folder(folder), "x.gguf", path));
  expect_refused_plan(path, false, NVFP4_E_UNSUPPORTED, says);
  remove_folder(folder);
}

static void gguf_files_that_cannot_be_translated(void **state) {
  (void)state;
  refuse_gguf("gemma2", "blk.0.attn_q.weight", GGUF_F32, 16, "gemma2");
  refuse_gguf(NULL, "blk.0.attn_q.weight", GGUF_Q4_K, 16, "Q4_K");
  refuse_gguf(NULL, "blk.0.ffn_gate_inp.weight", GGUF_F32, 16, "blk.0.ffn_gate_inp.weight");
  refuse_gguf(NULL, "rope_freqs.weight", GGUF_F32, 16, "scaled RoPE");
}

static void a_part_of_a_gguf_model_is_refused(void **state) {
  (void)state;
  char folder[256], path[512];
  const int64_t shape[2] = {16, 256};
  static float data[16 * 256];
  gguf_file file = {0};
  tiny_metadata(&file);
  gguf_u32(&file, "split.count", 2);
  gguf_tensor(&file, "blk.0.attn_v.weight", GGUF_F32, 2, shape, data, sizeof data);
  gguf_write(&file, path_in(make_folder(folder), "x-00001-of-00002.gguf", path));
  expect_refused_plan(path, false, NVFP4_E_UNSUPPORTED, "one of 2 parts");
  remove_folder(folder);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(linear_layers_are_quantised_and_all_else_copied),
      cmocka_unit_test(lm_head_only_when_asked),
      cmocka_unit_test(quantised_inputs_are_refused),
      cmocka_unit_test(nothing_to_quantise_is_refused),
      cmocka_unit_test(gguf_tensors_get_their_names_and_rows),
      cmocka_unit_test(gguf_files_that_cannot_be_translated),
      cmocka_unit_test(a_part_of_a_gguf_model_is_refused),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
