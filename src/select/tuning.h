/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tuning tables as text and as data; no I/O. A line each; lines that are empty or begin with '#' are skipped:
 *
 *   nvfp4-tuning 1
 *   version 0.1.0                    of the library
 *   cpu AMD EPYC 7763                "unknown" if the processor has no name
 *   isa sse2 avx2 fma                as the machine's text has it, "none" if empty
 *   threads 2
 *   time device=cpu mode=w4a4 n=4096 k=14336 m=16 kernel=x86_avx2_w4a4 ns=12300
 *
 * or, of layers on a GPU, on any of that name:
 *
 *   nvfp4-tuning 1
 *   version 0.1.0
 *   gpu NVIDIA H200
 *   cuda_driver 13000                as the machine's text has it
 *   time device=cuda mode=w4a4 n=4096 k=14336 m=16 kernel=cuda_sm90_w4a4 ns=12300
 *
 * The head comes first and in this order; then a line for every layer shape, M and kernel that was measured, in any order. Times are whole
 * nanoseconds, which read the same in every locale.
 */
#ifndef NVFP4_SELECT_TUNING_H
#define NVFP4_SELECT_TUNING_H

#include <nvfp4/nvfp4.h>

typedef struct nvfp4_tuning {
  char *file;      /* for reasons; own copy */
  char *text;      /* what gpu and the kernels of times point into */
  const char *gpu; /* the GPU's name; NULL: a table of the CPU */
  nvfp4_tuned_time *times;
  size_t count;
} nvfp4_tuning;

/* Reads a table, whose times are then sorted by layer and M. On success *out is the caller's, freed by nvfp4_tuning_free. Errors name the line; the
 * prefix with the file is the caller's: NVFP4_E_FORMAT, NVFP4_E_UNSUPPORTED for another version, NVFP4_E_MACHINE for another machine or number
 * of threads (of a table of a GPU: no GPU of that name, or another driver). */
nvfp4_status nvfp4_tuning_parse(const char *text, const char *file, const nvfp4_machine *machine, int threads, nvfp4_tuning *out,
                                nvfp4_reason *reason);

/* The text of a table of `device`, one of the machine's, malloc'ed; NULL without memory. */
char *nvfp4_tuning_print(const nvfp4_machine *machine, nvfp4_device device, int threads, const nvfp4_tuned_time *times, size_t count);

/* Also of one that is all zero. */
void nvfp4_tuning_free(nvfp4_tuning *tuning);

/* Times of one layer, ascending in M; or of one M of them. */
typedef struct nvfp4_tuned {
  const nvfp4_tuned_time *times;
  size_t count;
} nvfp4_tuned;

/* Of `count` tables the one for layers on `device` of the machine; NULL: there is none. */
const nvfp4_tuning *nvfp4_tuning_of(const nvfp4_tuning *tunings, size_t count, const nvfp4_machine *machine, nvfp4_device device);

/* The layer's times in a table for its device; none if tuning is NULL or has none. */
nvfp4_tuned nvfp4_tuned_layer(const nvfp4_tuning *tuning, const nvfp4_layer_desc *desc);

/* The times that speak for M = m: those of the greatest measured M up to m, or of the smallest. *m_last: the last M that they speak for. */
nvfp4_tuned nvfp4_tuned_at(nvfp4_tuned layer, int64_t m, int64_t *m_last);

/* The kernel's time among those of one M; NVFP4_NOT_TIMED if there is none. */
#define NVFP4_NOT_TIMED INT64_MAX
int64_t nvfp4_tuned_ns(nvfp4_tuned at, const char *kernel);

#endif
