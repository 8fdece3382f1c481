/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The benchmark on a GPU. A cell is a CUDA graph of many calls, over copies of the weights that no cache holds together; the graphs of one shape and M take turns. The time of a call is
 * that of the graph, between two events, over the number of calls: what launching from the host costs is not in it. Beside the kernels cuBLAS multiplies bf16 weights. What a kernel
 * wrote is compared with sums in double first.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/reason.h"
#include "bench/cells.h"
#include "bench/cublas.h"
#include "bench/roof.h"
#include "layer/place.h"

enum { MOST_COPIES = 256, LEAST_TURNS = 5, MOST_TURNS = 1024, FEW_ROWS = 256, LEAST_CALLS_FEW_ROWS = 48, LEAST_CALLS = 4 };
enum { READ_STEP = 4 * 1024 * 512 * 16 /* bytes that nvfp4_read reads at a time */ };
static const uint64_t rotate_bytes = (uint64_t)512 << 20, roof_bytes = (uint64_t)2 << 30;

/* One kernel, or cuBLAS, at a shape and M. */
typedef struct gpu_cell {
  nvfp4_bench_result *result;
  nvfp4_layer *layers[MOST_COPIES];
  void *weights; /* cuBLAS: the copies, one after the other */
  size_t copies, calls;
  nvfp4_cu_graph_exec graph;
  nvfp4_cu_event start, end; /* around the graph */
  double us[MOST_TURNS], spent;
} gpu_cell;

typedef struct gpu_bench {
  nvfp4_context *context;
  const nvfp4_bench_options *options;
  const char *const *kernels;
  const nvfp4_mode *modes;
  size_t kernel_count;
  const nvfp4_cu_api *api;
  nvfp4_place place;
  nvfp4_visit visit;
  nvfp4_cublas *cublas; /* NULL: there is none */
  void *cublas_workspace;
  nvfp4_reason no_cublas;
  gpu_cell *cells; /* [kernel_count + 1] of a group */
  gpu_cell **turn; /* [kernel_count + 1] those of a round */
  /* Of a group. */
  nvfp4_bench_inputs inputs;
  nvfp4_weights weights; /* on the device */
  void *codes, *scales, *x, *y, *workspace;
  size_t workspace_bytes;
} gpu_bench;

static nvfp4_status check(const gpu_bench *b, const char *call, int result, nvfp4_reason *reason) {
  return nvfp4_cuda_check(b->place.cuda, call, result, reason);
}

/* --------------------------------------------------------------------------------------------------------------------- timing */

/* What a graph holds: call number `call` of a cell, enqueued. */
typedef nvfp4_status (*enqueue_fn)(gpu_bench *b, gpu_cell *cell, size_t call, nvfp4_reason *reason);

static nvfp4_status enqueue_kernel(gpu_bench *b, gpu_cell *cell, size_t call, nvfp4_reason *reason) {
  const nvfp4_bench_result *r = cell->result;
  const nvfp4_apply_args args = {.struct_size = sizeof args,
                                 .m = r->m,
                                 .x = b->x,
                                 .ldx_elems = r->k,
                                 .y = b->y,
                                 .ldy_elems = r->n,
                                 .workspace = b->workspace,
                                 .workspace_bytes = b->workspace_bytes,
                                 .stream = b->visit.stream};
  return nvfp4_layer_apply(cell->layers[call % cell->copies], &args, reason);
}

static nvfp4_status enqueue_cublas(gpu_bench *b, gpu_cell *cell, size_t call, nvfp4_reason *reason) {
  const nvfp4_bench_result *r = cell->result;
  const char *w = (const char *)cell->weights + call % cell->copies * (size_t)(r->n * r->k) * 2;
  return nvfp4_cublas_bf16(b->cublas, r->m, r->n, r->k, b->x, w, b->y, reason);
}

