/* SPDX-License-Identifier: Apache-2.0 */
// archs 13.0: sm_100f sm_110f
// archs 12.9: sm_100f
/* Device code of cuda_sm100_w4a4. sm_100f runs on compute capability 10.0 and 10.3, sm_110f on 11.0, which CUDA 12.9 had another name for. One kernel for all M: what differs is an argument. */
#include "kernels/cuda/sm100.cuh"

extern "C" __global__ void __launch_bounds__(CUDA_SM100_THREADS, 1)
    nvfp4_sm100_w4a4(const __grid_constant__ cuda_sm100_args a, const __grid_constant__ cuda_tensor_map weights, const __grid_constant__ cuda_tensor_map x) {
  sm100_tiles(a, weights, x);
}
