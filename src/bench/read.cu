/* SPDX-License-Identifier: Apache-2.0 */
/* Reads a buffer at the speed of the memory: 16 bytes a thread and load, four loads at once. */

/* words: of 16 bytes, a multiple of 4 * gridDim.x * blockDim.x. *sink is written if the sum is one that it never is. */
extern "C" __global__ void __launch_bounds__(512) nvfp4_read(const uint4 *buffer, long long words, unsigned *sink) {
  long long step = (long long)gridDim.x * blockDim.x;
  unsigned sum = 0;
  for (long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x; i < words; i += 4 * step) {
#pragma unroll
    for (int j = 0; j < 4; j++) {
      uint4 word = __ldcs(buffer + i + j * step);
      sum += word.x ^ word.y ^ word.z ^ word.w;
    }
  }
  if (sum == 0x12345678u) {
    *sink = sum;
  }
}
