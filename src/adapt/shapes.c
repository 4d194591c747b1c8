/* SPDX-License-Identifier: Apache-2.0 */
/* shapes.c - what each module of an adapter will be, from options and the model's configuration alone: which modules,
 * rank, alpha, form. */
#include <math.h>

#include "adapt/internal.h"
#include "adapt/whole.h"
#include "core/mem.h"

/* Keys of rank_pattern or alpha_pattern, ready to be looked up. */
struct lookup {
    const char *where;
    const struct adapter_pattern *keys;
    size_t n;
    struct pattern **compiled; /* n */
    bool *used;                /* n: it matched an adapted module, perhaps behind another key */
};

static void lookup_release(struct lookup *l) {
    for (size_t i = 0; l->compiled && i < l->n; i++) pattern_free(&l->compiled[i]);
    mem_free(l->compiled);
    mem_free(l->used);
}

static enum mil_status lookup_init(struct lookup *l, const char *where,
                                   const struct adapter_pattern *keys, size_t n,
                                   struct mil_error *err) {
    *l = (struct lookup){.where = where, .keys = keys, .n = n};
    l->compiled = mem_calloc(MEM_OTHER, n + 1, sizeof *l->compiled);
    l->used = mem_calloc(MEM_OTHER, n + 1, sizeof *l->used);
    if (!l->compiled || !l->used) return error_nomem(err, n * sizeof *l->compiled);
    for (size_t i = 0; i < n; i++)
        TRY(pattern_new_key(where, keys[i].pattern, &l->compiled[i], err));
    return MIL_OK;
}

/* The value of the first key that matches the module's name or its end after a dot; *value is left alone where none
 * does. */
static enum mil_status lookup_value(struct lookup *l, const char *module, double *value,
                                    struct mil_error *err) {
    bool found = false;
    for (size_t i = 0; i < l->n; i++) {
        bool matches;
        TRY(pattern_matches(l->compiled[i], module, &matches, err));
        if (!matches) continue;
        l->used[i] = true;
        if (!found) *value = l->keys[i].value;
        found = true;
    }
    return MIL_OK;
}

/* Every key matched an adapted module.  One that names others says so, one that names none at all is misspelled. */
static enum mil_status lookup_check(const struct lookup *l, int64_t layers, struct mil_error *err) {
    char name[MODULE_NAME_CAP];
    for (size_t i = 0; i < l->n; i++) {
        if (l->used[i]) continue;
        bool matches = false;
        for (int64_t k = 0; k < layers * MODULES && !matches; k++) {
            module_name(name, k / MODULES, (enum module)(k % MODULES));
            TRY(pattern_matches(l->compiled[i], name, &matches, err));
        }
        if (!matches) return select_no_match(l->where, l->keys[i].pattern, false, layers, err);
        return error_set(err, MIL_USAGE,
                         "%s: '%.100s' matches only modules that are not adapted, such as %s: add "
                         "them to target_modules, or remove the pattern",
                         l->where, l->keys[i].pattern, name);
    }
    return MIL_OK;
}

struct lookups {
    struct lookup ranks, alphas;
};

