/* SPDX-License-Identifier: Apache-2.0 */
/* What the tests of this room share: conversions in a folder of their own, comparison of checkpoints. */
#ifndef NVFP4_TESTS_CONVERTER_SUPPORT_H
#define NVFP4_TESTS_CONVERTER_SUPPORT_H

#include <nvfp4/convert.h>

#include "converter/converter.h"
#include "unit/quantizer/quantizer_support.h"

typedef struct told { /* what a conversion told */
  int losses, remarks;
  char first[512], last_remark[512];
} told;

static inline void hear(void *cookie, bool loss, const char *tensor, const char *text) {
  told *t = cookie;
  if (loss && t->losses++ == 0) {
    snprintf(t->first, sizeof t->first, "%s: %s", tensor, text);
  } else if (!loss) {
    t->remarks++;
    snprintf(t->last_remark, sizeof t->last_remark, "%s", text);
  }
}

static inline nvfp4_status convert(const char *input, const char *output, nvfp4_layout_kind layout, bool allow_lossy, told *t,
                                   nvfp4_convert_stats *stats, nvfp4_reason *reason) {
  told none = {0};
  const nvfp4_convert_options options = {
      .struct_size = sizeof options, .layout = layout, .allow_lossy = allow_lossy, .tell = hear, .cookie = t != NULL ? t : &none};
  return nvfp4_convert_checkpoint(input, output, &options, stats, reason);
}

/* A name in the folder that says what it holds: a file for GGUF, otherwise a folder. */
static inline char *output_path(const char *folder, const char *name, nvfp4_layout_kind layout, char path[512]) {
  int length = snprintf(path, 512, "%s/%s-%s%s", folder, name, nvfp4_layout_kind_name(layout), layout == NVFP4_LAYOUT_GGUF ? ".gguf" : "");
  assert_true(length > 0 && length < 512);
  return path;
}

static inline nvfp4_checkpoint *open_checkpoint(const char *path) {
  nvfp4_reason reason = {0};
  nvfp4_checkpoint *checkpoint = NULL;
  assert_ok(nvfp4_checkpoint_open(path, 0, &checkpoint, &reason), reason);
  return checkpoint;
}

/* Every tensor of `a` that is not `but` must be in `b`, and the other way round: name, type, shape, bytes. */
static inline void assert_same_tensors(const char *path_a, const char *path_b, const char *but) {
  nvfp4_checkpoint *a = open_checkpoint(path_a), *b = open_checkpoint(path_b);
  assert_int_equal(nvfp4_checkpoint_tensor_count(a), nvfp4_checkpoint_tensor_count(b));
  for (size_t i = 0; i < nvfp4_checkpoint_tensor_count(a); i++) {
    const nvfp4_tensor *x = nvfp4_checkpoint_tensor(a, i), *y = nvfp4_checkpoint_find(b, x->name);
    if (but != NULL && strcmp(x->name, but) == 0) {
      continue;
    }
    if (y == NULL || x->dtype != y->dtype || x->rank != y->rank || memcmp(x->shape, y->shape, (size_t)x->rank * sizeof x->shape[0]) != 0 ||
        x->bytes != y->bytes || memcmp(x->data, y->data, (size_t)x->bytes) != 0) {
      fail_msg("%s of %s is not the same in %s", x->name, path_a, path_b);
    }
  }
  nvfp4_checkpoint_close(a);
  nvfp4_checkpoint_close(b);
}

#endif
