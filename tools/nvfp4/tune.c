/* SPDX-License-Identifier: Apache-2.0 */
/* nvfp4 tune: times every kernel on the layer shapes of a checkpoint, writes the tuning table, and tells what selection makes of it. */
#include <nvfp4/bench.h>
#include <stdlib.h>
#include <string.h>

#include "common.h"

enum { MOST_M = 24, M_LIMIT = 1 << 20 };

/* Layers that have the same times. */
typedef struct tuned_shape {
  const char *name; /* of the first of them */
  nvfp4_mode mode;
  int64_t n, k, layers;
} tuned_shape;

typedef struct tuning {
  cli *run;
  const char *path, *m_list, *output, *device_text;
  nvfp4_device device;
  int mode; /* of the user: -1 none, 0 w4a4, 1 w4a16 */
  double seconds;
  int64_t rotate; /* MiB */
  cli_selection selection;
  nvfp4_checkpoint *checkpoint;
  nvfp4_context *context, *tuned; /* without and with the new table */
  int64_t m[MOST_M];
  size_t m_count;
  tuned_shape *shapes;
  size_t shape_count;
  nvfp4_tuned_time *times;
  size_t count, unsteady; /* unsteady: of the times, those whose 90th percentile is more than twice the 10th */
  cli_progress progress;
  uint64_t done, total; /* cells */
} tuning;

static bool out_of_memory(const tuning *t, int *code) {
  *code = cli_fail(t->run, NVFP4_E_NOMEM, "out of memory for %zu layer shapes", t->shape_count);
  return false;
}

/* --------------------------------------------------------------------------------------------------------- what is measured */

static int ascending(const void *a, const void *b) {
  int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
  return (x > y) - (x < y);
}

/* "1,2,4" into t->m, ascending. */
static bool parse_m_list(tuning *t, int *code) {
  const char *at = t->m_list;
  for (bool more = true; more; at++) {
    char *end = NULL;
    long long m = *at >= '0' && *at <= '9' ? strtoll(at, &end, 10) : 0;
    if (m < 1 || m > M_LIMIT || (*end != ',' && *end != '\0') || t->m_count == MOST_M) {
      *code = cli_fail(t->run, NVFP4_E_ARG, "--m %s: needs at most %d whole numbers from 1 to %d, separated by commas", t->m_list, MOST_M,
                       M_LIMIT);
      return false;
    }
    t->m[t->m_count++] = m;
    at = end;
    more = *at == ',';
  }
  qsort(t->m, t->m_count, sizeof t->m[0], ascending);
  size_t kept = 1;
  for (size_t i = 1; i < t->m_count; i++) {
    t->m[kept] = t->m[i];
    kept += t->m[i] != t->m[i - 1];
  }
  t->m_count = kept;
  return true;
}

static void add_shape(tuning *t, const nvfp4_layer_info *info, nvfp4_mode mode) {
  size_t i = 0;
  while (i < t->shape_count && (t->shapes[i].mode != mode || t->shapes[i].n != info->n || t->shapes[i].k != info->k)) {
    i++;
  }
  if (i == t->shape_count) {
    t->shapes[t->shape_count++] = (tuned_shape){.name = info->name, .mode = mode, .n = info->n, .k = info->k};
  }
  t->shapes[i].layers++;
}

/* Whether this build has kernels of that mode for the device; dense layers, say, have none on a GPU, and stay on the CPU. */
static bool has_kernels(const tuning *t, nvfp4_mode mode) {
  for (size_t i = 0; i < nvfp4_kernel_count(t->context); i++) {
    nvfp4_kernel_info info;
    nvfp4_reason why_not;
    if (nvfp4_kernel_get(t->context, i, NULL, &info, &why_not) == NVFP4_OK && info.layout[0] != '\0' && info.mode == mode &&
        info.device == t->device.kind) {
      return true;
    }
  }
  return false;
}

