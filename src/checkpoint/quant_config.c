/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Both dialects, and MLX's, become the same thing: a list of what is ignored, a list of targets with their modes, and what holds for all other layers.
 *
 *   ModelOpt            ignore = exclude_modules or ignore (names, globs); targets = quantized_layers; otherwise = quant_algo
 *   compressed-tensors  ignore = ignore; targets = config_groups.*.targets (names, "re:", "Linear"); otherwise: unquantised
 *   MLX                 targets = entries of "quantization" that are named after layers; otherwise = its "mode"
 */
#define _POSIX_C_SOURCE 200809L
#define PCRE2_CODE_UNIT_WIDTH 8

#include "checkpoint/quant_config.h"

#include <ctype.h>
#include <jansson.h>
#include <pcre2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/reason.h"
#include "checkpoint/config_text.h"

/* Matching a layer's name takes tens to hundreds of steps. An exponential pattern runs out of these in some milliseconds. */
#define MATCH_LIMIT 100000
#define MAX_PATTERN_BYTES 4096

/* Names deeper than this are compared by their first segments only: bounds the work for a name made of dots. */
#define MAX_SEGMENTS 64

typedef struct rule {
  char *text;       /* as the config has it */
  pcre2_code *code; /* NULL: an exact name */
  nvfp4_mode mode;  /* of targets */
  char what[48];    /* "NVFP4", "config group group_0": where the mode comes from */
  size_t order;     /* place in the file: the first that matches counts */
} rule;

typedef struct rule_list {
  const char *key; /* "ignore", "exclude_modules", ...: for messages */
  rule *rules;     /* exact names first, sorted; then patterns in their order */
  size_t count, capacity;
  size_t names;
  bool linear; /* the class name "Linear" is in the list: it matches what nothing else matches */
  rule linear_rule;
} rule_list;

struct nvfp4_quant_config {
  nvfp4_layout_kind layout;
  rule_list ignore, targets;
  nvfp4_mode otherwise;
  char otherwise_why[64];
};

/* ---------------------------------------------------------------------------------------------------------------------- JSON */

/* A JSON object; NULL with a reason if it is none. */
static nvfp4_status load_object(const char *text, const char *file, json_t **out, nvfp4_reason *reason) {
  json_error_t error;
  json_t *root = nvfp4_config_load(text, &error);
  if (root == NULL) {
    return nvfp4_reject(reason, NVFP4_E_FORMAT, "%s is not JSON: line %d, column %d: %s", file, error.line, error.column, error.text);
  }
  if (!json_is_object(root)) {
    json_decref(root);
    return nvfp4_reject(reason, NVFP4_E_FORMAT, "%s does not hold a JSON object", file);
  }
  *out = root;
  return NVFP4_OK;
}

/* The value as text, for messages. */
static const char *describe(const json_t *value, char text[64]) {
  if (json_is_string(value)) {
    snprintf(text, 64, "\"%.50s\"", json_string_value(value));
  } else if (json_is_number(value)) {
    snprintf(text, 64, "%g", json_number_value(value));
  } else {
    snprintf(text, 64, "%s",
             value == NULL            ? "missing"
             : json_is_null(value)    ? "null"
             : json_is_boolean(value) ? (json_is_true(value) ? "true" : "false")
             : json_is_object(value)  ? "an object"
                                      : "an array");
  }
  return text;
}

static bool is_nothing(const json_t *value) { return value == NULL || json_is_null(value); }

/* A group_size that is there must be 16. */
static nvfp4_status check_group_size(const json_t *object, nvfp4_reason *reason) {
  const json_t *size = json_object_get(object, "group_size");
  if (is_nothing(size) || (json_is_number(size) && json_number_value(size) == NVFP4_BLOCK)) {
    return NVFP4_OK;
  }
  char text[64];
  return nvfp4_reject(reason, NVFP4_E_UNSUPPORTED, "group_size is %s; NVFP4 needs %d", describe(size, text), NVFP4_BLOCK);
}

/* --------------------------------------------------------------------------------------------------------------------- rules */

