/* SPDX-License-Identifier: Apache-2.0 */
#define _POSIX_C_SOURCE 200809L /* strdup, strndup */
#include "layer/context.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/reason.h"
#include "base/sized.h"
#include "format/activation.h"
#include "format/e2m1.h"
#include "format/e4m3.h"
#include "format/half.h"
#include "kernels/cuda/fp4_finish.h"
#include "kernels/cuda/fp4_layout.h"
#include "kernels/cuda/quantise.h"
#include "kernels/registry.h"

/* ------------------------------------------------------------------------------------------------- what kernels call */

static void *host_alloc(void *cookie, size_t bytes, size_t alignment) {
  const nvfp4_context *context = cookie;
  return context->allocator.alloc(context->allocator.cookie, bytes, alignment);
}

static void host_free(void *cookie, void *pointer, size_t bytes) {
  const nvfp4_context *context = cookie;
  context->allocator.free(context->allocator.cookie, pointer, bytes);
}

static void host_parallel_for(void *cookie, size_t count, nvfp4_task_fn task, void *arg) {
  const nvfp4_context *context = cookie;
  nvfp4_parallel_for(context->threads, count, task, arg);
}

static int host_threads(void *cookie) {
  const nvfp4_context *context = cookie;
  return nvfp4_threads_count(context->threads);
}

static nvfp4_status host_cuda_quantise(void *cookie, const nvfp4_kernel_args *args, int64_t k_padded, nvfp4_scale_layout layout,
                                       uint8_t *codes, uint8_t *scales, nvfp4_reason *reason) {
  const nvfp4_context *context = cookie;
  return cuda_quantise(&context->host, args, k_padded, layout, codes, scales, reason);
}

static nvfp4_status host_cuda_finish(void *cookie, const nvfp4_kernel_args *args, const float *acc, int64_t ld_acc_elems,
                                     nvfp4_reason *reason) {
  const nvfp4_context *context = cookie;
  return cuda_fp4_finish(&context->host, args, acc, ld_acc_elems, reason);
}

static nvfp4_status host_cuda_alloc(void *cookie, size_t bytes, void **out, nvfp4_reason *reason) {
  const nvfp4_context *context = cookie;
  return nvfp4_cuda_alloc(context->cuda, bytes, out, reason);
}

static void host_cuda_free(void *cookie, void *memory) {
  const nvfp4_context *context = cookie;
  nvfp4_cuda_free(context->cuda, memory);
}

static nvfp4_status host_cuda_copy(void *cookie, void *to, size_t to_stride, const void *from, size_t from_stride, size_t row_bytes,
                                   size_t rows, void *stream, nvfp4_reason *reason) {
  const nvfp4_context *context = cookie;
  return nvfp4_cuda_copy_rows(context->cuda, to, to_stride, from, from_stride, row_bytes, rows, stream, reason);
}

static nvfp4_status host_cuda_wait(void *cookie, void *stream, nvfp4_reason *reason) {
  const nvfp4_context *context = cookie;
  return nvfp4_cuda_check(context->cuda, "cuStreamSynchronize", nvfp4_cuda_api(context->cuda)->stream_synchronize(stream), reason);
}

static nvfp4_status host_cuda_device(void *cookie, int *ordinal, int *sm, nvfp4_reason *reason) {
  const nvfp4_context *context = cookie;
  NVFP4_TRY(nvfp4_cuda_check(context->cuda, "cuCtxGetDevice", nvfp4_cuda_api(context->cuda)->context_get_device(ordinal), reason));
  if (*ordinal >= context->machine.gpu_count) {
    return nvfp4_reject(reason, NVFP4_E_DEVICE, "the current CUDA context is of device %d; the context knows %d", *ordinal,
                        context->machine.gpu_count);
  }
  *sm = context->machine.gpus[*ordinal].sm;
  return NVFP4_OK;
}

