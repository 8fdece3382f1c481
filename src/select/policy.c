/* SPDX-License-Identifier: Apache-2.0 */
/* What a policy means: lists of ids, vLLM's names for backends and kernels, defaults. */
#define _POSIX_C_SOURCE 200809L
#include "select/policy.h"

#include <fnmatch.h>
#include <stdio.h>
#include <string.h>

#include "base/reason.h"

/* ------------------------------------------------------------------------------------------------------------------- lists */

static bool is_blank(char c) { return c == ' ' || c == '\t' || c == '\n' || c == '\r'; }

bool nvfp4_list_next(const char **list, nvfp4_list_item *item) {
  const char *at = *list;
  while (at != NULL && *at != '\0') {
    const char *first = at, *end = at + strcspn(at, ",");
    at = *end == ',' ? end + 1 : end;
    while (first < end && is_blank(*first)) {
      first++;
    }
    while (end > first && is_blank(end[-1])) {
      end--;
    }
    if (end > first) {
      *list = at;
      *item = (nvfp4_list_item){first, (size_t)(end - first)};
      return true;
    }
  }
  *list = at;
  return false;
}

bool nvfp4_item_is(nvfp4_list_item item, const char *word) {
  return strncmp(item.text, word, item.length) == 0 && word[item.length] == '\0';
}

bool nvfp4_item_matches(nvfp4_list_item item, const char *id) {
  if (nvfp4_item_is(item, id)) {
    return true;
  }
  char glob[128]; /* longer than any id */
  if (item.length >= sizeof glob) {
    return false;
  }
  memcpy(glob, item.text, item.length);
  glob[item.length] = '\0';
  return strpbrk(glob, "*?[") != NULL && fnmatch(glob, id, 0) == 0;
}

bool nvfp4_id_in_list(const char *id, const char *list) {
  nvfp4_list_item item;
  while (nvfp4_list_next(&list, &item)) {
    if (nvfp4_item_matches(item, id)) {
      return true;
    }
  }
  return false;
}

/* -------------------------------------------------------------------------------------------------------------------- vLLM */

/* A backend of vLLM: the name that users give (VLLM_NVFP4_GEMM_BACKEND, --linear-backend), the class in VLLM_DISABLED_KERNELS, and what stands
 * for it here. class_name NULL: its kernels stand here for another backend too, and disabling it must not take that one away. */
typedef struct vllm_backend {
  const char *name, *class_name;
  const char *cpu_ids;  /* NULL: as on CUDA; they fall out there with the reason */
  const char *cuda_ids; /* NULL: nothing */
  const char *instead;  /* if nothing: why, and what to do */
} vllm_backend;

#define PYTHON_ONLY "is compiled by Python when it runs and has no library to call; take "
#define NO_NVFP4 "has no NVFP4 kernel in vLLM either, which then chooses by itself; take auto"

static const vllm_backend vllm_backends[] = {
    {"auto", NULL, NULL, "auto", NULL},
    {"emulation", "EmulationNvFp4LinearKernel", "ref_w4a4,ref_w4a16", "cuda_emulation*", NULL},
    {"marlin", "MarlinNvFp4LinearKernel", NULL, "cuda_sm80_w4a16,cuda_sm90_w4a16", NULL},
    {"humming", NULL, NULL, "cuda_sm90_w4a16,cuda_sm80_w4a16", NULL},
    {"cutlass", "CutlassNvFp4LinearKernel", NULL, "plugin_cutlass*,cuda_sm100_w4a4,cuda_sm120_w4a4", NULL},
    {"flashinfer-cutlass", "FlashInferCutlassNvFp4LinearKernel", NULL, "plugin_flashinfer_cutlass*", NULL},
    {"flashinfer-trtllm", "FlashInferTrtllmNvFp4LinearKernel", NULL, "plugin_flashinfer_trtllm*", NULL},
    {"flashinfer-cudnn", NULL, NULL, "vendor_cudnn_w4a4", NULL}, /* the same graph: FlashInfer makes it in Python */
    {"flashinfer-cutedsl", NULL, NULL, NULL, PYTHON_ONLY "cutlass"},
    {"flashinfer-b12x", NULL, NULL, NULL, PYTHON_ONLY "cutlass"},
    {"b12x", NULL, NULL, NULL, PYTHON_ONLY "cutlass"},
    {"cudnn", NULL, NULL, "vendor_cudnn_w4a4", NULL},
    {"torch", "TorchNvFp4LinearKernel", NULL, "vendor_cublaslt_w4a4", NULL}, /* torch._scaled_mm is cuBLASLt */
    {"fbgemm", "FbgemmNvFp4LinearKernel", NULL, "plugin_fbgemm*", NULL},
    {"triton", NULL, NULL, NULL, NO_NVFP4},
    {"deep-gemm", NULL, NULL, NULL, NO_NVFP4},
    {"aiter", NULL, NULL, NULL, NO_NVFP4},
    {"machete", NULL, NULL, NULL, NO_NVFP4},
    {"conch", NULL, NULL, NULL, NO_NVFP4},
    {"exllama", NULL, NULL, NULL, NO_NVFP4},
    {"xpu", NULL, NULL, NULL, NO_NVFP4},
    {"xpu-woq", NULL, NULL, NULL, NO_NVFP4},
};
enum { VLLM_BACKENDS = sizeof vllm_backends / sizeof vllm_backends[0] };

