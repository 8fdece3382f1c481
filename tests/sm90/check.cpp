/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The kernels of cuda_sm90_w4a16, simulated (simulate.h), against a plain computation in the order of additions that their headers document: bit for bit, and nothing
 * written beside y. And the quantiser of quantise.cu that makes their x for W4A4, against that of src/format.
 *
 * check PLANT: 0 is the kernels as they are, which must be right; with a fault of host.py something must be wrong.
 */
#include "sm90/simulate.h"

#include "kernels/cuda/few.cuh"
#include "kernels/cuda/mma_layout.cu"
#include "kernels/cuda/quantise.cu"
#include "kernels/cuda/sm90_mid.cuh"
#include "kernels/cuda/sm90_prefill.cuh"
#include "kernels/cuda/sm90_split.cuh"
#include "kernels/cuda/sm90_totals.cuh"

#include <cstdio>
#include <cstdlib>
#include <type_traits>
#include <vector>

extern "C" {
#include "format/activation.h"
#include "format/e2m1.h"
#include "format/e4m3.h"
#include "kernels/cuda/mma.h"
}

static uint32_t draw(uint32_t count) { /* Knuth's MMIX generator, the upper bits */
  static uint64_t bits = 7;
  bits = bits * 6364136223846793005u + 1442695040888963407u;
  return (uint32_t)(bits >> 33) % count;
}

struct size {
  int m, n, k, slices;
  nvfp4_dtype y_dtype;
  bool biased;
};

/* A product of random numbers, of weights in two partitions, each with its alpha; and what y must be. */
template <class X>
struct problem : size {
  static constexpr uint8_t UNWRITTEN = 0xA5;
  static constexpr bool IS_BF16 = std::is_same<X, bf16>::value;
  std::vector<uint8_t> codes, scales, weights;
  std::vector<uint16_t> x;
  std::vector<float> alpha;
  std::vector<uint16_t> bias;
  std::vector<uint8_t> y, expected; /* between elements that nobody may write: 4 to 7 after a row, before y and after it more than a row */
  cuda_mma_args a = {};
  cuda_tensor_map map = {};

  explicit problem(const size &s)
      : size(s), codes((size_t)n * k / 2), scales((size_t)n * k / 16), x((size_t)m * (k + 8)), alpha(n), bias(n) {
    for (uint8_t &v : codes) {
      v = (uint8_t)draw(256);
    }
    for (uint8_t &v : scales) { /* 2^-6 to 1.5 2^7: sums round, so that their order shows; of 16 products they are exact in a double */
      v = (uint8_t)(8 + draw(28) * 4);
    }
    for (size_t i = 0; i < x.size(); i++) { /* NaNs between rows */
      const float value = i % (k + 8) < (size_t)k ? (float)((int)draw(511) - 255) / 64 : NAN;
      x[i] = IS_BF16 ? nvfp4_bf16_from_f32(value) : nvfp4_f16_from_f32(value);
    }
    for (int i = 0; i < n; i++) {
      alpha[i] = i < n / 3 ? 0.75f : 1.25f;
      bias[i] = nvfp4_bf16_from_f32((float)((int)draw(64) - 32));
    }
    pack();
    const size_t ldy = (size_t)(n + 7) / 4 * 4, beside = ldy + 64, element_bytes = y_dtype == NVFP4_DTYPE_F32 ? 4 : 2;
    expected.assign((m * ldy + 2 * beside) * element_bytes, UNWRITTEN);
    y = expected;
    compute(expected.data() + beside * element_bytes, ldy * element_bytes, element_bytes);
    a.m = m, a.n = n, a.k = k, a.weights = weights.data(), a.x = x.data(), a.ldx_elems = k + 8, a.alpha = alpha.data(),
    a.bias = biased ? bias.data() : nullptr;
    a.y = y.data() + beside * element_bytes, a.ldy_elems = (int64_t)ldy, a.y_dtype = y_dtype, a.bias_dtype = NVFP4_DTYPE_BF16,
    a.slices = slices;
  }

