/* SPDX-License-Identifier: Apache-2.0 */
/* The command. Each kernel is proven in a process of its own: a crash or a hang is that kernel's failure, and the rest goes on. That of a GPU kernel is this program started anew, since the CUDA
 * driver does not survive a fork. */
#define _GNU_SOURCE /* memfd_create */
#include <errno.h>
#include <fnmatch.h>
#include <jansson.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "command.h"
#include "layer/context.h"

static const char help[] =
    "usage: checkkern [options]\n\n"
    "Proves every kernel of the registry and of the plug-ins, and times those that passed.\n\n"
    "  -k GLOB          only these kernels (default: all)\n"
    "  --list           list the kernels, and run nothing\n"
    "  --plugins LIST   plug-ins to open: paths, comma-separated\n"
    "  --deep           every M with every shape, four seeds: minutes instead of seconds\n"
    "  --seed N         of the random inputs (default 1)\n"
    "  --replay CASE    run one case, as a failure prints it\n"
    "  --timeout S      seconds after which a case is a hang (default 20)\n"
    "  --json           print one JSON object instead of text\n"
    "  --gpu N          prove GPU kernels on device cuda:N (default 0)\n"
    "  --exact          GPU kernels: buffers end where their allocations do, for compute-sanitizer\n"
    "  --sparse N       every Nth case only (default 1): for slow tools\n"
    "  --bench          time the kernels that passed, with the machine's roof before and after\n"
    "  --shapes LIST    for --bench: N,K;N,K;... (default 4096,4096;14336,4096;4096,14336)\n"
    "  --m LIST         for --bench: rows, comma-separated (default 1,16,512)\n"
    "  --threads N      for --bench (default: one a processor)\n"
    "  --l2             for --bench: weights that stay in the L2 caches instead of shapes\n"
    "  --help           print this\n\n"
    "Exit codes: 0 all that ran passed, 1 a kernel failed, 2 bad use.\n";

/* ------------------------------------------------------------------------------------------------------- one kernel's process */

static ck_report *shared; /* for the signal handler */

static void on_crash(int signal, siginfo_t *info, void *context) {
  (void)context;
  ck_guard_describe(info->si_addr, shared->touched, sizeof shared->touched);
  sigaction(signal, &(struct sigaction){.sa_handler = SIG_DFL}, NULL); /* returning repeats the access, which now ends the process */
}

static void watch_signals(void) {
  static char stack[64 * 1024];
  sigaltstack(&(stack_t){.ss_sp = stack, .ss_size = sizeof stack}, NULL);
  struct sigaction action = {.sa_sigaction = on_crash, .sa_flags = SA_SIGINFO | SA_ONSTACK};
  sigaction(SIGSEGV, &action, NULL);
  sigaction(SIGBUS, &action, NULL);
  /* A sanitizer's own handlers would end the process with an exit code instead. */
  static const int others[] = {SIGILL, SIGFPE, SIGABRT, SIGALRM};
  for (size_t i = 0; i < sizeof others / sizeof others[0]; i++) {
    sigaction(others[i], &(struct sigaction){.sa_handler = SIG_DFL}, NULL);
  }
}

static void prove_here(const ck_command *command, nvfp4_context *context, const nvfp4_kernel *kernel, ck_report *report) {
  ck_host host;
  nvfp4_reason reason = {0};
  ck_host_init(&host);
  alarm((unsigned)command->timeout_s);
  if (kernel->device == NVFP4_DEVICE_CUDA) {
    if (ck_device_open(&host.device, (int)command->gpu, command->exact, &reason) != NVFP4_OK) {
      ck_fail(report, "", "%s", reason.text);
      report->done = true;
      return;
    }
    host.table.cuda = host.device.cuda;
  }
  if (command->replay != NULL) {
    alarm((unsigned)command->timeout_s);
    if (!ck_run_case(&host, kernel, &command->replay_case, report)) {
      ck_fail(report, "", "can_implement refuses this case");
    }
  } else {
    alarm((unsigned)command->timeout_s);
    ck_check_contract(&host, context, kernel, (uint64_t)command->seed, report);
    ck_cases cases = ck_cases_make(kernel, (uint64_t)command->seed, command->deep);
    size_t before = report->failures;
    for (size_t i = 0; i < cases.count && report->failures < before + CK_CASE_FAILURES; i += (size_t)command->sparse) {
      alarm((unsigned)command->timeout_s);
      ck_run_case(&host, kernel, &cases.items[i], report);
    }
    free(cases.items);
    if (report->cases == 0 && report->failures == 0) {
      ck_fail(report, "", "can_implement refuses every case");
    }
  }
  ck_host_free(&host);
  report->done = true;
}

