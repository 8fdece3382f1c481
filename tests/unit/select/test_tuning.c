/* SPDX-License-Identifier: Apache-2.0 */
/* Tuning tables as text, and what a selection does with one: the policy, lists and layouts before times. */
#include <stdlib.h>

#include "field.h"
#include "select/tuning.h"

#define W4A4 NVFP4_MODE_W4A4
#define W4A16 NVFP4_MODE_W4A16

static const nvfp4_device cpu = {NVFP4_DEVICE_CPU, 0};

/* ------------------------------------------------------------------------------------------------------------ text and back */

static const nvfp4_tuned_time some_times[] = {
    {W4A16, 64, 32, 1, "ref_w4a16", 5},         {W4A4, 256, 128, 16, "x86_avx2_w4a4", 12300},
    {W4A4, 256, 128, 1, "ref_w4a4", INT64_MAX}, {W4A4, 256, 128, 1, "x86_avx2_w4a4", 1},
    {W4A4, 256, 64, 7, "ref_w4a4", 2},
};
enum { SOME = sizeof some_times / sizeof some_times[0] };

static void test_round_trip(void **state) {
  (void)state;
  static const size_t sorted[SOME] = {4, 2, 3, 1, 0};
  for (size_t i = 0; nvfp4_recorded_machine_name(i) != NULL; i++) {
    nvfp4_machine machine = field_machine(nvfp4_recorded_machine_name(i));
    char *text = nvfp4_tuning_print(&machine, cpu, 7, some_times, SOME);
    nvfp4_tuning tuning;
    nvfp4_reason reason = {.text = ""};
    assert_non_null(text);
    assert_ok(nvfp4_tuning_parse(text, "some file", &machine, 7, &tuning, &reason), reason);
    assert_string_equal(tuning.file, "some file");
    assert_int_equal(tuning.count, SOME);
    for (size_t j = 0; j < SOME; j++) {
      const nvfp4_tuned_time *wanted = &some_times[sorted[j]], *got = &tuning.times[j];
      assert_int_equal(got->mode, wanted->mode);
      assert_int_equal(got->n, wanted->n);
      assert_int_equal(got->k, wanted->k);
      assert_int_equal(got->m, wanted->m);
      assert_int_equal(got->ns, wanted->ns);
      assert_string_equal(got->kernel, wanted->kernel);
    }
    nvfp4_tuning_free(&tuning);
    assert_null(tuning.times);
    free(text);
  }
}

/* Another processor's name, instruction sets, number of threads, version: each alone is refused. No name and no isa are a machine as well. */
static void test_other_machines(void **state) {
  (void)state;
  nvfp4_machine machine = field_machine("avx2"), other = machine;
  char *text = nvfp4_tuning_print(&machine, cpu, 2, some_times, SOME);
  nvfp4_tuning tuning = {0};
  nvfp4_reason reason = {.text = ""};
  assert_int_equal(nvfp4_tuning_parse(text, "f", &machine, 3, &tuning, &reason), NVFP4_E_MACHINE);
  assert_contains(reason.text, "line 5: measured with threads \"2\"; here it is \"3\"; needs times of this library");
  assert_contains(reason.text, "run `nvfp4 tune` again");
  snprintf(other.cpu, sizeof other.cpu, "Another");
  assert_int_equal(nvfp4_tuning_parse(text, "f", &other, 2, &tuning, &reason), NVFP4_E_MACHINE);
  assert_contains(reason.text, "line 3: measured with cpu \"");
  assert_contains(reason.text, "here it is \"Another\"");
  other = machine;
  other.isa |= NVFP4_ISA_AVX512F;
  assert_int_equal(nvfp4_tuning_parse(text, "f", &other, 2, &tuning, &reason), NVFP4_E_MACHINE);
  assert_contains(reason.text, "line 4: measured with isa \"");
  char *version = strstr(text, "version " NVFP4_VERSION);
  version[8]++;
  assert_int_equal(nvfp4_tuning_parse(text, "f", &machine, 2, &tuning, &reason), NVFP4_E_UNSUPPORTED);
  assert_contains(reason.text, "line 2: measured with version \"");
  assert_contains(reason.text, "here it is \"" NVFP4_VERSION "\"");
  free(text);
  nvfp4_machine nameless = {.struct_size = sizeof nameless};
  text = nvfp4_tuning_print(&nameless, cpu, 1, NULL, 0);
  assert_contains(text, "\ncpu unknown\nisa none\nthreads 1\n");
  assert_ok(nvfp4_tuning_parse(text, "f", &nameless, 1, &tuning, &reason), reason);
  assert_int_equal(tuning.count, 0);
  nvfp4_tuning_free(&tuning);
  free(text);
}

