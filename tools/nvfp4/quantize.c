/* SPDX-License-Identifier: Apache-2.0 */
/* nvfp4 quantize: makes an NVFP4 checkpoint. */
#define _POSIX_C_SOURCE 200809L
#include <nvfp4/quantize.h>
#include <stdlib.h>
#include <string.h>

#include "common.h"

/* A layer as the library told of it. */
typedef struct layer_line {
  char *name;
  nvfp4_quantized_layer layer;
} layer_line;

typedef struct quantization {
  cli *run;
  const char *paths[2]; /* input, output */
  const char *calibrate;
  int layout, scales, method, mode, input_scale, global; /* indices into the words of the options */
  bool lm_head, importance;
  double bits, damping;
  int64_t calibration_tokens;
  cli_selection selection;
  double seconds;
  cli_progress progress;
  nvfp4_quantize_stats stats;
  layer_line *layers;
  size_t layer_count;
} quantization;

enum { WORST_LAYERS = 5 };

static const char *const layout_words[] = {"modelopt", "compressed-tensors", "gguf", "mlx", "comfy"};
static const char *const scale_words[] = {"rtn", "four-over-six", "sweep"};
static const char *const method_words[] = {"rtn", "gptq"};

static void add_layer(void *cookie, const nvfp4_quantized_layer *layer) {
  quantization *q = cookie;
  layer_line *lines = realloc(q->layers, (q->layer_count + 1) * sizeof *lines);
  if (lines != NULL) {
    q->layers = lines;
    lines[q->layer_count] = (layer_line){strdup(layer->name), *layer};
    q->layer_count += lines[q->layer_count].name != NULL;
  }
}

/* Largest output error first; without calibration, largest weight error. */
static int by_error(const void *a, const void *b) {
  const nvfp4_quantized_layer *one = &((const layer_line *)a)->layer, *other = &((const layer_line *)b)->layer;
  double x = one->relative_output_error, y = other->relative_output_error;
  if (x == y) {
    x = one->relative_squared_error;
    y = other->relative_squared_error;
  }
  return (x < y) - (x > y);
}

static json_t *error_json(double error) { return error < 0 ? json_null() : cli_json_real(error); }

static void tell_json(const quantization *q, const char *mode) {
  const nvfp4_quantize_stats *stats = &q->stats;
  json_t *layers = json_array();
  for (size_t i = 0; i < q->layer_count; i++) {
    const nvfp4_quantized_layer *layer = &q->layers[i].layer;
    json_array_append_new(
        layers, json_pack("{s:o, s:I, s:I, s:s, s:o, s:o}", "layer", cli_json_text(q->layers[i].name), "n", (json_int_t)layer->n, "k",
                          (json_int_t)layer->k, "mode", nvfp4_mode_name(layer->mode), "relative_squared_error",
                          cli_json_real(layer->relative_squared_error), "relative_output_error", error_json(layer->relative_output_error)));
  }
  json_t *worst = json_pack("{s:o, s:o}", "layer", cli_json_text(stats->worst_layer), "relative_squared_error",
                            cli_json_real(stats->worst_relative_squared_error));
  cli_print_json(json_pack(
      "{s:o, s:s, s:s, s:s, s:b, s:s, s:I, s:I, s:I, s:I, s:I, s:o, s:o, s:o, s:o, s:o, s:f, s:I, s:I}", "output",
      cli_json_text(q->paths[1]), "layout", layout_words[q->layout], "scales", scale_words[q->scales], "method", method_words[q->method],
      "importance", q->importance, "mode", mode, "layers", (json_int_t)stats->layers, "copied_tensors", (json_int_t)stats->copied_tensors,
      "weights", (json_int_t)stats->weights, "input_bytes", (json_int_t)stats->input_bytes, "output_bytes", (json_int_t)stats->output_bytes,
      "bits_per_weight", cli_json_real(stats->bits_per_weight), "relative_squared_error", cli_json_real(stats->relative_squared_error),
      "relative_output_error", error_json(stats->relative_output_error), "worst", worst, "per_layer", layers, "seconds", q->seconds,
      "peak_rss_bytes", (json_int_t)cli_peak_rss_bytes(), "peak_anonymous_bytes", (json_int_t)q->progress.peak_anonymous_bytes));
}

static void tell_worst(const quantization *q) {
  cli_table table = {.columns = 4, .right = "lrrl"};
  cli_table_add(&table, "%s", "worst layers");
  cli_table_add(&table, "%s", "weights");
  cli_table_add(&table, "%s", q->stats.relative_output_error < 0 ? "" : "outputs");
  cli_table_add(&table, "%s", "mode");
  for (size_t i = 0; i < q->layer_count && i < WORST_LAYERS; i++) {
    const nvfp4_quantized_layer *layer = &q->layers[i].layer;
    cli_table_add(&table, "%s", q->layers[i].name);
    cli_table_add(&table, "%.5f", layer->relative_squared_error);
    if (layer->relative_output_error < 0) {
      cli_table_add(&table, "%s", "");
    } else {
      cli_table_add(&table, "%.5f", layer->relative_output_error);
    }
    cli_table_add(&table, "%s", layer->mode == NVFP4_MODE_UNQUANTISED ? "not quantised" : nvfp4_mode_name(layer->mode));
  }
  cli_table_print(&table, 2);
}

