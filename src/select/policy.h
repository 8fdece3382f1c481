/* SPDX-License-Identifier: Apache-2.0 */
/* Lists of kernel ids, and which of a policy's lists decides. */
#ifndef NVFP4_SELECT_POLICY_H
#define NVFP4_SELECT_POLICY_H

#include "select/select.h"

/* An item of a comma-separated list, without the blanks around it; not terminated. */
typedef struct nvfp4_list_item {
  const char *text;
  size_t length;
} nvfp4_list_item;

/* The next item that is not empty; false at the end. *list advances. */
bool nvfp4_list_next(const char **list, nvfp4_list_item *item);

bool nvfp4_item_is(nvfp4_list_item item, const char *word);

/* Whether id is the item, or matches it as a glob. */
bool nvfp4_item_matches(nvfp4_list_item item, const char *id);

/* The list that decides the order of preference. */
typedef struct nvfp4_force {
  const char *decided_by; /* "option", "NVFP4_KERNEL", "VLLM_NVFP4_GEMM_BACKEND" or "order" */
  const char *source;     /* the same for sentences: "the kernel option" for "option" */
  const char *shown;      /* the user's own words */
  const char *list;       /* ids and globs; NULL: the order of the registry */
  bool then_auto;         /* the list ends in "auto": kernels that are not in it come after it */
} nvfp4_force;

/* NVFP4_E_POLICY if an item of the list is not the id of any candidate, or the backend's name is none of vLLM's. */
nvfp4_status nvfp4_force_from_policy(const nvfp4_select_input *input, nvfp4_force *out, nvfp4_reason *reason);

/* Place of id in the list; NVFP4_NOT_LISTED if it is not there. *named: it is there by its full id. */
#define NVFP4_NOT_LISTED SIZE_MAX
size_t nvfp4_force_place(const nvfp4_force *force, const char *id, bool *named);

#endif
