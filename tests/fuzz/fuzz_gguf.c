/* SPDX-License-Identifier: Apache-2.0 */
/* Any bytes, opened as a GGUF file; of what is accepted every metadata value is asked for in every way, and every tensor converted. */
#include <stdlib.h>

#include "checkpoint/checkpoint.h"
#include "checkpoint/gguf.h"
#include "fuzz.h"

static void read_metadata(const nvfp4_gguf_metadata *metadata, const char *key) {
  nvfp4_gguf_string string;
  nvfp4_gguf_type type;
  uint64_t count;
  int64_t number;
  double real;
  bool boolean;
  nvfp4_gguf_get_int(metadata, key, &number);
  nvfp4_gguf_get_float(metadata, key, &real);
  nvfp4_gguf_get_bool(metadata, key, &boolean);
  nvfp4_gguf_get_string(metadata, key, &string);
  if (!nvfp4_gguf_get_array(metadata, key, &type, &count) || count == 0) {
    return;
  }
  nvfp4_gguf_string *strings = calloc(count, sizeof *strings); /* count is bounded by the file's size */
  int32_t *ints = calloc(count, sizeof *ints);
  if (strings == NULL || ints == NULL) {
    abort();
  }
  unsigned sum = 0;
  if (nvfp4_gguf_get_strings(metadata, key, strings, count)) {
    for (uint64_t i = 0; i < count; i++) {
      for (size_t j = 0; j < strings[i].bytes; j++) {
        sum += (unsigned char)strings[i].text[j];
      }
    }
  }
  volatile unsigned keep = sum; /* or the reading would be optimised away */
  (void)keep;
  nvfp4_gguf_get_ints(metadata, key, ints, count);
  free(strings);
  free(ints);
}

static void read_tensor(const nvfp4_tensor *tensor) {
  uint64_t count = 1;
  for (int i = 0; i < tensor->rank; i++) {
    count *= (uint64_t)tensor->shape[i];
  }
  if (count == 0 || count > 8 * tensor->bytes) { /* no type packs more than 8 elements into a byte */
    if (count != 0 && tensor->bytes != 0) {
      abort();
    }
    return;
  }
  float *values = malloc(count * sizeof *values);
  if (values == NULL) {
    abort();
  }
  nvfp4_tensor_to_f32(tensor, 0, count, values, NULL);
  free(values);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  nvfp4_checkpoint *checkpoint = NULL;
  nvfp4_reason reason;
  if (nvfp4_checkpoint_open_memory("fuzz.gguf", data, size, 0, &checkpoint, &reason) != NVFP4_OK) {
    return 0;
  }
  static const char *const keys[] = {"general.alignment", "general.architecture", "tokenizer.ggml.tokens", "a", "key"};
  for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++) {
    read_metadata(checkpoint->gguf, keys[i]);
  }
  const nvfp4_tensor *tensor;
  for (size_t i = 0; (tensor = nvfp4_checkpoint_tensor(checkpoint, i)) != NULL; i++) {
    read_tensor(tensor);
  }
  nvfp4_checkpoint_close(checkpoint);
  return 0;
}
