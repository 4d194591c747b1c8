/* SPDX-License-Identifier: Apache-2.0 */
/* init.c - an adapter at step 0: options checked, modules selected, each one's factors made by the
 * method's initialiser from the stored weight, exactly, in f64. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "adapt/internal.h"
#include "core/mem.h"
#include "core/threads.h"

static enum mil_status check_options(const struct adapter_options *o, const struct method **method,
                                     double *alpha, struct mil_error *err) {
    TRY(method_find(o->method, method, err));
    if (!(*method)->adapter)
        return error_set(err, MIL_USAGE,
                         "method '%s' trains the weights themselves: it has no adapter", o->method);
    if (o->r < 1)
        return error_set(err, MIL_USAGE, "r is %lld: it must be at least 1", (long long)o->r);
    if (!(o->dropout >= 0 && o->dropout < 1))
        return error_set(err, MIL_USAGE, "lora_dropout is %g: it must lie in [0, 1)", o->dropout);
    *alpha = o->alpha > 0 ? o->alpha : (*method)->alpha_over_r * (double)o->r;
    if (!isfinite(*alpha) || isnan(o->alpha))
        return error_set(err, MIL_USAGE, "lora_alpha is %g: it must be finite", o->alpha);
    return MIL_OK;
}

/* Fill in what each selected module is, and its arrays. */
static enum mil_status fill_shapes(struct adapter *a, const struct model_config *c,
                                   const bool *selected, struct mil_error *err) {
    struct delta *d = a->deltas;
    for (int64_t i = 0; i < c->layers * MODULES; i++) {
        if (!selected[i]) continue;
        d->layer = i / MODULES;
        d->module = (enum module)(i % MODULES);
        d->m = module_rows(c, d->module);
        d->n = module_cols(c, d->module);
        d->r = a->options.r;
        d->alpha = a->options.alpha;
        if (d->r > d->m || d->r > d->n)
            return error_set(
                err, MIL_USAGE,
                "r is %lld, but model.layers.%lld.%s is %lld x %lld: r is at most %lld",
                (long long)d->r, (long long)d->layer, module_path(d->module), (long long)d->m,
                (long long)d->n, (long long)(d->m < d->n ? d->m : d->n));
        TRY(delta_alloc(d, !a->method->b0_is_zero, err));
        d++;
    }
    return MIL_OK;
}

/* The stored weight as a matrix of a plain type: where it lies, or a copy in f32 (exact for every
 * block type) in *copy. */
static enum mil_status read_weight(const struct weight_view *v, struct svd_matrix *w, float **copy,
                                   struct mil_error *err) {
    size_t n = (size_t)v->rows * (size_t)v->cols;
    *w = (struct svd_matrix){v->data, v->dtype, v->rows, v->cols};
    if (dtype_block_elems(v->dtype) == 1 && weight_usable_as(v, v->dtype)) return MIL_OK;
    *copy = mem_alloc(MEM_SCRATCH, n, sizeof **copy);
    if (!*copy) return error_nomem(err, n * sizeof **copy);
    weight_to_f32(v, *copy);
    *w = (struct svd_matrix){*copy, DT_F32, v->rows, v->cols};
    return MIL_OK;
}

/* ---- the modules' factors ---- */

/* Weights of up to this many elements are decomposed side by side, each by one thread: their
 * factorisations are too small to share, and the bits do not depend on the number of threads. A
 * larger one has all threads (and the memory) for itself. */
enum { SMALL = 1 << 21, BATCH = 64 };

struct job {
    const struct adapter *adapter;
    const struct checkpoint *base;
    struct delta *delta;
    struct method_init init;
    double seconds;
    enum mil_status status;
    struct mil_error err;
};

