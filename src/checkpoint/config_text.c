/* SPDX-License-Identifier: Apache-2.0 */
#include "checkpoint/config_text.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#define MARK "\"\\u0001" /* a quote, and a character that JSON always escapes */
enum { MARK_BYTES = sizeof MARK - 1, INTEGER_DIGITS = 18 /* so many always fit 64 bits */ };

/* Whether these bytes, which stand where a value does, are no JSON, or none that fits. */
static bool is_python(const char *token, size_t bytes) {
  static const char *const constants[] = {"NaN", "Infinity", "-Infinity"};
  for (size_t i = 0; i < sizeof constants / sizeof constants[0]; i++) {
    if (strlen(constants[i]) == bytes && memcmp(token, constants[i], bytes) == 0) {
      return true;
    }
  }
  size_t digits = strspn(token, "-0123456789");
  return digits == bytes && digits > INTEGER_DIGITS + 1; /* a sign */
}

/* malloc'ed; NULL: no memory. */
static char *mark(const char *text) {
  char *out = malloc(4 * strlen(text) + 1), *to = out; /* "NaN" becomes four times as long, everything else less */
  while (out != NULL && *text != '\0') {
    size_t bytes = strcspn(text, "\",:[]{} \t\r\n");
    if (*text == '"') {
      for (bytes = 1; text[bytes] != '\0' && text[bytes] != '"'; bytes++) {
        bytes += text[bytes] == '\\' && text[bytes + 1] != '\0';
      }
      bytes += text[bytes] == '"';
    }
    bool marked = is_python(text, bytes);
    bytes = bytes > 0 ? bytes : 1;
    if (marked) {
      memcpy(to, MARK, MARK_BYTES);
      to += MARK_BYTES;
    }
    memcpy(to, text, bytes);
    to += bytes;
    text += bytes;
    if (marked) {
      *to++ = '"';
    }
  }
  if (out != NULL) {
    *to = '\0';
  }
  return out;
}

json_t *nvfp4_config_load(const char *text, json_error_t *error) {
  char *marked = mark(text);
  *error = (json_error_t){.text = "out of memory"};
  json_t *value = marked != NULL ? json_loads(marked, JSON_REJECT_DUPLICATES, error) : NULL;
  free(marked);
  return value;
}

void nvfp4_config_restore(char *text) {
  char *to = text;
  for (const char *from = text; *from != '\0';) {
    if (strncmp(from, MARK, MARK_BYTES) == 0) {
      from += MARK_BYTES;
      size_t bytes = strcspn(from, "\"");
      memmove(to, from, bytes);
      to += bytes;
      from += bytes + (from[bytes] == '"');
    } else {
      *to++ = *from++;
    }
  }
  *to = '\0';
}
