/* SPDX-License-Identifier: Apache-2.0 */
/* The selection: judges every candidate, ranks those left, makes a plan of them. select.h has the rules. */
#include "select/select.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/reason.h"
#include "select/selecting.h"

/* ------------------------------------------------------------------------------------------------------------- description */

static bool is_activation(nvfp4_dtype dtype) { return dtype == NVFP4_DTYPE_F32 || dtype == NVFP4_DTYPE_F16 || dtype == NVFP4_DTYPE_BF16; }

static nvfp4_status check_shape(const nvfp4_layer_desc *desc, const char *name, nvfp4_reason *reason) {
  int64_t bytes; /* of dense weights, at most */
  int block = nvfp4_is_dense(desc->mode) ? 1 : NVFP4_BLOCK;
  if (desc->n <= 0 || desc->k <= 0 || desc->k % block != 0 || __builtin_mul_overflow(desc->n, desc->k, &bytes) ||
      __builtin_mul_overflow(bytes, 4, &bytes)) {
    return nvfp4_reject(reason, NVFP4_E_SHAPE,
                        "layer %s: N=%" PRId64 ", K=%" PRId64 "; needs N > 0, K > 0, K a multiple of %d, N*K below 2^61", name, desc->n,
                        desc->k, block);
  }
  bool any_m = desc->m_first == 0 && desc->m_last == 0;
  if (!any_m && (desc->m_first < 1 || desc->m_last < desc->m_first)) {
    return nvfp4_reject(reason, NVFP4_E_SHAPE,
                        "layer %s: M range %" PRId64 " to %" PRId64 "; needs 1 <= first <= last, or 0 to 0 for any M", name, desc->m_first,
                        desc->m_last);
  }
  return NVFP4_OK;
}

static nvfp4_status check_types(const nvfp4_layer_desc *desc, const char *name, nvfp4_reason *reason) {
  if (!is_activation(desc->x_dtype) || !is_activation(desc->y_dtype)) {
    return nvfp4_reject(reason, NVFP4_E_DTYPE, "layer %s: x is %s, y is %s; needs F32, F16 or BF16", name, nvfp4_dtype_name(desc->x_dtype),
                        nvfp4_dtype_name(desc->y_dtype));
  }
  if (desc->bias_dtype != NVFP4_DTYPE_NONE && !is_activation(desc->bias_dtype)) {
    return nvfp4_reject(reason, NVFP4_E_DTYPE, "layer %s: bias is %s; needs F32, F16, BF16 or none", name,
                        nvfp4_dtype_name(desc->bias_dtype));
  }
  nvfp4_mode mode = desc->mode;
  if (mode != NVFP4_MODE_W4A4 && mode != NVFP4_MODE_W4A16 && !nvfp4_is_dense(mode)) {
    return nvfp4_reject(reason, NVFP4_E_UNSUPPORTED, "layer %s is %s; needs w4a4, w4a16, fp8 or, of a dense layer, unquantised", name,
                        nvfp4_mode_name(mode));
  }
  if (mode == NVFP4_MODE_UNQUANTISED ? !is_activation(desc->weight_dtype)
                                     : desc->weight_dtype != (mode == NVFP4_MODE_FP8 ? NVFP4_DTYPE_F8_E4M3 : NVFP4_DTYPE_NONE)) {
    return nvfp4_reject(
        reason, NVFP4_E_DTYPE,
        "layer %s is %s, and its weight_dtype is %s; needs F32, F16 or BF16 of an unquantised layer, F8_E4M3 of an fp8 one, "
        "none of the others",
        name, nvfp4_mode_name(mode), nvfp4_dtype_name(desc->weight_dtype));
  }
  if ((desc->device.kind != NVFP4_DEVICE_CPU && desc->device.kind != NVFP4_DEVICE_CUDA) || desc->device.ordinal < 0 ||
      desc->device.ordinal >= NVFP4_MAX_GPUS) {
    return nvfp4_reject(reason, NVFP4_E_ARG, "layer %s: device kind %d, ordinal %d; needs cpu, or cuda:0 to cuda:%d", name,
                        (int)desc->device.kind, desc->device.ordinal, NVFP4_MAX_GPUS - 1);
  }
  return NVFP4_OK;
}

