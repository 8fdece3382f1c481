/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vendor_cublaslt_w4a4: y[m,n] = alpha[n] * sum over k ( ( x[m,k] * sx[m,k/16] ) * ( w[n,k] * sw[n,k/16] ) ) (+ bias[n]), x quantised to NVFP4, by cuBLASLt on FP4 tensor cores
 *
 * Packed layout: cuda_fp4_128x4; x is quantised into the same form. cuBLASLt's matrices run down columns: what it computes is D [N, M] = W^T [N, K] X [K, M] with both operands K-major
 * ("TN", the only form that FP4 has), scales VEC16_UE4M3. It has one alpha for a product, and D's columns at multiples of 16 bytes. So there are two forms:
 *   direct  D is y: one alpha for all rows, y at multiples of 16 bytes, no bias or one that the library's epilogue takes
 *   sums    D is fp32 in the workspace, N rounded up to 16; then cuda_fp4_finish. It serves everything else. Many rows go through it in parts.
 * The library is opened when the first layer is prepared, which needs a GPU of compute capability 10.0. What it chooses for a shape is kept as long as the context: an algorithm for each N, K,
 * types, form and bucket of M.
 *
 * Class BOUNDED, if FP4 tensor cores add as docs/numerics.md assumes. DETERMINISTIC: the cuBLAS manual ("Results Reproducibility") promises the same bits for cublasLtMatmul with a workspace of the
 * caller's. Not BATCH_INVARIANT: the algorithm depends on M.
 */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/library.h"
#include "base/reason.h"
#include "cuda/cuda.h"
#include "kernels/cuda/fp4_finish.h"
#include "kernels/cuda/fp4_layout.h"
#include "kernels/cuda/linear.h"
#include "kernels/vendor/cublaslt.h"

enum { DIRECT, SUMS, FORMS };

/* Buckets of M: up to 16, 32, 64, ..., 8192, and any more. The heuristic is asked about a bucket's largest M; with 8192 rows of x no more is to be gained by knowing M. */
enum { BUCKETS = 10, FIRST_BUCKET_M = 16 };

enum { ALIGNMENT = 16 }; /* of y, bias and their strides, in the direct form */

typedef enum answer { NOT_ASKED, REFUSED, GRANTED } answer;

typedef struct algorithm {
  answer answer;
  nvfp4_lt_algo algo;
} algorithm;

/* The descriptors of one form of a shape; what depends on the call is set at the call. */
typedef struct product {
  nvfp4_lt_desc *desc;
  nvfp4_lt_layout *w, *x, *d;
  algorithm algorithms[BUCKETS];
} product;

/* All about layers of one N, K and types in one CUDA context. Never moved or freed before the library is closed. */
typedef struct shape {
  struct shape *next;
  nvfp4_cu_context context;
  nvfp4_lt_handle *handle;
  int64_t n, k;
  nvfp4_dtype y_dtype, bias_dtype;
  pthread_mutex_t lock; /* of what follows */
  product products[FORMS];
} shape;

typedef struct context_handle {
  struct context_handle *next;
  nvfp4_cu_context context;
  nvfp4_lt_handle *handle;
} context_handle;

typedef struct cublaslt {
  nvfp4_lt_api api;
  size_t version;
  pthread_mutex_t lock; /* of the lists */
  context_handle *handles;
  shape *shapes;
} cublaslt;

/* --------------------------------------------------------------------------------------------------------------------- library */

static nvfp4_status check(const cublaslt *lt, const char *call, int status, nvfp4_reason *reason) {
  return status == NVFP4_LT_SUCCESS ? NVFP4_OK
                                    : nvfp4_reject(reason, NVFP4_E_DEVICE, "cuBLASLt: %s: %s", call, lt->api.get_status_name(status));
}

