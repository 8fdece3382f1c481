/* SPDX-License-Identifier: Apache-2.0 */
/* nvfp4 explain: which kernel each layer gets, for every M, and why; layers with the same answer are told once. */
#define _POSIX_C_SOURCE 200809L /* strdup */
#include <fnmatch.h>
#include <stdlib.h>
#include <string.h>

#include "common.h"

/* One answer: a layer on a device. */
typedef struct answer {
  const nvfp4_layer_info *info;
  size_t device;        /* index */
  nvfp4_report *report; /* NULL: no layer of the contract's */
} answer;

typedef struct explanation {
  cli *run;
  nvfp4_context *context;
  nvfp4_machine machine;
  const char *machine_name; /* NULL: this computer */
  int64_t m;
  int mode; /* of the user, for NVFP4 layers: -1 none, 0 w4a4, 1 w4a16; for --shape also 2, w16a16: a dense layer */
  bool all;
  nvfp4_device devices[NVFP4_MAX_GPUS + 1];
  size_t device_count;
  size_t like[NVFP4_MAX_GPUS + 1]; /* the first device that is the same hardware: its answer is told for both */
  answer *answers;
  size_t count, capacity;
} explanation;

enum { NO_MODE = -1, AS_W4A4, AS_W4A16, AS_W16A16 };

static bool is_nvfp4(const nvfp4_layer_info *info) { return info->mode == NVFP4_MODE_W4A4 || info->mode == NVFP4_MODE_W4A16; }

/* The mode that a layer of that info is asked about. */
static nvfp4_mode asked_mode(const explanation *e, const nvfp4_layer_info *info) {
  return !is_nvfp4(info) || e->mode == NO_MODE ? info->mode : e->mode == AS_W4A4 ? NVFP4_MODE_W4A4 : NVFP4_MODE_W4A16;
}

/* ----------------------------------------------------------------------------------------------------------------- devices */

static bool same_gpu(const nvfp4_gpu *a, const nvfp4_gpu *b) {
  return strcmp(a->name, b->name) == 0 && a->sm == b->sm && a->multiprocessors == b->multiprocessors && a->memory_bytes == b->memory_bytes;
}

static void list_devices(explanation *e) {
  e->devices[e->device_count++] = (nvfp4_device){NVFP4_DEVICE_CPU, 0};
  for (int i = 0; i < e->machine.gpu_count; i++) {
    int first = 0;
    while (!same_gpu(&e->machine.gpus[first], &e->machine.gpus[i])) {
      first++;
    }
    e->like[e->device_count] = (size_t)first + 1;
    e->devices[e->device_count++] = (nvfp4_device){NVFP4_DEVICE_CUDA, i};
  }
}

static bool find_devices(explanation *e, const char *device, int *code) {
  if (strcmp(device, "auto") == 0) {
    list_devices(e);
    return true;
  }
  nvfp4_reason reason = {0};
  if (nvfp4_device_parse(device, &e->devices[0], &reason) != NVFP4_OK) {
    *code = cli_fail(e->run, reason.status, "--device %s: %s", device, reason.text);
    return false;
  }
  if (e->devices[0].kind == NVFP4_DEVICE_CUDA && e->devices[0].ordinal >= e->machine.gpu_count) {
    const char *missing = e->machine.cuda_missing;
    *code = cli_fail(e->run, NVFP4_E_MACHINE, "--device %s: the machine has %d GPUs%s%s", device, e->machine.gpu_count,
                     missing[0] != '\0' ? ": " : "", missing);
    return false;
  }
  e->device_count = 1;
  return true;
}

/* ----------------------------------------------------------------------------------------------------------------- answers */

static bool add_answer(explanation *e, const nvfp4_layer_info *info, size_t device, nvfp4_report *report, int *code) {
  if (e->count == e->capacity) {
    size_t capacity = e->capacity != 0 ? 2 * e->capacity : 256;
    answer *grown = realloc(e->answers, capacity * sizeof *grown);
    if (grown == NULL) {
      nvfp4_report_free(report);
      *code = cli_fail(e->run, NVFP4_E_NOMEM, "out of memory for the reports");
      return false;
    }
    e->answers = grown;
    e->capacity = capacity;
  }
  e->answers[e->count++] = (answer){info, device, report};
  return true;
}

