/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The tiles of AMX in C, after the operations of the Intel SDM, vol. 2 (LDTILECFG, TILELOADD, TILESTORED, TILEZERO, TDPBSSD, TDPBF16PS). What the processor would refuse ends the process,
 * and so does a configuration where there is one already: its task has not released it. To be included before the kernel.
 */
#ifndef NVFP4_TESTS_AMX_EMULATED_H
#define NVFP4_TESTS_AMX_EMULATED_H

#include <math.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#define NVFP4_EMULATE_AMX
#include "kernels/x86/amx_tile.h"

enum { AMX_TILES = 8, AMX_TILE_ROWS = 16, AMX_TILE_ROW_BYTES = 64 };

typedef struct amx_thread {
  bool configured;
  amx_config config;
  uint8_t tiles[AMX_TILES][AMX_TILE_ROWS][AMX_TILE_ROW_BYTES];
} amx_thread;

static _Thread_local amx_thread amx_of_thread;

static inline void amx_require(bool condition) {
  if (!condition) {
    abort();
  }
}

static inline int amx_rows_of(int tile) {
  amx_require(amx_of_thread.configured && tile >= 0 && tile < AMX_TILES && amx_of_thread.config.rows[tile] != 0);
  return amx_of_thread.config.rows[tile];
}

static inline int amx_bytes_of(int tile) {
  amx_require(amx_rows_of(tile) != 0 && amx_of_thread.config.row_bytes[tile] != 0);
  return amx_of_thread.config.row_bytes[tile];
}

static inline void amx_configure(const amx_config *config) {
  amx_require(!amx_of_thread.configured && sizeof *config == 64 && config->palette == 1 && config->start_row == 0);
  for (int i = 0; i < 16; i++) {
    amx_require(config->rows[i] <= (i < AMX_TILES ? AMX_TILE_ROWS : 0) && config->row_bytes[i] <= (i < AMX_TILES ? AMX_TILE_ROW_BYTES : 0));
    amx_require(i > 13 || config->reserved[i] == 0);
    amx_require((config->rows[i] == 0) == (config->row_bytes[i] == 0));
  }
  memset(&amx_of_thread, 0, sizeof amx_of_thread);
  amx_of_thread.config = *config;
  amx_of_thread.configured = true;
}

static inline void amx_release(void) { memset(&amx_of_thread, 0, sizeof amx_of_thread); }

static inline void amx_zero(int tile) {
  amx_require(amx_rows_of(tile) != 0);
  memset(amx_of_thread.tiles[tile], 0, sizeof amx_of_thread.tiles[tile]);
}

static inline void amx_load(int tile, const void *from, ptrdiff_t stride) {
  amx_zero(tile); /* bytes beyond the rows and columns of the configuration become zeros */
  for (int row = 0; row < amx_rows_of(tile); row++) {
    memcpy(amx_of_thread.tiles[tile][row], (const char *)from + row * stride, (size_t)amx_bytes_of(tile));
  }
}

static inline void amx_load_stream(int tile, const void *from, ptrdiff_t stride) { amx_load(tile, from, stride); }

static inline void amx_store(int tile, void *to, ptrdiff_t stride) {
  for (int row = 0; row < amx_rows_of(tile); row++) {
    memcpy((char *)to + row * stride, amx_of_thread.tiles[tile][row], (size_t)amx_bytes_of(tile));
  }
}

static inline void amx_require_shapes(int sum, int a, int b) {
  amx_require(sum != a && sum != b && a != b);
  amx_require(amx_rows_of(sum) == amx_rows_of(a) && amx_bytes_of(sum) == amx_bytes_of(b) && amx_bytes_of(a) == 4 * amx_rows_of(b));
}

static inline void amx_dot_int8(int sum, int a, int b) {
  amx_require_shapes(sum, a, b);
  for (int m = 0; m < amx_rows_of(sum); m++) {
    for (int n = 0; n < amx_bytes_of(sum) / 4; n++) {
      int32_t total;
      memcpy(&total, &amx_of_thread.tiles[sum][m][4 * n], sizeof total);
      for (int k = 0; k < amx_bytes_of(a); k++) {
        total += (int8_t)amx_of_thread.tiles[a][m][k] * (int8_t)amx_of_thread.tiles[b][k / 4][4 * n + k % 4];
      }
      memcpy(&amx_of_thread.tiles[sum][m][4 * n], &total, sizeof total);
    }
  }
}

/* Subnormal numbers are zeros, on the way in and on the way out. */
static inline float amx_flush(float v) { return fpclassify(v) == FP_SUBNORMAL ? copysignf(0.0f, v) : v; }

static inline float amx_bf16_at(const uint8_t *at) {
  uint16_t bits;
  memcpy(&bits, at, sizeof bits);
  uint32_t wide = (uint32_t)bits << 16;
  float v;
  memcpy(&v, &wide, sizeof v);
  return amx_flush(v);
}

static inline void amx_dot_bf16(int sum, int a, int b) {
  amx_require_shapes(sum, a, b);
  for (int m = 0; m < amx_rows_of(sum); m++) {
    for (int n = 0; n < amx_bytes_of(sum) / 4; n++) {
      float of[2] = {0.0f, 0.0f}, total; /* even and odd k */
      for (int k = 0; k < amx_bytes_of(a) / 2; k++) {
        float x = amx_bf16_at(&amx_of_thread.tiles[a][m][2 * k]), w = amx_bf16_at(&amx_of_thread.tiles[b][k / 2][4 * n + k % 2 * 2]);
        of[k % 2] = amx_flush(fmaf(x, w, of[k % 2]));
      }
      memcpy(&total, &amx_of_thread.tiles[sum][m][4 * n], sizeof total);
      total = amx_flush(amx_flush(total) + amx_flush(of[0] + of[1]));
      memcpy(&amx_of_thread.tiles[sum][m][4 * n], &total, sizeof total);
    }
  }
}

#endif