static nvfp4_status compile(const char *expression, uint32_t options, const char *key, const char *shown, pcre2_code **out,
                            nvfp4_reason *reason) {
  size_t length = strlen(expression);
  if (length > MAX_PATTERN_BYTES) {
    return nvfp4_reject(reason, NVFP4_E_FORMAT, "%s: pattern \"%.60s...\" has %zu bytes; the limit is %d", key, shown, length,
                        MAX_PATTERN_BYTES);
  }
  int code;
  PCRE2_SIZE offset;
  *out = pcre2_compile((PCRE2_SPTR)expression, length, options | PCRE2_ANCHORED | PCRE2_NEVER_UTF | PCRE2_NEVER_BACKSLASH_C, &code, &offset,
                       NULL);
  if (*out == NULL) {
    PCRE2_UCHAR message[128];
    pcre2_get_error_message(code, message, sizeof message);
    return nvfp4_reject(reason, NVFP4_E_FORMAT, "%s: broken pattern \"%.200s\": %s at offset %zu", key, shown, (const char *)message,
                        (size_t)offset);
  }
  return NVFP4_OK;
}

/* fnmatch's language ('*' crosses dots) as a regular expression; the caller frees. */
static char *glob_to_regex(const char *glob) {
  char *regex = malloc(2 * strlen(glob) + 1);
  if (regex == NULL) {
    return NULL;
  }
  char *out = regex;
  for (const char *p = glob; *p != '\0'; p++) {
    const char *close = *p == '[' && p[1] != '\0' ? strchr(p + 2, ']') : NULL;
    if (*p == '*') {
      *out++ = '.';
      *out++ = '*';
    } else if (*p == '?') {
      *out++ = '.';
    } else if (close != NULL) {
      *out++ = '[';
      p++;
      if (*p == '!') {
        *out++ = '^';
        p++;
      }
      for (; p < close; p++) {
        if (*p == '\\' || *p == '[' || *p == '^') {
          *out++ = '\\';
        }
        *out++ = *p;
      }
      *out++ = ']';
    } else {
      if (!isalnum((unsigned char)*p) && *p != '_' && (unsigned char)*p < 0x80) {
        *out++ = '\\';
      }
      *out++ = *p;
    }
  }
  *out = '\0';
  return regex;
}

typedef enum rule_syntax { SYNTAX_NAME, SYNTAX_MODELOPT, SYNTAX_COMPRESSED_TENSORS } rule_syntax;

static nvfp4_status add_rule(rule_list *list, rule_syntax syntax, const char *text, nvfp4_mode mode, const char *what,
                             nvfp4_reason *reason) {
  if (list->count == list->capacity) {
    size_t capacity = list->capacity != 0 ? 2 * list->capacity : 16;
    rule *rules = realloc(list->rules, capacity * sizeof *rules);
    if (rules == NULL) {
      return nvfp4_reject(reason, NVFP4_E_NOMEM, "%s: no memory for %zu entries", list->key, capacity);
    }
    list->rules = rules;
    list->capacity = capacity;
  }
  rule added = {.mode = mode, .order = list->count};
  snprintf(added.what, sizeof added.what, "%s", what);
  if (syntax == SYNTAX_COMPRESSED_TENSORS && strcmp(text, "Linear") == 0) {
    if (!list->linear) {
      list->linear_rule = added;
      list->linear = true;
    }
    return NVFP4_OK;
  }
  if (syntax == SYNTAX_COMPRESSED_TENSORS && strncmp(text, "re:", 3) == 0) {
    NVFP4_TRY(compile(text + 3, 0, list->key, text, &added.code, reason));
  } else if (syntax == SYNTAX_MODELOPT && strpbrk(text, "*?[") != NULL) {
    char *regex = glob_to_regex(text);
    if (regex == NULL) {
      return nvfp4_reject(reason, NVFP4_E_NOMEM, "%s: no memory for a pattern of %zu bytes", list->key, strlen(text));
    }
    nvfp4_status status = compile(regex, PCRE2_DOTALL | PCRE2_ENDANCHORED, list->key, text, &added.code, reason);
    free(regex);
    NVFP4_TRY(status);
  }
  added.text = strdup(text);
  if (added.text == NULL) {
    pcre2_code_free(added.code);
    return nvfp4_reject(reason, NVFP4_E_NOMEM, "%s: no memory for an entry of %zu bytes", list->key, strlen(text));
  }
  list->rules[list->count++] = added;
  return NVFP4_OK;
}