/* A table of a GPU is for any GPU of that name and for one version of the driver, whatever the CPU and its threads are. */
static void test_gpus(void **state) {
  (void)state;
  nvfp4_machine machine = field_machine("h100"), other = machine;
  const nvfp4_device gpu = {NVFP4_DEVICE_CUDA, 0};
  const nvfp4_tuned_time time = {W4A4, 256, 64, 7, "cuda_emulation_w4a4", 2};
  char *text = nvfp4_tuning_print(&machine, gpu, 7, &time, 1);
  nvfp4_tuning tunings[2];
  nvfp4_reason reason = {.text = ""};
  assert_contains(text, "\ngpu NVIDIA H100");
  assert_contains(text, "\ntime device=cuda mode=w4a4 n=256 k=64 m=7 kernel=cuda_emulation_w4a4 ns=2\n");
  other.gpu_count = 2;
  other.gpus[1] = other.gpus[0];
  snprintf(other.gpus[0].name, sizeof other.gpus[0].name, "Another");
  snprintf(other.cpu, sizeof other.cpu, "Another");
  assert_ok(nvfp4_tuning_parse(text, "f", &other, 1, &tunings[1], &reason), reason);
  assert_string_equal(tunings[1].gpu, machine.gpus[0].name);
  assert_int_equal(tunings[1].count, 1);
  assert_string_equal(tunings[1].times[0].kernel, "cuda_emulation_w4a4");
  char *of_cpu = nvfp4_tuning_print(&other, cpu, 1, NULL, 0);
  assert_ok(nvfp4_tuning_parse(of_cpu, "g", &other, 1, &tunings[0], &reason), reason);
  assert_null(tunings[0].gpu);
  assert_ptr_equal(nvfp4_tuning_of(tunings, 2, &other, cpu), &tunings[0]);
  assert_null(nvfp4_tuning_of(tunings, 2, &other, gpu));
  assert_ptr_equal(nvfp4_tuning_of(tunings, 2, &other, (nvfp4_device){NVFP4_DEVICE_CUDA, 1}), &tunings[1]);
  assert_null(nvfp4_tuning_of(tunings, 2, &other, (nvfp4_device){NVFP4_DEVICE_CUDA, 2}));
  assert_null(nvfp4_tuning_of(tunings, 1, &machine, gpu));
  nvfp4_tuning_free(&tunings[0]);
  nvfp4_tuning_free(&tunings[1]);
  other.gpu_count = 1;
  assert_int_equal(nvfp4_tuning_parse(text, "f", &other, 1, &tunings[0], &reason), NVFP4_E_MACHINE);
  assert_contains(reason.text, "line 3: measured with gpu \"NVIDIA H100");
  assert_contains(reason.text, "here it is \"Another\"");
  machine.cuda_driver += 10;
  assert_int_equal(nvfp4_tuning_parse(text, "f", &machine, 1, &tunings[0], &reason), NVFP4_E_MACHINE);
  assert_contains(reason.text, "line 4: measured with cuda_driver \"");
  free(text);
  free(of_cpu);
}

