/* SPDX-License-Identifier: Apache-2.0 */
/* adalora.c - what AdaLoRA does in an optimiser step beyond the parameters' updates, in PEFT's order.
 *
 * Before the update.  The backward pass left d loss / d (P diag(e)) = G in grad_db (delta.h):
 *     grad e_j = sum_i P_ij G_ij        grad P = G diag(e)
 * then the penalty orth_reg_weight / (2 modules) sum (||P^T P - I||_F + ||Q Q^T - I||_F) adds its gradients.
 * After it, at step t (from 1):
 *     t < last     the importance of every element of P, e, Q is renewed, with the values after the update and the
 *                  gradient as the update used it (clipped)
 *     chosen       masks by score: an entry of e by its own mean x spread, plus the averages over its column of P and
 *                  its row of Q; the smallest go (adalora_budget.c)
 *     t > last     the last masks hold
 * A mask sets e to 0; until `last` an entry may come back, P and Q train on in any case.  After `last` nothing is
 * measured any more, and the averages are 0 again.  Host code reads masters directly: open refuses a backend that
 * keeps them elsewhere. */
#include "adapt/adalora.h"

#include <stdio.h>
#include <string.h>

#include "adapt/orthogonality.h"
#include "adapt/runtime.h"
#include "core/mem.h"
#include "core/threads.h"

enum { SIDES = 2, KINDS = 3, STATES = 2 * KINDS, RUN = 1024 };

/* Averages of one module; kinds in the order of delta_parts. */
struct measured {
    struct tensor mean[KINDS], spread[KINDS]; /* of Q, P, e */
};
struct adalora {
    struct measured *modules;
    void *slab;
    double *norms;          /* of the penalty, SIDES a module */
    double *score, *sorted; /* of all entries, module by module */
    bool *pruned;
    size_t *begin;   /* of a module's entries; n + 1 */
    double *scratch; /* `each` doubles a thread */
    size_t each;
    int threads;
};

/* ---- memory ---- */

static void lay_measured(struct arena *a, const struct delta_runtime *d, struct measured *m) {
    const int64_t rows[KINDS] = {d->r, d->m, 1}, cols[KINDS] = {d->n, d->r, d->r};
    for (int k = 0; k < KINDS; k++) {
        m->mean[k] = tensor_take(a, d->real, rows[k], cols[k], "importance");
        m->spread[k] = tensor_take(a, d->real, rows[k], cols[k], "its uncertainty");
    }
}

static size_t entries_of(const struct delta_runtime *d, size_t n) {
    size_t sum = 0;
    for (size_t i = 0; i < n; i++) sum += (size_t)d[i].r;
    return sum;
}

/* Doubles of a thread's scratch: the penalty's tiles, or rows of averages for the scores. */
static size_t scratch_of(const struct delta_runtime *d, size_t n) {
    size_t most = 0;
    for (size_t i = 0; i < n; i++) {
        size_t one = orthogonality_scratch(d[i].r) + 2 * RUN;
        if (one > most) most = one;
    }
    return most;
}

static size_t state_bytes(const struct delta_runtime *d, size_t n) {
    struct arena a;
    struct measured m;
    arena_init_sizing(&a, NULL, PLAN_SESSION);
    for (size_t i = 0; i < n; i++) lay_measured(&a, &d[i], &m);
    return a.used;
}

static size_t bytes(const struct delta_runtime *d, size_t n) {
    return state_bytes(d, n) + (size_t)threads_count() * scratch_of(d, n) * sizeof(double) +
           entries_of(d, n) * (2 * sizeof(double) + sizeof(bool)) +
           n * (sizeof(struct measured) + SIDES * sizeof(double) + sizeof(size_t));
}

static void close(struct adapter_runtime *rt) {
    struct adalora *s = rt->step;
    if (!s) return;
    if (s->slab) backend_release(rt->backend, s->slab);
    mem_free(s->modules);
    mem_free(s->norms);
    mem_free(s->score);
    mem_free(s->sorted);
    mem_free(s->pruned);
    mem_free(s->begin);
    mem_free(s->scratch);
    mem_free(s);
    rt->step = NULL;
}

static enum mil_status make_arrays(struct adapter_runtime *rt, struct adalora *s,
                                   struct mil_error *err) {
    size_t n = rt->n, entries = entries_of(rt->deltas, n);
    s->threads = threads_count();
    s->each = scratch_of(rt->deltas, n);
    s->modules = mem_calloc(MEM_ADAPTER, n, sizeof *s->modules);
    s->norms = mem_calloc(MEM_ADAPTER, SIDES * n, sizeof *s->norms);
    s->score = mem_calloc(MEM_ADAPTER, entries, sizeof *s->score);
    s->sorted = mem_calloc(MEM_ADAPTER, entries, sizeof *s->sorted);
    s->pruned = mem_calloc(MEM_ADAPTER, entries, sizeof *s->pruned);
    s->begin = mem_calloc(MEM_ADAPTER, n + 1, sizeof *s->begin);
    s->scratch = mem_calloc(MEM_ADAPTER, (size_t)s->threads * s->each, sizeof *s->scratch);
    s->slab = backend_alloc(rt->backend, MEM_ADAPTER, state_bytes(rt->deltas, n));
    if (!s->modules || !s->norms || !s->score || !s->sorted || !s->pruned || !s->begin ||
        !s->scratch || !s->slab)
        return error_nomem(err, state_bytes(rt->deltas, n));
    return MIL_OK;
}

