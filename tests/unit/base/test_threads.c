/* SPDX-License-Identifier: Apache-2.0 */
#define _POSIX_C_SOURCE 200809L /* nanosleep */
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <time.h>

#include "base/threads.h"
#include "support.h"

typedef struct counted {
  atomic_int *visits;
} counted;

static void visit(void *arg, size_t index) { atomic_fetch_add(&((counted *)arg)->visits[index], 1); }

static void check_every_index_once(nvfp4_threads *threads, size_t count) {
  counted job = {calloc(count + 1, sizeof(atomic_int))};
  nvfp4_parallel_for(threads, count, visit, &job);
  for (size_t i = 0; i < count; i++) {
    assert_int_equal(atomic_load(&job.visits[i]), 1);
  }
  assert_int_equal(atomic_load(&job.visits[count]), 0);
  free(job.visits);
}

static void test_every_index_once(void **state) {
  (void)state;
  static const size_t counts[] = {0, 1, 2, 3, 64, 1000};
  for (int threads = 1; threads <= 4; threads++) {
    nvfp4_threads *pool;
    nvfp4_reason reason = {0};
    assert_ok(nvfp4_threads_create(threads, NULL, NULL, &pool, &reason), reason);
    assert_int_equal(nvfp4_threads_count(pool), threads);
    for (size_t i = 0; i < sizeof counts / sizeof counts[0]; i++) {
      check_every_index_once(pool, counts[i]);
    }
    nvfp4_threads_destroy(pool);
  }
}

static void *call_in_bursts(void *pool) {
  for (int burst = 0; burst < 20; burst++) {
    for (int call = 0; call < 50; call++) {
      check_every_index_once(pool, 5);
    }
    nanosleep(&(struct timespec){.tv_nsec = burst * 100000}, NULL);
  }
  return NULL;
}

/* Workers that spin, workers that sleep, more of them than most computers have processors, and callers that take turns. */
static void test_bursts_of_calls(void **state) {
  (void)state;
  nvfp4_threads *pool;
  nvfp4_reason reason = {0};
  pthread_t callers[3];
  assert_ok(nvfp4_threads_create(2 * nvfp4_processor_count(), NULL, NULL, &pool, &reason), reason);
  for (size_t i = 0; i < sizeof callers / sizeof callers[0]; i++) {
    assert_int_equal(pthread_create(&callers[i], NULL, call_in_bursts, pool), 0);
  }
  for (size_t i = 0; i < sizeof callers / sizeof callers[0]; i++) {
    pthread_join(callers[i], NULL);
  }
  nvfp4_threads_destroy(pool);
}

static void own_parallel_for(void *cookie, size_t count, nvfp4_task_fn task, void *arg) {
  *(size_t *)cookie += count;
  for (size_t i = count; i-- > 0;) { /* any order */
    task(arg, i);
  }
}

static void test_own_parallel_for(void **state) {
  (void)state;
  size_t seen = 0;
  nvfp4_threads *pool;
  nvfp4_reason reason = {0};
  assert_ok(nvfp4_threads_create(3, own_parallel_for, &seen, &pool, &reason), reason);
  check_every_index_once(pool, 17);
  assert_int_equal(seen, 17);
  nvfp4_threads_destroy(pool);
}

static void test_refusals(void **state) {
  (void)state;
  nvfp4_threads *pool;
  nvfp4_reason reason = {0};
  assert_int_equal(nvfp4_threads_create(-1, NULL, NULL, &pool, &reason), NVFP4_E_ARG);
  assert_non_null(strstr(reason.text, "-1"));
  assert_int_equal(nvfp4_threads_create(5000, NULL, NULL, &pool, &reason), NVFP4_E_ARG);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_every_index_once), cmocka_unit_test(test_bursts_of_calls),
                                     cmocka_unit_test(test_own_parallel_for), cmocka_unit_test(test_refusals)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
