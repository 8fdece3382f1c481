/* SPDX-License-Identifier: Apache-2.0 */
/* Any text as a tuning table, and as what stands below a table's head. What is accepted must survive printing. */
#include <stdlib.h>
#include <string.h>

#include "fuzz.h"
#include "select/tuning.h"

static void try_text(const char *text, const nvfp4_machine *machine) {
  nvfp4_tuning tuning, again;
  nvfp4_reason reason;
  if (nvfp4_tuning_parse(text, "fuzz", machine, 1, &tuning, &reason) != NVFP4_OK) {
    if (memchr(reason.text, '\0', sizeof reason.text) == NULL) {
      abort();
    }
    return;
  }
  const nvfp4_device device = {tuning.gpu != NULL ? NVFP4_DEVICE_CUDA : NVFP4_DEVICE_CPU, 0};
  char *printed = nvfp4_tuning_print(machine, device, 1, tuning.times, tuning.count);
  if (printed == NULL || nvfp4_tuning_parse(printed, "fuzz", machine, 1, &again, &reason) != NVFP4_OK || again.count != tuning.count) {
    abort();
  }
  for (size_t i = 0; i < tuning.count; i++) {
    const nvfp4_tuned_time *a = &tuning.times[i], *b = &again.times[i];
    if (a->mode != b->mode || a->n != b->n || a->k != b->k || a->m != b->m || a->ns != b->ns || strcmp(a->kernel, b->kernel) != 0) {
      abort();
    }
  }
  free(printed);
  nvfp4_tuning_free(&tuning);
  nvfp4_tuning_free(&again);
}

static void try_below_head(const nvfp4_machine *machine, nvfp4_device_kind kind, const uint8_t *data, size_t size) {
  char *head = nvfp4_tuning_print(machine, (nvfp4_device){kind, 0}, 1, NULL, 0);
  size_t head_bytes = head != NULL ? strlen(head) : 0;
  char *text = malloc(head_bytes + size + 1);
  if (head != NULL && text != NULL) {
    memcpy(text, head, head_bytes);
    memcpy(text + head_bytes, data, size);
    text[head_bytes + size] = '\0';
    try_text(text, machine);
    try_text(text + head_bytes, machine);
  }
  free(text);
  free(head);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  const nvfp4_machine machine = {.struct_size = sizeof machine, .gpu_count = 1, .gpus[0].name = "GPU"};
  try_below_head(&machine, NVFP4_DEVICE_CPU, data, size);
  try_below_head(&machine, NVFP4_DEVICE_CUDA, data, size);
  return 0;
}
