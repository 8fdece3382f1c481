/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A kernel of one's own in a shared object, built against <nvfp4/kernel.h> alone and linked with nothing of the library:
 *   cc -std=c11 -O2 -ffp-contract=off -fPIC -shared -I include examples/example_plugin.c -o example_plugin.so -lm
 *
 *   plugin_example_w4a16   y[m,n] = alpha[n] * sum over blocks b ( e4m3(scale[n,b]) * sum over k in b ( x[m,k] * e2m1(code[n,k]) ) ) + bias[n]
 *   class                  CANONICAL: additions in the order of docs/numerics.md
 *   packed                 codes [n, k/2], then scales [n, k/16], as in the canonical form
 */
#include <math.h>
#include <nvfp4/kernel.h>
#include <stdio.h>
#include <string.h>

/* ------------------------------------------------------------------------------------------------------------------ layout */

static size_t code_bytes(int64_t n, int64_t k) { return (size_t)n * (size_t)(k / 2); }
static size_t packed_bytes(int64_t n, int64_t k, nvfp4_dtype weight_dtype) {
  (void)weight_dtype; /* of dense layers, which selection keeps from this kernel */
  return code_bytes(n, k) + (size_t)n * (size_t)(k / NVFP4_BLOCK);
}

static nvfp4_status process_weights(const nvfp4_host *host, const nvfp4_process_args *args, nvfp4_packed *out, nvfp4_reason *reason) {
  const nvfp4_weights *w = args->weights;
  size_t bytes = packed_bytes(w->n, w->k, w->dtype);
  uint8_t *codes = host->alloc(host->cookie, bytes, 64);
  if (codes == NULL) {
    return host->reject(reason, NVFP4_E_NOMEM, "no memory for %zu bytes of packed weights", bytes);
  }
  uint8_t *scales = codes + code_bytes(w->n, w->k);
  for (int64_t n = 0; n < w->n; n++) {
    memcpy(codes + n * (w->k / 2), w->codes + n * w->codes_stride_bytes, (size_t)(w->k / 2));
    memcpy(scales + n * (w->k / NVFP4_BLOCK), w->scales + n * w->scales_stride_bytes, (size_t)(w->k / NVFP4_BLOCK));
  }
  *out = (nvfp4_packed){.struct_size = sizeof *out, .data = codes, .data_bytes = bytes, .n = w->n, .k = w->k};
  return NVFP4_OK;
}

static nvfp4_status unpack(const nvfp4_host *host, const nvfp4_packed *packed, uint8_t *codes, uint8_t *scales, nvfp4_reason *reason) {
  (void)host;
  (void)reason;
  size_t split = code_bytes(packed->n, packed->k);
  memcpy(codes, packed->data, split);
  memcpy(scales, (const uint8_t *)packed->data + split, packed->data_bytes - split);
  return NVFP4_OK;
}

static void free_packed(const nvfp4_host *host, nvfp4_packed *packed) { host->free(host->cookie, packed->data, packed->data_bytes); }

static const nvfp4_layout layout = {.struct_size = sizeof layout,
                                    .name = "plugin_example_rows",
                                    .packed_bytes = packed_bytes,
                                    .process_weights_after_loading = process_weights,
                                    .unpack = unpack,
                                    .free_packed = free_packed};

/* ------------------------------------------------------------------------------------------------------------------ kernel */

static nvfp4_status is_supported(const nvfp4_machine *machine, nvfp4_reason *reason) {
  (void)machine; /* plain C: runs anywhere */
  (void)reason;
  return NVFP4_OK;
}

static nvfp4_status can_implement(const nvfp4_layer_desc *desc, nvfp4_reason *reason) {
  if (desc->device.kind != NVFP4_DEVICE_CPU) {
    if (reason != NULL) {
      reason->status = NVFP4_E_UNSUPPORTED;
      snprintf(reason->text, sizeof reason->text, "the layer is on a CUDA device, this kernel runs on the CPU: move the layer");
    }
    return NVFP4_E_UNSUPPORTED;
  }
  return NVFP4_OK;
}

/* The rows of x as fp32. */
static size_t workspace_bytes(const nvfp4_layer_desc *desc, int64_t m) { return (size_t)m * (size_t)desc->k * sizeof(float); }

typedef struct job {
  const nvfp4_host *host;
  const nvfp4_packed *packed;
  const nvfp4_kernel_args *args;
} job;

