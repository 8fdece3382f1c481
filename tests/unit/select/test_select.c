/* SPDX-License-Identifier: Apache-2.0 */
/* Whole selections: the field of fake kernels on every recorded machine, policies, plans; and plans against a definition by brute force. */
#include <math.h>
#include <stdlib.h>

#include "field.h"

#define CPU NVFP4_DEVICE_CPU
#define CUDA NVFP4_DEVICE_CUDA
#define W4A4 NVFP4_MODE_W4A4
#define W4A16 NVFP4_MODE_W4A16

typedef struct selection_case {
  const char *machine;
  nvfp4_device_kind device;
  nvfp4_mode mode;
  int64_t m;
  const char *stages; /* letters of field_stages(); blanks are for the eye */
  const char *plan;   /* "" if there is none */
  const char *decided_by;
  nvfp4_policy policy;
  int64_t m_first, m_last; /* 0, 0: any */
} selection_case;

#define KERNEL(list) \
  { .kernel = list }
#define ENV(list) \
  { .env_kernel = list }
#define VLLM(name) \
  { .vllm_backend = name }
#define DISABLE(list) \
  { .disable = list }
#define VLLM_DISABLE(list) \
  { .vllm_disable = list }
#define REQUIRE(flag) \
  { .require = NVFP4_REQUIRE_##flag }
#define ALLOW(flag) \
  { .allow = NVFP4_ALLOW_##flag }

#define ROW(name, dev, layer_mode, rows, letters, ranges, by, ...) \
  { .machine = name, .device = dev, .mode = layer_mode, .m = rows, .stages = letters, .plan = ranges, .decided_by = by, __VA_ARGS__ }

static const selection_case cases[] = {
    /* columns: plugin_cutlass sm100 sm120 cublaslt | cudnn | sm90_decode sm90 sm80 emulation_w4a4 emulation_w4a16 |
     *          amx vnni avx2 avx2_w4a16 | arm | ref ref_w4a16 | fbgemm */
    /* layers on CPUs */
    ROW("x86-64", CPU, W4A4, 1, "mmmm n mmmmm mmmm m Co p", "1- ref_w4a4", "order", .policy = {0}),
    ROW("x86-64", CPU, W4A16, 1, "mmmm n mmmmm mmmm m lC p", "1- ref_w4a16", "order", .policy = {0}),
    ROW("avx2", CPU, W4A4, 1, "mmmm n mmmmm mmCo m eo p", "1- x86_avx2_w4a4", "order", .policy = {0}),
    ROW("avx2", CPU, W4A16, 1, "mmmm n mmmmm mmlC m le p", "1- x86_avx2_w4a16", "order", .policy = {0}),
    ROW("avx512-vnni", CPU, W4A4, 1, "mmmm n mmmmm mCeo m eo p", "1- x86_avx512vnni_w4a4", "order", .policy = {0}),
    ROW("amx", CPU, W4A4, 1, "mmmm n mmmmm lCeo m eo p", "1- x86_avx512vnni_w4a4", "order", .policy = {0}),
    ROW("amx", CPU, W4A4, 512, "mmmm n mmmmm oCeo m eo p", "1- x86_avx512vnni_w4a4", "order", .policy = {0}),
    ROW("arm-dotprod", CPU, W4A4, 1, "mmmm n mmmmm mmmm C eo p", "1- arm_dotprod_w4a4", "order", .policy = {0}),
    ROW("arm-i8mm", CPU, W4A4, 1, "mmmm n mmmmm mmmm C eo p", "1- arm_dotprod_w4a4", "order", .policy = {0}),
    ROW("arm-i8mm", CPU, W4A16, 1, "mmmm n mmmmm mmmm l lC p", "1- ref_w4a16", "order", .policy = {0}),
    ROW("no-driver", CPU, W4A4, 1, "mmmm n mmmmm mmCo m eo p", "1- x86_avx2_w4a4", "order", .policy = {0}),
    ROW("h100", CPU, W4A4, 1, "mmmm n lllll lCeo m eo p", "1- x86_avx512vnni_w4a4", "order", .policy = {0}),
    /* layers on GPUs */
    ROW("no-driver", CUDA, W4A4, 1, "mmmm n mmmmm mmll m ll p", "", "order", .policy = {0}),
    ROW("x86-64", CUDA, W4A4, 1, "mmmm n mmmmm mmmm m ll p", "", "order", .policy = {0}),
    ROW("h100", CUDA, W4A16, 1, "mmmm n Clole llll m ll p", "1-16 cuda_sm90_decode_w4a16, 17- cuda_sm90_w4a16", "order", .policy = {0}),
    ROW("h100", CUDA, W4A16, 100, "mmmm n lCole llll m ll p", "1-16 cuda_sm90_decode_w4a16, 17- cuda_sm90_w4a16", "order", .policy = {0}),
    ROW("h100", CUDA, W4A16, 8, "mmmm n Clole llll m ll p", "1-16 cuda_sm90_decode_w4a16", "order", .m_first = 1, .m_last = 16),
    ROW("h100", CUDA, W4A16, 8, "mmmm n Clole llll m ll p", "4-16 cuda_sm90_decode_w4a16, 17-20 cuda_sm90_w4a16", "order", .m_first = 4,
        .m_last = 20),
    ROW("h100", CUDA, W4A4, 1, "mmmm n oloCo llll m ll p", "1- cuda_emulation_w4a4", "order", .policy = {0}),
    ROW("b200", CUDA, W4A4, 1, "Ceme n mmoeo llll m ll p", "1- plugin_cutlass_w4a4", "order", .policy = {0}),
    ROW("b200", CUDA, W4A16, 1, "llml n mmolC llll m ll p", "1- cuda_emulation_w4a16", "order", .policy = {0}),
    ROW("rtx-5090", CUDA, W4A4, 1, "Cmee n mmoeo mlll m ll p", "1- plugin_cutlass_w4a4", "order", .policy = {0}),
    /* what the policy requires and allows */
    ROW("h100", CUDA, W4A4, 1, "mmmm n Cloee llll m ll p", "1-16 cuda_sm90_decode_w4a16, 17- cuda_sm90_w4a16", "order",
        .policy = ALLOW(W4A16)),
    ROW("avx2", CPU, W4A4, 1, "mmmm n mmmmm mmCe m ee p", "1- x86_avx2_w4a4", "order", .policy = ALLOW(W4A16)),
    ROW("b200", CUDA, W4A4, 1, "oomo n mmoCo llll m ll p", "1- cuda_emulation_w4a4", "order", .policy = REQUIRE(CANONICAL)),
    ROW("b200", CUDA, W4A4, 1, "oCmo n mmooo llll m ll p", "1- cuda_sm100_w4a4", "order", .policy = REQUIRE(BATCH_INVARIANT)),
    ROW("h100", CUDA, W4A16, 1, "mmmm n ololC llll m ll p", "1- cuda_emulation_w4a16", "order", .policy = REQUIRE(BATCH_INVARIANT)),
    ROW("h100", CUDA, W4A16, 8, "mmmm n Clolo llll m ll p", "1-16 cuda_sm90_decode_w4a16", "order", .policy = REQUIRE(BATCH_INVARIANT),
        .m_first = 1, .m_last = 16),
    ROW("amx", CPU, W4A4, 512, "mmmm n mmmmm eCeo m eo p", "1- x86_avx512vnni_w4a4", "order", .policy = ALLOW(BOUNDED)),
    ROW("amx", CPU, W4A4, 512, "mmmm n mmmmm Ceeo m eo p", "32- x86_amx_w4a4", "order", .policy = ALLOW(BOUNDED), .m_first = 32,
        .m_last = NVFP4_M_MAX),
    ROW("amx", CPU, W4A4, 512, "mmmm n mmmmm Ceeo m eo p", "1-31 x86_avx512vnni_w4a4, 32- x86_amx_w4a4", "order",
        .policy = {.allow = NVFP4_ALLOW_BOUNDED, .max_layouts = 2}),
    ROW("amx", CPU, W4A4, 512, "mmmm n mmmmm oCeo m eo p", "1- x86_avx512vnni_w4a4", "order",
        .policy = {.allow = NVFP4_ALLOW_BOUNDED, .max_layouts = 2, .require = NVFP4_REQUIRE_BATCH_INVARIANT}),
    ROW("amx", CPU, W4A4, 512, "mmmm n mmmmm oCeo m eo p", "1- x86_avx512vnni_w4a4", "order",
        .policy = {.allow = NVFP4_ALLOW_BOUNDED, .require = NVFP4_REQUIRE_CANONICAL}),
    /* lists */
    ROW("amx", CPU, W4A4, 1, "dddd n ddddd ddCd d dd d", "1- x86_avx2_w4a4", "option", .policy = KERNEL("x86_avx2_w4a4")),
    ROW("amx", CPU, W4A4, 1, "dddd n ddddd ddCd d ed d", "1- x86_avx2_w4a4", "NVFP4_KERNEL", .policy = ENV(" x86_avx2_w4a4 , ,ref_w4a4,")),
    ROW("amx", CPU, W4A4, 1, "dddd n ddddd ddCd d dd d", "1- x86_avx2_w4a4", "option",
        .policy = {.kernel = "x86_avx2_w4a4", .env_kernel = "ref_w4a4", .vllm_backend = "marlin"}),
    ROW("amx", CPU, W4A4, 1, "dddd n ddddd dddd d Cd d", "1- ref_w4a4", "NVFP4_KERNEL",
        .policy = {.kernel = " ", .env_kernel = "ref_w4a4", .vllm_backend = "marlin"}),
    ROW("avx2", CPU, W4A4, 1, "dddd n ddddd dddd d Co d", "1- ref_w4a4", "NVFP4_KERNEL", .policy = ENV("ref_*")),
    ROW("avx2", CPU, W4A4, 1, "dddd n ddddd dddd d dC d", "1- ref_w4a16", "NVFP4_KERNEL", .policy = ENV("ref_w4a16")),
    ROW("avx2", CPU, W4A4, 1, "dddd n ddddd ddeC d dd d", "1- x86_avx2_w4a16", "NVFP4_KERNEL",
        .policy = ENV("x86_avx2_w4a16,x86_avx2_w4a4")),
    ROW("avx2", CPU, W4A4, 1, "mmmm n mmmmm mmCo m eo p", "1- x86_avx2_w4a4", "order", .policy = ENV("cuda_sm80_w4a16,auto")),
    ROW("avx2", CPU, W4A4, 1, "mmmm n mmmmm mmeo m Co p", "1- ref_w4a4", "NVFP4_KERNEL", .policy = ENV("ref_w4a4,auto")),
    ROW("avx2", CPU, W4A4, 1, "mmmm n mmmmm mmCo m eo p", "1- x86_avx2_w4a4", "order",
        .policy = {.env_kernel = "auto", .vllm_backend = "emulation"}),
    ROW("avx2", CPU, W4A4, 1, "dddd n ddddd dmdd d dd d", "", "NVFP4_KERNEL", .policy = ENV("x86_avx512vnni_w4a4")),
    ROW("amx", CPU, W4A4, 512, "dddd n ddddd eddd d dd d", "", "NVFP4_KERNEL", .policy = ENV("x86_amx_w4a4")),
    ROW("amx", CPU, W4A4, 512, "dddd n ddddd Cddd d dd d", "32- x86_amx_w4a4", "NVFP4_KERNEL", .policy = ENV("x86_amx_w4a4"), .m_first = 32,
        .m_last = NVFP4_M_MAX),
    ROW("amx", CPU, W4A4, 512, "dddd n ddddd oddd d dd d", "", "NVFP4_KERNEL", .policy = ENV("x86_amx*"), .m_first = 32,
        .m_last = NVFP4_M_MAX),
    ROW("h100", CUDA, W4A16, 1, "dddd n ddCdd dddd d dd d", "1- cuda_sm80_w4a16", "NVFP4_KERNEL", .policy = ENV("cuda_sm80_w4a16")),
    ROW("h100", CUDA, W4A16, 1, "dddd n ddodd dddd d dd d", "", "NVFP4_KERNEL",
        .policy = {.env_kernel = "cuda_sm80_w4a16", .require = NVFP4_REQUIRE_DETERMINISTIC}),
    ROW("b200", CUDA, W4A4, 1, "dddd n ddddd dddd d dd p", "", "option", .policy = KERNEL("plugin_fbgemm_w4a4")),
    ROW("b200", CUDA, W4A4, 1, "eeme n mmoeo llll m ll p", "", "NVFP4_KERNEL", .policy = ENV("cuda_sm100_w4a5")),
    ROW("b200", CUDA, W4A4, 1, "eeme n mmoeo llll m ll p", "", "NVFP4_KERNEL", .policy = ENV("auto,cuda_sm100_w4a4")),
    ROW("avx2", CPU, W4A4, 1, "mmmm n mmmmm dddd m Co p", "1- ref_w4a4", "order", .policy = DISABLE("x86_*")),
    ROW("avx2", CPU, W4A4, 1, "dddd n ddddd dddd d dd d", "", "NVFP4_KERNEL", .policy = {.env_kernel = "ref_w4a4", .disable = "ref_w4a4"}),
    /* vLLM's names */
    ROW("avx2", CPU, W4A4, 1, "dddd n ddddd dddd d Ce d", "1- ref_w4a4", "VLLM_NVFP4_GEMM_BACKEND", .policy = VLLM("emulation")),
    ROW("avx2", CPU, W4A4, 1, "mmmm n mmmmm mmCo m eo p", "1- x86_avx2_w4a4", "order", .policy = VLLM("auto")),
    ROW("avx2", CPU, W4A4, 1, "dddd n dmmdd dddd d dd d", "", "VLLM_NVFP4_GEMM_BACKEND", .policy = VLLM("marlin")),
    ROW("h100", CUDA, W4A4, 1, "dddd n dddCo dddd d dd d", "1- cuda_emulation_w4a4", "VLLM_NVFP4_GEMM_BACKEND",
        .policy = VLLM("EMULATION")),
    ROW("h100", CUDA, W4A16, 1, "dddd n dlCdd dddd d dd d", "1- cuda_sm80_w4a16", "VLLM_NVFP4_GEMM_BACKEND", .policy = VLLM("marlin")),
    ROW("h100", CUDA, W4A4, 1, "dddd n dlCdd dddd d dd d", "1- cuda_sm80_w4a16", "VLLM_NVFP4_GEMM_BACKEND", .policy = VLLM("marlin")),
    ROW("rtx-5090", CUDA, W4A4, 1, "Cmed n ddddd dddd d dd d", "1- plugin_cutlass_w4a4", "VLLM_NVFP4_GEMM_BACKEND",
        .policy = VLLM(" CUTLASS ")),
    ROW("b200", CUDA, W4A4, 1, "dddd n ddddd dddd d dd d", "", "VLLM_NVFP4_GEMM_BACKEND", .policy = VLLM("FlashInfer_TRTLLM")),
    ROW("b200", CUDA, W4A4, 1, "eeme n mmoeo llll m ll p", "", "VLLM_NVFP4_GEMM_BACKEND", .policy = VLLM("flashinfer")),
    ROW("b200", CUDA, W4A4, 1, "eeme n mmoeo llll m ll p", "", "VLLM_NVFP4_GEMM_BACKEND", .policy = VLLM("b12x")),
    ROW("b200", CUDA, W4A4, 1, "dddd n ddddd dddd d dd p", "", "VLLM_NVFP4_GEMM_BACKEND", .policy = VLLM("fbgemm")),
    ROW("b200", CUDA, W4A4, 1, "dddC n ddddd dddd d dd d", "1- vendor_cublaslt_w4a4", "VLLM_NVFP4_GEMM_BACKEND", .policy = VLLM("torch")),
    ROW("b300", CUDA, W4A4, 1, "Ceme n mmoeo llll m ll p", "1- plugin_cutlass_w4a4", "order", .policy = {0}),
    ROW("dgx-spark", CUDA, W4A4, 1, "Cmee n mmoeo mmmm l ll p", "1- plugin_cutlass_w4a4", "order", .policy = {0}),
    ROW("thor", CUDA, W4A4, 1, "Ceme n mmoeo mmmm l ll p", "1- plugin_cutlass_w4a4", "order", .policy = {0}),
    ROW("h100", CUDA, W4A4, 1, "mmmm n odddd llll m dd p", "", "order",
        .policy = VLLM_DISABLE("EmulationNvFp4LinearKernel, MarlinNvFp4LinearKernel,MacheteLinearKernel")),
};

static void without_blanks(const char *from, char *to) {
  for (; *from != '\0'; from++) {
    if (*from != ' ') {
      *to++ = *from;
    }
  }
  *to = '\0';
}

static void run_case(size_t index) {
  const selection_case *c = &cases[index];
  nvfp4_machine machine = field_machine(c->machine);
  nvfp4_layer_desc desc = field_desc(c->mode, c->device);
  desc.m_first = c->m_first;
  desc.m_last = c->m_last;
  for (int dry_run = 0; dry_run <= 1; dry_run++) {
    nvfp4_select_input input = {field, FIELD_COUNT, &machine, dry_run != 0, &desc, &c->policy, c->m, NULL, 0};
    nvfp4_selection selection;
    nvfp4_report *report;
    nvfp4_reason reason = {.text = ""};
    nvfp4_status status = nvfp4_select(&input, &selection, &report, &reason);
    assert_non_null(report);
    char want[64], got[64], plan[1024];
    without_blanks(c->stages, want);
    field_stages(report, got);
    field_plan(report, plan, sizeof plan);
    if (strcmp(want, got) != 0 || strcmp(c->plan, plan) != 0 || strcmp(c->decided_by, report->decided_by) != 0) {
      fail_msg("case %zu: %s, %s, M=%d\n  needs %s  plan \"%s\"  by %s\n  found %s  plan \"%s\"  by %s\n  %s", index, c->machine,
               nvfp4_mode_name(c->mode), (int)c->m, want, c->plan, c->decided_by, got, plan, report->decided_by, report->text);
    }
    assert_int_equal(status, c->plan[0] != '\0' ? NVFP4_OK : NVFP4_E_POLICY);
    assert_int_equal(report->status, status);
    assert_int_equal(report->m, c->m);
    assert_int_equal(report->row_count, FIELD_COUNT);
    assert_true(report->text[0] != '\0');
    assert_true((report->chosen != NULL) == (status == NVFP4_OK));
    if (status != NVFP4_OK) {
      assert_int_equal(reason.status, status);
      assert_int_equal(strncmp(reason.text, report->text, sizeof reason.text - 1), 0);
    } else {
      assert_int_equal(selection.range_count, report->range_count);
      assert_true(report->layout_count >= 1 && report->layout_count <= 2 && report->packed_bytes > 0);
    }
    for (size_t i = 0; i < report->row_count; i++) {
      const nvfp4_report_row *row = &report->rows[i];
      assert_string_equal(row->id, field[i].id);
      assert_true(row->reason[0] != '\0');
      bool says_dry = strstr(row->reason, "not tested here") != NULL;
      assert_int_equal(says_dry, dry_run != 0 && status == NVFP4_OK && row->stage >= NVFP4_STAGE_ELIGIBLE);
      assert_int_equal(row->stage == NVFP4_STAGE_CHOSEN, report->chosen != NULL && strcmp(row->id, report->chosen) == 0);
    }
    nvfp4_report_free(report);
    /* Without a report: the same plan, the same reason. */
    nvfp4_selection again;
    nvfp4_reason reason_again = {.text = ""};
    assert_int_equal(nvfp4_select(&input, &again, NULL, &reason_again), status);
    assert_string_equal(reason_again.text, reason.text);
    for (size_t i = 0; status == NVFP4_OK && i < selection.range_count; i++) {
      assert_int_equal(again.ranges[i].candidate, selection.ranges[i].candidate);
    }
  }
}

static void test_field(void **state) {
  (void)state;
  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
    run_case(i);
  }
}

/* ------------------------------------------------------------------------------------ W4A16 for few rows, W4A4 for many, on a GPU */

static void test_few_rows(void **state) {
  (void)state;
  static const struct {
    nvfp4_policy policy;
    int64_t m_first, m_last;
    const char *plan;
  } few[] = {
      {{0}, 0, 0, "1- cuda_sm100_w4a4"},
      {{.allow = NVFP4_ALLOW_W4A16}, 0, 0, "1- cuda_sm100_w4a4"},
      {{.max_layouts = 2}, 0, 0, "1- cuda_sm100_w4a4"},
      {{.allow = NVFP4_ALLOW_W4A16, .max_layouts = 2}, 0, 0, "1-16 cuda_sm80_w4a16, 17- cuda_sm100_w4a4"},
      {{.allow = NVFP4_ALLOW_W4A16, .max_layouts = 2}, 5, 16, "5-16 cuda_sm80_w4a16"},
      {{.allow = NVFP4_ALLOW_W4A16, .max_layouts = 2}, 9, 20, "9-16 cuda_sm80_w4a16, 17-20 cuda_sm100_w4a4"},
      {{.allow = NVFP4_ALLOW_W4A16, .max_layouts = 2}, 17, 64, "17-64 cuda_sm100_w4a4"},
      /* the two add in different orders */
      {{.allow = NVFP4_ALLOW_W4A16, .max_layouts = 2, .require = NVFP4_REQUIRE_BATCH_INVARIANT}, 0, 0, "1- cuda_sm100_w4a4"},
      {{.allow = NVFP4_ALLOW_W4A16, .max_layouts = 2, .disable = "cuda_sm80*"},
       0,
       0,
       "1- cuda_sm100_w4a4"}, /* emulation does not come first */
      {{.allow = NVFP4_ALLOW_W4A16, .max_layouts = 2, .disable = "cuda_sm100*"}, 0, 0, "1- cuda_sm80_w4a16"},
      {{.allow = NVFP4_ALLOW_W4A16, .max_layouts = 2, .kernel = "cuda_sm100_w4a4,auto"}, 0, 0, "1- cuda_sm100_w4a4"},
  };
  nvfp4_kernel sm80 = field_cuda_sm80_w4a16;
  sm80.numerics.flags = BI | DET;
  const nvfp4_candidate candidates[] = {FIELD_THERE(cuda_sm100_w4a4),
                                        {.id = "cuda_sm80_w4a16", .kernel = &sm80},
                                        FIELD_THERE(cuda_emulation_w4a4),
                                        FIELD_THERE(cuda_emulation_w4a16)};
  nvfp4_machine machine = field_machine("b200");
  for (size_t i = 0; i < sizeof few / sizeof few[0]; i++) {
    nvfp4_layer_desc desc = field_desc(W4A4, CUDA);
    desc.m_first = few[i].m_first;
    desc.m_last = few[i].m_last;
    nvfp4_select_input input = {candidates, 4, &machine, false, &desc, &few[i].policy, 0, NULL, 0};
    nvfp4_selection selection;
    nvfp4_report *report = NULL;
    char plan[256];
    assert_int_equal(nvfp4_select(&input, &selection, &report, NULL), NVFP4_OK);
    assert_string_equal(field_plan(report, plan, sizeof plan), few[i].plan);
    if (i == 3) {
      assert_int_equal(report->layout_count, 2);
      assert_contains(field_reason(report, "cuda_sm80_w4a16"), "for up to 16 rows, where W4A16 kernels come before W4A4 ones");
      assert_contains(field_reason(report, "cuda_sm100_w4a4"), "cuda_sm80_w4a16 comes first");
      nvfp4_report_free(report);
      input.m = 17;
      assert_int_equal(nvfp4_select(&input, &selection, &report, NULL), NVFP4_OK);
      assert_string_equal(report->chosen, "cuda_sm100_w4a4");
      assert_contains(field_reason(report, "cuda_sm100_w4a4"), "first in the order that fits");
      assert_contains(field_reason(report, "cuda_sm80_w4a16"), "cuda_sm100_w4a4 comes first");
    }
    nvfp4_report_free(report);
  }
}

/* ------------------------------------------------------------------------------------------- plans against a brute definition */

enum { MOST_M = 12, MOST_KERNELS = 8 };

static nvfp4_status yes_machine(const nvfp4_machine *machine, nvfp4_reason *reason) {
  (void)machine;
  (void)reason;
  return NVFP4_OK;
}

typedef struct random_field {
  nvfp4_layout layouts[3];
  nvfp4_kernel kernels[MOST_KERNELS];
  nvfp4_candidate candidates[MOST_KERNELS];
  char ids[MOST_KERNELS][24];
  size_t count;
  int64_t first, last; /* of the layer */
} random_field;

static bool serves(const nvfp4_kernel *kernel, int64_t m) { return kernel->m_last == 0 || (kernel->m_first <= m && m <= kernel->m_last); }

static void make_field(test_random *random, random_field *f) {
  static const char *const orders[] = {"a", "b"};
  static const char *const names[] = {"x", "y", "z"};
  memset(f, 0, sizeof *f);
  for (int i = 0; i < 3; i++) {
    f->layouts[i] = (nvfp4_layout){.struct_size = sizeof(nvfp4_layout), .name = names[i], .packed_bytes = field_bytes};
  }
  f->count = 1 + test_random_u64(random) % MOST_KERNELS;
  f->first = 1 + (int64_t)(test_random_u64(random) % MOST_M);
  f->last = f->first + (int64_t)(test_random_u64(random) % (uint64_t)(MOST_M - f->first + 1));
  for (size_t i = 0; i < f->count; i++) {
    snprintf(f->ids[i], sizeof f->ids[i], "k%zu", i);
    f->kernels[i] = field_ref_w4a4;
    f->kernels[i].layout = &f->layouts[test_random_u64(random) % 3];
    f->kernels[i].numerics.order = orders[test_random_u64(random) % 2];
    f->kernels[i].is_supported = yes_machine;
    if (test_random_u64(random) % 4 != 0) {
      f->kernels[i].m_first = 1 + (int64_t)(test_random_u64(random) % MOST_M);
      f->kernels[i].m_last = f->kernels[i].m_first + (int64_t)(test_random_u64(random) % (uint64_t)(MOST_M - f->kernels[i].m_first + 1));
    }
    f->kernels[i].id = f->ids[i];
    f->candidates[i] = (nvfp4_candidate){.id = f->ids[i], .kernel = &f->kernels[i]};
  }
}

/* The best kernel of two layouts for every M, into plan[m]; false if one M has none. */
static bool brute_cover(const random_field *f, const nvfp4_layout *a, const nvfp4_layout *b, const char *order, size_t plan[MOST_M + 1]) {
  for (int64_t m = f->first; m <= f->last; m++) {
    plan[m] = SIZE_MAX;
    for (size_t i = f->count; i-- > 0;) {
      const nvfp4_kernel *kernel = &f->kernels[i];
      if (serves(kernel, m) && (kernel->layout == a || kernel->layout == b) &&
          (order == NULL || strcmp(order, kernel->numerics.order) == 0)) {
        plan[m] = i;
      }
    }
    if (plan[m] == SIZE_MAX) {
      return false;
    }
  }
  return true;
}

static bool brute_plan(const random_field *f, int max_layouts, bool invariant, size_t plan[MOST_M + 1]) {
  for (size_t i = 0; i < f->count; i++) {
    const nvfp4_kernel *anchor = &f->kernels[i];
    const char *order = invariant ? anchor->numerics.order : NULL;
    if (max_layouts == 1) {
      if ((anchor->m_last == 0 || (anchor->m_first <= f->last && anchor->m_last >= f->first)) &&
          brute_cover(f, anchor->layout, anchor->layout, order, plan)) {
        return true;
      }
      continue;
    }
    bool found = false;
    if (serves(anchor, f->first)) {
      for (int second = 0; second < 3; second++) {
        size_t other[MOST_M + 1];
        if (brute_cover(f, anchor->layout, &f->layouts[second], order, other)) {
          int64_t m = f->first;
          while (found && m <= f->last && other[m] == plan[m]) {
            m++;
          }
          if (!found || (m <= f->last && other[m] < plan[m])) {
            memcpy(plan, other, sizeof other);
            found = true;
          }
        }
      }
    }
    if (found) {
      return true;
    }
  }
  return false;
}

static void test_plans_are_the_brute_ones(void **state) {
  (void)state;
  test_random random = {7};
  nvfp4_machine machine = field_machine("x86-64");
  nvfp4_layer_desc desc = field_desc(W4A4, CPU);
  int plans = 0, two_layouts = 0;
  for (int trial = 0; trial < 20000; trial++) {
    random_field f;
    make_field(&random, &f);
    desc.m_first = f.first;
    desc.m_last = f.last;
    int max_layouts = 1 + trial % 2;
    bool invariant = trial % 4 >= 2;
    nvfp4_policy policy = {.max_layouts = max_layouts, .require = invariant ? NVFP4_REQUIRE_BATCH_INVARIANT : 0};
    nvfp4_select_input input = {f.candidates, f.count, &machine, false, &desc, &policy, f.first, NULL, 0};
    nvfp4_selection selection;
    nvfp4_report *report;
    size_t plan[MOST_M + 1] = {0};
    bool wanted = brute_plan(&f, max_layouts, invariant, plan);
    nvfp4_status status = nvfp4_select(&input, &selection, &report, NULL);
    assert_int_equal(status == NVFP4_OK, wanted);
    if (wanted) {
      plans++;
      two_layouts += report->layout_count == 2;
      assert_true(report->layout_count <= (size_t)max_layouts);
      int64_t next = f.first;
      for (size_t i = 0; i < selection.range_count; i++) {
        const nvfp4_selected_range *range = &selection.ranges[i];
        assert_int_equal(range->m_first, next);
        assert_true(i == 0 || selection.ranges[i - 1].candidate != range->candidate); /* merged */
        for (; next <= range->m_last; next++) {
          assert_int_equal(range->candidate, plan[next]);
        }
      }
      assert_int_equal(next, f.last + 1);
    }
    nvfp4_report_free(report);
  }
  assert_true(plans > 5000 && two_layouts > 500); /* the trials were worth something */
}

/* -------------------------------------------------------------------------------------------------- plans by a tuning table */

/* Times of a random field: ns[i][m] of kernel i at the measured M = m, 0 for none; measured[0] is not used. */
typedef struct random_times {
  bool measured[MOST_M + 1];
  int64_t ns[MOST_KERNELS][MOST_M + 1];
  nvfp4_tuned_time entries[MOST_KERNELS * MOST_M];
  nvfp4_tuning table;
} random_times;

static void make_times(test_random *random, const random_field *f, const nvfp4_layer_desc *desc, random_times *t) {
  memset(t, 0, sizeof *t);
  t->table = (nvfp4_tuning){.file = (char *)"table", .times = t->entries};
  for (int64_t m = 1; m <= MOST_M; m++) {
    bool measured = test_random_u64(random) % 3 == 0;
    for (size_t i = 0; measured && i < f->count; i++) {
      if (test_random_u64(random) % 8 != 0) {
        t->measured[m] = true;
        t->ns[i][m] = 1 + (int64_t)(test_random_u64(random) % 6);
        t->entries[t->table.count++] = (nvfp4_tuned_time){desc->mode, desc->n, desc->k, m, f->ids[i], t->ns[i][m]};
      }
    }
  }
}

/* The measured M that speaks for m; 0 if nothing was measured. */
static int64_t speaker(const random_times *t, int64_t m) {
  int64_t at = m;
  while (at > 0 && !t->measured[at]) {
    at--;
  }
  for (int64_t i = 1; at == 0 && i <= MOST_M; i++) {
    at = t->measured[i] ? i : 0;
  }
  return at;
}

static int64_t ns_of(const random_times *t, size_t kernel, int64_t m) {
  int64_t at = speaker(t, m);
  return at > 0 && t->ns[kernel][at] > 0 ? t->ns[kernel][at] : INT64_MAX;
}

static bool tuned_cover(const random_field *f, const random_times *t, const nvfp4_layout *a, const nvfp4_layout *b, const char *order,
                        size_t plan[MOST_M + 1]) {
  for (int64_t m = f->first; m <= f->last; m++) {
    plan[m] = SIZE_MAX;
    for (size_t i = 0; i < f->count; i++) {
      const nvfp4_kernel *kernel = &f->kernels[i];
      if (serves(kernel, m) && (kernel->layout == a || kernel->layout == b) &&
          (order == NULL || strcmp(order, kernel->numerics.order) == 0) && (plan[m] == SIZE_MAX || ns_of(t, i, m) < ns_of(t, plan[m], m))) {
        plan[m] = i;
      }
    }
    if (plan[m] == SIZE_MAX) {
      return false;
    }
  }
  return true;
}

/* Measured M without a time of the plan's kernel, and the sum of slowness of the others; a thousand stands for more than any sum. */
static double tuned_cost(const random_field *f, const random_times *t, const size_t plan[MOST_M + 1]) {
  double cost = 0;
  for (int64_t m = f->first; m <= f->last; m++) {
    int64_t least = INT64_MAX, own = ns_of(t, plan[m], m);
    for (size_t i = 0; i < f->count; i++) {
      least = serves(&f->kernels[i], m) && ns_of(t, i, m) < least ? ns_of(t, i, m) : least;
    }
    if ((m == f->first || speaker(t, m) != speaker(t, m - 1)) && least != INT64_MAX) {
      cost += own == INT64_MAX ? 1000 : (double)own / (double)least;
    }
  }
  return cost;
}

/* The least cost of a plan within the policy; INFINITY if there is none. */
static double least_cost(const random_field *f, const random_times *t, int max_layouts, bool invariant) {
  static const char *const orders[] = {"a", "b"};
  double least = INFINITY;
  size_t plan[MOST_M + 1];
  for (int i = 0; i < 3 * 3 * 2; i++) {
    int a = i / 6, b = max_layouts == 2 ? i / 2 % 3 : a;
    if (tuned_cover(f, t, &f->layouts[a], &f->layouts[b], invariant ? orders[i % 2] : NULL, plan)) {
      least = fmin(least, tuned_cost(f, t, plan));
    }
  }
  return least;
}

static void test_tuned_plans_are_the_fastest(void **state) {
  (void)state;
  test_random random = {8};
  nvfp4_machine machine = field_machine("x86-64");
  nvfp4_layer_desc desc = field_desc(W4A4, CPU);
  int plans = 0, unlike = 0;
  for (int trial = 0; trial < 20000; trial++) {
    random_field f;
    random_times t;
    make_field(&random, &f);
    make_times(&random, &f, &desc, &t);
    desc.m_first = f.first;
    desc.m_last = f.last;
    int max_layouts = 1 + trial % 2;
    bool invariant = trial % 4 >= 2;
    nvfp4_policy policy = {.max_layouts = max_layouts, .require = invariant ? NVFP4_REQUIRE_BATCH_INVARIANT : 0};
    nvfp4_select_input input = {f.candidates, f.count, &machine, false, &desc, &policy, f.first, &t.table, 1};
    nvfp4_selection selection;
    nvfp4_report *report;
    nvfp4_status status = nvfp4_select(&input, &selection, &report, NULL);
    double least = least_cost(&f, &t, max_layouts, invariant);
    assert_int_equal(status == NVFP4_OK, isfinite(least));
    if (status == NVFP4_OK) {
      /* Within its layouts and its order it has the fastest kernel for every M, and no other plan costs less. */
      const nvfp4_layout *layouts[2] = {f.kernels[selection.ranges[0].candidate].layout, NULL};
      size_t plan[MOST_M + 1], wanted[MOST_M + 1];
      for (size_t i = 0; i < selection.range_count; i++) {
        const nvfp4_kernel *kernel = &f.kernels[selection.ranges[i].candidate];
        layouts[1] = kernel->layout != layouts[0] ? kernel->layout : layouts[1];
        for (int64_t m = selection.ranges[i].m_first; m <= selection.ranges[i].m_last; m++) {
          plan[m] = selection.ranges[i].candidate;
        }
      }
      assert_true(report->layout_count <= (size_t)max_layouts);
      assert_true(tuned_cover(&f, &t, layouts[0], layouts[1], invariant ? f.kernels[plan[f.first]].numerics.order : NULL, wanted));
      assert_memory_equal(&plan[f.first], &wanted[f.first], (size_t)(f.last - f.first + 1) * sizeof plan[0]);
      assert_true(tuned_cost(&f, &t, plan) <= least);
      assert_string_equal(report->decided_by, ns_of(&t, plan[f.first], f.first) != INT64_MAX ? "tuning" : "order");
      size_t untuned[MOST_M + 1];
      plans++;
      unlike += brute_plan(&f, max_layouts, invariant, untuned) && untuned[f.first] != plan[f.first];
    }
    nvfp4_report_free(report);
  }
  assert_true(plans > 5000 && unlike > 1000);
}

/* --------------------------------------------------------------------------------------------------------------- the rest */

/* A layer on cuda:1 of a machine with two kinds of GPUs gets what that GPU can run. */
static void test_gpu_of_the_layer(void **state) {
  (void)state;
  nvfp4_machine machine = field_machine("h100");
  machine.gpu_count = 2;
  machine.gpus[1].sm = 120;
  nvfp4_layer_desc desc = field_desc(W4A4, CUDA);
  nvfp4_policy policy = {.disable = "plugin_*"};
  nvfp4_select_input input = {field, FIELD_COUNT, &machine, false, &desc, &policy, 0, NULL, 0};
  nvfp4_selection selection;
  nvfp4_report *report;
  desc.device.ordinal = 1;
  assert_int_equal(nvfp4_select(&input, &selection, &report, NULL), NVFP4_OK);
  assert_string_equal(report->chosen, "cuda_sm120_w4a4");
  nvfp4_report_free(report);
  desc.device.ordinal = 0;
  assert_int_equal(nvfp4_select(&input, &selection, &report, NULL), NVFP4_OK);
  assert_string_equal(report->chosen, "cuda_emulation_w4a4");
  nvfp4_report_free(report);
  desc.device.ordinal = 2;
  assert_int_equal(nvfp4_select(&input, &selection, &report, NULL), NVFP4_E_POLICY);
  assert_contains(field_reason(report, "cuda_sm120_w4a4"), "has 2 GPUs; cuda:2 needs 3");
  nvfp4_report_free(report);
}

typedef struct bad_desc {
  const char *what;
  nvfp4_status status;
  const char *text;
} bad_desc;

static void test_descriptions(void **state) {
  (void)state;
  nvfp4_partition gap[] = {{0, 100, {1, false}, {1, false}}, {101, 155, {1, false}, {1, false}}};
  nvfp4_partition shorter[] = {{0, 100, {1, false}, {1, false}}, {100, 155, {1, false}, {1, false}}};
  nvfp4_partition longer[] = {{0, 100, {1, false}, {1, false}}, {100, INT64_MAX, {1, false}, {1, false}}};
  nvfp4_partition zero_weight[] = {{0, 256, {0, false}, {1, false}}};
  nvfp4_partition nan_input[] = {{0, 256, {1, false}, {NAN, false}}};
  nvfp4_layer_desc good = field_desc(W4A4, CPU);
  nvfp4_reason reason = {.text = ""};
  assert_ok(nvfp4_layer_desc_check(&good, &reason), reason);
  assert_int_equal(nvfp4_layer_desc_check(NULL, NULL), NVFP4_E_ARG);
#define BAD(field_name, value, expected, words)                        \
  do {                                                                 \
    nvfp4_layer_desc bad = good;                                       \
    bad.field_name = value;                                            \
    assert_int_equal(nvfp4_layer_desc_check(&bad, &reason), expected); \
    assert_int_equal(reason.status, expected);                         \
    assert_contains(reason.text, words);                               \
  } while (0)
  BAD(struct_size, 8, NVFP4_E_ARG, "struct_size is too small");
  BAD(n, 0, NVFP4_E_SHAPE, "layer fake: N=0, K=128; needs N > 0");
  BAD(k, 0, NVFP4_E_SHAPE, "K=0");
  BAD(k, 24, NVFP4_E_SHAPE, "K=24; needs N > 0, K > 0, K a multiple of 16");
  BAD(k, INT64_MAX / 16 * 16, NVFP4_E_SHAPE, "N*K below 2^61");
  BAD(m_first, 1, NVFP4_E_SHAPE, "M range 1 to 0");
  BAD(m_last, 5, NVFP4_E_SHAPE, "M range 0 to 5");
  BAD(x_dtype, NVFP4_DTYPE_U8, NVFP4_E_DTYPE, "x is U8, y is BF16; needs F32, F16 or BF16");
  BAD(y_dtype, NVFP4_DTYPE_NONE, NVFP4_E_DTYPE, "y is none");
  BAD(bias_dtype, NVFP4_DTYPE_F64, NVFP4_E_DTYPE, "bias is F64");
  BAD(mode, 4, NVFP4_E_UNSUPPORTED, "; needs w4a4, w4a16, fp8 or, of a dense layer, unquantised");
  BAD(mode, NVFP4_MODE_FP8, NVFP4_E_DTYPE, "layer fake is fp8, and its weight_dtype is none; needs");
  BAD(device.ordinal, NVFP4_MAX_GPUS, NVFP4_E_ARG, "ordinal 16; needs cpu, or cuda:0 to cuda:15");
  BAD(partition_count, 0, NVFP4_E_ARG, "no partitions");
  BAD(partitions, NULL, NVFP4_E_ARG, "no partitions");
  BAD(partitions, zero_weight, NVFP4_E_ARG, "partition 0 has weight global 0");
  BAD(partitions, nan_input, NVFP4_E_ARG, "input global nan");
  good.partition_count = 2;
  BAD(partitions, gap, NVFP4_E_SHAPE, "partition 1 has rows from 101, 155 of them; needs to begin at row 100");
  BAD(partitions, shorter, NVFP4_E_SHAPE, "2 partitions cover 255 rows; needs all 256");
  BAD(partitions, longer, NVFP4_E_SHAPE, "end within 256 rows");
#undef BAD
}

/* A dense layer, without partitions. */
static nvfp4_layer_desc dense_desc(void) {
  nvfp4_layer_desc desc = field_desc(NVFP4_MODE_UNQUANTISED, CPU);
  desc.weight_dtype = NVFP4_DTYPE_BF16;
  desc.partitions = NULL;
  desc.partition_count = 0;
  desc.k = 77;
  return desc;
}

/* An FP8 layer is for dense kernels: one of bf16; without an input scale what is behind their sums is the layer's own. */
static void test_fp8_descriptions(void **state) {
  (void)state;
  nvfp4_partition parts[] = {{0, 100, {0.5f, NVFP4_GLOBAL_MULTIPLIER}, {0.25f, NVFP4_GLOBAL_MULTIPLIER}},
                             {100, 156, {2.0f, NVFP4_GLOBAL_MULTIPLIER}, {0.25f, NVFP4_GLOBAL_MULTIPLIER}}};
  nvfp4_layer_desc desc = dense_desc();
  desc.mode = NVFP4_MODE_FP8;
  desc.weight_dtype = NVFP4_DTYPE_F8_E4M3;
  desc.x_dtype = desc.y_dtype = desc.bias_dtype = NVFP4_DTYPE_F16;
  nvfp4_reason reason = {.text = ""};
  assert_int_equal(nvfp4_layer_desc_check(&desc, &reason), NVFP4_E_ARG);
  assert_contains(reason.text, "has no partitions");
  desc.partitions = parts;
  desc.partition_count = 2;
  assert_ok(nvfp4_layer_desc_check(&desc, &reason), reason);
  nvfp4_layer_desc view = nvfp4_dense_view(&desc);
  assert_int_equal(view.mode, NVFP4_MODE_UNQUANTISED);
  assert_int_equal(view.weight_dtype, NVFP4_DTYPE_BF16);
  assert_int_equal(view.x_dtype, NVFP4_DTYPE_BF16);
  assert_int_equal(view.y_dtype, NVFP4_DTYPE_F16);
  assert_int_equal(view.bias_dtype, NVFP4_DTYPE_F16);
  parts[1].input.value = 0;
  assert_int_equal(nvfp4_layer_desc_check(&desc, &reason), NVFP4_E_ARG);
  assert_contains(reason.text, "partition 1 has the input multiplier 0; an fp8 layer needs");
  parts[0].input.value = 0;
  assert_ok(nvfp4_layer_desc_check(&desc, &reason), reason);
  view = nvfp4_dense_view(&desc);
  assert_int_equal(view.y_dtype, NVFP4_DTYPE_F32);
  assert_int_equal(view.bias_dtype, NVFP4_DTYPE_NONE);
  parts[0].input = parts[1].input = (nvfp4_global){4, NVFP4_GLOBAL_DIVISOR};
  assert_int_equal(nvfp4_layer_desc_check(&desc, &reason), NVFP4_E_ARG);
}

static void test_dense_descriptions(void **state) {
  (void)state;
  nvfp4_layer_desc good = dense_desc(), with_factor = good, bad;
  nvfp4_reason reason = {.text = ""};
  assert_ok(nvfp4_layer_desc_check(&good, &reason), reason);
  with_factor.partitions = &field_no_input;
  with_factor.partition_count = 1;
  assert_ok(nvfp4_layer_desc_check(&with_factor, &reason), reason);
  bad = with_factor;
  bad.partitions = &field_whole;
  assert_int_equal(nvfp4_layer_desc_check(&bad, &reason), NVFP4_E_ARG);
  assert_contains(reason.text, "partition 0 has the input global 0.25; an unquantised layer needs 0");
  bad = good;
  bad.weight_dtype = NVFP4_DTYPE_NONE;
  assert_int_equal(nvfp4_layer_desc_check(&bad, &reason), NVFP4_E_DTYPE);
  assert_contains(reason.text, "layer fake is unquantised, and its weight_dtype is none");
  bad = field_desc(W4A4, CPU);
  bad.weight_dtype = NVFP4_DTYPE_F16;
  assert_int_equal(nvfp4_layer_desc_check(&bad, &reason), NVFP4_E_DTYPE);
}

/* Each kind of layers has its kernels, and lists for the other kind do not count. */
static void test_two_kinds(void **state) {
  (void)state;
  static const struct {
    const char *kernel, *backend;
    bool dense;
    const char *chosen, *decided_by, *stages; /* chosen NULL: none */
  } kinds[] = {
      {NULL, NULL, true, "ref_w16a16", "order", "nllC"},          {NULL, NULL, false, "ref_w4a4", "order", "nCol"},
      {"ref_w4a16", NULL, true, "ref_w16a16", "order", "nllC"},   {"ref_w4a16", NULL, false, "ref_w4a16", "option", "ndCd"},
      {"ref_w16a16", NULL, true, "ref_w16a16", "option", "nddC"}, {"ref_w16a16", NULL, false, "ref_w4a4", "order", "nCol"},
      {"ref_*", NULL, true, "ref_w16a16", "option", "nllC"},      {"ref_*", NULL, false, "ref_w4a4", "option", "nCol"},
      {"arm_neon_w16a16", NULL, true, NULL, "option", "nddd"},    {"arm_neon_w16a16", NULL, false, "ref_w4a4", "order", "nCol"},
      {NULL, "emulation", true, "ref_w16a16", "order", "nllC"},   {NULL, "marlin", true, "ref_w16a16", "order", "nllC"},
      {NULL, "b12x", true, "ref_w16a16", "order", "nllC"},        {NULL, "marlin", false, NULL, "VLLM_NVFP4_GEMM_BACKEND", "nddd"},
  };
  nvfp4_machine machine = field_machine("avx2");
  for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
    nvfp4_layer_desc desc = kinds[i].dense ? dense_desc() : field_desc(W4A4, CPU);
    nvfp4_policy policy = {.kernel = kinds[i].kernel, .vllm_backend = kinds[i].backend};
    nvfp4_select_input input = {field_kinds, 4, &machine, false, &desc, &policy, 1, NULL, 0};
    nvfp4_selection selection;
    nvfp4_report *report = NULL;
    char stages[8];
    assert_int_equal(nvfp4_select(&input, &selection, &report, NULL), kinds[i].chosen != NULL ? NVFP4_OK : NVFP4_E_POLICY);
    assert_int_equal(report->chosen != NULL, kinds[i].chosen != NULL);
    if (report->chosen != NULL) {
      assert_string_equal(report->chosen, kinds[i].chosen);
    }
    assert_string_equal(report->decided_by, kinds[i].decided_by);
    assert_string_equal(field_stages(report, stages), kinds[i].stages);
    if (kinds[i].dense && report->chosen != NULL) {
      assert_int_equal(report->packed_bytes, 256 * 77 * 2);
    }
    if (i == 0) {
      assert_contains(field_reason(report, "ref_w4a4"), "the layer's weights are BF16; this kernel needs NVFP4 ones");
    } else if (i == 1) {
      assert_contains(field_reason(report, "ref_w16a16"), "the layer's weights are NVFP4; this kernel needs F32, F16 or BF16");
    }
    nvfp4_report_free(report);
  }
}