static nvfp4_status add_strings(rule_list *list, rule_syntax syntax, const json_t *array, nvfp4_mode mode, const char *what,
                                nvfp4_reason *reason) {
  if (is_nothing(array)) {
    return NVFP4_OK;
  }
  char text[64];
  if (!json_is_array(array)) {
    return nvfp4_reject(reason, NVFP4_E_FORMAT, "%s is %s; needs an array of strings", list->key, describe(array, text));
  }
  size_t index;
  json_t *entry;
  json_array_foreach(array, index, entry) {
    if (!json_is_string(entry)) {
      return nvfp4_reject(reason, NVFP4_E_FORMAT, "%s: entry %zu is %s; needs a string", list->key, index, describe(entry, text));
    }
    NVFP4_TRY(add_rule(list, syntax, json_string_value(entry), mode, what, reason));
  }
  return NVFP4_OK;
}

static int compare_rules(const void *a, const void *b) {
  const rule *x = a, *y = b;
  if ((x->code == NULL) != (y->code == NULL)) {
    return x->code == NULL ? -1 : 1;
  }
  int names = x->code == NULL ? strcmp(x->text, y->text) : 0;
  return names != 0 ? names : (x->order > y->order) - (x->order < y->order);
}

static void sort_rules(rule_list *list) {
  if (list->count > 0) {
    qsort(list->rules, list->count, sizeof *list->rules, compare_rules);
  }
  for (list->names = 0; list->names < list->count && list->rules[list->names].code == NULL; list->names++) {
  }
}

/* The first exact rule that is name[0, length). */
static const rule *find_name(const rule_list *list, const char *name, size_t length) {
  size_t low = 0, high = list->names;
  while (low < high) {
    size_t middle = low + (high - low) / 2;
    const char *text = list->rules[middle].text;
    int order = strncmp(text, name, length);
    if (order == 0 && text[length] != '\0') {
      order = 1;
    }
    if (order < 0) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  const rule *found = low < list->names ? &list->rules[low] : NULL;
  return found != NULL && strncmp(found->text, name, length) == 0 && found->text[length] == '\0' ? found : NULL;
}

/* ModelOpt excludes a layer if an entry is part of its name. Parts here are whole segments: "layers.1" is not in "layers.10.mlp". */
static const rule *find_segments(const rule_list *list, const char *name) {
  const char *starts[MAX_SEGMENTS], *ends[MAX_SEGMENTS];
  size_t count = 0;
  for (const char *p = name; p != NULL && count < MAX_SEGMENTS; count++) {
    const char *dot = strchr(p, '.');
    starts[count] = p;
    ends[count] = dot != NULL ? dot : p + strlen(p);
    p = dot != NULL ? dot + 1 : NULL;
  }
  for (size_t first = 0; first < count; first++) {
    for (size_t last = count; last > first; last--) {
      const rule *found = find_name(list, starts[first], (size_t)(ends[last - 1] - starts[first]));
      if (found != NULL) {
        return found;
      }
    }
  }
  return NULL;
}

/* The first pattern before `end` (of the config's order) that matches. */
static nvfp4_status find_pattern(const rule_list *list, const char *name, size_t end, const rule **out, nvfp4_reason *reason) {
  *out = NULL;
  if (list->names == list->count) {
    return NVFP4_OK;
  }
  pcre2_match_context *context = pcre2_match_context_create(NULL);
  pcre2_match_data *data = pcre2_match_data_create(1, NULL);
  if (context == NULL || data == NULL) {
    pcre2_match_data_free(data);
    pcre2_match_context_free(context);
    return nvfp4_reject(reason, NVFP4_E_NOMEM, "%s: no memory to match \"%s\"", list->key, name);
  }
  pcre2_set_match_limit(context, MATCH_LIMIT);
  nvfp4_status status = NVFP4_OK;
  for (size_t i = list->names; i < list->count && list->rules[i].order < end && *out == NULL && status == NVFP4_OK; i++) {
    int result = pcre2_match(list->rules[i].code, (PCRE2_SPTR)name, strlen(name), 0, 0, data, context);
    if (result >= 0) {
      *out = &list->rules[i];
    } else if (result != PCRE2_ERROR_NOMATCH) {
      PCRE2_UCHAR message[128];
      pcre2_get_error_message(result, message, sizeof message);
      status = nvfp4_reject(reason, NVFP4_E_FORMAT, "%s: pattern \"%.200s\" on \"%.100s\": %s; simplify it", list->key, list->rules[i].text,
                            name, (const char *)message);
    }
  }
  pcre2_match_data_free(data);
  pcre2_match_context_free(context);
  return status;
}

static void free_rules(rule_list *list) {
  for (size_t i = 0; i < list->count; i++) {
    free(list->rules[i].text);
    pcre2_code_free(list->rules[i].code);
  }
  free(list->rules);
}

/* ------------------------------------------------------------------------------------------------------------------ ModelOpt */

/* The algorithms that ModelOpt's exporter can name. */
static nvfp4_status mode_of_algo(const char *algo, nvfp4_mode *out, nvfp4_reason *reason) {
  static const struct {
    const char *name;
    nvfp4_mode mode;
  } served[] = {{"NVFP4", NVFP4_MODE_W4A4},
                {"W4A16_NVFP4", NVFP4_MODE_W4A16},
                {"FP8", NVFP4_MODE_FP8},
                {"FP8_PER_CHANNEL_PER_TOKEN", NVFP4_MODE_FP8},
                {"FP8_PB_WO", NVFP4_MODE_FP8}};
  static const char *const known[] = {"NVFP4_AWQ",           "NVFP4_SVD", "W4A8_NVFP4_FP8", "MXFP8",    "MXFP4",
                                      "W4A8_MXFP4_FP8",      "W4A8_AWQ",  "W4A16_AWQ",      "INT4_AWQ", "INT8_SQ",
                                      "W8A8_SQ_PER_CHANNEL", "W8A16"};
  for (size_t i = 0; i < sizeof served / sizeof served[0]; i++) {
    if (strcasecmp(algo, served[i].name) == 0) {
      *out = served[i].mode;
      return NVFP4_OK;
    }
  }
  const char *verdict = "is unknown";
  for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
    if (strcasecmp(algo, known[i]) == 0) {
      verdict = "is not supported";
    }
  }
  return nvfp4_reject(reason, NVFP4_E_UNSUPPORTED, "quant_algo \"%.60s\" %s; needs NVFP4, W4A16_NVFP4, FP8 or MIXED_PRECISION", algo,
                      verdict);
}

