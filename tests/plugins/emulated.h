/* SPDX-License-Identifier: Apache-2.0 */
/* A kernel of the library as a plug-in's only one, under another id and for other machines: what emulates its instructions was compiled into it. */
#ifndef NVFP4_TESTS_EMULATED_H
#define NVFP4_TESTS_EMULATED_H

#include <nvfp4/kernel.h>

NVFP4_API const nvfp4_plugin *nvfp4_plugin_entry(const nvfp4_host *host, uint32_t abi_major, uint32_t abi_minor);

static inline const nvfp4_plugin *emulated_plugin(const nvfp4_kernel *original, const char *id,
                                                  nvfp4_status (*on_machine)(const nvfp4_machine *machine, nvfp4_reason *reason)) {
  static nvfp4_kernel emulated;
  static const nvfp4_kernel *const kernels[] = {&emulated};
  static const nvfp4_plugin plugin = {.struct_size = sizeof plugin,
                                      .abi_major = NVFP4_ABI_MAJOR,
                                      .abi_minor = NVFP4_ABI_MINOR,
                                      .name = "emulated",
                                      .version = "1",
                                      .kernel_count = 1,
                                      .kernels = kernels};
  emulated = *original;
  emulated.id = id;
  emulated.is_supported = on_machine;
  emulated.m_first = emulated.m_last = 0; /* any M: what checkkern can make more of */
  return &plugin;
}

#endif
