/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cuda_sm120_w4a4 as a plug-in whose device code has another MMA (sm120_emulated.cu), for GPUs from compute capability 9.0 on: checkkern proves everything else of the kernel on a GPU that lacks the
 * instruction.
 */
#define nvfp4_fatbin_sm120_w4a4 nvfp4_fatbin_sm120_emulated
#include "kernels/cuda/sm120_w4a4.c"

static nvfp4_status is_supported_here(const nvfp4_machine *machine, nvfp4_reason *reason) {
  return cuda_is_supported(machine, 90, 0, reason);
}

NVFP4_API const nvfp4_plugin *nvfp4_plugin_entry(const nvfp4_host *host, uint32_t abi_major, uint32_t abi_minor);

const nvfp4_plugin *nvfp4_plugin_entry(const nvfp4_host *host, uint32_t abi_major, uint32_t abi_minor) {
  (void)host;
  (void)abi_major;
  (void)abi_minor;
  static nvfp4_kernel emulated;
  static const nvfp4_kernel *const kernels[] = {&emulated};
  static const nvfp4_plugin plugin = {.struct_size = sizeof plugin,
                                      .abi_major = NVFP4_ABI_MAJOR,
                                      .abi_minor = NVFP4_ABI_MINOR,
                                      .name = "sm120_emulated",
                                      .version = "1",
                                      .kernel_count = 1,
                                      .kernels = kernels};
  emulated = nvfp4_kernel_cuda_sm120_w4a4;
  emulated.id = "plugin_sm120_emulated_w4a4";
  emulated.is_supported = is_supported_here;
  return &plugin;
}
