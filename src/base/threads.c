/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What workers do between two calls. Waking threads that sleep takes longer than a small layer computes; threads that spin are there at once, but where others want the processor, too,
 * a spinning worker has used up its share of the time when the next task comes. pthreadpool lets each call say what its workers do after it: spin (for a million pauses, 16 to 30 ms,
 * and then sleep) or sleep at once. They spin if
 *
 *   - there is a processor for each thread;
 *   - calls follow each other: the last one ended less than NEXT_CALL_NS ago, so that the next one may well be as near; and
 *   - nobody else wants the processors: for CONTENDED_NS, no call's own thread, which runs tasks or spins, was without a processor for LOST_NS.
 */
#define _GNU_SOURCE /* sched_getaffinity, CPU_COUNT */
#include "base/threads.h"

#include <pthread.h>
#include <pthreadpool.h>
#include <sched.h>
#include <stdlib.h>
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

enum {
  NEXT_CALL_NS = 200000,    /* between the layers of a model there are some microseconds */
  LOST_NS = 500000,         /* interrupts and kernel threads take less, the slice of another program's thread is some milliseconds */
  CONTENDED_NS = 100000000, /* what takes the processor once, takes it again */
};

struct nvfp4_threads {
  pthreadpool_t pool; /* NULL: one thread, or the caller's */
  int count;
  bool enough_processors;
  pthread_mutex_t turn;    /* of the callers of the pool; guards what follows */
  int64_t last_end;        /* of a call; ns of CLOCK_MONOTONIC, as the next */
  int64_t contended_until; /* workers sleep until then */
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
  int processors = nvfp4_processor_count();
  threads->count = count > 0 ? count : processors;
  threads->enough_processors = threads->count <= processors;
  threads->parallel_for = parallel_for;
  threads->cookie = cookie;
  pthread_mutex_init(&threads->turn, NULL);
  if (parallel_for == NULL && threads->count > 1) {
    threads->pool = pthreadpool_create((size_t)threads->count);
    if (threads->pool == NULL) {
      int wanted = threads->count;
      nvfp4_threads_destroy(threads);
      return nvfp4_reject(reason, NVFP4_E_NOMEM, "%d threads could not be started; ask for fewer (NVFP4_THREADS)", wanted);
    }
  }
  *out = threads;
  return NVFP4_OK;
}

void nvfp4_threads_destroy(nvfp4_threads *threads) {
  if (threads != NULL) {
    pthreadpool_destroy(threads->pool);
    pthread_mutex_destroy(&threads->turn);
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

static int64_t clock_ns(clockid_t clock) {
  struct timespec t;
  clock_gettime(clock, &t);
  return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static void run_in_pool(nvfp4_threads *threads, size_t count, task_call *call) {
  pthread_mutex_lock(&threads->turn);
  int64_t start = clock_ns(CLOCK_MONOTONIC), start_running = clock_ns(CLOCK_THREAD_CPUTIME_ID);
  bool spin = threads->enough_processors && start - threads->last_end < NEXT_CALL_NS && start >= threads->contended_until;
  pthreadpool_parallelize_1d(threads->pool, run_task, call, count, spin ? 0 : PTHREADPOOL_FLAG_YIELD_WORKERS);
  int64_t running = clock_ns(CLOCK_THREAD_CPUTIME_ID) - start_running;
  threads->last_end = clock_ns(CLOCK_MONOTONIC);
  if (threads->last_end - start - running > LOST_NS) {
    threads->contended_until = threads->last_end + CONTENDED_NS;
  }
  pthread_mutex_unlock(&threads->turn);
}

void nvfp4_parallel_for(nvfp4_threads *threads, size_t count, nvfp4_task_fn task, void *arg) {
  task_call call = {task, arg};
  ORDER_RELEASE(&call);
  if (threads->parallel_for != NULL && count > 1) {
    threads->parallel_for(threads->cookie, count, run_task, &call);
  } else if (threads->pool != NULL && count > 1) {
    run_in_pool(threads, count, &call);
  } else {
    for (size_t i = 0; i < count; i++) {
      run_task(&call, i);
    }
  }
  ORDER_ACQUIRE(&call);
}
