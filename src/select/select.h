/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Selection as a pure function: kernels, a machine, a layer, a policy in; a ranking with reasons and a plan out. No I/O, no globals, no devices.
 */
#ifndef NVFP4_SELECT_SELECT_H
#define NVFP4_SELECT_SELECT_H

#include <nvfp4/kernel.h>

typedef enum nvfp4_self_test { NVFP4_SELF_TEST_NOT_RUN = 0, NVFP4_SELF_TEST_PASSED, NVFP4_SELF_TEST_FAILED } nvfp4_self_test;

/* A kernel as selection sees it. */
typedef struct nvfp4_candidate {
  const char *id;
  const nvfp4_kernel *kernel;   /* NULL: not there */
  nvfp4_stage missing;          /* if kernel is NULL: NVFP4_STAGE_NOT_BUILT or NVFP4_STAGE_PLUGIN_MISSING */
  const char *missing_reason;   /* if kernel is NULL */
  nvfp4_self_test self_test;    /* on the layer's device */
  const char *self_test_reason; /* if failed */
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
  const nvfp4_policy *policy; /* never NULL */
  int64_t m;                  /* the M that report rows speak of */
} nvfp4_select_input;

/* Fills *selection and, if report is not NULL, *report (the caller's, freed by nvfp4_report_free; set on every status but NVFP4_E_NOMEM and NVFP4_E_ARG). Strings of
 * the report are its own copies. */
nvfp4_status nvfp4_select(const nvfp4_select_input *input, nvfp4_selection *selection, nvfp4_report **report, nvfp4_reason *reason);

/* Checks a description: shape, types, M range, partitions. */
nvfp4_status nvfp4_layer_desc_check(const nvfp4_layer_desc *desc, nvfp4_reason *reason);

/* The policy that counts on a device: fills in the defaults of the design (cpu: CANONICAL; cuda: BOUNDED and DETERMINISTIC). */
typedef struct nvfp4_effective_policy {
  uint32_t require, allow;
  int max_layouts;
} nvfp4_effective_policy;
nvfp4_effective_policy nvfp4_policy_effective(const nvfp4_policy *policy, nvfp4_device device);

/* Whether `id` is in a comma-separated list of ids and globs. */
bool nvfp4_id_in_list(const char *id, const char *list);

/* vLLM's backend name -> our ids (a list as above) on a device; NULL: no such name. */
const char *nvfp4_vllm_backend_ids(const char *backend, nvfp4_device_kind device);

#endif
