/* SPDX-License-Identifier: Apache-2.0 */
/* nvfp4 generate: text from a prompt, every linear layer through its kernel. */
#include <stdlib.h>
#include <string.h>

#include "model.h"

typedef struct generation {
  cli *run;
  const char *paths[2]; /* model, prompt */
  const char *system, *device;
  nvfp4_device where;
  bool chat, no_chat;
  int mode;
  int64_t tokens, top_k, seed;
  double temperature, top_p;
  cli_selection selection;
  cli_model model;
  int32_t *prompt; /* tokens */
  size_t prompt_count;
  int32_t *made;
  size_t made_count, decoded; /* decoded: tokens that went through the model one by one */
  char *text;
  size_t text_bytes, text_capacity;
  size_t shown; /* bytes of text already on stdout */
  float *logits;
  double prompt_seconds, decode_seconds;
  const char *stopped;
  uint64_t anonymous_bytes;
} generation;

/* The prompt as tokens, in the model's chat form if it has one. */
static bool read_prompt(generation *g, int *code) {
  const char *user = g->paths[1];
  size_t bad;
  if (!cli_utf8_valid(user, strlen(user), &bad)) {
    *code = cli_fail(g->run, NVFP4_E_ARG, "the prompt's byte 0x%02X at offset %zu is not UTF-8", (unsigned char)user[bad], bad);
    return false;
  }
  if (g->system != NULL && !cli_utf8_valid(g->system, strlen(g->system), &bad)) {
    *code = cli_fail(g->run, NVFP4_E_ARG, "--system: byte 0x%02X at offset %zu is not UTF-8", (unsigned char)g->system[bad], bad);
    return false;
  }
  char *text = NULL;
  nvfp4_reason reason = {0};
  if (!g->no_chat) {
    nvfp4_status status = nvfp4_chat_prompt(g->model.tokenizer, g->system, user, &text, &reason);
    bool wanted = g->chat || g->system != NULL;
    if (status != NVFP4_OK && (wanted || status != NVFP4_E_UNSUPPORTED)) {
      *code = cli_fail_reason(g->run, &reason);
      return false;
    }
  }
  const char *whole = text != NULL ? text : user;
  nvfp4_status status = nvfp4_tokenize(g->model.tokenizer, whole, strlen(whole), text != NULL, &g->prompt, &g->prompt_count, &reason);
  nvfp4_text_free(text);
  if (status != NVFP4_OK) {
    *code = cli_fail_reason(g->run, &reason);
    return false;
  }
  if (g->prompt_count == 0) {
    *code = cli_fail(g->run, NVFP4_E_ARG, "the prompt is empty; needs at least one token to go on from");
    return false;
  }
  return true;
}

/* Shows what is new and whole: a token may end inside a character. */
static void show_text(generation *g, bool last) {
  while (g->shown < g->text_bytes && !g->run->json) {
    int length = cli_utf8_length(g->text + g->shown, g->text_bytes - g->shown);
    if (length < 0 && !last) {
      break;
    }
    if (length <= 0) {
      fputs("\xEF\xBF\xBD", stdout);
      g->shown++;
    } else {
      fwrite(g->text + g->shown, 1, (size_t)length, stdout);
      g->shown += (size_t)length;
    }
  }
  fflush(stdout);
}

static bool append_token(generation *g, int32_t token, int *code) {
  g->made[g->made_count++] = token;
  size_t bytes = 0;
  const char *text = nvfp4_token_bytes(g->model.tokenizer, token, &bytes);
  if (text == NULL || nvfp4_token_is_special(g->model.tokenizer, token)) {
    return true;
  }
  if (g->text_bytes + bytes > g->text_capacity) {
    size_t capacity = 2 * (g->text_bytes + bytes) + 1024;
    char *grown = realloc(g->text, capacity);
    if (grown == NULL) {
      *code = cli_fail(g->run, NVFP4_E_NOMEM, "out of memory for the text");
      return false;
    }
    g->text = grown;
    g->text_capacity = capacity;
  }
  memcpy(g->text + g->text_bytes, text, bytes);
  g->text_bytes += bytes;
  show_text(g, false);
  return true;
}

static bool forward(generation *g, const int32_t *tokens, size_t count, int *code) {
  nvfp4_reason reason = {0};
  if (nvfp4_model_forward(g->model.model, tokens, count, false, g->logits, &reason) != NVFP4_OK) {
    *code = cli_fail_reason(g->run, &reason);
    return false;
  }
  return true;
}

