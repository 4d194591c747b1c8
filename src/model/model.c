/* SPDX-License-Identifier: Apache-2.0 */
/* model.c - a checkpoint's weights bound to a backend.
 *
 * A matrix whose stored type is the compute type, or blocks that the backend multiplies with, stays where it is
 * mapped (the CPU reads the file's pages); where its rows are permuted, blocks are copied in order, as blocks.  All
 * others are converted once.  Copies lie in one slab:
 *     [ embed | layer 0: norm, q, k, v, o, norm, gate, up, down | ... | final norm | head ]
 * Norm weights and biases are kept in real.  Every value is looked at once for NaN and infinity. */
#include "model/model.h"

#include <inttypes.h>
#include <math.h>

#include "core/threads.h"
#include "model/internal.h"
#include "model/rope.h"
#include "model/weight_view.h"

struct tensor *model_tensor(struct model *m, const struct weight_slot *s) {
    struct layer *l = &m->layers[s->layer];
    switch (s->kind) {
    case WEIGHT_EMBED: return &m->embed;
    case WEIGHT_ATTN_NORM: return &l->attn_norm;
    case WEIGHT_MLP_NORM: return &l->mlp_norm;
    case WEIGHT_LINEAR: return &l->linear[s->module].w;
    case WEIGHT_BIAS: return &l->linear[s->module].b;
    case WEIGHT_FINAL_NORM: return &m->final_norm;
    case WEIGHT_HEAD: return &m->head;
    }
    return NULL;
}

struct tensor *model_gradient(struct model *m, const struct weight_slot *s) {
    struct layer *l = &m->layers[s->layer];
    switch (s->kind) {
    case WEIGHT_EMBED: return &m->d_embed;
    case WEIGHT_ATTN_NORM: return &l->d_attn_norm;
    case WEIGHT_MLP_NORM: return &l->d_mlp_norm;
    case WEIGHT_LINEAR: return &l->linear[s->module].dw;
    case WEIGHT_BIAS: return &l->linear[s->module].db;
    case WEIGHT_FINAL_NORM: return &m->d_final_norm;
    case WEIGHT_HEAD: return &m->d_head;
    }
    return NULL;
}

enum dtype model_weight_dtype(const struct backend *b, const struct weight_slot *s) {
    return weight_kind_is_vector(s->kind) ? backend_real(b) : backend_act(b);
}

enum mil_status backend_arena_init(struct arena *a, struct backend *b, enum mem_category category,
                                   size_t bytes, struct mil_error *err) {
    *a = (struct arena){.base = backend_alloc(b, category, bytes), .cap = bytes};
    if (a->base) return MIL_OK;
    *a = (struct arena){0};
    return error_nomem(err, bytes);
}

void backend_arena_release(struct arena *a, struct backend *b) {
    if (a->base) backend_release(b, a->base);
    *a = (struct arena){0};
}

void upload_if_apart(struct backend *b, void *dst, const void *src, size_t bytes) {
    if (dst != src) backend_upload(b, dst, src, bytes);
}

/* ---- the frame: shapes and the rope table ---- */

struct rope_job {
    const float *frequencies;
    struct tensor table; /* in host memory */
};

static void rope_rows(void *ctx, int64_t begin, int64_t end) {
    const struct rope_job *job = ctx;
    int64_t d = job->table.cols;
    for (int64_t i = begin; i < end; i++) {
        void *row = tensor_rows(job->table, i, 1).data;
        if (job->table.dtype == DT_F64)
            rope_row_f64(job->frequencies, d, i, row);
        else
            rope_row_f32(job->frequencies, d, i, row);
    }
}

static enum mil_status make_rope(struct model *m, struct mil_error *err) {
    float frequencies[ATTN_MAX_HEAD_DIM / 2];
    struct backend *b = m->backend;
    size_t bytes = (size_t)(m->rope.rows * m->rope.cols) * dtype_size(m->rope.dtype);
    m->rope.data = backend_alloc(b, MEM_WEIGHTS, bytes);
    void *host = backend_shares_host(b) ? m->rope.data : mem_alloc(MEM_OTHER, bytes, 1);
    if (!m->rope.data || !host) return error_nomem(err, bytes);
    rope_frequencies(&m->config.rope, m->config.head_dim, frequencies);
    struct rope_job job = {frequencies, m->rope};
    job.table.data = host;
    parallel_for(m->rope.rows, 64, rope_rows, &job);
    upload_if_apart(b, m->rope.data, host, bytes);
    if (host != m->rope.data) mem_free(host);
    return MIL_OK;
}

