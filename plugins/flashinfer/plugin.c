/* SPDX-License-Identifier: Apache-2.0 */
/*
 * NVFP4 GEMMs of FlashInfer, called in modules that FlashInfer has compiled (modules.h):
 *
 *   plugin_flashinfer_cutlass_w4a4   fp4_gemm: CUTLASS; weights as host->cuda_fp4, bf16 or f16 y
 *   plugin_flashinfer_trtllm_w4a4    trtllm_gemm: TensorRT-LLM's kernels; shuffled weights (trtllm_layout.h), bf16 y
 *
 *   y[m,n] = alpha * sum over blocks ( sx[m,b] * sw[n,b] * sum in the block ( x[m,k] * w[n,k] ) )
 *
 * One alpha for all rows, no bias, y rounded once to 16 bits: what else a layer needs would have to be done on the rounded y, and is refused. Where y is not of whole rows as the module writes them, it goes through the
 * workspace. The modules choose among their kernels by M, so that a row's bits may depend on the batch.
 *
 * FlashInfer's third way, cuDNN, is a graph that it makes in Python: there is no module to call, and vendor_cudnn_w4a4 makes the same graph.
 */
#include <pthread.h>

#include "flashinfer/modules.h"
#include "flashinfer/trtllm_layout.h"

enum { WORKSPACE_BYTES = 40 << 20 }; /* what FlashInfer itself gives its GEMMs; where they want more they allocate */

static const ffi_dtype u8 = {FFI_UINT, 8, 1}, f32 = {FFI_FLOAT, 32, 1}, bf16 = {FFI_BFLOAT, 16, 1}, f16 = {FFI_FLOAT, 16, 1};

/* ------------------------------------------------------------------------------------------------------------------- refusals */

static bool fits_cutlass(int sm) { return sm == 100 || sm == 103 || sm == 110 || sm == 120 || sm == 121; }
static bool fits_trtllm(int sm) { return sm == 100 || sm == 103; }

/* The GPU first: a module for another one is none, and must not be called. */
static nvfp4_status is_supported_cutlass(const nvfp4_machine *machine, nvfp4_reason *reason) {
  const nvfp4_gpu *gpu = fp4_find_gpu(machine, fits_cutlass, "compute capability 10.0, 10.3, 11.0, 12.0 or 12.1", reason);
  return gpu == NULL ? NVFP4_E_MACHINE : flashinfer_find(FLASHINFER_CUTLASS, gpu->sm, reason) != NULL ? NVFP4_OK : NVFP4_E_NOT_BUILT;
}

static nvfp4_status is_supported_trtllm(const nvfp4_machine *machine, nvfp4_reason *reason) {
  const nvfp4_gpu *gpu = fp4_find_gpu(machine, fits_trtllm, "compute capability 10.0 or 10.3", reason);
  return gpu == NULL ? NVFP4_E_MACHINE : flashinfer_find(FLASHINFER_TRTLLM, gpu->sm, reason) != NULL ? NVFP4_OK : NVFP4_E_NOT_BUILT;
}

/* Rows with one input global are packed together; they must have one alpha. */
static nvfp4_status check_alpha(const nvfp4_layer_desc *desc, nvfp4_reason *reason) {
  for (int64_t i = 1; i < desc->partition_count; i++) {
    const nvfp4_partition *a = &desc->partitions[i - 1], *b = &desc->partitions[i];
    bool together = a->input.value == b->input.value && a->input.kind == b->input.kind;
    if (together && (a->weight.value != b->weight.value || a->weight.kind != b->weight.kind)) {
      return fp4_refuse(
          reason, NVFP4_E_UNSUPPORTED,
          "partitions %lld and %lld of the layer have weight globals %g and %g; FlashInfer takes one alpha for all rows: take "
          "a kernel of the registry",
          (long long)i - 1, (long long)i, (double)a->weight.value, (double)b->weight.value);
    }
  }
  return NVFP4_OK;
}

static nvfp4_status can_implement(const nvfp4_layer_desc *desc, bool takes_f16, nvfp4_reason *reason) {
  if (desc->y_dtype != NVFP4_DTYPE_BF16 && !(takes_f16 && desc->y_dtype == NVFP4_DTYPE_F16)) {
    return fp4_refuse(reason, NVFP4_E_DTYPE, "y is %s; FlashInfer writes bf16%s: take that, or a kernel of the registry",
                      desc->y_dtype == NVFP4_DTYPE_F32 ? "f32" : "f16", takes_f16 ? " or f16" : "");
  }
  if (desc->bias_dtype != NVFP4_DTYPE_NONE) {
    return fp4_refuse(reason, NVFP4_E_UNSUPPORTED,
                      "the layer has a bias, which FlashInfer does not add: take a kernel of the registry, or add it to y");
  }
  return check_alpha(desc, reason);
}

