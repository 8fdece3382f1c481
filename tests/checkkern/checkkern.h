/* SPDX-License-Identifier: Apache-2.0 */
/*
 * checkkern proves every kernel of a context's list and, with --bench, times those that passed. It drives the vtable of kernel.h itself, so that neither a policy nor the self-test
 * keeps a kernel from it.
 *
 *   checkkern.c  the command: options, one process a kernel, the reports
 *   cases.c      a case as a line of text, and the list of cases
 *   problem.c    weights, activations and the rest of a case
 *   expect.c     what a case must give: the bits of the reference, or the bound of docs/numerics.md
 *   guard.c      memory between inaccessible pages, and who touched them
 *   device.c     memory of a GPU, for its kernels
 *   run.c        runs a case
 *   contract.c   the questions of the contract: refusals, packing, workspace
 *   bench.c      --bench
 */
#ifndef NVFP4_TESTS_CHECKKERN_H
#define NVFP4_TESTS_CHECKKERN_H

#include <nvfp4/kernel.h>

#include "base/threads.h"
#include "layer/place.h"

/* ---------------------------------------------------------------------------------------------------------------------- cases */

/* Every field is a number, so that one table prints and reads them. Words of the enumerated ones: cases.c. */
typedef struct ck_case {
  int64_t m, n, k;
  int64_t x, y, bias;    /* nvfp4_dtype */
  int64_t codes, scales; /* of NVFP4 weights: CK_CODES_*, CK_SCALES_* */
  int64_t w, weights;    /* of dense weights: nvfp4_dtype, which is NONE in cases of NVFP4 kernels, and CK_VALUES_* */
  int64_t values;        /* of x: CK_VALUES_* */
  int64_t quantised;     /* CK_X_PLAIN, or 1 + nvfp4_scale_layout */
  int64_t alpha;         /* CK_ALPHA_* */
  int64_t x_gap, y_gap;  /* ldx - k, ldy - n */
  int64_t threads;       /* 0: one, which takes the tasks in descending order */
  int64_t guard;         /* CK_GUARD_* */
  int64_t caller;        /* CK_CALLER_*: its floating-point environment */
  int64_t check;         /* CK_CHECK_* */
  int64_t seed;
} ck_case;

enum { CK_CODES_RANDOM, CK_CODES_MAX, CK_CODES_ALTERNATING, CK_CODES_MINUS_ZERO, CK_CODES_ALL, CK_CODES_ONE_HOT, CK_CODES_KINDS };
enum { CK_SCALES_TYPICAL, CK_SCALES_ANY, CK_SCALES_MAX, CK_SCALES_ZERO, CK_SCALES_SUBNORMAL, CK_SCALES_EXTREMES, CK_SCALES_KINDS };
enum {
  CK_VALUES_GAUSS,
  CK_VALUES_MAX,
  CK_VALUES_ALTERNATING,
  CK_VALUES_ZEROS,
  CK_VALUES_ONE_HOT,
  CK_VALUES_WIDE,
  CK_VALUES_HUGE,
  CK_VALUES_SUBNORMAL,
  CK_VALUES_TINY,
  CK_VALUES_NAN,
  CK_VALUES_INF,
  CK_VALUES_KINDS
};
enum { CK_X_PLAIN, CK_X_LINEAR, CK_X_128X4, CK_X_8X4 };
enum { CK_ALPHA_ONE, CK_ALPHA_PARTITIONS, CK_ALPHA_ROWS, CK_ALPHA_TINY, CK_ALPHA_KINDS };
enum { CK_GUARD_AFTER, CK_GUARD_BEFORE, CK_GUARD_ODD };
enum { CK_CALLER_PLAIN, CK_CALLER_FLUSHES };
enum { CK_CHECK_VALUES, CK_CHECK_REPEAT, CK_CHECK_THREADS, CK_CHECK_BATCH };

enum { CK_CASE_TEXT = 320 };

/* "m=3 n=17 k=48 x=bf16 ... seed=7": fields that are at their default are left out. */
void ck_case_print(const ck_case *c, char text[CK_CASE_TEXT]);
/* Reads such a line; fields that are not named have their default. False: *wrong is the word that was not understood. */
bool ck_case_parse(const char *text, ck_case *out, char wrong[64]);

