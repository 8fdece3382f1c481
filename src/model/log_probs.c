/* SPDX-License-Identifier: Apache-2.0 */
#define _POSIX_C_SOURCE 200809L /* fileno, S_ISREG */
#include "model/log_probs.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/clones.h"
#include "base/reason.h"

static const char magic[8] = "_logits_";

#define HEADER_BYTES (sizeof magic + sizeof(nvfp4_log_probs_header))

/* What llama-perplexity keeps of the logits' span. */
#define SPAN 16.0f

static void span(const float *logits, int64_t count, float *least, float *largest) {
  *least = *largest = logits[0];
  for (int64_t i = 1; i < count; i++) {
    *least = logits[i] < *least ? logits[i] : *least;
    *largest = logits[i] > *largest ? logits[i] : *largest;
  }
}

NVFP4_CLONES_FMA static void encode_log_probs(const float *logits, int64_t count, float least, float factor, uint16_t *codes) {
  for (int64_t i = 0; i < count; i++) {
    float above = logits[i] > least ? logits[i] - least : 0;
    codes[i] = (uint16_t)(int32_t)(factor * above + 0.5f);
  }
}

void nvfp4_log_probs_encode(const float *logits, int64_t vocabulary, double log_sum, uint8_t *row) {
  float least, largest;
  span(logits, vocabulary, &least, &largest);
  least = least > largest - SPAN ? least : largest - SPAN;
  const float step = (largest - least) / 65535.0f;
  const float ends[2] = {step, (float)((double)least - (double)largest - log_sum)};
  memcpy(row, ends, sizeof ends);
  uint16_t *codes = (uint16_t *)(row + sizeof ends);
  encode_log_probs(logits, vocabulary, least, step > 0 ? 1 / step : 0, codes);
  if (vocabulary % 2 != 0) {
    codes[vocabulary] = 0;
  }
}

static nvfp4_status write_head(nvfp4_new_file *file, const nvfp4_log_probs_header *header, const int32_t *tokens, nvfp4_reason *reason) {
  NVFP4_TRY(nvfp4_new_file_write(file, magic, sizeof magic, reason));
  NVFP4_TRY(nvfp4_new_file_write(file, header, sizeof *header, reason));
  return nvfp4_new_file_write(file, tokens, (size_t)header->windows * (size_t)header->window * sizeof *tokens, reason);
}

nvfp4_status nvfp4_log_probs_create(const char *path, const nvfp4_log_probs_header *header, const int32_t *tokens, nvfp4_new_file **out,
                                    nvfp4_reason *reason) {
  NVFP4_TRY(nvfp4_new_file_create(path, out, reason));
  nvfp4_status status = write_head(*out, header, tokens, reason);
  if (status != NVFP4_OK) {
    nvfp4_new_file_destroy(*out);
  }
  return status;
}

/* The size of the file that a header promises. */
static uint64_t promised_bytes(const nvfp4_log_probs_header *header) {
  uint64_t rows = (uint64_t)(header->window - 1 - header->window / 2);
  return HEADER_BYTES + (uint64_t)header->windows * (4 * (uint64_t)header->window + rows * nvfp4_log_probs_row_bytes(header->vocabulary));
}

static nvfp4_status read_header(const char *path, FILE *file, nvfp4_log_probs_header *header, nvfp4_reason *reason) {
  char found[sizeof magic];
  struct stat status = {0};
  if (fread(found, 1, sizeof found, file) != sizeof found || memcmp(found, magic, sizeof magic) != 0 ||
      fread(header, sizeof *header, 1, file) != 1) {
    return nvfp4_reject(reason, NVFP4_E_FORMAT,
                        "%s: does not begin with \"_logits_\" and three numbers; needs a file of log-probabilities, as this library or "
                        "llama-perplexity --kl-divergence-base writes it",
                        path);
  }
  /* With these bounds every size below fits 64 bits. */
  if (header->window < 4 || header->window > 1 << 20 || header->vocabulary < 1 || header->vocabulary > 1 << 22 || header->windows < 1 ||
      header->windows > 1 << 20) {
    return nvfp4_reject(reason, NVFP4_E_FORMAT,
                        "%s: %" PRId32 " windows of %" PRId32 " tokens, vocabulary of %" PRId32
                        "; needs 1 to 2^20 windows of 4 to 2^20 tokens, and a vocabulary of 1 to 2^22",
                        path, header->windows, header->window, header->vocabulary);
  }
  if (fstat(fileno(file), &status) != 0 || !S_ISREG(status.st_mode) || (uint64_t)status.st_size != promised_bytes(header)) {
    return nvfp4_reject(reason, NVFP4_E_FORMAT,
                        "%s: has %" PRIu64 " bytes; %" PRId32 " windows of %" PRId32 " tokens and a vocabulary of %" PRId32
                        " need a file of %" PRIu64 ": was it written to its end?",
                        path, (uint64_t)status.st_size, header->windows, header->window, header->vocabulary, promised_bytes(header));
  }
  return NVFP4_OK;
}

static nvfp4_status read_tokens(const char *path, FILE *file, const nvfp4_log_probs_header *header, int32_t **tokens,
                                nvfp4_reason *reason) {
  const size_t count = (size_t)header->windows * (size_t)header->window;
  *tokens = malloc(count * sizeof **tokens);
  if (*tokens == NULL) {
    return nvfp4_reject(reason, NVFP4_E_NOMEM, "%s: out of memory for its tokens", path);
  }
  if (fread(*tokens, sizeof **tokens, count, file) != count) {
    free(*tokens);
    return nvfp4_reject(reason, NVFP4_E_IO, "%s: its tokens cannot be read", path);
  }
  return NVFP4_OK;
}

nvfp4_status nvfp4_log_probs_open(const char *path, nvfp4_log_probs_header *header, int32_t **tokens, FILE **out, nvfp4_reason *reason) {
  FILE *file = fopen(path, "rb");
  if (file == NULL) {
    return nvfp4_reject(reason, NVFP4_E_IO, "%s: cannot be opened: %s; needs a file of log-probabilities", path, strerror(errno));
  }
  nvfp4_status status = read_header(path, file, header, reason);
  if (status == NVFP4_OK) {
    status = read_tokens(path, file, header, tokens, reason);
  }
  if (status != NVFP4_OK) {
    fclose(file);
    return status;
  }
  *out = file;
  return NVFP4_OK;
}
