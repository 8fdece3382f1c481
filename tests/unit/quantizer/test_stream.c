/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE /* mkdtemp */
#include <math.h>

#include "format/half.h"
#include "unit/quantizer/quantizer_support.h"

static nvfp4_reason reason;

static uint16_t *random_bf16(size_t count, uint64_t seed, float deviation) {
  test_random random = {seed};
  uint16_t *values = malloc(count * sizeof *values);
  assert_non_null(values);
  for (size_t i = 0; i < count; i++) {
    values[i] = nvfp4_bf16_from_f32(test_random_gauss(&random) * deviation);
  }
  return values;
}

/* Plans, measures and writes `input` into folder/model.safetensors; stats in *stats. */
static void quantise(const char *input, const char *folder, nvfp4_layout_kind layout, nvfp4_scale_search search, int threads,
                     nvfp4_quantize_stats *stats) {
  char path[512];
  nvfp4_safetensors_writer *writer = NULL;
  nvfp4_quantize_job job = open_job(input, layout, threads);
  job.options.scales = search;
  assert_ok(nvfp4_quantize_plan(&job, &reason), reason);
  assert_ok(nvfp4_quantize_measure(&job, &reason), reason);
  assert_ok(nvfp4_safetensors_writer_create(path_in(folder, "model.safetensors", path), &writer, &reason), reason);
  assert_ok(nvfp4_quantize_write(&job, writer, &reason), reason);
  assert_ok(nvfp4_safetensors_writer_finish(writer, &reason), reason);
  nvfp4_safetensors_writer_destroy(writer);
  nvfp4_quantize_report(&job);
  assert_int_equal(job.done, job.total);
  if (stats != NULL) {
    *stats = job.stats;
  }
  close_job(&job);
}

static float amax_of(const float *x, int64_t count) {
  float amax = 0;
  for (int64_t i = 0; i < count; i++) {
    amax = fabsf(x[i]) > amax ? fabsf(x[i]) : amax;
  }
  return amax;
}

/* Checks one quantised layer of `output` against nvfp4_quantise_matrix on the whole matrix; adds its errors to sums. */
static void check_layer(const nvfp4_checkpoint *input, const nvfp4_checkpoint *output, const char *module, bool ct,
                        nvfp4_scale_search search, double sums[2]) {
  char name[256];
  snprintf(name, sizeof name, "%s.weight", module);
  const nvfp4_tensor *source = nvfp4_checkpoint_find(input, name);
  int64_t n = source->shape[0], k = source->shape[1];
  float *x = malloc((size_t)(n * k) * sizeof *x);
  uint8_t *codes = malloc((size_t)(n * k / 2)), *scales = malloc((size_t)(n * k / 16));
  assert_ok(nvfp4_tensor_to_f32(source, 0, (uint64_t)(n * k), x, &reason), reason);
  float amax = amax_of(x, n * k), stored = ct ? 2688.0f / amax : amax / 2688.0f;
  double error[2] = {0, 0};
  assert_ok(nvfp4_quantise_matrix(x, n, k, ct ? 1.0f / stored : stored, search, NULL, codes, scales, error, &reason), reason);
  sums[0] += error[0];
  sums[1] += error[1];

  snprintf(name, sizeof name, "%s.%s", module, ct ? "weight_packed" : "weight");
  const nvfp4_tensor *tensor = nvfp4_checkpoint_find(output, name);
  assert_int_equal(tensor->bytes, n * k / 2);
  assert_memory_equal(tensor->data, codes, tensor->bytes);
  snprintf(name, sizeof name, "%s.weight_scale", module);
  tensor = nvfp4_checkpoint_find(output, name);
  assert_int_equal(tensor->dtype, NVFP4_DTYPE_F8_E4M3);
  assert_int_equal(tensor->bytes, n * k / 16);
  assert_memory_equal(tensor->data, scales, tensor->bytes);
  snprintf(name, sizeof name, "%s.%s", module, ct ? "weight_global_scale" : "weight_scale_2");
  tensor = nvfp4_checkpoint_find(output, name);
  assert_int_equal(tensor->rank, ct ? 1 : 0);
  assert_memory_equal(tensor->data, &stored, sizeof stored);
  free(x);
  free(codes);
  free(scales);
}