static nvfp4_status open_functions(cublaslt *lt, nvfp4_reason *reason) {
  static const char *const names[] = {"libcublasLt.so.13", "libcublasLt.so.12", NULL};
  const nvfp4_symbol symbols[] = {
#define SYMBOL(member, symbol, result, arguments) {symbol, &lt->api.member},
      NVFP4_LT_FUNCTIONS(SYMBOL)
#undef SYMBOL
  };
  NVFP4_TRY(nvfp4_library_open("cuBLASLt", names, symbols, sizeof symbols / sizeof symbols[0], reason));
  lt->version = lt->api.get_version();
  if (lt->version < NVFP4_LT_LEAST_VERSION) {
    return nvfp4_reject(reason, NVFP4_E_MACHINE, "cuBLASLt is %zu.%zu; needs 12.8 or newer: install that, where the loader finds it first",
                        lt->version / 10000, lt->version / 100 % 100);
  }
  return NVFP4_OK;
}

static void destroy_product(const cublaslt *lt, product *p) {
  nvfp4_lt_layout *const layouts[] = {p->w, p->x, p->d};
  for (size_t i = 0; i < 3; i++) {
    if (layouts[i] != NULL) {
      lt->api.layout_destroy(layouts[i]);
    }
  }
  if (p->desc != NULL) {
    lt->api.desc_destroy(p->desc);
  }
}

static void destroy_shape(const cublaslt *lt, shape *s) {
  for (int form = 0; form < FORMS; form++) {
    destroy_product(lt, &s->products[form]);
  }
  pthread_mutex_destroy(&s->lock);
  free(s);
}

static void close_cublaslt(void *companion) {
  cublaslt *lt = companion;
  while (lt->shapes != NULL) {
    shape *next = lt->shapes->next;
    destroy_shape(lt, lt->shapes);
    lt->shapes = next;
  }
  while (lt->handles != NULL) {
    context_handle *next = lt->handles->next;
    lt->api.destroy(lt->handles->handle);
    free(lt->handles);
    lt->handles = next;
  }
  pthread_mutex_destroy(&lt->lock);
  free(lt);
}

static nvfp4_status open_cublaslt(nvfp4_cuda *cuda, void **out, nvfp4_reason *reason) {
  (void)cuda;
  cublaslt *lt = calloc(1, sizeof *lt);
  if (lt == NULL) {
    return nvfp4_reject(reason, NVFP4_E_NOMEM, "out of memory for cuBLASLt");
  }
  pthread_mutex_init(&lt->lock, NULL);
  nvfp4_status status = open_functions(lt, reason);
  if (status != NVFP4_OK) {
    close_cublaslt(lt);
    return status;
  }
  *out = lt;
  return NVFP4_OK;
}

static const nvfp4_cuda_companion companion = {open_cublaslt, close_cublaslt};

/* The lock is held. A handle belongs to the CUDA context that is current when it is made, which its owner must not destroy before the library's context. */
static nvfp4_status find_handle(cublaslt *lt, nvfp4_cu_context context, nvfp4_lt_handle **out, nvfp4_reason *reason) {
  for (context_handle *h = lt->handles; h != NULL; h = h->next) {
    if (h->context == context) {
      *out = h->handle;
      return NVFP4_OK;
    }
  }
  context_handle *made = calloc(1, sizeof *made);
  if (made == NULL) {
    return nvfp4_reject(reason, NVFP4_E_NOMEM, "out of memory for cuBLASLt");
  }
  nvfp4_status status = check(lt, "cublasLtCreate", lt->api.create(&made->handle), reason);
  if (status != NVFP4_OK) {
    free(made);
    return status;
  }
  *made = (context_handle){.next = lt->handles, .context = context, .handle = made->handle};
  lt->handles = made;
  *out = made->handle;
  return NVFP4_OK;
}

/* --------------------------------------------------------------------------------------------------------------------- shapes */

static int bucket_of(int64_t m) {
  int bucket = 0;
  while (bucket < BUCKETS - 1 && m > (int64_t)FIRST_BUCKET_M << bucket) {
    bucket++;
  }
  return bucket;
}

static int64_t sums_columns(int64_t n) { return nvfp4_round_up(n, 16); }

/* What algorithms may take: a K that is cut into 16 parts wants so much for their sums. 32 MiB is what NVIDIA recommends for its larger GPUs. */
static size_t library_bytes(int bucket, int64_t n) {
  const int64_t most = 32 << 20, parts = 16 * ((int64_t)FIRST_BUCKET_M << bucket) * sums_columns(n) * 4;
  return (size_t)(parts < most ? parts : most);
}

