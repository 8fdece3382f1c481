/* SPDX-License-Identifier: Apache-2.0 */
/* Tokenizers against tests/golden/tokenizer/expected.json. */
#ifndef NVFP4_TESTS_TOKENIZER_CASES_H
#define NVFP4_TESTS_TOKENIZER_CASES_H

#include <nvfp4/model.h>

#include "support.h"

/* The tokenizer of a folder, or of a file that ends in .gguf. Nothing but the tokenizer needs to be there. */
nvfp4_status create_tokenizer(const char *path, nvfp4_tokenizer **out, nvfp4_reason *reason);

/* Every text of `name` gives the expected ids, and the ids give the text again. */
void check_tokenizer(const nvfp4_tokenizer *tokenizer, const char *name);

/* Ids of `text` as "1 2 3", special tokens parsed. */
const char *token_ids(const nvfp4_tokenizer *tokenizer, const char *text, bool parse_special, char ids[1024]);

#endif