#define GPU_HEADER "nvfp4-tuning 1\nversion " NVFP4_VERSION "\ngpu none\ncuda_driver 0\n"
#define HEADER "nvfp4-tuning 1\nversion " NVFP4_VERSION "\ncpu unknown\nisa none\nthreads 1\n"
#define GOOD "time device=cpu mode=w4a4 n=16 k=32 m=1 kernel=a ns=9"

static const struct {
  const char *text, *refusal; /* NULL: accepted */
} texts[] = {
    {HEADER, NULL},
    {HEADER GOOD, NULL},
    {"# a remark\r\n\n  \n" HEADER "# another\n\t\n" GOOD "  \r\n", NULL},
    {HEADER GOOD "\n" GOOD "9\n", "two times of a for a w4a4 layer of N=16, K=32 at M=1"},
    {GPU_HEADER "time device=cuda mode=w4a4 n=16 k=32 m=1 kernel=a ns=9", NULL},
    {GPU_HEADER GOOD, "line 5 is \"time device=cpu mode=w4a4 n=16 k=32 m=1 kernel=a ns=9\"; needs \"time device=cuda mode="},
    {"nvfp4-tuning 1\nversion " NVFP4_VERSION "\ngpu none\n", "ends before \"cuda_driver ...\""},
    {"", "ends before \"nvfp4-tuning ...\""},
    {"nvfp4-tuning 1\nversion " NVFP4_VERSION "\n", "ends before \"cpu ...\""},
    {"nvfp4-tuning 2\n", "line 1: measured with nvfp4-tuning \"2\"; here it is \"1\""},
    {"nvfp4-tuning\n", "line 1 is \"nvfp4-tuning\"; needs \"nvfp4-tuning ...\""},
    {"#\nnvfp4-tuning 1\ncpu unknown\n", "line 3 is \"cpu unknown\"; needs \"version ...\""},
    {"{}", "line 1 is \"{}\""},
    {HEADER "layer", "line 6 is \"layer\"; needs \"time device=cpu"},
    {HEADER GOOD "\n" GOOD " more", "line 7 is"},
    {HEADER "time device=cuda:0 mode=w4a4 n=16 k=32 m=1 kernel=a ns=9", "line 6 is \"time device=cuda:0 "},
    {HEADER "time device=cpu mode=fp8 n=16 k=32 m=1 kernel=a ns=9", "line 6"},
    {HEADER "time device=cpu mode=w4a4 k=32 n=16 m=1 kernel=a ns=9", "line 6"},
    {HEADER "time device=cpu mode=w4a4 n=16 k=32 m=1 kernel= ns=9", "line 6"},
    {HEADER "time device=cpu mode=w4a4 n=16 k=32 m=1 kernel=a", "line 6"},
    {HEADER "time device=cpu mode=w4a4 n=16 k=32 m=0 kernel=a ns=9", "line 6"},
    {HEADER "time device=cpu mode=w4a4 n=16 k=32 m=-1 kernel=a ns=9", "line 6"},
    {HEADER "time device=cpu mode=w4a4 n=16x k=32 m=1 kernel=a ns=9", "line 6"},
    {HEADER "time device=cpu mode=w4a4 n= 16 k=32 m=1 kernel=a ns=9", "line 6"},
    {HEADER "time device=cpu mode=w4a4 n=16 k=32 m=1 kernel=a ns=1.5", "line 6"},
    {HEADER "time device=cpu mode=w4a4 n=16 k=32 m=1 kernel=a ns=nan", "line 6"},
    {HEADER "time device=cpu mode=w4a4 n=16 k=32 m=1 kernel=a ns=9223372036854775808", "line 6"},
};

static void test_texts(void **state) {
  (void)state;
  nvfp4_machine machine = {.struct_size = sizeof machine};
  for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
    nvfp4_tuning tuning = {.file = NULL};
    nvfp4_reason reason = {.text = ""};
    nvfp4_status status = nvfp4_tuning_parse(texts[i].text, "f", &machine, 1, &tuning, &reason);
    if (texts[i].refusal == NULL) {
      assert_ok(status, reason);
    } else {
      assert_int_not_equal(status, NVFP4_OK);
      assert_int_equal(reason.status, status);
      assert_contains(reason.text, texts[i].refusal);
      assert_null(tuning.file);
    }
    nvfp4_tuning_free(&tuning);
  }
}

