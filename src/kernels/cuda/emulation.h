/* SPDX-License-Identifier: Apache-2.0 */
/* The host side that the two emulation kernels share. */
#ifndef NVFP4_KERNELS_CUDA_EMULATION_H
#define NVFP4_KERNELS_CUDA_EMULATION_H

#include <nvfp4/kernel.h>

#include "cuda/cuda.h"
#include "kernels/cuda/arguments.h"

/* Any GPU that can run the code: compute capability 8.0. */
nvfp4_status cuda_emulation_is_supported(const nvfp4_machine *machine, nvfp4_reason *reason);
nvfp4_status cuda_emulation_can_implement(const nvfp4_layer_desc *desc, nvfp4_reason *reason);

/* The arguments that do not depend on the mode. */
cuda_emulation_args cuda_emulation_arguments(const nvfp4_packed *packed, const nvfp4_kernel_args *args);

/* Launches few (16 rows a thread block) or many (64), by a->m. */
nvfp4_status cuda_emulation_launch(const nvfp4_host *host, const nvfp4_cuda_kernel *few, const nvfp4_cuda_kernel *many,
                                   cuda_emulation_args *a, void *stream, nvfp4_reason *reason);

#endif