static nvfp4_host make_host(nvfp4_context *context) {
  return (nvfp4_host){
      .struct_size = sizeof(nvfp4_host),
      .cookie = context,
      .alloc = host_alloc,
      .free = host_free,
      .parallel_for = host_parallel_for,
      .threads = host_threads,
      .reject = nvfp4_reject,
      .to_f32 = nvfp4_to_f32,
      .from_f32 = nvfp4_from_f32,
      .quantise_row = nvfp4_quantise_activation_row,
      .e2m1 = nvfp4_e2m1_table,
      .e4m3 = nvfp4_e4m3_table,
      .cuda = context->cuda,
      .cuda_fp4 = &nvfp4_layout_cuda_fp4,
      .cuda_quantise = host_cuda_quantise,
      .cuda_finish = host_cuda_finish,
      .cuda_alloc = host_cuda_alloc,
      .cuda_free = host_cuda_free,
      .cuda_copy = host_cuda_copy,
      .cuda_wait = host_cuda_wait,
      .cuda_device = host_cuda_device,
  };
}

/* --------------------------------------------------------------------------------------------------- the list of kernels */

static bool is_known(const nvfp4_context *context, const char *id) {
  for (size_t i = 0; i < context->kernel_count; i++) {
    if (strcmp(context->kernels[i].id, id) == 0) {
      return true;
    }
  }
  return false;
}

static nvfp4_status add_kernel(nvfp4_context *context, const char *id, const nvfp4_kernel *kernel, nvfp4_stage missing,
                               const char *missing_reason, nvfp4_reason *reason) {
  if (is_known(context, id)) {
    return nvfp4_reject(reason, NVFP4_E_ARG, "two kernels have the id %s; open each plug-in once and give its kernels ids of their own",
                        id);
  }
  nvfp4_known_kernel *grown = realloc(context->kernels, (context->kernel_count + 1) * sizeof *grown);
  if (grown == NULL) {
    return nvfp4_reject(reason, NVFP4_E_NOMEM, "out of memory for the list of kernels");
  }
  context->kernels = grown;
  nvfp4_known_kernel entry = {.id = strdup(id), .kernel = kernel, .missing = missing};
  entry.missing_reason = missing_reason != NULL ? strdup(missing_reason) : NULL;
  if (entry.id == NULL || (missing_reason != NULL && entry.missing_reason == NULL)) {
    free(entry.id);
    free(entry.missing_reason);
    return nvfp4_reject(reason, NVFP4_E_NOMEM, "out of memory for the list of kernels");
  }
  nvfp4_vllm_backends_of(id, entry.backends, sizeof entry.backends);
  context->kernels[context->kernel_count++] = entry;
  return NVFP4_OK;
}

/* A plug-in that cannot be opened becomes one row of its own. */
static nvfp4_status add_plugin(nvfp4_context *context, const char *path, nvfp4_reason *reason) {
  nvfp4_open_plugin opened;
  nvfp4_reason why = {0};
  if (nvfp4_plugin_open(path, &context->host, &opened, &why) != NVFP4_OK) {
    nvfp4_log_line(&context->log, NVFP4_LOG_WARNING, "%s", why.text);
    char id[256];
    const char *name = strrchr(path, '/') != NULL ? strrchr(path, '/') + 1 : path;
    snprintf(id, sizeof id, "plugin:%s", name);
    return add_kernel(context, id, NULL, NVFP4_STAGE_PLUGIN_MISSING, why.text, reason);
  }
  nvfp4_open_plugin *grown = realloc(context->plugins, (context->plugin_count + 1) * sizeof *grown);
  if (grown == NULL) {
    nvfp4_plugin_close(&opened);
    return nvfp4_reject(reason, NVFP4_E_NOMEM, "out of memory for the list of plug-ins");
  }
  context->plugins = grown;
  context->plugins[context->plugin_count++] = opened;
  for (size_t i = 0; i < opened.plugin->kernel_count; i++) {
    const nvfp4_kernel *kernel = opened.plugin->kernels[i];
    NVFP4_TRY(add_kernel(context, kernel->id, kernel, NVFP4_STAGE_ELIGIBLE, NULL, reason));
  }
  return NVFP4_OK;
}

