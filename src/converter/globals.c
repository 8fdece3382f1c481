/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Global scales. A file holds a multiplier, its inverse or the amax; One in six fp32 numbers has no partner of another kind that leads
 * back to it. The number that the first layout stored is therefore carried along as metadata, under the name of the tensor that held it, and counts
 * for every later layout, as long as the number stored now is what it would be converted to: an edited scale makes the old number void.
 */
#define _POSIX_C_SOURCE 200809L
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/reason.h"
#include "converter/converter.h"
#include "format/global.h"

double nvfp4_global_multiplier(float value, nvfp4_global_kind kind) {
  double above = 1, below = 1;
  nvfp4_global_multiply((nvfp4_global){value, kind}, &above, &below);
  return above / below;
}

float nvfp4_global_convert(float value, nvfp4_global_kind from, nvfp4_global_kind to) {
  double above = 1, below = 1;
  if (from == to) {
    return value;
  }
  nvfp4_global_multiply((nvfp4_global){value, from}, &above, &below);
  return (float)(to == NVFP4_GLOBAL_MULTIPLIER ? above / below
                 : to == NVFP4_GLOBAL_DIVISOR  ? below / above
                                               : above * NVFP4_GLOBAL_RANGE / below);
}

void nvfp4_global_text(const nvfp4_stored_global *global, char text[40]) {
  size_t used = 0;
  snprintf(text, 40, "none");
  for (int i = 0; i < global->count; i++) {
    uint32_t bits;
    memcpy(&bits, &global->values[i], sizeof bits);
    used += (size_t)snprintf(text + used, 40 - used, "%s%08x", i > 0 ? "," : "", bits);
  }
}

/* The inverse; false if the text is none that we write. */
static bool parse(const char *text, nvfp4_stored_global *out) {
  out->count = 0;
  if (strcmp(text, "none") == 0) {
    return true;
  }
  for (;;) {
    if (out->count == CONVERT_MAX_PARTS || strspn(text, "0123456789abcdef") != 8) {
      return false;
    }
    uint32_t bits = (uint32_t)strtoul(text, NULL, 16);
    memcpy(&out->values[out->count++], &bits, sizeof bits);
    if (text[8] == '\0') {
      return true;
    }
    if (text[8] != ',') {
      return false;
    }
    text += 9;
  }
}

/* Whether the current numbers are what `origin` would be converted to. */
static bool fits(const nvfp4_stored_global *origin, const nvfp4_stored_global *now, bool weight) {
  int count = origin->count > now->count ? origin->count : now->count;
  if (!weight && (origin->count == 0 || now->count == 0)) {
    return origin->count == 0 || now->count == 0; /* an input scale that the layout between had no place for */
  }
  for (int i = 0; i < count; i++) {
    float was = origin->count > 0 ? origin->values[origin->count > 1 ? i : 0] : 1.0f;
    float is = now->count > 0 ? now->values[now->count > 1 ? i : 0] : 1.0f;
    nvfp4_global_kind was_kind = origin->count > 0 ? origin->kind : NVFP4_GLOBAL_MULTIPLIER;
    nvfp4_global_kind is_kind = now->count > 0 ? now->kind : NVFP4_GLOBAL_MULTIPLIER;
    if (nvfp4_global_convert(was, was_kind, is_kind) != is) {
      return false;
    }
  }
  return true;
}

static nvfp4_status no_memory(const nvfp4_item *item, nvfp4_reason *reason) {
  return nvfp4_reject(reason, NVFP4_E_NOMEM, "no memory for the global scales of %s", item->module);
}

/* Replaces *now by what metadata tell of an earlier layout's number, if they do. */
static nvfp4_status find_origin(const nvfp4_convert_job *job, const nvfp4_item *item, bool weight, nvfp4_stored_global *now,
                                nvfp4_reason *reason) {
  char gguf[256], name[CONVERT_MAX_NAME], key[CONVERT_MAX_NAME + 32], text[64];
  if (!nvfp4_gguf_module(true, item->module, strlen(item->module), gguf, sizeof gguf)) {
    gguf[0] = '\0';
  }
  for (int l = NVFP4_LAYOUT_MODELOPT; l <= NVFP4_LAYOUT_MLX; l++) { /* Comfy's names and kinds are ModelOpt's */
    const nvfp4_convention *convention = &nvfp4_conventions[l];
    const char *suffix = weight ? convention->global : convention->input;
    const char *base = l == NVFP4_LAYOUT_GGUF && gguf[0] != '\0' ? gguf : item->module;
    nvfp4_stored_global origin = {.kind = convention->kind};
    if (suffix == NULL || snprintf(name, sizeof name, "%s%s", base, suffix) >= (int)sizeof name) {
      continue;
    }
    snprintf(key, sizeof key, "nvfp4.global.%s", name);
    if (nvfp4_checkpoint_metadata(job->source, key, text, sizeof text) && parse(text, &origin) && fits(&origin, now, weight)) {
      origin.name = strdup(name);
      if (origin.name == NULL) {
        return no_memory(item, reason);
      }
      free(now->name);
      *now = origin;
      return NVFP4_OK;
    }
  }
  return NVFP4_OK;
}

nvfp4_status nvfp4_convert_globals(const nvfp4_convert_job *job, nvfp4_item *item, nvfp4_reason *reason) {
  const nvfp4_layer_info *layer = item->layer;
  const nvfp4_convention *convention = &nvfp4_conventions[layer->layout];
  for (int w = 0; w < 2; w++) {
    bool weight = w == 0;
    const char *suffix = weight ? convention->global : convention->input;
    nvfp4_stored_global now = {.kind = convention->kind};
    const nvfp4_tensor *tensor = suffix != NULL ? nvfp4_checkpoint_companion(job->source, layer->name, suffix) : NULL;
    if (tensor != NULL && (weight || layer->mode == NVFP4_MODE_W4A4)) {
      now.count = (int)(tensor->bytes / sizeof(float)); /* the reader has seen that there are 1 to 3 */
      memcpy(now.values, tensor->data, tensor->bytes);
    }
    char name[CONVERT_MAX_NAME];
    snprintf(name, sizeof name, "%s%s", layer->name, suffix != NULL ? suffix : "");
    now.name = strdup(name);
    if (now.name == NULL) {
      return no_memory(item, reason);
    }
    bool weight_only = !weight && tensor != NULL && layer->mode != NVFP4_MODE_W4A4; /* a scale that the config says is not used */
    nvfp4_status status = weight_only ? NVFP4_OK : find_origin(job, item, weight, &now, reason);
    *(weight ? &item->weight : &item->input) = now;
    NVFP4_TRY(status);
  }
  item->w4a4 = item->input.count > 0;
  return NVFP4_OK;
}
