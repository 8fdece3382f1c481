/* SPDX-License-Identifier: Apache-2.0 */
#include <fenv.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#if defined(__x86_64__)
#include <xmmintrin.h>
#endif

#include "base/fp_env.h"
#include "base/reason.h"
#include "checkkern.h"
#include "format/activation.h"
#include "format/e2m1.h"
#include "format/e4m3.h"
#include "format/half.h"
#include "format/scale_layout.h"
#include "kernels/cuda/fp4_finish.h"
#include "kernels/cuda/fp4_layout.h"
#include "kernels/cuda/quantise.h"
#include "kernels/plugin.h"

void ck_fail(ck_report *report, const char *replay, const char *format, ...) {
  if (report->failures < CK_FAILURES) {
    va_list list;
    va_start(list, format);
    vsnprintf(report->failed[report->failures].text, CK_TEXT, format, list);
    va_end(list);
    snprintf(report->failed[report->failures].replay, CK_CASE_TEXT, "%s", replay);
  }
  report->failures++;
}

/* -------------------------------------------------------------------------------------------------------- the host of kernels */

enum { MOST_ALLOCATIONS = 16 };
static ck_buffer *allocations[MOST_ALLOCATIONS]; /* of the process's one ck_host */

static void *host_alloc(void *cookie, size_t bytes, size_t alignment) {
  ck_host *host = cookie;
  host->alloc_in_apply = host->alloc_in_apply || host->in_apply;
  if (host->refuses_memory || host->live == MOST_ALLOCATIONS) {
    return NULL;
  }
  ck_buffer **slot = allocations;
  while (*slot != NULL) {
    slot++;
  }
  *slot = ck_guard_new("packed weights", bytes, alignment, host->guard);
  host->live++;
  return (*slot)->data;
}

static void host_free(void *cookie, void *pointer, size_t bytes) {
  ck_host *host = cookie;
  for (int i = 0; i < MOST_ALLOCATIONS; i++) {
    if (allocations[i] != NULL && allocations[i]->data == pointer && allocations[i]->bytes == bytes) {
      ck_guard_free(allocations[i]);
      allocations[i] = NULL;
      host->live--;
      return;
    }
  }
}

static void host_parallel_for(void *cookie, size_t count, nvfp4_task_fn task, void *arg) {
  ck_host *host = cookie;
  if (__atomic_add_fetch(&host->task_depth, 1, __ATOMIC_SEQ_CST) > 1) {
    host->nested = true;
  } else if (host->threads > 0) {
    if (host->pools[host->threads] == NULL &&
        nvfp4_threads_create((int)host->threads, NULL, NULL, &host->pools[host->threads], NULL) != 0) {
      fprintf(stderr, "checkkern: cannot make %d threads\n", (int)host->threads);
      exit(2);
    }
    nvfp4_parallel_for(host->pools[host->threads], count, task, arg);
  } else { /* the order of tasks must not matter */
    nvfp4_fp_env before = nvfp4_fp_env_enter();
    while (count > 0) {
      task(arg, --count);
    }
    nvfp4_fp_env_leave(before);
  }
  __atomic_sub_fetch(&host->task_depth, 1, __ATOMIC_SEQ_CST);
}

static int host_threads(void *cookie) {
  const ck_host *host = cookie;
  return host->threads > 0 ? (int)host->threads : 1;
}

/* What kernels of plug-ins for GPUs call: as in src/layer/context.c. */
static nvfp4_status host_cuda_quantise(void *cookie, const nvfp4_kernel_args *args, int64_t k_padded, nvfp4_scale_layout layout,
                                       uint8_t *codes, uint8_t *scales, nvfp4_reason *reason) {
  return cuda_quantise(&((ck_host *)cookie)->table, args, k_padded, layout, codes, scales, reason);
}

static nvfp4_status host_cuda_finish(void *cookie, const nvfp4_kernel_args *args, const float *acc, int64_t ld_acc_elems,
                                     nvfp4_reason *reason) {
  return cuda_fp4_finish(&((ck_host *)cookie)->table, args, acc, ld_acc_elems, reason);
}

