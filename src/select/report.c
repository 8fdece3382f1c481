/* SPDX-License-Identifier: Apache-2.0 */
/* A selection in words: why each eligible kernel was chosen or not, what a failed one needs, and the report. */
#define _POSIX_C_SOURCE 200809L /* open_memstream */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/reason.h"
#include "format/global.h"
#include "select/selecting.h"

/* ------------------------------------------------------------------------------------------------------------------ reasons */

static const nvfp4_selected_range *range_of(const nvfp4_selection *selection, int64_t m) {
  size_t i = 0;
  while (m > selection->ranges[i].m_last) {
    i++;
  }
  return &selection->ranges[i];
}

/* The distinct layouts of a plan; returns how many. */
static size_t layouts_of(const nvfp4_selecting *s, const nvfp4_selection *selection, const nvfp4_layout *layouts[2]) {
  size_t count = 0;
  for (size_t i = 0; i < selection->range_count; i++) {
    const nvfp4_layout *layout = s->input->candidates[selection->ranges[i].candidate].kernel->layout;
    if (count == 0 || (count == 1 && layout != layouts[0])) {
      layouts[count++] = layout;
    }
  }
  return count;
}

static bool more_precise(const nvfp4_selecting *s, const nvfp4_kernel *kernel) {
  return kernel->numerics.mode == NVFP4_MODE_W4A16 && s->desc.mode == NVFP4_MODE_W4A4;
}

/* "12.3 us" */
static const char *time_text(int64_t ns, char text[32]) {
  double us = (double)ns / 1000;
  snprintf(text, 32, "%.*f us", us < 10 ? 2 : us < 100 ? 1 : 0, us);
  return text;
}

/* The times at s->m. */
static nvfp4_tuned tuned_here(const nvfp4_selecting *s) {
  int64_t last;
  return nvfp4_tuned_at(s->tuned, s->m, &last);
}

/* "tuning table FILE: 12.3 us at M=16; ref_w4a4 1870 us": the chosen one's time and the others', as far as they are eligible for this M. */
static void say_tuned(const nvfp4_selecting *s, size_t chosen, nvfp4_tuned at, const char *more) {
  nvfp4_verdict *verdict = &s->verdicts[chosen];
  char us[32], others[280] = "";
  for (size_t i = 0, used = 0; i < s->ranked_count && used < sizeof others; i++) {
    const nvfp4_candidate *other = &s->input->candidates[s->ranked[i]];
    int64_t ns = nvfp4_tuned_ns(at, other->id);
    if (s->ranked[i] != chosen && ns != NVFP4_NOT_TIMED && nvfp4_serves(other->kernel, s->m)) {
      used += (size_t)snprintf(others + used, sizeof others - used, "%s%s %s", used == 0 ? "; " : ", ", other->id, time_text(ns, us));
    }
  }
  nvfp4_reject(&verdict->reason, NVFP4_OK, "tuning table %.120s: %s at M=%" PRId64 "%s%s", s->tuning->file,
               time_text(nvfp4_tuned_ns(at, s->input->candidates[chosen].id), us), at.times[0].m, others, more);
}

static void say_chosen(const nvfp4_selecting *s, size_t i) {
  nvfp4_verdict *verdict = &s->verdicts[i];
  nvfp4_tuned at = tuned_here(s);
  const char *dry = s->input->dry_run ? "; not tested here" : "";
  const char *precise = more_precise(s, s->input->candidates[i].kernel) ? "; activations more precise than asked" : "";
  verdict->stage = NVFP4_STAGE_CHOSEN;
  if (verdict->place != NVFP4_NOT_LISTED) {
    nvfp4_reject(&verdict->reason, NVFP4_OK, "named by %s=%.200s%s%s", s->force.source, s->force.shown, precise, dry);
  } else if (s->force.list != NULL) {
    nvfp4_reject(&verdict->reason, NVFP4_OK, "first in the order that fits: nothing that %s=%.200s names can serve%s%s", s->force.source,
                 s->force.shown, precise, dry);
  } else if (nvfp4_tuned_ns(at, s->input->candidates[i].id) != NVFP4_NOT_TIMED) {
    say_tuned(s, i, at, precise);
  } else if (s->few_rows_w4a16 && s->m <= NVFP4_FEW_ROWS && precise[0] != '\0') {
    nvfp4_reject(&verdict->reason, NVFP4_OK,
                 "first in the order that fits for up to %d rows, where W4A16 kernels come before W4A4 ones%s%s", NVFP4_FEW_ROWS, precise,
                 dry);
  } else {
    nvfp4_reject(&verdict->reason, NVFP4_OK, "first in the order that fits%s%s", precise, dry);
  }
}