/* add(context, path) for every path of a list; NULL: an empty one. */
static nvfp4_status for_each_path(nvfp4_context *context, const char *list,
                                  nvfp4_status (*add)(nvfp4_context *context, const char *path, nvfp4_reason *reason),
                                  nvfp4_reason *reason) {
  while (list != NULL && *list != '\0') {
    list += strspn(list, ", \t");
    size_t length = strcspn(list, ",");
    size_t trimmed = length;
    while (trimmed > 0 && (list[trimmed - 1] == ' ' || list[trimmed - 1] == '\t')) {
      trimmed--;
    }
    if (trimmed > 0) {
      char *path = strndup(list, trimmed);
      if (path == NULL) {
        return nvfp4_reject(reason, NVFP4_E_NOMEM, "out of memory for a path");
      }
      nvfp4_status status = add(context, path, reason);
      free(path);
      NVFP4_TRY(status);
    }
    list += length;
  }
  return NVFP4_OK;
}

/* The registry, and then what would come before it if its plug-in had been given. */
static nvfp4_status add_registry(nvfp4_context *context, nvfp4_reason *reason) {
  size_t count;
  const nvfp4_registry_entry *entries = nvfp4_registry(&count);
  for (size_t i = 0; i < count; i++) {
    NVFP4_TRY(add_kernel(context, entries[i].id, entries[i].kernel, NVFP4_STAGE_NOT_BUILT, entries[i].not_built, reason));
  }
  const nvfp4_plugin_entry *plugins = nvfp4_plugin_kernels(&count);
  for (size_t i = 0; i < count; i++) {
    if (!is_known(context, plugins[i].id)) {
      NVFP4_TRY(add_kernel(context, plugins[i].id, NULL, NVFP4_STAGE_PLUGIN_MISSING, plugins[i].missing, reason));
    }
  }
  return NVFP4_OK;
}

/* ---------------------------------------------------------------------------------------------------- making and freeing */

/* Replaces a borrowed string by a copy. */
static nvfp4_status own_string(const char **text, nvfp4_reason *reason) {
  if (*text != NULL) {
    *text = strdup(*text);
    if (*text == NULL) {
      return nvfp4_reject(reason, NVFP4_E_NOMEM, "out of memory for the policy");
    }
  }
  return NVFP4_OK;
}

static nvfp4_status own_policy(nvfp4_context *context, const nvfp4_policy *policy, nvfp4_reason *reason) {
  const char *const borrowed[] = {policy->kernel, policy->env_kernel, policy->vllm_backend, policy->disable, policy->vllm_disable};
  const char **own[] = {&context->policy.kernel, &context->policy.env_kernel, &context->policy.vllm_backend, &context->policy.disable,
                        &context->policy.vllm_disable};
  context->policy.struct_size = sizeof context->policy;
  context->policy.require = policy->require;
  context->policy.allow = policy->allow;
  context->policy.max_layouts = policy->max_layouts;
  for (size_t i = 0; i < sizeof own / sizeof own[0]; i++) {
    *own[i] = borrowed[i];
    nvfp4_status status = own_string(own[i], reason);
    if (status != NVFP4_OK) {
      return status; /* what is not copied yet is NULL: destroy frees the rest */
    }
  }
  return NVFP4_OK;
}

static nvfp4_status fill_context(nvfp4_context *context, const nvfp4_options *options, nvfp4_reason *reason) {
  context->log = (nvfp4_log){options->log, options->log_cookie};
  context->allocator = options->allocator.alloc != NULL ? options->allocator : nvfp4_default_allocator;
  if (context->allocator.free == NULL) {
    return nvfp4_reject(reason, NVFP4_E_ARG, "the allocator has alloc but no free; give both or neither");
  }
  NVFP4_TRY(own_policy(context, &options->policy, reason));
  NVFP4_TRY(nvfp4_threads_create(options->threads, options->parallel_for, options->parallel_for_cookie, &context->threads, reason));
  nvfp4_machine_probe(&context->machine);
  nvfp4_reason why = {0};
  if (context->machine.gpu_count > 0 && nvfp4_cuda_open(NVFP4_CUDA_DRIVER, &context->cuda, &why) != NVFP4_OK) {
    context->machine.gpu_count = 0; /* the driver answered the probe and no longer does: the CPU still works */
    snprintf(context->machine.cuda_missing, sizeof context->machine.cuda_missing, "%.127s", why.text);
  }
  context->host = make_host(context);
  NVFP4_TRY(for_each_path(context, options->plugins, add_plugin, reason));
  NVFP4_TRY(add_registry(context, reason));
  return for_each_path(context, options->tuning, nvfp4_tuning_load, reason);
}