static nvfp4_status read_quantized_layer(nvfp4_quant_config *config, const char *name, const json_t *entry, nvfp4_reason *reason) {
  const char *algo = json_string_value(json_object_get(entry, "quant_algo"));
  if (algo == NULL) {
    return nvfp4_reject(reason, NVFP4_E_FORMAT, "quant_algo is missing");
  }
  nvfp4_mode mode = NVFP4_MODE_UNQUANTISED;
  NVFP4_TRY(mode_of_algo(algo, &mode, reason));
  if (mode != NVFP4_MODE_FP8) {
    NVFP4_TRY(check_group_size(entry, reason));
  }
  return add_rule(&config->targets, SYNTAX_NAME, name, mode, algo, reason);
}

static nvfp4_status read_quantized_layers(nvfp4_quant_config *config, json_t *layers, nvfp4_reason *reason) {
  if (!json_is_object(layers) || json_object_size(layers) == 0) {
    char text[64];
    return nvfp4_reject(reason, NVFP4_E_FORMAT, "quantized_layers is %s; MIXED_PRECISION needs an object with an entry a layer",
                        json_is_object(layers) ? "empty" : describe(layers, text));
  }
  const char *name;
  json_t *entry;
  json_object_foreach(layers, name, entry) {
    nvfp4_status status = read_quantized_layer(config, name, entry, reason);
    if (status != NVFP4_OK) {
      return nvfp4_reason_prefix(reason, status, "quantized_layers: %.150s: ", name);
    }
  }
  return NVFP4_OK;
}

/* config_groups of which none has input_activations: weight-only, whatever quant_algo says. */
static bool groups_are_weight_only(json_t *groups) {
  if (!json_is_object(groups) || json_object_size(groups) == 0) {
    return false;
  }
  const char *name;
  json_t *group;
  json_object_foreach(groups, name, group) {
    if (!is_nothing(json_object_get(group, "input_activations"))) {
      return false;
    }
  }
  return true;
}

