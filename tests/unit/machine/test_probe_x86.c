/* SPDX-License-Identifier: Apache-2.0 */
#include "cpuinfo.h"
#include "machine/probe.h"

static const cpuinfo_flag flags[] = {
    {"sse2", NVFP4_ISA_SSE2},
    {"avx2", NVFP4_ISA_AVX2},
    {"fma", NVFP4_ISA_FMA},
    {"f16c", NVFP4_ISA_F16C},
    {"avx_vnni", NVFP4_ISA_AVXVNNI},
    {"avx512f", NVFP4_ISA_AVX512F},
    {"avx512bw", NVFP4_ISA_AVX512BW},
    {"avx512vl", NVFP4_ISA_AVX512VL},
    {"avx512dq", NVFP4_ISA_AVX512DQ},
    {"avx512_vnni", NVFP4_ISA_AVX512VNNI},
    {"avx512_bf16", NVFP4_ISA_AVX512BF16},
    {"avx512vbmi", NVFP4_ISA_AVX512VBMI},
    {"amx_tile", NVFP4_ISA_AMX_TILE},
    {"amx_int8", NVFP4_ISA_AMX_INT8},
    {"amx_bf16", NVFP4_ISA_AMX_BF16},
};

static void test_isa(void **state) {
  (void)state;
  nvfp4_machine m;
  memset(&m, 0, sizeof m);
  nvfp4_probe_x86(&m);
#if defined(__x86_64__)
  assert_int_equal(m.arch, NVFP4_ARCH_X86_64);
  check_cpuinfo("flags", flags, sizeof flags / sizeof flags[0], m.isa);
#else
  (void)flags;
  assert_int_equal(m.arch, NVFP4_ARCH_UNKNOWN); /* the other probe's affair */
  assert_int_equal(m.isa, 0);
#endif
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_isa)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
