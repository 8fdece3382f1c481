/* SPDX-License-Identifier: Apache-2.0 */
/* The probe against what Linux says of this computer. */
#define _POSIX_C_SOURCE 200809L
#include <stdio.h>
#include <unistd.h>

#include "support.h"

static const struct {
  const char *flag; /* in /proc/cpuinfo */
  uint32_t isa;
} flags[] = {
#if defined(__x86_64__)
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
#else
    {"asimd", NVFP4_ISA_NEON},    {"asimddp", NVFP4_ISA_DOTPROD}, {"i8mm", NVFP4_ISA_I8MM},
    {"bf16", NVFP4_ISA_ARM_BF16}, {"sve", NVFP4_ISA_SVE},
#endif
};

static void test_isa(void **state) {
  (void)state;
  nvfp4_machine m;
  nvfp4_machine_probe(&m);
#if defined(__x86_64__)
  assert_int_equal(m.arch, NVFP4_ARCH_X86_64);
#else
  assert_int_equal(m.arch, NVFP4_ARCH_AARCH64);
#endif
  FILE *file = fopen("/proc/cpuinfo", "r");
  if (file == NULL) {
    skip();
  }
  char line[16384];
  bool found = false;
  while (!found && fgets(line, sizeof line - 1, file) != NULL) {
    found = strncmp(line, "flags", 5) == 0 || strncmp(line, "Features", 8) == 0;
  }
  fclose(file);
  if (!found) {
    skip();
  }
  line[strcspn(line, "\n")] = ' ';
  for (size_t i = 0; i < sizeof flags / sizeof flags[0]; i++) {
    char word[32];
    snprintf(word, sizeof word, " %s ", flags[i].flag);
    bool linux_says = strstr(line, word) != NULL, we_say = (m.isa & flags[i].isa) != 0;
    if (linux_says != we_say) {
      fail_msg("%s: /proc/cpuinfo says %d, the probe %d", flags[i].flag, linux_says, we_say);
    }
  }
}

static void test_the_rest(void **state) {
  (void)state;
  nvfp4_machine m, again, back;
  memset(&m, 0x5A, sizeof m);
  memset(&again, 0xA5, sizeof again);
  nvfp4_machine_probe(&m);
  nvfp4_machine_probe(&again);
  assert_memory_equal(&m, &again, sizeof m); /* every byte is set, and twice the same */
  assert_int_equal(m.struct_size, sizeof m);
  assert_true(m.cores >= 1 && m.cores <= sysconf(_SC_NPROCESSORS_CONF));
  assert_true(m.memory_bytes > 1u << 26);
  assert_true(m.l2_bytes == 0 || m.l2_bytes >= m.l1d_bytes);
  assert_true((m.cuda_missing[0] == '\0') == (m.cuda_driver > 0));
  char text[8192];
  nvfp4_reason reason = {.text = ""};
  nvfp4_machine_print(&m, text, sizeof text);
  assert_ok(nvfp4_machine_parse(text, &back, &reason), reason);
  assert_memory_equal(&back, &m, sizeof m);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_isa), cmocka_unit_test(test_the_rest)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