static nvfp4_status read_modelopt(nvfp4_quant_config *config, const json_t *object, nvfp4_reason *reason) {
  /* Exports of towers that were never quantised, but not excluded either. */
  static const char *const never[] = {"vision_tower", "vision_model", "vit_large_projector"};
  config->layout = NVFP4_LAYOUT_MODELOPT;
  char text[64];
  const json_t *algo = json_object_get(object, "quant_algo");
  if (!json_is_string(algo)) {
    return nvfp4_reject(reason, NVFP4_E_FORMAT, "quant_algo is %s; needs a string such as \"NVFP4\"", describe(algo, text));
  }
  const char *name = json_string_value(algo);
  snprintf(config->otherwise_why, sizeof config->otherwise_why, "quant_algo %.40s", name);
  if (strcasecmp(name, "MIXED_PRECISION") == 0) {
    snprintf(config->otherwise_why, sizeof config->otherwise_why, "not in quantized_layers");
    NVFP4_TRY(read_quantized_layers(config, json_object_get(object, "quantized_layers"), reason));
  } else {
    NVFP4_TRY(mode_of_algo(name, &config->otherwise, reason));
  }
  json_t *groups = json_object_get(object, "config_groups");
  if (config->otherwise == NVFP4_MODE_W4A4 || config->otherwise == NVFP4_MODE_W4A16) {
    NVFP4_TRY(check_group_size(object, reason));
    const char *key;
    json_t *group;
    json_object_foreach(groups, key, group) { NVFP4_TRY(check_group_size(json_object_get(group, "weights"), reason)); }
  }
  if (config->otherwise == NVFP4_MODE_W4A4 && groups_are_weight_only(groups)) {
    config->otherwise = NVFP4_MODE_W4A16;
  }
  for (size_t i = 0; i < 2; i++) {
    config->ignore.key = i == 0 ? "ignore" : "exclude_modules";
    NVFP4_TRY(
        add_strings(&config->ignore, SYNTAX_MODELOPT, json_object_get(object, config->ignore.key), NVFP4_MODE_UNQUANTISED, "", reason));
  }
  for (size_t i = 0; i < sizeof never / sizeof never[0]; i++) {
    NVFP4_TRY(add_rule(&config->ignore, SYNTAX_NAME, never[i], NVFP4_MODE_UNQUANTISED, "", reason));
  }
  return NVFP4_OK;
}

/* -------------------------------------------------------------------------------------------------------- compressed-tensors */

static bool is_float_bits(const json_t *args, int bits) {
  const char *type = json_string_value(json_object_get(args, "type"));
  return type != NULL && strcmp(type, "float") == 0 && json_number_value(json_object_get(args, "num_bits")) == bits;
}

static bool differs(const json_t *object, const char *key, const char *wanted) {
  const char *text = json_string_value(json_object_get(object, key));
  return text != NULL && strcmp(text, wanted) != 0;
}

/* A group whose weights are 4-bit floats: NVFP4, or an error that says what it is instead. */
static nvfp4_status nvfp4_group_mode(const json_t *group, const char *format, nvfp4_mode *mode, nvfp4_reason *reason) {
  const json_t *weights = json_object_get(group, "weights"), *inputs = json_object_get(group, "input_activations");
  char text[64];
  if (is_nothing(json_object_get(weights, "group_size"))) {
    return nvfp4_reject(reason, NVFP4_E_FORMAT, "weights.group_size is %s; NVFP4 needs %d",
                        describe(json_object_get(weights, "group_size"), text), NVFP4_BLOCK);
  }
  NVFP4_TRY(check_group_size(weights, reason));
  if (differs(weights, "strategy", "tensor_group")) {
    return nvfp4_reject(reason, NVFP4_E_UNSUPPORTED, "weights.strategy is %s; NVFP4 needs \"tensor_group\"",
                        describe(json_object_get(weights, "strategy"), text));
  }
  if (json_is_false(json_object_get(weights, "symmetric"))) {
    return nvfp4_reject(reason, NVFP4_E_UNSUPPORTED, "weights.symmetric is false; NVFP4 has no zero points");
  }
  if (format != NULL && strcmp(format, "nvfp4-pack-quantized") != 0 && strcmp(format, "mixed-precision") != 0) {
    return nvfp4_reject(reason, NVFP4_E_UNSUPPORTED, "format is \"%.40s\"; NVFP4 needs \"nvfp4-pack-quantized\"", format);
  }
  if (is_nothing(inputs)) {
    *mode = NVFP4_MODE_W4A16;
    return NVFP4_OK;
  }
  if (!is_float_bits(inputs, 4)) {
    return nvfp4_reject(reason, NVFP4_E_UNSUPPORTED,
                        "input_activations have num_bits %s; NVFP4 weights need activations of 4-bit floats, or null",
                        describe(json_object_get(inputs, "num_bits"), text));
  }
  *mode = NVFP4_MODE_W4A4;
  return check_group_size(inputs, reason);
}

