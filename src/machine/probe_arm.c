/* SPDX-License-Identifier: Apache-2.0 */
/* AArch64: Linux tells what the processor has and what it saves in the auxiliary vector. Documentation/arch/arm64/elf_hwcaps.rst. */
#define _GNU_SOURCE /* getauxval */
#include "machine/probe.h"

#if defined(__aarch64__)
#include <asm/hwcap.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>

/* The number after "key : " in a line of /proc/cpuinfo; 0 if the line has another key. */
static unsigned long cpuinfo_number(const char *line, const char *key) {
  const char *colon = strncmp(line, key, strlen(key)) == 0 ? strchr(line, ':') : NULL;
  return colon != NULL ? strtoul(colon + 1, NULL, 0) : 0;
}

/* Linux gives no name on Arm, only the MIDR register's implementer and part. */
static void read_part(char cpu[64]) {
  static const struct {
    unsigned long implementer, part;
    const char *name;
  } names[] = {{0x41, 0xD0C, "Neoverse-N1"}, {0x41, 0xD40, "Neoverse-V1"}, {0x41, 0xD49, "Neoverse-N2"},
               {0x41, 0xD4F, "Neoverse-V2"}, {0x41, 0xD0B, "Cortex-A76"},  {0x41, 0xD41, "Cortex-A78"}};
  FILE *file = fopen("/proc/cpuinfo", "re");
  if (file == NULL) {
    return;
  }
  unsigned long implementer = 0, part = 0;
  char line[256];
  while ((implementer == 0 || part == 0) && fgets(line, sizeof line, file) != NULL) {
    implementer = implementer != 0 ? implementer : cpuinfo_number(line, "CPU implementer");
    part = part != 0 ? part : cpuinfo_number(line, "CPU part");
  }
  fclose(file);
  if (part != 0) {
    snprintf(cpu, 64, "implementer 0x%02lx part 0x%03lx", implementer, part);
  }
  for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
    if (implementer == names[i].implementer && part == names[i].part) {
      snprintf(cpu, 64, "%s", names[i].name);
    }
  }
}

void nvfp4_probe_arm(nvfp4_machine *out) {
  unsigned long hwcap = getauxval(AT_HWCAP), hwcap2 = getauxval(AT_HWCAP2);
  out->arch = NVFP4_ARCH_AARCH64;
  read_part(out->cpu);
  out->isa = ((hwcap & HWCAP_ASIMD) != 0 ? (uint32_t)NVFP4_ISA_NEON : 0) |
             ((hwcap & HWCAP_ASIMDDP) != 0 ? (uint32_t)NVFP4_ISA_DOTPROD : 0) | ((hwcap & HWCAP_SVE) != 0 ? (uint32_t)NVFP4_ISA_SVE : 0) |
             ((hwcap2 & HWCAP2_I8MM) != 0 ? (uint32_t)NVFP4_ISA_I8MM : 0) |
             ((hwcap2 & HWCAP2_BF16) != 0 ? (uint32_t)NVFP4_ISA_ARM_BF16 : 0);
}
#else
void nvfp4_probe_arm(nvfp4_machine *out) { (void)out; }
#endif
