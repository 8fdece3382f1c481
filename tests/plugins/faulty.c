/* SPDX-License-Identifier: Apache-2.0 */
/* Plug-ins with one fault each; FAULT (1 to 5) is given by the build. */
#include <nvfp4/kernel.h>

enum { NO_ENTRY = 1, REFUSES = 2, OTHER_ABI = 3, NO_LAYOUT = 4, WRONG_RESULT = 5 };

static size_t packed_bytes(int64_t n, int64_t k, nvfp4_dtype weight_dtype) {
  (void)n, (void)k, (void)weight_dtype;
  return 64;
}

static nvfp4_status process(const nvfp4_host *host, const nvfp4_process_args *args, nvfp4_packed *out, nvfp4_reason *reason) {
  (void)reason;
  *out = (nvfp4_packed){.struct_size = sizeof *out,
                        .data = host->alloc(host->cookie, 64, 64),
                        .data_bytes = 64,
                        .n = args->weights->n,
                        .k = args->weights->k};
  return NVFP4_OK;
}

static nvfp4_status unpack(const nvfp4_host *host, const nvfp4_packed *packed, uint8_t *codes, uint8_t *scales, nvfp4_reason *reason) {
  (void)packed, (void)codes, (void)scales;
  return host->reject(reason, NVFP4_E_UNSUPPORTED, "not kept");
}

static void free_packed(const nvfp4_host *host, nvfp4_packed *packed) { host->free(host->cookie, packed->data, packed->data_bytes); }

static const nvfp4_layout layout = {sizeof layout, "plugin_faulty", packed_bytes, process, unpack, free_packed};

static nvfp4_status is_supported(const nvfp4_machine *machine, nvfp4_reason *reason) {
  (void)machine, (void)reason;
  return NVFP4_OK;
}

static nvfp4_status can_implement(const nvfp4_layer_desc *desc, nvfp4_reason *reason) {
  (void)desc, (void)reason;
  return NVFP4_OK;
}

static size_t workspace_bytes(const nvfp4_layer_desc *desc, int64_t m) {
  (void)desc, (void)m;
  return 0;
}

/* Zeros: right for nobody. */
static nvfp4_status apply(const nvfp4_host *host, const nvfp4_packed *packed, const nvfp4_kernel_args *args, nvfp4_reason *reason) {
  (void)host, (void)packed, (void)reason;
  for (int64_t m = 0; m < args->m; m++) {
    for (int64_t n = 0; n < args->n; n++) {
      ((float *)args->y)[m * args->ldy_elems + n] = 0.0f;
    }
  }
  return NVFP4_OK;
}

static const nvfp4_kernel kernel = {
    .struct_size = sizeof kernel,
    .id = "plugin_faulty_w4a16",
    .summary = "a kernel with a fault",
    .layout = FAULT == NO_LAYOUT ? NULL : &layout,
    .numerics = {NVFP4_MODE_W4A16, NVFP4_CLASS_CANONICAL, NVFP4_FLAG_BATCH_INVARIANT | NVFP4_FLAG_DETERMINISTIC,
                 NVFP4_ORDER_CANONICAL_W4A16},
    .device = NVFP4_DEVICE_CPU,
    .verified = "never",
    .is_supported = is_supported,
    .can_implement = can_implement,
    .workspace_bytes = workspace_bytes,
    .apply_weights = apply,
};

#if FAULT != 1 /* NO_ENTRY */
NVFP4_API const nvfp4_plugin *nvfp4_plugin_entry(const nvfp4_host *host, uint32_t abi_major, uint32_t abi_minor);

NVFP4_API const nvfp4_plugin *nvfp4_plugin_entry(const nvfp4_host *host, uint32_t abi_major, uint32_t abi_minor) {
  static const nvfp4_kernel *const kernels[] = {&kernel};
  static const nvfp4_plugin plugin = {.struct_size = sizeof plugin,
                                      .abi_major = FAULT == OTHER_ABI ? NVFP4_ABI_MAJOR + 1 : NVFP4_ABI_MAJOR,
                                      .abi_minor = NVFP4_ABI_MINOR,
                                      .name = "faulty",
                                      .version = "1",
                                      .kernel_count = 1,
                                      .kernels = kernels};
  (void)host, (void)abi_major, (void)abi_minor;
  return FAULT == REFUSES ? NULL : &plugin;
}
#else
NVFP4_API const void *nvfp4_no_entry(void);
NVFP4_API const void *nvfp4_no_entry(void) { return &kernel; }
#endif
