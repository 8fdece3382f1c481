/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vendor_cudnn_w4a4: y[m,n] = alpha[n] * sum over k ( ( x[m,k] * sx[m,k/16] ) * ( w[n,k] * sw[n,k/16] ) ) (+ bias[n]), x quantised to NVFP4, by a graph of cuDNN's on FP4 tensor cores
 *
 * Packed layout: cuda_fp4_128x4; x is quantised into the same form. A plan (cudnn_plan.h) is for one M: M is rounded up to a bucket, more than 1024 rows are computed in parts, and rows that are not
 * there are computed from whatever the workspace holds and not looked at. A layer has one of two forms:
 *   direct  one alpha for all rows and N of 16 bytes: the graph ends in y's type, with alpha and bias. It writes y itself if y is as large as the bucket, has no gaps and is at a multiple of 16
 *           bytes; else the workspace, from which the rows are copied.
 *   sums    the graph ends in fp32 sums in the workspace, N rounded up to 16; then cuda_fp4_finish.
 * The library is opened when the first layer is prepared, which needs a GPU of compute capability 10.0; plans are kept as long as the context, for each N, K, types, form and bucket.
 *
 * Class BOUNDED, if FP4 tensor cores add as docs/numerics.md assumes. DETERMINISTIC: of cuDNN's engines only those are taken whose numerical notes do not say otherwise. Not BATCH_INVARIANT: the plan
 * depends on M. apply takes no memory of the device; cuDNN itself makes a descriptor of the addresses for each call.
 */
#include <pthread.h>
#include <stdlib.h>

#include "base/alloc.h"
#include "base/reason.h"
#include "cuda/cuda.h"
#include "format/scale_layout.h"
#include "kernels/cuda/fp4_finish.h"
#include "kernels/cuda/fp4_layout.h"
#include "kernels/cuda/linear.h"
#include "kernels/cuda/quantise.h"
#include "kernels/vendor/cudnn_plan.h"

/* M: 16, 32, 64, ..., 1024 */
enum { BUCKETS = 7, FIRST_BUCKET_M = 16 };

typedef struct context_handle {
  struct context_handle *next;
  nvfp4_cu_context context;
  nvfp4_dnn_handle *handle;
  pthread_mutex_t lock; /* a handle has one stream at a time */
} context_handle;

/* The plans of one N, K, types and form in one CUDA context. Never moved or freed before the library is closed. */
typedef struct shape {
  struct shape *next;
  context_handle *where;
  int64_t n, k;
  nvfp4_dtype y_dtype, bias_dtype;
  bool direct;
  cudnn_plan *plans[BUCKETS]; /* where->lock is theirs, too */
} shape;

typedef struct cudnn {
  nvfp4_dnn_api api;
  pthread_mutex_t lock; /* of the lists */
  context_handle *handles;
  shape *shapes;
} cudnn;

/* --------------------------------------------------------------------------------------------------------------------- library */

static void close_cudnn(void *companion) {
  cudnn *dnn = companion;
  while (dnn->shapes != NULL) {
    shape *next = dnn->shapes->next;
    for (int i = 0; i < BUCKETS; i++) {
      cudnn_plan_free(&dnn->api, dnn->shapes->plans[i]);
    }
    free(dnn->shapes);
    dnn->shapes = next;
  }
  while (dnn->handles != NULL) {
    context_handle *next = dnn->handles->next;
    dnn->api.destroy(dnn->handles->handle);
    pthread_mutex_destroy(&dnn->handles->lock);
    free(dnn->handles);
    dnn->handles = next;
  }
  pthread_mutex_destroy(&dnn->lock);
  free(dnn);
}

static nvfp4_status open_cudnn(nvfp4_cuda *cuda, void **out, nvfp4_reason *reason) {
  (void)cuda;
  cudnn *dnn = calloc(1, sizeof *dnn);
  if (dnn == NULL) {
    return nvfp4_reject(reason, NVFP4_E_NOMEM, "out of memory for cuDNN");
  }
  pthread_mutex_init(&dnn->lock, NULL);
  nvfp4_status status = cudnn_open(&dnn->api, reason);
  if (status != NVFP4_OK) {
    close_cudnn(dnn);
    return status;
  }
  *out = dnn;
  return NVFP4_OK;
}

static const nvfp4_cuda_companion companion = {open_cudnn, close_cudnn};