static void tell(quantization *q) {
  const nvfp4_quantize_stats *stats = &q->stats;
  size_t left = 0;
  nvfp4_mode made = NVFP4_MODE_W4A16;
  for (size_t i = 0; i < q->layer_count; i++) {
    left += q->layers[i].layer.mode == NVFP4_MODE_UNQUANTISED;
    made = q->layers[i].layer.mode != NVFP4_MODE_UNQUANTISED ? q->layers[i].layer.mode : made;
  }
  const char *mode = nvfp4_mode_name(made);
  if (q->run->json) {
    tell_json(q, mode);
    return;
  }
  char a[32], b[32];
  cli_print_field(stdout, "layers", "%lld quantised to %s (%.1f million weights); %lld tensors copied", (long long)stats->layers, mode,
                  (double)stats->weights * 1e-6, (long long)stats->copied_tensors);
  if (left > 0) {
    cli_print_field(stdout, "left", "%zu linear layers not quantised: %.2f bits a weight over all", left, stats->bits_per_weight);
  }
  cli_print_field(stdout, "error", "%.5f relative squared (%s%s%s); worst %.5f in %s", stats->relative_squared_error,
                  scale_words[q->scales], q->method == 1 ? ", gptq" : "", q->importance ? ", importance" : "",
                  stats->worst_relative_squared_error, stats->worst_layer);
  if (stats->relative_output_error >= 0) {
    cli_print_field(stdout, "outputs", "%.5f relative squared error on the calibration text, mean of the layers",
                    stats->relative_output_error);
  }
  qsort(q->layers, q->layer_count, sizeof *q->layers, by_error);
  tell_worst(q);
  cli_print_field(stdout, "size", "%s -> %s, %s layout, in %s", cli_bytes(stats->input_bytes, a), cli_bytes(stats->output_bytes, b),
                  layout_words[q->layout], q->paths[1]);
  cli_print_field(stdout, "time", "%.1f s", q->seconds);
  cli_print_field(stdout, "memory", "peak %s, of that %s not backed by files", cli_bytes(cli_peak_rss_bytes(), a),
                  cli_bytes(q->progress.peak_anonymous_bytes, b));
}

static int quantize(quantization *q, nvfp4_context *context, const char *calibration) {
  static const nvfp4_layout_kind layouts[] = {NVFP4_LAYOUT_MODELOPT, NVFP4_LAYOUT_COMPRESSED_TENSORS, NVFP4_LAYOUT_GGUF, NVFP4_LAYOUT_MLX,
                                              NVFP4_LAYOUT_COMFY};
  static const nvfp4_scale_search searches[] = {NVFP4_SCALES_RTN, NVFP4_SCALES_FOUR_OVER_SIX, NVFP4_SCALES_SWEEP};
  static const nvfp4_mode modes[] = {NVFP4_MODE_W4A4, NVFP4_MODE_W4A16};
  static const nvfp4_globals globals[] = {NVFP4_GLOBALS_FUSED, NVFP4_GLOBALS_AMAX, NVFP4_GLOBALS_SEARCH};
  const nvfp4_quantize_options options = {.struct_size = sizeof options,
                                          .layout = layouts[q->layout],
                                          .scales = searches[q->scales],
                                          .lm_head = q->lm_head,
                                          .calibration = calibration,
                                          .calibration_tokens = q->calibration_tokens,
                                          .progress = cli_progress_step,
                                          .progress_cookie = &q->progress,
                                          .mode = q->mode < 0 ? NVFP4_MODE_UNQUANTISED : modes[q->mode],
                                          .importance = q->importance,
                                          .rounding = q->method == 1 ? NVFP4_ROUNDING_GPTQ : NVFP4_ROUNDING_NEAREST,
                                          .damping = q->damping,
                                          .globals = globals[q->global],
                                          .bits_per_weight = q->bits,
                                          .input_range = q->input_scale == 1 ? NVFP4_INPUT_MSE : NVFP4_INPUT_AMAX,
                                          .layer = add_layer,
                                          .layer_cookie = q};
  q->stats.struct_size = sizeof q->stats;
  nvfp4_reason reason = {0};
  cli_progress_begin(&q->progress, NULL);
  double start = cli_seconds();
  nvfp4_status status = nvfp4_quantize_checkpoint(context, q->paths[0], q->paths[1], &options, &q->stats, &reason);
  q->seconds = cli_seconds() - start;
  cli_progress_end(&q->progress);
  if (status == NVFP4_OK) {
    tell(q);
  }
  for (size_t i = 0; i < q->layer_count; i++) {
    free(q->layers[i].name);
  }
  free(q->layers);
  return status == NVFP4_OK ? CLI_DONE : cli_fail_reason(q->run, &reason);
}

