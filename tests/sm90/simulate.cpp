/* SPDX-License-Identifier: Apache-2.0 */
#include "sm90/machine.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <unordered_map>

uint8_t unaligned[1], shared[1];

using namespace machine;

namespace {

/* ------------------------------------------------------------------------------------------------------------------------ barriers */

void arrive(meeting &m, unsigned needed) {
  if (m.arrived == 0) {
    m.threads = needed;
  }
  if (m.threads != needed) {
    fail("a named barrier of %u threads is joined as one of %u", m.threads, needed);
  }
  if (++m.arrived == needed) {
    m.arrived = 0;
    m.generation++;
  }
}

void join(meeting &m, unsigned needed, const char *what) {
  const unsigned generation = m.generation;
  arrive(m, needed);
  wait(what, [&m, generation] { return m.generation != generation; });
}

}  // namespace

void machine::check_cluster() {
  unsigned live = 0;
  for (const block &b : blocks) {
    live += b.live;
  }
  if (cluster_meeting.arrived > 0 && cluster_meeting.arrived >= live) {
    cluster_meeting.arrived = 0;
    cluster_meeting.generation++;
  }
}

namespace {

/* Of the calling lane's warp: the values that its lanes give. */
const uint32_t (*exchange(std::initializer_list<uint32_t> given))[EXCHANGED] {
  warp &w = self->its_warp();
  uint32_t(*values)[EXCHANGED] = w.values[w.all.generation % 2];
  std::copy(given.begin(), given.end(), values[self->index % WARP]);
  join(w.all, WARP, "lanes of its warp");
  return values;
}

mbarrier &barrier_at(block &b, uint32_t address) {
  const auto found = b.barriers.find(address);
  if (found == b.barriers.end()) {
    fail("at %#x is no mbarrier", address);
  }
  return found->second;
}

void check_phase(mbarrier &b) {
  if (b.pending == 0 && b.bytes == 0) {
    b.phase++;
    b.pending = b.arrivals;
  }
}

void arrive(uint32_t address, int64_t bytes) {
  mbarrier &b = barrier_at(*self->home, address);
  if (b.pending == 0) {
    fail("mbarrier %#x: more arrivals than %u", address, b.arrivals);
  }
  b.pending--;
  b.bytes += bytes;
  check_phase(b);
}

/* ------------------------------------------------------------------------------------------------------------------- shared memory */

/* Of block `b`, for ld and st. */
uint8_t *access(block &b, uint32_t address, uint32_t bytes, bool write) {
  if (address % bytes != 0 || address < SHARED_AT || address + bytes > b.shared.size()) {
    fail("shared memory at %#x, %u bytes: misaligned, or outside", address, bytes);
  }
  for (uint32_t i = address; i < address + bytes; i++) {
    uint8_t &s = b.states[i];
    if (s == COPYING || s == BARRIER) {
      fail("shared memory at %#x is %s", i, s == COPYING ? "used while a copy to it is under way" : "an mbarrier");
    }
    if (write) {
      s = STORED;
      b.stored_by[i] = (uint16_t)(self - threads.data());
    }
  }
  return &b.shared[address];
}

/* What the thread has stored, copies may write over from now on. */
void fence_stores() {
  block &b = *self->home;
  for (size_t i = 0; i < b.states.size(); i++) {
    if (b.states[i] == STORED && b.stored_by[i] == self - threads.data()) {
      b.states[i] = COPIED;
    }
  }
}

void check_no_multiplication_reads(block &b, uint32_t begin, uint32_t end) {
  for (const warpgroup &w : b.warpgroups) {
    for (const multiplication &m : w.under_way) {
      if (begin < m.b_end() && m.b_begin() < end) {
        fail("shared memory from %#x to %#x is written while an MMA that reads it has not been waited for", begin, end);
      }
    }
  }
}

void begin_copy(uint32_t to, uint32_t barrier, std::vector<uint8_t> bytes, uint32_t alignment) {
  block &b = *self->home;
  const uint32_t end = to + (uint32_t)bytes.size();
  if (to % alignment != 0 || to < SHARED_AT || end > b.shared.size()) {
    fail("copy to shared memory at %#x, %zu bytes: misaligned, or outside", to, bytes.size());
  }
  if (!barrier_at(b, barrier).fenced) {
    fail("mbarrier %#x is used by a copy before fence.mbarrier_init", barrier);
  }
  check_no_multiplication_reads(b, to, end);
  for (uint32_t i = to; i < end; i++) {
    if (b.states[i] != NEVER && b.states[i] != COPIED) {
      fail("copy to shared memory at %#x: %s", i,
           b.states[i] == COPYING ? "another is under way" : "st.shared wrote there, and no fence.proxy.async is between");
    }
  }
  memset(&b.states[to], COPYING, bytes.size());
  memset(&b.shared[to], 0xFF, bytes.size());
  b.copies.push_back({to, barrier, std::move(bytes), draw(4) == 0 ? 300u : 3u});
  if (draw(4) == 0) {
    wait("", [] { return true; });
  }
}

}  // namespace

