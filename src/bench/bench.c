/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A group is the cells of one shape and M. All its kernels are packed, then they take turns until each has had its seconds. Up to M = 16, where reading the weights is what takes
 * time, a turn takes the next of several copies; all kernels' copies together are what rotate_bytes says, since each kernel's turn evicts the others' weights too.
 */
#define _ISOC11_SOURCE /* aligned_alloc */
#include <nvfp4/bench.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/reason.h"
#include "base/sized.h"
#include "bench/cells.h"
#include "bench/roof.h"
#include "layer/context.h"

enum { ROTATED_M = 16, MOST_COPIES = 512, LEAST_CALLS = 3, MOST_CALLS = 4096, RESIDENT_CALLS = 8 };

typedef struct cell {
  nvfp4_bench_result *result;
  nvfp4_layer *copies[MOST_COPIES];
  size_t copy_count, turn;
  double spent;
  double us[MOST_CALLS];
} cell;

typedef struct bench_run {
  nvfp4_context *context;
  const nvfp4_bench_options *options;
  nvfp4_bench out;
  nvfp4_bench_result *results;
  cell *cells; /* of a group, one a kernel */
  const char **kernels;
  nvfp4_mode *modes;
  size_t kernel_count;
  /* Of a group: random weights, x and y, and the workspace that the kernel with the largest needs. */
  nvfp4_weights weights, dense;
  uint8_t *codes, *scales, *values;
  uint16_t *x, *y;
  void *workspace;
  size_t workspace_bytes;
} bench_run;

/* ---------------------------------------------------------------------------------------------------------------- preparing */

static void *aligned(size_t bytes) { return aligned_alloc(64, (bytes + 64) / 64 * 64); }

void nvfp4_bench_fill(uint8_t *codes, size_t code_bytes, uint8_t *scales, size_t scale_bytes, uint16_t *x, size_t x_elems) {
  uint64_t state = 20;
  for (size_t i = 0; i < code_bytes; i++) {
    state = state * 6364136223846793005u + 1442695040888963407u; /* Knuth's MMIX generator */
    codes[i] = (uint8_t)(state >> 40);
  }
  for (size_t i = 0; i < scale_bytes; i++) {
    scales[i] = (uint8_t)(0x58 + i % 0x20);
  }
  for (size_t i = 0; i < x_elems; i++) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    x[i] = (uint16_t)(0x3E80 + (state >> 40 & 0x80FF)); /* +-0.25 .. 1 */
  }
}

static bool is_dense(const bench_run *b, size_t kernel) { return b->modes[kernel] == NVFP4_MODE_UNQUANTISED; }

static nvfp4_dtype dense_dtype(const bench_run *b) {
  return b->options->weight_dtype != NVFP4_DTYPE_NONE ? b->options->weight_dtype : NVFP4_DTYPE_BF16;
}

static double weight_bytes(const bench_run *b, size_t kernel) {
  return !is_dense(b, kernel) ? 0.5625 : dense_dtype(b) == NVFP4_DTYPE_F32 ? 4 : 2;
}

/* Random dense weights of ordinary size, if a kernel is for them. */
static nvfp4_status make_dense(bench_run *b, int64_t n, int64_t k, nvfp4_reason *reason) {
  bool wanted = false;
  for (size_t i = 0; i < b->kernel_count; i++) {
    wanted = wanted || is_dense(b, i);
  }
  if (!wanted) {
    return NVFP4_OK;
  }
  nvfp4_dtype dtype = dense_dtype(b);
  size_t row_bytes = (size_t)k * (dtype == NVFP4_DTYPE_F32 ? 4 : 2);
  float *row = malloc((size_t)k * sizeof *row);
  b->values = aligned((size_t)n * row_bytes);
  if (row == NULL || b->values == NULL) {
    free(row);
    return nvfp4_reject(reason, NVFP4_E_NOMEM, "out of memory for dense weights, N = %lld, K = %lld", (long long)n, (long long)k);
  }
  uint64_t state = 30;
  for (int64_t i = 0; i < n; i++) {
    for (int64_t j = 0; j < k; j++) {
      state = state * 6364136223846793005u + 1442695040888963407u;
      row[j] = (float)((int64_t)(state >> 40) - 0x800000) * 0x1p-23f;
    }
    b->context->host.from_f32(row, dtype, b->values + (size_t)i * row_bytes, k);
  }
  free(row);
  b->dense = (nvfp4_weights){
      .struct_size = sizeof b->dense, .n = n, .k = k, .dtype = dtype, .values = b->values, .values_stride_bytes = (int64_t)row_bytes};
  return NVFP4_OK;
}

