/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Faults planted in the weights of a small model whose channels have sizes of their own, as those of trained models do: each is suspected, nothing else is, and nothing is of
 * the sound file or of random weights.
 */
#define _XOPEN_SOURCE 700 /* mkdtemp */
#include <math.h>
#include <nvfp4/inspect.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "checkpoint/safetensors_writer.h"
#include "format/scale_layout.h"
#include "format/weight.h"
#include "support.h"

enum { N = 256, K = 512, BLOCKS = K / NVFP4_BLOCK, LAYERS = 2 };

typedef enum fault { SOUND, SWAPPED, HALVES, SWIZZLED, INVERTED, BAD_SCALE, LOST } fault;

typedef struct model {
  uint8_t codes[LAYERS][N * K / 2], scales[LAYERS][N * BLOCKS]; /* up [N, K], and down, whose first K rows and N columns count */
  float global[LAYERS], norm[K];
} model;

/* Layer 0 is fed by the norm, layer 1 ([K, N]) by the rows of layer 0. */
static void make(model *m, bool structured) {
  test_random random = {23};
  float rows[N], w[16];
  for (int k = 0; k < K; k++) {
    m->norm[k] = structured ? expf(0.5f * test_random_gauss(&random)) : 1;
  }
  for (int n = 0; n < N; n++) {
    rows[n] = structured ? expf(0.5f * test_random_gauss(&random)) : 1;
  }
  for (int layer = 0; layer < LAYERS; layer++) {
    m->global[layer] = 0.5f / 2688;
    for (int i = 0; i < N * BLOCKS; i++) {
      for (int j = 0; j < 16; j++) {
        int at = 16 * i + j;
        float size = layer == 0 ? rows[at / K] * m->norm[at % K] : m->norm[at / N] * rows[at % N];
        w[j] = 0.02f * size * test_random_gauss(&random);
      }
      m->scales[layer][i] = nvfp4_quantise_block(w, NULL, m->global[layer], NVFP4_SCALES_RTN, m->codes[layer] + 8 * i, NULL);
    }
  }
}

static void plant(model *m, fault what) {
  static uint8_t copy[N * K / 2];
  for (int layer = 0; layer < LAYERS; layer++) {
    uint8_t *codes = m->codes[layer], *scales = m->scales[layer];
    memcpy(copy, codes, sizeof copy);
    for (int i = 0; i < N * K / 2 && (what == SWAPPED || what == HALVES); i++) {
      int block = i / 8 * 8, t = i % 8; /* element e of a block is in byte e / 2 */
      int low = copy[block + t / 2] >> (t % 2 * 4) & 15, high = copy[block + 4 + t / 2] >> (t % 2 * 4) & 15;
      codes[i] = what == SWAPPED ? (uint8_t)(copy[i] >> 4 | copy[i] << 4) : (uint8_t)(low | high << 4);
    }
    if (what == SWIZZLED) {
      int rows = layer == 0 ? N : K, columns = N * BLOCKS / rows;
      nvfp4_scales_from_linear(NVFP4_SCALES_128X4, scales, columns, rows, columns, copy);
      memcpy(scales, copy, N * BLOCKS);
    } else if (what == INVERTED) {
      m->global[layer] = 1 / m->global[layer];
    } else if (what == BAD_SCALE) {
      scales[77] = 0x7F;
    } else if (what == LOST) {
      scales[77] = scales[78] = 0;
    }
  }
}

typedef struct tensor {
  const char *name;
  nvfp4_dtype dtype;
  int rank;
  int64_t shape[2];
  const void *data;
  size_t bytes;
} tensor;

static char folder[] = "/tmp/nvfp4-inspect-XXXXXX", path[64];

static void save(const tensor *tensors, size_t count) {
  nvfp4_reason reason = {0};
  nvfp4_safetensors_writer *writer;
  assert_ok(nvfp4_safetensors_writer_create(path, &writer, &reason), reason);
  for (size_t i = 0; i < count; i++) {
    assert_ok(nvfp4_safetensors_writer_declare(writer, tensors[i].name, tensors[i].dtype, tensors[i].rank, tensors[i].shape, &reason),
              reason);
  }
  assert_ok(nvfp4_safetensors_writer_begin(writer, &reason), reason);
  for (size_t i = 0; i < count; i++) {
    assert_ok(nvfp4_safetensors_writer_write(writer, tensors[i].data, tensors[i].bytes, &reason), reason);
  }
  assert_ok(nvfp4_safetensors_writer_finish(writer, &reason), reason);
  nvfp4_safetensors_writer_destroy(writer);
}