static nvfp4_status can_implement_cutlass(const nvfp4_layer_desc *desc, nvfp4_reason *reason) { return can_implement(desc, true, reason); }
static nvfp4_status can_implement_trtllm(const nvfp4_layer_desc *desc, nvfp4_reason *reason) { return can_implement(desc, false, reason); }

/* ----------------------------------------------------------------------------------------------------------------------- GEMMs */

/* THE place that decides how x's scales lie for trtllm_gemm. Its kernels for few rows read tiles of 8 x 4; vLLM and FlashInfer draw the line at 32. */
static nvfp4_scale_layout scale_layout(flashinfer_kind kind, int64_t m) {
  return kind == FLASHINFER_TRTLLM && m <= 32 ? NVFP4_SCALES_8X4 : NVFP4_SCALES_128X4;
}

/* Rows of weights that the module is told of: multiples of what it wants. Those beyond N are zero, and their columns of y are left behind. */
static int64_t module_n(flashinfer_kind kind, int64_t n) { return fp4_round_up(n, kind == FLASHINFER_TRTLLM ? FP4_ROWS : 32); }

static int64_t y_bytes(flashinfer_kind kind, int64_t m, int64_t n) { return fp4_round_up(m * module_n(kind, n) * 2, FP4_ALIGNMENT); }

static size_t workspace_bytes(flashinfer_kind kind, const nvfp4_layer_desc *desc, int64_t m) {
  return fp4_workspace_bytes(m, desc->k, scale_layout(kind, m), y_bytes(kind, m, desc->n) + WORKSPACE_BYTES);
}

static size_t workspace_bytes_cutlass(const nvfp4_layer_desc *desc, int64_t m) { return workspace_bytes(FLASHINFER_CUTLASS, desc, m); }
static size_t workspace_bytes_trtllm(const nvfp4_layer_desc *desc, int64_t m) { return workspace_bytes(FLASHINFER_TRTLLM, desc, m); }

static nvfp4_status apply(flashinfer_kind kind, const nvfp4_host *host, const nvfp4_packed *packed, const nvfp4_kernel_args *args,
                          nvfp4_reason *reason) {
  const int64_t n = module_n(kind, args->n), k = fp4_round_up(args->k, FP4_K), rows = fp4_round_up(args->n, FP4_ROWS);
  const nvfp4_scale_layout layout = scale_layout(kind, args->m);
  int ordinal, sm;
  fp4_x x;
  nvfp4_status status = host->cuda_device(host->cookie, &ordinal, &sm, reason);
  ffi_function function = status == NVFP4_OK ? flashinfer_find(kind, sm, reason) : NULL;
  if (function == NULL) {
    return status != NVFP4_OK ? status : NVFP4_E_NOT_BUILT;
  }
  if (packed->private_elems[0] != 1) {
    return fp4_refuse(reason, NVFP4_E_UNSUPPORTED, "the rows of the layer have different alphas; FlashInfer takes one");
  }
  status = fp4_quantise(host, args, layout, &x, reason);
  if (status != NVFP4_OK) {
    return status;
  }
  bool direct = args->n == n && args->ldy_elems == n && (uintptr_t)args->y % 16 == 0;
  void *y = direct ? args->y : x.rest;
  void *scratch = x.rest + y_bytes(kind, args->m, args->n);
  flashinfer_tensor tx, tw, tx_scales, tw_scales, talpha, ty, tscratch;
  flashinfer_matrix(&tx, x.codes, args->m, k / 2, u8, ordinal);
  flashinfer_matrix(&tw, packed->data, n, k / 2, u8, ordinal);
  flashinfer_matrix(&tx_scales, x.scales, 0, x.scales_bytes, u8, ordinal);
  flashinfer_matrix(&tw_scales, (void *)(uintptr_t)fp4_scales(packed), 0, rows * (k / NVFP4_BLOCK), u8, ordinal);
  flashinfer_matrix(&talpha, (void *)(uintptr_t)args->alpha, 0, 1, f32, ordinal);
  flashinfer_matrix(&ty, y, args->m, n, args->y_dtype == NVFP4_DTYPE_BF16 ? bf16 : f16, ordinal);
  flashinfer_matrix(&tscratch, scratch, 0, WORKSPACE_BYTES, u8, ordinal);
  const ffi_any own_choice = {.type = FFI_INT, .value.integer = -1}; /* of a kernel: the module's */
  if (kind == FLASHINFER_CUTLASS) {
    const ffi_any arguments[] = {
        flashinfer_argument(&tx),     flashinfer_argument(&tw), flashinfer_argument(&tx_scales), flashinfer_argument(&tw_scales),
        flashinfer_argument(&talpha), flashinfer_argument(&ty), flashinfer_argument(&tscratch),  own_choice};
    status = flashinfer_call(function, "fp4_gemm", arguments, 8, ordinal, args->stream, reason);
  } else {
    /* trtllm::gen::Dtype: block format << 24 | signed << 20 | bits << 8 | number */
    const ffi_any e2m1 = {.type = FFI_INT, .value.integer = 1 << 24 | 1 << 20 | 4 << 8 | 2};
    const ffi_any bfloat16 = {.type = FFI_INT, .value.integer = 1 << 20 | 16 << 8};
    const ffi_any use_8x4 = {.type = FFI_BOOL, .value.integer = layout == NVFP4_SCALES_8X4};
    const ffi_any arguments[] = {e2m1,
                                 bfloat16,
                                 flashinfer_argument(&tscratch),
                                 flashinfer_argument(&tx),
                                 flashinfer_argument(&tw),
                                 flashinfer_argument(&tx_scales),
                                 flashinfer_argument(&tw_scales),
                                 flashinfer_argument(&talpha),
                                 flashinfer_argument(&ty),
                                 use_8x4,
                                 own_choice};
    status = flashinfer_call(function, "trtllm_gemm", arguments, 11, ordinal, args->stream, reason);
  }
  if (status == NVFP4_OK && !direct) {
    status = host->cuda_copy(host->cookie, args->y, (size_t)args->ldy_elems * 2, y, (size_t)n * 2, (size_t)args->n * 2, (size_t)args->m,
                             args->stream, reason);
  }
  return status;
}

