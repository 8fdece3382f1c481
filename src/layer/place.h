/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where a layer lives: on the CPU, or in one CUDA context of a device. On the CPU everything here is trivial, so that layer.c and self_test.c need not tell the two apart.
 */
#ifndef NVFP4_LAYER_PLACE_H
#define NVFP4_LAYER_PLACE_H

#include "cuda/cuda.h"

typedef struct nvfp4_place {
  nvfp4_cuda *cuda; /* NULL: the CPU */
  nvfp4_cu_context context;
} nvfp4_place;

/* The place for work on `device`: of a CUDA device the context that is current, or the device's primary one. cuda may be NULL: no driver. */
nvfp4_status nvfp4_place_find(nvfp4_cuda *cuda, nvfp4_device device, nvfp4_place *out, nvfp4_reason *reason);

/* Work at a place, between enter and leave. Makes the CUDA context current; if with_stream there is a stream that nobody else uses meanwhile, and the visit is relaxed. */
typedef struct nvfp4_visit {
  const nvfp4_place *place;
  bool pushed, exchanged;
  int capture_mode;
  nvfp4_cuda_lane *lane; /* NULL: without a stream */
  nvfp4_cu_stream stream;
} nvfp4_visit;
nvfp4_status nvfp4_place_enter(const nvfp4_place *place, bool with_stream, nvfp4_visit *out, nvfp4_reason *reason);
/* Lets memory be taken and freed, until the visit ends, although another stream is being captured. */
void nvfp4_place_relax(nvfp4_visit *visit);
/* Waits for what was enqueued on the visit's stream. */
nvfp4_status nvfp4_place_wait(const nvfp4_visit *visit, nvfp4_reason *reason);
/* Waits too, if there is a stream. */
nvfp4_status nvfp4_place_leave(nvfp4_visit *visit, nvfp4_reason *reason);

/* Memory there, and what is `bytes` of host memory there: a copy in memory of the device, enqueued on the visit's stream; on the CPU a copy too. Freed by
 * nvfp4_place_free. */
nvfp4_status nvfp4_place_alloc(const nvfp4_place *place, size_t bytes, void **out, nvfp4_reason *reason);
nvfp4_status nvfp4_place_copy(const nvfp4_visit *visit, const void *from, size_t bytes, void **out, nvfp4_reason *reason);
void nvfp4_place_free(const nvfp4_place *place, void *memory);

/* Enqueues `count` times `value`; on the CPU at once. */
nvfp4_status nvfp4_place_fill(const nvfp4_visit *visit, float *to, int64_t count, float value, nvfp4_reason *reason);

/* The weights as kernels of the place read them: *out is *weights, or describes a copy in memory of the device, which *owned then holds (else NULL) and
 * nvfp4_place_free frees once the visit's stream is through. Refuses weights in CUDA memory on the CPU. */
nvfp4_status nvfp4_place_weights(const nvfp4_visit *visit, const nvfp4_weights *weights, nvfp4_weights *out, void **owned,
                                 nvfp4_reason *reason);

/*
 * Refuses NaN and negative block scales; n_first is added to the row that the refusal names. weights as of nvfp4_place_weights. On a GPU _begin enqueues a kernel, which leaves its answer with
 * the visit, and _end waits for the visit's stream, with all that was enqueued in between, and looks at it. On the CPU _begin does it all.
 */
nvfp4_status nvfp4_place_begin_check(const nvfp4_visit *visit, const nvfp4_weights *weights, int64_t n_first, nvfp4_reason *reason);
nvfp4_status nvfp4_place_end_check(const nvfp4_visit *visit, const nvfp4_weights *weights, int64_t n_first, nvfp4_reason *reason);

#endif
