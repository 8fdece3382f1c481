/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Kernels that are wrong on purpose, as kernels are wrong by accident: right for most input, and one fault each. check.py says by which words checkkern must fail each; a fault that it
 * lets pass is a hole in checkkern. plugin_wrong_none_* have no fault: they must pass.
 */
#define _POSIX_C_SOURCE 200809L
#include <math.h>
#include <nvfp4/kernel.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { TILE = 16 };

typedef enum fault_kind {
  NONE,
  DROPPED_BLOCK,
  SWAPPED_NIBBLE,
  ORDER_BY_K,
  SATURATES,
  SCALE_LAYOUT,
  ODD_K,
  PADDED_K,
  WEIGHT_TYPE,
  READS_PAST_X,
  READS_BEFORE_X,
  READS_PAST_BIAS,
  READS_PAST_WEIGHTS,
  WRITES_PAST_WORKSPACE,
  DIRTY_WORKSPACE,
  UNWRITTEN_X,
  ALIGNED_X,
  WRITES_X,
  WRITES_PAST_N,
  KEEPS_SOURCE,
  NAN_ROW,
  NAN_SWALLOWED,
  MINUS_ZERO,
  FORGOTTEN_TASK,
  TASK_ORDER,
  BATCH,
  THREADS,
  COUNTER,
  BIAS_TYPE,
  SECOND_ALPHA,
  ROUNDS_TWICE,
  FLUSHES,
  KEEPS_ENVIRONMENT,
  ALLOCATES,
  NULL_POINTER,
  ENDLESS,
  EXITS
} fault_kind;

/* ------------------------------------------------------------------------------------------------------------------ layouts */

static size_t bytes_of(nvfp4_dtype dtype) { return dtype == NVFP4_DTYPE_F32 ? 4 : 2; }
static size_t code_bytes(int64_t n, int64_t k) { return (size_t)n * (size_t)(k / 2); }
static size_t packed_bytes(int64_t n, int64_t k, nvfp4_dtype weight_dtype) {
  return weight_dtype != NVFP4_DTYPE_NONE ? (size_t)(n * k) * bytes_of(weight_dtype)
                                          : code_bytes(n, k) + (size_t)n * (size_t)(k / NVFP4_BLOCK);
}

static nvfp4_status process_rows(const nvfp4_host *host, const nvfp4_process_args *args, nvfp4_packed *out, nvfp4_reason *reason) {
  const nvfp4_weights *w = args->weights;
  size_t bytes = packed_bytes(w->n, w->k, w->dtype), blocks = (size_t)(w->k / NVFP4_BLOCK);
  uint8_t *data = host->alloc(host->cookie, bytes, 1);
  if (data == NULL) {
    return host->reject(reason, NVFP4_E_NOMEM, "no memory for %zu bytes of packed weights", bytes);
  }
  size_t row = (size_t)w->k * bytes_of(w->dtype);
  for (int64_t n = 0; n < w->n && w->values != NULL; n++) {
    memcpy(data + (size_t)n * row, (const uint8_t *)w->values + n * w->values_stride_bytes, row);
  }
  for (int64_t n = 0; n < w->n && w->codes != NULL; n++) {
    memcpy(data + code_bytes(n, w->k), w->codes + n * w->codes_stride_bytes, (size_t)(w->k / 2));
    memcpy(data + code_bytes(w->n, w->k) + (size_t)n * blocks, w->scales + n * w->scales_stride_bytes, blocks);
  }
  *out = (nvfp4_packed){.struct_size = sizeof *out, .data = data, .data_bytes = bytes, .n = w->n, .k = w->k};
  out->private_elems[1] = w->dtype;
  return NVFP4_OK;
}

static nvfp4_status unpack_rows(const nvfp4_host *host, const nvfp4_packed *packed, uint8_t *codes, uint8_t *scales, nvfp4_reason *reason) {
  (void)host, (void)reason;
  size_t split = scales != NULL ? code_bytes(packed->n, packed->k) : packed->data_bytes;
  memcpy(codes, packed->data, split);
  if (scales != NULL) {
    memcpy(scales, (const uint8_t *)packed->data + split, packed->data_bytes - split);
  }
  return NVFP4_OK;
}