enum mil_status model_frame(const struct model_config *c, struct backend *b, int64_t positions,
                            bool with_rope, struct model **out, struct mil_error *err) {
    enum mil_status st;
    if (positions < 1 || positions > MODEL_MAX_POSITIONS)
        return error_set(err, MIL_USAGE, "sequence length %" PRId64 " is outside [1, %d]",
                         positions, MODEL_MAX_POSITIONS);
    struct model *m = mem_calloc(MEM_OTHER, 1, sizeof *m);
    if (!m) return error_nomem(err, sizeof *m);
    m->config = *c;
    m->backend = b;
    m->rope = tensor_of(NULL, backend_real(b), positions, c->head_dim);
    m->layers = mem_calloc(MEM_OTHER, (size_t)c->layers, sizeof *m->layers);
    if (!m->layers) TRY_GOTO(error_nomem(err, (size_t)c->layers * sizeof *m->layers));
    for (size_t i = 0; i < weight_count(c); i++) {
        struct weight_slot s = weight_slot_at(c, i);
        *model_tensor(m, &s) = tensor_of(NULL, model_weight_dtype(b, &s), s.rows, s.cols);
        *model_gradient(m, &s) = tensor_of(NULL, backend_real(b), s.rows, s.cols);
    }
    if (c->tied_head) {
        m->head = m->embed;
        m->d_head = m->d_embed;
    }
    if (with_rope) TRY_GOTO(make_rope(m, err));
    *out = m;
    return MIL_OK;
fail:
    model_free(&m);
    return st;
}

void model_free(struct model **m) {
    if (!*m) return;
    if ((*m)->owned) backend_release((*m)->backend, (*m)->owned);
    if ((*m)->rope.data) backend_release((*m)->backend, (*m)->rope.data);
    mem_free((*m)->layers);
    mem_free(*m);
    *m = NULL;
}

/* ---- weights ---- */

const struct weight_view *checkpoint_slot(const struct checkpoint *c, const struct weight_slot *s) {
    struct layer_views *l = c->layers ? &c->layers[s->layer] : NULL;
    switch (s->kind) {
    case WEIGHT_EMBED: return &c->embed;
    case WEIGHT_FINAL_NORM: return &c->final_norm;
    case WEIGHT_HEAD: return &c->head;
    case WEIGHT_ATTN_NORM: return &l->attn_norm;
    case WEIGHT_MLP_NORM: return &l->mlp_norm;
    case WEIGHT_LINEAR: return &l->weight[s->module];
    case WEIGHT_BIAS: return &l->bias[s->module];
    }
    return NULL;
}

static enum mil_status refuse_nonfinite(const struct checkpoint *c, const struct weight_view *v,
                                        int64_t at, struct mil_error *err) {
    float *row = mem_alloc(MEM_OTHER, (size_t)v->cols, sizeof *row);
    const char *what = "a NaN or an infinity";
    if (row) {
        weight_row_f32(v, at / v->cols, row);
        what = isnan(row[at % v->cols]) ? "NaN" : "infinity";
    }
    mem_free(row);
    return error_set(err, MIL_INPUT, "%s: tensor %s holds %s at [%" PRId64 ", %" PRId64 "]",
                     c->path, v->name, what, at / v->cols, at % v->cols);
}

enum mil_status weight_load(const struct checkpoint *c, const struct weight_view *v, enum dtype t,
                            void *dst, struct mil_error *err) {
    int64_t bad = weight_convert(v, t, dst);
    return bad < 0 ? MIL_OK : refuse_nonfinite(c, v, bad, err);
}

static bool kept_in_blocks(const struct checkpoint *c, const struct backend *b,
                           const struct weight_slot *s) {
    return backend_shares_host(b) && !weight_kind_is_vector(s->kind) &&
           backend_takes_blocks(b, checkpoint_slot(c, s)->dtype);
}

static bool used_in_place(const struct checkpoint *c, const struct backend *b,
                          const struct weight_slot *s) {
    const struct weight_view *v = checkpoint_slot(c, s);
    if (kept_in_blocks(c, b, s)) return v->head_permuted == 0;
    return backend_shares_host(b) && weight_usable_as(v, model_weight_dtype(b, s));
}

/* The type in which a stored weight takes part, and the bytes of it as a whole. */
static enum dtype bound_dtype(const struct checkpoint *c, const struct backend *b,
                              const struct weight_slot *s) {
    return kept_in_blocks(c, b, s) ? checkpoint_slot(c, s)->dtype : model_weight_dtype(b, s);
}
static size_t weight_bytes(enum dtype t, const struct weight_slot *s) {
    size_t bytes;
    REQUIRE(dtype_bytes(t, (uint64_t)(s->rows * s->cols), &bytes));
    return bytes;
}