typedef struct ck_cases {
  ck_case *items;
  size_t count, capacity;
} ck_cases;
/* The cases of a kernel; deep: all shapes with all others, instead of pairs. */
ck_cases ck_cases_make(const nvfp4_kernel *kernel, uint64_t seed, bool deep);

/* -------------------------------------------------------------------------------------------------------------------- problems */

/* The inputs of a case, on the C library's heap; run.c copies them between guard pages. */
typedef struct ck_problem {
  int64_t m, n, k, blocks; /* blocks = k/16 */
  uint8_t *codes, *scales; /* NVFP4: [n, k/2], [n, blocks] */
  float *w;                /* dense: [n, k]: the values after rounding to the case's type */
  float *x;                /* [m, k]: the values after rounding to the case's type */
  nvfp4_global input;
  float s_a;
  uint8_t *x_codes, *x_scales; /* W4A4: [m, k/2], [m, blocks] as the format's quantiser makes them */
  float *alpha;                /* [n] */
  float *bias;                 /* [n]: values after rounding; NULL: none */
} ck_problem;

ck_problem ck_problem_make(const ck_case *c, nvfp4_mode mode);
void ck_problem_free(ck_problem *p);

/* ---------------------------------------------------------------------------------------------------------------- expectations */

/* What y[m, n] must be. */
typedef struct ck_expected {
  nvfp4_class numerics_class;
  float *canonical;         /* [m, n] before the rounding to y's type */
  double *exact, *absolute; /* BOUNDED: [m, n] y* and A; NULL otherwise */
  double *underflow;        /* BOUNDED: [n] the part of e that intermediate results add */
} ck_expected;

ck_expected ck_expected_make(const ck_problem *p, const nvfp4_kernel *kernel);
void ck_expected_free(ck_expected *e);
/* Compares y, of `dtype`, with what element i = m * n_columns + n must be; text says what is wrong if false. */
bool ck_expected_holds(const ck_expected *e, const ck_problem *p, int64_t row, int64_t column, const void *y, nvfp4_dtype dtype, char *text,
                       size_t size);

/* ---------------------------------------------------------------------------------------------------------------------- guards */

typedef struct ck_buffer {
  const char *name;
  uint8_t *data;
  size_t bytes;
  uint8_t *pages; /* what lies between the two inaccessible pages */
  size_t pages_bytes;
} ck_buffer;

/* Memory that ends (CK_GUARD_AFTER) or begins (CK_GUARD_BEFORE) at an inaccessible page; the rest of its pages holds canaries. alignment: a power of two
 * below the page size. An end that alignment keeps from the page's is guarded by canaries. CK_GUARD_ODD: as CK_GUARD_AFTER, but what has alignment 1 ends
 * a byte before the page, so that an even number of bytes begins at an odd address. Filled with 0xA5. Ends the process if there is no memory. */
ck_buffer *ck_guard_new(const char *name, size_t bytes, size_t alignment, int64_t side);
void ck_guard_free(ck_buffer *buffer);
typedef enum ck_access { CK_NO_ACCESS, CK_READ_ONLY, CK_READ_WRITE } ck_access;
void ck_guard_protect(const ck_buffer *buffer, ck_access access);
/* False: canaries around the buffer were overwritten. The buffer must be readable. */
bool ck_guard_intact(const ck_buffer *buffer);
/* Where `address` lies: fills text with "3 bytes past the end of x" and the like; empty if near no buffer. Safe in a signal handler. */
void ck_guard_describe(const void *address, char *text, size_t size);

/* --------------------------------------------------------------------------------------------------------------------- devices */

enum { CK_TWINS = 16 };

/* A buffer's twin in memory of the device. */
typedef struct ck_twin {
  const ck_buffer *buffer;
  uint8_t *base, *first; /* first: where the copy begins */
} ck_twin;

typedef struct ck_device {
  nvfp4_cuda *cuda; /* NULL: not opened */
  nvfp4_place place;
  nvfp4_visit visit;
  bool exact;
  uint8_t *arena;
  size_t used, twins, kept_used, kept; /* of the last two: what stays */
  ck_twin twin[CK_TWINS];
  nvfp4_reason failure; /* the first error of the device; after it nothing is done any more */
} ck_device;