static void forget(struct adapter_runtime *rt) {
    struct adalora *s = rt->step;
    for (size_t i = 0; i < rt->n; i++)
        for (int k = 0; k < KINDS; k++) {
            be_zero(backend_stream(rt->backend), s->modules[i].mean[k]);
            be_zero(backend_stream(rt->backend), s->modules[i].spread[k]);
        }
}

static enum mil_status open(struct adapter_runtime *rt, struct mil_error *err) {
    if (!backend_shares_host(rt->backend))
        return error_set(err, MIL_UNSUPPORTED, "method 'adalora' trains on the cpu backend, not %s",
                         backend_name(rt->backend));
    struct adalora *s = mem_calloc(MEM_ADAPTER, 1, sizeof *s);
    if (!s) return error_nomem(err, sizeof *s);
    rt->step = s;
    TRY(make_arrays(rt, s, err));
    struct arena a = {.base = s->slab, .cap = state_bytes(rt->deltas, rt->n)};
    for (size_t i = 0; i < rt->n; i++) {
        lay_measured(&a, &rt->deltas[i], &s->modules[i]);
        s->begin[i + 1] = s->begin[i] + (size_t)rt->deltas[i].r;
    }
    forget(rt);
    return stream_sync(backend_stream(rt->backend), err);
}

static double *scratch_here(const struct adalora *s) {
    int index = threads_index();
    REQUIRE(index < s->threads);
    return s->scratch + (size_t)index * s->each;
}

/* What a checkpoint keeps: means and spreads; masks are among the adapter's own arrays. */
static size_t state(const struct adapter_runtime *rt, size_t i, struct adapter_state *out) {
    static const char *const kinds[KINDS] = {"delta_A", "delta_B", "lambda"};
    const struct adalora *s = rt->step;
    if (!out) return STATES * rt->n;
    const struct delta *d = &rt->adapter->deltas[i / STATES];
    const struct measured *m = &s->modules[i / STATES];
    size_t k = i % STATES / 2;
    char name[MODULE_NAME_CAP];
    module_name(name, d->layer, d->module);
    snprintf(out->name, sizeof out->name, "%s.%s.%s", name, kinds[k],
             i % 2 ? "uncertainty" : "importance");
    out->tensor = i % 2 ? m->spread[k] : m->mean[k];
    return STATES * rt->n;
}

/* ---- gradients ---- */

struct penalty_job {
    const struct adapter_runtime *rt;
    double weight; /* of each norm */
};

static void penalise(void *ctx, int64_t begin, int64_t end) {
    const struct penalty_job *job = ctx;
    const struct adalora *s = job->rt->step;
    struct tensor none = {0};
    for (int64_t i = begin; i < end; i++) {
        const struct delta_runtime *d = &job->rt->deltas[i / SIDES];
        bool rows = i % SIDES == 0;
        const struct orthogonality o = {.value = rows ? d->da : d->db,
                                        .base = rows ? d->a0 : none,
                                        .grad = rows ? d->grad_da : d->grad_db,
                                        .rows = rows,
                                        .length = rows ? d->n : d->m,
                                        .r = d->r};
        s->norms[i] = orthogonality_add(&o, job->weight, scratch_here(s));
    }
}

static enum mil_status gradients(struct adapter_runtime *rt, double *penalty,
                                 struct mil_error *err) {
    const struct adalora *s = rt->step;
    struct stream *stream = backend_stream(rt->backend);
    int64_t sides = SIDES * (int64_t)rt->n;
    for (size_t i = 0; i < rt->n; i++) {
        const struct delta_runtime *d = &rt->deltas[i];
        be_col_dots(stream, d->grad_e, 1.0, d->db, d->grad_db);
        be_scale_cols(stream, d->grad_db, d->grad_db, d->e);
    }
    TRY(stream_sync(stream, err));
    *penalty = 0;
    if (rt->adapter->options.adalora.orth_reg_weight == 0) return MIL_OK;
    struct penalty_job job = {rt, rt->adapter->options.adalora.orth_reg_weight / (double)sides};
    parallel_for(sides, 1, penalise, &job);
    for (int64_t i = 0; i < sides; i++) *penalty += job.weight * s->norms[i];
    return MIL_OK;
}

/* ---- importance ---- */

static void measure(const struct adapter_runtime *rt, double grad_scale) {
    const struct adalora *s = rt->step;
    const struct adalora_options *o = &rt->adapter->options.adalora;
    const struct importance hyper = {o->beta1, o->beta2, grad_scale};
    struct tensor none = {0};
    for (size_t i = 0; i < rt->n; i++) {
        const struct delta_runtime *d = &rt->deltas[i];
        const struct measured *m = &s->modules[i];
        const struct tensor value[KINDS] = {d->da, d->db, d->e}, base[KINDS] = {d->a0, none, none},
                            grad[KINDS] = {d->grad_da, d->grad_db, d->grad_e};
        for (int k = 0; k < KINDS; k++)
            be_importance(backend_stream(rt->backend), m->mean[k], m->spread[k], value[k], base[k],
                          grad[k], &hyper);
    }
}