static char fold(char c) { return c == '_' ? '-' : c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c; }

static bool same_backend(nvfp4_list_item given, const char *name) {
  size_t i = 0;
  while (i < given.length && name[i] != '\0' && fold(given.text[i]) == name[i]) {
    i++;
  }
  return i == given.length && name[i] == '\0';
}

/* NULL: not one name, or none of vLLM's. */
static const vllm_backend *find_backend(const char *backend) {
  nvfp4_list_item given, more;
  if (nvfp4_list_next(&backend, &given) && !nvfp4_list_next(&backend, &more)) {
    for (int i = 0; i < VLLM_BACKENDS; i++) {
      if (same_backend(given, vllm_backends[i].name)) {
        return &vllm_backends[i];
      }
    }
  }
  return NULL;
}

static const char *ids_on(const vllm_backend *backend, nvfp4_device_kind device) {
  return device == NVFP4_DEVICE_CPU && backend->cpu_ids != NULL ? backend->cpu_ids : backend->cuda_ids;
}

nvfp4_status nvfp4_vllm_backend_check(const char *backend, nvfp4_reason *reason) {
  return find_backend(backend) != NULL
             ? NVFP4_OK
             : nvfp4_reject(reason, NVFP4_E_ARG, "VLLM_NVFP4_GEMM_BACKEND is \"%.60s\"; needs one of: " NVFP4_VLLM_BACKENDS, backend);
}

nvfp4_status nvfp4_vllm_backend_ids(const char *backend, nvfp4_device_kind device, const char **ids, nvfp4_reason *reason) {
  const vllm_backend *known = find_backend(backend);
  *ids = NULL;
  if (known == NULL) {
    nvfp4_vllm_backend_check(backend, reason);
    return NVFP4_E_POLICY;
  }
  *ids = ids_on(known, device);
  return *ids != NULL ? NVFP4_OK
                      : nvfp4_reject(reason, NVFP4_E_POLICY, "VLLM_NVFP4_GEMM_BACKEND is \"%s\", which %s", known->name, known->instead);
}

void nvfp4_vllm_backends_of(const char *id, char *text, size_t bytes) {
  size_t used = 0;
  text[0] = '\0';
  for (int i = 0; i < VLLM_BACKENDS && used < bytes; i++) {
    if (nvfp4_id_in_list(id, vllm_backends[i].cpu_ids) || nvfp4_id_in_list(id, vllm_backends[i].cuda_ids)) {
      used += (size_t)snprintf(text + used, bytes - used, "%s%s", used > 0 ? ", " : "", vllm_backends[i].name);
    }
  }
}

bool nvfp4_policy_disables(const nvfp4_policy *policy, const char *id) {
  if (nvfp4_id_in_list(id, policy->disable)) {
    return true;
  }
  const char *classes = policy->vllm_disable;
  nvfp4_list_item item;
  while (nvfp4_list_next(&classes, &item)) {
    for (int i = 0; i < VLLM_BACKENDS; i++) {
      const vllm_backend *known = &vllm_backends[i];
      if (known->class_name != NULL && nvfp4_item_is(item, known->class_name) &&
          (nvfp4_id_in_list(id, known->cpu_ids) || nvfp4_id_in_list(id, known->cuda_ids))) {
        return true;
      }
    }
  }
  return false;
}

/* ---------------------------------------------------------------------------------------------------------------- policies */

nvfp4_effective_policy nvfp4_policy_effective(const nvfp4_policy *policy, nvfp4_device device) {
  nvfp4_effective_policy effective = {policy->require, policy->allow, policy->max_layouts > 1 ? 2 : 1};
  if (device.kind == NVFP4_DEVICE_CUDA) {
    effective.require |= NVFP4_REQUIRE_DETERMINISTIC;
    effective.allow |= NVFP4_ALLOW_BOUNDED;
  }
  return effective;
}

static bool is_set(const char *list) {
  nvfp4_list_item item;
  return nvfp4_list_next(&list, &item);
}

/* Whether a candidate is for that kind of device; of one that is not there, its id tells. */
static bool is_for_device(const nvfp4_candidate *candidate, nvfp4_device_kind kind) {
  if (candidate->kernel != NULL) {
    return candidate->kernel->device == kind;
  }
  bool on_cuda =
      strncmp(candidate->id, "cuda_", 5) == 0 || strncmp(candidate->id, "vendor_", 7) == 0 || strncmp(candidate->id, "plugin", 6) == 0;
  return on_cuda == (kind == NVFP4_DEVICE_CUDA);
}

