/* SPDX-License-Identifier: Apache-2.0 */
/* nvfp4 inspect: the layers of a checkpoint, their scales, and what is wrong with them. */
#include <math.h>
#include <nvfp4/inspect.h>
#include <stdlib.h>
#include <string.h>

#include "common.h"

enum { E4M3_FIRST_NORMAL = 0x08, E4M3_LARGEST = 0x7E };

/* A positive finite E4M3 code: 4 exponent bits with bias 7, 3 bits of mantissa. */
static double e4m3_value(int code) { return code < E4M3_FIRST_NORMAL ? ldexp(code, -9) : ldexp(8 + (code & 7), (code >> 3) - 10); }

static uint64_t count_range(const nvfp4_layer_inspection *found, int first, int last) {
  uint64_t sum = 0;
  for (int code = first; code <= last; code++) {
    sum += found->scales[code];
  }
  return sum;
}

static double smallest(const nvfp4_layer_inspection *found) {
  int code = 1;
  while (code <= E4M3_LARGEST && found->scales[code] == 0) {
    code++;
  }
  return code <= E4M3_LARGEST ? e4m3_value(code) : 0;
}

static double largest(const nvfp4_layer_inspection *found) {
  int code = E4M3_LARGEST;
  while (code > 0 && found->scales[code] == 0) {
    code--;
  }
  return e4m3_value(code);
}

static uint64_t count_bad(const nvfp4_layer_inspection *found) { return count_range(found, E4M3_LARGEST + 1, 255); }

typedef struct inspection {
  const cli *run;
  const nvfp4_checkpoint *checkpoint;
  nvfp4_context *context;
  nvfp4_layer_inspection *found; /* of each layer */
  json_t *fused;                 /* layers that engines put together, whose globals differ */
  size_t layer_count;
  cli_selection selection; /* threads alone */
  uint64_t peak_anonymous_bytes;
  json_t *trouble, *warnings; /* sentences; warnings do not fail the inspection */
} inspection;

static bool is_nvfp4(const nvfp4_layer_info *info) { return info->mode == NVFP4_MODE_W4A4 || info->mode == NVFP4_MODE_W4A16; }

/* ------------------------------------------------------------------------------------------------------------------ reading */

static void add_sentence(json_t *list, const nvfp4_layer_info *info, const char *text) {
  char sentence[1280];
  snprintf(sentence, sizeof sentence, "layer %s: %s", info->name, text);
  json_array_append_new(list, cli_json_text(sentence));
}

static void note_findings(inspection *in, const nvfp4_layer_info *info, const nvfp4_layer_inspection *found) {
  char text[128];
  if (found->suspicions != 0) {
    add_sentence(in->trouble, info, found->text);
  }
  if (is_nvfp4(info) && found->dead == found->blocks) {
    add_sentence(in->warnings, info, "all its weights are 0");
  } else if (found->lost > 0) {
    snprintf(text, sizeof text, "%llu of %llu blocks have codes, but a scale of 0: their weights are lost", (unsigned long long)found->lost,
             (unsigned long long)found->blocks);
    add_sentence(in->warnings, info, text);
  }
}

static bool read_layers(inspection *in, int *code) {
  cli_progress progress;
  cli_progress_begin(&progress, "layers");
  bool sound = true;
  for (size_t i = 0; i < in->layer_count && sound; i++) {
    const nvfp4_layer_info *info = nvfp4_checkpoint_layer(in->checkpoint, i);
    nvfp4_reason reason = {0};
    if (nvfp4_inspect_layer(in->context, in->checkpoint, info, &in->found[i], &reason) != NVFP4_OK) {
      *code = cli_fail_reason(in->run, &reason);
      sound = false;
    }
    note_findings(in, info, &in->found[i]);
    cli_progress_step(&progress, i + 1, in->layer_count);
  }
  cli_progress_end(&progress);
  in->peak_anonymous_bytes = progress.peak_anonymous_bytes;
  return sound;
}

/* ------------------------------------------------------------------------------------------------------------------- fused */

/* The factor of a weight global, whatever its kind. */
static double factor_of(nvfp4_global global) {
  double value = (double)global.value;
  return global.kind == NVFP4_GLOBAL_DIVISOR ? 1 / value : global.kind == NVFP4_GLOBAL_AMAX ? value / 2688 : value;
}

