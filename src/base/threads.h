/* SPDX-License-Identifier: Apache-2.0 */
/* Threads of a context: pthreadpool, or the caller's own parallel-for. */
#ifndef NVFP4_BASE_THREADS_H
#define NVFP4_BASE_THREADS_H

#include <nvfp4/nvfp4.h>

typedef struct nvfp4_threads nvfp4_threads;

/* threads 0: one for every processor this process may run on. parallel_for NULL: an own pool. */
nvfp4_status nvfp4_threads_create(int threads, nvfp4_parallel_for_fn parallel_for, void *cookie, nvfp4_threads **out, nvfp4_reason *reason);
void nvfp4_threads_destroy(nvfp4_threads *threads);
int nvfp4_threads_count(const nvfp4_threads *threads);

/* Runs task(arg, i) for i in [0, count) in the floating-point environment of base/fp_env.h; returns when all are done. Not to be nested. Several
 * callers take turns. */
void nvfp4_parallel_for(nvfp4_threads *threads, size_t count, nvfp4_task_fn task, void *arg);

/* Processors this process may run on (its affinity mask): >= 1. */
int nvfp4_processor_count(void);

#endif
