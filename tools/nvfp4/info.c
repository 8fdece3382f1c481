/* SPDX-License-Identifier: Apache-2.0 */
/* nvfp4 info: what this computer and this build are. */
#include <stdlib.h>
#include <string.h>

#include "common.h"

static void print_machine(const nvfp4_machine *machine) {
  static const char *const architectures[] = {"unknown architecture", "x86_64", "aarch64"};
  char a[32], b[32], c[32];
  cli_print_field(stdout, "cpu", "%s (%s), %d core%s", cli_cpu_name(machine), architectures[machine->arch], machine->cores,
                  machine->cores == 1 ? "" : "s");
  char isa[512] = "";
  for (int bit = 0; bit < 32; bit++) {
    const char *name = (machine->isa & (UINT32_C(1) << bit)) != 0 ? nvfp4_isa_name(UINT32_C(1) << bit) : NULL;
    size_t used = strlen(isa);
    if (name != NULL) {
      snprintf(isa + used, sizeof isa - used, "%s%s", used > 0 ? " " : "", name);
    }
  }
  cli_print_field(stdout, "isa", "%s", isa[0] != '\0' ? isa : "none that kernels ask for");
  if (machine->l1d_bytes != 0 || machine->l2_bytes != 0 || machine->l3_bytes != 0) {
    cli_print_field(stdout, "caches", "L1d %s, L2 %s a core, L3 %s in all", cli_bytes(machine->l1d_bytes, a),
                    cli_bytes(machine->l2_bytes, b), cli_bytes(machine->l3_bytes, c));
  }
  if (machine->memory_bytes != 0) {
    cli_print_field(stdout, "memory", "%s", cli_bytes(machine->memory_bytes, a));
  }
  for (int i = 0; i < machine->gpu_count; i++) {
    const nvfp4_gpu *gpu = &machine->gpus[i];
    char limits[96] = "";
    if (gpu->l2_bytes != 0) {
      snprintf(limits, sizeof limits, ", L2 %s, %s of shared memory a thread block", cli_bytes(gpu->l2_bytes, b),
               cli_bytes(gpu->shared_bytes, c));
    }
    cli_print_field(stdout, i == 0 ? "gpu" : "", "cuda:%d %s, sm_%d, %d multiprocessors, %s%s", i, gpu->name, gpu->sm, gpu->multiprocessors,
                    cli_bytes(gpu->memory_bytes, a), limits);
  }
  if (machine->gpu_count == 0) {
    cli_print_field(stdout, "gpu", "none: %s", machine->cuda_missing[0] != '\0' ? machine->cuda_missing : "the driver lists no device");
  }
  if (machine->cuda_driver != 0) {
    cli_print_field(stdout, "driver", "CUDA %d.%d", machine->cuda_driver / 1000, machine->cuda_driver % 1000 / 10);
  }
}

static int print_record(const cli *run, const nvfp4_machine *machine) {
  size_t bytes = nvfp4_machine_print(machine, NULL, 0) + 1;
  char *text = malloc(bytes);
  if (text == NULL) {
    return cli_fail(run, NVFP4_E_NOMEM, "out of memory");
  }
  nvfp4_machine_print(machine, text, bytes);
  fputs(text, stdout);
  free(text);
  return CLI_DONE;
}

static int run_info(cli *run, int argc, char **argv) {
  const char *name = NULL;
  bool record = false;
  const cli_option options[] = {
      {"machine", "FILE|NAME", "a recorded machine instead of this computer", CLI_TEXT, &name, 0, 0},
      {"record", NULL, "print the machine alone, as text that --machine FILE reads", CLI_FLAG, &record, 0, 0},
  };
  const cli_syntax syntax = {.options = options, .option_count = 2};
  int code;
  if (!cli_parse(run, argc, argv, &syntax, &code)) {
    return code;
  }
  if (record && run->json) {
    return cli_fail(run, NVFP4_E_ARG, "--record and --json do not go together; --json has the machine too");
  }
  nvfp4_machine machine = {.struct_size = sizeof machine};
  if (name == NULL) {
    nvfp4_machine_probe(&machine);
  } else if (!cli_machine(run, name, &machine, &code)) {
    return code;
  }
  if (record) {
    return print_record(run, &machine);
  }
  if (run->json) {
    cli_print_json(json_pack("{s:s, s:o, s:o}", "version", nvfp4_version(), "build", cli_json_text(nvfp4_build_info()), "machine",
                             cli_json_machine(&machine)));
    return CLI_DONE;
  }
  cli_print_field(stdout, "nvfp4", "%s", nvfp4_version());
  cli_print_field(stdout, "build", "%s", nvfp4_build_info());
  print_machine(&machine);
  return CLI_DONE;
}

const cli_command cli_info = {
    .name = "info",
    .operands = "",
    .summary = "this computer, the library and its build",
    .description = "",
    .examples =
        "  nvfp4 info\n"
        "  nvfp4 info --record > here.txt      # later, elsewhere: nvfp4 explain CKPT --machine here.txt\n",
    .run = run_info,
};