/* Point every tensor at its place; the slab may be in sizing mode. */
static void bind_tensors(struct model *m, const struct checkpoint *c, struct arena *slab) {
    for (size_t i = 0; i < weight_count(&m->config); i++) {
        struct weight_slot s = weight_slot_at(&m->config, i);
        struct tensor *t = model_tensor(m, &s);
        t->dtype = bound_dtype(c, m->backend, &s);
        if (used_in_place(c, m->backend, &s))
            t->data = (void *)(uintptr_t)checkpoint_slot(c, &s)->data;
        else
            t->data = arena_take(slab, weight_bytes(t->dtype, &s), "weight");
    }
    if (m->config.tied_head) m->head = m->embed;
}

/* Convert one weight into its place in the slab, through the host where the backend is apart. */
static enum mil_status fill_tensor(struct model *m, const struct checkpoint *c,
                                   const struct weight_slot *s, struct mil_error *err) {
    const struct weight_view *v = checkpoint_slot(c, s);
    struct tensor *t = model_tensor(m, s);
    if (t->data == v->data) {
        int64_t bad = weight_first_nonfinite(v);
        return bad < 0 ? MIL_OK : refuse_nonfinite(c, v, bad, err);
    }
    if (kept_in_blocks(c, m->backend, s)) {
        weight_blocks(v, t->data);
        int64_t bad = weight_first_nonfinite(v);
        return bad < 0 ? MIL_OK : refuse_nonfinite(c, v, bad, err);
    }
    if (backend_shares_host(m->backend)) return weight_load(c, v, t->dtype, t->data, err);
    size_t bytes = (size_t)(t->rows * t->cols) * dtype_size(t->dtype);
    void *host = mem_alloc(MEM_OTHER, bytes, 1);
    if (!host) return error_nomem(err, bytes);
    enum mil_status st = weight_load(c, v, t->dtype, host, err);
    if (st == MIL_OK) backend_upload(m->backend, t->data, host, bytes);
    mem_free(host);
    return st;
}

static enum mil_status load_weights(struct model *m, const struct checkpoint *c,
                                    struct mil_error *err) {
    struct arena slab;
    arena_init_sizing(&slab, NULL, PLAN_SESSION);
    bind_tensors(m, c, &slab);
    size_t bytes = slab.peak;
    TRY(backend_arena_init(&slab, m->backend, MEM_WEIGHTS, bytes, err));
    m->owned = slab.base;
    m->owned_bytes = bytes;
    bind_tensors(m, c, &slab);
    for (size_t i = 0; i < weight_count(&m->config); i++) {
        struct weight_slot s = weight_slot_at(&m->config, i);
        TRY(fill_tensor(m, c, &s, err));
    }
    return MIL_OK;
}

enum mil_status model_new(const struct checkpoint *c, struct backend *b, int64_t positions,
                          struct model **out, struct mil_error *err) {
    struct model *m = NULL;
    TRY(model_frame(&c->config, b, positions, c->layers != NULL, &m, err));
    m->checkpoint = c;
    if (c->layers) {
        enum mil_status st = load_weights(m, c, err);
        if (st != MIL_OK) {
            model_free(&m);
            return st;
        }
    }
    *out = m;
    return MIL_OK;
}

enum mil_status model_new_fresh(const struct model_config *c, struct backend *b, int64_t positions,
                                uint64_t seed, struct model **out, struct mil_error *err) {
    TRY(model_frame(c, b, positions, true, out, err));
    (*out)->fresh_seed = seed;
    return MIL_OK;
}

/* ---- the plan ---- */

/* The type that config.json gives for the stored weights; F32 where it does not say. */
static enum dtype declared_dtype(const struct checkpoint *c) {
    static const char *const keys[] = {"dtype", "torch_dtype"};
    enum dtype t = DT_F32;
    for (size_t i = 0; i < 2; i++) {
        const char *name = json_string_value(json_object_get(c->config_json, keys[i]));
        if (name && dtype_from_name(name, &t)) break;
    }
    return t;
}

void model_plan(const struct checkpoint *c, const struct backend *b, int64_t positions,
                struct plan *plan) {
    size_t mapped = 0, converted = 0;
    enum dtype declared = declared_dtype(c);
    for (size_t i = 0; i < weight_count(&c->config); i++) {
        struct weight_slot s = weight_slot_at(&c->config, i);
        enum dtype t = model_weight_dtype(b, &s);
        if (c->layers) t = bound_dtype(c, b, &s);
        size_t bytes = weight_bytes(t, &s);
        bool in_place =
            c->layers ? used_in_place(c, b, &s) : backend_shares_host(b) && declared == t;
        if (in_place)
            mapped += bytes;
        else
            converted += align_up(bytes, MEM_ALIGN);
    }
    if (mapped > 0) plan_add(plan, PLAN_SESSION, mapped, "weights used in place from the file");
    if (converted > 0)
        plan_add(plan, PLAN_SESSION, converted, "weights as %s", dtype_name(backend_act(b)));
    plan_add(plan, PLAN_SESSION,
             (size_t)(positions * c->config.head_dim) * dtype_size(backend_real(b)),
             "rotary table");
}
