/* SPDX-License-Identifier: Apache-2.0 */
/* nvfp4 perplexity: how well a model foretells a text, and how far it is from another that has read the same text. */
#include <stdlib.h>
#include <string.h>

#include "model.h"

typedef struct measurement {
  cli *run;
  const char *paths[2]; /* model, text */
  const char *device;
  nvfp4_device where;
  int mode;
  const char *base; /* file of log-probabilities: read if kl_divergence, otherwise written */
  bool kl_divergence;
  int64_t window, windows;
  cli_selection selection;
  cli_model model;
  int32_t *tokens;
  size_t token_count;
  cli_progress progress;
  double seconds;
  nvfp4_perplexity_result result;
  nvfp4_kl_divergence_result comparison;
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
  nvfp4_status status =
      p->kl_divergence ? nvfp4_kl_divergence(p->model.model, p->base, p->windows, cli_progress_step, &p->progress, &p->comparison, &reason)
                       : nvfp4_perplexity(p->model.model, p->tokens, p->token_count, p->window, p->windows, p->base, cli_progress_step,
                                          &p->progress, &p->result, &reason);
  p->seconds = cli_seconds() - start;
  cli_progress_end(&p->progress);
  if (status != NVFP4_OK) {
    *code = cli_fail_reason(p->run, &reason);
    return false;
  }
  if (p->kl_divergence) {
    const nvfp4_kl_divergence_result *c = &p->comparison;
    p->result = (nvfp4_perplexity_result){c->perplexity.value, c->perplexity.standard_error, c->windows, c->scored_tokens};
    p->window = c->window;
  }
  return true;
}

/* -------------------------------------------------------------------------------------------------------------------- JSON */

static json_t *estimate_json(nvfp4_estimate estimate) {
  return json_pack("{s:o, s:o}", "value", cli_json_real(estimate.value), "standard_error", cli_json_real(estimate.standard_error));
}

static json_t *quantiles_json(const double *quantiles) {
  static const double shares[NVFP4_QUANTILES] = NVFP4_QUANTILE_SHARES;
  json_t *list = json_array();
  for (int i = 0; i < NVFP4_QUANTILES; i++) {
    json_array_append_new(list, json_pack("{s:f, s:o}", "share", shares[i], "value", cli_json_real(quantiles[i])));
  }
  return list;
}

static json_t *comparison_json(const nvfp4_kl_divergence_result *c) {
  return json_pack("{s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "base_perplexity", estimate_json(c->base_perplexity),
                   "correlation", cli_json_real(c->correlation), "log_ratio", estimate_json(c->log_ratio), "ratio", estimate_json(c->ratio),
                   "difference", estimate_json(c->difference), "kl_divergence", estimate_json(c->divergence), "kl_divergence_quantiles",
                   quantiles_json(c->divergence_quantiles), "probability_change", estimate_json(c->probability_change),
                   "probability_change_rms", estimate_json(c->probability_change_rms), "probability_change_quantiles",
                   quantiles_json(c->probability_change_quantiles), "same_top", estimate_json(c->same_top));
}

/* -------------------------------------------------------------------------------------------------------------------- text */

