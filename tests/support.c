/* SPDX-License-Identifier: Apache-2.0 */
#include "support.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

uint64_t test_random_u64(test_random *random) {
  uint64_t x = random->state != 0 ? random->state : 0x9E3779B97F4A7C15u;
  x ^= x >> 12;
  x ^= x << 25;
  x ^= x >> 27;
  random->state = x;
  return x * 0x2545F4914F6CDD1Du;
}

float test_random_uniform(test_random *random) { return (float)(test_random_u64(random) >> 40) * 0x1p-24f; }

float test_random_gauss(test_random *random) {
  double u = ((double)(test_random_u64(random) >> 11) + 0.5) * 0x1p-53;
  double v = ((double)(test_random_u64(random) >> 11) + 0.5) * 0x1p-53;
  return (float)(sqrt(-2.0 * log(u)) * cos(6.283185307179586 * v));
}

const nvfp4_tensor *golden_tensor(const nvfp4_checkpoint *expected, const char *layer, const char *key) {
  char name[512];
  snprintf(name, sizeof name, "%s.%s", layer, key);
  const nvfp4_tensor *tensor = nvfp4_checkpoint_find(expected, name);
  if (tensor == NULL) {
    fail_msg("no tensor %s in %s", name, nvfp4_checkpoint_path(expected));
  }
  return tensor;
}

char *test_read_file(const char *path, size_t *bytes) {
  FILE *file = fopen(path, "rb");
  if (file == NULL) {
    fail_msg("cannot open %s", path);
    return NULL;
  }
  fseek(file, 0, SEEK_END);
  long size = ftell(file);
  rewind(file);
  char *data = malloc((size_t)size + 1);
  if (data == NULL || fread(data, 1, (size_t)size, file) != (size_t)size) {
    fail_msg("cannot read %s", path);
  }
  fclose(file);
  data[size] = '\0';
  if (bytes != NULL) {
    *bytes = (size_t)size;
  }
  return data;
}
