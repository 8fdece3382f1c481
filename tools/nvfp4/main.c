/* SPDX-License-Identifier: Apache-2.0 */
/* nvfp4: finds the subcommand and runs it. */
#include <string.h>

#include "common.h"

static const cli_command *const commands[] = {
    &cli_info,  &cli_kernels,  &cli_explain,    &cli_quantize, &cli_convert, &cli_inspect,
    &cli_apply, &cli_generate, &cli_perplexity, &cli_bench,    &cli_tune,    &cli_verify,
};
enum { COMMANDS = sizeof commands / sizeof commands[0] };

static const char *command_name(const void *cookie, size_t index) {
  (void)cookie;
  return index < COMMANDS ? commands[index]->name : NULL;
}

static void print_help(void) {
  printf(
      "usage: nvfp4 COMMAND [arguments] [options]\n\nRuns linear layers with NVFP4 weights, and says which kernel it takes and why.\n\n");
  cli_table table = {.columns = 2, .right = "ll"};
  for (int i = 0; i < COMMANDS; i++) {
    cli_table_add(&table, "%s %s", commands[i]->name, commands[i]->operands);
    cli_table_add(&table, "%s", commands[i]->summary);
  }
  cli_table_print(&table, 2);
  printf(
      "\n`nvfp4 COMMAND --help` tells options, units and defaults; every command has --json.\n"
      "`nvfp4 --version` tells the version.\n"
      "\nCKPT and MODEL are a folder (config.json, *.safetensors), a .safetensors file, an index .json or a\n.gguf file.\n"
      "\nEnvironment\n");
  static const char *const variables[][2] = {
      {"NVFP4_KERNEL", "as --kernel"},
      {"NVFP4_DISABLE", "as --disable; VLLM_DISABLED_KERNELS too"},
      {"NVFP4_REQUIRE", "as --require; VLLM_BATCH_INVARIANT=1 requires batch_invariant"},
      {"NVFP4_ALLOW", "as --allow"},
      {"NVFP4_PLUGINS", "as --plugins"},
      {"NVFP4_TUNING", "as --tuning"},
      {"NVFP4_THREADS", "as --threads"},
      {"VLLM_NVFP4_GEMM_BACKEND", "vLLM's backend names: emulation, marlin, cutlass, flashinfer-cutlass, ..."},
  };
  for (size_t i = 0; i < sizeof variables / sizeof variables[0]; i++) {
    cli_table_add(&table, "%s", variables[i][0]);
    cli_table_add(&table, "%s", variables[i][1]);
  }
  cli_table_print(&table, 2);
  printf("\nExit codes: 0 done, 1 the check failed, 2 bad use or bad input.\n");
}

/* --json counts even if what stands before it is wrong: the error is then JSON too. */
static bool wants_json(int argc, char **argv) {
  for (int i = 1; i < argc && strcmp(argv[i], "--") != 0; i++) {
    if (strcmp(argv[i], "--json") == 0) {
      return true;
    }
  }
  return false;
}

static int dispatch(cli *run, int argc, char **argv) {
  const char *name = argc > 1 ? argv[1] : "";
  if (strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0 || strcmp(name, "help") == 0) {
    print_help();
    return CLI_DONE;
  }
  if (strcmp(name, "--version") == 0) {
    printf("nvfp4 %s\n%s\n", nvfp4_version(), nvfp4_build_info());
    return CLI_DONE;
  }
  for (int i = 0; i < COMMANDS; i++) {
    if (strcmp(name, commands[i]->name) == 0) {
      run->command = commands[i];
      return commands[i]->run(run, argc - 2, argv + 2);
    }
  }
  if (argc < 2) {
    return cli_fail(run, NVFP4_E_ARG, "a command is missing; `nvfp4 --help` lists them");
  }
  char hint[256];
  return cli_fail(run, NVFP4_E_ARG, "unknown command %s (`nvfp4 --help` lists them)%s", name,
                  cli_did_you_mean(name, command_name, NULL, hint, sizeof hint));
}

int main(int argc, char **argv) {
  cli run = {.json = wants_json(argc, argv)};
  int code = dispatch(&run, argc, argv);
  if (fflush(stdout) != 0 || ferror(stdout)) {
    fprintf(stderr, "nvfp4: standard output cannot be written\n");
    return CLI_BAD_USE;
  }
  return code;
}