/* What ended the process, as a failure of the case that ran. */
static void tell_crash(const ck_command *command, int status, ck_report *report) {
  char how[CK_TEXT];
  int signal = WIFSIGNALED(status) ? WTERMSIG(status) : 0;
  if (signal == SIGALRM) {
    snprintf(how, sizeof how, "hangs: no end after %d s", command->timeout_s);
  } else if (signal != 0) {
    snprintf(how, sizeof how, "crashes: signal %d, %s", signal, strsignal(signal));
  } else {
    snprintf(how, sizeof how, "ends the process with exit code %d", WEXITSTATUS(status));
  }
  char where[96] = "", what[CK_TEXT] = "";
  if (report->doing[0] != '\0') {
    snprintf(where, sizeof where, " in %.64s", report->doing);
  }
  if (report->touched[0] != '\0') {
    snprintf(what, sizeof what, ": touches memory %.400s", report->touched);
  }
  if (report->failures >= CK_FAILURES) {
    report->failures = CK_FAILURES - 1; /* the crash is worth more than the last of them */
  }
  ck_fail(report, report->now, "%.100s%s%.450s", how, where, what);
}

/* Starts this program anew to prove kernel `index` alone; the reports are what descriptor command->reports_fd holds. */
static void start_anew(const ck_command *command, size_t index) {
  char child[64];
  snprintf(child, sizeof child, "%zu,%d", index, command->reports_fd);
  char **arguments = calloc((size_t)command->argc + 3, sizeof *arguments);
  memcpy(arguments, command->argv, (size_t)command->argc * sizeof *arguments);
  arguments[command->argc] = (char[]){"--child"};
  arguments[command->argc + 1] = child;
  execv("/proc/self/exe", arguments);
  _exit(127);
}

