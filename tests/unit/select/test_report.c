/* SPDX-License-Identifier: Apache-2.0 */
/* What a selection says: the sentences, sizes, and that a report owns its strings. */
#include <stdlib.h>

#include "field.h"

typedef struct reason_case {
  const char *machine;
  nvfp4_device_kind device;
  nvfp4_mode mode;
  int64_t m;
  nvfp4_policy policy;
  const char *id;   /* of the row; NULL: the report's sentence */
  const char *text; /* a part of its reason */
} reason_case;

static const reason_case cases[] = {
    /* not built, plug-in, disabled */
    {"avx2", NVFP4_DEVICE_CPU, NVFP4_MODE_W4A4, 1, {0}, "vendor_cudnn_w4a4", "not built: no cuDNN headers"},
    {"avx2", NVFP4_DEVICE_CPU, NVFP4_MODE_W4A4, 1, {0}, "plugin_fbgemm_w4a4", "fbgemm.so: cannot open shared object file"},
    {"avx2",
     NVFP4_DEVICE_CPU,
     NVFP4_MODE_W4A4,
     1,
     {.disable = "arm_*, ref_w4a16"},
     "ref_w4a16",
     "excluded by NVFP4_DISABLE=arm_*, ref_w4a16;"},
    {"avx2",
     NVFP4_DEVICE_CPU,
     NVFP4_MODE_W4A4,
     1,
     {.vllm_disable = "EmulationNvFp4LinearKernel"},
     "ref_w4a4",
     "excluded by VLLM_DISABLED_KERNELS=EmulationNvFp4LinearKernel;"},
    {"avx2", NVFP4_DEVICE_CPU, NVFP4_MODE_W4A4, 1, {.env_kernel = "ref_*"}, "x86_avx2_w4a4", "not named by NVFP4_KERNEL=ref_*; add it"},
    {"avx2", NVFP4_DEVICE_CPU, NVFP4_MODE_W4A4, 1, {.kernel = "ref_*"}, "x86_avx2_w4a4", "not named by the kernel option=ref_*"},
    /* the machine, the layer */
    {"no-driver",
     NVFP4_DEVICE_CPU,
     NVFP4_MODE_W4A4,
     1,
     {0},
     "cuda_sm90_w4a16",
     "cuInit: no CUDA-capable device is detected (100); needs a GPU"},
    {"h100", NVFP4_DEVICE_CUDA, NVFP4_MODE_W4A4, 1, {0}, "ref_w4a4", "lives on cuda:0; this kernel works on the CPU: put"},
    {"h100", NVFP4_DEVICE_CPU, NVFP4_MODE_W4A4, 1, {0}, "cuda_sm80_w4a16", "lives on cpu; this kernel works on a CUDA device: put"},
    {"avx2", NVFP4_DEVICE_CPU, NVFP4_MODE_W4A16, 1, {0}, "ref_w4a4", "the layer is w4a16; this kernel quantises activations"},
    {"h100", NVFP4_DEVICE_CUDA, NVFP4_MODE_W4A16, 16, {0}, "cuda_sm90_w4a16", "M is 16; this kernel serves M from 17"},
    {"h100", NVFP4_DEVICE_CUDA, NVFP4_MODE_W4A16, 17, {0}, "cuda_sm90_decode_w4a16", "M is 17; this kernel serves M 1 to 16"},
    /* numerics */
    {"avx2",
     NVFP4_DEVICE_CPU,
     NVFP4_MODE_W4A4,
     1,
     {0},
     "ref_w4a16",
     "activations more precise than the w4a4 layer asks; needs NVFP4_ALLOW=w4a16"},
    {"amx",
     NVFP4_DEVICE_CPU,
     NVFP4_MODE_W4A4,
     32,
     {0},
     "x86_amx_w4a4",
     "its class is bounded; on the CPU it needs to be canonical, or NVFP4_ALLOW"},
    {"b200",
     NVFP4_DEVICE_CUDA,
     NVFP4_MODE_W4A4,
     1,
     {.require = NVFP4_REQUIRE_CANONICAL},
     "cuda_sm100_w4a4",
     "the policy requires canonical"},
    {"b200",
     NVFP4_DEVICE_CUDA,
     NVFP4_MODE_W4A4,
     1,
     {.require = NVFP4_REQUIRE_BATCH_INVARIANT},
     "vendor_cublaslt_w4a4",
     "the policy requires batch_invariant"},
    {"b200",
     NVFP4_DEVICE_CUDA,
     NVFP4_MODE_W4A4,
     1,
     {.require = NVFP4_REQUIRE_BATCH_INVARIANT},
     "cuda_emulation_w4a4",
     "one order, that of cuda_sm100_w4a4: \"mma k64\"; name this kernel"},
    {"h100",
     NVFP4_DEVICE_CUDA,
     NVFP4_MODE_W4A16,
     1,
     {0},
     "cuda_sm80_w4a16",
     "on CUDA it needs to be deterministic, or its id in NVFP4_KERNEL"},
    {"h100",
     NVFP4_DEVICE_CUDA,
     NVFP4_MODE_W4A16,
     1,
     {.require = NVFP4_REQUIRE_DETERMINISTIC},
     "cuda_sm80_w4a16",
     "the policy requires deterministic"},
    /* eligible, chosen */
    {"amx", NVFP4_DEVICE_CPU, NVFP4_MODE_W4A4, 1, {0}, "x86_avx2_w4a4", "x86_avx512vnni_w4a4 comes first"},
    {"amx", NVFP4_DEVICE_CPU, NVFP4_MODE_W4A4, 1, {0}, "x86_avx512vnni_w4a4", "first in the order that fits"},
    {"amx",
     NVFP4_DEVICE_CPU,
     NVFP4_MODE_W4A4,
     64,
     {.allow = NVFP4_ALLOW_BOUNDED},
     "x86_amx_w4a4",
     "another packed layout (x86_n16k64) than the plan's, x86_n16k16, which serves every M; set max_layouts=2"},
    {"amx",
     NVFP4_DEVICE_CPU,
     NVFP4_MODE_W4A4,
     1,
     {.env_kernel = "x86_avx2_w4a4,auto"},
     "x86_avx2_w4a4",
     "named by NVFP4_KERNEL=x86_avx2_w4a4,auto"},
    {"avx2",
     NVFP4_DEVICE_CPU,
     NVFP4_MODE_W4A4,
     1,
     {.env_kernel = "x86_amx_w4a4,auto"},
     "x86_avx2_w4a4",
     "nothing that NVFP4_KERNEL=x86_amx_w4a4,auto names can serve"},
    {"avx2",
     NVFP4_DEVICE_CPU,
     NVFP4_MODE_W4A4,
     1,
     {.env_kernel = "ref_w4a16"},
     "ref_w4a16",
     "named by NVFP4_KERNEL=ref_w4a16; activations more precise than asked"},
    {"h100",
     NVFP4_DEVICE_CUDA,
     NVFP4_MODE_W4A4,
     1,
     {.allow = NVFP4_ALLOW_W4A16},
     "cuda_sm90_decode_w4a16",
     "first in the order that fits; activations more precise than asked"},
    /* sentences */
    {"avx2", NVFP4_DEVICE_CPU, NVFP4_MODE_W4A4, 7, {0}, NULL, "x86_avx2_w4a4 serves M=7: first in the order that fits"},
    {"avx2",
     NVFP4_DEVICE_CPU,
     NVFP4_MODE_W4A4,
     1,
     {.env_kernel = "x86_avx512*"},
     NULL,
     "layer fake (w4a4, N=256, K=128, any M, cpu): nothing that NVFP4_KERNEL=x86_avx512* names serves any M; ids that can: x86_avx2_w4a4, "
     "ref_w4a4; x86_avx512vnni_w4a4: the processor lacks it"},
    {"no-driver",
     NVFP4_DEVICE_CUDA,
     NVFP4_MODE_W4A4,
     1,
     {.env_kernel = "cuda_*"},
     NULL,
     "names serves any M; no id can; cuda_sm100_w4a4: CUDA driver"},
    {"b200",
     NVFP4_DEVICE_CUDA,
     NVFP4_MODE_W4A4,
     1,
     {.vllm_backend = "flashinfer-trtllm"},
     NULL,
     "VLLM_NVFP4_GEMM_BACKEND=flashinfer-trtllm stands for plugin_flashinfer_trtllm*, and this version has no such kernel; ids that can: "
     "plugin_cutlass_w4a4, cuda_sm100_w4a4, vendor_cublaslt_w4a4, cuda_emulation_w4a4"},
    {"b200",
     NVFP4_DEVICE_CUDA,
     NVFP4_MODE_W4A4,
     1,
     {.vllm_backend = "flash"},
     NULL,
     "VLLM_NVFP4_GEMM_BACKEND is \"flash\"; needs one of: auto, emulation, marlin"},
    {"b200",
     NVFP4_DEVICE_CUDA,
     NVFP4_MODE_W4A4,
     1,
     {.env_kernel = "cuda_sm100"},
     NULL,
     "NVFP4_KERNEL names \"cuda_sm100\", which is no kernel; needs one of: plugin_cutlass_w4a4, cuda_sm100_w4a4"},
    {"b200", NVFP4_DEVICE_CUDA, NVFP4_MODE_W4A4, 1, {.kernel = "auto, ref_w4a4"}, NULL, "\"auto\" stands before its end; put it last"},
    {"amx",
     NVFP4_DEVICE_CPU,
     NVFP4_MODE_W4A4,
     64,
     {.env_kernel = "x86_amx_w4a4"},
     NULL,
     "x86_amx_w4a4: could serve M from 32; no plan was made"},
    {"no-driver", NVFP4_DEVICE_CUDA, NVFP4_MODE_W4A4, 1, {0}, NULL, "no kernel serves it; plugin_cutlass_w4a4: CUDA driver: cuInit"},
};

