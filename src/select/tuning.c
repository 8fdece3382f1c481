/* SPDX-License-Identifier: Apache-2.0 */
#define _POSIX_C_SOURCE 200809L /* strdup, open_memstream */
#include "select/tuning.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/reason.h"

/* What a table is of: the head of one of the CPU, and of one of a GPU. */
typedef enum head_line { FORMAT, VERSION, CPU, ISA, THREADS, GPU, DRIVER } head_line;
enum { MOST_HEAD_LINES = 5 };
static const head_line heads[2][MOST_HEAD_LINES] = {{FORMAT, VERSION, CPU, ISA, THREADS}, {FORMAT, VERSION, GPU, DRIVER}};
static const int head_lines[2] = {5, 4};
static const char *const head_keys[] = {"nvfp4-tuning", "version", "cpu", "isa", "threads", "gpu", "cuda_driver"};
static const char *const device_words[] = {"cpu", "cuda"}; /* by nvfp4_device_kind */

/* gpu: whose name, of a table of a GPU. */
static const char *head_value(head_line line, const nvfp4_machine *machine, int gpu, int threads, char text[512]) {
  switch (line) {
    case FORMAT:
      return "1";
    case VERSION:
      return NVFP4_VERSION;
    case CPU:
      return machine->cpu[0] != '\0' ? machine->cpu : "unknown";
    case GPU:
      return gpu < machine->gpu_count ? machine->gpus[gpu].name : "none";
    case DRIVER:
      snprintf(text, 512, "%d", machine->cuda_driver);
      return text;
    case ISA: {
      size_t used = 0;
      for (uint32_t bit = 1; bit != 0; bit <<= 1) {
        if ((machine->isa & bit) != 0 && nvfp4_isa_name(bit) != NULL && used < 480) {
          used += (size_t)snprintf(text + used, 512 - used, "%s%s", used > 0 ? " " : "", nvfp4_isa_name(bit));
        }
      }
      return used > 0 ? text : "none";
    }
    default:
      snprintf(text, 512, "%d", threads);
      return text;
  }
}

/* ------------------------------------------------------------------------------------------------------------------- print */

char *nvfp4_tuning_print(const nvfp4_machine *machine, nvfp4_device device, int threads, const nvfp4_tuned_time *times, size_t count) {
  char *text = NULL, value[512];
  size_t bytes = 0;
  FILE *out = open_memstream(&text, &bytes);
  if (out == NULL) {
    return NULL;
  }
  for (int i = 0; i < head_lines[device.kind]; i++) {
    head_line line = heads[device.kind][i];
    fprintf(out, "%s %s\n", head_keys[line], head_value(line, machine, device.ordinal, threads, value));
  }
  for (size_t i = 0; i < count; i++) {
    const nvfp4_tuned_time *time = &times[i];
    fprintf(out, "time device=%s mode=%s n=%" PRId64 " k=%" PRId64 " m=%" PRId64 " kernel=%s ns=%" PRId64 "\n", device_words[device.kind],
            nvfp4_mode_name(time->mode), time->n, time->k, time->m, time->kernel, time->ns);
  }
  bool failed = ferror(out) != 0;
  if (fclose(out) != 0 || failed) {
    free(text);
    return NULL;
  }
  return text;
}

/* ------------------------------------------------------------------------------------------------------------------- parse */

/* What stands behind the key, or NULL: the text begins with another one. */
static const char *value_of(const char *text, const char *key) {
  size_t length = strlen(key);
  return strncmp(text, key, length) == 0 && text[length] == ' ' ? text + length + 1 : NULL;
}

static int find_gpu(const nvfp4_machine *machine, const char *name) {
  int gpu = 0;
  while (gpu < machine->gpu_count && strcmp(machine->gpus[gpu].name, name) != 0) {
    gpu++;
  }
  return gpu < machine->gpu_count ? gpu : 0; /* the first is the one to name in a refusal */
}

/* Line `index` of the head. Its third says whether the table is of the CPU or of a GPU. */
static nvfp4_status check_head(int number, int index, const char *text, const nvfp4_machine *machine, int threads, nvfp4_tuning *out,
                               nvfp4_reason *reason) {
  char value[512];
  if (index == 2) {
    out->gpu = value_of(text, head_keys[GPU]);
  }
  head_line line = heads[out->gpu != NULL][index];
  const char *key = head_keys[line], *found = value_of(text, key);
  if (found == NULL) {
    return nvfp4_reject(reason, NVFP4_E_FORMAT, "line %d is \"%.60s\"; needs \"%s ...\", as `nvfp4 tune` writes it", number, text, key);
  }
  const char *wanted = head_value(line, machine, line == GPU ? find_gpu(machine, found) : 0, threads, value);
  if (strcmp(found, wanted) != 0) {
    nvfp4_status status = line == FORMAT || line == VERSION ? NVFP4_E_UNSUPPORTED : NVFP4_E_MACHINE;
    return nvfp4_reject(reason, status,
                        "line %d: measured with %s \"%.140s\"; here it is \"%.140s\"; needs times of this library, computer and number of "
                        "threads: run `nvfp4 tune` again, or take no table",
                        number, key, found, wanted);
  }
  return NVFP4_OK;
}