static nvfp4_status check_partitions(const nvfp4_layer_desc *desc, const char *name, nvfp4_reason *reason) {
  bool dense = desc->mode == NVFP4_MODE_UNQUANTISED;
  int64_t next = 0;
  if (dense && desc->partition_count == 0) {
    return NVFP4_OK; /* weights without a factor */
  }
  if (desc->partitions == NULL || desc->partition_count < 1) {
    return nvfp4_reject(reason, NVFP4_E_ARG, "layer %s has no partitions; needs at least one, of all rows", name);
  }
  for (int64_t i = 0; i < desc->partition_count; i++) {
    const nvfp4_partition *p = &desc->partitions[i];
    if (p->n_first != next || p->n_rows <= 0 || p->n_rows > desc->n - next) {
      return nvfp4_reject(reason, NVFP4_E_SHAPE,
                          "layer %s: partition %" PRId64 " has rows from %" PRId64 ", %" PRId64 " of them; needs to begin at row %" PRId64
                          " and end within %" PRId64 " rows",
                          name, i, p->n_first, p->n_rows, next, desc->n);
    }
    if (!isfinite(p->weight.value) || p->weight.value <= 0 || !isfinite(p->input.value) || p->input.value < 0) {
      return nvfp4_reject(reason, NVFP4_E_ARG,
                          "layer %s: partition %" PRId64
                          " has weight global %g, input global %g; needs finite ones, weight > 0, input > 0 or 0 for none",
                          name, i, (double)p->weight.value, (double)p->input.value);
    }
    if (dense && p->input.value != 0) {
      return nvfp4_reject(reason, NVFP4_E_ARG, "layer %s: partition %" PRId64 " has the input global %g; an unquantised layer needs 0",
                          name, i, (double)p->input.value);
    }
    if (desc->mode == NVFP4_MODE_FP8 && ((p->input.value == 0) != (desc->partitions[0].input.value == 0) ||
                                         (p->input.value != 0 && p->input.kind != NVFP4_GLOBAL_MULTIPLIER))) {
      return nvfp4_reject(reason, NVFP4_E_ARG,
                          "layer %s: partition %" PRId64
                          " has the input %s %g; an fp8 layer needs a multiplier in all partitions, or 0 in all",
                          name, i, nvfp4_global_kind_name(p->input.kind), (double)p->input.value);
    }
    next += p->n_rows;
  }
  if (next != desc->n) {
    return nvfp4_reject(reason, NVFP4_E_SHAPE, "layer %s: its %" PRId64 " partitions cover %" PRId64 " rows; needs all %" PRId64, name,
                        desc->partition_count, next, desc->n);
  }
  return NVFP4_OK;
}

nvfp4_status nvfp4_layer_desc_check(const nvfp4_layer_desc *desc, nvfp4_reason *reason) {
  if (desc == NULL || desc->struct_size < sizeof *desc) {
    return nvfp4_reject(reason, NVFP4_E_ARG, "layer description: %s; needs struct_size = sizeof(nvfp4_layer_desc)",
                        desc == NULL ? "NULL" : "struct_size is too small");
  }
  const char *name = desc->name != NULL ? desc->name : "(without a name)";
  NVFP4_TRY(check_shape(desc, name, reason));
  NVFP4_TRY(check_types(desc, name, reason));
  return check_partitions(desc, name, reason);
}

/* -------------------------------------------------------------------------------------------------------------------- plan */

/* Kernels that a plan may use. */
typedef struct plan_limits {
  const nvfp4_layout *layouts[2]; /* the second may be NULL */
  const char *order;              /* NULL: any */
} plan_limits;

static const nvfp4_kernel *kernel_of(const nvfp4_selecting *s, size_t candidate) { return s->input->candidates[candidate].kernel; }

static bool within(const nvfp4_kernel *kernel, const plan_limits *limits) {
  return (kernel->layout == limits->layouts[0] || kernel->layout == limits->layouts[1]) &&
         (limits->order == NULL || strcmp(kernel->numerics.order, limits->order) == 0);
}

