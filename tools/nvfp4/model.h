/* SPDX-License-Identifier: Apache-2.0 */
/* A model with all it needs, for generate and perplexity. */
#ifndef NVFP4_TOOL_MODEL_H
#define NVFP4_TOOL_MODEL_H

#include <nvfp4/model.h>

#include "common.h"

enum { CLI_BATCH_TOKENS = 512 }; /* rows of one step at most */

typedef struct cli_model {
  nvfp4_checkpoint *checkpoint;
  nvfp4_tokenizer *tokenizer;
  nvfp4_context *context;
  nvfp4_model *model; /* NULL until cli_model_create */
  double load_seconds;
} cli_model;

/* Opens the checkpoint and its tokenizer, and makes the context. Close it in any case. */
bool cli_model_open(const cli *run, const char *path, const cli_selection *selection, cli_model *out, int *code);
/* Packs the model. mode: -1 as the checkpoint says, 0 w4a4, 1 w4a16. context_tokens: the least the KV cache must hold. */
bool cli_model_create(const cli *run, cli_model *model, int mode, nvfp4_device device, int64_t context_tokens, int *code);
void cli_model_close(cli_model *model);

/* Which kernels ran, and for how many layers, when the model ran steps of each of these numbers of rows. */
json_t *cli_model_kernels(const cli_model *model, const int64_t *rows, size_t count);
/* The same as a line: "ref_w4a4 (210 layers)". Takes the reference. */
void cli_print_kernels(FILE *out, json_t *kernels);

#endif
