/* SPDX-License-Identifier: Apache-2.0 */
/* Text of machines: the exact form, round trips, every error with its line. */
#include <stdio.h>

#include "support.h"

static nvfp4_machine sample(void) {
  nvfp4_machine m;
  memset(&m, 0, sizeof m);
  m.struct_size = sizeof m;
  m.arch = NVFP4_ARCH_X86_64;
  strcpy(m.cpu, "AMD EPYC 9B45 # 128-Core");
  m.isa = NVFP4_ISA_SSE2 | NVFP4_ISA_AVX2 | NVFP4_ISA_AVX512VNNI;
  m.cores = 2;
  m.l1d_bytes = 49152;
  m.l2_bytes = 1048576;
  m.l3_bytes = 33554432;
  m.memory_bytes = UINT64_MAX;
  m.cuda_driver = 13000;
  m.gpu_count = 2;
  m.gpus[0] = (nvfp4_gpu){.name = "NVIDIA H100 80GB HBM3",
                          .sm = 90,
                          .multiprocessors = 132,
                          .memory_bytes = 85029158912,
                          .l2_bytes = 52428800,
                          .shared_bytes = 232448};
  m.gpus[1] = (nvfp4_gpu){.name = "", .sm = 120};
  return m;
}

static const char sample_text[] =
    "arch x86_64\ncpu AMD EPYC 9B45 # 128-Core\nisa sse2 avx2 avx512vnni\ncores 2\nl1d_bytes 49152\nl2_bytes 1048576\nl3_bytes 33554432\n"
    "memory_bytes 18446744073709551615\ncuda_driver 13000\n"
    "gpu sm=90 multiprocessors=132 memory_bytes=85029158912 l2_bytes=52428800 shared_bytes=232448 name=NVIDIA H100 80GB HBM3\n"
    "gpu sm=120 multiprocessors=0 memory_bytes=0 name=\n";

static void test_form(void **state) {
  (void)state;
  nvfp4_machine m = sample(), back;
  nvfp4_reason reason = {.text = ""};
  char text[4096];
  assert_int_equal(nvfp4_machine_print(&m, text, sizeof text), sizeof sample_text - 1);
  assert_string_equal(text, sample_text);
  assert_ok(nvfp4_machine_parse(text, &back, &reason), reason);
  assert_memory_equal(&back, &m, sizeof m);
}

/* Cut at every size: never written past the end, always terminated, always the same length told. */
static void test_print_is_bounded(void **state) {
  (void)state;
  nvfp4_machine m = sample();
  assert_int_equal(nvfp4_machine_print(&m, NULL, 0), sizeof sample_text - 1);
  for (size_t size = 1; size <= sizeof sample_text + 1; size++) {
    char text[sizeof sample_text + 8];
    memset(text, 0x7E, sizeof text);
    assert_int_equal(nvfp4_machine_print(&m, text, size), sizeof sample_text - 1);
    size_t length = size - 1 < sizeof sample_text - 1 ? size - 1 : sizeof sample_text - 1;
    assert_int_equal(strlen(text), length);
    assert_memory_equal(text, sample_text, length);
    assert_int_equal(text[size], 0x7E);
  }
}

static void test_isa_names(void **state) {
  (void)state;
  nvfp4_machine m, back;
  memset(&m, 0, sizeof m);
  m.struct_size = sizeof m;
  int names = 0;
  for (int bit = 0; bit < 32; bit++) {
    const char *name = nvfp4_isa_name(1u << bit);
    if (name == NULL) {
      continue;
    }
    names++;
    char text[64];
    snprintf(text, sizeof text, "arch unknown\nisa %s\n", name);
    assert_int_equal(nvfp4_machine_parse(text, &back, NULL), NVFP4_OK);
    assert_int_equal(back.isa, 1u << bit);
    m.isa |= 1u << bit;
  }
  assert_int_equal(names, 20);
  assert_string_equal(nvfp4_isa_name(NVFP4_ISA_AVX512VNNI), "avx512vnni");
  assert_string_equal(nvfp4_isa_name(NVFP4_ISA_ARM_BF16), "arm_bf16");
  assert_null(nvfp4_isa_name(0));
  assert_null(nvfp4_isa_name(3));
  assert_null(nvfp4_isa_name(1u << 31));
  char text[1024];
  nvfp4_machine_print(&m, text, sizeof text);
  assert_int_equal(nvfp4_machine_parse(text, &back, NULL), NVFP4_OK);
  assert_memory_equal(&back, &m, sizeof m);
}

/* Random machines: print, parse, the same bytes. */
static void test_round_trip(void **state) {
  (void)state;
  test_random random = {3};
  for (int trial = 0; trial < 2000; trial++) {
    nvfp4_machine m, back;
    memset(&m, 0, sizeof m);
    m.struct_size = sizeof m;
    m.arch = (nvfp4_arch)(test_random_u64(&random) % 3);
    for (int bit = 0; bit < 32; bit++) {
      m.isa |= nvfp4_isa_name(1u << bit) != NULL && test_random_u64(&random) % 2 != 0 ? 1u << bit : 0;
    }
    m.cores = (int)(test_random_u64(&random) % 3 == 0 ? 0 : test_random_u64(&random) >> 33);
    m.l1d_bytes = test_random_u64(&random) >> test_random_u64(&random) % 64;
    m.l2_bytes = test_random_u64(&random) % 2;
    m.l3_bytes = test_random_u64(&random);
    m.cuda_driver = (int)(test_random_u64(&random) % 20000);
    memset(m.cpu, 'c', test_random_u64(&random) % sizeof m.cpu);
    memset(m.cuda_missing, 'm', test_random_u64(&random) % sizeof m.cuda_missing);
    m.gpu_count = (int)(test_random_u64(&random) % (NVFP4_MAX_GPUS + 1));
    for (int i = 0; i < m.gpu_count; i++) {
      m.gpus[i].sm = (int)(test_random_u64(&random) % 200);
      m.gpus[i].multiprocessors = (int)(test_random_u64(&random) % 200);
      m.gpus[i].memory_bytes = test_random_u64(&random);
      memset(m.gpus[i].name, 'g', test_random_u64(&random) % sizeof m.gpus[i].name);
    }
    char text[8192];
    nvfp4_reason reason = {.text = ""};
    assert_true(nvfp4_machine_print(&m, text, sizeof text) < sizeof text);
    assert_ok(nvfp4_machine_parse(text, &back, &reason), reason);
    assert_memory_equal(&back, &m, sizeof m);
  }
}

