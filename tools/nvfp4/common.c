/* SPDX-License-Identifier: Apache-2.0 */
/* What the subcommands share beside arguments and output. */
#define _POSIX_C_SOURCE 200809L /* clock_gettime, fileno, S_ISREG */
#include "common.h"

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>

/* ------------------------------------------------------------------------------------------------------- context, machine */

typedef struct word {
  const char *name;
  uint32_t bit;
} word;

/* "canonical,deterministic" -> bits. */
static bool parse_words(const cli *run, const char *option, const char *list, const word *words, size_t count, uint32_t *bits, int *code) {
  *bits = 0;
  for (const char *at = list; *at != '\0';) {
    size_t length = strcspn(at, ",");
    size_t i = 0;
    while (i < count && !(strlen(words[i].name) == length && strncmp(at, words[i].name, length) == 0)) {
      i++;
    }
    if (i == count) {
      *code = cli_fail(run, NVFP4_E_ARG, "--%s %s: unknown word %.*s; needs words of `nvfp4 %s --help`, separated by commas", option, list,
                       (int)length, at, run->command->name);
      return false;
    }
    *bits |= words[i].bit;
    at += length + (at[length] == ',');
  }
  return true;
}

static bool apply_selection(const cli *run, const cli_selection *selection, nvfp4_options *options, int *code) {
  static const word requirements[] = {{"canonical", NVFP4_REQUIRE_CANONICAL},
                                      {"batch_invariant", NVFP4_REQUIRE_BATCH_INVARIANT},
                                      {"deterministic", NVFP4_REQUIRE_DETERMINISTIC}};
  static const word allowances[] = {{"bounded", NVFP4_ALLOW_BOUNDED}, {"w4a16", NVFP4_ALLOW_W4A16}};
  nvfp4_policy *policy = &options->policy;
  if (selection->require != NULL && !parse_words(run, "require", selection->require, requirements, 3, &policy->require, code)) {
    return false;
  }
  if (selection->allow != NULL && !parse_words(run, "allow", selection->allow, allowances, 2, &policy->allow, code)) {
    return false;
  }
  policy->kernel = selection->kernel;
  policy->disable = selection->disable != NULL ? selection->disable : policy->disable;
  policy->max_layouts = selection->max_layouts != 0 ? (int)selection->max_layouts : policy->max_layouts;
  options->plugins = selection->plugins != NULL ? selection->plugins : options->plugins;
  options->tuning = selection->untuned ? NULL : selection->tuning != NULL ? selection->tuning : options->tuning;
  options->threads = selection->threads != 0 ? (int)selection->threads : options->threads;
  return true;
}

static void log_line(void *cookie, nvfp4_log_level level, const char *text) {
  if (level == NVFP4_LOG_WARNING) {
    cli_warn(cookie, "%s", text);
  }
}

bool cli_context(const cli *run, const cli_selection *selection, nvfp4_context **out, int *code) {
  nvfp4_options options = {.struct_size = sizeof options};
  nvfp4_reason reason = {0};
  if (nvfp4_options_from_env(&options, &reason) != NVFP4_OK) {
    *code = cli_fail_reason(run, &reason);
    return false;
  }
  if (selection != NULL && !apply_selection(run, selection, &options, code)) {
    return false;
  }
  options.log = log_line;
  options.log_cookie = (void *)run;
  if (nvfp4_context_create(&options, out, &reason) != NVFP4_OK) {
    *code = cli_fail_reason(run, &reason);
    return false;
  }
  return true;
}

static const char *machine_name(const void *cookie, size_t index) {
  (void)cookie;
  return nvfp4_recorded_machine_name(index);
}

bool cli_machine(const cli *run, const char *name, nvfp4_machine *out, int *code) {
  nvfp4_reason reason = {0};
  const char *recorded = nvfp4_recorded_machine(name);
  if (recorded != NULL) {
    if (nvfp4_machine_parse(recorded, out, &reason) != NVFP4_OK) {
      *code = cli_fail_reason(run, &reason);
      return false;
    }
    return true;
  }
  struct stat file;
  if (stat(name, &file) != 0) {
    char names[1024] = "";
    for (size_t i = 0, used = 0; nvfp4_recorded_machine_name(i) != NULL && used < sizeof names - 64; i++) {
      used += (size_t)snprintf(names + used, sizeof names - used, "%s%.48s", i > 0 ? ", " : "", nvfp4_recorded_machine_name(i));
    }
    char hint[256];
    *code = cli_fail(run, NVFP4_E_ARG, "--machine %s: neither a file nor a recorded machine%s; recorded are: %s", name,
                     cli_did_you_mean(name, machine_name, NULL, hint, sizeof hint), names);
    return false;
  }
  char *text;
  size_t bytes;
  if (!cli_read_text(run, name, &text, &bytes, code)) {
    return false;
  }
  nvfp4_status status = nvfp4_machine_parse(text, out, &reason);
  free(text);
  if (status != NVFP4_OK) {
    *code = cli_fail(run, status, "--machine %s: %s", name, reason.text);
    return false;
  }
  return true;
}

