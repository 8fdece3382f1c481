/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An AMX kernel over emulated tiles, as a plug-in: everything but the hardware, for any processor with AVX-512. Compiled once a kernel, with
 *   EMULATED_SOURCE   its file
 *   EMULATED_KERNEL   its constant
 *   EMULATED_ID       the id that it has here
 * It serves any M, unlike the kernel, since that is what checkkern can make more of.
 */
#include "plugins/amx_emulated.h"

#include EMULATED_SOURCE
#include "plugins/emulated.h"

static nvfp4_status is_supported_here(const nvfp4_machine *machine, nvfp4_reason *reason) {
  return avx512_is_supported(machine, NVFP4_ISA_AVX512F | NVFP4_ISA_AVX512BW | NVFP4_ISA_AVX512VL | NVFP4_ISA_AVX512DQ, reason);
}

const nvfp4_plugin *nvfp4_plugin_entry(const nvfp4_host *host, uint32_t abi_major, uint32_t abi_minor) {
  (void)host;
  (void)abi_major;
  (void)abi_minor;
  return emulated_plugin(&EMULATED_KERNEL, EMULATED_ID, is_supported_here);
}
