/* SPDX-License-Identifier: Apache-2.0 */
/* The questions of the contract that need no x: what a kernel refuses and in which words, packing and its inverse, workspace. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "checkkern.h"

/* A refusal must say something; an answer must not depend on being asked before. */
static void check_answer(ck_report *report, const char *question, nvfp4_status first, nvfp4_status again, const nvfp4_reason *reason) {
  if (first != again) {
    ck_fail(report, "", "%s answers %s, and asked again %s", question, nvfp4_status_name(first), nvfp4_status_name(again));
  } else if (first != NVFP4_OK && (reason->text[0] == '\0' || memchr(reason->text, '\0', sizeof reason->text) == NULL)) {
    ck_fail(report, "", "%s refuses (%s) without a reason", question, nvfp4_status_name(first));
  } else if (first != NVFP4_OK && reason->status != first) {
    ck_fail(report, "", "%s returns %s, its reason says %s", question, nvfp4_status_name(first), nvfp4_status_name(reason->status));
  } else if (first == NVFP4_OK && reason->text[0] != '\0') {
    ck_fail(report, "", "%s says yes and changes the reason: %.200s", question, reason->text);
  }
}

static void check_card(const nvfp4_kernel *kernel, ck_report *report) {
  const nvfp4_numerics *card = &kernel->numerics;
  uint32_t both = NVFP4_FLAG_BATCH_INVARIANT | NVFP4_FLAG_DETERMINISTIC;
  static const char *const orders[] = {[NVFP4_MODE_UNQUANTISED] = NVFP4_ORDER_CANONICAL_W16A16,
                                       [NVFP4_MODE_W4A4] = NVFP4_ORDER_CANONICAL_W4A4,
                                       [NVFP4_MODE_W4A16] = NVFP4_ORDER_CANONICAL_W4A16};
  const char *order = card->mode <= NVFP4_MODE_W4A16 ? orders[card->mode] : "";
  if (order[0] == '\0') {
    ck_fail(report, "", "the mode is %s; needs w4a4, w4a16 or unquantised", nvfp4_mode_name(card->mode));
  }
  if (card->numerics_class == NVFP4_CLASS_CANONICAL && ((card->flags & both) != both || strcmp(card->order, order) != 0)) {
    ck_fail(report, "", "class canonical, but the card lacks a flag or the canonical order \"%s\"", order);
  }
  if (kernel->summary[0] == '\0' || kernel->verified[0] == '\0' || card->order[0] == '\0') {
    ck_fail(report, "", "the card lacks summary, verified or order");
  }
}

static void check_machines(const nvfp4_kernel *kernel, ck_report *report) {
  const char *name;
  for (size_t i = 0; (name = nvfp4_recorded_machine_name(i)) != NULL; i++) {
    nvfp4_machine machine;
    nvfp4_reason reason = {0};
    char question[96];
    snprintf(question, sizeof question, "is_supported(%s)", name);
    if (nvfp4_machine_parse(nvfp4_recorded_machine(name), &machine, &reason) == NVFP4_OK) {
      nvfp4_status first = kernel->is_supported(&machine, &reason);
      check_answer(report, question, first, kernel->is_supported(&machine, NULL), &reason);
    }
  }
}

/* can_implement over sizes, types and M ranges, inside and outside of what it serves. */
static void check_layers(const nvfp4_kernel *kernel, ck_report *report) {
  static const int64_t ns[] = {1, 15, 16, 17, 4096, (int64_t)1 << 40}, ks[] = {16, 48, 64, 4096, (int64_t)1 << 20, (int64_t)1 << 40};
  bool dense = kernel->numerics.mode == NVFP4_MODE_UNQUANTISED;
  size_t before = report->failures;
  for (size_t i = 0; i < 6 * 6 * 9 && report->failures == before; i++) {
    nvfp4_partition whole = {0, ns[i % 6], {1.0f, NVFP4_GLOBAL_MULTIPLIER}, {1.0f, NVFP4_GLOBAL_MULTIPLIER}};
    ck_case c = {.m = 1,
                 .n = ns[i % 6],
                 .k = ks[i / 6 % 6],
                 .x = NVFP4_DTYPE_F32 + (int64_t)(i / 36 % 3),
                 .y = NVFP4_DTYPE_F32 + (int64_t)(i / 108)};
    c.bias = i % 2 == 0 ? NVFP4_DTYPE_NONE : c.x;
    c.w = dense ? NVFP4_DTYPE_F32 + (int64_t)(i / 3 % 3) : NVFP4_DTYPE_NONE;
    c.k += dense && i % 5 == 0;
    nvfp4_layer_desc desc = ck_desc(&c, kernel, &whole);
    desc.m_last = i % 4 < 2 ? NVFP4_M_MAX : 1;
    nvfp4_reason reason = {0};
    char question[96];
    snprintf(question, sizeof question, "can_implement(N = %lld, K = %lld, M = 1 to %lld)", (long long)c.n, (long long)c.k,
             (long long)desc.m_last);
    nvfp4_status first = kernel->can_implement(&desc, &reason);
    check_answer(report, question, first, kernel->can_implement(&desc, NULL), &reason);
  }
}

