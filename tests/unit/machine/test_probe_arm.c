/* SPDX-License-Identifier: Apache-2.0 */
#include "cpuinfo.h"
#include "machine/probe.h"

static const cpuinfo_flag flags[] = {
    {"asimd", NVFP4_ISA_NEON},    {"asimddp", NVFP4_ISA_DOTPROD}, {"i8mm", NVFP4_ISA_I8MM},
    {"bf16", NVFP4_ISA_ARM_BF16}, {"sve", NVFP4_ISA_SVE},
};

static void test_isa(void **state) {
  (void)state;
  nvfp4_machine m;
  memset(&m, 0, sizeof m);
  nvfp4_probe_arm(&m);
#if defined(__aarch64__)
  assert_int_equal(m.arch, NVFP4_ARCH_AARCH64);
  check_cpuinfo("Features", flags, sizeof flags / sizeof flags[0], m.isa);
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