static nvfp4_status host_cuda_alloc(void *cookie, size_t bytes, void **out, nvfp4_reason *reason) {
  ck_host *host = cookie;
  host->alloc_in_apply = host->alloc_in_apply || host->in_apply;
  return nvfp4_cuda_alloc(host->device.cuda, bytes, out, reason);
}

static void host_cuda_free(void *cookie, void *memory) { nvfp4_cuda_free(((ck_host *)cookie)->device.cuda, memory); }

static nvfp4_status host_cuda_copy(void *cookie, void *to, size_t to_stride, const void *from, size_t from_stride, size_t row_bytes,
                                   size_t rows, void *stream, nvfp4_reason *reason) {
  return nvfp4_cuda_copy_rows(((ck_host *)cookie)->device.cuda, to, to_stride, from, from_stride, row_bytes, rows, stream, reason);
}

static nvfp4_status host_cuda_wait(void *cookie, void *stream, nvfp4_reason *reason) {
  nvfp4_cuda *cuda = ((ck_host *)cookie)->device.cuda;
  return nvfp4_cuda_check(cuda, "cuStreamSynchronize", nvfp4_cuda_api(cuda)->stream_synchronize(stream), reason);
}

static nvfp4_status host_cuda_device(void *cookie, int *ordinal, int *sm, nvfp4_reason *reason) {
  nvfp4_cuda *cuda = ((ck_host *)cookie)->device.cuda;
  const nvfp4_cu_api *api = nvfp4_cuda_api(cuda);
  int major = 0, minor = 0;
  NVFP4_TRY(nvfp4_cuda_check(cuda, "cuCtxGetDevice", api->context_get_device(ordinal), reason));
  NVFP4_TRY(nvfp4_cuda_check(cuda, "cuDeviceGetAttribute",
                             api->device_get_attribute(&major, NVFP4_CU_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, *ordinal), reason));
  NVFP4_TRY(nvfp4_cuda_check(cuda, "cuDeviceGetAttribute",
                             api->device_get_attribute(&minor, NVFP4_CU_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR, *ordinal), reason));
  *sm = 10 * major + minor;
  return NVFP4_OK;
}

void ck_host_init(ck_host *host) {
  *host = (ck_host){.threads = 1};
  host->table = (nvfp4_host){
      .struct_size = sizeof(nvfp4_host),
      .cookie = host,
      .alloc = host_alloc,
      .free = host_free,
      .parallel_for = host_parallel_for,
      .threads = host_threads,
      .reject = nvfp4_reject,
      .to_f32 = nvfp4_to_f32,
      .from_f32 = nvfp4_from_f32,
      .quantise_row = nvfp4_quantise_activation_row,
      .e2m1 = nvfp4_e2m1_table,
      .e4m3 = nvfp4_e4m3_table,
      .cuda_fp4 = &nvfp4_layout_cuda_fp4,
      .cuda_quantise = host_cuda_quantise,
      .cuda_finish = host_cuda_finish,
      .cuda_alloc = host_cuda_alloc,
      .cuda_free = host_cuda_free,
      .cuda_copy = host_cuda_copy,
      .cuda_wait = host_cuda_wait,
      .cuda_device = host_cuda_device,
  };
}

void ck_host_free(ck_host *host) {
  ck_device_close(&host->device);
  for (size_t i = 0; i < sizeof host->pools / sizeof host->pools[0]; i++) {
    nvfp4_threads_destroy(host->pools[i]);
  }
}

static void protect_packed(ck_access access) {
  for (int i = 0; i < MOST_ALLOCATIONS; i++) {
    ck_guard_protect(allocations[i], access);
  }
}

/* ------------------------------------------------------------------------------------------------------- one call of a kernel */

typedef struct run {
  ck_host *host;
  const nvfp4_kernel *kernel;
  const ck_case *c;
  const ck_problem *problem;
  const ck_expected *expected;
  nvfp4_packed packed;
  ck_report *report;
  bool captured; /* GPU: calls are captured in a graph */
} run;

static bool on_device(const run *r) { return r->kernel->device == NVFP4_DEVICE_CUDA; }

enum { X, BIAS, ALPHA, X_CODES, X_SCALES, WORKSPACE, Y, BUFFERS };

