/* SPDX-License-Identifier: Apache-2.0 */
#include "kernels/registry.h"

#define NVFP4_KERNEL_BUILT(id) extern const nvfp4_kernel nvfp4_kernel_##id;
#define NVFP4_KERNEL_NOT_BUILT(id, why)
#include "kernels_built.def"
#undef NVFP4_KERNEL_BUILT
#undef NVFP4_KERNEL_NOT_BUILT

static const nvfp4_registry_entry registry[] = {
#define NVFP4_KERNEL_BUILT(id) {#id, &nvfp4_kernel_##id, NULL},
#define NVFP4_KERNEL_NOT_BUILT(id, why) {#id, NULL, "not built: " why},
#include "kernels_built.def"
};

const nvfp4_registry_entry *nvfp4_registry(size_t *count) {
  *count = sizeof registry / sizeof registry[0];
  return registry;
}

static const nvfp4_plugin_entry plugin_kernels[] = {
#define NVFP4_PLUGIN_KERNEL(id, missing) {#id, missing},
#include "kernels/plugins.def"
};

const nvfp4_plugin_entry *nvfp4_plugin_kernels(size_t *count) {
  *count = sizeof plugin_kernels / sizeof plugin_kernels[0];
  return plugin_kernels;
}
