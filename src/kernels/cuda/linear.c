/* SPDX-License-Identifier: Apache-2.0 */
#include "kernels/cuda/linear.h"

#include <stdio.h>

#include "base/alloc.h"
#include "base/reason.h"
#include "cuda/cuda.h"

static size_t codes_bytes(int64_t n, int64_t k) { return (size_t)nvfp4_round_up(n * (k / 2), 256); }

static size_t packed_bytes(int64_t n, int64_t k, nvfp4_dtype weight_dtype) {
  (void)weight_dtype; /* NVFP4 */
  return codes_bytes(n, k) + (size_t)(n * (k / NVFP4_BLOCK));
}

const uint8_t *cuda_linear_codes(const nvfp4_packed *packed) { return packed->data; }

const uint8_t *cuda_linear_scales(const nvfp4_packed *packed) { return (const uint8_t *)packed->data + codes_bytes(packed->n, packed->k); }

static nvfp4_status process_weights_after_loading(const nvfp4_host *host, const nvfp4_process_args *args, nvfp4_packed *out,
                                                  nvfp4_reason *reason) {
  const nvfp4_weights *w = args->weights;
  size_t bytes = packed_bytes(w->n, w->k, w->dtype), rows = (size_t)w->n, row_codes = (size_t)w->k / 2,
         row_scales = (size_t)w->k / NVFP4_BLOCK;
  uint8_t *data;
  NVFP4_TRY(nvfp4_cuda_alloc(host->cuda, bytes, (void **)&data, reason));
  nvfp4_status status =
      nvfp4_cuda_copy_rows(host->cuda, data, row_codes, w->codes, (size_t)w->codes_stride_bytes, row_codes, rows, args->stream, reason);
  if (status == NVFP4_OK) {
    status = nvfp4_cuda_copy_rows(host->cuda, data + codes_bytes(w->n, w->k), row_scales, w->scales, (size_t)w->scales_stride_bytes,
                                  row_scales, rows, args->stream, reason);
  }
  if (status != NVFP4_OK) {
    nvfp4_cuda_free(host->cuda, data);
    return status;
  }
  *out = (nvfp4_packed){.struct_size = sizeof *out, .data = data, .data_bytes = bytes, .n = w->n, .k = w->k};
  return NVFP4_OK;
}

static nvfp4_status unpack(const nvfp4_host *host, const nvfp4_packed *packed, uint8_t *codes, uint8_t *scales, nvfp4_reason *reason) {
  size_t n = (size_t)packed->n, k = (size_t)packed->k;
  NVFP4_TRY(nvfp4_cuda_copy_now(host->cuda, codes, cuda_linear_codes(packed), n * (k / 2), reason));
  return nvfp4_cuda_copy_now(host->cuda, scales, cuda_linear_scales(packed), n * (k / NVFP4_BLOCK), reason);
}

static void free_packed(const nvfp4_host *host, nvfp4_packed *packed) {
  nvfp4_cuda_free(host->cuda, packed->data);
  packed->data = NULL;
}

const nvfp4_layout nvfp4_layout_cuda_linear = {
    .struct_size = sizeof(nvfp4_layout),
    .name = "cuda_linear",
    .packed_bytes = packed_bytes,
    .process_weights_after_loading = process_weights_after_loading,
    .unpack = unpack,
    .free_packed = free_packed,
};

nvfp4_status cuda_is_supported(const nvfp4_machine *machine, int sm_first, int sm_last, nvfp4_reason *reason) {
  char needed[48];
  int length = snprintf(needed, sizeof needed, "compute capability %d.%d", sm_first / 10, sm_first % 10);
  if (sm_last == 0) {
    snprintf(needed + length, sizeof needed - (size_t)length, " or newer");
  } else if (sm_last != sm_first) {
    snprintf(needed + length, sizeof needed - (size_t)length, " to %d.%d", sm_last / 10, sm_last % 10);
  }
  if (machine->gpu_count == 0) {
    return nvfp4_reject(reason, NVFP4_E_MACHINE, "%s; needs a GPU of %s and its driver",
                        machine->cuda_missing[0] != '\0' ? machine->cuda_missing : "the machine has no NVIDIA GPU", needed);
  }
  for (int i = 0; i < machine->gpu_count; i++) {
    if (machine->gpus[i].sm >= sm_first && (sm_last == 0 || machine->gpus[i].sm <= sm_last)) {
      return NVFP4_OK;
    }
  }
  const nvfp4_gpu *first = &machine->gpus[0];
  return nvfp4_reject(reason, NVFP4_E_MACHINE, "the GPU (%s) has compute capability %d.%d; needs %s", first->name, first->sm / 10,
                      first->sm % 10, needed);
}

nvfp4_status cuda_driver_is_supported(const nvfp4_machine *machine, int least, nvfp4_reason *reason) {
  const int needed = least > NVFP4_CUDA_MAJOR * 1000 ? least : NVFP4_CUDA_MAJOR * 1000;
  return machine->cuda_driver >= needed
             ? NVFP4_OK
             : nvfp4_reject(reason, NVFP4_E_MACHINE, "the driver is for CUDA %d.%d; needs one for CUDA %d.%d or newer: update the driver",
                            machine->cuda_driver / 1000, machine->cuda_driver % 1000 / 10, needed / 1000, needed % 1000 / 10);
}