static void test_lenient(void **state) {
  (void)state;
  nvfp4_machine m;
  nvfp4_reason reason = {.text = ""};
  assert_ok(nvfp4_machine_parse("# a comment\r\n\n   \t\n  arch \t aarch64 \r\n # cores 7\nisa  neon   dotprod\n"
                                "gpu name=the rest sm=90\ngpu memory_bytes=7\tsm=80",
                                &m, &reason),
            reason);
  assert_int_equal(m.arch, NVFP4_ARCH_AARCH64);
  assert_int_equal(m.isa, NVFP4_ISA_NEON | NVFP4_ISA_DOTPROD);
  assert_int_equal(m.cores, 0);
  assert_int_equal(m.gpu_count, 2);
  assert_string_equal(m.gpus[0].name, "the rest sm=90");
  assert_int_equal(m.gpus[0].sm, 0);
  assert_int_equal(m.gpus[1].sm, 80);
  assert_int_equal(m.gpus[1].memory_bytes, 7);
}

static void test_errors(void **state) {
  (void)state;
  static const struct {
    const char *text, *says;
  } cases[] = {
      {"", "no line \"arch\"; a machine needs one: x86_64, aarch64 or unknown"},
      {"cores 3\n", "no line \"arch\""},
      {"arch x86\n", "line 1: arch is \"x86\"; needs x86_64, aarch64 or unknown"},
      {"arch\n", "line 1: arch is \"\""},
      {"\n# c\narch x86_64\nspeed 3\n", "line 4: unknown key \"speed\"; needs arch, cpu, isa"},
      {"arch x86_64\ncores four\n", "line 2: cores is \"four\"; needs a whole number from 0 to 2147483647"},
      {"arch x86_64\ncores -1\n", "line 2: cores is \"-1\""},
      {"arch x86_64\ncores\n", "line 2: cores is \"\""},
      {"arch x86_64\ncores 2 3\n", "line 2: cores is \"2 3\""},
      {"arch x86_64\ncores 2147483648\n", "line 2: cores is \"2147483648\""},
      {"arch x86_64\nl3_bytes 18446744073709551616\n", "line 2: l3_bytes is \"18446744073709551616\""},
      {"arch x86_64\ncores 1\ncores 1\n", "line 3: cores is given twice"},
      {"arch x86_64\narch x86_64\n", "line 2: arch is given twice"},
      {"arch x86_64\nisa sse2 sse9\n", "line 2: isa names \"sse9\""},
      {"arch x86_64\ncpu aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\n",
       "line 2: cpu has 64 bytes; shorten it to at most 63"},
      {"arch x86_64\ngpu sm=x\n", "line 2: gpu sm is \"x\""},
      {"arch x86_64\ngpu sm=90 cores=3\n",
       "line 2: gpu has \"cores=3\"; needs sm=, multiprocessors=, memory_bytes=, l2_bytes=, shared_bytes= or name="},
      {"arch x86_64\ngpu\ngpu\ngpu\ngpu\ngpu\ngpu\ngpu\ngpu\ngpu\ngpu\ngpu\ngpu\ngpu\ngpu\ngpu\ngpu\ngpu\n", "line 18: gpu: more than 16"},
  };
  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
    nvfp4_machine m, before;
    memset(&m, 0x5A, sizeof m);
    before = m;
    nvfp4_reason reason = {.text = ""};
    assert_int_equal(nvfp4_machine_parse(cases[i].text, &m, &reason), NVFP4_E_FORMAT);
    if (strstr(reason.text, cases[i].says) == NULL) {
      fail_msg("\"%s\" is not in \"%s\"", cases[i].says, reason.text);
    }
    assert_memory_equal(&m, &before, sizeof m);
  }
  char line[600];
  memset(line, '#', sizeof line - 1);
  line[sizeof line - 1] = '\0';
  nvfp4_machine m;
  nvfp4_reason reason;
  assert_int_equal(nvfp4_machine_parse(line, &m, &reason), NVFP4_E_FORMAT);
  assert_non_null(strstr(reason.text, "line 1 has 599 bytes; needs fewer than 512"));
  assert_int_equal(nvfp4_machine_parse(NULL, &m, NULL), NVFP4_E_ARG);
  assert_int_equal(nvfp4_machine_parse("arch unknown", NULL, NULL), NVFP4_E_ARG);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_form),       cmocka_unit_test(test_print_is_bounded), cmocka_unit_test(test_isa_names),
      cmocka_unit_test(test_round_trip), cmocka_unit_test(test_lenient),          cmocka_unit_test(test_errors),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
