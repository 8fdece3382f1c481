/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the plug-ins of FP4 tensor cores share: what they refuse alike, and their workspace. The packed weights are those of host->cuda_fp4 (nvfp4/kernel.h): np rows, N rounded up to 128, of kp k's, K
 * rounded up to 64, all of it whole tiles and zero beyond N and K; so is x.
 */
#ifndef NVFP4_PLUGINS_FP4_H
#define NVFP4_PLUGINS_FP4_H

#include <nvfp4/kernel.h>
#include <stdarg.h>
#include <stdio.h>

enum { FP4_ROWS = 128, FP4_K = 64, FP4_ALIGNMENT = 256 };

static inline int64_t fp4_round_up(int64_t value, int64_t to) { return (value + to - 1) / to * to; }

__attribute__((format(printf, 3, 4))) static inline nvfp4_status fp4_refuse(nvfp4_reason *reason, nvfp4_status status, const char *format,
                                                                            ...) {
  if (reason != NULL) {
    va_list arguments;
    va_start(arguments, format);
    reason->status = status;
    vsnprintf(reason->text, sizeof reason->text, format, arguments);
    va_end(arguments);
  }
  return status;
}

/* The first GPU of the machine, of which fits() is true; NULL, and a refusal, if there is none. needed: "compute capability 10.0 or 10.3" */
static inline const nvfp4_gpu *fp4_find_gpu(const nvfp4_machine *machine, bool (*fits)(int sm), const char *needed, nvfp4_reason *reason) {
  if (machine->gpu_count == 0) {
    fp4_refuse(reason, NVFP4_E_MACHINE, "%s; needs a GPU of %s and its driver",
               machine->cuda_missing[0] != '\0' ? machine->cuda_missing : "the machine has no NVIDIA GPU", needed);
    return NULL;
  }
  for (int i = 0; i < machine->gpu_count; i++) {
    if (fits(machine->gpus[i].sm)) {
      return &machine->gpus[i];
    }
  }
  const nvfp4_gpu *first = &machine->gpus[0];
  fp4_refuse(reason, NVFP4_E_MACHINE, "the GPU (%s) has compute capability %d.%d; needs %s", first->name, first->sm / 10, first->sm % 10,
             needed);
  return NULL;
}

/* Scales of the packed weights, which begin with their codes. */
static inline const uint8_t *fp4_scales(const nvfp4_packed *packed) {
  return (const uint8_t *)packed->data + fp4_round_up(packed->n, FP4_ROWS) * (fp4_round_up(packed->k, FP4_K) / 2);
}

/* Quantised x in the front of a workspace: codes [m, kp/2], scales in tiles of tile_rows x 4; and what is behind. */
typedef struct fp4_x {
  uint8_t *codes, *scales, *rest;
  int64_t scales_bytes;
} fp4_x;

static inline int64_t fp4_x_codes_bytes(int64_t m, int64_t k) { return fp4_round_up(m * (fp4_round_up(k, FP4_K) / 2), FP4_ALIGNMENT); }
static inline int64_t fp4_x_scales_bytes(int64_t m, int64_t k, nvfp4_scale_layout layout) {
  return fp4_round_up(m, layout == NVFP4_SCALES_8X4 ? 8 : 128) * (fp4_round_up(k, FP4_K) / NVFP4_BLOCK);
}

/* Bytes of a workspace with `rest` bytes behind x. All its parts begin at multiples of FP4_ALIGNMENT; a workspace begins at one of 64. */
static inline size_t fp4_workspace_bytes(int64_t m, int64_t k, nvfp4_scale_layout layout, int64_t rest) {
  return (size_t)(FP4_ALIGNMENT + fp4_x_codes_bytes(m, k) + fp4_round_up(fp4_x_scales_bytes(m, k, layout), FP4_ALIGNMENT) + rest);
}

/* Enqueues the quantiser. */
static inline nvfp4_status fp4_quantise(const nvfp4_host *host, const nvfp4_kernel_args *args, nvfp4_scale_layout layout, fp4_x *out,
                                        nvfp4_reason *reason) {
  uint8_t *workspace = args->workspace;
  out->codes = workspace + (FP4_ALIGNMENT - (uintptr_t)workspace % FP4_ALIGNMENT) % FP4_ALIGNMENT;
  out->scales = out->codes + fp4_x_codes_bytes(args->m, args->k);
  out->scales_bytes = fp4_x_scales_bytes(args->m, args->k, layout);
  out->rest = out->scales + fp4_round_up(out->scales_bytes, FP4_ALIGNMENT);
  return host->cuda_quantise(host->cookie, args, fp4_round_up(args->k, FP4_K), layout, out->codes, out->scales, reason);
}

#endif