void machine::end_copy(block &b, size_t i) {
  const copy c = std::move(b.copies[i]);
  b.copies.erase(b.copies.begin() + (ptrdiff_t)i);
  memcpy(&b.shared[c.to], c.bytes.data(), c.bytes.size());
  memset(&b.states[c.to], COPIED, c.bytes.size());
  mbarrier &barrier = b.barriers[c.barrier];
  barrier.bytes -= (int64_t)c.bytes.size();
  check_phase(barrier);
}

namespace {

/* ---------------------------------------------------------------------------------------------------------------------------- MMAs */

double element(uint32_t two, unsigned half, bool is_bf16) {
  const uint16_t bits = (uint16_t)(two >> 16 * half);
  return is_bf16 ? nvfp4_bf16_to_f32(bits) : nvfp4_f16_to_f32(bits);
}

/* PTX ISA, "Register Fragments for wgmma.mma_async.m64nNk16": in d, rows 16 to a warp. */
void multiply(block &home, multiplication &m) {
  static double a[64][16];
  for (unsigned t = 0; t < WARPGROUP; t++) {
    for (unsigned i = 0; i < 8; i++) {
      a[t / 32 * 16 + t % 32 / 4 + i / 2 % 2 * 8][2 * (t % 4) + i % 2 + i / 4 * 8] = element(m.a[t][i / 2], i % 2, m.is_bf16);
    }
  }
  const uint32_t start = (uint32_t)(m.b & 0x3FFF) * 16, stride = (uint32_t)(m.b >> 32 & 0x3FFF) * 16;
  for (unsigned n = 0; n < m.n; n++) {
    double b[16];
    for (unsigned k = 0; k < 16; k++) {
      uint32_t address = start + n / 8 * stride + n % 8 * 128 + 2 * k;
      address ^= (address >> 7 & 7) << 4; /* swizzle of 128 bytes */
      if (home.states[address] != COPIED) {
        fail("an MMA reads shared memory at %#x, to which %s", address,
             home.states[address] == COPYING ? "a copy is under way" : "nothing was copied");
        return;
      }
      b[k] = element(home.shared[address] | (uint32_t)home.shared[address + 1] << 8, 0, m.is_bf16);
    }
    for (unsigned row = 0; row < 64; row++) {
      double products[16];
      for (unsigned k = 0; k < 16; k++) {
        products[k] = a[row][k] * b[k];
      }
      float &d = m.d[row / 16 * 32 + row % 8 * 4 + n % 8 / 2][n / 8 * 4 + row % 16 / 8 * 2 + n % 2];
      d = simulated_sum(m.add ? d : 0, products);
    }
  }
  m.done = true;
}

}  // namespace

bool machine::multiply_next(block &b, warpgroup &w) {
  for (multiplication &m : w.under_way) {
    if (!m.done) {
      if (m.issued == WARPGROUP) {
        multiply(b, m);
      }
      return m.issued == WARPGROUP;
    }
  }
  return false;
}