static bool find_shapes(tuning *t, int *code) {
  t->shapes = calloc(nvfp4_checkpoint_layer_count(t->checkpoint) + 1, sizeof *t->shapes);
  if (t->shapes == NULL) {
    return out_of_memory(t, code);
  }
  const nvfp4_layer_info *info;
  for (size_t i = 0; (info = nvfp4_checkpoint_layer(t->checkpoint, i)) != NULL; i++) {
    nvfp4_layer_desc desc;
    if (info->lookup || nvfp4_layer_desc_from_checkpoint(info, &desc, NULL) != NVFP4_OK) {
      continue;
    }
    if (t->mode == 0 && info->mode == NVFP4_MODE_W4A16) {
      *code = cli_fail(t->run, NVFP4_E_ARG, "--mode w4a4: layer %s has no input scale; it can run as w4a16 only", info->name);
      return false;
    }
    nvfp4_mode mode = t->mode == 1 && info->mode == NVFP4_MODE_W4A4 ? NVFP4_MODE_W4A16
                      : info->mode == NVFP4_MODE_FP8                ? NVFP4_MODE_UNQUANTISED /* whose kernels serve it */
                                                                    : info->mode;
    if (t->device.kind == NVFP4_DEVICE_CPU || has_kernels(t, mode)) {
      add_shape(t, info, mode);
    }
  }
  if (t->shape_count == 0) {
    *code = cli_fail(t->run, NVFP4_E_ARG, "%s has no NVFP4 or dense layer that a kernel for %s could serve; needs one to tune for", t->path,
                     t->device_text);
    return false;
  }
  return true;
}

/* What selection says of a layer of that shape. */
static bool ask(const tuning *t, nvfp4_context *context, const tuned_shape *shape, int64_t m, nvfp4_report **report, int *code) {
  bool dense = shape->mode == NVFP4_MODE_UNQUANTISED;
  const nvfp4_partition whole = {.n_rows = shape->n, .weight.value = 1, .input.value = shape->mode == NVFP4_MODE_W4A4 ? 1 : 0};
  const nvfp4_layer_desc desc = {.struct_size = sizeof desc,
                                 .name = shape->name,
                                 .n = shape->n,
                                 .k = shape->k,
                                 .mode = shape->mode,
                                 .x_dtype = NVFP4_DTYPE_BF16,
                                 .y_dtype = NVFP4_DTYPE_BF16,
                                 .device = t->device,
                                 .partitions = &whole,
                                 .partition_count = 1,
                                 .weight_dtype = dense ? NVFP4_DTYPE_BF16 : NVFP4_DTYPE_NONE};
  nvfp4_reason reason = {0};
  if (nvfp4_explain(context, NULL, &desc, NULL, m, report, &reason) != NVFP4_OK) {
    nvfp4_report_free(*report);
    *code = cli_fail_reason(t->run, &reason);
    return false;
  }
  return true;
}

/* Marks the kernels that the policy leaves for any shape of that mode and any M. Rows of a report are in the order of the kernels. */
static bool find_kernels(const tuning *t, nvfp4_mode mode, bool *usable, int *code) {
  for (size_t i = 0; i < t->shape_count * t->m_count; i++) {
    const tuned_shape *shape = &t->shapes[i / t->m_count];
    nvfp4_report *report = NULL;
    if (shape->mode != mode) {
      continue;
    }
    if (!ask(t, t->context, shape, t->m[i % t->m_count], &report, code)) {
      return false;
    }
    for (size_t j = 0; j < report->row_count; j++) {
      usable[j] = usable[j] || report->rows[j].stage >= NVFP4_STAGE_ELIGIBLE;
    }
    nvfp4_report_free(report);
  }
  return true;
}

/* --------------------------------------------------------------------------------------------------------------- measuring */

static void step(void *cookie, const char *kernel, int64_t n, int64_t k, int64_t m) {
  (void)kernel, (void)n, (void)k, (void)m;
  tuning *t = cookie;
  cli_progress_step(&t->progress, t->done++, t->total);
}

/* Adds the times of a run; kernels are named by the context, which outlives it. */
static bool keep_times(tuning *t, const nvfp4_bench *bench, nvfp4_mode mode, size_t kernel_count, int *code) {
  nvfp4_tuned_time *grown = realloc(t->times, (t->count + bench->result_count + 1) * sizeof *grown);
  if (grown == NULL) {
    return out_of_memory(t, code);
  }
  t->times = grown;
  for (size_t i = 0; i < bench->result_count; i++) {
    const nvfp4_bench_result *result = &bench->results[i];
    int64_t ns = (int64_t)(result->us * 1000 + 0.5);
    bool cublas = t->device.kind == NVFP4_DEVICE_CUDA && i % (kernel_count + 1) == kernel_count;
    if (result->status == NVFP4_OK && !cublas) { /* otherwise the kernel does not serve this M */
      t->unsteady += result->us_p90 > 2 * result->us_p10;
      t->times[t->count++] = (nvfp4_tuned_time){mode, result->n, result->k, result->m, result->kernel, ns > 0 ? ns : 1};
    }
  }
  return true;
}