static int lt_type(nvfp4_dtype dtype) {
  return dtype == NVFP4_DTYPE_F32 ? NVFP4_LT_R_32F : dtype == NVFP4_DTYPE_F16 ? NVFP4_LT_R_16F : NVFP4_LT_R_16BF;
}

static size_t elem_bytes(nvfp4_dtype dtype) { return dtype == NVFP4_DTYPE_F32 ? 4 : 2; }

static int set_i32(const cublaslt *lt, nvfp4_lt_desc *desc, int attribute, int32_t value) {
  return lt->api.desc_set(desc, attribute, &value, sizeof value);
}

static int set_pointer(const cublaslt *lt, nvfp4_lt_desc *desc, int attribute, const void *value) {
  return lt->api.desc_set(desc, attribute, &value, sizeof value);
}

/* x and D have their columns, rows of x, and D its stride set before each use. */
static nvfp4_status make_product(const cublaslt *lt, const shape *s, int form, product *p, nvfp4_reason *reason) {
  const uint64_t k = (uint64_t)cuda_fp4_padded_k(s->k), n = (uint64_t)(form == DIRECT ? s->n : sums_columns(s->n));
  const int d_type = form == DIRECT ? lt_type(s->y_dtype) : NVFP4_LT_R_32F;
  NVFP4_TRY(check(lt, "cublasLtMatmulDescCreate", lt->api.desc_create(&p->desc, NVFP4_LT_COMPUTE_32F, NVFP4_LT_R_32F), reason));
  NVFP4_TRY(check(lt, "TRANSA", set_i32(lt, p->desc, NVFP4_LT_DESC_TRANSA, NVFP4_LT_OP_T), reason));
  NVFP4_TRY(check(lt, "TRANSB", set_i32(lt, p->desc, NVFP4_LT_DESC_TRANSB, NVFP4_LT_OP_N), reason));
  NVFP4_TRY(check(lt, "A_SCALE_MODE", set_i32(lt, p->desc, NVFP4_LT_DESC_A_SCALE_MODE, NVFP4_LT_SCALE_VEC16_UE4M3), reason));
  NVFP4_TRY(check(lt, "B_SCALE_MODE", set_i32(lt, p->desc, NVFP4_LT_DESC_B_SCALE_MODE, NVFP4_LT_SCALE_VEC16_UE4M3), reason));
  if (form == DIRECT && s->bias_dtype != NVFP4_DTYPE_NONE) {
    NVFP4_TRY(check(lt, "EPILOGUE", set_i32(lt, p->desc, NVFP4_LT_DESC_EPILOGUE, NVFP4_LT_EPILOGUE_BIAS), reason));
    NVFP4_TRY(check(lt, "BIAS_DATA_TYPE", set_i32(lt, p->desc, NVFP4_LT_DESC_BIAS_DATA_TYPE, lt_type(s->bias_dtype)), reason));
  }
  NVFP4_TRY(check(lt, "cublasLtMatrixLayoutCreate", lt->api.layout_create(&p->w, NVFP4_LT_R_4F_E2M1, k, n, (int64_t)k), reason));
  NVFP4_TRY(check(lt, "cublasLtMatrixLayoutCreate", lt->api.layout_create(&p->x, NVFP4_LT_R_4F_E2M1, k, 1, (int64_t)k), reason));
  return check(lt, "cublasLtMatrixLayoutCreate", lt->api.layout_create(&p->d, d_type, n, 1, (int64_t)n), reason);
}

/* The lock is held. */
static nvfp4_status make_shape(cublaslt *lt, nvfp4_cu_context context, const nvfp4_layer_desc *desc, shape **out, nvfp4_reason *reason) {
  shape *s = calloc(1, sizeof *s);
  if (s == NULL) {
    return nvfp4_reject(reason, NVFP4_E_NOMEM, "out of memory for cuBLASLt");
  }
  *s =
      (shape){.next = lt->shapes, .context = context, .n = desc->n, .k = desc->k, .y_dtype = desc->y_dtype, .bias_dtype = desc->bias_dtype};
  pthread_mutex_init(&s->lock, NULL);
  nvfp4_status status = find_handle(lt, context, &s->handle, reason);
  for (int form = 0; form < FORMS && status == NVFP4_OK; form++) {
    status = make_product(lt, s, form, &s->products[form], reason);
  }
  if (status != NVFP4_OK) {
    destroy_shape(lt, s);
    return status;
  }
  lt->shapes = s;
  *out = s;
  return NVFP4_OK;
}

