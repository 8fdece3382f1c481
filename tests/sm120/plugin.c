/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cuda_sm120_w4a4 as a plug-in whose device code has another MMA (sm120_emulated.cu), for GPUs from compute capability 9.0 on: checkkern proves everything else of the kernel on a GPU that lacks the
 * instruction.
 */
#define nvfp4_fatbin_sm120_w4a4 nvfp4_fatbin_sm120_emulated
#include "kernels/cuda/sm120_w4a4.c"
#include "plugins/emulated.h"

static nvfp4_status is_supported_here(const nvfp4_machine *machine, nvfp4_reason *reason) {
  return cuda_is_supported(machine, 90, 0, reason);
}

const nvfp4_plugin *nvfp4_plugin_entry(const nvfp4_host *host, uint32_t abi_major, uint32_t abi_minor) {
  (void)host;
  (void)abi_major;
  (void)abi_minor;
  return emulated_plugin(&nvfp4_kernel_cuda_sm120_w4a4, "plugin_sm120_emulated_w4a4", is_supported_here);
}
