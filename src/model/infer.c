/* SPDX-License-Identifier: Apache-2.0 */
/* infer.c - running tokens against a cache of keys and values.
 *
 * The cache of a layer is one matrix [slots * length, Hkv D] for keys (rotated already) and one for
 * values; slot i owns rows [i length, (i + 1) length).  A call appends any number of tokens to any
 * of the slots: the prompts' first pass and the one-token steps are the same code.  Rows of a call
 * do not see each other except through attention within a slot, so a sequence's logits do not
 * depend on its company (as far as be_matmul keeps rows independent; docs/numerics.md). */
#include <inttypes.h>

#include "model/head.h"
#include "model/internal.h"
#include "model/layer.h"

enum { LOGIT_CHUNK = 32 }; /* rows of logits computed at once */

struct infer {
    struct model *m;
    struct infer_options o;
    struct arena cache, call;
    struct tensor *k, *v; /* config.layers of each */
    struct layer_saved saved;
    struct tensor x, logits_f32; /* logits_f32: where real is not F32 */
    struct head_scratch head;
    struct pass pass;
    /* host: */
    int32_t *position, *cache_row, *last_row;
    struct attn_seq *seqs;
};

static void cache_layout(struct infer *s, struct arena *a) {
    const struct model_config *c = &s->m->config;
    enum dtype act = backend_act(s->m->backend);
    int64_t rows = s->o.slots * s->o.length, cols = c->kv_heads * c->head_dim;
    for (int64_t l = 0; l < c->layers; l++) {
        s->k[l] = tensor_take(a, act, rows, cols, "layer %d cached keys", (int)l);
        s->v[l] = tensor_take(a, act, rows, cols, "layer %d cached values", (int)l);
    }
}

static size_t layer_bytes(const struct model *m, int64_t tokens) {
    struct arena layer, call;
    struct layer_saved ignored;
    arena_init_sizing(&layer, NULL, PLAN_CALL);
    arena_init_sizing(&call, NULL, PLAN_CALL);
    for (int64_t l = 0; l < m->config.layers; l++) {
        arena_reset(&layer);
        layer_layout(m, l, tokens, LAYER_INFER, &layer, &call, &ignored);
    }
    return layer.peak;
}

/* Everything a call needs below the layers' own buffers; those and the adapters' scratch come on
 * top, layer by layer. */
static void call_layout(struct infer *s, int64_t tokens, int64_t rows, struct arena *a) {
    const struct model *m = s->m;
    enum dtype real = backend_real(m->backend);
    int64_t chunk = rows < LOGIT_CHUNK ? rows : LOGIT_CHUNK;
    s->x = tensor_take(a, real, tokens, m->config.width, "residual");
    head_layout(m, chunk, false, a, &s->head);
    if (real != DT_F32)
        s->logits_f32 = tensor_take(a, DT_F32, chunk, m->config.vocab, "logits in f32");
    forward_scratch_layout(m, tokens, a, &s->pass.fwd);
}

static size_t host_bytes(const struct infer_options *o) {
    return (size_t)o->max_tokens * 3 * sizeof(int32_t) + (size_t)o->slots * sizeof(struct attn_seq);
}

static void infer_size(struct infer *s, struct plan *plan, size_t *cache, size_t *call) {
    struct arena a;
    arena_init_sizing(&a, plan, PLAN_SESSION);
    cache_layout(s, &a);
    *cache = a.peak;
    arena_init_sizing(&a, plan, PLAN_CALL);
    call_layout(s, s->o.max_tokens, s->o.max_rows, &a);
    size_t layer = layer_bytes(s->m, s->o.max_tokens);
    size_t adapter = adapter_scratch_bytes(s->m, s->o.max_tokens);
    arena_take(&a, layer, "one layer");
    if (adapter > 0) arena_take(&a, adapter, "adapter scratch");
    *call = a.peak;
    if (plan) plan_add(plan, PLAN_CALL, host_bytes(&s->o), "positions on the host");
}

