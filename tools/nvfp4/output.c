/* SPDX-License-Identifier: Apache-2.0 */
/* What the user sees: errors, JSON, wrapped text, tables, the progress bar. */
#define _GNU_SOURCE /* vasprintf */
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "common.h"

/* ------------------------------------------------------------------------------------------------------------------- UTF-8 */

int cli_utf8_length(const char *text, size_t bytes) {
  const unsigned char *u = (const unsigned char *)text;
  if (bytes == 0) {
    return -1;
  }
  if (u[0] < 0x80) {
    return 1;
  }
  int length = u[0] >= 0xC2 && u[0] <= 0xDF ? 2 : u[0] >= 0xE0 && u[0] <= 0xEF ? 3 : u[0] >= 0xF0 && u[0] <= 0xF4 ? 4 : 0;
  for (int i = 1; i < length; i++) {
    if ((size_t)i >= bytes) {
      return -1;
    }
    /* The second byte's range shuts out overlong forms, surrogates and what lies beyond U+10FFFF. */
    unsigned char least = i > 1 ? 0x80 : u[0] == 0xE0 ? 0xA0 : u[0] == 0xF0 ? 0x90 : 0x80;
    unsigned char most = i > 1 ? 0xBF : u[0] == 0xED ? 0x9F : u[0] == 0xF4 ? 0x8F : 0xBF;
    if (u[i] < least || u[i] > most) {
      return 0;
    }
  }
  return length;
}

bool cli_utf8_valid(const char *text, size_t bytes, size_t *bad_offset) {
  for (size_t at = 0; at < bytes;) {
    int length = cli_utf8_length(text + at, bytes - at);
    if (length <= 0) {
      *bad_offset = at;
      return false;
    }
    at += (size_t)length;
  }
  return true;
}

/* -------------------------------------------------------------------------------------------------------------------- JSON */

json_t *cli_json_bytes(const char *text, size_t bytes) {
  char *clean = malloc(3 * bytes + 1);
  if (clean == NULL) {
    return json_null();
  }
  size_t used = 0;
  for (size_t at = 0; at < bytes;) {
    int length = cli_utf8_length(text + at, bytes - at);
    if (length <= 0) {
      memcpy(clean + used, "\xEF\xBF\xBD", 3);
      used += 3;
      at++;
    } else {
      memcpy(clean + used, text + at, (size_t)length);
      used += (size_t)length;
      at += (size_t)length;
    }
  }
  json_t *string = json_stringn(clean, used);
  free(clean);
  return string;
}

json_t *cli_json_text(const char *text) { return text != NULL ? cli_json_bytes(text, strlen(text)) : json_null(); }

json_t *cli_json_real(double value) { return isfinite(value) ? json_real(value) : json_null(); }

const char *cli_cpu_name(const nvfp4_machine *machine) { return machine->cpu[0] != '\0' ? machine->cpu : "unknown processor"; }

json_t *cli_json_machine(const nvfp4_machine *machine) {
  static const char *const architectures[] = {"unknown", "x86_64", "aarch64"};
  json_t *isa = json_array();
  for (int bit = 0; bit < 32; bit++) {
    const char *name = (machine->isa & (UINT32_C(1) << bit)) != 0 ? nvfp4_isa_name(UINT32_C(1) << bit) : NULL;
    if (name != NULL) {
      json_array_append_new(isa, json_string(name));
    }
  }
  json_t *gpus = json_array();
  for (int i = 0; i < machine->gpu_count; i++) {
    const nvfp4_gpu *gpu = &machine->gpus[i];
    json_array_append_new(gpus, json_pack("{s:o, s:i, s:i, s:I, s:I, s:I}", "name", cli_json_text(gpu->name), "sm", gpu->sm,
                                          "multiprocessors", gpu->multiprocessors, "memory_bytes", (json_int_t)gpu->memory_bytes,
                                          "l2_bytes", (json_int_t)gpu->l2_bytes, "shared_bytes", (json_int_t)gpu->shared_bytes));
  }
  return json_pack("{s:o, s:s, s:o, s:i, s:I, s:I, s:I, s:I, s:i, s:o, s:o}", "cpu", cli_json_text(machine->cpu), "arch",
                   architectures[machine->arch], "isa", isa, "cores", machine->cores, "l1d_bytes", (json_int_t)machine->l1d_bytes,
                   "l2_bytes", (json_int_t)machine->l2_bytes, "l3_bytes", (json_int_t)machine->l3_bytes, "memory_bytes",
                   (json_int_t)machine->memory_bytes, "cuda_driver", machine->cuda_driver, "cuda_missing",
                   cli_json_text(machine->cuda_missing[0] != '\0' ? machine->cuda_missing : NULL), "gpus", gpus);
}

