/* SPDX-License-Identifier: Apache-2.0 */
/* generate.h - token generation on a KV cache: greedy, sampled, beams; many prompts at once.
 *
 * The ids of a prompt do not depend on what else is in the batch: rows are computed alike, and
 * sampling is keyed by (seed, prompt's number, position). */
#ifndef MIL_EVAL_GENERATE_H
#define MIL_EVAL_GENERATE_H

#include "model/model.h"

struct generate_options {
    int64_t max_new_tokens;
    double temperature; /* 0: greedy */
    double top_p;       /* 1: off */
    uint64_t seed;
    int64_t num_beams; /* 1: none; > 1: HF's beam search, length_penalty 1, early_stopping false */
    const int32_t *stop; /* besides the model's own EOS ids */
    size_t n_stop;
};
struct generated {
    int32_t *ids; /* new tokens, the stop token not included */
    size_t n;
    bool stopped; /* by a stop token, not by the limit */
};
/* Called after each token of a prompt (streaming); return false to stop that prompt. */
typedef bool (*generate_token_fn)(void *ctx, size_t prompt, int32_t id);

struct generator;
/* Up to `batch` prompts run at once, each prompt + new tokens at most `length`. */
enum mil_status generator_new(struct model *m, int64_t batch, int64_t length,
                              struct generator **out, struct mil_error *err);
void generator_free(struct generator **g);
/* prompts: n token lists. out: n results, ids mem_free'd by generated_release.  A prompt that
 * leaves no room is MIL_INPUT with its number and the limit. */
enum mil_status generate(struct generator *g, const struct tokens *prompts, size_t n,
                         const struct generate_options *o, generate_token_fn on_token, void *ctx,
                         struct generated *out, struct mil_error *err);
void generated_release(struct generated *g, size_t n);

#endif
