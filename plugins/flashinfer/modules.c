/* SPDX-License-Identifier: Apache-2.0 */
#define _POSIX_C_SOURCE 200809L
#include "flashinfer/modules.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

enum { MODULES = 8 };

typedef struct module {
  ffi_function functions[2]; /* by flashinfer_kind; NULL: not in it */
  int sm_first, sm_last;     /* by its name */
} module;

static struct {
  ffi_set_stream set_stream;
  ffi_move_error move_error;
  ffi_release release;
  module modules[MODULES];
  int count;
  char missing[320]; /* why there are not more of them */
  char cubins[512];
  void (*set_cubin)(const char *bytes, int count); /* of the module that asks */
} flashinfer;

/* ------------------------------------------------------------------------------------------------------------------- opening */

/* ISO C has no cast from an object pointer to a function pointer. */
#define LOOK_UP(function, handle, symbol)          \
  do {                                             \
    void *found = dlsym(handle, symbol);           \
    memcpy(&(function), &found, sizeof(function)); \
  } while (0)

/* trtllm_gemm asks for the code of a kernel by its path below the folder; without an answer it says so. */
static void give_cubin(const char *path, const char *sha256) {
  char full[1024];
  (void)sha256; /* the module takes what it is given; a wrong file does not load */
  snprintf(full, sizeof full, "%s/%s", flashinfer.cubins, path);
  FILE *file = fopen(full, "rb");
  char *bytes = NULL;
  long size = file != NULL && fseek(file, 0, SEEK_END) == 0 ? ftell(file) : -1;
  if (size > 0 && size <= INT32_MAX && fseek(file, 0, SEEK_SET) == 0) {
    bytes = malloc((size_t)size);
  }
  if (bytes != NULL && fread(bytes, 1, (size_t)size, file) == (size_t)size) {
    flashinfer.set_cubin(bytes, (int)size);
  } else {
    flashinfer.set_cubin("", 0);
  }
  free(bytes);
  if (file != NULL) {
    fclose(file);
  }
}

/* TensorRT-LLM's kernels are files of their own. */
static bool connect_cubins(void *handle, const char *path) {
  void (*set_callback)(void (*callback)(const char *path, const char *sha256));
  if (flashinfer.set_cubin != NULL) {
    snprintf(flashinfer.missing, sizeof flashinfer.missing, "%.200s is a second module with trtllm_gemm; give one", path);
    return false;
  }
  const char *folder = getenv("NVFP4_FLASHINFER_CUBINS");
  LOOK_UP(set_callback, handle, "FlashInferSetCubinCallback");
  LOOK_UP(flashinfer.set_cubin, handle, "FlashInferSetCurrentCubin");
  if (set_callback == NULL || flashinfer.set_cubin == NULL) {
    snprintf(flashinfer.missing, sizeof flashinfer.missing, "%.160s has no FlashInferSetCubinCallback; needs a module of FlashInfer 0.7",
             path);
    return false;
  }
  if (folder == NULL || folder[0] == '\0') {
    snprintf(flashinfer.missing, sizeof flashinfer.missing,
             "NVFP4_FLASHINFER_CUBINS is not set; %.160s needs the folder flashinfer_cubin/cubins of Python's package flashinfer-cubin",
             path);
    return false;
  }
  snprintf(flashinfer.cubins, sizeof flashinfer.cubins, "%s", folder);
  set_callback(give_cubin);
  return true;
}

static void open_module(const char *path) {
  void *handle = flashinfer.count < MODULES ? dlopen(path, RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE) : NULL;
  if (handle == NULL) {
    const char *why = flashinfer.count < MODULES ? dlerror() : "there are too many";
    snprintf(flashinfer.missing, sizeof flashinfer.missing, "FlashInfer's module cannot be loaded: %.240s", why != NULL ? why : path);
    return;
  }
  module *m = &flashinfer.modules[flashinfer.count];
  const char *name = strrchr(path, '/') != NULL ? strrchr(path, '/') + 1 : path;
  LOOK_UP(m->functions[FLASHINFER_CUTLASS], handle, "__tvm_ffi_fp4_gemm");
  LOOK_UP(m->functions[FLASHINFER_TRTLLM], handle, "__tvm_ffi_trtllm_gemm");
  m->sm_first = strstr(name, "sm120") != NULL ? 120 : strstr(name, "sm103") != NULL ? 103 : 100;
  m->sm_last = strstr(name, "sm120") != NULL ? 121 : strstr(name, "sm103") != NULL ? 103 : 119;
  if (m->functions[FLASHINFER_CUTLASS] == NULL && m->functions[FLASHINFER_TRTLLM] == NULL) {
    snprintf(flashinfer.missing, sizeof flashinfer.missing,
             "%.200s has neither fp4_gemm nor trtllm_gemm; needs FlashInfer's fp4_gemm_cutlass*.so or trtllm_gemm.so", path);
  } else if (m->functions[FLASHINFER_TRTLLM] == NULL || connect_cubins(handle, path)) {
    flashinfer.count++;
  }
}