nvfp4_status nvfp4_context_create(const nvfp4_options *options, nvfp4_context **out, nvfp4_reason *reason) {
  if (out == NULL) {
    return nvfp4_reject(reason, NVFP4_E_ARG, "out is NULL; needs a place for the context");
  }
  nvfp4_options own;
  NVFP4_TRY(nvfp4_sized_read(options, "nvfp4_options", &own, sizeof own, reason));
  nvfp4_context *context = calloc(1, sizeof *context);
  if (context == NULL) {
    return nvfp4_reject(reason, NVFP4_E_NOMEM, "out of memory for a context");
  }
  pthread_mutex_init(&context->self_test_lock, NULL);
  nvfp4_status status = fill_context(context, &own, reason);
  if (status != NVFP4_OK) {
    nvfp4_context_destroy(context);
    return status;
  }
  *out = context;
  return NVFP4_OK;
}

void nvfp4_context_destroy(nvfp4_context *context) {
  if (context == NULL) {
    return;
  }
  for (size_t i = 0; i < context->kernel_count; i++) {
    free(context->kernels[i].id);
    free(context->kernels[i].missing_reason);
    for (int device = 0; device < NVFP4_SELF_TEST_DEVICES; device++) {
      free(context->kernels[i].self_test_reason[device]);
    }
  }
  free(context->kernels);
  for (size_t i = 0; i < context->plugin_count; i++) {
    nvfp4_plugin_close(&context->plugins[i]);
  }
  free(context->plugins);
  for (size_t i = 0; i < context->tuning_count; i++) {
    nvfp4_tuning_free(&context->tunings[i]);
  }
  free(context->tunings);
  nvfp4_threads_destroy(context->threads);
  nvfp4_cuda_close(context->cuda);
  free((char *)context->policy.kernel);
  free((char *)context->policy.env_kernel);
  free((char *)context->policy.vllm_backend);
  free((char *)context->policy.disable);
  free((char *)context->policy.vllm_disable);
  pthread_mutex_destroy(&context->self_test_lock);
  free(context);
}

const nvfp4_machine *nvfp4_context_machine(const nvfp4_context *context) { return &context->machine; }

int nvfp4_context_threads(const nvfp4_context *context) { return nvfp4_threads_count(context->threads); }

nvfp4_threads *nvfp4_context_pool(nvfp4_context *context) { return context->threads; }

/* ---------------------------------------------------------------------------------------------------------- self-tests */

/* The machine as kernels of `device` see it: of its GPUs that one alone. */
static nvfp4_machine machine_of(const nvfp4_context *context, nvfp4_device device) {
  nvfp4_machine machine = context->machine;
  if (device.kind == NVFP4_DEVICE_CUDA && device.ordinal < machine.gpu_count) {
    machine.gpus[0] = machine.gpus[device.ordinal];
    machine.gpu_count = 1;
  }
  return machine;
}

static int device_slot(nvfp4_device device) { return device.kind == NVFP4_DEVICE_CPU ? 0 : 1 + device.ordinal; }

