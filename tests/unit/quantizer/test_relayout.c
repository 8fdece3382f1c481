/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE /* mkdtemp */
#include "unit/quantizer/quantizer_support.h"

static nvfp4_reason reason;

/* Codes and block scales of every layer are those of the ModelOpt checkpoint; GGUF leaves alone what it cannot hold (K = 160). */
static void other_layouts_hold_the_same_layers(void **state) {
  (void)state;
  static const nvfp4_layout_kind layouts[] = {NVFP4_LAYOUT_GGUF, NVFP4_LAYOUT_MLX, NVFP4_LAYOUT_COMFY};
  const nvfp4_options context_options = {.struct_size = sizeof context_options, .threads = 2};
  nvfp4_context *context = NULL;
  nvfp4_checkpoint *modelopt = NULL, *other = NULL;
  char folder[256], path[512];
  make_folder(folder);
  assert_ok(nvfp4_context_create(&context_options, &context, &reason), reason);
  nvfp4_quantize_options options = {.struct_size = sizeof options, .layout = NVFP4_LAYOUT_MODELOPT};
  path_in(folder, "modelopt", path);
  assert_ok(nvfp4_quantize_checkpoint(context, TINY, path, &options, NULL, &reason), reason);
  assert_ok(nvfp4_checkpoint_open(path, 0, &modelopt, &reason), reason);
  for (size_t l = 0; l < 3; l++) {
    bool gguf = layouts[l] == NVFP4_LAYOUT_GGUF;
    options.layout = layouts[l];
    path_in(folder, gguf ? "x.gguf" : nvfp4_layout_kind_name(layouts[l]), path);
    assert_ok(nvfp4_quantize_checkpoint(context, TINY, path, &options, NULL, &reason), reason);
    assert_int_equal(count_files(folder), l + 2); /* nothing but the outputs */
    assert_ok(nvfp4_checkpoint_open(path, 0, &other, &reason), reason);
    const nvfp4_layer_info *layer;
    size_t count = 0;
    for (size_t i = 0; (layer = nvfp4_checkpoint_layer(modelopt, i)) != NULL; i++) {
      char name[256];
      uint8_t codes[2][80], scales[2][10];
      if (layer->layout == NVFP4_LAYOUT_NONE) {
        continue;
      }
      snprintf(name, sizeof name, "%s", layer->name);
      assert_true(!gguf || nvfp4_gguf_module(true, layer->name, strlen(layer->name), name, sizeof name));
      const nvfp4_layer_info *same = nvfp4_checkpoint_find_layer(other, name);
      assert_non_null(same);
      assert_int_equal(same->layout, gguf && layer->k % 64 != 0 ? NVFP4_LAYOUT_NONE : layouts[l]);
      count += same->layout != NVFP4_LAYOUT_NONE;
      bool turned = strstr(name, "attn_q") != NULL || strstr(name, "attn_k") != NULL;
      for (int64_t row = 0; same->layout != NVFP4_LAYOUT_NONE && row < layer->n; row++) {
        nvfp4_layer_read_rows(modelopt, layer, row, 1, codes[0], scales[0]);
        nvfp4_layer_read_rows(other, same, nvfp4_gguf_source_row(row, turned ? TINY_HEAD : 0), 1, codes[1], scales[1]);
        assert_memory_equal(codes[0], codes[1], (size_t)layer->k / 2);
        assert_memory_equal(scales[0], scales[1], (size_t)layer->k / 16);
      }
    }
    assert_int_equal(count, gguf ? 12 : 14);
    nvfp4_checkpoint_close(other);
  }
  options.layout = NVFP4_LAYOUT_GGUF;
  assert_int_equal(nvfp4_quantize_checkpoint(context, TINY, path_in(folder, "x.gguf", path), &options, NULL, &reason), NVFP4_E_IO);
  assert_non_null(strstr(reason.text, "exists already"));
  assert_int_equal(count_files(folder), 4);
  nvfp4_checkpoint_close(modelopt);
  nvfp4_context_destroy(context);
  remove_folder(folder);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(other_layouts_hold_the_same_layers)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
