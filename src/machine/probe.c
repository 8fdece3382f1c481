/* SPDX-License-Identifier: Apache-2.0 */
/* What this computer is: processor, caches, memory, GPUs. */
#define _GNU_SOURCE /* _SC_LEVEL1_DCACHE_SIZE and its like, fopen's "e" */
#include "machine/probe.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/threads.h"

/* Reads /sys/devices/system/cpu/cpuN/cache/indexN/NAME, one line without its end; false if there is none. */
static bool read_cache_file(int cpu, int index, const char *name, char line[64]) {
  char path[128];
  snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu%d/cache/index%d/%s", cpu, index, name);
  FILE *file = fopen(path, "re");
  if (file == NULL) {
    return false;
  }
  bool ok = fgets(line, 64, file) != NULL;
  fclose(file);
  if (ok) {
    line[strcspn(line, "\n")] = '\0';
  }
  return ok;
}

/* "1024K" -> bytes. */
static uint64_t cache_size(const char *text) {
  unsigned long long size = 0;
  char unit = '\0';
  if (sscanf(text, "%llu%c", &size, &unit) < 1) {
    return 0;
  }
  return (uint64_t)size << (unit == 'K' ? 10 : unit == 'M' ? 20 : unit == 'G' ? 30 : 0);
}

/* Adds the level-3 caches, each counted at the first processor of those that share it. */
static uint64_t l3_in_all(void) {
  uint64_t bytes = 0;
  char line[64];
  for (int cpu = 0; read_cache_file(cpu, 0, "level", line); cpu++) {
    for (int index = 0; read_cache_file(cpu, index, "level", line); index++) {
      int first = -1;
      if (strcmp(line, "3") == 0 && read_cache_file(cpu, index, "shared_cpu_list", line) && sscanf(line, "%d", &first) == 1 &&
          first == cpu && read_cache_file(cpu, index, "size", line)) {
        bytes += cache_size(line);
      }
    }
  }
  return bytes;
}

static uint64_t sysconf_bytes(int name) {
  long bytes = sysconf(name);
  return bytes > 0 ? (uint64_t)bytes : 0;
}

static void probe_caches(nvfp4_machine *out) {
  char level[64], type[64], size[64];
  for (int index = 0; read_cache_file(0, index, "level", level); index++) {
    if (!read_cache_file(0, index, "type", type) || !read_cache_file(0, index, "size", size) || strcmp(type, "Instruction") == 0) {
      continue;
    }
    if (strcmp(level, "1") == 0) {
      out->l1d_bytes = cache_size(size);
    } else if (strcmp(level, "2") == 0) {
      out->l2_bytes = cache_size(size);
    }
  }
  out->l3_bytes = l3_in_all();
#if defined(_SC_LEVEL1_DCACHE_SIZE) /* glibc; on x86 it asks CPUID, so it works where /sys is hidden */
  if (out->l1d_bytes == 0) {
    out->l1d_bytes = sysconf_bytes(_SC_LEVEL1_DCACHE_SIZE);
    out->l2_bytes = sysconf_bytes(_SC_LEVEL2_CACHE_SIZE);
    out->l3_bytes = sysconf_bytes(_SC_LEVEL3_CACHE_SIZE);
  }
#endif
}

void nvfp4_machine_probe(nvfp4_machine *out) {
  memset(out, 0, sizeof *out);
  out->struct_size = sizeof *out;
  nvfp4_probe_x86(out);
  nvfp4_probe_arm(out);
  out->cores = nvfp4_processor_count();
  out->memory_bytes = sysconf_bytes(_SC_PHYS_PAGES) * sysconf_bytes(_SC_PAGESIZE);
  probe_caches(out);
  nvfp4_probe_cuda(out);
}
