/* SPDX-License-Identifier: Apache-2.0 */
/* generate.h - token generation on a KV cache: greedy, sampled, beams; many prompts at once.
 *
 * Slots are filled continuously: when a prompt ends, the next one takes its place while the others
 * go on, and a long prompt is taken in pieces between their steps.  The ids of a prompt do not
 * depend on what else is in the batch: rows are computed alike, and sampling is keyed by (seed,
 * prompt's number, position in the sequence). */
#ifndef MIL_EVAL_GENERATE_H
#define MIL_EVAL_GENERATE_H

#include "eval/decoder.h"

struct generate_options {
    int64_t max_new_tokens; /* >= 1; a prompt gets fewer where the generator's length ends */
    double temperature;     /* 0: greedy */
    double top_p;           /* in (0, 1]; 1: off */
    uint64_t seed;
    uint64_t first; /* number of prompts[0] as sampling sees it, where the earlier ones are done */
    int64_t num_beams;   /* 1: none; > 1: beam search (beam.h), needs temperature 0 */
    const int32_t *stop; /* besides the decoder's own stop tokens */
    size_t n_stop;
    /* Run only what no slot holds yet: not a conversation's earlier turns, the words that all
     * prompts of a task begin with, a prompt that was asked before.  num_beams 1. */
    bool reuse;
};
struct generated {
    int32_t *ids; /* new tokens, the stop token not included */
    size_t n;
    bool stopped; /* by a stop token, not by the limit */
};
struct generate_events {
    /* After each token of a prompt (streaming); false stops that prompt.  With beams: when the
     * prompt is done, and the answer is ignored.  Never called for a stop token. */
    bool (*token)(void *ctx, size_t prompt, int32_t id);
    /* A prompt is done; prompts end in any order.  false ends everything with MIL_INTERRUPTED. */
    bool (*done)(void *ctx, size_t prompt, const struct generated *result);
    void *ctx; /* both functions may be NULL */
};

struct generator;
/* Up to `slots` sequences run at once (slots / num_beams prompts), each prompt + new tokens at most
 * `length`, which is at most the rows of the model's rope table (the caller checks). */
enum mil_status generator_new(struct model *m, int64_t slots, int64_t length,
                              struct generator **out, struct mil_error *err);
/* The same over any decoder (borrowed: d->ctx must outlive the generator). */
enum mil_status generator_new_over(const struct decoder *d, struct generator **out,
                                   struct mil_error *err);
void generator_free(struct generator **g);
/* prompts: n token lists.  out: n results, freed by generated_release; zeroed after a failure.
 * events may be NULL.  A prompt that is empty, or leaves no room for a token, or holds an id
 * outside the vocabulary is MIL_INPUT with its number and the limit; logits that are not finite are
 * MIL_NUMERIC. */
enum mil_status generate(struct generator *g, const struct tokens *prompts, size_t n,
                         const struct generate_options *o, const struct generate_events *events,
                         struct generated *out, struct mil_error *err);
void generated_release(struct generated *g, size_t n);
/* Tokens that slot 0 holds (conversations). */
int64_t generator_held(const struct generator *g);

#endif
