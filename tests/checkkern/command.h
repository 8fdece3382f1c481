/* SPDX-License-Identifier: Apache-2.0 */
/* What the command's files share: the options, and what became of each kernel. */
#ifndef NVFP4_TESTS_CHECKKERN_COMMAND_H
#define NVFP4_TESTS_CHECKKERN_COMMAND_H

#include <jansson.h>

#include "checkkern.h"

typedef struct ck_command {
  const char *glob, *plugins, *shapes, *ms;
  const char *replay;
  ck_case replay_case;
  const char *child; /* "INDEX,FD": this is the process of one GPU kernel */
  int64_t seed, threads, gpu, sparse;
  int timeout_s;
  bool list, deep, json, bench, l2, exact;
  bool progress; /* stderr is a terminal */
  int argc;
  char **argv;
  int reports_fd;
} ck_command;

enum { PASSED, FAILED, SKIPPED, RUNS, OUTCOMES };
extern const char *const outcome_names[OUTCOMES];

typedef struct ck_result {
  const char *id;
  const nvfp4_kernel *kernel; /* NULL: not in this build */
  int outcome;
  nvfp4_reason reason; /* of SKIPPED */
  ck_report *report;   /* in shared memory */
  double seconds;
} ck_result;

/* Times the kernels of `results` that passed; prints, or gives *json. Returns an exit code: 0, or 2 having said why. */
int ck_bench(const ck_command *c, const ck_result *results, size_t count, json_t **json);

#endif
