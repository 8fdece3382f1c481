/* SPDX-License-Identifier: Apache-2.0 */
#include "kernels/dense_n16.h"

#include <math.h>
#include <stdatomic.h>
#include <string.h>

#include "base/reason.h"
#include "format/half.h"

static size_t elem_bytes(nvfp4_dtype dtype) { return dtype == NVFP4_DTYPE_F32 ? 4 : 2; }

static size_t packed_bytes(int64_t n, int64_t k, nvfp4_dtype weight_dtype) {
  return (size_t)(dense_n16_tiles(n) * dense_n16_bytes(k, weight_dtype));
}

/* Where element k of row n of a tile lies, in bytes. */
static size_t place(nvfp4_dtype dtype, int64_t n, int64_t k) {
  return dtype == NVFP4_DTYPE_BF16 ? (size_t)(k / 2 * DENSE_N16_N + n) * 4 + (k % 2 == 0 ? 2 : 0)
                                   : (size_t)(k * DENSE_N16_N + n) * elem_bytes(dtype);
}

typedef struct pack_job {
  const nvfp4_weights *weights;
  uint8_t *data;
  atomic_bool not_normal;
} pack_job;

/* Whether every element of the row is zero, or finite and at least 2^-48 in magnitude. */
static bool is_normal_row(const uint8_t *row, int64_t k, nvfp4_dtype dtype) {
  enum { AT_ONCE = 256 };
  float values[AT_ONCE];
  bool normal = true;
  for (int64_t first = 0; first < k && normal; first += AT_ONCE) {
    int64_t count = k - first < AT_ONCE ? k - first : AT_ONCE;
    nvfp4_to_f32(row + (size_t)first * elem_bytes(dtype), dtype, values, count);
    for (int64_t i = 0; i < count; i++) {
      float magnitude = fabsf(values[i]);
      normal = normal && (magnitude == 0 || (magnitude >= 0x1p-48f && magnitude < INFINITY));
    }
  }
  return normal;
}

static void pack_tile(void *arg, size_t tile) {
  pack_job *job = arg;
  const nvfp4_weights *w = job->weights;
  size_t width = elem_bytes(w->dtype), bytes = (size_t)dense_n16_bytes(w->k, w->dtype);
  int64_t n_first = (int64_t)tile * DENSE_N16_N, rows = w->n - n_first < DENSE_N16_N ? w->n - n_first : DENSE_N16_N;
  uint8_t *to = job->data + tile * bytes;
  memset(to, 0, bytes);
  for (int64_t n = 0; n < rows; n++) {
    const uint8_t *row = (const uint8_t *)w->values + (n_first + n) * w->values_stride_bytes;
    for (int64_t k = 0; k < w->k; k++) {
      memcpy(to + place(w->dtype, n, k), row + (size_t)k * width, width);
    }
    if (!is_normal_row(row, w->k, w->dtype)) {
      atomic_store_explicit(&job->not_normal, true, memory_order_relaxed);
    }
  }
}

static nvfp4_status process_weights_after_loading(const nvfp4_host *host, const nvfp4_process_args *args, nvfp4_packed *out,
                                                  nvfp4_reason *reason) {
  const nvfp4_weights *w = args->weights;
  size_t bytes = packed_bytes(w->n, w->k, w->dtype);
  uint8_t *data = host->alloc(host->cookie, bytes, 64);
  if (data == NULL) {
    return nvfp4_reject(reason, NVFP4_E_NOMEM, "out of memory: %zu bytes for the packed weights", bytes);
  }
  pack_job job = {.weights = w, .data = data};
  host->parallel_for(host->cookie, (size_t)dense_n16_tiles(w->n), pack_tile, &job);
  *out = (nvfp4_packed){.struct_size = sizeof *out, .data = data, .data_bytes = bytes, .n = w->n, .k = w->k};
  out->private_elems[DENSE_N16_DTYPE] = w->dtype;
  out->private_elems[DENSE_N16_NORMAL] = !job.not_normal;
  return NVFP4_OK;
}

static nvfp4_status unpack(const nvfp4_host *host, const nvfp4_packed *packed, uint8_t *codes, uint8_t *scales, nvfp4_reason *reason) {
  (void)host, (void)scales, (void)reason;
  nvfp4_dtype dtype = dense_n16_dtype(packed);
  size_t width = elem_bytes(dtype);
  for (int64_t n = 0; n < packed->n; n++) {
    const uint8_t *tile = dense_n16_tile(packed, n / DENSE_N16_N);
    for (int64_t k = 0; k < packed->k; k++, codes += width) {
      memcpy(codes, tile + place(dtype, n % DENSE_N16_N, k), width);
    }
  }
  return NVFP4_OK;
}

static void free_packed(const nvfp4_host *host, nvfp4_packed *packed) {
  host->free(host->cookie, packed->data, packed->data_bytes);
  packed->data = NULL;
}

const nvfp4_layout nvfp4_layout_dense_n16 = {
    .struct_size = sizeof(nvfp4_layout),
    .name = "dense_n16",
    .packed_bytes = packed_bytes,
    .process_weights_after_loading = process_weights_after_loading,
    .unpack = unpack,
    .free_packed = free_packed,
};
