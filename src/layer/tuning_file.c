/* SPDX-License-Identifier: Apache-2.0 */
/* Tuning tables as files. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/new_file.h"
#include "base/reason.h"
#include "layer/context.h"

/* -------------------------------------------------------------------------------------------------------------------- read */

enum { MOST_BYTES = 1 << 24 }; /* more than 100000 times */

/* The file as a terminated text, malloc'ed. */
static nvfp4_status read_text(const char *path, char **out, nvfp4_reason *reason) {
  FILE *file = fopen(path, "rb");
  if (file == NULL) {
    return nvfp4_reject(reason, NVFP4_E_IO, "cannot be opened: %s; needs a file that `nvfp4 tune` wrote, or no table", strerror(errno));
  }
  char *text = malloc(MOST_BYTES);
  size_t bytes = text != NULL ? fread(text, 1, MOST_BYTES, file) : 0;
  bool failed = ferror(file) != 0;
  fclose(file);
  nvfp4_status status = NVFP4_OK;
  if (text == NULL) {
    return nvfp4_reject(reason, NVFP4_E_NOMEM, "out of memory for its text");
  } else if (failed) {
    status = nvfp4_reject(reason, NVFP4_E_IO, "cannot be read; needs a file that `nvfp4 tune` wrote, or no table");
  } else if (bytes == MOST_BYTES || memchr(text, '\0', bytes) != NULL) {
    status = nvfp4_reject(reason, NVFP4_E_FORMAT, "is no text of less than %d bytes; needs a file that `nvfp4 tune` wrote", MOST_BYTES);
  }
  if (status != NVFP4_OK) {
    free(text);
    return status;
  }
  text[bytes] = '\0';
  *out = text;
  return NVFP4_OK;
}

static bool is_there(const nvfp4_context *context, const char *id) {
  for (size_t i = 0; i < context->kernel_count; i++) {
    if (strcmp(context->kernels[i].id, id) == 0) {
      return context->kernels[i].kernel != NULL;
    }
  }
  return false;
}

/* Drops times of kernels that are not there, so that the others' count alone; one warning a kernel. */
static void drop_unknown(const nvfp4_context *context, nvfp4_tuning *tuning) {
  size_t kept = 0;
  for (size_t i = 0; i < tuning->count; i++) {
    const char *id = tuning->times[i].kernel;
    if (is_there(context, id)) {
      tuning->times[kept++] = tuning->times[i];
      continue;
    }
    bool said = false;
    for (size_t j = i + 1; j < tuning->count && !said; j++) { /* later ones have not been moved yet */
      said = strcmp(tuning->times[j].kernel, id) == 0;
    }
    if (!said) {
      nvfp4_log_line(&context->log, NVFP4_LOG_WARNING,
                     "tuning table %s: there is no kernel %s here; its times are left out: run `nvfp4 tune` again", tuning->file, id);
    }
  }
  tuning->count = kept;
}

/* A second table of one device would never count. */
static nvfp4_status check_device(const nvfp4_context *context, const nvfp4_tuning *tuning, nvfp4_reason *reason) {
  for (size_t i = 0; i < context->tuning_count; i++) {
    const nvfp4_tuning *other = &context->tunings[i];
    if (tuning->gpu == NULL ? other->gpu == NULL : other->gpu != NULL && strcmp(tuning->gpu, other->gpu) == 0) {
      return nvfp4_reject(reason, NVFP4_E_ARG, "is of the %s, as %.200s is; needs one table for each device",
                          tuning->gpu != NULL ? tuning->gpu : "CPU", other->file);
    }
  }
  return NVFP4_OK;
}

nvfp4_status nvfp4_tuning_load(nvfp4_context *context, const char *path, nvfp4_reason *reason) {
  char *text = NULL;
  nvfp4_tuning tuning = {0};
  nvfp4_tuning *grown = realloc(context->tunings, (context->tuning_count + 1) * sizeof *grown);
  if (grown == NULL) {
    return nvfp4_reject(reason, NVFP4_E_NOMEM, "tuning table %s: out of memory", path);
  }
  context->tunings = grown;
  nvfp4_reason why = {.text = ""};
  nvfp4_status status = read_text(path, &text, &why);
  if (status == NVFP4_OK) {
    status = nvfp4_tuning_parse(text, path, &context->machine, nvfp4_threads_count(context->threads), &tuning, &why);
    free(text);
  }
  status = status == NVFP4_OK ? check_device(context, &tuning, &why) : status;
  if (status != NVFP4_OK) {
    nvfp4_tuning_free(&tuning);
    return nvfp4_reject(reason, status, "tuning table %s: %s", path, why.text);
  }
  drop_unknown(context, &tuning);
  context->tunings[context->tuning_count++] = tuning;
  return NVFP4_OK;
}

/* ------------------------------------------------------------------------------------------------------------------- write */

nvfp4_status nvfp4_tuning_save(const nvfp4_context *context, const char *path, nvfp4_device device, const nvfp4_tuned_time *times,
                               size_t count, nvfp4_reason *reason) {
  if (context == NULL || path == NULL || (times == NULL && count > 0)) {
    return nvfp4_reject(reason, NVFP4_E_ARG, "context, path or times is NULL; a tuning table needs them");
  }
  if (device.kind == NVFP4_DEVICE_CUDA ? device.ordinal < 0 || device.ordinal >= context->machine.gpu_count
                                       : device.kind != NVFP4_DEVICE_CPU) {
    return nvfp4_reject(reason, NVFP4_E_ARG, "%s: device kind %d, ordinal %d; needs the CPU or one of this computer's %d GPUs", path,
                        (int)device.kind, device.ordinal, context->machine.gpu_count);
  }
  for (size_t i = 0; i < count; i++) {
    if (times[i].kernel == NULL) {
      return nvfp4_reject(reason, NVFP4_E_ARG, "time %zu has no kernel; needs its id", i);
    }
  }
  int threads = nvfp4_threads_count(context->threads);
  char *text = nvfp4_tuning_print(&context->machine, device, threads, times, count);
  if (text == NULL) {
    return nvfp4_reject(reason, NVFP4_E_NOMEM, "%s: no memory to write it", path);
  }
  /* Read back first: what is written can be read. */
  nvfp4_tuning tuning;
  nvfp4_reason why = {.text = ""};
  nvfp4_status status = nvfp4_tuning_parse(text, path, &context->machine, threads, &tuning, &why);
  if (status == NVFP4_OK) {
    nvfp4_tuning_free(&tuning);
    status = nvfp4_new_file_save(path, text, strlen(text), reason);
  } else {
    nvfp4_reject(reason, status, "%s is not written: %s", path, why.text);
  }
  free(text);
  return status;
}
