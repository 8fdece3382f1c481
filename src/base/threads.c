/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE /* sched_getaffinity, CPU_COUNT */
#include "base/threads.h"

#include <pthreadpool.h>
#include <sched.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/fp_env.h"
#include "base/reason.h"

/* pthreadpool is not built for ThreadSanitizer, which does not see that it orders memory: tasks after the call, the return after the tasks. */
#if defined(__SANITIZE_THREAD__)
#include <sanitizer/tsan_interface.h>
#define ORDER_RELEASE(address) __tsan_release(address)
#define ORDER_ACQUIRE(address) __tsan_acquire(address)
#else
#define ORDER_RELEASE(address) ((void)(address))
#define ORDER_ACQUIRE(address) ((void)(address))
#endif

struct nvfp4_threads {
  pthreadpool_t pool; /* NULL: one thread, or the caller's */
  int count;
  uint32_t flags; /* of pthreadpool */
  nvfp4_parallel_for_fn parallel_for;
  void *cookie;
};

typedef struct task_call {
  nvfp4_task_fn task;
  void *arg;
} task_call;

int nvfp4_processor_count(void) {
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof set, &set) == 0) {
    int count = CPU_COUNT(&set);
    if (count > 0) {
      return count;
    }
  }
  long online = sysconf(_SC_NPROCESSORS_ONLN);
  return online > 0 ? (int)online : 1;
}

nvfp4_status nvfp4_threads_create(int count, nvfp4_parallel_for_fn parallel_for, void *cookie, nvfp4_threads **out, nvfp4_reason *reason) {
  if (count < 0 || count > 4096) {
    return nvfp4_reject(reason, NVFP4_E_ARG, "threads is %d; needs 0 (one for every processor) to 4096", count);
  }
  nvfp4_threads *threads = calloc(1, sizeof *threads);
  if (threads == NULL) {
    return nvfp4_reject(reason, NVFP4_E_NOMEM, "out of memory for the threads");
  }
  threads->count = count > 0 ? count : nvfp4_processor_count();
  /* Idle workers spin for the next task, which is soon there when a model runs; with more workers than processors they would be in each other's way. */
  threads->flags = PTHREADPOOL_FLAG_YIELD_WORKERS;
  threads->parallel_for = parallel_for;
  threads->cookie = cookie;
  if (parallel_for == NULL && threads->count > 1) {
    threads->pool = pthreadpool_create((size_t)threads->count);
    if (threads->pool == NULL) {
      int wanted = threads->count;
      free(threads);
      return nvfp4_reject(reason, NVFP4_E_NOMEM, "%d threads could not be started; ask for fewer (NVFP4_THREADS)", wanted);
    }
  }
  *out = threads;
  return NVFP4_OK;
}

void nvfp4_threads_destroy(nvfp4_threads *threads) {
  if (threads != NULL) {
    pthreadpool_destroy(threads->pool);
    free(threads);
  }
}

int nvfp4_threads_count(const nvfp4_threads *threads) { return threads->count; }

static void run_task(void *context, size_t index) {
  const task_call *call = context;
  ORDER_ACQUIRE(context);
  nvfp4_fp_env before = nvfp4_fp_env_enter();
  call->task(call->arg, index);
  nvfp4_fp_env_leave(before);
  ORDER_RELEASE(context);
}

void nvfp4_parallel_for(nvfp4_threads *threads, size_t count, nvfp4_task_fn task, void *arg) {
  task_call call = {task, arg};
  ORDER_RELEASE(&call);
  if (threads->parallel_for != NULL && count > 1) {
    threads->parallel_for(threads->cookie, count, run_task, &call);
  } else if (threads->pool != NULL && count > 1) {
    pthreadpool_parallelize_1d(threads->pool, run_task, &call, count, threads->flags);
  } else {
    for (size_t i = 0; i < count; i++) {
      run_task(&call, i);
    }
  }
  ORDER_ACQUIRE(&call);
}
