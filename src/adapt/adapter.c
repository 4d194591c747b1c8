/* SPDX-License-Identifier: Apache-2.0 */
/* adapter.c - the host side of an adapter: its storage, and its making at step 0. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "adapt/internal.h"
#include "core/mem.h"
#include "core/threads.h"

/* ---- storage
 * ---------------------------------------------------------------------------------- */

static char *copy_string(const char *s, bool *failed) {
    if (!s) return NULL;
    char *copy = mem_strdup(MEM_ADAPTER, s);
    if (!copy) *failed = true;
    return copy;
}

enum mil_status adapter_new(const struct adapter_options *o, size_t n, struct adapter **out,
                            struct mil_error *err) {
    bool failed = false;
    *out = NULL;
    struct adapter *a = mem_calloc(MEM_ADAPTER, 1, sizeof *a);
    if (!a) return error_nomem(err, sizeof *a);
    a->options = *o;
    a->options.n_targets = 0;
    a->options.method = copy_string(o->method, &failed);
    const char **targets = mem_calloc(MEM_ADAPTER, o->n_targets + 1, sizeof *targets);
    a->options.targets = targets;
    for (size_t i = 0; targets && i < o->n_targets; i++) {
        targets[i] = copy_string(o->targets[i], &failed);
        a->options.n_targets++;
    }
    a->deltas = mem_calloc(MEM_ADAPTER, n, sizeof *a->deltas);
    a->n = a->deltas ? n : 0;
    if (failed || !targets || !a->deltas) {
        adapter_free(&a);
        return error_nomem(err, n * sizeof *a->deltas);
    }
    *out = a;
    return MIL_OK;
}

void adapter_free(struct adapter **p) {
    struct adapter *a = *p;
    if (!a) return;
    for (size_t i = 0; i < a->n; i++) {
        mem_free(a->deltas[i].a0);
        mem_free(a->deltas[i].b0);
        mem_free(a->deltas[i].da);
        mem_free(a->deltas[i].db);
    }
    for (size_t i = 0; i < a->options.n_targets; i++) mem_free((void *)a->options.targets[i]);
    mem_free((void *)a->options.targets);
    mem_free((void *)a->options.method);
    mem_free(a->deltas);
    mem_free(a);
    *p = NULL;
}

enum mil_status delta_alloc(struct delta *d, bool with_b0, struct mil_error *err) {
    size_t a = (size_t)d->r * (size_t)d->n, b = (size_t)d->m * (size_t)d->r;
    d->a0 = mem_calloc(MEM_ADAPTER, a, sizeof(float));
    d->da = mem_calloc(MEM_ADAPTER, a, sizeof(float));
    d->db = mem_calloc(MEM_ADAPTER, b, sizeof(float));
    if (with_b0) d->b0 = mem_calloc(MEM_ADAPTER, b, sizeof(float));
    if (d->a0 && d->da && d->db && (d->b0 || !with_b0)) return MIL_OK;
    return error_nomem(err, (2 * a + 2 * b) * sizeof(float));
}

int64_t adapter_elements(const struct adapter *a) {
    int64_t sum = 0;
    for (size_t i = 0; i < a->n; i++) sum += a->deltas[i].r * (a->deltas[i].m + a->deltas[i].n);
    return sum;
}

void delta_saved_a(const struct delta *d, float *a) {
    int64_t n = d->r * d->n;
    for (int64_t i = 0; i < n; i++) a[i] = d->a0[i] + d->da[i];
    if (d->b0) memcpy(a + n, d->da, (size_t)n * sizeof *a);
}

void delta_saved_b(const struct delta *d, float *b) {
    int64_t r = d->r, k = delta_saved_rank(d);
    for (int64_t i = 0; i < d->m; i++) {
        memcpy(b + i * k, d->db + i * r, (size_t)r * sizeof *b);
        if (d->b0) memcpy(b + i * k + r, d->b0 + i * r, (size_t)r * sizeof *b);
    }
}

/* ---- step 0
 * ----------------------------------------------------------------------------------- */

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

/* The stored weight, exactly, in f64.  MIL_INPUT names the first entry that is not finite. */
static enum mil_status read_weight(const struct weight_view *v, double *w, struct mil_error *err) {
    size_t n = (size_t)v->rows * (size_t)v->cols;
    float *f = mem_alloc(MEM_SCRATCH, n, sizeof *f);
    if (!f) return error_nomem(err, n * sizeof *f);
    enum mil_status st = MIL_OK;
    weight_to_f32(v, f);
    for (size_t i = 0; i < n && st == MIL_OK; i++) {
        w[i] = f[i];
        if (!isfinite(f[i]))
            st = error_set(err, MIL_INPUT,
                           "%s: entry (%lld, %lld) is %s: an adapter cannot be made from it",
                           v->name, (long long)(i / (size_t)v->cols),
                           (long long)(i % (size_t)v->cols), isnan(f[i]) ? "NaN" : "infinite");
    }
    mem_free(f);
    return st;
}

static enum mil_status init_one(const struct adapter *a, const struct checkpoint *base, double *w,
                                struct delta *d, struct method_init *io, struct mil_error *err) {
    *io = (struct method_init){.w = w,
                               .m = d->m,
                               .n = d->n,
                               .r = d->r,
                               .scale = delta_scale(d),
                               .seed = a->options.seed,
                               .stream = (uint32_t)module_number(d->layer, d->module),
                               .a0 = d->a0,
                               .b0 = d->b0};
    if (a->method->needs_weight)
        TRY(read_weight(checkpoint_module(base, d->layer, d->module), w, err));
    enum mil_status st = a->method->init(io, err);
    if (st != MIL_OK)
        error_prefix(err, "model.layers.%lld.%s: ", (long long)d->layer, module_path(d->module));
    return st;
}

static enum mil_status init_all(struct adapter *a, const struct checkpoint *base,
                                adapter_init_fn progress, void *ctx, struct mil_error *err) {
    int64_t most = 0;
    for (size_t i = 0; a->method->needs_weight && i < a->n; i++)
        if (a->deltas[i].m * a->deltas[i].n > most) most = a->deltas[i].m * a->deltas[i].n;
    double *w = mem_alloc(MEM_SCRATCH, (size_t)most, sizeof *w);
    if (!w) return error_nomem(err, (uint64_t)most * sizeof *w);
    enum mil_status st = MIL_OK;
    for (size_t i = 0; i < a->n && st == MIL_OK; i++) {
        struct method_init io;
        double start = clock_seconds();
        st = init_one(a, base, w, &a->deltas[i], &io, err);
        struct adapter_init_event e = {i, a->n, &a->deltas[i], &io, clock_seconds() - start};
        if (st == MIL_OK && progress) progress(ctx, &e);
    }
    mem_free(w);
    return st;
}

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
