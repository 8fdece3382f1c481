/* SPDX-License-Identifier: Apache-2.0 */
/* The built-in kernels, from kernels.def, and those this build lacks; and the kernels of our plug-ins, from plugins.def. */
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

typedef struct nvfp4_plugin_entry {
  const char *id;
  const char *missing; /* what to do where its plug-in is not given */
} nvfp4_plugin_entry;

/* Every line of plugins.def, in its order. */
const nvfp4_plugin_entry *nvfp4_plugin_kernels(size_t *count);

#endif
