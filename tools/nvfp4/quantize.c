/* SPDX-License-Identifier: Apache-2.0 */
/* nvfp4 quantize: makes an NVFP4 checkpoint. */
#include <nvfp4/quantize.h>
#include <stdlib.h>
#include <string.h>

#include "common.h"

typedef struct quantization {
  cli *run;
  const char *paths[2]; /* input, output */
  const char *calibrate;
  int layout, scales; /* indices into the words of the options */
  bool lm_head;
  int64_t calibration_tokens;
  cli_selection selection;
  double seconds;
  cli_progress progress;
  nvfp4_quantize_stats stats;
} quantization;

static const char *const layout_words[] = {"modelopt", "compressed-tensors", "gguf", "mlx", "comfy"};
static const char *const scale_words[] = {"rtn", "sweep"};

static void tell(const quantization *q) {
  const nvfp4_quantize_stats *stats = &q->stats;
  uint64_t rss = cli_peak_rss_bytes();
  const char *mode = nvfp4_mode_name(q->calibrate != NULL ? NVFP4_MODE_W4A4 : NVFP4_MODE_W4A16);
  if (q->run->json) {
    json_t *worst = json_pack("{s:o, s:o}", "layer", cli_json_text(stats->worst_layer), "relative_squared_error",
                              cli_json_real(stats->worst_relative_squared_error));
    cli_print_json(json_pack("{s:o, s:s, s:s, s:s, s:I, s:I, s:I, s:I, s:I, s:o, s:o, s:f, s:I, s:I}", "output", cli_json_text(q->paths[1]),
                             "layout", layout_words[q->layout], "scales", scale_words[q->scales], "mode", mode, "layers",
                             (json_int_t)stats->layers, "copied_tensors", (json_int_t)stats->copied_tensors, "weights",
                             (json_int_t)stats->weights, "input_bytes", (json_int_t)stats->input_bytes, "output_bytes",
                             (json_int_t)stats->output_bytes, "relative_squared_error", cli_json_real(stats->relative_squared_error),
                             "worst", worst, "seconds", q->seconds, "peak_rss_bytes", (json_int_t)rss, "peak_anonymous_bytes",
                             (json_int_t)q->progress.peak_anonymous_bytes));
    return;
  }
  char a[32], b[32];
  cli_print_field(stdout, "layers", "%lld quantised to %s (%.1f million weights); %lld tensors copied", (long long)stats->layers, mode,
                  (double)stats->weights * 1e-6, (long long)stats->copied_tensors);
  cli_print_field(stdout, "error", "%.5f relative squared (%s); worst %.5f in %s", stats->relative_squared_error, scale_words[q->scales],
                  stats->worst_relative_squared_error, stats->worst_layer);
  cli_print_field(stdout, "size", "%s -> %s, %s layout, in %s", cli_bytes(stats->input_bytes, a), cli_bytes(stats->output_bytes, b),
                  layout_words[q->layout], q->paths[1]);
  cli_print_field(stdout, "time", "%.1f s", q->seconds);
  cli_print_field(stdout, "memory", "peak %s, of that %s not backed by files", cli_bytes(rss, a),
                  cli_bytes(q->progress.peak_anonymous_bytes, b));
}

static int quantize(quantization *q, nvfp4_context *context, const char *calibration) {
  static const nvfp4_layout_kind layouts[] = {NVFP4_LAYOUT_MODELOPT, NVFP4_LAYOUT_COMPRESSED_TENSORS, NVFP4_LAYOUT_GGUF, NVFP4_LAYOUT_MLX,
                                              NVFP4_LAYOUT_COMFY};
  static const nvfp4_scale_search searches[] = {NVFP4_SCALES_RTN, NVFP4_SCALES_SWEEP};
  const nvfp4_quantize_options options = {.struct_size = sizeof options,
                                          .layout = layouts[q->layout],
                                          .scales = searches[q->scales],
                                          .lm_head = q->lm_head,
                                          .calibration = calibration,
                                          .calibration_tokens = q->calibration_tokens,
                                          .progress = cli_progress_step,
                                          .progress_cookie = &q->progress};
  q->stats.struct_size = sizeof q->stats;
  nvfp4_reason reason = {0};
  cli_progress_begin(&q->progress, NULL);
  double start = cli_seconds();
  nvfp4_status status = nvfp4_quantize_checkpoint(context, q->paths[0], q->paths[1], &options, &q->stats, &reason);
  q->seconds = cli_seconds() - start;
  cli_progress_end(&q->progress);
  if (status != NVFP4_OK) {
    return cli_fail_reason(q->run, &reason);
  }
  tell(q);
  return CLI_DONE;
}

static int run_quantize(cli *run, int argc, char **argv) {
  quantization q = {.run = run, .scales = 1};
  const cli_option options[] = {
      {"layout", "modelopt|compressed-tensors|gguf|mlx|comfy", "of the files written (default modelopt)", CLI_CHOICE, &q.layout, 0, 0},
      {"scales", "rtn|sweep",
       "how block scales are found: rounded to nearest, or of all E4M3 values the one with least squared error (default sweep)", CLI_CHOICE,
       &q.scales, 0, 0},
      {"lm-head", NULL, "quantise the output projection too", CLI_FLAG, &q.lm_head, 0, 0},
      {"calibrate", "FILE",
       "UTF-8 text to run the model on for input scales: writes W4A4 and holds the whole model in memory. Without it: W4A16, a tensor at a "
       "time",
       CLI_TEXT, &q.calibrate, 0, 0},
      {"calibration-tokens", "N", "tokens of that text at most (default 4096)", CLI_INTEGER, &q.calibration_tokens, 1, INT64_MAX},
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
  if (cli_same_file(q.paths[0], q.paths[1])) {
    return cli_fail(run, NVFP4_E_ARG, "%s is both input and output; needs a folder of its own", q.paths[1]);
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