static void save_model(const model *m) {
  const tensor tensors[] = {
      {"model.layers.0.mlp.up_proj.weight", NVFP4_DTYPE_U8, 2, {N, K / 2}, m->codes[0], N * K / 2},
      {"model.layers.0.mlp.up_proj.weight_scale", NVFP4_DTYPE_F8_E4M3, 2, {N, BLOCKS}, m->scales[0], N * BLOCKS},
      {"model.layers.0.mlp.up_proj.weight_scale_2", NVFP4_DTYPE_F32, 0, {0}, &m->global[0], 4},
      {"model.layers.0.mlp.down_proj.weight", NVFP4_DTYPE_U8, 2, {K, N / 2}, m->codes[1], N * K / 2},
      {"model.layers.0.mlp.down_proj.weight_scale", NVFP4_DTYPE_F8_E4M3, 2, {K, N / NVFP4_BLOCK}, m->scales[1], N * BLOCKS},
      {"model.layers.0.mlp.down_proj.weight_scale_2", NVFP4_DTYPE_F32, 0, {0}, &m->global[1], 4},
      {"model.layers.0.post_attention_layernorm.weight", NVFP4_DTYPE_F32, 1, {K}, m->norm, sizeof m->norm},
  };
  save(tensors, sizeof tensors / sizeof tensors[0]);
}

/* Looks at a layer of the saved file, with 1 and 3 threads. */
static void look(const char *layer, nvfp4_layer_inspection *out) {
  nvfp4_reason reason = {0};
  nvfp4_layer_inspection again;
  nvfp4_checkpoint *checkpoint;
  assert_ok(nvfp4_checkpoint_open(path, NVFP4_OPEN_SKIP_SCALES, &checkpoint, &reason), reason);
  const nvfp4_layer_info *info = nvfp4_checkpoint_find_layer(checkpoint, layer);
  assert_non_null(info);
  for (int threads = 1; threads <= 3; threads += 2) {
    nvfp4_options options = {.struct_size = sizeof options, .threads = threads};
    nvfp4_context *context;
    assert_ok(nvfp4_context_create(&options, &context, &reason), reason);
    memset(threads == 1 ? out : &again, 0, sizeof again);
    assert_ok(nvfp4_inspect_layer(context, checkpoint, info, threads == 1 ? out : &again, &reason), reason);
    nvfp4_context_destroy(context);
  }
  assert_memory_equal(out, &again, sizeof again);
  nvfp4_checkpoint_close(checkpoint);
}

static model m;

static void faults_are_suspected(void **state) {
  (void)state;
  static const struct {
    fault what;
    uint32_t suspicion;
    const char *says;
  } cases[] = {{SOUND, 0, ""},
               {SWAPPED, NVFP4_SUSPICION_NIBBLES_SWAPPED, "the nibbles of each byte look swapped"},
               {HALVES, NVFP4_SUSPICION_NIBBLES_HALVES, "as in GGUF"},
               {SWIZZLED, NVFP4_SUSPICION_SWIZZLED, "the block scales look swizzled"},
               {INVERTED, NVFP4_SUSPICION_GLOBAL_INVERTED, "looks inverted: as a multiplier, 5376"},
               {BAD_SCALE, NVFP4_SUSPICION_BAD_SCALES, "1 of 8192 block scales are NaN or negative"},
               {LOST, 0, ""}};
  static const char *const layers[] = {"model.layers.0.mlp.up_proj", "model.layers.0.mlp.down_proj"};
  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
    make(&m, true);
    plant(&m, cases[i].what);
    save_model(&m);
    for (int layer = 0; layer < LAYERS; layer++) {
      nvfp4_layer_inspection found;
      look(layers[layer], &found);
      if (found.suspicions != cases[i].suspicion || strstr(found.text, cases[i].says) == NULL) {
        fail_msg("fault %d, layer %d: suspects 0x%x: %s", (int)cases[i].what, layer, found.suspicions, found.text);
      }
      assert_string_equal(found.nibbles.reference,
                          layer == 0 ? "model.layers.0.post_attention_layernorm.weight" : "the rows of model.layers.0.mlp.up_proj");
      assert_int_equal(found.lost, cases[i].what == LOST ? 2 : 0);
    }
  }
}