/* The lock is held. A handle belongs to the CUDA context that is current when it is made, which its owner must not destroy before the library's context. */
static nvfp4_status find_handle(cudnn *dnn, nvfp4_cu_context context, context_handle **out, nvfp4_reason *reason) {
  context_handle *found = dnn->handles;
  while (found != NULL && found->context != context) {
    found = found->next;
  }
  if (found == NULL) {
    found = calloc(1, sizeof *found);
    if (found == NULL) {
      return nvfp4_reject(reason, NVFP4_E_NOMEM, "out of memory for cuDNN");
    }
    nvfp4_status status = cudnn_check(&dnn->api, "cudnnCreate", dnn->api.create(&found->handle), reason);
    if (status != NVFP4_OK) {
      free(found);
      return status;
    }
    found->next = dnn->handles;
    found->context = context;
    pthread_mutex_init(&found->lock, NULL);
    dnn->handles = found;
  }
  *out = found;
  return NVFP4_OK;
}

/* --------------------------------------------------------------------------------------------------------------------- shapes */

static size_t elem_bytes(nvfp4_dtype dtype) { return dtype == NVFP4_DTYPE_F32 ? 4 : 2; }

static int bucket_of(int64_t m) {
  int bucket = 0;
  while (bucket < BUCKETS - 1 && m > (int64_t)FIRST_BUCKET_M << bucket) {
    bucket++;
  }
  return bucket;
}

static int64_t bucket_m(int64_t m) { return (int64_t)FIRST_BUCKET_M << bucket_of(m); }

static bool direct_form(const nvfp4_packed *packed, int64_t n, nvfp4_dtype y_dtype) {
  float alpha;
  return cuda_fp4_uniform_alpha(packed, &alpha) && (size_t)n * elem_bytes(y_dtype) % CUDNN_ALIGNMENT == 0;
}

/* Columns of what the graph writes. */
static int64_t columns_of(int64_t n, bool direct) { return direct ? n : nvfp4_round_up(n, 16); }

/* NULL: there is none. Sums are the same for all y and bias. */
static shape *find_shape(cudnn *dnn, nvfp4_cu_context context, int64_t n, int64_t k, nvfp4_dtype y_dtype, nvfp4_dtype bias_dtype,
                         bool direct) {
  shape *s = dnn->shapes;
  while (s != NULL && (s->where->context != context || s->n != n || s->k != k || s->direct != direct ||
                       (direct && (s->y_dtype != y_dtype || s->bias_dtype != bias_dtype)))) {
    s = s->next;
  }
  return s;
}

/* The lock is held. */
static nvfp4_status make_shape(cudnn *dnn, nvfp4_cu_context context, const nvfp4_layer_desc *desc, bool direct, shape **out,
                               nvfp4_reason *reason) {
  context_handle *where = NULL;
  NVFP4_TRY(find_handle(dnn, context, &where, reason));
  shape *s = calloc(1, sizeof *s);
  if (s == NULL) {
    return nvfp4_reject(reason, NVFP4_E_NOMEM, "out of memory for cuDNN");
  }
  *s = (shape){.next = dnn->shapes,
               .where = where,
               .n = desc->n,
               .k = desc->k,
               .y_dtype = desc->y_dtype,
               .bias_dtype = desc->bias_dtype,
               .direct = direct};
  dnn->shapes = s;
  *out = s;
  return NVFP4_OK;
}

static nvfp4_status prepare(const nvfp4_host *host, const nvfp4_layer_desc *desc, const nvfp4_packed *packed, nvfp4_reason *reason) {
  const bool any_m = desc->m_first == 0 && desc->m_last == 0, direct = direct_form(packed, desc->n, desc->y_dtype);
  nvfp4_cu_context context = NULL;
  void *found = NULL;
  NVFP4_TRY(nvfp4_cuda_check(host->cuda, "cuCtxGetCurrent", nvfp4_cuda_api(host->cuda)->context_get_current(&context), reason));
  NVFP4_TRY(nvfp4_cuda_find_companion(host->cuda, &companion, &found, reason));
  cudnn *dnn = found;
  pthread_mutex_lock(&dnn->lock);
  shape *s = find_shape(dnn, context, desc->n, desc->k, desc->y_dtype, desc->bias_dtype, direct);
  nvfp4_status status = s != NULL ? NVFP4_OK : make_shape(dnn, context, desc, direct, &s, reason);
  pthread_mutex_unlock(&dnn->lock);
  NVFP4_TRY(status);
  const int last = any_m ? BUCKETS - 1 : bucket_of(desc->m_last);
  cudnn_product product = {.n = columns_of(s->n, direct),
                           .k = cuda_fp4_padded_k(s->k),
                           .y_dtype = direct ? s->y_dtype : NVFP4_DTYPE_F32,
                           .with_scale = direct,
                           .bias_dtype = direct ? s->bias_dtype : NVFP4_DTYPE_NONE};
  pthread_mutex_lock(&s->where->lock);
  for (int bucket = any_m ? 0 : bucket_of(desc->m_first); bucket <= last && status == NVFP4_OK; bucket++) {
    product.m = (int64_t)FIRST_BUCKET_M << bucket;
    if (s->plans[bucket] == NULL) {
      status = cudnn_plan_make(&dnn->api, s->where->handle, NULL, &product, &s->plans[bucket], reason);
    }
  }
  pthread_mutex_unlock(&s->where->lock);
  return status;
}