static bool decode(generation *g, int *code) {
  nvfp4_model_info info;
  nvfp4_model_get_info(g->model.model, &info);
  nvfp4_sampler sampler = {
      .temperature = (float)g->temperature, .top_k = (int)g->top_k, .top_p = (float)g->top_p, .seed = (uint64_t)g->seed};
  double start = cli_seconds();
  g->stopped = "tokens";
  while (g->made_count < (size_t)g->tokens) {
    int32_t token = nvfp4_sample(&sampler, g->logits, (size_t)info.vocabulary);
    if (nvfp4_token_is_end(g->model.tokenizer, token)) {
      g->stopped = "end";
      break;
    }
    if (!append_token(g, token, code)) {
      return false;
    }
    if (g->made_count == (size_t)g->tokens) {
      break;
    }
    if (nvfp4_model_position(g->model.model) >= info.context_tokens) {
      g->stopped = "context";
      break;
    }
    if (!forward(g, &token, 1, code)) {
      return false;
    }
    g->decoded++;
  }
  g->decode_seconds = cli_seconds() - start;
  show_text(g, true);
  if (!g->run->json) {
    putchar('\n');
  }
  return true;
}

static bool make_text(generation *g, int *code) {
  nvfp4_model_info info;
  nvfp4_model_get_info(g->model.model, &info);
  if ((int64_t)g->prompt_count > info.context_tokens) {
    *code = cli_fail(g->run, NVFP4_E_SHAPE, "the prompt has %zu tokens, the model's context %lld; needs a shorter prompt", g->prompt_count,
                     (long long)info.context_tokens);
    return false;
  }
  g->logits = malloc((size_t)info.vocabulary * sizeof *g->logits);
  g->made = malloc((size_t)g->tokens * sizeof *g->made);
  if (g->logits == NULL || g->made == NULL) {
    *code = cli_fail(g->run, NVFP4_E_NOMEM, "out of memory for %lld tokens", (long long)g->tokens);
    return false;
  }
  double start = cli_seconds();
  if (!forward(g, g->prompt, g->prompt_count, code)) {
    return false;
  }
  g->prompt_seconds = cli_seconds() - start;
  bool done = decode(g, code);
  g->anonymous_bytes = cli_anonymous_bytes(); /* nothing has been freed yet: this is the peak */
  return done;
}

static double rate(size_t tokens, double seconds) { return seconds > 0 ? (double)tokens / seconds : 0; }

static void tell(const generation *g) {
  const int64_t rows[] = {g->prompt_count < CLI_BATCH_TOKENS ? (int64_t)g->prompt_count : CLI_BATCH_TOKENS,
                          (int64_t)(g->prompt_count % CLI_BATCH_TOKENS), g->decoded > 0 ? 1 : (int64_t)g->prompt_count};
  json_t *kernels = cli_model_kernels(&g->model, rows, 3);
  if (g->run->json) {
    json_t *tokens = json_array();
    for (size_t i = 0; i < g->made_count; i++) {
      json_array_append_new(tokens, json_integer(g->made[i]));
    }
    json_t *timings =
        json_pack("{s:f, s:I, s:f, s:f, s:I, s:f, s:f}", "load_s", g->model.load_seconds, "prompt_tokens", (json_int_t)g->prompt_count,
                  "prompt_s", g->prompt_seconds, "prompt_tokens_per_s", rate(g->prompt_count, g->prompt_seconds), "decode_tokens",
                  (json_int_t)g->decoded, "decode_s", g->decode_seconds, "decode_tokens_per_s", rate(g->decoded, g->decode_seconds));
    cli_print_json(json_pack("{s:o, s:o, s:s, s:o, s:o, s:i, s:I, s:I}", "text",
                             cli_json_bytes(g->text != NULL ? g->text : "", g->text_bytes), "tokens", tokens, "stopped", g->stopped,
                             "timings", timings, "kernels", kernels, "threads", nvfp4_context_threads(g->model.context), "peak_rss_bytes",
                             (json_int_t)cli_peak_rss_bytes(), "peak_anonymous_bytes", (json_int_t)g->anonymous_bytes));
    return;
  }
  char a[32], b[32];
  fprintf(stderr, "\n");
  cli_print_field(stderr, "prompt", "%zu tokens, %.1f tokens/s", g->prompt_count, rate(g->prompt_count, g->prompt_seconds));
  cli_print_field(stderr, "decode", "%zu tokens, %.1f tokens/s, %d thread%s; stopped %s", g->made_count,
                  rate(g->decoded, g->decode_seconds), nvfp4_context_threads(g->model.context),
                  nvfp4_context_threads(g->model.context) == 1 ? "" : "s",
                  strcmp(g->stopped, "end") == 0       ? "where the text ends"
                  : strcmp(g->stopped, "context") == 0 ? "at the end of the context"
                                                       : "at --tokens");
  cli_print_kernels(stderr, kernels);
  cli_print_field(stderr, "memory", "peak %s, of that %s not backed by files", cli_bytes(cli_peak_rss_bytes(), a),
                  cli_bytes(g->anonymous_bytes, b));
}

