/* SPDX-License-Identifier: Apache-2.0 */
/* nvfp4 convert: NVFP4 checkpoints from one layout into another. */
#include <nvfp4/convert.h>
#include <stdlib.h>
#include <string.h>

#include "common.h"

typedef struct conversion {
  cli *run;
  const char *paths[2]; /* input, output */
  int layout;           /* index into the words of the option */
  bool allow_lossy, one_level, dry_run;
  int64_t max_shard_mb;
  json_t *losses, *remarks;
  double seconds;
  cli_progress progress;
  nvfp4_convert_stats stats;
} conversion;

static const nvfp4_layout_kind layouts[] = {NVFP4_LAYOUT_MODELOPT, NVFP4_LAYOUT_COMPRESSED_TENSORS, NVFP4_LAYOUT_GGUF, NVFP4_LAYOUT_MLX,
                                            NVFP4_LAYOUT_COMFY};

static void hear(void *cookie, bool loss, const char *tensor, const char *text) {
  conversion *c = cookie;
  json_array_append_new(loss ? c->losses : c->remarks,
                        json_pack("{s:o, s:o}", "tensor", cli_json_text(tensor), "text", cli_json_text(text)));
}

static void step(void *cookie, uint64_t done, uint64_t total) { cli_progress_step(&((conversion *)cookie)->progress, done, total); }

static void tell_list(const json_t *list, const char *label) {
  size_t i;
  const json_t *entry;
  json_array_foreach(list, i, entry) {
    cli_print_field(stdout, label, "%s: %s", json_string_value(json_object_get(entry, "tensor")),
                    json_string_value(json_object_get(entry, "text")));
  }
}

static void tell(conversion *c) {
  const nvfp4_convert_stats *stats = &c->stats;
  const char *from = nvfp4_layout_kind_name(stats->source), *to = nvfp4_layout_kind_name(layouts[c->layout]);
  if (c->run->json) {
    cli_print_json(json_pack(
        "{s:o, s:s, s:s, s:b, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:O, s:O, s:f, s:I, s:I}", "output", cli_json_text(c->paths[1]),
        "from", from, "to", to, "dry_run", c->dry_run, "layers", (json_int_t)stats->layers, "fp8_layers", (json_int_t)stats->fp8_layers,
        "copied_tensors", (json_int_t)stats->copied_tensors, "globals", (json_int_t)stats->globals, "inexact_globals",
        (json_int_t)stats->inexact_globals, "files", (json_int_t)stats->files, "input_bytes", (json_int_t)stats->input_bytes,
        "output_bytes", (json_int_t)stats->output_bytes, "losses", c->losses, "remarks", c->remarks, "seconds", c->seconds,
        "peak_rss_bytes", (json_int_t)cli_peak_rss_bytes(), "peak_anonymous_bytes", (json_int_t)c->progress.peak_anonymous_bytes));
    return;
  }
  char a[32], b[32];
  cli_print_field(stdout, "layers", "%lld NVFP4, %lld FP8, %s -> %s; %lld other tensors", (long long)stats->layers,
                  (long long)stats->fp8_layers, from, to, (long long)stats->copied_tensors);
  tell_list(c->losses, "loss");
  tell_list(c->remarks, "note");
  cli_print_field(stdout, "size", "%s -> %s, %lld file%s, in %s%s", cli_bytes(stats->input_bytes, a), cli_bytes(stats->output_bytes, b),
                  (long long)stats->files, stats->files == 1 ? "" : "s", c->paths[1], c->dry_run ? " (dry run: nothing is written)" : "");
  if (!c->dry_run) {
    cli_print_field(stdout, "time", "%.2f s, %.0f MB/s of output", c->seconds, (double)stats->output_bytes * 1e-6 / (c->seconds + 1e-9));
    cli_print_field(stdout, "memory", "peak %s, of that %s not backed by files", cli_bytes(cli_peak_rss_bytes(), a),
                    cli_bytes(c->progress.peak_anonymous_bytes, b));
  }
}

static int convert(conversion *c) {
  const nvfp4_convert_options options = {.struct_size = sizeof options,
                                         .layout = layouts[c->layout],
                                         .allow_lossy = c->allow_lossy,
                                         .one_level = c->one_level,
                                         .dry_run = c->dry_run,
                                         .max_shard_bytes = (uint64_t)c->max_shard_mb * 1000000,
                                         .tell = hear,
                                         .progress = step,
                                         .cookie = c};
  c->stats.struct_size = sizeof c->stats;
  nvfp4_reason reason = {0};
  cli_progress_begin(&c->progress, NULL);
  double start = cli_seconds();
  nvfp4_status status = nvfp4_convert_checkpoint(c->paths[0], c->paths[1], &options, &c->stats, &reason);
  c->seconds = cli_seconds() - start;
  cli_progress_end(&c->progress);
  if (status != NVFP4_OK) {
    return cli_fail_reason(c->run, &reason);
  }
  tell(c);
  return CLI_DONE;
}

static int run_convert(cli *run, int argc, char **argv) {
  conversion c = {.run = run, .layout = -1};
  const cli_option options[] = {
      {"layout", "modelopt|compressed-tensors|gguf|mlx|comfy", "to write; must be given", CLI_CHOICE, &c.layout, 0, 0},
      {"allow-lossy", NULL, "go on where the layout cannot hold something as it is", CLI_FLAG, &c.allow_lossy, 0, 0},
      {"one-level", NULL, "gguf, mlx: fold the global scales into the block scales, which rounds them (lossy)", CLI_FLAG, &c.one_level, 0,
       0},
      {"dry-run", NULL, "tell what would be lost and write nothing", CLI_FLAG, &c.dry_run, 0, 0},
      {"max-shard-size", "MB", "cut safetensors into files of at most so many million bytes (default: one file)", CLI_INTEGER,
       &c.max_shard_mb, 1, INT64_MAX / 1000000},
  };
  const cli_syntax syntax = {
      .options = options, .option_count = sizeof options / sizeof options[0], .operands = c.paths, .least = 2, .most = 2};
  int code;
  if (!cli_parse(run, argc, argv, &syntax, &code)) {
    return code;
  }
  if (c.layout < 0) {
    return cli_fail(run, NVFP4_E_ARG, "--layout is missing: modelopt, compressed-tensors, gguf, mlx or comfy");
  }
  if (cli_same_file(c.paths[0], c.paths[1])) {
    return cli_fail(run, NVFP4_E_ARG, "%s is both input and output; needs a name of its own", c.paths[1]);
  }
  c.losses = json_array();
  c.remarks = json_array();
  code = convert(&c);
  json_decref(c.losses);
  json_decref(c.remarks);
  return code;
}

const cli_command cli_convert = {
    .name = "convert",
    .operands = "IN OUT",
    .summary = "writes an NVFP4 checkpoint in another layout, bit for bit",
    .description =
        "OUT is a folder with configs and tokenizer files, or one file: of GGUF always, otherwise if its name ends in .safetensors. Codes "
        "and "
        "block scales keep their bits. A global scale that changes its kind (multiplier, divisor, amax) is rounded once; the exact number "
        "stays "
        "in the metadata and comes back with the next conversion. What a layout cannot hold is a loss: it is told tensor by tensor and "
        "needs "
        "--allow-lossy.",
    .examples =
        "  nvfp4 convert model-ct/ model-modelopt/ --layout modelopt\n"
        "  nvfp4 convert model/ model.gguf --layout gguf --dry-run\n",
    .run = run_convert,
};
