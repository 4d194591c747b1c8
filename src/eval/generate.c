/* SPDX-License-Identifier: Apache-2.0 */
/* generate.c - the scheduler: prompts are given lanes, lanes hold slots of the KV cache.
 *
 *     lane (one prompt under way)      slots of the cache
 *       beams 1:  [ s ]                one
 *       beams k:  [ s0 s1 .. s(k-1) ]  slot of each live sequence, best first; a permutation of the
 *                                      lane's own k slots
 *
 * Each turn makes one call of the decoder: first the one pending token of every lane that is
 * generating, then pieces of prompts while there is room.  Pieces are cut at multiples of a fixed
 * size from the prompt's start, so that what is computed for a prompt does not depend on its
 * neighbours. After a beam step the first child of a parent keeps the parent's slot; further
 * children take the slots of parents without children, by copying. */
#include "eval/generate.h"

#include <math.h>
#include <string.h>

#include "core/mem.h"
#include "core/rng.h"
#include "eval/beam.h"
#include "eval/sampler.h"

#define PIECE 512 /* prompt tokens taken at once */
#define MAX_STOPS 64

struct lane {
    bool active;
    size_t prompt;
    int64_t past;       /* tokens in the cache of each live slot */
    int64_t made, room; /* new tokens; made <= room */
    int64_t taken, row; /* in the present call: tokens of each live sequence, first row of logits */
    int64_t live;       /* sequences: 1, with beams after the first step k */
    int32_t *slot;      /* `width` of them */
    int32_t *next;      /* pending token of each live sequence, once the prompt is in */
    struct beams beams;
};

struct generator {
    struct decoder d;
    struct infer *infer; /* owned, or NULL */
    float *logits;       /* [slots, vocab] */
    int32_t *call_ids, *call_slot;
    int32_t *scratch; /* a vocabulary to sample from, or 3 k: new slots, parents used, parents */
    int64_t *call_past, *call_n;
    int32_t *held; /* [slots, length]: the tokens that each slot holds */
    int64_t *n_held;
    int64_t piece;
};

struct run {
    struct generator *g;
    const struct tokens *prompts;
    size_t n, admitted, finished;
    const struct generate_options *o;
    const struct generate_events *events;
    struct generated *out;
    struct lane *lanes;
    int32_t *lane_ids; /* backing of slot and next of all lanes */
    int64_t n_lanes, width;
    int32_t stop[MAX_STOPS];
    size_t n_stop;
};

/* ---- life cycle ---- */

static enum mil_status buffers_new(struct generator *g, struct mil_error *err) {
    size_t slots = (size_t)g->d.slots, cells;
    if (!checked_mul(slots, (size_t)g->d.vocab, &cells)) return error_nomem(err, 0);
    g->logits = mem_alloc(MEM_SCRATCH, cells, sizeof *g->logits);
    g->call_ids = mem_alloc(MEM_SCRATCH, (size_t)g->d.max_tokens, sizeof *g->call_ids);
    g->call_slot = mem_alloc(MEM_SCRATCH, slots, sizeof *g->call_slot);
    g->call_past = mem_alloc(MEM_SCRATCH, slots, sizeof *g->call_past);
    g->call_n = mem_alloc(MEM_SCRATCH, slots, sizeof *g->call_n);
    g->scratch = mem_alloc(MEM_SCRATCH, (size_t)g->d.vocab + 3 * slots, sizeof *g->scratch);
    g->n_held = mem_calloc(MEM_SCRATCH, slots, sizeof *g->n_held);
    if (checked_mul(slots, (size_t)g->d.length, &cells))
        g->held = mem_alloc(MEM_SCRATCH, cells, sizeof *g->held);
    if (!g->logits || !g->call_ids || !g->call_slot || !g->call_past || !g->call_n || !g->scratch ||
        !g->n_held || !g->held)
        return error_nomem(err, slots * (size_t)g->d.vocab * sizeof *g->logits);
    return MIL_OK;
}