/* Endings of the names of layers that engines run as one; each set ends with NULL. */
static const char *const fused_sets[][4] = {{"q_proj", "k_proj", "v_proj", NULL}, {"gate_proj", "up_proj", NULL},
                                            {"attn_q", "attn_k", "attn_v", NULL}, {"ffn_gate", "ffn_up", NULL},
                                            {"to_q", "to_k", "to_v", NULL},       {"w1", "w3", NULL}};

typedef struct fused_group {
  json_t *names;
  double least, most; /* factors of the weights' globals */
  int parts;
} fused_group;

static void add_part(fused_group *group, const nvfp4_layer_info *info) {
  for (int64_t i = 0; i < info->partition_count; i++) {
    double factor = factor_of(info->partitions[i].weight);
    group->least = group->parts == 0 || factor < group->least ? factor : group->least;
    group->most = group->parts == 0 || factor > group->most ? factor : group->most;
    group->parts++;
  }
  json_array_append_new(group->names, cli_json_text(info->name));
}

/* The layers that would be fused with this one, itself the first of its set; a layer of several parts is a group of its own. */
static void find_group(const inspection *in, const nvfp4_layer_info *info, fused_group *group) {
  const char *last = strrchr(info->name, '.');
  last = last != NULL ? last + 1 : info->name;
  add_part(group, info);
  for (size_t set = 0; set < sizeof fused_sets / sizeof fused_sets[0]; set++) {
    for (int i = 1; strcmp(last, fused_sets[set][0]) == 0 && fused_sets[set][i] != NULL; i++) {
      char name[1024];
      snprintf(name, sizeof name, "%.*s%s", (int)(last - info->name), info->name, fused_sets[set][i]);
      const nvfp4_layer_info *other = nvfp4_checkpoint_find_layer(in->checkpoint, name);
      if (other != NULL && is_nvfp4(other)) {
        add_part(group, other);
      }
    }
  }
}

static void find_fused(inspection *in) {
  for (size_t i = 0; i < in->layer_count; i++) {
    const nvfp4_layer_info *info = nvfp4_checkpoint_layer(in->checkpoint, i);
    fused_group group = {.names = json_array()};
    if (is_nvfp4(info)) {
      find_group(in, info, &group);
    }
    if (group.parts > 1 && group.least != group.most) {
      json_array_append_new(in->fused, json_pack("{s:O, s:f}", "layers", group.names, "ratio", group.most / group.least));
    }
    json_decref(group.names);
  }
}

/* -------------------------------------------------------------------------------------------------------------------- JSON */

static json_t *global_json(nvfp4_global global) {
  if (global.value == 0) {
    return json_null();
  }
  return json_pack("{s:o, s:s}", "value", cli_json_real((double)global.value), "kind", nvfp4_global_kind_name(global.kind));
}

static json_t *share_json(double share) { return share >= 0 ? json_real(share) : json_null(); }

static json_t *weights_json(const nvfp4_layer_info *info, const nvfp4_layer_inspection *found) {
  if (!is_nvfp4(info)) {
    return json_null();
  }
  json_t *suspicions = json_array();
  for (int bit = 0; bit < 32; bit++) {
    if ((found->suspicions & UINT32_C(1) << bit) != 0) {
      json_array_append_new(suspicions, json_string(nvfp4_suspicion_name(UINT32_C(1) << bit)));
    }
  }
  const nvfp4_nibble_evidence *nibbles = &found->nibbles;
  json_t *columns = nibbles->reference[0] != '\0'
                        ? json_pack("{s:o, s:f, s:f, s:f}", "reference", cli_json_text(nibbles->reference), "as_read", nibbles->as_read,
                                    "swapped", nibbles->swapped, "halves", nibbles->halves)
                        : json_null();
  return json_pack("{s:o, s:o, s:I, s:I, s:I, s:I, s:{s:o, s:o}, s:o, s:o}", "rms", cli_json_real(found->rms), "largest",
                   cli_json_real(found->largest), "blocks_with_6", (json_int_t)found->largest_6, "blocks_with_4",
                   (json_int_t)found->largest_4, "dead_blocks", (json_int_t)found->dead, "lost_blocks", (json_int_t)found->lost,
                   "scales_explained", "as_read", share_json(found->explained_as_read), "otherwise", share_json(found->explained_otherwise),
                   "column_correlation", columns, "suspicions", suspicions);
}