static nvfp4_status unpack_first_tile(const nvfp4_host *host, const nvfp4_packed *packed, uint8_t *codes, uint8_t *scales,
                                      nvfp4_reason *reason) {
  nvfp4_status status = unpack_rows(host, packed, codes, scales, reason);
  if (packed->n > 64) { /* the rows of another tile */
    memcpy(codes + code_bytes(64, packed->k), codes, (size_t)packed->k / 2);
  }
  return status;
}

/* Says that it copied, but keeps a pointer. */
static nvfp4_status process_keep(const nvfp4_host *host, const nvfp4_process_args *args, nvfp4_packed *out, nvfp4_reason *reason) {
  nvfp4_status status = process_rows(host, args, out, reason);
  if (status == NVFP4_OK) {
    out->private_elems[0] = (int64_t)(intptr_t)args->weights->codes;
  }
  return status;
}

static nvfp4_status process_leak(const nvfp4_host *host, const nvfp4_process_args *args, nvfp4_packed *out, nvfp4_reason *reason) {
  nvfp4_status status = process_rows(host, args, out, reason);
  return status == NVFP4_OK && host->alloc(host->cookie, 64, 64) == NULL ? NVFP4_E_NOMEM : status;
}

static size_t packed_bytes_guess(int64_t n, int64_t k, nvfp4_dtype weight_dtype) {
  return packed_bytes((n + TILE - 1) / TILE * TILE, k, weight_dtype);
}

static void free_rows(const nvfp4_host *host, nvfp4_packed *packed) { host->free(host->cookie, packed->data, packed->data_bytes); }

static const nvfp4_layout rows = {sizeof rows, "wrong_rows", packed_bytes, process_rows, unpack_rows, free_rows};
static const nvfp4_layout keeping = {sizeof keeping, "wrong_keeping", packed_bytes, process_keep, unpack_rows, free_rows};
static const nvfp4_layout one_way = {sizeof one_way, "wrong_one_way", packed_bytes, process_rows, unpack_first_tile, free_rows};
static const nvfp4_layout leaking = {sizeof leaking, "wrong_leaking", packed_bytes, process_leak, unpack_rows, free_rows};
static const nvfp4_layout guessing = {sizeof guessing, "wrong_guessing", packed_bytes_guess, process_rows, unpack_rows, free_rows};

/* ----------------------------------------------------------------------------------------------------------------- questions */

static nvfp4_status yes_machine(const nvfp4_machine *machine, nvfp4_reason *reason) {
  (void)machine, (void)reason;
  return NVFP4_OK;
}

static nvfp4_status yes(const nvfp4_layer_desc *desc, nvfp4_reason *reason) {
  (void)desc, (void)reason;
  return NVFP4_OK;
}

static nvfp4_status silent_no(const nvfp4_layer_desc *desc, nvfp4_reason *reason) {
  (void)reason;
  return desc->k > 1 << 19 ? NVFP4_E_SHAPE : NVFP4_OK;
}

/* x as fp32 values [m, k], then the scales of x [m, k/16]. */
static size_t workspace_bytes(const nvfp4_layer_desc *desc, int64_t m) {
  return (size_t)m * (size_t)(desc->k + desc->k / NVFP4_BLOCK) * sizeof(float);
}

static size_t workspace_too_small(const nvfp4_layer_desc *desc, int64_t m) { return workspace_bytes(desc, m) - sizeof(float); }

/* ------------------------------------------------------------------------------------------------------------------- kernels */

typedef struct job {
  const nvfp4_host *host;
  const nvfp4_packed *packed;
  const nvfp4_kernel_args *args;
  fault_kind fault;
  nvfp4_mode mode;
  float *x, *sx;
  size_t tiles;
  int calls;
} job;

static volatile uint8_t sink; /* keeps reads that have no use */

static float value_of(const nvfp4_host *host, const uint8_t *codes, int64_t k) {
  return host->e2m1[k % 2 == 0 ? codes[k / 2] & 15 : codes[k / 2] >> 4];
}