enum mil_status generator_new_over(const struct decoder *d, struct generator **out,
                                   struct mil_error *err) {
    REQUIRE(d->slots >= 1 && d->length >= 1 && d->vocab >= 1 && d->max_tokens > d->slots);
    struct generator *g = mem_calloc(MEM_SCRATCH, 1, sizeof *g);
    if (!g) return error_nomem(err, sizeof *g);
    g->d = *d;
    g->piece = d->max_tokens - d->slots < PIECE ? d->max_tokens - d->slots : PIECE;
    enum mil_status st = buffers_new(g, err);
    if (st != MIL_OK) generator_free(&g);
    *out = g;
    return st;
}

enum mil_status generator_new(struct model *m, int64_t slots, int64_t length,
                              struct generator **out, struct mil_error *err) {
    *out = NULL;
    REQUIRE(slots >= 1 && length >= 1);
    struct infer_options io = {.slots = slots, .length = length, .max_rows = slots};
    io.max_tokens = slots + (length < PIECE ? length : PIECE);
    struct infer *infer = NULL;
    TRY(infer_new(m, &io, &infer, err));
    struct decoder d = decoder_over(m, infer, &io);
    enum mil_status st = generator_new_over(&d, out, err);
    if (st != MIL_OK)
        infer_free(&infer);
    else
        (*out)->infer = infer;
    return st;
}

void generator_free(struct generator **gp) {
    struct generator *g = *gp;
    if (!g) return;
    mem_free(g->logits);
    mem_free(g->call_ids);
    mem_free(g->call_slot);
    mem_free(g->call_past);
    mem_free(g->call_n);
    mem_free(g->scratch);
    mem_free(g->held);
    mem_free(g->n_held);
    infer_free(&g->infer);
    mem_free(g);
    *gp = NULL;
}

int64_t generator_held(const struct generator *g) {
    return g->n_held[0];
}

void generated_release(struct generated *out, size_t n) {
    for (size_t i = 0; i < n; i++) mem_free(out[i].ids);
    memset(out, 0, n * sizeof *out);
}

/* ---- checks ---- */

static enum mil_status check_options(const struct generator *g, const struct generate_options *o,
                                     struct mil_error *err) {
    if (o->max_new_tokens < 1)
        return error_set(err, MIL_USAGE, "max_new_tokens is %lld; at least 1 is needed",
                         (long long)o->max_new_tokens);
    if (!(o->temperature >= 0) || isinf(o->temperature))
        return error_set(err, MIL_USAGE, "temperature is %g; it must be 0 (greedy) or positive",
                         o->temperature);
    if (!(o->top_p > 0 && o->top_p <= 1))
        return error_set(err, MIL_USAGE, "top_p is %g; it must be above 0 and at most 1", o->top_p);
    if (o->num_beams < 1 || o->num_beams > g->d.slots)
        return error_set(err, MIL_USAGE, "num_beams is %lld; it must be between 1 and %lld",
                         (long long)o->num_beams, (long long)g->d.slots);
    if (o->num_beams > 1 && o->temperature > 0)
        return error_set(err, MIL_USAGE,
                         "num_beams %lld with temperature %g: beam search does not sample; set one "
                         "of them back",
                         (long long)o->num_beams, o->temperature);
    if (o->n_stop + g->d.n_stop > MAX_STOPS)
        return error_set(err, MIL_USAGE, "%zu stop tokens; at most %d are possible",
                         o->n_stop + g->d.n_stop, MAX_STOPS);
    return MIL_OK;
}

static enum mil_status check_prompt(const struct generator *g, const struct tokens *p, size_t i,
                                    struct mil_error *err) {
    if (p->n == 0) return error_set(err, MIL_INPUT, "prompt %zu has no tokens", i + 1);
    if (p->n >= (size_t)g->d.length)
        return error_set(err, MIL_INPUT,
                         "prompt %zu has %zu tokens; a context of %lld leaves no room to generate: "
                         "shorten it or allow a longer context",
                         i + 1, p->n, (long long)g->d.length);
    for (size_t t = 0; t < p->n; t++)
        if (p->ids[t] < 0 || p->ids[t] >= g->d.vocab)
            return error_set(err, MIL_INPUT,
                             "prompt %zu: token %zu is id %d; the vocabulary has ids 0 to %lld",
                             i + 1, t + 1, p->ids[t], (long long)g->d.vocab - 1);
    return MIL_OK;
}