/* ------------------------------------------------------------------------------------------------------------------- match */

static void test_match(void **state) {
  (void)state;
  static const nvfp4_tuned_time times[] = {
      {W4A4, 256, 64, 1, "other", 1}, {W4A4, 256, 128, 2, "a", 10}, {W4A4, 256, 128, 2, "b", 11},
      {W4A4, 256, 128, 8, "a", 12},   {W4A4, 256, 128, 9, "b", 13}, {W4A16, 256, 128, 1, "a", 14},
  };
  nvfp4_tuning tuning = {.times = (nvfp4_tuned_time *)times, .count = sizeof times / sizeof times[0]};
  nvfp4_layer_desc desc = field_desc(W4A4, NVFP4_DEVICE_CPU);
  nvfp4_tuned layer = nvfp4_tuned_layer(&tuning, &desc);
  assert_ptr_equal(layer.times, &times[1]);
  assert_int_equal(layer.count, 4);
  static const struct {
    int64_t m, a, b, m_last;
  } at[] = {{1, 10, 11, 7},
            {2, 10, 11, 7},
            {7, 10, 11, 7},
            {8, 12, NVFP4_NOT_TIMED, 8},
            {9, NVFP4_NOT_TIMED, 13, NVFP4_M_MAX},
            {NVFP4_M_MAX, NVFP4_NOT_TIMED, 13, NVFP4_M_MAX}};
  for (size_t i = 0; i < sizeof at / sizeof at[0]; i++) {
    int64_t m_last;
    nvfp4_tuned here = nvfp4_tuned_at(layer, at[i].m, &m_last);
    assert_int_equal(nvfp4_tuned_ns(here, "a"), at[i].a);
    assert_int_equal(nvfp4_tuned_ns(here, "b"), at[i].b);
    assert_int_equal(nvfp4_tuned_ns(here, "other"), NVFP4_NOT_TIMED);
    assert_int_equal(m_last, at[i].m_last);
  }
  desc = field_desc(W4A16, NVFP4_DEVICE_CPU);
  assert_int_equal(nvfp4_tuned_layer(&tuning, &desc).count, 1);
  desc.n++;
  layer = nvfp4_tuned_layer(&tuning, &desc);
  assert_int_equal(layer.count, 0);
  assert_int_equal(nvfp4_tuned_layer(NULL, &desc).count, 0);
  int64_t m_last;
  assert_int_equal(nvfp4_tuned_at(layer, 5, &m_last).count, 0);
  assert_int_equal(m_last, NVFP4_M_MAX);
}

/* --------------------------------------------------------------------------------------------------------------- selection */

/* AVX2 is the fastest at M = 1, the processor's 512-bit kernel from M = 32 on; both share a layout. AMX would be faster still, in a layout of its own
 * that does not serve M below 32. The reference, in yet another layout, is said to be the fastest of all at M = 8 only. */
static const nvfp4_tuned_time field_times[] = {
    {W4A4, 256, 128, 1, "ref_w4a4", 90000},       {W4A4, 256, 128, 1, "x86_avx2_w4a16", 1},
    {W4A4, 256, 128, 1, "x86_avx2_w4a4", 1234},   {W4A4, 256, 128, 1, "x86_avx512vnni_w4a4", 2000},
    {W4A4, 256, 128, 8, "ref_w4a4", 7000},        {W4A4, 256, 128, 8, "x86_avx2_w4a4", 9000},
    {W4A4, 256, 128, 32, "ref_w4a4", 900000},     {W4A4, 256, 128, 32, "x86_amx_w4a4", 4000},
    {W4A4, 256, 128, 32, "x86_avx2_w4a4", 20000}, {W4A4, 256, 128, 32, "x86_avx512vnni_w4a4", 8000},
};

