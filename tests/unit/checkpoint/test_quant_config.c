/* SPDX-License-Identifier: Apache-2.0 */
#define _POSIX_C_SOURCE 200809L
#include "checkpoint/quant_config.h"

#include <fnmatch.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "support.h"

#define ARRAY(a) (sizeof(a) / sizeof((a)[0]))

static nvfp4_quant_config *parse(const char *config, const char *hf) {
  nvfp4_quant_config *out = NULL;
  nvfp4_reason reason;
  assert_ok(nvfp4_quant_config_parse(config, hf, &out, &reason), reason);
  return out;
}

/* Refused, with `words` in the text, and nothing returned. */
static void refuses(const char *config, const char *hf, const char *words) {
  nvfp4_quant_config *untouched = (nvfp4_quant_config *)(uintptr_t)1, *out = untouched;
  nvfp4_reason reason = {.text = ""};
  assert_int_not_equal(nvfp4_quant_config_parse(config, hf, &out, &reason), NVFP4_OK);
  assert_ptr_equal(out, untouched);
  if (strstr(reason.text, words) == NULL) {
    fail_msg("\"%s\" is not in: %s", words, reason.text);
  }
}

/* The mode of a layer that the config knows. */
static nvfp4_mode mode_of(const nvfp4_quant_config *config, const char *name) {
  nvfp4_quant_scheme scheme;
  nvfp4_reason reason;
  assert_ok(nvfp4_quant_config_match(config, name, &scheme, &reason), reason);
  assert_true(scheme.known);
  assert_string_not_equal(scheme.why, "");
  return scheme.mode;
}

#define MODELOPT(inside) "{\"producer\": {\"name\": \"modelopt\"}, \"quantization\": {" inside "}}"
#define CT(inside) "{\"quantization_config\": {\"quant_method\": \"compressed-tensors\", \"format\": \"nvfp4-pack-quantized\"," inside "}}"
#define FP4(size) "{\"num_bits\": 4, \"type\": \"float\", \"strategy\": \"tensor_group\", \"group_size\": " size "}"
#define FP8 "{\"num_bits\": 8, \"type\": \"float\", \"strategy\": \"tensor\"}"
#define GROUP(targets, weights, inputs) "{\"targets\": [" targets "], \"weights\": " weights ", \"input_activations\": " inputs "}"

static void nothing_said(void **state) {
  (void)state;
  assert_null(parse(NULL, NULL));
  assert_null(parse("{\"model_type\": \"llama\"}", NULL));
  assert_null(parse("{\"quantization_config\": {\"quant_method\": \"awq\", \"bits\": 4}}", NULL));
  assert_null(parse("{\"quantization_config\": null}", NULL));
  nvfp4_quant_scheme scheme = {.known = true};
  assert_int_equal(nvfp4_quant_config_match(NULL, "x", &scheme, NULL), NVFP4_OK);
  assert_false(scheme.known);
  assert_int_equal(nvfp4_quant_config_layout(NULL), NVFP4_LAYOUT_NONE);
}

static void not_json(void **state) {
  (void)state;
  refuses("", NULL, "config.json is not JSON");
  refuses("[]", NULL, "config.json does not hold a JSON object");
  refuses(NULL, "{", "hf_quant_config.json is not JSON");
  refuses("{\"a\": 1, \"a\": 2}", NULL, "duplicate");
  refuses(NULL, "{}", "quantization");
  /* What Python writes though JSON has no words for it; inside a string it is text. */
  nvfp4_quant_config *config = parse(
      "{\"a\": [0.0, Infinity, -Infinity, NaN], \"b\": 1000000000000000019884624838656,"
      " \"quantization_config\": {\"quant_algo\": \"NVFP4\", \"ignore\": [\"NaN\", \"\\\"Infinity\"]}}",
      NULL);
  assert_int_equal(mode_of(config, "NaN"), NVFP4_MODE_UNQUANTISED);
  assert_int_equal(mode_of(config, "\"Infinity"), NVFP4_MODE_UNQUANTISED);
  assert_int_equal(mode_of(config, "0"), NVFP4_MODE_W4A4);
  nvfp4_quant_config_free(config);
}