/* The best kernel for every M; false if one M has none (or the plan would be longer than a plan can be). */
static bool cover(const nvfp4_selecting *s, const plan_limits *limits, nvfp4_selection *out) {
  out->range_count = 0;
  int64_t m = s->desc.m_first;
  for (;;) {
    int64_t last; /* up to which the answer is the same as for m */
    nvfp4_tuned at = nvfp4_tuned_at(s->tuned, m, &last);
    size_t best = SIZE_MAX;
    last = last < s->desc.m_last ? last : s->desc.m_last;
    if (s->few_rows_w4a16 && m <= NVFP4_FEW_ROWS && last > NVFP4_FEW_ROWS) {
      last = NVFP4_FEW_ROWS;
    }
    for (size_t i = 0; i < s->ranked_count; i++) {
      const nvfp4_kernel *kernel = kernel_of(s, s->ranked[i]);
      if (!within(kernel, limits)) {
        continue;
      }
      if (nvfp4_serves(kernel, m)) {
        best = best == SIZE_MAX || nvfp4_preferred(s, at, m, s->ranked[i], best) ? s->ranked[i] : best;
        last = kernel->m_last != 0 && kernel->m_last < last ? kernel->m_last : last;
      } else if (kernel->m_first > m && kernel->m_first - 1 < last) {
        last = kernel->m_first - 1;
      }
    }
    if (best == SIZE_MAX) {
      return false;
    }
    if (out->range_count > 0 && out->ranges[out->range_count - 1].candidate == best) {
      out->ranges[out->range_count - 1].m_last = last;
    } else if (out->range_count < NVFP4_MAX_RANGES) {
      out->ranges[out->range_count++] = (nvfp4_selected_range){m, last, best};
    } else {
      return false;
    }
    if (last == s->desc.m_last) {
      return true;
    }
    m = last + 1;
  }
}

/* Whether plan a has a better kernel than plan b at the first M where they differ. */
static bool better_in_rank(const nvfp4_selecting *s, const nvfp4_selection *a, const nvfp4_selection *b) {
  int64_t m = s->desc.m_first;
  for (size_t i = 0, j = 0; i < a->range_count && j < b->range_count;) {
    size_t rank_a = nvfp4_rank_at(s, a->ranges[i].candidate, m), rank_b = nvfp4_rank_at(s, b->ranges[j].candidate, m);
    if (rank_a != rank_b) {
      return rank_a < rank_b;
    }
    int64_t end_a = a->ranges[i].m_last, end_b = b->ranges[j].m_last;
    i += end_a <= end_b;
    j += end_b <= end_a;
    m = i < a->range_count ? a->ranges[i].m_first : m;
    m = j < b->range_count && b->ranges[j].m_first > m ? b->ranges[j].m_first : m;
  }
  return false;
}

/* What the times of the layer say against a plan. */
typedef struct plan_cost {
  int unknown;     /* measured M at which its kernel has no time */
  double slowness; /* sum over the others of its kernel's time over the fastest kernel's */
} plan_cost;

static plan_cost cost_of(const nvfp4_selecting *s, const nvfp4_selection *plan) {
  plan_cost cost = {0};
  size_t range = 0;
  int64_t last = s->desc.m_first - 1;
  while (last < s->desc.m_last) {
    int64_t m = last + 1;
    nvfp4_tuned at = nvfp4_tuned_at(s->tuned, m, &last);
    int64_t least = NVFP4_NOT_TIMED;
    for (size_t i = 0; i < s->ranked_count; i++) {
      const nvfp4_kernel *kernel = kernel_of(s, s->ranked[i]);
      int64_t ns = nvfp4_serves(kernel, m) ? nvfp4_tuned_ns(at, kernel->id) : NVFP4_NOT_TIMED;
      least = ns < least ? ns : least;
    }
    while (plan->ranges[range].m_last < m) {
      range++;
    }
    int64_t ns = nvfp4_tuned_ns(at, kernel_of(s, plan->ranges[range].candidate)->id);
    if (ns != NVFP4_NOT_TIMED) {
      cost.slowness += (double)ns / (double)least;
    } else if (least != NVFP4_NOT_TIMED) {
      cost.unknown++;
    }
  }
  return cost;
}

