/* SPDX-License-Identifier: Apache-2.0 */
/* The activation quantiser on the device, for the W4A4 kernels of this folder. Codes and scales are those of src/format/activation.c, bit for bit. */
#ifndef NVFP4_KERNELS_CUDA_QUANTISE_H
#define NVFP4_KERNELS_CUDA_QUANTISE_H

#include <nvfp4/kernel.h>

/* Enqueues on args->stream: x, or what came quantised in any scale layout -> codes [m, k_padded/2] without gaps, and scales in `layout`, nvfp4_scales_bytes(layout, m, k_padded/16)
 * bytes; all that is beyond m and k becomes zero. k_padded: k, or a larger multiple of 16. codes: a multiple of 8. */
nvfp4_status cuda_quantise(const nvfp4_host *host, const nvfp4_kernel_args *args, int64_t k_padded, nvfp4_scale_layout layout,
                           uint8_t *codes, uint8_t *scales, nvfp4_reason *reason);

/*
 * The same, codes times scales as bf16 [m, k] without gaps, exactly; values: a multiple of 16. For compute capability 9.0 alone: the kernel begins while the ones before it end, and lets those after
 * it begin (griddepcontrol, which code for earlier GPUs lacks).
 */
nvfp4_status cuda_sm90_quantise_to_bf16(const nvfp4_host *host, const nvfp4_kernel_args *args, uint16_t *values, nvfp4_reason *reason);

#endif
