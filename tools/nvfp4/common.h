/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the subcommands share. One file a subcommand; each is a constant cli_command that main.c lists.
 *
 *   arguments.c  options and operands, --help
 *   output.c     errors, JSON, tables, the progress bar
 *   common.c     context, machine, devices, files, memory, names that are nearly right
 *   model.c      a model with all it needs (model.h)
 *
 * Functions that can fail return false and put the exit code into *code, having said why: the caller cleans up and returns the code.
 */
#ifndef NVFP4_TOOL_COMMON_H
#define NVFP4_TOOL_COMMON_H

#include <jansson.h>
#include <nvfp4/nvfp4.h>
#include <stdio.h>

/* Exit codes. */
enum { CLI_DONE = 0, CLI_CHECK_FAILED = 1, CLI_BAD_USE = 2 };

typedef struct cli cli;

typedef struct cli_command {
  const char *name;
  const char *operands;    /* "CKPT LAYER", for the usage line */
  const char *summary;     /* one line, for `nvfp4 --help` */
  const char *description; /* for its own --help; may be empty */
  const char *examples;
  int (*run)(cli *run, int argc, char **argv); /* argv[0] is the first argument after the subcommand's name */
} cli_command;

/* One run of the command. */
struct cli {
  const cli_command *command; /* NULL: none yet */
  bool json;
};

extern const cli_command cli_info, cli_kernels, cli_explain, cli_quantize, cli_convert, cli_inspect, cli_apply, cli_generate,
    cli_perplexity, cli_bench, cli_tune, cli_verify;

/* ------------------------------------------------------------------------------------------------------------- arguments.c */

typedef enum cli_kind {
  CLI_FLAG,    /* bool */
  CLI_TEXT,    /* const char * */
  CLI_INTEGER, /* int64_t, within least..most */
  CLI_REAL,    /* double, within least..most */
  CLI_CHOICE   /* int: index of the word in `argument`, "rtn|sweep" */
} cli_kind;

typedef struct cli_option {
  const char *name;     /* without the dashes */
  const char *argument; /* what --help calls the value; NULL for a flag */
  const char *help;     /* with unit and default */
  cli_kind kind;
  void *value; /* holds the default before, the user's wish after */
  int64_t least, most;
} cli_option;

/* How the user steers the selection of kernels: the same options, with the same meaning, for every command that selects. NULL and 0: as the environment says. */
typedef struct cli_selection {
  const char *kernel, *disable, *require, *allow, *plugins, *tuning;
  int64_t max_layouts, threads;
  bool untuned; /* no tuning table, whatever the environment says: for commands that name the kernels themselves */
} cli_selection;

typedef struct cli_syntax {
  const cli_option *options; /* the command's own; --json and --help are always there */
  size_t option_count;
  cli_selection *selection; /* NULL: the command selects no kernels */
  bool threads;             /* with a selection: --threads too */
  const char **operands;    /* `most` of them, NULL before; those given are set */
  int least, most;
} cli_syntax;

/* False: --help was printed, or the arguments are wrong. */
bool cli_parse(cli *run, int argc, char **argv, const cli_syntax *syntax, int *code);

/* ---------------------------------------------------------------------------------------------------------------- output.c */