/* Times `kernels` on all shapes of one mode. */
static bool measure(tuning *t, nvfp4_mode mode, const char **kernels, size_t kernel_count, int *code) {
  nvfp4_bench_shape *shapes = calloc(t->shape_count, sizeof *shapes);
  size_t count = 0;
  for (size_t i = 0; shapes != NULL && i < t->shape_count; i++) {
    if (t->shapes[i].mode == mode) {
      shapes[count++] = (nvfp4_bench_shape){t->shapes[i].n, t->shapes[i].k};
    }
  }
  const nvfp4_bench_options options = {.struct_size = sizeof options,
                                       .kernels = kernels,
                                       .kernel_count = kernel_count,
                                       .shapes = shapes,
                                       .shape_count = count,
                                       .ms = t->m,
                                       .m_count = t->m_count,
                                       .seconds = t->seconds,
                                       .rotate_bytes = (uint64_t)t->rotate << 20,
                                       .device = t->device,
                                       .progress = step,
                                       .progress_cookie = t};
  nvfp4_bench *bench = NULL;
  nvfp4_reason reason = {0};
  t->done = 0;
  t->total = count * t->m_count * (kernel_count + (t->device.kind == NVFP4_DEVICE_CUDA)); /* cuBLAS, too */
  cli_progress_begin(&t->progress, "timings");
  bool done = shapes != NULL && nvfp4_bench_run(t->context, &options, &bench, &reason) == NVFP4_OK;
  cli_progress_end(&t->progress);
  if (shapes == NULL) {
    out_of_memory(t, code);
  } else if (!done) {
    *code = cli_fail_reason(t->run, &reason);
  }
  done = done && keep_times(t, bench, mode, kernel_count, code);
  nvfp4_bench_free(bench);
  free(shapes);
  return done;
}

static bool tune_mode(tuning *t, nvfp4_mode mode, int *code) {
  size_t known = nvfp4_kernel_count(t->context), count = 0;
  bool *usable = calloc(known + 1, sizeof *usable);
  const char **kernels = calloc(known + 1, sizeof *kernels);
  bool done = usable != NULL && kernels != NULL ? find_kernels(t, mode, usable, code) : out_of_memory(t, code);
  for (size_t i = 0; done && i < known; i++) {
    nvfp4_kernel_info info;
    nvfp4_reason why_not;
    if (usable[i] && nvfp4_kernel_get(t->context, i, NULL, &info, &why_not) == NVFP4_OK) {
      kernels[count++] = info.id;
    }
  }
  done = done && (count == 0 || measure(t, mode, kernels, count, code));
  free(usable);
  free(kernels);
  return done;
}

/* ------------------------------------------------------------------------------------------------------------------ telling */

/* The time of a kernel, or of the fastest other one if `other`; NULL if there is none. */
static const nvfp4_tuned_time *find_time(const tuning *t, const tuned_shape *shape, int64_t m, const char *kernel, bool other) {
  const nvfp4_tuned_time *found = NULL;
  for (size_t i = 0; i < t->count; i++) {
    const nvfp4_tuned_time *time = &t->times[i];
    bool fits = time->mode == shape->mode && time->n == shape->n && time->k == shape->k && time->m == m;
    if (fits && (strcmp(time->kernel, kernel) == 0) != other && (found == NULL || time->ns < found->ns)) {
      found = time;
    }
  }
  return found;
}

static void add_row(const tuning *t, const tuned_shape *shape, const nvfp4_report *report, cli_table *table) {
  const nvfp4_tuned_time *own = find_time(t, shape, report->m, report->chosen, false);
  const nvfp4_tuned_time *next = find_time(t, shape, report->m, report->chosen, true);
  char us[32] = "", ratio[32] = "";
  if (own != NULL) {
    snprintf(us, sizeof us, "%.1f", (double)own->ns / 1000);
  }
  if (own != NULL && next != NULL) {
    snprintf(ratio, sizeof ratio, "%.2f", (double)next->ns / (double)own->ns);
  }
  cli_table_add(table, "%lld", (long long)report->m);
  cli_table_add(table, "%s", report->chosen);
  cli_table_add(table, "%s", us);
  cli_table_add(table, "%s", ratio);
  cli_table_add(table, "%s", next != NULL ? next->kernel : "(no other)");
}

