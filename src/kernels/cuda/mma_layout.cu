/* SPDX-License-Identifier: Apache-2.0 */
/* Packs into the layout cuda_mma and back: a thread block a tile, a thread two blocks of 16: those of slots g and g + 8, lane 4 g + step. */
#include "kernels/cuda/mma.cuh"

namespace {

/* Where a thread's blocks are: in the tile, and in the canonical form. */
struct place {
  int codes, scales;             /* bytes from the tile's begin to the words of lane 4 g + t, every 16 bytes from t = 0 on, and to the first row's scale; the other row's is 4 further */
  long long tile, row[2], block; /* block: of 16, along k */
};

__device__ place place_of_thread(long long n, long long k) {
  place p;
  const int row_tile = threadIdx.x / 64, block64 = threadIdx.x / 32 % 2, g = threadIdx.x / 4 % 8, step = threadIdx.x % 4;
  p.codes = row_tile * 1024 + block64 * 512 + g * 64 + step * 4;
  p.scales = CUDA_MMA_SCALES_AT + row_tile * 128 + g * 16 + block64 * 8 + step;
  p.tile = blockIdx.x;
  const long long pairs = (k + CUDA_MMA_PAIR - 1) / CUDA_MMA_PAIR, across = (n + CUDA_MMA_ROWS - 1) / CUDA_MMA_ROWS;
  const long long group = p.tile / (CUDA_MMA_GROUP * pairs), within = p.tile - group * CUDA_MMA_GROUP * pairs;
  const long long width = min(across - group * CUDA_MMA_GROUP, (long long)CUDA_MMA_GROUP);
  p.row[0] = (group * CUDA_MMA_GROUP + within % width) * CUDA_MMA_ROWS + row_tile * 16 + g / 2 * 4 + g % 2;
  p.row[1] = p.row[0] + 2;
  p.block = within / width * (CUDA_MMA_PAIR / 16) + block64 * 4 + step;
  return p;
}

/* A word from its codes, those of part i in c[i]: sign, exponent and fraction at bits 15, 8, 7 and 6 of the halves, all others zero. */
__device__ uint32_t word_of_codes(const uint32_t (&c)[4]) {
  const uint32_t rotated = c[0] | c[2] >> 4;
  uint32_t word = (rotated << 6 | rotated >> 26) | c[1] >> 4;
  /* Part 3, from below: a bit that differs is changed by one that reaches no lower one: that of its own place, or the one 8 lower where that is another part's. */
#pragma unroll
  for (int bit = 6; bit < 32; bit++) {
    const uint32_t differs = (codes_of_word(word).r[3] ^ c[3]) & CODES & 1u << bit;
    word ^= bit % 16 == 8 ? differs >> 8 : differs;
  }
  return word;
}

constexpr unsigned ZERO_SCALE = 30 << 3;

__device__ unsigned place_scale(unsigned e4m3) {
  if (e4m3 >= 8) {
    return e4m3 + 96;
  }
  if (e4m3 == 0) {
    return ZERO_SCALE;
  }
  unsigned exponent = 31 - __clz((int)e4m3); /* of the fraction, in eighths of 2^-6 */
  return (exponent + 10) << 3 | ((e4m3 << (3 - exponent)) & 7);
}

__device__ unsigned find_scale(unsigned placed) {
  if (placed == ZERO_SCALE) {
    return 0;
  }
  return placed >= 104 ? placed - 96 : (8 | (placed & 7)) >> (13 - (placed >> 3));
}

/* Code `half` (0, 1) of the two in part `part` of lane t's word: which of the 16 of a block. The part also says which row: part % 2. */
__device__ int k_of_part(int t, int part, int half) { return 2 * t + part / 2 * 8 + half; }

} // namespace

extern "C" __global__ void __launch_bounds__(CUDA_MMA_PACK_THREADS) nvfp4_mma_pack(const cuda_mma_pack_args a) {
  place p = place_of_thread(a.n, a.k);
  unsigned long long codes[2] = {0, 0};
  uint8_t *tile = a.packed + p.tile * CUDA_MMA_TILE_BYTES;
  for (int h = 0; h < 2; h++) {
    unsigned scale = ZERO_SCALE;
    if (p.row[h] < a.n && p.block < a.k / 16) {
      const uint8_t *from = a.codes + p.row[h] * a.codes_stride + p.block * 8;
      if (reinterpret_cast<uintptr_t>(from) % 8 == 0) {
        codes[h] = *reinterpret_cast<const unsigned long long *>(from);
      } else {
        for (int i = 0; i < 8; i++) {
          codes[h] |= (unsigned long long)from[i] << 8 * i;
        }
      }
      scale = place_scale(a.scales[p.row[h] * a.scales_stride + p.block]);
    }
    tile[p.scales + 4 * h] = (uint8_t)scale;
  }
#pragma unroll
  for (int t = 0; t < 4; t++) {
    uint32_t placed[4] = {};
#pragma unroll
    for (int i = 0; i < 8; i++) {
      const int part = i / 2, half = i % 2;
      const uint32_t code = (uint32_t)(codes[part % 2] >> 4 * k_of_part(t, part, half)) & 15;
      placed[part] |= (code >> 3 << 15 | (code & 7) << 6) << 16 * half;
    }
    *reinterpret_cast<uint32_t *>(tile + p.codes + 16 * t) = word_of_codes(placed);
  }
}

extern "C" __global__ void __launch_bounds__(CUDA_MMA_PACK_THREADS) nvfp4_mma_unpack(const cuda_mma_unpack_args a) {
  place p = place_of_thread(a.n, a.k);
  const uint8_t *tile = a.packed + p.tile * CUDA_MMA_TILE_BYTES;
  unsigned long long codes[2] = {0, 0};
#pragma unroll
  for (int t = 0; t < 4; t++) {
    const fragment placed = codes_of_word(*reinterpret_cast<const uint32_t *>(tile + p.codes + 16 * t));
#pragma unroll
    for (int i = 0; i < 8; i++) {
      const int part = i / 2, half = i % 2;
      const uint32_t code = placed.r[part] >> 16 * half;
      codes[part % 2] |= (unsigned long long)((code >> 15 & 1) << 3 | (code >> 6 & 7)) << 4 * k_of_part(t, part, half);
    }
  }
  for (int h = 0; h < 2; h++) {
    if (p.row[h] < a.n && p.block < a.k / 16) {
      *reinterpret_cast<unsigned long long *>(a.codes + (p.row[h] * (a.k / 16) + p.block) * 8) = codes[h];
      a.scales[p.row[h] * (a.k / 16) + p.block] = (uint8_t)find_scale(tile[p.scales + 4 * h]);
    }
  }
}
