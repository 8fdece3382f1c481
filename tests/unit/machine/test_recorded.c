/* SPDX-License-Identifier: Apache-2.0 */
#include "support.h"

static void test_all_parse(void **state) {
  (void)state;
  static const struct {
    const char *name;
    nvfp4_arch arch;
    uint32_t has, lacks;
    int gpus, sm;
  } expected[] = {
      {"amx", NVFP4_ARCH_X86_64, NVFP4_ISA_AMX_TILE | NVFP4_ISA_AMX_INT8 | NVFP4_ISA_AVX512VNNI, NVFP4_ISA_NEON, 0, 0},
      {"arm-dotprod", NVFP4_ARCH_AARCH64, NVFP4_ISA_NEON | NVFP4_ISA_DOTPROD, NVFP4_ISA_I8MM | NVFP4_ISA_SSE2, 0, 0},
      {"arm-i8mm", NVFP4_ARCH_AARCH64, NVFP4_ISA_NEON | NVFP4_ISA_DOTPROD | NVFP4_ISA_I8MM | NVFP4_ISA_ARM_BF16 | NVFP4_ISA_SVE,
       NVFP4_ISA_SSE2, 0, 0},
      {"avx2", NVFP4_ARCH_X86_64, NVFP4_ISA_AVX2 | NVFP4_ISA_FMA | NVFP4_ISA_F16C, NVFP4_ISA_AVX512F | NVFP4_ISA_AVXVNNI, 0, 0},
      {"avx512-vnni", NVFP4_ARCH_X86_64, NVFP4_ISA_AVX512F | NVFP4_ISA_AVX512BW | NVFP4_ISA_AVX512VL | NVFP4_ISA_AVX512VNNI,
       NVFP4_ISA_AMX_TILE | NVFP4_ISA_AVX512BF16, 0, 0},
      {"b200", NVFP4_ARCH_X86_64, NVFP4_ISA_AVX2, NVFP4_ISA_NEON, 8, 100},
      {"b300", NVFP4_ARCH_X86_64, NVFP4_ISA_AMX_TILE, NVFP4_ISA_NEON, 8, 103},
      {"dgx-spark", NVFP4_ARCH_AARCH64, NVFP4_ISA_I8MM, NVFP4_ISA_SSE2, 1, 121},
      {"h100", NVFP4_ARCH_X86_64, NVFP4_ISA_AVX2, NVFP4_ISA_NEON, 8, 90},
      {"no-driver", NVFP4_ARCH_X86_64, NVFP4_ISA_AVX2, NVFP4_ISA_AVX512F, 0, 0},
      {"rtx-5090", NVFP4_ARCH_X86_64, NVFP4_ISA_AVX512VNNI, NVFP4_ISA_AMX_TILE, 1, 120},
      {"thor", NVFP4_ARCH_AARCH64, NVFP4_ISA_I8MM, NVFP4_ISA_SSE2, 1, 110},
      {"x86-64", NVFP4_ARCH_X86_64, NVFP4_ISA_SSE2, NVFP4_ISA_AVX2, 0, 0},
  };
  size_t count = sizeof expected / sizeof expected[0];
  for (size_t i = 0; i < count; i++) {
    nvfp4_machine m, back;
    nvfp4_reason reason = {.text = ""};
    assert_string_equal(nvfp4_recorded_machine_name(i), expected[i].name); /* alphabetical */
    assert_ok(nvfp4_machine_parse(nvfp4_recorded_machine(expected[i].name), &m, &reason), reason);
    assert_int_equal(m.arch, expected[i].arch);
    assert_int_equal(m.isa & expected[i].has, expected[i].has);
    assert_int_equal(m.isa & expected[i].lacks, 0);
    assert_int_equal(m.gpu_count, expected[i].gpus);
    assert_int_equal(m.gpus[0].sm, expected[i].sm);
    /* Either a driver or the reason why there is none; the rest is known. */
    assert_true((m.cuda_missing[0] == '\0') == (m.gpu_count > 0) && (m.cuda_driver > 0) == (m.gpu_count > 0));
    assert_true(m.cpu[0] != '\0' && m.cores > 0 && m.l1d_bytes > 0 && m.l2_bytes > 0 && m.l3_bytes > 0 && m.memory_bytes > 0);
    char text[8192];
    nvfp4_machine_print(&m, text, sizeof text);
    assert_ok(nvfp4_machine_parse(text, &back, &reason), reason);
    assert_memory_equal(&back, &m, sizeof m);
  }
  assert_null(nvfp4_recorded_machine_name(count));
  assert_null(nvfp4_recorded_machine("avx"));
  assert_null(nvfp4_recorded_machine(NULL));
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_all_parse)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
