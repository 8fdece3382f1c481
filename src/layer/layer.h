/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Plans and layers. A layer is cut into runs: consecutive rows whose partitions share one input global, so that a kernel sees exactly one. Each run is packed once
 * for every layout of the plan.
 */
#ifndef NVFP4_LAYER_LAYER_H
#define NVFP4_LAYER_LAYER_H

#include "layer/context.h"
#include "layer/place.h"

typedef struct nvfp4_planned_range {
  int64_t m_first, m_last;
  const nvfp4_kernel *kernel;
} nvfp4_planned_range;

struct nvfp4_plan {
  nvfp4_layer_desc desc; /* name and partitions are own copies */
  size_t range_count;
  nvfp4_planned_range ranges[NVFP4_MAX_RANGES];
};

nvfp4_plan *nvfp4_plan_copy(const nvfp4_plan *plan); /* NULL: out of memory */

/* layer.c: where the layer lives, how it is described, and the checks of nvfp4_layer_apply but for the workspace (m >= 1). */
const nvfp4_place *nvfp4_layer_place(const nvfp4_layer *layer);
const nvfp4_layer_desc *nvfp4_layer_description(const nvfp4_layer *layer);
nvfp4_status nvfp4_layer_check_apply(const nvfp4_layer *layer, const nvfp4_apply_args *args, nvfp4_reason *reason);

/* fp8.c: what an FP8 layer puts around a dense kernel. Offsets in its workspace; the kernel's own begins at `kernel`. */
typedef struct nvfp4_fp8_scratch {
  size_t x, scales, y, kernel;
} nvfp4_fp8_scratch;
nvfp4_fp8_scratch nvfp4_fp8_scratch_of(const nvfp4_layer_desc *desc, int64_t m);

typedef struct nvfp4_fp8_call {
  int64_t m, n, k;
  const void *x;
  nvfp4_dtype x_dtype, y_dtype, bias_dtype;
  int64_t ldx_elems, ldy_elems;
  float input_scale; /* 0: a scale a row */
  uint16_t *q;       /* [m, k] bf16 */
  float *scales;     /* [m] */
  const float *sums; /* [m, n]: alpha * acc */
  const void *bias;  /* NULL: none */
  void *y;
} nvfp4_fp8_call;
/* x -> q and, without an input scale, scales; and then sums -> y. */
void nvfp4_fp8_quantise(nvfp4_threads *threads, const nvfp4_fp8_call *call);
void nvfp4_fp8_finish(nvfp4_threads *threads, const nvfp4_fp8_call *call);

/* E4M3 weights as bf16, in memory that *owned points to; out may be weights. */
nvfp4_status nvfp4_fp8_decode_weights(nvfp4_threads *threads, const nvfp4_weights *weights, nvfp4_weights *out, void **owned,
                                      nvfp4_reason *reason);

/* alpha.c: the one place where alpha is computed: from doubles, rounded once. W4A4 and FP8 use the input global. Errors: a factor that fp32 cannot hold. */
nvfp4_status nvfp4_partition_alpha(const nvfp4_partition *partition, nvfp4_mode mode, float *alpha, nvfp4_reason *reason);

#endif
