/* SPDX-License-Identifier: Apache-2.0 */
/* Tables written for this computer, read by contexts, and what cannot be read or written. */
#define _POSIX_C_SOURCE 200809L /* mkdtemp, setenv */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "layer_support.h"

static const nvfp4_device cpu = {NVFP4_DEVICE_CPU, 0};
static char folder[] = "/tmp/nvfp4-tuning-XXXXXX", path[64];

static int make_folder(void **state) {
  (void)state;
  if (mkdtemp(folder) == NULL) {
    return -1;
  }
  snprintf(path, sizeof path, "%s/table", folder);
  return 0;
}

static int remove_folder(void **state) {
  (void)state;
  unlink(path);
  return rmdir(folder); /* fails if anything else was left there */
}

typedef struct log_lines {
  int count;
  char last[512];
} log_lines;

static void log_line(void *cookie, nvfp4_log_level level, const char *text) {
  log_lines *lines = cookie;
  lines->count += level == NVFP4_LOG_WARNING;
  snprintf(lines->last, sizeof lines->last, "%s", text);
}

static nvfp4_status create(const char *tuning, int threads, log_lines *lines, nvfp4_context **out, nvfp4_reason *reason) {
  nvfp4_options options = {.struct_size = sizeof options, .threads = threads, .tuning = tuning, .log = log_line, .log_cookie = lines};
  lines->count = 0;
  return nvfp4_context_create(&options, out, reason);
}

static nvfp4_report *explain(nvfp4_context *context, const nvfp4_machine *machine, const nvfp4_layer_desc *desc) {
  nvfp4_report *report;
  nvfp4_reason reason = {0};
  assert_ok(nvfp4_explain(context, machine, desc, NULL, 1, &report, &reason), reason);
  return report;
}

/* The reference is said to be fast: it then serves. A kernel that is not there is told once, and left out. */
static void test_write_and_use(void **state) {
  (void)state;
  test_layer layer = test_layer_make(16, 16, 1);
  nvfp4_layer_desc desc = test_layer_desc(&layer, NVFP4_MODE_W4A4);
  const nvfp4_tuned_time times[] = {{NVFP4_MODE_W4A4, 16, 16, 1, "nobody_knows", 1},
                                    {NVFP4_MODE_W4A4, 16, 16, 1, "ref_w4a4", 1500},
                                    {NVFP4_MODE_W4A4, 16, 16, 2, "nobody_knows", 1}};
  nvfp4_context *plain, *tuned;
  log_lines lines;
  nvfp4_reason reason = {0};
  assert_ok(create(NULL, 2, &lines, &plain, &reason), reason);
  assert_ok(nvfp4_tuning_save(plain, path, cpu, times, 3, &reason), reason);
  assert_ok(create(path, 2, &lines, &tuned, &reason), reason);
  assert_int_equal(lines.count, 1);
  assert_non_null(strstr(lines.last, path));
  assert_non_null(strstr(lines.last, "no kernel nobody_knows here"));
  nvfp4_report *report = explain(tuned, NULL, &desc);
  assert_string_equal(report->chosen, "ref_w4a4");
  assert_string_equal(report->decided_by, "tuning");
  assert_non_null(strstr(report->text, "1.50 us at M=1"));
  nvfp4_report_free(report);
  report = explain(tuned, nvfp4_context_machine(tuned), &desc); /* a dry run takes no table */
  assert_string_equal(report->decided_by, "order");
  nvfp4_report_free(report);
  nvfp4_plan *plan;
  assert_ok(nvfp4_init_linear_kernel(tuned, &desc, NULL, &plan, NULL, &reason), reason);
  assert_string_equal(nvfp4_plan_kernel(plan, 1000), "ref_w4a4");
  nvfp4_plan_free(plan);
  nvfp4_context_destroy(tuned);
  nvfp4_context_destroy(plain);
  test_layer_free(&layer);
}

