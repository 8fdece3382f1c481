/* SPDX-License-Identifier: Apache-2.0 */
/* Finds the first block scale that is NaN or negative. */

/* *first becomes the least row * blocks + block of a byte that is 0x7F or above. */
extern "C" __global__ void nvfp4_check_scales(const unsigned char *scales, long long stride, long long rows, long long blocks,
                                              unsigned long long *first) {
  long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x;
  if (i < rows * blocks && scales[i / blocks * stride + i % blocks] >= 0x7F) {
    atomicMin(first, (unsigned long long)i);
  }
}
