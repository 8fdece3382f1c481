/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The CUDA driver as the library uses it: opened at run time, no CUDA runtime, nothing global.
 *
 * Device code. Every .cu file of src/ holds device code alone and is compiled to a fatbin that is part of the library (cmake/cuda.cmake): for each FILE.cu an
 * array nvfp4_fatbin_FILE. Its kernels are loaded once for each nvfp4_cuda, when first asked for, and serve all devices and CUDA contexts (cuLibraryLoadData).
 *
 * Contexts. A layer lives in one CUDA context: that which is current when it is made, if it is one of the layer's device, or else the device's primary one, which the
 * CUDA runtime and frameworks share. Calls about the layer make it current and restore what was.
 *
 * Threads: everything here may be called from several threads at once.
 */
#ifndef NVFP4_CUDA_CUDA_H
#define NVFP4_CUDA_CUDA_H

#include <nvfp4/nvfp4.h>

#include "cuda/api.h"

/* Older drivers have no cuLibraryLoadData. */
#define NVFP4_CUDA_LEAST_DRIVER 12000

typedef struct nvfp4_cuda nvfp4_cuda;

#define NVFP4_CUDA_DRIVER "libcuda.so.1"

/* Opens the driver: `library` is NVFP4_CUDA_DRIVER, or NULL for this program itself (tests). On success *out is the caller's and is freed by
 * nvfp4_cuda_close. Errors, NVFP4_E_MACHINE: "no CUDA driver: ...", a driver that is too old or cannot start. */
nvfp4_status nvfp4_cuda_open(const char *library, nvfp4_cuda **out, nvfp4_reason *reason);
/* NULL is allowed. Unloads the kernels and gives back the primary contexts that were retained. */
void nvfp4_cuda_close(nvfp4_cuda *cuda);

/* The driver's functions; lives as long as `cuda`. */
const nvfp4_cu_api *nvfp4_cuda_api(const nvfp4_cuda *cuda);
int nvfp4_cuda_driver_version(const nvfp4_cuda *cuda); /* 13000 for 13.0 */

/* NVFP4_OK for a call that went well; otherwise NVFP4_E_DEVICE, or NVFP4_E_NOMEM, with the driver's words. An error of earlier work on the device
 * shows at whichever call comes next. */
nvfp4_status nvfp4_cuda_check(const nvfp4_cuda *cuda, const char *call, int result, nvfp4_reason *reason);

/* The CUDA context for work on device `ordinal`: the current one if it is of that device, else the device's primary one, retained until close. */
nvfp4_status nvfp4_cuda_context(nvfp4_cuda *cuda, int ordinal, nvfp4_cu_context *out, nvfp4_reason *reason);

/* Makes `context` current; to be undone by nvfp4_cuda_leave with what *pushed says. */
nvfp4_status nvfp4_cuda_enter(const nvfp4_cuda *cuda, nvfp4_cu_context context, bool *pushed, nvfp4_reason *reason);
void nvfp4_cuda_leave(const nvfp4_cuda *cuda, bool pushed);

/* Memory of the current context's device. */
nvfp4_status nvfp4_cuda_alloc(const nvfp4_cuda *cuda, size_t bytes, void **out, nvfp4_reason *reason);
void nvfp4_cuda_free(const nvfp4_cuda *cuda, void *memory);

/* Enqueues a copy of `rows` rows of row_bytes each, between host and device memory in any direction. Host memory may be ordinary, pageable memory; it must not
 * change before the stream has come this far. */
nvfp4_status nvfp4_cuda_copy_rows(const nvfp4_cuda *cuda, void *to, size_t to_stride, const void *from, size_t from_stride,
                                  size_t row_bytes, size_t rows, void *stream, nvfp4_reason *reason);

/* Copies and waits for the end. */
nvfp4_status nvfp4_cuda_copy_now(const nvfp4_cuda *cuda, void *to, const void *from, size_t bytes, nvfp4_reason *reason);

