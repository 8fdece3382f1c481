/* SPDX-License-Identifier: Apache-2.0 */
#define _XOPEN_SOURCE 700 /* mkdtemp, truncate */
#include "model/log_probs.h"

#include <math.h>
#include <stdlib.h>
#include <unistd.h>

#include "support.h"

enum { VOCABULARY = 101, WINDOW = 10, WINDOWS = 2, SCORED = WINDOWS * (WINDOW - 1 - WINDOW / 2) };

static char folder[] = "/tmp/nvfp4-log-probs-XXXXXX", path[64];

static int setup(void **state) {
  (void)state;
  assert_non_null(mkdtemp(folder));
  snprintf(path, sizeof path, "%s/file", folder);
  return 0;
}

static int teardown(void **state) {
  (void)state;
  unlink(path);
  return rmdir(folder);
}

static double log_sum_of(const float *logits, float largest) {
  double sum = 0;
  for (int i = 0; i < VOCABULARY; i++) {
    sum += exp((double)logits[i] - (double)largest);
  }
  return log(sum);
}

/* Rows hold every log-probability to half a step, and cut off what is more than 16 below the largest. */
static void encodes(void **state) {
  (void)state;
  test_random random = {5};
  for (int spread = 0; spread <= 3; spread++) {
    static const float deviation[] = {0, 1, 4, 30};
    float logits[VOCABULARY], largest = -INFINITY;
    for (int i = 0; i < VOCABULARY; i++) {
      logits[i] = 7 + deviation[spread] * test_random_gauss(&random);
      largest = fmaxf(largest, logits[i]);
    }
    double log_sum = log_sum_of(logits, largest);
    uint8_t row[8 + 2 * (VOCABULARY + 1)];
    assert_int_equal(sizeof row, nvfp4_log_probs_row_bytes(VOCABULARY));
    nvfp4_log_probs_encode(logits, VOCABULARY, log_sum, row);
    float step, least;
    memcpy(&step, row, 4);
    memcpy(&least, row + 4, 4);
    for (int i = 0; i < VOCABULARY; i++) {
      uint16_t code;
      memcpy(&code, row + 8 + 2 * i, 2);
      double wanted = (double)logits[i] - (double)largest - log_sum, found = (double)least + (double)step * code;
      double cut = -16.0 - log_sum;
      /* Half a step, and fp32's rounding of logits up to 128 and of log-probabilities up to 32. */
      assert_true(fabs(found - fmax(wanted, cut)) <= 0.5 * (double)step + 0x1p-16);
    }
    uint16_t pad;
    memcpy(&pad, row + sizeof row - 2, 2);
    assert_int_equal(pad, 0);
  }
}

static void write_file(const nvfp4_log_probs_header *header, const int32_t *tokens, size_t rows) {
  nvfp4_reason reason = {0};
  nvfp4_new_file *file;
  uint8_t row[8 + 2 * (VOCABULARY + 1)] = {0};
  assert_ok(nvfp4_log_probs_create(path, header, tokens, &file, &reason), reason);
  for (size_t i = 0; i < rows; i++) {
    row[0] = (uint8_t)i;
    assert_ok(nvfp4_new_file_write(file, row, sizeof row, &reason), reason);
  }
  assert_ok(nvfp4_new_file_finish(file, &reason), reason);
  nvfp4_new_file_destroy(file);
}

static void is_read_as_written(void **state) {
  (void)state;
  nvfp4_reason reason = {0};
  const nvfp4_log_probs_header header = {WINDOW, VOCABULARY, WINDOWS};
  nvfp4_log_probs_header found;
  int32_t tokens[WINDOW * WINDOWS], *read;
  for (int i = 0; i < WINDOW * WINDOWS; i++) {
    tokens[i] = 3 * i;
  }
  write_file(&header, tokens, SCORED);
  size_t bytes;
  char *text = test_read_file(path, &bytes);
  assert_int_equal(bytes, 8 + 12 + 4 * WINDOW * WINDOWS + SCORED * (8 + 2 * (VOCABULARY + 1)));
  assert_memory_equal(text, "_logits_\x0A\0\0\0\x65\0\0\0\x02\0\0\0", 20);
  free(text);
  FILE *file;
  assert_ok(nvfp4_log_probs_open(path, &found, &read, &file, &reason), reason);
  assert_memory_equal(&found, &header, sizeof header);
  assert_memory_equal(read, tokens, sizeof tokens);
  uint8_t row[8 + 2 * (VOCABULARY + 1)];
  for (int i = 0; i < SCORED; i++) {
    assert_int_equal(fread(row, sizeof row, 1, file), 1);
    assert_int_equal(row[0], i);
  }
  assert_int_equal(fread(row, 1, 1, file), 0);
  fclose(file);
  free(read);
}

static void refuse(const char *what) {
  nvfp4_reason reason = {0};
  nvfp4_log_probs_header header;
  int32_t *tokens;
  FILE *file;
  assert_int_equal(nvfp4_log_probs_open(path, &header, &tokens, &file, &reason), NVFP4_E_FORMAT);
  if (strstr(reason.text, what) == NULL) {
    fail_msg("\"%s\" does not say \"%s\"", reason.text, what);
  }
}

static void refuses_other_files(void **state) {
  (void)state;
  static const int32_t tokens[1 << 12];
  nvfp4_log_probs_header header = {WINDOW, VOCABULARY, WINDOWS};
  write_file(&header, tokens, SCORED - 1);
  refuse("written to its end");
  write_file(&header, tokens, SCORED + 1);
  refuse("written to its end");
  header.windows = 1 << 20; /* nothing is allocated by a file's word */
  header.window = 1 << 20;
  header.vocabulary = 1 << 22;
  FILE *file = fopen(path, "wb");
  fwrite("_logits_", 1, 8, file);
  fwrite(&header, sizeof header, 1, file);
  fclose(file);
  refuse("written to its end");
  assert_int_equal(truncate(path, 19), 0);
  refuse("does not begin with");
  header = (nvfp4_log_probs_header){3, VOCABULARY, WINDOWS};
  write_file(&header, tokens, SCORED);
  refuse("windows of 3 tokens");
  header = (nvfp4_log_probs_header){WINDOW, -1, WINDOWS};
  write_file(&header, tokens, SCORED);
  refuse("vocabulary of -1");
  nvfp4_reason reason = {0};
  int32_t *read;
  assert_int_equal(nvfp4_log_probs_open("/nonexistent", &header, &read, &file, &reason), NVFP4_E_IO);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(encodes), cmocka_unit_test(is_read_as_written),
                                     cmocka_unit_test(refuses_other_files)};
  return cmocka_run_group_tests(tests, setup, teardown);
}
