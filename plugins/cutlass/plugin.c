/* SPDX-License-Identifier: Apache-2.0 */
/*
 * plugin_cutlass_w4a4: NVIDIA's CUTLASS, one tile for each family of Blackwell GPUs (gemm.cu).
 *
 *   y[m,n] = alpha[n] * sum over blocks ( sx[m,b] * sw[n,b] * sum in the block ( x[m,k] * w[n,k] ) ) + bias[n]
 *   packed   as host->cuda_fp4, which other kernels of FP4 tensor cores read too
 *   y        bf16 rows that TMA can write (16 bytes, N a multiple of 8), with a bf16 bias or none: by CUTLASS's epilogue. Anything else: fp32 sums into the workspace, and host->cuda_finish; the same arithmetic
 */
#include <pthread.h>

#include "cutlass/gemm.h"
#include "fp4.h"

enum { SCRATCH_BYTES = 64 << 10 }; /* CUTLASS's own; this tile takes none */

typedef struct family {
  int sm_first, sm_last;
  cutlass_gemm bf16, f32;
} family;

static const family families[] = {
    {100, 103, cutlass_gemm_sm100_bf16, cutlass_gemm_sm100_f32},
    {120, 121, cutlass_gemm_sm120_bf16, cutlass_gemm_sm120_f32},
};

static const family *family_of(int sm) {
  for (size_t i = 0; i < sizeof families / sizeof families[0]; i++) {
    if (sm >= families[i].sm_first && sm <= families[i].sm_last) {
      return &families[i];
    }
  }
  return NULL;
}

static bool fits(int sm) { return family_of(sm) != NULL; }

static nvfp4_status is_supported(const nvfp4_machine *machine, nvfp4_reason *reason) {
  return fp4_find_gpu(machine, fits, "compute capability 10.0, 10.3, 12.0 or 12.1", reason) != NULL ? NVFP4_OK : NVFP4_E_MACHINE;
}

static nvfp4_status can_implement(const nvfp4_layer_desc *desc, nvfp4_reason *reason) {
  if (desc->n > INT32_MAX - FP4_ROWS || desc->k > INT32_MAX - FP4_K) {
    return fp4_refuse(reason, NVFP4_E_SHAPE, "N = %lld, K = %lld; CUTLASS counts in 32 bits: cut the layer", (long long)desc->n,
                      (long long)desc->k);
  }
  return NVFP4_OK;
}

static int64_t gemm_n(int64_t n) { return fp4_round_up(n, 8); }

static size_t workspace_bytes(const nvfp4_layer_desc *desc, int64_t m) {
  return fp4_workspace_bytes(m, desc->k, NVFP4_SCALES_128X4, SCRATCH_BYTES + m * gemm_n(desc->n) * (int64_t)sizeof(float));
}

static nvfp4_status apply_weights(const nvfp4_host *host, const nvfp4_packed *packed, const nvfp4_kernel_args *args, nvfp4_reason *reason) {
  int ordinal, sm;
  fp4_x x;
  nvfp4_status status = host->cuda_device(host->cookie, &ordinal, &sm, reason);
  if (status != NVFP4_OK) {
    return status;
  }
  const family *gpu = family_of(sm);
  if (gpu == NULL || args->m > INT32_MAX) { /* never into CUTLASS on another GPU */
    return fp4_refuse(reason, NVFP4_E_MACHINE, "compute capability %d.%d, M = %lld; CUTLASS has no tile for it", sm / 10, sm % 10,
                      (long long)args->m);
  }
  status = fp4_quantise(host, args, NVFP4_SCALES_128X4, &x, reason);
  if (status != NVFP4_OK) {
    return status;
  }
  const bool direct = args->y_dtype == NVFP4_DTYPE_BF16 && (args->bias == NULL || args->bias_dtype == NVFP4_DTYPE_BF16) &&
                      args->n % 8 == 0 && (uintptr_t)args->y % 16 == 0 && args->ldy_elems % 8 == 0;
  const int64_t n = gemm_n(args->n);
  cutlass_gemm_args gemm = {.m = args->m,
                            .n = n,
                            .k = fp4_round_up(args->k, FP4_K),
                            .x = x.codes,
                            .w = packed->data,
                            .x_scales = x.scales,
                            .w_scales = fp4_scales(packed),
                            .y = x.rest + SCRATCH_BYTES,
                            .ldy_elems = n,
                            .workspace = x.rest,
                            .workspace_bytes = SCRATCH_BYTES,
                            .stream = args->stream};
  if (direct) {
    gemm.alpha = args->alpha;
    gemm.bias = args->bias;
    gemm.y = args->y;
    gemm.ldy_elems = args->ldy_elems;
  }
  const char *wrong = (direct ? gpu->bf16 : gpu->f32)(&gemm);
  if (wrong != NULL) {
    return fp4_refuse(reason, NVFP4_E_DEVICE, "CUTLASS: %s (M = %lld, N = %lld, K = %lld)", wrong, (long long)gemm.m, (long long)gemm.n,
                      (long long)gemm.k);
  }
  return direct ? NVFP4_OK : host->cuda_finish(host->cookie, args, gemm.y, n, reason);
}

/* Its layout is the library's own constant: it comes with the host. */
static nvfp4_kernel kernel = {
    .struct_size = sizeof kernel,
    .id = "plugin_cutlass_w4a4",
    .summary = "NVIDIA's CUTLASS on Blackwell's FP4 tensor cores, one tile",
    .numerics = {NVFP4_MODE_W4A4, NVFP4_CLASS_BOUNDED, NVFP4_FLAG_DETERMINISTIC, "CUTLASS's 128 x 128 tile, K ascending, fp32"},
    .device = NVFP4_DEVICE_CUDA,
    .verified = "compiles; never executed by us",
    .is_supported = is_supported,
    .can_implement = can_implement,
    .workspace_bytes = workspace_bytes,
    .apply_weights = apply_weights,
};

NVFP4_API const nvfp4_plugin *nvfp4_plugin_entry(const nvfp4_host *host, uint32_t abi_major, uint32_t abi_minor);

const nvfp4_plugin *nvfp4_plugin_entry(const nvfp4_host *host, uint32_t abi_major, uint32_t abi_minor) {
  static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
  static const nvfp4_kernel *const kernels[] = {&kernel};
  static const nvfp4_plugin plugin = {.struct_size = sizeof plugin,
                                      .abi_major = NVFP4_ABI_MAJOR,
                                      .abi_minor = NVFP4_ABI_MINOR,
                                      .name = "cutlass",
                                      .version = "1",
                                      .kernel_count = 1,
                                      .kernels = kernels};
  if (abi_major != NVFP4_ABI_MAJOR || abi_minor < NVFP4_ABI_MINOR || host->struct_size < sizeof *host) {
    return NULL; /* it lacks what the kernel calls */
  }
  pthread_mutex_lock(&lock);
  if (kernel.layout == NULL) { /* once: another context may be reading */
    kernel.layout = host->cuda_fp4;
  }
  pthread_mutex_unlock(&lock);
  return &plugin;
}