/* Records the cell's calls into its graph; one call before, so that nothing is loaded while recording. */
static nvfp4_status record(gpu_bench *b, gpu_cell *cell, enqueue_fn enqueue, nvfp4_reason *reason) {
  nvfp4_cu_graph graph = NULL;
  NVFP4_TRY(enqueue(b, cell, 0, reason));
  NVFP4_TRY(nvfp4_place_wait(&b->visit, reason));
  NVFP4_TRY(check(b, "cuEventCreate", b->api->event_create(&cell->start, 0), reason));
  NVFP4_TRY(check(b, "cuEventCreate", b->api->event_create(&cell->end, 0), reason));
  NVFP4_TRY(check(b, "cuStreamBeginCapture", b->api->stream_begin_capture(b->visit.stream, NVFP4_CU_CAPTURE_RELAXED), reason));
  nvfp4_status status = NVFP4_OK;
  for (size_t i = 0; status == NVFP4_OK && i < cell->calls; i++) {
    status = enqueue(b, cell, i, reason);
  }
  nvfp4_status ended =
      check(b, "cuStreamEndCapture", b->api->stream_end_capture(b->visit.stream, &graph), status == NVFP4_OK ? reason : NULL);
  status = status != NVFP4_OK ? status : ended;
  if (status == NVFP4_OK) {
    status = check(b, "cuGraphInstantiate", b->api->graph_instantiate(&cell->graph, graph, 0), reason);
  }
  if (graph != NULL) {
    b->api->graph_destroy(graph);
  }
  return status;
}

/* Whether the cell wants another turn. */
static bool is_timed(const gpu_cell *cell, double seconds) {
  size_t turns = cell->result->calls;
  return cell->graph != NULL && turns < MOST_TURNS && (turns < LEAST_TURNS || cell->spent < seconds);
}

/* A turn of each of the cells, enqueued at once: while one runs the host launches the next, so that no launch is timed. An untimed turn of the first hides its own. */
static nvfp4_status take_turns(gpu_bench *b, gpu_cell *const *cells, size_t count, nvfp4_reason *reason) {
  NVFP4_TRY(check(b, "cuGraphLaunch", b->api->graph_launch(cells[0]->graph, b->visit.stream), reason));
  for (size_t i = 0; i < count; i++) {
    NVFP4_TRY(check(b, "cuEventRecord", b->api->event_record(cells[i]->start, b->visit.stream), reason));
    NVFP4_TRY(check(b, "cuGraphLaunch", b->api->graph_launch(cells[i]->graph, b->visit.stream), reason));
    NVFP4_TRY(check(b, "cuEventRecord", b->api->event_record(cells[i]->end, b->visit.stream), reason));
  }
  return nvfp4_place_wait(&b->visit, reason);
}

/* Microseconds of a call in the cell's last turn. */
static nvfp4_status turn_us(const gpu_bench *b, const gpu_cell *cell, double *us, nvfp4_reason *reason) {
  float milliseconds = 0;
  NVFP4_TRY(check(b, "cuEventElapsedTime", b->api->event_elapsed(&milliseconds, cell->start, cell->end), reason));
  *us = (double)milliseconds * 1e3 / (double)cell->calls;
  return NVFP4_OK;
}

static nvfp4_status time_group(gpu_bench *b, nvfp4_reason *reason) {
  double seconds = b->options->seconds > 0 ? b->options->seconds : 0.1, us;
  for (bool first = true;; first = false) {
    size_t count = 0;
    for (size_t i = 0; i <= b->kernel_count; i++) {
      if (is_timed(&b->cells[i], seconds)) {
        b->turn[count++] = &b->cells[i];
      }
    }
    if (count == 0) {
      break;
    }
    NVFP4_TRY(take_turns(b, b->turn, count, reason));
    for (size_t i = 0; i < count && !first; i++) { /* the first round warms up */
      gpu_cell *cell = b->turn[i];
      NVFP4_TRY(turn_us(b, cell, &us, reason));
      cell->us[cell->result->calls++] = us;
      cell->spent += us * 1e-6 * (double)cell->calls;
    }
  }
  for (size_t i = 0; i <= b->kernel_count; i++) {
    if (b->cells[i].graph != NULL) {
      nvfp4_bench_figures(b->cells[i].result, b->cells[i].us);
    }
  }
  return NVFP4_OK;
}