static nvfp4_status make_inputs(bench_run *b, int64_t n, int64_t k, int64_t m, nvfp4_reason *reason) {
  size_t code_bytes = (size_t)(n * k / 2), scale_bytes = (size_t)(n * k / NVFP4_BLOCK);
  b->codes = aligned(code_bytes);
  b->scales = aligned(scale_bytes);
  b->x = aligned((size_t)(m * k) * sizeof *b->x);
  b->y = aligned((size_t)(m * n) * sizeof *b->y);
  if (b->codes == NULL || b->scales == NULL || b->x == NULL || b->y == NULL) {
    return nvfp4_reject(reason, NVFP4_E_NOMEM, "out of memory for N = %lld, K = %lld, M = %lld", (long long)n, (long long)k, (long long)m);
  }
  nvfp4_bench_fill(b->codes, code_bytes, b->scales, scale_bytes, b->x, (size_t)(m * k));
  b->weights = (nvfp4_weights){.struct_size = sizeof b->weights,
                               .n = n,
                               .k = k,
                               .codes = b->codes,
                               .codes_stride_bytes = k / 2,
                               .scales = b->scales,
                               .scales_stride_bytes = k / NVFP4_BLOCK};
  return make_dense(b, n, k, reason);
}

static void free_group(bench_run *b) {
  for (size_t i = 0; i < b->kernel_count; i++) {
    for (size_t j = 0; j < b->cells[i].copy_count; j++) {
      nvfp4_layer_destroy(b->cells[i].copies[j]);
    }
    b->cells[i].copy_count = 0;
  }
  free(b->codes);
  free(b->scales);
  free(b->values);
  free(b->x);
  free(b->y);
  free(b->workspace);
  b->codes = b->scales = b->values = NULL;
  b->x = b->y = NULL;
  b->workspace = NULL;
  b->workspace_bytes = 0;
}

/* How many copies of the weights each kernel gets. */
static size_t copies_of(const bench_run *b, int64_t n, int64_t k, int64_t m) {
  if (m > ROTATED_M || b->options->resident) {
    return 1;
  }
  double per_weight = 0;
  for (size_t i = 0; i < b->kernel_count; i++) {
    per_weight += weight_bytes(b, i);
  }
  uint64_t bytes = (uint64_t)((double)n * (double)k * per_weight) + 1;
  uint64_t rotate = b->options->rotate_bytes > 0 ? b->options->rotate_bytes : nvfp4_uncached_bytes(&b->context->machine);
  uint64_t copies = (rotate + bytes - 1) / bytes;
  return copies < MOST_COPIES ? (size_t)copies : MOST_COPIES;
}

nvfp4_status nvfp4_bench_plan(nvfp4_context *context, nvfp4_device device, nvfp4_mode mode, nvfp4_dtype weight_dtype,
                              const nvfp4_bench_result *r, nvfp4_plan **plan, nvfp4_reason *why) {
  nvfp4_partition whole = {.n_rows = r->n, .weight.value = 1, .input.value = mode == NVFP4_MODE_UNQUANTISED ? 0 : 1};
  nvfp4_layer_desc desc = {.struct_size = sizeof desc,
                           .name = "bench",
                           .n = r->n,
                           .k = r->k,
                           .m_first = r->m,
                           .m_last = r->m,
                           .mode = mode,
                           .x_dtype = NVFP4_DTYPE_BF16,
                           .y_dtype = NVFP4_DTYPE_BF16,
                           .device = device,
                           .partitions = &whole,
                           .partition_count = 1,
                           .weight_dtype = weight_dtype};
  nvfp4_policy policy = {.struct_size = sizeof policy, .kernel = r->kernel};
  return nvfp4_init_linear_kernel(context, &desc, &policy, plan, NULL, why);
}