static bool print_shape(const tuning *t, const tuned_shape *shape, int *code) {
  printf("\nN %lld  K %lld  %s: %lld layer%s, as %s\n", (long long)shape->n, (long long)shape->k, nvfp4_mode_name(shape->mode),
         (long long)shape->layers, shape->layers == 1 ? "" : "s", shape->name);
  cli_table table = {.columns = 5, .right = "rlrrl"};
  static const char *const heads[] = {"M", "kernel", "us", "times as fast", "as"};
  for (int i = 0; i < 5; i++) {
    cli_table_add(&table, "%s", heads[i]);
  }
  bool told = true;
  for (size_t i = 0; told && i < t->m_count; i++) {
    nvfp4_report *report = NULL;
    told = ask(t, t->tuned, shape, t->m[i], &report, code);
    if (told) {
      add_row(t, shape, report, &table);
      nvfp4_report_free(report);
    }
  }
  cli_table_print(&table, 2);
  return told;
}

static json_t *shape_json(const tuning *t, const tuned_shape *shape, const nvfp4_report *report) {
  json_t *by_m = json_array(), *times = json_array();
  for (size_t i = 0; i < report->range_count; i++) {
    const nvfp4_plan_range *range = &report->ranges[i];
    json_array_append_new(by_m, json_pack("{s:I, s:I, s:o}", "m_first", (json_int_t)range->m_first, "m_last", (json_int_t)range->m_last,
                                          "chosen", cli_json_text(range->kernel)));
  }
  for (size_t i = 0; i < t->count; i++) {
    const nvfp4_tuned_time *time = &t->times[i];
    if (time->mode == shape->mode && time->n == shape->n && time->k == shape->k) {
      json_array_append_new(times, json_pack("{s:I, s:o, s:f}", "M", (json_int_t)time->m, "kernel", cli_json_text(time->kernel), "us",
                                             (double)time->ns / 1000));
    }
  }
  return json_pack("{s:o, s:I, s:I, s:I, s:s, s:s, s:o, s:o}", "name", cli_json_text(shape->name), "layers", (json_int_t)shape->layers, "N",
                   (json_int_t)shape->n, "K", (json_int_t)shape->k, "mode", nvfp4_mode_name(shape->mode), "decided_by", report->decided_by,
                   "by_m", by_m, "times", times);
}

static bool tell_json(const tuning *t, int *code) {
  json_t *shapes = json_array();
  for (size_t i = 0; i < t->shape_count; i++) {
    nvfp4_report *report = NULL;
    if (!ask(t, t->tuned, &t->shapes[i], t->m[0], &report, code)) {
      json_decref(shapes);
      return false;
    }
    json_array_append_new(shapes, shape_json(t, &t->shapes[i], report));
    nvfp4_report_free(report);
  }
  cli_print_json(json_pack("{s:o, s:s, s:o, s:i, s:o}", "machine", cli_json_machine(nvfp4_context_machine(t->context)), "device",
                           t->device_text, "output", cli_json_text(t->output), "threads", nvfp4_context_threads(t->context), "shapes",
                           shapes));
  return true;
}

static bool tell(const tuning *t, int *code) {
  if (t->unsteady > t->count / 10) {
    cli_warn(
        t->run,
        "%zu of %zu times vary by more than a factor of two from call to call: the computer does other work; tune again when it is idle",
        t->unsteady, t->count);
  }
  if (t->run->json) {
    return tell_json(t, code);
  }
  for (size_t i = 0; i < t->shape_count; i++) {
    if (!print_shape(t, &t->shapes[i], code)) {
      return false;
    }
  }
  if (t->device.kind == NVFP4_DEVICE_CUDA) {
    printf("\n%zu times of %zu layer shapes on %s", t->count, t->shape_count,
           nvfp4_context_machine(t->context)->gpus[t->device.ordinal].name);
  } else {
    printf("\n%zu times of %zu layer shapes, %d threads", t->count, t->shape_count, nvfp4_context_threads(t->context));
  }
  printf(", are in %s.\nTo use them: NVFP4_TUNING=%s, or --tuning %s\n", t->output, t->output, t->output);
  return true;
}

