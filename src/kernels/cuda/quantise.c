/* SPDX-License-Identifier: Apache-2.0 */
#include "kernels/cuda/quantise.h"

#include <stdbool.h>

#include "base/alloc.h"
#include "base/reason.h"
#include "cuda/cuda.h"
#include "kernels/cuda/arguments.h"

enum { THREADS = 128 };

extern const unsigned char nvfp4_fatbin_quantise[];
static const nvfp4_cuda_kernel quantise_kernel = {nvfp4_fatbin_quantise, "nvfp4_quantise"};

/* What args says is filled in here. overlapped: begins while the kernels before it end, and waits for them. */
static nvfp4_status launch(const nvfp4_host *host, const nvfp4_kernel_args *args, cuda_quantise_args *a, bool overlapped,
                           nvfp4_reason *reason) {
  a->m = args->m;
  a->k = args->k;
  a->x = args->x;
  a->ldx_elems = args->ldx_elems;
  a->x_dtype = (int32_t)args->x_dtype;
  a->s_a = args->s_a;
  a->inverse_s_a = 1.0f / args->s_a;
  const nvfp4_quantised_x *q = args->quantised_x;
  if (q != NULL) {
    a->q_codes = q->codes;
    a->q_scales = q->scales;
    a->q_codes_stride = q->codes_stride_bytes;
    a->q_scales_stride = q->scales_stride_bytes;
    a->q_scale_layout = (int32_t)q->scale_layout;
  }
  int64_t grid = (a->rows * a->columns + THREADS - 1) / THREADS;
  if (grid > (int64_t)UINT32_MAX / THREADS) {
    return nvfp4_reject(reason, NVFP4_E_SHAPE, "M = %lld, K = %lld; one call quantises less than 2^32 blocks: cut x into parts",
                        (long long)args->m, (long long)args->k);
  }
  const nvfp4_cu_launch_attribute attribute = {.id = NVFP4_CU_LAUNCH_PROGRAMMATIC_STREAM_SERIALIZATION,
                                               .value.programmatic_stream_serialization = 1};
  const nvfp4_cu_launch launch = {.grid_x = (unsigned)grid,
                                  .grid_y = 1,
                                  .grid_z = 1,
                                  .block_x = THREADS,
                                  .block_y = 1,
                                  .block_z = 1,
                                  .stream = args->stream,
                                  .attributes = &attribute,
                                  .attribute_count = overlapped ? 1 : 0};
  void *parameters[] = {a};
  return nvfp4_cuda_launch(host->cuda, &quantise_kernel, &launch, parameters, reason);
}

nvfp4_status cuda_quantise(const nvfp4_host *host, const nvfp4_kernel_args *args, int64_t k_padded, nvfp4_scale_layout layout,
                           uint8_t *codes, uint8_t *scales, nvfp4_reason *reason) {
  const int64_t row_tile = layout == NVFP4_SCALES_128X4 ? 128 : layout == NVFP4_SCALES_8X4 ? 8 : 1, blocks = k_padded / NVFP4_BLOCK;
  cuda_quantise_args a = {.scale_layout = (int32_t)layout,
                          .codes = codes,
                          .scales = scales,
                          .rows = nvfp4_round_up(args->m, row_tile),
                          .columns = layout == NVFP4_SCALES_LINEAR ? blocks : nvfp4_round_up(blocks, 4),
                          .code_columns = blocks};
  return launch(host, args, &a, false, reason);
}

nvfp4_status cuda_sm90_quantise_to_bf16(const nvfp4_host *host, const nvfp4_kernel_args *args, uint16_t *values, nvfp4_reason *reason) {
  cuda_quantise_args a = {.values = values, .rows = args->m, .columns = args->k / NVFP4_BLOCK};
  return launch(host, args, &a, true, reason);
}