/* The lines that llama-perplexity --kl-divergence prints. */
static void print_comparison(const nvfp4_kl_divergence_result *c) {
  static const char *const names[NVFP4_QUANTILES] = {"Minimum", " 0.1%  ", " 1.0%  ", " 5.0%  ", "10.0%  ", "25.0%  ", "Median ",
                                                     "75.0%  ", "90.0%  ", "95.0%  ", "99.0%  ", "99.9%  ", "Maximum"};
  printf("====== Perplexity statistics ======\n");
  printf("Mean PPL(Q)                   : %10.6f ± %10.6f\n", c->perplexity.value, c->perplexity.standard_error);
  printf("Mean PPL(base)                : %10.6f ± %10.6f\n", c->base_perplexity.value, c->base_perplexity.standard_error);
  printf("Cor(ln(PPL(Q)), ln(PPL(base))): %6.2f%%\n", 100 * c->correlation);
  printf("Mean ln(PPL(Q)/PPL(base))     : %10.6f ± %10.6f\n", c->log_ratio.value, c->log_ratio.standard_error);
  printf("Mean PPL(Q)/PPL(base)         : %10.6f ± %10.6f\n", c->ratio.value, c->ratio.standard_error);
  printf("Mean PPL(Q)-PPL(base)         : %10.6f ± %10.6f\n", c->difference.value, c->difference.standard_error);
  printf("\n====== KL divergence statistics ======\n");
  printf("Mean    KLD: %10.6f ± %10.6f\n", c->divergence.value, c->divergence.standard_error);
  for (int i = NVFP4_QUANTILES - 1; i >= 0; i--) {
    if (i != 5 && i != 7) { /* 25 and 75 %: llama-perplexity has them of probabilities alone */
      printf("%s KLD: %10.6f\n", names[i], c->divergence_quantiles[i]);
    }
  }
  printf("\n====== Token probability statistics ======\n");
  printf("Mean    Δp: %6.3f ± %5.3f %%\n", 100 * c->probability_change.value, 100 * c->probability_change.standard_error);
  for (int i = NVFP4_QUANTILES - 1; i >= 0; i--) {
    printf("%s Δp: %6.3f%%\n", names[i], 100 * c->probability_change_quantiles[i]);
  }
  printf("RMS Δp    : %6.3f ± %5.3f %%\n", 100 * c->probability_change_rms.value, 100 * c->probability_change_rms.standard_error);
  printf("Same top p: %6.3f ± %5.3f %%\n\n", 100 * c->same_top.value, 100 * c->same_top.standard_error);
}

static void tell(const measurement *p) {
  const int64_t rows[] = {p->window < CLI_BATCH_TOKENS ? p->window : CLI_BATCH_TOKENS, p->window % CLI_BATCH_TOKENS};
  json_t *kernels = cli_model_kernels(&p->model, rows, 2);
  const nvfp4_perplexity_result *result = &p->result;
  int64_t run_tokens = result->windows * p->window;
  double speed = p->seconds > 0 ? (double)run_tokens / p->seconds : 0;
  if (p->run->json) {
    cli_print_json(json_pack("{s:o, s:o, s:I, s:I, s:I, s:o, s:o, s:f, s:f, s:o, s:i, s:I, s:I}", "perplexity",
                             cli_json_real(result->perplexity), "standard_error", cli_json_real(result->standard_error), "window",
                             (json_int_t)p->window, "windows", (json_int_t)result->windows, "scored_tokens",
                             (json_int_t)result->scored_tokens, "text_tokens",
                             p->kl_divergence ? json_null() : json_integer((json_int_t)p->token_count), "comparison",
                             p->kl_divergence ? comparison_json(&p->comparison) : json_null(), "seconds", p->seconds, "tokens_per_s", speed,
                             "kernels", kernels, "threads", nvfp4_context_threads(p->model.context), "peak_rss_bytes",
                             (json_int_t)cli_peak_rss_bytes(), "peak_anonymous_bytes", (json_int_t)p->progress.peak_anonymous_bytes));
    return;
  }
  if (p->kl_divergence) {
    print_comparison(&p->comparison);
  }
  printf("perplexity %.4f +- %.4f\n", result->perplexity, result->standard_error);
  cli_print_field(stdout, "text", "%lld window%s of %lld tokens, the second half of each scored: %lld tokens", (long long)result->windows,
                  result->windows == 1 ? "" : "s", (long long)p->window, (long long)result->scored_tokens);
  cli_print_field(stdout, "speed", "%.1f tokens/s, %d thread%s, %.1f s", speed, nvfp4_context_threads(p->model.context),
                  nvfp4_context_threads(p->model.context) == 1 ? "" : "s", p->seconds);
  cli_print_kernels(stdout, kernels);
}