static bool ask(explanation *e, const nvfp4_layer_info *info, nvfp4_layer_desc desc, int *code) {
  if (e->mode == AS_W4A4 && info->mode == NVFP4_MODE_W4A16) {
    *code = cli_fail(e->run, NVFP4_E_ARG, "--mode w4a4: layer %s has no input scale; it can run as w4a16 only", info->name);
    return false;
  }
  desc.mode = asked_mode(e, info);
  for (size_t i = 0; i < e->device_count; i++) {
    desc.device = e->devices[i];
    nvfp4_report *report = NULL;
    nvfp4_reason reason = {0};
    nvfp4_explain(e->context, e->machine_name != NULL ? &e->machine : NULL, &desc, NULL, e->m, &report, &reason);
    if (report == NULL) {
      *code = cli_fail_reason(e->run, &reason);
      return false;
    }
    if (!add_answer(e, info, i, report, code)) {
      return false;
    }
  }
  return true;
}

static bool ask_checkpoint(explanation *e, const nvfp4_checkpoint *checkpoint, const char *glob, int *code) {
  for (size_t i = 0; i < nvfp4_checkpoint_layer_count(checkpoint); i++) {
    const nvfp4_layer_info *info = nvfp4_checkpoint_layer(checkpoint, i);
    if (glob != NULL && fnmatch(glob, info->name, 0) != 0) {
      continue;
    }
    nvfp4_layer_desc desc = {.struct_size = sizeof desc};
    bool asked = !info->lookup && nvfp4_layer_desc_from_checkpoint(info, &desc, NULL) == NVFP4_OK;
    if (!(asked ? ask(e, info, desc, code) : add_answer(e, info, 0, NULL, code))) {
      return false;
    }
  }
  if (e->count == 0 && glob != NULL) {
    char hint[256];
    *code = cli_fail(e->run, NVFP4_E_ARG, "--layer %s: no layer has such a name (`nvfp4 inspect` lists them)%s", glob,
                     cli_did_you_mean(glob, cli_layer_name, checkpoint, hint, sizeof hint));
    return false;
  }
  return true;
}

/* "4096,14336" */
static bool parse_shape(const cli *run, const char *text, bool dense, int64_t *n, int64_t *k, int *code) {
  long long rows, columns;
  int used = -1;
  if (sscanf(text, "%18lld,%18lld%n", &rows, &columns, &used) != 2 || text[used] != '\0' || rows <= 0 || columns <= 0) {
    *code = cli_fail(run, NVFP4_E_ARG, "--shape %s: needs N,K, two positive whole numbers, as in --shape 4096,14336", text);
    return false;
  }
  if (!dense && columns % NVFP4_BLOCK != 0) {
    *code = cli_fail(run, NVFP4_E_SHAPE, "--shape %s: K = %lld is not a multiple of %d, which the block scales need", text, columns,
                     NVFP4_BLOCK);
    return false;
  }
  *n = rows;
  *k = columns;
  return true;
}

/* -------------------------------------------------------------------------------------------------------------------- JSON */