static void widen(struct tensor t, int64_t at, int64_t n, double *out) {
    if (t.dtype == DT_F64) {
        memcpy(out, (const double *)t.data + at, (size_t)n * sizeof *out);
        return;
    }
    const float *x = (const float *)t.data + at;
    for (int64_t i = 0; i < n; i++) out[i] = (double)x[i];
}

/* score[j] += factor times mean x spread of element at + j. */
static void add_products(const struct measured *m, int k, int64_t at, int64_t n, double factor,
                         double *score, double *scratch) {
    for (int64_t begin = 0; begin < n; begin += RUN) {
        int64_t run = n - begin < RUN ? n - begin : RUN;
        widen(m->mean[k], at + begin, run, scratch);
        widen(m->spread[k], at + begin, run, scratch + RUN);
        for (int64_t j = 0; j < run; j++)
            score[begin + j] += factor * (scratch[j] * scratch[RUN + j]);
    }
}

/* Sum of mean x spread over n elements, in eight chains. */
static double sum_products(const struct measured *m, int k, int64_t at, int64_t n,
                           double *scratch) {
    double sum[8] = {0};
    for (int64_t begin = 0; begin < n; begin += RUN) {
        int64_t run = n - begin < RUN ? n - begin : RUN;
        widen(m->mean[k], at + begin, run, scratch);
        widen(m->spread[k], at + begin, run, scratch + RUN);
        for (int64_t j = 0; j < run; j++) sum[j % 8] += scratch[j] * scratch[RUN + j];
    }
    return ((sum[0] + sum[1]) + (sum[2] + sum[3])) + ((sum[4] + sum[5]) + (sum[6] + sum[7]));
}

static void score_modules(void *ctx, int64_t begin, int64_t end) {
    const struct adapter_runtime *rt = ctx;
    const struct adalora *s = rt->step;
    double *scratch = scratch_here(s);
    for (int64_t i = begin; i < end; i++) {
        const struct delta_runtime *d = &rt->deltas[i];
        const struct measured *m = &s->modules[i];
        double *score = s->score + s->begin[i];
        for (int64_t j = 0; j < d->r; j++)
            score[j] = sum_products(m, 0, j * d->n, d->n, scratch) / (double)d->n;
        for (int64_t row = 0; row < d->m; row++)
            add_products(m, 1, row * d->r, d->r, 1.0 / (double)d->m, score, scratch);
        add_products(m, 2, 0, d->r, 1.0, score, scratch);
    }
}

/* ---- masks ---- */

static void set_real(struct tensor t, int64_t i, double value) {
    if (t.dtype == DT_F64)
        ((double *)t.data)[i] = value;
    else
        ((float *)t.data)[i] = (float)value;
}

/* Host array and master of each module's mask: one and the same in f32. */
static void store_masks(struct adapter_runtime *rt) {
    const struct adalora *s = rt->step;
    for (size_t i = 0; i < rt->n; i++)
        for (int64_t j = 0; j < rt->deltas[i].r; j++) {
            double value = s->pruned[s->begin[i] + (size_t)j] ? 1 : 0;
            rt->adapter->deltas[i].pruned[j] = (float)value;
            set_real(rt->deltas[i].pruned, j, value);
        }
}

/* e = 0 where masked. */
static enum mil_status apply_masks(struct adapter_runtime *rt, struct mil_error *err) {
    struct stream *stream = backend_stream(rt->backend);
    for (size_t i = 0; i < rt->n; i++) {
        const struct delta_runtime *d = &rt->deltas[i];
        bool any = false;
        for (int64_t j = 0; j < d->r; j++) {
            if (rt->adapter->deltas[i].pruned[j] == 0) continue;
            set_real(d->e, j, 0);
            any = true;
        }
        if (any) delta_refresh_b(d, stream, rt->sum);
    }
    return stream_sync(stream, err);
}

static enum mil_status updated(struct adapter_runtime *rt, const struct adapter_update *u,
                               struct mil_error *err) {
    struct adalora *s = rt->step;
    bool due;
    int64_t budget = adapter_budget(rt->adapter, u->step, u->total_steps, &due),
            last = adalora_schedule_of(&rt->adapter->options.adalora, u->total_steps).last;
    if (u->step < last) measure(rt, u->grad_scale);
    TRY(stream_sync(backend_stream(rt->backend), err));
    if (due) {
        parallel_for((int64_t)rt->n, 1, score_modules, rt);
        adalora_choose(s->score, s->begin[rt->n], budget, s->sorted, s->pruned);
        store_masks(rt);
    }
    if (u->step == last) forget(rt);
    return due || u->step > last ? apply_masks(rt, err) : MIL_OK;
}

const struct method_step adalora_step = {.open = open,
                                         .close = close,
                                         .bytes = bytes,
                                         .state = state,
                                         .gradients = gradients,
                                         .updated = updated};