static void the_golden_model_is_quantised_bit_for_bit(void **state) {
  (void)state;
  for (int variant = 0; variant < 4; variant++) {
    bool ct = variant >= 2;
    nvfp4_scale_search search = variant % 2 == 0 ? NVFP4_SCALES_RTN : NVFP4_SCALES_SWEEP;
    char folder[256], path[512];
    nvfp4_quantize_stats stats;
    nvfp4_checkpoint *input = NULL, *output = NULL;
    quantise(TINY, make_folder(folder), ct ? NVFP4_LAYOUT_COMPRESSED_TENSORS : NVFP4_LAYOUT_MODELOPT, search, 2, &stats);
    assert_ok(nvfp4_checkpoint_open(TINY, 0, &input, &reason), reason);
    assert_ok(nvfp4_checkpoint_open(path_in(folder, "model.safetensors", path), 0, &output, &reason), reason);
    double sums[2] = {0, 0};
    size_t copied = 0, layers = 0;
    const nvfp4_tensor *tensor;
    for (size_t i = 0; (tensor = nvfp4_checkpoint_tensor(input, i)) != NULL; i++) {
      const nvfp4_tensor *same = nvfp4_checkpoint_find(output, tensor->name);
      if (strstr(tensor->name, "_proj.weight") == NULL) {
        assert_non_null(same);
        assert_int_equal(same->dtype, tensor->dtype);
        assert_int_equal(same->bytes, tensor->bytes);
        assert_memory_equal(same->data, tensor->data, tensor->bytes);
        copied++;
      } else {
        char module[128];
        snprintf(module, sizeof module, "%.*s", (int)(strlen(tensor->name) - strlen(".weight")), tensor->name);
        check_layer(input, output, module, ct, search, sums);
        layers++;
      }
    }
    assert_int_equal(layers, 14);
    assert_int_equal(nvfp4_checkpoint_tensor_count(output), copied + 3 * layers);
    assert_int_equal(stats.copied_tensors, copied);
    assert_int_equal(stats.weights, 86016);
    assert_int_equal(stats.input_bytes, 2 * (86016 + 320 * 64 + 5 * 64));
    assert_true(stats.relative_squared_error == sums[0] / sums[1]);
    assert_true(stats.worst_relative_squared_error >= stats.relative_squared_error);
    nvfp4_checkpoint_close(input);
    nvfp4_checkpoint_close(output);
    remove_folder(folder);
  }
}

/* More rows than a band has, rows longer than a task, an odd number of rows: the bytes are those of one thread, and of the whole matrix at
 * once. */
static void bands_and_threads_change_nothing(void **state) {
  (void)state;
  enum { TALL = 4113, TALL_K = 1040, WIDE = 67, WIDE_K = 80000, ODD = 3, ODD_K = 16 };
  uint16_t *tall = random_bf16((size_t)TALL * TALL_K, 1, 0.02f), *wide = random_bf16((size_t)WIDE * WIDE_K, 2, 3.0f);
  const test_tensor tensors[] = {{"a.tall.weight", NVFP4_DTYPE_BF16, 2, {TALL, TALL_K}, tall},
                                 {"b.wide.weight", NVFP4_DTYPE_BF16, 2, {WIDE, WIDE_K}, wide},
                                 {"c.odd.weight", NVFP4_DTYPE_BF16, 2, {ODD, ODD_K}, tall},
                                 {"d.half.weight", NVFP4_DTYPE_F16, 2, {40, 64}, tall}, /* the same bits, read as other numbers */
                                 {"e.single.weight", NVFP4_DTYPE_F32, 2, {40, 64}, tall}};
  char input[256], output[2][256], path[512];
  write_tensors(make_folder(input), "model.safetensors", tensors, 5);
  char *texts[2];
  size_t bytes[2];
  for (int i = 0; i < 2; i++) {
    quantise(input, make_folder(output[i]), NVFP4_LAYOUT_MODELOPT, NVFP4_SCALES_RTN, i == 0 ? 1 : 3, NULL);
    texts[i] = test_read_file(path_in(output[i], "model.safetensors", path), &bytes[i]);
  }
  assert_int_equal(bytes[0], bytes[1]);
  assert_memory_equal(texts[0], texts[1], bytes[0]);
  nvfp4_checkpoint *from = NULL, *to = NULL;
  assert_ok(nvfp4_checkpoint_open(input, 0, &from, &reason), reason);
  assert_ok(nvfp4_checkpoint_open(path, 0, &to, &reason), reason);
  double sums[2] = {0, 0};
  check_layer(from, to, "a.tall", false, NVFP4_SCALES_RTN, sums);
  check_layer(from, to, "b.wide", false, NVFP4_SCALES_RTN, sums);
  check_layer(from, to, "c.odd", false, NVFP4_SCALES_RTN, sums);
  check_layer(from, to, "d.half", false, NVFP4_SCALES_RTN, sums);
  check_layer(from, to, "e.single", false, NVFP4_SCALES_RTN, sums);
  nvfp4_checkpoint_close(from);
  nvfp4_checkpoint_close(to);
  for (int i = 0; i < 2; i++) {
    free(texts[i]);
    remove_folder(output[i]);
  }
  remove_folder(input);
  free(tall);
  free(wide);
}