static json_t *answer_json(const explanation *e, const answer *a) {
  const nvfp4_layer_info *info = a->info;
  const nvfp4_report *report = a->report;
  json_t *by_m = json_array(), *kernels = json_array();
  for (size_t i = 0; report != NULL && i < report->range_count; i++) {
    const nvfp4_plan_range *range = &report->ranges[i];
    json_array_append_new(by_m, json_pack("{s:I, s:I, s:o}", "m_first", (json_int_t)range->m_first, "m_last", (json_int_t)range->m_last,
                                          "chosen", cli_json_text(range->kernel)));
  }
  for (size_t i = 0; report != NULL && i < report->row_count; i++) {
    const nvfp4_report_row *row = &report->rows[i];
    json_array_append_new(kernels, json_pack("{s:o, s:s, s:o}", "id", cli_json_text(row->id), "stage", nvfp4_stage_name(row->stage),
                                             "reason", cli_json_text(row->reason)));
  }
  const char *chosen = report != NULL ? report->chosen : NULL;
  nvfp4_mode mode = report != NULL ? asked_mode(e, info) : info->mode;
  json_t *json = json_pack(
      "{s:o, s:I, s:I, s:s, s:I, s:o, s:o, s:o, s:o, s:o}", "name", cli_json_text(info->name), "N", (json_int_t)info->n, "K",
      (json_int_t)info->k, "mode", nvfp4_mode_name(mode), "partitions", (json_int_t)info->partition_count, "layout",
      cli_json_text(info->layout != NVFP4_LAYOUT_NONE ? nvfp4_layout_kind_name(info->layout) : NULL), "chosen", cli_json_text(chosen),
      "decided_by", cli_json_text(report != NULL ? report->decided_by : NULL), "by_m", by_m, "kernels", kernels);
  if (chosen == NULL) {
    json_object_set_new(json, "reason", cli_json_text(report != NULL ? report->text : info->note));
  }
  if (e->device_count > 1 && report != NULL) {
    char device[16];
    json_object_set_new(json, "device", json_string(nvfp4_device_name(e->devices[a->device], device)));
  }
  return json;
}

static void print_answers_json(const explanation *e) {
  char device[16];
  json_t *layers = json_array();
  for (size_t i = 0; i < e->count; i++) {
    json_array_append_new(layers, answer_json(e, &e->answers[i]));
  }
  json_t *json = json_pack("{s:o, s:s}", "machine", cli_json_machine(&e->machine), "device", nvfp4_device_name(e->devices[0], device));
  if (e->device_count > 1) {
    json_t *devices = json_array();
    for (size_t i = 0; i < e->device_count; i++) {
      json_array_append_new(devices, json_string(nvfp4_device_name(e->devices[i], device)));
    }
    json_object_set_new(json, "devices", devices);
  }
  json_object_set_new(json, "layers", layers);
  cli_print_json(json);
}

/* -------------------------------------------------------------------------------------------------------------------- text */

static bool same_text(const char *a, const char *b) { return a == b || (a != NULL && b != NULL && strcmp(a, b) == 0); }

/* Whether two answers read the same but for name and shape. */
static bool same_outcome(const answer *a, const answer *b) {
  if (a->info->mode != b->info->mode || (a->report == NULL) != (b->report == NULL) || a->device != b->device ||
      a->info->layout != b->info->layout) {
    return false;
  }
  if (a->report == NULL) {
    return same_text(a->info->note, b->info->note);
  }
  const nvfp4_report *x = a->report, *y = b->report;
  if (x->status != y->status || !same_text(x->chosen, y->chosen) || x->row_count != y->row_count || x->range_count != y->range_count) {
    return false;
  }
  for (size_t i = 0; i < x->row_count; i++) {
    if (x->rows[i].stage != y->rows[i].stage || !same_text(x->rows[i].reason, y->rows[i].reason)) {
      return false;
    }
  }
  for (size_t i = 0; i < x->range_count; i++) {
    if (x->ranges[i].m_last != y->ranges[i].m_last || !same_text(x->ranges[i].kernel, y->ranges[i].kernel)) {
      return false;
    }
  }
  return true;
}

/* "model.layers.12.mlp.up_proj" -> "model.layers.*.mlp.up_proj". */
static void make_pattern(const char *name, char *pattern, size_t size) {
  size_t used = 0;
  for (bool first = true; *name != '\0' && used + 2 < size; first = false) {
    if (!first) {
      pattern[used++] = *name++; /* the dot */
    }
    size_t length = strcspn(name, ".");
    bool number = length > 0 && strspn(name, "0123456789") == length;
    for (size_t i = 0; i < (number ? 1 : length) && used + 1 < size; i++) {
      pattern[used++] = number ? '*' : name[i];
    }
    name += length;
  }
  pattern[used] = '\0';
}

