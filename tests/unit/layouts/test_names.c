/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE /* mkdtemp */
#include "unit/quantizer/quantizer_support.h"

static void names_of_blocks_and_of_the_whole_model(void **state) {
  (void)state;
  static const char *const pairs[][2] = {
      {"token_embd.weight", "model.embed_tokens.weight"},
      {"output.weight", "lm_head.weight"},
      {"output_norm.weight", "model.norm.weight"},
      {"blk.0.attn_q.weight", "model.layers.0.self_attn.q_proj.weight"},
      {"blk.0.attn_k.bias", "model.layers.0.self_attn.k_proj.bias"},
      {"blk.12.attn_v.weight", "model.layers.12.self_attn.v_proj.weight"},
      {"blk.12.attn_output.weight", "model.layers.12.self_attn.o_proj.weight"},
      {"blk.3.ffn_gate.weight", "model.layers.3.mlp.gate_proj.weight"},
      {"blk.3.ffn_up.weight", "model.layers.3.mlp.up_proj.weight"},
      {"blk.3.ffn_down.weight", "model.layers.3.mlp.down_proj.weight"},
      {"blk.3.attn_norm.weight", "model.layers.3.input_layernorm.weight"},
      {"blk.3.ffn_norm.weight", "model.layers.3.post_attention_layernorm.weight"},
  };
  char name[256];
  for (size_t i = 0; i < sizeof pairs / sizeof pairs[0]; i++) {
    assert_true(nvfp4_gguf_hf_name(pairs[i][0], name, sizeof name));
    assert_string_equal(name, pairs[i][1]);
  }
  assert_false(nvfp4_gguf_hf_name("blk.3.ffn_norm.weight", name, 20));
}

static void other_names_have_no_partner(void **state) {
  (void)state;
  static const char *const names[] = {"rope_freqs.weight",
                                      "blk..attn_q.weight",
                                      "blk.0.attn_q",
                                      "blk.0.attn_q.scale",
                                      "blk.0.weight",
                                      "blk.0",
                                      "blk.x.attn_q.weight",
                                      "blk.0.ffn_gate_exps.weight",
                                      "attn_q.weight",
                                      "blk.0.output_norm.weight",
                                      "",
                                      "weight"};
  char name[256];
  for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
    assert_false(nvfp4_gguf_hf_name(names[i], name, sizeof name));
  }
}

/* The converter's reshape [heads, 2, half] -> [heads, half, 2], undone, for every even head up to 64 rows. */
static void rows_go_back_where_they_came_from(void **state) {
  (void)state;
  for (int64_t head = 2; head <= 64; head += 2) {
    for (int64_t h = 0; h < 3; h++) {
      for (int64_t half = 0; half < 2; half++) {
        for (int64_t i = 0; i < head / 2; i++) {
          assert_int_equal(nvfp4_gguf_source_row(h * head + half * (head / 2) + i, head), h * head + i * 2 + half);
        }
      }
    }
  }
  assert_int_equal(nvfp4_gguf_source_row(7, 0), 7);
}

static nvfp4_weights weights_of(const nvfp4_checkpoint *checkpoint, const char *layer, void **owned) {
  nvfp4_reason reason = {0};
  nvfp4_weights weights = {.struct_size = sizeof weights};
  const nvfp4_layer_info *info = nvfp4_checkpoint_find_layer(checkpoint, layer);
  assert_non_null(info);
  assert_ok(nvfp4_checkpoint_weights(checkpoint, info, &weights, owned, &reason), reason);
  return weights;
}

/* llama.cpp's converter made the GGUF of the same model: every row of q and k must be found again. */
static void rows_of_a_converted_model_are_found_again(void **state) {
  (void)state;
  static const char *const pairs[][2] = {{"blk.0.attn_q", "model.layers.0.self_attn.q_proj"},
                                         {"blk.1.attn_k", "model.layers.1.self_attn.k_proj"}};
  nvfp4_reason reason = {0};
  nvfp4_checkpoint *gguf = NULL, *hf = NULL;
  assert_ok(nvfp4_checkpoint_open(GOLDEN "gguf_mlx/llama-modelopt-nvfp4.gguf", 0, &gguf, &reason), reason);
  assert_ok(nvfp4_checkpoint_open(GOLDEN "modelopt_nvfp4", 0, &hf, &reason), reason);
  for (size_t i = 0; i < 2; i++) {
    void *owned[2] = {NULL, NULL};
    nvfp4_weights from = weights_of(gguf, pairs[i][0], &owned[0]), to = weights_of(hf, pairs[i][1], &owned[1]);
    assert_int_equal(from.n, to.n);
    for (int64_t row = 0; row < to.n; row++) {
      int64_t source = nvfp4_gguf_source_row(row, 32);
      assert_memory_equal(from.codes + source * from.codes_stride_bytes, to.codes + row * to.codes_stride_bytes, (size_t)to.k / 2);
      assert_memory_equal(from.scales + source * from.scales_stride_bytes, to.scales + row * to.scales_stride_bytes, (size_t)to.k / 16);
    }
    nvfp4_weights_free(owned[0]);
    nvfp4_weights_free(owned[1]);
  }
  nvfp4_checkpoint_close(gguf);
  nvfp4_checkpoint_close(hf);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(names_of_blocks_and_of_the_whole_model),
      cmocka_unit_test(other_names_have_no_partner),
      cmocka_unit_test(rows_go_back_where_they_came_from),
      cmocka_unit_test(rows_of_a_converted_model_are_found_again),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
