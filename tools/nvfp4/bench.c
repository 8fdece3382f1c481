/* SPDX-License-Identifier: Apache-2.0 */
/* nvfp4 bench: kernels x shapes x M, beside what this computer can do at most. */
#define _POSIX_C_SOURCE 200809L /* fnmatch, isatty */
#include <fnmatch.h>
#include <nvfp4/bench.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common.h"

enum { MOST = 64 };

typedef struct benchmark {
  const cli *run;
  const char *kernel, *shape_text, *m_text, *device;
  cli_selection selection;
  nvfp4_bench_shape shapes[MOST];
  int64_t ms[MOST];
  nvfp4_bench_options options;
  nvfp4_context *context;
  const char **kernels; /* ids that --kernel matches */
  bool resident, progress;
  int64_t rotate; /* MiB */
} benchmark;

/* A number at *text, and what stands behind it: one of `ends`, or the end. */
static bool parse_number(const char **text, const char *ends, int64_t *out) {
  char *end;
  if (**text < '0' || **text > '9') {
    return false;
  }
  long long number = strtoll(*text, &end, 10);
  if (number < 1 || number > INT32_MAX || (*end != '\0' && strchr(ends, *end) == NULL) || (*end != '\0' && end[1] == '\0')) {
    return false;
  }
  *out = number;
  *text = end + (*end != '\0');
  return true;
}

static bool parse_lists(benchmark *b, int *code) {
  const char *at = b->shape_text;
  while (*at != '\0') {
    nvfp4_bench_shape *shape = &b->shapes[b->options.shape_count];
    if (b->options.shape_count == MOST || !parse_number(&at, ",", &shape->n) || *at == '\0' || !parse_number(&at, ";", &shape->k)) {
      *code =
          cli_fail(b->run, NVFP4_E_ARG,
                   "--shape %s: needs N,K or N,K;N,K;..., positive whole numbers, as in --shape \"4096,14336;14336,4096\"", b->shape_text);
      return false;
    }
    b->options.shape_count++;
  }
  for (at = b->m_text; *at != '\0'; b->options.m_count++) {
    if (b->options.m_count == MOST || !parse_number(&at, ",", &b->ms[b->options.m_count])) {
      *code = cli_fail(b->run, NVFP4_E_ARG, "--m %s: needs rows of x, positive whole numbers, as in --m 1,16,512", b->m_text);
      return false;
    }
  }
  return true;
}

static bool matches(const char *list, const char *id) {
  while (*list != '\0') {
    list += strspn(list, ", ");
    size_t length = strcspn(list, ", ");
    char glob[128];
    snprintf(glob, sizeof glob, "%.*s", (int)(length < sizeof glob ? length : sizeof glob - 1), list);
    if (length > 0 && fnmatch(glob, id, 0) == 0) {
      return true;
    }
    list += length;
  }
  return false;
}

static const char *kernel_name(const void *context, size_t index) {
  nvfp4_kernel_info info;
  nvfp4_reason why_not;
  return index < nvfp4_kernel_count(context) && nvfp4_kernel_get(context, index, NULL, &info, &why_not) == NVFP4_OK ? info.id : NULL;
}

/* The kernels of the device that --kernel names and that can run here. */
static bool find_kernels(benchmark *b, int *code) {
  size_t known = nvfp4_kernel_count(b->context), named = 0;
  b->kernels = calloc(known + 1, sizeof *b->kernels);
  nvfp4_reason why_not = {0}, last = {0};
  for (size_t i = 0; b->kernels != NULL && i < known; i++) {
    nvfp4_kernel_info info;
    if (nvfp4_kernel_get(b->context, i, NULL, &info, &why_not) != NVFP4_OK || (b->kernel != NULL && !matches(b->kernel, info.id))) {
      continue;
    }
    named++;
    if (info.stage == NVFP4_STAGE_ELIGIBLE && info.device == b->options.device.kind) {
      b->kernels[b->options.kernel_count++] = info.id;
    } else {
      last = why_not;
    }
  }
  b->options.kernels = b->kernels;
  if (b->options.kernel_count > 0) {
    return true;
  }
  char hint[256];
  *code = named > 0 ? cli_fail(b->run, NVFP4_E_MACHINE, "no kernel that --kernel names can run here: %s", last.text)
                    : cli_fail(b->run, NVFP4_E_ARG, "--kernel %s: no kernel has such a name (`nvfp4 kernels` lists them)%s",
                               b->kernel != NULL ? b->kernel : "",
                               cli_did_you_mean(b->kernel != NULL ? b->kernel : "", kernel_name, b->context, hint, sizeof hint));
  return false;
}

/* -------------------------------------------------------------------------------------------------------------------- output */

static json_t *roof_json(const nvfp4_roof *roof) {
  return json_pack("{s:o, s:o, s:s, s:o, s:s, s:o, s:s, s:i}", "read_gbps", cli_json_real(roof->read_gbps), "f32_gflops",
                   cli_json_real(roof->f32_gflops), "f32_name", roof->f32_name, "i8_gops", cli_json_real(roof->i8_gops), "i8_name",
                   roof->i8_name, "bf16_gflops", cli_json_real(roof->bf16_gflops), "bf16_name", roof->bf16_name, "threads", roof->threads);
}