/* Why an eligible kernel serves no M of the plan, or not this one. */
static void say_passed_over(const nvfp4_selecting *s, size_t i, const nvfp4_selection *selection, size_t chosen) {
  nvfp4_verdict *verdict = &s->verdicts[i];
  nvfp4_reason *reason = &verdict->reason;
  const nvfp4_kernel *kernel = s->input->candidates[i].kernel, *first = s->input->candidates[selection->ranges[0].candidate].kernel;
  const char *dry = s->input->dry_run ? "; not tested here" : "";
  char us[32], time[64] = ""; /* "1870 us; " */
  nvfp4_tuned at = tuned_here(s);
  int64_t ns = nvfp4_tuned_ns(at, kernel->id);
  if (ns != NVFP4_NOT_TIMED) {
    snprintf(time, sizeof time, "%s; ", time_text(ns, us));
  } else if (at.count > 0) {
    snprintf(time, sizeof time, "not in the tuning table; ");
  }
  const nvfp4_layout *layouts[2];
  size_t layout_count = layouts_of(s, selection, layouts);
  if ((s->policy.require & NVFP4_REQUIRE_BATCH_INVARIANT) != 0 && strcmp(kernel->numerics.order, first->numerics.order) != 0) {
    verdict->stage = NVFP4_STAGE_NUMERICS_POLICY;
    nvfp4_reject(
        reason, NVFP4_E_POLICY,
        "adds in the order \"%s\"; a batch-invariant plan has one order, that of %s: \"%s\"; name this kernel in NVFP4_KERNEL to prefer it",
        kernel->numerics.order, first->id, first->numerics.order);
  } else if (nvfp4_preferred(s, at, s->m, chosen, i)) {
    nvfp4_reject(reason, NVFP4_OK, "%s%s comes first%s", time, s->input->candidates[chosen].id, dry);
  } else if (layout_count == 1 && s->policy.max_layouts == 1) {
    nvfp4_reject(reason, NVFP4_OK,
                 "%sanother packed layout (%s) than the plan's, %s, which serves every M; set max_layouts=2 to have both%s", time,
                 kernel->layout->name, layouts[0]->name, dry);
  } else {
    nvfp4_reject(reason, NVFP4_OK, "%sanother packed layout (%s); those of the plan, %s%s%s, serve every M, and two are the most%s", time,
                 kernel->layout->name, layouts[0]->name, layout_count > 1 ? " and " : "", layout_count > 1 ? layouts[1]->name : "", dry);
  }
}

/* A kernel that is eligible for the layer, but not at the M of the rows. */
static void say_other_m(const nvfp4_selecting *s, size_t i) {
  nvfp4_verdict *verdict = &s->verdicts[i];
  const nvfp4_kernel *kernel = s->input->candidates[i].kernel;
  char range[64];
  verdict->stage = NVFP4_STAGE_CANNOT_IMPLEMENT;
  nvfp4_reject(&verdict->reason, NVFP4_E_UNSUPPORTED, "M is %" PRId64 "; this kernel serves %s", s->m,
               nvfp4_m_text(kernel->m_first, kernel->m_last, range));
}

void nvfp4_explain_ranking(nvfp4_selecting *s, const nvfp4_selection *selection) {
  size_t chosen = selection != NULL ? range_of(selection, s->m)->candidate : SIZE_MAX;
  for (size_t i = 0; i < s->input->candidate_count; i++) {
    nvfp4_verdict *verdict = &s->verdicts[i];
    const nvfp4_kernel *kernel = s->input->candidates[i].kernel;
    char range[64];
    if (verdict->stage > NVFP4_STAGE_CANNOT_IMPLEMENT && !nvfp4_serves(kernel, s->m) && selection != NULL) {
      say_other_m(s, i);
    } else if (verdict->stage == NVFP4_STAGE_ELIGIBLE && i == chosen) {
      say_chosen(s, i);
    } else if (verdict->stage == NVFP4_STAGE_ELIGIBLE && selection != NULL) {
      say_passed_over(s, i, selection, chosen);
    } else if (verdict->stage == NVFP4_STAGE_ELIGIBLE) {
      nvfp4_reject(&verdict->reason, NVFP4_OK, "could serve %s; no plan was made", nvfp4_m_text(kernel->m_first, kernel->m_last, range));
    }
  }
}

