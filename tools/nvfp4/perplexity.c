/* SPDX-License-Identifier: Apache-2.0 */
/* nvfp4 perplexity: how well a model foretells a text. */
#include <stdlib.h>
#include <string.h>

#include "model.h"

typedef struct measurement {
  cli *run;
  const char *paths[2]; /* model, text */
  const char *device;
  nvfp4_device where;
  int mode;
  int64_t window, windows;
  cli_selection selection;
  cli_model model;
  int32_t *tokens;
  size_t token_count;
  cli_progress progress;
  double seconds;
  nvfp4_perplexity_result result;
} measurement;

static bool read_tokens(measurement *p, int *code) {
  char *text;
  size_t bytes;
  if (!cli_read_text(p->run, p->paths[1], &text, &bytes, code)) {
    return false;
  }
  nvfp4_reason reason = {0};
  nvfp4_status status = nvfp4_tokenize(p->model.tokenizer, text, bytes, false, &p->tokens, &p->token_count, &reason);
  free(text);
  if (status != NVFP4_OK) {
    *code = cli_fail_reason(p->run, &reason);
    return false;
  }
  if (p->token_count < (size_t)p->window) {
    *code = cli_fail(p->run, NVFP4_E_SHAPE, "%s has %zu tokens; needs %lld for one window: a longer text or a smaller --window",
                     p->paths[1], p->token_count, (long long)p->window);
    return false;
  }
  return true;
}

static bool measure(measurement *p, int *code) {
  nvfp4_reason reason = {0};
  cli_progress_begin(&p->progress, "windows");
  double start = cli_seconds();
  nvfp4_status status = nvfp4_perplexity(p->model.model, p->tokens, p->token_count, p->window, p->windows, cli_progress_step, &p->progress,
                                         &p->result, &reason);
  p->seconds = cli_seconds() - start;
  cli_progress_end(&p->progress);
  if (status != NVFP4_OK) {
    *code = cli_fail_reason(p->run, &reason);
    return false;
  }
  return true;
}

static void tell(const measurement *p) {
  const int64_t rows[] = {p->window < CLI_BATCH_TOKENS ? p->window : CLI_BATCH_TOKENS, p->window % CLI_BATCH_TOKENS};
  json_t *kernels = cli_model_kernels(&p->model, rows, 2);
  const nvfp4_perplexity_result *result = &p->result;
  int64_t run_tokens = result->windows * p->window;
  double speed = p->seconds > 0 ? (double)run_tokens / p->seconds : 0;
  if (p->run->json) {
    cli_print_json(json_pack(
        "{s:o, s:o, s:I, s:I, s:I, s:I, s:f, s:f, s:o, s:i, s:I, s:I}", "perplexity", cli_json_real(result->perplexity), "standard_error",
        cli_json_real(result->standard_error), "window", (json_int_t)p->window, "windows", (json_int_t)result->windows, "scored_tokens",
        (json_int_t)result->scored_tokens, "text_tokens", (json_int_t)p->token_count, "seconds", p->seconds, "tokens_per_s", speed,
        "kernels", kernels, "threads", nvfp4_context_threads(p->model.context), "peak_rss_bytes", (json_int_t)cli_peak_rss_bytes(),
        "peak_anonymous_bytes", (json_int_t)p->progress.peak_anonymous_bytes));
    return;
  }
  printf("perplexity %.4f +- %.4f\n", result->perplexity, result->standard_error);
  cli_print_field(stdout, "text", "%lld window%s of %lld tokens, the second half of each scored: %lld tokens", (long long)result->windows,
                  result->windows == 1 ? "" : "s", (long long)p->window, (long long)result->scored_tokens);
  cli_print_field(stdout, "speed", "%.1f tokens/s, %d thread%s, %.1f s", speed, nvfp4_context_threads(p->model.context),
                  nvfp4_context_threads(p->model.context) == 1 ? "" : "s", p->seconds);
  cli_print_kernels(stdout, kernels);
}

static int run_perplexity(cli *run, int argc, char **argv) {
  measurement p = {.run = run, .mode = -1, .window = 512, .device = "auto"};
  const cli_option options[] = {
      {"window", "N", "tokens a window (default 512)", CLI_INTEGER, &p.window, 2, 1 << 20},
      {"windows", "N", "windows at most (default: all whole ones)", CLI_INTEGER, &p.windows, 1, INT64_MAX},
      {"mode", "w4a4|w4a16", "activations in 4 or 16 bits (default: as the checkpoint says)", CLI_CHOICE, &p.mode, 0, 0},
      {"device", "cpu|cuda:N|auto", "where NVFP4 layers are computed (default auto: cpu); their activations are copied to a GPU and back",
       CLI_TEXT, &p.device, 0, 0},
  };
  const cli_syntax syntax = {.options = options,
                             .option_count = sizeof options / sizeof options[0],
                             .selection = &p.selection,
                             .threads = true,
                             .operands = p.paths,
                             .least = 2,
                             .most = 2};
  int code;
  if (!cli_parse(run, argc, argv, &syntax, &code) || !cli_device(run, p.device, &p.where, &code)) {
    return code;
  }
  code = CLI_DONE;
  if (cli_model_open(run, p.paths[0], &p.selection, &p.model, &code) && read_tokens(&p, &code) &&
      cli_model_create(run, &p.model, p.mode, p.where, p.window, &code) && measure(&p, &code)) {
    tell(&p);
  }
  nvfp4_tokens_free(p.tokens);
  cli_model_close(&p.model);
  return code;
}

const cli_command cli_perplexity = {
    .name = "perplexity",
    .operands = "MODEL TEXT",
    .summary = "how well a model foretells a text",
    .description =
        "TEXT is a UTF-8 file (- for standard input). It is cut into windows; each is run from an empty cache, and its second half is "
        "scored. The "
        "error is the standard error from the spread of the tokens' losses.",
    .examples =
        "  nvfp4 perplexity model/ text.txt\n"
        "  nvfp4 perplexity model/ text.txt --windows 8 --mode w4a16 --json\n",
    .run = run_perplexity,
};
