/* SPDX-License-Identifier: Apache-2.0 */
/* plan_tasks.c - what every cell is graded on and analysed by.  The keys are the options of the
 * verbs `eval` and `analyze` with _ for -; their values are checked here as far as their types go,
 * the rest by those verbs on the untouched model and by plan_analyses.c, before the first training. */
#include <string.h>

#include "compare/plan.h"
#include "core/mem.h"
#include "eval/tasks/task.h"

enum option_kind { KIND_TEXT, KIND_INT, KIND_REAL, KIND_FLAG, KIND_LIST };
struct option_rule {
    const char *name;
    enum option_kind kind;
};
static const struct option_rule eval_rules[] = {
    {"name", KIND_TEXT},      {"task", KIND_TEXT},      {"data", KIND_TEXT},
    {"limit", KIND_INT},      {"batch_size", KIND_INT}, {"grader", KIND_TEXT},
    {"scoring", KIND_TEXT},   {"template", KIND_TEXT},  {"max_new_tokens", KIND_INT},
    {"num_beams", KIND_INT},  {"max_length", KIND_INT}, {"stride", KIND_INT},
    {"seed", KIND_INT},       {"n_samples", KIND_INT},  {"temperature", KIND_REAL},
    {"top_p", KIND_REAL},     {"dtype", KIND_TEXT},     {"allow_code_execution", KIND_FLAG},
    {"generator", KIND_TEXT}, {"average", KIND_FLAG},   {NULL, KIND_TEXT},
};
static const struct option_rule forgetting_rules[] = {
    {"data", KIND_TEXT},  {"max_length", KIND_INT}, {"max_tokens", KIND_INT},
    {"dtype", KIND_TEXT}, {NULL, KIND_TEXT},
};
static const struct option_rule space_rules[] = {
    {"rank", KIND_INT}, {"layers", KIND_LIST}, {"target_modules", KIND_LIST},
    {"seed", KIND_INT}, {NULL, KIND_TEXT},
};

static bool fits(const json_t *value, enum option_kind kind) {
    switch (kind) {
    case KIND_TEXT: return json_is_string(value) && *json_string_value(value);
    case KIND_INT: return json_is_integer(value) && json_integer_value(value) >= 0;
    case KIND_REAL: return json_is_number(value) && json_number_value(value) >= 0;
    case KIND_FLAG: return json_is_boolean(value);
    case KIND_LIST: return json_is_string(value) || json_is_integer(value) || json_is_array(value);
    }
    return false;
}

static enum mil_status check_list(const struct compare_plan *p, const json_t *value,
                                  const char *dotted, struct mil_error *err) {
    size_t i;
    json_t *item;
    json_array_foreach((json_t *)value, i, item) {
        if (!json_is_string(item) && !json_is_integer(item))
            return plan_bad(p, dotted, err, "must be a list of names or numbers");
    }
    return MIL_OK;
}

static enum mil_status check_options(const struct compare_plan *p, const json_t *options,
                                     const char *dotted, const struct option_rule *rules,
                                     struct mil_error *err) {
    static const char *const what[] = {"a text", "a whole number of at least 0",
                                       "a number of at least 0", "true or false",
                                       "a name, a number or a list of them"};
    const char *names[32];
    size_t n = 0;
    for (; rules[n].name; n++) names[n] = rules[n].name;
    names[n] = NULL;
    if (!json_is_object(options)) return plan_bad(p, dotted, err, "must be a map of options");
    TRY(plan_known(p, options, dotted, names, err));
    for (size_t i = 0; i < n; i++) {
        char path[160];
        const json_t *value = json_object_get(options, rules[i].name);
        snprintf(path, sizeof path, "%s.%s", dotted, rules[i].name);
        if (value && !fits(value, rules[i].kind))
            return plan_bad(p, path, err, "must be %s", what[rules[i].kind]);
        TRY(check_list(p, value, path, err));
    }
    return MIL_OK;
}

static enum mil_status resolve_data(const struct compare_plan *p, json_t *options,
                                    const char *dotted, struct mil_error *err) {
    char path[PATH_CAP];
    const char *data = json_string_value(json_object_get(options, "data"));
    if (!data) return plan_bad(p, dotted, err, "the key 'data' is missing: the file to work on");
    TRY(plan_path(p, data, path, err));
    return json_object_set_new(options, "data", json_string(path)) == 0 ? MIL_OK
                                                                        : error_nomem(err, 0);
}

/* ---- tasks */

