/* SPDX-License-Identifier: Apache-2.0 */
/* plan_analyses.c - options of the analyses against the model: a layer that it does not have is
 * told before hours of training, not after them. */
#include <string.h>

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

static enum mil_status check_rank(const struct compare_plan *p, enum compare_analysis kind,
                                  const struct module_list *list, struct mil_error *err) {
    const json_t *rank = json_object_get(p->analyses[kind], "rank");
    struct mil_error why = {0};
    if (!rank || module_list_rank(list, json_integer_value(rank), &why) == MIL_OK) return MIL_OK;
    return at_option(p, kind, "rank", &why, err);
}

static enum mil_status check_modules(const struct compare_plan *p, enum compare_analysis kind,
                                     const struct model_config *model, struct str *layers,
                                     struct str *targets, struct mil_error *err) {
    const json_t *given = json_object_get(p->analyses[kind], "layers");
    const json_t *names = json_object_get(p->analyses[kind], "target_modules");
    struct module_choice choice = {0};
    struct module_list list = {0};
    struct mil_error why = {0};
    const char **items = NULL;
    if (given) plan_value_text(given, layers);
    if (names) plan_value_text(names, targets);
    TRY(str_status(layers, err));
    TRY(str_status(targets, err));
    if (given) choice.layers = str_c(layers);
    if (targets->len) TRY(split(targets->data, &items, &choice.n_targets, err));
    choice.targets = items;
    enum mil_status st = module_list_choose(model, &choice, &list, &why);
    if (st == MIL_NOMEM)
        error_nomem(err, 0);
    else if (st != MIL_OK)
        st = at_option(p, kind, given ? "layers" : "target_modules", &why, err);
    else
        st = check_rank(p, kind, &list, err);
    module_list_release(&list);
    mem_free(items);
    return st;
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
    for (int kind = COMPARE_INTERFERENCE; kind < COMPARE_ANALYSES; kind++) {
        struct str layers = {0}, targets = {0};
        enum mil_status st = MIL_OK;
        if (p->analyses[kind])
            st = check_modules(p, (enum compare_analysis)kind, model, &layers, &targets, err);
        str_release(&layers);
        str_release(&targets);
        if (st != MIL_OK) return st;
    }
    return MIL_OK;
}