static enum mil_status fill(const struct adapter_options *o, const struct method *method,
                            struct lookups *l, struct delta *d, struct mil_error *err) {
    char name[MODULE_NAME_CAP];
    double r = (double)o->r, alpha = o->alpha, most = (double)(d->m < d->n ? d->m : d->n);
    /* LoRA-GA's A and B take r triplets each of the same gradient. */
    if (method->needs_gradient) most = floor(most / 2);
    module_name(name, d->layer, d->module);
    TRY(lookup_value(&l->ranks, name, &r, err));
    TRY(lookup_value(&l->alphas, name, &alpha, err));
    if (!(r >= 1) || r != floor(r))
        return error_set(err, MIL_USAGE,
                         "rank_pattern: the rank of %s is %g: it must be a whole number from 1",
                         name, r);
    if (r > most)
        return error_set(err, MIL_USAGE, "%sr is %.0f, but %s is %lld x %lld: r is at most %.0f%s",
                         r != (double)o->r              ? "rank_pattern: "
                         : method->form == DELTA_SCALED ? "init_"
                                                        : "",
                         r, name, (long long)d->m, (long long)d->n, most,
                         method->needs_gradient ? " (2 r triplets are taken)" : "");
    if (!isfinite(alpha) || alpha <= 0)
        return error_set(err, MIL_USAGE, "alpha_pattern: the alpha of %s is %g: it must be above 0",
                         name, alpha);
    d->r = (int64_t)r;
    d->form = method->form;
    d->dora = o->dora;
    /* PEFT divides AdaLoRA's alpha by r + 1e-5. */
    if (d->form == DELTA_SCALED) alpha *= r / (r + 1e-5);
    d->alpha = o->rslora ? alpha * sqrt(r) : alpha;
    return MIL_OK;
}

/* Fill d [layers * MODULES] from the front with what is selected. */
static enum mil_status fill_selected(const struct model_config *c, const struct adapter_options *o,
                                     const struct method *method, const bool *selected,
                                     struct lookups *l, struct delta *d, size_t *n,
                                     struct mil_error *err) {
    for (int64_t i = 0; i < c->layers * MODULES; i++) {
        if (!selected[i]) continue;
        enum module m = (enum module)(i % MODULES);
        d[*n] = (struct delta){
            .layer = i / MODULES, .module = m, .m = module_rows(c, m), .n = module_cols(c, m)};
        TRY(fill(o, method, l, &d[(*n)++], err));
    }
    TRY(lookup_check(&l->ranks, c->layers, err));
    return lookup_check(&l->alphas, c->layers, err);
}

enum mil_status adapter_shapes(const struct model_config *c, const struct adapter_options *o,
                               const struct method *method, struct delta **out, size_t *n,
                               struct mil_error *err) {
    size_t all = (size_t)c->layers * MODULES;
    struct lookups l = {0};
    bool *selected = mem_calloc(MEM_OTHER, all, sizeof *selected);
    struct delta *d = mem_calloc(MEM_ADAPTER, all, sizeof *d);
    enum mil_status st = selected && d ? MIL_OK : error_nomem(err, all * sizeof *d);
    *out = NULL;
    *n = 0;
    if (st == MIL_OK) st = adapter_select(c, o, selected, err);
    if (st == MIL_OK) st = lookup_init(&l.ranks, "rank_pattern", o->ranks, o->n_ranks, err);
    if (st == MIL_OK) st = lookup_init(&l.alphas, "alpha_pattern", o->alphas, o->n_alphas, err);
    if (st == MIL_OK) st = fill_selected(c, o, method, selected, &l, d, n, err);
    lookup_release(&l.ranks);
    lookup_release(&l.alphas);
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

static void widen(struct adapter_ranges *r, const struct delta *d) {
    if (d->r < r->rank[0]) r->rank[0] = d->r;
    if (d->r > r->rank[1]) r->rank[1] = d->r;
    if (d->layer > r->layer[1]) r->layer[1] = d->layer;
    if (delta_scale(d) < r->scale[0]) r->scale[0] = delta_scale(d);
    if (delta_scale(d) > r->scale[1]) r->scale[1] = delta_scale(d);
}

enum mil_status adapter_ranges(const struct model_config *c, const struct adapter_options *o,
                               struct adapter_ranges *out, struct mil_error *err) {
    struct adapter_options resolved;
    const struct method *method;
    struct delta *d;
    size_t n;
    TRY(adapter_resolve(o, &resolved, &method, err));
    TRY(adapter_shapes(c, &resolved, method, &d, &n, err));
    *out = (struct adapter_ranges){
        {d->r, d->r}, {d->layer, d->layer}, {delta_scale(d), delta_scale(d)}};
    for (size_t i = 1; i < n; i++) widen(out, &d[i]);
    mem_free(d);
    return MIL_OK;
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