static void test_reasons(void **state) {
  (void)state;
  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
    const reason_case *c = &cases[i];
    nvfp4_machine machine = field_machine(c->machine);
    nvfp4_layer_desc desc = field_desc(c->mode, c->device);
    nvfp4_select_input input = {field, FIELD_COUNT, &machine, false, &desc, &c->policy, c->m, NULL, 0};
    nvfp4_selection selection;
    nvfp4_report *report = NULL;
    nvfp4_select(&input, &selection, &report, NULL);
    assert_non_null(report);
    assert_contains(c->id != NULL ? field_reason(report, c->id) : report->text, c->text);
    nvfp4_report_free(report);
  }
}

static void test_bytes_count_runs_of_partitions(void **state) {
  (void)state;
  /* q and k share their input global, v has another: two runs, of 200 and 56 rows, each padded to 128. */
  nvfp4_partition partitions[] = {
      {0, 100, {0.5f, false}, {0.25f, false}}, {100, 100, {0.75f, false}, {0.25f, false}}, {200, 56, {0.5f, false}, {0.25f, true}}};
  nvfp4_machine machine = field_machine("x86-64");
  nvfp4_layer_desc desc = field_desc(NVFP4_MODE_W4A4, NVFP4_DEVICE_CPU);
  nvfp4_policy policy = {0};
  nvfp4_select_input input = {field, FIELD_COUNT, &machine, false, &desc, &policy, 1, NULL, 0};
  nvfp4_selection selection;
  nvfp4_report *report;
  assert_int_equal(nvfp4_select(&input, &selection, &report, NULL), NVFP4_OK);
  assert_int_equal(report->packed_bytes, field_bytes(256, 128, NVFP4_DTYPE_NONE));
  nvfp4_report_free(report);
  desc.partitions = partitions;
  desc.partition_count = 3;
  assert_int_equal(nvfp4_select(&input, &selection, &report, NULL), NVFP4_OK);
  assert_int_equal(report->packed_bytes, field_bytes(256, 128, NVFP4_DTYPE_NONE) + field_bytes(128, 128, NVFP4_DTYPE_NONE));
  assert_int_equal(report->layout_count, 1);
  assert_string_equal(report->ranges[0].layout, "ref_n32");
  nvfp4_report_free(report);
}

