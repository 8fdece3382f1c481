/* SPDX-License-Identifier: Apache-2.0 */
/* Packs into the layout cuda_mma and back: a thread block a tile, a thread the 32 weights that a lane has of a row tile and 64 k's. */
#include "kernels/cuda/arguments.h"
#include "kernels/cuda/mma_layout.h"

namespace {

/* Where a thread's weights are: in the tile, and in the canonical form. */
struct place {
  int row_tile, block64, lane;
  long long tile, row[2], block; /* block: of 16, along k */
};

__device__ place place_of_thread(long long n, long long k) {
  place p;
  p.row_tile = threadIdx.x / 64;
  p.block64 = threadIdx.x / 32 % 2;
  p.lane = threadIdx.x % 32;
  p.tile = blockIdx.x;
  const long long pairs = (k + CUDA_MMA_PAIR - 1) / CUDA_MMA_PAIR, across = (n + CUDA_MMA_ROWS - 1) / CUDA_MMA_ROWS;
  const long long group = p.tile / (CUDA_MMA_GROUP * pairs), within = p.tile - group * CUDA_MMA_GROUP * pairs;
  const long long width = min(across - group * CUDA_MMA_GROUP, (long long)CUDA_MMA_GROUP);
  const int g = p.lane / 4;
  p.row[0] = (group * CUDA_MMA_GROUP + within % width) * CUDA_MMA_ROWS + p.row_tile * 16 + g / 2 * 4 + g % 2;
  p.row[1] = p.row[0] + 2;
  p.block = within / width * (CUDA_MMA_PAIR / 16) + p.block64 * 4 + p.lane % 4;
  return p;
}

/* A code, s e e m, to its bits for the four parts of a word. */
__device__ unsigned place_code(unsigned code, int part) {
  unsigned sign = code >> 3, magnitude = code & 7;
  switch (part) {
  case 0:
    return sign << 15 | magnitude << 6;
  case 1:
    return sign << 12 | magnitude << 3;
  case 2:
    return sign << 9 | magnitude;
  default:
    return sign << 14 | (magnitude & 4) << 11 | (magnitude & 3) << 10;
  }
}

__device__ unsigned find_code(unsigned half, int part) {
  switch (part) {
  case 0:
    return half >> 15 << 3 | (half >> 6 & 7);
  case 1:
    return (half >> 12 & 1) << 3 | (half >> 3 & 7);
  case 2:
    return (half >> 9 & 1) << 3 | (half & 7);
  default:
    return (half >> 14 & 1) << 3 | (half >> 13 & 1) << 2 | (half >> 10 & 3);
  }
}

__device__ unsigned place_scale(unsigned e4m3) {
  if (e4m3 >= 8) {
    return e4m3 + 96;
  }
  if (e4m3 == 0) {
    return 0;
  }
  unsigned exponent = 31 - __clz((int)e4m3); /* of the fraction, in eighths of 2^-6 */
  return (exponent + 10) << 3 | ((e4m3 << (3 - exponent)) & 7);
}

__device__ unsigned find_scale(unsigned placed) {
  if (placed >= 104) {
    return placed - 96;
  }
  return placed == 0 ? 0 : (8 | (placed & 7)) >> (13 - (placed >> 3));
}

} // namespace

extern "C" __global__ void __launch_bounds__(CUDA_MMA_PACK_THREADS) nvfp4_mma_pack(const cuda_mma_pack_args a) {
  place p = place_of_thread(a.n, a.k);
  unsigned long long codes[2] = {0, 0};
  unsigned scales = 0;
  for (int h = 0; h < 2; h++) {
    if (p.row[h] < a.n && p.block < a.k / 16) {
      const uint8_t *from = a.codes + p.row[h] * a.codes_stride + p.block * 8; /* at any address */
      for (int i = 0; i < 8; i++) {
        codes[h] |= (unsigned long long)from[i] << 8 * i;
      }
      scales |= place_scale(a.scales[p.row[h] * a.scales_stride + p.block]) << 8 * h;
    }
  }
  uint32_t words[4] = {0, 0, 0, 0};
  for (int i = 0; i < 32; i++) {
    int step = i / 8, part = i / 2 % 4, half = i % 2; /* part: row + 2 * (which two of four k's) */
    int k = step * 4 + part / 2 * 2 + half;
    words[step] |= place_code((unsigned)(codes[part % 2] >> 4 * k) & 15, part) << 16 * half;
  }
  uint8_t *tile = a.packed + p.tile * CUDA_MMA_TILE_BYTES;
  uint32_t *to = reinterpret_cast<uint32_t *>(tile + p.row_tile * 1024 + p.block64 * 512 + p.lane * 16);
  for (int step = 0; step < 4; step++) {
    to[step] = words[step];
  }
  *reinterpret_cast<uint16_t *>(tile + CUDA_MMA_SCALES_AT + p.row_tile * 128 + p.lane * 4 + p.block64 * 2) = (uint16_t)scales;
}

extern "C" __global__ void __launch_bounds__(CUDA_MMA_PACK_THREADS) nvfp4_mma_unpack(const cuda_mma_unpack_args a) {
  place p = place_of_thread(a.n, a.k);
  const uint8_t *tile = a.packed + p.tile * CUDA_MMA_TILE_BYTES;
  const uint32_t *words = reinterpret_cast<const uint32_t *>(tile + p.row_tile * 1024 + p.block64 * 512 + p.lane * 16);
  const uint8_t *scales = tile + CUDA_MMA_SCALES_AT + p.row_tile * 128 + p.lane * 4 + p.block64 * 2;
  unsigned long long codes[2] = {0, 0};
  for (int i = 0; i < 32; i++) {
    int step = i / 8, part = i / 2 % 4, half = i % 2, k = step * 4 + part / 2 * 2 + half;
    codes[part % 2] |= (unsigned long long)find_code(words[step] >> 16 * half & 0xFFFF, part) << 4 * k;
  }
  for (int h = 0; h < 2; h++) {
    if (p.row[h] < a.n && p.block < a.k / 16) {
      *reinterpret_cast<unsigned long long *>(a.codes + (p.row[h] * (a.k / 16) + p.block) * 8) = codes[h];
      a.scales[p.row[h] * (a.k / 16) + p.block] = (uint8_t)find_scale(scales[h]);
    }
  }
}