/* Packs the kernel's copies. A refusal is the cell's, not the run's, unless it is about memory. */
static nvfp4_status pack_cell(bench_run *b, size_t index, size_t copies, nvfp4_reason *reason) {
  cell *c = &b->cells[index];
  nvfp4_bench_result *r = c->result;
  bool dense = is_dense(b, index);
  nvfp4_plan *plan = NULL;
  nvfp4_reason why = {0};
  r->status = nvfp4_bench_plan(b->context, b->options->device, b->modes[index], dense ? dense_dtype(b) : NVFP4_DTYPE_NONE, r, &plan, &why);
  while (r->status == NVFP4_OK && c->copy_count < copies) {
    r->status = nvfp4_layer_create(b->context, plan, dense ? &b->dense : &b->weights, &c->copies[c->copy_count], &why);
    c->copy_count += r->status == NVFP4_OK;
  }
  nvfp4_plan_free(plan);
  if (r->status == NVFP4_OK) {
    size_t bytes = nvfp4_layer_workspace_bytes(c->copies[0], r->m);
    b->workspace_bytes = bytes > b->workspace_bytes ? bytes : b->workspace_bytes;
    return NVFP4_OK;
  }
  snprintf(r->reason, sizeof r->reason, "%.255s", why.text);
  return r->status == NVFP4_E_NOMEM ? nvfp4_reject(reason, NVFP4_E_NOMEM, "%s", why.text) : NVFP4_OK;
}

/* ------------------------------------------------------------------------------------------------------------------- timing */

static double call_us(const bench_run *b, cell *c) {
  const nvfp4_bench_result *r = c->result;
  nvfp4_apply_args args = {.struct_size = sizeof args,
                           .m = r->m,
                           .x = b->x,
                           .ldx_elems = r->k,
                           .y = b->y,
                           .ldy_elems = r->n,
                           .workspace = b->workspace,
                           .workspace_bytes = b->workspace_bytes};
  const nvfp4_layer *layer = c->copies[c->turn++ % c->copy_count];
  nvfp4_reason why = {0};
  double start = nvfp4_seconds();
  c->result->status = nvfp4_layer_apply(layer, &args, &why);
  double us = (nvfp4_seconds() - start) * 1e6;
  if (c->result->status != NVFP4_OK) {
    snprintf(c->result->reason, sizeof c->result->reason, "%.255s", why.text);
  }
  return us;
}

static int ascending(const void *a, const void *b) {
  double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}

double nvfp4_bench_median(double *us, size_t count) {
  qsort(us, count, sizeof us[0], ascending);
  return (us[count / 2] + us[(count - 1) / 2]) / 2;
}

void nvfp4_bench_figures(nvfp4_bench_result *r, double *us) {
  double weights = (double)r->n * (double)r->k;
  r->us = nvfp4_bench_median(us, r->calls);
  r->us_p10 = us[(r->calls - 1) / 10];
  r->us_p90 = us[(r->calls - 1) * 9 / 10];
  r->gbps = r->weight_bytes * weights / r->us * 1e-3;
  r->gflops = 2.0 * (double)r->m * weights / r->us * 1e-3;
}

/* A turn of one kernel; false: it has had its seconds. */
static bool take_turn(const bench_run *b, cell *c, double seconds) {
  nvfp4_bench_result *r = c->result;
  if (r->status != NVFP4_OK || r->calls == MOST_CALLS || (r->calls >= LEAST_CALLS && c->spent >= seconds)) {
    return false;
  }
  size_t calls = 1;
  if (b->options->resident) {
    call_us(b, c); /* brings the weights back into the caches */
    calls = RESIDENT_CALLS;
  }
  for (size_t i = 0; i < calls && r->status == NVFP4_OK && r->calls < MOST_CALLS; i++) {
    c->us[r->calls] = call_us(b, c);
    c->spent += c->us[r->calls++] * 1e-6;
  }
  return true;
}

static void time_group(bench_run *b) {
  double seconds = b->options->seconds > 0 ? b->options->seconds : 0.3;
  for (size_t i = 0; i < b->kernel_count; i++) { /* untimed: page faults, threads that sleep */
    if (b->cells[i].result->status == NVFP4_OK) {
      call_us(b, &b->cells[i]);
    }
  }
  for (bool busy = true; busy;) {
    busy = false;
    for (size_t i = 0; i < b->kernel_count; i++) {
      busy = take_turn(b, &b->cells[i], seconds) || busy;
    }
  }
  for (size_t i = 0; i < b->kernel_count; i++) {
    cell *c = &b->cells[i];
    nvfp4_bench_result *r = c->result;
    if (r->status == NVFP4_OK) {
      nvfp4_bench_figures(r, c->us);
    }
  }
}