static enum mil_status frame_new(struct model *m, const struct infer_options *o, struct infer **out,
                                 struct mil_error *err) {
    REQUIRE(o->slots > 0 && o->length > 0 && o->max_tokens > 0 && o->max_rows > 0);
    size_t layers = (size_t)m->config.layers;
    int64_t rows;
    if (!checked_mul_i64(o->slots, o->length, &rows) || rows > INT32_MAX ||
        o->max_tokens > INT32_MAX)
        return error_set(err, MIL_USAGE,
                         "%" PRId64 " sequences of %" PRId64
                         " tokens at once are too many; take fewer or shorter ones",
                         o->slots, o->length);
    struct infer *s = mem_calloc(MEM_OTHER, 1, sizeof *s);
    if (!s) return error_nomem(err, sizeof *s);
    s->m = m;
    s->o = *o;
    s->k = mem_calloc(MEM_OTHER, layers, sizeof *s->k);
    s->v = mem_calloc(MEM_OTHER, layers, sizeof *s->v);
    *out = s;
    if (s->k && s->v) return MIL_OK;
    infer_free(out);
    return error_nomem(err, layers * sizeof *s->k);
}

void infer_plan(const struct model *m, const struct infer_options *o, struct plan *plan) {
    struct infer *s = NULL;
    size_t cache, call;
    /* Sizing does not write to the model. */
    enum mil_status st = frame_new((struct model *)(uintptr_t)m, o, &s, NULL);
    if (st != MIL_OK) {
        plan->status = st;
        return;
    }
    infer_size(s, plan, &cache, &call);
    infer_free(&s);
}

enum mil_status infer_new(struct model *m, const struct infer_options *o, struct infer **out,
                          struct mil_error *err) {
    enum mil_status st;
    struct infer *s = NULL;
    size_t cache, call, n = (size_t)o->max_tokens;
    if (o->length > m->rope.rows)
        return error_set(err, MIL_USAGE,
                         "sequences of %" PRId64 " tokens; the model was opened for %" PRId64,
                         o->length, m->rope.rows);
    TRY(frame_new(m, o, &s, err));
    infer_size(s, NULL, &cache, &call);
    TRY_GOTO(backend_arena_init(&s->cache, m->backend, MEM_STEP, cache, err));
    TRY_GOTO(backend_arena_init(&s->call, m->backend, MEM_SCRATCH, call, err));
    s->position = mem_alloc(MEM_SCRATCH, n, sizeof *s->position);
    s->cache_row = mem_alloc(MEM_SCRATCH, n, sizeof *s->cache_row);
    s->last_row = mem_alloc(MEM_SCRATCH, n, sizeof *s->last_row);
    s->seqs = mem_alloc(MEM_SCRATCH, (size_t)o->slots, sizeof *s->seqs);
    if (!s->position || !s->cache_row || !s->last_row || !s->seqs)
        TRY_GOTO(error_nomem(err, host_bytes(o)));
    cache_layout(s, &s->cache);
    *out = s;
    return MIL_OK;
fail:
    infer_free(&s);
    return st;
}

void infer_free(struct infer **s) {
    if (!*s) return;
    backend_arena_release(&(*s)->cache, (*s)->m->backend);
    backend_arena_release(&(*s)->call, (*s)->m->backend);
    mem_free((*s)->position);
    mem_free((*s)->cache_row);
    mem_free((*s)->last_row);
    mem_free((*s)->seqs);
    mem_free((*s)->k);
    mem_free((*s)->v);
    mem_free(*s);
    *s = NULL;
}

/* ---- a call ---- */

/* Where every token stands; returns the number of tokens, and of rows whose logits are wanted. */
static int64_t place_tokens(struct infer *s, const struct infer_call *call, int64_t *rows) {
    int64_t at = 0;
    *rows = 0;
    REQUIRE(call->n_seqs <= s->o.slots);
    for (int64_t i = 0; i < call->n_seqs; i++) {
        int64_t n = call->n[i], past = call->past[i], slot = call->slot[i];
        REQUIRE(slot >= 0 && slot < s->o.slots && n > 0 && past >= 0);
        REQUIRE(past <= s->o.length && n <= s->o.length - past && n <= s->o.max_tokens - at);
        for (int64_t j = 0; j < n; j++) {
            s->position[at + j] = (int32_t)(past + j);
            s->cache_row[at + j] = (int32_t)(slot * s->o.length + past + j);
            if (call->all_rows || j == n - 1) s->last_row[(*rows)++] = (int32_t)(at + j);
        }
        s->seqs[i] = (struct attn_seq){at, n, slot * s->o.length, past + n};
        at += n;
    }
    REQUIRE(*rows <= s->o.max_rows);
    return at;
}