bool cli_open(const cli *run, const char *path, uint32_t flags, nvfp4_checkpoint **out, int *code) {
  nvfp4_reason reason = {0};
  if (nvfp4_checkpoint_open(path, flags, out, &reason) != NVFP4_OK) {
    *code = cli_fail_reason(run, &reason);
    return false;
  }
  return true;
}

bool cli_device(const cli *run, const char *text, nvfp4_device *out, int *code) {
  nvfp4_reason reason = {0};
  *out = (nvfp4_device){NVFP4_DEVICE_CPU, 0};
  if (strcmp(text, "auto") != 0 && nvfp4_device_parse(text, out, &reason) != NVFP4_OK) {
    *code = cli_fail(run, reason.status, "--device %s: %s", text, reason.text);
    return false;
  }
  nvfp4_machine machine = {.struct_size = sizeof machine};
  if (out->kind == NVFP4_DEVICE_CUDA) {
    nvfp4_machine_probe(&machine);
  }
  if (out->kind == NVFP4_DEVICE_CUDA && out->ordinal >= machine.gpu_count) {
    *code = machine.gpu_count > 0 ? cli_fail(run, NVFP4_E_MACHINE, "--device %s: this computer has %d GPU%s; needs a number below that",
                                             text, machine.gpu_count, machine.gpu_count == 1 ? "" : "s")
                                  : cli_fail(run, NVFP4_E_MACHINE, "--device %s: %s; needs an NVIDIA GPU and its driver", text,
                                             machine.cuda_missing[0] != '\0' ? machine.cuda_missing : "the driver lists no GPU");
    return false;
  }
  return true;
}

/* ------------------------------------------------------------------------------------------------------------------- files */

/* Reads to the end; NULL with errno set on an error. */
static char *read_all(FILE *in, size_t *bytes) {
  size_t used = 0, capacity = 1 << 16;
  char *text = malloc(capacity);
  while (text != NULL) {
    used += fread(text + used, 1, capacity - 1 - used, in);
    if (ferror(in)) {
      free(text);
      return NULL;
    }
    if (used < capacity - 1) {
      text[used] = '\0';
      *bytes = used;
      return text;
    }
    char *grown = realloc(text, 2 * capacity);
    if (grown == NULL) {
      free(text);
      return NULL;
    }
    text = grown;
    capacity *= 2;
  }
  return NULL;
}

bool cli_read_text(const cli *run, const char *path, char **text, size_t *bytes, int *code) {
  bool standard_input = strcmp(path, "-") == 0;
  FILE *in = standard_input ? stdin : fopen(path, "rb");
  if (in == NULL) {
    *code = cli_fail(run, NVFP4_E_IO, "%s: cannot be opened: %s; needs a text file", path, strerror(errno));
    return false;
  }
  *text = read_all(in, bytes);
  int error = errno;
  if (!standard_input) {
    fclose(in);
  }
  if (*text == NULL) {
    *code = cli_fail(run, NVFP4_E_IO, "%s: cannot be read: %s; needs a text file", path, strerror(error));
    return false;
  }
  size_t bad;
  if (!cli_utf8_valid(*text, *bytes, &bad)) {
    *code = cli_fail(run, NVFP4_E_FORMAT, "%s: byte 0x%02X at offset %zu is not UTF-8; needs a UTF-8 text", path,
                     (unsigned char)(*text)[bad], bad);
    free(*text);
    return false;
  }
  return true;
}

static bool same_file(const struct stat *a, const struct stat *b) { return a->st_dev == b->st_dev && a->st_ino == b->st_ino; }

bool cli_same_file(const char *a, const char *b) {
  struct stat one, two;
  return stat(a, &one) == 0 && stat(b, &two) == 0 && same_file(&one, &two);
}

static bool ends_with(const char *text, const char *end) {
  size_t length = strlen(text), end_length = strlen(end);
  return length >= end_length && strcmp(text + length - end_length, end) == 0;
}

/* Whether the path leads to a file that is read with the checkpoint: the one that names it, or weights and configs of its folder (of a lone
 * file: of none). */
