/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A field of fake kernels, as diverse as the real one: for CPUs and GPUs, canonical and bounded, of both modes, for some rows only, sharing layouts,
 * not built, of a plug-in that is open and of one that is not.
 */
#ifndef NVFP4_TESTS_SELECT_FIELD_H
#define NVFP4_TESTS_SELECT_FIELD_H

#include <inttypes.h>
#include <stdio.h>

#include "base/reason.h"
#include "select/select.h"
#include "support.h"

static inline size_t field_bytes(int64_t n, int64_t k, nvfp4_dtype weight_dtype) {
  return weight_dtype == NVFP4_DTYPE_NONE ? (size_t)(n * k / 2 + n * k / 16) : (size_t)(n * k * (weight_dtype == NVFP4_DTYPE_F32 ? 4 : 2));
}
static inline size_t field_bytes_padded(int64_t n, int64_t k, nvfp4_dtype weight_dtype) {
  return field_bytes((n + 127) / 128 * 128, k, weight_dtype);
}

static inline nvfp4_status field_gpu(const nvfp4_machine *machine, int least, int below, nvfp4_reason *reason) {
  if (machine->gpu_count == 0) {
    return nvfp4_reject(reason, NVFP4_E_MACHINE, "%s; needs a GPU", machine->cuda_missing[0] != '\0' ? machine->cuda_missing : "no GPU");
  }
  int sm = machine->gpus[0].sm;
  return sm >= least && sm < below ? NVFP4_OK
                                   : nvfp4_reject(reason, NVFP4_E_MACHINE, "sm_%d; needs sm_%d up to below sm_%d", sm, least, below);
}
static inline nvfp4_status field_isa(const nvfp4_machine *machine, uint32_t isa, nvfp4_reason *reason) {
  return (machine->isa & isa) == isa ? NVFP4_OK
                                     : nvfp4_reject(reason, NVFP4_E_MACHINE, "the processor lacks it; needs isa 0x%x", (unsigned)isa);
}

#define FIELD_GPU(name, least, below) \
  static inline nvfp4_status name(const nvfp4_machine *machine, nvfp4_reason *reason) { return field_gpu(machine, least, below, reason); }
#define FIELD_ISA(name, isa) \
  static inline nvfp4_status name(const nvfp4_machine *machine, nvfp4_reason *reason) { return field_isa(machine, isa, reason); }
FIELD_GPU(field_sm70, 70, 1000)
FIELD_GPU(field_sm80, 80, 1000)
FIELD_GPU(field_sm90, 90, 91)
FIELD_GPU(field_sm100, 100, 120)
FIELD_GPU(field_sm100_up, 100, 1000)
FIELD_GPU(field_sm120, 120, 130)
FIELD_ISA(field_amx, NVFP4_ISA_AMX_INT8)
FIELD_ISA(field_vnni, NVFP4_ISA_AVX512VNNI)
FIELD_ISA(field_avx2, NVFP4_ISA_AVX2 | NVFP4_ISA_FMA)
FIELD_ISA(field_dotprod, NVFP4_ISA_DOTPROD)
FIELD_ISA(field_any_cpu, 0)

static inline nvfp4_status field_any_layer(const nvfp4_layer_desc *desc, nvfp4_reason *reason) {
  return desc->m_first >= 1 ? NVFP4_OK : nvfp4_reject(reason, NVFP4_E_INTERNAL, "the M range was not filled in");
}
static inline nvfp4_status field_k64(const nvfp4_layer_desc *desc, nvfp4_reason *reason) {
  return desc->k % 64 == 0 ? NVFP4_OK : nvfp4_reject(reason, NVFP4_E_SHAPE, "K=%" PRId64 "; needs a multiple of 64", desc->k);
}

static const nvfp4_layout field_cutlass = {
    .struct_size = sizeof(nvfp4_layout), .name = "cutlass_128x4", .packed_bytes = field_bytes_padded};
static const nvfp4_layout field_sm100_l = {.struct_size = sizeof(nvfp4_layout), .name = "cuda_sm100", .packed_bytes = field_bytes_padded};
static const nvfp4_layout field_lt = {.struct_size = sizeof(nvfp4_layout), .name = "vendor_128x4", .packed_bytes = field_bytes_padded};
static const nvfp4_layout field_sm90_l = {.struct_size = sizeof(nvfp4_layout), .name = "cuda_sm90", .packed_bytes = field_bytes};
static const nvfp4_layout field_sm80_l = {.struct_size = sizeof(nvfp4_layout), .name = "cuda_sm80", .packed_bytes = field_bytes};
static const nvfp4_layout field_plain = {.struct_size = sizeof(nvfp4_layout), .name = "cuda_plain", .packed_bytes = field_bytes};
static const nvfp4_layout field_amx_l = {.struct_size = sizeof(nvfp4_layout), .name = "x86_n16k64", .packed_bytes = field_bytes};
static const nvfp4_layout field_n16 = {.struct_size = sizeof(nvfp4_layout), .name = "x86_n16k16", .packed_bytes = field_bytes};
static const nvfp4_layout field_n8 = {.struct_size = sizeof(nvfp4_layout), .name = "x86_n8k16", .packed_bytes = field_bytes};
static const nvfp4_layout field_arm = {.struct_size = sizeof(nvfp4_layout), .name = "arm_n8k16", .packed_bytes = field_bytes};
static const nvfp4_layout field_ref = {.struct_size = sizeof(nvfp4_layout), .name = "ref_n32", .packed_bytes = field_bytes_padded};

