/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A small decoder-only transformer (Llama family: RMSNorm, RoPE, grouped-query attention, SwiGLU) and its tokenizer: the proof that the layers work in a
 * real model. Every linear layer, NVFP4 or dense, goes through nvfp4_layer_apply. Conventions as in nvfp4.h.
 */
#ifndef NVFP4_MODEL_H
#define NVFP4_MODEL_H

#include <nvfp4/nvfp4.h>

#ifdef __cplusplus
extern "C" {
#endif

/* --------------------------------------------------------------------------------------------------------------- tokenizer */

typedef struct nvfp4_tokenizer nvfp4_tokenizer;

/* Byte-level BPE, from tokenizer.json (and tokenizer_config.json) beside a checkpoint or from GGUF metadata. On success *out is freed by
 * nvfp4_tokenizer_destroy and does not refer to the checkpoint. */
NVFP4_API nvfp4_status nvfp4_tokenizer_create(const nvfp4_checkpoint *checkpoint, nvfp4_tokenizer **out, nvfp4_reason *reason);
NVFP4_API void nvfp4_tokenizer_destroy(nvfp4_tokenizer *tokenizer);

/* Encodes `text` (UTF-8, `bytes` long; taken as it is, without Unicode normalisation). A begin token is put before it if the tokenizer asks for one
 * (add_bos_token) and the text does not begin with it. Special tokens in the text ("<|im_start|>") become their ids if parse_special. *tokens is malloc'ed for the
 * caller, who frees it with nvfp4_tokens_free. */
NVFP4_API nvfp4_status nvfp4_tokenize(const nvfp4_tokenizer *tokenizer, const char *text, size_t bytes, bool parse_special,
                                      int32_t **tokens, size_t *count, nvfp4_reason *reason);
NVFP4_API void nvfp4_tokens_free(int32_t *tokens);

/* The bytes of a token (may be part of a UTF-8 character); length in *bytes. Special tokens give their text. NULL if there is no such token. */
NVFP4_API const char *nvfp4_token_bytes(const nvfp4_tokenizer *tokenizer, int32_t token, size_t *bytes);
NVFP4_API bool nvfp4_token_is_special(const nvfp4_tokenizer *tokenizer, int32_t token);
/* Whether text ends at this token. */
NVFP4_API bool nvfp4_token_is_end(const nvfp4_tokenizer *tokenizer, int32_t token);
NVFP4_API size_t nvfp4_tokenizer_vocabulary(const nvfp4_tokenizer *tokenizer);

/* Wraps a user's prompt as the model's chat template does (ChatML, as SmolLM2-Instruct). Templates are recognised, not interpreted: an unknown one
 * is NVFP4_E_UNSUPPORTED. *text is malloc'ed; free it with nvfp4_text_free. system may be NULL: the model's default. */
NVFP4_API nvfp4_status nvfp4_chat_prompt(const nvfp4_tokenizer *tokenizer, const char *system, const char *user, char **text,
                                         nvfp4_reason *reason);
NVFP4_API void nvfp4_text_free(char *text);

/* ------------------------------------------------------------------------------------------------------------------- model */

typedef struct nvfp4_model nvfp4_model;

/* Called with the fp32 input of a linear layer, [m, k]: how calibration sees activations. */
typedef void (*nvfp4_observer_fn)(void *cookie, const char *layer, const float *x, int64_t m, int64_t k);

typedef struct nvfp4_model_options {
  uint32_t struct_size;
  const nvfp4_policy *policy; /* NULL: the context's */
  nvfp4_mode mode;            /* UNQUANTISED (0): as the checkpoint says; W4A16: run NVFP4 layers with 16-bit activations */
  nvfp4_dtype activation;     /* what linear layers are fed: F32 (also for NONE), BF16 or F16 */
  int64_t context_tokens;     /* size of the KV cache; 0: the smaller of the model's and 2048 */
  int64_t batch_tokens;       /* rows of one step at most; 0: 512 */
  nvfp4_device
      device; /* where NVFP4 layers are computed. CUDA: their activations are copied there and back, a check rather than a way to be fast */
} nvfp4_model_options;

/* Loads a Llama-family model: packs every linear layer; the embedding stays mapped. The checkpoint must stay open while the model lives.
 * Errors: NVFP4_E_UNSUPPORTED for another architecture, and whatever selection and packing say, with the layer's name. */
NVFP4_API nvfp4_status nvfp4_model_create(nvfp4_context *context, const nvfp4_checkpoint *checkpoint, const nvfp4_model_options *options,
                                          nvfp4_model **out, nvfp4_reason *reason);
NVFP4_API void nvfp4_model_destroy(nvfp4_model *model);

typedef struct nvfp4_model_info {
  int64_t layers, hidden, vocabulary, context_tokens;
  int64_t linear_layers, nvfp4_layers;
  uint64_t packed_bytes, dense_bytes; /* of the packed weights of NVFP4 layers, and of the others */
} nvfp4_model_info;
NVFP4_API void nvfp4_model_get_info(const nvfp4_model *model, nvfp4_model_info *out);

/* Linear layer `index` as the model runs it: its name, and its report. NULL name past the end. */
NVFP4_API const char *nvfp4_model_linear(const nvfp4_model *model, size_t index, const nvfp4_report **report);

/* The observer sees the inputs of the linear layers in every step from now on. NULL: no more. */
NVFP4_API void nvfp4_model_observe(nvfp4_model *model, nvfp4_observer_fn observer, void *cookie);

/* Called when all the text has gone through the layers that the observer saw since the last call, a block's or the output projection: what was
 * gathered about them is complete. Anything but NVFP4_OK ends the run with that status and reason. */
typedef nvfp4_status (*nvfp4_observed_fn)(void *cookie, nvfp4_reason *reason);

/* Shows the observer what a text feeds the linear layers of a model that is too large to be loaded: blocks are loaded one after the other, and each reads all the text before it is given
 * back. The text is cut into windows of options->batch_tokens (0: 512, or the model's context), which do not see each other; the observer is called for a layer window by
 * window, block by block, and at last for the output projection, with all rows. Layers that read the same (q, k and v; gate and up) are shown it in calls that follow each other, with the
 * same x. observed (NULL: not called) follows a block when it is given back. options may be NULL; device is not looked at. Memory: the weights of one block, hidden
 * states of all tokens, and what one window needs. Errors as of nvfp4_model_create and nvfp4_model_forward, which gives the observer the same numbers. */
NVFP4_API nvfp4_status nvfp4_observe_text(nvfp4_context *context, const nvfp4_checkpoint *checkpoint, const nvfp4_model_options *options,
                                          const int32_t *tokens, size_t count, nvfp4_observer_fn observer, nvfp4_observed_fn observed,
                                          void *cookie, nvfp4_reason *reason);

/* Runs `count` tokens at the positions after those already in the KV cache and writes the logits, fp32: of the last token [vocabulary], or of all,
 * [count, vocabulary], if all_logits. Not safe for two threads on one model. */
NVFP4_API nvfp4_status nvfp4_model_forward(nvfp4_model *model, const int32_t *tokens, size_t count, bool all_logits, float *logits,
                                           nvfp4_reason *reason);
/* Forgets the positions from `position` on (0: all). */
NVFP4_API void nvfp4_model_rewind(nvfp4_model *model, int64_t position);
NVFP4_API int64_t nvfp4_model_position(const nvfp4_model *model);

/* ---------------------------------------------------------------------------------------------------------------- sampling */

typedef struct nvfp4_sampler {
  float temperature; /* 0: greedy */
  int top_k;         /* 0: all */
  float top_p;       /* 1: all */
  uint64_t seed;     /* state: changes with every draw */
} nvfp4_sampler;

/* Draws a token from logits [vocabulary], which it may overwrite. The same seed and logits give the same token on every machine. */
NVFP4_API int32_t nvfp4_sample(nvfp4_sampler *sampler, float *logits, size_t vocabulary);

/* -------------------------------------------------------------------------------------------------------------- perplexity */

typedef struct nvfp4_perplexity_result {
  double perplexity;
  double standard_error; /* of the perplexity, from the spread of the tokens' losses */
  int64_t windows, scored_tokens;
} nvfp4_perplexity_result;

/*
 * Cuts tokens into windows of `window` (512), runs each from an empty cache, and scores the second half of each, as llama-perplexity does. windows: at
 * most that many, 0 for all whole ones. The first token of a window is replaced by BOS only if the tokenizer asks for one.
 * save_log_probs: NULL, or a file to be written for nvfp4_kl_divergence, in the format of llama-perplexity's --kl-divergence-base, which reads it too: the
 * tokens, and at each scored position the log-probabilities of the whole vocabulary in 16 bits (2 bytes * vocabulary * scored tokens).
 * The result does not depend on the number of threads.
 */
NVFP4_API nvfp4_status nvfp4_perplexity(nvfp4_model *model, const int32_t *tokens, size_t count, int64_t window, int64_t windows,
                                        const char *save_log_probs, void (*progress)(void *cookie, uint64_t done, uint64_t total),
                                        void *progress_cookie, nvfp4_perplexity_result *out, nvfp4_reason *reason);

typedef struct nvfp4_estimate {
  double value;          /* a mean over the scored tokens, or made of such means */
  double standard_error; /* from the tokens' spread, as if they were independent */
} nvfp4_estimate;

/* Quantiles are given at these shares of the scored tokens, interpolated between neighbours: minimum, 0.1 %, ... median ... 99.9 %, maximum. */
#define NVFP4_QUANTILES 13
#define NVFP4_QUANTILE_SHARES \
  { 0, 0.001, 0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 0.999, 1 }

/* The statistics of llama-perplexity --kl-divergence, by its formulas. Q is the model, base what the file holds; p is the probability of the text's token. */
typedef struct nvfp4_kl_divergence_result {
  nvfp4_estimate perplexity, base_perplexity;
  nvfp4_estimate log_ratio, ratio,
      difference;            /* ln(PPL(Q) / PPL(base)), PPL(Q) / PPL(base), PPL(Q) - PPL(base); correlations are taken into account */
  double correlation;        /* of ln PPL(Q) and ln PPL(base) */
  nvfp4_estimate divergence; /* sum of p_base (ln p_base - ln p_Q) over the vocabulary, nats */
  double divergence_quantiles[NVFP4_QUANTILES];
  nvfp4_estimate probability_change, probability_change_rms; /* p_Q - p_base */
  double probability_change_quantiles[NVFP4_QUANTILES];
  nvfp4_estimate same_top; /* share of tokens where the largest probability is that of the same token */
  int64_t window, windows, scored_tokens;
} nvfp4_kl_divergence_result;

/* Compares the model with the log-probabilities in a file that nvfp4_perplexity or llama-perplexity has saved, on the tokens that it holds. windows: at most
 * that many, 0 for all in the file. The result does not depend on the number of threads. Errors: NVFP4_E_FORMAT for another or a truncated file,
 * NVFP4_E_SHAPE if the vocabulary or the context is not the model's. */
NVFP4_API nvfp4_status nvfp4_kl_divergence(nvfp4_model *model, const char *log_probs, int64_t windows,
                                           void (*progress)(void *cookie, uint64_t done, uint64_t total), void *progress_cookie,
                                           nvfp4_kl_divergence_result *out, nvfp4_reason *reason);

#ifdef __cplusplus
}
#endif
#endif