size_t ck_elem_bytes(int64_t dtype) { return dtype == NVFP4_DTYPE_F32 ? 4 : 2; }

bool ck_m_served(const nvfp4_kernel *kernel, int64_t m) { return kernel->m_last == 0 || (m >= kernel->m_first && m <= kernel->m_last); }

static bool has_two_alphas(const ck_case *c) { return c->alpha != CK_ALPHA_ONE && c->n > 1; }

void ck_partitions(const ck_case *c, nvfp4_global input, nvfp4_partition out[2]) {
  int64_t first = has_two_alphas(c) ? (c->n + 1) / 2 : c->n;
  out[0] = (nvfp4_partition){0, first, {1.0f, NVFP4_GLOBAL_MULTIPLIER}, input};
  out[1] = (nvfp4_partition){first, c->n - first, {2.0f, NVFP4_GLOBAL_MULTIPLIER}, input};
}

nvfp4_layer_desc ck_desc(const ck_case *c, const nvfp4_kernel *kernel, const nvfp4_partition *partitions) {
  return (nvfp4_layer_desc){.struct_size = sizeof(nvfp4_layer_desc),
                            .name = "checkkern",
                            .n = c->n,
                            .k = c->k,
                            .m_first = c->m,
                            .m_last = c->m,
                            .mode = kernel->numerics.mode,
                            .x_dtype = (nvfp4_dtype)c->x,
                            .y_dtype = (nvfp4_dtype)c->y,
                            .bias_dtype = (nvfp4_dtype)c->bias,
                            .device = {kernel->device, 0},
                            .partitions = partitions,
                            .partition_count = has_two_alphas(c) ? 2 : 1,
                            .weight_dtype = (nvfp4_dtype)c->w};
}

ck_source ck_source_make(const ck_problem *p, const ck_case *c) {
  ck_source s = {.weights = {.struct_size = sizeof s.weights, .n = p->n, .k = p->k, .dtype = (nvfp4_dtype)c->w}};
  if (p->w != NULL) {
    int64_t row = p->k * (int64_t)ck_elem_bytes(c->w), stride = row + c->x_gap; /* a gap of an odd number of bytes */
    s.codes = ck_guard_new("source values", (size_t)((p->n - 1) * stride + row), 1, c->guard);
    for (int64_t n = 0; n < p->n; n++) {
      nvfp4_from_f32(p->w + n * p->k, (nvfp4_dtype)c->w, s.codes->data + n * stride, p->k);
    }
    s.weights.values = s.codes->data;
    s.weights.values_stride_bytes = stride;
  } else {
    int64_t codes_stride = p->k / 2 + c->x_gap, scales_stride = p->blocks + c->y_gap;
    s.codes = ck_guard_new("source codes", (size_t)((p->n - 1) * codes_stride + p->k / 2), 1, c->guard);
    s.scales = ck_guard_new("source scales", (size_t)((p->n - 1) * scales_stride + p->blocks), 1, c->guard);
    for (int64_t n = 0; n < p->n; n++) {
      memcpy(s.codes->data + n * codes_stride, p->codes + n * p->k / 2, (size_t)p->k / 2);
      memcpy(s.scales->data + n * scales_stride, p->scales + n * p->blocks, (size_t)p->blocks);
    }
    s.weights.codes = s.codes->data;
    s.weights.codes_stride_bytes = codes_stride;
    s.weights.scales = s.scales->data;
    s.weights.scales_stride_bytes = scales_stride;
  }
  ck_source_protect(&s, CK_READ_ONLY);
  return s;
}

void ck_source_protect(const ck_source *source, ck_access access) {
  ck_guard_protect(source->codes, access);
  ck_guard_protect(source->scales, access);
}

void ck_source_free(ck_source *source) {
  ck_guard_free(source->codes);
  ck_guard_free(source->scales);
}

