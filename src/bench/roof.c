/* SPDX-License-Identifier: Apache-2.0 */
#define _DEFAULT_SOURCE /* clock_gettime, posix_memalign, madvise */
#include "bench/roof.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#include "base/clones.h"
#include "base/reason.h"
#include "base/threads.h"
#include "layer/context.h"

enum { REPEATS = 25, CHUNK_BYTES = 1 << 20, TASKS_PER_THREAD = 8, STEPS = 20000, HUGE_PAGE = 2 << 20 };

double nvfp4_seconds(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

uint64_t nvfp4_uncached_bytes(const nvfp4_machine *machine) {
  uint64_t bytes = 4 * machine->l3_bytes, least = (uint64_t)256 << 20;
  bytes = bytes > least ? bytes : least;
  return machine->memory_bytes > 0 && bytes > machine->memory_bytes / 4 ? machine->memory_bytes / 4 : bytes;
}

/* ------------------------------------------------------------------------------------------------------------------ reading */

typedef struct reading {
  uint64_t *words;
  uint64_t sums[256]; /* of a task, so that the reads are not removed */
} reading;

enum { CHUNK_WORDS = CHUNK_BYTES / sizeof(uint64_t) };

NVFP4_CLONES_FMA
static uint64_t read_chunk_of_roof(const uint64_t *words) {
  uint64_t sum = 0;
  for (size_t i = 0; i < CHUNK_WORDS; i++) {
    sum ^= words[i];
  }
  return sum;
}

static void read_chunk(void *arg, size_t index) {
  reading *r = arg;
  __atomic_xor_fetch(&r->sums[index % 256], read_chunk_of_roof(r->words + index * CHUNK_WORDS), __ATOMIC_RELAXED);
}

static void touch_chunk(void *arg, size_t index) {
  reading *r = arg;
  memset(r->words + index * CHUNK_WORDS, (int)index, CHUNK_BYTES);
}

static double measure_read(nvfp4_threads *threads, uint64_t *words, size_t chunks) {
  reading r = {.words = words};
  nvfp4_parallel_for(threads, chunks, touch_chunk, &r); /* each thread's share lies near to it */
  double best = 0;
  for (int i = 0; i < REPEATS; i++) {
    double start = nvfp4_seconds();
    nvfp4_parallel_for(threads, chunks, read_chunk, &r);
    double rate = (double)chunks * CHUNK_BYTES / (nvfp4_seconds() - start);
    best = rate > best ? rate : best;
  }
  return best * 1e-9;
}

/* --------------------------------------------------------------------------------------------------------------- arithmetic */

static void run_peak(void *arg, size_t index) {
  const nvfp4_peak *peak = arg;
  (void)index;
  peak->run(STEPS);
}

/* The first of `peaks` that the machine has. */
static double measure_peak(nvfp4_threads *threads, const nvfp4_machine *machine, const nvfp4_peak *peaks, const char **name) {
  while (peaks->run != NULL && (machine->isa & peaks->isa) != peaks->isa) {
    peaks++;
  }
  *name = peaks->run != NULL ? peaks->name : "not measured";
  double best = 0;
  size_t tasks = (size_t)nvfp4_threads_count(threads) * TASKS_PER_THREAD;
  for (int i = 0; peaks->run != NULL && i < REPEATS; i++) {
    double start = nvfp4_seconds();
    nvfp4_parallel_for(threads, tasks, run_peak, (void *)peaks);
    double rate = (double)tasks * STEPS * (double)peaks->operations / (nvfp4_seconds() - start);
    best = rate > best ? rate : best;
  }
  return best * 1e-9;
}

nvfp4_status nvfp4_roof_measure(nvfp4_context *context, uint64_t buffer_bytes, nvfp4_roof *out, nvfp4_reason *reason) {
  if (context == NULL || out == NULL) {
    return nvfp4_reject(reason, NVFP4_E_ARG, "context or out is NULL; measuring needs both");
  }
  size_t chunks = (size_t)((buffer_bytes > 0 ? buffer_bytes : nvfp4_uncached_bytes(&context->machine)) / CHUNK_BYTES);
  chunks = chunks > 0 ? chunks : 1;
  void *words = NULL;
  if (posix_memalign(&words, HUGE_PAGE, chunks * CHUNK_BYTES) != 0) {
    return nvfp4_reject(reason, NVFP4_E_NOMEM, "out of memory: %zu MiB to measure the read bandwidth with", chunks);
  }
#ifdef MADV_HUGEPAGE
  (void)madvise(words, chunks * CHUNK_BYTES, MADV_HUGEPAGE); /* only a wish: fewer address translations */
#endif
  nvfp4_roof roof = {.struct_size = sizeof roof, .threads = nvfp4_threads_count(context->threads), .bf16_name = "not measured"};
  roof.read_gbps = measure_read(context->threads, words, chunks);
  free(words);
  roof.f32_gflops = measure_peak(context->threads, &context->machine, nvfp4_peaks_f32, &roof.f32_name);
  roof.i8_gops = measure_peak(context->threads, &context->machine, nvfp4_peaks_i8, &roof.i8_name);
  *out = roof;
  return NVFP4_OK;
}

double nvfp4_roof_share(const nvfp4_roof *roof, int64_t n, int64_t k, int64_t m, double weight_bytes, double us) {
  double weights = (double)n * (double)k, fastest = roof->i8_gops > roof->f32_gflops ? roof->i8_gops : roof->f32_gflops;
  fastest = roof->bf16_gflops > fastest ? roof->bf16_gflops : fastest;
  double read_us = roof->read_gbps > 0 ? weight_bytes * weights / (roof->read_gbps * 1e3) : 0;
  double compute_us = fastest > 0 ? 2.0 * (double)m * weights / (fastest * 1e3) : 0;
  return us > 0 ? (read_us > compute_us ? read_us : compute_us) / us : 0;
}

nvfp4_roof nvfp4_roof_greater(const nvfp4_roof *a, const nvfp4_roof *b) {
  nvfp4_roof roof = *a;
  roof.read_gbps = b->read_gbps > a->read_gbps ? b->read_gbps : a->read_gbps;
  roof.f32_gflops = b->f32_gflops > a->f32_gflops ? b->f32_gflops : a->f32_gflops;
  roof.i8_gops = b->i8_gops > a->i8_gops ? b->i8_gops : a->i8_gops;
  roof.bf16_gflops = b->bf16_gflops > a->bf16_gflops ? b->bf16_gflops : a->bf16_gflops;
  return roof;
}