static nvfp4_status apply_cutlass(const nvfp4_host *host, const nvfp4_packed *packed, const nvfp4_kernel_args *args, nvfp4_reason *reason) {
  return apply(FLASHINFER_CUTLASS, host, packed, args, reason);
}
static nvfp4_status apply_trtllm(const nvfp4_host *host, const nvfp4_packed *packed, const nvfp4_kernel_args *args, nvfp4_reason *reason) {
  return apply(FLASHINFER_TRTLLM, host, packed, args, reason);
}

/* --------------------------------------------------------------------------------------------------------------------- entry */

#define NEVER "called in a mock of the module alone; never executed by us on a GPU"

static const nvfp4_kernel trtllm = {
    .struct_size = sizeof trtllm,
    .id = "plugin_flashinfer_trtllm_w4a4",
    .summary = "FlashInfer's trtllm_gemm: TensorRT-LLM's FP4 kernels for Blackwell's data-centre GPUs",
    .layout = &flashinfer_layout_trtllm,
    .numerics = {NVFP4_MODE_W4A4, NVFP4_CLASS_BOUNDED, NVFP4_FLAG_DETERMINISTIC, "TensorRT-LLM's, by its choice of a kernel"},
    .device = NVFP4_DEVICE_CUDA,
    .verified = NEVER,
    .is_supported = is_supported_trtllm,
    .can_implement = can_implement_trtllm,
    .workspace_bytes = workspace_bytes_trtllm,
    .apply_weights = apply_trtllm,
};

/* Its layout is the library's own constant, so that other kernels of FP4 tensor cores read the same weights: it comes with the host. */
static nvfp4_kernel cutlass = {
    .struct_size = sizeof cutlass,
    .id = "plugin_flashinfer_cutlass_w4a4",
    .summary = "FlashInfer's fp4_gemm: CUTLASS's FP4 kernels for Blackwell",
    .numerics = {NVFP4_MODE_W4A4, NVFP4_CLASS_BOUNDED, NVFP4_FLAG_DETERMINISTIC, "CUTLASS's, by FlashInfer's choice of a tile"},
    .device = NVFP4_DEVICE_CUDA,
    .verified = NEVER,
    .is_supported = is_supported_cutlass,
    .can_implement = can_implement_cutlass,
    .workspace_bytes = workspace_bytes_cutlass,
    .apply_weights = apply_cutlass,
};

NVFP4_API const nvfp4_plugin *nvfp4_plugin_entry(const nvfp4_host *host, uint32_t abi_major, uint32_t abi_minor);

const nvfp4_plugin *nvfp4_plugin_entry(const nvfp4_host *host, uint32_t abi_major, uint32_t abi_minor) {
  static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
  static const nvfp4_kernel *const kernels[] = {&trtllm, &cutlass};
  static const nvfp4_plugin plugin = {.struct_size = sizeof plugin,
                                      .abi_major = NVFP4_ABI_MAJOR,
                                      .abi_minor = NVFP4_ABI_MINOR,
                                      .name = "flashinfer",
                                      .version = "1",
                                      .kernel_count = 2,
                                      .kernels = kernels};
  if (abi_major != NVFP4_ABI_MAJOR || abi_minor < NVFP4_ABI_MINOR || host->struct_size < sizeof *host) {
    return NULL; /* it lacks what the kernels call */
  }
  pthread_mutex_lock(&lock);
  if (cutlass.layout == NULL) { /* once: another context may be reading */
    cutlass.layout = host->cuda_fp4;
    flashinfer_layout_trtllm_base(host->cuda_fp4);
  }
  pthread_mutex_unlock(&lock);
  flashinfer_open();
  return &plugin;
}
