/* SPDX-License-Identifier: Apache-2.0 */
/* The emulated tiles, with which the AMX kernels are proven everywhere, against the processor's, where it has them: bit for bit, bf16 sums that round included. */
#include "plugins/amx_emulated.h"
#include "support.h"

#if defined(__x86_64__)
#include <immintrin.h>

typedef struct operands {
  uint8_t sum[16][64], a[16][64], b[16][64];
} operands;

static void skip_without(uint32_t isa) {
  nvfp4_machine machine = {.struct_size = sizeof machine};
  nvfp4_machine_probe(&machine);
  if ((machine.isa & (NVFP4_ISA_AMX_TILE | isa)) != (NVFP4_ISA_AMX_TILE | isa)) {
    skip();
  }
}

/* Tiles 0: sum, 1: a, 2: b, for a step of k_bytes in a row of a. */
static amx_config config_for(int k_bytes) {
  return (amx_config){.palette = 1, .row_bytes = {64, (uint16_t)k_bytes, 64}, .rows = {16, 16, (uint8_t)(k_bytes / 4)}};
}

static void emulate(const amx_config *config, operands *o, bool bf16) {
  amx_configure(config);
  amx_load(0, o->sum, 64);
  amx_load(1, o->a, 64);
  amx_load(2, o->b, 64);
  if (bf16) {
    amx_dot_bf16(0, 1, 2);
  } else {
    amx_dot_int8(0, 1, 2);
  }
  amx_store(0, o->sum, 64);
  amx_release();
}

__attribute__((target("amx-tile,amx-int8,amx-bf16"))) static void execute(const amx_config *config, operands *o, bool bf16) {
  __asm__ volatile("" ::: "memory"); /* not all compilers know what the next lines read */
  _tile_loadconfig(config);
  _tile_loadd(0, o->sum, 64);
  _tile_loadd(1, o->a, 64);
  _tile_loadd(2, o->b, 64);
  if (bf16) {
    _tile_dpbf16ps(0, 1, 2);
  } else {
    _tile_dpbssd(0, 1, 2);
  }
  _tile_stored(0, o->sum, 64);
  _tile_release();
}

static void compare(const operands *input, int k_bytes, bool bf16) {
  amx_config config = config_for(k_bytes);
  operands want = *input, got = *input;
  emulate(&config, &want, bf16);
  execute(&config, &got, bf16);
  assert_memory_equal(got.sum, want.sum, sizeof want.sum);
}

static void test_int8(void **state) {
  (void)state;
  skip_without(NVFP4_ISA_AMX_INT8);
  test_random random = {1};
  for (int round = 0; round < 100; round++) {
    operands o;
    for (size_t i = 0; i < sizeof o; i++) {
      ((uint8_t *)&o)[i] = (uint8_t)(test_random_u64(&random) >> 20);
    }
    compare(&o, round % 2 == 0 ? 16 : 64, false);
  }
}

/* Factors as the kernels have them, in a range of magnitudes; zeros among them. */
static void put_bf16(test_random *random, uint8_t *at, int exponents) {
  uint64_t r = test_random_u64(random) >> 11;
  uint16_t bits = (uint16_t)((r & 1) << 15 | (uint64_t)(127 - exponents / 2 + (int)(r >> 1 & 0xFFFF) % exponents) << 7 | (r >> 20 & 0x7C));
  bits = (r >> 30) % 8 == 0 ? (uint16_t)(bits & 0x8000) : bits;
  memcpy(at, &bits, sizeof bits);
}

static void test_bf16(void **state) {
  (void)state;
  skip_without(NVFP4_ISA_AMX_BF16);
  test_random random = {2};
  for (int round = 0; round < 1000; round++) {
    operands o;
    int exponents = 1 + round % 20;
    for (size_t i = 0; i < sizeof o.a; i += 2) {
      put_bf16(&random, &o.a[0][0] + i, exponents);
      put_bf16(&random, &o.b[0][0] + i, exponents);
    }
    for (size_t i = 0; i < sizeof o.sum; i += 4) {
      float v = test_random_gauss(&random) * (float)(1 << exponents);
      memcpy(&o.sum[0][0] + i, &v, sizeof v);
    }
    compare(&o, round % 2 == 0 ? 32 : 64, true);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_int8), cmocka_unit_test(test_bf16)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
#else
int main(void) { return 0; }
#endif