/* --------------------------------------------------------------------------------------------------------------------- groups */

static nvfp4_status upload_inputs(gpu_bench *b, int64_t n, int64_t k, int64_t m, nvfp4_reason *reason) {
  size_t code_bytes = (size_t)(n * k / 2), scale_bytes = (size_t)(n * k / NVFP4_BLOCK), x_elems = (size_t)(m * k);
  nvfp4_bench_inputs *in = &b->inputs;
  *in = (nvfp4_bench_inputs){n, k, m, malloc(code_bytes), malloc(scale_bytes), malloc(x_elems * sizeof *in->x)};
  if (in->codes == NULL || in->scales == NULL || in->x == NULL) {
    return nvfp4_reject(reason, NVFP4_E_NOMEM, "out of memory for N = %lld, K = %lld, M = %lld", (long long)n, (long long)k, (long long)m);
  }
  nvfp4_bench_fill(in->codes, code_bytes, in->scales, scale_bytes, in->x, x_elems);
  NVFP4_TRY(nvfp4_place_copy(&b->visit, in->codes, code_bytes, &b->codes, reason));
  NVFP4_TRY(nvfp4_place_copy(&b->visit, in->scales, scale_bytes, &b->scales, reason));
  NVFP4_TRY(nvfp4_place_copy(&b->visit, in->x, x_elems * sizeof *in->x, &b->x, reason));
  NVFP4_TRY(nvfp4_place_alloc(&b->place, (size_t)(m * n) * sizeof *in->x, &b->y, reason));
  NVFP4_TRY(nvfp4_place_wait(&b->visit, reason));
  b->weights = (nvfp4_weights){.struct_size = sizeof b->weights,
                               .memory = NVFP4_MEMORY_CUDA,
                               .n = n,
                               .k = k,
                               .codes = b->codes,
                               .codes_stride_bytes = k / 2,
                               .scales = b->scales,
                               .scales_stride_bytes = k / NVFP4_BLOCK};
  return NVFP4_OK;
}

static void set_calls(const gpu_bench *b, gpu_cell *cell, uint64_t bytes) {
  uint64_t rotate = b->options->rotate_bytes > 0 ? b->options->rotate_bytes : rotate_bytes, copies = (rotate + bytes - 1) / bytes;
  size_t least = cell->result->m <= FEW_ROWS ? LEAST_CALLS_FEW_ROWS : LEAST_CALLS;
  cell->copies = b->options->resident ? 1 : copies < MOST_COPIES ? (size_t)copies : MOST_COPIES;
  cell->calls = (least + cell->copies - 1) / cell->copies * cell->copies;
}

/* Packs the kernel's copies, and says how fast: weights on the device to a layer that is ready. What it refuses is the cell's, not the run's. */
static nvfp4_status make_kernel_cell(gpu_bench *b, gpu_cell *cell, nvfp4_mode mode, nvfp4_reason *why) {
  nvfp4_bench_result *r = cell->result;
  nvfp4_plan *plan = NULL;
  set_calls(b, cell, (uint64_t)(r->n * r->k / 16 * 9));
  NVFP4_TRY(nvfp4_bench_plan(b->context, b->options->device, mode, NVFP4_DTYPE_NONE, r, &plan, why));
  nvfp4_status status = NVFP4_OK;
  for (size_t i = 0; status == NVFP4_OK && i < cell->copies; i++) {
    double start = nvfp4_seconds();
    status = nvfp4_layer_create(b->context, plan, &b->weights, &cell->layers[i], why);
    cell->us[i] = (nvfp4_seconds() - start) * 1e6;
  }
  nvfp4_plan_free(plan);
  if (status == NVFP4_OK) {
    r->pack_gbps = (double)nvfp4_layer_packed_bytes(cell->layers[0]) / nvfp4_bench_median(cell->us, cell->copies) * 1e-3;
    size_t bytes = nvfp4_layer_workspace_bytes(cell->layers[0], r->m);
    b->workspace_bytes = bytes > b->workspace_bytes ? bytes : b->workspace_bytes;
  }
  return status;
}

