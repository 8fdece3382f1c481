/* SPDX-License-Identifier: Apache-2.0 */
#define _ISOC11_SOURCE /* aligned_alloc */
#include "layer/place.h"

#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/reason.h"
#include "cuda/check_scales.h"
#include "format/e4m3.h"

nvfp4_status nvfp4_place_find(nvfp4_cuda *cuda, nvfp4_device device, nvfp4_place *out, nvfp4_reason *reason) {
  *out = (nvfp4_place){0};
  if (device.kind != NVFP4_DEVICE_CUDA) {
    return NVFP4_OK;
  }
  if (cuda == NULL) {
    return nvfp4_reject(reason, NVFP4_E_MACHINE, "there is no CUDA driver; cuda:%d needs one", device.ordinal);
  }
  out->cuda = cuda;
  return nvfp4_cuda_context(cuda, device.ordinal, &out->context, reason);
}

nvfp4_status nvfp4_place_enter(const nvfp4_place *place, bool with_stream, nvfp4_visit *out, nvfp4_reason *reason) {
  *out = (nvfp4_visit){.place = place};
  if (place->cuda == NULL) {
    return NVFP4_OK;
  }
  NVFP4_TRY(nvfp4_cuda_enter(place->cuda, place->context, &out->pushed, reason));
  if (with_stream) {
    nvfp4_place_relax(out);
    nvfp4_status status = nvfp4_cuda_lane_take(place->cuda, place->context, &out->lane, reason);
    if (status != NVFP4_OK) {
      nvfp4_place_leave(out, NULL);
      return status;
    }
    out->stream = out->lane->stream;
  }
  return NVFP4_OK;
}

void nvfp4_place_relax(nvfp4_visit *visit) {
  nvfp4_cuda *cuda = visit->place->cuda;
  if (cuda != NULL) {
    visit->capture_mode = NVFP4_CU_CAPTURE_RELAXED;
    visit->exchanged = nvfp4_cuda_api(cuda)->exchange_capture_mode(&visit->capture_mode) == NVFP4_CU_SUCCESS;
  }
}

nvfp4_status nvfp4_place_wait(const nvfp4_visit *visit, nvfp4_reason *reason) {
  nvfp4_cuda *cuda = visit->place->cuda;
  return cuda == NULL ? NVFP4_OK
                      : nvfp4_cuda_check(cuda, "cuStreamSynchronize", nvfp4_cuda_api(cuda)->stream_synchronize(visit->stream), reason);
}

nvfp4_status nvfp4_place_leave(nvfp4_visit *visit, nvfp4_reason *reason) {
  nvfp4_cuda *cuda = visit->place->cuda;
  nvfp4_status status = NVFP4_OK;
  if (cuda != NULL) {
    if (visit->lane != NULL) {
      status = nvfp4_place_wait(visit, reason);
      (status == NVFP4_OK ? nvfp4_cuda_lane_return : nvfp4_cuda_lane_drop)(cuda, visit->lane); /* a stream that failed serves nobody else */
    }
    if (visit->exchanged) {
      nvfp4_cuda_api(cuda)->exchange_capture_mode(&visit->capture_mode);
    }
    nvfp4_cuda_leave(cuda, visit->pushed);
  }
  *visit = (nvfp4_visit){.place = visit->place};
  return status;
}

nvfp4_status nvfp4_place_alloc(const nvfp4_place *place, size_t bytes, void **out, nvfp4_reason *reason) {
  if (place->cuda != NULL) {
    return nvfp4_cuda_alloc(place->cuda, bytes, out, reason);
  }
  *out = aligned_alloc(64, (bytes + 64) / 64 * 64); /* as workspaces are */
  return *out != NULL ? NVFP4_OK : nvfp4_reject(reason, NVFP4_E_NOMEM, "out of memory: %zu bytes", bytes);
}

