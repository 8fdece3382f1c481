/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The main of a fuzz target without libFuzzer: runs it over files, and over folders with what lies below them, as a corpus that must not
 * crash. Each file is also given cut in half and with single bits turned over, at places that are the same in every run.
 */
#define _XOPEN_SOURCE 700
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fuzz.h"

#define MUTATIONS 64

static int files;

/* A copy exactly as long as the input, so that a sanitizer sees a read past it. */
static void run(const uint8_t *data, size_t size) {
  uint8_t *copy = malloc(size > 0 ? size : 1);
  if (copy == NULL) {
    fprintf(stderr, "replay: no memory\n");
    exit(2);
  }
  memcpy(copy, data, size);
  LLVMFuzzerTestOneInput(copy, size);
  free(copy);
}

static void run_mutations(uint8_t *data, size_t size) {
  run(data, size);
  run(data, size / 2);
  uint64_t state = size;
  for (int i = 0; i < MUTATIONS && size > 0; i++) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    size_t place = (size_t)((state >> 33) % (size < 1024 ? size : 1024)); /* headers come first */
    uint8_t bit = (uint8_t)(1u << (state >> 61));
    data[place] ^= bit;
    run(data, size);
    data[place] ^= bit;
  }
}

static int visit(const char *path, const struct stat *status, int kind, struct FTW *place) {
  (void)place;
  if (kind != FTW_F) {
    return 0;
  }
  FILE *file = fopen(path, "rb");
  size_t size = (size_t)status->st_size;
  uint8_t *data = malloc(size > 0 ? size : 1);
  if (file == NULL || data == NULL || fread(data, 1, size, file) != size) {
    fprintf(stderr, "replay: %s: cannot be read\n", path);
    exit(2);
  }
  fclose(file);
  run_mutations(data, size);
  free(data);
  files++;
  return 0;
}

int main(int argc, char **argv) {
  for (int i = 1; i < argc; i++) {
    if (nftw(argv[i], visit, 16, FTW_PHYS) != 0) {
      fprintf(stderr, "replay: %s: cannot be walked\n", argv[i]);
      return 2;
    }
  }
  printf("replay: %d files\n", files);
  return files > 0 ? 0 : 2;
}
