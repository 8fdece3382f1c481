/* SPDX-License-Identifier: Apache-2.0 */
#include "quantizer/blas.h"

#include <dlfcn.h>
#include <string.h>

#include "base/reason.h"

nvfp4_status nvfp4_blas_open(const char *library, nvfp4_blas *out, nvfp4_reason *reason) {
  const char *name = library != NULL ? library : "libopenblas.so.0";
  const struct {
    const char *name;
    void *pointer;
  } functions[] = {
      {"cblas_dgemm", &out->dgemm},
      {"dpotrf_", &out->dpotrf},
      {"dpotri_", &out->dpotri},
      {"openblas_get_num_threads", &out->get_threads},
      {"openblas_set_num_threads", &out->set_threads},
  };
  /* NODELETE: it has threads. */
  void *handle = dlopen(name, RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
  if (handle == NULL) {
    const char *text = dlerror();
    return nvfp4_reject(reason, NVFP4_E_UNSUPPORTED,
                        "GPTQ needs OpenBLAS with LAPACK: %s; install it (Debian: libopenblas0), or round to nearest",
                        text != NULL ? text : name);
  }
  nvfp4_status status = NVFP4_OK;
  for (size_t i = 0; i < sizeof functions / sizeof functions[0] && status == NVFP4_OK; i++) {
    void *function = dlsym(handle, functions[i].name);
    if (function == NULL) {
      status = nvfp4_reject(reason, NVFP4_E_UNSUPPORTED, "GPTQ needs OpenBLAS with LAPACK: %s has no %s; install it (Debian: libopenblas0)",
                            name, functions[i].name);
    }
    memcpy(functions[i].pointer, &function, sizeof function); /* POSIX: a function's address fits a void pointer */
  }
  dlclose(handle);
  return status;
}