nvfp4_status nvfp4_place_copy(const nvfp4_visit *visit, const void *from, size_t bytes, void **out, nvfp4_reason *reason) {
  void *copy;
  NVFP4_TRY(nvfp4_place_alloc(visit->place, bytes, &copy, reason));
  if (visit->place->cuda == NULL) {
    memcpy(copy, from, bytes);
  } else {
    nvfp4_status status = nvfp4_cuda_copy_rows(visit->place->cuda, copy, bytes, from, bytes, bytes, 1, visit->stream, reason);
    if (status != NVFP4_OK) {
      nvfp4_place_free(visit->place, copy);
      return status;
    }
  }
  *out = copy;
  return NVFP4_OK;
}

void nvfp4_place_free(const nvfp4_place *place, void *memory) {
  if (place->cuda != NULL) {
    nvfp4_cuda_free(place->cuda, memory);
  } else {
    free(memory);
  }
}

nvfp4_status nvfp4_place_fill(const nvfp4_visit *visit, float *to, int64_t count, float value, nvfp4_reason *reason) {
  nvfp4_cuda *cuda = visit->place->cuda;
  if (cuda == NULL) {
    for (int64_t i = 0; i < count; i++) {
      to[i] = value;
    }
    return NVFP4_OK;
  }
  uint32_t bits;
  memcpy(&bits, &value, sizeof bits);
  return nvfp4_cuda_check(cuda, "cuMemsetD32Async",
                          nvfp4_cuda_api(cuda)->fill_words((nvfp4_cu_address)(uintptr_t)to, bits, (size_t)count, visit->stream), reason);
}

/* --------------------------------------------------------------------------------------------------------------------- weights */

nvfp4_status nvfp4_place_weights(const nvfp4_visit *visit, const nvfp4_weights *weights, nvfp4_weights *out, void **owned,
                                 nvfp4_reason *reason) {
  nvfp4_cuda *cuda = visit->place->cuda;
  *out = *weights;
  *owned = NULL;
  if (cuda == NULL && weights->memory == NVFP4_MEMORY_CUDA) {
    return nvfp4_reject(reason, NVFP4_E_UNSUPPORTED,
                        "the weights lie in CUDA memory; a layer on the CPU reads them from host memory: copy them there first");
  }
  if (cuda == NULL || weights->memory == NVFP4_MEMORY_CUDA) {
    return NVFP4_OK;
  }
  size_t rows = (size_t)weights->n, row_scales = weights->values == NULL ? (size_t)weights->k / NVFP4_BLOCK : 0;
  size_t row_codes = weights->values == NULL ? (size_t)weights->k / 2 : (size_t)weights->k * (weights->dtype == NVFP4_DTYPE_F32 ? 4 : 2);
  const void *codes = weights->values == NULL ? weights->codes : weights->values;
  int64_t stride = weights->values == NULL ? weights->codes_stride_bytes : weights->values_stride_bytes;
  uint8_t *copy;
  NVFP4_TRY(nvfp4_cuda_alloc(cuda, rows * (row_codes + row_scales), (void **)&copy, reason));
  nvfp4_status status = nvfp4_cuda_copy_rows(cuda, copy, row_codes, codes, (size_t)stride, row_codes, rows, visit->stream, reason);
  if (status == NVFP4_OK && row_scales > 0) {
    status = nvfp4_cuda_copy_rows(cuda, copy + rows * row_codes, row_scales, weights->scales, (size_t)weights->scales_stride_bytes,
                                  row_scales, rows, visit->stream, reason);
  }
  if (status != NVFP4_OK) {
    nvfp4_cuda_free(cuda, copy);
    return status;
  }
  out->memory = NVFP4_MEMORY_CUDA;
  if (weights->values != NULL) {
    out->values = copy;
    out->values_stride_bytes = (int64_t)row_codes;
  } else {
    out->codes = copy;
    out->codes_stride_bytes = (int64_t)row_codes;
    out->scales = copy + rows * row_codes;
    out->scales_stride_bytes = (int64_t)row_scales;
  }
  *owned = copy;
  return NVFP4_OK;
}

static nvfp4_status reject_scale(uint8_t scale, int64_t row, int64_t block, nvfp4_reason *reason) {
  return nvfp4_reject(reason, NVFP4_E_FORMAT, "block scale 0x%02X (%s) at row %lld, block %lld; needs an E4M3 number from 0 to 448", scale,
                      nvfp4_e4m3_is_nan(scale) ? "NaN" : "negative", (long long)row, (long long)block);
}