static void modelopt_algos(void **state) {
  (void)state;
  static const struct {
    const char *algo;
    nvfp4_mode mode;
  } served[] = {{"NVFP4", NVFP4_MODE_W4A4},
                {"nvfp4", NVFP4_MODE_W4A4},
                {"W4A16_NVFP4", NVFP4_MODE_W4A16},
                {"FP8", NVFP4_MODE_FP8},
                {"FP8_PER_CHANNEL_PER_TOKEN", NVFP4_MODE_FP8},
                {"FP8_PB_WO", NVFP4_MODE_FP8}};
  static const char *const refused[][2] = {{"NVFP4_AWQ", "\"NVFP4_AWQ\" is not supported"},
                                           {"NVFP4_SVD", "\"NVFP4_SVD\" is not supported"},
                                           {"W4A8_NVFP4_FP8", "is not supported"},
                                           {"MXFP8", "is not supported"},
                                           {"NVFP5", "\"NVFP5\" is unknown"},
                                           {"", "\"\" is unknown"}};
  char text[256];
  for (size_t i = 0; i < ARRAY(served); i++) {
    snprintf(text, sizeof text, MODELOPT("\"quant_algo\": \"%s\", \"group_size\": null"), served[i].algo);
    nvfp4_quant_config *config = parse(NULL, text);
    assert_int_equal(nvfp4_quant_config_layout(config), NVFP4_LAYOUT_MODELOPT);
    assert_int_equal(mode_of(config, "model.layers.0.mlp.up_proj"), served[i].mode);
    nvfp4_quant_config_free(config);
  }
  for (size_t i = 0; i < ARRAY(refused); i++) {
    snprintf(text, sizeof text, MODELOPT("\"quant_algo\": \"%s\""), refused[i][0]);
    refuses(NULL, text, refused[i][1]);
  }
  refuses(NULL, MODELOPT(""), "quant_algo is missing");
  refuses(NULL, MODELOPT("\"quant_algo\": 4"), "quant_algo is 4");
  refuses(NULL, MODELOPT("\"quant_algo\": \"NVFP4\", \"group_size\": 32"), "group_size is 32; NVFP4 needs 16");
  refuses(NULL, MODELOPT("\"quant_algo\": \"NVFP4\", \"config_groups\": {\"g\": {\"weights\": {\"group_size\": 8}}}"), "group_size is 8");
  refuses(NULL, MODELOPT("\"quant_algo\": \"NVFP4\", \"exclude_modules\": \"lm_head\""), "exclude_modules is \"lm_head\"");
  refuses(NULL, MODELOPT("\"quant_algo\": \"NVFP4\", \"exclude_modules\": [1]"), "exclude_modules: entry 0 is 1");
}

static void modelopt_weight_only_by_its_groups(void **state) {
  (void)state;
  static const struct {
    const char *groups;
    nvfp4_mode mode;
  } cases[] = {{"{}", NVFP4_MODE_W4A4},
               {"{\"a\": {\"input_activations\": null}}", NVFP4_MODE_W4A16},
               {"{\"a\": {}}", NVFP4_MODE_W4A16},
               {"{\"a\": {}, \"b\": {\"input_activations\": {\"num_bits\": 4}}}", NVFP4_MODE_W4A4}};
  for (size_t i = 0; i < ARRAY(cases); i++) {
    char text[256];
    snprintf(text, sizeof text,
             "{\"quantization_config\": {\"quant_method\": \"modelopt\", \"quant_algo\": \"NVFP4\", \"config_groups\": %s}}",
             cases[i].groups);
    nvfp4_quant_config *config = parse(text, NULL);
    assert_int_equal(mode_of(config, "x"), cases[i].mode);
    nvfp4_quant_config_free(config);
  }
}

static void fp8_stays_fp8(void **state) {
  (void)state;
  nvfp4_quant_config *config = parse(
      "{\"quantization_config\": {\"quant_algo\": \"FP8_PB_WO\", \"config_groups\": {\"a\": {\"weights\": {\"group_size\": 128}}}}}", NULL);
  assert_int_equal(mode_of(config, "x"), NVFP4_MODE_FP8);
  nvfp4_quant_config_free(config);
}