/* Just outside of what this kernel says of itself: the selection must refuse it, with a reason. A dry run: naming the machine keeps the self-tests of other
 * kernels out of this process. */
static void check_refusals(nvfp4_context *context, const nvfp4_kernel *kernel, ck_report *report) {
  static const nvfp4_global one = {1.0f, NVFP4_GLOBAL_MULTIPLIER};
  static const nvfp4_global none = {0.0f, NVFP4_GLOBAL_MULTIPLIER};
  bool w4a4 = kernel->numerics.mode == NVFP4_MODE_W4A4, ranged = kernel->m_last != 0;
  bool dense = kernel->numerics.mode == NVFP4_MODE_UNQUANTISED;
  enum { DEVICE, BEFORE, AFTER, MODE, NO_INPUT, OTHER_KIND, CASES };
  static const char *const names[CASES] = {"a layer on another device",   "M below its range",
                                           "M above its range",           "a w4a16 layer",
                                           "a layer without input scale", "NVFP4 for dense, dense for NVFP4"};
  const bool asked[CASES] = {true, ranged && kernel->m_first > 1, ranged && kernel->m_last < NVFP4_M_MAX, w4a4, w4a4, true};
  for (int i = 0; i < CASES; i++) {
    if (!asked[i]) { /* there may be no such M */
      continue;
    }
    bool of_dense = dense != (i == OTHER_KIND);
    nvfp4_partition whole = {0, 64, one, i == NO_INPUT || of_dense ? none : one};
    ck_case c = {.m = i == BEFORE  ? kernel->m_first - 1
                      : i == AFTER ? kernel->m_last + 1
                      : ranged     ? kernel->m_first
                                   : 1,
                 .n = 64,
                 .k = 64,
                 .x = NVFP4_DTYPE_F32,
                 .y = NVFP4_DTYPE_F32};
    c.w = of_dense ? NVFP4_DTYPE_BF16 : NVFP4_DTYPE_NONE;
    nvfp4_layer_desc desc = ck_desc(&c, kernel, &whole);
    desc.mode = i == MODE ? NVFP4_MODE_W4A16 : i == OTHER_KIND ? (of_dense ? NVFP4_MODE_UNQUANTISED : NVFP4_MODE_W4A4) : desc.mode;
    if (i == DEVICE) {
      desc.device.kind = kernel->device == NVFP4_DEVICE_CPU ? NVFP4_DEVICE_CUDA : NVFP4_DEVICE_CPU;
    }
    nvfp4_policy policy = {.struct_size = sizeof policy, .kernel = kernel->id};
    nvfp4_report *answer = NULL;
    nvfp4_reason reason = {0};
    nvfp4_explain(context, nvfp4_context_machine(context), &desc, &policy, c.m, &answer, &reason);
    if (answer == NULL) {
      continue; /* the core itself refuses such a description */
    }
    for (size_t row = 0; row < answer->row_count; row++) {
      const nvfp4_report_row *of = &answer->rows[row];
      if (strcmp(of->id, kernel->id) == 0 && (of->stage >= NVFP4_STAGE_ELIGIBLE || of->reason[0] == '\0')) {
        ck_fail(report, "", "%s: stage %s, reason \"%s\"; needs a refusal with a reason", names[i], nvfp4_stage_name(of->stage),
                of->reason);
      }
    }
    nvfp4_report_free(answer);
  }
}

