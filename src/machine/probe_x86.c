/* SPDX-License-Identifier: Apache-2.0 */
/*
 * x86-64. A bit of CPUID says that the processor has an instruction; XCR0 (read by XGETBV) says that the operating system saves the registers it
 * needs; and AMX, whose tiles are 8 KiB a thread, Linux hands out only to a process that asks. A kernel needs all three.
 * Bits: Intel SDM vol. 2A, CPUID; vol. 1, 13.3 (XCR0); Linux Documentation/arch/x86/xstate.rst.
 */
#define _GNU_SOURCE /* syscall */
#include "machine/probe.h"

#if defined(__x86_64__)
#include <cpuid.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { EAX, EBX, ECX, EDX };

enum {                     /* state components of XCR0 */
       XCR0_AVX = 0x6,     /* XMM, YMM */
       XCR0_AVX512 = 0xE6, /* and opmask, ZMM0-15, ZMM16-31 */
       XCR0_AMX = 0x60000  /* tile configuration, tile data */
};

typedef struct isa_bit {
  uint32_t isa;
  uint32_t leaf, subleaf;
  int reg, bit;
  uint32_t xcr0; /* what the operating system must save */
} isa_bit;

static const isa_bit isa_bits[] = {
    {NVFP4_ISA_SSE2, 1, 0, EDX, 26, 0},
    {NVFP4_ISA_FMA, 1, 0, ECX, 12, XCR0_AVX},
    {NVFP4_ISA_F16C, 1, 0, ECX, 29, XCR0_AVX},
    {NVFP4_ISA_AVX2, 7, 0, EBX, 5, XCR0_AVX},
    {NVFP4_ISA_AVXVNNI, 7, 1, EAX, 4, XCR0_AVX},
    {NVFP4_ISA_AVX512F, 7, 0, EBX, 16, XCR0_AVX512},
    {NVFP4_ISA_AVX512DQ, 7, 0, EBX, 17, XCR0_AVX512},
    {NVFP4_ISA_AVX512BW, 7, 0, EBX, 30, XCR0_AVX512},
    {NVFP4_ISA_AVX512VL, 7, 0, EBX, 31, XCR0_AVX512},
    {NVFP4_ISA_AVX512VBMI, 7, 0, ECX, 1, XCR0_AVX512},
    {NVFP4_ISA_AVX512VNNI, 7, 0, ECX, 11, XCR0_AVX512},
    {NVFP4_ISA_AVX512BF16, 7, 1, EAX, 5, XCR0_AVX512},
    {NVFP4_ISA_AMX_BF16, 7, 0, EDX, 22, XCR0_AMX},
    {NVFP4_ISA_AMX_TILE, 7, 0, EDX, 24, XCR0_AMX},
    {NVFP4_ISA_AMX_INT8, 7, 0, EDX, 25, XCR0_AMX},
};

static bool cpuid(uint32_t leaf, uint32_t subleaf, uint32_t reg[4]) {
  memset(reg, 0, 4 * sizeof reg[0]);
  return __get_cpuid_count(leaf, subleaf, &reg[EAX], &reg[EBX], &reg[ECX], &reg[EDX]) != 0;
}

/* What the operating system saves; 0 if it does not say. */
static uint32_t read_xcr0(void) {
  uint32_t reg[4];
  if (!cpuid(1, 0, reg) || (reg[ECX] >> 27 & 1) == 0) { /* OSXSAVE */
    return 0;
  }
  uint32_t low, high;
  __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return low;
}

static bool linux_grants_amx(void) {
#if defined(__linux__)
  enum { REQUEST_XCOMP_PERM = 0x1023, XFEATURE_TILE_DATA = 18 }; /* ARCH_REQ_XCOMP_PERM of asm/prctl.h */
  return syscall(SYS_arch_prctl, REQUEST_XCOMP_PERM, XFEATURE_TILE_DATA) == 0;
#else
  return false;
#endif
}

static void read_brand(char cpu[64]) {
  uint32_t reg[4];
  if (!cpuid(0x80000000u, 0, reg) || reg[EAX] < 0x80000004u) {
    return;
  }
  char brand[49] = {0};
  for (uint32_t part = 0; part < 3; part++) {
    cpuid(0x80000002u + part, 0, reg);
    memcpy(brand + 16 * part, reg, 16);
  }
  const char *first = brand + strspn(brand, " ");
  size_t length = strlen(first);
  while (length > 0 && first[length - 1] == ' ') {
    length--;
  }
  memcpy(cpu, first, length); /* at most 48; *out was zero */
}

void nvfp4_probe_x86(nvfp4_machine *out) {
  out->arch = NVFP4_ARCH_X86_64;
  read_brand(out->cpu);
  uint32_t xcr0 = read_xcr0();
  for (size_t i = 0; i < sizeof isa_bits / sizeof isa_bits[0]; i++) {
    const isa_bit *b = &isa_bits[i];
    uint32_t reg[4], highest[4];
    /* Subleaf 0 of leaf 7 says in EAX how many subleaves there are. */
    bool there = b->subleaf == 0 || (cpuid(b->leaf, 0, highest) && highest[EAX] >= b->subleaf);
    if (there && (xcr0 & b->xcr0) == b->xcr0 && cpuid(b->leaf, b->subleaf, reg) && (reg[b->reg] >> b->bit & 1) != 0) {
      out->isa |= b->isa;
    }
  }
  uint32_t amx = NVFP4_ISA_AMX_TILE | NVFP4_ISA_AMX_INT8 | NVFP4_ISA_AMX_BF16;
  if ((out->isa & amx) != 0 && !linux_grants_amx()) {
    out->isa &= ~amx;
  }
}
#else
void nvfp4_probe_x86(nvfp4_machine *out) { (void)out; }
#endif
