/* SPDX-License-Identifier: Apache-2.0 */
/* Arithmetic peaks of this processor: loops over registers, the widest that it has. One file an architecture; roof.c measures. */
#ifndef NVFP4_BENCH_ROOF_H
#define NVFP4_BENCH_ROOF_H

#include <nvfp4/bench.h>

typedef struct nvfp4_peak {
  const char *name;
  uint32_t isa;               /* all of these bits are needed */
  void (*run)(int64_t count); /* count steps */
  int64_t operations;         /* of a step */
} nvfp4_peak;

/* The widest first; ends at run == NULL. */
extern const nvfp4_peak nvfp4_peaks_f32[];
extern const nvfp4_peak nvfp4_peaks_i8[];

/* The share of `roof` that a call of `us` microseconds reaches, weights counted weight_bytes each; 0 if the roof was not measured. */
double nvfp4_roof_share(const nvfp4_roof *roof, int64_t n, int64_t k, int64_t m, double weight_bytes, double us);
/* Of figure by figure the greater. */
nvfp4_roof nvfp4_roof_greater(const nvfp4_roof *a, const nvfp4_roof *b);

/* Bytes that no cache holds: nvfp4_roof_measure's default. */
uint64_t nvfp4_uncached_bytes(const nvfp4_machine *machine);

double nvfp4_seconds(void); /* of a clock that only goes forward */

#endif
