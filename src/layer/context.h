/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The context: what this computer is, threads, memory, plug-ins, the list of kernels, and what their self-tests gave.
 */
#ifndef NVFP4_LAYER_CONTEXT_H
#define NVFP4_LAYER_CONTEXT_H

#include <nvfp4/kernel.h>
#include <pthread.h>

#include "base/log.h"
#include "base/threads.h"
#include "cuda/cuda.h"
#include "kernels/plugin.h"
#include "select/select.h"

/* Self-tests are kept per device: the CPU, and every CUDA device. */
enum { NVFP4_SELF_TEST_DEVICES = 1 + NVFP4_MAX_GPUS };

typedef struct nvfp4_known_kernel {
  char *id; /* own copy */
  const nvfp4_kernel *kernel;
  nvfp4_stage missing;  /* if kernel is NULL */
  char *missing_reason; /* own copy, if kernel is NULL */
  char backends[64];    /* vLLM's names for it */
  nvfp4_self_test self_test[NVFP4_SELF_TEST_DEVICES];
  char *self_test_reason[NVFP4_SELF_TEST_DEVICES]; /* if failed or unsupported */
} nvfp4_known_kernel;

struct nvfp4_context {
  nvfp4_machine machine;
  nvfp4_threads *threads;
  nvfp4_allocator allocator;
  nvfp4_log log;
  nvfp4_policy policy;   /* strings are own copies */
  nvfp4_tuning *tunings; /* one at most for each device */
  size_t tuning_count;
  nvfp4_cuda *cuda; /* NULL: no driver, or no GPU */
  nvfp4_host host;
  nvfp4_known_kernel
      *kernels; /* plug-ins first, then the registry: the order of preference; then the kernels of plug-ins that were not given */
  size_t kernel_count;
  nvfp4_open_plugin *plugins;
  size_t plugin_count;
  pthread_mutex_t self_test_lock;
};

nvfp4_threads *nvfp4_context_pool(nvfp4_context *context);

/* Runs the self-tests that `device` still lacks, of every kernel that could run there and that the policy does not disable: those of vendors' libraries take seconds. Once per context, device and
 * kernel. */
void nvfp4_context_self_test(nvfp4_context *context, nvfp4_device device, const nvfp4_policy *policy);

/* The kernels as selection wants them; dry_run: without what the self-tests of this computer gave. out has kernel_count entries. */
void nvfp4_context_candidates(const nvfp4_context *context, nvfp4_device device, bool dry_run, nvfp4_candidate *out);

/* tuning_file.c: adds the table at `path`, which must be of the context's machine and, of the CPU, its threads, to context->tunings; warns of times of
 * kernels that the context does not have. */
nvfp4_status nvfp4_tuning_load(nvfp4_context *context, const char *path, nvfp4_reason *reason);

/* self_test.c: runs `kernel` on a small problem, on `device`, and compares with the reference. */
nvfp4_status nvfp4_self_test_kernel(const nvfp4_host *host, const nvfp4_kernel *kernel, nvfp4_device device, nvfp4_reason *reason);

/* layer.c: the policy that counts for a call: the layer's own, or the context's. */
static inline const nvfp4_policy *nvfp4_policy_or_context(const nvfp4_context *context, const nvfp4_policy *policy) {
  return policy != NULL ? policy : &context->policy;
}

#endif