/* x or the codes and scales that come quantised, of rows [first, first + rows). */
static void make_x(const run *r, int64_t first, int64_t rows, ck_buffer **b, nvfp4_kernel_args *args, nvfp4_quantised_x *q) {
  const ck_case *c = r->c;
  const ck_problem *p = r->problem;
  if (c->quantised == CK_X_PLAIN) {
    size_t width = ck_elem_bytes(c->x);
    int64_t ld = c->k + c->x_gap;
    b[X] = ck_guard_new("x", (size_t)((rows - 1) * ld + c->k) * width, 1, c->guard);
    memset(b[X]->data, 0xFF, b[X]->bytes); /* between the rows: NaN */
    for (int64_t m = 0; m < rows; m++) {
      nvfp4_from_f32(p->x + (first + m) * p->k, (nvfp4_dtype)c->x, b[X]->data + (size_t)(m * ld) * width, p->k);
    }
    args->x = b[X]->data;
    args->ldx_elems = ld;
    return;
  }
  nvfp4_scale_layout layout = (nvfp4_scale_layout)(c->quantised - 1);
  int64_t codes_stride = c->k / 2 + c->x_gap, scales_stride = p->blocks + c->x_gap;
  bool linear = layout == NVFP4_SCALES_LINEAR;
  b[X_CODES] = ck_guard_new("quantised_x->codes", (size_t)((rows - 1) * codes_stride + c->k / 2), 1, c->guard);
  memset(b[X_CODES]->data, 0xFF, b[X_CODES]->bytes);
  size_t scales_bytes = linear ? (size_t)((rows - 1) * scales_stride + p->blocks) : nvfp4_scales_bytes(layout, rows, p->blocks);
  b[X_SCALES] = ck_guard_new("quantised_x->scales", scales_bytes, 1, c->guard);
  memset(b[X_SCALES]->data, 0xFF, scales_bytes);
  if (!linear) {
    nvfp4_scales_from_linear(layout, p->x_scales + first * p->blocks, p->blocks, rows, p->blocks, b[X_SCALES]->data);
  }
  for (int64_t m = 0; m < rows; m++) {
    memcpy(b[X_CODES]->data + m * codes_stride, p->x_codes + (first + m) * p->k / 2, (size_t)p->k / 2);
    if (linear) {
      memcpy(b[X_SCALES]->data + m * scales_stride, p->x_scales + (first + m) * p->blocks, (size_t)p->blocks);
    }
  }
  *q = (nvfp4_quantised_x){.codes = b[X_CODES]->data,
                           .codes_stride_bytes = codes_stride,
                           .scales = b[X_SCALES]->data,
                           .scale_layout = layout,
                           .scales_stride_bytes = linear ? scales_stride : 0,
                           .input = p->input};
  args->quantised_x = q;
}

static void make_args(const run *r, int64_t first, int64_t rows, ck_buffer **b, nvfp4_kernel_args *args, nvfp4_quantised_x *q) {
  const ck_case *c = r->c;
  const ck_problem *p = r->problem;
  nvfp4_partition partitions[2];
  ck_partitions(c, p->input, partitions);
  nvfp4_layer_desc desc = ck_desc(c, r->kernel, partitions);
  *args = (nvfp4_kernel_args){.struct_size = sizeof *args,
                              .m = rows,
                              .n = c->n,
                              .k = c->k,
                              .x_dtype = (nvfp4_dtype)c->x,
                              .s_a = p->s_a,
                              .bias_dtype = (nvfp4_dtype)c->bias,
                              .ldy_elems = c->n + c->y_gap,
                              .y_dtype = (nvfp4_dtype)c->y};
  make_x(r, first, rows, b, args, q);
  b[ALPHA] = ck_guard_new("alpha", (size_t)c->n * sizeof(float), sizeof(float), c->guard);
  memcpy(b[ALPHA]->data, p->alpha, b[ALPHA]->bytes);
  args->alpha = (const float *)(const void *)b[ALPHA]->data;
  if (p->bias != NULL) {
    b[BIAS] = ck_guard_new("bias", (size_t)c->n * ck_elem_bytes(c->bias), 1, c->guard);
    nvfp4_from_f32(p->bias, (nvfp4_dtype)c->bias, b[BIAS]->data, c->n);
    args->bias = b[BIAS]->data;
  }
  b[Y] = ck_guard_new("y", (size_t)((rows - 1) * args->ldy_elems + c->n) * ck_elem_bytes(c->y), 1, c->guard);
  args->y = b[Y]->data;
  args->workspace_bytes = r->kernel->workspace_bytes(&desc, rows);
  b[WORKSPACE] = ck_guard_new("workspace", args->workspace_bytes, 64, c->guard);
  /* NaN in every type: what a kernel reads of it without having written it shows, even if the weight is zero. */
  memset(b[WORKSPACE]->data, 0xFF, args->workspace_bytes);
  args->workspace = b[WORKSPACE]->data;
  for (int i = X; i <= X_SCALES; i++) {
    ck_guard_protect(b[i], CK_READ_ONLY);
  }
}

