/* SPDX-License-Identifier: Apache-2.0 */
/* A selection at work: what select.c, judge.c and report.c share. */
#ifndef NVFP4_SELECT_SELECTING_H
#define NVFP4_SELECT_SELECTING_H

#include "select/policy.h"

/* What became of a candidate. */
typedef struct nvfp4_verdict {
  nvfp4_stage stage; /* for the layer: a kernel that serves only some M can be eligible */
  bool named;        /* by its full id, in the list that decides */
  size_t place;      /* in that list, or NVFP4_NOT_LISTED */
  size_t rank;       /* among the eligible: 0 is the best */
  nvfp4_reason reason;
} nvfp4_verdict;

typedef struct nvfp4_selecting {
  const nvfp4_select_input *input;
  nvfp4_layer_desc desc;     /* with its M range filled in */
  nvfp4_machine gpu_machine; /* input->machine with the layer's GPU alone */
  const nvfp4_machine *machine;
  int64_t m;
  nvfp4_effective_policy policy;
  nvfp4_force force;
  const nvfp4_tuning *tuning; /* of the layer's device; NULL: none */
  nvfp4_tuned tuned;          /* times of the layer; none if a list decides */
  bool few_rows_w4a16;        /* W4A16 kernels come first for few rows: nvfp4_rank_at */
  nvfp4_verdict *verdicts;    /* [candidate_count] */
  size_t *ranked;             /* eligible candidates, the best first */
  size_t ranked_count;
} nvfp4_selecting;

/* judge.c: puts candidate i through the stages up to eligible, into *verdict (place and named are set before). */
void nvfp4_judge(const nvfp4_selecting *s, size_t i, nvfp4_verdict *verdict);

/* Rows that a kernel serves. */
static inline bool nvfp4_serves(const nvfp4_kernel *kernel, int64_t m) {
  return (kernel->m_first == 0 && kernel->m_last == 0) || (m >= kernel->m_first && m <= kernel->m_last);
}

/*
 * Place of an eligible candidate in the order of preference at M; 0 is the best.
 *
 * On a GPU a layer with few rows takes as long as its weights take to be read, and a W4A16 kernel reads what a W4A4 kernel does and need not quantise x first. Where a W4A4 layer may have both
 * (NVFP4_ALLOW=w4a16, two layouts), W4A16 kernels therefore come first there; but not the canonical ones, which on GPUs are made for their bits and not for speed.
 */
enum { NVFP4_FEW_ROWS = 16 };
static inline size_t nvfp4_rank_at(const nvfp4_selecting *s, size_t candidate, int64_t m) {
  const nvfp4_numerics *numerics = &s->input->candidates[candidate].kernel->numerics;
  bool first = numerics->mode == NVFP4_MODE_W4A16 && numerics->numerics_class != NVFP4_CLASS_CANONICAL;
  return s->verdicts[candidate].rank + (s->few_rows_w4a16 && m <= NVFP4_FEW_ROWS && !first ? s->ranked_count : 0);
}

/* Whether candidate a is preferred to b at M = m, of which `at` has the times. Both are eligible. */
static inline bool nvfp4_preferred(const nvfp4_selecting *s, nvfp4_tuned at, int64_t m, size_t a, size_t b) {
  int64_t ns_a = nvfp4_tuned_ns(at, s->input->candidates[a].id), ns_b = nvfp4_tuned_ns(at, s->input->candidates[b].id);
  return ns_a != ns_b ? ns_a < ns_b : nvfp4_rank_at(s, a, m) < nvfp4_rank_at(s, b, m);
}

/* "M 1 to 64", "M from 65", "any M" into text; returns text. */
const char *nvfp4_m_text(int64_t first, int64_t last, char text[64]);

/* report.c: gives the eligible candidates their last stage and reason; selection NULL: there is no plan. */
void nvfp4_explain_ranking(nvfp4_selecting *s, const nvfp4_selection *selection);

/* The sentence for a selection that found no plan, malloc'ed; NULL without memory. */
char *nvfp4_no_plan_text(nvfp4_selecting *s);

/* NULL without memory. text NULL: there is a plan, and the sentence says what serves s->m. */
nvfp4_report *nvfp4_make_report(const nvfp4_selecting *s, const nvfp4_selection *selection, nvfp4_status status, const char *text);

#endif