void nvfp4_context_self_test(nvfp4_context *context, nvfp4_device device, const nvfp4_policy *policy) {
  int slot = device_slot(device);
  const nvfp4_machine machine = machine_of(context, device);
  if (device.kind == NVFP4_DEVICE_CUDA && device.ordinal >= context->machine.gpu_count) {
    return; /* there is no such device: selection says so */
  }
  pthread_mutex_lock(&context->self_test_lock);
  for (size_t i = 0; i < context->kernel_count; i++) {
    nvfp4_known_kernel *known = &context->kernels[i];
    if (known->kernel == NULL || known->kernel->device != device.kind || known->self_test[slot] != NVFP4_SELF_TEST_NOT_RUN ||
        nvfp4_policy_disables(policy, known->id) || known->kernel->is_supported(&machine, NULL) != NVFP4_OK) {
      continue;
    }
    nvfp4_reason why = {0};
    nvfp4_status status = nvfp4_self_test_kernel(&context->host, known->kernel, device, &why);
    if (status == NVFP4_OK) {
      known->self_test[slot] = NVFP4_SELF_TEST_PASSED;
    } else {
      bool missing = status == NVFP4_E_MACHINE;
      nvfp4_log_line(&context->log, missing ? NVFP4_LOG_INFO : NVFP4_LOG_WARNING, "%s%s%s", missing ? known->id : "", missing ? ": " : "",
                     why.text);
      known->self_test_reason[slot] = strdup(why.text);
      known->self_test[slot] = missing ? NVFP4_SELF_TEST_UNSUPPORTED : NVFP4_SELF_TEST_FAILED;
    }
  }
  pthread_mutex_unlock(&context->self_test_lock);
}

void nvfp4_context_candidates(const nvfp4_context *context, nvfp4_device device, bool dry_run, nvfp4_candidate *out) {
  int slot = device_slot(device);
  for (size_t i = 0; i < context->kernel_count; i++) {
    const nvfp4_known_kernel *known = &context->kernels[i];
    out[i] =
        (nvfp4_candidate){.id = known->id, .kernel = known->kernel, .missing = known->missing, .missing_reason = known->missing_reason};
    if (!dry_run) {
      out[i].self_test = known->self_test[slot];
      out[i].self_test_reason = known->self_test_reason[slot];
    }
  }
}

/* ---------------------------------------------------------------------------------------------------------- the list shown */

size_t nvfp4_kernel_count(const nvfp4_context *context) { return context->kernel_count; }

nvfp4_status nvfp4_kernel_get(const nvfp4_context *context, size_t index, const nvfp4_machine *machine, nvfp4_kernel_info *out,
                              nvfp4_reason *why_not) {
  if (out == NULL || why_not == NULL || index >= context->kernel_count) {
    return nvfp4_reject(why_not, NVFP4_E_ARG, "kernel %zu of %zu; needs a smaller index, a place for the answer and one for the reason",
                        index, context->kernel_count);
  }
  const nvfp4_known_kernel *known = &context->kernels[index];
  why_not->text[0] = '\0';
  *out = (nvfp4_kernel_info){.id = known->id,
                             .summary = "",
                             .layout = "",
                             .order = "",
                             .verified = "",
                             .stage = NVFP4_STAGE_ELIGIBLE,
                             .backends = known->backends};
  const nvfp4_kernel *kernel = known->kernel;
  if (kernel == NULL) {
    out->stage = known->missing;
    nvfp4_reject(why_not, NVFP4_E_NOT_BUILT, "%s", known->missing_reason);
  } else {
    out->summary = kernel->summary;
    out->layout = kernel->layout->name;
    out->mode = kernel->numerics.mode;
    out->numerics_class = kernel->numerics.numerics_class;
    out->flags = kernel->numerics.flags;
    out->order = kernel->numerics.order;
    out->device = kernel->device;
    out->verified = kernel->verified;
    const nvfp4_policy *policy = &context->policy;
    if (nvfp4_policy_disables(policy, known->id)) {
      out->stage = NVFP4_STAGE_DISABLED;
      nvfp4_reject(why_not, NVFP4_E_POLICY, "disabled by the policy; take it from the list of disabled kernels");
    } else if (kernel->is_supported(machine != NULL ? machine : &context->machine, why_not) != NVFP4_OK) {
      out->stage = NVFP4_STAGE_UNSUPPORTED_MACHINE;
    }
  }
  out->reason = why_not->text;
  return NVFP4_OK;
}