#define BI NVFP4_FLAG_BATCH_INVARIANT
#define DET NVFP4_FLAG_DETERMINISTIC
#define FIELD_KERNEL(name, lay, kernel_mode, kernel_class, kernel_flags, kernel_order, dev, first, last, machine, layer) \
  static const nvfp4_kernel field_##name = {                                                                             \
      .struct_size = sizeof(nvfp4_kernel),                                                                               \
      .id = #name,                                                                                                       \
      .layout = &lay,                                                                                                    \
      .numerics = {NVFP4_MODE_##kernel_mode, NVFP4_CLASS_##kernel_class, kernel_flags, kernel_order},                    \
      .device = NVFP4_DEVICE_##dev,                                                                                      \
      .m_first = first,                                                                                                  \
      .m_last = last,                                                                                                    \
      .is_supported = machine,                                                                                           \
      .can_implement = layer};
FIELD_KERNEL(plugin_cutlass_w4a4, field_cutlass, W4A4, BOUNDED, DET, "cutlass", CUDA, 0, 0, field_sm100_up, field_any_layer)
FIELD_KERNEL(cuda_sm100_w4a4, field_sm100_l, W4A4, BOUNDED, BI | DET, "mma k64", CUDA, 0, 0, field_sm100, field_any_layer)
FIELD_KERNEL(cuda_sm120_w4a4, field_sm100_l, W4A4, BOUNDED, BI | DET, "mma k64", CUDA, 0, 0, field_sm120, field_any_layer)
FIELD_KERNEL(vendor_cublaslt_w4a4, field_lt, W4A4, BOUNDED, DET, "cublaslt", CUDA, 0, 0, field_sm100_up, field_any_layer)
FIELD_KERNEL(cuda_sm90_decode_w4a16, field_sm90_l, W4A16, BOUNDED, BI | DET, "sm90 fma", CUDA, 1, 16, field_sm90, field_any_layer)
FIELD_KERNEL(cuda_sm90_w4a16, field_sm90_l, W4A16, BOUNDED, BI | DET, "sm90 wgmma", CUDA, 17, NVFP4_M_MAX, field_sm90, field_any_layer)
FIELD_KERNEL(cuda_sm80_w4a16, field_sm80_l, W4A16, BOUNDED, 0, "stream-k", CUDA, 0, 0, field_sm80, field_k64)
FIELD_KERNEL(cuda_emulation_w4a4, field_plain, W4A4, CANONICAL, BI | DET, NVFP4_ORDER_CANONICAL_W4A4, CUDA, 0, 0, field_sm70,
             field_any_layer)
FIELD_KERNEL(cuda_emulation_w4a16, field_plain, W4A16, CANONICAL, BI | DET, NVFP4_ORDER_CANONICAL_W4A16, CUDA, 0, 0, field_sm70,
             field_any_layer)
FIELD_KERNEL(x86_amx_w4a4, field_amx_l, W4A4, BOUNDED, BI | DET, "amx k64", CPU, 32, NVFP4_M_MAX, field_amx, field_any_layer)
FIELD_KERNEL(x86_avx512vnni_w4a4, field_n16, W4A4, CANONICAL, BI | DET, NVFP4_ORDER_CANONICAL_W4A4, CPU, 0, 0, field_vnni, field_any_layer)
FIELD_KERNEL(x86_avx2_w4a4, field_n16, W4A4, CANONICAL, BI | DET, NVFP4_ORDER_CANONICAL_W4A4, CPU, 0, 0, field_avx2, field_any_layer)
FIELD_KERNEL(x86_avx2_w4a16, field_n8, W4A16, CANONICAL, BI | DET, NVFP4_ORDER_CANONICAL_W4A16, CPU, 0, 0, field_avx2, field_any_layer)
FIELD_KERNEL(arm_dotprod_w4a4, field_arm, W4A4, CANONICAL, BI | DET, NVFP4_ORDER_CANONICAL_W4A4, CPU, 0, 0, field_dotprod, field_any_layer)
FIELD_KERNEL(ref_w4a4, field_ref, W4A4, CANONICAL, BI | DET, NVFP4_ORDER_CANONICAL_W4A4, CPU, 0, 0, field_any_cpu, field_any_layer)
FIELD_KERNEL(ref_w4a16, field_ref, W4A16, CANONICAL, BI | DET, NVFP4_ORDER_CANONICAL_W4A16, CPU, 0, 0, field_any_cpu, field_any_layer)

