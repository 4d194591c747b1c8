/* SPDX-License-Identifier: Apache-2.0 */
/* full.c - every parameter trains: master values and gradients in real, compute copies in act.
 *
 * Three slabs, each in the canonical order of the weights:
 *     masters (real) | gradients (real) | copies of the matrices (act; absent where act is real)
 * The model's tensors point at the copies (vectors: at the masters), its gradient tensors at the
 * gradients.  The optimiser rounds new masters into the copies as it makes them, refresh those that come
 * from elsewhere. */
#include "model/full.h"

#include <stdio.h>

#include "core/rng.h"
#include "core/threads.h"

/* ---- layout ---- */

static void take_all(struct full *f, struct arena *a, enum full_part part) {
    const struct model *m = f->m;
    enum dtype act = backend_act(m->backend), real = backend_real(m->backend);
    for (size_t i = 0; i < f->trainable.n; i++) {
        struct weight_slot s = weight_slot_at(&m->config, i);
        struct param *p = &f->trainable.params[i];
        bool copied = act != real && !weight_kind_is_vector(s.kind);
        switch (part) {
        case FULL_MASTERS: p->value = tensor_take(a, real, s.rows, s.cols, "master"); break;
        case FULL_GRADIENTS: p->grad = tensor_take(a, real, s.rows, s.cols, "gradient"); break;
        case FULL_COPIES:
            if (copied) p->copy = tensor_take(a, act, s.rows, s.cols, "copy");
            break;
        case FULL_PARTS: break;
        }
    }
}

static void free_frame(struct full *f) {
    mem_free(f->trainable.params);
    mem_free(f);
}

static enum mil_status frame_new(struct model *m, struct full **out, struct mil_error *err) {
    struct full *f = mem_calloc(MEM_OTHER, 1, sizeof *f);
    if (!f) return error_nomem(err, sizeof *f);
    size_t n = weight_count(&m->config);
    f->m = m;
    f->trainable.params = mem_calloc(MEM_ADAPTER, n, sizeof *f->trainable.params);
    if (!f->trainable.params) {
        free_frame(f);
        return error_nomem(err, n * sizeof *f->trainable.params);
    }
    f->trainable.n = n;
    for (size_t i = 0; i < n; i++) {
        struct weight_slot s = weight_slot_at(&m->config, i);
        struct param *p = &f->trainable.params[i];
        weight_name_hf(&s, p->name);
        p->decay = !weight_kind_is_vector(s.kind);
        f->trainable.elements += s.rows * s.cols;
    }
    *out = f;
    return MIL_OK;
}

void full_plan(const struct model_config *c, const struct backend *b, struct plan *plan) {
    static const char *const names[FULL_PARTS] = {"master weights", "gradients",
                                                  "weights in the compute type"};
    struct model m = {.config = *c, .backend = (struct backend *)(uintptr_t)b};
    struct full *f = NULL;
    enum mil_status st = frame_new(&m, &f, NULL);
    if (st != MIL_OK) {
        plan->status = st;
        return;
    }
    for (int part = 0; part < FULL_PARTS; part++) {
        struct arena a;
        arena_init_sizing(&a, NULL, PLAN_SESSION);
        take_all(f, &a, (enum full_part)part);
        if (a.peak > 0) plan_add(plan, PLAN_SESSION, a.peak, "%s", names[part]);
    }
    free_frame(f);
}

/* ---- starting values ---- */

struct draw_job {
    struct tensor t; /* host */
    uint64_t seed;
    uint32_t index;
    double deviation;
};

static void draw(void *ctx, int64_t begin, int64_t end) {
    const struct draw_job *job = ctx;
    uint32_t stream = rng_stream(RNG_INIT, job->index);
    for (int64_t i = begin; i < end; i++) {
        double v = job->deviation * rng_normal(job->seed, stream, 0, (uint64_t)i);
        if (job->t.dtype == DT_F64)
            ((double *)job->t.data)[i] = v;
        else
            ((float *)job->t.data)[i] = (float)v;
    }
}

static void fill_constant(struct tensor t, double v) {
    for (int64_t i = 0; i < t.cols; i++) {
        if (t.dtype == DT_F64)
            ((double *)t.data)[i] = v;
        else
            ((float *)t.data)[i] = (float)v;
    }
}

