/* SPDX-License-Identifier: Apache-2.0 */
/* Options and operands: one table a command is what is parsed and what --help prints. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common.h"

enum { MAX_OPTIONS = 40 };

/* The command's own options, then those of the selection, then those that all have. */
typedef struct option_list {
  cli_option items[MAX_OPTIONS];
  char dashed[MAX_OPTIONS][32]; /* "--name", for hints */
  size_t count, own, selection;
} option_list;

static void append(option_list *list, const cli_option *options, size_t count) {
  for (size_t i = 0; i < count && list->count < MAX_OPTIONS; i++) {
    snprintf(list->dashed[list->count], sizeof list->dashed[0], "--%s", options[i].name);
    list->items[list->count++] = options[i];
  }
}

static void collect(option_list *list, cli *run, const cli_syntax *syntax, bool *help) {
  list->count = 0;
  append(list, syntax->options, syntax->option_count);
  list->own = list->count;
  cli_selection *s = syntax->selection;
  if (s != NULL) {
    const cli_option selection[] = {
        {"kernel", "LIST", "only these: ids or globs, comma-separated; \"...,auto\" falls back to the order of preference", CLI_TEXT,
         &s->kernel, 0, 0},
        {"disable", "LIST", "never these: ids or globs, comma-separated", CLI_TEXT, &s->disable, 0, 0},
        {"require", "LIST", "of canonical, batch_invariant, deterministic", CLI_TEXT, &s->require, 0, 0},
        {"allow", "LIST", "of bounded (kernels that are not bit-exact on the CPU), w4a16 (16-bit activations for w4a4 layers)", CLI_TEXT,
         &s->allow, 0, 0},
        {"max-layouts", "N", "packed copies of the weights that a layer may hold (default 1)", CLI_INTEGER, &s->max_layouts, 1, 8},
        {"plugins", "LIST", "plug-ins to open: paths, comma-separated", CLI_TEXT, &s->plugins, 0, 0},
    };
    append(list, selection, sizeof selection / sizeof selection[0]);
    if (!s->untuned) {
      const cli_option tuning = {
          "tuning", "LIST",     "tables of this computer that `nvfp4 tune` wrote, comma-separated; --kernel wins over them",
          CLI_TEXT, &s->tuning, 0,
          0};
      append(list, &tuning, 1);
    }
    if (syntax->threads) {
      const cli_option threads = {"threads", "N", "threads (default: one a processor)", CLI_INTEGER, &s->threads, 1, 4096};
      append(list, &threads, 1);
    }
  }
  list->selection = list->count;
  const cli_option always[] = {
      {"json", NULL, "print one JSON object instead of text", CLI_FLAG, &run->json, 0, 0},
      {"help", NULL, "print this", CLI_FLAG, help, 0, 0},
  };
  append(list, always, sizeof always / sizeof always[0]);
}

/* -------------------------------------------------------------------------------------------------------------------- help */

static void print_options(const option_list *list, size_t first, size_t end) {
  cli_table table = {.columns = 2, .right = "ll"};
  for (size_t i = first; i < end; i++) {
    const cli_option *option = &list->items[i];
    cli_table_add(&table, "--%s%s%s", option->name, option->argument != NULL ? " " : "", option->argument != NULL ? option->argument : "");
    cli_table_add(&table, "%s", option->help);
  }
  cli_table_print(&table, 2);
}

static void print_help(const cli_command *command, const option_list *list) {
  printf("usage: nvfp4 %s%s%s [options]\n\n", command->name, command->operands[0] != '\0' ? " " : "", command->operands);
  cli_print_wrapped(stdout, 0, 0, command->summary);
  if (command->description[0] != '\0') {
    putchar('\n');
    cli_print_wrapped(stdout, 0, 0, command->description);
  }
  if (list->own > 0) {
    printf("\nOptions\n");
    print_options(list, 0, list->own);
  }
  if (list->selection > list->own) {
    printf("\nSelection of kernels (these override the environment)\n");
    print_options(list, list->own, list->selection);
  }
  printf("\nCommon options\n");
  print_options(list, list->selection, list->count);
  printf("\nExamples\n%s", command->examples);
  printf("\nExit codes: 0 done, 1 the check failed, 2 bad use or bad input.\n");
}

/* ----------------------------------------------------------------------------------------------------------------- parsing */

static const char *option_name(const void *cookie, size_t index) {
  const option_list *list = cookie;
  return index < list->count ? list->dashed[index] : NULL;
}

static const cli_option *find_option(const option_list *list, const char *name, size_t length) {
  for (size_t i = 0; i < list->count; i++) {
    if (strncmp(list->items[i].name, name, length) == 0 && list->items[i].name[length] == '\0') {
      return &list->items[i];
    }
  }
  return NULL;
}