static size_t scale_at(const nvfp4_quantised_x *q, int64_t blocks, int64_t m, int64_t b) {
  size_t columns = (size_t)(blocks + 3) / 4;
  if (q->scale_layout == NVFP4_SCALES_LINEAR) {
    return (size_t)(m * q->scales_stride_bytes + b);
  }
  if (q->scale_layout == NVFP4_SCALES_8X4) {
    return ((size_t)(m / 8) * columns + (size_t)(b / 4)) * 32 + (size_t)(m % 8) * 4 + (size_t)(b % 4);
  }
  return ((size_t)(m / 128) * columns + (size_t)(b / 4)) * 512 + (size_t)(m % 32) * 16 + (size_t)(m / 32 % 4) * 4 + (size_t)(b % 4);
}

static void prepare_row(void *arg, size_t row) {
  const job *j = arg;
  const nvfp4_kernel_args *a = j->args;
  int64_t m = (int64_t)row, blocks = a->k / NVFP4_BLOCK;
  float *x = j->x + m * a->k, *sx = j->sx + m * blocks;
  const uint8_t *from = (const uint8_t *)a->x + row * (size_t)a->ldx_elems * bytes_of(a->x_dtype);
  if (j->mode != NVFP4_MODE_W4A4) {
    size_t odd = j->fault == ALIGNED_X ? (uintptr_t)from % bytes_of(a->x_dtype) : 0; /* a load that drops the lowest bits of an address */
    j->host->to_f32(from - odd, a->x_dtype, x, a->k);
    return;
  }
  for (int64_t b = 0; b < blocks; b++) {
    uint8_t codes[NVFP4_BLOCK / 2], scale;
    if (a->quantised_x != NULL) {
      nvfp4_quantised_x q = *a->quantised_x;
      if (j->fault == SCALE_LAYOUT && q.scale_layout == NVFP4_SCALES_8X4 && m >= 8) {
        q.scale_layout = NVFP4_SCALES_128X4;
      }
      memcpy(codes, q.codes + m * q.codes_stride_bytes + b * (NVFP4_BLOCK / 2), sizeof codes);
      scale = q.scales[scale_at(&q, blocks, m, b)];
    } else {
      float part[NVFP4_BLOCK];
      j->host->to_f32(from + (size_t)(b * NVFP4_BLOCK) * bytes_of(a->x_dtype), a->x_dtype, part, NVFP4_BLOCK);
      j->host->quantise_row(part, NVFP4_BLOCK, a->s_a, codes, &scale);
    }
    for (int64_t k = 0; k < NVFP4_BLOCK; k++) {
      x[b * NVFP4_BLOCK + k] = value_of(j->host, codes, k);
    }
    sx[b] = j->host->e4m3[scale];
  }
}

static float block_sum(const job *j, int64_t m, int64_t n, int64_t b, const uint8_t *codes) {
  float part = 0.0f;
  for (int64_t i = 0; i < NVFP4_BLOCK; i++) {
    int64_t k = b * NVFP4_BLOCK + i;
    float x = j->x[m * j->args->k + k];
    float w = value_of(j->host, codes, j->fault == SWAPPED_NIBBLE && n % 32 == 31 && b == 3 ? k ^ 1 : k);
    part = j->fault == NAN_SWALLOWED && x != x ? part : fmaf(x, w, part);
    if (j->fault == SATURATES && part > 550.0f) {
      part = 550.0f;
    }
  }
  return part;
}

static float dense_sum(const job *j, int64_t m, int64_t n) {
  const nvfp4_kernel_args *a = j->args;
  nvfp4_dtype dtype = (nvfp4_dtype)j->packed->private_elems[1];
  const uint8_t *row = (const uint8_t *)j->packed->data + (size_t)(n * a->k) * bytes_of(dtype);
  float acc = 0.0f;
  int64_t count = j->fault == ODD_K ? a->k / 2 * 2 : a->k;
  for (int64_t i = 0; i < count; i++) {
    int64_t k = j->fault == ORDER_BY_K && a->k >= 320 ? count - 1 - i : i;
    float w;
    j->host->to_f32(row + (size_t)k * bytes_of(dtype), j->fault == WEIGHT_TYPE && dtype == NVFP4_DTYPE_F16 ? NVFP4_DTYPE_BF16 : dtype, &w,
                    1);
    acc = fmaf(j->x[m * a->k + k], w, acc);
  }
  return j->fault == PADDED_K && a->k % 2 == 1 ? fmaf(0.0f, 0.0f, acc) : acc;
}