typedef struct tuned_case {
  nvfp4_policy policy;
  int64_t m;
  const char *plan, *decided_by;
  const char *id, *text; /* a part of that row's reason */
} tuned_case;

static const tuned_case tuned_cases[] = {
    {{0},
     1,
     "1-31 x86_avx2_w4a4, 32- x86_avx512vnni_w4a4",
     "tuning",
     "x86_avx2_w4a4",
     "tuning table the table: 1.23 us at M=1; x86_avx512vnni_w4a4 2.00 us, ref_w4a4 90.0 us"},
    {{0}, 1, "1-31 x86_avx2_w4a4, 32- x86_avx512vnni_w4a4", "tuning", "ref_w4a4", "90.0 us; x86_avx2_w4a4 comes first"},
    {{0}, 1, "1-31 x86_avx2_w4a4, 32- x86_avx512vnni_w4a4", "tuning", "x86_avx2_w4a16", "computes w4a16"},
    {{0},
     100,
     "1-31 x86_avx2_w4a4, 32- x86_avx512vnni_w4a4",
     "tuning",
     "x86_avx512vnni_w4a4",
     "tuning table the table: 8.00 us at M=32; x86_avx2_w4a4 20.0 us, ref_w4a4 900 us"},
    /* faster, but another layout */
    {{0},
     9,
     "1-31 x86_avx2_w4a4, 32- x86_avx512vnni_w4a4",
     "tuning",
     "ref_w4a4",
     "7.00 us; another packed layout (ref_n32) than the plan's, x86_n16k16, which serves every M; set max_layouts=2"},
    /* without a time */
    {{0},
     9,
     "1-31 x86_avx2_w4a4, 32- x86_avx512vnni_w4a4",
     "tuning",
     "x86_avx512vnni_w4a4",
     "not in the tuning table; x86_avx2_w4a4 comes first"},
    /* what the policy allows or requires comes before times */
    {{.allow = NVFP4_ALLOW_BOUNDED, .max_layouts = 2},
     32,
     "1-31 x86_avx2_w4a4, 32- x86_amx_w4a4",
     "tuning",
     "x86_amx_w4a4",
     "tuning table the table: 4.00 us at M=32"},
    {{.allow = NVFP4_ALLOW_BOUNDED, .require = NVFP4_REQUIRE_BATCH_INVARIANT, .max_layouts = 2},
     32,
     "1-7 x86_avx2_w4a4, 8-31 ref_w4a4, 32- x86_avx512vnni_w4a4",
     "tuning",
     "x86_amx_w4a4",
     "adds in the order \"amx k64\""},
    {{.allow = NVFP4_ALLOW_BOUNDED},
     32,
     "1-31 x86_avx2_w4a4, 32- x86_avx512vnni_w4a4",
     "tuning",
     "x86_amx_w4a4",
     "4.00 us; another packed layout"},
    {{.max_layouts = 2},
     1,
     "1-7 x86_avx2_w4a4, 8-31 ref_w4a4, 32- x86_avx512vnni_w4a4",
     "tuning",
     "x86_avx2_w4a4",
     "tuning table the table: 1.23 us"},
    /* the fewest measured M without a time come before speed */
    {{.disable = "x86_avx2*"}, 1, "1- ref_w4a4", "tuning", "x86_avx512vnni_w4a4", "2.00 us; another packed layout"},
    {{.disable = "x86_avx2*,ref_*"}, 1, "1- x86_avx512vnni_w4a4", "tuning", "x86_avx512vnni_w4a4", "2.00 us at M=1"},
    {{.disable = "x86_avx2*,ref_*"}, 8, "1- x86_avx512vnni_w4a4", "order", "x86_avx512vnni_w4a4", "first in the order that fits"},
    {{.disable = "x86_*"}, 1, "1- ref_w4a4", "tuning", "ref_w4a4", "tuning table the table: 90.0 us at M=1"},
    /* lists win */
    {{.kernel = "x86_avx512vnni_w4a4"}, 1, "1- x86_avx512vnni_w4a4", "option", "x86_avx512vnni_w4a4", "named by the kernel option"},
    {{.env_kernel = "x86_avx*"}, 1, "1- x86_avx512vnni_w4a4", "NVFP4_KERNEL", "x86_avx2_w4a4", "x86_avx512vnni_w4a4 comes first"},
    {{.env_kernel = "ref_w4a4,auto"}, 1, "1- ref_w4a4", "NVFP4_KERNEL", "ref_w4a4", "named by NVFP4_KERNEL"},
    {{.vllm_backend = "emulation"}, 1, "1- ref_w4a4", "VLLM_NVFP4_GEMM_BACKEND", "ref_w4a4", "named by VLLM_NVFP4_GEMM_BACKEND"},
    {{.kernel = "auto"}, 1, "1-31 x86_avx2_w4a4, 32- x86_avx512vnni_w4a4", "tuning", "x86_avx2_w4a4", "tuning table the table"},
};

