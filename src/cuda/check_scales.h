/* SPDX-License-Identifier: Apache-2.0 */
/* Between check_scales.cu and who launches it. */
#ifndef NVFP4_CUDA_CHECK_SCALES_H
#define NVFP4_CUDA_CHECK_SCALES_H

enum { CUDA_CHECK_BYTES = 16 }; /* of a row, for a thread */

#endif