static nvfp4_status read_group(nvfp4_quant_config *config, const char *key, const json_t *group, const char *format, nvfp4_reason *reason) {
  char what[48];
  snprintf(what, sizeof what, "config group %.30s", key);
  if (!json_is_object(group)) {
    return nvfp4_reject(reason, NVFP4_E_FORMAT, "it is not an object");
  }
  const json_t *weights = json_object_get(group, "weights");
  const char *own = json_string_value(json_object_get(group, "format"));
  nvfp4_mode mode = NVFP4_MODE_UNQUANTISED; /* integers, and what else there is: the tensors will say */
  if (is_float_bits(weights, 4)) {
    NVFP4_TRY(nvfp4_group_mode(group, own != NULL ? own : format, &mode, reason));
  } else if (is_float_bits(weights, 8) && !is_nothing(json_object_get(group, "input_activations"))) {
    mode = NVFP4_MODE_FP8;
  }
  return add_strings(&config->targets, SYNTAX_COMPRESSED_TENSORS, json_object_get(group, "targets"), mode, what, reason);
}

static nvfp4_status read_compressed_tensors(nvfp4_quant_config *config, const json_t *object, nvfp4_reason *reason) {
  config->layout = NVFP4_LAYOUT_COMPRESSED_TENSORS;
  config->otherwise = NVFP4_MODE_UNQUANTISED;
  snprintf(config->otherwise_why, sizeof config->otherwise_why, "no target matches");
  char text[64];
  const json_t *transforms = json_object_get(object, "transform_config");
  if (!is_nothing(transforms) && json_object_size(transforms) != 0) {
    return nvfp4_reject(reason, NVFP4_E_UNSUPPORTED,
                        "transform_config is not empty: the weights are rotated and so must be the activations; not supported");
  }
  config->ignore.key = "ignore";
  NVFP4_TRY(add_strings(&config->ignore, SYNTAX_COMPRESSED_TENSORS, json_object_get(object, "ignore"), NVFP4_MODE_UNQUANTISED, "", reason));
  config->targets.key = "targets";
  json_t *groups = json_object_get(object, "config_groups");
  if (!json_is_object(groups)) {
    return nvfp4_reject(reason, NVFP4_E_FORMAT, "quantization_config.config_groups is %s; needs an object", describe(groups, text));
  }
  const char *key;
  json_t *group;
  json_object_foreach(groups, key, group) {
    nvfp4_status status = read_group(config, key, group, json_string_value(json_object_get(object, "format")), reason);
    if (status != NVFP4_OK) {
      return nvfp4_reason_prefix(reason, status, "config_groups.%.60s: ", key);
    }
  }
  return NVFP4_OK;
}

/* ----------------------------------------------------------------------------------------------------------------------- MLX */

static nvfp4_mode mlx_mode(const json_t *object) {
  const char *mode = json_string_value(json_object_get(object, "mode"));
  return mode != NULL && strcmp(mode, "nvfp4") == 0 ? NVFP4_MODE_W4A16 : NVFP4_MODE_UNQUANTISED;
}

static nvfp4_status read_mlx(nvfp4_quant_config *config, json_t *object, nvfp4_reason *reason) {
  config->layout = NVFP4_LAYOUT_MLX;
  config->otherwise = mlx_mode(object);
  char text[64];
  snprintf(config->otherwise_why, sizeof config->otherwise_why, "mode %.50s", describe(json_object_get(object, "mode"), text));
  if (config->otherwise == NVFP4_MODE_W4A16) {
    NVFP4_TRY(check_group_size(object, reason));
  }
  const char *name;
  json_t *entry;
  json_object_foreach(object, name, entry) {
    if (json_is_object(entry) || json_is_false(entry)) {
      NVFP4_TRY(add_rule(&config->targets, SYNTAX_NAME, name, json_is_object(entry) ? mlx_mode(entry) : NVFP4_MODE_UNQUANTISED,
                         "quantization", reason));
    }
  }
  return NVFP4_OK;
}

