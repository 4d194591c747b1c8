/* SPDX-License-Identifier: Apache-2.0 */
/* plan.c - PLAN.yaml: its members, and where in it an error lies.
 *
 * The document is changed by the command line's assignments first and read afterwards, so that what
 * is checked is what runs.  Its parts: plan_change.c, plan_keys.c (recipe and train), plan_cells.c
 * (methods to cells), plan_tasks.c (tasks and analyses). */
#include "compare/plan.h"

#include <stdarg.h>
#include <string.h>

#include "adapt/adapter.h"
#include "core/mem.h"
#include "model/checkpoint.h"
#include "model/config.h"

const char *const compare_analysis_names[COMPARE_ANALYSES] = {"forgetting", "interference",
                                                              "subspace"};

/* ---- places and names */

void plan_place(const struct compare_plan *p, const char *dotted, char out[400]) {
    char path[256];
    int64_t line = 0;
    snprintf(path, sizeof path, "%s", dotted);
    for (;;) {
        line = yaml_line(&p->doc, path);
        char *dot = strrchr(path, '.');
        if (line != 0 || !dot) break;
        *dot = '\0';
    }
    if (line < 0)
        snprintf(out, 400, "the command line: ");
    else if (line > 0)
        snprintf(out, 400, "%.300s:%lld: ", p->path, (long long)line);
    else
        snprintf(out, 400, "%.300s: ", p->path);
}

enum mil_status plan_bad(const struct compare_plan *p, const char *dotted, struct mil_error *err,
                         const char *fmt, ...) {
    char place[400], message[400];
    va_list args;
    va_start(args, fmt);
    vsnprintf(message, sizeof message, fmt, args);
    va_end(args);
    plan_place(p, dotted, place);
    return error_set(err, MIL_INPUT, "%s%s%s%s", place, dotted, *dotted ? ": " : "", message);
}

enum mil_status plan_known(const struct compare_plan *p, const json_t *object, const char *dotted,
                           const char *const *known, struct mil_error *err) {
    const char *key;
    json_t *value;
    size_t n = 0;
    while (known[n]) n++;
    json_object_foreach((json_t *)object, key, value) {
        char path[256], place[400];
        size_t i = 0;
        while (i < n && strcmp(known[i], key) != 0) i++;
        if (i < n) continue;
        const char *near = str_nearest(key, known, n);
        snprintf(path, sizeof path, "%s%s%s", dotted, *dotted ? "." : "", key);
        plan_place(p, path, place);
        if (near)
            return error_set(err, MIL_INPUT,
                             "%sunknown key '%.100s'; the nearest known one is '%s'", place, path,
                             near);
        return error_set(err, MIL_INPUT,
                         "%sunknown key '%.100s'; docs/formats/compare.md lists the keys", place,
                         path);
    }
    return MIL_OK;
}

