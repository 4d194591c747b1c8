/* SPDX-License-Identifier: Apache-2.0 */
/* options.c - what the options of an adapter leave open is chosen here, combinations that mean nothing are
 * refused with the reason, and a copy with strings of its own is made.
 *
 * AdaLoRA starts each module with init_r = 1.5 target_r (Zhang et al., 2023, section 4) so that at the end the average
 * is r, the rank that the other methods have from the start. */
#include <math.h>
#include <string.h>

#include "adapt/internal.h"
#include "core/mem.h"

/* ---- choices ---- */

static enum mil_status check_numbers(const struct adapter_options *o, struct mil_error *err) {
    if (o->r < 1)
        return error_set(err, MIL_USAGE, "r is %lld: it must be at least 1", (long long)o->r);
    if (!(o->dropout >= 0 && o->dropout < 1))
        return error_set(err, MIL_USAGE, "lora_dropout is %g: it must lie in [0, 1)", o->dropout);
    if (!isfinite(o->alpha))
        return error_set(err, MIL_USAGE, "lora_alpha is %g: it must be finite", o->alpha);
    return MIL_OK;
}

static enum mil_status check_combination(const struct method *m, const struct adapter_options *o,
                                         struct mil_error *err) {
    const struct {
        bool set;
        const char *key, *reason;
    } rules[] = {{o->dora, "use_dora", m->no_dora},
                 {o->rslora, "use_rslora", m->no_rslora},
                 {o->lr_ratio > 0 && o->lr_ratio != 1, "loraplus_lr_ratio", m->no_ratio}};
    for (size_t i = 0; i < sizeof rules / sizeof *rules; i++)
        if (rules[i].set && rules[i].reason)
            return error_set(err, MIL_USAGE, "%s does not go with method '%s': %s", rules[i].key,
                             m->name, rules[i].reason);
    return MIL_OK;
}

static void choose_adalora(const struct adapter_options *given, struct adapter_options *o) {
    struct adalora_options *a = &o->adalora;
    if (a->target_r < 1) a->target_r = given->r;
    if (a->init_r < 1) a->init_r = (3 * a->target_r + 1) / 2;
    if (a->beta1 <= 0) a->beta1 = 0.85;
    if (a->beta2 <= 0) a->beta2 = 0.85;
    if (a->orth_reg_weight < 0) a->orth_reg_weight = 0.5;
    o->r = a->init_r;
}

static void choose_lora_ga(struct lora_ga_options *g) {
    if (g->batches < 1) g->batches = 8;
    if (g->stable_gamma <= 0) g->stable_gamma = 16;
}

enum mil_status adapter_resolve(const struct adapter_options *o, struct adapter_options *out,
                                const struct method **method, struct mil_error *err) {
    const struct method *m;
    TRY(method_find(o->method, &m, err));
    if (!m->adapter)
        return error_set(err, MIL_USAGE,
                         "method '%s' trains the weights themselves: it has no adapter", o->method);
    TRY(check_numbers(o, err));
    TRY(check_combination(m, o, err));
    *out = *o;
    out->rslora = o->rslora || m->rslora;
    out->dora = o->dora || m->dora;
    if (!(o->lr_ratio > 0)) out->lr_ratio = m->lr_ratio > 0 ? m->lr_ratio : 1;
    if (m->form == DELTA_SCALED) choose_adalora(o, out);
    choose_lora_ga(&out->lora_ga);
    if (!(o->alpha > 0)) out->alpha = m->alpha > 0 ? m->alpha : m->alpha_over_r * (double)o->r;
    *method = m;
    return MIL_OK;
}

/* ---- a copy with strings of its own ---- */

static char *copy_string(const char *s, bool *failed) {
    if (!s) return NULL;
    char *copy = mem_strdup(MEM_ADAPTER, s);
    if (!copy) *failed = true;
    return copy;
}

static const char *const *copy_names(const char *const *names, size_t n, bool *failed) {
    const char **copy = mem_calloc(MEM_ADAPTER, n + 1, sizeof *copy);
    if (!copy) *failed = true;
    for (size_t i = 0; copy && i < n; i++) copy[i] = copy_string(names[i], failed);
    return copy;
}

static const struct adapter_pattern *copy_patterns(const struct adapter_pattern *p, size_t n,
                                                   bool *failed) {
    struct adapter_pattern *copy = mem_calloc(MEM_ADAPTER, n + 1, sizeof *copy);
    if (!copy) *failed = true;
    for (size_t i = 0; copy && i < n; i++)
        copy[i] = (struct adapter_pattern){copy_string(p[i].pattern, failed), p[i].value};
    return copy;
}

static const int64_t *copy_layers(const int64_t *layers, size_t n, bool *failed) {
    int64_t *copy = mem_calloc(MEM_ADAPTER, n + 1, sizeof *copy);
    if (!copy) *failed = true;
    if (copy && n) memcpy(copy, layers, n * sizeof *copy);
    return copy;
}

enum mil_status options_copy(const struct adapter_options *o, struct adapter_options *out,
                             struct mil_error *err) {
    bool failed = false;
    *out = *o;
    out->method = copy_string(o->method, &failed);
    out->targets = copy_names(o->targets, o->n_targets, &failed);
    out->excluded = copy_names(o->excluded, o->n_excluded, &failed);
    out->saved_modules = copy_names(o->saved_modules, o->n_saved_modules, &failed);
    out->ranks = copy_patterns(o->ranks, o->n_ranks, &failed);
    out->alphas = copy_patterns(o->alphas, o->n_alphas, &failed);
    out->layers = copy_layers(o->layers, o->n_layers, &failed);
    if (!failed) return MIL_OK;
    options_release(out);
    return error_nomem(err, 0);
}

static void free_names(const char *const *names, size_t n) {
    for (size_t i = 0; names && i < n; i++) mem_free((void *)names[i]);
    mem_free((void *)names);
}

static void free_patterns(const struct adapter_pattern *p, size_t n) {
    for (size_t i = 0; p && i < n; i++) mem_free((void *)p[i].pattern);
    mem_free((void *)p);
}

void options_release(struct adapter_options *o) {
    mem_free((void *)o->method);
    free_names(o->targets, o->n_targets);
    free_names(o->excluded, o->n_excluded);
    free_names(o->saved_modules, o->n_saved_modules);
    free_patterns(o->ranks, o->n_ranks);
    free_patterns(o->alphas, o->n_alphas);
    mem_free((void *)o->layers);
    *o = (struct adapter_options){0};
}