static float sum(const job *j, int64_t m, int64_t n) {
  const nvfp4_kernel_args *a = j->args;
  int64_t blocks = a->k / NVFP4_BLOCK;
  const uint8_t *codes = (const uint8_t *)j->packed->data + code_bytes(n, a->k);
  const uint8_t *scales = (const uint8_t *)j->packed->data + code_bytes(a->n, a->k) + n * blocks;
  if (j->fault == KEEPS_SOURCE && n == 0) {
    sink = *(const uint8_t *)(intptr_t)j->packed->private_elems[0];
  }
  if (j->fault == DROPPED_BLOCK && blocks % 4 == 1 && blocks > 1) {
    blocks--;
  }
  bool backwards = (j->fault == BATCH && a->m > 8) || (j->fault == THREADS && j->host->threads(j->host->cookie) > 2) ||
                   (j->fault == COUNTER && j->calls % 3 == 1) || (j->fault == ORDER_BY_K && a->k >= 320);
  float acc = j->fault == MINUS_ZERO ? -0.0f : 0.0f;
  for (int64_t i = 0; i < blocks; i++) {
    int64_t b = backwards ? blocks - 1 - i : i;
    float part = block_sum(j, m, n, b, codes), sw = j->host->e4m3[scales[b]];
    acc = j->mode == NVFP4_MODE_W4A4 ? acc + part * (j->sx[m * (a->k / NVFP4_BLOCK) + b] * sw) : fmaf(part, sw, acc);
  }
  if (j->fault == UNWRITTEN_X) { /* zeros of weights with what nobody wrote: the scales of x, which w4a16 does not have */
    acc = fmaf(j->sx[m], 0.0f, acc);
  }
  return acc;
}

static void store(const job *j, int64_t m, int64_t n, float acc) {
  const nvfp4_kernel_args *a = j->args;
  float alpha = a->alpha[j->fault == SECOND_ALPHA ? n / TILE * TILE : n], v = alpha * acc;
  if (a->bias != NULL) {
    float bias;
    nvfp4_dtype dtype = j->fault == BIAS_TYPE && a->bias_dtype == NVFP4_DTYPE_BF16 ? NVFP4_DTYPE_F16 : a->bias_dtype;
    j->host->to_f32((const uint8_t *)a->bias + (size_t)n * bytes_of(dtype), dtype, &bias, 1);
    v = fmaf(alpha, acc, bias);
  }
  if (isnan(v) || (j->fault == NAN_ROW && m == 6)) {
    v = NAN;
  }
  if (j->fault == ROUNDS_TWICE && a->y_dtype == NVFP4_DTYPE_F16) {
    uint16_t narrow;
    j->host->from_f32(&v, NVFP4_DTYPE_BF16, &narrow, 1);
    j->host->to_f32(&narrow, NVFP4_DTYPE_BF16, &v, 1);
  }
  j->host->from_f32(&v, a->y_dtype, (uint8_t *)a->y + (size_t)(m * a->ldy_elems + n) * bytes_of(a->y_dtype), 1);
}

static void apply_tile(void *arg, size_t tile) {
  const job *j = arg;
  const nvfp4_kernel_args *a = j->args;
  if (j->fault == FORGOTTEN_TASK && j->tiles % 3 == 2 && tile == j->tiles - 1) {
    return;
  }
  if (j->fault == TASK_ORDER && tile == 0 && j->tiles > 3) { /* task 0 before the others, or else */
    memset(a->y, 0, bytes_of(a->y_dtype) * (size_t)a->n);
  }
  for (int64_t n = (int64_t)tile * TILE; n < a->n && n < (int64_t)(tile + 1) * TILE; n++) {
    for (int64_t m = 0; m < a->m; m++) {
      store(j, m, n, j->mode == NVFP4_MODE_UNQUANTISED ? dense_sum(j, m, n) : sum(j, m, n));
    }
  }
}