/* ----------------------------------------------------------------------------------------------------------------- command */

static bool save(tuning *t, int *code) {
  nvfp4_reason reason = {0};
  if (nvfp4_tuning_save(t->context, t->output, t->device, t->times, t->count, &reason) != NVFP4_OK) {
    *code = cli_fail_reason(t->run, &reason);
    return false;
  }
  cli_selection selection = t->selection;
  selection.untuned = false;
  selection.tuning = t->output;
  return cli_context(t->run, &selection, &t->tuned, code);
}

static int tune(tuning *t) {
  int code = CLI_DONE;
  if (cli_open(t->run, t->path, NVFP4_OPEN_SKIP_SCALES, &t->checkpoint, &code) && cli_context(t->run, &t->selection, &t->context, &code) &&
      find_shapes(t, &code) && tune_mode(t, NVFP4_MODE_W4A4, &code) && tune_mode(t, NVFP4_MODE_W4A16, &code) &&
      tune_mode(t, NVFP4_MODE_UNQUANTISED, &code) && save(t, &code)) {
    tell(t, &code);
  }
  nvfp4_context_destroy(t->tuned);
  nvfp4_context_destroy(t->context);
  nvfp4_checkpoint_close(t->checkpoint);
  free(t->shapes);
  free(t->times);
  return code;
}

static int run_tune(cli *run, int argc, char **argv) {
  tuning t = {.run = run,
              .mode = -1,
              .device_text = "cpu",
              .seconds = 0.1,
              .m_list = "1,2,4,8,16,32,64,128,256,512,1024",
              .output = "nvfp4-tuning.txt",
              .selection = {.untuned = true}};
  const cli_option options[] = {
      {"m", "LIST", "rows of x to time, comma-separated (default 1,2,4,...,1024); each speaks for the M up to the next", CLI_TEXT,
       &t.m_list, 0, 0},
      {"mode", "w4a4|w4a16", "activations in 4 or 16 bits (default: as the checkpoint says)", CLI_CHOICE, &t.mode, 0, 0},
      {"device", "cpu|cuda:N", "where the layers are (default cpu)", CLI_TEXT, &t.device_text, 0, 0},
      {"output", "FILE", "the table (default nvfp4-tuning.txt); replaced at the end, at once", CLI_TEXT, &t.output, 0, 0},
      {"rotate", "MIB", "copies of the weights that calls rotate over (default: more than the caches hold)", CLI_INTEGER, &t.rotate, 1,
       1 << 20},
      {"seconds", "S", "to time a kernel at one shape and M, three calls at least (default 0.1)", CLI_REAL, &t.seconds, 0, 60},
  };
  const cli_syntax syntax = {.options = options,
                             .option_count = sizeof options / sizeof options[0],
                             .selection = &t.selection,
                             .threads = true,
                             .operands = &t.path,
                             .least = 1,
                             .most = 1};
  int code;
  if (!cli_parse(run, argc, argv, &syntax, &code) || !cli_device(run, t.device_text, &t.device, &code) || !parse_m_list(&t, &code)) {
    return code;
  }
  t.seconds = t.seconds > 0 ? t.seconds : 1e-9; /* 0: as few calls as can be */
  return cli_output_is_new(run, "output", t.output, NULL, t.path, &code) ? tune(&t) : code;
}

const cli_command cli_tune = {
    .name = "tune",
    .operands = "CKPT",
    .summary = "times the kernels on this computer and writes a table that selection can go by",
    .description =
        "Every kernel that the policy leaves is timed on every shape of layer that CKPT has, with random weights (dense ones bf16), on an "
        "otherwise "
        "idle "
        "computer. The table is for this computer, this version of the library and this number of threads; with --device cuda:N, for GPUs "
        "of "
        "that name and this version of CUDA in the driver. Nothing reads it unless "
        "NVFP4_TUNING or --tuning names it. Slow kernels take most of the time: --disable 'ref_*' leaves them out.",
    .examples =
        "  nvfp4 tune model/\n"
        "  nvfp4 tune model/ --m 1,16,256 --threads 8 --output eight-threads.txt\n"
        "  nvfp4 tune model/ --device cuda:0 --output gpu.txt\n"
        "  nvfp4 explain model/ --tuning nvfp4-tuning.txt,gpu.txt\n",
    .run = run_tune,
};