static void check_workspace(const nvfp4_kernel *kernel, ck_report *report) {
  static const int64_t shapes[][2] = {{1, 16}, {17, 48}, {4096, 14336}};
  for (int i = 0; i < 3; i++) {
    nvfp4_partition whole = {0, shapes[i][0], {1.0f, NVFP4_GLOBAL_MULTIPLIER}, {1.0f, NVFP4_GLOBAL_MULTIPLIER}};
    ck_case c = {.m = 1, .n = shapes[i][0], .k = shapes[i][1], .x = NVFP4_DTYPE_BF16, .y = NVFP4_DTYPE_BF16};
    c.w = kernel->numerics.mode == NVFP4_MODE_UNQUANTISED ? NVFP4_DTYPE_BF16 : NVFP4_DTYPE_NONE;
    nvfp4_layer_desc desc = ck_desc(&c, kernel, &whole);
    size_t before = 0;
    for (int64_t m = 1; m <= 600; m++) {
      size_t bytes = ck_m_served(kernel, m) ? kernel->workspace_bytes(&desc, m) : before;
      if (bytes < before) {
        ck_fail(report, "", "workspace_bytes(N = %lld, K = %lld) shrinks from %zu to %zu bytes at M = %lld", (long long)c.n, (long long)c.k,
                before, bytes, (long long)m);
        return;
      }
      before = bytes;
    }
  }
}

/* Packed and unpacked again: the same bytes, as many as packed_bytes says; without memory: a refusal that leaves nothing behind. */
static void check_packing(ck_host *host, const nvfp4_kernel *kernel, const ck_case *c, ck_report *report) {
  const nvfp4_layout *layout = kernel->layout;
  ck_problem p = ck_problem_make(c, kernel->numerics.mode);
  char replay[CK_CASE_TEXT];
  ck_case_print(c, replay);
  bool dense = p.w != NULL;
  size_t code_bytes = dense ? (size_t)(p.n * p.k) * ck_elem_bytes(c->w) : (size_t)(p.n * p.k / 2), scale_bytes = (size_t)(p.n * p.blocks);
  ck_source source = ck_source_make(&p, c); /* without gaps: what unpack gives back */
  bool w4a4 = kernel->numerics.mode == NVFP4_MODE_W4A4;
  nvfp4_process_args args = {sizeof args, &source.weights, w4a4 ? p.alpha : NULL, p.alpha, NULL};
  nvfp4_packed packed = {.struct_size = sizeof packed};
  nvfp4_reason reason = {0};
  nvfp4_weights there;
  void *owned[2] = {NULL, NULL};
  nvfp4_status status;
  host->guard = c->guard;
  host->threads = c->threads;
  if (kernel->device == NVFP4_DEVICE_CUDA) {
    const nvfp4_visit *visit = &host->device.visit;
    status = nvfp4_place_weights(visit, &source.weights, &there, &owned[0], &reason);
    status = status != NVFP4_OK ? status : nvfp4_place_copy(visit, p.alpha, (size_t)p.n * sizeof(float), &owned[1], &reason);
    args = (nvfp4_process_args){sizeof args, &there, w4a4 ? owned[1] : NULL, owned[1], visit->stream};
  } else { /* what memory a GPU has is not the host table's affair */
    host->refuses_memory = true;
    snprintf(report->doing, sizeof report->doing, "process_weights_after_loading without memory");
    status = layout->process_weights_after_loading(&host->table, &args, &packed, &reason);
    host->refuses_memory = false;
  }
  if (kernel->device == NVFP4_DEVICE_CUDA) {
    if (status != NVFP4_OK) {
      ck_fail(report, "", "%s", reason.text);
    }
  } else if (status == NVFP4_OK && !packed.borrows_source) {
    ck_fail(report, "", "process_weights_after_loading says yes where alloc gives no memory");
  } else if (status != NVFP4_OK && (status != NVFP4_E_NOMEM || reason.text[0] == '\0')) {
    ck_fail(report, "", "process_weights_after_loading without memory: %s: \"%s\"; needs out of memory, and a reason",
            nvfp4_status_name(status), reason.text);
  }
  packed = (nvfp4_packed){.struct_size = sizeof packed};
  snprintf(report->doing, sizeof report->doing, "process_weights_after_loading");
  status = layout->process_weights_after_loading(&host->table, &args, &packed, &reason);
  ck_device_wait(&host->device);
  if (status != NVFP4_OK) {
    ck_fail(report, "", "process_weights_after_loading(N = %lld, K = %lld): %s", (long long)p.n, (long long)p.k, reason.text);
    ck_source_free(&source);
    ck_problem_free(&p);
    return;
  }
  if (packed.data_bytes != layout->packed_bytes(p.n, p.k, source.weights.dtype) || packed.n != p.n || packed.k != p.k) {
    ck_fail(report, "", "packed N = %lld, K = %lld, %zu bytes; needs N = %lld, K = %lld, and packed_bytes() says %zu", (long long)packed.n,
            (long long)packed.k, packed.data_bytes, (long long)p.n, (long long)p.k, layout->packed_bytes(p.n, p.k, source.weights.dtype));
  }
  ck_buffer *codes = ck_guard_new("unpacked codes", code_bytes, 1, c->guard),
            *scales = dense ? NULL : ck_guard_new("unpacked scales", scale_bytes, 1, c->guard);
  snprintf(report->doing, sizeof report->doing, "unpack");
  status = layout->unpack(&host->table, &packed, codes->data, dense ? NULL : scales->data, &reason);
  if (status != NVFP4_OK) {
    ck_fail(report, "", "unpack: %s: %s", nvfp4_status_name(status), reason.text);
  } else if (memcmp(codes->data, source.codes->data, code_bytes) != 0) {
    ck_fail(report, "", "unpack does not give back the %s that were packed (N = %lld, K = %lld, seed %lld)", dense ? "values" : "codes",
            (long long)p.n, (long long)p.k, (long long)c->seed);
  } else if (!dense && memcmp(scales->data, p.scales, scale_bytes) != 0) {
    ck_fail(report, "", "unpack does not give back the scales that were packed (N = %lld, K = %lld, seed %lld)", (long long)p.n,
            (long long)p.k, (long long)c->seed);
  }
  layout->free_packed(&host->table, &packed);
  for (int i = 0; i < 2; i++) {
    nvfp4_place_free(&host->device.place, owned[i]);
  }
  if (host->live != 0) {
    ck_fail(report, "", "free_packed leaves %zu allocations", host->live);
  }
  ck_guard_free(codes);
  ck_guard_free(scales);
  ck_source_free(&source);
  ck_problem_free(&p);
}

