/* SPDX-License-Identifier: Apache-2.0 */
/* plan_analyses.c - options of the analyses against the model and what each group changes in it: a
 * layer that the model does not have, a module that no adapter touches, is told before hours of
 * training, not after them. */
#include <string.h>

#include "adapt/adapter.h"
#include "analysis/modules.h"
#include "compare/plan.h"
#include "core/mem.h"

/* What a verb would say of one of its options, at the option's place in the plan. */
static enum mil_status at_option(const struct compare_plan *p, enum compare_analysis kind,
                                 const char *key, const struct mil_error *why,
                                 struct mil_error *err) {
    char dotted[64];
    snprintf(dotted, sizeof dotted, "%s.%s", compare_analysis_names[kind], key);
    return plan_bad(p, dotted, err, "%s", why->message);
}

/* "a,b,c", cut in place; *items: mem_free. */
static enum mil_status split(char *text, const char ***items, size_t *n, struct mil_error *err) {
    size_t count = 1;
    for (const char *s = text; *s; s++) count += *s == ',';
    *items = mem_calloc(MEM_OTHER, count, sizeof **items);
    *n = 0;
    if (!*items) return error_nomem(err, count * sizeof **items);
    for (char *next = text; next; (*n)++) {
        char *comma = strchr(next, ',');
        if (comma) *comma = '\0';
        (*items)[*n] = next;
        next = comma ? comma + 1 : NULL;
    }
    return MIL_OK;
}

/* What the analysis's layers and target_modules choose; module_list_release also after failure. */
static enum mil_status choose(const struct compare_plan *p, enum compare_analysis kind,
                              const struct model_config *model, struct module_list *out,
                              struct mil_error *err) {
    const json_t *given = json_object_get(p->analyses[kind], "layers");
    const json_t *names = json_object_get(p->analyses[kind], "target_modules");
    struct str layers = {0}, targets = {0};
    struct module_choice choice = {0};
    struct mil_error why = {0};
    const char **items = NULL;
    if (given) plan_value_text(given, &layers);
    if (names) plan_value_text(names, &targets);
    enum mil_status st = str_status(&layers, err);
    if (st == MIL_OK) st = str_status(&targets, err);
    if (st == MIL_OK && targets.len) st = split(targets.data, &items, &choice.n_targets, err);
    if (st == MIL_OK) {
        choice.layers = given ? str_c(&layers) : NULL;
        choice.targets = items;
        st = module_list_choose(model, &choice, out, &why);
        if (st == MIL_NOMEM)
            error_nomem(err, 0);
        else if (st != MIL_OK)
            st = at_option(p, kind, given ? "layers" : "target_modules", &why, err);
    }
    mem_free(items);
    str_release(&layers);
    str_release(&targets);
    return st;
}

/* Which modules the group's training changes: flags [layers * MODULES]. */
static enum mil_status mark_changed(const struct compare_plan *p, const struct compare_group *g,
                                    const struct model_config *model, bool *changed,
                                    struct mil_error *err) {
    struct config c;
    struct adapter_options o;
    enum mil_status st = plan_cell_config(p, g->first, &c, err);
    if (st == MIL_OK && strcmp(c.method, "full") == 0) {
        for (int64_t i = 0; i < model->layers * MODULES; i++) changed[i] = true;
    } else if (st == MIL_OK) {
        config_adapter_options(&c, &o);
        st = adapter_select(model, &o, changed, err);
        if (st != MIL_OK) error_prefix(err, "%s: group %s: ", p->path, g->id);
    }
    config_release(&c);
    return st;
}

/* As the verb will: unchanged modules are left out, the rank is one that all others have. */
static enum mil_status check_modules(const struct compare_plan *p, const struct compare_group *g,
                                     enum compare_analysis kind, struct module_list *list,
                                     const bool *changed, struct mil_error *err) {
    const json_t *rank = json_object_get(p->analyses[kind], "rank");
    struct mil_error why = {0};
    size_t kept = 0;
    for (size_t i = 0; i < list->n; i++)
        if (changed[module_stream(&list->items[i])]) list->items[kept++] = list->items[i];
    list->n = kept;
    if (kept == 0)
        return plan_bad(p, compare_analysis_names[kind], err,
                        "chooses no module that group %s changes: widen its target_modules and "
                        "layers, or those of the training",
                        g->id);
    if (!rank || module_list_rank(list, json_integer_value(rank), &why) == MIL_OK) return MIL_OK;
    return at_option(p, kind, "rank", &why, err);
}

static enum mil_status check_group(const struct compare_plan *p, const struct compare_group *g,
                                   const struct model_config *model, bool *changed,
                                   struct mil_error *err) {
    TRY(mark_changed(p, g, model, changed, err));
    for (int kind = COMPARE_INTERFERENCE; kind < COMPARE_ANALYSES; kind++) {
        struct module_list list = {0};
        if (!p->analyses[kind]) continue;
        enum mil_status st = choose(p, (enum compare_analysis)kind, model, &list, err);
        if (st == MIL_OK)
            st = check_modules(p, g, (enum compare_analysis)kind, &list, changed, err);
        module_list_release(&list);
        if (st != MIL_OK) return st;
    }
    return MIL_OK;
}

static enum mil_status check_window(const struct compare_plan *p, const struct model_config *model,
                                    struct mil_error *err) {
    const json_t *given = json_object_get(p->analyses[COMPARE_FORGETTING], "max_length");
    if (json_integer_value(given) <= model->max_positions) return MIL_OK;
    return plan_bad(p, "forgetting.max_length", err, "is %lld; the model has %lld positions",
                    (long long)json_integer_value(given), (long long)model->max_positions);
}

enum mil_status plan_check_analyses(const struct compare_plan *p, const struct model_config *model,
                                    struct mil_error *err) {
    TRY(check_window(p, model, err));
    bool *changed = mem_calloc(MEM_OTHER, (size_t)model->layers * MODULES, sizeof *changed);
    enum mil_status st = MIL_OK;
    if (!changed) return error_nomem(err, (uint64_t)model->layers * MODULES);
    for (size_t i = 0; i < p->n_groups && st == MIL_OK; i++)
        st = check_group(p, &p->groups[i], model, changed, err);
    mem_free(changed);
    return st;
}