static nvfp4_status run_group(bench_run *b, nvfp4_bench_shape shape, int64_t m, nvfp4_reason *reason) {
  NVFP4_TRY(make_inputs(b, shape.n, shape.k, m, reason));
  size_t copies = copies_of(b, shape.n, shape.k, m);
  for (size_t i = 0; i < b->kernel_count; i++) {
    nvfp4_bench_result *r = &b->results[b->out.result_count++];
    *r = (nvfp4_bench_result){
        .kernel = b->kernels[i], .n = shape.n, .k = shape.k, .m = m, .weight_bytes = weight_bytes(b, i), .rel_err = -1};
    b->cells[i].result = r;
    b->cells[i].turn = 0;
    b->cells[i].spent = 0;
    if (b->options->progress != NULL) {
      b->options->progress(b->options->progress_cookie, r->kernel, r->n, r->k, m);
    }
    NVFP4_TRY(pack_cell(b, i, copies, reason));
  }
  b->workspace = aligned(b->workspace_bytes);
  if (b->workspace == NULL) {
    return nvfp4_reject(reason, NVFP4_E_NOMEM, "out of memory: %zu bytes of workspace", b->workspace_bytes);
  }
  time_group(b);
  return NVFP4_OK;
}

/* ---------------------------------------------------------------------------------------------------------------- the whole */

static nvfp4_status check_options(const nvfp4_context *context, const nvfp4_bench_options *options, nvfp4_bench **out,
                                  nvfp4_reason *reason) {
  if (context == NULL || out == NULL || options->shape_count == 0 || options->m_count == 0) {
    return nvfp4_reject(reason, NVFP4_E_ARG, "a benchmark needs a context, options with shapes and M, and a place for the results");
  }
  for (size_t i = 0; i < options->shape_count; i++) {
    nvfp4_bench_shape s = options->shapes[i];
    if (s.n < 1 || s.k < 1 || s.n > INT32_MAX || s.k > INT32_MAX) {
      return nvfp4_reject(reason, NVFP4_E_SHAPE, "shape N = %lld, K = %lld; needs both from 1 and below 2^31", (long long)s.n,
                          (long long)s.k);
    }
  }
  for (size_t i = 0; i < options->m_count; i++) {
    if (options->ms[i] < 1 || options->ms[i] > INT32_MAX) {
      return nvfp4_reject(reason, NVFP4_E_SHAPE, "M = %lld; needs 1 to 2^31 - 1", (long long)options->ms[i]);
    }
  }
  return NVFP4_OK;
}

/* The kernels to time: those named, or all that can run here. */
static nvfp4_status find_kernels(bench_run *b, nvfp4_reason *reason) {
  size_t known = nvfp4_kernel_count(b->context), named = b->options->kernels != NULL ? b->options->kernel_count : known;
  b->kernels = calloc(named + 1, sizeof *b->kernels);
  b->modes = calloc(named + 1, sizeof *b->modes);
  if (b->kernels == NULL || b->modes == NULL) {
    return nvfp4_reject(reason, NVFP4_E_NOMEM, "out of memory for the list of kernels");
  }
  for (size_t i = 0; i < named; i++) {
    nvfp4_kernel_info info = {0};
    nvfp4_reason why_not = {0};
    bool found = false;
    for (size_t j = b->options->kernels != NULL ? 0 : i; !found && j < known; j++) {
      NVFP4_TRY(nvfp4_kernel_get(b->context, j, NULL, &info, &why_not));
      found = b->options->kernels == NULL || strcmp(info.id, b->options->kernels[i]) == 0;
    }
    if (b->options->kernels != NULL && (!found || info.layout[0] == '\0')) {
      return nvfp4_reject(reason, NVFP4_E_ARG, "kernel %s %s; name kernels that this build has", b->options->kernels[i],
                          found ? "is not in this build" : "is not known");
    }
    if (info.stage == NVFP4_STAGE_ELIGIBLE && info.device == b->options->device.kind) {
      b->kernels[b->kernel_count] = info.id;
      b->modes[b->kernel_count++] = info.mode;
    } else if (b->options->kernels != NULL) {
      return nvfp4_reject(reason, NVFP4_E_MACHINE, "kernel %s cannot run here: %.400s", info.id, info.reason);
    }
  }
  return b->kernel_count > 0 ? NVFP4_OK : nvfp4_reject(reason, NVFP4_E_ARG, "no kernel to time; name one that can run here");
}