/* ---------------------------------------------------------------------------------------------------------------------- apply */

/* The workspace: x quantised, with room for whole buckets of rows; what a graph writes; cuDNN's own. */
typedef struct areas {
  size_t scales, result, own, bytes; /* where they begin, from a multiple of 256 on; all of them */
} areas;

static areas areas_of(int64_t m, int64_t n, int64_t k) {
  const int64_t rows = nvfp4_round_up(m, bucket_m(m)), kp = cuda_fp4_padded_k(k);
  areas a;
  a.scales = (size_t)nvfp4_round_up(rows * (kp / 2), CUDA_FP4_ALIGNMENT);
  a.result = a.scales + nvfp4_scales_bytes(NVFP4_SCALES_128X4, rows, kp / NVFP4_BLOCK);
  a.own = a.result + (size_t)nvfp4_round_up(bucket_m(m) * columns_of(n, false) * 4, CUDA_FP4_ALIGNMENT);
  a.bytes = a.own + CUDNN_WORKSPACE_BYTES;
  return a;
}

static size_t workspace_bytes(const nvfp4_layer_desc *desc, int64_t m) {
  return CUDA_FP4_ALIGNMENT + areas_of(m, desc->n, desc->k).bytes; /* a workspace begins at a multiple of 64 */
}

/* Enqueues a plan with its addresses. */
static nvfp4_status execute(const cudnn *dnn, shape *s, int bucket, const void *const *addresses, const int64_t *ids, int64_t count,
                            void *own, void *stream, nvfp4_reason *reason) {
  const nvfp4_dnn_api *api = &dnn->api;
  nvfp4_dnn_desc *pack = NULL;
  NVFP4_TRY(cudnn_check(api, "cudnnBackendCreateDescriptor", api->desc_create(NVFP4_DNN_VARIANT_PACK, &pack), reason));
  nvfp4_status status = cudnn_check(
      api, "addresses", api->desc_set(pack, NVFP4_DNN_VARIANT_PACK_DATA_POINTERS, NVFP4_DNN_TYPE_VOID_PTR, count, (const void *)addresses),
      reason);
  if (status == NVFP4_OK) {
    status =
        cudnn_check(api, "unique ids", api->desc_set(pack, NVFP4_DNN_VARIANT_PACK_UNIQUE_IDS, NVFP4_DNN_TYPE_INT64, count, ids), reason);
  }
  if (status == NVFP4_OK) {
    status = cudnn_check(api, "workspace",
                         api->desc_set(pack, NVFP4_DNN_VARIANT_PACK_WORKSPACE, NVFP4_DNN_TYPE_VOID_PTR, 1, (const void *)&own), reason);
  }
  if (status == NVFP4_OK) {
    status = cudnn_check(api, "variant pack", api->desc_finalize(pack), reason);
  }
  if (status == NVFP4_OK) {
    pthread_mutex_lock(&s->where->lock);
    status = s->plans[bucket] != NULL ? cudnn_check(api, "cudnnSetStream", api->set_stream(s->where->handle, stream), reason)
                                      : nvfp4_reject(reason, NVFP4_E_INTERNAL, "vendor_cudnn_w4a4: this M was not prepared");
    if (status == NVFP4_OK) {
      status =
          cudnn_check(api, "cudnnBackendExecute", api->execute(s->where->handle, cudnn_plan_descriptor(s->plans[bucket]), pack), reason);
    }
    pthread_mutex_unlock(&s->where->lock);
  }
  api->desc_destroy(pack);
  return status;
}

