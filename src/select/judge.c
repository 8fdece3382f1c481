/* SPDX-License-Identifier: Apache-2.0 */
/* One candidate through the stages, in the order of nvfp4_stage. Each check returns NVFP4_OK, or a refusal in *reason. */
#include <inttypes.h>
#include <stdio.h>

#include "base/reason.h"
#include "select/selecting.h"

const char *nvfp4_m_text(int64_t first, int64_t last, char text[64]) {
  if (first <= 1 && (last == 0 || last == NVFP4_M_MAX)) {
    snprintf(text, 64, "any M");
  } else if (last == NVFP4_M_MAX) {
    snprintf(text, 64, "M from %" PRId64, first);
  } else {
    snprintf(text, 64, "M %" PRId64 " to %" PRId64, first, last);
  }
  return text;
}

static nvfp4_status check_disabled(const nvfp4_selecting *s, const char *id, const nvfp4_verdict *verdict, nvfp4_reason *reason) {
  const nvfp4_policy *policy = s->input->policy;
  if (nvfp4_policy_disables(policy, id)) {
    bool ours = nvfp4_id_in_list(id, policy->disable);
    return nvfp4_reject(reason, NVFP4_E_POLICY, "excluded by %s=%.200s; take it out of that list to allow it",
                        ours ? "NVFP4_DISABLE" : "VLLM_DISABLED_KERNELS", ours ? policy->disable : policy->vllm_disable);
  }
  if (s->force.list != NULL && verdict->place == NVFP4_NOT_LISTED && !s->force.then_auto) {
    return nvfp4_reject(reason, NVFP4_E_POLICY, "not named by %s=%.200s; add it there to allow it", s->force.source, s->force.shown);
  }
  return NVFP4_OK;
}

/* A kernel's own refusal; a kernel that gives no words gets some. */
static nvfp4_status own_refusal(nvfp4_status status, const char *question, nvfp4_reason *reason) {
  if (status != NVFP4_OK && reason->text[0] == '\0') {
    return nvfp4_reject(reason, status, "%s says %s and no more; please report it", question, nvfp4_status_name(status));
  }
  return status;
}

static nvfp4_status check_machine(const nvfp4_selecting *s, const nvfp4_candidate *candidate, nvfp4_reason *reason) {
  const nvfp4_kernel *kernel = candidate->kernel;
  const nvfp4_device *device = &s->desc.device;
  const nvfp4_machine *whole = s->input->machine;
  if (kernel->device == NVFP4_DEVICE_CUDA && device->kind == NVFP4_DEVICE_CUDA && whole->gpu_count > 0 &&
      device->ordinal >= whole->gpu_count) {
    return nvfp4_reject(reason, NVFP4_E_MACHINE, "the machine has %d GPU%s; cuda:%d needs %d; choose a device below cuda:%d",
                        whole->gpu_count, whole->gpu_count == 1 ? "" : "s", device->ordinal, device->ordinal + 1, whole->gpu_count);
  }
  NVFP4_TRY(own_refusal(kernel->is_supported(s->machine, reason), "is_supported()", reason));
  if (!s->input->dry_run && candidate->self_test == NVFP4_SELF_TEST_UNSUPPORTED) {
    return nvfp4_reject(reason, NVFP4_E_MACHINE, "%s", candidate->self_test_reason != NULL ? candidate->self_test_reason : "");
  }
  return NVFP4_OK;
}

static nvfp4_status check_layer(const nvfp4_selecting *s, const nvfp4_kernel *kernel, nvfp4_reason *reason) {
  const nvfp4_layer_desc *desc = &s->desc;
  char text[16], range[64], wanted[64];
  if (kernel->device != desc->device.kind) {
    return nvfp4_reject(reason, NVFP4_E_UNSUPPORTED, "the layer lives on %s; this kernel works on %s: put the layer there",
                        nvfp4_device_name(desc->device, text), kernel->device == NVFP4_DEVICE_CUDA ? "a CUDA device" : "the CPU");
  }
  if (s->input->desc->mode == NVFP4_MODE_FP8 && desc->device.kind != NVFP4_DEVICE_CPU) {
    return nvfp4_reject(reason, NVFP4_E_UNSUPPORTED,
                        "the layer is fp8; this library quantises its activations on the CPU: put the layer there");
  }
  bool dense = desc->mode == NVFP4_MODE_UNQUANTISED;
  if (dense != (kernel->numerics.mode == NVFP4_MODE_UNQUANTISED)) {
    return nvfp4_reject(reason, NVFP4_E_UNSUPPORTED, "the layer's weights are %s; this kernel needs %s",
                        dense ? nvfp4_dtype_name(desc->weight_dtype) : "NVFP4", dense ? "NVFP4 ones" : "F32, F16 or BF16");
  }
  if (kernel->numerics.mode == NVFP4_MODE_W4A4) {
    if (desc->mode != NVFP4_MODE_W4A4) {
      return nvfp4_reject(reason, NVFP4_E_UNSUPPORTED, "the layer is %s; this kernel quantises activations, which needs a w4a4 layer",
                          nvfp4_mode_name(desc->mode));
    }
    for (int64_t i = 0; i < desc->partition_count; i++) {
      if (desc->partitions[i].input.value == 0) {
        return nvfp4_reject(
            reason, NVFP4_E_UNSUPPORTED,
            "partition %" PRId64 " of the layer has no input scale; a w4a4 kernel needs one: calibrate the checkpoint, or allow w4a16", i);
      }
    }
  }
  if (kernel->m_last != 0 && (kernel->m_first > desc->m_last || kernel->m_last < desc->m_first)) {
    return nvfp4_reject(reason, NVFP4_E_UNSUPPORTED, "serves %s; the layer needs %s", nvfp4_m_text(kernel->m_first, kernel->m_last, range),
                        nvfp4_m_text(desc->m_first, desc->m_last, wanted));
  }
  return own_refusal(kernel->can_implement(desc, reason), "can_implement()", reason);
}