  void pack() { /* as on a GPU */
    cuda_mma_pack_args p = {};
    p.n = n, p.k = k, p.codes = codes.data(), p.scales = scales.data(), p.codes_stride = k / 2, p.scales_stride = k / 16;
    const unsigned tiles = (unsigned)((n + CUDA_MMA_ROWS - 1) / CUDA_MMA_ROWS * ((k + CUDA_MMA_PAIR - 1) / CUDA_MMA_PAIR));
    weights.resize((size_t)tiles * CUDA_MMA_TILE_BYTES);
    p.packed = weights.data();
    for (blockIdx.x = 0; blockIdx.x < tiles; blockIdx.x++) {
      for (threadIdx.x = 0; threadIdx.x < CUDA_MMA_PACK_THREADS; threadIdx.x++) {
        nvfp4_mma_pack(p);
      }
    }
    std::vector<uint8_t> codes_again(codes.size()), scales_again(scales.size());
    cuda_mma_unpack_args u = {};
    u.n = n, u.k = k, u.packed = weights.data(), u.codes = codes_again.data(), u.scales = scales_again.data();
    for (blockIdx.x = 0; blockIdx.x < tiles; blockIdx.x++) {
      for (threadIdx.x = 0; threadIdx.x < CUDA_MMA_PACK_THREADS; threadIdx.x++) {
        nvfp4_mma_unpack(u);
      }
    }
    if (codes_again != codes || scales_again != scales) {
      fprintf(stderr, "N = %d, K = %d: unpacked weights are not those that were packed\n", n, k);
      exit(1);
    }
  }

  void compute(uint8_t *out, size_t row_bytes, size_t element_bytes) {
    const int pairs = (k + CUDA_MMA_PAIR - 1) / CUDA_MMA_PAIR;
    std::vector<double> w((size_t)n * k), xs((size_t)m * k);
    for (size_t i = 0; i < w.size(); i++) {
      w[i] = (double)nvfp4_e2m1_to_f32(codes[i / 2] >> i % 2 * 4 & 15) * nvfp4_e4m3_to_f32(scales[i / 16]);
    }
    for (size_t i = 0; i < xs.size(); i++) {
      const uint16_t v = x[i / k * (k + 8) + i % k];
      xs[i] = IS_BF16 ? nvfp4_bf16_to_f32(v) : nvfp4_f16_to_f32(v);
    }
    for (int i = 0; i < m; i++) {
      for (int j = 0; j < n; j++) {
        float total = 0;
        for (int slice = 0; slice < slices; slice++) {
          float sum = 0;
          for (int at = slice * pairs / slices * CUDA_MMA_PAIR; at < (slice + 1) * pairs / slices * CUDA_MMA_PAIR && at < k; at += 16) {
            double products[16];
            for (int p = 0; p < 16; p++) {
              products[p] = xs[(size_t)i * k + at + p] * w[(size_t)j * k + at + p];
            }
            sum = simulated_sum(sum, products);
          }
          total = slice == 0 ? sum : total + sum;
        }
        const float v = biased ? std::fma(alpha[j], total, nvfp4_bf16_to_f32(bias[j])) : alpha[j] * total;
        nvfp4_from_f32(&v, y_dtype, out + i * row_bytes + j * element_bytes, 1);
      }
    }
  }

  /* False, and says so, if something is wrong. */
  bool run(const char *name, unsigned blocks, unsigned threads, unsigned cluster, int box,
           void (*kernel)(const cuda_mma_args &, const cuda_tensor_map &), size_t shared_bytes = CUDA_SM90_SHARED_BYTES) {
    const simulated_map content = {x.data(), (uint64_t)m, (uint64_t)k, (uint64_t)a.ldx_elems, (uint64_t)box};
    memcpy(&map, &content, sizeof content);
    for (uint64_t seed = 1; seed <= 2; seed++) {
      std::fill(y.begin(), y.end(), UNWRITTEN);
      const char *failure = simulate({blocks, threads, cluster, shared_bytes, weights.data(), weights.size(), x.data(), x.size() * 2, seed},
                                     [&] { kernel(a, map); });
      if (failure != nullptr || y != expected) {
        printf("%s, M = %d, N = %d, K = %d, %d slices, seed %d: %s\n", name, m, n, k, slices, (int)seed,
               failure != nullptr ? failure : "wrong bits");
        return false;
      }
    }
    return true;
  }
};

static int ceiling(int a, int b) { return (a + b - 1) / b; }