/* NULL: there is none. */
static shape *find_shape(cublaslt *lt, nvfp4_cu_context context, int64_t n, int64_t k, nvfp4_dtype y_dtype, nvfp4_dtype bias_dtype) {
  shape *s = lt->shapes;
  while (s != NULL && (s->context != context || s->n != n || s->k != k || s->y_dtype != y_dtype || s->bias_dtype != bias_dtype)) {
    s = s->next;
  }
  return s;
}

/* Sets what depends on the call. w_scales, x_scales and bias: the heuristic looks at their alignment, and refuses NULL. */
static nvfp4_status set_call(const cublaslt *lt, product *p, int64_t m, int64_t ldd, const void *w_scales, const void *x_scales,
                             const void *bias, nvfp4_reason *reason) {
  const uint64_t columns = (uint64_t)m;
  NVFP4_TRY(check(lt, "A_SCALE_POINTER", set_pointer(lt, p->desc, NVFP4_LT_DESC_A_SCALE_POINTER, w_scales), reason));
  NVFP4_TRY(check(lt, "B_SCALE_POINTER", set_pointer(lt, p->desc, NVFP4_LT_DESC_B_SCALE_POINTER, x_scales), reason));
  if (bias != NULL) {
    NVFP4_TRY(check(lt, "BIAS_POINTER", set_pointer(lt, p->desc, NVFP4_LT_DESC_BIAS_POINTER, bias), reason));
  }
  NVFP4_TRY(check(lt, "COLS", lt->api.layout_set(p->x, NVFP4_LT_LAYOUT_COLS, &columns, sizeof columns), reason));
  NVFP4_TRY(check(lt, "COLS", lt->api.layout_set(p->d, NVFP4_LT_LAYOUT_COLS, &columns, sizeof columns), reason));
  return check(lt, "LD", lt->api.layout_set(p->d, NVFP4_LT_LAYOUT_LD, &ldd, sizeof ldd), reason);
}

/* -------------------------------------------------------------------------------------------------------------------- prepare */

static nvfp4_status make_preference(const cublaslt *lt, int bucket, int64_t n, nvfp4_lt_preference **out, nvfp4_reason *reason) {
  static const struct {
    int attribute;
    uint32_t bytes;
  } alignments[] = {{NVFP4_LT_PREF_MIN_ALIGNMENT_A_BYTES, CUDA_FP4_ALIGNMENT},
                    {NVFP4_LT_PREF_MIN_ALIGNMENT_B_BYTES, CUDA_FP4_ALIGNMENT},
                    {NVFP4_LT_PREF_MIN_ALIGNMENT_C_BYTES, ALIGNMENT},
                    {NVFP4_LT_PREF_MIN_ALIGNMENT_D_BYTES, ALIGNMENT}};
  const uint64_t workspace = library_bytes(bucket, n);
  NVFP4_TRY(check(lt, "cublasLtMatmulPreferenceCreate", lt->api.preference_create(out), reason));
  NVFP4_TRY(check(lt, "MAX_WORKSPACE_BYTES", lt->api.preference_set(*out, NVFP4_LT_PREF_MAX_WORKSPACE_BYTES, &workspace, sizeof workspace),
                  reason));
  for (size_t i = 0; i < sizeof alignments / sizeof alignments[0]; i++) {
    NVFP4_TRY(check(lt, "MIN_ALIGNMENT",
                    lt->api.preference_set(*out, alignments[i].attribute, &alignments[i].bytes, sizeof alignments[i].bytes), reason));
  }
  return NVFP4_OK;
}

/*
 * Asks for an algorithm, once. "Unsupported" has three forms: the status NOT_SUPPORTED (and ARCH_MISMATCH), no result, a result whose state is an error; all are REFUSED here. Other errors are
 * returned.
 */
