/* SPDX-License-Identifier: Apache-2.0 */
/* whole_runtime.c - whole tensors on a backend: they stand where the model's tensors stood.
 *
 * Biases are added as they are, in real.  Of embeddings and head the model uses values in the compute type, so
 * they have copies in it, which the optimiser's update writes: then step 0 changes nothing, whatever type the base
 * is stored in.  Where host arrays are the masters (runtime.c), they are those of wholes too. */
#include "adapt/runtime.h"
#include "adapt/whole.h"
#include "core/mem.h"

static struct tensor *place_of(struct model *m, const struct whole *w) {
    if (w->kind == WHOLE_BIAS) return &m->layers[w->layer].linear[w->module].b;
    return w->kind == WHOLE_EMBED ? &m->embed : &m->head;
}

static struct tensor *gradient_place_of(struct model *m, const struct whole *w) {
    if (w->kind == WHOLE_BIAS) return &m->layers[w->layer].linear[w->module].db;
    return w->kind == WHOLE_EMBED ? &m->d_embed : &m->d_head;
}

struct whole_parts {
    bool values, gradients;
};

static void lay_out(struct arena *a, const struct whole *w, size_t n, struct whole_parts parts,
                    enum dtype act, struct whole_runtime *out) {
    enum dtype real = act == DT_F64 ? DT_F64 : DT_F32;
    for (size_t i = 0; i < n; i++) {
        struct whole_runtime *r = &out[i];
        if (parts.values) r->value = tensor_take(a, real, w[i].rows, w[i].cols, "whole tensor");
        if (parts.gradients) r->grad = tensor_take(a, real, w[i].rows, w[i].cols, "its gradient");
        if (w[i].kind != WHOLE_BIAS && act != real)
            r->copy = tensor_take(a, act, w[i].rows, w[i].cols, "its compute copy");
    }
}

void wholes_plan(const struct whole *w, size_t n, bool trainable, enum dtype act,
                 struct plan *plan) {
    struct arena a;
    struct whole_runtime *ignored = mem_calloc(MEM_OTHER, n + 1, sizeof *ignored);
    if (!ignored) {
        plan->status = MIL_NOMEM;
        return;
    }
    arena_init_sizing(&a, NULL, PLAN_SESSION);
    lay_out(&a, w, n, (struct whole_parts){true, trainable}, act, ignored);
    if (a.used > 0) plan_add(plan, PLAN_SESSION, a.used, "adapter: whole tensors");
    mem_free(ignored);
}

static void take_place(struct whole_runtime *r, const struct whole *w, struct model *m,
                       bool trainable) {
    r->place = place_of(m, w);
    r->replaced = *r->place;
    *r->place = tensor_present(r->copy) ? r->copy : r->value;
    if (!trainable) return;
    r->grad_place = gradient_place_of(m, w);
    r->grad_replaced = *r->grad_place;
    *r->grad_place = r->grad;
}

enum mil_status wholes_attach(struct adapter_runtime *rt, bool trainable, struct mil_error *err) {
    const struct whole *w = rt->adapter->wholes;
    size_t n = rt->adapter->n_wholes;
    enum dtype act = backend_act(rt->backend);
    struct whole_parts parts = {!rt->host_masters, trainable};
    struct arena a;
    if (n == 0) return MIL_OK;
    rt->wholes = mem_calloc(MEM_ADAPTER, n, sizeof *rt->wholes);
    if (!rt->wholes) return error_nomem(err, n * sizeof *rt->wholes);
    arena_init_sizing(&a, NULL, PLAN_SESSION);
    lay_out(&a, w, n, parts, act, rt->wholes);
    rt->whole_slab = backend_alloc(rt->backend, MEM_ADAPTER, a.used);
    if (!rt->whole_slab) return error_nomem(err, a.used);
    a = (struct arena){.base = rt->whole_slab, .cap = a.used};
    lay_out(&a, w, n, parts, act, rt->wholes);
    for (size_t i = 0; i < n; i++) {
        if (rt->host_masters)
            rt->wholes[i].value = tensor_of(w[i].value, DT_F32, w[i].rows, w[i].cols);
        take_place(&rt->wholes[i], &w[i], rt->model, trainable);
    }
    rt->n_wholes = n;
    return MIL_OK;
}

void wholes_detach(struct adapter_runtime *rt) {
    for (size_t i = 0; i < rt->n_wholes; i++) {
        *rt->wholes[i].place = rt->wholes[i].replaced;
        if (rt->wholes[i].grad_place) *rt->wholes[i].grad_place = rt->wholes[i].grad_replaced;
    }
    if (rt->whole_slab) backend_release(rt->backend, rt->whole_slab);
    mem_free(rt->wholes);
    rt->wholes = NULL;
    rt->n_wholes = 0;
    rt->whole_slab = NULL;
}

void wholes_add_params(struct adapter_runtime *rt) {
    for (size_t i = 0; i < rt->n_wholes; i++) {
        const struct whole_runtime *r = &rt->wholes[i];
        struct param *p = &rt->trainable.params[rt->trainable.n++];
        bool bias = rt->adapter->wholes[i].kind == WHOLE_BIAS;
        *p = (struct param){.value = r->value,
                            .grad = r->grad,
                            .copy = r->copy,
                            .decay = !bias,
                            /* B's, as PEFT's optimiser for LoRA+ has all vectors */
                            .rate = bias ? rt->adapter->options.lr_ratio : 1};
        whole_name(&rt->adapter->wholes[i], p->name, sizeof p->name);
        be_zero(backend_stream(rt->backend), p->grad);
        rt->trainable.elements += r->value.rows * r->value.cols;
    }
}

void wholes_refresh(const struct adapter_runtime *rt, struct stream *s) {
    for (size_t i = 0; i < rt->n_wholes; i++)
        if (tensor_present(rt->wholes[i].copy)) be_copy(s, rt->wholes[i].copy, rt->wholes[i].value);
}