static void run_tuned(const nvfp4_tuning *tuning, const tuned_case *c) {
  nvfp4_machine machine = field_machine("amx");
  nvfp4_layer_desc desc = field_desc(W4A4, NVFP4_DEVICE_CPU);
  nvfp4_select_input input = {field, FIELD_COUNT, &machine, false, &desc, &c->policy, c->m, tuning, 1};
  nvfp4_selection selection;
  nvfp4_report *report;
  nvfp4_reason reason = {.text = ""};
  char plan[400];
  assert_ok(nvfp4_select(&input, &selection, &report, &reason), reason);
  assert_string_equal(field_plan(report, plan, sizeof plan), c->plan);
  assert_string_equal(report->decided_by, c->decided_by);
  assert_contains(field_reason(report, c->id), c->text);
  nvfp4_report_free(report);
}

static void test_selection(void **state) {
  (void)state;
  nvfp4_tuning tuning = {
      .file = (char *)"the table", .times = (nvfp4_tuned_time *)field_times, .count = sizeof field_times / sizeof field_times[0]};
  for (size_t i = 0; i < sizeof tuned_cases / sizeof tuned_cases[0]; i++) {
    run_tuned(&tuning, &tuned_cases[i]);
  }
  /* A table that does not speak of the layer changes nothing. */
  tuning.count = 0;
  const tuned_case untuned = {{0}, 1, "1- x86_avx512vnni_w4a4", "order", "x86_avx512vnni_w4a4", "first in the order that fits"};
  run_tuned(&tuning, &untuned);
}

/* More changes from M to M than a plan can hold: the order decides. */
static void test_too_many_changes(void **state) {
  (void)state;
  enum { CHANGES = NVFP4_MAX_RANGES + 1 };
  nvfp4_tuned_time times[2 * CHANGES];
  for (int64_t i = 0; i < CHANGES; i++) {
    times[2 * i] = (nvfp4_tuned_time){W4A4, 256, 128, i + 1, "x86_avx2_w4a4", 1 + i % 2};
    times[2 * i + 1] = (nvfp4_tuned_time){W4A4, 256, 128, i + 1, "x86_avx512vnni_w4a4", 2 - i % 2};
  }
  nvfp4_tuning tuning = {.file = (char *)"the table", .times = times, .count = 2 * CHANGES};
  const tuned_case c = {{.disable = "ref_*"}, 1, "1- x86_avx512vnni_w4a4", "order", "x86_avx2_w4a4", "x86_avx512vnni_w4a4 comes first"};
  run_tuned(&tuning, &c);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_round_trip),
      cmocka_unit_test(test_other_machines),
      cmocka_unit_test(test_texts),
      cmocka_unit_test(test_gpus),
      cmocka_unit_test(test_match),
      cmocka_unit_test(test_selection),
      cmocka_unit_test(test_too_many_changes),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