typedef struct shape_line {
  char pattern[200];
  int64_t n, k, count;
} shape_line;

/* Names and shapes of a group, a line for those that differ by a number only. */
static void print_shapes(const answer *answers, const size_t *members, size_t count, bool all) {
  enum { SHOWN = 12 };
  shape_line *lines = calloc(count, sizeof *lines);
  size_t line_count = 0;
  for (size_t i = 0; lines != NULL && i < count; i++) {
    const nvfp4_layer_info *info = answers[members[i]].info;
    shape_line line = {.n = info->n, .k = info->k, .count = 1};
    if (all) {
      snprintf(line.pattern, sizeof line.pattern, "%s", info->name);
    } else if (info->weight != NULL) { /* otherwise it is --shape's */
      make_pattern(info->name, line.pattern, sizeof line.pattern);
    }
    size_t at = 0;
    while (at < line_count && (lines[at].n != line.n || lines[at].k != line.k || strcmp(lines[at].pattern, line.pattern) != 0)) {
      at++;
    }
    if (at == line_count) {
      lines[line_count++] = line;
    } else {
      lines[at].count++;
    }
  }
  cli_table table = {.columns = 4, .right = "rrrl"};
  for (size_t i = 0; i < line_count && (all || i < SHOWN); i++) {
    char times[24] = "";
    if (lines[i].count > 1) {
      snprintf(times, sizeof times, "%lld x", (long long)lines[i].count);
    }
    cli_table_add(&table, "%s", times);
    cli_table_add(&table, "N %lld", (long long)lines[i].n);
    cli_table_add(&table, "K %lld", (long long)lines[i].k);
    cli_table_add(&table, "%s", lines[i].pattern);
  }
  cli_table_print(&table, 2);
  if (!all && line_count > SHOWN) {
    printf("  ... and %zu more kinds of layer (--all lists every layer)\n", line_count - SHOWN);
  }
  free(lines);
}

static void print_plan(const nvfp4_report *report, uint64_t packed_bytes) {
  char bytes[32];
  for (size_t i = 0; i < report->range_count; i++) {
    const nvfp4_plan_range *range = &report->ranges[i];
    char rows[64];
    if (range->m_last == NVFP4_M_MAX) {
      snprintf(rows, sizeof rows, range->m_first <= 1 ? "any M" : "M %lld and more", (long long)range->m_first);
    } else {
      snprintf(rows, sizeof rows, "M %lld to %lld", (long long)range->m_first, (long long)range->m_last);
    }
    printf("  %-5s %s: %s, weights as %s", i == 0 ? "plan" : "", rows, range->kernel, range->layout);
    if (i + 1 == report->range_count) {
      printf("; %s packed", cli_bytes(packed_bytes, bytes));
    }
    putchar('\n');
  }
}

/* Whether the id says that the kernel is for the other kind of layers, dense or NVFP4: JSON alone lists it. */
static bool is_of_other_kind(const char *id, bool dense) {
  const char *end = strrchr(id, '_') != NULL ? strrchr(id, '_') : "";
  return dense ? strcmp(end, "_w4a4") == 0 || strcmp(end, "_w4a16") == 0 : strcmp(end, "_w16a16") == 0;
}

/* A plug-in of ours that is not given, and is for GPUs. (One that could not be opened is "plugin:FILE".) */
static bool is_missing_on_gpu(const nvfp4_report_row *row) {
  return row->stage == NVFP4_STAGE_PLUGIN_MISSING && strncmp(row->id, "plugin_", 7) == 0;
}

