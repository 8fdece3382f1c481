/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A libcuda.so.1 for test_cudnn_plan alone: cuDNN makes plans for a GPU that is described to it, without one, but wants to find a driver and to load the code that it generates. Nearly every
 * function does nothing and succeeds.
 */
#include <dlfcn.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define EXPORTED __attribute__((visibility("default")))

/* What cuDNN looks up by dlsym, beside what is below. */
#define NOTHING(name)      \
  EXPORTED int name(void); \
  EXPORTED int name(void) { return 0; }
NOTHING(cuInit)
NOTHING(cuCtxGetLimit)
NOTHING(cuCtxPopCurrent)
NOTHING(cuCtxPushCurrent)
NOTHING(cuStreamGetCtx)
NOTHING(cuLinkCreate)
NOTHING(cuLinkAddData)
NOTHING(cuLinkComplete)
NOTHING(cuLinkDestroy)
NOTHING(cuLaunchKernel)
NOTHING(cuLaunchCooperativeKernel)
NOTHING(cuLaunchKernelEx)
NOTHING(cuLibraryUnload)
NOTHING(cuKernelSetAttribute)
NOTHING(cuKernelGetAttribute)
NOTHING(cuOccupancyMaxPotentialClusterSize)
static int nothing(void) { return 0; }

static int object; /* contexts, libraries and kernels */

#define GIVES_OBJECT(name)        \
  EXPORTED int name(void **out);  \
  EXPORTED int name(void **out) { \
    *out = &object;               \
    return 0;                     \
  }
GIVES_OBJECT(cuCtxGetCurrent)
GIVES_OBJECT(cuDevicePrimaryCtxRetain)
GIVES_OBJECT(cuLibraryLoadData)
GIVES_OBJECT(cuLibraryLoadFromFile)
GIVES_OBJECT(cuLibraryGetKernel)
GIVES_OBJECT(cuLibraryGetModule)
GIVES_OBJECT(cuKernelGetFunction)
GIVES_OBJECT(cuModuleLoadData)

#define GIVES_NUMBER(name, number) \
  EXPORTED int name(int *out);     \
  EXPORTED int name(int *out) {    \
    *out = number;                 \
    return 0;                      \
  }
GIVES_NUMBER(cuDriverGetVersion, 13000)
GIVES_NUMBER(cuDeviceGetCount, 1)
GIVES_NUMBER(cuDeviceGet, 0)
GIVES_NUMBER(cuCtxGetDevice, 0)
GIVES_NUMBER(cuDeviceGetAttribute, 1)

EXPORTED int cuGetErrorString(int error, const char **text);
EXPORTED int cuGetErrorString(int error, const char **text) {
  (void)error;
  *text = "error";
  return 0;
}
EXPORTED int cuGetErrorName(int error, const char **text);
EXPORTED int cuGetErrorName(int error, const char **text) { return cuGetErrorString(error, text); }

/* Undocumented tables: there are none. */
EXPORTED int cuGetExportTable(const void **table, const void *id);
EXPORTED int cuGetExportTable(const void **table, const void *id) {
  (void)id;
  *table = NULL;
  return 500;
}

EXPORTED int cuGetProcAddress_v2(const char *name, void **function, int version, uint64_t flags, int *result);
EXPORTED int cuGetProcAddress_v2(const char *name, void **function, int version, uint64_t flags, int *result) {
  void *self = dlopen("libcuda.so.1", RTLD_NOW | RTLD_NOLOAD), *found = dlsym(self, name);
  int (*const none)(void) = nothing;
  (void)version, (void)flags;
  if (found == NULL) {
    memcpy(&found, &none, sizeof found);
  }
  *function = strcmp(name, "cuGetProcAddress") == 0 ? dlsym(self, "cuGetProcAddress_v2") : found;
  if (result != NULL) {
    *result = 0;
  }
  return 0;
}