/* Says "nvfp4: COMMAND: text" on stderr (and, with --json, {"schema": 1, "error": {"status", "text"}} on stdout); returns CLI_BAD_USE. */
int cli_fail(const cli *run, nvfp4_status status, const char *format, ...) __attribute__((format(printf, 3, 4)));
int cli_fail_reason(const cli *run, const nvfp4_reason *reason);
void cli_warn(const cli *run, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Prints and frees the object; adds "schema": 1. */
void cli_print_json(json_t *object);
/* A JSON string of any bytes: those that are not UTF-8 become U+FFFD. NULL gives null. */
json_t *cli_json_text(const char *text);
json_t *cli_json_bytes(const char *text, size_t bytes);
/* A JSON number; null if it is not finite. */
json_t *cli_json_real(double value);
json_t *cli_json_machine(const nvfp4_machine *machine);
/* The processor's name, of which some say nothing. */
const char *cli_cpu_name(const nvfp4_machine *machine);

/* Length of the UTF-8 character at text[0..bytes): 1..4; 0 if it is none; -1 if the bytes end inside one that may be. */
int cli_utf8_length(const char *text, size_t bytes);
bool cli_utf8_valid(const char *text, size_t bytes, size_t *bad_offset);

/* Columns of stdout if it is a terminal, otherwise 100. */
int cli_width(void);
/* Prints `indent` blanks and the text, broken at blanks to cli_width(); later lines begin at `hanging`. Control characters become '?'. */
void cli_print_wrapped(FILE *out, int indent, int hanging, const char *text);
/* "label     text", wrapped. */
void cli_print_field(FILE *out, const char *label, const char *format, ...) __attribute__((format(printf, 3, 4)));

/* A table: cells row by row, columns as wide as their contents. */
typedef struct cli_table {
  int columns;
  const char *right; /* a letter a column: 'r' aligns to the right, anything else to the left; the last column is wrapped */
  char **cells;
  size_t count, capacity;
} cli_table;
void cli_table_add(cli_table *table, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Prints and empties. */
void cli_table_print(cli_table *table, int indent);

/* Bytes as "1.25 MiB". */
const char *cli_bytes(uint64_t bytes, char text[32]);

/* A bar on stderr if that is a terminal; also notes the peak of anonymous memory as the work goes on. */
typedef struct cli_progress {
  const char *unit; /* NULL: bytes */
  double started, shown;
  bool visible;
  uint64_t peak_anonymous_bytes;
} cli_progress;
void cli_progress_begin(cli_progress *progress, const char *unit);
void cli_progress_step(void *progress, uint64_t done, uint64_t total); /* an nvfp4_progress_fn */
void cli_progress_end(cli_progress *progress);

/* ---------------------------------------------------------------------------------------------------------------- common.c */

/* The environment's options, overridden by the user's. selection may be NULL. */
bool cli_context(const cli *run, const cli_selection *selection, nvfp4_context **out, int *code);
/* A recorded machine's name, or a file as nvfp4_machine_print writes it. */
bool cli_machine(const cli *run, const char *name, nvfp4_machine *out, int *code);
bool cli_open(const cli *run, const char *path, uint32_t flags, nvfp4_checkpoint **out, int *code);
/* Reads --device: "cpu", "cuda:N", or "auto", which is the CPU. */
bool cli_device(const cli *run, const char *text, nvfp4_device *out, int *code);

/* Reads a whole text file and checks that it is UTF-8; *text is terminated and the caller's. "-" is standard input. */
bool cli_read_text(const cli *run, const char *path, char **text, size_t *bytes, int *code);

/* Whether both paths lead to the same existing file. */
bool cli_same_file(const char *a, const char *b);
/* Refuses to write `output`, the value of an option, over the command's input (NULL: none) or over a file of the checkpoint. */
bool cli_output_is_new(const cli *run, const char *option, const char *output, const char *input, const char *checkpoint, int *code);

double cli_seconds(void);
uint64_t cli_peak_rss_bytes(void);
uint64_t cli_anonymous_bytes(void); /* now; 0 if the system does not say */

/* The names nearest to `wrong`, best first, as "a, b or c" into text; empty if none is near. name(cookie, i) gives the names, NULL past the end. */
typedef const char *(*cli_name_fn)(const void *cookie, size_t index);
void cli_nearest(const char *wrong, cli_name_fn name, const void *cookie, char *text, size_t size);
const char *cli_layer_name(const void *checkpoint, size_t index); /* a cli_name_fn */
/* "; did you mean a, b or c?" or "". */
const char *cli_did_you_mean(const char *wrong, cli_name_fn name, const void *cookie, char *text, size_t size);

#endif
