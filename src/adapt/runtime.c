/* SPDX-License-Identifier: Apache-2.0 */
/* runtime.c - an adapter on a backend: memory, parameters for the optimiser, attaching to a model.
 *
 * One slab holds, kind after kind, what all modules need (delta.h has the table):
 *     masters (unless the host's arrays serve) | gradients | compute copies | scratch for a sum
 * Where the backend shares the host's memory and real is f32, the host adapter's arrays are the
 * masters: training changes them directly, and pull and push copy nothing. */
#include <stdio.h>
#include <string.h>

#include "adapt/delta.h"
#include "adapt/internal.h"
#include "core/mem.h"

struct adapter_runtime {
    struct adapter *adapter;
    struct model *model;
    struct backend *backend;
    struct delta_runtime *deltas;
    size_t n;
    bool host_masters;
    void *slab;
    struct tensor sum;
    struct trainable trainable;
};

/* ---- layout, for attach and for the plan ---- */

static void lay_masters(struct arena *a, struct delta_runtime *d) {
    bool b0 = d->k > d->r;
    d->a0 = tensor_take(a, d->real, d->r, d->n, "A0");
    d->da = tensor_take(a, d->real, d->r, d->n, "dA");
    d->db = tensor_take(a, d->real, d->m, d->r, "dB");
    if (b0) d->b0 = tensor_take(a, d->real, d->m, d->r, "B0");
}

static void lay_gradients(struct arena *a, struct delta_runtime *d) {
    d->grad_da = tensor_take(a, d->real, d->r, d->n, "grad dA");
    d->grad_db = tensor_take(a, d->real, d->m, d->r, "grad dB");
}

static void lay_copies(struct arena *a, struct delta_runtime *d) {
    d->a = tensor_take(a, d->act, d->k, d->n, "A, dA");
    d->b = tensor_take(a, d->act, d->m, d->k, "dB, B0");
    if (d->dropout > 0 && d->k > d->r) d->a0_act = tensor_take(a, d->act, d->r, d->n, "A0");
}

static struct delta_runtime shape_of(int64_t m, int64_t n, int64_t r, bool b0, enum dtype act) {
    return (struct delta_runtime){.adapter = {&delta_ops},
                                  .act = act,
                                  .real = act == DT_F64 ? DT_F64 : DT_F32,
                                  .m = m,
                                  .n = n,
                                  .r = r,
                                  .k = b0 ? 2 * r : r};
}

struct slab_parts {
    bool masters, gradients;
};

/* Lay everything out in a; bytes of each kind go into plan unless that is NULL. */
static struct tensor lay_out(struct arena *a, struct delta_runtime *d, size_t n,
                             struct slab_parts parts, struct plan *plan) {
    struct tensor sum = {0};
    int64_t widest = 0;
    size_t mark = a->used;
    for (size_t i = 0; parts.masters && i < n; i++) lay_masters(a, &d[i]);
    if (plan) plan_add(plan, PLAN_SESSION, a->used - mark, "adapter: masters");
    mark = a->used;
    for (size_t i = 0; parts.gradients && i < n; i++) lay_gradients(a, &d[i]);
    if (plan) plan_add(plan, PLAN_SESSION, a->used - mark, "adapter: gradients");
    mark = a->used;
    for (size_t i = 0; i < n; i++) {
        lay_copies(a, &d[i]);
        if (d[i].act != d[i].real && d[i].r * d[i].n > widest) widest = d[i].r * d[i].n;
    }
    if (widest > 0) sum = tensor_take(a, d[0].real, 1, widest, "sum");
    if (plan) plan_add(plan, PLAN_SESSION, a->used - mark, "adapter: compute copies");
    return sum;
}

/* ---- attach ---- */

/* The four host arrays of a delta beside their masters. */
struct master {
    float *host;
    struct tensor *device;
};

static void masters_of(const struct delta *h, struct delta_runtime *d, struct master out[4]) {
    out[0] = (struct master){h->a0, &d->a0};
    out[1] = (struct master){h->da, &d->da};
    out[2] = (struct master){h->db, &d->db};
    out[3] = (struct master){h->b0, &d->b0};
}

static void use_host_arrays(const struct delta *h, struct delta_runtime *d) {
    d->a0 = tensor_of(h->a0, DT_F32, d->r, d->n);
    d->da = tensor_of(h->da, DT_F32, d->r, d->n);
    d->db = tensor_of(h->db, DT_F32, d->m, d->r);
    if (h->b0) d->b0 = tensor_of(h->b0, DT_F32, d->m, d->r);
}

/* Host f32 -> master, or master -> host f32, converting through a host buffer of the master's type
 * where that is f64. */
