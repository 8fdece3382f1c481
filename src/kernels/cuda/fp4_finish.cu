/* SPDX-License-Identifier: Apache-2.0 */
/* What follows the sum: alpha, bias, one rounding, as docs/numerics.md has it. A thread an element; a thread block CUDA_FP4_FINISH_COLUMNS columns of a row. */
#include "kernels/cuda/arguments.h"
#include "kernels/cuda/format.cuh"

extern "C" __global__ void __launch_bounds__(CUDA_FP4_FINISH_COLUMNS) nvfp4_fp4_finish(const cuda_fp4_finish_args a) {
  const unsigned across = (unsigned)((a.n + CUDA_FP4_FINISH_COLUMNS - 1) / CUDA_FP4_FINISH_COLUMNS);
  const long long m = blockIdx.x / across, n = (long long)(blockIdx.x % across) * CUDA_FP4_FINISH_COLUMNS + threadIdx.x;
  if (n < a.n) {
    const float acc = a.acc[m * a.ld_acc_elems + n], alpha = a.alpha[n];
    const float v = a.bias != nullptr ? __fmaf_rn(alpha, acc, load_f32(a.bias, a.bias_dtype, n)) : __fmul_rn(alpha, acc);
    store_f32(a.y, a.y_dtype, m * a.ldy_elems + n, v);
  }
}
