/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Asks each vendor's library for an NVFP4 product on device cuda:0, whatever the GPU is, and prints what it says. On a GPU without FP4 tensor cores that must be a refusal, which selection never gets
 * to hear: is_supported says no before any library is opened. Exit codes: 0 asked, 2 there is no GPU or a library failed otherwise.
 */
#include <stdio.h>

#include "kernels/plugin.h"
#include "layer/context.h"
#include "layer/place.h"

extern const nvfp4_kernel nvfp4_kernel_vendor_cublaslt_w4a4, nvfp4_kernel_vendor_cudnn_w4a4;

enum { N = 256, K = 512 };

static int ask(const nvfp4_host *host, const nvfp4_visit *visit, const nvfp4_kernel *kernel) {
  static const uint8_t codes[N * K / 2], scales[N * K / NVFP4_BLOCK];
  const nvfp4_layer_desc desc = {.struct_size = sizeof desc,
                                 .n = N,
                                 .k = K,
                                 .m_first = 1,
                                 .m_last = 16,
                                 .mode = NVFP4_MODE_W4A4,
                                 .x_dtype = NVFP4_DTYPE_BF16,
                                 .y_dtype = NVFP4_DTYPE_BF16,
                                 .device = {NVFP4_DEVICE_CUDA, 0}};
  const nvfp4_weights weights = {.struct_size = sizeof weights,
                                 .n = N,
                                 .k = K,
                                 .codes = codes,
                                 .codes_stride_bytes = K / 2,
                                 .scales = scales,
                                 .scales_stride_bytes = K / NVFP4_BLOCK};
  nvfp4_weights there;
  void *uploaded = NULL;
  nvfp4_packed packed = {.struct_size = sizeof packed};
  nvfp4_reason reason = {.text = "yes"};
  nvfp4_status status = nvfp4_place_weights(visit, &weights, &there, &uploaded, &reason);
  if (status == NVFP4_OK) {
    const nvfp4_process_args args = {sizeof args, &there, NULL, NULL, visit->stream};
    status = kernel->layout->process_weights_after_loading(host, &args, &packed, &reason);
  }
  if (status == NVFP4_OK) {
    status = nvfp4_kernel_prepare(kernel, host, &desc, &packed, &reason);
    kernel->layout->free_packed(host, &packed);
  }
  nvfp4_place_free(visit->place, uploaded);
  printf("%-24s %s\n", kernel->id, status == NVFP4_OK ? "yes" : reason.text);
  return status == NVFP4_OK || status == NVFP4_E_MACHINE ? 0 : 2;
}

int main(void) {
  nvfp4_context *context = NULL;
  nvfp4_place place;
  nvfp4_visit visit;
  nvfp4_reason reason = {0};
  nvfp4_status status = nvfp4_context_create(NULL, &context, &reason);
  if (status == NVFP4_OK) {
    status = nvfp4_place_find(context->cuda, (nvfp4_device){NVFP4_DEVICE_CUDA, 0}, &place, &reason);
  }
  if (status == NVFP4_OK) {
    status = nvfp4_place_enter(&place, true, &visit, &reason);
  }
  if (status != NVFP4_OK) {
    printf("%s\n", reason.text);
    nvfp4_context_destroy(context);
    return 2;
  }
  const nvfp4_gpu *gpu = &nvfp4_context_machine(context)->gpus[0];
  printf("%s, compute capability %d.%d\n", gpu->name, gpu->sm / 10, gpu->sm % 10);
  const int failed =
      ask(&context->host, &visit, &nvfp4_kernel_vendor_cublaslt_w4a4) | ask(&context->host, &visit, &nvfp4_kernel_vendor_cudnn_w4a4);
  nvfp4_place_leave(&visit, NULL);
  nvfp4_context_destroy(context);
  return failed;
}