static enum mil_status find_task(const struct compare_plan *p, const char *dotted,
                                 struct compare_task *t, struct mil_error *err) {
    size_t n;
    const struct task *table = task_table(&n);
    const char *names[64];
    for (size_t i = 0; i < n && i < 64; i++) {
        names[i] = table[i].name;
        if (strcmp(t->task, names[i]) != 0) continue;
        bool outputs = strcmp(table[i].metric, "outputs") == 0;
        bool perplexity = strcmp(table[i].metric, "perplexity") == 0;
        t->share = !outputs && !perplexity;
        t->higher_is_better = !perplexity;
        return table[i].run
                   ? MIL_OK
                   : plan_bad(p, dotted, err, "task '%s' is not part of this version", t->task);
    }
    const char *near = str_nearest(t->task, names, n < 64 ? n : 64);
    return plan_bad(p, dotted, err, "unknown task '%.60s'%s%s%s; 'milora eval --list' has them all",
                    t->task, near ? "; did you mean '" : "", near ? near : "", near ? "'?" : "");
}

static enum mil_status read_task(const struct compare_plan *p, size_t i, const json_t *item,
                                 struct compare_task *t, struct mil_error *err) {
    char dotted[64];
    snprintf(dotted, sizeof dotted, "tasks.%zu", i);
    t->options = json_deep_copy(item);
    if (!t->options) return error_nomem(err, 0);
    TRY(check_options(p, t->options, dotted, eval_rules, err));
    t->task = json_string_value(json_object_get(t->options, "task"));
    t->name = json_string_value(json_object_get(t->options, "name"));
    if (!t->task) return plan_bad(p, dotted, err, "the key 'task' is missing");
    if (!t->name) t->name = t->task;
    if (strcmp(t->name, "average") == 0 || strcmp(t->name, "forgetting_loss") == 0)
        return plan_bad(p, dotted, err, "'%s' is the name of another number in the results",
                        t->name);
    TRY(plan_name(p, t->name, dotted, t->slug, err));
    TRY(find_task(p, dotted, t, err));
    t->averaged = t->share && !json_is_false(json_object_get(t->options, "average"));
    return resolve_data(p, t->options, dotted, err);
}

static enum mil_status read_all_tasks(struct compare_plan *p, struct mil_error *err) {
    const json_t *tasks = json_object_get(p->doc.root, "tasks");
    if (!tasks || json_is_null(tasks)) return MIL_OK;
    if (!json_is_array(tasks)) return plan_bad(p, "tasks", err, "must be a list of maps");
    size_t n = json_array_size(tasks);
    if (n > COMPARE_TASKS)
        return plan_bad(p, "tasks", err, "has more than %d entries", COMPARE_TASKS);
    p->tasks = mem_calloc(MEM_OTHER, n, sizeof *p->tasks);
    if (!p->tasks) return error_nomem(err, n * sizeof *p->tasks);
    p->n_tasks = n;
    for (size_t i = 0; i < n; i++) {
        char dotted[64];
        TRY(read_task(p, i, json_array_get(tasks, i), &p->tasks[i], err));
        snprintf(dotted, sizeof dotted, "tasks.%zu", i);
        for (size_t j = 0; j < i; j++)
            if (strcmp(p->tasks[j].slug, p->tasks[i].slug) == 0)
                return plan_bad(p, dotted, err,
                                "two tasks would be called '%s': give one of them another 'name'",
                                p->tasks[i].slug);
    }
    return MIL_OK;
}

/* ---- analyses */

static enum mil_status read_analysis(struct compare_plan *p, enum compare_analysis kind,
                                     struct mil_error *err) {
    const char *name = compare_analysis_names[kind];
    const json_t *given = json_object_get(p->doc.root, name);
    bool takes_data = kind == COMPARE_FORGETTING;
    if (!given || json_is_null(given) || json_is_false(given)) return MIL_OK;
    json_t *options = json_is_true(given) ? json_object() : json_deep_copy(given);
    p->analyses[kind] = options;
    if (!options) return error_nomem(err, 0);
    TRY(check_options(p, options, name, takes_data ? forgetting_rules : space_rules, err));
    return takes_data ? resolve_data(p, options, name, err) : MIL_OK;
}

enum mil_status plan_read_tasks(struct compare_plan *p, struct mil_error *err) {
    TRY(read_all_tasks(p, err));
    for (int i = 0; i < COMPARE_ANALYSES; i++) TRY(read_analysis(p, (enum compare_analysis)i, err));
    return MIL_OK;
}