static void print_ranking(const nvfp4_report *report, bool dense, nvfp4_device device) {
  printf("  kernels for M = %lld, in order of preference\n", (long long)report->m);
  cli_table table = {.columns = 3, .right = "lll"};
  const char *above = "";
  for (size_t i = 0; i < report->row_count; i++) {
    const char *reason = report->rows[i].reason;
    if (is_of_other_kind(report->rows[i].id, dense) || (device.kind == NVFP4_DEVICE_CPU && is_missing_on_gpu(&report->rows[i]))) {
      continue;
    }
    cli_table_add(&table, "%s", report->rows[i].id);
    cli_table_add(&table, "%s", nvfp4_stage_name(report->rows[i].stage));
    cli_table_add(&table, "%s", strcmp(reason, above) == 0 ? "as above" : reason);
    above = reason;
  }
  cli_table_print(&table, 4);
}

/* "14 layers w4a4 on cpu: ref_w4a4, by order of preference" */
static void print_head(const explanation *e, const answer *first, size_t count) {
  const nvfp4_report *report = first->report;
  const char *plural = count == 1 ? "" : "s", *mode = nvfp4_mode_name(report != NULL ? asked_mode(e, first->info) : first->info->mode);
  char head[1024], device[16], more[64] = "";
  if (report == NULL) {
    snprintf(head, sizeof head, "%zu layer%s not NVFP4: %s", count, plural, first->info->note[0] != '\0' ? first->info->note : mode);
    cli_print_wrapped(stdout, 0, 2, head);
    return;
  }
  size_t alike = 0;
  for (size_t i = 0; i < e->device_count; i++) {
    alike += i != first->device && first->device != 0 && e->like[i] == first->device;
  }
  if (alike > 0) {
    snprintf(more, sizeof more, " (and %zu GPU%s like it)", alike, alike == 1 ? "" : "s");
  }
  int used = snprintf(head, sizeof head, "%zu layer%s %s on %s%s: ", count, plural, mode,
                      nvfp4_device_name(e->devices[first->device], device), more);
  bool order = report->decided_by == NULL || strcmp(report->decided_by, "order") == 0;
  if (report->chosen == NULL) {
    /* Without a wish of the user's, the ranking below says it all. */
    snprintf(head + used, sizeof head - (size_t)used, "NO KERNEL%s%s", order ? "" : ": ", order ? "" : report->text);
  } else {
    bool option = !order && strcmp(report->decided_by, "option") == 0;
    bool tuning = !order && strcmp(report->decided_by, "tuning") == 0;
    snprintf(head + used, sizeof head - (size_t)used, "%s, by %s", report->chosen,
             order    ? "order of preference"
             : option ? "--kernel"
             : tuning ? "the tuning table"
                      : report->decided_by);
  }
  cli_print_wrapped(stdout, 0, 2, head);
}

static void print_group(const explanation *e, const size_t *members, size_t count) {
  const nvfp4_report *report = e->answers[members[0]].report;
  putchar('\n');
  print_head(e, &e->answers[members[0]], count);
  print_shapes(e->answers, members, count, e->all);
  if (report == NULL) {
    return;
  }
  uint64_t packed_bytes = 0;
  for (size_t i = 0; i < count; i++) {
    packed_bytes += e->answers[members[i]].report->packed_bytes;
  }
  print_plan(report, packed_bytes);
  print_ranking(report, !is_nvfp4(e->answers[members[0]].info), e->devices[e->answers[members[0]].device]);
}

/* Prints the group that begins with answer `first`; marks its members in told. */
static void print_group_from(const explanation *e, size_t first, size_t *members, bool *told) {
  size_t count = 0;
  bool alone = e->all && e->answers[first].report != NULL;
  for (size_t j = first; j < e->count && !(alone && count == 1); j++) {
    if (!told[j] && same_outcome(&e->answers[first], &e->answers[j])) {
      members[count++] = j;
      told[j] = true;
    }
  }
  print_group(e, members, count);
}

