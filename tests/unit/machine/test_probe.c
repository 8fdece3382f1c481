/* SPDX-License-Identifier: Apache-2.0 */
/* The whole probe of this computer. */
#define _POSIX_C_SOURCE 200809L
#include <stdio.h>
#include <unistd.h>

#include "support.h"

static void test_probe(void **state) {
  (void)state;
  nvfp4_machine m, again, back;
  memset(&m, 0x5A, sizeof m);
  memset(&again, 0xA5, sizeof again);
  nvfp4_machine_probe(&m);
  nvfp4_machine_probe(&again);
  assert_memory_equal(&m, &again, sizeof m); /* every byte is set, and twice the same */
  assert_int_equal(m.struct_size, sizeof m);
#if defined(__x86_64__)
  assert_int_equal(m.arch, NVFP4_ARCH_X86_64);
#else
  assert_int_equal(m.arch, NVFP4_ARCH_AARCH64);
#endif
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
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_probe)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