/* The value of the next word of *text, which must begin with key; NULL otherwise. The word is ended with a NUL. */
static char *next_value(char **text, const char *key) {
  char *word = *text + strspn(*text, " "), *end = word + strcspn(word, " ");
  size_t length = strlen(key);
  if (strncmp(word, key, length) != 0 || word + length >= end) {
    return NULL;
  }
  *text = *end != '\0' ? end + 1 : end;
  *end = '\0';
  return word + length;
}

static bool next_number(char **text, const char *key, int64_t *out) {
  const char *value = next_value(text, key);
  char *end;
  errno = 0;
  if (value == NULL || value[0] < '1' || value[0] > '9') {
    return false;
  }
  long long number = strtoll(value, &end, 10);
  *out = number;
  return *end == '\0' && errno == 0;
}

static bool parse_time(char *text, const char *device_word, nvfp4_tuned_time *out) {
  const char *device = next_value(&text, "device="), *mode = next_value(&text, "mode=");
  if (device == NULL || strcmp(device, device_word) != 0 || mode == NULL) {
    return false;
  }
  static const nvfp4_mode modes[] = {NVFP4_MODE_UNQUANTISED, NVFP4_MODE_W4A4, NVFP4_MODE_W4A16};
  size_t i = 0;
  while (i < 3 && strcmp(mode, nvfp4_mode_name(modes[i])) != 0) {
    i++;
  }
  if (i == 3) {
    return false;
  }
  out->mode = modes[i];
  return next_number(&text, "n=", &out->n) && next_number(&text, "k=", &out->k) && next_number(&text, "m=", &out->m) &&
         (out->kernel = next_value(&text, "kernel=")) != NULL && next_number(&text, "ns=", &out->ns) && text[strspn(text, " ")] == '\0';
}

/* Layer by layer, ascending in M. */
static int by_layer(const nvfp4_tuned_time *a, const nvfp4_tuned_time *b) {
  const int64_t left[] = {a->mode, a->n, a->k}, right[] = {b->mode, b->n, b->k};
  for (int i = 0; i < 3; i++) {
    if (left[i] != right[i]) {
      return left[i] < right[i] ? -1 : 1;
    }
  }
  return 0;
}

static int by_place(const void *left, const void *right) {
  const nvfp4_tuned_time *a = left, *b = right;
  int layer = by_layer(a, b);
  if (layer != 0) {
    return layer;
  }
  return a->m != b->m ? (a->m < b->m ? -1 : 1) : strcmp(a->kernel, b->kernel);
}

static nvfp4_status sort_times(nvfp4_tuning *tuning, nvfp4_reason *reason) {
  if (tuning->count > 0) {
    qsort(tuning->times, tuning->count, sizeof *tuning->times, by_place);
  }
  for (size_t i = 1; i < tuning->count; i++) {
    const nvfp4_tuned_time *time = &tuning->times[i];
    if (by_place(time - 1, time) == 0) {
      return nvfp4_reject(reason, NVFP4_E_FORMAT,
                          "two times of %.100s for a %s layer of N=%" PRId64 ", K=%" PRId64 " at M=%" PRId64 "; needs one: take one out",
                          time->kernel, nvfp4_mode_name(time->mode), time->n, time->k, time->m);
    }
  }
  return NVFP4_OK;
}

