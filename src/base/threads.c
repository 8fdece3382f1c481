/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE /* sched_getaffinity, CPU_COUNT */
#include "base/threads.h"

#include <pthreadpool.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <time.h>
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

/* Whether workers sleep or spin after a call: see spin_after(). */
#define BURST_NS 1000000        /* a call that begins so soon after the last one belongs to a burst */
#define WINDOW_NS 20000000      /* over which preemptions are counted */
#define PREEMPTIONS_A_SECOND 100 /* of a thread, from which on the machine counts as busy */

struct nvfp4_threads {
  pthreadpool_t pool; /* NULL: one thread, or the caller's */
  int count;
  atomic_int_fast64_t ended_ns;  /* when the last call returned */
  atomic_int_fast64_t window_ns; /* when the window began */
  atomic_long preemptions;       /* of the process, at that time */
  atomic_bool busy;              /* in the window before */
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

static int64_t now_ns(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

/* Notes, once a window, whether other programs want our processors: then threads lose theirs without asking. */
static void watch_preemptions(nvfp4_threads *threads, int64_t now) {
  int_fast64_t began = atomic_load_explicit(&threads->window_ns, memory_order_relaxed);
  struct rusage usage;
  if (now - began < WINDOW_NS || !atomic_compare_exchange_strong(&threads->window_ns, &began, now) || getrusage(RUSAGE_SELF, &usage) != 0) {
    return;
  }
  long before = atomic_exchange_explicit(&threads->preemptions, usage.ru_nivcsw, memory_order_relaxed);
  double allowed = (double)PREEMPTIONS_A_SECOND * threads->count * (double)(now - began) * 1e-9;
  atomic_store_explicit(&threads->busy, (double)(usage.ru_nivcsw - before) > allowed, memory_order_relaxed);
}

/*
 * Workers that sleep must be woken, which takes as long as a layer of a small model with one row (20 us; over 100 us on some virtual machines). Workers that spin are there in
 * less than 1 us, but keep a processor from everybody else (pthreadpool spins a million pauses, some 20 to 50 ms, before it sleeps). So they spin only between the calls of a
 * burst, and not when others want the processors: a spinning thread would then be run in place of one that works.
 */
static bool spin_after(nvfp4_threads *threads, int64_t now) {
  watch_preemptions(threads, now);
  return now - atomic_load_explicit(&threads->ended_ns, memory_order_relaxed) < BURST_NS &&
         !atomic_load_explicit(&threads->busy, memory_order_relaxed);
}

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
    uint32_t flags = spin_after(threads, now_ns()) ? 0 : PTHREADPOOL_FLAG_YIELD_WORKERS;
    pthreadpool_parallelize_1d(threads->pool, run_task, &call, count, flags);
    atomic_store_explicit(&threads->ended_ns, now_ns(), memory_order_relaxed);
  } else {
    for (size_t i = 0; i < count; i++) {
      run_task(&call, i);
    }
  }
  ORDER_ACQUIRE(&call);
}