static nvfp4_status ask(const cublaslt *lt, const shape *s, product *p, int bucket, const void *any_scales, nvfp4_reason *reason) {
  const uint8_t *aligned = (const uint8_t *)any_scales + ALIGNMENT; /* no better aligned than what is asked of the caller's bias */
  const int64_t columns = p == &s->products[DIRECT] ? s->n : sums_columns(s->n);
  nvfp4_lt_preference *preference = NULL;
  nvfp4_lt_heuristic result = {.state = NVFP4_LT_NOT_SUPPORTED};
  int count = 0;
  NVFP4_TRY(set_call(lt, p, (int64_t)FIRST_BUCKET_M << bucket, columns, any_scales, any_scales,
                     p == &s->products[DIRECT] && s->bias_dtype != NVFP4_DTYPE_NONE ? aligned : NULL, reason));
  nvfp4_status status = make_preference(lt, bucket, s->n, &preference, reason);
  if (status == NVFP4_OK) {
    const int said = lt->api.get_heuristic(s->handle, p->desc, p->w, p->x, p->d, p->d, preference, 1, &result, &count);
    const bool unsupported = said == NVFP4_LT_NOT_SUPPORTED || said == NVFP4_LT_ARCH_MISMATCH;
    status = unsupported ? NVFP4_OK : check(lt, "cublasLtMatmulAlgoGetHeuristic", said, reason);
    if (status == NVFP4_OK) {
      const bool good = !unsupported && count > 0 && result.state == NVFP4_LT_SUCCESS;
      p->algorithms[bucket] = (algorithm){good ? GRANTED : REFUSED, result.algo};
    }
  }
  if (preference != NULL) {
    lt->api.preference_destroy(preference);
  }
  return status;
}

/* The shape's lock is held. */
static nvfp4_status prepare_bucket(const cublaslt *lt, shape *s, int bucket, bool direct, const void *any_scales, nvfp4_reason *reason) {
  for (int form = direct ? DIRECT : SUMS; form < FORMS; form++) {
    product *p = &s->products[form];
    if (p->algorithms[bucket].answer == NOT_ASKED) {
      NVFP4_TRY(ask(lt, s, p, bucket, any_scales, reason));
    }
  }
  if (s->products[SUMS].algorithms[bucket].answer != GRANTED) {
    return nvfp4_reject(reason, NVFP4_E_MACHINE,
                        "cuBLASLt %zu.%zu.%zu has no NVFP4 product for this GPU (N = %lld, K = %lld, M = %d); needs one of compute "
                        "capability 10.0 or newer that it knows: a newer cuBLAS may, or another kernel serves",
                        lt->version / 10000, lt->version / 100 % 100, lt->version % 100, (long long)s->n, (long long)s->k,
                        FIRST_BUCKET_M << bucket);
  }
  return NVFP4_OK;
}

/* Whether cuBLASLt could write y, if its address and stride allow it. */
static bool direct_shape(const nvfp4_packed *packed, int64_t n, nvfp4_dtype y_dtype) {
  float alpha;
  return cuda_fp4_uniform_alpha(packed, &alpha) && (size_t)n * elem_bytes(y_dtype) % ALIGNMENT == 0;
}

static nvfp4_status prepare(const nvfp4_host *host, const nvfp4_layer_desc *desc, const nvfp4_packed *packed, nvfp4_reason *reason) {
  const bool any_m = desc->m_first == 0 && desc->m_last == 0;
  nvfp4_cu_context context = NULL;
  void *found = NULL;
  NVFP4_TRY(nvfp4_cuda_check(host->cuda, "cuCtxGetCurrent", nvfp4_cuda_api(host->cuda)->context_get_current(&context), reason));
  NVFP4_TRY(nvfp4_cuda_find_companion(host->cuda, &companion, &found, reason));
  cublaslt *lt = found;
  pthread_mutex_lock(&lt->lock);
  shape *s = find_shape(lt, context, desc->n, desc->k, desc->y_dtype, desc->bias_dtype);
  nvfp4_status status = s != NULL ? NVFP4_OK : make_shape(lt, context, desc, &s, reason);
  pthread_mutex_unlock(&lt->lock);
  NVFP4_TRY(status);
  pthread_mutex_lock(&s->lock);
  const int last = any_m ? BUCKETS - 1 : bucket_of(desc->m_last);
  for (int bucket = any_m ? 0 : bucket_of(desc->m_first); bucket <= last && status == NVFP4_OK; bucket++) {
    status = prepare_bucket(lt, s, bucket, direct_shape(packed, desc->n, desc->y_dtype), cuda_fp4_scales(packed), reason);
  }
  pthread_mutex_unlock(&s->lock);
  return status;
}