void ck_check_contract(ck_host *host, nvfp4_context *context, const nvfp4_kernel *kernel, uint64_t seed, ck_report *report) {
  check_card(kernel, report);
  check_machines(kernel, report);
  check_layers(kernel, report);
  check_refusals(context, kernel, report);
  check_workspace(kernel, report);
  static const int64_t ns[] = {1, 15, 16, 17, 32, 33, 65, 100}, ks[] = {16, 48, 64, 80, 576};
  size_t before = report->failures;
  for (size_t i = 0; i < 8 * 5 && report->failures == before; i++) {
    nvfp4_partition whole = {0, ns[i % 8], {1.0f, NVFP4_GLOBAL_MULTIPLIER}, {1.0f, NVFP4_GLOBAL_MULTIPLIER}};
    ck_case c = {.m = 1,
                 .n = ns[i % 8],
                 .k = ks[i / 8],
                 .x = NVFP4_DTYPE_F32,
                 .y = NVFP4_DTYPE_F32,
                 .scales = CK_SCALES_ANY,
                 .threads = 1 + (int64_t)(i % 2),
                 .guard = (int64_t)(i / 2 % 2),
                 .seed = (int64_t)(seed + i)};
    if (kernel->numerics.mode == NVFP4_MODE_UNQUANTISED) {
      c.w = NVFP4_DTYPE_F32 + (int64_t)(i % 3);
      c.k -= (int64_t)(i % 4); /* 16 to 13 and so on */
    }
    nvfp4_layer_desc desc = ck_desc(&c, kernel, &whole);
    if (kernel->can_implement(&desc, NULL) == NVFP4_OK) {
      check_packing(host, kernel, &c, report);
    }
  }
  report->doing[0] = '\0';
}