static enum mil_status transfer(struct adapter_runtime *rt, const struct master *m, bool to_device,
                                struct mil_error *err) {
    if (!m->host) return MIL_OK;
    size_t n = (size_t)(m->device->rows * m->device->cols);
    if (m->device->dtype == DT_F32) {
        if (to_device)
            backend_upload(rt->backend, m->device->data, m->host, n * sizeof(float));
        else
            backend_download(rt->backend, m->host, m->device->data, n * sizeof(float));
        return MIL_OK;
    }
    double *wide = mem_alloc(MEM_SCRATCH, n, sizeof *wide);
    if (!wide) return error_nomem(err, n * sizeof *wide);
    if (to_device) {
        for (size_t i = 0; i < n; i++) wide[i] = m->host[i];
        backend_upload(rt->backend, m->device->data, wide, n * sizeof *wide);
    } else {
        backend_download(rt->backend, wide, m->device->data, n * sizeof *wide);
        for (size_t i = 0; i < n; i++) m->host[i] = (float)wide[i];
    }
    mem_free(wide);
    return MIL_OK;
}

static enum mil_status transfer_all(struct adapter_runtime *rt, bool to_device,
                                    struct mil_error *err) {
    for (size_t i = 0; !rt->host_masters && i < rt->n; i++) {
        struct master parts[4];
        masters_of(&rt->adapter->deltas[i], &rt->deltas[i], parts);
        for (int p = 0; p < 4; p++) TRY(transfer(rt, &parts[p], to_device, err));
    }
    return MIL_OK;
}

static void refresh(void *owner, struct stream *s) {
    const struct adapter_runtime *rt = owner;
    for (size_t i = 0; i < rt->n; i++) delta_refresh(&rt->deltas[i], s, rt->sum);
}

static struct param param_of(const struct delta *h, const struct delta_runtime *d, bool is_a) {
    struct param p = {.value = is_a ? d->da : d->db,
                      .grad = is_a ? d->grad_da : d->grad_db,
                      .base = is_a ? d->a0 : d->b0,
                      .decay = true};
    char name[MODULE_NAME_CAP];
    module_name(name, h->layer, h->module);
    snprintf(p.name, sizeof p.name, "%s.delta_%c", name, is_a ? 'A' : 'B');
    return p;
}

static enum mil_status make_params(struct adapter_runtime *rt, struct mil_error *err) {
    struct trainable *t = &rt->trainable;
    t->params = mem_calloc(MEM_ADAPTER, 2 * rt->n, sizeof *t->params);
    if (!t->params) return error_nomem(err, 2 * rt->n * sizeof *t->params);
    for (size_t i = 0; i < rt->n; i++) {
        struct delta_runtime *d = &rt->deltas[i];
        be_zero(backend_stream(rt->backend), d->grad_da);
        be_zero(backend_stream(rt->backend), d->grad_db);
        t->params[t->n++] = param_of(&rt->adapter->deltas[i], d, true);
        t->params[t->n++] = param_of(&rt->adapter->deltas[i], d, false);
    }
    t->elements = adapter_elements(rt->adapter);
    t->refresh = refresh;
    t->owner = rt;
    return MIL_OK;
}

/* Fill rt->deltas and the slab. */
static enum mil_status make_deltas(struct adapter_runtime *rt, bool trainable,
                                   struct mil_error *err) {
    const struct adapter *a = rt->adapter;
    struct arena arena;
    rt->deltas = mem_calloc(MEM_ADAPTER, a->n, sizeof *rt->deltas);
    if (!rt->deltas) return error_nomem(err, a->n * sizeof *rt->deltas);
    rt->n = a->n;
    for (size_t i = 0; i < a->n; i++) {
        const struct delta *h = &a->deltas[i];
        struct delta_runtime *d = &rt->deltas[i];
        *d = shape_of(h->m, h->n, h->r, h->b0 != NULL, backend_act(rt->backend));
        d->scale = delta_scale(h);
        d->dropout = trainable ? a->options.dropout : 0;
        d->number = (uint32_t)module_number(h->layer, h->module);
        d->trainable = trainable;
    }
    struct slab_parts parts = {!rt->host_masters, trainable};
    arena_init_sizing(&arena, NULL, PLAN_SESSION);
    lay_out(&arena, rt->deltas, rt->n, parts, NULL);
    rt->slab = backend_alloc(rt->backend, MEM_ADAPTER, arena.used);
    if (!rt->slab) return error_nomem(err, arena.used);
    arena = (struct arena){.base = rt->slab, .cap = arena.used};
    rt->sum = lay_out(&arena, rt->deltas, rt->n, parts, NULL);
    for (size_t i = 0; rt->host_masters && i < rt->n; i++)
        use_host_arrays(&a->deltas[i], &rt->deltas[i]);
    return MIL_OK;
}

enum mil_status adapter_push(struct adapter_runtime *rt, struct mil_error *err) {
    struct stream *s = backend_stream(rt->backend);
    TRY(transfer_all(rt, true, err));
    for (size_t i = 0; i < rt->n; i++) delta_refresh_frozen(&rt->deltas[i], s);
    refresh(rt, s);
    return stream_sync(s, err);
}