FIELD_KERNEL(ref_w16a16, field_ref, UNQUANTISED, CANONICAL, BI | DET, NVFP4_ORDER_CANONICAL_W16A16, CPU, 0, 0, field_any_cpu,
             field_any_layer)

#define FIELD_THERE(name) \
  { .id = #name, .kernel = &field_##name }
static const nvfp4_candidate field[] = {
    FIELD_THERE(plugin_cutlass_w4a4),
    FIELD_THERE(cuda_sm100_w4a4),
    FIELD_THERE(cuda_sm120_w4a4),
    FIELD_THERE(vendor_cublaslt_w4a4),
    {.id = "vendor_cudnn_w4a4", .missing = NVFP4_STAGE_NOT_BUILT, .missing_reason = "not built: no cuDNN headers"},
    FIELD_THERE(cuda_sm90_decode_w4a16),
    FIELD_THERE(cuda_sm90_w4a16),
    FIELD_THERE(cuda_sm80_w4a16),
    FIELD_THERE(cuda_emulation_w4a4),
    FIELD_THERE(cuda_emulation_w4a16),
    FIELD_THERE(x86_amx_w4a4),
    FIELD_THERE(x86_avx512vnni_w4a4),
    FIELD_THERE(x86_avx2_w4a4),
    FIELD_THERE(x86_avx2_w4a16),
    FIELD_THERE(arm_dotprod_w4a4),
    FIELD_THERE(ref_w4a4),
    FIELD_THERE(ref_w4a16),
    {.id = "plugin_fbgemm_w4a4", .missing = NVFP4_STAGE_PLUGIN_MISSING, .missing_reason = "fbgemm.so: cannot open shared object file"},
};
enum { FIELD_COUNT = sizeof field / sizeof field[0] };

/* Kernels for both kinds of layers. */
static const nvfp4_candidate field_kinds[] = {
    {.id = "arm_neon_w16a16", .missing = NVFP4_STAGE_NOT_BUILT, .missing_reason = "not built: another processor"},
    FIELD_THERE(ref_w4a4),
    FIELD_THERE(ref_w4a16),
    FIELD_THERE(ref_w16a16),
};

static inline nvfp4_machine field_machine(const char *name) {
  nvfp4_machine machine;
  nvfp4_reason reason = {.text = ""};
  assert_non_null(nvfp4_recorded_machine(name));
  assert_ok(nvfp4_machine_parse(nvfp4_recorded_machine(name), &machine, &reason), reason);
  return machine;
}

static const nvfp4_partition field_whole = {0, 256, {0.5f, false}, {0.25f, false}};
static const nvfp4_partition field_no_input = {0, 256, {0.5f, false}, {0, false}};

static inline nvfp4_layer_desc field_desc(nvfp4_mode mode, nvfp4_device_kind device) {
  return (nvfp4_layer_desc){.struct_size = sizeof(nvfp4_layer_desc),
                            .name = "fake",
                            .n = 256,
                            .k = 128,
                            .mode = mode,
                            .x_dtype = NVFP4_DTYPE_BF16,
                            .y_dtype = NVFP4_DTYPE_BF16,
                            .device = {device, 0},
                            .partitions = mode == NVFP4_MODE_W4A4 ? &field_whole : &field_no_input,
                            .partition_count = 1};
}

/* One letter a row: not built, disabled, plug-in missing, machine, layer, numerics (o), self-test, eligible, Chosen. */
static inline const char *field_stages(const nvfp4_report *report, char *text) {
  for (size_t i = 0; i < report->row_count; i++) {
    text[i] = "ndpmloteC"[report->rows[i].stage];
  }
  text[report->row_count] = '\0';
  return text;
}

/* "1-16 id, 17- id" */
static inline const char *field_plan(const nvfp4_report *report, char *text, size_t size) {
  size_t used = 0;
  text[0] = '\0';
  for (size_t i = 0; i < report->range_count; i++) {
    const nvfp4_plan_range *range = &report->ranges[i];
    char last[24] = "";
    if (range->m_last != NVFP4_M_MAX) {
      snprintf(last, sizeof last, "%" PRId64, range->m_last);
    }
    used += (size_t)snprintf(text + used, size - used, "%s%" PRId64 "-%s %s", i > 0 ? ", " : "", range->m_first, last, range->kernel);
  }
  return text;
}

static inline const char *field_reason(const nvfp4_report *report, const char *id) {
  for (size_t i = 0; i < report->row_count; i++) {
    if (strcmp(report->rows[i].id, id) == 0) {
      return report->rows[i].reason;
    }
  }
  fail_msg("no row %s", id);
  return "";
}

#endif
