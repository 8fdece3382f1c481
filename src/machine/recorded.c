/* SPDX-License-Identifier: Apache-2.0 */
/* The machines of machines/, embedded by cmake/machines.cmake. */
#include <string.h>

#include <nvfp4/nvfp4.h>

typedef struct recorded_machine {
  const char *name, *text;
} recorded_machine;

static const recorded_machine machines[] = {
#include "machines.inc"
};

const char *nvfp4_recorded_machine_name(size_t index) { return index < sizeof machines / sizeof machines[0] ? machines[index].name : NULL; }

const char *nvfp4_recorded_machine(const char *name) {
  for (size_t i = 0; name != NULL && i < sizeof machines / sizeof machines[0]; i++) {
    if (strcmp(machines[i].name, name) == 0) {
      return machines[i].text;
    }
  }
  return NULL;
}