/* ---------------------------------------------------------------------------------------------------------------------- apply */

/* Rows of x whose sums are made at a time: whole tiles of scales, and 64 MiB where those allow it. */
static int64_t sums_rows(int64_t m, int64_t n) {
  const int64_t rows = ((int64_t)64 << 20) / 4 / sums_columns(n) / CUDA_FP4_ROWS * CUDA_FP4_ROWS;
  const int64_t most = rows > CUDA_FP4_ROWS ? rows : CUDA_FP4_ROWS;
  return m < most ? m : most;
}

static size_t sums_bytes(int64_t m, int64_t n) { return (size_t)nvfp4_round_up(sums_rows(m, n) * sums_columns(n) * 4, CUDA_FP4_ALIGNMENT); }

static size_t workspace_bytes(const nvfp4_layer_desc *desc, int64_t m) {
  return cuda_fp4_x_bytes(m, desc->k, NVFP4_SCALES_128X4) + sums_bytes(m, desc->n) + library_bytes(bucket_of(m), desc->n);
}

/* One call of the library's, its descriptors locked. */
typedef struct multiply_args {
  int form, bucket; /* of the whole call, whose algorithm serves its parts */
  int64_t m, ldd;
  float alpha;
  const uint8_t *x_codes, *x_scales;
  const void *bias;
  void *d, *workspace, *stream;
} multiply_args;

static nvfp4_status multiply(const cublaslt *lt, shape *s, const nvfp4_packed *packed, const multiply_args *a, nvfp4_reason *reason) {
  static const float zero = 0.0f;
  product *p = &s->products[a->form];
  const algorithm *chosen = &p->algorithms[a->bucket];
  pthread_mutex_lock(&s->lock);
  nvfp4_status status = chosen->answer == GRANTED
                            ? set_call(lt, p, a->m, a->ldd, cuda_fp4_scales(packed), a->x_scales, a->bias, reason)
                            : nvfp4_reject(reason, NVFP4_E_INTERNAL, "vendor_cublaslt_w4a4: M = %lld was not prepared", (long long)a->m);
  if (status == NVFP4_OK) {
    status = check(lt, "cublasLtMatmul",
                   lt->api.matmul(s->handle, p->desc, &a->alpha, cuda_fp4_codes(packed), p->w, a->x_codes, p->x, &zero, a->d, p->d, a->d,
                                  p->d, &chosen->algo, a->workspace, library_bytes(a->bucket, s->n), a->stream),
                   reason);
  }
  pthread_mutex_unlock(&s->lock);
  return status;
}

static bool aligned(const void *p) { return (uintptr_t)p % ALIGNMENT == 0; }

/* Whether this call can be the direct form. What was granted is final once it has been asked for. */
static bool is_direct(shape *s, const nvfp4_packed *packed, const nvfp4_kernel_args *args) {
  pthread_mutex_lock(&s->lock);
  const bool granted = s->products[DIRECT].algorithms[bucket_of(args->m)].answer == GRANTED;
  pthread_mutex_unlock(&s->lock);
  return granted && direct_shape(packed, args->n, args->y_dtype) && aligned(args->y) && aligned(args->bias) &&
         (size_t)args->ldy_elems * elem_bytes(args->y_dtype) % ALIGNMENT == 0;
}

