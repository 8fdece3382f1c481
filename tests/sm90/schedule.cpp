/* SPDX-License-Identifier: Apache-2.0 */
#include "sm90/machine.h"

#include <sys/mman.h>

#include <cstdarg>
#include <cstdio>
#include <cstdlib>

dim3 threadIdx, blockIdx, blockDim, gridDim;
int planted;

namespace machine {

std::vector<block> blocks;
std::vector<thread> threads;
meeting cluster_meeting;
thread *self;
const simulated_launch *launched;

}  // namespace machine

using namespace machine;

namespace {

constexpr unsigned REGISTERS = 65536;
constexpr size_t STACK_BYTES = 128 << 10;

ucontext_t scheduler;
const std::function<void()> *kernel_code;
uint64_t random_state;
std::string failure;

}  // namespace

unsigned machine::draw(unsigned count) { /* Knuth's MMIX generator */
  random_state = random_state * 6364136223846793005u + 1442695040888963407u;
  return (unsigned)(random_state >> 33) % count;
}

void machine::yield() { swapcontext(&self->context, &scheduler); }

void machine::fail(const char *format, ...) {
  char text[256], where[64] = "";
  va_list list;
  va_start(list, format);
  vsnprintf(text, sizeof text, format, list);
  va_end(list);
  if (self != nullptr) {
    snprintf(where, sizeof where, " (block %u, thread %u)", self->home->index, self->index);
  }
  if (failure.empty()) {
    failure = std::string(text) + where;
  }
  while (self != nullptr) {
    yield();
  }
}

namespace {

void run_thread() {
  (*kernel_code)();
  if (self->waited != self->issued) {
    fail("a thread ends with MMAs under way");
  }
  self->ended = true;
  self->home->live--;
  check_cluster();
  yield();
}

void make_fiber(thread &t, char *stack) {
  getcontext(&t.context);
  t.context.uc_stack.ss_sp = stack;
  t.context.uc_stack.ss_size = STACK_BYTES;
  makecontext(&t.context, run_thread, 0);
}

void begin_threads(unsigned first_block, unsigned count, size_t shared_bytes) {
  static char *stacks;
  static size_t stacks_bytes;
  const size_t needed = blocks.size() * count * STACK_BYTES;
  if (needed > stacks_bytes) { /* untouched memory is none; kept for the next time */
    if (stacks != nullptr) {
      munmap(stacks, stacks_bytes);
    }
    stacks = static_cast<char *>(mmap(nullptr, needed, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));
    if (stacks == MAP_FAILED) {
      perror("mmap");
      exit(2);
    }
    stacks_bytes = needed;
  }
  const unsigned registers = REGISTERS / count / 8 * 8;
  threads.assign(blocks.size() * count, {});
  for (size_t i = 0; i < blocks.size(); i++) {
    block &b = blocks[i];
    b = {};
    b.index = first_block + (unsigned)i;
    b.live = count;
    b.shared.assign(SHARED_AT + shared_bytes, 0xFF);
    b.states.assign(b.shared.size(), NEVER);
    b.stored_by.assign(b.shared.size(), 0);
    b.begun = blocks.size() == 1 || draw(3) == 0;
    b.warps.resize(count / WARP);
    b.warpgroups.resize(count / WARPGROUP);
    b.free_registers = REGISTERS - registers * count;
    for (unsigned t = 0; t < count; t++) {
      thread &x = threads[i * count + t];
      x.home = &b;
      x.index = t;
      x.registers = registers;
      make_fiber(x, stacks + (i * count + t) * STACK_BYTES);
    }
  }
}

/* A turn of all threads that may run, or of one warp of each block. */
bool run_turn(bool one_warp, unsigned count) {
  const size_t from = draw((unsigned)threads.size());
  const unsigned which = draw(count / WARP);
  bool ran = false;
  for (size_t i = 0; i < threads.size() && failure.empty(); i++) {
    thread &t = threads[(from + i) % threads.size()];
    if (t.ended || !t.home->begun || (one_warp && t.index / WARP != which) || (t.ready && !t.ready())) {
      continue;
    }
    t.ready = nullptr;
    threadIdx = {t.index};
    blockIdx = {t.home->index};
    self = &t;
    swapcontext(&scheduler, &t.context);
    self = nullptr;
    ran = true;
  }
  return ran;
}

/* Copies and MMAs that are under way, and blocks that have not begun: some, or all. */
bool run_hardware(bool all) {
  bool ran = false;
  for (block &b : blocks) {
    ran |= !b.begun;
    b.begun = b.begun || all || draw(200) == 0;
    for (size_t i = b.copies.size(); i-- > 0;) {
      if (all || draw(b.copies[i].turns) == 0) {
        end_copy(b, i);
        ran = true;
      }
    }
    for (warpgroup &w : b.warpgroups) {
      ran |= (all || draw(4) == 0) && multiply_next(b, w);
    }
  }
  return ran;
}

void report_deadlock() {
  std::map<std::string, int> counts;
  for (const thread &t : threads) {
    if (!t.ended) {
      counts[t.waits_for]++;
    }
  }
  std::string text;
  for (const auto &c : counts) {
    text += (text.empty() ? "" : ", ") + std::to_string(c.second) + " threads wait for " + c.first;
  }
  fail("deadlock: %s", text.c_str());
}

void run_cluster(unsigned count) {
  auto live = [] {
    unsigned sum = 0;
    for (const block &b : blocks) {
      sum += b.live;
    }
    return sum;
  };
  while (failure.empty() && live() > 0) {
    const bool one_warp = draw(3) == 0, ran = run_turn(one_warp, count), moved = run_hardware(false);
    if (!ran && !moved && !one_warp && !run_hardware(true) && failure.empty()) {
      report_deadlock();
    }
  }
  for (const block &b : blocks) {
    if (failure.empty() && !b.copies.empty()) {
      fail("block %u ends with copies under way", b.index);
    }
  }
}

}  // namespace

const char *simulate(const simulated_launch &l, const std::function<void()> &kernel) {
  failure.clear();
  random_state = l.seed;
  kernel_code = &kernel;
  launched = &l;
  blockDim = {l.threads};
  gridDim = {l.blocks};
  for (unsigned first = 0; first < l.blocks && failure.empty(); first += l.cluster) {
    blocks.resize(l.cluster);
    cluster_meeting = {};
    begin_threads(first, l.threads, l.shared_bytes);
    run_cluster(l.threads);
  }
  return failure.empty() ? nullptr : failure.c_str();
}