/* Fresh values of weight i into host memory: N(0, init_range), norms 1, biases 0. */
static void draw_weight(const struct model *m, size_t i, struct tensor host) {
    struct weight_slot s = weight_slot_at(&m->config, i);
    if (weight_kind_is_vector(s.kind)) {
        fill_constant(host, weight_kind_is_norm(s.kind) ? 1 : 0);
        return;
    }
    struct draw_job job = {host, m->fresh_seed, (uint32_t)i, m->config.init_range};
    parallel_for(s.rows * s.cols, 65536, draw, &job);
}

size_t full_bytes_of(struct tensor t) {
    return (size_t)(t.rows * t.cols) * dtype_size(t.dtype);
}

static enum mil_status start_weight(struct full *f, size_t i, struct mil_error *err) {
    struct model *m = f->m;
    struct tensor master = f->trainable.params[i].value, host = master;
    struct weight_slot s = weight_slot_at(&m->config, i);
    enum mil_status st = MIL_OK;
    bool apart = !backend_shares_host(m->backend);
    if (apart) host.data = mem_alloc(MEM_OTHER, full_bytes_of(master), 1);
    if (!host.data) return error_nomem(err, full_bytes_of(master));
    if (m->checkpoint)
        st = weight_load(m->checkpoint, checkpoint_slot(m->checkpoint, &s), master.dtype, host.data,
                         err);
    else
        draw_weight(m, i, host);
    if (apart) {
        backend_upload(m->backend, master.data, host.data, full_bytes_of(master));
        mem_free(host.data);
    }
    return st;
}

/* ---- life cycle ---- */

static void refresh(void *owner, struct stream *s) {
    struct full *f = owner;
    for (size_t i = 0; i < f->trainable.n; i++) {
        const struct param *p = &f->trainable.params[i];
        if (tensor_present(p->copy)) be_copy(s, p->copy, p->value);
    }
}

/* Point the model's tensors at copies (or masters) and gradients. */
static void adopt(struct full *f) {
    struct model *m = f->m;
    for (size_t i = 0; i < f->trainable.n; i++) {
        struct weight_slot s = weight_slot_at(&m->config, i);
        const struct param *p = &f->trainable.params[i];
        *model_tensor(m, &s) = tensor_present(p->copy) ? p->copy : p->value;
        *model_gradient(m, &s) = p->grad;
        be_zero(backend_stream(m->backend), p->grad);
    }
    if (m->config.tied_head) {
        m->head = m->embed;
        m->d_head = m->d_embed;
    }
    /* What model_new converted is not used any more. */
    if (m->owned) backend_release(m->backend, m->owned);
    m->owned = NULL;
    m->owned_bytes = 0;
    m->train_all = true;
}

enum mil_status full_new(struct model *m, struct full **out, struct mil_error *err) {
    enum mil_status st;
    struct full *f = NULL;
    TRY(frame_new(m, &f, err));
    for (int part = 0; part < FULL_PARTS; part++) {
        enum mem_category category = part == FULL_COPIES ? MEM_WEIGHTS : MEM_ADAPTER;
        arena_init_sizing(&f->slab[part], NULL, PLAN_SESSION);
        take_all(f, &f->slab[part], (enum full_part)part);
        size_t bytes = f->slab[part].peak;
        TRY_GOTO(backend_arena_init(&f->slab[part], m->backend, category, bytes, err));
        take_all(f, &f->slab[part], (enum full_part)part);
    }
    for (size_t i = 0; i < f->trainable.n; i++) TRY_GOTO(start_weight(f, i, err));
    adopt(f);
    f->trainable.refresh = refresh;
    f->trainable.owner = f;
    f->trainable.copies_only = true;
    refresh(f, backend_stream(m->backend));
    TRY_GOTO(stream_sync(backend_stream(m->backend), err));
    *out = f;
    return MIL_OK;
fail:
    full_free(&f);
    return st;
}

/* The model keeps its shapes, without data. */
static void disown(struct full *f) {
    struct model *m = f->m;
    if (!m->train_all) return;
    for (size_t i = 0; i < f->trainable.n; i++) {
        struct weight_slot s = weight_slot_at(&m->config, i);
        model_tensor(m, &s)->data = NULL;
        model_gradient(m, &s)->data = NULL;
    }
    m->head.data = NULL;
    m->d_head.data = NULL;
    m->train_all = false;
}

void full_free(struct full **f) {
    if (!*f) return;
    disown(*f);
    for (int part = 0; part < FULL_PARTS; part++)
        backend_arena_release(&(*f)->slab[part], (*f)->m->backend);
    free_frame(*f);
    *f = NULL;
}

struct trainable *full_trainable(struct full *f) {
    return &f->trainable;
}