static json_t *result_json(const nvfp4_bench *bench, const nvfp4_bench_result *r) {
  json_t *row = json_pack("{s:o, s:I, s:I, s:I, s:i}", "kernel", cli_json_text(r->kernel), "N", (json_int_t)r->n, "K", (json_int_t)r->k,
                          "M", (json_int_t)r->m, "threads", bench->threads);
  if (r->status != NVFP4_OK) {
    json_object_set_new(row, "reason", cli_json_text(r->reason));
    return row;
  }
  json_object_update_new(row, json_pack("{s:o, s:o, s:o, s:o, s:o, s:o}", "us", cli_json_real(r->us), "us_p10", cli_json_real(r->us_p10),
                                        "us_p90", cli_json_real(r->us_p90), "gbps", cli_json_real(r->gbps), "gflops",
                                        cli_json_real(r->gflops), "roof_share", cli_json_real(r->roof_share)));
  if (r->rel_err >= 0) {
    json_object_update_new(row, json_pack("{s:o, s:o}", "rel_err", cli_json_real(r->rel_err), "pack_gbps", cli_json_real(r->pack_gbps)));
  }
  return row;
}

static void print_json(const benchmark *b, const nvfp4_bench *bench) {
  json_t *list = json_array();
  for (size_t i = 0; i < bench->result_count; i++) {
    json_array_append_new(list, result_json(bench, &bench->results[i]));
  }
  cli_print_json(json_pack("{s:o, s:s, s:{s:o, s:o}, s:o}", "machine", cli_json_machine(nvfp4_context_machine(b->context)), "device",
                           b->device, "roof", "before", roof_json(&bench->before), "after", roof_json(&bench->after), "results", list));
}

static void print_roof(const char *label, const nvfp4_roof *roof) {
  if (roof->threads == 0) { /* of a GPU */
    cli_print_field(stdout, label, "roof: read %.1f GB/s, bf16 %.1f TFLOP/s (%s)", roof->read_gbps, roof->bf16_gflops / 1000,
                    roof->bf16_name);
    return;
  }
  cli_print_field(stdout, label, "roof: read %.1f GB/s, fp32 %.0f GFLOP/s (%s), int8 %.0f Gop/s (%s)", roof->read_gbps, roof->f32_gflops,
                  roof->f32_name, roof->i8_gops, roof->i8_name);
}

static void add_heads(cli_table *table, bool gpu) {
  static const char *const of_cpu[] = {"kernel", "us", "p10", "p90", "GB/s", "GFLOP/s", "of roof", "", NULL};
  static const char *const of_gpu[] = {"kernel", "us", "p10", "p90", "GB/s", "TFLOP/s", "of roof", "error", "packs GB/s", "", NULL};
  for (const char *const *head = gpu ? of_gpu : of_cpu; *head != NULL; head++) {
    cli_table_add(table, "%s", *head);
  }
}

static void add_figures(cli_table *table, const nvfp4_bench_result *r, bool gpu) {
  bool timed = r->status == NVFP4_OK;
  const double figures[] = {r->us, r->us_p10, r->us_p90, r->gbps, gpu ? r->gflops / 1000 : r->gflops, 100 * r->roof_share};
  cli_table_add(table, "%s", r->kernel);
  for (int figure = 0; figure < 6; figure++) {
    if (timed) {
      cli_table_add(table, "%.*f%s", figure == 3 ? 2 : 1, figures[figure], figure == 5 ? " %" : "");
    } else {
      cli_table_add(table, "-");
    }
  }
  if (gpu && timed && r->rel_err >= 0) {
    cli_table_add(table, "%.1e", r->rel_err);
    cli_table_add(table, "%.0f", r->pack_gbps);
  } else if (gpu) {
    cli_table_add(table, "-");
    cli_table_add(table, "-");
  }
  cli_table_add(table, "%s", r->reason);
}

static void print_text(const benchmark *b, const nvfp4_bench *bench) {
  const nvfp4_machine *machine = nvfp4_context_machine(b->context);
  bool gpu = b->options.device.kind == NVFP4_DEVICE_CUDA;
  if (gpu) {
    cli_print_field(stdout, "machine", "%s: %s, CUDA %d.%d", b->device, machine->gpus[b->options.device.ordinal].name,
                    machine->cuda_driver / 1000, machine->cuda_driver % 1000 / 10);
  } else {
    cli_print_field(stdout, "machine", "%s, %d threads", cli_cpu_name(machine), bench->threads);
  }
  print_roof("before", &bench->before);
  print_roof("after", &bench->after);
  cli_table table = {.columns = gpu ? 10 : 8, .right = gpu ? "lrrrrrrrrl" : "lrrrrrrl"};
  for (size_t i = 0; i < bench->result_count; i++) {
    const nvfp4_bench_result *r = &bench->results[i];
    if (i % (b->options.kernel_count + gpu) == 0) {
      cli_table_print(&table, 2);
      printf("\nN %lld, K %lld, M %lld\n", (long long)r->n, (long long)r->k, (long long)r->m);
      add_heads(&table, gpu);
    }
    add_figures(&table, r, gpu);
  }
  cli_table_print(&table, 2);
}

