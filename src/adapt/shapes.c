/* SPDX-License-Identifier: Apache-2.0 */
/* shapes.c - what each module of an adapter will be, from options and the model's configuration alone: which modules,
 * rank, alpha, form. */
#include <math.h>

#include "adapt/internal.h"
#include "adapt/whole.h"
#include "core/mem.h"

/* The value of the first pattern that matches the module's name or its end after a dot; *found is left alone
 * where none does. */
static enum mil_status pattern_value(const char *where, const struct adapter_pattern *patterns,
                                     size_t n, const char *module, double *found,
                                     struct mil_error *err) {
    for (size_t i = 0; i < n; i++) {
        bool matches;
        TRY(pattern_names(where, patterns[i].pattern, module, &matches, err));
        if (!matches) continue;
        *found = patterns[i].value;
        return MIL_OK;
    }
    return MIL_OK;
}

static enum mil_status fill(const struct adapter_options *o, const struct method *method,
                            struct delta *d, struct mil_error *err) {
    char name[MODULE_NAME_CAP];
    double r = (double)o->r, alpha = o->alpha, most = (double)(d->m < d->n ? d->m : d->n);
    module_name(name, d->layer, d->module);
    TRY(pattern_value("rank_pattern", o->ranks, o->n_ranks, name, &r, err));
    TRY(pattern_value("alpha_pattern", o->alphas, o->n_alphas, name, &alpha, err));
    if (!(r >= 1) || r != floor(r))
        return error_set(err, MIL_USAGE,
                         "rank_pattern: the rank of %s is %g: it must be a whole number from 1",
                         name, r);
    if (r > most)
        return error_set(err, MIL_USAGE, "r is %.0f, but %s is %lld x %lld: r is at most %.0f", r,
                         name, (long long)d->m, (long long)d->n, most);
    if (!isfinite(alpha) || alpha == 0)
        return error_set(err, MIL_USAGE,
                         "alpha_pattern: the alpha of %s is %g: it must be finite and not 0", name,
                         alpha);
    d->r = (int64_t)r;
    d->form = method->form;
    d->dora = o->dora;
    /* PEFT divides AdaLoRA's alpha by r + 1e-5. */
    if (d->form == DELTA_SCALED) alpha *= r / (r + 1e-5);
    d->alpha = o->rslora ? alpha * sqrt(r) : alpha;
    return MIL_OK;
}

enum mil_status adapter_shapes(const struct model_config *c, const struct adapter_options *o,
                               const struct method *method, struct delta **out, size_t *n,
                               struct mil_error *err) {
    size_t all = (size_t)c->layers * MODULES;
    bool *selected = mem_calloc(MEM_OTHER, all, sizeof *selected);
    struct delta *d = mem_calloc(MEM_ADAPTER, all, sizeof *d);
    enum mil_status st = selected && d ? MIL_OK : error_nomem(err, all * sizeof *d);
    *out = NULL;
    *n = 0;
    if (st == MIL_OK) st = adapter_select(c, o, selected, err);
    for (size_t i = 0; st == MIL_OK && i < all; i++) {
        if (!selected[i]) continue;
        enum module m = (enum module)(i % MODULES);
        d[*n] = (struct delta){.layer = (int64_t)(i / MODULES),
                               .module = m,
                               .m = module_rows(c, m),
                               .n = module_cols(c, m)};
        st = fill(o, method, &d[(*n)++], err);
    }
    mem_free(selected);
    if (st == MIL_OK)
        *out = d;
    else
        mem_free(d);
    return st;
}

/* Of one module. */
static void count_one(const struct delta *d, size_t *params, int64_t *elements) {
    struct delta_part parts[DELTA_PARTS];
    size_t n = delta_parts(d, parts);
    for (size_t i = 0; i < n; i++) {
        if (!parts[i].trained) continue;
        *params += 1;
        *elements += parts[i].rows * parts[i].cols;
    }
}

/* The wholes that options ask for, beside deltas of these shapes. */
static enum mil_status wholes_of(const struct model_config *c, const struct adapter_options *o,
                                 const struct delta *d, size_t n, struct whole **out, size_t *count,
                                 struct mil_error *err) {
    bool *selected = mem_calloc(MEM_OTHER, (size_t)c->layers * MODULES, sizeof *selected);
    if (!selected) return error_nomem(err, 0);
    for (size_t i = 0; i < n; i++) selected[module_number(d[i].layer, d[i].module)] = true;
    enum mil_status st = whole_shapes(c, o, selected, out, count, err);
    mem_free(selected);
    return st;
}

enum mil_status adapter_count(const struct model_config *c, const struct adapter_options *o,
                              size_t *modules, size_t *params, int64_t *elements,
                              struct mil_error *err) {
    struct adapter_options resolved;
    const struct method *method;
    struct delta *d;
    struct whole *w = NULL;
    size_t n = 0;
    TRY(adapter_resolve(o, &resolved, &method, err));
    TRY(adapter_shapes(c, &resolved, method, &d, modules, err));
    *params = 0;
    *elements = 0;
    enum mil_status st = wholes_of(c, &resolved, d, *modules, &w, &n, err);
    for (size_t i = 0; i < *modules; i++) count_one(&d[i], params, elements);
    for (size_t i = 0; i < n; i++) *elements += w[i].rows * w[i].cols;
    *params += n;
    mem_free(w);
    mem_free(d);
    return st;
}

enum mil_status adapter_plan_wholes(const struct model_config *c, const struct adapter_options *o,
                                    bool trainable, enum dtype act, struct plan *plan,
                                    struct mil_error *err) {
    struct adapter_options resolved;
    const struct method *method;
    struct delta *d;
    struct whole *w = NULL;
    size_t modules, n = 0;
    TRY(adapter_resolve(o, &resolved, &method, err));
    TRY(adapter_shapes(c, &resolved, method, &d, &modules, err));
    enum mil_status st = wholes_of(c, &resolved, d, modules, &w, &n, err);
    if (st == MIL_OK && n > 0) wholes_plan(w, n, trainable, act, plan);
    mem_free(w);
    mem_free(d);
    return st;
}
