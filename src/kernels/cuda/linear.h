/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cuda_linear, the packed layout of the emulation kernels: the canonical form in memory of the device.
 *
 *   data:  codes [n, k/2], then, at the next multiple of 256 bytes, scales [n, k/16]; no gaps between rows
 *
 * Also what kernels of this folder answer alike.
 */
#ifndef NVFP4_KERNELS_CUDA_LINEAR_H
#define NVFP4_KERNELS_CUDA_LINEAR_H

#include <nvfp4/kernel.h>

extern const nvfp4_layout nvfp4_layout_cuda_linear;

/* Codes and scales of packed weights. */
const uint8_t *cuda_linear_codes(const nvfp4_packed *packed);
const uint8_t *cuda_linear_scales(const nvfp4_packed *packed);

/* For is_supported: NVFP4_OK if the machine has a GPU of compute capability sm_first .. sm_last (80 for 8.0; sm_last 0: any later one). What runs FP4 MMAs: 100 .. 119
 * (tcgen05), 120 .. 129 (mma.sync). */
nvfp4_status cuda_is_supported(const nvfp4_machine *machine, int sm_first, int sm_last, nvfp4_reason *reason);

/* For is_supported of kernels whose code is for few GPUs and has no PTX: NVFP4_OK if the driver is for CUDA `least` (12080 for 12.8, the first that knows the GPU) and for the major version
 * of the compiler that made the code, or newer. NVIDIA promises no more: drivers of an older major version need not load it (CUDA Compatibility guide, "minor version compatibility"). */
nvfp4_status cuda_driver_is_supported(const nvfp4_machine *machine, int least, nvfp4_reason *reason);

#endif