static void convert_row(void *arg, size_t m) {
  const job *j = arg;
  const nvfp4_kernel_args *a = j->args;
  size_t element = a->x_dtype == NVFP4_DTYPE_F32 ? 4 : 2;
  const uint8_t *x = (const uint8_t *)a->x + m * (size_t)a->ldx_elems * element;
  j->host->to_f32(x, a->x_dtype, (float *)a->workspace + m * (size_t)a->k, a->k);
}

/* Output feature n of every row. */
static void compute_feature(void *arg, size_t n) {
  const job *j = arg;
  const nvfp4_kernel_args *a = j->args;
  const nvfp4_host *host = j->host;
  const uint8_t *codes = (const uint8_t *)j->packed->data + n * (size_t)(a->k / 2);
  const uint8_t *scales = (const uint8_t *)j->packed->data + code_bytes(a->n, a->k) + n * (size_t)(a->k / NVFP4_BLOCK);
  for (int64_t m = 0; m < a->m; m++) {
    const float *x = (const float *)a->workspace + m * a->k;
    float sum = 0.0f;
    for (int64_t b = 0; b < a->k / NVFP4_BLOCK; b++) {
      float part = 0.0f;
      for (int64_t k = b * NVFP4_BLOCK; k < (b + 1) * NVFP4_BLOCK; k++) {
        unsigned code = k % 2 == 0 ? codes[k / 2] & 15u : codes[k / 2] >> 4u;
        part = fmaf(x[k], host->e2m1[code], part);
      }
      sum = fmaf(part, host->e4m3[scales[b]], sum);
    }
    float y = a->alpha[n] * sum;
    if (a->bias != NULL) {
      float bias;
      host->to_f32((const uint8_t *)a->bias + n * (a->bias_dtype == NVFP4_DTYPE_F32 ? 4 : 2), a->bias_dtype, &bias, 1);
      y = fmaf(a->alpha[n], sum, bias);
    }
    size_t element = a->y_dtype == NVFP4_DTYPE_F32 ? 4 : 2;
    y = isnan(y) ? NAN : y; /* one NaN: its sign and payload differ between processors */
    host->from_f32(&y, a->y_dtype, (uint8_t *)a->y + ((size_t)m * (size_t)a->ldy_elems + n) * element, 1);
  }
}

static nvfp4_status apply_weights(const nvfp4_host *host, const nvfp4_packed *packed, const nvfp4_kernel_args *args, nvfp4_reason *reason) {
  (void)reason;
  job j = {host, packed, args};
  host->parallel_for(host->cookie, (size_t)args->m, convert_row, &j);
  host->parallel_for(host->cookie, (size_t)args->n, compute_feature, &j);
  return NVFP4_OK;
}

static const nvfp4_kernel kernel = {.struct_size = sizeof kernel,
                                    .id = "plugin_example_w4a16",
                                    .summary = "example of a plug-in: plain loops, 16-bit or fp32 activations",
                                    .layout = &layout,
                                    .numerics = {.mode = NVFP4_MODE_W4A16,
                                                 .numerics_class = NVFP4_CLASS_CANONICAL,
                                                 .flags = NVFP4_FLAG_BATCH_INVARIANT | NVFP4_FLAG_DETERMINISTIC,
                                                 .order = NVFP4_ORDER_CANONICAL_W4A16},
                                    .device = NVFP4_DEVICE_CPU,
                                    .verified = "by the test examples/04_use_a_plugin",
                                    .is_supported = is_supported,
                                    .can_implement = can_implement,
                                    .workspace_bytes = workspace_bytes,
                                    .apply_weights = apply_weights};

/* ------------------------------------------------------------------------------------------------------------------- entry */

NVFP4_API const nvfp4_plugin *nvfp4_plugin_entry(const nvfp4_host *host, uint32_t abi_major, uint32_t abi_minor);

const nvfp4_plugin *nvfp4_plugin_entry(const nvfp4_host *host, uint32_t abi_major, uint32_t abi_minor) {
  static const nvfp4_kernel *const kernels[] = {&kernel};
  static const nvfp4_plugin plugin = {.struct_size = sizeof plugin,
                                      .abi_major = NVFP4_ABI_MAJOR,
                                      .abi_minor = NVFP4_ABI_MINOR,
                                      .name = "example",
                                      .version = "1",
                                      .kernel_count = 1,
                                      .kernels = kernels};
  (void)host;
  (void)abi_minor; /* a newer minor only adds at the ends of structs */
  return abi_major == NVFP4_ABI_MAJOR ? &plugin : NULL;
}