static void show_progress(void *cookie, const char *kernel, int64_t n, int64_t k, int64_t m) {
  (void)cookie;
  fprintf(stderr, "\rN %lld K %lld M %lld %-32s", (long long)n, (long long)k, (long long)m, kernel);
}

static int run_benchmark(benchmark *b) {
  int code = CLI_DONE;
  nvfp4_bench *bench;
  nvfp4_reason reason = {0};
  if (!find_kernels(b, &code)) {
    return code;
  }
  b->options.shapes = b->shapes;
  b->options.ms = b->ms;
  if (b->resident) {
    b->shapes[0] = nvfp4_bench_resident_shape(b->context);
    b->options.shape_count = 1;
    b->options.resident = true;
  }
  b->options.progress = b->progress ? show_progress : NULL;
  nvfp4_status status = nvfp4_bench_run(b->context, &b->options, &bench, &reason);
  if (b->progress) {
    fprintf(stderr, "\r%72s\r", "");
  }
  if (status != NVFP4_OK) {
    return cli_fail_reason(b->run, &reason);
  }
  if (b->run->json) {
    print_json(b, bench);
  } else {
    print_text(b, bench);
  }
  nvfp4_bench_free(bench);
  return CLI_DONE;
}

static int run_bench(cli *run, int argc, char **argv) {
  benchmark b = {.run = run,
                 .device = "cpu",
                 .shape_text = "4096,4096;14336,4096;4096,14336",
                 .m_text = "1,16,512",
                 .options = {.struct_size = sizeof b.options},
                 .selection = {.untuned = true}};
  const cli_option options[] = {
      {"kernel", "LIST", "only these: ids or globs, comma-separated (default: all that can run here)", CLI_TEXT, &b.kernel, 0, 0},
      {"shape", "LIST", "N,K or N,K;N,K;... (default 4096,4096;14336,4096;4096,14336)", CLI_TEXT, &b.shape_text, 0, 0},
      {"m", "LIST", "rows of x, comma-separated (default 1,16,512)", CLI_TEXT, &b.m_text, 0, 0},
      {"l2", NULL, "weights that stay in the L2 caches instead of shapes: what decode is bound by if not by memory", CLI_FLAG, &b.resident,
       0, 0},
      {"device", "cpu|cuda:N", "whose kernels (default cpu); on a GPU cuBLAS' bf16 product is timed too", CLI_TEXT, &b.device, 0, 0},
      {"seconds", "S", "of timed calls for each kernel, shape and M; three calls at least (default 0.3)", CLI_REAL, &b.options.seconds, 0,
       3600},
      {"rotate", "MIB", "copies of the weights that calls rotate over, and what the roof reads (default: more than the caches hold)",
       CLI_INTEGER, &b.rotate, 1, 1 << 20},
      {"threads", "N", "threads (default: NVFP4_THREADS, or one a processor)", CLI_INTEGER, &b.selection.threads, 1, 4096},
      {"disable", "LIST", "never these: ids or globs, comma-separated (default: NVFP4_DISABLE)", CLI_TEXT, &b.selection.disable, 0, 0},
      {"plugins", "LIST", "plug-ins to open: paths, comma-separated (default: NVFP4_PLUGINS)", CLI_TEXT, &b.selection.plugins, 0, 0},
  };
  const cli_syntax syntax = {.options = options, .option_count = sizeof options / sizeof options[0]};
  int code;
  if (!cli_parse(run, argc, argv, &syntax, &code) || !cli_device(run, b.device, &b.options.device, &code) || !parse_lists(&b, &code) ||
      !cli_context(run, &b.selection, &b.context, &code)) {
    return code;
  }
  b.options.rotate_bytes = (uint64_t)b.rotate << 20;
  b.progress = isatty(STDERR_FILENO);
  code = run_benchmark(&b);
  free(b.kernels);
  nvfp4_context_destroy(b.context);
  return code;
}

const cli_command cli_bench = {
    .name = "bench",
    .operands = "",
    .summary = "times kernels, and says what share of this computer's limit they reach",
    .description =
        "Microseconds of a call (the median, the 10th and 90th percentile), x and y bf16. GB/s count 0.5625 bytes a weight, of kernels for "
        "dense layers 2 (bf16). The roof is measured before and after: read bandwidth and the fastest arithmetic; a share of 100 % is a "
        "kernel that this computer cannot do better. Kernels take turns call by call. Up to M = 16, on a GPU always, the weights come from "
        "memory (calls rotate over copies of them). On a GPU also: the error of a sample of y against sums in double, and how fast a layer "
        "is "
        "packed whose weights are on the device.",
    .examples =
        "  nvfp4 bench --kernel 'ref_*' --shape 4096,4096 --m 1\n"
        "  nvfp4 bench --l2 --m 1 --threads 1 --json\n",
    .run = run_bench,
};