static bool set_choice(const cli *run, const cli_option *option, const char *value, int *code) {
  int index = 0;
  for (const char *word = option->argument; *word != '\0'; index++) {
    size_t length = strcspn(word, "|");
    if (strlen(value) == length && strncmp(word, value, length) == 0) {
      *(int *)option->value = index;
      return true;
    }
    word += length + (word[length] == '|');
  }
  *code = cli_fail(run, NVFP4_E_ARG, "--%s %s: needs one of %s", option->name, value, option->argument);
  return false;
}

static bool set_number(const cli *run, const cli_option *option, const char *value, int *code) {
  char *end = NULL;
  errno = 0;
  bool sound;
  if (option->kind == CLI_INTEGER) {
    long long number = strtoll(value, &end, 10);
    sound = number >= option->least && number <= option->most;
    if (sound) {
      *(int64_t *)option->value = number;
    }
  } else {
    double number = strtod(value, &end);
    sound = number >= (double)option->least && number <= (double)option->most; /* false for NaN */
    if (sound) {
      *(double *)option->value = number;
    }
  }
  if (end == value || *end != '\0' || errno != 0 || !sound) {
    const char *what = option->kind == CLI_INTEGER ? "whole number" : "number";
    if (option->most == INT64_MAX) {
      *code = cli_fail(run, NVFP4_E_ARG, "--%s %s: needs a %s from %lld on", option->name, value, what, (long long)option->least);
    } else {
      *code = cli_fail(run, NVFP4_E_ARG, "--%s %s: needs a %s from %lld to %lld", option->name, value, what, (long long)option->least,
                       (long long)option->most);
    }
    return false;
  }
  return true;
}

static bool set_option(const cli *run, const cli_option *option, const char *value, int *code) {
  switch (option->kind) {
    case CLI_FLAG:
      *(bool *)option->value = true;
      return true;
    case CLI_TEXT:
      if (value[0] == '\0') {
        *code = cli_fail(run, NVFP4_E_ARG, "--%s: the value is empty; needs %s", option->name, option->argument);
        return false;
      }
      *(const char **)option->value = value;
      return true;
    case CLI_CHOICE:
      return set_choice(run, option, value, code);
    default:
      return set_number(run, option, value, code);
  }
}

/* The option at argv[*at], with its value behind '=' or in the next argument; moves *at to the last argument used. */
static bool parse_option(const cli *run, const option_list *list, int argc, char **argv, int *at, int *code) {
  const char *text = argv[*at];
  const char *name = strcmp(text, "-h") == 0 ? "help" : text + 2;
  size_t length = strcspn(name, "=");
  const cli_option *option = text[1] == '-' || name[0] == 'h' ? find_option(list, name, length) : NULL;
  if (option == NULL) {
    char hint[256];
    const char *did_you_mean = "";
    if (text[1] == '-') {
      char wrong[64];
      snprintf(wrong, sizeof wrong, "--%.*s", (int)(length < 60 ? length : 60), name);
      did_you_mean = cli_did_you_mean(wrong, option_name, list, hint, sizeof hint);
    }
    *code = cli_fail(run, NVFP4_E_ARG, "unknown option %s (`nvfp4 %s --help` lists them, \"--\" ends them)%s", text, run->command->name,
                     did_you_mean);
    return false;
  }
  const char *value = name[length] == '=' ? name + length + 1 : NULL;
  if (option->kind == CLI_FLAG) {
    if (value != NULL) {
      *code = cli_fail(run, NVFP4_E_ARG, "--%s takes no value, got %s", option->name, value);
      return false;
    }
  } else if (value == NULL) {
    if (*at + 1 >= argc || strncmp(argv[*at + 1], "--", 2) == 0) {
      *code = cli_fail(run, NVFP4_E_ARG, "--%s needs a value: %s", option->name, option->argument);
      return false;
    }
    value = argv[++*at];
  }
  return set_option(run, option, value, code);
}

bool cli_parse(cli *run, int argc, char **argv, const cli_syntax *syntax, int *code) {
  bool help = false;
  option_list list;
  collect(&list, run, syntax, &help);
  int given = 0;
  bool options_ended = false;
  for (int at = 0; at < argc; at++) {
    if (!options_ended && strcmp(argv[at], "--") == 0) {
      options_ended = true;
    } else if (!options_ended && argv[at][0] == '-' && argv[at][1] != '\0') {
      if (!parse_option(run, &list, argc, argv, &at, code)) {
        return false;
      }
    } else if (given == syntax->most) {
      *code = cli_fail(run, NVFP4_E_ARG, "one argument too many: %s; usage: nvfp4 %s %s [options]", argv[at], run->command->name,
                       run->command->operands);
      return false;
    } else {
      syntax->operands[given++] = argv[at];
    }
  }
  if (help) {
    print_help(run->command, &list);
    *code = CLI_DONE;
    return false;
  }
  if (given < syntax->least) {
    *code = cli_fail(run, NVFP4_E_ARG, "%d of %d arguments are there; usage: nvfp4 %s %s [options]", given, syntax->least,
                     run->command->name, run->command->operands);
    return false;
  }
  return true;
}
