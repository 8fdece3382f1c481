/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Config files as Python writes them: with NaN, Infinity and -Infinity (a Mamba config's "time_step_limit": [0.0, Infinity]), and integers
 * of any size (10^30 for "no limit"). They become strings that begin with a mark, which nobody takes for a number, and what they were again
 * in a text that is written.
 */
#ifndef NVFP4_CHECKPOINT_CONFIG_TEXT_H
#define NVFP4_CHECKPOINT_CONFIG_TEXT_H

#include <jansson.h>

/* The value of a text, owned by the caller. NULL: *error says why. */
json_t *nvfp4_config_load(const char *text, json_error_t *error);

/* Undoes the marks in a text that jansson made of such a value; in place. */
void nvfp4_config_restore(char *text);

#endif