/* Calls with another rounding mode and flush-to-zero on. False: the caller's environment was not restored. */
static bool call_flushing(const run *r, const nvfp4_kernel_args *args, nvfp4_reason *reason, nvfp4_status *status) {
  fesetround(FE_UPWARD);
  bool restored = true;
#if defined(__x86_64__)
  unsigned ours = _mm_getcsr() | 0x8040u;
  _mm_setcsr(ours);
#elif defined(__aarch64__)
  uint64_t before, ours, after;
  __asm__ volatile("mrs %0, fpcr" : "=r"(before));
  ours = before | (uint64_t)1 << 24;
  __asm__ volatile("msr fpcr, %0" : : "r"(ours) : "memory");
#endif
  *status = r->kernel->apply_weights(&r->host->table, &r->packed, args, reason);
#if defined(__x86_64__)
  restored = (_mm_getcsr() & ~0x3Fu) == (ours & ~0x3Fu);
  _mm_setcsr(0x1F80u);
#elif defined(__aarch64__)
  __asm__ volatile("mrs %0, fpcr" : "=r"(after));
  restored = after == ours;
  __asm__ volatile("msr fpcr, %0" : : "r"(before) : "memory");
#endif
  fesetround(FE_TONEAREST);
  return restored;
}

/* What a call may not leave behind. */
static const char *misuse(const run *r, ck_buffer **b, bool env_restored) {
  if (!env_restored) {
    return "apply_weights does not restore the caller's floating-point environment";
  }
  if (r->host->alloc_in_apply) {
    return "apply_weights allocates";
  }
  if (r->host->nested) {
    return "apply_weights nests parallel_for";
  }
  for (int i = X; on_device(r) && i <= X_SCALES; i++) {
    if (b[i] != NULL && !ck_device_unchanged(&r->host->device, b[i])) {
      return "writes to what it may only read";
    }
  }
  for (int i = 0; i < BUFFERS; i++) {
    if (b[i] != NULL && !ck_guard_intact(b[i])) {
      return i == Y ? "writes before or past y" : "writes before or past workspace";
    }
  }
  return NULL;
}

/* A call of a GPU kernel: everything goes to the device, and what it may write comes back. */
static nvfp4_status call_on_device(const run *r, ck_buffer **b, const nvfp4_kernel_args *args, nvfp4_reason *reason) {
  ck_device *device = &r->host->device;
  nvfp4_kernel_args there = *args;
  nvfp4_quantised_x q;
  void *at[BUFFERS];
  for (int i = 0; i < BUFFERS; i++) {
    at[i] = ck_device_put(device, b[i]);
  }
  there.x = at[X];
  there.bias = at[BIAS];
  there.alpha = at[ALPHA];
  there.workspace = at[WORKSPACE];
  there.y = at[Y];
  there.stream = device->visit.stream;
  if (args->quantised_x != NULL) {
    q = *args->quantised_x;
    q.codes = at[X_CODES];
    q.scales = at[X_SCALES];
    there.quantised_x = &q;
  }
  nvfp4_status status = ck_device_apply(device, r->captured, r->kernel, &r->host->table, &r->packed, &there, reason);
  ck_device_wait(device);
  for (int i = WORKSPACE; i <= Y; i++) {
    ck_device_take_back(device, b[i]);
  }
  if (status == NVFP4_OK && device->failure.text[0] != '\0') {
    *reason = device->failure;
    status = reason->status;
  }
  return status;
}