/* Layers of the contract first. False if there is no memory. */
static bool print_groups(const explanation *e) {
  size_t *members = malloc((e->count + 1) * sizeof *members);
  bool *told = calloc(e->count + 1, sizeof *told);
  bool memory = members != NULL && told != NULL;
  for (size_t i = 0; memory && i < 2 * e->count; i++) {
    const answer *one = &e->answers[i % e->count];
    bool own_kind = one->report == NULL || e->like[one->device] == 0 || e->like[one->device] == one->device;
    if (!told[i % e->count] && own_kind && (one->report != NULL) == (i < e->count)) {
      print_group_from(e, i % e->count, members, told);
    }
  }
  free(members);
  free(told);
  return memory;
}

/* Layers for which no device that was asked for has a kernel. Answers of one layer stand side by side. */
static size_t count_unserved(const explanation *e, size_t *layers) {
  size_t unserved = 0;
  *layers = 0;
  for (size_t i = 0; i < e->count; i += e->answers[i].report != NULL ? e->device_count : 1) {
    if (e->answers[i].report == NULL) {
      continue;
    }
    bool served = false;
    for (size_t j = 0; j < e->device_count; j++) {
      served = served || e->answers[i + j].report->chosen != NULL;
    }
    unserved += !served;
    ++*layers;
  }
  return unserved;
}

static int print_answers(const explanation *e) {
  size_t layers;
  size_t unserved = count_unserved(e, &layers);
  if (e->run->json) {
    print_answers_json(e);
  } else {
    cli_print_field(stdout, "machine", "%s%s%s", cli_cpu_name(&e->machine), e->machine_name != NULL ? "; a dry run for " : "",
                    e->machine_name != NULL ? e->machine_name : "");
    if (!print_groups(e)) {
      return cli_fail(e->run, NVFP4_E_NOMEM, "out of memory");
    }
    if (layers == 0) {
      printf("\nNo layer that a kernel could serve.\n");
    } else if (e->count > e->device_count) {
      printf("\n%zu of %zu layers have a kernel.\n", layers - unserved, layers);
    }
  }
  return unserved > 0 ? CLI_CHECK_FAILED : CLI_DONE;
}

/* ----------------------------------------------------------------------------------------------------------------- command */

typedef struct question {
  const char *checkpoint, *shape, *layer, *machine, *device;
} question;

static int explain_shape(explanation *e, const question *asked) {
  int64_t n, k;
  int code;
  bool dense = e->mode == AS_W16A16, w4a16 = e->mode == AS_W4A16;
  if (!parse_shape(e->run, asked->shape, dense, &n, &k, &code)) {
    return code;
  }
  nvfp4_partition partition = {.n_rows = n, .weight.value = 1, .input.value = dense || w4a16 ? 0 : 1};
  nvfp4_layer_info info = {.name = asked->shape,
                           .mode = dense   ? NVFP4_MODE_UNQUANTISED
                                   : w4a16 ? NVFP4_MODE_W4A16
                                           : NVFP4_MODE_W4A4,
                           .n = n,
                           .k = k,
                           .partitions = &partition,
                           .partition_count = 1,
                           .note = ""};
  nvfp4_layer_desc desc = {.struct_size = sizeof desc,
                           .name = asked->shape,
                           .n = n,
                           .k = k,
                           .mode = info.mode,
                           .x_dtype = NVFP4_DTYPE_BF16,
                           .y_dtype = NVFP4_DTYPE_BF16,
                           .partitions = &partition,
                           .partition_count = 1,
                           .weight_dtype = dense ? NVFP4_DTYPE_BF16 : NVFP4_DTYPE_NONE};
  return ask(e, &info, desc, &code) ? print_answers(e) : code;
}

static int explain_checkpoint(explanation *e, const question *asked) {
  nvfp4_checkpoint *checkpoint;
  int code;
  if (!cli_open(e->run, asked->checkpoint, 0, &checkpoint, &code)) {
    return code;
  }
  if (ask_checkpoint(e, checkpoint, asked->layer, &code)) {
    code = print_answers(e);
  }
  nvfp4_checkpoint_close(checkpoint);
  return code;
}