static void prove(const ck_command *command, nvfp4_context *context, size_t index, ck_report *report) {
  const nvfp4_kernel *kernel = context->kernels[index].kernel;
  fflush(stdout);
  fflush(stderr);
  pid_t child = fork();
  if (child == 0) {
    if (kernel->device == NVFP4_DEVICE_CUDA) {
      start_anew(command, index);
    }
    shared = report;
    watch_signals();
    prove_here(command, context, kernel, report);
    _exit(0);
  }
  int status = 0;
  while (child > 0 && waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  if (child < 0) {
    ck_fail(report, "", "cannot start a process: %s", strerror(errno));
  } else if (!report->done) {
    tell_crash(command, status, report);
  }
}

/* -------------------------------------------------------------------------------------------------------------------- results */

static void print_failures(const ck_command *command, const char *id, const ck_report *report) {
  for (size_t i = 0; i < report->failures && i < CK_FAILURES; i++) {
    printf("  %s\n", report->failed[i].text);
    if (report->failed[i].replay[0] != '\0') {
      printf("    checkkern%s%s -k %s --replay \"%s\"\n", command->plugins != NULL ? " --plugins " : "",
             command->plugins != NULL ? command->plugins : "", id, report->failed[i].replay);
    }
  }
}

static json_t *result_json(const ck_result *r) {
  json_t *failures = json_array();
  for (size_t i = 0; i < r->report->failures && i < CK_FAILURES; i++) {
    json_array_append_new(failures,
                          json_pack("{s:s, s:o}", "text", r->report->failed[i].text, "replay",
                                    r->report->failed[i].replay[0] != '\0' ? json_string(r->report->failed[i].replay) : json_null()));
  }
  return json_pack("{s:s, s:s, s:s, s:I, s:f, s:o}", "kernel", r->id, "result", outcome_names[r->outcome], "reason", r->reason.text,
                   "cases", (json_int_t)r->report->cases, "seconds", r->seconds, "failures", failures);
}

static double seconds_now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static void check_kernel(const ck_command *command, nvfp4_context *context, size_t index, ck_result *r) {
  const nvfp4_known_kernel *known = &context->kernels[index];
  r->id = known->id;
  r->kernel = known->kernel;
  r->outcome = SKIPPED;
  if (known->kernel == NULL) {
    snprintf(r->reason.text, sizeof r->reason.text, "%s", known->missing_reason);
  } else if (known->kernel->is_supported(&context->machine, &r->reason) != NVFP4_OK) {
    if (r->reason.text[0] == '\0') {
      ck_fail(r->report, "", "is_supported refuses this computer without a reason");
      r->outcome = FAILED;
    }
  } else if (command->list) {
    r->outcome = RUNS;
  } else {
    double start = seconds_now();
    prove(command, context, index, r->report);
    r->seconds = seconds_now() - start;
    r->outcome = r->report->failures == 0 ? PASSED : FAILED;
  }
}

static void print_result(const ck_command *command, const ck_result *r) {
  if (command->list) {
    printf("%-28s %-8s %s\n", r->id, outcome_names[r->outcome], r->outcome == RUNS ? r->kernel->summary : r->reason.text);
  } else if (r->outcome == SKIPPED) {
    printf("%-28s %-8s %s\n", r->id, "skipped", r->reason.text);
  } else {
    printf("%-28s %-8s %5zu cases, %.1f s\n", r->id, r->outcome == PASSED ? "passed" : "FAILED", r->report->cases, r->seconds);
    print_failures(command, r->id, r->report);
  }
  fflush(stdout);
}

/* -------------------------------------------------------------------------------------------------------------------- options */

static int bad_use(const char *what, const char *value) {
  fprintf(stderr, "checkkern: %s %s; `checkkern --help` lists the options\n", what, value);
  return 2;
}

typedef struct option {
  const char *name;
  enum { FLAG, TEXT, NUMBER, SECONDS } kind;
  void *value;
} option;

/* False: *code is the exit code. */
static bool parse_options(int argc, char **argv, ck_command *c, int *code) {
  bool wants_help = false;
  const option options[] = {
      {"-k", TEXT, &c->glob},
      {"--list", FLAG, &c->list},
      {"--plugins", TEXT, &c->plugins},
      {"--deep", FLAG, &c->deep},
      {"--seed", NUMBER, &c->seed},
      {"--replay", TEXT, &c->replay},
      {"--timeout", SECONDS, &c->timeout_s},
      {"--json", FLAG, &c->json},
      {"--gpu", NUMBER, &c->gpu},
      {"--exact", FLAG, &c->exact},
      {"--sparse", NUMBER, &c->sparse},
      {"--child", TEXT, &c->child},
      {"--bench", FLAG, &c->bench},
      {"--shapes", TEXT, &c->shapes},
      {"--m", TEXT, &c->ms},
      {"--threads", NUMBER, &c->threads},
      {"--l2", FLAG, &c->l2},
      {"--help", FLAG, &wants_help},
  };
  enum { OPTIONS = sizeof options / sizeof options[0] };
  *code = 2;
  for (int at = 1; at < argc; at++) {
    int i = 0;
    while (i < OPTIONS && strcmp(options[i].name, argv[at]) != 0) {
      i++;
    }
    if (i == OPTIONS || (options[i].kind != FLAG && at + 1 == argc)) {
      bad_use(i == OPTIONS ? "unknown option" : "a value is missing after", argv[at]);
      return false;
    }
    if (options[i].kind == FLAG) {
      *(bool *)options[i].value = true;
      continue;
    }
    char *end = argv[++at];
    long long number = options[i].kind == TEXT ? 0 : strtoll(argv[at], &end, 10);
    if (options[i].kind != TEXT &&
        (end == argv[at] || *end != '\0' || number < 0 || (options[i].kind == SECONDS && (number < 1 || number > 86400)))) {
      bad_use("not a number that this option takes:", argv[at]);
      return false;
    }
    if (options[i].kind == TEXT) {
      *(const char **)options[i].value = argv[at];
    } else if (options[i].kind == NUMBER) {
      *(int64_t *)options[i].value = number;
    } else {
      *(int *)options[i].value = (int)number;
    }
  }
  char wrong[64];
  if (wants_help) {
    fputs(help, stdout);
    *code = 0;
    return false;
  }
  if (c->replay != NULL && !ck_case_parse(c->replay, &c->replay_case, wrong)) {
    bad_use("--replay: cannot use", wrong);
    return false;
  }
  return true;
}

/* ----------------------------------------------------------------------------------------------------------------------- main */

const char *const outcome_names[OUTCOMES] = {"passed", "failed", "skipped", "runs"};

static void print_json(const ck_command *c, const ck_result *results, size_t count, const size_t *counts, json_t *bench) {
  json_t *list = json_array();
  for (size_t i = 0; i < count; i++) {
    json_array_append_new(list, result_json(&results[i]));
  }
  json_t *all = json_pack("{s:i, s:I, s:I, s:I, s:I, s:o}", "schema", 1, "seed", (json_int_t)c->seed, "passed", (json_int_t)counts[PASSED],
                          "failed", (json_int_t)counts[FAILED], "skipped", (json_int_t)counts[SKIPPED], "kernels", list);
  if (bench != NULL) {
    json_object_set_new(all, "bench", bench);
  }
  json_dumpf(all, stdout, JSON_INDENT(2) | JSON_SORT_KEYS);
  putchar('\n');
  json_decref(all);
}

static int check_all(const ck_command *c, nvfp4_context *context, ck_result *results, ck_report *reports) {
  size_t counts[OUTCOMES] = {0}, used = 0;
  for (size_t i = 0; i < context->kernel_count; i++) {
    if (c->glob != NULL && fnmatch(c->glob, context->kernels[i].id, 0) != 0) {
      continue;
    }
    ck_result *r = &results[used++];
    r->report = &reports[i];
    check_kernel(c, context, i, r);
    counts[r->outcome]++;
    if (!c->json) {
      print_result(c, r);
    }
  }
  if (used == 0) {
    return bad_use("no kernel is called", c->glob != NULL ? c->glob : "anything");
  }
  json_t *bench = NULL;
  int code = c->bench && !c->list ? ck_bench(c, results, used, &bench) : 0;
  if (c->json) {
    print_json(c, results, used, counts, bench);
  } else if (!c->list) {
    printf("checkkern: %zu passed, %zu failed, %zu skipped\n", counts[PASSED], counts[FAILED], counts[SKIPPED]);
  }
  return code != 0 ? code : counts[FAILED] > 0 ? 1 : 0;
}

static void print_log(void *cookie, nvfp4_log_level level, const char *text) {
  (void)cookie, (void)level;
  fprintf(stderr, "checkkern: %s\n", text);
}

/* Every kernel's report, in memory that child processes share. */
static ck_report *share_reports(int fd, size_t count) {
  ck_report *reports = mmap(NULL, count * sizeof *reports, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  return reports != MAP_FAILED ? reports : NULL;
}

/* The process of one GPU kernel. */
static int be_child(const ck_command *c, nvfp4_context *context) {
  size_t index = 0;
  int fd = -1;
  if (sscanf(c->child, "%zu,%d", &index, &fd) != 2 || index >= context->kernel_count || context->kernels[index].kernel == NULL) {
    return bad_use("--child is not for users:", c->child);
  }
  ck_report *reports = share_reports(fd, context->kernel_count);
  if (reports == NULL) {
    return bad_use("no memory for", "the reports");
  }
  shared = &reports[index];
  watch_signals();
  prove_here(c, context, context->kernels[index].kernel, shared);
  return 0;
}

int main(int argc, char **argv) {
  ck_command c = {.seed = 1, .sparse = 1, .timeout_s = 20, .progress = isatty(2), .argc = argc, .argv = argv};
  int code;
  if (!parse_options(argc, argv, &c, &code)) {
    return code;
  }
  c.sparse = c.sparse > 0 ? c.sparse : 1;
  /* One thread: a process with threads must not be forked. */
  nvfp4_options options = {.struct_size = sizeof options, .threads = 1, .plugins = c.plugins, .log = print_log};
  nvfp4_context *context;
  nvfp4_reason reason;
  if (nvfp4_context_create(&options, &context, &reason) != NVFP4_OK) {
    return bad_use("no context:", reason.text);
  }
  if (c.child != NULL) {
    code = be_child(&c, context);
    nvfp4_context_destroy(context);
    return code;
  }
  size_t count = context->kernel_count;
  c.reports_fd = memfd_create("checkkern", 0);
  ck_report *reports =
      c.reports_fd >= 0 && ftruncate(c.reports_fd, (off_t)(count * sizeof *reports)) == 0 ? share_reports(c.reports_fd, count) : NULL;
  ck_result *results = calloc(count, sizeof *results);
  if (reports == NULL || results == NULL) {
    code = bad_use("no memory for", "the reports");
  } else {
    code = check_all(&c, context, results, reports);
  }
  free(results);
  nvfp4_context_destroy(context);
  return code;
}