/* torch cannot view a tensor that is not aligned to its element. */
static void tensors_are_aligned(void **state) {
  (void)state;
  static float data[64 * 64];
  static const test_tensor tensors[] = {{"a.bool", NVFP4_DTYPE_BOOL, 1, {3}, data},      {"a.weight", NVFP4_DTYPE_F16, 2, {3, 48}, data},
                                        {"b.offset", NVFP4_DTYPE_F16, 1, {3}, data},     {"b.count", NVFP4_DTYPE_I64, 0, {0}, data},
                                        {"b.weight", NVFP4_DTYPE_F32, 2, {5, 16}, data}, {"c.offset", NVFP4_DTYPE_F32, 1, {3}, data}};
  char input[256], output[256], path[512];
  write_tensors(make_folder(input), "model.safetensors", tensors, 6);
  quantise(input, make_folder(output), NVFP4_LAYOUT_COMPRESSED_TENSORS, NVFP4_SCALES_RTN, 1, NULL);
  nvfp4_checkpoint *checkpoint = NULL;
  assert_ok(nvfp4_checkpoint_open(path_in(output, "model.safetensors", path), 0, &checkpoint, &reason), reason);
  assert_int_equal(nvfp4_checkpoint_tensor_count(checkpoint), 10);
  const nvfp4_tensor *tensor;
  for (size_t i = 0; (tensor = nvfp4_checkpoint_tensor(checkpoint, i)) != NULL; i++) {
    uint64_t size = 0;
    assert_true(nvfp4_dtype_bytes(tensor->dtype, 1, &size));
    assert_int_equal((uintptr_t)tensor->data % size, 0);
  }
  nvfp4_checkpoint_close(checkpoint);
  remove_folder(input);
  remove_folder(output);
}

static void weights_that_are_not_finite_are_refused(void **state) {
  (void)state;
  static const float bad[] = {INFINITY, -INFINITY, NAN};
  for (int i = 0; i < 3; i++) {
    float *x = calloc(200 * 1024, sizeof *x);
    x[150 * 1024 + 7] = bad[i];
    x[151 * 1024 + 1] = NAN;
    const test_tensor tensors[] = {{"model.layers.0.q_proj.weight", NVFP4_DTYPE_F32, 2, {200, 1024}, x}};
    char folder[256];
    write_tensors(make_folder(folder), "model.safetensors", tensors, 1);
    nvfp4_quantize_job job = open_job(folder, NVFP4_LAYOUT_MODELOPT, 2);
    assert_ok(nvfp4_quantize_plan(&job, &reason), reason);
    assert_int_equal(nvfp4_quantize_measure(&job, &reason), NVFP4_E_FORMAT);
    assert_non_null(strstr(reason.text, "model.layers.0.q_proj.weight"));
    assert_non_null(strstr(reason.text, "row 150, column 7"));
    close_job(&job);
    remove_folder(folder);
    free(x);
  }
}