static nvfp4_status apply_sums(const nvfp4_host *host, const cublaslt *lt, shape *s, const nvfp4_packed *packed,
                               const nvfp4_kernel_args *args, const cuda_fp4_x *x, nvfp4_reason *reason) {
  const int64_t kp = cuda_fp4_padded_k(args->k), step = sums_rows(args->m, args->n), columns = sums_columns(args->n);
  for (int64_t first = 0; first < args->m; first += step) {
    nvfp4_kernel_args part = *args;
    part.m = args->m - first < step ? args->m - first : step;
    part.y = (char *)args->y + (size_t)(first * args->ldy_elems) * elem_bytes(args->y_dtype);
    const multiply_args a = {.form = SUMS,
                             .bucket = bucket_of(args->m),
                             .m = part.m,
                             .ldd = columns,
                             .alpha = 1.0f,
                             .x_codes = x->codes + first * (kp / 2),
                             .x_scales = x->scales + first * (kp / NVFP4_BLOCK), /* whole tiles */
                             .d = x->rest,
                             .workspace = (uint8_t *)x->rest + sums_bytes(args->m, args->n),
                             .stream = args->stream};
    NVFP4_TRY(multiply(lt, s, packed, &a, reason));
    NVFP4_TRY(cuda_fp4_finish(host, &part, x->rest, columns, reason));
  }
  return NVFP4_OK;
}

static nvfp4_status apply_weights(const nvfp4_host *host, const nvfp4_packed *packed, const nvfp4_kernel_args *args, nvfp4_reason *reason) {
  nvfp4_cu_context context = NULL;
  void *found = NULL;
  cuda_fp4_x x;
  NVFP4_TRY(nvfp4_cuda_check(host->cuda, "cuCtxGetCurrent", nvfp4_cuda_api(host->cuda)->context_get_current(&context), reason));
  NVFP4_TRY(nvfp4_cuda_find_companion(host->cuda, &companion, &found, reason));
  cublaslt *lt = found;
  pthread_mutex_lock(&lt->lock);
  shape *s = find_shape(lt, context, args->n, args->k, args->y_dtype, args->bias_dtype);
  pthread_mutex_unlock(&lt->lock);
  if (s == NULL) {
    return nvfp4_reject(reason, NVFP4_E_INTERNAL, "vendor_cublaslt_w4a4: the layer was not prepared in this CUDA context");
  }
  NVFP4_TRY(cuda_fp4_quantise(host, args, NVFP4_SCALES_128X4, &x, reason));
  if (!is_direct(s, packed, args)) {
    return apply_sums(host, lt, s, packed, args, &x, reason);
  }
  multiply_args a = {.form = DIRECT,
                     .bucket = bucket_of(args->m),
                     .m = args->m,
                     .ldd = args->ldy_elems,
                     .x_codes = x.codes,
                     .x_scales = x.scales,
                     .bias = args->bias,
                     .d = args->y,
                     .workspace = (uint8_t *)x.rest + sums_bytes(args->m, args->n),
                     .stream = args->stream};
  cuda_fp4_uniform_alpha(packed, &a.alpha);
  return multiply(lt, s, packed, &a, reason);
}

/* ------------------------------------------------------------------------------------------------------------------- the kernel */

static nvfp4_status is_supported(const nvfp4_machine *machine, nvfp4_reason *reason) { return cuda_is_supported(machine, 100, 0, reason); }

static nvfp4_status can_implement(const nvfp4_layer_desc *desc, nvfp4_reason *reason) {
  (void)desc; /* any N, any K that is a multiple of 16, any M, all element types */
  (void)reason;
  return NVFP4_OK;
}

const nvfp4_kernel nvfp4_kernel_vendor_cublaslt_w4a4 = {
    .struct_size = sizeof(nvfp4_kernel),
    .id = "vendor_cublaslt_w4a4",
    .summary = "cuBLASLt's block-scaled FP4 product, opened at run time",
    .layout = &nvfp4_layout_cuda_fp4,
    .numerics = {NVFP4_MODE_W4A4, NVFP4_CLASS_BOUNDED, NVFP4_FLAG_DETERMINISTIC, "w4a4: FP4 tensor cores as cuBLASLt chooses, fp32"},
    .device = NVFP4_DEVICE_CUDA,
    .verified = "compiles; never executed by us",
    .is_supported = is_supported,
    .can_implement = can_implement,
    .workspace_bytes = workspace_bytes,
    .apply_weights = apply_weights,
    .prepare = prepare,
};
