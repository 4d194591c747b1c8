/* SPDX-License-Identifier: Apache-2.0 */
/* runtime.c - an adapter on a backend: memory, parameters for the optimiser, attaching to a model.
 *
 * One slab holds, kind after kind, what all modules need (delta.h has the table):
 *     masters (unless the host's arrays serve) | gradients | compute copies | scratch for a sum
 * Where the backend shares the host's memory and real is f32, the host adapter's arrays are the
 * masters: training changes them directly, and pull and push copy nothing. */
#include <stdio.h>
#include <string.h>

#include "adapt/runtime.h"
#include "adapt/whole.h"
#include "core/mem.h"

/* ---- layout, for attach and for the plan ---- */

/* A part of a delta (DELTA_PARTS) on the backend: master and gradient. */
static struct tensor *master_of(struct delta_runtime *d, const struct delta_part *p) {
    switch (p->offset) {
    case offsetof(struct delta, a0): return &d->a0;
    case offsetof(struct delta, b0): return &d->b0;
    case offsetof(struct delta, da): return &d->da;
    case offsetof(struct delta, db): return &d->db;
    case offsetof(struct delta, e): return &d->e;
    case offsetof(struct delta, pruned): return &d->pruned;
    default: return &d->magnitude;
    }
}

static struct tensor *gradient_of(struct delta_runtime *d, const struct delta_part *p) {
    switch (p->offset) {
    case offsetof(struct delta, da): return &d->grad_da;
    case offsetof(struct delta, db): return &d->grad_db;
    case offsetof(struct delta, e): return &d->grad_e;
    default: return &d->grad_magnitude;
    }
}

/* The parts of a runtime's delta: by its form. */
static size_t parts_of(const struct delta_runtime *d, struct delta_part out[DELTA_PARTS]) {
    const struct delta shape = {.m = d->m, .n = d->n, .r = d->r, .form = d->form, .dora = d->dora};
    return delta_parts(&shape, out);
}

static void lay_masters(struct arena *a, struct delta_runtime *d) {
    struct delta_part parts[DELTA_PARTS];
    size_t n = parts_of(d, parts);
    for (size_t i = 0; i < n; i++)
        *master_of(d, &parts[i]) =
            tensor_take(a, d->real, parts[i].rows, parts[i].cols, "%s", parts[i].name);
}

static void lay_gradients(struct arena *a, struct delta_runtime *d) {
    struct delta_part parts[DELTA_PARTS];
    size_t n = parts_of(d, parts);
    for (size_t i = 0; i < n; i++)
        if (parts[i].trained)
            *gradient_of(d, &parts[i]) = tensor_take(a, d->real, parts[i].rows, parts[i].cols,
                                                     "gradient of %s", parts[i].name);
}

static void lay_copies(struct arena *a, struct delta_runtime *d) {
    d->a = tensor_take(a, d->act, d->k, d->n, "A, dA");
    d->b = tensor_take(a, d->act, d->m, d->k, "dB, B0");
    if (d->dropout > 0 && d->form == DELTA_PAIR)
        d->a0_act = tensor_take(a, d->act, d->r, d->n, "A0");
    if (!d->dora) return;
    d->row_squares = tensor_take(a, d->real, 1, d->m, "squared norms of W's rows");
    d->factor = tensor_take(a, d->real, 1, d->m, "factor of the rows");
    d->inverse = tensor_take(a, d->real, 1, d->m, "1 / magnitude");
}

static struct delta_runtime shape_of(const struct delta *h, enum dtype act) {
    return (struct delta_runtime){.adapter = {h->dora ? &dora_ops : &delta_ops},
                                  .act = act,
                                  .real = act == DT_F64 ? DT_F64 : DT_F32,
                                  .form = h->form,
                                  .dora = h->dora,
                                  .m = h->m,
                                  .n = h->n,
                                  .r = h->r,
                                  .k = delta_saved_rank(h),
                                  .scale = delta_scale(h),
                                  .number = (uint32_t)module_number(h->layer, h->module)};
}

struct slab_parts {
    bool masters, gradients;
};

/* Elements of `sum` that delta_refresh needs. */
static int64_t sum_elements(const struct delta_runtime *d) {
    int64_t longest = d->m > d->n ? d->m : d->n;
    return d->act != d->real ? d->r * longest : d->form == DELTA_SCALED ? d->r * d->m : 0;
}

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
        if (sum_elements(&d[i]) > widest) widest = sum_elements(&d[i]);
    }
    if (widest > 0) sum = tensor_take(a, d[0].real, 1, widest, "sum");
    if (plan) plan_add(plan, PLAN_SESSION, a->used - mark, "adapter: compute copies");
    return sum;
}

/* Bytes of scratch that the factors' refresh takes. */
static size_t dora_bytes(const struct delta_runtime *d, size_t n) {
    size_t most = 0;
    for (size_t i = 0; i < n; i++)
        if (d[i].dora && dora_scratch(&d[i]) > most) most = dora_scratch(&d[i]);
    return most;
}

/* ---- attach ---- */

