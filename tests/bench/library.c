/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Times what a library does before the first product: opening a checkpoint of 100,000 tensors, choosing kernels for 1,000 layers. Prints one JSON object. scripts/bench runs it.
 */
#define _POSIX_C_SOURCE 200809L
#include <nvfp4/nvfp4.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "checkpoint/safetensors_writer.h"

enum { LAYERS = 25000, TENSORS = 4 * LAYERS, SELECTIONS = 1000, RUNS = 7, N = 16, K = 16 };

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void check(nvfp4_status status, const nvfp4_reason *reason) {
  if (status != NVFP4_OK) {
    fprintf(stderr, "bench_library: %s\n", reason->text);
    exit(1);
  }
}

static int by_value(const void *a, const void *b) {
  return (*(const double *)a > *(const double *)b) - (*(const double *)a < *(const double *)b);
}

static double median(double times[RUNS]) {
  qsort(times, RUNS, sizeof times[0], by_value);
  return times[RUNS / 2];
}

/* The four tensors of a ModelOpt layer, declared or written. */
static void layer_tensors(nvfp4_safetensors_writer *writer, int layer, bool declare) {
  static const struct {
    const char *suffix;
    nvfp4_dtype dtype;
    int rank;
    int64_t shape[2];
    size_t bytes;
  } parts[] = {{"weight", NVFP4_DTYPE_U8, 2, {N, K / 2}, N * K / 2},
               {"weight_scale", NVFP4_DTYPE_F8_E4M3, 2, {N, K / 16}, N * K / 16},
               {"weight_scale_2", NVFP4_DTYPE_F32, 0, {0}, 4},
               {"input_scale", NVFP4_DTYPE_F32, 0, {0}, 4}};
  static const float one = 1.0f;
  static const uint8_t codes[N * K / 2];
  nvfp4_reason reason = {0};
  for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
    if (declare) {
      char name[96];
      snprintf(name, sizeof name, "model.layers.%d.mlp.down_proj.%s", layer, parts[i].suffix);
      check(nvfp4_safetensors_writer_declare(writer, name, parts[i].dtype, parts[i].rank, parts[i].shape, &reason), &reason);
    } else {
      const void *data = parts[i].rank == 0 ? (const void *)&one : codes;
      check(nvfp4_safetensors_writer_write(writer, data, parts[i].bytes, &reason), &reason);
    }
  }
}

static double open_seconds(void) {
  char path[] = "/tmp/nvfp4-bench-XXXXXX";
  nvfp4_reason reason = {0};
  nvfp4_safetensors_writer *writer;
  double times[RUNS];
  int file = mkstemp(path);
  if (file < 0) {
    perror(path);
    exit(1);
  }
  close(file);
  char name[64];
  snprintf(name, sizeof name, "%s.safetensors", path);
  check(nvfp4_safetensors_writer_create(name, &writer, &reason), &reason);
  for (int layer = 0; layer < LAYERS; layer++) {
    layer_tensors(writer, layer, true);
  }
  check(nvfp4_safetensors_writer_begin(writer, &reason), &reason);
  for (int layer = 0; layer < LAYERS; layer++) {
    layer_tensors(writer, layer, false);
  }
  check(nvfp4_safetensors_writer_finish(writer, &reason), &reason);
  nvfp4_safetensors_writer_destroy(writer);
  for (int run = 0; run < RUNS; run++) {
    nvfp4_checkpoint *checkpoint;
    double start = now();
    check(nvfp4_checkpoint_open(name, 0, &checkpoint, &reason), &reason);
    times[run] = now() - start;
    if (nvfp4_checkpoint_layer_count(checkpoint) != LAYERS) {
      fprintf(stderr, "bench_library: %zu layers\n", nvfp4_checkpoint_layer_count(checkpoint));
      exit(1);
    }
    nvfp4_checkpoint_close(checkpoint);
  }
  unlink(name);
  unlink(path);
  return median(times);
}

static double select_seconds(void) {
  nvfp4_reason reason = {0};
  nvfp4_context *context;
  double times[RUNS];
  check(nvfp4_context_create(NULL, &context, &reason), &reason);
  for (int run = 0; run < RUNS; run++) {
    double start = now();
    for (int i = 0; i < SELECTIONS; i++) {
      nvfp4_partition whole = {.n_first = 0, .n_rows = 16 * (i + 1), .weight = {.value = 0.01f}, .input = {.value = 0.02f}};
      nvfp4_layer_desc desc = {.struct_size = sizeof desc,
                               .name = "layer",
                               .n = whole.n_rows,
                               .k = 4096,
                               .mode = NVFP4_MODE_W4A4,
                               .x_dtype = NVFP4_DTYPE_BF16,
                               .y_dtype = NVFP4_DTYPE_BF16,
                               .partitions = &whole,
                               .partition_count = 1};
      nvfp4_plan *plan;
      nvfp4_report *report;
      check(nvfp4_init_linear_kernel(context, &desc, NULL, &plan, &report, &reason), &reason);
      nvfp4_report_free(report);
      nvfp4_plan_free(plan);
    }
    times[run] = now() - start;
  }
  nvfp4_context_destroy(context);
  return median(times);
}

int main(void) {
  printf("{\"open_100000_tensors_s\": %.4f, \"select_1000_layers_s\": %.5f, \"runs\": %d}\n", open_seconds(), select_seconds(), RUNS);
  return 0;
}
