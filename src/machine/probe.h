/* SPDX-License-Identifier: Apache-2.0 */
/* The parts of nvfp4_machine_probe(). Each fills its own fields of *out, which is zero before; none fails. */
#ifndef NVFP4_MACHINE_PROBE_H
#define NVFP4_MACHINE_PROBE_H

#include <nvfp4/nvfp4.h>

/* arch, isa and cpu of the processor that this was compiled for; does nothing on the other. */
void nvfp4_probe_x86(nvfp4_machine *out);
void nvfp4_probe_arm(nvfp4_machine *out);

/* cuda_missing, or cuda_driver and the GPUs. */
void nvfp4_probe_cuda(nvfp4_machine *out);

/* The same through another library than libcuda.so.1, for tests. */
void nvfp4_probe_cuda_library(const char *library, nvfp4_machine *out);

#endif