/* Faults that come before the work. */
static void misbehave(const job *j) {
  const nvfp4_kernel_args *a = j->args;
  const uint8_t *x = a->x;
  size_t x_end = x != NULL ? (size_t)((a->m - 1) * a->ldx_elems + a->k) * bytes_of(a->x_dtype) : 0;
  if (j->fault == READS_PAST_X && x != NULL && a->k % 32 == 16) {
    sink = x[x_end + 31];
  } else if (j->fault == READS_BEFORE_X && x != NULL && a->k % 64 == 16) {
    sink = *(x - 1);
  } else if (j->fault == WRITES_X && x != NULL) {
    ((uint8_t *)a->x)[0] = 0;
  } else if (j->fault == READS_PAST_BIAS && a->bias != NULL) {
    sink = ((const uint8_t *)a->bias)[(size_t)((a->n + TILE - 1) / TILE * TILE) * bytes_of(a->bias_dtype) - 1];
  } else if (j->fault == READS_PAST_WEIGHTS && a->n % 2 == 1) {
    sink = ((const uint8_t *)j->packed->data)[j->packed->data_bytes + 7];
  } else if (j->fault == NULL_POINTER && a->k == 576) {
    *(volatile int *)NULL = 1;
  } else if (j->fault == ALLOCATES && a->m == 65) {
    void *memory = j->host->alloc(j->host->cookie, 64, 64);
    j->host->free(j->host->cookie, memory, 64);
  } else if (j->fault == EXITS && a->m == 33) {
    _exit(0);
  }
  for (volatile bool forever = j->fault == ENDLESS && a->m == 64; forever;) {
  }
}

#if defined(__x86_64__)
#include <xmmintrin.h>
static void change_environment(void) { _mm_setcsr(_mm_getcsr() & ~0x8040u); }
#else
static void change_environment(void) { __asm__ volatile("msr fpcr, %0" : : "r"((uint64_t)0) : "memory"); }
#endif

static nvfp4_status run(fault_kind fault, nvfp4_mode mode, const nvfp4_host *host, const nvfp4_packed *packed,
                        const nvfp4_kernel_args *args) {
  static int calls;
  job j = {.host = host, .packed = packed, .args = args, .fault = fault, .mode = mode, .x = args->workspace};
  j.sx = j.x + args->m * args->k;
  j.tiles = (size_t)((args->n + TILE - 1) / TILE);
  j.calls = calls++;
  misbehave(&j);
  if (fault == KEEPS_ENVIRONMENT) {
    change_environment();
  }
  if (fault == WRITES_PAST_WORKSPACE) {
    ((volatile uint8_t *)args->workspace)[args->workspace_bytes] = 1;
  }
  float left_over = fault == DIRTY_WORKSPACE ? j.x[0] : 0.0f;
  host->parallel_for(host->cookie, (size_t)args->m, prepare_row, &j);
  if (fault == DIRTY_WORKSPACE) { /* as if it had cleared it */
    j.x[0] += left_over * 0x1p40f;
  }
  if (fault == FLUSHES) { /* in the caller's environment */
    for (size_t tile = 0; tile < j.tiles; tile++) {
      apply_tile(&j, tile);
    }
  } else {
    host->parallel_for(host->cookie, j.tiles, apply_tile, &j);
  }
  if (fault == WRITES_PAST_N && args->ldy_elems > args->n) {
    memset((uint8_t *)args->y + (size_t)args->n * bytes_of(args->y_dtype), 0, bytes_of(args->y_dtype));
  }
  return NVFP4_OK;
}