static void test_two_layouts_are_both_counted(void **state) {
  (void)state;
  nvfp4_machine machine = field_machine("amx");
  nvfp4_layer_desc desc = field_desc(NVFP4_MODE_W4A4, NVFP4_DEVICE_CPU);
  nvfp4_policy policy = {.allow = NVFP4_ALLOW_BOUNDED, .max_layouts = 2};
  nvfp4_select_input input = {field, FIELD_COUNT, &machine, false, &desc, &policy, 64, NULL, 0};
  nvfp4_selection selection;
  nvfp4_report *report;
  assert_int_equal(nvfp4_select(&input, &selection, &report, NULL), NVFP4_OK);
  assert_int_equal(report->layout_count, 2);
  assert_int_equal(report->packed_bytes, 2 * field_bytes(256, 128, NVFP4_DTYPE_NONE));
  nvfp4_report_free(report);
}

/* Candidates may be gone when the report is read. */
static void test_report_owns_its_strings(void **state) {
  (void)state;
  char id[] = "ref_w4a4", layout_name[] = "ref_n32";
  nvfp4_layout layout = field_ref;
  layout.name = layout_name;
  nvfp4_kernel kernel = field_ref_w4a4;
  kernel.layout = &layout;
  nvfp4_candidate candidate = {.id = id, .kernel = &kernel};
  nvfp4_machine machine = field_machine("x86-64");
  nvfp4_layer_desc desc = field_desc(NVFP4_MODE_W4A4, NVFP4_DEVICE_CPU);
  nvfp4_policy policy = {0};
  nvfp4_select_input input = {&candidate, 1, &machine, false, &desc, &policy, 1, NULL, 0};
  nvfp4_selection selection;
  nvfp4_report *report;
  assert_int_equal(nvfp4_select(&input, &selection, &report, NULL), NVFP4_OK);
  memset(id, 'x', sizeof id - 1);
  memset(layout_name, 'x', sizeof layout_name - 1);
  assert_string_equal(report->chosen, "ref_w4a4");
  assert_string_equal(report->rows[0].id, "ref_w4a4");
  assert_string_equal(report->ranges[0].kernel, "ref_w4a4");
  assert_string_equal(report->ranges[0].layout, "ref_n32");
  nvfp4_report_free(report);
  nvfp4_report_free(NULL);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_reasons),
      cmocka_unit_test(test_bytes_count_runs_of_partitions),
      cmocka_unit_test(test_two_layouts_are_both_counted),
      cmocka_unit_test(test_report_owns_its_strings),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