/* Rows first ... of args, as many as a bucket has at most. */
static nvfp4_status apply_part(const nvfp4_host *host, const cudnn *dnn, shape *s, const nvfp4_packed *packed,
                               const nvfp4_kernel_args *args, uint8_t *workspace, int64_t first, nvfp4_reason *reason) {
  const areas at = areas_of(args->m, args->n, args->k);
  const int64_t rows = bucket_m(args->m), kp = cuda_fp4_padded_k(args->k), columns = columns_of(args->n, s->direct);
  const size_t elem = elem_bytes(args->y_dtype), row_bytes = (size_t)args->n * elem, stride = (size_t)args->ldy_elems * elem;
  static const int64_t ids[] = {CUDNN_X, CUDNN_W, CUDNN_X_SCALES, CUDNN_W_SCALES, CUDNN_Y, CUDNN_SCALE, CUDNN_BIAS};
  const int64_t count = !s->direct ? 5 : args->bias == NULL ? 6 : 7;
  nvfp4_kernel_args part = *args;
  part.m = args->m - first < rows ? args->m - first : rows;
  part.y = (char *)args->y + (size_t)first * stride;
  const bool in_place = s->direct && part.m == rows && args->ldy_elems == args->n && (uintptr_t)part.y % CUDNN_ALIGNMENT == 0;
  void *result = in_place ? part.y : workspace + at.result;
  const void *const addresses[] = {workspace + first * (kp / 2),
                                   cuda_fp4_codes(packed),
                                   workspace + at.scales + first * (kp / NVFP4_BLOCK), /* whole tiles */
                                   cuda_fp4_scales(packed),
                                   result,
                                   args->alpha,
                                   args->bias};
  NVFP4_TRY(execute(dnn, s, bucket_of(args->m), addresses, ids, count, workspace + at.own, args->stream, reason));
  if (!s->direct) {
    return cuda_fp4_finish(host, &part, result, columns, reason);
  }
  return in_place ? NVFP4_OK
                  : nvfp4_cuda_copy_rows(host->cuda, part.y, stride, result, row_bytes, row_bytes, (size_t)part.m, args->stream, reason);
}

static nvfp4_status apply_weights(const nvfp4_host *host, const nvfp4_packed *packed, const nvfp4_kernel_args *args, nvfp4_reason *reason) {
  nvfp4_cu_context context = NULL;
  void *found = NULL;
  NVFP4_TRY(nvfp4_cuda_check(host->cuda, "cuCtxGetCurrent", nvfp4_cuda_api(host->cuda)->context_get_current(&context), reason));
  NVFP4_TRY(nvfp4_cuda_find_companion(host->cuda, &companion, &found, reason));
  cudnn *dnn = found;
  pthread_mutex_lock(&dnn->lock);
  shape *s = find_shape(dnn, context, args->n, args->k, args->y_dtype, args->bias_dtype, direct_form(packed, args->n, args->y_dtype));
  pthread_mutex_unlock(&dnn->lock);
  if (s == NULL) {
    return nvfp4_reject(reason, NVFP4_E_INTERNAL, "vendor_cudnn_w4a4: the layer was not prepared in this CUDA context");
  }
  uint8_t *workspace = args->workspace;
  workspace += (CUDA_FP4_ALIGNMENT - (uintptr_t)workspace % CUDA_FP4_ALIGNMENT) % CUDA_FP4_ALIGNMENT;
  NVFP4_TRY(cuda_quantise(host, args, cuda_fp4_padded_k(args->k), NVFP4_SCALES_128X4, workspace,
                          workspace + areas_of(args->m, args->n, args->k).scales, reason));
  for (int64_t first = 0; first < args->m; first += bucket_m(args->m)) {
    NVFP4_TRY(apply_part(host, dnn, s, packed, args, workspace, first, reason));
  }
  return NVFP4_OK;
}

/* ------------------------------------------------------------------------------------------------------------------- the kernel */

static nvfp4_status is_supported(const nvfp4_machine *machine, nvfp4_reason *reason) { return cuda_is_supported(machine, 100, 0, reason); }

static nvfp4_status can_implement(const nvfp4_layer_desc *desc, nvfp4_reason *reason) {
  (void)desc; /* any N, any K that is a multiple of 16, any M, all element types */
  (void)reason;
  return NVFP4_OK;
}

const nvfp4_kernel nvfp4_kernel_vendor_cudnn_w4a4 = {
    .struct_size = sizeof(nvfp4_kernel),
    .id = "vendor_cudnn_w4a4",
    .summary = "cuDNN's block-scaled FP4 product, opened at run time",
    .layout = &nvfp4_layout_cuda_fp4,
    .numerics = {NVFP4_MODE_W4A4, NVFP4_CLASS_BOUNDED, NVFP4_FLAG_DETERMINISTIC, "w4a4: FP4 tensor cores as cuDNN chooses, fp32"},
    .device = NVFP4_DEVICE_CUDA,
    .verified = "compiles; never executed by us",
    .is_supported = is_supported,
    .can_implement = can_implement,
    .workspace_bytes = workspace_bytes,
    .apply_weights = apply_weights,
    .prepare = prepare,
};
