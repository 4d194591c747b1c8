/* SPDX-License-Identifier: Apache-2.0 */
/* select.c - which modules a target specification means, as PEFT understands target_modules:
 * a list holds exact names or suffixes that begin after a dot; a single string is a regular expression over
 * the whole name; "all-linear" is every linear module of the layers, not the head.  layers_to_transform keeps of
 * suffixes those in its layers.  Where PEFT is silent about a name, a layer or a pattern that matches nothing, this is
 * an error.  tests/adapt/data/selection.json holds PEFT's answers. */
#include <string.h>

#include "adapt/internal.h"
#include "core/mem.h"

/* A list of names (exact, or a suffix after a dot), or one regex. */
struct target_rules {
    const char *where; /* for messages */
    const char *const *names;
    size_t n;
    bool regex;
    /* layers_to_transform; n_layers 0: all.  As in PEFT it restricts suffixes and all-linear, not a name that is a
     * module's whole path. */
    const int64_t *layers;
    size_t n_layers;
};

enum mil_status select_no_match(const char *where, const char *target, bool regex, int64_t layers,
                                struct mil_error *err) {
    const char *known[2 * MODULES + 1];
    struct str list = {0};
    for (int m = 0; m < MODULES; m++) {
        known[m] = module_suffix((enum module)m);
        known[MODULES + m] = module_path((enum module)m);
        str_addf(&list, "%s%s", m ? ", " : "", known[m]);
    }
    known[2 * (size_t)MODULES] = "all-linear";
    const char *nearest = regex ? NULL : str_nearest(target, known, sizeof known / sizeof *known);
    enum mil_status st =
        error_set(err, MIL_USAGE,
                  "%s: '%.100s' matches no module%s%s%s; the model has layers 0 to %lld with %s",
                  where, target, nearest ? "; did you mean '" : "", nearest ? nearest : "",
                  nearest ? "'?" : "", (long long)layers - 1, str_c(&list));
    str_release(&list);
    return st;
}

static enum mil_status select_regex(int64_t layers, const struct target_rules *rules, bool strict,
                                    bool *selected, struct mil_error *err) {
    struct pattern *p;
    char name[MODULE_NAME_CAP];
    bool any = false;
    TRY(pattern_new(rules->where, rules->names[0], &p, err));
    enum mil_status st = MIL_OK;
    for (int64_t i = 0; i < layers * MODULES && st == MIL_OK; i++) {
        module_name(name, i / MODULES, (enum module)(i % MODULES));
        st = pattern_matches(p, name, &selected[i], err);
        any |= selected[i];
    }
    pattern_free(&p);
    if (st == MIL_OK && strict && !any)
        st = select_no_match(rules->where, rules->names[0], true, layers, err);
    return st;
}

static bool layer_wanted(const struct target_rules *rules, int64_t layer) {
    bool wanted = rules->n_layers == 0;
    for (size_t i = 0; i < rules->n_layers; i++) wanted |= rules->layers[i] == layer;
    return wanted;
}

/* Mark what one list entry names; true if anything, in whatever layer. */
static bool select_name(int64_t layers, const struct target_rules *rules, const char *target,
                        bool *selected) {
    char name[MODULE_NAME_CAP];
    bool any = false, all = strcmp(target, "all-linear") == 0;
    size_t t = strlen(target);
    for (int64_t i = 0; i < layers * MODULES; i++) {
        module_name(name, i / MODULES, (enum module)(i % MODULES));
        size_t n = strlen(name);
        bool whole = strcmp(name, target) == 0,
             end = t > 0 && t < n && name[n - t - 1] == '.' && strcmp(name + n - t, target) == 0;
        any |= whole || end || all;
        if (whole || ((end || all) && layer_wanted(rules, i / MODULES))) selected[i] = true;
    }
    return any;
}

/* Set selected[module_number] for what the rules match, clear the rest. */
static enum mil_status select_modules(int64_t layers, const struct target_rules *rules, bool strict,
                                      bool *selected, struct mil_error *err) {
    memset(selected, 0, (size_t)(layers * MODULES) * sizeof *selected);
    if (rules->n == 0)
        return strict ? error_set(err, MIL_USAGE, "%s is empty: name at least one module",
                                  rules->where)
                      : MIL_OK;
    if (rules->regex && rules->n == 1 && strcmp(rules->names[0], "all-linear") != 0)
        return select_regex(layers, rules, strict, selected, err);
    if (rules->regex && rules->n != 1)
        return error_set(err, MIL_USAGE, "%s: one regular expression, not %zu", rules->where,
                         rules->n);
    for (size_t i = 0; i < rules->n; i++)
        if (!select_name(layers, rules, rules->names[i], selected) && strict)
            return select_no_match(rules->where, rules->names[i], rules->regex, layers, err);
    return MIL_OK;
}

static enum mil_status check_layers(const struct model_config *c, const struct adapter_options *o,
                                    struct mil_error *err) {
    if (o->n_layers > 0 && o->targets_regex)
        return error_set(err, MIL_USAGE,
                         "layers_to_transform does not go with target_modules as one pattern: name "
                         "the layers in the pattern");
    for (size_t i = 0; i < o->n_layers; i++)
        if (o->layers[i] < 0 || o->layers[i] >= c->layers)
            return error_set(err, MIL_USAGE,
                             "layers_to_transform: layer %lld, the model has layers 0 to %lld",
                             (long long)o->layers[i], (long long)c->layers - 1);
    return MIL_OK;
}

static enum mil_status drop_excluded(int64_t layers, const struct adapter_options *o, bool strict,
                                     bool *selected, struct mil_error *err) {
    struct target_rules rules = {.where = "exclude_modules",
                                 .names = o->excluded,
                                 .n = o->n_excluded,
                                 .regex = o->excluded_regex};
    size_t n = (size_t)layers * MODULES;
    if (o->n_excluded == 0) return MIL_OK;
    bool *excluded = mem_alloc(MEM_OTHER, n, sizeof *excluded);
    if (!excluded) return error_nomem(err, n);
    enum mil_status st = select_modules(layers, &rules, strict, excluded, err);
    for (size_t i = 0; i < n && st == MIL_OK; i++) selected[i] = selected[i] && !excluded[i];
    mem_free(excluded);
    return st;
}

enum mil_status select_options(int64_t layers, const struct adapter_options *o, bool strict,
                               bool *selected, struct mil_error *err) {
    struct target_rules rules = {.where = "target_modules",
                                 .names = o->targets,
                                 .n = o->n_targets,
                                 .regex = o->targets_regex,
                                 .layers = o->layers,
                                 .n_layers = o->n_layers};
    TRY(select_modules(layers, &rules, strict, selected, err));
    return drop_excluded(layers, o, strict, selected, err);
}

enum mil_status adapter_select(const struct model_config *c, const struct adapter_options *o,
                               bool *selected, struct mil_error *err) {
    TRY(check_layers(c, o, err));
    TRY(select_options(c->layers, o, true, selected, err));
    for (int64_t i = 0; i < c->layers * MODULES; i++)
        if (selected[i]) return MIL_OK;
    return error_set(err, MIL_USAGE,
                     "exclude_modules and layers_to_transform leave nothing of target_modules");
}