/* Whether plan a is better than plan b: by the times of the layer, or else by rank. */
static bool better(const nvfp4_selecting *s, const nvfp4_selection *a, const nvfp4_selection *b) {
  if (s->tuned.count == 0) {
    return better_in_rank(s, a, b);
  }
  plan_cost cost_a = cost_of(s, a), cost_b = cost_of(s, b);
  return cost_a.unknown != cost_b.unknown ? cost_a.unknown < cost_b.unknown : cost_a.slowness < cost_b.slowness;
}

/* The best plan whose (first) layout, and order of additions if there is to be one only, is that of `first`. */
static bool plan_around(const nvfp4_selecting *s, const nvfp4_kernel *first, nvfp4_selection *out) {
  bool two = s->policy.max_layouts == 2, invariant = (s->policy.require & NVFP4_REQUIRE_BATCH_INVARIANT) != 0;
  plan_limits limits = {{first->layout, NULL}, invariant ? first->numerics.order : NULL};
  if (two && !nvfp4_serves(first, s->desc.m_first)) {
    return false;
  }
  bool found = cover(s, &limits, out);
  for (size_t j = 0; two && j < s->ranked_count; j++) {
    nvfp4_selection with_second;
    limits.layouts[1] = kernel_of(s, s->ranked[j])->layout;
    if (limits.layouts[1] != first->layout && cover(s, &limits, &with_second) && (!found || better(s, &with_second, out))) {
      *out = with_second;
      found = true;
    }
  }
  return found;
}

static bool make_plan(const nvfp4_selecting *s, nvfp4_selection *out) {
  bool found = false;
  bool by_rank = s->tuned.count == 0 && !s->few_rows_w4a16; /* then the first plan is the best */
  for (size_t i = 0; i < s->ranked_count && !(found && by_rank); i++) {
    nvfp4_selection plan;
    if (plan_around(s, kernel_of(s, s->ranked[i]), &plan) && (!found || better(s, &plan, out))) {
      *out = plan;
      found = true;
    }
  }
  return found;
}

/* --------------------------------------------------------------------------------------------------------------- selection */

/* Judges all candidates and ranks the eligible ones by their place in the list, then as they come. */
static void judge_and_rank(nvfp4_selecting *s) {
  s->ranked_count = 0;
  for (size_t i = 0; i < s->input->candidate_count; i++) {
    nvfp4_verdict *verdict = &s->verdicts[i];
    verdict->place = nvfp4_force_place(&s->force, s->input->candidates[i].id, &verdict->named);
    nvfp4_judge(s, i, verdict);
    if (verdict->stage == NVFP4_STAGE_ELIGIBLE) {
      size_t at = s->ranked_count++;
      for (; at > 0 && s->verdicts[s->ranked[at - 1]].place > verdict->place; at--) {
        s->ranked[at] = s->ranked[at - 1];
      }
      s->ranked[at] = i;
    }
  }
  for (size_t rank = 0; rank < s->ranked_count; rank++) {
    s->verdicts[s->ranked[rank]].rank = rank;
  }
}

static nvfp4_status prepare(nvfp4_selecting *s, const nvfp4_select_input *input, nvfp4_reason *reason) {
  NVFP4_TRY(nvfp4_layer_desc_check(input->desc, reason));
  s->input = input;
  s->desc = nvfp4_dense_view(input->desc);
  if (s->desc.m_last == 0) {
    s->desc.m_first = 1;
    s->desc.m_last = NVFP4_M_MAX;
  }
  s->m = input->m == 0 ? s->desc.m_first : input->m;
  if (s->m < s->desc.m_first || s->m > s->desc.m_last) {
    return nvfp4_reject(reason, NVFP4_E_ARG,
                        "M is %" PRId64 "; the layer is described for M %" PRId64 " to %" PRId64 ": ask for one of those", s->m,
                        s->desc.m_first, s->desc.m_last);
  }
  if (input->policy->max_layouts < 0 || input->policy->max_layouts > 2) {
    return nvfp4_reject(reason, NVFP4_E_ARG, "max_layouts is %d; needs 1, 2, or 0 for 1", input->policy->max_layouts);
  }
  s->policy = nvfp4_policy_effective(input->policy, s->desc.device);
  s->machine = input->machine;
  int ordinal = s->desc.device.ordinal;
  if (s->desc.device.kind == NVFP4_DEVICE_CUDA && ordinal < input->machine->gpu_count) {
    s->gpu_machine = *input->machine;
    s->gpu_machine.gpus[0] = input->machine->gpus[ordinal];
    s->gpu_machine.gpu_count = 1;
    s->machine = &s->gpu_machine;
  }
  return NVFP4_OK;
}

