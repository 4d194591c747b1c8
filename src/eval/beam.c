/* SPDX-License-Identifier: Apache-2.0 */
/* beam.c - one beam search's state: live sequences, candidates, finished sequences.
 *
 * With k live sequences of score s_j (sum of log-probabilities), the candidates of a step are
 * s_j + log softmax(z_j)[v] for all j, v.  The best (1 + stops) k of them are kept: each parent has
 * at most `stops` ending continuations, so at least k of them go on.  Ties are broken by parent,
 * then token.  Sums are in double, transformers' in float: equal but for near-ties. */
#include "eval/beam.h"

#include <string.h>

#include "core/mem.h"
#include "eval/sampler.h"

enum mil_status beams_init(struct beams *b, int64_t k, int64_t max_new, int64_t vocab,
                           size_t n_stop, struct mil_error *err) {
    REQUIRE(k >= 1 && max_new >= 1);
    memset(b, 0, sizeof *b);
    int64_t stops = n_stop > 0 ? (int64_t)n_stop : 1;
    if (k > vocab / (1 + stops))
        return error_set(err, MIL_USAGE,
                         "num_beams is %lld, but a vocabulary of %lld tokens with %lld that end a "
                         "sequence serves at most %lld beams",
                         (long long)k, (long long)vocab, (long long)stops,
                         (long long)(vocab / (1 + stops)));
    size_t cells;
    if (!checked_mul((size_t)k, (size_t)max_new, &cells)) return error_nomem(err, 0);
    b->k = k;
    b->pitch = max_new;
    b->n_stop = n_stop;
    b->cap_best = (1 + stops) * k;
    b->ids = mem_alloc(MEM_SCRATCH, cells, sizeof *b->ids);
    b->spare = mem_alloc(MEM_SCRATCH, cells, sizeof *b->spare);
    b->done_ids = mem_alloc(MEM_SCRATCH, cells, sizeof *b->done_ids);
    b->score = mem_alloc(MEM_SCRATCH, (size_t)k, sizeof *b->score);
    b->done_n = mem_alloc(MEM_SCRATCH, (size_t)k, sizeof *b->done_n);
    b->done_score = mem_alloc(MEM_SCRATCH, (size_t)k, sizeof *b->done_score);
    b->best = mem_alloc(MEM_SCRATCH, (size_t)b->cap_best, sizeof *b->best);
    if (!b->ids || !b->spare || !b->done_ids || !b->score || !b->done_n || !b->done_score ||
        !b->best) {
        beams_release(b);
        return error_nomem(err, 3 * cells * sizeof *b->ids);
    }
    beams_reset(b, max_new);
    return MIL_OK;
}

void beams_release(struct beams *b) {
    mem_free(b->ids);
    mem_free(b->spare);
    mem_free(b->done_ids);
    mem_free(b->score);
    mem_free(b->done_n);
    mem_free(b->done_score);
    mem_free(b->best);
    memset(b, 0, sizeof *b);
}

void beams_reset(struct beams *b, int64_t max_new) {
    REQUIRE(max_new >= 1 && max_new <= b->pitch);
    b->max_new = max_new;
    b->made = 0;
    b->live = 1;
    b->score[0] = 0;
    b->n_done = 0;
}

static void add_candidate(struct beams *b, double score, int32_t parent, int32_t token) {
    if (b->n_best == b->cap_best) b->n_best--; /* the worst one falls out */
    int64_t at = b->n_best++;
    for (; at > 0 && b->best[at - 1].score < score; at--) b->best[at] = b->best[at - 1];
    b->best[at] = (struct beam_candidate){score, parent, token};
}

static enum mil_status collect(struct beams *b, const float *logits, int64_t vocab,
                               struct mil_error *err) {
    b->n_best = 0;
    for (int64_t j = 0; j < b->live; j++) {
        const float *row = logits + j * vocab;
        double lse;
        TRY(log_sum_exp(row, vocab, &lse, err));
        double base = b->score[j] - lse;
        for (int64_t v = 0; v < vocab; v++) {
            double score = base + row[v];
            if (b->n_best == b->cap_best && !(score > b->best[b->n_best - 1].score)) continue;
            add_candidate(b, score, (int32_t)j, (int32_t)v);
        }
    }
    return MIL_OK;
}

/* Put a sequence that ended among the finished ones, if it is one of the best k. */
static void finish(struct beams *b, const struct beam_candidate *c) {
    double score = c->score / (double)b->made;
    if (b->n_done == b->k && !(score > b->done_score[b->k - 1])) return;
    int64_t at = b->n_done < b->k ? b->n_done++ : b->k - 1;
    for (; at > 0 && b->done_score[at - 1] < score; at--) {
        b->done_score[at] = b->done_score[at - 1];
        b->done_n[at] = b->done_n[at - 1];
        memcpy(b->done_ids + at * b->pitch, b->done_ids + (at - 1) * b->pitch,
               (size_t)b->done_n[at] * sizeof *b->done_ids);
    }
    int32_t *row = b->done_ids + at * b->pitch;
    memcpy(row, b->ids + c->parent * b->pitch, (size_t)(b->made - 1) * sizeof *row);
    row[b->made - 1] = c->token;
    b->done_n[at] = b->made;
    b->done_score[at] = score;
}

static bool is_stop(const int32_t *stop, size_t n, int32_t id) {
    for (size_t i = 0; i < n; i++)
        if (stop[i] == id) return true;
    return false;
}

enum mil_status beams_step(struct beams *b, const float *logits, int64_t vocab, const int32_t *stop,
                           int32_t *parent, int32_t *token, bool *over, struct mil_error *err) {
    REQUIRE(b->made < b->max_new);
    TRY(collect(b, logits, vocab, err));
    b->made++;
    bool limit = b->made == b->max_new;
    int64_t next = 0;
    for (int64_t i = 0; i < b->n_best; i++) {
        const struct beam_candidate *c = &b->best[i];
        if (limit || is_stop(stop, b->n_stop, c->token)) {
            if (i < b->k) finish(b, c);
        } else if (next < b->k) {
            int32_t *row = b->spare + next * b->pitch;
            memcpy(row, b->ids + c->parent * b->pitch, (size_t)(b->made - 1) * sizeof *row);
            row[b->made - 1] = c->token;
            b->score[next] = c->score;
            parent[next] = c->parent;
            token[next++] = c->token;
        }
    }
    int32_t *swap = b->ids;
    b->ids = b->spare;
    b->spare = swap;
    b->live = next;
    *over =
        limit || (b->n_done == b->k && !(b->score[0] / (double)b->made > b->done_score[b->k - 1]));
    return MIL_OK;
}

void beams_best(const struct beams *b, const int32_t **ids, int64_t *n) {
    REQUIRE(b->n_done > 0);
    *ids = b->done_ids;
    *n = b->done_n[0];
}