/* row_tiles: of 16 rows of weights, that a thread block computes at a time; in so many rounds. Shared memory: `most` at most, so that x comes in chunks. */
template <class X, int DEPTH, bool PAIRED, int ROUNDS, int MOST = CUDA_SM90_SHARED_BYTES>
static bool few(const char *name, const size &s, int row_tiles) {
  problem<X> p(s);
  p.a.cluster = PAIRED ? 2 : 1;
  const int threads = row_tiles * s.slices / p.a.cluster * 32;
  const int64_t shared_bytes =
      CUDA_SM90_FEW_BARRIERS_BYTES + cuda_mma_few_shared_bytes(&p.a, threads, 8, DEPTH, MOST - CUDA_SM90_FEW_BARRIERS_BYTES);
  return p.run(
      name, (unsigned)(ceiling(ceiling(s.n, 16), row_tiles * ROUNDS) * p.a.cluster), (unsigned)threads, (unsigned)p.a.cluster, 0,
      [](const cuda_mma_args &a, const cuda_tensor_map &) { few_rows<X, 1, DEPTH, PAIRED, x_by_bulk<1, DEPTH>>(a); }, (size_t)shared_bytes);
}

/* block_tiles: of weights, that a thread block computes at most. */
template <class S>
static bool mid(const char *name, const size &s, int block_tiles) {
  problem<typename S::X> p(s);
  p.a.block_tiles = block_tiles;
  const int blocks = ceiling(ceiling(s.n, 64), block_tiles) * ceiling(s.m, S::COLUMNS) * s.slices;
  return p.run(name, (unsigned)blocks, S::THREADS, (unsigned)s.slices, S::COLUMNS, mid_rows<S>);
}

template <class S>
static bool split(const char *name, const size &s, int cluster) {
  problem<typename S::X> p(s);
  p.a.cluster = cluster;
  return p.run(name, (unsigned)(ceiling(s.n, 64) * ceiling(s.m, S::COLUMNS) * cluster), S::THREADS, (unsigned)cluster, S::COLUMNS,
               split_rows<S>);
}

/* multiprocessors: that the GPU has; a thread block for each computes tiles until none is left. */
template <class S>
static bool prefill(const char *name, const size &s, int multiprocessors) {
  problem<typename S::X> p(s);
  const int tiles = ceiling(s.n, S::ROWS) * ceiling(s.m, S::COLUMNS);
  return p.run(name, (unsigned)min(tiles, multiprocessors), S::THREADS, 1, S::COLUMNS / S::BOXES, prefill_rows<S>);
}

template <class S>
static bool totals(const char *name, const size &s, int multiprocessors) {
  problem<typename S::X> p(s);
  const int tiles = ceiling(s.n, S::ROWS) * ceiling(s.m, S::COLUMNS);
  return p.run(name, (unsigned)min(tiles, multiprocessors), S::THREADS, 1, S::PART, totals_rows<S>);
}

/* x [m, k] of 16 bits to the codes times scales that src/format makes. */
static bool quantise(const std::vector<uint16_t> &x, nvfp4_dtype x_dtype, int k, float s_a) {
  const int m = (int)(x.size() / (size_t)k);
  alignas(16) static uint16_t values[1 << 16];
  cuda_quantise_args a = {};
  a.m = a.rows = m, a.k = k, a.columns = k / NVFP4_BLOCK, a.x = x.data(), a.ldx_elems = k, a.x_dtype = x_dtype, a.s_a = s_a,
  a.inverse_s_a = 1 / s_a, a.values = values;
  const char *failure =
      simulate({(unsigned)ceiling((int)x.size() / NVFP4_BLOCK, 128), 128, 1, 0, nullptr, 0, nullptr, 0, 1}, [&] { nvfp4_quantise(a); });
  std::vector<float> row(k);
  std::vector<uint8_t> codes(k / 2), scales(k / NVFP4_BLOCK);
  for (int i = 0; i < m && failure == nullptr; i++) {
    nvfp4_to_f32(&x[(size_t)i * k], x_dtype, row.data(), k);
    nvfp4_quantise_activation_row(row.data(), k, s_a, codes.data(), scales.data());
    for (int j = 0; j < k; j++) {
      const float value = nvfp4_e2m1_to_f32(codes[j / 2] >> j % 2 * 4 & 15) * nvfp4_e4m3_to_f32(scales[j / NVFP4_BLOCK]);
      const uint16_t found = values[(size_t)i * k + j];
      if (std::isnan(value) ? !std::isnan(nvfp4_bf16_to_f32(found)) : found != nvfp4_bf16_from_f32(value)) {
        failure = "wrong bits";
      }
    }
  }
  if (failure != nullptr) {
    printf("quantise, K = %d, s_a = %g: %s\n", k, (double)s_a, failure);
  }
  return failure == nullptr;
}

