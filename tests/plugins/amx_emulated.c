/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An AMX kernel over emulated tiles, as a plug-in: everything but the hardware, for any processor with AVX-512. Compiled once a kernel, with NVFP4_EMULATE_AMX and
 *   EMULATED_SOURCE   its file
 *   EMULATED_KERNEL   its constant
 *   EMULATED_ID       the id that it has here
 * It serves any M, unlike the kernel, since that is what checkkern can make more of.
 */
#include EMULATED_SOURCE

static nvfp4_status is_supported_here(const nvfp4_machine *machine, nvfp4_reason *reason) {
  return avx512_is_supported(machine, NVFP4_ISA_AVX512F | NVFP4_ISA_AVX512BW | NVFP4_ISA_AVX512VL | NVFP4_ISA_AVX512DQ, reason);
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
                                      .name = "emulated",
                                      .version = "1",
                                      .kernel_count = 1,
                                      .kernels = kernels};
  emulated = EMULATED_KERNEL;
  emulated.id = EMULATED_ID;
  emulated.is_supported = is_supported_here;
  emulated.m_first = emulated.m_last = 0;
  return &plugin;
}