/* ---- lanes ---- */

/* How many of the prompt's tokens a slot holds; the last one is always run, for its logits. */
static int64_t common_prefix(const struct generator *g, int64_t slot, const struct tokens *p) {
    const int32_t *held = g->held + slot * g->d.length;
    int64_t n = 0, limit = g->n_held[slot];
    if (limit > (int64_t)p->n - 1) limit = (int64_t)p->n - 1;
    while (n < limit && held[n] == p->ids[n]) n++;
    return n;
}

/* With `reuse`: tokens of the prompt that need not be run, copied from the slot that holds most of
 * them. Between calls every token that a slot holds has been run. */
static int64_t take_over(const struct run *r, int32_t slot, const struct tokens *p) {
    const struct generator *g = r->g;
    if (!r->o->reuse) return 0;
    int64_t from = slot, n = common_prefix(g, slot, p);
    for (int64_t i = 0; i < g->d.slots; i++) {
        int64_t other = common_prefix(g, i, p);
        if (other > n) n = other, from = i;
    }
    if (from == slot) return n;
    g->d.ops->copy(g->d.ctx, from, slot, n);
    memcpy(g->held + slot * g->d.length, p->ids, (size_t)n * sizeof *p->ids);
    g->n_held[slot] = n;
    return n;
}

static enum mil_status admit(struct run *r, struct lane *l, struct mil_error *err) {
    size_t i = r->admitted++;
    const struct tokens *p = &r->prompts[i];
    int64_t space = r->g->d.length - (int64_t)p->n;
    l->active = true;
    l->prompt = i;
    l->made = 0;
    l->live = 1;
    l->room = space < r->o->max_new_tokens ? space : r->o->max_new_tokens;
    l->past = take_over(r, l->slot[0], p);
    if (r->width > 1) beams_reset(&l->beams, l->room);
    r->out[i].ids = mem_alloc(MEM_TEXT, (size_t)l->room, sizeof(int32_t));
    return r->out[i].ids ? MIL_OK : error_nomem(err, (uint64_t)l->room * sizeof(int32_t));
}

static enum mil_status finish(struct run *r, struct lane *l, bool stopped, struct mil_error *err) {
    struct generated *res = &r->out[l->prompt];
    res->stopped = stopped;
    l->active = false;
    r->finished++;
    int32_t *fit = res->n ? mem_realloc(MEM_TEXT, res->ids, res->n, sizeof *fit) : NULL;
    if (fit) res->ids = fit;
    if (r->events && r->events->done && !r->events->done(r->events->ctx, l->prompt, res))
        return error_set(err, MIL_INTERRUPTED, "stopped on request after %zu of %zu prompts",
                         r->finished, r->n);
    return MIL_OK;
}

static bool token_event(const struct run *r, const struct lane *l, int32_t id) {
    return !r->events || !r->events->token || r->events->token(r->events->ctx, l->prompt, id);
}

static bool is_stop(const struct run *r, int32_t id) {
    for (size_t i = 0; i < r->n_stop; i++)
        if (r->stop[i] == id) return true;
    return false;
}

/* One token from one row of logits. */
static enum mil_status advance_single(struct run *r, struct lane *l, const float *logits,
                                      struct mil_error *err) {
    const struct generate_options *o = r->o;
    int32_t id;
    if (o->temperature > 0) {
        double u = rng_uniform(o->seed, rng_stream(RNG_SAMPLE, 0), (uint32_t)l->past,
                               o->first + (uint64_t)l->prompt);
        TRY(sample_nucleus(logits, r->g->d.vocab, o->temperature, o->top_p, u, r->g->scratch, &id,
                           err));
    } else {
        TRY(sample_greedy(logits, r->g->d.vocab, &id, err));
    }
    if (is_stop(r, id)) return finish(r, l, true, err);
    struct generated *res = &r->out[l->prompt];
    res->ids[res->n++] = id;
    l->made++;
    l->next[0] = id;
    bool go_on = token_event(r, l, id);
    return go_on && l->made < l->room ? MIL_OK : finish(r, l, false, err);
}