/* A host array of a delta beside its master. */
struct master {
    float *host;
    struct tensor *device;
};

static size_t masters_of(struct delta *h, struct delta_runtime *d, struct master out[DELTA_PARTS]) {
    struct delta_part parts[DELTA_PARTS];
    size_t n = parts_of(d, parts);
    for (size_t i = 0; i < n; i++)
        out[i] = (struct master){*delta_part_data(h, &parts[i]), master_of(d, &parts[i])};
    return n;
}

static void use_host_arrays(struct delta *h, struct delta_runtime *d) {
    struct delta_part parts[DELTA_PARTS];
    size_t n = parts_of(d, parts);
    for (size_t i = 0; i < n; i++)
        *master_of(d, &parts[i]) =
            tensor_of(*delta_part_data(h, &parts[i]), DT_F32, parts[i].rows, parts[i].cols);
}

/* Host f32 -> master, or master -> host f32, converting through a host buffer of the master's type
 * where that is f64. */
static enum mil_status transfer(struct adapter_runtime *rt, const struct master *m, bool to_device,
                                struct mil_error *err) {
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
        struct master parts[DELTA_PARTS];
        size_t n = masters_of(&rt->adapter->deltas[i], &rt->deltas[i], parts);
        for (size_t p = 0; p < n; p++) TRY(transfer(rt, &parts[p], to_device, err));
    }
    for (size_t i = 0; !rt->host_masters && i < rt->n_wholes; i++) {
        const struct master whole = {rt->adapter->wholes[i].value, &rt->wholes[i].value};
        TRY(transfer(rt, &whole, to_device, err));
    }
    return MIL_OK;
}

static void refresh(void *owner, struct stream *s) {
    const struct adapter_runtime *rt = owner;
    for (size_t i = 0; i < rt->n; i++) {
        delta_refresh(&rt->deltas[i], s, rt->sum);
        if (rt->deltas[i].dora) dora_refresh(&rt->deltas[i], s, rt->dora_slab);
    }
    wholes_refresh(rt, s);
}

/* The parts of one module that train, with their gradients zeroed. */
static void add_params(struct adapter_runtime *rt, size_t i) {
    const struct delta *h = &rt->adapter->deltas[i];
    struct delta_runtime *d = &rt->deltas[i];
    struct delta_part parts[DELTA_PARTS];
    struct tensor none = {0};
    size_t n = parts_of(d, parts);
    char name[MODULE_NAME_CAP];
    module_name(name, h->layer, h->module);
    for (size_t k = 0; k < n; k++) {
        const struct delta_part *part = &parts[k];
        if (!part->trained) continue;
        bool is_a = part->offset == offsetof(struct delta, da),
             is_b = part->offset == offsetof(struct delta, db),
             is_magnitude = part->offset == offsetof(struct delta, magnitude);
        struct param *p = &rt->trainable.params[rt->trainable.n++];
        *p = (struct param){.value = *master_of(d, part),
                            .grad = *gradient_of(d, part),
                            .base = is_a   ? d->a0
                                    : is_b ? d->b0
                                           : none,
                            .decay = is_a || is_b || is_magnitude,
                            .rate = is_b || is_magnitude ? rt->adapter->options.lr_ratio : 1};
        snprintf(p->name, sizeof p->name, "%s.%s", name, part->name);
        be_zero(backend_stream(rt->backend), p->grad);
        rt->trainable.elements += part->rows * part->cols;
    }
}

static enum mil_status make_params(struct adapter_runtime *rt, struct mil_error *err) {
    struct trainable *t = &rt->trainable;
    size_t n = rt->n_wholes;
    for (size_t i = 0; i < rt->n; i++) {
        struct delta_part parts[DELTA_PARTS];
        for (size_t k = parts_of(&rt->deltas[i], parts); k-- > 0;) n += parts[k].trained;
    }
    t->params = mem_calloc(MEM_ADAPTER, n, sizeof *t->params);
    if (!t->params) return error_nomem(err, n * sizeof *t->params);
    for (size_t i = 0; i < rt->n; i++) add_params(rt, i);
    wholes_add_params(rt);
    t->refresh = refresh;
    t->owner = rt;
    return MIL_OK;
}

/* The norms of the stored weights. */
static enum mil_status prepare_dora(struct adapter_runtime *rt, struct mil_error *err) {
    const struct checkpoint *base = rt->model->checkpoint;
    REQUIRE(base && base->layers);
    for (size_t i = 0; i < rt->n; i++) {
        const struct delta *h = &rt->adapter->deltas[i];
        if (!h->dora) continue;
        TRY(dora_prepare(&rt->deltas[i], checkpoint_module(base, h->layer, h->module), rt->backend,
                         err));
    }
    return MIL_OK;
}