/* An item that is no candidate's id is a slip of the pen: say so, with the ids for the layer's device. */
static nvfp4_status check_items(const nvfp4_select_input *input, const nvfp4_force *force, nvfp4_reason *reason) {
  const char *list = force->list;
  nvfp4_list_item item;
  while (nvfp4_list_next(&list, &item)) {
    bool known = nvfp4_item_is(item, "auto");
    for (size_t i = 0; !known && i < input->candidate_count; i++) {
      known = nvfp4_item_matches(item, input->candidates[i].id);
    }
    if (!known) {
      char ids[400] = "";
      for (size_t i = 0, used = 0; i < input->candidate_count && used < sizeof ids; i++) {
        if (is_for_device(&input->candidates[i], input->desc->device.kind)) {
          used += (size_t)snprintf(ids + used, sizeof ids - used, "%s%s", used > 0 ? ", " : "", input->candidates[i].id);
        }
      }
      return nvfp4_reject(reason, NVFP4_E_POLICY, "%s names \"%.*s\", which is no kernel; needs one of: %s", force->source,
                          item.length < 60 ? (int)item.length : 60, item.text, ids);
    }
  }
  return NVFP4_OK;
}

/* Whether a candidate is for dense layers; of one that is not there, its id tells. */
static bool is_dense(const nvfp4_candidate *candidate) {
  const char *end = strrchr(candidate->id, '_');
  return candidate->kernel != NULL ? candidate->kernel->numerics.mode == NVFP4_MODE_UNQUANTISED
                                   : end != NULL && strcmp(end, "_w16a16") == 0;
}

/* Whether a list decides for the layer: not if it is for the other kind of layers, NVFP4 or dense, alone. A backend of vLLM's is for NVFP4. */
static bool is_for_layer(const nvfp4_select_input *input, const char *list) {
  bool names_dense = false, names_nvfp4 = false;
  for (size_t i = 0; i < input->candidate_count; i++) {
    if (nvfp4_id_in_list(input->candidates[i].id, list)) {
      *(is_dense(&input->candidates[i]) ? &names_dense : &names_nvfp4) = true;
    }
  }
  return nvfp4_is_dense(input->desc->mode) ? names_dense : names_nvfp4 || !names_dense;
}

nvfp4_status nvfp4_force_from_policy(const nvfp4_select_input *input, nvfp4_force *out, nvfp4_reason *reason) {
  const nvfp4_policy *policy = input->policy;
  *out = (nvfp4_force){.decided_by = "order", .source = "order", .shown = ""};
  bool is_backend = false;
  if (is_set(policy->kernel)) {
    *out = (nvfp4_force){.decided_by = "option", .source = "the kernel option", .shown = policy->kernel, .list = policy->kernel};
  } else if (is_set(policy->env_kernel)) {
    *out = (nvfp4_force){.decided_by = "NVFP4_KERNEL", .source = "NVFP4_KERNEL", .shown = policy->env_kernel, .list = policy->env_kernel};
  } else if (is_set(policy->vllm_backend)) {
    is_backend = true;
    *out = (nvfp4_force){.decided_by = "VLLM_NVFP4_GEMM_BACKEND", .source = "VLLM_NVFP4_GEMM_BACKEND", .shown = policy->vllm_backend};
    nvfp4_status status = nvfp4_vllm_backend_ids(policy->vllm_backend, input->desc->device.kind, &out->list, reason);
    bool leaves_alone = input->desc->mode == NVFP4_MODE_UNQUANTISED && nvfp4_vllm_backend_check(policy->vllm_backend, NULL) == NVFP4_OK;
    if (status != NVFP4_OK && !leaves_alone) {
      return status;
    }
  }
  if (!is_backend) { /* a backend may stand for kernels of plug-ins that are not open */
    NVFP4_TRY(check_items(input, out, reason));
  }
  const char *list = out->list;
  size_t items = 0;
  for (nvfp4_list_item item; nvfp4_list_next(&list, &item); items++) {
    out->then_auto = nvfp4_item_is(item, "auto");
    const char *rest = list;
    nvfp4_list_item more;
    if (out->then_auto && nvfp4_list_next(&rest, &more)) {
      return nvfp4_reject(reason, NVFP4_E_POLICY, "%s is \"%.200s\": \"auto\" stands before its end; put it last", out->source, out->shown);
    }
  }
  if (items == 0 || (items == 1 && out->then_auto) ||
      !is_for_layer(input, out->list)) { /* nothing, "auto" alone, or the other layers' list */
    *out = (nvfp4_force){.decided_by = "order", .source = "order", .shown = ""};
  }
  return NVFP4_OK;
}

size_t nvfp4_force_place(const nvfp4_force *force, const char *id, bool *named) {
  const char *list = force->list;
  nvfp4_list_item item;
  size_t first = NVFP4_NOT_LISTED;
  *named = false;
  for (size_t place = 0; nvfp4_list_next(&list, &item); place++) {
    if (nvfp4_item_matches(item, id)) {
      first = first == NVFP4_NOT_LISTED ? place : first;
      *named = *named || nvfp4_item_is(item, id);
    }
  }
  return first;
}