/* name, fault, mode, class, layout, can_implement, workspace */
#define KERNELS(X)                                                                              \
  X(none_w4a4, NONE, W4A4, CANONICAL, rows, yes, workspace_bytes)                               \
  X(none_w4a16, NONE, W4A16, CANONICAL, rows, yes, workspace_bytes)                             \
  X(none_bounded_w4a4, NONE, W4A4, BOUNDED, rows, yes, workspace_bytes)                         \
  X(none_bounded_w4a16, NONE, W4A16, BOUNDED, rows, yes, workspace_bytes)                       \
  X(order_by_k_w4a16, ORDER_BY_K, W4A16, CANONICAL, rows, yes, workspace_bytes)                 \
  X(order_by_k_w4a4, ORDER_BY_K, W4A4, CANONICAL, rows, yes, workspace_bytes)                   \
  X(dropped_block, DROPPED_BLOCK, W4A4, CANONICAL, rows, yes, workspace_bytes)                  \
  X(swapped_nibble, SWAPPED_NIBBLE, W4A16, BOUNDED, rows, yes, workspace_bytes)                 \
  X(saturates, SATURATES, W4A4, BOUNDED, rows, yes, workspace_bytes)                            \
  X(scale_layout, SCALE_LAYOUT, W4A4, CANONICAL, rows, yes, workspace_bytes)                    \
  X(reads_past_x, READS_PAST_X, W4A16, CANONICAL, rows, yes, workspace_bytes)                   \
  X(reads_before_x, READS_BEFORE_X, W4A16, CANONICAL, rows, yes, workspace_bytes)               \
  X(reads_past_bias, READS_PAST_BIAS, W4A4, CANONICAL, rows, yes, workspace_bytes)              \
  X(reads_past_weights, READS_PAST_WEIGHTS, W4A16, CANONICAL, rows, yes, workspace_bytes)       \
  X(writes_past_workspace, WRITES_PAST_WORKSPACE, W4A16, CANONICAL, rows, yes, workspace_bytes) \
  X(small_workspace, NONE, W4A4, CANONICAL, rows, yes, workspace_too_small)                     \
  X(dirty_workspace, DIRTY_WORKSPACE, W4A16, CANONICAL, rows, yes, workspace_bytes)             \
  X(unwritten_x, UNWRITTEN_X, W4A16, CANONICAL, rows, yes, workspace_bytes)                     \
  X(aligned_x, ALIGNED_X, W4A16, CANONICAL, rows, yes, workspace_bytes)                         \
  X(writes_x, WRITES_X, W4A16, CANONICAL, rows, yes, workspace_bytes)                           \
  X(writes_past_n, WRITES_PAST_N, W4A16, CANONICAL, rows, yes, workspace_bytes)                 \
  X(keeps_source, KEEPS_SOURCE, W4A16, CANONICAL, keeping, yes, workspace_bytes)                \
  X(nan_row, NAN_ROW, W4A4, BOUNDED, rows, yes, workspace_bytes)                                \
  X(nan_swallowed, NAN_SWALLOWED, W4A16, BOUNDED, rows, yes, workspace_bytes)                   \
  X(minus_zero, MINUS_ZERO, W4A16, CANONICAL, rows, yes, workspace_bytes)                       \
  X(forgotten_task, FORGOTTEN_TASK, W4A16, BOUNDED, rows, yes, workspace_bytes)                 \
  X(task_order, TASK_ORDER, W4A16, CANONICAL, rows, yes, workspace_bytes)                       \
  X(batch, BATCH, W4A16, BOUNDED, rows, yes, workspace_bytes)                                   \
  X(threads, THREADS, W4A16, BOUNDED, rows, yes, workspace_bytes)                               \
  X(counter, COUNTER, W4A16, BOUNDED, rows, yes, workspace_bytes)                               \
  X(bias_type, BIAS_TYPE, W4A16, BOUNDED, rows, yes, workspace_bytes)                           \
  X(second_alpha, SECOND_ALPHA, W4A4, CANONICAL, rows, yes, workspace_bytes)                    \
  X(rounds_twice, ROUNDS_TWICE, W4A4, CANONICAL, rows, yes, workspace_bytes)                    \
  X(flushes, FLUSHES, W4A16, BOUNDED, rows, yes, workspace_bytes)                               \
  X(keeps_environment, KEEPS_ENVIRONMENT, W4A4, CANONICAL, rows, yes, workspace_bytes)          \
  X(allocates, ALLOCATES, W4A16, CANONICAL, rows, yes, workspace_bytes)                         \
  X(null_pointer, NULL_POINTER, W4A4, CANONICAL, rows, yes, workspace_bytes)                    \
  X(endless, ENDLESS, W4A16, CANONICAL, rows, yes, workspace_bytes)                             \
  X(exits, EXITS, W4A16, CANONICAL, rows, yes, workspace_bytes)                                 \
  X(unpacks_badly, NONE, W4A16, CANONICAL, one_way, yes, workspace_bytes)                       \
  X(leaks, NONE, W4A16, CANONICAL, leaking, yes, workspace_bytes)                               \
  X(packed_bytes, NONE, W4A16, CANONICAL, guessing, yes, workspace_bytes)                       \
  X(silent_refusal, NONE, W4A16, CANONICAL, rows, silent_no, workspace_bytes)                   \
  X(none_w16a16, NONE, UNQUANTISED, CANONICAL, rows, yes, workspace_bytes)                      \
  X(none_bounded_w16a16, NONE, UNQUANTISED, BOUNDED, rows, yes, workspace_bytes)                \
  X(order_by_k_w16a16, ORDER_BY_K, UNQUANTISED, CANONICAL, rows, yes, workspace_bytes)          \
  X(odd_k, ODD_K, UNQUANTISED, BOUNDED, rows, yes, workspace_bytes)                             \
  X(padded_k, PADDED_K, UNQUANTISED, CANONICAL, rows, yes, workspace_bytes)                     \
  X(weight_type, WEIGHT_TYPE, UNQUANTISED, BOUNDED, rows, yes, workspace_bytes)                 \
  X(flushes_w16a16, FLUSHES, UNQUANTISED, BOUNDED, rows, yes, workspace_bytes)