static json_t *layer_json(const nvfp4_layer_info *info, const nvfp4_layer_inspection *found) {
  json_t *partitions = json_array(), *scales = json_null();
  for (int64_t i = 0; i < info->partition_count && (is_nvfp4(info) || i < 3); i++) {
    const nvfp4_partition *part = &info->partitions[i];
    json_array_append_new(
        partitions, json_pack("{s:I, s:I, s:o, s:o}", "n_first", (json_int_t)part->n_first, "n_rows", (json_int_t)part->n_rows, "global",
                              global_json(part->weight), "input_global", global_json(part->input)));
  }
  if (is_nvfp4(info)) {
    scales = json_pack("{s:I, s:o, s:o, s:I, s:I, s:I, s:I}", "blocks", (json_int_t)count_range(found, 0, 255), "min",
                       cli_json_real(smallest(found)), "max", cli_json_real(largest(found)), "zero", (json_int_t)found->scales[0],
                       "subnormal", (json_int_t)count_range(found, 1, E4M3_FIRST_NORMAL - 1), "saturated",
                       (json_int_t)found->scales[E4M3_LARGEST], "nan_or_negative", (json_int_t)count_bad(found));
  }
  return json_pack("{s:o, s:I, s:I, s:s, s:o, s:o, s:o, s:o, s:o, s:o}", "name", cli_json_text(info->name), "N", (json_int_t)info->n, "K",
                   (json_int_t)info->k, "mode", nvfp4_mode_name(info->mode), "layout",
                   cli_json_text(info->layout != NVFP4_LAYOUT_NONE ? nvfp4_layout_kind_name(info->layout) : NULL), "partitions", partitions,
                   "bias", cli_json_text(info->bias != NULL ? nvfp4_dtype_name(info->bias->dtype) : NULL), "scales", scales, "weights",
                   weights_json(info, found), "note", cli_json_text(info->note));
}

static void print_inspection_json(inspection *in) {
  json_t *layers = json_array();
  for (size_t i = 0; i < in->layer_count; i++) {
    json_array_append_new(layers, layer_json(nvfp4_checkpoint_layer(in->checkpoint, i), &in->found[i]));
  }
  cli_print_json(json_pack("{s:o, s:I, s:o, s:O, s:O, s:O, s:I}", "checkpoint", cli_json_text(nvfp4_checkpoint_path(in->checkpoint)),
                           "tensors", (json_int_t)nvfp4_checkpoint_tensor_count(in->checkpoint), "layers", layers, "fused", in->fused,
                           "warnings", in->warnings, "trouble", in->trouble, "peak_anonymous_bytes", (json_int_t)in->peak_anonymous_bytes));
}

/* -------------------------------------------------------------------------------------------------------------------- text */

/* As stored: a divisor as "1/12544". */
static const char *global_text(nvfp4_global global, char text[32]) {
  if (global.value == 0) {
    return "-";
  }
  snprintf(text, 32, "%s%.4g%s", global.kind == NVFP4_GLOBAL_DIVISOR ? "1/" : "", (double)global.value,
           global.kind == NVFP4_GLOBAL_AMAX ? "/2688" : "");
  return text;
}

static void add_layer(cli_table *table, const nvfp4_layer_info *info, const nvfp4_layer_inspection *found) {
  char a[32], b[32];
  const nvfp4_partition *parts = info->partitions;
  bool single = info->partition_count == 1;
  cli_table_add(table, "%s", info->name);
  cli_table_add(table, "%lld", (long long)info->n);
  cli_table_add(table, "%lld", (long long)info->k);
  cli_table_add(table, "%s", single ? global_text(parts[0].weight, a) : "");
  cli_table_add(table, "%s", single ? global_text(parts[0].input, b) : "");
  cli_table_add(table, "%.4g", smallest(found));
  cli_table_add(table, "%.4g", largest(found));
  cli_table_add(table, "%llu", (unsigned long long)found->dead);
  cli_table_add(table, "%llu", (unsigned long long)count_range(found, 1, E4M3_FIRST_NORMAL - 1));
  cli_table_add(table, "%llu", (unsigned long long)found->scales[E4M3_LARGEST]);
  cli_table_add(table, "%.3g", found->rms);
  for (int64_t i = 0; !single && i < info->partition_count; i++) {
    cli_table_add(table, "  rows from %lld", (long long)parts[i].n_first);
    cli_table_add(table, "%lld", (long long)parts[i].n_rows);
    cli_table_add(table, "%s", "");
    cli_table_add(table, "%s", global_text(parts[i].weight, a));
    cli_table_add(table, "%s", global_text(parts[i].input, b));
    for (int column = 5; column < 11; column++) {
      cli_table_add(table, "%s", "");
    }
  }
}