void cli_print_json(json_t *object) {
  json_t *whole = json_pack("{s:i}", "schema", 1);
  json_object_update(whole, object);
  /* 9 digits hold every fp32 exactly. */
  json_dumpf(whole, stdout, JSON_INDENT(2) | JSON_REAL_PRECISION(9));
  putchar('\n');
  json_decref(whole);
  json_decref(object);
}

/* ------------------------------------------------------------------------------------------------------------------ errors */

/* Names come from files: a control character must not reach the terminal. */
static void put_clean(FILE *out, const char *text, size_t bytes) {
  for (size_t i = 0; i < bytes; i++) {
    unsigned char c = (unsigned char)text[i];
    putc(c < 0x20 || c == 0x7F ? '?' : c, out);
  }
}

static void say(const cli *run, const char *kind, const char *text) {
  fflush(stdout);
  fprintf(stderr, "nvfp4: %s%s%s", run->command != NULL ? run->command->name : "", run->command != NULL ? ": " : "", kind);
  put_clean(stderr, text, strlen(text));
  putc('\n', stderr);
}

static int fail_text(const cli *run, nvfp4_status status, const char *text) {
  say(run, "", text);
  if (run->json) {
    cli_print_json(json_pack("{s:{s:s, s:o}}", "error", "status", nvfp4_status_name(status), "text", cli_json_text(text)));
  }
  return CLI_BAD_USE;
}

int cli_fail(const cli *run, nvfp4_status status, const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  char *text = NULL;
  int length = vasprintf(&text, format, arguments);
  va_end(arguments);
  int code = fail_text(run, status, length >= 0 ? text : "out of memory");
  if (length >= 0) {
    free(text);
  }
  return code;
}

int cli_fail_reason(const cli *run, const nvfp4_reason *reason) { return fail_text(run, reason->status, reason->text); }

void cli_warn(const cli *run, const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  char *text = NULL;
  if (vasprintf(&text, format, arguments) >= 0) {
    say(run, "warning: ", text);
    free(text);
  }
  va_end(arguments);
}

/* -------------------------------------------------------------------------------------------------------------------- text */

int cli_width(void) {
  struct winsize size;
  if (isatty(STDOUT_FILENO) && ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col >= 60) {
    return size.ws_col;
  }
  return 100;
}

/* Prints text from column `at` on. */
static void print_from(FILE *out, int at, int hanging, const char *text) {
  int width = cli_width();
  for (bool first = true; *text != '\0'; first = false) {
    size_t length = strcspn(text, " \n");
    if (!first && (at + 1 + (int)length > width || text[-1] == '\n')) {
      fprintf(out, "\n%*s", hanging, "");
      at = hanging;
    } else if (!first) {
      putc(' ', out);
      at++;
    }
    put_clean(out, text, length);
    at += (int)length;
    text += length + (text[length] != '\0');
  }
  putc('\n', out);
}

void cli_print_wrapped(FILE *out, int indent, int hanging, const char *text) {
  fprintf(out, "%*s", indent, "");
  print_from(out, indent, hanging, text);
}

void cli_print_field(FILE *out, const char *label, const char *format, ...) {
  enum { LABEL = 10 };
  va_list arguments;
  va_start(arguments, format);
  char *text = NULL;
  if (vasprintf(&text, format, arguments) >= 0) {
    fprintf(out, "%-*s", LABEL, label);
    print_from(out, LABEL, LABEL, text);
    free(text);
  }
  va_end(arguments);
}