/* NVFP4 weights have blocks along K. */
static nvfp4_status check_blocks(const bench_run *b, nvfp4_reason *reason) {
  for (size_t i = 0; i < b->kernel_count * b->options->shape_count; i++) {
    nvfp4_bench_shape s = b->options->shapes[i / b->kernel_count];
    size_t kernel = i % b->kernel_count;
    if (!is_dense(b, kernel) && s.k % NVFP4_BLOCK != 0) {
      return nvfp4_reject(reason, NVFP4_E_SHAPE, "shape N = %lld, K = %lld; kernel %s needs a K that is a multiple of %d", (long long)s.n,
                          (long long)s.k, b->kernels[kernel], NVFP4_BLOCK);
    }
  }
  return NVFP4_OK;
}

/* On the CPU. */
static nvfp4_status run_groups(bench_run *b, nvfp4_reason *reason) {
  const nvfp4_bench_options *o = b->options;
  NVFP4_TRY(nvfp4_roof_measure(b->context, o->rotate_bytes, &b->out.before, reason));
  for (size_t s = 0; s < o->shape_count; s++) {
    for (size_t i = 0; i < o->m_count; i++) {
      nvfp4_status status = run_group(b, o->shapes[s], o->ms[i], reason);
      free_group(b);
      NVFP4_TRY(status);
    }
  }
  return nvfp4_roof_measure(b->context, o->rotate_bytes, &b->out.after, reason);
}

static nvfp4_status run_all(bench_run *b, nvfp4_reason *reason) {
  const nvfp4_bench_options *o = b->options;
  NVFP4_TRY(find_kernels(b, reason));
  NVFP4_TRY(check_blocks(b, reason));
  b->results = calloc(o->shape_count * o->m_count * (b->kernel_count + 1), sizeof *b->results);
  b->cells = calloc(b->kernel_count, sizeof *b->cells);
  if (b->results == NULL || b->cells == NULL) {
    return nvfp4_reject(reason, NVFP4_E_NOMEM, "out of memory for the results");
  }
  b->out.threads = nvfp4_context_threads(b->context);
  NVFP4_TRY(o->device.kind == NVFP4_DEVICE_CPU
                ? run_groups(b, reason)
                : nvfp4_bench_cuda(b->context, o, b->kernels, b->modes, b->kernel_count, b->results, &b->out, reason));
  nvfp4_roof roof = nvfp4_roof_greater(&b->out.before, &b->out.after);
  for (size_t i = 0; i < b->out.result_count; i++) {
    nvfp4_bench_result *r = &b->results[i];
    r->roof_share = nvfp4_roof_share(&roof, r->n, r->k, r->m, r->weight_bytes, r->us);
  }
  return NVFP4_OK;
}

nvfp4_status nvfp4_bench_run(nvfp4_context *context, const nvfp4_bench_options *options, nvfp4_bench **out, nvfp4_reason *reason) {
  nvfp4_bench_options own;
  NVFP4_TRY(nvfp4_sized_read(options, "nvfp4_bench_options", &own, sizeof own, reason));
  NVFP4_TRY(check_options(context, &own, out, reason));
  bench_run b = {.context = context, .options = &own};
  nvfp4_status status = run_all(&b, reason);
  nvfp4_bench *copy = status == NVFP4_OK ? malloc(sizeof *copy) : NULL;
  if (status == NVFP4_OK && copy == NULL) {
    status = nvfp4_reject(reason, NVFP4_E_NOMEM, "out of memory for the results");
  }
  free(b.cells);
  free(b.kernels);
  free(b.modes);
  if (status != NVFP4_OK) {
    free(b.results);
    return status;
  }
  b.out.results = b.results;
  *copy = b.out;
  *out = copy;
  return NVFP4_OK;
}

void nvfp4_bench_free(nvfp4_bench *bench) {
  if (bench != NULL) {
    free((nvfp4_bench_result *)bench->results);
    free(bench);
  }
}

nvfp4_bench_shape nvfp4_bench_resident_shape(const nvfp4_context *context) {
  enum { K = 4096, ROWS = 64 };
  int64_t threads = nvfp4_context_threads(context);
  uint64_t l2 = context->machine.l2_bytes > 0 ? context->machine.l2_bytes : (uint64_t)256 << 10;
  int64_t rows = (int64_t)(l2 / 2 / (K / 16 * 9)) / ROWS * ROWS; /* of a thread: whole tiles */
  return (nvfp4_bench_shape){threads * (rows > 0 ? rows : ROWS), K};
}
