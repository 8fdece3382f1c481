/* SPDX-License-Identifier: Apache-2.0 */
/*
 * FP8 layers. x becomes E4M3 numbers here; they are exact in bf16, and so are the weights: a dense kernel computes their sums, in its canonical order. With a scale
 * for the whole of x, the scale is a part of alpha. With a scale a row, the kernel's result is multiplied by it afterwards, and the bias added:
 *
 *   y = alpha * acc (+ bias)                    static
 *   y = scale[m] * (alpha * acc) (+ bias)       dynamic; with a bias an fmaf
 */
#include <math.h>
#include <stdlib.h>

#include "base/alloc.h"
#include "base/reason.h"
#include "format/fp8.h"
#include "format/half.h"
#include "layer/layer.h"

nvfp4_fp8_scratch nvfp4_fp8_scratch_of(const nvfp4_layer_desc *desc, int64_t m) {
  bool dynamic = desc->partitions[0].input.value == 0;
  nvfp4_fp8_scratch s = {.x = 0};
  s.scales = (size_t)nvfp4_round_up(m * desc->k * 2, 64);
  s.y = s.scales + (dynamic ? (size_t)nvfp4_round_up(m * 4, 64) : 0);
  s.kernel = s.y + (dynamic ? (size_t)nvfp4_round_up(m * desc->n * 4, 64) : 0);
  return s;
}

/* ------------------------------------------------------------------------------------------------------------------ weights */

typedef struct decode_job {
  const nvfp4_weights *weights;
  uint16_t *out;
} decode_job;

static void decode_row(void *arg, size_t n) {
  const decode_job *job = arg;
  const nvfp4_weights *w = job->weights;
  nvfp4_fp8_to_bf16((const uint8_t *)w->values + (int64_t)n * w->values_stride_bytes, w->k, job->out + (int64_t)n * w->k);
}

nvfp4_status nvfp4_fp8_decode_weights(nvfp4_threads *threads, const nvfp4_weights *weights, nvfp4_weights *out, void **owned,
                                      nvfp4_reason *reason) {
  uint16_t *values = malloc((size_t)(weights->n * weights->k) * sizeof *values);
  if (values == NULL) {
    return nvfp4_reject(reason, NVFP4_E_NOMEM, "out of memory for FP8 weights as bf16");
  }
  decode_job job = {weights, values};
  nvfp4_parallel_for(threads, (size_t)weights->n, decode_row, &job);
  *out = (nvfp4_weights){.struct_size = sizeof *out,
                         .memory = NVFP4_MEMORY_HOST,
                         .n = weights->n,
                         .k = weights->k,
                         .dtype = NVFP4_DTYPE_BF16,
                         .values = values,
                         .values_stride_bytes = weights->k * 2};
  *owned = values;
  return NVFP4_OK;
}

/* -------------------------------------------------------------------------------------------------------------- activations */

static size_t elem_bytes(nvfp4_dtype dtype) { return dtype == NVFP4_DTYPE_F32 ? 4 : 2; }

enum { PIECE = 512 };

/* Elements of row m of x as fp32. */
static const float *piece_of(const nvfp4_fp8_call *call, int64_t m, int64_t first, int64_t count, float *piece) {
  const char *x = (const char *)call->x + (size_t)(m * call->ldx_elems + first) * elem_bytes(call->x_dtype);
  nvfp4_to_f32(x, call->x_dtype, piece, count);
  return piece;
}

static void quantise_row(void *arg, size_t row) {
  const nvfp4_fp8_call *call = arg;
  float piece[PIECE], scale = call->input_scale;
  if (scale == 0) {
    for (int64_t first = 0; first < call->k; first += PIECE) {
      int64_t count = call->k - first < PIECE ? call->k - first : PIECE;
      float of_piece = nvfp4_fp8_amax(piece_of(call, (int64_t)row, first, count, piece), count);
      scale = of_piece > scale ? of_piece : scale;
    }
    scale = nvfp4_fp8_scale_of(scale);
    call->scales[row] = scale;
  }
  for (int64_t first = 0; first < call->k; first += PIECE) {
    int64_t count = call->k - first < PIECE ? call->k - first : PIECE;
    nvfp4_fp8_quantise_row(piece_of(call, (int64_t)row, first, count, piece), count, scale, call->q + (int64_t)row * call->k + first);
  }
}

void nvfp4_fp8_quantise(nvfp4_threads *threads, const nvfp4_fp8_call *call) {
  nvfp4_parallel_for(threads, (size_t)call->m, quantise_row, (void *)call);
}

static void finish_row(void *arg, size_t row) {
  const nvfp4_fp8_call *call = arg;
  const float *sums = call->sums + (int64_t)row * call->n, scale = call->scales[row];
  char *y = (char *)call->y + (size_t)((int64_t)row * call->ldy_elems) * elem_bytes(call->y_dtype);
  float piece[PIECE];
  for (int64_t first = 0; first < call->n; first += PIECE) {
    int64_t count = call->n - first < PIECE ? call->n - first : PIECE;
    if (call->bias != NULL) {
      nvfp4_to_f32((const char *)call->bias + (size_t)first * elem_bytes(call->bias_dtype), call->bias_dtype, piece, count);
    }
    for (int64_t i = 0; i < count; i++) {
      float value = call->bias != NULL ? fmaf(scale, sums[first + i], piece[i]) : scale * sums[first + i];
      piece[i] = isnan(value) ? NAN : value;
    }
    nvfp4_from_f32(piece, call->y_dtype, y + (size_t)first * elem_bytes(call->y_dtype), count);
  }
}

void nvfp4_fp8_finish(nvfp4_threads *threads, const nvfp4_fp8_call *call) {
  nvfp4_parallel_for(threads, (size_t)call->m, finish_row, (void *)call);
}