#define ORDER_OF_W4A4 NVFP4_ORDER_CANONICAL_W4A4
#define ORDER_OF_W4A16 NVFP4_ORDER_CANONICAL_W4A16
#define ORDER_OF_UNQUANTISED NVFP4_ORDER_CANONICAL_W16A16
#define DEFINE(NAME, FAULT, MODE, CLASS, LAYOUT, CAN, WORKSPACE)                                                                    \
  static nvfp4_status apply_##NAME(const nvfp4_host *host, const nvfp4_packed *packed, const nvfp4_kernel_args *args,               \
                                   nvfp4_reason *reason) {                                                                          \
    (void)reason;                                                                                                                   \
    return run(FAULT, NVFP4_MODE_##MODE, host, packed, args);                                                                       \
  }                                                                                                                                 \
  static const nvfp4_kernel kernel_##NAME = {                                                                                       \
      .struct_size = sizeof(nvfp4_kernel),                                                                                          \
      .id = "plugin_wrong_" #NAME,                                                                                                  \
      .summary = "wrong on purpose",                                                                                                \
      .layout = &LAYOUT,                                                                                                            \
      .numerics = {NVFP4_MODE_##MODE, NVFP4_CLASS_##CLASS, NVFP4_FLAG_BATCH_INVARIANT | NVFP4_FLAG_DETERMINISTIC, ORDER_OF_##MODE}, \
      .device = NVFP4_DEVICE_CPU,                                                                                                   \
      .verified = "never",                                                                                                          \
      .is_supported = yes_machine,                                                                                                  \
      .can_implement = CAN,                                                                                                         \
      .workspace_bytes = WORKSPACE,                                                                                                 \
      .apply_weights = apply_##NAME,                                                                                                \
  };
KERNELS(DEFINE)

#define POINTER(NAME, FAULT, MODE, CLASS, LAYOUT, CAN, WORKSPACE) &kernel_##NAME,
static const nvfp4_kernel *const kernels[] = {KERNELS(POINTER)};

#if defined(ONLY_WELL_BEHAVED)
enum { KERNEL_COUNT = 6 }; /* those that pass the self-test and do no harm: for tests of what comes after it */
#else
enum { KERNEL_COUNT = sizeof kernels / sizeof kernels[0] };
#endif

NVFP4_API const nvfp4_plugin *nvfp4_plugin_entry(const nvfp4_host *host, uint32_t abi_major, uint32_t abi_minor);

NVFP4_API const nvfp4_plugin *nvfp4_plugin_entry(const nvfp4_host *host, uint32_t abi_major, uint32_t abi_minor) {
  static const nvfp4_plugin plugin = {.struct_size = sizeof plugin,
                                      .abi_major = NVFP4_ABI_MAJOR,
                                      .abi_minor = NVFP4_ABI_MINOR,
                                      .name = "wrong",
                                      .version = "1",
                                      .kernel_count = KERNEL_COUNT,
                                      .kernels = kernels};
  (void)host, (void)abi_major, (void)abi_minor;
  return &plugin;
}