static bool check_arguments(const measurement *p, int *code) {
  const char *text = p->paths[1];
  if (p->kl_divergence && (p->base == NULL || text != NULL || p->window != 0)) {
    *code = cli_fail(p->run, NVFP4_E_ARG,
                     "--kl-divergence compares on the text and the windows that a file holds; needs "
                     "--kl-divergence-base FILE, and neither TEXT nor --window");
    return false;
  }
  if (!p->kl_divergence && text == NULL) {
    *code = cli_fail(p->run, NVFP4_E_ARG, "1 of 2 arguments are there; usage: nvfp4 perplexity %s [options]", p->run->command->operands);
    return false;
  }
  return p->kl_divergence || p->base == NULL || cli_output_is_new(p->run, "kl-divergence-base", p->base, text, p->paths[0], code);
}

static int run_perplexity(cli *run, int argc, char **argv) {
  measurement p = {.run = run, .mode = -1, .device = "auto"};
  const cli_option options[] = {
      {"window", "N", "tokens a window (default 512)", CLI_INTEGER, &p.window, 4, 1 << 20},
      {"windows", "N", "windows at most (default: all whole ones)", CLI_INTEGER, &p.windows, 1, INT64_MAX},
      {"kl-divergence-base", "FILE",
       "the log-probabilities of all tokens, 16 bits each, in the format of llama-perplexity: written, or with --kl-divergence read",
       CLI_TEXT, &p.base, 0, 0},
      {"kl-divergence", NULL, "compare the model with the one that wrote FILE, on the text in it", CLI_FLAG, &p.kl_divergence, 0, 0},
      {"mode", "w4a4|w4a16", "activations in 4 or 16 bits (default: as the checkpoint says)", CLI_CHOICE, &p.mode, 0, 0},
      {"device", "cpu|cuda:N|auto", "where NVFP4 layers are computed (default auto: cpu); their activations are copied to a GPU and back",
       CLI_TEXT, &p.device, 0, 0},
  };
  const cli_syntax syntax = {.options = options,
                             .option_count = sizeof options / sizeof options[0],
                             .selection = &p.selection,
                             .threads = true,
                             .operands = p.paths,
                             .least = 1,
                             .most = 2};
  int code;
  if (!cli_parse(run, argc, argv, &syntax, &code) || !check_arguments(&p, &code) || !cli_device(run, p.device, &p.where, &code)) {
    return code;
  }
  p.window = p.window != 0 ? p.window : 512;
  code = CLI_DONE;
  if (cli_model_open(run, p.paths[0], &p.selection, &p.model, &code) && (p.kl_divergence || read_tokens(&p, &code)) &&
      cli_model_create(run, &p.model, p.mode, p.where, p.window, &code) && measure(&p, &code)) {
    tell(&p);
  }
  nvfp4_tokens_free(p.tokens);
  cli_model_close(&p.model);
  return code;
}

const cli_command cli_perplexity = {
    .name = "perplexity",
    .operands = "MODEL [TEXT]",
    .summary = "how well a model foretells a text",
    .description =
        "TEXT is a UTF-8 file (- for standard input). It is cut into windows; each is run from an empty cache, and its second half is "
        "scored. The "
        "error is the standard error from the spread of the tokens' losses. --kl-divergence compares with a base model by the statistics "
        "of llama-perplexity; Q is the model, p the probability of the text's token.",
    .examples =
        "  nvfp4 perplexity model/ text.txt\n"
        "  nvfp4 perplexity model/ text.txt --windows 8 --mode w4a16 --json\n"
        "  nvfp4 perplexity bf16/ text.txt --kl-divergence-base bf16.kld\n"
        "  nvfp4 perplexity model/ --kl-divergence-base bf16.kld --kl-divergence\n",
    .run = run_perplexity,
};