/* Applies rows [first, first + rows) into y (rows x n elements without gaps, the caller's). False: it failed, and the report says so. */
static bool apply_rows(const run *r, int64_t first, int64_t rows, const char *replay, uint8_t *y) {
  ck_buffer *b[BUFFERS] = {0};
  nvfp4_kernel_args args;
  nvfp4_quantised_x q;
  make_args(r, first, rows, b, &args, &q);
  r->host->in_apply = true;
  snprintf(r->report->doing, sizeof r->report->doing, "apply_weights, M = %lld", (long long)rows);
  nvfp4_reason reason = {0};
  nvfp4_status status;
  bool restored = true;
  if (on_device(r)) {
    status = call_on_device(r, b, &args, &reason);
  } else if (r->c->caller == CK_CALLER_FLUSHES) {
    restored = call_flushing(r, &args, &reason, &status);
  } else {
    status = r->kernel->apply_weights(&r->host->table, &r->packed, &args, &reason);
  }
  r->host->in_apply = false;
  r->report->doing[0] = '\0';
  const char *wrong = misuse(r, b, restored);
  if (status != NVFP4_OK) {
    ck_fail(r->report, replay, "apply_weights refuses what can_implement accepts: %s: %s", nvfp4_status_name(status), reason.text);
    wrong = "";
  } else if (wrong != NULL) {
    ck_fail(r->report, replay, "%s", wrong);
  }
  size_t width = ck_elem_bytes(r->c->y), row_bytes = (size_t)r->c->n * width, stride = (size_t)args.ldy_elems * width;
  for (int64_t m = 0; m < rows; m++) {
    const uint8_t *row = b[Y]->data + (size_t)m * stride;
    memcpy(y + (size_t)m * row_bytes, row, row_bytes);
    for (size_t i = row_bytes; wrong == NULL && m + 1 < rows && i < stride; i++) {
      if (row[i] != 0xA5) {
        ck_fail(r->report, replay, "writes between the rows of y: row %lld, column %lld of N = %lld, ldy = %lld", (long long)(first + m),
                (long long)(i / width), (long long)r->c->n, (long long)args.ldy_elems);
        wrong = "";
      }
    }
  }
  if (on_device(r)) {
    ck_device_reset(&r->host->device, false);
  }
  for (int i = 0; i < BUFFERS; i++) {
    ck_guard_free(b[i]);
  }
  return wrong == NULL;
}

/* ---------------------------------------------------------------------------------------------------------------------- checks */

static bool values_hold(const run *r, const uint8_t *y, const char *replay) {
  const ck_case *c = r->c;
  int64_t wrong = 0;
  char first[256], text[256];
  for (int64_t i = 0; i < c->m * c->n; i++) {
    if (!ck_expected_holds(r->expected, r->problem, i / c->n, i % c->n, y + (size_t)i * ck_elem_bytes(c->y), (nvfp4_dtype)c->y, text,
                           sizeof text)) {
      if (wrong == 0) {
        snprintf(first, sizeof first, "row %lld, column %lld: %.200s", (long long)(i / c->n), (long long)(i % c->n), text);
      }
      wrong++;
    }
  }
  if (wrong > 0) {
    ck_fail(r->report, replay, "%s (%lld of %lld values are wrong)", first, (long long)wrong, (long long)(c->m * c->n));
  }
  return wrong == 0;
}

/* Whether rows [first, first + rows) of y are what `again` holds. */
static bool same_bits(const run *r, const uint8_t *y, const uint8_t *again, int64_t first, int64_t rows, const char *what,
                      const char *replay) {
  size_t width = ck_elem_bytes(r->c->y), n = (size_t)r->c->n;
  const uint8_t *part = y + (size_t)first * n * width;
  for (size_t i = 0; i < (size_t)rows * n; i++) {
    if (memcmp(part + i * width, again + i * width, width) != 0) {
      float a, b;
      nvfp4_to_f32(part + i * width, (nvfp4_dtype)r->c->y, &a, 1);
      nvfp4_to_f32(again + i * width, (nvfp4_dtype)r->c->y, &b, 1);
      ck_fail(r->report, replay, "%s gives other bits: row %lld, column %lld: %a, before %a", what, (long long)first + (long long)(i / n),
              (long long)(i % n), (double)b, (double)a);
      return false;
    }
  }
  return true;
}