static void test_arguments(void **state) {
  (void)state;
  nvfp4_machine machine = field_machine("avx2");
  nvfp4_layer_desc desc = field_desc(W4A4, CPU);
  nvfp4_policy policy = {.max_layouts = 3};
  nvfp4_select_input input = {field, FIELD_COUNT, &machine, false, &desc, &policy, 1, NULL, 0};
  nvfp4_selection selection;
  nvfp4_report *report = (nvfp4_report *)(void *)&machine;
  nvfp4_reason reason = {.text = ""};
  assert_int_equal(nvfp4_select(&input, &selection, &report, &reason), NVFP4_E_ARG);
  assert_null(report);
  assert_contains(reason.text, "max_layouts is 3");
  policy.max_layouts = 0;
  input.m = -1;
  assert_int_equal(nvfp4_select(&input, &selection, &report, &reason), NVFP4_E_ARG);
  assert_contains(reason.text, "M is -1");
  desc.k = 8;
  assert_int_equal(nvfp4_select(&input, &selection, &report, &reason), NVFP4_E_SHAPE);
  assert_null(report);
  desc.k = 128;
  input.m = 0; /* the range's first */
  input.candidate_count = 0;
  assert_int_equal(nvfp4_select(&input, &selection, &report, &reason), NVFP4_E_POLICY);
  assert_int_equal(report->m, 1);
  assert_int_equal(report->row_count, 0);
  nvfp4_report_free(report);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_field),
      cmocka_unit_test(test_few_rows),
      cmocka_unit_test(test_plans_are_the_brute_ones),
      cmocka_unit_test(test_tuned_plans_are_the_fastest),
      cmocka_unit_test(test_gpu_of_the_layer),
      cmocka_unit_test(test_descriptions),
      cmocka_unit_test(test_fp8_descriptions),
      cmocka_unit_test(test_dense_descriptions),
      cmocka_unit_test(test_two_kinds),
      cmocka_unit_test(test_arguments),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