/* Give each of the k new sequences a slot that holds its parent's cache (see the file's head). */
static void fork_slots(struct run *r, struct lane *l, const int32_t *parent) {
    int32_t *slot = l->slot, *fresh = r->g->scratch, *used = fresh + r->width;
    for (int64_t i = 0; i < r->width; i++) used[i] = 0;
    for (int64_t i = 0; i < r->width; i++) {
        fresh[i] = used[parent[i]] ? -1 : slot[parent[i]];
        used[parent[i]] = 1;
    }
    int64_t spare = 0;
    for (int64_t i = 0; i < r->width; i++) {
        if (fresh[i] >= 0) continue;
        while (used[spare]) spare++;
        fresh[i] = slot[spare++];
        r->g->d.ops->copy(r->g->d.ctx, slot[parent[i]], fresh[i], l->past);
    }
    memcpy(slot, fresh, (size_t)r->width * sizeof *slot);
}

static enum mil_status finish_beams(struct run *r, struct lane *l, struct mil_error *err) {
    struct generated *res = &r->out[l->prompt];
    const int32_t *ids;
    int64_t n;
    beams_best(&l->beams, &ids, &n);
    bool stopped = is_stop(r, ids[n - 1]);
    res->n = (size_t)(stopped ? n - 1 : n);
    memcpy(res->ids, ids, res->n * sizeof *ids);
    for (size_t i = 0; i < res->n; i++)
        if (!token_event(r, l, ids[i])) break;
    return finish(r, l, stopped, err);
}

static enum mil_status advance_beams(struct run *r, struct lane *l, const float *logits,
                                     struct mil_error *err) {
    bool over;
    int32_t *parent = r->g->scratch + 2 * r->width;
    TRY(beams_step(&l->beams, logits, r->g->d.vocab, r->stop, parent, l->next, &over, err));
    l->made++;
    if (over) return finish_beams(r, l, err);
    l->live = r->width;
    fork_slots(r, l, parent);
    return MIL_OK;
}

/* ---- calls ---- */

static int64_t pending(const struct run *r, const struct lane *l) {
    int64_t n = (int64_t)r->prompts[l->prompt].n;
    return l->past < n ? n - l->past : 1;
}

/* Append a lane's live sequences to the call; *tokens and *seqs count what is in it. */
static void book(struct run *r, struct lane *l, int64_t take, int64_t *tokens, int64_t *seqs) {
    struct generator *g = r->g;
    const struct tokens *p = &r->prompts[l->prompt];
    l->row = *seqs;
    for (int64_t j = 0; j < l->live; j++) {
        int32_t slot = l->slot[j], *held = g->held + slot * g->d.length + l->past;
        const int32_t *ids = l->past < (int64_t)p->n ? p->ids + l->past : &l->next[j];
        memcpy(g->call_ids + *tokens, ids, (size_t)take * sizeof *ids);
        memcpy(held, ids, (size_t)take * sizeof *ids);
        g->n_held[slot] = r->width > 1 ? 0 : l->past + take; /* beams move between slots */
        g->call_slot[*seqs] = slot;
        g->call_past[*seqs] = l->past;
        g->call_n[(*seqs)++] = take;
        *tokens += take;
    }
    l->taken = take;
}

/* Lanes with one pending token go first; then prompts, in whole pieces. */
static int64_t fill_call(struct run *r) {
    int64_t tokens = 0, seqs = 0;
    for (int64_t i = 0; i < r->n_lanes; i++) {
        struct lane *l = &r->lanes[i];
        l->taken = 0;
        if (l->active && pending(r, l) == 1) book(r, l, 1, &tokens, &seqs);
    }
    for (int64_t i = 0; i < r->n_lanes; i++) {
        struct lane *l = &r->lanes[i];
        if (!l->active || l->taken > 0) continue;
        int64_t take = r->g->piece - l->past % r->g->piece;
        if (take > pending(r, l)) take = pending(r, l);
        if (take <= r->g->d.max_tokens - tokens) book(r, l, take, &tokens, &seqs);
    }
    return seqs;
}