static bool is_of_checkpoint(const char *path, const char *checkpoint) {
  const char *slash = strrchr(checkpoint, '/');
  char *folder = !ends_with(checkpoint, ".json") ? strdup(checkpoint)
                 : slash == NULL                 ? strdup(".")
                                                 : strndup(checkpoint, (size_t)(slash - checkpoint + 1));
  DIR *files = folder != NULL ? opendir(folder) : NULL;
  struct stat wanted, other;
  bool found = cli_same_file(path, checkpoint), exists = stat(path, &wanted) == 0;
  for (const struct dirent *file; exists && !found && files != NULL && (file = readdir(files)) != NULL;) {
    found = (ends_with(file->d_name, ".safetensors") || ends_with(file->d_name, ".json")) &&
            fstatat(dirfd(files), file->d_name, &other, 0) == 0 && same_file(&wanted, &other);
  }
  if (files != NULL) {
    closedir(files);
  }
  free(folder);
  return found;
}

bool cli_output_is_new(const cli *run, const char *option, const char *output, const char *input, const char *checkpoint, int *code) {
  bool is_input = input != NULL && cli_same_file(output, input);
  if (is_input || is_of_checkpoint(output, checkpoint)) {
    *code = cli_fail(run, NVFP4_E_ARG, "--%s %s is %s; needs a file of its own", option, output,
                     is_input ? "the same file as the input" : "a file of the checkpoint");
    return false;
  }
  return true;
}

/* ---------------------------------------------------------------------------------------------------------- time and memory */

double cli_seconds(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

uint64_t cli_peak_rss_bytes(void) {
  struct rusage usage;
  return getrusage(RUSAGE_SELF, &usage) == 0 ? (uint64_t)usage.ru_maxrss * 1024 : 0;
}

uint64_t cli_anonymous_bytes(void) {
  FILE *status = fopen("/proc/self/status", "r");
  if (status == NULL) {
    return 0;
  }
  char line[256];
  unsigned long long kib = 0;
  while (fgets(line, sizeof line, status) != NULL && sscanf(line, "RssAnon: %llu", &kib) != 1) {
  }
  fclose(status);
  return kib * 1024;
}

/* ------------------------------------------------------------------------------------------------- names that are nearly right */

/* Levenshtein distance; names beyond 255 bytes count as far. */
static int distance(const char *a, const char *b) {
  size_t n = strlen(a), m = strlen(b);
  if (n > 255 || m > 255) {
    return INT_MAX;
  }
  int row[256];
  for (size_t j = 0; j <= m; j++) {
    row[j] = (int)j;
  }
  for (size_t i = 1; i <= n; i++) {
    int diagonal = row[0];
    row[0] = (int)i;
    for (size_t j = 1; j <= m; j++) {
      int changed = diagonal + (a[i - 1] != b[j - 1]);
      diagonal = row[j];
      int shorter = row[j] < row[j - 1] ? row[j] : row[j - 1];
      row[j] = changed < shorter + 1 ? changed : shorter + 1;
    }
  }
  return row[m];
}

void cli_nearest(const char *wrong, cli_name_fn name, const void *cookie, char *text, size_t size) {
  enum { BEST = 3 };
  const char *best[BEST] = {0};
  int score[BEST];
  int limit = (int)strlen(wrong) / 3 + 1;
  for (size_t i = 0; name(cookie, i) != NULL; i++) {
    const char *one = name(cookie, i);
    /* A part of a name is nearer than any misspelling. */
    int far = strstr(one, wrong) != NULL ? 0 : distance(wrong, one);
    if (far > limit) {
      continue;
    }
    int place = BEST;
    while (place > 0 && (best[place - 1] == NULL || far < score[place - 1])) {
      place--;
    }
    for (int j = BEST - 1; j > place; j--) {
      best[j] = best[j - 1];
      score[j] = score[j - 1];
    }
    if (place < BEST) {
      best[place] = one;
      score[place] = far;
    }
  }
  text[0] = '\0';
  for (int i = 0; i < BEST && best[i] != NULL; i++) {
    bool last = i + 1 == BEST || best[i + 1] == NULL;
    size_t used = strlen(text);
    snprintf(text + used, size - used, "%s%s", i == 0 ? "" : last ? " or " : ", ", best[i]);
  }
}

const char *cli_did_you_mean(const char *wrong, cli_name_fn name, const void *cookie, char *text, size_t size) {
  char names[256];
  cli_nearest(wrong, name, cookie, names, sizeof names);
  snprintf(text, size, "%s%s%s", names[0] != '\0' ? "; did you mean " : "", names, names[0] != '\0' ? "?" : "");
  return text;
}

const char *cli_layer_name(const void *checkpoint, size_t index) {
  const nvfp4_layer_info *layer = nvfp4_checkpoint_layer(checkpoint, index);
  return layer != NULL ? layer->name : NULL;
}
