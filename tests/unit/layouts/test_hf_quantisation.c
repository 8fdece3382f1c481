/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE /* mkdtemp */
#include "unit/quantizer/quantizer_support.h"

static nvfp4_reason reason;

/* The layers of a golden mixed model. */
static size_t mixed_layers(const char *folder, nvfp4_checkpoint **checkpoint, nvfp4_config_layer layers[32]) {
  size_t count = 0;
  const nvfp4_layer_info *layer;
  assert_ok(nvfp4_checkpoint_open(folder, 0, checkpoint, &reason), reason);
  for (size_t i = 0; (layer = nvfp4_checkpoint_layer(*checkpoint, i)) != NULL; i++) {
    if (layer->mode != NVFP4_MODE_UNQUANTISED) {
      layers[count++] = (nvfp4_config_layer){.name = layer->name, .mode = layer->mode};
    }
  }
  return count;
}

/* ModelOpt's own config of the same layers, up to the order of its lists and its producer. */
static void mixed_modelopt_is_as_modelopt_writes_it(void **state) {
  (void)state;
  nvfp4_checkpoint *checkpoint = NULL;
  nvfp4_config_layer layers[32];
  nvfp4_model_description model = {.layout = NVFP4_LAYOUT_MODELOPT, .tool = "modelopt", .layers = layers};
  model.layer_count = mixed_layers(GOLDEN "modelopt_mixed", &checkpoint, layers);
  json_t *ours = nvfp4_hf_quantisation(&model), *config = read_json(GOLDEN "modelopt_mixed", "config.json");
  json_t *theirs = json_object_get(config, "quantization_config");
  json_object_del(ours, "producer");
  json_object_del(theirs, "producer");
  const char *text = json_dumps(ours, JSON_SORT_KEYS), *golden = json_dumps(theirs, JSON_SORT_KEYS);
  assert_string_equal(text, golden);
  free((void *)text);
  free((void *)golden);
  char *file = NULL;
  assert_ok(nvfp4_hf_quant_config(&model, &file, &reason), reason);
  json_t *own = json_loads(file, 0, NULL), *other = read_json(GOLDEN "modelopt_mixed", "hf_quant_config.json");
  assert_true(json_equal(json_object_get(own, "quantization"), json_object_get(other, "quantization")));
  json_decref(own);
  json_decref(other);
  free(file);
  json_decref(ours);
  json_decref(config);
  nvfp4_checkpoint_close(checkpoint);
}

/* compressed-tensors': the same groups but for the targets, which are names here and patterns there. */
static void mixed_compressed_tensors_groups(void **state) {
  (void)state;
  nvfp4_checkpoint *checkpoint = NULL;
  nvfp4_config_layer layers[32];
  nvfp4_model_description model = {.layout = NVFP4_LAYOUT_COMPRESSED_TENSORS, .layers = layers};
  model.layer_count = mixed_layers(GOLDEN "ct_mixed_fp8", &checkpoint, layers);
  json_t *ours = nvfp4_hf_quantisation(&model), *config = read_json(GOLDEN "ct_mixed_fp8", "config.json");
  json_t *theirs = json_object_get(config, "quantization_config");
  assert_string_equal(json_string_value(json_object_get(ours, "format")), "mixed-precision");
  static const char *const groups[] = {"group_0", "group_1"};
  static const size_t counts[] = {8, 6};
  for (int i = 0; i < 2; i++) {
    json_t *a = json_object_get(json_object_get(ours, "config_groups"), groups[i]);
    json_t *b = json_object_get(json_object_get(theirs, "config_groups"), groups[i]);
    assert_int_equal(json_array_size(json_object_get(a, "targets")), counts[i]);
    json_object_del(a, "targets");
    json_object_del(b, "targets");
    assert_true(json_equal(a, b));
  }
  json_decref(ours);
  json_decref(config);
  nvfp4_checkpoint_close(checkpoint);
}

static void other_layouts(void **state) {
  (void)state;
  const nvfp4_config_layer layer = {.name = "a", .mode = NVFP4_MODE_FP8, .fp8_channels = true, .fp8_dynamic = true};
  nvfp4_model_description model = {.layers = &layer, .layer_count = 1, .layout = NVFP4_LAYOUT_MLX};
  json_t *mlx = nvfp4_hf_quantisation(&model), *golden = read_json(GOLDEN "gguf_mlx", "mlx-config.json");
  assert_true(json_equal(mlx, json_object_get(golden, "quantization")));
  json_decref(mlx);
  json_decref(golden);
  model.layout = NVFP4_LAYOUT_COMFY;
  assert_null(nvfp4_hf_quantisation(&model));
  model.layout = NVFP4_LAYOUT_COMPRESSED_TENSORS;
  model.kv_cache_fp8 = true;
  json_t *ct = nvfp4_hf_quantisation(&model);
  json_t *group = json_object_get(json_object_get(ct, "config_groups"), "group_0");
  assert_string_equal(json_string_value(json_object_get(json_object_get(group, "weights"), "strategy")), "channel");
  assert_string_equal(json_string_value(json_object_get(json_object_get(group, "input_activations"), "strategy")), "token");
  assert_int_equal(json_integer_value(json_object_get(json_object_get(ct, "kv_cache_scheme"), "num_bits")), 8);
  json_decref(ct);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(mixed_modelopt_is_as_modelopt_writes_it),
      cmocka_unit_test(mixed_compressed_tensors_groups),
      cmocka_unit_test(other_layouts),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
