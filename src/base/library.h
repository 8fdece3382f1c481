/* SPDX-License-Identifier: Apache-2.0 */
/* Libraries that are opened when they are wanted, so that nothing needs them to be installed. */
#ifndef NVFP4_BASE_LIBRARY_H
#define NVFP4_BASE_LIBRARY_H

#include <nvfp4/nvfp4.h>

typedef struct nvfp4_symbol {
  const char *name;
  void *function; /* the address of a function pointer */
} nvfp4_symbol;

/*
 * Opens the first of the `names` (ends with NULL) that is there and fills the function pointers. It stays in the process: libraries with threads and a C++ runtime are not made to be unloaded.
 * NVFP4_E_MACHINE, with `what` ("cuBLAS") in the words: none of them is there, or it lacks a function.
 */
nvfp4_status nvfp4_library_open(const char *what, const char *const *names, const nvfp4_symbol *symbols, size_t count,
                                nvfp4_reason *reason);

#endif