/* Naming a kernel overrides what the policy refuses by default, never what it requires. */
static nvfp4_status check_numerics(const nvfp4_selecting *s, const nvfp4_kernel *kernel, bool named, nvfp4_reason *reason) {
  const nvfp4_numerics *numerics = &kernel->numerics;
  uint32_t require = s->policy.require, allow = s->policy.allow, asked = s->input->policy->require;
  if (numerics->mode == NVFP4_MODE_W4A16 && s->desc.mode == NVFP4_MODE_W4A4 && (allow & NVFP4_ALLOW_W4A16) == 0 && !named) {
    return nvfp4_reject(
        reason, NVFP4_E_POLICY,
        "computes w4a16, activations more precise than the w4a4 layer asks; needs NVFP4_ALLOW=w4a16, or its id in NVFP4_KERNEL");
  }
  if (numerics->numerics_class != NVFP4_CLASS_CANONICAL) {
    if ((require & NVFP4_REQUIRE_CANONICAL) != 0) {
      return nvfp4_reject(reason, NVFP4_E_POLICY,
                          "its class is %s; the policy requires canonical: take that out of NVFP4_REQUIRE to allow it",
                          nvfp4_class_name(numerics->numerics_class));
    }
    if ((allow & NVFP4_ALLOW_BOUNDED) == 0 && !named) {
      return nvfp4_reject(reason, NVFP4_E_POLICY,
                          "its class is %s; on the CPU it needs to be canonical, or NVFP4_ALLOW=bounded, or its id in NVFP4_KERNEL",
                          nvfp4_class_name(numerics->numerics_class));
    }
  }
  if ((require & NVFP4_REQUIRE_BATCH_INVARIANT) != 0 && (numerics->flags & NVFP4_FLAG_BATCH_INVARIANT) == 0) {
    return nvfp4_reject(reason, NVFP4_E_POLICY,
                        "its rows depend on the batch; the policy requires batch_invariant: take that out of NVFP4_REQUIRE or "
                        "VLLM_BATCH_INVARIANT to allow it");
  }
  if ((numerics->flags & NVFP4_FLAG_DETERMINISTIC) == 0) {
    if ((asked & NVFP4_REQUIRE_DETERMINISTIC) != 0) {
      return nvfp4_reject(
          reason, NVFP4_E_POLICY,
          "the same call may give other bits; the policy requires deterministic: take that out of NVFP4_REQUIRE to allow it");
    }
    if ((require & NVFP4_REQUIRE_DETERMINISTIC) != 0 && !named) {
      return nvfp4_reject(reason, NVFP4_E_POLICY,
                          "the same call may give other bits; on CUDA it needs to be deterministic, or its id in NVFP4_KERNEL");
    }
  }
  return NVFP4_OK;
}

static nvfp4_status check_self_test(const nvfp4_selecting *s, const nvfp4_candidate *candidate, nvfp4_reason *reason) {
  if (!s->input->dry_run && candidate->self_test == NVFP4_SELF_TEST_FAILED) {
    const char *why = candidate->self_test_reason;
    return nvfp4_reject(reason, NVFP4_E_INTERNAL, "%s", why != NULL && why[0] != '\0' ? why : "its self-test failed; please report it");
  }
  return NVFP4_OK;
}

void nvfp4_judge(const nvfp4_selecting *s, size_t i, nvfp4_verdict *verdict) {
  const nvfp4_candidate *candidate = &s->input->candidates[i];
  const nvfp4_kernel *kernel = candidate->kernel;
  nvfp4_reason *reason = &verdict->reason;
  const char *missing = candidate->missing_reason != NULL && candidate->missing_reason[0] != '\0' ? candidate->missing_reason : "not there";
  reason->text[0] = '\0';
  if (kernel == NULL && candidate->missing == NVFP4_STAGE_NOT_BUILT) {
    verdict->stage = NVFP4_STAGE_NOT_BUILT;
    nvfp4_reject(reason, NVFP4_E_NOT_BUILT, "%s", missing);
  } else if (check_disabled(s, candidate->id, verdict, reason) != NVFP4_OK) {
    verdict->stage = NVFP4_STAGE_DISABLED;
  } else if (kernel == NULL) {
    verdict->stage = NVFP4_STAGE_PLUGIN_MISSING;
    nvfp4_reject(reason, NVFP4_E_NOT_BUILT, "%s", missing);
  } else if (check_machine(s, candidate, reason) != NVFP4_OK) {
    verdict->stage = NVFP4_STAGE_UNSUPPORTED_MACHINE;
  } else if (check_layer(s, kernel, reason) != NVFP4_OK) {
    verdict->stage = NVFP4_STAGE_CANNOT_IMPLEMENT;
  } else if (check_numerics(s, kernel, verdict->named, reason) != NVFP4_OK) {
    verdict->stage = NVFP4_STAGE_NUMERICS_POLICY;
  } else if (check_self_test(s, candidate, reason) != NVFP4_OK) {
    verdict->stage = NVFP4_STAGE_FAILED_SELF_TEST;
  } else {
    verdict->stage = NVFP4_STAGE_ELIGIBLE;
  }
}
