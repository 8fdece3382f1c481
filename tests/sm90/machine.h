/* SPDX-License-Identifier: Apache-2.0 */
/* Inside the simulator (simulate.h): what runs and in what order, schedule.cpp; and what it does, simulate.cpp. */
#ifndef NVFP4_TESTS_SM90_MACHINE_H
#define NVFP4_TESTS_SM90_MACHINE_H

#include "sm90/simulate.h"

#include <ucontext.h>

#include <deque>
#include <map>
#include <string>
#include <vector>

namespace machine {

constexpr unsigned WARP = 32, EXCHANGED = 6, WARPGROUP = 128;
constexpr unsigned SHARED_AT = 1040; /* where dynamic shared memory begins: at a multiple of 16, no more */

/* Of each byte of shared memory. Copies and MMAs are of the proxy that asynchronous instructions go through: what ld and st see of it, and it of them, needs more than an order in time. */
enum state : uint8_t { NEVER, COPIED, STORED, COPYING, BARRIER };

struct mbarrier {
  unsigned arrivals, pending, phase;
  int64_t bytes;
  bool fenced;
};

struct copy {
  uint32_t to, barrier;
  std::vector<uint8_t> bytes;
  unsigned turns; /* about as many */
};

/* An MMA of a warpgroup: what its threads give. Operand A's registers are read when it is issued; a_at: where they are. */
struct multiplication {
  float *d[WARPGROUP];
  uint32_t a[WARPGROUP][4];
  const void *a_at[WARPGROUP];
  uint64_t b;
  unsigned n, issued, waited;
  bool add, is_bf16, done;
  uint32_t b_begin() const { return (uint32_t)(b & 0x3FFF) * 16 & ~127u; }
  uint32_t b_end() const { return b_begin() + n * 128; }
};

struct warpgroup {
  std::deque<multiplication> under_way; /* not waited for by all threads */
  size_t first = 0;                     /* number of the first of these */
  multiplication &at(size_t i) { return under_way[i - first]; }
};

/* Threads that wait for each other. */
struct meeting {
  unsigned threads = 0, arrived = 0, generation = 0;
};

struct warp {
  meeting all;
  uint32_t values[2][WARP][EXCHANGED];
};

struct block {
  unsigned index, live;
  bool begun;
  std::vector<uint8_t> shared, states;
  std::vector<uint16_t> stored_by; /* threads */
  std::map<uint32_t, mbarrier> barriers;
  std::vector<copy> copies;
  std::vector<warpgroup> warpgroups;
  std::vector<warp> warps;
  meeting named[16];
  unsigned free_registers;
};

struct thread {
  ucontext_t context;
  block *home;
  unsigned index;
  std::function<bool()> ready; /* none: it is */
  const char *waits_for;
  unsigned cluster_generation;        /* of the meeting at which it has arrived */
  bool ended, after_previous, fenced; /* fenced: wgmma.fence since the last group of MMAs */
  size_t issued, waited;              /* MMAs */
  std::vector<size_t> groups;         /* MMAs issued before each commit */
  unsigned registers;
  warp &its_warp() const { return home->warps[index / WARP]; }
  warpgroup &its_warpgroup() const { return home->warpgroups[index / WARPGROUP]; }
};

/* What runs: one simulation at a time. */
extern std::vector<block> blocks;   /* of the cluster */
extern std::vector<thread> threads; /* of all of these */
extern meeting cluster_meeting;
extern thread *self; /* nullptr: the scheduler runs */
extern const simulated_launch *launched;

unsigned draw(unsigned count);
void yield();
/* The first failure counts. A thread that fails never goes on. */
__attribute__((format(printf, 1, 2))) void fail(const char *format, ...);

template <class READY>
void wait(const char *what, READY ready) {
  if (ready() && draw(8) != 0) {
    return;
  }
  self->waits_for = what;
  self->ready = ready;
  yield();
}

/* Those that have ended are not waited for. */
void check_cluster();

void end_copy(block &b, size_t i);

/* One of those that may be done now: in a warpgroup they follow each other. */
bool multiply_next(block &b, warpgroup &w);

}  // namespace machine

#endif
