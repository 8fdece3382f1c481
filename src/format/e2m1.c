/* SPDX-License-Identifier: Apache-2.0 */
#include "format/e2m1.h"

const float nvfp4_e2m1_table[16] = {0.0f, 0.5f, 1.0f, 1.5f, 2.0f, 3.0f, 4.0f, 6.0f, -0.0f, -0.5f, -1.0f, -1.5f, -2.0f, -3.0f, -4.0f, -6.0f};

void nvfp4_e2m1_unpack(const uint8_t *packed, int64_t count, float *out) {
  for (int64_t j = 0; j < count / 2; ++j) {
    out[2 * j] = nvfp4_e2m1_table[packed[j] & 15];
    out[2 * j + 1] = nvfp4_e2m1_table[packed[j] >> 4];
  }
}

void nvfp4_e2m1_pack(const uint8_t *codes, int64_t count, uint8_t *packed) {
  for (int64_t j = 0; j < count / 2; ++j) {
    packed[j] = (uint8_t)(codes[2 * j] | codes[2 * j + 1] << 4);
  }
}