static int explain_question(explanation *e, const cli_selection *selection, const question *asked) {
  int code;
  e->machine_name = asked->machine;
  if (asked->machine != NULL && !cli_machine(e->run, asked->machine, &e->machine, &code)) {
    return code;
  }
  if (!cli_context(e->run, selection, &e->context, &code)) {
    return code;
  }
  if (asked->machine == NULL) {
    e->machine = *nvfp4_context_machine(e->context);
  }
  if (find_devices(e, asked->device, &code)) {
    code = asked->shape != NULL ? explain_shape(e, asked) : explain_checkpoint(e, asked);
  }
  for (size_t i = 0; i < e->count; i++) {
    nvfp4_report_free(e->answers[i].report);
  }
  free(e->answers);
  nvfp4_context_destroy(e->context);
  return code;
}

static int run_explain(cli *run, int argc, char **argv) {
  question asked = {.device = "auto"};
  cli_selection selection = {0};
  explanation e = {.run = run, .m = 1, .mode = NO_MODE};
  const cli_option options[] = {
      {"shape", "N,K", "a layer of N output and K input features instead of a checkpoint (without bias, one partition)", CLI_TEXT,
       &asked.shape, 0, 0},
      {"mode", "w4a4|w4a16|w16a16",
       "activations of NVFP4 layers in 4 or 16 bits (default: as the checkpoint says; for --shape w4a4); w16a16, for --shape: a dense "
       "layer, bf16",
       CLI_CHOICE, &e.mode, 0, 0},
      {"m", "M", "rows of x that the ranking is for (default 1)", CLI_INTEGER, &e.m, 1, INT64_MAX},
      {"machine", "FILE|NAME", "a recorded machine instead of this computer: a dry run", CLI_TEXT, &asked.machine, 0, 0},
      {"device", "cpu|cuda:N|auto", "where the layers live (default auto: every device of the machine)", CLI_TEXT, &asked.device, 0, 0},
      {"layer", "GLOB", "only layers of such names", CLI_TEXT, &asked.layer, 0, 0},
      {"all", NULL, "tell every layer by itself", CLI_FLAG, &e.all, 0, 0},
  };
  const cli_syntax syntax = {.options = options,
                             .option_count = sizeof options / sizeof options[0],
                             .selection = &selection,
                             .operands = &asked.checkpoint,
                             .least = 0,
                             .most = 1};
  int code;
  if (!cli_parse(run, argc, argv, &syntax, &code)) {
    return code;
  }
  if ((asked.checkpoint == NULL) == (asked.shape == NULL)) {
    return cli_fail(run, NVFP4_E_ARG, "%s; needs a checkpoint or --shape N,K",
                    asked.shape != NULL ? "both a checkpoint and --shape are given" : "nothing to explain");
  }
  if (asked.shape != NULL && asked.layer != NULL) {
    return cli_fail(run, NVFP4_E_ARG, "--layer and --shape do not go together; --layer chooses layers of a checkpoint");
  }
  if (e.mode == AS_W16A16 && asked.shape == NULL) {
    return cli_fail(run, NVFP4_E_ARG, "--mode w16a16 is for --shape; the layers of a checkpoint that are dense are so anyway");
  }
  if (asked.machine != NULL && selection.tuning != NULL) {
    return cli_fail(run, NVFP4_E_ARG, "--machine and --tuning do not go together; a tuning table holds times of this computer");
  }
  return explain_question(&e, &selection, &asked);
}

const cli_command cli_explain = {
    .name = "explain",
    .operands = "[CKPT]",
    .summary = "which kernel each layer gets, for every M, and why",
    .description =
        "Layers with the same answer are told once. In JSON, a machine with several devices has \"devices\", and each layer that kernels "
        "can serve stands "
        "there "
        "once a device with its \"device\"; \"layout\" is that of the file. Exit code 1: a layer has no kernel on any of the devices.",
    .examples =
        "  nvfp4 explain model/\n"
        "  nvfp4 explain model/ --layer '*.down_proj' --m 512\n"
        "  nvfp4 explain --shape 4096,14336 --mode w4a16 --machine h100\n",
    .run = run_explain,
};
