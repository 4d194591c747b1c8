/* SPDX-License-Identifier: Apache-2.0 */
/* beam.h - the bookkeeping of one beam search, apart from the model.
 *
 * Semantics are those of transformers' generate(num_beams = k, do_sample = False) with its defaults
 * length_penalty = 1 and early_stopping = False: k live sequences; at each step the best candidates
 * over all of them; a candidate among the best k that ends (stop token, or the length limit) joins
 * the finished ones with score sum of log-probabilities / generated tokens, the stop token counted;
 * the search ends when k are finished and the best live one, at its present length, is no better
 * than the worst of them. */
#ifndef MIL_EVAL_BEAM_H
#define MIL_EVAL_BEAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/error.h"

struct beam_candidate {
    double score; /* sum of log-probabilities */
    int32_t parent, token;
};
struct beams {
    int64_t k, max_new, made; /* made: tokens generated so far; <= max_new */
    int64_t pitch;            /* tokens a row of ids has room for; >= max_new */
    int64_t live;             /* 1 before the first step, then k */
    size_t n_stop;
    int32_t *ids;   /* [k, pitch], the live sequences, best first */
    int32_t *spare; /* the same size, for reordering */
    double *score;  /* k */
    struct beam_candidate *best;
    int64_t n_best, cap_best; /* (1 + max(1, n_stop)) k */
    int32_t *done_ids;        /* [k, pitch], finished, best first */
    int64_t *done_n;
    double *done_score;
    int64_t n_done;
};

/* Zero-initialised or released before.  max_new >= 1, k >= 1.  Candidates of one step must exist:
 * MIL_USAGE when vocab is smaller than (1 + n_stop) k. */
enum mil_status beams_init(struct beams *b, int64_t k, int64_t max_new, int64_t vocab,
                           size_t n_stop, struct mil_error *err);
void beams_release(struct beams *b);
/* Begin a new search with a limit of at most the max_new of beams_init. */
void beams_reset(struct beams *b, int64_t max_new);
/* Advance by one token.  logits: b->live rows of `vocab`, in the order of the live sequences.  On
 * return parent[i] and token[i] say which live sequence the new i-th one continues, and with what;
 * *over: the search has ended (then they are not to be run). */
enum mil_status beams_step(struct beams *b, const float *logits, int64_t vocab, const int32_t *stop,
                           int32_t *parent, int32_t *token, bool *over, struct mil_error *err);
/* The best finished sequence, stop token included; borrowed until the next reset. */
void beams_best(const struct beams *b, const int32_t **ids, int64_t *n);

#endif