void cli_table_add(cli_table *table, const char *format, ...) {
  if (table->count == table->capacity) {
    size_t capacity = table->capacity != 0 ? 2 * table->capacity : 64;
    char **grown = realloc(table->cells, capacity * sizeof *grown);
    if (grown == NULL) {
      return;
    }
    table->cells = grown;
    table->capacity = capacity;
  }
  va_list arguments;
  va_start(arguments, format);
  char *text = NULL;
  table->cells[table->count++] = vasprintf(&text, format, arguments) >= 0 ? text : NULL;
  va_end(arguments);
}

static const char *cell(const cli_table *table, size_t row, int column) {
  const char *text = table->cells[row * (size_t)table->columns + (size_t)column];
  return text != NULL ? text : "";
}

void cli_table_print(cli_table *table, int indent) {
  enum { GAP = 2, MAX_COLUMNS = 12 };
  int width[MAX_COLUMNS] = {0};
  size_t rows = table->count / (size_t)table->columns;
  for (size_t row = 0; row < rows; row++) {
    for (int column = 0; column < table->columns; column++) {
      int length = (int)strlen(cell(table, row, column));
      width[column] = length > width[column] ? length : width[column];
    }
  }
  for (size_t row = 0; row < rows; row++) {
    int at = indent;
    printf("%*s", indent, "");
    for (int column = 0; column + 1 < table->columns; column++) {
      const char *text = cell(table, row, column);
      int pad = width[column] - (int)strlen(text);
      printf("%*s", table->right[column] == 'r' ? pad : 0, "");
      put_clean(stdout, text, strlen(text));
      printf("%*s", (table->right[column] == 'r' ? 0 : pad) + GAP, "");
      at += width[column] + GAP;
    }
    const char *last = cell(table, row, table->columns - 1);
    if (table->right[table->columns - 1] == 'r') {
      printf("%*s\n", width[table->columns - 1], last);
    } else {
      print_from(stdout, at, at, last);
    }
  }
  for (size_t i = 0; i < table->count; i++) {
    free(table->cells[i]);
  }
  free(table->cells);
  table->cells = NULL;
  table->count = table->capacity = 0;
}

const char *cli_bytes(uint64_t bytes, char text[32]) {
  static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
  double value = (double)bytes;
  int unit = 0;
  while (value >= 1024 && unit < 4) {
    value /= 1024;
    unit++;
  }
  int digits = unit == 0 || value == floor(value) || value >= 100 ? 0 : 1;
  snprintf(text, 32, "%.*f %s", digits, value, units[unit]);
  return text;
}

/* ---------------------------------------------------------------------------------------------------------------- progress */

void cli_progress_begin(cli_progress *progress, const char *unit) {
  *progress = (cli_progress){.unit = unit, .started = cli_seconds(), .visible = isatty(STDERR_FILENO) != 0};
}

void cli_progress_step(void *cookie, uint64_t done, uint64_t total) {
  enum { CELLS = 40 };
  cli_progress *progress = cookie;
  double now = cli_seconds();
  if (now - progress->shown < 0.1 && done != total) {
    return;
  }
  progress->shown = now;
  uint64_t anonymous = cli_anonymous_bytes();
  if (anonymous > progress->peak_anonymous_bytes) {
    progress->peak_anonymous_bytes = anonymous;
  }
  if (!progress->visible || total == 0) {
    return;
  }
  double share = (double)done / (double)total;
  share = share > 1 ? 1 : share;
  int filled = (int)(share * CELLS);
  char bar[CELLS + 1];
  memset(bar, '#', (size_t)filled);
  memset(bar + filled, '.', (size_t)(CELLS - filled));
  bar[CELLS] = '\0';
  fprintf(stderr, "\r[%s] %3.0f %%", bar, 100 * share);
  if (progress->unit != NULL) {
    fprintf(stderr, "  %llu/%llu %s", (unsigned long long)done, (unsigned long long)total, progress->unit);
  } else {
    char a[32], b[32];
    fprintf(stderr, "  %s of %s", cli_bytes(done, a), cli_bytes(total, b));
  }
  if (share > 0.02) {
    fprintf(stderr, "  %.0f s left", (now - progress->started) * (1 - share) / share);
  }
  fprintf(stderr, "\033[K");
  fflush(stderr);
}

void cli_progress_end(cli_progress *progress) {
  if (progress->visible) {
    fprintf(stderr, "\r\033[K");
    fflush(stderr);
  }
}
