/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ChatML, the prompt format of SmolLM2, Qwen2 and others:
 *
 *   <|im_start|>system\n...<|im_end|>\n<|im_start|>user\n...<|im_end|>\n<|im_start|>assistant\n
 *
 * Templates are Jinja programs. A template is taken for ChatML if it writes both marks, and its default system message is the first one it holds literally.
 */
#include <stdlib.h>
#include <string.h>

#include "base/reason.h"
#include "model/tokenizer.h"

static const char im_start[] = "<|im_start|>", im_end[] = "<|im_end|>";

/* The literal text between "<|im_start|>system\n" (a newline, or "\n" as Jinja escapes it) and "<|im_end|>"; NULL if the template has none. */
static const char *default_system(const char *template, size_t *bytes) {
  static const char mark[] = "<|im_start|>system";
  for (const char *at = template; (at = strstr(at, mark)) != NULL;) {
    at += sizeof mark - 1;
    size_t newline = at[0] == '\n' ? 1 : strncmp(at, "\\n", 2) == 0 ? 2 : 0;
    const char *text = at + newline, *end = strstr(text, im_end);
    if (newline > 0 && end != NULL && strcspn(text, "'\"{}\\") >= (size_t)(end - text)) {
      *bytes = (size_t)(end - text);
      return text;
    }
  }
  return NULL;
}

nvfp4_status nvfp4_chat_prompt(const nvfp4_tokenizer *tokenizer, const char *system, const char *user, char **text, nvfp4_reason *reason) {
  if (tokenizer == NULL || user == NULL || text == NULL) {
    return nvfp4_reject(reason, NVFP4_E_ARG, "tokenizer, user or text is NULL; all three are needed");
  }
  const char *template = tokenizer->chat_template;
  if (template == NULL) {
    return nvfp4_reject(reason, NVFP4_E_UNSUPPORTED, "the model has no chat template; give it the prompt as it is");
  }
  if (strstr(template, im_start) == NULL || strstr(template, im_end) == NULL) {
    return nvfp4_reject(reason, NVFP4_E_UNSUPPORTED,
                        "the model's chat template is not ChatML (no <|im_start|> and <|im_end|> in it); write the "
                        "prompt in the model's own form");
  }
  size_t system_bytes = 0;
  if (system != NULL) {
    system_bytes = strlen(system);
  } else {
    system = default_system(template, &system_bytes);
  }
  size_t room = system_bytes + strlen(user) + 128;
  char *out = malloc(room), *at = out;
  if (out == NULL) {
    return nvfp4_reject(reason, NVFP4_E_NOMEM, "out of memory for a prompt of %zu bytes", room);
  }
  const struct {
    const char *text;
    size_t bytes;
  } parts[] = {
      {system != NULL ? "<|im_start|>system\n" : "", system != NULL ? 19 : 0},
      {system, system_bytes},
      {system != NULL ? "<|im_end|>\n" : "", system != NULL ? 11 : 0},
      {"<|im_start|>user\n", 17},
      {user, strlen(user)},
      {"<|im_end|>\n<|im_start|>assistant\n", 33},
  };
  for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
    if (parts[i].bytes > 0) {
      memcpy(at, parts[i].text, parts[i].bytes);
      at += parts[i].bytes;
    }
  }
  *at = '\0';
  *text = out;
  return NVFP4_OK;
}

void nvfp4_text_free(char *text) { free(text); }
