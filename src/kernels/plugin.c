/* SPDX-License-Identifier: Apache-2.0 */
#include "kernels/plugin.h"

#include <dlfcn.h>
#include <string.h>

#include "base/reason.h"

/* nvfp4_kernel of minor 0 and 1 */
#define LEAST_KERNEL_BYTES offsetof(nvfp4_kernel, prepare)

nvfp4_status nvfp4_kernel_prepare(const nvfp4_kernel *kernel, const nvfp4_host *host, const nvfp4_layer_desc *desc,
                                  const nvfp4_packed *packed, nvfp4_reason *reason) {
  return kernel->struct_size > LEAST_KERNEL_BYTES && kernel->prepare != NULL ? kernel->prepare(host, desc, packed, reason) : NVFP4_OK;
}

nvfp4_status nvfp4_kernel_check(const nvfp4_kernel *kernel, nvfp4_reason *reason) {
  if (kernel == NULL || kernel->struct_size < LEAST_KERNEL_BYTES || kernel->id == NULL || kernel->id[0] == '\0') {
    return nvfp4_reject(reason, NVFP4_E_UNSUPPORTED, "a kernel has no id or a struct_size below %zu; rebuild it with this kernel.h",
                        LEAST_KERNEL_BYTES);
  }
  const nvfp4_layout *layout = kernel->layout;
  if (kernel->summary == NULL || kernel->verified == NULL || kernel->numerics.order == NULL || kernel->is_supported == NULL ||
      kernel->can_implement == NULL || kernel->workspace_bytes == NULL || kernel->apply_weights == NULL) {
    return nvfp4_reject(reason, NVFP4_E_UNSUPPORTED, "kernel %s lacks a text or a function; fill every member of nvfp4_kernel", kernel->id);
  }
  if (layout == NULL || layout->struct_size < sizeof(nvfp4_layout) || layout->name == NULL || layout->packed_bytes == NULL ||
      layout->process_weights_after_loading == NULL || layout->unpack == NULL || layout->free_packed == NULL) {
    return nvfp4_reject(reason, NVFP4_E_UNSUPPORTED, "kernel %s has no complete layout; fill every member of nvfp4_layout", kernel->id);
  }
  nvfp4_mode mode = kernel->numerics.mode;
  if (mode != NVFP4_MODE_W4A4 && mode != NVFP4_MODE_W4A16 && mode != NVFP4_MODE_UNQUANTISED) {
    return nvfp4_reject(reason, NVFP4_E_UNSUPPORTED, "kernel %s computes mode %d; needs W4A4, W4A16 or UNQUANTISED", kernel->id, (int)mode);
  }
  return NVFP4_OK;
}

nvfp4_status nvfp4_plugin_open(const char *path, const nvfp4_host *host, nvfp4_open_plugin *out, nvfp4_reason *reason) {
  void *handle = dlopen(path, RTLD_NOW | RTLD_LOCAL);
  if (handle == NULL) {
    const char *why = dlerror();
    return nvfp4_reject(reason, NVFP4_E_IO, "plug-in %s cannot be loaded: %s", path, why != NULL ? why : "no reason given");
  }
  nvfp4_plugin_entry_fn entry;
  void *symbol = dlsym(handle, NVFP4_PLUGIN_ENTRY);
  memcpy(&entry, &symbol, sizeof entry); /* ISO C has no cast from an object pointer to a function pointer */
  nvfp4_status status = NVFP4_OK;
  const nvfp4_plugin *plugin = entry != NULL ? entry(host, NVFP4_ABI_MAJOR, NVFP4_ABI_MINOR) : NULL;
  if (entry == NULL) {
    status = nvfp4_reject(reason, NVFP4_E_UNSUPPORTED, "plug-in %s has no symbol %s; it is not a plug-in of this library", path,
                          NVFP4_PLUGIN_ENTRY);
  } else if (plugin == NULL) {
    status = nvfp4_reject(reason, NVFP4_E_UNSUPPORTED, "plug-in %s refuses this library's ABI %d.%d; rebuild it", path, NVFP4_ABI_MAJOR,
                          NVFP4_ABI_MINOR);
  } else if (plugin->struct_size < sizeof(nvfp4_plugin) || plugin->abi_major != NVFP4_ABI_MAJOR || plugin->name == NULL ||
             (plugin->kernel_count > 0 && plugin->kernels == NULL)) {
    status = nvfp4_reject(reason, NVFP4_E_UNSUPPORTED, "plug-in %s has ABI %u.%u; needs %d.x: rebuild it with this kernel.h", path,
                          plugin->abi_major, plugin->abi_minor, NVFP4_ABI_MAJOR);
  }
  for (size_t i = 0; status == NVFP4_OK && i < plugin->kernel_count; i++) {
    status = nvfp4_kernel_check(plugin->kernels[i], reason);
    if (status != NVFP4_OK) {
      nvfp4_reason_prefix(reason, status, "plug-in %s: ", path);
    }
  }
  if (status != NVFP4_OK) {
    dlclose(handle);
    return status;
  }
  *out = (nvfp4_open_plugin){handle, plugin};
  return NVFP4_OK;
}

void nvfp4_plugin_close(nvfp4_open_plugin *plugin) {
  if (plugin->handle != NULL) {
    dlclose(plugin->handle);
    *plugin = (nvfp4_open_plugin){NULL, NULL};
  }
}