nvfp4_status ck_device_open(ck_device *device, int ordinal, bool exact, nvfp4_reason *reason);
void ck_device_close(ck_device *device);
/* Copies the buffer, which must be readable, to the device; gives the address of its data there. NULL gives NULL. */
void *ck_device_put(ck_device *device, ck_buffer *buffer);
/* Copies the twin back. */
void ck_device_take_back(ck_device *device, ck_buffer *buffer);
/* Whether the twin is what was put. */
bool ck_device_unchanged(ck_device *device, const ck_buffer *buffer);
/* Overwrites the twin. */
void ck_device_spoil(ck_device *device, const ck_buffer *buffer);
/* Waits for the device. */
void ck_device_wait(ck_device *device);
/* Forgets the twins that are not kept; all: those too. */
void ck_device_reset(ck_device *device, bool all);
/* Keeps the twins that there are, but no longer as those of their buffers. */
void ck_device_keep(ck_device *device);
/* apply_weights; captured: into a graph, which is then launched. */
nvfp4_status ck_device_apply(ck_device *device, bool captured, const nvfp4_kernel *kernel, const nvfp4_host *host,
                             const nvfp4_packed *packed, const nvfp4_kernel_args *args, nvfp4_reason *reason);

/* --------------------------------------------------------------------------------------------------------------------- running */

/* Weights that lie between guard pages, rows apart by a gap: codes and scales, or dense values and NULL. */
typedef struct ck_source {
  ck_buffer *codes, *scales;
  nvfp4_weights weights; /* of them */
} ck_source;
ck_source ck_source_make(const ck_problem *p, const ck_case *c);
void ck_source_protect(const ck_source *source, ck_access access);
void ck_source_free(ck_source *source);

enum { CK_TEXT = 640, CK_FAILURES = 6, CK_CASE_FAILURES = 3 /* then a kernel's cases end */ };

/* What one kernel's process tells the parent; lies in shared memory, so that it outlives a crash. */
typedef struct ck_report {
  size_t cases, failures;
  struct {
    char replay[CK_CASE_TEXT]; /* empty: a question of the contract, not a case */
    char text[CK_TEXT];
  } failed[CK_FAILURES];
  char now[CK_CASE_TEXT]; /* the case that runs */
  char doing[64];         /* "apply_weights", "unpack", ... */
  char touched[CK_TEXT];  /* of a crash: which buffer */
  bool done;
} ck_report;

void ck_fail(ck_report *report, const char *replay, const char *format, ...) __attribute__((format(printf, 3, 4)));

/* A host table for kernels whose memory is guarded and whose misuse is noticed. One a process. */
typedef struct ck_host {
  nvfp4_host table;        /* .cookie is this */
  nvfp4_threads *pools[6]; /* [threads]; made when needed */
  int64_t threads, guard;
  size_t live;         /* allocations not yet freed */
  bool refuses_memory; /* alloc gives NULL */
  bool in_apply, alloc_in_apply, nested;
  int64_t task_depth;
  ck_device device; /* of a GPU kernel's process */
} ck_host;
void ck_host_init(ck_host *host);
void ck_host_free(ck_host *host);

bool ck_m_served(const nvfp4_kernel *kernel, int64_t m);
size_t ck_elem_bytes(int64_t dtype); /* of F32, F16, BF16 */
/* The description of a case. It has one partition; two if the case has more than one alpha. */
nvfp4_layer_desc ck_desc(const ck_case *c, const nvfp4_kernel *kernel, const nvfp4_partition *partitions);
/* Those partitions. */
void ck_partitions(const ck_case *c, nvfp4_global input, nvfp4_partition out[2]);

/* Runs a case; failures go into the report. Returns false if the kernel does not do such a layer. */
bool ck_run_case(ck_host *host, const nvfp4_kernel *kernel, const ck_case *c, ck_report *report);
/* Asks the kernel the questions of the contract. */
void ck_check_contract(ck_host *host, nvfp4_context *context, const nvfp4_kernel *kernel, uint64_t seed, ck_report *report);

#endif