static void modelopt_exclusion(void **state) {
  (void)state;
  nvfp4_quant_config *config =
      parse(NULL, MODELOPT("\"quant_algo\": \"NVFP4\", \"exclude_modules\": [\"lm_head\", \"model.layers.1.self_attn*\", \"layers.3\","
                           " \"*.ro?ter\", \"model.layers.[67].*\", \"a[!b]c*\"]"));
  static const char *const excluded[] = {"lm_head",
                                         "model.lm_head",
                                         "model.layers.1.self_attn",
                                         "model.layers.1.self_attn.q_proj",
                                         "layers.3.x",
                                         "model.layers.3.mlp.up_proj",
                                         "x.y.router",
                                         "model.layers.7.mlp",
                                         "axc",
                                         "model.vision_tower.fc1"};
  static const char *const kept[] = {
      "lm_head2", "model.layers.10.self_attn.q_proj", "model.layers.30.mlp.up_proj", "router", "model.layers.5.mlp", "abc", ""};
  for (size_t i = 0; i < ARRAY(excluded); i++) {
    assert_int_equal(mode_of(config, excluded[i]), NVFP4_MODE_UNQUANTISED);
  }
  for (size_t i = 0; i < ARRAY(kept); i++) {
    assert_int_equal(mode_of(config, kept[i]), NVFP4_MODE_W4A4);
  }
  nvfp4_quant_scheme scheme;
  assert_int_equal(nvfp4_quant_config_match(config, "model.layers.1.self_attn.q_proj", &scheme, NULL), NVFP4_OK);
  assert_string_equal(scheme.why, "exclude_modules: model.layers.1.self_attn*");
  nvfp4_quant_config_free(config);
}

/* Word `index` over an alphabet, shortest first; false past words of `longest` letters. */
static bool word(const char *alphabet, size_t index, size_t longest, char *out) {
  size_t letters = strlen(alphabet), length = 1, count = letters;
  for (; index >= count; length++, count *= letters) {
    index -= count;
    if (length == longest) {
      return false;
    }
  }
  for (size_t i = 0; i < length; i++, index /= letters) {
    out[i] = alphabet[index % letters];
  }
  out[length] = '\0';
  return true;
}

static void globs_are_those_of_fnmatch(void **state) {
  (void)state;
  char glob[8], name[8], text[128];
  for (size_t i = 0; word("a.*?", i, 4, glob); i++) {
    if (strpbrk(glob, "*?") == NULL) {
      continue;
    }
    snprintf(text, sizeof text, MODELOPT("\"quant_algo\": \"NVFP4\", \"exclude_modules\": [\"%s\"]"), glob);
    nvfp4_quant_config *config = parse(NULL, text);
    for (size_t j = 0; word("ab.", j, 4, name); j++) {
      bool excluded = mode_of(config, name) == NVFP4_MODE_UNQUANTISED;
      if (excluded != (fnmatch(glob, name, FNM_NOESCAPE) == 0)) {
        fail_msg("glob %s on %s: %d", glob, name, excluded);
      }
    }
    nvfp4_quant_config_free(config);
  }
}

