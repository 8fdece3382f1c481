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

/* Whether candidate a is preferred to b at an M of which `at` has the times. Both are eligible. */
static inline bool nvfp4_preferred(const nvfp4_selecting *s, nvfp4_tuned at, size_t a, size_t b) {
  int64_t ns_a = nvfp4_tuned_ns(at, s->input->candidates[a].id), ns_b = nvfp4_tuned_ns(at, s->input->candidates[b].id);
  return ns_a != ns_b ? ns_a < ns_b : s->verdicts[a].rank < s->verdicts[b].rank;
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
