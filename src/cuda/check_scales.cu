/* SPDX-License-Identifier: Apache-2.0 */
/* Finds the first block scale that is NaN or negative: a byte that is 0x7F or above. */
#include "cuda/check_scales.h"

/* *first becomes the least row * blocks + block of such a byte. Threads along x have CUDA_CHECK_BYTES of a row each, thread blocks along y a row, and then every gridDim.y-th. */
extern "C" __global__ void nvfp4_check_scales(const unsigned char *scales, long long stride, long long rows, long long blocks,
                                              unsigned long long *first) {
  const long long begin = ((long long)blockIdx.x * blockDim.x + threadIdx.x) * CUDA_CHECK_BYTES;
  const long long end = min(begin + CUDA_CHECK_BYTES, blocks);
  for (long long row = blockIdx.y; row < rows; row += gridDim.y) {
    const unsigned char *from = scales + row * stride;
    if (begin + CUDA_CHECK_BYTES <= blocks && reinterpret_cast<unsigned long long>(from) % CUDA_CHECK_BYTES == 0) {
      const uint4 v = *reinterpret_cast<const uint4 *>(from + begin);
      const unsigned words[] = {v.x, v.y, v.z, v.w};
      unsigned wrong = 0;
      for (int i = 0; i < 4; i++) {
        wrong |= words[i] | ((words[i] & 0x7F7F7F7F) + 0x01010101); /* its top bits: of a byte from 0x80 on, or 0x7F */
      }
      if ((wrong & 0x80808080) == 0) {
        continue;
      }
    }
    for (long long block = begin; block < end; block++) {
      if (from[block] >= 0x7F) {
        atomicMin(first, (unsigned long long)(row * blocks + block));
        break;
      }
    }
  }
}
