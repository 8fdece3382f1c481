/* SPDX-License-Identifier: Apache-2.0 */
/*
 * AMX: eight tiles of 16 rows x 64 bytes, and what is done with them. Tiles are named by literal numbers. Intel SDM vol. 1, chapter 18.
 *
 * With NVFP4_EMULATE_AMX only the type is here, and the operations are functions in C that a test defines (tests/plugins/amx_emulated.h), so that any processor with AVX-512 proves
 * what a kernel does with tiles.
 */
#ifndef NVFP4_KERNELS_X86_AMX_TILE_H
#define NVFP4_KERNELS_X86_AMX_TILE_H

#include <stdint.h>

/* The operand of LDTILECFG: bytes a row and rows of each tile. */
typedef struct amx_config {
  uint8_t palette; /* 1 */
  uint8_t start_row, reserved[14];
  uint16_t row_bytes[16];
  uint8_t rows[16];
} amx_config;

#if !defined(NVFP4_EMULATE_AMX)
#include <immintrin.h>

/* Not all compilers know which memory LDTILECFG and TILELOADD read, so what was stored before must be there. */
#define AMX_STORED() __asm__ volatile("" ::: "memory")

/* Of this thread; amx_release() ends it. */
static inline void amx_configure(const amx_config *config) {
  AMX_STORED();
  _tile_loadconfig(config);
}
static inline void amx_release(void) { _tile_release(); }

#define amx_zero(tile) _tile_zero(tile)
/* Rows at `from`, from + stride, ... */
#define amx_load(tile, from, stride)   \
  do {                                 \
    AMX_STORED();                      \
    _tile_loadd(tile, (from), stride); \
  } while (0)
/* The same, for what the cores' L1 should not keep. */
#define amx_load_stream(tile, from, stride)   \
  do {                                        \
    AMX_STORED();                             \
    _tile_stream_loadd(tile, (from), stride); \
  } while (0)
#define amx_store(tile, to, stride) _tile_stored(tile, (to), stride)
/* sum[m][n] += over k of a[m][k] * b[k/4][n][k%4]: int8, int32. */
#define amx_dot_int8(sum, a, b) _tile_dpbssd(sum, a, b)
/* sum[m][n] += over k of a[m][k] * b[k/2][n][k%2]: bf16, fp32. */
#define amx_dot_bf16(sum, a, b) _tile_dpbf16ps(sum, a, b)
#endif

#endif
