/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE /* RTLD_NODELETE */
#include "cuda/cuda.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/reason.h"

/* A kernel that was asked for. Entries are never moved or removed before close. */
typedef struct loaded_kernel {
  struct loaded_kernel *next;
  nvfp4_cuda_kernel what;
  nvfp4_cu_kernel handle;
  unsigned shared_bytes[NVFP4_MAX_GPUS]; /* the most that was asked for, on each device */
} loaded_kernel;

typedef struct loaded_library {
  struct loaded_library *next;
  const unsigned char *fatbin;
  nvfp4_cu_library handle;
  unsigned long long contexts[NVFP4_MAX_GPUS]; /* ids of those into which all of its kernels were loaded last; 0: none */
  unsigned next_context;
} loaded_library;

typedef struct companion {
  struct companion *next;
  const nvfp4_cuda_companion *kind;
  void *object;
} companion;

struct nvfp4_cuda {
  void *library;
  nvfp4_cu_api api;
  int driver_version;
  pthread_mutex_t lock; /* of what follows */
  loaded_library *libraries;
  loaded_kernel *kernels;
  companion *companions;
  nvfp4_cuda_lane *lanes;
  nvfp4_cu_context primary[NVFP4_MAX_GPUS]; /* NULL: not retained */
};

/* ------------------------------------------------------------------------------------------------------------- opening, closing */

typedef int (*get_proc_address_fn)(const char *symbol, void **function, int version, uint64_t flags, int *status);

static nvfp4_status find_functions(nvfp4_cuda *cuda, nvfp4_reason *reason) {
  static const struct {
    const char *symbol;
    int version;
    size_t offset;
  } functions[] = {
#define NVFP4_CU_ROW(member, symbol, version, arguments) {symbol, version, offsetof(nvfp4_cu_api, member)},
      NVFP4_CU_FUNCTIONS(NVFP4_CU_ROW)
#undef NVFP4_CU_ROW
  };
  get_proc_address_fn get_proc_address;
  void *symbol = dlsym(cuda->library, "cuGetProcAddress_v2");
  if (symbol == NULL) {
    return nvfp4_reject(reason, NVFP4_E_MACHINE, "CUDA driver: it has no cuGetProcAddress_v2; needs a driver for CUDA 12.0 or newer");
  }
  memcpy(&get_proc_address, &symbol, sizeof symbol); /* POSIX: a function's address fits a void pointer */
  for (size_t i = 0; i < sizeof functions / sizeof functions[0]; i++) {
    void *function = NULL;
    int error = get_proc_address(functions[i].symbol, &function, functions[i].version, NVFP4_CU_GET_DEFAULT, NULL);
    if (error != NVFP4_CU_SUCCESS || function == NULL) {
      if (functions[i].version > NVFP4_CUDA_LEAST_DRIVER) {
        continue;
      }
      return nvfp4_reject(reason, NVFP4_E_MACHINE, "CUDA driver: it has no %s (%d); needs a driver for CUDA 12.0 or newer",
                          functions[i].symbol, error);
    }
    memcpy((char *)&cuda->api + functions[i].offset, &function, sizeof function);
  }
  return NVFP4_OK;
}

