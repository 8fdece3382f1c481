/* SPDX-License-Identifier: Apache-2.0 */
/* cuda_sm100_w4a4 over emulated tensor memory, as a plug-in for Hopper: host side and device code are the kernel's, but for what tcgen05.cuh has. */
#define nvfp4_fatbin_sm100_w4a4 nvfp4_fatbin_sm100_emulated
#include "kernels/cuda/sm100_w4a4.c"
#include "plugins/emulated.h"

static nvfp4_status is_supported_here(const nvfp4_machine *machine, nvfp4_reason *reason) {
  return cuda_is_supported(machine, 90, 90, reason);
}

const nvfp4_plugin *nvfp4_plugin_entry(const nvfp4_host *host, uint32_t abi_major, uint32_t abi_minor) {
  (void)host;
  (void)abi_major;
  (void)abi_minor;
  return emulated_plugin(&nvfp4_kernel_cuda_sm100_w4a4, "plugin_sm100_emulated_w4a4", is_supported_here);
}