/* The table's lines into out->times, which has room for all; out->text is cut into lines and words. */
static nvfp4_status parse_lines(const nvfp4_machine *machine, int threads, nvfp4_tuning *out, nvfp4_reason *reason) {
  int head = 0, number = 1;
  for (char *line = out->text, *next; line != NULL; line = next, number++) {
    next = strchr(line, '\n');
    if (next != NULL) {
      *next++ = '\0';
    }
    size_t length = strlen(line);
    while (length > 0 && strchr(" \t\r", line[length - 1]) != NULL) {
      line[--length] = '\0';
    }
    if (length == 0 || line[0] == '#') {
      continue;
    }
    if (head < head_lines[out->gpu != NULL]) {
      NVFP4_TRY(check_head(number, head++, line, machine, threads, out, reason));
      continue;
    }
    const char *word = device_words[out->gpu != NULL ? NVFP4_DEVICE_CUDA : NVFP4_DEVICE_CPU];
    char shown[81];
    snprintf(shown, sizeof shown, "%s", line);
    if (strncmp(line, "time ", 5) != 0 || !parse_time(line + 5, word, &out->times[out->count])) {
      return nvfp4_reject(
          reason, NVFP4_E_FORMAT,
          "line %d is \"%s\"; needs \"time device=%s mode=w4a4|w4a16|unquantised n=N k=K m=M kernel=ID ns=NANOSECONDS\", whole numbers "
          "from 1 on: mend it, or run `nvfp4 tune` again",
          number, shown, word);
    }
    out->count++;
  }
  if (head < head_lines[out->gpu != NULL]) {
    return nvfp4_reject(reason, NVFP4_E_FORMAT, "ends before \"%s ...\"; needs a table as `nvfp4 tune` writes it",
                        head_keys[heads[out->gpu != NULL][head]]);
  }
  return sort_times(out, reason);
}

nvfp4_status nvfp4_tuning_parse(const char *text, const char *file, const nvfp4_machine *machine, int threads, nvfp4_tuning *out,
                                nvfp4_reason *reason) {
  size_t lines = 1;
  for (const char *at = text; (at = strchr(at, '\n')) != NULL; at++) {
    lines++;
  }
  nvfp4_tuning tuning = {.file = strdup(file), .text = strdup(text), .times = malloc(lines * sizeof *tuning.times)};
  nvfp4_status status = tuning.file != NULL && tuning.text != NULL && tuning.times != NULL
                            ? parse_lines(machine, threads, &tuning, reason)
                            : nvfp4_reject(reason, NVFP4_E_NOMEM, "out of memory for %zu lines", lines);
  if (status != NVFP4_OK) {
    nvfp4_tuning_free(&tuning);
    return status;
  }
  *out = tuning;
  return NVFP4_OK;
}

void nvfp4_tuning_free(nvfp4_tuning *tuning) {
  free(tuning->file);
  free(tuning->text);
  free(tuning->times);
  *tuning = (nvfp4_tuning){0};
}

/* ------------------------------------------------------------------------------------------------------------------- match */

const nvfp4_tuning *nvfp4_tuning_of(const nvfp4_tuning *tunings, size_t count, const nvfp4_machine *machine, nvfp4_device device) {
  const char *gpu = device.kind == NVFP4_DEVICE_CUDA && device.ordinal < machine->gpu_count ? machine->gpus[device.ordinal].name : NULL;
  for (size_t i = 0; i < count; i++) {
    const char *of = tunings[i].gpu;
    if (device.kind == NVFP4_DEVICE_CPU ? of == NULL : of != NULL && gpu != NULL && strcmp(of, gpu) == 0) {
      return &tunings[i];
    }
  }
  return NULL;
}

nvfp4_tuned nvfp4_tuned_layer(const nvfp4_tuning *tuning, const nvfp4_layer_desc *desc) {
  nvfp4_tuned found = {0};
  if (tuning == NULL) {
    return found;
  }
  const nvfp4_tuned_time layer = {.mode = desc->mode, .n = desc->n, .k = desc->k};
  for (size_t i = 0; i < tuning->count; i++) {
    if (by_layer(&tuning->times[i], &layer) == 0) {
      found.times = found.count == 0 ? &tuning->times[i] : found.times;
      found.count++;
    }
  }
  return found;
}

nvfp4_tuned nvfp4_tuned_at(nvfp4_tuned layer, int64_t m, int64_t *m_last) {
  size_t first = 0, end = 0;
  *m_last = NVFP4_M_MAX;
  if (layer.count == 0) {
    return layer;
  }
  for (size_t i = 0; i < layer.count; i = end) {
    if (i > 0 && layer.times[i].m > m) {
      *m_last = layer.times[i].m - 1;
      break;
    }
    first = i;
    while (end < layer.count && layer.times[end].m == layer.times[first].m) {
      end++;
    }
  }
  return (nvfp4_tuned){layer.times + first, end - first};
}

int64_t nvfp4_tuned_ns(nvfp4_tuned at, const char *kernel) {
  for (size_t i = 0; i < at.count; i++) {
    if (strcmp(at.times[i].kernel, kernel) == 0) {
      return at.times[i].ns;
    }
  }
  return NVFP4_NOT_TIMED;
}
