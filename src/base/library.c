/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE /* RTLD_NODELETE */
#include "base/library.h"

#include <dlfcn.h>
#include <string.h>

#include "base/reason.h"

nvfp4_status nvfp4_library_open(const char *what, const char *const *names, const nvfp4_symbol *symbols, size_t count,
                                nvfp4_reason *reason) {
  void *library = NULL;
  for (; library == NULL && *names != NULL; names++) {
    library = dlopen(*names, RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
  }
  if (library == NULL) {
    const char *why = dlerror();
    return nvfp4_reject(reason, NVFP4_E_MACHINE, "no %s: %s", what, why != NULL ? why : "no reason given");
  }
  for (size_t i = 0; i < count; i++) {
    void *symbol = dlsym(library, symbols[i].name);
    if (symbol == NULL) {
      return nvfp4_reject(reason, NVFP4_E_MACHINE, "%s: it has no %s; needs a newer one", what, symbols[i].name);
    }
    memcpy(symbols[i].function, &symbol, sizeof symbol); /* POSIX: a function's address fits a void pointer */
  }
  return NVFP4_OK;
}
