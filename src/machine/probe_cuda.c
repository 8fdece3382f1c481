/* SPDX-License-Identifier: Apache-2.0 */
/* GPUs, through the CUDA driver opened at run time. No context is created: that would take memory on every GPU and seconds of time. */
#include <stdio.h>
#include <string.h>

#include "base/reason.h"
#include "cuda/cuda.h"
#include "machine/probe.h"

static nvfp4_status read_gpu(const nvfp4_cuda *cuda, int ordinal, nvfp4_gpu *gpu, nvfp4_reason *reason) {
  const nvfp4_cu_api *api = nvfp4_cuda_api(cuda);
  nvfp4_cu_device device = 0;
  int major = 0, minor = 0, l2 = 0, shared = 0;
  size_t bytes = 0;
  const struct {
    int attribute, *value;
  } attributes[] = {{NVFP4_CU_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, &major},
                    {NVFP4_CU_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR, &minor},
                    {NVFP4_CU_ATTRIBUTE_MULTIPROCESSOR_COUNT, &gpu->multiprocessors},
                    {NVFP4_CU_ATTRIBUTE_L2_CACHE_BYTES, &l2},
                    {NVFP4_CU_ATTRIBUTE_MOST_SHARED_BYTES_OF_BLOCK, &shared}};
  NVFP4_TRY(nvfp4_cuda_check(cuda, "cuDeviceGet", api->device_get(&device, ordinal), reason));
  NVFP4_TRY(nvfp4_cuda_check(cuda, "cuDeviceGetName", api->device_get_name(gpu->name, (int)sizeof gpu->name, device), reason));
  for (size_t i = 0; i < sizeof attributes / sizeof attributes[0]; i++) {
    NVFP4_TRY(nvfp4_cuda_check(cuda, "cuDeviceGetAttribute",
                               api->device_get_attribute(attributes[i].value, attributes[i].attribute, device), reason));
  }
  NVFP4_TRY(nvfp4_cuda_check(cuda, "cuDeviceTotalMem", api->device_total_mem(&bytes, device), reason));
  gpu->sm = 10 * major + minor;
  gpu->memory_bytes = bytes;
  gpu->l2_bytes = l2 > 0 ? (uint64_t)l2 : 0;
  gpu->shared_bytes = shared > 0 ? (uint64_t)shared : 0;
  return NVFP4_OK;
}

static nvfp4_status read_gpus(const nvfp4_cuda *cuda, nvfp4_machine *out, nvfp4_reason *reason) {
  int count = 0;
  NVFP4_TRY(nvfp4_cuda_check(cuda, "cuDeviceGetCount", nvfp4_cuda_api(cuda)->device_get_count(&count), reason));
  count = count < NVFP4_MAX_GPUS ? count : NVFP4_MAX_GPUS;
  for (int i = 0; i < count; i++) {
    NVFP4_TRY(read_gpu(cuda, i, &out->gpus[i], reason));
  }
  out->cuda_driver = nvfp4_cuda_driver_version(cuda);
  out->gpu_count = count;
  return NVFP4_OK;
}

void nvfp4_probe_cuda_library(const char *library, nvfp4_machine *out) {
  nvfp4_reason reason = {0};
  nvfp4_cuda *cuda = NULL;
  nvfp4_status status = nvfp4_cuda_open(library, &cuda, &reason);
  if (status == NVFP4_OK) {
    status = read_gpus(cuda, out, &reason);
  }
  if (status != NVFP4_OK) {
    memset(out->gpus, 0, sizeof out->gpus); /* all or none: ordinals must mean what the driver means by them */
    snprintf(out->cuda_missing, sizeof out->cuda_missing, "%.127s", reason.text);
  }
  nvfp4_cuda_close(cuda);
}

void nvfp4_probe_cuda(nvfp4_machine *out) { nvfp4_probe_cuda_library(NVFP4_CUDA_DRIVER, out); }