static nvfp4_status start(nvfp4_cuda *cuda, const char *library, nvfp4_reason *reason) {
  /* NODELETE: the driver starts threads and does not like to be unloaded. */
  cuda->library = dlopen(library, RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
  if (cuda->library == NULL) {
    const char *text = dlerror();
    return nvfp4_reject(reason, NVFP4_E_MACHINE, "no CUDA driver: %s", text != NULL ? text : library);
  }
  NVFP4_TRY(find_functions(cuda, reason));
  NVFP4_TRY(nvfp4_cuda_check(cuda, "cuInit", cuda->api.init(0), reason));
  NVFP4_TRY(nvfp4_cuda_check(cuda, "cuDriverGetVersion", cuda->api.driver_get_version(&cuda->driver_version), reason));
  if (cuda->driver_version < NVFP4_CUDA_LEAST_DRIVER) {
    return nvfp4_reject(reason, NVFP4_E_MACHINE, "CUDA driver: it is for CUDA %d.%d; needs 12.0 or newer: update the driver",
                        cuda->driver_version / 1000, cuda->driver_version % 1000 / 10);
  }
  return NVFP4_OK;
}

nvfp4_status nvfp4_cuda_open(const char *library, nvfp4_cuda **out, nvfp4_reason *reason) {
  nvfp4_cuda *cuda = calloc(1, sizeof *cuda);
  if (cuda == NULL) {
    return nvfp4_reject(reason, NVFP4_E_NOMEM, "out of memory for the CUDA driver");
  }
  pthread_mutex_init(&cuda->lock, NULL);
  nvfp4_status status = start(cuda, library, reason);
  if (status != NVFP4_OK) {
    nvfp4_cuda_close(cuda);
    return status;
  }
  *out = cuda;
  return NVFP4_OK;
}

void nvfp4_cuda_close(nvfp4_cuda *cuda) {
  if (cuda == NULL) {
    return;
  }
  while (cuda->companions != NULL) {
    companion *next = cuda->companions->next;
    cuda->companions->kind->close(cuda->companions->object);
    free(cuda->companions);
    cuda->companions = next;
  }
  while (cuda->kernels != NULL) {
    loaded_kernel *next = cuda->kernels->next;
    free(cuda->kernels);
    cuda->kernels = next;
  }
  while (cuda->libraries != NULL) {
    loaded_library *next = cuda->libraries->next;
    cuda->api.library_unload(cuda->libraries->handle);
    free(cuda->libraries);
    cuda->libraries = next;
  }
  for (int i = 0; i < NVFP4_MAX_GPUS; i++) {
    nvfp4_cu_device device;
    if (cuda->primary[i] != NULL && cuda->api.device_get(&device, i) == NVFP4_CU_SUCCESS) {
      cuda->api.primary_context_release(device);
    }
  }
  if (cuda->library != NULL) {
    dlclose(cuda->library);
  }
  pthread_mutex_destroy(&cuda->lock);
  free(cuda);
}

const nvfp4_cu_api *nvfp4_cuda_api(const nvfp4_cuda *cuda) { return &cuda->api; }

int nvfp4_cuda_driver_version(const nvfp4_cuda *cuda) { return cuda->driver_version; }

nvfp4_status nvfp4_cuda_check(const nvfp4_cuda *cuda, const char *call, int result, nvfp4_reason *reason) {
  const char *text = NULL;
  if (result == NVFP4_CU_SUCCESS) {
    return NVFP4_OK;
  }
  if (cuda->api.get_error_string(result, &text) != NVFP4_CU_SUCCESS || text == NULL) {
    text = "error";
  }
  return nvfp4_reject(reason, result == NVFP4_CU_ERROR_OUT_OF_MEMORY ? NVFP4_E_NOMEM : NVFP4_E_DEVICE, "CUDA driver: %s: %s (%d)", call,
                      text, result);
}

/* --------------------------------------------------------------------------------------------------------------------- contexts */

nvfp4_status nvfp4_cuda_context(nvfp4_cuda *cuda, int ordinal, nvfp4_cu_context *out, nvfp4_reason *reason) {
  nvfp4_cu_context current = NULL;
  nvfp4_cu_device device, current_device;
  if (ordinal < 0 || ordinal >= NVFP4_MAX_GPUS) {
    return nvfp4_reject(reason, NVFP4_E_ARG, "device cuda:%d; needs a number from 0 to %d", ordinal, NVFP4_MAX_GPUS - 1);
  }
  NVFP4_TRY(nvfp4_cuda_check(cuda, "cuDeviceGet", cuda->api.device_get(&device, ordinal), reason));
  NVFP4_TRY(nvfp4_cuda_check(cuda, "cuCtxGetCurrent", cuda->api.context_get_current(&current), reason));
  if (current != NULL && cuda->api.context_get_device(&current_device) == NVFP4_CU_SUCCESS && current_device == device) {
    *out = current;
    return NVFP4_OK;
  }
  nvfp4_status status = NVFP4_OK;
  pthread_mutex_lock(&cuda->lock);
  if (cuda->primary[ordinal] == NULL) {
    status = nvfp4_cuda_check(cuda, "cuDevicePrimaryCtxRetain", cuda->api.primary_context_retain(&cuda->primary[ordinal], device), reason);
  }
  *out = cuda->primary[ordinal];
  pthread_mutex_unlock(&cuda->lock);
  return status;
}

nvfp4_status nvfp4_cuda_enter(const nvfp4_cuda *cuda, nvfp4_cu_context context, bool *pushed, nvfp4_reason *reason) {
  nvfp4_cu_context current = NULL;
  *pushed = false;
  NVFP4_TRY(nvfp4_cuda_check(cuda, "cuCtxGetCurrent", cuda->api.context_get_current(&current), reason));
  if (current != context) {
    NVFP4_TRY(nvfp4_cuda_check(cuda, "cuCtxPushCurrent", cuda->api.context_push(context), reason));
    *pushed = true;
  }
  return NVFP4_OK;
}

void nvfp4_cuda_leave(const nvfp4_cuda *cuda, bool pushed) {
  nvfp4_cu_context popped;
  if (pushed) {
    cuda->api.context_pop(&popped);
  }
}

/* ----------------------------------------------------------------------------------------------------------------------- memory */

nvfp4_status nvfp4_cuda_alloc(const nvfp4_cuda *cuda, size_t bytes, void **out, nvfp4_reason *reason) {
  nvfp4_cu_address address = 0;
  int result = cuda->api.alloc(&address, bytes > 0 ? bytes : 1);
  if (result == NVFP4_CU_ERROR_OUT_OF_MEMORY) {
    return nvfp4_reject(reason, NVFP4_E_NOMEM, "out of GPU memory: %zu bytes; free some, or use another device", bytes);
  }
  NVFP4_TRY(nvfp4_cuda_check(cuda, "cuMemAlloc", result, reason));
  *out = (void *)(uintptr_t)address;
  return NVFP4_OK;
}

void nvfp4_cuda_free(const nvfp4_cuda *cuda, void *memory) {
  if (memory != NULL) {
    cuda->api.free((nvfp4_cu_address)(uintptr_t)memory);
  }
}

static nvfp4_cu_address address_of(const void *memory) { return (nvfp4_cu_address)(uintptr_t)memory; }

nvfp4_status nvfp4_cuda_copy_rows(const nvfp4_cuda *cuda, void *to, size_t to_stride, const void *from, size_t from_stride,
                                  size_t row_bytes, size_t rows, void *stream, nvfp4_reason *reason) {
  if (row_bytes == 0 || rows == 0) {
    return NVFP4_OK;
  }
  if (to_stride == row_bytes && from_stride == row_bytes) {
    return nvfp4_cuda_check(cuda, "cuMemcpyAsync", cuda->api.copy(address_of(to), address_of(from), row_bytes * rows, stream), reason);
  }
  const nvfp4_cu_copy_2d copy = {.source_type = NVFP4_CU_MEMORY_UNIFIED,
                                 .source_device = address_of(from),
                                 .source_pitch = from_stride,
                                 .target_type = NVFP4_CU_MEMORY_UNIFIED,
                                 .target_device = address_of(to),
                                 .target_pitch = to_stride,
                                 .width_bytes = row_bytes,
                                 .height = rows};
  return nvfp4_cuda_check(cuda, "cuMemcpy2DAsync", cuda->api.copy_2d(&copy, stream), reason);
}

nvfp4_status nvfp4_cuda_stream(const nvfp4_cuda *cuda, nvfp4_cu_stream *out, nvfp4_reason *reason) {
  return nvfp4_cuda_check(cuda, "cuStreamCreate", cuda->api.stream_create(out, NVFP4_CU_STREAM_NON_BLOCKING), reason);
}

nvfp4_status nvfp4_cuda_stream_finish(const nvfp4_cuda *cuda, nvfp4_cu_stream stream, nvfp4_reason *reason) {
  if (stream == NULL) {
    return NVFP4_OK;
  }
  nvfp4_status status = nvfp4_cuda_check(cuda, "cuStreamSynchronize", cuda->api.stream_synchronize(stream), reason);
  cuda->api.stream_destroy(stream);
  return status;
}

nvfp4_status nvfp4_cuda_copy_now(const nvfp4_cuda *cuda, void *to, const void *from, size_t bytes, nvfp4_reason *reason) {
  nvfp4_cu_stream stream;
  NVFP4_TRY(nvfp4_cuda_stream(cuda, &stream, reason));
  nvfp4_status copied = nvfp4_cuda_copy_rows(cuda, to, bytes, from, bytes, bytes, 1, stream, reason);
  nvfp4_status finished = nvfp4_cuda_stream_finish(cuda, stream, copied == NVFP4_OK ? reason : NULL);
  return copied != NVFP4_OK ? copied : finished;
}

/* ------------------------------------------------------------------------------------------------------------------------ lanes */

nvfp4_status nvfp4_cuda_lane_take(nvfp4_cuda *cuda, nvfp4_cu_context context, nvfp4_cuda_lane **out, nvfp4_reason *reason) {
  pthread_mutex_lock(&cuda->lock);
  nvfp4_cuda_lane *lane = cuda->lanes;
  while (lane != NULL && (lane->busy || lane->context != context)) {
    lane = lane->next;
  }
  if (lane != NULL) {
    lane->busy = true;
    lane->holders++;
  }
  pthread_mutex_unlock(&cuda->lock);
  *out = lane;
  if (lane != NULL) {
    return NVFP4_OK;
  }
  nvfp4_cuda_lane *made = calloc(1, sizeof *made);
  if (made == NULL) {
    return nvfp4_reject(reason, NVFP4_E_NOMEM, "out of memory for a CUDA stream");
  }
  *made = (nvfp4_cuda_lane){.context = context, .holders = 1, .busy = true};
  nvfp4_status status = nvfp4_cuda_stream(cuda, &made->stream, reason);
  if (status != NVFP4_OK) {
    free(made);
    return status;
  }
  pthread_mutex_lock(&cuda->lock);
  made->next = cuda->lanes;
  cuda->lanes = made;
  pthread_mutex_unlock(&cuda->lock);
  *out = made;
  return NVFP4_OK;
}

/* One holder fewer; the lane is idle from now on, if it was that who had taken it. */
static void drop_lane(nvfp4_cuda *cuda, nvfp4_cuda_lane *lane, bool returned) {
  pthread_mutex_lock(&cuda->lock);
  lane->busy = lane->busy && !returned;
  const bool last = --lane->holders == 0;
  nvfp4_cuda_lane **at = &cuda->lanes;
  while (last && *at != lane) {
    at = &(*at)->next;
  }
  if (last) {
    *at = lane->next;
  }
  pthread_mutex_unlock(&cuda->lock);
  if (last) {
    cuda->api.stream_destroy(lane->stream);
    if (lane->answer != NULL) {
      cuda->api.free_host(lane->answer);
    }
    free(lane);
  }
}

void nvfp4_cuda_lane_return(nvfp4_cuda *cuda, nvfp4_cuda_lane *lane) { drop_lane(cuda, lane, true); }

void nvfp4_cuda_lane_keep(nvfp4_cuda *cuda, nvfp4_cuda_lane *lane) {
  pthread_mutex_lock(&cuda->lock);
  lane->holders++;
  pthread_mutex_unlock(&cuda->lock);
}

void nvfp4_cuda_lane_drop(nvfp4_cuda *cuda, nvfp4_cuda_lane *lane) {
  if (lane != NULL) {
    drop_lane(cuda, lane, false);
  }
}

nvfp4_status nvfp4_cuda_lane_answer(const nvfp4_cuda *cuda, nvfp4_cuda_lane *lane, nvfp4_reason *reason) {
  void *memory = lane->answer;
  if (memory == NULL) { /* with unified addressing its address is also the device's */
    NVFP4_TRY(nvfp4_cuda_check(cuda, "cuMemAllocHost", cuda->api.alloc_host(&memory, sizeof *lane->answer), reason));
    lane->answer = memory;
  }
  return NVFP4_OK;
}

/* ------------------------------------------------------------------------------------------------------------------- companions */

/* The lock is held. */
static nvfp4_status open_companion(nvfp4_cuda *cuda, const nvfp4_cuda_companion *kind, companion **out, nvfp4_reason *reason) {
  companion *made = calloc(1, sizeof *made);
  if (made == NULL) {
    return nvfp4_reject(reason, NVFP4_E_NOMEM, "out of memory for a GPU library");
  }
  made->kind = kind;
  nvfp4_status status = kind->open(cuda, &made->object, reason);
  if (status != NVFP4_OK) {
    free(made);
    return status;
  }
  made->next = cuda->companions;
  cuda->companions = made;
  *out = made;
  return NVFP4_OK;
}

nvfp4_status nvfp4_cuda_find_companion(nvfp4_cuda *cuda, const nvfp4_cuda_companion *kind, void **out, nvfp4_reason *reason) {
  nvfp4_status status = NVFP4_OK;
  pthread_mutex_lock(&cuda->lock);
  companion *found = cuda->companions;
  while (found != NULL && found->kind != kind) {
    found = found->next;
  }
  if (found == NULL) {
    status = open_companion(cuda, kind, &found, reason);
  }
  pthread_mutex_unlock(&cuda->lock);
  *out = found != NULL ? found->object : NULL;
  return status;
}

/* ---------------------------------------------------------------------------------------------------------------------- kernels */

/* The lock is held. */
static nvfp4_status find_library(nvfp4_cuda *cuda, const unsigned char *fatbin, nvfp4_cu_library *out, nvfp4_reason *reason) {
  for (loaded_library *l = cuda->libraries; l != NULL; l = l->next) {
    if (l->fatbin == fatbin) {
      *out = l->handle;
      return NVFP4_OK;
    }
  }
  loaded_library *made = calloc(1, sizeof *made);
  if (made == NULL) {
    return nvfp4_reject(reason, NVFP4_E_NOMEM, "out of memory for the GPU's code");
  }
  made->fatbin = fatbin;
  nvfp4_status status =
      nvfp4_cuda_check(cuda, "cuLibraryLoadData", cuda->api.library_load(&made->handle, fatbin, NULL, NULL, 0, NULL, NULL, 0), reason);
  if (status != NVFP4_OK) {
    free(made);
    return status;
  }
  made->next = cuda->libraries;
  cuda->libraries = made;
  *out = made->handle;
  return NVFP4_OK;
}

/* The lock is held. */
static nvfp4_status find_kernel(nvfp4_cuda *cuda, const nvfp4_cuda_kernel *kernel, loaded_kernel **out, nvfp4_reason *reason) {
  for (loaded_kernel *k = cuda->kernels; k != NULL; k = k->next) {
    if (k->what.fatbin == kernel->fatbin && (k->what.name == kernel->name || strcmp(k->what.name, kernel->name) == 0)) {
      *out = k;
      return NVFP4_OK;
    }
  }
  nvfp4_cu_library library = NULL;
  nvfp4_cu_kernel handle = NULL;
  NVFP4_TRY(find_library(cuda, kernel->fatbin, &library, reason));
  NVFP4_TRY(nvfp4_cuda_check(cuda, "cuLibraryGetKernel", cuda->api.library_get_kernel(&handle, library, kernel->name), reason));
  loaded_kernel *made = calloc(1, sizeof *made);
  if (made == NULL) {
    return nvfp4_reject(reason, NVFP4_E_NOMEM, "out of memory for the GPU's code");
  }
  *made = (loaded_kernel){.next = cuda->kernels, .what = *kernel, .handle = handle};
  cuda->kernels = made;
  *out = made;
  return NVFP4_OK;
}

static nvfp4_status load(const nvfp4_cuda *cuda, nvfp4_cu_kernel kernel, nvfp4_reason *reason) {
  nvfp4_cu_function function;
  return nvfp4_cuda_check(cuda, "cuKernelGetFunction", cuda->api.kernel_get_function(&function, kernel), reason);
}

/* The lock is held. */
static nvfp4_status load_library(const nvfp4_cuda *cuda, loaded_library *l, unsigned long long context, nvfp4_reason *reason) {
  const nvfp4_cu_library library = l->handle;
  unsigned count = 0;
  for (int i = 0; i < NVFP4_MAX_GPUS; i++) {
    if (l->contexts[i] == context) {
      return NVFP4_OK;
    }
  }
  NVFP4_TRY(nvfp4_cuda_check(cuda, "cuLibraryGetKernelCount", cuda->api.library_get_kernel_count(&count, library), reason));
  nvfp4_cu_kernel *kernels = calloc((size_t)count + 1, sizeof(nvfp4_cu_kernel));
  if (kernels == NULL) {
    return nvfp4_reject(reason, NVFP4_E_NOMEM, "out of memory for the GPU's code");
  }
  nvfp4_status status =
      nvfp4_cuda_check(cuda, "cuLibraryEnumerateKernels", cuda->api.library_enumerate_kernels(kernels, count, library), reason);
  for (unsigned i = 0; i < count && status == NVFP4_OK; i++) {
    status = load(cuda, kernels[i], reason);
  }
  free(kernels);
  if (status == NVFP4_OK) {
    l->contexts[l->next_context++ % NVFP4_MAX_GPUS] = context;
  }
  return status;
}

nvfp4_status nvfp4_cuda_load_known(nvfp4_cuda *cuda, nvfp4_reason *reason) {
  nvfp4_cu_context current = NULL;
  unsigned long long context = 0; /* an address may be that of a later context, an id is not */
  NVFP4_TRY(nvfp4_cuda_check(cuda, "cuCtxGetCurrent", cuda->api.context_get_current(&current), reason));
  NVFP4_TRY(nvfp4_cuda_check(cuda, "cuCtxGetId", cuda->api.context_get_id(current, &context), reason));
  nvfp4_status status = NVFP4_OK;
  pthread_mutex_lock(&cuda->lock);
  if (cuda->api.library_get_kernel_count != NULL && cuda->api.library_enumerate_kernels != NULL) {
    for (loaded_library *l = cuda->libraries; l != NULL && status == NVFP4_OK; l = l->next) {
      status = load_library(cuda, l, context, reason);
    }
  } else {
    for (loaded_kernel *k = cuda->kernels; k != NULL && status == NVFP4_OK; k = k->next) {
      status = load(cuda, k->handle, reason);
    }
  }
  pthread_mutex_unlock(&cuda->lock);
  return status;
}

enum { SHARED_BYTES_FOR_ALL = 48 * 1024 }; /* what a kernel may use without asking */

/* The lock is held. */
static nvfp4_status ask_for_shared_memory(nvfp4_cuda *cuda, loaded_kernel *kernel, unsigned bytes, nvfp4_reason *reason) {
  nvfp4_cu_device device;
  NVFP4_TRY(nvfp4_cuda_check(cuda, "cuCtxGetDevice", cuda->api.context_get_device(&device), reason));
  unsigned none = 0, *asked = device >= 0 && device < NVFP4_MAX_GPUS ? &kernel->shared_bytes[device] : &none;
  if (bytes > *asked) {
    NVFP4_TRY(nvfp4_cuda_check(
        cuda, "cuKernelSetAttribute",
        cuda->api.kernel_set_attribute(NVFP4_CU_FUNCTION_MAX_DYNAMIC_SHARED_BYTES, (int)bytes, kernel->handle, device), reason));
    *asked = bytes;
  }
  return NVFP4_OK;
}

nvfp4_status nvfp4_cuda_launch(nvfp4_cuda *cuda, const nvfp4_cuda_kernel *kernel, const nvfp4_cu_launch *launch, void **parameters,
                               nvfp4_reason *reason) {
  loaded_kernel *found = NULL;
  pthread_mutex_lock(&cuda->lock);
  nvfp4_status status = find_kernel(cuda, kernel, &found, reason);
  if (status == NVFP4_OK && launch->shared_bytes > SHARED_BYTES_FOR_ALL) {
    status = ask_for_shared_memory(cuda, found, launch->shared_bytes, reason);
  }
  pthread_mutex_unlock(&cuda->lock);
  NVFP4_TRY(status);
  /* A CUkernel may be given where a CUfunction is expected: the driver takes the current context's function of it. */
  return nvfp4_cuda_check(cuda, kernel->name, cuda->api.launch(launch, (nvfp4_cu_function)(void *)found->handle, parameters, NULL), reason);
}