/* Rows alone, and in small groups, must give the bits that they gave among the others. */
static void check_batch(const run *r, const uint8_t *y, uint8_t *again, const char *replay) {
  static const int64_t sizes[] = {1, 2, 3, 8};
  bool good = true;
  for (size_t i = 0; good && i < sizeof sizes / sizeof sizes[0]; i++) {
    int64_t rows = sizes[i];
    if (!ck_m_served(r->kernel, rows)) {
      rows = r->kernel->m_first + (int64_t)i;
    }
    int64_t step = rows == 1 ? 5 : 23;
    for (int64_t first = 0; good && ck_m_served(r->kernel, rows) && first + rows <= r->c->m; first += step) {
      char what[96];
      snprintf(what, sizeof what, "a batch of %lld instead of %lld rows", (long long)rows, (long long)r->c->m);
      good = apply_rows(r, first, rows, replay, again) && same_bits(r, y, again, first, rows, what, replay);
    }
  }
}

static void check_promises(run *r, const uint8_t *y, uint8_t *again, const char *replay) {
  uint32_t flags = r->kernel->numerics.flags;
  bool good = true;
  if (r->c->check == CK_CHECK_BATCH && (flags & NVFP4_FLAG_BATCH_INVARIANT) != 0) {
    check_batch(r, y, again, replay);
  }
  r->captured = true; /* a GPU kernel's calls from here on: a graph must give the bits of the plain call */
  for (int i = 0; good && i < 3 && r->c->check == CK_CHECK_REPEAT && (flags & NVFP4_FLAG_DETERMINISTIC) != 0; i++) {
    good = apply_rows(r, 0, r->c->m, replay, again) && same_bits(r, y, again, 0, r->c->m, "the same call again", replay);
  }
  static const int64_t counts[] = {1, 3, 5, 0};
  for (int i = 0; good && i < 4 && r->c->check == CK_CHECK_THREADS && (flags & NVFP4_FLAG_DETERMINISTIC) != 0; i++) {
    char what[64];
    snprintf(what, sizeof what, counts[i] > 0 ? "threads = %lld" : "the tasks in descending order", (long long)counts[i]);
    r->host->threads = counts[i];
    good = apply_rows(r, 0, r->c->m, replay, again) && same_bits(r, y, again, 0, r->c->m, what, replay);
  }
}

/* Weights and alpha on the device. */
static ck_buffer *place_weights(run *r, const ck_source *source, nvfp4_weights *weights, nvfp4_process_args *args) {
  ck_device *device = &r->host->device;
  ck_buffer *alpha = ck_guard_new("alpha", (size_t)r->c->n * sizeof(float), sizeof(float), r->c->guard);
  memcpy(alpha->data, r->problem->alpha, alpha->bytes);
  weights->memory = NVFP4_MEMORY_CUDA;
  void *codes = ck_device_put(device, source->codes);
  weights->values = weights->values != NULL ? codes : NULL;
  weights->codes = weights->values != NULL ? NULL : codes;
  weights->scales = ck_device_put(device, source->scales);
  args->alpha_w4a16 = ck_device_put(device, alpha);
  args->alpha_w4a4 = args->alpha_w4a4 != NULL ? args->alpha_w4a16 : NULL;
  args->stream = device->visit.stream;
  return alpha;
}

/* The sources must be as they were; unless they are borrowed, they become something else. */
static nvfp4_status leave_weights(run *r, const ck_source *source, ck_buffer *alpha, nvfp4_status status, nvfp4_reason *reason) {
  ck_device *device = &r->host->device;
  ck_device_wait(device);
  ck_buffer *const sources[] = {source->codes, source->scales, alpha};
  for (int i = 0; i < 3; i++) {
    if (status == NVFP4_OK && sources[i] != NULL && !ck_device_unchanged(device, sources[i])) {
      status = nvfp4_reject(reason, NVFP4_E_INTERNAL, "it writes to its sources");
    }
  }
  if (status == NVFP4_OK && device->failure.text[0] != '\0') {
    *reason = device->failure;
    status = reason->status;
  }
  if (!r->packed.borrows_source) {
    for (int i = 0; i < 3; i++) {
      ck_device_spoil(device, sources[i]);
    }
    ck_device_wait(device);
  }
  ck_device_keep(device); /* whatever becomes of them, packed weights may not read them */
  ck_guard_free(alpha);
  return status;
}