/* Layers of one kind of file, mode and note: a table of NVFP4 layers, or names and shapes of others. */
static void print_kind(const inspection *in, size_t first, bool *told) {
  const nvfp4_layer_info *like = nvfp4_checkpoint_layer(in->checkpoint, first);
  bool nvfp4 = is_nvfp4(like);
  cli_table table = {.columns = nvfp4 ? 11 : 4, .right = nvfp4 ? "lrrrrrrrrrr" : "lrrl"};
  if (nvfp4) {
    static const char *const heads[] = {"layer", "N", "K", "global", "input", "min", "max", "dead", "subn", "448", "rms"};
    for (int i = 0; i < table.columns; i++) {
      cli_table_add(&table, "%s", heads[i]);
    }
  }
  size_t count = 0;
  for (size_t i = first; i < in->layer_count; i++) {
    const nvfp4_layer_info *info = nvfp4_checkpoint_layer(in->checkpoint, i);
    if (told[i] || info->layout != like->layout || info->mode != like->mode || strcmp(info->note, like->note) != 0) {
      continue;
    }
    told[i] = true;
    count++;
    if (nvfp4) {
      add_layer(&table, info, &in->found[i]);
    } else {
      cli_table_add(&table, "%s", info->name);
      cli_table_add(&table, "%lld", (long long)info->n);
      cli_table_add(&table, "%lld", (long long)info->k);
      cli_table_add(&table, "%s", info->weight != NULL ? info->weight->dtype_name : "");
    }
  }
  char head[1024];
  if (nvfp4) {
    snprintf(head, sizeof head, "%zu NVFP4 layer%s, %s, %s%s%s", count, count == 1 ? "" : "s", nvfp4_layout_kind_name(like->layout),
             nvfp4_mode_name(like->mode), like->note[0] != '\0' ? ": " : "", like->note);
  } else {
    snprintf(head, sizeof head, "%zu layer%s not NVFP4: %s", count, count == 1 ? "" : "s",
             like->note[0] != '\0' ? like->note : nvfp4_mode_name(like->mode));
  }
  cli_print_wrapped(stdout, 0, 2, head);
  cli_table_print(&table, 2);
  putchar('\n');
}

static void print_fused(const inspection *in) {
  cli_table table = {.columns = 2, .right = "rl"};
  size_t groups = json_array_size(in->fused);
  if (groups == 0) {
    return;
  }
  cli_print_wrapped(
      stdout, 0, 2,
      "Layers that engines run as one, whose global scales differ: largest by smallest. An engine that gives them one global gets some "
      "wrong by as much.");
  for (size_t i = 0; i < groups; i++) {
    const json_t *group = json_array_get(in->fused, i);
    cli_table_add(&table, "%.4g", json_real_value(json_object_get(group, "ratio")));
    const json_t *names = json_object_get(group, "layers");
    char text[1024];
    size_t used = 0;
    for (size_t j = 0; j < json_array_size(names) && used < sizeof text; j++) {
      used += (size_t)snprintf(text + used, sizeof text - used, "%s%s", j > 0 ? ", " : "", json_string_value(json_array_get(names, j)));
    }
    cli_table_add(&table, "%s", text);
  }
  cli_table_print(&table, 2);
  putchar('\n');
}