static bool open_runtime(void) {
  const char *path = getenv("NVFP4_FLASHINFER_TVM_FFI");
  path = path != NULL && path[0] != '\0' ? path : "libtvm_ffi.so";
  void *handle = dlopen(path, RTLD_NOW | RTLD_GLOBAL | RTLD_NODELETE); /* the modules look for its symbols and do not name it */
  if (handle == NULL) {
    const char *why = dlerror();
    snprintf(flashinfer.missing, sizeof flashinfer.missing,
             "libtvm_ffi.so cannot be loaded: %.160s; set NVFP4_FLASHINFER_TVM_FFI to its path in Python's package apache-tvm-ffi",
             why != NULL ? why : path);
    return false;
  }
  LOOK_UP(flashinfer.set_stream, handle, "TVMFFIEnvSetStream");
  LOOK_UP(flashinfer.move_error, handle, "TVMFFIErrorMoveFromRaised");
  LOOK_UP(flashinfer.release, handle, "TVMFFIObjectDecRef");
  if (flashinfer.set_stream == NULL || flashinfer.move_error == NULL || flashinfer.release == NULL) {
    snprintf(flashinfer.missing, sizeof flashinfer.missing, "%.200s lacks functions of TVM-FFI; needs that of apache-tvm-ffi 0.1", path);
    return false;
  }
  return true;
}

static void open_all(void) {
  const char *list = getenv("NVFP4_FLASHINFER_MODULE");
  if (list == NULL || list[strspn(list, ", ")] == '\0') {
    snprintf(
        flashinfer.missing, sizeof flashinfer.missing,
        "NVFP4_FLASHINFER_MODULE is not set; needs the paths of modules that FlashInfer compiled: fp4_gemm_cutlass*.so, trtllm_gemm.so");
    return;
  }
  if (!open_runtime()) {
    return;
  }
  while (*(list += strspn(list, ", ")) != '\0') {
    char path[1024];
    size_t length = strcspn(list, ",");
    snprintf(path, sizeof path, "%.*s", (int)length, list);
    list += length;
    open_module(path);
  }
}

void flashinfer_open(void) {
  static pthread_once_t once = PTHREAD_ONCE_INIT;
  pthread_once(&once, open_all);
}

ffi_function flashinfer_find(flashinfer_kind kind, int sm, nvfp4_reason *reason) {
  static const char *const names[] = {"fp4_gemm", "trtllm_gemm"};
  for (int i = 0; i < flashinfer.count; i++) {
    const module *m = &flashinfer.modules[i];
    if (m->functions[kind] != NULL && sm >= m->sm_first && sm <= m->sm_last) {
      return m->functions[kind];
    }
  }
  if (flashinfer.missing[0] != '\0') {
    fp4_refuse(reason, NVFP4_E_NOT_BUILT, "%s", flashinfer.missing);
  } else {
    fp4_refuse(reason, NVFP4_E_NOT_BUILT,
               "no module of NVFP4_FLASHINFER_MODULE has %s for compute capability %d.%d; add FlashInfer's %s.so", names[kind], sm / 10,
               sm % 10,
               kind == FLASHINFER_TRTLLM ? "trtllm_gemm"
               : sm >= 120               ? "fp4_gemm_cutlass_sm120"
               : sm == 103               ? "fp4_gemm_cutlass_sm103"
                                         : "fp4_gemm_cutlass");
  }
  return NULL;
}

/* ------------------------------------------------------------------------------------------------------------------- calling */

void flashinfer_matrix(flashinfer_tensor *out, void *data, int64_t rows, int64_t columns, ffi_dtype dtype, int ordinal) {
  bool vector = rows == 0;
  *out = (flashinfer_tensor){.tensor = {.data = data, .device = {FFI_DEVICE_CUDA, ordinal}, .dimensions = vector ? 1 : 2, .dtype = dtype},
                             .shape = {vector ? columns : rows, columns},
                             .strides = {vector ? 1 : columns, 1}};
  out->tensor.shape = out->shape;
  out->tensor.strides = out->strides;
}

ffi_any flashinfer_argument(flashinfer_tensor *tensor) { return (ffi_any){.type = FFI_TENSOR, .value.pointer = &tensor->tensor}; }

nvfp4_status flashinfer_call(ffi_function function, const char *name, const ffi_any *arguments, int32_t count, int ordinal, void *stream,
                             nvfp4_reason *reason) {
  void *before = NULL;
  ffi_any result = {.type = FFI_NONE};
  flashinfer.set_stream(FFI_DEVICE_CUDA, ordinal, stream, &before);
  int failed = function(NULL, arguments, count, &result);
  flashinfer.set_stream(FFI_DEVICE_CUDA, ordinal, before, NULL);
  if (failed == 0) {
    return NVFP4_OK;
  }
  void *object = NULL;
  flashinfer.move_error(&object);
  if (object == NULL) {
    return fp4_refuse(reason, NVFP4_E_DEVICE, "FlashInfer's %s failed and gave no reason", name);
  }
  const ffi_error *error = object;
  fp4_refuse(reason, NVFP4_E_DEVICE, "FlashInfer's %s: %.*s: %.*s", name, (int)error->kind.size, error->kind.data,
             error->message.size < 300 ? (int)error->message.size : 300, error->message.data);
  flashinfer.release(object);
  return NVFP4_E_DEVICE;
}