/* Compares a sample of what the cell's first call writes. */
static nvfp4_status check_cell(gpu_bench *b, gpu_cell *cell, nvfp4_mode mode, nvfp4_reason *why) {
  nvfp4_bench_sample sample;
  const size_t row_bytes = (size_t)b->inputs.n * sizeof(uint16_t);
  NVFP4_TRY(check(b, "cuMemsetD8Async",
                  b->api->fill((nvfp4_cu_address)(uintptr_t)b->y, 0xFF, (size_t)b->inputs.m * row_bytes, b->visit.stream), why)); /* NaN */
  NVFP4_TRY(enqueue_kernel(b, cell, 0, why));
  NVFP4_TRY(nvfp4_bench_sample_begin(&b->inputs, &sample, why));
  nvfp4_status status = NVFP4_OK;
  for (int64_t i = 0; status == NVFP4_OK && i < sample.rows; i++) {
    status = nvfp4_cuda_copy_rows(b->place.cuda, sample.y + i * b->inputs.n, row_bytes,
                                  (char *)b->y + (size_t)nvfp4_bench_sample_row(&sample, i) * row_bytes, row_bytes, row_bytes, 1,
                                  b->visit.stream, why);
  }
  status = status == NVFP4_OK ? nvfp4_place_wait(&b->visit, why) : status;
  status = status == NVFP4_OK ? nvfp4_bench_sample_error(&b->context->host, &sample, mode, &cell->result->rel_err, why) : status;
  nvfp4_bench_sample_end(&sample);
  return status;
}

static nvfp4_status make_cublas_cell(gpu_bench *b, gpu_cell *cell, nvfp4_reason *why) {
  const nvfp4_bench_result *r = cell->result;
  size_t bytes = (size_t)(r->n * r->k) * 2, x_bytes = (size_t)(r->m * r->k) * 2;
  set_calls(b, cell, bytes);
  NVFP4_TRY(nvfp4_place_alloc(&b->place, bytes * cell->copies, &cell->weights, why));
  for (size_t at = 0; at < bytes * cell->copies; at += x_bytes) { /* any bf16 numbers will do: those of x, again and again */
    size_t left = bytes * cell->copies - at, part = x_bytes < left ? x_bytes : left;
    NVFP4_TRY(nvfp4_cuda_copy_rows(b->place.cuda, (char *)cell->weights + at, part, b->x, part, part, 1, b->visit.stream, why));
  }
  return NVFP4_OK;
}

static void free_group(gpu_bench *b) {
  for (size_t i = 0; i <= b->kernel_count; i++) {
    gpu_cell *cell = &b->cells[i];
    for (size_t j = 0; j < MOST_COPIES; j++) {
      nvfp4_layer_destroy(cell->layers[j]);
    }
    nvfp4_place_free(&b->place, cell->weights);
    if (cell->graph != NULL) {
      b->api->graph_exec_destroy(cell->graph);
    }
    nvfp4_cu_event const events[] = {cell->start, cell->end};
    for (int j = 0; j < 2; j++) {
      if (events[j] != NULL) {
        b->api->event_destroy(events[j]);
      }
    }
    memset(cell, 0, sizeof *cell);
  }
  void **const memory[] = {&b->codes, &b->scales, &b->x, &b->y, &b->workspace};
  for (size_t i = 0; i < sizeof memory / sizeof memory[0]; i++) {
    nvfp4_place_free(&b->place, *memory[i]);
    *memory[i] = NULL;
  }
  free(b->inputs.codes);
  free(b->inputs.scales);
  free(b->inputs.x);
  b->inputs = (nvfp4_bench_inputs){0};
  b->workspace_bytes = 0;
}

static void note(nvfp4_bench_result *r, nvfp4_status status, const nvfp4_reason *why) {
  r->status = status;
  if (status != NVFP4_OK) {
    snprintf(r->reason, sizeof r->reason, "%.255s", why->text);
  }
}