/* Packs between guard pages; what it does not borrow is inaccessible afterwards. */
static bool pack(run *r, const ck_source *source, const nvfp4_layer_desc *layer, const char *replay) {
  const ck_problem *p = r->problem;
  bool w4a4 = r->kernel->numerics.mode == NVFP4_MODE_W4A4;
  nvfp4_weights weights = source->weights;
  nvfp4_process_args args = {sizeof args, &weights, w4a4 ? p->alpha : NULL, p->alpha, NULL};
  nvfp4_reason reason = {0};
  ck_buffer *alpha = on_device(r) ? place_weights(r, source, &weights, &args) : NULL;
  snprintf(r->report->doing, sizeof r->report->doing, "process_weights_after_loading");
  r->packed = (nvfp4_packed){.struct_size = sizeof r->packed};
  nvfp4_status status = r->kernel->layout->process_weights_after_loading(&r->host->table, &args, &r->packed, &reason);
  if (on_device(r)) {
    status = leave_weights(r, source, alpha, status, &reason);
  }
  if (status == NVFP4_OK) {
    nvfp4_layer_desc desc = *layer;
    desc.m_first = 1; /* rows are applied in parts, too */
    snprintf(r->report->doing, sizeof r->report->doing, "prepare");
    status = nvfp4_kernel_prepare(r->kernel, &r->host->table, &desc, &r->packed, &reason);
    if (status != NVFP4_OK) {
      r->kernel->layout->free_packed(&r->host->table, &r->packed);
    }
  }
  if (status != NVFP4_OK) {
    ck_fail(r->report, replay, "%.64s: %s: %s", r->report->doing, nvfp4_status_name(status), reason.text);
    r->report->doing[0] = '\0';
    return false;
  }
  r->report->doing[0] = '\0';
  if (!r->packed.borrows_source) {
    ck_source_protect(source, CK_NO_ACCESS);
  }
  protect_packed(CK_READ_ONLY);
  return true;
}

bool ck_run_case(ck_host *host, const nvfp4_kernel *kernel, const ck_case *c, ck_report *report) {
  ck_problem problem = ck_problem_make(c, kernel->numerics.mode);
  nvfp4_partition partitions[2];
  ck_partitions(c, problem.input, partitions);
  nvfp4_layer_desc desc = ck_desc(c, kernel, partitions);
  if (!ck_m_served(kernel, c->m) || kernel->can_implement(&desc, NULL) != NVFP4_OK) {
    ck_problem_free(&problem);
    return false;
  }
  char replay[CK_CASE_TEXT];
  ck_case_print(c, replay);
  snprintf(report->now, sizeof report->now, "%s", replay);
  host->guard = c->guard;
  host->threads = c->threads;
  host->alloc_in_apply = host->nested = false;
  ck_expected expected = ck_expected_make(&problem, kernel);
  run r = {.host = host, .kernel = kernel, .c = c, .problem = &problem, .expected = &expected, .report = report};
  size_t y_bytes = (size_t)(c->m * c->n) * ck_elem_bytes(c->y);
  uint8_t *y = malloc(2 * y_bytes);
  ck_source source = ck_source_make(&problem, c);
  if (y != NULL && pack(&r, &source, &desc, replay)) {
    if (apply_rows(&r, 0, c->m, replay, y) && values_hold(&r, y, replay)) {
      check_promises(&r, y, y + y_bytes, replay);
    }
    protect_packed(CK_READ_WRITE);
    kernel->layout->free_packed(&host->table, &r.packed);
  }
  if (host->live != 0) {
    ck_fail(report, replay, "free_packed leaves %zu allocations", host->live);
  }
  ck_device_reset(&host->device, true);
  ck_source_free(&source);
  free(y);
  ck_expected_free(&expected);
  ck_problem_free(&problem);
  report->cases++;
  report->now[0] = '\0';
  return true;
}