static void modelopt_mixed(void **state) {
  (void)state;
  nvfp4_quant_config *config = parse(
      NULL, MODELOPT("\"quant_algo\": \"MIXED_PRECISION\", \"exclude_modules\": [\"model.layers.2*\"], \"quantized_layers\": {"
                     "\"model.layers.0.self_attn.q_proj\": {\"quant_algo\": \"FP8\"}, \"model.layers.0.mlp.gate_proj\": {\"quant_algo\":"
                     " \"NVFP4\", \"group_size\": 16}, \"model.layers.0.mlp.down_proj\": {\"quant_algo\": \"W4A16_NVFP4\"}, \"lm_head\":"
                     " {\"quant_algo\": \"NVFP4\"}, \"model.layers.2.a\": {\"quant_algo\": \"NVFP4\"},"
                     " \"language_model.model.b\": {\"quant_algo\": \"NVFP4\"}}"));
  assert_int_equal(mode_of(config, "model.layers.0.self_attn.q_proj"), NVFP4_MODE_FP8);
  assert_int_equal(mode_of(config, "model.layers.0.self_attn.qkv_proj"), NVFP4_MODE_FP8);
  assert_int_equal(mode_of(config, "model.layers.0.mlp.gate_proj"), NVFP4_MODE_W4A4);
  assert_int_equal(mode_of(config, "model.layers.0.mlp.gate_up_proj"), NVFP4_MODE_W4A4);
  assert_int_equal(mode_of(config, "model.layers.0.mlp.down_proj"), NVFP4_MODE_W4A16);
  assert_int_equal(mode_of(config, "model.layers.0.mlp.up_proj"), NVFP4_MODE_UNQUANTISED);
  assert_int_equal(mode_of(config, "model.layers.0.mlp"), NVFP4_MODE_UNQUANTISED);
  assert_int_equal(mode_of(config, "language_model.lm_head"), NVFP4_MODE_W4A4);
  assert_int_equal(mode_of(config, "model.language_model.b"), NVFP4_MODE_W4A4);
  assert_int_equal(mode_of(config, "model.layers.2.a"), NVFP4_MODE_UNQUANTISED);
  nvfp4_quant_config_free(config);
  refuses(NULL, MODELOPT("\"quant_algo\": \"MIXED_PRECISION\""), "hf_quant_config.json: quantized_layers is missing");
  refuses(NULL, MODELOPT("\"quant_algo\": \"MIXED_PRECISION\", \"quantized_layers\": {}"), "quantized_layers is empty");
  refuses(NULL, MODELOPT("\"quant_algo\": \"MIXED_PRECISION\", \"quantized_layers\": {\"x\": {}}"), "x: quant_algo is missing");
  refuses(NULL,
          MODELOPT("\"quant_algo\": \"MIXED_PRECISION\", \"quantized_layers\": {\"x\": {\"quant_algo\": \"NVFP4\", \"group_size\": 32}}"),
          "hf_quant_config.json: quantized_layers: x: group_size is 32");
}

static void config_json_counts_first(void **state) {
  (void)state;
  nvfp4_quant_config *config = parse("{\"quantization_config\": {\"quant_method\": \"modelopt\", \"quant_algo\": \"W4A16_NVFP4\"}}",
                                     MODELOPT("\"quant_algo\": \"NVFP4\""));
  assert_int_equal(mode_of(config, "x"), NVFP4_MODE_W4A16);
  nvfp4_quant_config_free(config);
  config = parse("{\"quantization_config\": {\"quant_method\": \"modelopt\", \"quantization\": {\"quant_algo\": \"NVFP4\"}}}", NULL);
  assert_int_equal(mode_of(config, "x"), NVFP4_MODE_W4A4);
  nvfp4_quant_config_free(config);
}

static void compressed_tensors(void **state) {
  (void)state;
  nvfp4_quant_config *config = parse(
      CT("\"ignore\": [\"lm_head\", \"re:.*router$\"], \"config_groups\": {\"a\": " GROUP(
          "\"re:.*attn.*\", \"model.x\"", FP8, FP8) ", \"b\": " GROUP("\"re:.*attn.q_proj\", \"model.y\"", FP4("16"),
                                                                      "null") ", \"c\": " GROUP("\"Linear\"", FP4("16"), FP4("16")) "}"),
      NULL);
  assert_int_equal(nvfp4_quant_config_layout(config), NVFP4_LAYOUT_COMPRESSED_TENSORS);
  assert_int_equal(mode_of(config, "lm_head"), NVFP4_MODE_UNQUANTISED);
  assert_int_equal(mode_of(config, "model.lm_head"), NVFP4_MODE_W4A4); /* names are exact here */
  assert_int_equal(mode_of(config, "a.router"), NVFP4_MODE_UNQUANTISED);
  assert_int_equal(mode_of(config, "a.attn.q_proj"), NVFP4_MODE_FP8); /* the first group that matches */
  assert_int_equal(mode_of(config, "model.x"), NVFP4_MODE_FP8);
  assert_int_equal(mode_of(config, "model.y"), NVFP4_MODE_W4A16);
  assert_int_equal(mode_of(config, "model.y.z"), NVFP4_MODE_W4A4); /* "Linear" comes last */
  nvfp4_quant_config_free(config);

  /* Python's re.match: from the beginning, not to the end; a name before a pattern of a later group. */
  config = parse(
      CT("\"config_groups\": {\"a\": " GROUP("\"n.attn\"", FP4("16"), "null") ", \"b\": " GROUP("\"re:attn\", \"re:n[.]\"", FP8, FP8) "}"),
      NULL);
  assert_int_equal(mode_of(config, "attn.q"), NVFP4_MODE_FP8);
  assert_int_equal(mode_of(config, "x.attn"), NVFP4_MODE_UNQUANTISED);
  assert_int_equal(mode_of(config, "n.attn"), NVFP4_MODE_W4A16);
  assert_int_equal(mode_of(config, "n.q"), NVFP4_MODE_FP8);
  nvfp4_quant_config_free(config);
}