enum mil_status adapter_pull(struct adapter_runtime *rt, struct mil_error *err) {
    TRY(stream_sync(backend_stream(rt->backend), err));
    return transfer_all(rt, false, err);
}

static void attach(struct model *m, uint32_t number, const struct linear_adapter *adapter) {
    model_attach(m, number / MODULES, (enum module)(number % MODULES), adapter);
}

enum mil_status adapter_attach(struct adapter *a, struct model *m, bool trainable,
                               struct adapter_runtime **out, struct mil_error *err) {
    *out = NULL;
    TRY(adapter_check_base(a, &m->config, err));
    struct adapter_runtime *rt = mem_calloc(MEM_ADAPTER, 1, sizeof *rt);
    if (!rt) return error_nomem(err, sizeof *rt);
    enum mil_status st;
    rt->adapter = a;
    rt->backend = m->backend;
    rt->host_masters = backend_shares_host(m->backend) && backend_real(m->backend) == DT_F32;
    TRY_GOTO(make_deltas(rt, trainable, err));
    if (trainable) TRY_GOTO(make_params(rt, err));
    TRY_GOTO(adapter_push(rt, err));
    rt->model = m;
    for (size_t i = 0; i < rt->n; i++) attach(m, rt->deltas[i].number, &rt->deltas[i].adapter);
    *out = rt;
    return MIL_OK;
fail:
    adapter_detach(&rt);
    return st;
}

void adapter_detach(struct adapter_runtime **p) {
    struct adapter_runtime *rt = *p;
    if (!rt) return;
    for (size_t i = 0; rt->model && i < rt->n; i++) attach(rt->model, rt->deltas[i].number, NULL);
    if (rt->slab) backend_release(rt->backend, rt->slab);
    mem_free(rt->trainable.params);
    mem_free(rt->deltas);
    mem_free(rt);
    *p = NULL;
}

struct trainable *adapter_trainable(struct adapter_runtime *rt) {
    REQUIRE(rt->trainable.params);
    return &rt->trainable;
}

/* ---- shapes alone: plan and skeleton ---- */

/* Shapes of what the options select: *n of them in *out (mem_free). */
static enum mil_status shapes_of(const struct model_config *c, const struct adapter_options *o,
                                 bool trainable, enum dtype act, struct delta_runtime **out,
                                 size_t *n, struct mil_error *err) {
    const struct method *method;
    TRY(method_find(o->method, &method, err));
    size_t all = (size_t)c->layers * MODULES;
    bool *selected = mem_calloc(MEM_OTHER, all, sizeof *selected);
    struct delta_runtime *d = mem_calloc(MEM_OTHER, all, sizeof *d);
    enum mil_status st = selected && d ? MIL_OK : error_nomem(err, all * sizeof *d);
    if (st == MIL_OK) st = adapter_select(c, o, selected, err);
    for (size_t i = 0; st == MIL_OK && i < all; i++) {
        enum module m = (enum module)(i % MODULES);
        if (!selected[i]) continue;
        d[*n] = shape_of(module_rows(c, m), module_cols(c, m), o->r, !method->b0_is_zero, act);
        d[*n].dropout = trainable ? o->dropout : 0;
        d[*n].trainable = trainable;
        d[(*n)++].number = (uint32_t)i;
    }
    mem_free(selected);
    if (st == MIL_OK)
        *out = d;
    else
        mem_free(d);
    return st;
}

enum mil_status adapter_plan(const struct model_config *c, const struct adapter_options *o,
                             bool trainable, enum dtype act, struct plan *plan,
                             struct mil_error *err) {
    struct delta_runtime *d;
    struct arena arena;
    size_t n = 0;
    TRY(shapes_of(c, o, trainable, act, &d, &n, err));
    /* On the CPU in f32 the masters are the host's own arrays: counted once. */
    arena_init_sizing(&arena, NULL, PLAN_SESSION);
    lay_out(&arena, d, n, (struct slab_parts){true, trainable}, plan);
    mem_free(d);
    return plan->status == MIL_OK ? MIL_OK : error_nomem(err, 0);
}

enum mil_status adapter_attach_skeleton(const struct adapter_options *o, struct model *m,
                                        struct adapter_runtime **out, struct mil_error *err) {
    struct adapter_runtime *rt = mem_calloc(MEM_ADAPTER, 1, sizeof *rt);
    *out = NULL;
    if (!rt) return error_nomem(err, sizeof *rt);
    rt->backend = m->backend;
    enum mil_status st =
        shapes_of(&m->config, o, true, backend_act(m->backend), &rt->deltas, &rt->n, err);
    if (st != MIL_OK) {
        mem_free(rt);
        return st;
    }
    rt->model = m;
    for (size_t i = 0; i < rt->n; i++) attach(m, rt->deltas[i].number, &rt->deltas[i].adapter);
    *out = rt;
    return MIL_OK;
}
