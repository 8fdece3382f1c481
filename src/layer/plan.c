/* SPDX-License-Identifier: Apache-2.0 */
/* From a description to a plan: self-tests, selection, and the kernels that it chose. */
#define _POSIX_C_SOURCE 200809L /* strdup */
#include <stdlib.h>
#include <string.h>

#include "base/reason.h"
#include "layer/layer.h"

static nvfp4_status select_kernels(nvfp4_context *context, const nvfp4_machine *machine, const nvfp4_layer_desc *desc,
                                   const nvfp4_policy *policy, int64_t m, nvfp4_candidate *candidates, nvfp4_selection *selection,
                                   nvfp4_report **report, nvfp4_reason *reason) {
  bool dry_run = machine != NULL;
  if (!dry_run) {
    nvfp4_context_self_test(context, desc->device, nvfp4_policy_or_context(context, policy));
  }
  nvfp4_context_candidates(context, desc->device, dry_run, candidates);
  nvfp4_select_input input = {
      .candidates = candidates,
      .candidate_count = context->kernel_count,
      .machine = dry_run ? machine : &context->machine,
      .dry_run = dry_run,
      .desc = desc,
      .policy = nvfp4_policy_or_context(context, policy),
      .m = m,
      .tunings = context->tunings,
      .tuning_count = dry_run ? 0 : context->tuning_count, /* their times are this computer's */
  };
  return nvfp4_select(&input, selection, report, reason);
}

static nvfp4_candidate *new_candidates(const nvfp4_context *context, nvfp4_reason *reason) {
  nvfp4_candidate *candidates = calloc(context->kernel_count + 1, sizeof *candidates);
  if (candidates == NULL) {
    nvfp4_reject(reason, NVFP4_E_NOMEM, "out of memory for a selection");
  }
  return candidates;
}

nvfp4_status nvfp4_explain(nvfp4_context *context, const nvfp4_machine *machine, const nvfp4_layer_desc *desc, const nvfp4_policy *policy,
                           int64_t m, nvfp4_report **out, nvfp4_reason *reason) {
  if (context == NULL || out == NULL) {
    return nvfp4_reject(reason, NVFP4_E_ARG, "context or out is NULL; explain needs both");
  }
  NVFP4_TRY(nvfp4_layer_desc_check(desc, reason));
  nvfp4_candidate *candidates = new_candidates(context, reason);
  if (candidates == NULL) {
    return NVFP4_E_NOMEM;
  }
  nvfp4_selection selection;
  nvfp4_status status = select_kernels(context, machine, desc, policy, m, candidates, &selection, out, reason);
  free(candidates);
  return status;
}

static nvfp4_status new_plan(const nvfp4_layer_desc *desc, nvfp4_plan **out, nvfp4_reason *reason) {
  const nvfp4_partition whole = {.n_rows = desc->n, .weight.value = 1}; /* of a dense layer that has none */
  bool has_none = desc->partition_count == 0;
  nvfp4_plan *plan = calloc(1, sizeof *plan);
  size_t bytes = (size_t)(has_none ? 1 : desc->partition_count) * sizeof whole;
  nvfp4_partition *partitions = malloc(bytes);
  char *name = desc->name != NULL ? strdup(desc->name) : NULL;
  if (plan == NULL || partitions == NULL || (desc->name != NULL && name == NULL)) {
    free(plan);
    free(partitions);
    free(name);
    return nvfp4_reject(reason, NVFP4_E_NOMEM, "out of memory for a plan");
  }
  memcpy(partitions, has_none ? &whole : desc->partitions, bytes);
  plan->desc = *desc;
  plan->desc.partitions = partitions;
  plan->desc.partition_count = has_none ? 1 : desc->partition_count;
  plan->desc.name = name;
  if (desc->m_first == 0 && desc->m_last == 0) {
    plan->desc.m_first = 1;
    plan->desc.m_last = NVFP4_M_MAX;
  }
  *out = plan;
  return NVFP4_OK;
}

nvfp4_status nvfp4_init_linear_kernel(nvfp4_context *context, const nvfp4_layer_desc *desc, const nvfp4_policy *policy, nvfp4_plan **plan,
                                      nvfp4_report **report, nvfp4_reason *reason) {
  if (context == NULL || plan == NULL) {
    return nvfp4_reject(reason, NVFP4_E_ARG, "context or plan is NULL; needs both");
  }
  NVFP4_TRY(nvfp4_layer_desc_check(desc, reason));
  nvfp4_candidate *candidates = new_candidates(context, reason);
  if (candidates == NULL) {
    return NVFP4_E_NOMEM;
  }
  nvfp4_selection selection;
  int64_t m = desc->m_first > 1 ? desc->m_first : 1;
  nvfp4_plan *made = NULL;
  nvfp4_status status = select_kernels(context, NULL, desc, policy, m, candidates, &selection, report, reason);
  if (status == NVFP4_OK) {
    status = new_plan(desc, &made, reason);
    if (status != NVFP4_OK && report != NULL) {
      nvfp4_report_free(*report);
      *report = NULL;
    }
  }
  if (status == NVFP4_OK) {
    made->range_count = selection.range_count;
    for (size_t i = 0; i < selection.range_count; i++) {
      made->ranges[i] =
          (nvfp4_planned_range){selection.ranges[i].m_first, selection.ranges[i].m_last, candidates[selection.ranges[i].candidate].kernel};
    }
    *plan = made;
  }
  free(candidates);
  return status;
}

nvfp4_plan *nvfp4_plan_copy(const nvfp4_plan *plan) {
  nvfp4_plan *copy = NULL;
  if (new_plan(&plan->desc, &copy, NULL) != NVFP4_OK) {
    return NULL;
  }
  copy->range_count = plan->range_count;
  memcpy(copy->ranges, plan->ranges, sizeof copy->ranges);
  return copy;
}

void nvfp4_plan_free(nvfp4_plan *plan) {
  if (plan != NULL) {
    free((char *)plan->desc.name);
    free((nvfp4_partition *)plan->desc.partitions);
    free(plan);
  }
}

const char *nvfp4_plan_kernel(const nvfp4_plan *plan, int64_t m) {
  for (size_t i = 0; i < plan->range_count; i++) {
    if (m >= plan->ranges[i].m_first && m <= plan->ranges[i].m_last) {
      return plan->ranges[i].kernel->id;
    }
  }
  return NULL;
}
