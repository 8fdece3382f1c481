/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is in an NVFP4 block: 16 codes of 4 bits, one E4M3 byte, and the tensor's global scale.
 *
 *   w[k] = e2m1(code[k]) * e4m3(scale) * global
 *
 * Decodes one block by hand, step by step, and compares with the library, bit for bit.
 */
#include <math.h>
#include <nvfp4/nvfp4.h>
#include <stdio.h>
#include <string.h>

/* s ee m: exponent bias 1, subnormal 0.5; so 0, 0.5, 1, 1.5, 2, 3, 4, 6 and their negatives. */
static double decode_e2m1(unsigned code) {
  unsigned exponent = (code >> 1) & 3, mantissa = code & 1;
  double magnitude = exponent == 0 ? 0.5 * mantissa : ldexp(1.0 + 0.5 * mantissa, (int)exponent - 1);
  return (code & 8) != 0 ? -magnitude : magnitude;
}

/* s eeee mmm: exponent bias 7, no infinities, 0x7F and 0xFF are NaN; largest 448. */
static double decode_e4m3(unsigned byte) {
  unsigned exponent = (byte >> 3) & 15, mantissa = byte & 7;
  if (exponent == 15 && mantissa == 7) {
    return (double)NAN;
  }
  double magnitude = exponent == 0 ? ldexp(mantissa, -9) : ldexp(8.0 + mantissa, (int)exponent - 10);
  return (byte & 0x80) != 0 ? -magnitude : magnitude;
}

int main(void) {
  static const uint8_t codes[NVFP4_BLOCK / 2] = {0x10, 0x32, 0x54, 0x76, 0x98, 0xBA, 0xDC, 0xFE};
  static const uint8_t scale = 0x3A; /* 1.25 */
  const nvfp4_partition partition = {.n_first = 0, .n_rows = 1, .weight = {.value = 0.02f, .kind = NVFP4_GLOBAL_MULTIPLIER}};

  puts("E2M1, the 16 codes:");
  for (unsigned code = 0; code < 16; code++) {
    printf("  %X %4g%s", code, decode_e2m1(code), code % 8 == 7 ? "\n" : "");
  }

  const nvfp4_weights weights = {.struct_size = sizeof weights,
                                 .n = 1,
                                 .k = NVFP4_BLOCK,
                                 .codes = codes,
                                 .codes_stride_bytes = sizeof codes,
                                 .scales = &scale,
                                 .scales_stride_bytes = 1};
  float library[NVFP4_BLOCK];
  nvfp4_reason reason;
  if (nvfp4_weights_dequantise(&weights, &partition, 1, 0, 1, library, &reason) != NVFP4_OK) {
    fprintf(stderr, "%s\n", reason.text);
    return 1;
  }

  printf("\nOne block: scale byte 0x%02X = %g, global %g\n   k  byte  nibble  code    by hand    library\n", scale, decode_e4m3(scale),
         (double)partition.weight.value);
  int wrong = 0;
  for (unsigned k = 0; k < NVFP4_BLOCK; k++) {
    uint8_t byte = codes[k / 2];
    unsigned code = k % 2 == 0 ? byte & 15u : byte >> 4u; /* the even k in the low nibble */
    /* Code and scale have 2 and 4 significant bits and the global 24: the product is exact in double, and rounded once. */
    float by_hand = (float)(decode_e2m1(code) * decode_e4m3(scale) * (double)partition.weight.value);
    printf("  %2u    %02X    %4s     %X  %9g  %9g\n", k, byte, k % 2 == 0 ? "low" : "high", code, (double)by_hand, (double)library[k]);
    wrong += memcmp(&by_hand, &library[k], sizeof by_hand) != 0;
  }
  printf("%d of %d differ\n", wrong, NVFP4_BLOCK);
  return wrong != 0;
}