namespace {

/* ---------------------------------------------------------------------------------------------------------------------------- PTX */

/* Operands in the order in which the text of the instruction names them. */
struct instruction;
struct call {
  const instruction &what;
  const ptx_operand *operands;
  const ptx_operand &of(size_t i) const;
  uint32_t operator()(size_t i) const { return (uint32_t)of(i).value; }
  template <class T>
  T &out(size_t i) const {
    return *static_cast<T *>(of(i).at);
  }
  uint32_t &out(size_t i) const { return out<uint32_t>(i); }
  template <class T>
  const T *pointer(size_t i) const {
    return reinterpret_cast<const T *>((uintptr_t)of(i).value);
  }
};
struct instruction {
  const char *text;
  void (*run)(const call &);
  std::vector<uint8_t> order;
};
const ptx_operand &call::of(size_t i) const { return operands[what.order[i]]; }

void load(const call &c, const uint8_t *from, size_t words) {
  for (size_t i = 0; i < words; i++) {
    memcpy(c.of(i).at, from + 4 * i, 4);
  }
  if (draw(16) == 0) {
    wait("", [] { return true; });
  }
}

void load(const call &c, block &b, uint32_t address, size_t words) { load(c, access(b, address, (uint32_t)words * 4, false), words); }

/* Of a cluster: rank and address as mapa makes them. */
block &block_of(uint32_t address) {
  block &b = blocks[address >> 24];
  if (!b.begun || b.live == 0) {
    fail("shared memory of block %u is used, which has %s", b.index, b.live == 0 ? "ended" : "not begun");
  }
  return b;
}

void store(const call &c, block &b, uint32_t address) {
  uint8_t *to = access(b, address, 16, true);
  check_no_multiplication_reads(b, address, address + 16);
  for (size_t i = 0; i < 4; i++) {
    memcpy(to + 4 * i, &c.of(1 + i).value, 4);
  }
}

/* True for x, false for weights. */
bool check_global(const uint8_t *from, uint32_t bytes) {
  const uint8_t *const begins[] = {launched->weights, static_cast<const uint8_t *>(launched->x)};
  const size_t sizes[] = {launched->weights_bytes, launched->x_bytes};
  for (int i = 0; i < 2; i++) {
    if (from >= begins[i] && from + bytes <= begins[i] + sizes[i] && (from - begins[i]) % 16 == 0 && bytes > 0 && bytes % 16 == 0) {
      return i == 1;
    }
  }
  fail("%u bytes are read, from byte %td of the weights", bytes, from - launched->weights);
  return false;
}

void load_weights(const call &c) {
  const uint8_t *from = c.pointer<uint8_t>(4);
  check_global(from, 16);
  load(c, from, 4);
}

/* Lane 4 r + c has columns 2c and 2c + 1 of row r of each matrix, the address of which lane 8 i + r gives. */
void load_matrices(const call &c) {
  const unsigned lane = self->index % WARP;
  const uint32_t(*rows)[EXCHANGED] = exchange({c(4)});
  for (unsigned i = 0; i < 4; i++) {
    const uint32_t row = rows[8 * i + lane / 4][0];
    memcpy(c.of(i).at, access(*self->home, row, 16, false) + lane % 4 * 4, 4);
  }
}

/* PTX ISA, "Matrix Fragments for mma.m16n8k16": of one lane, rows g and g + 8, columns 2t and 2t + 1. */
void multiply_in_warp(const call &c) {
  const bool is_bf16 = strstr(c.what.text, ".bf16.bf16.") != nullptr;
  const unsigned g = self->index % WARP / 4, t = self->index % 4;
  const uint32_t(*of)[EXCHANGED] = exchange({c(4), c(5), c(6), c(7), c(8), c(9)});
  for (unsigned i = 0; i < 4; i++) {
    double products[16];
    for (unsigned k = 0; k < 16; k++) {
      const unsigned lane = k % 8 / 2;
      products[k] =
          element(of[4 * g + lane][i / 2 + k / 8 * 2], k % 2, is_bf16) * element(of[4 * (2 * t + i % 2) + lane][4 + k / 8], k % 2, is_bf16);
    }
    c.out<float>(i) = simulated_sum(c.out<float>(i), products);
  }
}

void issue(const call &c) { /* %add, {%b, constant}, %d ..., %a ... */
  const unsigned n = (unsigned)atoi(strstr(c.what.text, "m64n") + 4), lane = self->index % WARPGROUP;
  const uint64_t b = c(1) | (uint64_t)strtoul(strstr(c.what.text, "0x"), nullptr, 16) << 32;
  const bool is_bf16 = strstr(c.what.text, ".f32.bf16.bf16 ") != nullptr, add = c(0) != 0;
  warpgroup &w = self->its_warpgroup();
  if (!self->fenced) {
    fail("an MMA without wgmma.fence before it");
  }
  if (self->issued == w.first + w.under_way.size()) {
    w.under_way.push_back({});
    multiplication &m = w.under_way.back();
    m.b = b, m.n = n, m.add = add, m.is_bf16 = is_bf16;
    if (b >> 62 != 1 || (b >> 49 & 7) != 0 || m.b_begin() % 1024 != 0 || m.b_end() > self->home->shared.size()) {
      fail("the descriptor %#llx is not of rows of 128 bytes, swizzled, within shared memory", (unsigned long long)b);
    }
  }
  multiplication &m = w.at(self->issued++);
  if (m.b != b || m.n != n || m.add != add || m.is_bf16 != is_bf16) {
    fail("a warpgroup's threads issue different MMAs");
  }
  m.d[lane] = &c.out<float>(2);
  for (unsigned i = 0; i < n / 2; i++) {
    if (&c.out<float>(2 + i) != m.d[lane] + i) {
      fail("the accumulators of an MMA are not those of an array");
    }
  }
  for (unsigned i = 0; i < 4; i++) {
    m.a[lane][i] = c(2 + n / 2 + i);
  }
  m.a_at[lane] = c.of(2 + n / 2).at;
  m.issued++;
}

void fence_registers(const call &c) { /* those of operand A are its own operands: all in one array, just written */
  warpgroup &w = self->its_warpgroup();
  const char *begin = static_cast<const char *>(c.operands[0].at);
  for (size_t i = self->waited; i < self->issued; i++) {
    const char *at = static_cast<const char *>(w.at(i).a_at[self->index % WARPGROUP]);
    if (at >= begin && at < begin + 64) {
      fail("registers of operand A are written while an MMA reads them");
    }
  }
  self->fenced = true;
}

void wait_group(const call &c) {
  const size_t pending = c.operands[0].value & 0xFF;
  if (self->groups.size() <= pending) {
    return;
  }
  warpgroup &w = self->its_warpgroup();
  const size_t needed = self->groups[self->groups.size() - 1 - pending];
  if (self->waited == needed) {
    return;
  }
  wait("MMAs", [&w, needed] { return w.first >= needed || w.at(needed - 1).done; });
  for (; self->waited < needed; self->waited++) {
    w.at(self->waited).waited++;
  }
  for (; !w.under_way.empty() && w.under_way.front().waited == WARPGROUP; w.first++) {
    w.under_way.pop_front();
  }
}

void set_registers(const call &c) {
  const unsigned wanted = c(0), had = self->registers;
  block *b = self->home;
  if (wanted % 8 != 0 || wanted < 24 || wanted > 256 || (strstr(c.what.text, "inc") != nullptr ? wanted < had : wanted > had)) {
    fail("setmaxnreg from %u registers to %u", had, wanted);
  }
  self->registers = wanted;
  if (wanted > had) {
    wait("registers", [=] { return b->free_registers >= wanted - had; });
  }
  b->free_registers += had - wanted;
}

void transpose(const call &c) { /* lane 4 r + c has columns 2c and 2c + 1 of row r */
  const uint32_t(*v)[EXCHANGED] = exchange({c.out(0)});
  const unsigned row = self->index % WARP / 4, column = self->index % WARP % 4 * 2;
  auto half = [&](unsigned r, unsigned of) { return v[4 * r + of / 2][0] >> of % 2 * 16 & 0xFFFF; };
  c.out(0) = half(column, row) | half(column + 1, row) << 16;
}

void copy_tensor(const call &c) {
  const simulated_map &map = *c.pointer<simulated_map>(1);
  const int column = (int)c(2), row = (int)c(3);
  std::vector<uint8_t> bytes(map.box * 128);
  for (int r = 0; r < (int)map.box; r++) {
    for (int i = 0; i < 64; i++) {
      const bool there = row + r < (int)map.rows && column + i < (int)map.columns;
      const uint16_t v = there ? map.elements[(size_t)(row + r) * map.stride + (size_t)(column + i)] : 0;
      memcpy(&bytes[(size_t)(r * 128 + ((i / 8) ^ (r % 8)) * 16 + i % 8 * 2)], &v, 2);
    }
  }
  if (!self->after_previous) {
    fail("x is copied before griddepcontrol.wait");
  }
  begin_copy(c(0), c(4), std::move(bytes), 1024); /* for the swizzle */
}

void copy_bulk(const call &c) {
  const uint8_t *from = c.pointer<uint8_t>(1);
  const uint32_t bytes = c(2);
  const bool of_x = check_global(from, bytes);
  if (of_x && !self->after_previous) {
    fail("x is copied before griddepcontrol.wait");
  }
  begin_copy(c(0), c(3), std::vector<uint8_t>(from, from + bytes), 16);
}

void init_barrier(const call &c) {
  if (c(0) % 8 != 0 || c(0) < SHARED_AT || c(0) + 8 > self->home->shared.size()) {
    fail("mbarrier at %#x: misaligned, or outside", c(0));
  }
  memset(&self->home->states[c(0)], BARRIER, 8);
  self->home->barriers[c(0)] = {c(1), c(1), 0, 0, false};
}

void wait_barrier(const call &c) {
  mbarrier &b = barrier_at(*self->home, c(0));
  const unsigned parity = c(1), phase = b.phase;
  wait("an mbarrier", [&b, parity] { return (b.phase & 1) != parity; });
  if (b.phase - phase > 1) {
    fail("mbarrier %#x: a phase has gone by", c(0));
  }
}

void multiply_halves(const call &c, bool is_bf16) { /* fma, or mul: results are exact */
  uint32_t v = 0;
  for (unsigned h = 0; h < 2; h++) {
    const float product = (float)(element(c(1), h, is_bf16) * element(c(2), h, is_bf16) + (is_bf16 ? element(c(3), h, true) : -0.0));
    v |= (uint32_t)(is_bf16 ? nvfp4_bf16_from_f32(product) : nvfp4_f16_from_f32(product)) << 16 * h;
  }
  c.out(0) = v;
}

void nothing(const call &) {}

/* By what the text has of these; the first counts. */
const struct {
  const char *name;
  void (*run)(const call &);
} instructions[] = {
    {"wgmma.mma_async", issue},
    {"wgmma.fence", fence_registers},
    {"wgmma.commit_group", [](const call &) { self->groups.push_back(self->issued), self->fenced = false; }},
    {"wgmma.wait_group", wait_group},
    {"setmaxnreg", set_registers},
    {"ld.shared.v4.u32", [](const call &c) { load(c, *self->home, c(4), 4); }},
    {"ld.shared.v2.u32", [](const call &c) { load(c, *self->home, c(2), 2); }},
    {"ld.shared.f32", [](const call &c) { load(c, *self->home, c(1), 1); }},
    {"ld.shared::cluster.v4.f32", [](const call &c) { load(c, block_of(c(4)), c(4) & 0xFFFFFF, 4); }},
    {"mapa.shared::cluster",
     [](const call &c) {
       if (c(2) >= blocks.size()) {
         fail("rank %u of a cluster of %zu", c(2), blocks.size());
       }
       c.out(0) = c(2) << 24 | c(1);
     }},
    {"st.shared.v4.f32", [](const call &c) { store(c, *self->home, c(0)); }},
    {"st.shared::cluster.v4.f32", [](const call &c) { store(c, block_of(c(0)), c(0) & 0xFFFFFF); }},
    {"ld.global.nc.", load_weights},
    {"ldmatrix.sync.aligned.m8n8.x4.shared", load_matrices},
    {"mma.sync.aligned.m16n8k16", multiply_in_warp},
    {"fence.proxy.async.shared::cta", [](const call &) { fence_stores(); }},
    {"bar.sync", [](const call &c) { join(self->home->named[c(0)], c(1), "a named barrier"); }},
    {"bar.arrive", [](const call &c) { arrive(self->home->named[c(0)], c(1)); }},
    {"barrier.cluster.arrive",
     [](const call &) {
       self->cluster_generation = cluster_meeting.generation;
       cluster_meeting.arrived++;
       check_cluster();
     }},
    {"barrier.cluster.wait",
     [](const call &) {
       const unsigned generation = self->cluster_generation;
       wait("the cluster", [generation] { return cluster_meeting.generation != generation; });
     }},
    {"fence.mbarrier_init",
     [](const call &) {
       for (auto &b : self->home->barriers) {
         b.second.fenced = true;
       }
     }},
    {"mbarrier.init", init_barrier},
    {"@p mbarrier.arrive",
     [](const call &c) {
       if (c(0) != 0) {
         arrive(c(1), 0);
       }
     }},
    {"mbarrier.arrive.expect_tx", [](const call &c) { arrive(c(0), c(1)); }},
    {"mbarrier.arrive", [](const call &c) { arrive(c(0), 0); }},
    {"mbarrier.try_wait.parity", wait_barrier},
    {"cp.async.bulk.tensor.2d", copy_tensor},
    {"prefetch.tensormap", nothing},
    {"prefetch.global", nothing},
    {"cp.async.bulk.shared", copy_bulk},
    {"griddepcontrol.wait", [](const call &) { self->after_previous = true; }},
    {"griddepcontrol.launch_dependents", nothing},
    {"fma.rn.bf16x2", [](const call &c) { multiply_halves(c, true); }},
    {"mul.rn.f16x2", [](const call &c) { multiply_halves(c, false); }},
    {"{low, low}", [](const call &c) { c.out(0) = (c.out(0) & 0xFFFF) * 0x10001u; }},
    {"{high, high}", [](const call &c) { c.out(0) = (c.out(0) >> 16) * 0x10001u; }},
    {"movmatrix.sync.aligned.m8n8.trans.b16", transpose},
};

instruction parse(const char *text) {
  instruction out = {text, nothing, {}};
  for (const auto &i : instructions) {
    if (strstr(text, i.name) != nullptr) {
      out.run = i.run;
      for (const char *at = strchr(text, '%'); at != nullptr; at = strchr(at + 1, '%')) {
        out.order.push_back((uint8_t)atoi(at + 1));
      }
      return out;
    }
  }
  if (*text != 0) { /* without an instruction it only tells a compiler something */
    fail("not simulated: %s", text);
  }
  return out;
}

}  // namespace

uint32_t __cvta_generic_to_shared(const void *) { return SHARED_AT; }
void __syncthreads() { join(self->home->named[0], (unsigned)self->home->warps.size() * WARP, "__syncthreads"); }
void __syncwarp() { join(self->its_warp().all, WARP, "lanes of its warp"); }
uint32_t __shfl_sync(unsigned, uint32_t v, int lane, int width) {
  return exchange({v})[self->index % WARP / (unsigned)width * (unsigned)width + (unsigned)lane][0];
}

void ptx_run(const char *text, const ptx_operand *operands) {
  static std::unordered_map<const char *, instruction> parsed; /* by where the text is */
  auto found = parsed.find(text);
  if (found == parsed.end()) {
    found = parsed.emplace(text, parse(text)).first;
  }
  found->second.run({found->second, operands});
}
