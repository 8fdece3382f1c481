/* SPDX-License-Identifier: Apache-2.0 */
/* Plug-ins: shared objects that bring kernels, opened by explicit path only. The contract is in include/nvfp4/kernel.h. */
#ifndef NVFP4_KERNELS_PLUGIN_H
#define NVFP4_KERNELS_PLUGIN_H

#include <nvfp4/kernel.h>

typedef struct nvfp4_open_plugin {
  void *handle;
  const nvfp4_plugin *plugin;
} nvfp4_open_plugin;

/* Opens the shared object at `path` (length bytes), asks for its kernels and checks them. Errors: NVFP4_E_IO if it cannot be loaded, NVFP4_E_UNSUPPORTED if it
 * has no entry, another ABI, or a kernel with missing parts. */
nvfp4_status nvfp4_plugin_open(const char *path, const nvfp4_host *host, nvfp4_open_plugin *out, nvfp4_reason *reason);
void nvfp4_plugin_close(nvfp4_open_plugin *plugin);

/* kernel->prepare, if the kernel has one: those of older plug-ins end before it. */
nvfp4_status nvfp4_kernel_prepare(const nvfp4_kernel *kernel, const nvfp4_host *host, const nvfp4_layer_desc *desc,
                                  const nvfp4_packed *packed, nvfp4_reason *reason);

/* Checks that a kernel has all its parts. */
nvfp4_status nvfp4_kernel_check(const nvfp4_kernel *kernel, nvfp4_reason *reason);

#endif