static int print_inspection(const inspection *in) {
  bool *told = calloc(in->layer_count + 1, sizeof *told);
  if (told == NULL) {
    return cli_fail(in->run, NVFP4_E_NOMEM, "out of memory");
  }
  /* NVFP4 layers first. */
  for (int pass = 0; pass < 2; pass++) {
    for (size_t i = 0; i < in->layer_count; i++) {
      if (!told[i] && is_nvfp4(nvfp4_checkpoint_layer(in->checkpoint, i)) == (pass == 0)) {
        print_kind(in, i, told);
      }
    }
  }
  free(told);
  print_fused(in);
  printf("%zu tensors, %zu layers", nvfp4_checkpoint_tensor_count(in->checkpoint), in->layer_count);
  size_t trouble = json_array_size(in->trouble);
  printf(trouble == 0 ? "; no trouble found\n" : "; trouble:\n");
  for (size_t i = 0; i < trouble; i++) {
    cli_print_wrapped(stdout, 2, 4, json_string_value(json_array_get(in->trouble, i)));
  }
  for (size_t i = 0; i < json_array_size(in->warnings); i++) {
    printf("warning: ");
    cli_print_wrapped(stdout, 0, 4, json_string_value(json_array_get(in->warnings, i)));
  }
  return CLI_DONE;
}

static int inspect(inspection *in) {
  int code = CLI_DONE;
  in->layer_count = nvfp4_checkpoint_layer_count(in->checkpoint);
  in->found = calloc(in->layer_count + 1, sizeof *in->found);
  if (in->found == NULL) {
    return cli_fail(in->run, NVFP4_E_NOMEM, "out of memory for the counts of %zu layers", in->layer_count);
  }
  for (size_t i = 0; nvfp4_checkpoint_warning(in->checkpoint, i) != NULL; i++) {
    json_array_append_new(in->warnings, cli_json_text(nvfp4_checkpoint_warning(in->checkpoint, i)));
  }
  if (!cli_context(in->run, &in->selection, &in->context, &code) || !read_layers(in, &code)) {
    return code;
  }
  find_fused(in);
  if (in->run->json) {
    print_inspection_json(in);
  } else if ((code = print_inspection(in)) != CLI_DONE) {
    return code;
  }
  return json_array_size(in->trouble) > 0 ? CLI_CHECK_FAILED : CLI_DONE;
}

static int run_inspect(cli *run, int argc, char **argv) {
  const char *path = NULL;
  inspection in = {.run = run, .selection = {.untuned = true}};
  const cli_option options[] = {
      {"threads", "N", "threads (default: NVFP4_THREADS, or one a processor)", CLI_INTEGER, &in.selection.threads, 1, 4096}};
  const cli_syntax syntax = {.options = options, .option_count = 1, .operands = &path, .least = 1, .most = 1};
  int code;
  if (!cli_parse(run, argc, argv, &syntax, &code)) {
    return code;
  }
  nvfp4_checkpoint *checkpoint;
  /* Bad scales are counted here, in every layer, instead of ending at the first. */
  if (!cli_open(run, path, NVFP4_OPEN_SKIP_SCALES, &checkpoint, &code)) {
    return code;
  }
  in.checkpoint = checkpoint;
  in.trouble = json_array();
  in.warnings = json_array();
  in.fused = json_array();
  code = inspect(&in);
  free(in.found);
  nvfp4_context_destroy(in.context);
  json_decref(in.fused);
  json_decref(in.trouble);
  json_decref(in.warnings);
  nvfp4_checkpoint_close(checkpoint);
  return code;
}

const cli_command cli_inspect = {
    .name = "inspect",
    .operands = "CKPT",
    .summary = "layers of a checkpoint, their layouts and scales, and trouble",
    .description =
        "global, input: the second-level scales of weights and activations as stored; 1/x is a divisor (compressed-tensors), "
        "x/2688 an amax (MLX), - none. min, max: of the nonzero block scales. dead: blocks of which every weight is 0. subn, 448: block "
        "scales "
        "that are subnormal (below 2^-6) or the largest E4M3 value. rms: of the dequantised weights. Exit code 1: block scales that are "
        "NaN or "
        "negative, or what the numbers say about the file: an inverted global scale, swizzled scales, nibbles in another order; the "
        "evidence is "
        "shown.",
    .examples =
        "  nvfp4 inspect model/\n"
        "  nvfp4 inspect model.gguf --json\n",
    .run = run_inspect,
};