/* Comfy's scales are swizzled and its nibbles swapped: sound as they should be, suspected if the scales are linear. */
static void comfy_with_linear_scales(void **state) {
  (void)state;
  static uint8_t codes[N * K / 2], scales[N * BLOCKS];
  static const char marker[] = "{\"format\": \"nvfp4\"}";
  make(&m, true);
  for (int i = 0; i < N * K / 2; i++) {
    codes[i] = (uint8_t)(m.codes[0][i] >> 4 | m.codes[0][i] << 4);
  }
  for (int linear = 0; linear < 2; linear++) {
    nvfp4_scales_from_linear(NVFP4_SCALES_128X4, m.scales[0], BLOCKS, N, BLOCKS, scales);
    const tensor tensors[] = {{"a.weight", NVFP4_DTYPE_U8, 2, {N, K / 2}, codes, sizeof codes},
                              {"a.weight_scale", NVFP4_DTYPE_F8_E4M3, 2, {N, BLOCKS}, linear ? m.scales[0] : scales, sizeof scales},
                              {"a.weight_scale_2", NVFP4_DTYPE_F32, 0, {0}, &m.global[0], 4},
                              {"a.comfy_quant", NVFP4_DTYPE_U8, 1, {sizeof marker - 1}, marker, sizeof marker - 1}};
    save(tensors, 4);
    nvfp4_layer_inspection found;
    look("a", &found);
    assert_int_equal(found.suspicions, linear ? NVFP4_SUSPICION_UNSWIZZLED : 0);
    assert_non_null(strstr(found.text, linear ? "look linear where the format has them swizzled" : ""));
  }
}

/* Random weights look alike in every order. */
static void nothing_is_said_of_random_weights(void **state) {
  (void)state;
  for (fault what = SOUND; what <= SWIZZLED; what++) {
    nvfp4_layer_inspection found;
    make(&m, false);
    plant(&m, what);
    save_model(&m);
    look("model.layers.0.mlp.up_proj", &found);
    assert_int_equal(found.suspicions, 0);
    assert_string_equal(found.text, "");
  }
}

static void sizes_are_those_of_the_weights(void **state) {
  (void)state;
  make(&m, true);
  save_model(&m);
  nvfp4_layer_inspection found;
  look("model.layers.0.mlp.up_proj", &found);
  double squares = 0, largest = 0;
  for (int i = 0; i < N * K; i++) {
    uint8_t code = (uint8_t)(m.codes[0][i / 2] >> (i % 2 * 4) & 15);
    double w = (double)nvfp4_dequantise(code, m.scales[0][i / 16], (nvfp4_global){1, NVFP4_GLOBAL_MULTIPLIER}) * (double)m.global[0];
    squares += w * w;
    largest = fabs(w) > largest ? fabs(w) : largest;
  }
  assert_true(fabs(found.rms - sqrt(squares / (N * K))) <= 1e-12 * found.rms);
  assert_true(fabs(found.largest - largest) <= 1e-12 * largest);
}

static void fp8_layers(void **state) {
  (void)state;
  float weight_scale = 0.5f, input_scale = 0.25f;
  static uint8_t bytes[32 * 64];
  const tensor tensors[] = {{"a.weight", NVFP4_DTYPE_F8_E4M3, 2, {32, 64}, bytes, sizeof bytes},
                            {"a.weight_scale", NVFP4_DTYPE_F32, 0, {0}, &weight_scale, 4},
                            {"a.input_scale", NVFP4_DTYPE_F32, 0, {0}, &input_scale, 4}};
  nvfp4_layer_inspection found;
  for (int bad = 0; bad < 3; bad++) {
    weight_scale = bad == 1 ? NAN : 0.5f;
    bytes[100] = bad == 2 ? 0xFF : 0x38;
    save(tensors, 3);
    look("a", &found);
    assert_int_equal(found.suspicions, bad != 0 ? NVFP4_SUSPICION_BAD_FACTOR : 0);
    assert_non_null(strstr(found.text, bad == 0 ? "" : bad == 1 ? "weight_scale nan" : "1 weights are NaN"));
  }
}

static void names_and_arguments(void **state) {
  (void)state;
  assert_string_equal(nvfp4_suspicion_name(NVFP4_SUSPICION_NIBBLES_HALVES), "nibbles_halves");
  assert_string_equal(nvfp4_suspicion_name(NVFP4_SUSPICION_BAD_FACTOR), "bad_factor");
  assert_null(nvfp4_suspicion_name(1 << 7));
  assert_null(nvfp4_suspicion_name(3));
  assert_int_equal(nvfp4_inspect_layer(NULL, NULL, NULL, NULL, NULL), NVFP4_E_ARG);
}

static int setup(void **state) {
  (void)state;
  assert_non_null(mkdtemp(folder));
  snprintf(path, sizeof path, "%s/model.safetensors", folder);
  return 0;
}

static int teardown(void **state) {
  (void)state;
  unlink(path);
  return rmdir(folder);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(faults_are_suspected),
                                     cmocka_unit_test(comfy_with_linear_scales),
                                     cmocka_unit_test(nothing_is_said_of_random_weights),
                                     cmocka_unit_test(sizes_are_those_of_the_weights),
                                     cmocka_unit_test(fp8_layers),
                                     cmocka_unit_test(names_and_arguments)};
  return cmocka_run_group_tests(tests, setup, teardown);
}
