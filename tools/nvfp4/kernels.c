/* SPDX-License-Identifier: Apache-2.0 */
/* nvfp4 kernels: every kernel the library knows, and whether it can run. */
#include "common.h"

static const struct {
  uint32_t bit;
  const char *name;
} flags[] = {{NVFP4_FLAG_BATCH_INVARIANT, "batch_invariant"}, {NVFP4_FLAG_DETERMINISTIC, "deterministic"}};
enum { FLAGS = sizeof flags / sizeof flags[0] };

/* A kernel that is not there is known by its id alone. */
static bool has_card(const nvfp4_kernel_info *kernel) { return kernel->layout[0] != '\0'; }

static json_t *kernel_json(const nvfp4_kernel_info *kernel) {
  json_t *list = json_array();
  for (int i = 0; i < FLAGS; i++) {
    if ((kernel->flags & flags[i].bit) != 0) {
      json_array_append_new(list, json_string(flags[i].name));
    }
  }
  bool card = has_card(kernel);
  return json_pack("{s:o, s:o, s:o, s:o, s:o, s:s, s:o, s:o, s:s}", "id", cli_json_text(kernel->id), "layout",
                   cli_json_text(card ? kernel->layout : NULL), "mode", cli_json_text(card ? nvfp4_mode_name(kernel->mode) : NULL), "class",
                   cli_json_text(card ? nvfp4_class_name(kernel->numerics_class) : NULL), "flags", list, "stage",
                   nvfp4_stage_name(kernel->stage), "reason", cli_json_text(kernel->reason), "verified",
                   cli_json_text(card ? kernel->verified : NULL), "backends", kernel->backends);
}

static void print_kernel(const nvfp4_kernel_info *kernel) {
  printf("%-24s %s\n", kernel->id, nvfp4_stage_name(kernel->stage));
  char line[512];
  if (kernel->reason[0] != '\0') {
    cli_print_wrapped(stdout, 2, 4, kernel->reason);
  }
  if (kernel->backends[0] != '\0') {
    snprintf(line, sizeof line, "vLLM's %s", kernel->backends);
    cli_print_wrapped(stdout, 2, 4, line);
  }
  if (!has_card(kernel)) {
    return;
  }
  cli_print_wrapped(stdout, 2, 4, kernel->summary);
  int used = snprintf(line, sizeof line, "%s, %s", nvfp4_mode_name(kernel->mode), nvfp4_class_name(kernel->numerics_class));
  for (int i = 0; i < FLAGS; i++) {
    if ((kernel->flags & flags[i].bit) != 0) {
      used += snprintf(line + used, sizeof line - (size_t)used, ", %s", flags[i].name);
    }
  }
  snprintf(line + used, sizeof line - (size_t)used, "; weights as %s", kernel->layout);
  cli_print_wrapped(stdout, 2, 4, line);
  if (kernel->verified[0] != '\0') {
    snprintf(line, sizeof line, "last proven: %s", kernel->verified);
    cli_print_wrapped(stdout, 2, 4, line);
  }
}

static int list_kernels(const cli *run, nvfp4_context *context, const nvfp4_machine *machine) {
  json_t *list = json_array();
  size_t runnable = 0, count = nvfp4_kernel_count(context);
  for (size_t i = 0; i < count; i++) {
    nvfp4_kernel_info kernel;
    nvfp4_reason why_not = {0};
    if (nvfp4_kernel_get(context, i, machine, &kernel, &why_not) != NVFP4_OK) {
      json_decref(list);
      return cli_fail_reason(run, &why_not);
    }
    runnable += kernel.stage == NVFP4_STAGE_ELIGIBLE;
    if (run->json) {
      json_array_append_new(list, kernel_json(&kernel));
    } else {
      print_kernel(&kernel);
    }
  }
  if (run->json) {
    cli_print_json(json_pack("{s:o}", "kernels", list));
    return CLI_DONE;
  }
  json_decref(list);
  printf("\n%zu of %zu kernels can run %s; in order of preference.\n", runnable, count, machine != NULL ? "on that machine" : "here");
  return CLI_DONE;
}

static int run_kernels(cli *run, int argc, char **argv) {
  const char *name = NULL;
  cli_selection selection = {0};
  const cli_option options[] = {
      {"machine", "FILE|NAME", "a recorded machine instead of this computer", CLI_TEXT, &name, 0, 0},
      {"disable", "LIST", "never these: ids or globs, comma-separated (default: NVFP4_DISABLE)", CLI_TEXT, &selection.disable, 0, 0},
      {"plugins", "LIST", "plug-ins to open: paths, comma-separated (default: NVFP4_PLUGINS)", CLI_TEXT, &selection.plugins, 0, 0},
  };
  const cli_syntax syntax = {.options = options, .option_count = 3};
  int code;
  if (!cli_parse(run, argc, argv, &syntax, &code)) {
    return code;
  }
  nvfp4_machine machine = {.struct_size = sizeof machine};
  if (name != NULL && !cli_machine(run, name, &machine, &code)) {
    return code;
  }
  nvfp4_context *context;
  if (!cli_context(run, &selection, &context, &code)) {
    return code;
  }
  code = list_kernels(run, context, name != NULL ? &machine : NULL);
  nvfp4_context_destroy(context);
  return code;
}

const cli_command cli_kernels = {
    .name = "kernels",
    .operands = "",
    .summary = "every kernel: is it built, can it run here, and if not, why",
    .description =
        "Stages: not_built, disabled, plugin_missing, unsupported_machine, eligible. Class canonical: the bits of the reference on every "
        "machine; bounded: within a bound derived from the arithmetic. Flag batch_invariant: a row gives the same bits alone and in any "
        "batch; "
        "deterministic: the same call gives the same bits.",
    .examples =
        "  nvfp4 kernels\n"
        "  nvfp4 kernels --machine amx --json\n",
    .run = run_kernels,
};