static enum mil_status check_ids(const struct infer *s, const int32_t *ids, int64_t n,
                                 struct mil_error *err) {
    for (int64_t i = 0; i < n; i++)
        if (ids[i] < 0 || ids[i] >= s->m->config.vocab)
            return error_set(err, MIL_INPUT,
                             "token id %d is outside the model's vocabulary of %" PRId64, ids[i],
                             s->m->config.vocab);
    return MIL_OK;
}

static void run_layers(struct infer *s, int64_t tokens) {
    for (int64_t l = 0; l < s->m->config.layers; l++) {
        struct layer_cache cache = {s->k[l], s->v[l], s->cache_row};
        size_t mark = arena_mark(&s->call);
        /* The adapters' layout takes its sizing from a dummy: the arena above is theirs. */
        struct arena sizing;
        arena_init_sizing(&sizing, NULL, PLAN_CALL);
        layer_layout(s->m, l, tokens, LAYER_INFER, &s->call, &sizing, &s->saved);
        s->saved.x_mid = s->x;
        layer_forward(&s->pass, l, s->x, s->x, &s->saved, &cache);
        arena_rewind(&s->call, mark);
    }
}

static enum mil_status fetch_logits(struct infer *s, int64_t rows, float *out,
                                    struct mil_error *err) {
    struct backend *b = s->m->backend;
    struct stream *stream = s->pass.stream;
    int64_t vocab = s->m->config.vocab, chunk = s->head.x.rows;
    for (int64_t at = 0; at < rows; at += chunk) {
        int64_t n = rows - at < chunk ? rows - at : chunk;
        struct tensor logits = tensor_rows(s->head.logits, 0, n);
        head_logits(s->m, stream, s->x, s->last_row + at, n, &s->head);
        if (logits.dtype != DT_F32) {
            be_copy(stream, tensor_rows(s->logits_f32, 0, n), logits);
            logits = tensor_rows(s->logits_f32, 0, n);
        }
        TRY(stream_sync(stream, err));
        backend_download(b, out + at * vocab, logits.data, (size_t)(n * vocab) * sizeof *out);
    }
    return MIL_OK;
}

enum mil_status infer_run(struct infer *s, const struct infer_call *call, struct mil_error *err) {
    int64_t rows, tokens = place_tokens(s, call, &rows);
    struct stream *stream = backend_stream(s->m->backend);
    TRY(check_ids(s, call->ids, tokens, err));
    if (tokens == 0) return MIL_OK;
    s->pass = (struct pass){.m = s->m,
                            .stream = stream,
                            .tokens = tokens,
                            .position = s->position,
                            .seqs = s->seqs,
                            .n_seqs = call->n_seqs,
                            .adapter = {.stream = stream, .call = &s->call}};
    arena_reset(&s->call);
    call_layout(s, tokens, rows, &s->call);
    be_gather_rows(stream, s->x, s->m->embed, call->ids);
    run_layers(s, tokens);
    return fetch_logits(s, rows, call->logits, err);
}

void infer_copy_slot(struct infer *s, int64_t from, int64_t to, int64_t tokens) {
    struct stream *stream = backend_stream(s->m->backend);
    REQUIRE(from >= 0 && from < s->o.slots && to >= 0 && to < s->o.slots);
    REQUIRE(tokens >= 0 && tokens <= s->o.length);
    if (from == to) return;
    for (int64_t l = 0; l < s->m->config.layers; l++) {
        be_copy(stream, tensor_rows(s->k[l], to * s->o.length, tokens),
                tensor_rows(s->k[l], from * s->o.length, tokens));
        be_copy(stream, tensor_rows(s->v[l], to * s->o.length, tokens),
                tensor_rows(s->v[l], from * s->o.length, tokens));
    }
}
