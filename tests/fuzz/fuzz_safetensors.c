/* SPDX-License-Identifier: Apache-2.0 */
/* Any bytes, opened as a safetensors file; of what is accepted every byte is read, so that a sanitizer sees a tensor leave the file. */
#include <stdlib.h>
#include <string.h>

#include "checkpoint/checkpoint.h"
#include "fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  if (size >= 4 && memcmp(data, "GGUF", 4) == 0) {
    return 0; /* would be opened as GGUF: fuzz_gguf.c's */
  }
  nvfp4_checkpoint *checkpoint = NULL;
  nvfp4_reason reason;
  if (nvfp4_checkpoint_open_memory("fuzz.safetensors", data, size, 0, &checkpoint, &reason) != NVFP4_OK) {
    return 0;
  }
  uint64_t tensor_bytes = 0;
  unsigned sum = 0;
  const nvfp4_tensor *tensor;
  for (size_t i = 0; (tensor = nvfp4_checkpoint_tensor(checkpoint, i)) != NULL; i++) {
    for (uint64_t j = 0; j < tensor->bytes; j++) {
      sum += ((const uint8_t *)tensor->data)[j];
    }
    tensor_bytes += tensor->bytes;
    if (nvfp4_checkpoint_find(checkpoint, tensor->name) != tensor) {
      abort();
    }
  }
  volatile unsigned keep = sum; /* or the reading would be optimised away */
  (void)keep;
  if (tensor_bytes >= size) { /* tensors cover the data once, after 8 bytes and a header */
    abort();
  }
  nvfp4_checkpoint_close(checkpoint);
  return 0;
}
