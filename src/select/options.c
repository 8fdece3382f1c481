/* SPDX-License-Identifier: Apache-2.0 */
/* The environment: the one file that reads it. */
#include <errno.h>
#include <stdlib.h>

#include "base/reason.h"
#include "select/policy.h"

/* The variable's value; NULL if it is not set, or has nothing but blanks and commas. */
static const char *get(const char *name) {
  const char *value = getenv(name), *list = value;
  nvfp4_list_item item;
  return value != NULL && nvfp4_list_next(&list, &item) ? value : NULL;
}

typedef struct flag_word {
  const char *word;
  uint32_t flag;
} flag_word;

/* Adds the flags of a list of words to *flags. */
static nvfp4_status read_flags(const char *name, const flag_word *words, size_t count, const char *allowed, uint32_t *flags,
                               nvfp4_reason *reason) {
  const char *list = get(name);
  nvfp4_list_item item;
  while (nvfp4_list_next(&list, &item)) {
    size_t i = 0;
    while (i < count && !nvfp4_item_is(item, words[i].word)) {
      i++;
    }
    if (i == count) {
      return nvfp4_reject(reason, NVFP4_E_ARG, "%s has \"%.*s\"; needs a list of: %s", name, item.length < 60 ? (int)item.length : 60,
                          item.text, allowed);
    }
    *flags |= words[i].flag;
  }
  return NVFP4_OK;
}

static nvfp4_status read_batch_invariant(uint32_t *require, nvfp4_reason *reason) {
  const char *value = get("VLLM_BATCH_INVARIANT"), *list = value;
  nvfp4_list_item item, more;
  if (!nvfp4_list_next(&list, &item)) {
    return NVFP4_OK;
  }
  bool one = nvfp4_item_is(item, "1");
  if ((!one && !nvfp4_item_is(item, "0")) || nvfp4_list_next(&list, &more)) {
    return nvfp4_reject(reason, NVFP4_E_ARG, "VLLM_BATCH_INVARIANT is \"%.60s\"; needs 0 or 1", value);
  }
  *require |= one ? NVFP4_REQUIRE_BATCH_INVARIANT : 0;
  return NVFP4_OK;
}

static nvfp4_status read_policy(nvfp4_policy *policy, nvfp4_reason *reason) {
  static const flag_word requirements[] = {{"canonical", NVFP4_REQUIRE_CANONICAL},
                                           {"batch_invariant", NVFP4_REQUIRE_BATCH_INVARIANT},
                                           {"deterministic", NVFP4_REQUIRE_DETERMINISTIC}};
  static const flag_word allowances[] = {{"bounded", NVFP4_ALLOW_BOUNDED}, {"w4a16", NVFP4_ALLOW_W4A16}};
  NVFP4_TRY(read_flags("NVFP4_REQUIRE", requirements, 3, "canonical, batch_invariant, deterministic", &policy->require, reason));
  NVFP4_TRY(read_flags("NVFP4_ALLOW", allowances, 2, "bounded, w4a16", &policy->allow, reason));
  NVFP4_TRY(read_batch_invariant(&policy->require, reason));
  policy->env_kernel = get("NVFP4_KERNEL");
  policy->disable = get("NVFP4_DISABLE");
  policy->vllm_disable = get("VLLM_DISABLED_KERNELS");
  policy->vllm_backend = get("VLLM_NVFP4_GEMM_BACKEND");
  if (policy->vllm_backend != NULL) {
    NVFP4_TRY(nvfp4_vllm_backend_check(policy->vllm_backend, reason));
  }
  return NVFP4_OK;
}

static nvfp4_status read_threads(int *out, nvfp4_reason *reason) {
  enum { MOST = 4096 };
  const char *value = get("NVFP4_THREADS");
  nvfp4_list_item item;
  if (value == NULL) {
    return NVFP4_OK;
  }
  const char *list = value;
  long threads = -1;
  if (nvfp4_list_next(&list, &item) && item.text[0] >= '0' && item.text[0] <= '9') {
    char *end;
    errno = 0;
    threads = strtol(item.text, &end, 10);
    threads = errno == 0 && end == item.text + item.length && !nvfp4_list_next(&list, &item) ? threads : -1;
  }
  if (threads < 0 || threads > MOST) {
    return nvfp4_reject(reason, NVFP4_E_ARG, "NVFP4_THREADS is \"%.60s\"; needs 0 (one for every processor) to %d", value, MOST);
  }
  *out = (int)threads;
  return NVFP4_OK;
}

nvfp4_status nvfp4_options_from_env(nvfp4_options *out, nvfp4_reason *reason) {
  if (out == NULL) {
    return nvfp4_reject(reason, NVFP4_E_ARG, "out is NULL; needs a place for the options");
  }
  nvfp4_options options = {.struct_size = sizeof options};
  options.policy.struct_size = sizeof options.policy;
  NVFP4_TRY(read_policy(&options.policy, reason));
  NVFP4_TRY(read_threads(&options.threads, reason));
  options.plugins = get("NVFP4_PLUGINS");
  options.tuning = get("NVFP4_TUNING");
  *out = options;
  return NVFP4_OK;
}