static int run_generate(cli *run, int argc, char **argv) {
  generation g = {.run = run, .mode = -1, .tokens = 64, .top_p = 1, .device = "auto"};
  const cli_option options[] = {
      {"tokens", "N", "tokens to write at most (default 64)", CLI_INTEGER, &g.tokens, 1, 1 << 20},
      {"temperature", "T", "0: always the likeliest token (default 0)", CLI_REAL, &g.temperature, 0, 100},
      {"top-k", "N", "draw from the N likeliest; 0: all (default 0)", CLI_INTEGER, &g.top_k, 0, INT32_MAX},
      {"top-p", "P", "draw from the likeliest that have P of the probability (default 1: all)", CLI_REAL, &g.top_p, 0, 1},
      {"seed", "N", "of the draws (default 0)", CLI_INTEGER, &g.seed, 0, INT64_MAX},
      {"chat", NULL, "wrap the prompt as the model's chat template does (default, if the template is known)", CLI_FLAG, &g.chat, 0, 0},
      {"no-chat", NULL, "take the prompt as it is", CLI_FLAG, &g.no_chat, 0, 0},
      {"system", "TEXT", "system message (default: the model's)", CLI_TEXT, &g.system, 0, 0},
      {"mode", "w4a4|w4a16", "activations in 4 or 16 bits (default: as the checkpoint says)", CLI_CHOICE, &g.mode, 0, 0},
      {"device", "cpu|cuda:N|auto", "where NVFP4 layers are computed (default auto: cpu); their activations are copied to a GPU and back",
       CLI_TEXT, &g.device, 0, 0},
  };
  const cli_syntax syntax = {.options = options,
                             .option_count = sizeof options / sizeof options[0],
                             .selection = &g.selection,
                             .threads = true,
                             .operands = g.paths,
                             .least = 2,
                             .most = 2};
  int code;
  if (!cli_parse(run, argc, argv, &syntax, &code) || !cli_device(run, g.device, &g.where, &code)) {
    return code;
  }
  if (g.no_chat && (g.chat || g.system != NULL)) {
    return cli_fail(run, NVFP4_E_ARG, "--no-chat and --%s do not go together", g.chat ? "chat" : "system");
  }
  if (g.top_p == 0) {
    return cli_fail(run, NVFP4_E_ARG, "--top-p 0: needs a number above 0, to 1");
  }
  code = CLI_DONE;
  if (cli_model_open(run, g.paths[0], &g.selection, &g.model, &code) && read_prompt(&g, &code) &&
      cli_model_create(run, &g.model, g.mode, g.where, (int64_t)g.prompt_count + g.tokens, &code) && make_text(&g, &code)) {
    tell(&g);
  }
  free(g.logits);
  free(g.made);
  free(g.text);
  nvfp4_tokens_free(g.prompt);
  cli_model_close(&g.model);
  return code;
}

const cli_command cli_generate = {
    .name = "generate",
    .operands = "MODEL PROMPT",
    .summary = "text from a prompt, every NVFP4 layer through its kernel",
    .description =
        "MODEL is of the Llama family, with its tokenizer. The text goes to stdout as it comes; speed, kernels and peak memory to stderr "
        "at the "
        "end. The same seed gives the same text. A prompt that begins with - stands behind --.",
    .examples =
        "  nvfp4 generate model/ 'What is the capital of France?'\n"
        "  nvfp4 generate model/ 'Once upon a time' --no-chat --temperature 0.8 --top-p 0.95 --seed 7\n",
    .run = run_generate,
};
