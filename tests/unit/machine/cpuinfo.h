/* SPDX-License-Identifier: Apache-2.0 */
/* What Linux says in /proc/cpuinfo that the processor can do and the system allows. */
#ifndef NVFP4_TESTS_MACHINE_CPUINFO_H
#define NVFP4_TESTS_MACHINE_CPUINFO_H

#include <stdio.h>

#include "support.h"

typedef struct cpuinfo_flag {
  const char *flag;
  uint32_t isa;
} cpuinfo_flag;

/* Fails unless `isa` has exactly those of the bits whose flags the first line that begins with `key` has; skips the test if there is no such line. */
static inline void check_cpuinfo(const char *key, const cpuinfo_flag *flags, size_t count, uint32_t isa) {
  FILE *file = fopen("/proc/cpuinfo", "r");
  char line[16384];
  bool found = false;
  while (file != NULL && !found && fgets(line, sizeof line - 1, file) != NULL) {
    found = strncmp(line, key, strlen(key)) == 0;
  }
  if (file != NULL) {
    fclose(file);
  }
  if (!found) {
    skip();
  }
  line[strcspn(line, "\n")] = ' ';
  for (size_t i = 0; i < count; i++) {
    char word[32];
    snprintf(word, sizeof word, " %s ", flags[i].flag);
    bool linux_says = strstr(line, word) != NULL, we_say = (isa & flags[i].isa) != 0;
    if (linux_says != we_say) {
      fail_msg("%s: /proc/cpuinfo says %d, the probe %d", flags[i].flag, linux_says, we_say);
    }
  }
}

#endif