/* Something that lives as long as `cuda`: a vendor's library that kernels have opened, with its handles. */
typedef struct nvfp4_cuda_companion {
  nvfp4_status (*open)(nvfp4_cuda *cuda, void **out, nvfp4_reason *reason);
  void (*close)(void *companion); /* by nvfp4_cuda_close, before it gives contexts back */
} nvfp4_cuda_companion;

/* The one companion of that kind (which is told by its address): opened at the first call that goes well. `open` runs under a lock and must not call what takes it: nvfp4_cuda_context, _launch,
 * _load_known and this function. */
nvfp4_status nvfp4_cuda_find_companion(nvfp4_cuda *cuda, const nvfp4_cuda_companion *kind, void **out, nvfp4_reason *reason);

/* A stream of one's own, which does not wait for the default one. _finish waits for its end, and destroys it; NULL is allowed. */
nvfp4_status nvfp4_cuda_stream(const nvfp4_cuda *cuda, nvfp4_cu_stream *out, nvfp4_reason *reason);
nvfp4_status nvfp4_cuda_stream_finish(const nvfp4_cuda *cuda, nvfp4_cu_stream stream, nvfp4_reason *reason);

/*
 * A stream, and a word of pinned host memory into which kernels write an answer. Making them takes longer than packing a small layer, so a layer keeps the lane that it was made with, and the
 * next ones of its CUDA context are made with it, too; it ends with the last of them, and so before the context. One thread has it at a time: several that make layers have a lane each.
 */
typedef struct nvfp4_cuda_lane {
  nvfp4_cu_stream stream;
  uint64_t *answer;             /* NULL until nvfp4_cuda_lane_answer */
  struct nvfp4_cuda_lane *next; /* these are cuda.c's, under its lock */
  nvfp4_cu_context context;
  size_t holders;
  bool busy;
} nvfp4_cuda_lane;

/* A lane of `context`, which is current, that nobody else has: one that is kept, or a new one. The caller holds it until _return, which waits for nothing; with _drop instead nobody takes it any more. */
nvfp4_status nvfp4_cuda_lane_take(nvfp4_cuda *cuda, nvfp4_cu_context context, nvfp4_cuda_lane **out, nvfp4_reason *reason);
void nvfp4_cuda_lane_return(nvfp4_cuda *cuda, nvfp4_cuda_lane *lane);
/* Another holder, while the lane is taken; _drop ends it (NULL is allowed). Who holds it last ends it, with its context current. */
void nvfp4_cuda_lane_keep(nvfp4_cuda *cuda, nvfp4_cuda_lane *lane);
void nvfp4_cuda_lane_drop(nvfp4_cuda *cuda, nvfp4_cuda_lane *lane);
/* Sets lane->answer, if it is not set yet. */
nvfp4_status nvfp4_cuda_lane_answer(const nvfp4_cuda *cuda, nvfp4_cuda_lane *lane, nvfp4_reason *reason);

/* A kernel of device code that is part of the library. */
typedef struct nvfp4_cuda_kernel {
  const unsigned char *fatbin; /* nvfp4_fatbin_FILE */
  const char *name;            /* the extern "C" __global__ function */
} nvfp4_cuda_kernel;

/* Loads every kernel of a file of which one was launched before, in whichever context, into the current one, so that no later launch has to: loading does not go with a stream that is
 * being captured. The self-tests have launched one of each file. (With drivers older than 12.4: only kernels that were launched before.) */
nvfp4_status nvfp4_cuda_load_known(nvfp4_cuda *cuda, nvfp4_reason *reason);

/* Launches a kernel in the current context. parameters: the addresses of its arguments. shared_bytes above 48 KiB are asked for as they need to be. Allocates nothing once the
 * kernel has been loaded, and may be captured in a graph. */
nvfp4_status nvfp4_cuda_launch(nvfp4_cuda *cuda, const nvfp4_cuda_kernel *kernel, const nvfp4_cu_launch *launch, void **parameters,
                               nvfp4_reason *reason);

#endif
