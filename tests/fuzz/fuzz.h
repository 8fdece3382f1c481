/* SPDX-License-Identifier: Apache-2.0 */
/* A fuzz target is one file with this function; libFuzzer or replay.c has the main. */
#ifndef NVFP4_TESTS_FUZZ_H
#define NVFP4_TESTS_FUZZ_H

#include <stddef.h>
#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#endif