/* -------------------------------------------------------------------------------------------------------------------- public */

/* Finds out whose convention the objects follow. config.json's quantization_config counts before hf_quant_config.json, as in vLLM. */
static nvfp4_status read_config(nvfp4_quant_config *config, const json_t *root, nvfp4_reason *reason) {
  json_t *quantization = json_object_get(root, "quantization_config");
  const json_t *inner = json_object_get(quantization, "quantization");
  const json_t *modelopt = json_is_object(inner) ? inner : quantization;
  const char *method = json_string_value(json_object_get(quantization, "quant_method"));
  if (!json_is_object(quantization)) {
    return NVFP4_OK;
  }
  if (method != NULL && strcmp(method, "compressed-tensors") == 0) {
    return read_compressed_tensors(config, quantization, reason);
  }
  if (method != NULL ? strncmp(method, "modelopt", 8) == 0 : json_object_get(modelopt, "quant_algo") != NULL) {
    return read_modelopt(config, modelopt, reason);
  }
  return method == NULL && json_object_get(quantization, "bits") != NULL ? read_mlx(config, quantization, reason) : NVFP4_OK;
}

static nvfp4_status read_objects(nvfp4_quant_config *config, const json_t *root, const json_t *hf, nvfp4_reason *reason) {
  nvfp4_status status = read_config(config, root, reason);
  if (status != NVFP4_OK || config->layout != NVFP4_LAYOUT_NONE) {
    return nvfp4_reason_prefix(reason, status, "config.json: ");
  }
  if (hf != NULL) {
    const json_t *object = json_object_get(hf, "quantization");
    status = json_is_object(object) ? read_modelopt(config, object, reason)
                                    : nvfp4_reject(reason, NVFP4_E_FORMAT, "there is no object \"quantization\"");
    return nvfp4_reason_prefix(reason, status, "hf_quant_config.json: ");
  }
  json_t *mlx = json_object_get(root, "quantization");
  status = json_is_object(mlx) && json_object_get(mlx, "bits") != NULL ? read_mlx(config, mlx, reason) : NVFP4_OK;
  return nvfp4_reason_prefix(reason, status, "config.json: ");
}

nvfp4_status nvfp4_quant_config_parse(const char *config_json, const char *hf_quant_config_json, nvfp4_quant_config **out,
                                      nvfp4_reason *reason) {
  nvfp4_quant_config *config = calloc(1, sizeof *config);
  if (config == NULL) {
    return nvfp4_reject(reason, NVFP4_E_NOMEM, "no memory for the quantisation config");
  }
  config->ignore.key = "ignore";
  config->targets.key = "quantized_layers";
  json_t *root = NULL, *hf = NULL;
  nvfp4_status status = NVFP4_OK;
  if (config_json != NULL) {
    status = load_object(config_json, "config.json", &root, reason);
  }
  if (status == NVFP4_OK && hf_quant_config_json != NULL) {
    status = load_object(hf_quant_config_json, "hf_quant_config.json", &hf, reason);
  }
  if (status == NVFP4_OK) {
    status = read_objects(config, root, hf, reason);
  }
  json_decref(root);
  json_decref(hf);
  if (status != NVFP4_OK || config->layout == NVFP4_LAYOUT_NONE) {
    nvfp4_quant_config_free(config);
    if (status == NVFP4_OK) {
      *out = NULL;
    }
    return status;
  }
  sort_rules(&config->ignore);
  sort_rules(&config->targets);
  *out = config;
  return NVFP4_OK;
}

void nvfp4_quant_config_free(nvfp4_quant_config *config) {
  if (config != NULL) {
    free_rules(&config->ignore);
    free_rules(&config->targets);
    free(config);
  }
}

nvfp4_layout_kind nvfp4_quant_config_layout(const nvfp4_quant_config *config) {
  return config != NULL ? config->layout : NVFP4_LAYOUT_NONE;
}

