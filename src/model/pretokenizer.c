/* SPDX-License-Identifier: Apache-2.0 */
#include "model/pretokenizer.h"

#include <stdlib.h>
#include <string.h>

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include "base/reason.h"

#define MAX_STEPS 16

const char nvfp4_pattern_gpt2[] = "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+";
const char nvfp4_pattern_digit[] = "\\p{N}";
const char nvfp4_pattern_digits[] = "\\p{N}+";

/* Meta-Llama-3 and Qwen2, from their tokenizer.json. They differ in how many digits stay together. */
static const char pattern_llama3[] =
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|"
    "\\s+(?!\\S)|\\s+";
static const char pattern_qwen2[] =
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|"
    "\\s+(?!\\S)|\\s+";

struct nvfp4_pretokenizer {
  pcre2_code *steps[MAX_STEPS];
  size_t count;
};

nvfp4_status nvfp4_pretokenizer_create(nvfp4_pretokenizer **out, nvfp4_reason *reason) {
  *out = calloc(1, sizeof **out);
  return *out != NULL ? NVFP4_OK : nvfp4_reject(reason, NVFP4_E_NOMEM, "out of memory for the pre-tokenizer");
}

void nvfp4_pretokenizer_destroy(nvfp4_pretokenizer *pretokenizer) {
  for (size_t i = 0; pretokenizer != NULL && i < pretokenizer->count; i++) {
    pcre2_code_free(pretokenizer->steps[i]);
  }
  free(pretokenizer);
}

nvfp4_status nvfp4_pretokenizer_add(nvfp4_pretokenizer *pretokenizer, const char *pattern, size_t bytes, nvfp4_reason *reason) {
  if (pretokenizer->count == MAX_STEPS) {
    return nvfp4_reject(reason, NVFP4_E_UNSUPPORTED, "the pre-tokenizer has more than %d steps", MAX_STEPS);
  }
  int error;
  PCRE2_SIZE offset;
  pcre2_code *code = pcre2_compile((PCRE2_SPTR)pattern, bytes, PCRE2_UTF | PCRE2_UCP, &error, &offset, NULL);
  if (code == NULL) {
    PCRE2_UCHAR text[128] = "";
    pcre2_get_error_message(error, text, sizeof text);
    return nvfp4_reject(reason, NVFP4_E_UNSUPPORTED, "the pre-tokenizer's expression \"%.*s\" does not compile: %s at %zu",
                        (int)(bytes < 200 ? bytes : 200), pattern, (const char *)text, (size_t)offset);
  }
  /* Without the compiler of PCRE2 (some systems forbid it) matching is slower and the same. */
  (void)pcre2_jit_compile(code, PCRE2_JIT_COMPLETE);
  pretokenizer->steps[pretokenizer->count++] = code;
  return NVFP4_OK;
}

nvfp4_status nvfp4_pretokenizer_add_named(nvfp4_pretokenizer *pretokenizer, const char *name, size_t bytes, nvfp4_reason *reason) {
  static const struct {
    const char *name;
    const char *patterns[2];
  } known[] = {
      {"gpt-2", {nvfp4_pattern_gpt2, NULL}},
      {"gpt2", {nvfp4_pattern_gpt2, NULL}},
      {"smollm", {nvfp4_pattern_digit, nvfp4_pattern_gpt2}},
      {"starcoder", {nvfp4_pattern_digit, nvfp4_pattern_gpt2}},
      {"llama-bpe", {pattern_llama3, NULL}},
      {"llama3", {pattern_llama3, NULL}},
      {"qwen2", {pattern_qwen2, NULL}},
  };
  for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
    if (strlen(known[i].name) == bytes && memcmp(known[i].name, name, bytes) == 0) {
      for (int step = 0; step < 2 && known[i].patterns[step] != NULL; step++) {
        NVFP4_TRY(nvfp4_pretokenizer_add(pretokenizer, known[i].patterns[step], strlen(known[i].patterns[step]), reason));
      }
      return NVFP4_OK;
    }
  }
  return nvfp4_reject(reason, NVFP4_E_UNSUPPORTED,
                      "pre-tokenizer \"%.*s\"; this library knows gpt-2, smollm, starcoder, llama-bpe and qwen2",
                      (int)(bytes < 100 ? bytes : 100), name);
}