static void test_reading_is_refused(void **state) {
  (void)state;
  nvfp4_context *context, *none = NULL;
  log_lines lines;
  nvfp4_reason reason = {0};
  assert_ok(create(NULL, 2, &lines, &context, &reason), reason);
  assert_ok(nvfp4_tuning_save(context, path, cpu, NULL, 0, &reason), reason);
  assert_int_equal(create(path, 1, &lines, &none, &reason), NVFP4_E_MACHINE);
  assert_non_null(strstr(reason.text, path));
  assert_non_null(strstr(reason.text, "threads \"2\"; here it is \"1\""));
  assert_int_equal(create(folder, 2, &lines, &none, &reason), NVFP4_E_IO);
  assert_int_equal(create("/no/such/table", 2, &lines, &none, &reason), NVFP4_E_IO);
  assert_non_null(strstr(reason.text, "tuning table /no/such/table: cannot be opened: No such file"));
  char both[3 * sizeof path];
  snprintf(both, sizeof both, "%s, %s", path, path);
  assert_int_equal(create(both, 2, &lines, &none, &reason), NVFP4_E_ARG);
  assert_non_null(strstr(reason.text, "is of the CPU, as "));
  FILE *file = fopen(path, "ab");
  fputc('\0', file);
  fclose(file);
  assert_int_equal(create(path, 2, &lines, &none, &reason), NVFP4_E_FORMAT);
  assert_non_null(strstr(reason.text, "is no text"));
  assert_null(none);
  nvfp4_context_destroy(context);
}

/* What could not be read back is not written, and what was there stays. */
static void test_writing_is_refused(void **state) {
  (void)state;
  nvfp4_context *context;
  log_lines lines;
  nvfp4_reason reason = {0};
  assert_ok(create(NULL, 1, &lines, &context, &reason), reason);
  assert_ok(nvfp4_tuning_save(context, path, cpu, NULL, 0, &reason), reason);
  size_t before, after;
  char *old = test_read_file(path, &before);
  const nvfp4_tuned_time good = {NVFP4_MODE_W4A4, 16, 16, 1, "ref_w4a4", 1};
  nvfp4_tuned_time bad[6] = {good, good, good, good, good, good};
  bad[0].ns = 0;
  bad[1].m = -1;
  bad[2].kernel = "two words";
  bad[3].mode = NVFP4_MODE_FP8;
  bad[4].kernel = "";
  bad[5].kernel = NULL;
  for (int i = 0; i < 6; i++) {
    assert_int_not_equal(nvfp4_tuning_save(context, path, cpu, &bad[i], 1, &reason), NVFP4_OK);
  }
  const nvfp4_tuned_time twice[] = {good, good};
  assert_int_equal(nvfp4_tuning_save(context, path, cpu, twice, 2, &reason), NVFP4_E_FORMAT);
  assert_non_null(strstr(reason.text, "is not written: two times of ref_w4a4"));
  assert_int_equal(nvfp4_tuning_save(context, "/no/such/folder/table", cpu, &good, 1, &reason), NVFP4_E_IO);
  assert_int_equal(nvfp4_tuning_save(context, folder, cpu, &good, 1, &reason), NVFP4_E_IO); /* a folder is in its place */
  char temporary[96];
  snprintf(temporary, sizeof temporary, "%s.%ld.part", folder, (long)getpid());
  assert_int_not_equal(access(temporary, F_OK), 0);
  assert_int_equal(nvfp4_tuning_save(context, path, cpu, NULL, 1, &reason), NVFP4_E_ARG);
  assert_int_equal(nvfp4_tuning_save(context, path, (nvfp4_device){NVFP4_DEVICE_CUDA, NVFP4_MAX_GPUS}, &good, 1, &reason), NVFP4_E_ARG);
  assert_int_equal(nvfp4_tuning_save(NULL, path, cpu, &good, 1, &reason), NVFP4_E_ARG);
  char *now = test_read_file(path, &after);
  assert_int_equal(before, after);
  assert_memory_equal(old, now, before);
  free(old);
  free(now);
  nvfp4_context_destroy(context);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_write_and_use),
      cmocka_unit_test(test_reading_is_refused),
      cmocka_unit_test(test_writing_is_refused),
  };
  return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