static enum mil_status take_logits(struct run *r, struct mil_error *err) {
    for (int64_t i = 0; i < r->n_lanes; i++) {
        struct lane *l = &r->lanes[i];
        if (l->taken == 0) continue;
        bool complete = l->taken == pending(r, l);
        l->past += l->taken;
        if (!complete) continue;
        const float *row = r->g->logits + l->row * r->g->d.vocab;
        enum mil_status st =
            r->width > 1 ? advance_beams(r, l, row, err) : advance_single(r, l, row, err);
        if (st == MIL_NUMERIC) error_prefix(err, "prompt %zu: ", l->prompt + 1);
        if (st != MIL_OK) return st;
    }
    return MIL_OK;
}

static enum mil_status turn(struct run *r, struct mil_error *err) {
    struct generator *g = r->g;
    for (int64_t i = 0; i < r->n_lanes && r->admitted < r->n; i++)
        if (!r->lanes[i].active) TRY(admit(r, &r->lanes[i], err));
    struct infer_call call = {.ids = g->call_ids,
                              .slot = g->call_slot,
                              .past = g->call_past,
                              .n = g->call_n,
                              .n_seqs = fill_call(r),
                              .logits = g->logits};
    REQUIRE(call.n_seqs > 0);
    TRY(g->d.ops->run(g->d.ctx, &call, err));
    return take_logits(r, err);
}

static enum mil_status lanes_new(struct run *r, struct mil_error *err) {
    r->width = r->o->num_beams;
    r->n_lanes = r->g->d.slots / r->width;
    if ((uint64_t)r->n_lanes > r->n) r->n_lanes = (int64_t)r->n;
    size_t cells = (size_t)(r->n_lanes * r->width);
    r->lanes = mem_calloc(MEM_SCRATCH, (size_t)r->n_lanes, sizeof *r->lanes);
    r->lane_ids = mem_alloc(MEM_SCRATCH, 2 * cells, sizeof *r->lane_ids);
    if (!r->lanes || !r->lane_ids) return error_nomem(err, 2 * cells * sizeof *r->lane_ids);
    int64_t room = r->o->max_new_tokens < r->g->d.length ? r->o->max_new_tokens : r->g->d.length;
    for (int64_t i = 0; i < r->n_lanes; i++) {
        struct lane *l = &r->lanes[i];
        l->slot = r->lane_ids + 2 * i * r->width;
        l->next = l->slot + r->width;
        for (int64_t j = 0; j < r->width; j++) l->slot[j] = (int32_t)(i * r->width + j);
        if (r->width > 1) TRY(beams_init(&l->beams, r->width, room, r->g->d.vocab, r->n_stop, err));
    }
    return MIL_OK;
}

static void lanes_free(struct run *r) {
    for (int64_t i = 0; r->lanes && i < r->n_lanes; i++) beams_release(&r->lanes[i].beams);
    mem_free(r->lanes);
    mem_free(r->lane_ids);
}

enum mil_status generate(struct generator *g, const struct tokens *prompts, size_t n,
                         const struct generate_options *o, const struct generate_events *events,
                         struct generated *out, struct mil_error *err) {
    memset(out, 0, n * sizeof *out);
    struct run r = {.g = g, .prompts = prompts, .n = n, .o = o, .events = events, .out = out};
    TRY(check_options(g, o, err));
    for (size_t i = 0; i < n; i++) TRY(check_prompt(g, &prompts[i], i, err));
    memcpy(r.stop, g->d.stop, g->d.n_stop * sizeof *r.stop);
    if (o->n_stop) memcpy(r.stop + g->d.n_stop, o->stop, o->n_stop * sizeof *r.stop);
    r.n_stop = g->d.n_stop + o->n_stop;
    if (n == 0) return MIL_OK;

    enum mil_status st = lanes_new(&r, err);
    while (st == MIL_OK && r.finished < n) st = turn(&r, err);
    lanes_free(&r);
    if (st != MIL_OK) {
        for (int64_t i = 0; i < g->d.slots; i++) g->n_held[i] = 0; /* the cache may be half done */
        generated_release(out, n);
    }
    return st;
}