static nvfp4_status run_group(gpu_bench *b, nvfp4_bench_shape shape, int64_t m, nvfp4_bench_result *results, nvfp4_reason *reason) {
  NVFP4_TRY(upload_inputs(b, shape.n, shape.k, m, reason));
  for (size_t i = 0; i <= b->kernel_count; i++) {
    gpu_cell *cell = &b->cells[i];
    bool cublas = i == b->kernel_count;
    nvfp4_reason why = b->no_cublas;
    results[i] = (nvfp4_bench_result){.kernel = cublas ? "cublas_bf16" : b->kernels[i],
                                      .n = shape.n,
                                      .k = shape.k,
                                      .m = m,
                                      .weight_bytes = cublas ? 2 : 0.5625,
                                      .rel_err = -1};
    cell->result = &results[i];
    if (b->options->progress != NULL) {
      b->options->progress(b->options->progress_cookie, results[i].kernel, shape.n, shape.k, m);
    }
    nvfp4_status status = !cublas             ? make_kernel_cell(b, cell, b->modes[i], &why)
                          : b->cublas != NULL ? make_cublas_cell(b, cell, &why)
                                              : NVFP4_E_MACHINE;
    note(&results[i], status, &why);
  }
  NVFP4_TRY(nvfp4_place_alloc(&b->place, b->workspace_bytes, &b->workspace, reason));
  for (size_t i = 0; i <= b->kernel_count; i++) {
    nvfp4_reason why = {0};
    bool cublas = i == b->kernel_count;
    if (results[i].status == NVFP4_OK && !cublas) {
      note(&results[i], check_cell(b, &b->cells[i], b->modes[i], &why), &why);
    }
    if (results[i].status == NVFP4_OK) {
      note(&results[i], record(b, &b->cells[i], cublas ? enqueue_cublas : enqueue_kernel, &why), &why);
    }
  }
  return time_group(b, reason);
}

/* ----------------------------------------------------------------------------------------------------------------------- roof */

extern const unsigned char nvfp4_fatbin_read[];

static uint64_t bytes_to_read(const gpu_bench *b) {
  uint64_t bytes = b->options->rotate_bytes > 0 ? b->options->rotate_bytes : roof_bytes;
  return (bytes + READ_STEP - 1) / READ_STEP * READ_STEP;
}

static nvfp4_status enqueue_read(gpu_bench *b, gpu_cell *cell, size_t call, nvfp4_reason *reason) {
  static const nvfp4_cuda_kernel kernel = {nvfp4_fatbin_read, "nvfp4_read"};
  long long words = (long long)(bytes_to_read(b) / 16);
  void *sink = b->workspace;
  (void)call;
  const nvfp4_cu_launch launch = {
      .grid_x = 1024, .grid_y = 1, .grid_z = 1, .block_x = 512, .block_y = 1, .block_z = 1, .stream = b->visit.stream};
  void *parameters[] = {&cell->weights, &words, &sink};
  return nvfp4_cuda_launch(b->place.cuda, &kernel, &launch, parameters, reason);
}

/* The best of several turns of a cell that is one call; in GB or Gop a second, `work` being what a call does. */
static nvfp4_status best_rate(gpu_bench *b, gpu_cell *cell, enqueue_fn enqueue, double work, double *out, nvfp4_reason *reason) {
  cell->copies = cell->calls = 1;
  NVFP4_TRY(record(b, cell, enqueue, reason));
  for (int i = 0; i < 10; i++) {
    double us;
    NVFP4_TRY(take_turns(b, &cell, 1, reason));
    NVFP4_TRY(turn_us(b, cell, &us, reason));
    *out = work / us * 1e-3 > *out ? work / us * 1e-3 : *out;
  }
  return NVFP4_OK;
}

static nvfp4_status measure_read(gpu_bench *b, nvfp4_roof *roof, nvfp4_reason *reason) {
  gpu_cell *cell = &b->cells[0];
  NVFP4_TRY(nvfp4_place_alloc(&b->place, 64, &b->workspace, reason));
  NVFP4_TRY(nvfp4_place_alloc(&b->place, bytes_to_read(b), &cell->weights, reason));
  NVFP4_TRY(check(b, "cuMemsetD8Async", b->api->fill((nvfp4_cu_address)(uintptr_t)cell->weights, 0x5A, bytes_to_read(b), b->visit.stream),
                  reason));
  return best_rate(b, cell, enqueue_read, (double)bytes_to_read(b), &roof->read_gbps, reason);
}