static int run_quantize(cli *run, int argc, char **argv) {
  quantization q = {.run = run, .scales = 2, .mode = -1};
  const cli_option options[] = {
      {"layout", "modelopt|compressed-tensors|gguf|mlx|comfy", "of the files written (default modelopt)", CLI_CHOICE, &q.layout, 0, 0},
      {"mode", "w4a4|w4a16", "activations in 4 or 16 bits (default w4a4 with --calibrate, w4a16 without)", CLI_CHOICE, &q.mode, 0, 0},
      {"scales", "rtn|four-over-six|sweep",
       "how block scales are found: rounded to nearest, of two scales, or of all E4M3 values the one with least squared error (default "
       "sweep)",
       CLI_CHOICE, &q.scales, 0, 0},
      {"method", "rtn|gptq",
       "how weights are rounded (default rtn): to nearest, or by second order, each column making up for the errors of those before it; "
       "gptq "
       "needs --calibrate, and OpenBLAS",
       CLI_CHOICE, &q.method, 0, 0},
      {"importance", NULL, "weight squared errors with the mean square of the inputs of each column; needs --calibrate", CLI_FLAG,
       &q.importance, 0, 0},
      {"damping", "PART", "gptq: added to the Hessian's diagonal, as a part of its mean (default 0.01); more trusts the text less",
       CLI_REAL, &q.damping, 0, 1},
      {"global", "fused|amax|search",
       "multipliers of tensors: from the largest weight, one for q/k/v and one for gate/up, which some engines fuse and keep one number "
       "for; from the largest weight of each; or of nine the best (default fused)",
       CLI_CHOICE, &q.global, 0, 0},
      {"input-scale", "amax|mse", "from the largest input, or the one with least squared error (default amax)", CLI_CHOICE, &q.input_scale,
       0, 0},
      {"bpw", "BITS",
       "bits a weight, 4.5 to 16, on average over the linear layers: those with the largest error for their size are not quantised",
       CLI_REAL, &q.bits, 1, 32},
      {"lm-head", NULL, "quantise the output projection too", CLI_FLAG, &q.lm_head, 0, 0},
      {"calibrate", "FILE", "UTF-8 text to run the model on, a block at a time, for input scales and whatever else needs one", CLI_TEXT,
       &q.calibrate, 0, 0},
      {"calibration-tokens", "N", "tokens of that text at most (default 4096, with --method gptq 32768)", CLI_INTEGER,
       &q.calibration_tokens, 1, INT64_MAX},
      {"threads", "N", "threads (default: NVFP4_THREADS, or one a processor)", CLI_INTEGER, &q.selection.threads, 1, 4096},
  };
  const cli_syntax syntax = {
      .options = options, .option_count = sizeof options / sizeof options[0], .operands = q.paths, .least = 2, .most = 2};
  int code;
  if (!cli_parse(run, argc, argv, &syntax, &code)) {
    return code;
  }
  if (q.calibration_tokens != 0 && q.calibrate == NULL) {
    return cli_fail(run, NVFP4_E_ARG, "--calibration-tokens needs --calibrate FILE");
  }
  if (q.damping != 0 && q.method != 1) {
    return cli_fail(run, NVFP4_E_ARG, "--damping needs --method gptq");
  }
  if (cli_same_file(q.paths[0], q.paths[1])) {
    return cli_fail(run, NVFP4_E_ARG, "%s is both input and output; needs a name of its own", q.paths[1]);
  }
  char *calibration = NULL;
  size_t bytes;
  if (q.calibrate != NULL && !cli_read_text(run, q.calibrate, &calibration, &bytes, &code)) {
    return code;
  }
  nvfp4_context *context;
  if (cli_context(run, &q.selection, &context, &code)) {
    code = quantize(&q, context, calibration);
    nvfp4_context_destroy(context);
  }
  free(calibration);
  return code;
}

const cli_command cli_quantize = {
    .name = "quantize",
    .operands = "IN OUT",
    .summary = "makes an NVFP4 checkpoint of f32, f16 or bf16 safetensors or of a GGUF file",
    .description =
        "OUT is a folder: model.safetensors, config.json, hf_quant_config.json and the tokenizer's files; of --layout gguf it is one file. "
        "Linear layers are quantised; "
        "embeddings, "
        "norms and the output projection (but see --lm-head) are copied. The error is the sum of (w - q)^2 over the sum of w^2.",
    .examples =
        "  nvfp4 quantize model.gguf model-nvfp4/ --calibrate text.txt\n"
        "  nvfp4 quantize model/ model-nvfp4/ --layout compressed-tensors --scales rtn\n",
    .run = run_quantize,
};