/* Names that a module has in one export and not in another: vLLM's aliases, and the first shard for a projection that is fused on disk. */
static const rule *find_alias(const rule_list *list, const char *name) {
  static const struct {
    const char *from, *to;
    bool prefix;
  } aliases[] = {{"language_model.model.", "model.language_model.", true},
                 {"model.language_model.", "language_model.model.", true},
                 {"qkv_proj", "q_proj", false},
                 {"gate_up_proj", "gate_proj", false}};
  const char *dot = strrchr(name, '.');
  if (dot != NULL && strcmp(dot, ".lm_head") == 0) {
    return find_name(list, "lm_head", strlen("lm_head"));
  }
  for (size_t i = 0; i < sizeof aliases / sizeof aliases[0]; i++) {
    size_t length = strlen(name), from = strlen(aliases[i].from);
    size_t keep = aliases[i].prefix ? 0 : length - (from <= length ? from : length);
    char other[512];
    if (length < from || strncmp(name + keep, aliases[i].from, from) != 0) {
      continue;
    }
    int written = snprintf(other, sizeof other, "%.*s%s%s", (int)(keep < sizeof other ? keep : sizeof other), name, aliases[i].to,
                           name + keep + from);
    const rule *found = written > 0 && (size_t)written < sizeof other ? find_name(list, other, (size_t)written) : NULL;
    if (found != NULL) {
      return found;
    }
  }
  return NULL;
}

nvfp4_status nvfp4_quant_config_match(const nvfp4_quant_config *config, const char *name, nvfp4_quant_scheme *out, nvfp4_reason *reason) {
  if (config == NULL) {
    *out = (nvfp4_quant_scheme){0};
    return NVFP4_OK;
  }
  const rule *exact, *pattern = NULL;
  exact = config->layout == NVFP4_LAYOUT_MODELOPT ? find_segments(&config->ignore, name) : find_name(&config->ignore, name, strlen(name));
  if (exact == NULL) {
    NVFP4_TRY(find_pattern(&config->ignore, name, SIZE_MAX, &pattern, reason));
  }
  if (exact != NULL || pattern != NULL || config->ignore.linear) {
    *out = (nvfp4_quant_scheme){.known = true, .mode = NVFP4_MODE_UNQUANTISED};
    snprintf(out->why, sizeof out->why, "%s: %.120s", config->ignore.key,
             exact != NULL     ? exact->text
             : pattern != NULL ? pattern->text
                               : "Linear");
    return NVFP4_OK;
  }
  exact = find_name(&config->targets, name, strlen(name));
  if (exact == NULL) {
    exact = find_alias(&config->targets, name);
  }
  NVFP4_TRY(find_pattern(&config->targets, name, exact != NULL ? exact->order : SIZE_MAX, &pattern, reason));
  const rule *target = pattern != NULL ? pattern : exact != NULL ? exact : config->targets.linear ? &config->targets.linear_rule : NULL;
  *out = (nvfp4_quant_scheme){.known = true, .mode = target != NULL ? target->mode : config->otherwise};
  if (target != NULL) {
    snprintf(out->why, sizeof out->why, "%s: %s", config->targets.key, target->what);
  } else {
    snprintf(out->why, sizeof out->why, "%s", config->otherwise_why);
  }
  return NVFP4_OK;
}

bool nvfp4_config_qkv_rows(const char *config_json, int64_t rows[3]) {
  json_t *root;
  if (config_json == NULL || load_object(config_json, "config.json", &root, NULL) != NVFP4_OK) {
    return false;
  }
  const json_t *model = json_object_get(root, "num_attention_heads") == NULL ? json_object_get(root, "text_config") : root;
  double heads = json_number_value(json_object_get(model, "num_attention_heads"));
  double kv_heads = json_number_value(json_object_get(model, "num_key_value_heads"));
  double width = json_number_value(json_object_get(model, "head_dim"));
  if (width == 0 && heads > 0) {
    width = json_number_value(json_object_get(model, "hidden_size")) / heads;
  }
  if (kv_heads == 0) {
    kv_heads = heads; /* as transformers: without the key every head has its own k and v */
  }
  json_decref(root);
  /* Products stay exact in a double, and whole. */
  if (!(heads > 0 && kv_heads > 0 && width > 0 && heads * width < 0x1p53 && kv_heads * width < 0x1p53) || width != (double)(int64_t)width ||
      heads != (double)(int64_t)heads || kv_heads != (double)(int64_t)kv_heads) {
    return false;
  }
  rows[0] = (int64_t)(heads * width);
  rows[1] = rows[2] = (int64_t)(kv_heads * width);
  return true;
}
