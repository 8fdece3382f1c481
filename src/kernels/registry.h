/* SPDX-License-Identifier: Apache-2.0 */
/* The built-in kernels, from kernels.def, and those this build lacks. */
#ifndef NVFP4_KERNELS_REGISTRY_H
#define NVFP4_KERNELS_REGISTRY_H

#include <nvfp4/kernel.h>

typedef struct nvfp4_registry_entry {
  const char *id;
  const nvfp4_kernel *kernel; /* NULL: not in this build */
  const char *not_built;      /* why, if kernel is NULL */
} nvfp4_registry_entry;

/* Every line of kernels.def, in its order. */
const nvfp4_registry_entry *nvfp4_registry(size_t *count);

#endif