/* All numbers of 16 bits, in their order; and blocks of numbers that are close to each other, whose products round to every code. */
static bool quantise_all() {
  bool right = true;
  for (const nvfp4_dtype x_dtype : {NVFP4_DTYPE_BF16, NVFP4_DTYPE_F16}) {
    std::vector<uint16_t> x(1 << 16);
    for (uint32_t i = 0; i < x.size(); i++) {
      x[i] = (uint16_t)i;
    }
    right = quantise(x, x_dtype, 4096, 1) && right;
    const uint32_t binade = x_dtype == NVFP4_DTYPE_BF16 ? 1 << 7 : 1 << 10;
    for (const float s_a : {0x1p-6f, 0.3f, 57.5f, 3000.0f}) {
      uint32_t most = 0;
      for (uint32_t i = 0; i < x.size(); i++) {
        if (i % NVFP4_BLOCK == 0) {
          most = (x_dtype == NVFP4_DTYPE_BF16 ? 0x3C00 : 0x2800) + draw(12 * binade);
        }
        x[i] = (uint16_t)(draw(2) << 15 | (most - draw(6 * binade)));
      }
      right = quantise(x, x_dtype, 1024, s_a) && right;
    }
  }
  return right;
}

int main(int count, char **arguments) {
  planted = count > 1 ? atoi(arguments[1]) : 0;
  constexpr nvfp4_dtype F32 = NVFP4_DTYPE_F32, F16 = NVFP4_DTYPE_F16, BF16 = NVFP4_DTYPE_BF16;
  /* Shapes as in sm90_w4a16.cu; M, N, K, slices. Those that find most faults come first. */
  static const struct {
    const char *name;
    bool (*run)(const char *name, const size &s, int number);
    size s;
    int number; /* tiles of weights of a thread block, thread blocks of a tile, or multiprocessors */
  } cases[] = {
      {"few8x2_512", few<bf16, 4, true, 1>, {8, 100, 2064, 4, BF16, true}, 3},
      {"few8_896", few<f16, 2, false, 3, 24000>, {5, 130, 2960, 2, F32, false}, 2},
      {"split64", split<split_shape<f16, 64, 2, 5>>, {14, 64, 528, 4, F16, false}, 1},
      {"mid64", mid<mid_shape<bf16, 64, 2, 4, 2>>, {70, 301, 1040, 1, F32, true}, 3},
      {"sliced128", prefill<prefill_shape<bf16, 2, 128, 5, true, 2>>, {130, 301, 784, 4, F32, true}, 3},
      {"sliced256", totals<totals_shape<bf16, 7, 2, 32>>, {300, 310, 1552, 4, BF16, true}, 5},
      {"mid3x64", mid<mid_shape<bf16, 64, 3, 3, 2>>, {20, 320, 1040, 8, F32, false}, 5},
      /* 6 tiles, the last one in halves; 10, the last two */
      {"whole256", prefill<prefill_shape<bf16, 2, 256, 3, false, 2>>, {300, 310, 656, 1, BF16, true}, 5},
      {"sliced1x128", prefill<prefill_shape<bf16, 1, 128, 5, true, 2>>, {140, 290, 1040, 8, BF16, false}, 4},
      {"split32", split<split_shape<bf16, 32, 4, 4>>, {33, 130, 2064, 8, F32, true}, 1},
      {"split64", split<split_shape<bf16, 64, 2, 5>>, {70, 65, 1200, 8, F32, false}, 2},
      {"split128", split<split_shape<bf16, 128, 2, 3>>, {130, 100, 1168, 4, BF16, true}, 2},
      {"few8_768", few<bf16, 3, false, 2>, {1, 220, 3472, 1, F16, true}, 4},
      {"few8_1024", few<bf16, 2, false, 1>, {3, 50, 1296, 8, F32, true}, 2},
      {"few8x2_1024", few<f16, 2, true, 1, 34000>, {7, 66, 3120, 8, F32, false}, 2},
      {"few8x2_768", few<bf16, 3, true, 1>, {2, 64, 1024, 2, BF16, false}, 4},
      {"mid128", mid<mid_shape<f16, 128, 2, 2, 2>>, {130, 200, 2064, 2, BF16, true}, 4},
      {"mid3x128", mid<mid_shape<bf16, 128, 3, 1, 2>>, {37, 300, 912, 1, BF16, true}, 3},
  };
  bool right = quantise_all();
  for (const auto &c : cases) {
    if (right || planted == 0) {
      right = c.run(c.name, c.s, c.number) && right;
    }
  }
  return right == (planted == 0) ? 0 : 1;
}