/* ---------------------------------------------------------------------------------------------------------------- no plan */

/* Ids that could serve the layer (all of its M or some) if no list decided. */
static void put_ids_that_can(nvfp4_selecting *s, FILE *out) {
  nvfp4_force force = s->force;
  nvfp4_verdict verdict = {.place = NVFP4_NOT_LISTED};
  bool any = false;
  s->force = (nvfp4_force){.decided_by = "order", .source = "order", .shown = ""};
  for (size_t i = 0; i < s->input->candidate_count; i++) {
    nvfp4_judge(s, i, &verdict);
    if (verdict.stage == NVFP4_STAGE_ELIGIBLE) {
      fprintf(out, "%s%s", any ? ", " : "; ids that can: ", s->input->candidates[i].id);
      any = true;
    }
  }
  fputs(any ? "" : "; no id can", out);
  s->force = force;
}

/* Whether the sentence gives this candidate's reason: of a list that decides only what it names; otherwise not the kernels of other devices. */
static bool worth_a_reason(const nvfp4_selecting *s, size_t i) {
  const nvfp4_kernel *kernel = s->input->candidates[i].kernel;
  if (s->force.list != NULL && !s->force.then_auto) {
    return s->verdicts[i].place != NVFP4_NOT_LISTED;
  }
  return kernel == NULL || kernel->device == s->desc.device.kind;
}

/* id: reason, those that came furthest first. */
static void put_reasons(const nvfp4_selecting *s, FILE *out) {
  for (int stage = NVFP4_STAGE_ELIGIBLE; stage >= 0; stage--) {
    for (size_t i = 0; i < s->input->candidate_count; i++) {
      if ((int)s->verdicts[i].stage == stage && worth_a_reason(s, i)) {
        fprintf(out, "; %s: %s", s->input->candidates[i].id, s->verdicts[i].reason.text);
      }
    }
  }
}

char *nvfp4_no_plan_text(nvfp4_selecting *s) {
  char *text = NULL, device[16], range[64];
  size_t bytes = 0;
  FILE *out = open_memstream(&text, &bytes);
  if (out == NULL) {
    return NULL;
  }
  bool any_listed = false;
  for (size_t i = 0; i < s->input->candidate_count; i++) {
    any_listed = any_listed || s->verdicts[i].place != NVFP4_NOT_LISTED;
  }
  nvfp4_m_text(s->desc.m_first, s->desc.m_last, range);
  fprintf(out, "layer %s (%s, N=%" PRId64 ", K=%" PRId64 ", %s, %s): ", s->desc.name != NULL ? s->desc.name : "(without a name)",
          nvfp4_mode_name(s->input->desc->mode), s->desc.n, s->desc.k, range, nvfp4_device_name(s->desc.device, device));
  if (s->force.list != NULL && !any_listed) {
    fprintf(out, "%s=%s stands for %s, and this version has no such kernel", s->force.source, s->force.shown, s->force.list);
  } else if (s->force.list != NULL && !s->force.then_auto) {
    fprintf(out, "nothing that %s=%s names serves %s", s->force.source, s->force.shown, range);
  } else if (s->ranked_count > 0) {
    fprintf(out, "no layout's kernels serve %s", range);
  } else {
    fputs("no kernel serves it", out);
  }
  if (s->force.list != NULL && !s->force.then_auto) {
    put_ids_that_can(s, out);
  }
  put_reasons(s, out);
  if (fclose(out) != 0) {
    free(text);
    return NULL;
  }
  return text;
}

/* ----------------------------------------------------------------------------------------------------------------- report */