static void compressed_tensors_refusals(void **state) {
  (void)state;
  refuses(CT("\"ignore\": []"), NULL, "config_groups is missing");
  refuses(CT("\"config_groups\": {\"a\": 1}"), NULL, "config.json: config_groups.a: it is not an object");
  refuses(CT("\"config_groups\": {\"a\": " GROUP("\"Linear\"", FP4("32"), "null") "}"), NULL, "config_groups.a: group_size is 32");
  refuses(CT("\"config_groups\": {\"a\": " GROUP("\"Linear\"", FP4("null"), "null") "}"), NULL, "weights.group_size is null");
  refuses(CT("\"config_groups\": {\"a\": " GROUP("\"Linear\"", FP4("16"), FP8) "}"), NULL, "input_activations have num_bits 8");
  refuses(CT("\"config_groups\": {\"a\": " GROUP("1", FP4("16"), "null") "}"), NULL, "targets: entry 0 is 1");
  refuses(
      CT("\"config_groups\": {\"a\": {\"weights\": {\"num_bits\": 4, \"type\": \"float\", \"group_size\": 16, \"strategy\": \"group\"}}}"),
      NULL, "strategy is \"group\"");
  refuses(CT("\"config_groups\": {\"a\": {\"weights\": {\"num_bits\": 4, \"type\": \"float\", \"group_size\": 16, \"symmetric\": false}}}"),
          NULL, "no zero points");
  refuses(CT("\"config_groups\": {\"a\": {\"format\": \"x\", \"weights\": " FP4("16") "}}"), NULL, "format is \"x\"");
  refuses(CT("\"transform_config\": {\"r\": {}}, \"config_groups\": {}"), NULL, "transform_config");
  refuses(CT("\"ignore\": [\"re:[a-\"], \"config_groups\": {}"), NULL, "config.json: ignore: broken pattern \"re:[a-\"");
}

static void patterns_end_in_time(void **state) {
  (void)state;
  static const char *const patterns[] = {"re:(([a-z._]+)+)+[0-9]$", "re:(a|a)*b", "re:(.*)*x", "re:(?:a*)*(?:a*)*(?:a*)*b",
                                         "re:^(\\\\w+\\\\.?)+!"};
  char name[256], text[256];
  memset(name, 'a', sizeof name - 1);
  name[sizeof name - 1] = '\0';
  for (size_t i = 0; i < ARRAY(patterns); i++) {
    snprintf(text, sizeof text, CT("\"ignore\": [\"%s\"], \"config_groups\": {}"), patterns[i]);
    nvfp4_quant_config *config = parse(text, NULL);
    nvfp4_quant_scheme scheme;
    nvfp4_reason reason = {.text = ""};
    clock_t begin = clock();
    if (nvfp4_quant_config_match(config, name, &scheme, &reason) != NVFP4_OK) {
      assert_non_null(strstr(reason.text, "limit"));
      assert_non_null(strstr(reason.text, "re:"));
    }
    assert_true((double)(clock() - begin) < 1.0 * CLOCKS_PER_SEC);
    nvfp4_quant_config_free(config);
  }
  char *dots = malloc(1 << 20);
  assert_non_null(dots);
  memset(dots, '.', (1 << 20) - 1);
  dots[(1 << 20) - 1] = '\0';
  nvfp4_quant_config *config = parse(NULL, MODELOPT("\"quant_algo\": \"NVFP4\", \"exclude_modules\": [\"a\"]"));
  clock_t begin = clock();
  assert_int_equal(mode_of(config, dots), NVFP4_MODE_W4A4);
  assert_true((double)(clock() - begin) < 1.0 * CLOCKS_PER_SEC);
  nvfp4_quant_config_free(config);
  free(dots);
}