/* Everything after the preparation; s->verdicts and s->ranked are there. */
static nvfp4_status run(nvfp4_selecting *s, nvfp4_selection *selection, nvfp4_report **report, nvfp4_reason *reason) {
  nvfp4_reason why = {.text = ""};
  nvfp4_selection plan;
  char *text = NULL;
  nvfp4_status status = nvfp4_force_from_policy(s->input, &s->force, &why);
  if (status != NVFP4_OK) { /* the rows of the report then say what could serve without the list */
    s->force = (nvfp4_force){.decided_by = s->force.decided_by, .source = s->force.source, .shown = s->force.shown};
  }
  judge_and_rank(s);
  s->tuning = nvfp4_tuning_of(s->input->tunings, s->input->tuning_count, s->input->machine, s->desc.device);
  s->tuned = s->force.list == NULL ? nvfp4_tuned_layer(s->tuning, &s->desc) : (nvfp4_tuned){0};
  s->few_rows_w4a16 = s->force.list == NULL && s->policy.max_layouts == 2 && (s->policy.allow & NVFP4_ALLOW_W4A16) != 0 &&
                      (s->policy.require & NVFP4_REQUIRE_BATCH_INVARIANT) == 0 && /* the two add in different orders */
                      s->desc.mode == NVFP4_MODE_W4A4 && s->desc.device.kind == NVFP4_DEVICE_CUDA;
  bool found = status == NVFP4_OK && make_plan(s, &plan);
  if (status == NVFP4_OK && !found && s->tuned.count > 0) { /* so many changes from M to M that no plan can hold them */
    s->tuned.count = 0;
    found = make_plan(s, &plan);
  }
  if (status == NVFP4_OK && !found) {
    nvfp4_explain_ranking(s, NULL);
    text = nvfp4_no_plan_text(s);
    if (text == NULL) {
      return nvfp4_reject(reason, NVFP4_E_NOMEM, "out of memory for a report");
    }
    status = NVFP4_E_POLICY;
  }
  if (report != NULL) {
    nvfp4_explain_ranking(s, status == NVFP4_OK ? &plan : NULL);
    *report = nvfp4_make_report(s, status == NVFP4_OK ? &plan : NULL, status, text != NULL ? text : why.text);
    if (*report == NULL) {
      free(text);
      return nvfp4_reject(reason, NVFP4_E_NOMEM, "out of memory for a report");
    }
  }
  if (status == NVFP4_OK) {
    *selection = plan;
  } else {
    nvfp4_reject(reason, status, "%s", text != NULL ? text : why.text);
  }
  free(text);
  return status;
}

nvfp4_status nvfp4_select(const nvfp4_select_input *input, nvfp4_selection *selection, nvfp4_report **report, nvfp4_reason *reason) {
  if (report != NULL) {
    *report = NULL;
  }
  nvfp4_selecting s;
  NVFP4_TRY(prepare(&s, input, reason));
  s.verdicts = malloc((input->candidate_count + 1) * sizeof *s.verdicts);
  s.ranked = malloc((input->candidate_count + 1) * sizeof *s.ranked);
  nvfp4_status status = s.verdicts != NULL && s.ranked != NULL ? run(&s, selection, report, reason)
                                                               : nvfp4_reject(reason, NVFP4_E_NOMEM, "out of memory for a selection");
  free(s.ranked);
  free(s.verdicts);
  return status;
}