/* Bytes of a layout's packed weights: the core packs each run of partitions with one input global by itself. */
static uint64_t packed_bytes(const nvfp4_layer_desc *desc, const nvfp4_layout *layout) {
  uint64_t bytes = 0;
  int64_t rows = 0;
  if (desc->partition_count == 0) {
    return layout->packed_bytes(desc->n, desc->k, desc->weight_dtype);
  }
  for (int64_t i = 0; i < desc->partition_count; i++) {
    rows += desc->partitions[i].n_rows;
    const nvfp4_global *input = &desc->partitions[i].input, *next = i + 1 < desc->partition_count ? &desc->partitions[i + 1].input : NULL;
    if (next == NULL || !nvfp4_global_same(*next, *input)) {
      bytes += layout->packed_bytes(rows, desc->k, desc->weight_dtype);
      rows = 0;
    }
  }
  return bytes;
}

/* A report is one allocation: the report, its rows, its ranges, its strings. */
typedef struct report_block {
  nvfp4_report report;
  char *strings; /* where the next string goes */
} report_block;

static const char *copy(report_block *block, const char *text) {
  size_t bytes = strlen(text) + 1;
  char *to = memcpy(block->strings, text, bytes);
  block->strings += bytes;
  return to;
}

static report_block *new_block(const nvfp4_selecting *s, const nvfp4_selection *selection, const char *text) {
  size_t rows = s->input->candidate_count, ranges = selection != NULL ? selection->range_count : 0, strings = strlen(text) + 1;
  for (size_t i = 0; i < rows; i++) {
    strings += strlen(s->input->candidates[i].id) + strlen(s->verdicts[i].reason.text) + 2;
  }
  for (size_t i = 0; i < ranges; i++) {
    strings += strlen(s->input->candidates[selection->ranges[i].candidate].kernel->layout->name) + 1;
  }
  size_t fixed = sizeof(report_block) + rows * sizeof(nvfp4_report_row) + ranges * sizeof(nvfp4_plan_range);
  report_block *block = malloc(fixed + strings);
  if (block != NULL) {
    memset(block, 0, sizeof *block);
    block->strings = (char *)block + fixed;
  }
  return block;
}

nvfp4_report *nvfp4_make_report(const nvfp4_selecting *s, const nvfp4_selection *selection, nvfp4_status status, const char *text) {
  const nvfp4_candidate *candidates = s->input->candidates;
  size_t chosen = selection != NULL ? range_of(selection, s->m)->candidate : SIZE_MAX;
  char served[640];
  if (selection != NULL) {
    snprintf(served, sizeof served, "%s serves M=%" PRId64 ": %s", candidates[chosen].id, s->m, s->verdicts[chosen].reason.text);
    text = served;
  }
  report_block *block = new_block(s, selection, text);
  if (block == NULL) {
    return NULL;
  }
  nvfp4_report *report = &block->report;
  nvfp4_report_row *rows = (nvfp4_report_row *)(void *)(block + 1);
  for (size_t i = 0; i < s->input->candidate_count; i++) {
    rows[i] = (nvfp4_report_row){copy(block, candidates[i].id), s->verdicts[i].stage, copy(block, s->verdicts[i].reason.text)};
  }
  nvfp4_plan_range *ranges = (nvfp4_plan_range *)(void *)(rows + s->input->candidate_count);
  *report = (nvfp4_report){.status = status,
                           .text = copy(block, text),
                           .m = s->m,
                           .decided_by = s->force.decided_by,
                           .row_count = s->input->candidate_count,
                           .rows = rows,
                           .ranges = ranges};
  if (selection != NULL) {
    const nvfp4_layout *layouts[2];
    report->chosen = rows[chosen].id;
    bool listed = s->verdicts[chosen].place != NVFP4_NOT_LISTED, timed = nvfp4_tuned_ns(tuned_here(s), rows[chosen].id) != NVFP4_NOT_TIMED;
    report->decided_by = listed ? s->force.decided_by : timed ? "tuning" : "order";
    report->range_count = selection->range_count;
    for (size_t i = 0; i < selection->range_count; i++) {
      const nvfp4_selected_range *range = &selection->ranges[i];
      ranges[i] = (nvfp4_plan_range){range->m_first, range->m_last, rows[range->candidate].id,
                                     copy(block, candidates[range->candidate].kernel->layout->name)};
    }
    report->layout_count = layouts_of(s, selection, layouts);
    for (size_t i = 0; i < report->layout_count; i++) {
      report->packed_bytes += packed_bytes(&s->desc, layouts[i]);
    }
  }
  return report;
}

void nvfp4_report_free(nvfp4_report *report) { free(report); /* the first member of its block */ }