/* Fill rt->deltas and the slab. */
static enum mil_status make_deltas(struct adapter_runtime *rt, bool trainable,
                                   struct mil_error *err) {
    struct adapter *a = rt->adapter;
    struct arena arena;
    rt->deltas = mem_calloc(MEM_ADAPTER, a->n, sizeof *rt->deltas);
    if (!rt->deltas) return error_nomem(err, a->n * sizeof *rt->deltas);
    rt->n = a->n;
    for (size_t i = 0; i < a->n; i++) {
        const struct delta *h = &a->deltas[i];
        struct delta_runtime *d = &rt->deltas[i];
        *d = shape_of(h, backend_act(rt->backend));
        d->dropout = trainable ? a->options.dropout : 0;
        d->trainable = trainable;
        d->w = &rt->model->layers[h->layer].linear[h->module].w;
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
    size_t dora = dora_bytes(rt->deltas, rt->n);
    if (dora == 0) return MIL_OK;
    rt->dora_slab = backend_alloc(rt->backend, MEM_ADAPTER, dora);
    if (!rt->dora_slab) return error_nomem(err, dora);
    return prepare_dora(rt, err);
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

static const struct method_step *step_of(const struct adapter_runtime *rt) {
    return rt->adapter->method ? rt->adapter->method->step : NULL;
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
    rt->model = m;
    TRY_GOTO(make_deltas(rt, trainable, err));
    TRY_GOTO(wholes_attach(rt, trainable, err));
    if (trainable) TRY_GOTO(make_params(rt, err));
    TRY_GOTO(adapter_push(rt, err));
    if (trainable && step_of(rt) && step_of(rt)->open) TRY_GOTO(step_of(rt)->open(rt, err));
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
    for (size_t i = 0; i < rt->n; i++) attach(rt->model, rt->deltas[i].number, NULL);
    if (rt->adapter && step_of(rt) && step_of(rt)->close) step_of(rt)->close(rt);
    wholes_detach(rt);
    if (rt->slab) backend_release(rt->backend, rt->slab);
    if (rt->dora_slab) backend_release(rt->backend, rt->dora_slab);
    mem_free(rt->trainable.params);
    mem_free(rt->deltas);
    mem_free(rt);
    *p = NULL;
}

struct trainable *adapter_trainable(struct adapter_runtime *rt) {
    REQUIRE(rt->trainable.params);
    return &rt->trainable;
}

/* ---- the method's part of a step ---- */

enum mil_status adapter_gradients(struct adapter_runtime *rt, double *penalty,
                                  struct mil_error *err) {
    const struct method_step *step = step_of(rt);
    *penalty = 0;
    return step && step->gradients ? step->gradients(rt, penalty, err) : MIL_OK;
}

enum mil_status adapter_updated(struct adapter_runtime *rt, const struct adapter_update *u,
                                struct mil_error *err) {
    const struct method_step *step = step_of(rt);
    return step && step->updated ? step->updated(rt, u, err) : MIL_OK;
}

size_t adapter_state_count(const struct adapter_runtime *rt) {
    const struct method_step *step = step_of(rt);
    return step && step->state ? step->state(rt, 0, NULL) : 0;
}

void adapter_state_at(const struct adapter_runtime *rt, size_t i, struct adapter_state *out) {
    step_of(rt)->state(rt, i, out);
}

/* ---- shapes alone: plan and skeleton ---- */

/* Shapes of what the options select: *n of them in *out (mem_free). */
static enum mil_status shapes_of(const struct model_config *c, const struct adapter_options *o,
                                 bool trainable, enum dtype act, struct delta_runtime **out,
                                 size_t *n, struct mil_error *err) {
    const struct method *method;
    struct adapter_options resolved;
    struct delta *shapes;
    TRY(adapter_resolve(o, &resolved, &method, err));
    TRY(adapter_shapes(c, &resolved, method, &shapes, n, err));
    struct delta_runtime *d = mem_calloc(MEM_OTHER, *n, sizeof *d);
    for (size_t i = 0; d && i < *n; i++) {
        d[i] = shape_of(&shapes[i], act);
        d[i].dropout = trainable ? o->dropout : 0;
        d[i].trainable = trainable;
    }
    mem_free(shapes);
    *out = d;
    return d ? MIL_OK : error_nomem(err, *n * sizeof *d);
}

enum mil_status adapter_plan(const struct model_config *c, const struct adapter_options *o,
                             bool trainable, enum dtype act, struct plan *plan,
                             struct mil_error *err) {
    const struct method *method;
    struct delta_runtime *d;
    struct arena arena;
    size_t n = 0;
    TRY(method_find(o->method, &method, err));
    TRY(shapes_of(c, o, trainable, act, &d, &n, err));
    /* On the CPU in f32 the masters are the host's own arrays: counted once. */
    arena_init_sizing(&arena, NULL, PLAN_SESSION);
    lay_out(&arena, d, n, (struct slab_parts){true, trainable}, plan);
    if (dora_bytes(d, n) > 0)
        plan_add(plan, PLAN_SESSION, dora_bytes(d, n), "adapter: row factors' scratch");
    if (trainable && method->step && method->step->bytes)
        plan_add(plan, PLAN_SESSION, method->step->bytes(d, n), "adapter: state of the method");
    mem_free(d);
    TRY(adapter_plan_wholes(c, o, trainable, act, plan, err));
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