/* GGUF norms are F32: bf16 again where that keeps every bit, F32 otherwise. A Q8_0 embedding is rounded to bf16. */
static void gguf_tensors_get_their_types(void **state) {
  (void)state;
  float exact[32], inexact[32];
  uint8_t q8[2 * 34] = {0x66, 0x2E}; /* f16 0.1 */
  for (int i = 0; i < 32; i++) {
    exact[i] = nvfp4_bf16_to_f32((uint16_t)(0x3F80 + i));
    inexact[i] = exact[i];
    q8[2 + i] = (uint8_t)(i - 16);
  }
  inexact[31] = 0.1f;
  int64_t one[1] = {32}, two[2] = {2, 32}, linear[2] = {16, 64};
  static const float zeros[16 * 64];
  gguf_file file = {0};
  tiny_metadata(&file);
  gguf_tensor(&file, "blk.0.attn_norm.weight", GGUF_F32, 1, one, exact, sizeof exact);
  gguf_tensor(&file, "blk.0.ffn_norm.weight", GGUF_F32, 1, one, inexact, sizeof inexact);
  gguf_tensor(&file, "token_embd.weight", GGUF_Q8_0, 2, two, q8, sizeof q8);
  gguf_tensor(&file, "blk.0.ffn_up.weight", GGUF_F32, 2, linear, zeros, sizeof zeros);
  char folder[256], path[512], output[256];
  gguf_write(&file, path_in(make_folder(folder), "x.gguf", path));
  quantise(path, make_folder(output), NVFP4_LAYOUT_MODELOPT, NVFP4_SCALES_RTN, 1, NULL);
  nvfp4_checkpoint *checkpoint = NULL;
  assert_ok(nvfp4_checkpoint_open(path_in(output, "model.safetensors", path), 0, &checkpoint, &reason), reason);
  const nvfp4_tensor *tensor = nvfp4_checkpoint_find(checkpoint, "model.layers.0.input_layernorm.weight");
  assert_int_equal(tensor->dtype, NVFP4_DTYPE_BF16);
  for (int i = 0; i < 32; i++) {
    assert_int_equal(((const uint16_t *)tensor->data)[i], 0x3F80 + i);
  }
  tensor = nvfp4_checkpoint_find(checkpoint, "model.layers.0.post_attention_layernorm.weight");
  assert_int_equal(tensor->dtype, NVFP4_DTYPE_F32);
  assert_memory_equal(tensor->data, inexact, sizeof inexact);
  tensor = nvfp4_checkpoint_find(checkpoint, "model.embed_tokens.weight");
  assert_int_equal(tensor->dtype, NVFP4_DTYPE_BF16);
  for (int i = 0; i < 32; i++) {
    assert_int_equal(((const uint16_t *)tensor->data)[i], nvfp4_bf16_from_f32((float)(i - 16) * nvfp4_f16_to_f32(0x2E66)));
  }
  nvfp4_checkpoint_close(checkpoint);
  remove_folder(folder);
  remove_folder(output);
}

/* The rows of the un-permuted GGUF are those of the model it was made of. */
static void rows_of_heads_are_read_in_order(void **state) {
  (void)state;
  char folder[256], path[512];
  write_tiny_gguf(path_in(make_folder(folder), "tiny.gguf", path));
  nvfp4_quantize_job gguf = open_job(path, NVFP4_LAYOUT_MODELOPT, 1), hf = open_job(TINY, NVFP4_LAYOUT_MODELOPT, 1);
  assert_ok(nvfp4_quantize_plan(&gguf, &reason), reason);
  assert_ok(nvfp4_quantize_plan(&hf, &reason), reason);
  assert_int_equal(gguf.tensor_count, hf.tensor_count);
  static float a[TINY_WORDS * TINY_INTERMEDIATE], b[TINY_WORDS * TINY_INTERMEDIATE];
  for (size_t i = 0; i < hf.tensor_count; i++) {
    const nvfp4_planned_tensor *tensor = &hf.tensors[i];
    assert_string_equal(gguf.tensors[i].name, tensor->name);
    assert_ok(nvfp4_quantize_read_rows(tensor, 0, tensor->rows, a, &reason), reason);
    assert_ok(nvfp4_quantize_read_rows(&gguf.tensors[i], 1, tensor->rows - 1, b, &reason), reason);
    assert_memory_equal(a + tensor->columns, b, (size_t)((tensor->rows - 1) * tensor->columns) * sizeof *a);
  }
  close_job(&gguf);
  close_job(&hf);
  remove_folder(folder);
}

static void divisors(void **state) {
  (void)state;
  assert_f32_bits(nvfp4_divisor_from_amax(1.0f), 2688.0f);
  assert_f32_bits(nvfp4_divisor_from_amax(1.75f), 1536.0f);
  assert_f32_bits(nvfp4_divisor_from_amax(0.1f), 2688.0f / 0.1f);
  assert_f32_bits(nvfp4_divisor_from_amax(0.0f), 1.0f);
  assert_f32_bits(nvfp4_divisor_from_amax(0x1p-149f), 1.0f); /* the divisor would be infinite */
  assert_f32_bits(nvfp4_divisor_from_amax(0x1p-115f), 1.0f); /* its reciprocal subnormal */
  assert_true(isnormal(nvfp4_divisor_from_amax(3.0e38f)));
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(the_golden_model_is_quantised_bit_for_bit),
      cmocka_unit_test(bands_and_threads_change_nothing),
      cmocka_unit_test(tensors_are_aligned),
      cmocka_unit_test(weights_that_are_not_finite_are_refused),
      cmocka_unit_test(gguf_tensors_get_their_types),
      cmocka_unit_test(rows_of_heads_are_read_in_order),
      cmocka_unit_test(divisors),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