static enum mil_status run_job(struct job *j, struct mil_error *err) {
    const struct adapter *a = j->adapter;
    struct delta *d = j->delta;
    float *copy = NULL;
    j->init = (struct method_init){.m = d->m,
                                   .n = d->n,
                                   .r = d->r,
                                   .scale = delta_scale(d),
                                   .seed = a->options.seed,
                                   .stream = (uint32_t)module_number(d->layer, d->module),
                                   .a0 = d->a0,
                                   .b0 = d->b0};
    enum mil_status st;
    if (a->method->needs_weight)
        TRY_GOTO(
            read_weight(checkpoint_module(j->base, d->layer, d->module), &j->init.w, &copy, err));
    st = a->method->init(&j->init, err);
fail:
    if (st != MIL_OK)
        error_prefix(err, "model.layers.%lld.%s: ", (long long)d->layer, module_path(d->module));
    j->init.w.data = NULL;
    mem_free(copy);
    return st;
}

static void run_jobs(void *ctx, int64_t begin, int64_t end) {
    struct job *jobs = ctx;
    for (int64_t i = begin; i < end; i++) {
        if (!jobs[i].adapter) continue; /* padding */
        double start = clock_seconds();
        jobs[i].status = run_job(&jobs[i], &jobs[i].err);
        jobs[i].seconds = clock_seconds() - start;
    }
}

/* How many modules from `first` on go side by side: a few a thread, so that progress is seen. */
static size_t batch_size(const struct adapter *a, size_t first) {
    size_t n = 0, most = 4 * (size_t)threads_count();
    if (most > BATCH) most = BATCH;
    while (first + n < a->n && n < most && a->deltas[first + n].m * a->deltas[first + n].n <= SMALL)
        n++;
    return n ? n : 1;
}

static enum mil_status init_all(struct adapter *a, const struct checkpoint *base,
                                adapter_init_fn progress, void *ctx, struct mil_error *err) {
    struct job *jobs = mem_calloc(MEM_SCRATCH, BATCH, sizeof *jobs);
    if (!jobs) return error_nomem(err, BATCH * sizeof *jobs);
    enum mil_status st = MIL_OK;
    size_t n = 0;
    for (size_t first = 0; first < a->n && st == MIL_OK; first += n) {
        n = batch_size(a, first);
        for (size_t i = 0; i < n; i++)
            jobs[i] = (struct job){.adapter = a, .base = base, .delta = &a->deltas[first + i]};
        jobs[1].adapter = n == 1 ? NULL : a;
        if (a->deltas[first].m * a->deltas[first].n <= SMALL)
            parallel_for(n > 2 ? (int64_t)n : 2, 1, run_jobs, jobs); /* 2: a lone one, too, is in
                                                                        a parallel region */
        else
            run_jobs(jobs, 0, 1);
        for (size_t i = 0; i < n && st == MIL_OK; i++) {
            struct adapter_init_event e = {first + i, a->n, jobs[i].delta, &jobs[i].init,
                                           jobs[i].seconds};
            st = jobs[i].status;
            if (st != MIL_OK && err) *err = jobs[i].err;
            if (st == MIL_OK && progress) progress(ctx, &e);
        }
    }
    mem_free(jobs);
    return st;
}

/* ---- entry point ---- */

enum mil_status adapter_init(const struct checkpoint *base, const struct adapter_options *o,
                             adapter_init_fn progress, void *ctx, struct adapter **out,
                             struct mil_error *err) {
    const struct model_config *c = &base->config;
    struct adapter_options resolved = *o;
    const struct method *method;
    struct adapter *a = NULL;
    size_t n = 0;
    REQUIRE(base->layers);
    *out = NULL;
    TRY(check_options(o, &method, &resolved.alpha, err));
    bool *selected = mem_calloc(MEM_OTHER, (size_t)c->layers * MODULES, sizeof *selected);
    if (!selected) return error_nomem(err, 0);
    enum mil_status st;
    TRY_GOTO(adapter_select(c, o, selected, err));
    for (int64_t i = 0; i < c->layers * MODULES; i++) n += selected[i];
    TRY_GOTO(adapter_new(&resolved, n, &a, err));
    a->method = method;
    a->layers = c->layers;
    snprintf(a->base_path, sizeof a->base_path, "%s", base->path);
    TRY_GOTO(checkpoint_fingerprint(base, a->base_fingerprint, err));
    TRY_GOTO(fill_shapes(a, c, selected, err));
    TRY_GOTO(init_all(a, base, progress, ctx, err));
    *out = a;
    a = NULL;
fail:
    adapter_free(&a);
    mem_free(selected);
    return st;
}