typedef struct split_call {
  const nvfp4_pretokenizer *pretokenizer;
  nvfp4_piece_fn piece;
  void *cookie;
  pcre2_match_data *match[MAX_STEPS]; /* one a step: steps are nested */
} split_call;

static nvfp4_status refuse_match(int error, const pcre2_match_data *match, nvfp4_reason *reason) {
  if (error <= PCRE2_ERROR_UTF8_ERR1 && error >= PCRE2_ERROR_UTF8_ERR21) {
    return nvfp4_reject(reason, NVFP4_E_ARG, "the text is not UTF-8: byte %zu begins no character",
                        (size_t)pcre2_get_startchar((pcre2_match_data *)match));
  }
  PCRE2_UCHAR text[128] = "";
  pcre2_get_error_message(error, text, sizeof text);
  return nvfp4_reject(reason, error == PCRE2_ERROR_NOMEMORY ? NVFP4_E_NOMEM : NVFP4_E_UNSUPPORTED, "the pre-tokenizer gave up: %s",
                      (const char *)text);
}

static nvfp4_status split(const split_call *call, size_t step, const char *text, size_t bytes, nvfp4_reason *reason) {
  if (bytes == 0) {
    return NVFP4_OK;
  }
  if (step == call->pretokenizer->count) {
    return call->piece(call->cookie, text, bytes, reason);
  }
  size_t done = 0; /* all before is cut */
  /* The check that the text is UTF-8 reads all of it: once is enough, and every match would be quadratic. */
  uint32_t options = step == 0 ? 0 : PCRE2_NO_UTF_CHECK;
  for (size_t at = 0; at < bytes;) {
    pcre2_match_data *match = call->match[step];
    int found = pcre2_match(call->pretokenizer->steps[step], (PCRE2_SPTR)text, bytes, at, options | PCRE2_NOTEMPTY, match, NULL);
    if (found == PCRE2_ERROR_NOMATCH) {
      break;
    }
    if (found < 0) {
      return refuse_match(found, match, reason);
    }
    options = PCRE2_NO_UTF_CHECK;
    const PCRE2_SIZE *range = pcre2_get_ovector_pointer(match);
    size_t first = range[0], end = range[1];
    if (first < done || end <= first) { /* \K in a lookaround can do that */
      return nvfp4_reject(reason, NVFP4_E_UNSUPPORTED, "the pre-tokenizer's expression matches backwards");
    }
    NVFP4_TRY(split(call, step + 1, text + done, first - done, reason));
    NVFP4_TRY(split(call, step + 1, text + first, end - first, reason));
    done = at = end;
  }
  return split(call, step + 1, text + done, bytes - done, reason);
}

nvfp4_status nvfp4_pretokenizer_split(const nvfp4_pretokenizer *pretokenizer, const char *text, size_t bytes, nvfp4_piece_fn piece,
                                      void *cookie, nvfp4_reason *reason) {
  split_call call = {.pretokenizer = pretokenizer, .piece = piece, .cookie = cookie};
  nvfp4_status status = NVFP4_OK;
  for (size_t i = 0; i < pretokenizer->count; i++) {
    call.match[i] = pcre2_match_data_create(1, NULL);
    if (call.match[i] == NULL) {
      status = nvfp4_reject(reason, NVFP4_E_NOMEM, "out of memory for the pre-tokenizer");
    }
  }
  if (status == NVFP4_OK) {
    status = split(&call, 0, text, bytes, reason);
  }
  for (size_t i = 0; i < pretokenizer->count; i++) {
    pcre2_match_data_free(call.match[i]);
  }
  return status;
}