/* One more letter; hyphens do not begin a name and do not follow each other, dots do not begin one. */
static bool add_letter(char c, char *out, size_t *n, size_t cap) {
    if (c >= 'A' && c <= 'Z') c = (char)(c - 'A' + 'a');
    bool plain = (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_' || c == '.';
    if (!plain) c = '-';
    if ((c == '-' || c == '.') && (*n == 0 || (c == '-' && out[*n - 1] == '-'))) return true;
    if (*n + 1 >= cap) return false;
    out[(*n)++] = c;
    return true;
}

bool plan_slug(const char *text, char *out, size_t cap) {
    size_t n = 0;
    for (const char *s = text; *s; s++) {
        /* LoRA+ is another method than LoRA */
        for (const char *c = *s == '+' ? "-plus-" : ""; *c; c++)
            if (!add_letter(*c, out, &n, cap)) return false;
        if (*s != '+' && !add_letter(*s, out, &n, cap)) return false;
    }
    while (n > 0 && out[n - 1] == '-') n--;
    if (n == 0) out[n++] = 'x';
    out[n] = '\0';
    return true;
}

enum mil_status plan_name(const struct compare_plan *p, const char *name, const char *dotted,
                          char slug[COMPARE_SLUG], struct mil_error *err) {
    if (!*name) return plan_bad(p, dotted, err, "a name has at least one letter");
    for (const char *s = name; *s; s++)
        if ((unsigned char)*s < ' ' || *s == 127)
            return plan_bad(p, dotted, err,
                            "a name has no line breaks or other control characters");
    if (!plan_slug(name, slug, COMPARE_SLUG))
        return plan_bad(p, dotted, err, "a name has at most %d bytes", COMPARE_SLUG - 1);
    return MIL_OK;
}

void plan_value_text(const json_t *value, struct str *out) {
    size_t i;
    json_t *item;
    if (json_is_string(value)) {
        str_add(out, json_string_value(value));
    } else if (json_is_array(value)) {
        json_array_foreach((json_t *)value, i, item) {
            if (i) str_addc(out, ',');
            plan_value_text(item, out);
        }
    } else {
        json_append(value, -1, out);
    }
}

const char *plan_compute_type(const json_t *keys) {
    const char *type = json_string_value(json_object_get(keys, "compute_dtype"));
    return type ? type : "bf16";
}

void plan_cell_id(const struct compare_plan *p, size_t cell, char out[COMPARE_ID + 32]) {
    snprintf(out, COMPARE_ID + 32, "%s/seed-%lld", plan_group_of(p, cell)->id,
             (long long)plan_seed_of(p, cell));
}

/* ---- members of the plan */

static enum mil_status text_member(const struct compare_plan *p, const char *key, bool required,
                                   const char **out, struct mil_error *err) {
    const json_t *value = json_object_get(p->doc.root, key);
    if (!value || json_is_null(value))
        return required ? plan_bad(p, "", err, "the key '%s' is missing", key) : MIL_OK;
    if (!json_is_string(value) || !*json_string_value(value))
        return plan_bad(p, key, err, "must be a text");
    *out = json_string_value(value);
    return MIL_OK;
}

static enum mil_status bool_member(const struct compare_plan *p, const char *key, bool *out,
                                   struct mil_error *err) {
    const json_t *value = json_object_get(p->doc.root, key);
    if (!value || json_is_null(value)) return MIL_OK;
    if (!json_is_boolean(value)) return plan_bad(p, key, err, "must be true or false");
    *out = json_is_true(value);
    return MIL_OK;
}

static enum mil_status read_keep(struct compare_plan *p, struct mil_error *err) {
    static const char *const names[] = {"adapters", "none", "all"};
    const char *keep = names[KEEP_ADAPTERS];
    TRY(text_member(p, "keep", false, &keep, err));
    for (int i = 0; i < 3; i++) {
        if (strcmp(keep, names[i]) != 0) continue;
        p->keep = (enum compare_keep)i;
        return MIL_OK;
    }
    return plan_bad(p, "keep", err, "'%.60s': adapters, none or all", keep);
}

static enum mil_status read_members(struct compare_plan *p, struct mil_error *err) {
    static const char *const known[] = {"title",        "output_dir", "recipe", "train",
                                        "methods",      "setups",     "seeds",  "grid",
                                        "baseline",     "base",       "tasks",  "forgetting",
                                        "interference", "subspace",   "keep",   NULL};
    const char *out = NULL;
    TRY(plan_known(p, p->doc.root, "", known, err));
    p->title = path_base(p->path);
    p->base = true;
    TRY(text_member(p, "title", false, &p->title, err));
    TRY(text_member(p, "output_dir", true, &out, err));
    TRY(text_member(p, "baseline", false, &p->baseline, err));
    TRY(bool_member(p, "base", &p->base, err));
    TRY(read_keep(p, err));
    size_t n = strlen(out);
    while (n > 1 && out[n - 1] == '/') n--;
    if (n >= PATH_CAP / 2) return plan_bad(p, "output_dir", err, "longer than %d", PATH_CAP / 2);
    snprintf(p->output_dir, sizeof p->output_dir, "%.*s", (int)n, out);
    return MIL_OK;
}

static enum mil_status open_document(struct compare_plan *p, const char *path,
                                     const char *const *assignments, size_t n,
                                     struct mil_error *err) {
    if (strlen(path) >= PATH_CAP / 2)
        return error_set(err, MIL_USAGE, "the plan's path is longer than %d", PATH_CAP / 2);
    snprintf(p->path, sizeof p->path, "%s", path);
    snprintf(p->dir, sizeof p->dir, "%.*s", (int)(path_base(path) - path), path);
    TRY(yaml_read_file(path, &p->doc, err));
    if (!json_is_object(p->doc.root))
        return error_set(err, MIL_INPUT, "%s: a plan is a map of keys to values", path);
    for (size_t i = 0; i < n; i++) TRY(plan_change(p, assignments[i], err));
    return MIL_OK;
}

enum mil_status plan_read(const char *path, const char *const *assignments, size_t n,
                          struct compare_plan *out, struct mil_error *err) {
    memset(out, 0, sizeof *out);
    TRY(open_document(out, path, assignments, n, err));
    TRY(read_members(out, err));
    TRY(plan_read_common(out, err));
    TRY(plan_read_tasks(out, err));
    return plan_read_cells(out, err);
}

static void entries_free(struct compare_entry *entries, size_t n) {
    for (size_t i = 0; entries && i < n; i++) json_decref(entries[i].keys);
    mem_free(entries);
}

void plan_release_all(struct compare_plan *p) {
    for (size_t i = 0; p->groups && i < p->n_groups; i++) {
        json_decref(p->groups[i].keys);
        json_decref(p->groups[i].set);
        json_decref(p->groups[i].grid);
    }
    for (size_t i = 0; p->tasks && i < p->n_tasks; i++) json_decref(p->tasks[i].options);
    for (int i = 0; i < COMPARE_ANALYSES; i++) json_decref(p->analyses[i]);
    entries_free(p->methods, p->n_methods);
    entries_free(p->setups, p->n_setups);
    mem_free(p->groups);
    mem_free(p->tasks);
    mem_free(p->seeds.items);
    json_decref(p->identity);
    json_decref(p->common);
    yaml_release(&p->doc);
    memset(p, 0, sizeof *p);
}

/* ---- against files */

static enum mil_status count_group(struct compare_plan *p, struct compare_group *g,
                                   const struct model_config *model, struct mil_error *err) {
    struct config c;
    struct adapter_options o;
    size_t modules, params;
    enum mil_status st = plan_cell_config(p, g->first, &c, err);
    g->trainable = model_config_parameters(model);
    if (st == MIL_OK && strcmp(c.method, "full") != 0) {
        config_adapter_options(&c, &o);
        st = adapter_count(model, &o, &modules, &params, &g->trainable, err);
        if (st != MIL_OK) error_prefix(err, "%s: group %s: ", p->path, g->id);
    }
    config_release(&c);
    return st;
}

enum mil_status plan_count(struct compare_plan *p, struct mil_error *err) {
    struct checkpoint *base = NULL;
    enum mil_status st = checkpoint_open(p->model, CHECKPOINT_CONFIG_ONLY, &base, err);
    for (size_t i = 0; i < p->n_groups && st == MIL_OK; i++)
        st = count_group(p, &p->groups[i], &base->config, err);
    if (st == MIL_OK) st = plan_check_analyses(p, &base->config, err);
    checkpoint_free(&base);
    return st;
}

static enum mil_status check_sources(const struct compare_plan *p, const char *id, const char *key,
                                     const struct config_sources *sources, struct mil_error *err) {
    for (size_t i = 0; i < sources->n; i++)
        if (!path_exists(sources->items[i].path))
            return error_set(
                err, MIL_INPUT,
                "%.150s: group %.100s: %s: there is no %.200s, beside the plan or here", p->path,
                id, key, sources->items[i].path);
    return MIL_OK;
}

static enum mil_status check_training_data(const struct compare_plan *p, struct mil_error *err) {
    enum mil_status st = MIL_OK;
    for (size_t i = 0; i < p->n_groups && st == MIL_OK; i++) {
        struct config c;
        const char *id = p->groups[i].id;
        st = plan_cell_config(p, p->groups[i].first, &c, err);
        if (st == MIL_OK) st = check_sources(p, id, "dataset", &c.dataset, err);
        if (st == MIL_OK) st = check_sources(p, id, "eval_dataset", &c.eval_dataset, err);
        config_release(&c);
    }
    return st;
}

enum mil_status plan_check_data(const struct compare_plan *p, struct mil_error *err) {
    char dotted[64];
    TRY(check_training_data(p, err));
    for (size_t i = 0; i < p->n_tasks; i++) {
        const char *data = json_string_value(json_object_get(p->tasks[i].options, "data"));
        snprintf(dotted, sizeof dotted, "tasks.%zu.data", i);
        if (!path_exists(data))
            return plan_bad(p, dotted, err, "there is no file %.250s, beside the plan or here",
                            data);
    }
    const json_t *forgetting = p->analyses[COMPARE_FORGETTING];
    const char *text = json_string_value(json_object_get(forgetting, "data"));
    if (forgetting && !path_exists(text))
        return plan_bad(p, "forgetting.data", err,
                        "there is no file %.250s, beside the plan or here", text);
    return MIL_OK;
}