static void mlx(void **state) {
  (void)state;
  nvfp4_quant_config *config = parse(
      "{\"quantization\": {\"group_size\": 16, \"bits\": 4, \"mode\": \"nvfp4\", \"lm_head\": false,"
      " \"a\": {\"group_size\": 64, \"bits\": 4, \"mode\": \"affine\"}}}",
      NULL);
  assert_int_equal(nvfp4_quant_config_layout(config), NVFP4_LAYOUT_MLX);
  assert_int_equal(mode_of(config, "x"), NVFP4_MODE_W4A16);
  assert_int_equal(mode_of(config, "lm_head"), NVFP4_MODE_UNQUANTISED);
  assert_int_equal(mode_of(config, "a"), NVFP4_MODE_UNQUANTISED);
  nvfp4_quant_config_free(config);
  config = parse("{\"quantization_config\": {\"group_size\": 64, \"bits\": 4}}", NULL);
  assert_int_equal(mode_of(config, "x"), NVFP4_MODE_UNQUANTISED);
  nvfp4_quant_config_free(config);
  refuses("{\"quantization\": {\"group_size\": 32, \"bits\": 4, \"mode\": \"nvfp4\"}}", NULL, "group_size is 32");
}

static void rows_of_q_k_v(void **state) {
  (void)state;
  static const struct {
    const char *config;
    bool known;
    int64_t q, kv;
  } cases[] = {{"{\"num_attention_heads\": 8, \"num_key_value_heads\": 2, \"head_dim\": 32}", true, 256, 64},
               {"{\"num_attention_heads\": 8, \"hidden_size\": 128}", true, 128, 128},
               {"{\"text_config\": {\"num_attention_heads\": 4, \"num_key_value_heads\": 1, \"head_dim\": 8}}", true, 32, 8},
               {"{\"num_attention_heads\": 3, \"hidden_size\": 100}", false, 0, 0},
               {"{\"num_attention_heads\": 1e300, \"head_dim\": 1e300}", false, 0, 0},
               {"{\"num_attention_heads\": -8, \"head_dim\": 32}", false, 0, 0},
               {"{\"num_attention_heads\": \"8\", \"head_dim\": 32}", false, 0, 0},
               {"{}", false, 0, 0},
               {"x", false, 0, 0},
               {NULL, false, 0, 0}};
  for (size_t i = 0; i < ARRAY(cases); i++) {
    int64_t rows[3] = {0};
    assert_int_equal(nvfp4_config_qkv_rows(cases[i].config, rows), cases[i].known);
    assert_int_equal(rows[0], cases[i].q);
    assert_int_equal(rows[1], cases[i].kv);
    assert_int_equal(rows[2], cases[i].kv);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(nothing_said),
      cmocka_unit_test(not_json),
      cmocka_unit_test(modelopt_algos),
      cmocka_unit_test(modelopt_weight_only_by_its_groups),
      cmocka_unit_test(fp8_stays_fp8),
      cmocka_unit_test(modelopt_exclusion),
      cmocka_unit_test(globs_are_those_of_fnmatch),
      cmocka_unit_test(modelopt_mixed),
      cmocka_unit_test(config_json_counts_first),
      cmocka_unit_test(compressed_tensors),
      cmocka_unit_test(compressed_tensors_refusals),
      cmocka_unit_test(patterns_end_in_time),
      cmocka_unit_test(mlx),
      cmocka_unit_test(rows_of_q_k_v),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
