/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Selection as a pure function: kernels, a machine, a layer, a policy in; a ranking with reasons and a plan out. No I/O, no globals, no devices.
 *
 * 1. Every candidate goes through the stages of nvfp4_stage in their order and stops at the first that it fails, with a reason.
 *      is_supported() is asked about a machine that has one GPU, the layer's, if the layer lives on a GPU.
 *      can_implement() sees the description with its M range filled in.
 * 2. Those left are ranked: first by their place in the list that decides (policy->kernel, env_kernel or vllm_backend), then as they come. If no list
 *    decides and the tuning table has times of the layer, the kernels that have a time at an M come before the others there, the fastest first.
 * 3. The plan.
 *      max_layouts = 1: the layout of the best kernel such that the kernels of that layout together serve every M; then, for each M, the best of them.
 *      max_layouts = 2: the layout of the kernel that is best at m_first, and the second one (or none) that makes, for ascending M, the earliest
 *      improvement in rank; together they serve every M. If no second one completes it, the next best kernel at m_first decides. With two layouts, and W4A16 allowed for a W4A4 layer on a
 *      GPU, W4A16 kernels come first for few rows (nvfp4_rank_at).
 *      BATCH_INVARIANT required: only kernels whose `order` is that of the kernel which decided the (first) layout; if those do not serve every M,
 *      the next best decides.
 *      With times of the layer, all plans that these rules could give, whichever kernel decides, are compared: the one with the fewest measured M at
 *      which its kernel has no time, then with the least sum over the measured M of its kernel's time over the fastest kernel's; of
 *      equal ones the first. A sum of plain times would be that of the largest M alone.
 */
#ifndef NVFP4_SELECT_SELECT_H
#define NVFP4_SELECT_SELECT_H

#include <nvfp4/kernel.h>

#include "select/tuning.h"

/* UNSUPPORTED: the kernel found out that it cannot work there (NVFP4_E_MACHINE), where is_supported could not know: a library is missing, say. */
typedef enum nvfp4_self_test {
  NVFP4_SELF_TEST_NOT_RUN = 0,
  NVFP4_SELF_TEST_PASSED,
  NVFP4_SELF_TEST_FAILED,
  NVFP4_SELF_TEST_UNSUPPORTED
} nvfp4_self_test;

/* A kernel as selection sees it. */
typedef struct nvfp4_candidate {
  const char *id;
  const nvfp4_kernel *kernel;   /* NULL: not there */
  nvfp4_stage missing;          /* if kernel is NULL: NVFP4_STAGE_NOT_BUILT or NVFP4_STAGE_PLUGIN_MISSING */
  const char *missing_reason;   /* if kernel is NULL */
  nvfp4_self_test self_test;    /* on the layer's device */
  const char *self_test_reason; /* if failed or unsupported */
} nvfp4_candidate;

typedef struct nvfp4_selected_range {
  int64_t m_first, m_last;
  size_t candidate; /* index */
} nvfp4_selected_range;

#define NVFP4_MAX_RANGES 32

/* What apply needs of a selection. */
typedef struct nvfp4_selection {
  size_t range_count;
  nvfp4_selected_range ranges[NVFP4_MAX_RANGES]; /* ascending, without gaps, covering the description's M */
} nvfp4_selection;

typedef struct nvfp4_select_input {
  const nvfp4_candidate *candidates; /* in order of preference */
  size_t candidate_count;
  const nvfp4_machine *machine;
  bool dry_run; /* machine is not this computer: reasons say "not tested here" */
  const nvfp4_layer_desc *desc;
  const nvfp4_policy *policy;  /* never NULL */
  int64_t m;                   /* the M that report rows speak of, in the description's range; 0: the range's first */
  const nvfp4_tuning *tunings; /* of `machine`, one at most for each of its devices */
  size_t tuning_count;
} nvfp4_select_input;

/* Fills *selection and, if report is not NULL, *report (the caller's, freed by nvfp4_report_free). Strings of the report
 * are its own copies. The report is there on NVFP4_OK and NVFP4_E_POLICY; on any other status (no memory, a bad description) it is NULL. */
nvfp4_status nvfp4_select(const nvfp4_select_input *input, nvfp4_selection *selection, nvfp4_report **report, nvfp4_reason *reason);

/* Whether dense kernels serve layers of that mode. */
static inline bool nvfp4_is_dense(nvfp4_mode mode) { return mode == NVFP4_MODE_UNQUANTISED || mode == NVFP4_MODE_FP8; }

/* A layer as its kernels see it. An FP8 layer is to them a dense one of bf16: its x, E4M3 numbers, is bf16 too. With an input scale a row, what remains after the
 * kernel's sums is done in fp32 by the layer. */
static inline nvfp4_layer_desc nvfp4_dense_view(const nvfp4_layer_desc *desc) {
  nvfp4_layer_desc view = *desc;
  if (desc->mode == NVFP4_MODE_FP8) {
    view.mode = NVFP4_MODE_UNQUANTISED;
    view.weight_dtype = view.x_dtype = NVFP4_DTYPE_BF16;
    if (desc->partitions[0].input.value == 0) {
      view.y_dtype = NVFP4_DTYPE_F32;
      view.bias_dtype = NVFP4_DTYPE_NONE;
    }
  }
  return view;
}

/* Checks a description: shape, types, M range, partitions. */
nvfp4_status nvfp4_layer_desc_check(const nvfp4_layer_desc *desc, nvfp4_reason *reason);

/* The policy that counts on a device, its defaults filled in: on CUDA BOUNDED is allowed and DETERMINISTIC required; max_layouts is 1 or 2. */
typedef struct nvfp4_effective_policy {
  uint32_t require, allow;
  int max_layouts;
} nvfp4_effective_policy;
nvfp4_effective_policy nvfp4_policy_effective(const nvfp4_policy *policy, nvfp4_device device);

/* Whether `id` is in a comma-separated list of ids and globs. NULL is an empty list. */
bool nvfp4_id_in_list(const char *id, const char *list);

/* Whether policy->disable or policy->vllm_disable excludes `id`. */
bool nvfp4_policy_disables(const nvfp4_policy *policy, const char *id);

/* vLLM's backend name -> our ids (a list as above; "auto" for vLLM's auto) on a device. Case does not matter, '_' is '-'. Errors, NVFP4_E_POLICY: no such name; or vLLM has it and nothing stands
 * for it here, with what to take instead. */
nvfp4_status nvfp4_vllm_backend_ids(const char *backend, nvfp4_device_kind device, const char **ids, nvfp4_reason *reason);

/* NVFP4_E_ARG if it is none of vLLM's names. */
nvfp4_status nvfp4_vllm_backend_check(const char *backend, nvfp4_reason *reason);

/* The names for which `id` stands, separated by ", ", into text. */
void nvfp4_vllm_backends_of(const char *id, char *text, size_t bytes);

/* vLLM's backend names that stand for kernels here, for messages. */
#define NVFP4_VLLM_BACKENDS \
  "auto, emulation, marlin, humming, cutlass, flashinfer-cutlass, flashinfer-trtllm, flashinfer-cudnn, cudnn, torch, fbgemm"

#endif