static nvfp4_status check_on_host(const nvfp4_weights *w, int64_t n_first, nvfp4_reason *reason) {
  for (int64_t n = 0; n < w->n; n++) {
    const uint8_t *row = w->scales + n * w->scales_stride_bytes;
    uint8_t worst = 0; /* NaN is 0x7F and 0xFF, negative is 0x80 and above: both are >= 0x7F */
    for (int64_t block = 0; block < w->k / NVFP4_BLOCK; block++) {
      worst = row[block] > worst ? row[block] : worst;
    }
    for (int64_t block = 0; worst >= 0x7F && block < w->k / NVFP4_BLOCK; block++) {
      if (row[block] >= 0x7F) {
        return reject_scale(row[block], n_first + n, block, reason);
      }
    }
  }
  return NVFP4_OK;
}

extern const unsigned char nvfp4_fatbin_check_scales[];

/* The lane's answer becomes row * blocks + block; UINT64_MAX: there is none. */
static nvfp4_status begin_on_device(const nvfp4_visit *visit, const nvfp4_weights *w, nvfp4_reason *reason) {
  enum { MOST_THREADS = 256, WARP = 32, MOST_GRID_Y = 65535 };
  static const nvfp4_cuda_kernel kernel = {nvfp4_fatbin_check_scales, "nvfp4_check_scales"};
  nvfp4_cuda *cuda = visit->place->cuda;
  const uint8_t *scales = w->scales;
  long long stride = w->scales_stride_bytes, rows = w->n, blocks = w->k / NVFP4_BLOCK;
  if (stride == blocks) { /* no gaps: one row */
    blocks *= rows;
    rows = 1;
  }
  const long long parts = (blocks + CUDA_CHECK_BYTES - 1) / CUDA_CHECK_BYTES,
                  threads = parts < MOST_THREADS ? nvfp4_round_up(parts, WARP) : MOST_THREADS;
  NVFP4_TRY(nvfp4_cuda_lane_answer(cuda, visit->lane, reason));
  *visit->lane->answer = UINT64_MAX;
  const nvfp4_cu_launch launch = {.grid_x = (unsigned)((parts + threads - 1) / threads),
                                  .grid_y = (unsigned)(rows < MOST_GRID_Y ? rows : MOST_GRID_Y),
                                  .grid_z = 1,
                                  .block_x = (unsigned)threads,
                                  .block_y = 1,
                                  .block_z = 1,
                                  .stream = visit->stream};
  void *parameters[] = {&scales, &stride, &rows, &blocks, &visit->lane->answer};
  return nvfp4_cuda_launch(cuda, &kernel, &launch, parameters, reason);
}

nvfp4_status nvfp4_place_begin_check(const nvfp4_visit *visit, const nvfp4_weights *weights, int64_t n_first, nvfp4_reason *reason) {
  if (weights->values != NULL) {
    return NVFP4_OK; /* dense */
  }
  return visit->place->cuda == NULL ? check_on_host(weights, n_first, reason) : begin_on_device(visit, weights, reason);
}

nvfp4_status nvfp4_place_end_check(const nvfp4_visit *visit, const nvfp4_weights *weights, int64_t n_first, nvfp4_reason *reason) {
  nvfp4_cuda *cuda = visit->place->cuda;
  NVFP4_TRY(nvfp4_place_wait(visit, reason));
  const uint64_t index = cuda != NULL && weights->values == NULL ? *visit->lane->answer : UINT64_MAX;
  if (index == UINT64_MAX) {
    return NVFP4_OK;
  }
  int64_t blocks = weights->k / NVFP4_BLOCK, row = (int64_t)index / blocks, block = (int64_t)index % blocks;
  uint8_t scale = 0;
  NVFP4_TRY(nvfp4_cuda_copy_now(cuda, &scale, weights->scales + row * weights->scales_stride_bytes + block, 1, reason));
  return reject_scale(scale, n_first + row, block, reason);
}
