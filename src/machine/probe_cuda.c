/* SPDX-License-Identifier: Apache-2.0 */
/* GPUs, through the CUDA driver opened at run time. No context is created: that would take memory on every GPU and seconds of time. */
#define _GNU_SOURCE /* RTLD_NODELETE */
#include <dlfcn.h>
#include <stdio.h>
#include <string.h>

#include "machine/probe.h"

enum { /* of cuda.h, which is not needed to build this */
       DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT = 16,
       DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR = 75,
       DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR = 76
};

typedef struct driver {
  int (*init)(unsigned flags);
  int (*driver_get_version)(int *version);
  int (*get_error_string)(int error, const char **text);
  int (*device_get_count)(int *count);
  int (*device_get)(int *device, int ordinal);
  int (*device_get_name)(char *name, int size, int device);
  int (*device_get_attribute)(int *value, int attribute, int device);
  int (*device_total_mem)(size_t *bytes, int device);
} driver;

static bool load(void *library, driver *cuda, nvfp4_machine *out) {
  const struct {
    const char *name;
    void *to;
  } symbols[] = {{"cuInit", &cuda->init},
                 {"cuDriverGetVersion", &cuda->driver_get_version},
                 {"cuGetErrorString", &cuda->get_error_string},
                 {"cuDeviceGetCount", &cuda->device_get_count},
                 {"cuDeviceGet", &cuda->device_get},
                 {"cuDeviceGetName", &cuda->device_get_name},
                 {"cuDeviceGetAttribute", &cuda->device_get_attribute},
                 {"cuDeviceTotalMem_v2", &cuda->device_total_mem}};
  for (size_t i = 0; i < sizeof symbols / sizeof symbols[0]; i++) {
    void *symbol = dlsym(library, symbols[i].name);
    if (symbol == NULL) {
      snprintf(out->cuda_missing, sizeof out->cuda_missing, "CUDA driver: it has no %s", symbols[i].name);
      return false;
    }
    memcpy(symbols[i].to, &symbol, sizeof symbol); /* POSIX: a function's address fits a void pointer */
  }
  return true;
}

/* True if the call went well; otherwise says so in cuda_missing. */
static bool worked(const driver *cuda, const char *call, int error, nvfp4_machine *out) {
  const char *text = NULL;
  if (error == 0) {
    return true;
  }
  if (cuda->get_error_string(error, &text) != 0 || text == NULL) {
    text = "error";
  }
  snprintf(out->cuda_missing, sizeof out->cuda_missing, "CUDA driver: %s: %s (%d)", call, text, error);
  return false;
}

static bool read_gpu(const driver *cuda, int ordinal, nvfp4_gpu *gpu, nvfp4_machine *out) {
  int device = 0, major = 0, minor = 0;
  size_t bytes = 0;
  if (!worked(cuda, "cuDeviceGet", cuda->device_get(&device, ordinal), out) ||
      !worked(cuda, "cuDeviceGetName", cuda->device_get_name(gpu->name, (int)sizeof gpu->name, device), out) ||
      !worked(cuda, "cuDeviceGetAttribute", cuda->device_get_attribute(&major, DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, device), out) ||
      !worked(cuda, "cuDeviceGetAttribute", cuda->device_get_attribute(&minor, DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR, device), out) ||
      !worked(cuda, "cuDeviceGetAttribute",
              cuda->device_get_attribute(&gpu->multiprocessors, DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT, device), out) ||
      !worked(cuda, "cuDeviceTotalMem", cuda->device_total_mem(&bytes, device), out)) {
    return false;
  }
  gpu->sm = 10 * major + minor;
  gpu->memory_bytes = bytes;
  return true;
}

static void read_gpus(const driver *cuda, nvfp4_machine *out) {
  int version = 0, count = 0;
  if (!worked(cuda, "cuInit", cuda->init(0), out) || !worked(cuda, "cuDriverGetVersion", cuda->driver_get_version(&version), out) ||
      !worked(cuda, "cuDeviceGetCount", cuda->device_get_count(&count), out)) {
    return;
  }
  count = count < NVFP4_MAX_GPUS ? count : NVFP4_MAX_GPUS;
  for (int i = 0; i < count; i++) {
    if (!read_gpu(cuda, i, &out->gpus[i], out)) {
      memset(out->gpus, 0, sizeof out->gpus); /* all or none: ordinals must mean what the driver means by them */
      return;
    }
  }
  out->cuda_driver = version;
  out->gpu_count = count;
}

void nvfp4_probe_cuda_library(const char *library, nvfp4_machine *out) {
  /* NODELETE: the driver starts threads and does not like to be unloaded. */
  void *handle = dlopen(library, RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
  if (handle == NULL) {
    const char *text = dlerror();
    snprintf(out->cuda_missing, sizeof out->cuda_missing, "no CUDA driver: %s", text != NULL ? text : library);
    return;
  }
  driver cuda;
  if (load(handle, &cuda, out)) {
    read_gpus(&cuda, out);
  }
  dlclose(handle);
}

void nvfp4_probe_cuda(nvfp4_machine *out) { nvfp4_probe_cuda_library("libcuda.so.1", out); }