static nvfp4_status measure_bf16(gpu_bench *b, nvfp4_roof *roof, nvfp4_reason *reason) {
  enum { SIDE = 8192 };
  gpu_cell *cell = &b->cells[0];
  nvfp4_bench_result product = {.n = SIDE, .k = SIDE, .m = SIDE};
  cell->result = &product;
  NVFP4_TRY(upload_inputs(b, SIDE, SIDE, SIDE, reason));
  NVFP4_TRY(make_cublas_cell(b, cell, reason));
  roof->bf16_name = "cublas 8192x8192x8192";
  return best_rate(b, cell, enqueue_cublas, 2.0 * SIDE * SIDE * SIDE, &roof->bf16_gflops, reason);
}

static nvfp4_status measure_roof(gpu_bench *b, nvfp4_roof *out, nvfp4_reason *reason) {
  static const char none[] = "not measured";
  *out = (nvfp4_roof){.struct_size = sizeof *out, .f32_name = none, .i8_name = none, .bf16_name = none};
  nvfp4_status status = measure_read(b, out, reason);
  free_group(b);
  if (status == NVFP4_OK && b->cublas != NULL) {
    status = measure_bf16(b, out, reason);
    free_group(b);
  }
  return status;
}

/* ------------------------------------------------------------------------------------------------------------------ the whole */

static nvfp4_status run_all(gpu_bench *b, nvfp4_bench_result *results, nvfp4_bench *out, nvfp4_reason *reason) {
  const nvfp4_bench_options *o = b->options;
  NVFP4_TRY(nvfp4_place_alloc(&b->place, NVFP4_CUBLAS_WORKSPACE_BYTES, &b->cublas_workspace, reason));
  (void)nvfp4_cublas_open(b->visit.stream, b->cublas_workspace, &b->cublas, &b->no_cublas); /* without it its cells say why */
  NVFP4_TRY(measure_roof(b, &out->before, reason));
  for (size_t s = 0; s < o->shape_count; s++) {
    for (size_t i = 0; i < o->m_count; i++) {
      nvfp4_status status = run_group(b, o->shapes[s], o->ms[i], results + out->result_count, reason);
      free_group(b);
      NVFP4_TRY(status);
      out->result_count += b->kernel_count + 1;
    }
  }
  return measure_roof(b, &out->after, reason);
}

nvfp4_status nvfp4_bench_cuda(nvfp4_context *context, const nvfp4_bench_options *options, const char *const *kernels,
                              const nvfp4_mode *modes, size_t kernel_count, nvfp4_bench_result *results, nvfp4_bench *out,
                              nvfp4_reason *reason) {
  gpu_bench b = {.context = context, .options = options, .kernels = kernels, .modes = modes, .kernel_count = kernel_count};
  NVFP4_TRY(nvfp4_place_find(context->cuda, options->device, &b.place, reason));
  NVFP4_TRY(nvfp4_place_enter(&b.place, true, &b.visit, reason));
  b.api = nvfp4_cuda_api(b.place.cuda);
  b.cells = calloc(kernel_count + 1, sizeof *b.cells);
  b.turn = calloc(kernel_count + 1, sizeof *b.turn);
  nvfp4_status status = b.cells != NULL && b.turn != NULL ? run_all(&b, results, out, reason)
                                                          : nvfp4_reject(reason, NVFP4_E_NOMEM, "out of memory for the cells");
  if (b.cells != NULL) {
    free_group(&b);
  }
  nvfp4_cublas_close(b.cublas);
  nvfp4_place_free(&b.place, b.cublas_workspace);
  free(b.cells);
  free(b.turn);
  nvfp4_place_leave(&b.visit, NULL);
  return status;
}
